"""The measurement that fanfold began with: agents of 1.0, 1.0, 1.0 and 1.5 seconds, then 0.5 to compile.

One by one that is 5 seconds. Side by side it cannot be less than 2.0: the longest agent, then the compiling.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypedDict

from fanfold import END, START, StateGraph, Task, python_agent

SECONDS: Final = {"research": 1.0, "coder": 1.0, "validator": 1.0, "monitor": 1.5}
COMPILE_SECONDS: Final = 0.5
ONE_BY_ONE: Final = sum(SECONDS.values()) + COMPILE_SECONDS
LEAST: Final = max(SECONDS.values()) + COMPILE_SECONDS


class Seed(TypedDict):
    """What the agents have answered, and what was compiled of it."""

    answers: Annotated[list[str], operator.add]
    compiled: str


def _sleeper(name: str, seconds: float) -> object:
    @python_agent(f"seed-{name}", f"Answers after {seconds} seconds.")
    async def sleep(prompt: str) -> str:
        await asyncio.sleep(seconds)
        return f"{name} took {seconds} s"

    return sleep


agents: Final = tuple(_sleeper(name, seconds) for name, seconds in SECONDS.items())


def _asking(name: str) -> Callable[[Seed], Awaitable[dict[str, list[str]]]]:
    async def ask(state: Seed) -> dict[str, list[str]]:
        result = await Task(subagent_type=f"seed-{name}", prompt="wait", description="wait")
        return {"answers": [str(result)]}

    return ask


async def compile_answers(state: Seed) -> dict[str, str]:
    """Take half a second over the answers."""
    await asyncio.sleep(COMPILE_SECONDS)
    return {"compiled": "; ".join(state["answers"])}


def _team() -> StateGraph:
    team = StateGraph(Seed)
    for name in SECONDS:
        team.add_node(name, _asking(name))
        team.add_edge(START, name)
    team.add_node("compile", compile_answers)
    team.add_edge(list(SECONDS), "compile")
    team.add_edge("compile", END)
    return team


graph: Final = _team()
