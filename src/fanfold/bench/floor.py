"""The floor: the same work with nothing but asyncio, or with nothing but a database.

No engine can be faster than this and still do the work. It keeps no state, tells nothing, limits nothing, and stores
nothing that a run could go on from; what fanfold takes beyond it is the price of those.

The database of the floor is written with statements of its own, the only ones outside of `fanfold.store`: one row of
about the size that a result has, and a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from fanfold.bench import agentfiles, shapes
from fanfold.bench.imports import imported
from fanfold.bench.places import file, postgres
from fanfold.bench.timing import Blocking, Figures, Work, Workloads, slept
from fanfold.teams import seed

ROW: Final = b"r" * 200


def fanout(n: int) -> Work:
    """`asyncio.gather` of as many coroutines."""

    async def run() -> int:
        done = await asyncio.gather(*(shapes.work(None) for _ in range(n)))
        return len(done)

    return run


def blocking_fanout(n: int) -> Blocking:
    """A loop of calls; threads would only make it slower."""
    return Blocking(lambda: sum(len(shapes.blocking_work(None)["items"]) for _ in range(n)))


def loop(n: int) -> Work:
    """`asyncio.gather` of one coroutine, again and again: a task a step."""

    async def run() -> int:
        for _ in range(n):
            await asyncio.gather(shapes.work(None))
        return n

    return run


def one(n: int) -> Blocking:
    """An event loop that is made for one task and closed again."""

    async def run() -> int:
        return await fanout(1)()

    return Blocking(lambda: asyncio.run(run()))


def asleep(n: int) -> Figures:
    """`asyncio.gather` of as many sleeps."""

    async def run() -> int:
        return len(await asyncio.gather(*(asyncio.sleep(1.0) for _ in range(n))))

    return Figures(lambda: slept(n, run))


def unequal(n: int) -> Figures:
    """Two coroutines, each of which does its leg."""

    async def leg(first: float, second: float) -> None:
        await asyncio.sleep(first)
        await asyncio.sleep(second)

    async def run() -> int:
        await asyncio.gather(leg(0.1, 1.0), leg(1.0, 0.1))
        return 5

    return Figures(lambda: slept(5, run))


async def over_seed(run: Callable[[], Awaitable[float]]) -> dict[str, float]:
    """Milliseconds that the seed's run took over the 2.000 s which it takes at the least."""
    return {"tasks": 1, "ms": (await run() - seed.LEAST) * 1000}


def seeded(n: int) -> Figures:
    """The sleeps of the seed's agents at once, then that of its compiling."""

    async def run() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in seed.SECONDS.values()))
        await asyncio.sleep(seed.COMPILE_SECONDS)
        return time.perf_counter() - began

    return Figures(lambda: over_seed(run))


@contextlib.asynccontextmanager
async def sqlite_sync(n: int) -> AsyncIterator[Work]:
    """A row and a commit each, one after the other, with the same care for the disk as our store."""
    with contextlib.closing(sqlite3.connect(file())) as db:
        db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE result (thread TEXT, task TEXT, data BLOB, PRIMARY KEY (thread, task)) WITHOUT ROWID"
        )

        async def run() -> int:
            thread = str(time.perf_counter_ns())
            for number in range(n):
                db.execute("INSERT INTO result VALUES (?, ?, ?)", (thread, f"task {number}", ROW))
                db.commit()
            return n

        yield run


@contextlib.asynccontextmanager
async def postgres_sync(n: int, threads: int = 1) -> AsyncIterator[Work]:
    """A row and a commit each, one after the other, `threads` of them at once with a connection each."""
    import psycopg

    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(threads):
            connection = await psycopg.AsyncConnection.connect(postgres(), autocommit=True)
            connections.append(await stack.enter_async_context(connection))
        made = "CREATE TABLE IF NOT EXISTS bare (thread TEXT, task TEXT, data BYTEA, PRIMARY KEY (thread, task))"
        await connections[0].execute(made)

        async def write(number: int, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
            thread = f"{time.perf_counter_ns()} {number}"
            for turn in range(n):
                await connection.execute("INSERT INTO bare VALUES (%s, %s, %s)", (thread, f"task {turn}", ROW))

        async def run() -> int:
            await asyncio.gather(*(write(*each) for each in enumerate(connections)))
            return n * threads

        yield run


WORKLOADS: Workloads = {
    "fanout": fanout,
    "send": fanout,
    "fanout_blocking": blocking_fanout,
    "loop": loop,
    "chain": loop,
    "one": one,
    "asleep": asleep,
    "unequal": unequal,
    "seed": seeded,
    "agent_files": agentfiles.scanned,
    "imports": lambda n: imported("import asyncio"),
    "sqlite_sync": sqlite_sync,
    "postgres_sync": postgres_sync,
    "postgres_32": lambda n: postgres_sync(n, threads=32),
}
