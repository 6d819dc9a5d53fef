"""Tasks that take turns on a loop that never rests: none of them blocks it for long, and they are not side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import pytest

from fanfold import Receipt, audit
from fanfold.events import Event, LoopHeld, TaskHeldUp
from fanfold.held import LoopWatch
from fanfold.receipt import PARALLEL, SEQUENTIAL, receipt
from fanfold.receipt.causes import BLOCKS
from fanfold.rounds import ROUNDS
from fanfold.turns import NEXT, Turns
from tests.proof.controls import beside, control
from tests.proof.telling import begun, done, in_order, over, queued, start, worked
from tests.proof.test_controls import line_of as _line_of
from tests.proof.test_controls import pytestmark as pytestmark
from tests.proof.test_watchdog import awaits

BRIEFLY = 0.012
SOMEWHERE = ("app.py", 7, "works", ())


class Told:
    """Turns, and what they tell."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.told: list[tuple[str, float, float, int, tuple[Any, ...]]] = []

    def took(self, task: str, began: float, ended: float, place: Any = SOMEWHERE) -> None:
        self.turns.took(task, began, ended, place, lambda *what: self.told.append(what))


def test_a_task_that_goes_on_has_waited_for_one_turn_of_each_of_the_others() -> None:
    said = Told()
    for at, task in enumerate("abcabc"):
        said.took(task, at * 0.012, (at + 1) * 0.012)
    assert said.turns.late("d", 0.0, 0.072) == pytest.approx(0.036)
    assert said.turns.late("a", 0.0, 0.072) == pytest.approx(0.024), "its own turn does not count"
    assert said.turns.late("e", 0.047, 0.072) == pytest.approx(0.025), "nor what was before it stopped"


def test_a_loop_that_has_rested_keeps_nobody_waiting() -> None:
    said = Told()
    said.took("a", 0.000, 0.015)
    assert said.turns.late("b", 0.0, 0.015 + 2 * NEXT) == 0.0
    said.took("c", 1.000, 1.015)
    said.took("d", 1.015, 1.025)
    assert said.turns.late("b", 0.0, 1.025) == pytest.approx(0.025), "what was before the rest is over"


def test_the_time_in_which_a_loop_has_rested_is_nobodys_turn() -> None:
    said = Told()
    said.took("a", 0.000, 0.015)
    said.took("c", 0.030, 0.035)
    said.took("d", 0.035, 0.055)
    assert said.turns.late("b", 0.0, 0.055) == pytest.approx(0.025)


def test_short_waits_are_told_when_they_come_to_something() -> None:
    said = Told()
    late = []
    for at in range(6):
        said.took("a", at * 0.01, at * 0.01 + 0.008)
        late.append(said.turns.late("b", at * 0.01, at * 0.01 + 0.008))
    assert late == [0.0, 0.0, pytest.approx(0.024), 0.0, 0.0, pytest.approx(0.024)]


def test_who_took_the_turns_that_others_waited_for_is_told_with_the_line_and_in_how_many_pieces() -> None:
    said = Told()
    for at in range(3):
        said.took("a", at * 0.01, at * 0.01 + 0.009, SOMEWHERE if at else ("app.py", 8, "begins", ()))
        said.turns.late("b", at * 0.01, at * 0.01 + 0.009)
    assert said.told == [("a", pytest.approx(0.029), pytest.approx(0.027), 3, SOMEWHERE)]


def test_nobody_is_blamed_for_turns_that_nobody_waited_for() -> None:
    said = Told()
    for at in range(10):
        said.took("a", at * 0.01, at * 0.01 + 0.009)
        said.turns.late("a", at * 0.01, at * 0.01 + 0.009)
    said.turns.forget("a")
    assert said.told == []


def test_what_is_left_when_a_task_ends_is_told_if_it_is_worth_it() -> None:
    said = Told()
    for task, seconds in (("a", 0.006), ("b", 0.004)):
        said.took(task, 0.0, seconds)
        said.turns.late("c", 0.0, seconds)
        said.turns.forget(task)
        said.turns.forget(task)
    assert [what[0] for what in said.told] == ["a"]


def test_nobody_is_blamed_for_a_turn_by_whom_it_was() -> None:
    said = Told()
    said.took("a", 0.0, 0.019)
    said.took("b", 0.019, 0.040)
    said.turns.late("a", 0.019, 0.040)
    assert [what[0] for what in said.told] == ["b"]
    said.turns.late("b", 0.019, 0.040)
    said.turns.forget("a")
    assert [(what[0], what[3]) for what in said.told] == [("b", 1), ("a", 1)]


def test_what_a_task_has_waited_is_told_before_it_holds_the_loop_itself() -> None:
    said = Told()
    said.took("a", 0.0, 0.012)
    assert said.turns.late("b", 0.0, 0.012) == 0.0
    assert said.turns.held("b", 0.012, 0.050) == pytest.approx(0.012)
    assert said.turns.held("b", 0.050, 0.090) == 0.0


def line_of(text: str) -> str:
    return _line_of(text, __file__)


class Loop:
    """An event loop that takes tasks in turn, whose clock goes on only where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.watch = LoopWatch()
        self.events: list[Event] = [start()]
        monkeypatch.setattr("fanfold.held.clock", lambda: self.now)

    def task(self, name: str, *seconds: float) -> Generator[Any, Any, Any]:
        """A task that keeps the loop for so many seconds each time that it goes on."""

        async def code() -> None:
            for each in seconds:
                self.now += each
                await asyncio.sleep(0)

        self.events += [queued(self.now, name), begun(self.now, name)]
        return awaits(self.watch.timed(self.events.append, name, code())).__await__()

    def run(self, tasks: dict[str, Generator[Any, Any, Any]], rest: float = 0.0, between: float = 0.0) -> Receipt:
        """The receipt of these tasks, when the loop rests for a while after each time that all have been at it, and
        takes a while itself to come to the next one."""
        while tasks:
            for name, task in tuple(tasks.items()):
                self.now += between
                try:
                    next(task)
                except StopIteration:
                    del tasks[name]
                    self.events.append(done(self.now, name))
            self.now += rest
        return receipt([*self.events, over(self.now)])


def test_tasks_that_keep_the_loop_busy_in_turn_are_sequential_to_the_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop(monkeypatch)
    found = loop.run({name: loop.task(name, *[0.004] * 100) for name in "abcd"})
    control("four async tasks that block for 4 ms, 100 times", found, f"{SEQUENTIAL} by {BLOCKS}", "")
    assert found.wall == pytest.approx(1.6)
    assert found.work == pytest.approx(1.6, abs=0.1)
    assert found.blocked == pytest.approx(1.6, abs=0.05)
    assert sum(cause.seconds for cause in found.causes if cause.kind == BLOCKS) == pytest.approx(1.6, abs=0.05)
    pieces = [event for event in loop.events if isinstance(event, LoopHeld)]
    assert {event.pieces for event in pieces} <= {1, 2, 3, 4, 5, 6}
    assert sum(event.seconds for event in pieces) == pytest.approx(sum(event.pieces for event in pieces) * 0.004)


def test_pieces_that_come_to_little_are_told_when_their_task_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(monkeypatch)
    loop.run({name: loop.task(name, *[0.004] * 3) for name in "ab"})
    held = {event.task: event for event in loop.events if isinstance(event, LoopHeld)}
    assert held["a"].seconds == pytest.approx(0.012)
    assert held["a"].pieces == 3


def test_a_hold_among_short_pieces_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(monkeypatch)
    found = loop.run({name: loop.task(name, *[0.004, 0.004, 0.032] * 20) for name in "abcd"})
    assert found.wall == pytest.approx(3.2)
    assert found.work == pytest.approx(3.2, abs=0.15)
    assert found.blocked == pytest.approx(3.2, abs=0.1)
    assert found.verdict == SEQUENTIAL


def test_tasks_that_keep_the_loop_for_a_moment_and_let_it_rest_are_parallel_and_nobody_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop(monkeypatch)
    found = loop.run({name: loop.task(name, *[0.002] * 50) for name in "abcd"}, rest=0.04)
    control("four async tasks that work for 2 ms of 48, 50 times", found, PARALLEL)
    assert (found.causes, found.steady) == ((), 4)
    held_up = sum(task.held_up for task in found.tasks)
    assert held_up == pytest.approx(50 * (0.002 + 0.004 + 0.006), abs=0.08), "those behind the first wait for it"


@pytest.mark.parametrize("seconds", [0.1, 0.012])
def test_tasks_that_hold_a_loop_which_is_slow_to_come_to_the_next_one_are_sequential(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    loop = Loop(monkeypatch)

    async def within_one_round() -> Receipt:  # of a loop that really runs, and so has not rested meanwhile
        return loop.run({name: loop.task(name, *[seconds] * 40) for name in "abcd"}, between=seconds / 8)

    found = asyncio.run(within_one_round())
    assert found.verdict == SEQUENTIAL
    assert found.wall == pytest.approx(160 * 9 / 8 * seconds, rel=0.01)
    assert found.blocked == pytest.approx(160 * seconds, rel=0.05)
    assert [cause.kind for cause in found.causes] == [BLOCKS] * len(found.causes)


def test_a_loop_that_has_rested_since_its_rounds_were_counted_keeps_nobody_waiting() -> None:
    async def rests() -> list[float]:
        said = Told()
        said.took("a", 0.000, 0.015)
        seen = [said.turns.late("b", -0.01, 0.015 + 20 * NEXT)]
        for _ in range(ROUNDS + 1):
            await asyncio.sleep(0)
        return [*seen, said.turns.late("c", -0.01, 0.015 + 20 * NEXT)]

    assert asyncio.run(rests()) == [0.0, 0.0]


def test_slices_that_take_next_to_nothing_are_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(monkeypatch)
    found = loop.run({str(name): loop.task(str(name), *[0.0009] * 10) for name in range(100)})
    assert found.verdict == PARALLEL
    assert [type(event) for event in loop.events if isinstance(event, LoopHeld | TaskHeldUp)] == []


async def works_in_pieces(state: Any = None) -> None:
    for _ in range(20):
        time.sleep(BRIEFLY)  # a piece
        await asyncio.sleep(0)


def by_a_run() -> Receipt:
    return audit(beside(*[works_in_pieces] * 4).compile().invoke({"log": []}))


def by_a_watch() -> Receipt:
    async def main() -> None:
        await asyncio.gather(*(works_in_pieces() for _ in range(4)))

    with audit.watch() as watched:
        asyncio.run(main())
    return watched.receipt


@pytest.mark.parametrize("seen", [by_a_run, by_a_watch])
def test_coroutines_that_block_the_loop_in_pieces_are_not_parallel_and_are_named_with_their_line(seen: Any) -> None:
    found = seen()
    assert found.verdict != PARALLEL
    assert found.mean < 2
    assert found.causes[0].place.startswith(f"{line_of('a piece')} in works_in_pieces")
    assert found.blocked > found.wall / 2


def test_who_held_a_task_up_is_another_one_and_pieces_that_nobody_saw_are_where_others_of_it_were_seen() -> None:
    seen, unseen = LoopHeld(4, "a", 1, "app.py", 7, "works", (), 9), LoopHeld(6, "a", 1, pieces=9)
    own = LoopHeld(8, "b", 3, "app.py", 9, "reads", (), 9)
    tasks = [worked("a", 0, 8), worked("b", 0, 8)]
    found = receipt(
        in_order(start(), *tasks, [TaskHeldUp(6, "b", 2), TaskHeldUp(6, "a", 6), seen, unseen, own], over(8))
    )
    assert [stretch.on for stretch in found.tasks[1].stretches if stretch.part == "held up"] == ["a"]
    blamed = {cause.place: cause.seconds for cause in found.causes if cause.kind == BLOCKS}
    assert blamed == {"app.py:7 in works": 2, "app.py:9 in reads": 3}


def test_a_task_that_held_the_loop_in_pieces_is_at_work_in_between() -> None:
    pieces = LoopHeld(8, "a", 4, "app.py", 7, "works", (), 40)
    events = [queued(0, "b"), *worked("a", 0, 8), pieces, TaskHeldUp(8, "b", 4)]
    events.insert(1, worked("b", 0, 8)[1])
    found = receipt(in_order(start(), events, done(8, "b"), over(8)))
    assert {task.name: task.parts for task in found.tasks} == {
        "a": {"working": 8},
        "b": {"working": 4, "held up": 4},
    }
    assert next(task for task in found.tasks if task.name == "b").stretches[-1].on == "a"
    assert found.blocked == 4
