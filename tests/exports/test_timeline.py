"""The timeline: the lives of the receipt, and what was done in them, on one line."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fanfold.errors import UsageError
from fanfold.events import (
    ClockJumped,
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskFinished,
    TaskQueued,
    TaskStarted,
    ToolAnswered,
    ToolCalled,
)
from fanfold.exports.timeline import Line, Timeline, critical_path, timeline, words
from fanfold.receipt import receipt
from fanfold.receipt.values import PARTS, Stretch
from tests.exports.runs import crowd, everything
from tests.exports.test_trace import resumed

RUNS = pytest.mark.parametrize("events", [everything(), crowd(200, at_once=9)], ids=["everything", "crowd"])


def line(told: Timeline, name: str) -> Line:
    return next(one for one in told.lines if one.life.name == name)


def alone(*events: Event) -> Line:
    begun = [RunStarted(0.0, "r", "t", "g", 1e9), TaskQueued(0.0, "a", "a", 1, "node"), TaskStarted(0.0, "a")]
    return timeline([*begun, *events]).lines[0]


@RUNS
def test_the_lives_are_those_of_the_receipt(events: list[Event]) -> None:
    told = timeline(events)
    assert told.receipt == receipt(events)
    assert tuple(one.life for one in told.lines) == told.receipt.tasks
    assert told.end == told.receipt.wall


@RUNS
def test_the_stretches_of_a_task_fill_its_line(events: list[Event]) -> None:
    for one in timeline(events).lines:
        edges = [one.start, *(edge for part in one.life.stretches for edge in (part.start, part.end)), one.end]
        assert edges[::2] == pytest.approx(edges[1::2])


@RUNS
def test_the_critical_path_is_a_chain_as_long_as_the_span(events: list[Event]) -> None:
    told = receipt(events)
    path = critical_path(told)
    lives = {life.task: life for life in told.tasks}
    assert sum(lives[task].work for task in path) == pytest.approx(told.span)
    outer = [task for task in path if lives[task].parent is None]
    assert all(before in lives[task].after for before, task in pairwise(outer))


def test_how_many_were_at_work_and_how_many_waited_is_told_at_each_change() -> None:
    told = timeline(everything())
    assert max(number for _, number in told.at_work) == told.receipt.peak
    seconds = sum((after - at) * number for (at, number), (after, _) in pairwise(told.at_work))
    assert seconds == pytest.approx(told.receipt.work)
    seconds = sum((after - at) * number for (at, number), (after, _) in pairwise(told.waiting))
    assert seconds == pytest.approx(told.receipt.waited)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_life_has_words_that_name_what_it_is_on(part: str) -> None:
    text = words(Stretch(0, 1, part, "t1"), {"t1": "writer"})
    assert text.endswith("writer")
    assert text != f"{part}: writer"


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


def test_a_request_that_nobody_answered_is_one_request_and_says_why() -> None:
    asked = [ModelAsked(1.0, "a", "x"), ModelLost(2.0, "a", "x"), ModelRetried(2.1, "a", "x", "503", 1.0)]
    one = alone(*asked, ModelAsked(3.0, "a", "x"), ModelLost(4.0, "a", "x"), TaskFinished(5.0, "a"))
    told = [(request.start, request.end, request.error) for request in one.requests]
    assert told == [(1.0, 2.0, "503"), (3.0, 4.0, "no answer")]


def test_a_tool_ends_where_it_answered_if_that_is_told() -> None:
    calls = [ToolCalled(1.0, "a", "read"), ToolCalled(1.1, "a", "find")]
    one = alone(*calls, ToolAnswered(2.0, "a", "find", 0.9), TaskFinished(3.0, "a"))
    assert [(use.tool, use.start, use.end) for use in one.tools] == [("find", 1.1, 2.0), ("read", 1.0, None)]


def test_what_is_done_is_on_the_line_on_which_a_jump_of_the_clock_does_not_count() -> None:
    events = [ModelAsked(1.0, "a", "x"), ClockJumped(102.0, 100.0), ModelAnswered(103.0, "a", "x")]
    one = alone(*events, LoopHeld(104.0, "a", 0.5), TaskFinished(104.0, "a"))
    assert [(request.start, request.end) for request in one.requests] == [(1.0, 3.0)]
    assert [(held.start, held.end) for held in one.held] == [(3.5, 4.0)]
    assert one.end == 4.0


def test_the_time_between_two_sittings_does_not_count() -> None:
    told = timeline(resumed())
    assert (told.end, told.receipt.status) == (2.0, "done")
    b = line(told, "b")
    assert (b.start, b.end) == (0.0, 2.0)
    assert [(part.start, part.end) for part in b.life.stretches] == [(0, 1), (1, 1.5), (1.5, 2)]


def test_what_a_killed_sitting_asked_ends_with_it() -> None:
    later = [ModelAsked(3.5, "b", "x"), ModelAnswered(3.75, "b", "x")]
    killed = [*resumed()[:5], ModelAsked(500.5, "b", "x"), *resumed()[5:11], *later, *resumed()[11:]]
    requests = line(timeline(killed), "b").requests
    assert [(request.start, request.end) for request in requests] == [(0.5, 1.0), (1.5, 1.75)]


def test_a_run_that_goes_on_ends_for_now_where_its_events_do() -> None:
    one = alone(ModelAsked(1.0, "a", "x"), TaskBlocked(2.0, "a", "lock", 0.5))
    assert (one.life.status, one.life.ended, one.end) == ("running", None, 2.0)
    assert [(request.start, request.end) for request in one.requests] == [(1.0, None)]


def test_events_without_a_beginning_are_refused() -> None:
    with pytest.raises(UsageError, match="begin with run_finished"):
        timeline([RunFinished(1.0, "done")])
    with pytest.raises(UsageError, match="no event"):
        timeline([])
