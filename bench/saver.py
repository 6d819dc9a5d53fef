"""Results that are acknowledged one by one, to 64 agents: by our store, by our saver, and by LangGraph's.

Sixty-four asyncio tasks write a result each of 200 bytes, wait until it is on the disk, and go on with the next, all
against one PostgreSQL with `fsync` on. Both savers are called as LangGraph's loop calls them. Besides
the time a result takes, there is how long half of them were waited for at most.

All of it is done three times: with nothing else to do, with all cores busy, as they are when agents work beside it, and
with a disk that takes 3 ms longer for each sync. The bar is for the busy machine: with idle cores and a disk that syncs
in a tenth of a millisecond, what is left to be measured is mostly asyncio.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

from fanfold.bench.places import postgres
from fanfold.bench.timing import AbsentError, Watched, Work, Workloads

AGENTS = 64
SLOWER = 3_000
"""Microseconds that the slow disk takes longer."""
TEXT = "x" * 190

Write = Callable[[int, int], Awaitable[Any]]
Opened = Callable[[str], AbstractAsyncContextManager[Write]]


@contextmanager
def idle(_url: str) -> Iterator[None]:
    """Nothing else to do."""
    yield


@contextmanager
def busy(_url: str) -> Iterator[None]:
    """Something else that computes, on every core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def slow_disk(url: str) -> Iterator[None]:
    """A server that waits for 3 ms before each sync, as it can for others to join."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        database = f"ALTER DATABASE {connection.info.dbname}"
        for setting, value in (("commit_delay", SLOWER), ("commit_siblings", 0)):
            connection.execute(f"{database} SET {setting} = {value}")
        try:
            yield
        finally:
            connection.execute(f"{database} RESET ALL")


CONDITIONS: Final[Mapping[str, Callable[[str], AbstractContextManager[None]]]] = {
    "": idle,
    "_busy": busy,
    "_slow_disk": slow_disk,
}


def workloads(name: str, opened: Opened) -> Workloads:
    """The same in each condition, under `name` and what the condition adds to it."""
    return {f"{name}{suffix}": partial(agents, opened, prevails) for suffix, prevails in CONDITIONS.items()}


@asynccontextmanager
async def agents(
    opened: Opened, prevails: Callable[[str], AbstractContextManager[None]], n: int
) -> AsyncIterator[Work]:
    """The agents' work with whatever `opened` writes by; each of them writes `n` results."""
    url = postgres()
    with prevails(url):
        async with opened(url) as write:
            yield _writing(write, n)


def _writing(write: Write, n: int) -> Work:
    waits: list[float] = []

    async def agent(number: int) -> None:
        first = time.monotonic_ns()  # no task twice, in whichever repetition
        for turn in range(first, first + n):
            began = time.perf_counter()
            await write(number, turn)
            waits.append(time.perf_counter() - began)

    async def run() -> int:
        await asyncio.gather(*map(agent, range(AGENTS)))
        return AGENTS * n

    return Watched(run, lambda: {"p50": statistics.median(waits) * 1000})


@asynccontextmanager
async def store(url: str) -> AsyncIterator[Write]:
    """Our store, as our own graphs write to it."""
    from fanfold.claiming import claimed
    from fanfold.store.base import ResultKept
    from fanfold.store.postgres import PostgresStore

    data = TEXT.encode()
    with PostgresStore(url) as store:
        async with claimed(store, f"t {time.monotonic_ns()}", on_busy="reject") as lease:

            async def write(number: int, turn: int) -> None:
                task = _id(number, turn)
                kept = ResultKept(
                    lease.thread_id, "", "c", "r", task, "result", f"agent {number}", turn, data, attempt=task
                )
                await store.submit(kept, lease)

            yield write


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Write]:
    """Our store as LangGraph's graphs know a saver."""
    try:
        from fanfold.langgraph import Saver
    except ImportError:
        raise AbsentError("LangGraph's interface of a saver is not installed") from None
    from fanfold.store.postgres import PostgresStore

    with PostgresStore(url) as store:
        saver = Saver(store)
        async with saver.aowning(f"saver {time.monotonic_ns()}") as lease:
            yield put_writes(saver, lease.thread_id)


@asynccontextmanager
async def theirs(url: str) -> AsyncIterator[Write]:
    """LangGraph's own."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        yield put_writes(saver, "theirs")


def put_writes(saver: Any, thread: str) -> Write:
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
