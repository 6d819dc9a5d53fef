"""What earlier sittings of a run have spent, also where the answers never came."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, BudgetError, Limits, StateGraph, Task, asking, python_agent
from fanfold.agents.backends.python import PythonAgent
from fanfold.errors import ModelCutError, ModelRateError
from fanfold.events import (
    Event,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    RunStarted,
    TaskCancelled,
    TaskQueued,
    TaskStarted,
)
from fanfold.limits import spent


class State(TypedDict, total=False):
    out: list[Any]


def sittings(agent: PythonAgent, store: Path, often: int, on_event: Any = None, **limits: Any) -> None:
    """Run a graph that asks the agent, and go on with it, until the run's budget is spent so often."""

    async def node(state: State) -> State:
        return {"out": [(await Task(subagent_type=agent.definition.name, prompt="go")).output]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(store)
    for number in range(often):
        given = None if number else {}
        with pytest.raises(BudgetError):
            graph.invoke(given, thread_id="t", agents=[agent], limits=Limits(**limits), on_event=on_event)


def _broken(error: Exception | None) -> tuple[PythonAgent, list[str]]:
    """An agent whose requests all break off by that error, or are given up where there is none; and what it asked."""
    asked: list[str] = []

    @python_agent("broken")
    async def agent(prompt: str) -> str:
        while True:
            try:
                async with asyncio.timeout(None) as timer, asking("m:x", tokens=100, usd=0.5):
                    asked.append(prompt)
                    if error is not None:
                        raise error
                    timer.reschedule(0)
                    await asyncio.Event().wait()
            except (ModelCutError, TimeoutError):
                continue

    return agent, asked


@pytest.mark.parametrize("error", [ModelCutError("cut"), None], ids=["cut", "given up"])
@pytest.mark.parametrize("limit", [{"calls": 3}, {"tokens": 399}, {"usd": 1.99}], ids=["calls", "tokens", "usd"])
def test_requests_that_were_never_answered_count_in_the_next_sitting(
    error: Exception | None, limit: dict[str, Any], tmp_path: Path
) -> None:
    agent, asked = _broken(error)
    sittings(agent, tmp_path / "runs.db", 2, **limit)
    assert len(asked) == 3


@pytest.mark.parametrize("ending", ["an error", "given up"])
def test_answers_count_in_the_next_sitting_also_where_the_agent_went_no_further(ending: str, tmp_path: Path) -> None:
    asked: list[str] = []

    @python_agent("stumbles")
    async def agent(prompt: str) -> str:
        while True:
            try:
                async with asyncio.timeout(None) as timer, asking("m:x", calls=2) as request:
                    asked.append(prompt)
                    request.answered(30, 10, 0.5)
                    if ending == "an error":
                        raise LookupError("the answer was odd")
                    timer.reschedule(0)
                    await asyncio.Event().wait()
            except (LookupError, TimeoutError):
                continue

    events: list[Event] = []
    sittings(agent, tmp_path / "runs.db", 2, calls=6, on_event=events.append)
    assert len(asked) == 3
    assert spent(events) == {"calls": 6.0, "tokens": 120.0, "usd": 1.5, "seconds": spent(events)["seconds"]}


def test_what_was_in_flight_when_a_sitting_was_killed_is_a_call() -> None:
    def sitting(at: float) -> list[Event]:
        return [
            RunStarted(at, "r", "t", "g", 0.0),
            TaskQueued(at, "a", "agent", 1, "agent"),
            TaskStarted(at, "a"),
            ModelAsked(at, "a", "m"),
            ModelRetried(at, "a", "m", "refused", 1.0),
            ModelAsked(at, "a", "m"),
            ModelAnswered(at + 1, "a", "m", 10, 5, 0.25),
            ModelAsked(at + 2, "a", "m"),
        ]

    told = spent([*sitting(0.0), *sitting(100.0)])
    assert told == {"calls": 4.0, "tokens": 30.0, "usd": 0.5, "seconds": 4.0}


def test_a_request_that_was_given_up_counts_once() -> None:
    events: list[Event] = [
        ModelAsked(0.0, "a", "m"),
        ModelLost(1.0, "a", "m", 25, 100.0, 0.5),
        TaskCancelled(1.0, "a"),
        ModelAsked(2.0, "b", "m"),  # and its server refused it
        TaskCancelled(3.0, "b"),
    ]
    assert spent(events) == {"calls": 25.0, "tokens": 100.0, "usd": 0.5, "seconds": 0.0}


def test_requests_that_were_refused_take_nothing_of_the_next_sitting(tmp_path: Path) -> None:
    asked: list[str] = []

    @python_agent("refused")
    async def agent(prompt: str) -> str:
        asked.append(prompt)
        if len(asked) == 1:
            with pytest.raises(ModelRateError):
                async with asking("m:x"):
                    raise ModelRateError("too often", retry_after=0.0)
        for _ in range(2):
            async with asking("m:x") as request:
                asked.append(prompt)
                request.answered(1, 1, 0.0)
        return prompt

    sittings(agent, tmp_path / "runs.db", 2, calls=1)
    assert len(asked) == 3
