"""Results that are acknowledged one by one, to 64 agents: our store, our saver, and LangGraph's saver for PostgreSQL.

Sixty-four asyncio tasks write a result each of 200 bytes, wait until it is on the disk, and go on with the next, all
against one PostgreSQL of our own with `fsync` on. The three take turns, so that what else the machine does is shared.

LangGraph's saver is not among the packages of our tests: `pip install langgraph-checkpoint-postgres`. Without it the
other two are measured alone, and the bars are not met.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

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
TEXT = "x" * 190

Write = Callable[[int, int], Awaitable[Any]]


def measure() -> dict[str, Any]:
    """Results a second and the median wait, as medians of the rounds."""
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as folder, Cluster(folder) as cluster:
        rounds = asyncio.run(_rounds(cluster.url()))
    rows = {name: _medians(each) for name, each in rounds.items()}
    print(f"{AGENTS} agents, each result acknowledged, PostgreSQL with fsync, median of {ROUNDS} rounds")
    for name, row in rows.items():
        print(f"  {name:<22} {row['per_second']:>9,.0f} results/s   p50 {row['p50'] * 1e3:7.2f} ms")
    met = _compare(rows)
    print()
    return {"rows": rows, "met": met}


def _compare(rows: dict[str, dict[str, float]]) -> bool:
    theirs = rows.get("AsyncPostgresSaver")
    if theirs is None:
        print("  not compared: pip install langgraph-checkpoint-postgres")
        return False
    met = True
    for name in ("store", "saver"):
        more = rows[name]["per_second"] / theirs["per_second"]
        sooner = theirs["p50"] / rows[name]["p50"]
        print(f"  {name}: {more:.0f} x the results, 1/{sooner:.0f} of the wait")
        met = met and more >= TIMES_MORE and sooner >= TIMES_MORE
    return met


async def _rounds(url: str) -> dict[str, list[tuple[float, float]]]:
    async with AsyncExitStack() as stack:
        writes: dict[str, Write] = {}
        for name, opened in (("store", _store), ("saver", _saver), ("AsyncPostgresSaver", _theirs)):
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
