"""The trace of a run: what Perfetto and Chrome accept, and that it shows what happened."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, Task, python_agent
from fanfold.events import Event, RunFinished, RunStarted, TaskFinished, TaskQueued, TaskRemembered, TaskStarted
from fanfold.exports.timeline import timeline
from fanfold.exports.trace import trace
from tests.exports.rules import complaints, strict
from tests.exports.runs import HOSTILE, crowd, everything


def traced(events: list[Event]) -> Any:
    return strict(trace(timeline(events)))


def of(document: Any, phase: str, **fields: Any) -> list[Any]:
    """The events of a phase that have these fields."""
    return [
        event
        for event in document["traceEvents"]
        if event["ph"] == phase and all(event.get(name) == value for name, value in fields.items())
    ]


def resumed() -> list[Event]:
    """A run that was killed in the middle of a task, on a machine whose clock began anew before it went on."""
    return [
        RunStarted(500.0, "r", "t", "g", 1e9),
        TaskQueued(500.0, "a", "a", 1, "node"),
        TaskQueued(500.0, "b", "b", 1, "node"),
        TaskStarted(500.0, "a"),
        TaskStarted(500.0, "b"),
        TaskFinished(501.0, "a"),
        RunStarted(3.0, "r", "t", "g", 2e9, None, True),
        TaskQueued(3.0, "a", "a", 1, "node"),
        TaskRemembered(3.0, "a"),
        TaskQueued(3.0, "b", "b", 1, "node"),
        TaskStarted(3.5, "b"),
        TaskFinished(4.0, "b"),
        RunFinished(4.0, "done", peak=1),
    ]


@pytest.mark.parametrize(
    "events",
    [
        everything(),
        resumed(),
        *(crowd(300, at_once=at_once, seed=at_once) for at_once in (1, 7, 100)),
        everything()[:9],
    ],
    ids=["everything", "resumed", "one at once", "seven", "all", "going on"],
)
def test_a_trace_breaks_no_rule_of_the_format(events: list[Event]) -> None:
    assert complaints(traced(events)) == []


def test_the_trace_of_a_run_that_really_ran_breaks_no_rule_either() -> None:
    class State(TypedDict, total=False):
        out: list[str]

    @python_agent("worker")
    async def worker(prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt

    async def team(state: State) -> State:
        tasks = [Task(subagent_type="worker", prompt=str(number)) for number in range(20)]
        return {"out": [str(answer) for answer in await asyncio.gather(*tasks)]}

    graph = StateGraph(State).add_node("team", team).add_edge(START, "team").compile()
    done: Any = graph.invoke({"out": []}, agents=[worker], max_concurrency=3)
    document = traced(list(done.run.events))
    assert complaints(document) == []
    assert len(of(document, "X", name="worker", cat="task")) == 20


def overlap(document: Any) -> None:
    (first, *_) = of(document, "X", cat="task")
    document["traceEvents"].append({**first, "ts": first["ts"] + 1, "dur": first["dur"]})


def without_duration(document: Any) -> None:
    del of(document, "X")[0]["dur"]


def loose_arrow(document: Any) -> None:
    of(document, "s")[0]["ts"] += 1e9


def unfinished(document: Any) -> None:
    document["traceEvents"].remove(of(document, "e")[0])


def nameless(document: Any) -> None:
    document["traceEvents"].remove(of(document, "M", name="thread_name")[0])


def scopeless(document: Any) -> None:
    del of(document, "i")[0]["s"]


@pytest.mark.parametrize("mistake", [overlap, without_duration, loose_arrow, unfinished, nameless, scopeless])
def test_the_rules_find_each_kind_of_mistake(mistake: Callable[[Any], None]) -> None:
    document = copy.deepcopy(traced(everything()))
    mistake(document)
    assert complaints(document)


def test_tasks_that_overlap_are_on_different_tracks_and_as_few_as_there_can_be() -> None:
    document = traced(crowd(300, at_once=7))
    slices = of(document, "X", cat="task")
    assert len(slices) == 300
    most = max(sum(one["ts"] <= at["ts"] < one["ts"] + one["dur"] for one in slices) for at in slices)
    assert len({one["tid"] for one in slices}) == most


def test_each_state_of_a_task_is_a_slice_of_its_own_at_its_time() -> None:
    document = traced(everything())
    (agent,) = of(document, "X", name="writer")
    inside = {
        (one["name"], one["ts"] / 1e6, round(one["dur"] / 1e6, 6))
        for one in of(document, "X", tid=agent["tid"], pid=agent["pid"])
        if agent["ts"] <= one["ts"] < agent["ts"] + agent["dur"] and one is not agent
    }
    assert inside == {
        ("works", 0.2, 0.1),
        ("held up: the event loop is held by side", 0.3, 0.3),
        ("works", 0.6, 0.3),
        ("waits at a rate gate: the rate of openai:gpt-x", 0.9, 0.2),
        ("works", 1.1, 0.9),
    }
    (node,) = of(document, "X", name="plan")
    assert [one["dur"] for one in of(document, "X", name="paused: its agents work", tid=node["tid"])] == [
        pytest.approx(1.9e6)
    ]
    (waits,) = of(document, "X", name="waits for limit 2")
    assert (waits["ts"], waits["dur"]) == (pytest.approx(0.2e6), pytest.approx(0.5e6))


def test_what_blocks_the_loop_is_a_slice_within_its_task() -> None:
    (block,) = of(traced(everything()), "X", cat="blocked")
    assert (block["name"], block["ts"], block["dur"]) == ("blocks the event loop", 200_000, 400_000)


def test_steps_and_requests_are_asynchronous_slices() -> None:
    document = traced(everything())
    steps = [(one["name"], one["ts"]) for one in of(document, "b", cat="step")]
    assert steps == [("step 1", 0), ("step 2", 2_200_000)]
    assert [one["name"] for one in of(document, "b", cat="model")] == ["openai:gpt-x"] * 3
    assert [one["args"].get("error") for one in of(document, "b", cat="model")] == ["429 Too Many Requests", None, None]


def test_arrows_lead_from_what_a_task_follows_and_from_who_called_it() -> None:
    document = traced(everything())
    tracks = {(one["pid"], one["tid"], one["ts"]): one["name"] for one in of(document, "X", cat="task")}
    ends = sorted((arrow["name"], tracks[arrow["pid"], arrow["tid"], arrow["ts"]]) for arrow in of(document, "f"))
    assert ends == [("after", "end"), ("after", "end"), ("calls", "critic"), ("calls", "writer")]


def test_no_arrow_leads_back_in_time() -> None:
    events = [
        RunStarted(0.0, "r", "t", "g", 1e9),
        TaskQueued(0.0, "a", "a", 1, "node"),
        TaskStarted(0.0, "a"),
        TaskQueued(1.0, "b", "b", 2, "node", ("a",)),
        TaskFinished(2.0, "a"),
        TaskFinished(2.0, "b"),
    ]
    document = traced(events)
    assert of(document, "s") == of(document, "f") == []
    assert complaints(document) == []


def test_the_counters_tell_how_many_were_at_work() -> None:
    document = traced(crowd(100, at_once=7))
    counts = [one["args"]["tasks"] for one in of(document, "C", name="at work")]
    assert (max(counts), counts[-1]) == (7, 0)
    assert [one["args"]["tasks"] for one in of(document, "C", name="limit")] == [7]


def test_text_of_agents_is_only_text() -> None:
    text = trace(timeline(everything()))
    assert "\\ud800" not in text
    assert "\\u202e" not in text
    (agent,) = of(strict(text), "X", name="critic")
    assert agent["args"]["label"].startswith(HOSTILE[:20])
