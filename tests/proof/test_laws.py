"""What holds for the receipt of every run, and for every event on its way to the store and back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.events import KINDS, Event, from_record, to_record
from fanfold.receipt import PARALLEL, SEQUENTIAL, receipt
from tests.proof.telling import begun, continued, done, over, paused, queued, start


class Schedule:
    """Plays tasks on so many slots, in whole seconds, as the driver would: first come, first served."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.now = 0
        self.events: list[Event] = [start(0, limit)]
        self._running: list[tuple[int, str]] = []
        self._waiting: list[tuple[str, int]] = []

    def queue(self, task: str, seconds: int, after: str) -> None:
        self.events.append(queued(self.now, task, after))
        self._waiting.append((task, seconds))
        self._serve(late="")

    def tick(self) -> list[str]:
        """Go on to the next end; the tasks that have ended."""
        self.now = min(end for end, _ in self._running)
        ended = [task for end, task in self._running if end == self.now]
        self._running = [(end, task) for end, task in self._running if end > self.now]
        self.events += [done(self.now, task) for task in ended]
        self._serve(late=f"limit {self.limit}")
        return ended

    @property
    def idle(self) -> bool:
        return not self._running

    def _serve(self, late: str) -> None:
        while self._waiting and (self.limit is None or len(self._running) < self.limit):
            task, seconds = self._waiting.pop(0)
            self.events.append(begun(self.now, task, late))
            self._running.append((self.now + seconds, task))


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Event], int, int | None]:
    """The events of a run, the number of its tasks, and its limit."""
    limit = draw(st.one_of(st.none(), st.integers(1, 4)))
    number = draw(st.integers(1, 10))
    lengths = draw(st.lists(st.integers(1, 9), min_size=number, max_size=number))
    needs = [sorted(draw(st.sets(st.integers(0, index - 1), max_size=2))) if index else [] for index in range(number)]
    schedule = Schedule(limit)
    ended: set[int] = set()
    known: set[int] = set()
    while len(ended) < number:
        for index in range(number):
            if index not in known and set(needs[index]) <= ended:
                known.add(index)
                schedule.queue(str(index), lengths[index], " ".join(map(str, needs[index])))
        ended |= {int(task) for task in schedule.tick()}
    assert schedule.idle
    return [*schedule.events, over(schedule.now)], number, limit


laws = settings(max_examples=200, deadline=None)


@laws
@given(runs())
def test_the_parts_add_up_and_no_run_is_faster_than_its_span(run: tuple[list[Event], int, int | None]) -> None:
    events, number, limit = run
    found = receipt(events)
    assert len(found.tasks) == number
    assert found.work == sum(task.work for task in found.tasks)
    assert found.waited == sum(task.waited for task in found.tasks)
    assert found.span <= found.wall <= found.work
    assert 1 <= found.peak <= min(number, limit or number)
    assert found.work <= found.peak * found.wall
    assert 0 <= found.gain <= 1
    assert found.speedup == found.mean == found.work / found.wall
    assert found.saved == found.work - found.wall


@laws
@given(runs())
def test_a_run_that_nothing_held_back_gained_all_there_was(run: tuple[list[Event], int, int | None]) -> None:
    events, _, limit = run
    found = receipt(events)
    if limit is None:
        assert found.wall == found.span
        assert found.gain == (1 if found.work > found.span else 0)
        assert found.culprits == ()
    if found.gain == 1:
        assert found.verdict == PARALLEL or found.work - found.span <= found.work / 20
    if limit == 1:
        assert found.wall == found.work
        assert found.verdict != PARALLEL


@laws
@given(runs(), st.data())
def test_a_run_that_was_cut_short_has_a_receipt_at_any_moment(
    run: tuple[list[Event], int, int | None], data: st.DataObject
) -> None:
    events, number, _ = run
    found = receipt(events[: data.draw(st.integers(1, len(events)))])
    assert 0 <= found.gain <= 1
    assert found.peak <= number
    assert found.work == sum(task.work for task in found.tasks)
    assert found.wall <= receipt(events).wall


@laws
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.booleans())
def test_the_same_agents_are_sequential_in_a_loop_and_parallel_when_gathered(
    lengths: list[int], gathered: bool
) -> None:
    now = 0
    events: list[Event] = [start(), queued(0, "n"), begun(0, "n"), paused(0, "n")]
    if gathered:
        calls = [(index, 0, length) for index, length in enumerate(lengths)]
        now = max(lengths)
        events += [event for index, _, _ in calls for event in (queued(0, f"{index}", by="n"), begun(0, f"{index}"))]
        events += sorted((done(length, f"{index}") for index, _, length in calls), key=lambda event: event.at)
    else:
        for index, length in enumerate(lengths):
            events += [queued(now, f"{index}", by="n"), begun(now, f"{index}")]
            now += length
            events += [done(now, f"{index}"), continued(now, "n"), paused(now, "n")]
    found = receipt([*events, continued(now, "n"), done(now, "n"), over(now)])
    assert (found.work, found.span) == (sum(lengths), max(lengths))
    assert found.verdict == (PARALLEL if gathered else SEQUENTIAL)
    assert len(found.culprits) == (not gathered)


# Events


def _values(cls: type[Event]) -> st.SearchStrategy[Event]:
    by_type: dict[str, st.SearchStrategy[Any]] = {
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "int": st.integers(-(2**53), 2**53),
        "str": st.text(),
        "bool": st.booleans(),
        "tuple[str, ...]": st.lists(st.text()).map(tuple),
        "tuple[float, ...]": st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
        "float | None": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "int | None": st.none() | st.integers(-(2**53), 2**53),
        "str | None": st.none() | st.text(),
    }
    return st.builds(cls, **{field.name: by_type[str(field.type)] for field in fields(cls)})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_an_event_of_every_kind_comes_back_from_its_record_as_it_was(kind: str, data: st.DataObject) -> None:
    event = data.draw(_values(KINDS[kind]))
    record = to_record(event)
    assert next(iter(record)) == "kind"
    assert from_record(record) == event
    assert from_record(json.loads(json.dumps(record))) == event


@pytest.mark.parametrize("record", [{}, {"kind": "nonsense"}])
def test_a_kind_that_is_not_known_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown kind of event"):
        from_record(record)


@pytest.mark.parametrize("record", [{"kind": "task_paused"}, {"kind": "task_paused", "at": 1.0, "task": "a", "new": 1}])
def test_a_record_with_other_fields_is_refused_by_its_kind(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot read the task_paused event"):
        from_record(record)
