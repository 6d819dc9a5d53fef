"""The threads of blocking code: as many as are needed, and no more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from fanfold.work.threads import AT_ONCE, Threads
from tests.drivers.parts import PATIENCE


def test_as_many_calls_block_at_once_as_there_are() -> None:
    async def main() -> None:
        threads, barrier = Threads(), threading.Barrier(50)
        try:
            await asyncio.gather(*(threads.call(barrier.wait, PATIENCE) for _ in range(50)))
        finally:
            threads.close(wait=True)

    asyncio.run(main())


def test_calls_that_end_before_the_loop_comes_round_share_a_few_threads() -> None:
    async def main() -> None:
        threads, names, ended = Threads(), set[str](), threading.Semaphore(0)

        def looks() -> None:
            names.add(threading.current_thread().name)
            ended.release()

        def holds_the_loop() -> None:
            for _ in calls:
                assert ended.acquire(timeout=PATIENCE)

        calls = [asyncio.ensure_future(threads.call(looks)) for _ in range(4 * AT_ONCE)]
        asyncio.get_running_loop().call_soon(holds_the_loop)  # they are called by then, and no more threads started
        await asyncio.gather(*calls)
        threads.close(wait=True)
        assert len(names) <= AT_ONCE

    asyncio.run(main())


def test_a_call_that_was_cancelled_before_a_thread_took_it_does_not_run() -> None:
    async def main() -> None:
        threads, ran = Threads(), list[int]()
        gates = [threading.Event() for _ in range(AT_ONCE)]
        busy = [asyncio.ensure_future(threads.call(gate.wait, PATIENCE)) for gate in gates]
        await asyncio.sleep(0)
        late = asyncio.ensure_future(threads.call(ran.append, 1))
        asyncio.get_running_loop().call_soon(late.cancel)  # it is waiting by then, and no thread was started for it yet
        with pytest.raises(asyncio.CancelledError):
            await late
        for gate in gates:
            gate.set()
        assert await asyncio.gather(*busy) == [True] * AT_ONCE
        await threads.call(lambda: None)
        threads.close(wait=True)
        assert ran == []

    asyncio.run(main())


def test_closing_lets_what_has_begun_end_and_cancels_the_rest() -> None:
    async def main() -> None:
        threads, begun, gate, ended = Threads(), threading.Semaphore(0), threading.Event(), list[int]()

        def blocks() -> None:
            begun.release()
            gate.wait(PATIENCE)
            ended.append(1)

        calls = [asyncio.ensure_future(threads.call(blocks)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        for _ in calls:
            await asyncio.to_thread(begun.acquire)
        waiting = asyncio.ensure_future(threads.call(blocks))
        asyncio.get_running_loop().call_soon(lambda: threads.close(wait=False))  # before a thread takes it
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.gather(*calls)
        assert ended == [1] * AT_ONCE
        assert await threads.call(lambda: 1) == 1  # who goes on gets new ones
        threads.close(wait=True)

    asyncio.run(main())


def test_no_thread_is_left_when_they_are_closed_while_more_are_about_to_start() -> None:
    before = set(threading.enumerate())

    async def main() -> None:
        threads = Threads()
        calls = [asyncio.ensure_future(threads.call(lambda: None)) for _ in range(4 * AT_ONCE)]
        asyncio.get_running_loop().call_soon(lambda: threads.close(wait=True))
        await asyncio.wait(calls)

    asyncio.run(main())
    assert set(threading.enumerate()) == before


def test_a_program_that_does_not_close_them_ends_all_the_same() -> None:
    code = """
import asyncio
from fanfold.work.threads import Threads
threads = Threads()
asyncio.run(threads.call(print, "called"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "called\n"


def test_a_blocking_node_runs_in_a_graph_that_outlives_the_main_thread() -> None:
    code = """
import threading, time
from typing import TypedDict
from fanfold import START, StateGraph

class State(TypedDict):
    number: int

def node(state):
    time.sleep(0)
    return {"number": state["number"] + 1}

graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
ended = threading.main_thread()

def later():
    while ended.is_alive():
        time.sleep(0)
    print(graph.invoke({"number": 1}))

threading.Thread(target=later).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "{'number': 2}\n" or "can't start new thread" in done.stderr, done.stderr
