"""The timeline: each task's life in stretches that follow each other without a gap, and agree with the receipt."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fanfold.errors import UsageError
from fanfold.events import (
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskFinished,
    TaskQueued,
    TaskStarted,
)
from fanfold.exports.timeline import LOCKED, PAUSED, WAITING, WORKING, Line, Timeline, critical_path, timeline
from fanfold.receipt import receipt
from tests.exports.runs import crowd, everything
from tests.exports.test_trace import resumed

RUNS = pytest.mark.parametrize("events", [everything(), crowd(200, at_once=9)], ids=["everything", "crowd"])


def line(told: Timeline, name: str) -> Line:
    return next(one for one in told.lines if one.name == name)


def alone(*events: Event) -> Line:
    begun = [RunStarted(0.0, "r", "t", "g", 1e9), TaskQueued(0.0, "a", "a", 1, "node"), TaskStarted(0.0, "a")]
    return timeline([*begun, *events]).lines[0]


@RUNS
def test_the_stretches_of_a_task_fill_its_life(events: list[Event]) -> None:
    for one in timeline(events).lines:
        edges = [one.queued, *(edge for part in one.stretches for edge in (part.start, part.end)), one.ended]
        assert edges[::2] == pytest.approx(edges[1::2])


@RUNS
def test_the_time_at_work_is_the_work_of_the_receipt(events: list[Event]) -> None:
    told = timeline(events)
    seconds = sum(part.end - part.start for one in told.lines for part in one.stretches if part.state == WORKING)
    assert seconds == pytest.approx(receipt(events).work)
    assert told.end == receipt(events).wall


@RUNS
def test_the_critical_path_is_a_chain_as_long_as_the_span(events: list[Event]) -> None:
    told = receipt(events)
    path = critical_path(told)
    lives = {life.task: life for life in told.tasks}
    assert sum(lives[task].work for task in path) == pytest.approx(told.span)
    outer = [task for task in path if lives[task].parent is None]
    assert all(before in lives[task].after for before, task in pairwise(outer))


def test_a_node_that_awaits_agents_is_paused_meanwhile() -> None:
    states = [part.state for part in line(timeline(everything()), "plan").stretches]
    assert states == [WORKING, PAUSED, WORKING]


def test_a_wait_names_the_limit_that_it_was_for() -> None:
    first = line(timeline(everything()), "critic").stretches[0]
    assert (first.state, first.why) == (WAITING, "limit 2")


def test_time_behind_a_lock_is_a_stretch_that_says_which() -> None:
    one = alone(TaskBlocked(3.0, "a", "lock", 2.0, "made in app.py:7"), TaskFinished(4.0, "a"))
    told = [(part.start, part.end, part.state, part.why) for part in one.stretches]
    assert told == [(0, 1, WORKING, ""), (1, 3, LOCKED, "a lock made in app.py:7"), (3, 4, WORKING, "")]


def test_what_held_the_loop_is_told_with_its_place_and_once() -> None:
    inner = LoopHeld(2.0, "a", 1.0)
    outer = LoopHeld(2.1, "a", 1.5, "app.py", 12, "slow")
    (held,) = alone(inner, outer, TaskFinished(3.0, "a")).held
    assert (held.start, held.end, held.where) == (pytest.approx(0.6), 2.1, "slow (app.py:12)")


def test_an_answer_belongs_to_the_oldest_request_of_its_model() -> None:
    asked = [ModelAsked(1.0, "a", "x"), ModelAsked(1.5, "a", "y"), ModelAsked(2.0, "a", "x")]
    one = alone(*asked, ModelAnswered(3.0, "a", "y", 8), ModelAnswered(4.0, "a", "x", 7), TaskFinished(5.0, "a"))
    told = [(request.model, request.start, request.end, request.input_tokens) for request in one.requests]
    assert told == [("y", 1.5, 3.0, 8), ("x", 1.0, 4.0, 7), ("x", 2.0, 5.0, 0)]


def test_the_answers_of_a_program_follow_each_other() -> None:
    answers = [ModelAnswered(3.0, "a", "real-name", 7), ModelAnswered(4.0, "a", "real-name", 8)]
    one = alone(ModelAsked(1.0, "a", "claude:x"), *answers, TaskFinished(5.0, "a"))
    assert [(request.start, request.end) for request in one.requests] == [(1.0, 3.0), (3.0, 4.0)]


def test_the_time_between_two_sittings_does_not_count() -> None:
    told = timeline(resumed())
    assert (told.end, told.status, told.sittings) == (2.0, "done", (0.0, 1.0))
    states = [(part.start, part.end, part.state) for part in line(told, "b").stretches]
    assert states == [(0, 1, WORKING), (1, 1.5, WAITING), (1.5, 2, WORKING)]


def test_a_run_that_goes_on_ends_for_now_where_its_events_do() -> None:
    one = alone(LoopHeld(2.0, "a", 0.5))
    assert (one.status, one.ended, one.end) == ("running", None, 2.0)


def test_events_without_a_beginning_are_refused() -> None:
    with pytest.raises(UsageError, match="begin with run_finished"):
        timeline([RunFinished(1.0, "done")])
    with pytest.raises(UsageError, match="no event"):
        timeline([])
