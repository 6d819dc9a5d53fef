"""Graphs of LangGraph's own, and one way to run them as a program with or without `await`."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

Ask = Callable[..., Any]
"""`ask(graph, "invoke", ...)`: a method of a graph, or the one of the same meaning that is awaited."""


class State(TypedDict):
    notes: Annotated[list[Any], operator.add]
    draft: str


class Inner(TypedDict):
    draft: str


class Deltas(TypedDict):
    notes: Annotated[list[Any], DeltaChannel(lambda old, writes: [*old, *(each for one in writes for each in one)])]


def ask_with(graph: Any, method: str, *arguments: Any, **options: Any) -> Any:
    found = getattr(graph, method)(*arguments, **options)
    return list(found) if method == "get_state_history" else found


def ask_awaiting(graph: Any, method: str, *arguments: Any, **options: Any) -> Any:
    async def main() -> Any:
        found = getattr(graph, f"a{method}")(*arguments, **options)
        return [each async for each in found] if isinstance(found, AsyncIterator) else await found

    return asyncio.run(main())


def drafting(saver: Any) -> Any:
    """Three agents at once, a graph inside that asks a person, and an end."""

    def plan(state: State) -> Command[Any]:
        return Command(update={"notes": ["planned"]}, goto=[Send("agent", number) for number in range(3)])

    def agent(number: int) -> dict[str, Any]:
        return {"notes": [{"agent": number, "said": "x" * 500}]}

    def write(state: Inner) -> dict[str, Any]:
        return {"draft": f"{state.get('draft', '')}draft"}

    def review(state: Inner) -> dict[str, Any]:
        return {"draft": f"{state['draft']}, {interrupt('Is it good?')}"}

    inner = StateGraph(Inner).add_node(write).add_node(review).add_edge(START, "write").add_edge("write", "review")
    graph = StateGraph(State).add_node(plan, destinations=("agent",)).add_node(agent)
    graph.add_node("inner", inner.compile()).add_node("end", lambda state: {"notes": ["ended"]})
    graph.add_edge(START, "plan").add_edge("agent", "inner").add_edge("inner", "end")
    return graph.compile(checkpointer=saver)


def counting(saver: Any, state: type = Deltas) -> Any:
    """Each turn adds what it was given, and an answer of 100 bytes."""

    def answer(state: Any) -> dict[str, Any]:
        return {"notes": [f"{len(state['notes'])} " + "y" * 100]}

    return StateGraph(state).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)
