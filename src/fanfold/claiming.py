"""Becoming the only runner of a thread, for as long as a run takes.

Who waits for a thread is woken when this process releases it, and looks again now and then in case another one does.
A call from inside of a run would wait for its own thread for ever, so that is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

from fanfold.errors import ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import Lease, OnBusy, Store

LOOK_AGAIN: Final = 0.2
"""Seconds after which who waits for a thread looks whether another process has released it."""

_inside: ContextVar[frozenset[tuple[int, str]]] = ContextVar("fanfold_inside", default=frozenset())
"""The threads whose runs the present code is a part of, each with the identity of its store."""


@asynccontextmanager
async def claimed(store: Store, thread_id: str, *, on_busy: OnBusy) -> AsyncIterator[Lease]:
    """The lease of a thread, released at the end of the `with` block. Raises `ThreadBusyError`."""
    owner = owners.me()
    place = (id(store), thread_id)
    try:
        lease = await _claim(store, thread_id, owner, "reject" if place in _inside.get() else on_busy)
    except BaseException:
        owners.leave(owner)
        raise
    token = _inside.set(_inside.get() | {place})
    try:
        yield lease
    finally:
        _inside.reset(token)
        owners.leave(owner)
        store.release(lease)


async def _claim(store: Store, thread_id: str, owner: str, on_busy: OnBusy) -> Lease:
    loop = asyncio.get_running_loop()
    freed = asyncio.Event()
    forget = store.freed(thread_id, lambda: loop.call_soon_threadsafe(freed.set))
    try:
        while True:
            freed.clear()
            try:
                return await asyncio.wrap_future(store.claim(thread_id, owner, on_busy=on_busy))
            except ThreadBusyError:
                if on_busy != "wait":
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await freed.wait()
    finally:
        forget()
