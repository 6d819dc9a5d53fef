"""What the tests of claude agents share: how one is asked, and which processes are a test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypedDict

from fanfold import START, AgentDefinition, StateGraph, Task, TaskResult
from fanfold.events import Event

PATIENCE = 30.0


class State(TypedDict, total=False):
    number: int


def claude(name: str = "worker", **extra: Any) -> AgentDefinition:
    """An agent that claude runs."""
    return AgentDefinition(name, f"The {name}.", **{"prompt": f"You are the {name}.", "backend": "claude"} | extra)


def graph(*tasks: Task, found: list[TaskResult]) -> Any:
    """A graph whose one node awaits the tasks side by side."""

    async def ask(state: State) -> None:
        found.extend(await asyncio.gather(*tasks))

    return StateGraph(State).add_node(ask).add_edge(START, "ask").compile()


def asked(*tasks: Task, heard: list[Event] | None = None, **options: Any) -> list[TaskResult]:
    """What the tasks answer in a run, of which all that happens is put into `heard`."""
    found: list[TaskResult] = []
    events: list[Event] = [] if heard is None else heard
    graph(*tasks, found=found).invoke({"number": 1}, on_event=events.append, **options)
    return found


def ask(agent: AgentDefinition, model: Any, prompt: str = "go", output: Any = None, **options: Any) -> TaskResult:
    """What one agent answers in a run."""
    return asked(Task(subagent_type=agent.name, prompt=prompt, output=output), agents=[agent], model=model, **options)[
        0
    ]


def until(holds: Callable[[], Any], within: float = PATIENCE) -> float:
    """Wait for it to hold; the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, "it did not come to that"
        time.sleep(0.005)
    return time.monotonic() - began
