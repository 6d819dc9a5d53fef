"""Nodes in threads that stand behind a lock of `threading`'s, and nodes that wait for something else."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import pytest

from fanfold import audit, watchdog
from fanfold.events import TaskBlocked
from fanfold.receipt import PARALLEL, SEQUENTIAL
from fanfold.receipt.causes import LOCKED
from fanfold.watchdog import A_LOOK_AT_ONE, Watchdog
from fanfold.work.threads import BUSY_FROM, INSIDE, Inside, metered
from tests.proof.controls import WORK, State, audited, beside, control
from tests.proof.test_controls import line_of as _line_of
from tests.proof.test_controls import pytestmark as pytestmark


def line_of(text: str) -> str:
    return _line_of(text, __file__)


def works(state: State | None = None) -> None:
    time.sleep(WORK)


@pytest.mark.parametrize(
    "make", [threading.Lock, threading.RLock, threading.Condition, threading.Semaphore, threading.BoundedSemaphore]
)
def test_nodes_in_threads_that_hold_a_lock_are_sequential_and_named_with_their_line(make: Any) -> None:
    lock = make()

    def node(state: State) -> None:
        with lock:  # takes it
            works()

    found = audited(beside(*[node] * 4))
    name = make.__name__
    control(f"a threading.{name} that four nodes in threads hold", found, f"{SEQUENTIAL} by {LOCKED}", "")
    assert found.causes[0].place == line_of("takes it")
    assert found.causes[0].seconds == pytest.approx((1 + 2 + 3) * WORK, rel=0.3)


@pytest.mark.parametrize("options", [{}, {"timeout": 30}])
def test_a_lock_that_is_acquired_by_a_call_is_found_too(options: Any) -> None:
    lock = threading.Lock()

    def node(state: State) -> None:
        lock.acquire(**options) if options else lock.acquire()
        try:
            works()
        finally:
            lock.release()

    found = audited(beside(*[node] * 4))
    assert (found.verdict, found.causes[0].kind) == (SEQUENTIAL, LOCKED)


def holding(lock: threading.Lock) -> None:
    with lock:  # in a pool
        works()


def test_code_that_async_nodes_hand_to_threads_is_seen_there() -> None:
    lock = threading.Lock()

    async def node(state: State) -> None:
        await asyncio.to_thread(holding, lock)

    found = audited(beside(*[node] * 4))
    assert (found.verdict, found.causes[0].kind, found.causes[0].place) == (SEQUENTIAL, LOCKED, line_of("in a pool"))


def test_threads_of_plain_code_that_hold_a_lock_are_sequential() -> None:
    with audit.watch() as watched, ThreadPoolExecutor(4) as pool:
        list(pool.map(holding, [threading.Lock()] * 4))
    found = watched.receipt
    assert (found.verdict, found.causes[0].kind, found.causes[0].place) == (SEQUENTIAL, LOCKED, line_of("in a pool"))


def for_an_event(state: State) -> None:
    event = threading.Event()
    threading.Timer(2 * WORK, event.set).start()
    event.wait()


def for_a_queue(state: State) -> None:
    queue: Queue[int] = Queue()
    threading.Timer(2 * WORK, queue.put, [1]).start()
    queue.get()


def for_a_thread(state: State) -> None:
    thread = threading.Thread(target=time.sleep, args=(2 * WORK,))
    thread.start()
    thread.join()


def for_a_condition(state: State) -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(2 * WORK)


def for_nothing(state: State) -> None:
    with threading.Lock(), threading.Semaphore(2):
        time.sleep(2 * WORK)


@pytest.mark.parametrize("node", [for_an_event, for_a_queue, for_a_thread, for_a_condition, for_nothing])
def test_what_waits_for_something_else_is_parallel(node: Any) -> None:
    result = beside(*[node] * 4).compile().invoke({"log": []})
    control(f"four nodes in threads that wait {node.__name__.replace('_', ' ')}", audit(result), PARALLEL)
    assert [event for event in result.run.events if isinstance(event, TaskBlocked)] == []


# One call, by times that are told


def test_a_call_has_stood_from_the_first_look_until_one_that_sees_it_go_on_or_its_end() -> None:
    told: list[Any] = []
    inside = Inside(lambda *what: told.append(what))
    for now, kind in ((1.0, ""), (2.0, "lock"), (2.5, "lock"), (3.0, ""), (3.5, "")):
        inside.seen(now, kind, ("app.py", int(now), "f"))
    inside.seen(4.0, "semaphore", ("app.py", 9, "g"))
    inside.over(6.0)
    inside.over(7.0)
    assert told == [(3.0, 1.0, "lock", ("app.py", 2, "f")), (6.0, 2.0, "semaphore", ("app.py", 9, "g"))]


def test_a_moment_is_not_told() -> None:
    told: list[Any] = []
    inside = Inside(lambda *what: told.append(what))
    inside.seen(1.0, "lock", ("", 0, ""))
    inside.over(1.0 + BUSY_FROM / 2)
    assert told == []


def test_a_call_within_another_one_is_looked_at_and_then_that_one_again() -> None:
    def looked_at() -> Inside:
        return INSIDE[threading.get_ident()]

    def meter(code: Any) -> Any:
        return metered(code, lambda *_: None, lambda *_: None, lambda *_: None)

    def outer() -> tuple[Inside, Inside, Inside]:
        return looked_at(), meter(looked_at)(), looked_at()

    first, second, third = meter(outer)()
    assert first is third
    assert first is not second
    assert INSIDE == {}


def test_many_threads_are_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    class Call(Inside):
        def seen(self, now: float, kind: str, place: Any) -> None:
            looks.append(now)

    dog, times = Watchdog(), iter([1.0, 1.0 + 50 * A_LOOK_AT_ONE, 1.0 + 101 * A_LOOK_AT_ONE])
    monkeypatch.setattr(watchdog, "clock", lambda: next(times))
    monkeypatch.setattr(watchdog, "INSIDE", {-number: Call(lambda *_: None) for number in range(1, 101)})
    for _ in range(3):
        dog._look_inside()
    assert looks == [1.0] * 100 + [1.0 + 101 * A_LOOK_AT_ONE] * 100


def test_no_call_is_looked_at_when_it_has_ended_whatever_it_came_to() -> None:
    seen: list[int] = []

    def fails(state: State) -> None:
        seen.append(threading.get_ident() in INSIDE)
        raise LookupError

    with pytest.raises(LookupError):
        beside(fails).compile().invoke({"log": []})
    assert seen == [True]
    assert INSIDE == {}
