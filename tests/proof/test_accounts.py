"""Each moment of a task's life is in one part of it: the parts add up to its life, whatever happens to it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold import Limits, Receipt, Task, audit, python_agent
from fanfold.events import (
    ClockJumped,
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    TaskBlocked,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskHeldUp,
    TaskInterrupted,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
    TaskWaited,
    TaskWaiting,
    ThreadUsed,
)
from fanfold.receipt import receipt
from fanfold.receipt.values import BARRIER, PARTS, TaskLife
from fanfold.store.sqlite import SqliteStore
from tests.proof.controls import State, alone, beside
from tests.proof.telling import begun, continued, done, in_order, over, paused, queued, start, worked

WHY = ("the budget of calls", "room in memory_mb", "limit 2 of requests to m", "m to take requests again")
SECONDS = st.floats(0, 3, allow_nan=False)


def check(found: Receipt) -> None:
    """The parts of each life are disjoint and without a gap, and add up to it."""
    for task in found.tasks:
        assert math.isclose(sum(task.parts.values()), task.lived, rel_tol=1e-9, abs_tol=1e-9), task.account({})
        assert set(task.parts) <= set(PARTS)
        assert all(stretch.start < stretch.end for stretch in task.stretches)
        assert all(before.end <= after.start for before, after in pairwise(task.stretches))
        assert math.isclose(task.work, task.parts.get("working", 0) + task.parts.get("blocking", 0), abs_tol=1e-9)


@dataclass
class Teller:
    """Tells a legal stream of events: whatever may happen to tasks, in whatever order, over several sittings.

    It keeps by itself for how long each task has lived; that is what the receipt has to come to.
    """

    draw: Callable[..., Any]
    now: float = 100.0
    events: list[Event] = field(default_factory=list)
    lived: dict[str, float] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def sitting(self, number: int) -> None:
        self.now += self.draw(st.floats(0, 1000))  # while nobody ran it
        self.events.append(start(self.now, self.draw(st.one_of(st.none(), st.integers(1, 3))), resumed=number > 0))
        self.ends = {}
        for _ in range(self.draw(st.integers(1, 25))):
            self.now += self.draw(SECONDS)
            self.something()
        if self.draw(st.booleans()):
            for task in [task for task, state in self.states.items() if state != "over"]:
                self.end(task)
            self.events.append(over(self.now))
        for task, state in self.states.items():  # killed
            if state != "over":
                self.lived[task] += self.last() - self.since[task]
                self.states[task] = "over"

    def last(self) -> float:
        return max(event.at for event in self.events[self.began() :])

    def began(self) -> int:
        return max(index for index, event in enumerate(self.events) if event.kind == "run_started")

    def something(self) -> None:
        task = f"t{self.draw(st.integers(0, 4))}"
        state = self.states.get(task, "over")
        if state == "over":
            if task not in self.since or self.since[task] < self.events[self.began()].at:
                self.queue(task)
        elif state == "queued":
            self.draw(st.sampled_from([self.begin, self.begin, self.begin, self.end]))(task)
        elif state == "paused":
            self.draw(st.sampled_from([self.go_on, self.tell, self.end]))(task)
        else:
            self.draw(st.sampled_from([self.tell, self.tell, self.pause, self.wait, self.end]))(task)

    def queue(self, task: str) -> None:
        after, released = "", ""
        if self.ends and self.draw(st.booleans()):
            after = self.draw(st.sampled_from(sorted(self.ends)))
            released = self.draw(st.sampled_from(["", *sorted(self.ends)]))
        self.since[task] = min(self.now, self.ends[after]) if released else self.now
        self.lived.setdefault(task, 0.0)
        self.states[task], self.waiting[task] = "queued", []
        self.events.append(TaskQueued(self.now, task, task, 1, "node", (after,) if after else (), None, "", released))

    def begin(self, task: str) -> None:
        self.states[task] = "running"
        self.events.append(TaskStarted(self.now, task, 1, self.draw(st.sampled_from(["", "limit 2"]))))

    def pause(self, task: str) -> None:
        self.states[task] = "paused"
        self.events.append(TaskPaused(self.now, task))

    def go_on(self, task: str) -> None:
        self.states[task] = "running"
        why = self.draw(st.sampled_from(["", "limit 2"]))
        self.events.append(TaskContinued(self.now, task, why, self.draw(SECONDS) if why else 0.0))

    def wait(self, task: str) -> None:
        if self.waiting[task] and self.draw(st.booleans()):
            why = self.waiting[task].pop()
            self.events.append(TaskWaited(self.now, task, why, 1.0))
        else:
            self.waiting[task].append(why := self.draw(st.sampled_from(WHY)))
            self.events.append(TaskWaiting(self.now, task, why))

    def tell(self, task: str) -> None:
        seconds = self.draw(SECONDS)
        told: list[Event] = [
            LoopHeld(self.now, task, seconds),
            TaskHeldUp(self.now, task, seconds),
            TaskBlocked(self.now, task, self.draw(st.sampled_from(["lock", "thread"])), seconds),
            ThreadUsed(self.now, task, seconds, seconds / 2, seconds / 4),
            ModelAsked(self.now, task, "m"),
            ModelAnswered(self.now, task, "m", 1, 1),
            TaskStarted(self.now, task, 2),
        ]
        self.events.append(self.draw(st.sampled_from(told if self.states[task] == "running" else told[:6])))

    def end(self, task: str) -> None:
        kinds: list[Event] = [TaskFinished(self.now, task), TaskFailed(self.now, task, "KeyError")]
        kinds += [TaskInterrupted(self.now, task), TaskCancelled(self.now, task)]
        if self.states[task] == "queued":
            kinds = [TaskCancelled(self.now, task), TaskRemembered(self.now, task)]
        self.events.append(self.draw(st.sampled_from(kinds)))
        self.lived[task] += self.now - self.since[task]
        self.states[task] = "over"
        self.ends[task] = self.now


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_parts_of_each_life_add_up_whatever_happens_over_several_sittings(data: st.DataObject) -> None:
    teller = Teller(data.draw)
    for number in range(data.draw(st.integers(1, 3))):
        teller.sitting(number)
    found = receipt(teller.events)
    check(found)
    for task in found.tasks:
        assert math.isclose(task.lived, teller.lived[task.task], rel_tol=1e-6, abs_tol=1e-6), task.account({})
    whole = sum(stop.seconds for stop in teller.events if isinstance(stop, ClockJumped))
    assert found.wall <= teller.now - 100 - whole + 1e-6
    check(receipt(teller.events[: data.draw(st.integers(1, len(teller.events)))]))


# Real runs


def adds_up(found: Receipt) -> None:
    """Also against the events themselves, of a run with one sitting: from when it was ready to its end."""
    check(found)
    for task in found.tasks:
        assert task.ended is not None
        began = task.queued - task.parts.get(BARRIER, 0.0)
        assert task.ended - began == pytest.approx(sum(task.parts.values()), abs=1e-6)


@python_agent("worker")
async def worker(prompt: str) -> str:
    await asyncio.sleep(0.02)
    return prompt


@python_agent("blocker", max_concurrent=2)
async def blocker(prompt: str) -> str:
    time.sleep(0.03)
    await asyncio.sleep(0)
    return prompt


async def team(state: State) -> Any:
    await asyncio.gather(*(Task(subagent_type=name, prompt=word) for name in ("worker", "blocker") for word in "abc"))
    return {"log": [(await Task(subagent_type="worker", prompt="last")).output]}


def burn(state: State) -> None:
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        sum(range(100))


def test_the_parts_add_up_in_a_run_in_which_much_happens_and_it_is_the_same_from_the_store(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        graph = beside(team, burn, burn, team).compile(store)
        limits = Limits(max_concurrency=3)
        result = graph.invoke({"log": []}, agents=[worker, blocker], limits=limits, thread_id="t", run_id="r")
        found = audit(result)
        adds_up(found)
        assert audit("r", store=store) == found
    parts = {part for task in found.tasks for part in task.parts}
    assert {"limit", "children", "working", "blocking"} <= parts


def test_a_run_can_be_judged_while_it_goes_on_and_the_parts_add_up_then_too() -> None:
    events: list[Event] = []
    seen: list[Receipt] = []

    async def looks(state: State) -> None:
        await asyncio.sleep(0.02)
        seen.append(audit(list(events)))
        await Task(subagent_type="worker", prompt="a")
        seen.append(audit(list(events)))

    alone(looks).compile().invoke({"log": []}, agents=[worker], on_event=events.append)
    for found in seen:
        check(found)
        assert found.status == "running"
    assert [task.status for task in seen[1].tasks] == ["running", "finished"]
    assert seen[1].tasks[0].ended is None


# What is in which part


def parts(*events: Any) -> dict[str, dict[str, float]]:
    found = receipt(in_order(start(), *events))
    check(found)
    return {task.name: task.parts for task in found.tasks}


def life(*events: Any) -> TaskLife:
    return next(task for task in receipt(in_order(start(), *events)).tasks if task.name == "a")


def test_a_task_that_waits_for_its_slot_again_waits_for_the_limit_and_not_for_its_agents() -> None:
    mine = [queued(0, "n"), begun(0, "n"), paused(1, "n"), TaskContinued(7, "n", "limit 1", 4), done(8, "n")]
    assert parts(mine, worked("x", 1, 3, by="n"), over(8))["n"] == {"limit": 4, "children": 2, "working": 2}


def test_a_task_that_was_queued_while_another_held_the_loop_was_held_up_by_that_one() -> None:
    late = [queued(1, "a"), begun(3, "a"), done(5, "a")]
    hog = [queued(0, "hog"), begun(0, "hog"), LoopHeld(3, "hog", 2.5), done(4, "hog")]
    found = life(late, hog, over(5))
    assert found.parts == {"held up": 2, "working": 2}
    assert [stretch.on for stretch in found.stretches] == ["hog", ""]
    assert (found.waited, found.held_up) == (2, 0)


@pytest.mark.parametrize(("begins", "late"), [(3.015, {}), (3.5, {"queued": 0.5})])
def test_what_the_loop_takes_to_come_to_a_queued_task_behind_a_hold_belongs_to_the_hold(begins: Any, late: Any) -> None:
    hog = [queued(0, "hog"), begun(0, "hog"), LoopHeld(3, "hog", 3), done(3, "hog")]
    found = life([queued(1, "a"), begun(begins, "a"), done(5, "a")], hog, over(5))
    assert found.parts == pytest.approx({"held up": begins - 1 - sum(late.values()), "working": 5 - begins, **late})


def test_what_kept_a_task_is_told_in_words_with_names() -> None:
    events = in_order(start(), worked("c", 0, 4), worked("a", 0, 1), [queued(4, "b", "a", released="c")])
    found = receipt([*events, begun(5, "b", "limit 1"), LoopHeld(6, "b", 0.5), done(8, "b"), over(8)])
    assert list(found.account())[2] == (
        "b: 7.000 s = at a barrier 3.000 s for c, waiting 1.000 s for limit 1, working 2.500 s,"
        " blocking the loop 0.500 s"
    )


def test_the_first_request_to_a_model_and_the_attempts_are_told() -> None:
    asks = [ModelAsked(3, "a", "m"), ModelAnswered(4, "a", "m", 1, 1), ModelAsked(5, "a", "m")]
    found = life([queued(0, "a"), begun(1, "a"), *asks, TaskStarted(6, "a", 2), done(7, "a")], over(7))
    assert (found.model_at, found.attempts, found.parts) == (3, 2, {"queued": 1, "working": 6})


def test_seconds_in_which_the_process_stood_still_are_in_no_part() -> None:
    mine = [queued(0, "a"), begun(1, "a"), done(107, "a")]
    found = receipt([start(), *mine, ClockJumped(105, 100), over(107)])
    assert (found.wall, found.jumped) == (7, 100)
    assert found.tasks[0].parts == {"queued": 1, "working": 6}


def test_a_continued_task_goes_on_at_once_where_it_waited_for_no_limit() -> None:
    mine = [queued(0, "n"), begun(0, "n"), paused(1, "n"), continued(3, "n"), done(4, "n")]
    assert parts(mine, over(4))["n"] == {"children": 2, "working": 2}
