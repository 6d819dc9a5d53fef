"""A team of one: any agent, as a graph, so that it is stored, resumed and audited like a team."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from fanfold import END, START, StateGraph, Task


class Asked(TypedDict):
    """Which agent, and what it is asked."""

    agent: str
    prompt: str


class Single(Asked):
    """What it answered."""

    output: Any
    model: str
    total_tokens: int
    tool_uses: int
    duration: float


async def ask(state: Asked) -> dict[str, object]:
    """Run the agent."""
    result = await Task(subagent_type=state["agent"], prompt=state["prompt"])
    return {
        "agent": result.agent_type,
        "output": result.output,
        "model": result.model,
        "total_tokens": result.total_tokens,
        "tool_uses": result.tool_uses,
        "duration": result.duration,
    }


graph: Final = StateGraph(Single, input_schema=Asked).add_node(ask).add_edge(START, "ask").add_edge("ask", END)
