"""Pools of threads that are not the run's own: who waits for a thread of theirs, and who shares a core there."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from fanfold import audit, pools
from fanfold.events import TaskBlocked, ThreadUsed
from fanfold.pools import Calls, listen, unlisten
from fanfold.receipt import PARALLEL, SEQUENTIAL
from fanfold.receipt.causes import FEW_THREADS, GIL_BOUND
from tests.proof.controls import WORK, State, alone, audited, beside, control
from tests.proof.portable import burns
from tests.proof.test_controls import pytestmark as pytestmark

SUBMIT = ThreadPoolExecutor.submit


def in_a_pool(pool: ThreadPoolExecutor, number: int = 1) -> Any:
    async def node(state: State) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, WORK) for _ in range(number)))

    return node


def blocked(result: Any) -> list[TaskBlocked]:
    return [event for event in result.run.events if isinstance(event, TaskBlocked)]


def test_nodes_that_share_a_pool_of_one_thread_are_sequential() -> None:
    with ThreadPoolExecutor(1) as pool:
        found = audited(beside(*[in_a_pool(pool)] * 4))
    control("a pool of one thread that four async nodes share", found, f"{SEQUENTIAL} by {FEW_THREADS}", "")
    assert "3 tasks waited" in found.culprits[0]
    assert "the thread pool of 1 threads" in found.culprits[0]
    assert found.mean < 1.5


def test_nodes_whose_pool_has_a_thread_for_each_are_parallel() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = audited(beside(*[in_a_pool(pool)] * 4))
    control("a pool of four threads that four async nodes share", found, PARALLEL)
    assert found.causes == ()


def test_a_task_of_which_one_call_is_at_work_does_not_wait_for_a_thread_for_the_others() -> None:
    with ThreadPoolExecutor(1) as pool:
        result = alone(in_a_pool(pool, 3)).compile().invoke({"log": []})
    assert blocked(result) == []
    assert "thread" not in audit(result).tasks[0].parts


async def finds_a_free_thread_that_begins_late(pool: ThreadPoolExecutor) -> None:
    call = asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0)
    ctypes.PyDLL(None).usleep(60_000)  # keeps the interpreter, so that the thread cannot begin
    await call


def test_a_call_that_begins_late_although_a_thread_was_free_has_not_waited_for_one() -> None:
    async def node(state: State) -> None:
        await finds_a_free_thread_that_begins_late(pool)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result() == 1  # its thread is there
        assert blocked(alone(node).compile().invoke({"log": []})) == []
        with audit.watch() as watched:
            asyncio.run(finds_a_free_thread_that_begins_late(pool))
    assert not any(isinstance(event, TaskBlocked) for event in watched.events)


async def burns_in_a_thread(state: State) -> None:
    await asyncio.to_thread(burns, 0.3)


def test_async_nodes_whose_threads_compute_in_python_are_sequential() -> None:
    found = audited(beside(*[burns_in_a_thread] * 3))
    control("three async nodes that compute by to_thread", found, f"{SEQUENTIAL} by {GIL_BOUND}", "")
    assert all(0.25 < task.cpu < 0.45 for task in found.tasks)


def test_threads_of_plain_coroutines_that_compute_in_python_are_sequential() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(burns, 0.3) for _ in range(3)))

    with audit.watch() as watched:
        asyncio.run(main())
    found = watched.receipt
    assert (found.verdict, found.causes[0].kind) == (SEQUENTIAL, GIL_BOUND)
    assert len([event for event in watched.events if isinstance(event, ThreadUsed)]) == 3


# What is counted


@pytest.fixture
def seen() -> Iterator[list[bool]]:
    """Of each call that is handed to a pool, whether that was full then."""
    found: list[bool] = []

    def looks(pool: ThreadPoolExecutor, fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
        found.append(pools.full(pool))
        return fn

    listen(looks)
    yield found
    unlisten(looks)


def test_a_pool_is_full_when_as_many_calls_as_it_has_threads_have_not_ended(seen: list[bool]) -> None:
    go = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        assert pool.submit(abs, -1).result() == 1
        calls = [pool.submit(go.wait, 30) for _ in range(2)]
        assert pool.submit(go.wait, 30).cancel()
        assert pool.submit(go.wait, 30).cancel()
        go.set()
        assert all(call.result() for call in calls)
    assert seen == [False, False, False, True, True]


def test_of_calls_that_threads_hand_to_a_pool_at_once_one_finds_it_full() -> None:
    both, seen = threading.Barrier(2), []

    def looks(pool: ThreadPoolExecutor, fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
        both.wait(30)
        seen.append(pools.full(pool))
        return fn

    listen(looks)
    try:
        with ThreadPoolExecutor(1) as pool:
            handing = [threading.Thread(target=pool.submit, args=(abs, -1)) for _ in range(2)]
            for thread in handing:
                thread.start()
            for thread in handing:
                thread.join()
    finally:
        unlisten(looks)
    assert (len(seen), seen[0]) == (2, True)


def test_a_new_pool_is_not_full_of_the_calls_of_one_that_is_gone(seen: list[bool]) -> None:
    go = threading.Event()
    call = ThreadPoolExecutor(1).submit(go.wait, 30)  # as the pool is nobody's, the next one gets its place
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result() == 1
    go.set()
    assert call.result()
    assert seen == [False, False]


def test_a_pool_is_full_of_what_was_handed_to_it_before_anybody_listened() -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(go.wait, 30)
        assert pools.full(pool)
        go.set()
        assert first.result()


def test_what_a_pool_refuses_is_not_counted_as_a_call_of_it(seen: list[bool]) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(abs, 1)
    assert seen == [False, False]


def test_a_call_that_waits_while_another_one_of_its_task_is_at_work_is_no_wait() -> None:
    calls, seen = Calls(), []
    calls.counted(lambda: seen.append(calls.stood(9.0, 9.0)))()
    assert seen == [0.0]


def test_a_task_has_waited_since_the_last_of_its_calls_had_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setattr(pools, "clock", lambda: 7.0)
    assert calls.stood(9.0, 5.0) == 5.0
    with pytest.raises(KeyError):
        calls.counted(lambda: {}["gone"])()
    assert calls.stood(9.0, 5.0) == 2.0
    assert calls.stood(9.0, 1.0) == 1.0


# How it comes and goes


def test_whatever_runs_and_watches_come_and_go_in_whatever_order_nothing_is_left_of_them() -> None:
    watch, seen = audit.watch(), []

    async def begins(state: State) -> None:
        watch.__enter__()

    async def looks(state: State) -> None:
        seen.append(ThreadPoolExecutor.submit is not SUBMIT)
        watch.__exit__(None, None, None)
        seen.append(ThreadPoolExecutor.submit is not SUBMIT)

    beside(begins).compile().invoke({"log": []})
    assert ThreadPoolExecutor.submit is not SUBMIT, "the run that was there first has gone, and the watch has not"
    beside(looks).compile().invoke({"log": []})
    assert seen == [True, True]
    assert ThreadPoolExecutor.submit is SUBMIT


def test_a_run_that_fails_leaves_nothing_behind_either() -> None:
    async def fails(state: State) -> None:
        raise LookupError(ThreadPoolExecutor.submit is not SUBMIT)

    with pytest.raises(LookupError, match="True"):
        beside(fails).compile().invoke({"log": []})
    assert ThreadPoolExecutor.submit is SUBMIT


def test_what_somebody_else_has_put_around_is_theirs_to_take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def handing(pool: ThreadPoolExecutor, fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
        seen.append((fn, args))
        return fn

    listen(handing)
    ours = ThreadPoolExecutor.submit

    def theirs(pool: Any, fn: Any, *args: Any) -> Future[Any]:
        return ours(pool, fn, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", theirs)
    with ExitStack() as stack:
        stack.callback(lambda: setattr(ThreadPoolExecutor, "submit", SUBMIT))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        assert pool.submit(abs, -1).result() == 1
        unlisten(handing)
        assert ThreadPoolExecutor.submit is theirs
        assert pool.submit(abs, -2).result() == 2
    assert seen == [(abs, (-1,))], "it is no longer asked, and what they call still works"


def test_one_of_ours_that_somebody_has_put_back_does_not_ask_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def handing(pool: ThreadPoolExecutor, fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
        seen.append(args)
        return fn

    listen(handing)
    older = ThreadPoolExecutor.submit
    unlisten(handing)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", older)
    listen(handing)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result() == 1
    unlisten(handing)
    assert seen == [(-1,)]


def test_calls_of_code_outside_of_any_run_are_handed_on_as_they_are() -> None:
    names: list[str] = []

    async def node(state: State) -> None:
        outside = threading.Thread(target=lambda: names.append(pools.of_a_run(None, abs, ()).__qualname__))  # type: ignore[arg-type]
        outside.start()
        outside.join()
        names.append(pools.of_a_run(ThreadPoolExecutor(1), abs, ()).__qualname__)

    beside(node).compile().invoke({"log": []})
    assert names[0] == abs.__qualname__
    assert names[1] != abs.__qualname__
