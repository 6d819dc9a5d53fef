"""Results that are acknowledged one by one, to 64 agents: our store, our saver, and LangGraph's saver for PostgreSQL.

Sixty-four asyncio tasks write a result each of 200 bytes, wait until it is on the disk, and go on with the next, all
against one PostgreSQL of our own with `fsync` on. The three take turns, so that what else the machine does is shared.
All of it is done three times: with nothing else to do, with both cores busy, as they are when agents work beside it,
and with a disk that takes 3 ms longer for each sync. The bar is for the busy machine: with idle cores and a disk that
syncs in a tenth of a millisecond, as this one's, what is left to be measured is mostly asyncio.

LangGraph's saver is not among the packages of our tests: `pip install langgraph-checkpoint-postgres`. Without it the
other two are measured alone, and the bars are not met.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import psycopg

from fanfold.claiming import claimed
from fanfold.langgraph import Saver
from fanfold.store.base import ResultKept
from fanfold.store.cluster import Cluster
from fanfold.store.postgres import PostgresStore

AGENTS = 64
SECONDS = 2.0
ROUNDS = 5
TIMES_MORE = 20
"""How many times the results a second of LangGraph's saver we want, and which part of its median wait at most."""
SLOWER = 3_000
"""Microseconds that the slow disk takes longer."""
THEIRS = "AsyncPostgresSaver"
TEXT = "x" * 190

Write = Callable[[int, int], Awaitable[Any]]


@contextmanager
def _idle(_url: str) -> Iterator[None]:
    yield


@contextmanager
def _busy(_url: str) -> Iterator[None]:
    """Something else that computes, on every core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def _slow_disk(url: str) -> Iterator[None]:
    """A server that waits for 3 ms before each sync, as it can for others to join."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting, value in (("commit_delay", SLOWER), ("commit_siblings", 0)):
            connection.execute(f"alter database {connection.info.dbname} set {setting} = {value}")
        yield


CONDITIONS: dict[str, Callable[[str], AbstractContextManager[None]]] = {
    "idle cores": _idle,
    "busy cores": _busy,
    "a disk that takes 3 ms longer": _slow_disk,
}
JUDGED = "busy cores"


def measure() -> dict[str, Any]:
    """Results a second and the median wait, as medians of the rounds, in each condition."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{AGENTS} agents, each result acknowledged, PostgreSQL with fsync, median of {ROUNDS} rounds")
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as folder, Cluster(folder) as cluster:
        for condition, prevails in CONDITIONS.items():
            with prevails(cluster.url()):
                rounds = asyncio.run(_rounds(cluster.url()))
            rows[condition] = {name: _medians(each) for name, each in rounds.items()}
            _show(condition, rows[condition])
    met = _met(rows[JUDGED])
    print(f"  bar: {TIMES_MORE} x LangGraph's results and 1/{TIMES_MORE} of its wait for the store, {JUDGED}\n")
    return {"rows": rows, "met": met}


def _show(condition: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"  {condition}")
    for name, row in rows.items():
        line = f"    {name:<20} {row['per_second']:>9,.0f} results/s   p50 {row['p50'] * 1e3:7.2f} ms"
        if THEIRS in rows and name != THEIRS:
            more, sooner = _compared(rows, name)
            line += f"   {more:5.1f} x, 1/{sooner:.1f} of the wait"
        print(line)


def _compared(rows: dict[str, dict[str, float]], name: str) -> tuple[float, float]:
    """How many times the results of LangGraph's saver, and how many times sooner."""
    ours, theirs = rows[name], rows[THEIRS]
    return ours["per_second"] / theirs["per_second"], theirs["p50"] / ours["p50"]


def _met(rows: dict[str, dict[str, float]]) -> bool:
    if THEIRS not in rows:
        print("  not compared: pip install langgraph-checkpoint-postgres")
        return False
    return min(_compared(rows, "store")) >= TIMES_MORE


async def _rounds(url: str) -> dict[str, list[tuple[float, float]]]:
    async with AsyncExitStack() as stack:
        writes: dict[str, Write] = {}
        for name, opened in (("store", _store), ("saver", _saver), (THEIRS, _theirs)):
            if (write := await stack.enter_async_context(opened(url))) is not None:
                writes[name] = write
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in writes}
        for _ in range(ROUNDS):
            for name, write in writes.items():
                found[name].append(await _run(write))
        return found


async def _run(write: Write) -> tuple[float, float]:
    """Results a second, and the median wait for one."""
    waits: list[float] = []
    end = time.perf_counter() + SECONDS

    async def agent(number: int) -> None:
        turn = time.monotonic_ns()  # no task twice, in whichever round
        while (began := time.perf_counter()) < end:
            await write(number, turn)
            waits.append(time.perf_counter() - began)
            turn += 1

    began = time.perf_counter()
    await asyncio.gather(*map(agent, range(AGENTS)))
    return len(waits) / (time.perf_counter() - began), statistics.median(waits)


def _medians(rounds: list[tuple[float, float]]) -> dict[str, float]:
    per_second, p50 = (statistics.median(each) for each in zip(*rounds, strict=True))
    return {"per_second": per_second, "p50": p50}


@asynccontextmanager
async def _store(url: str) -> AsyncIterator[Write]:
    data = TEXT.encode()
    with PostgresStore(url) as store:
        async with claimed(store, "t", on_busy="reject") as lease:

            async def write(number: int, turn: int) -> None:
                task = _id(number, turn)
                kept = ResultKept("t", "", "c", "r", task, "result", f"agent {number}", turn, data, attempt=task)
                await store.submit(kept, lease)

            yield write


@asynccontextmanager
async def _saver(url: str) -> AsyncIterator[Write]:
    with PostgresStore(url) as store:
        saver = Saver(store)
        async with saver.aowning("saver") as lease:
            yield _put_writes(saver, lease.thread_id)


@asynccontextmanager
async def _theirs(url: str) -> AsyncIterator[Write | None]:
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    except ImportError:
        yield None
        return
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        yield _put_writes(saver, "theirs")


def _put_writes(saver: Any, thread: str) -> Write:
    """Writes a result as LangGraph's loop does: what the node has returned, and that the next one is to run."""
    place = {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": str(uuid.uuid4())}

    async def write(number: int, turn: int) -> None:
        await saver.aput_writes(
            {"configurable": place}, [("results", TEXT), ("branch:to:fold", None)], _id(number, turn), f"agent {number}"
        )

    return write


def _id(number: int, turn: int) -> str:
    """A task's id; made without asking the system for random bytes, which would be measured too."""
    return str(uuid.UUID(int=turn << 48 | number))
