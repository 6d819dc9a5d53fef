"""Results that are acknowledged one by one, to 64 agents: by our store, by our saver, and by LangGraph's.

Sixty-four asyncio tasks write a result each of 200 bytes, wait until it is on the disk, and go on with the next, all
against one PostgreSQL with `fsync` on. Both savers are called as LangGraph's loop calls them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fanfold.bench.places import postgres
from fanfold.bench.timing import AbsentError, Work

AGENTS = 64
TEXT = "x" * 190

Write = Callable[[int, int], Awaitable[Any]]


@asynccontextmanager
async def agents(opened: Callable[[str], AbstractAsyncContextManager[Write]], n: int) -> AsyncIterator[Work]:
    """The agents' work with whatever `opened` writes by; each of them writes `n` results."""
    async with opened(postgres()) as write:

        async def agent(number: int) -> None:
            first = time.monotonic_ns()  # no task twice, in whichever repetition
            for turn in range(first, first + n):
                await write(number, turn)

        async def run() -> int:
            await asyncio.gather(*map(agent, range(AGENTS)))
            return AGENTS * n

        yield run


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
