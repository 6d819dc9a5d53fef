"""Becoming the only runner of a thread, for as long as a run takes.

Who waits for a thread is woken when this process releases it, and looks again now and then in case another one does.
A call from inside of a run would wait for its own thread for ever, so that is refused, also where it comes by another
store object to the same database.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Final

from fanfold.errors import StoreError, ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import RUNNING, Lease, OnBusy, RunRecord, Store
from fanfold.store.ticket import Ticket

LOOK_AGAIN: Final = 0.2
"""Seconds after which who waits for a thread looks whether another process has released it."""

MOST_FOR_AN_UPDATE: Final = 2.0
"""Seconds that an update waits for a thread: for another update, not for a run."""

INTERRUPTED: Final = "interrupted"

_inside: ContextVar[Mapping[tuple[int, str], Lease]] = ContextVar("fanfold_inside", default=MappingProxyType({}))
"""The leases of the runs that the present code is a part of, by the identity of the store and the thread."""


_standing: dict[tuple[int, str], tuple[int, Lease]] = {}
"""Runs whose loop stands still while blocking code, in the thread of this number, works on what they have streamed."""


def status_of(store: Store, record: RunRecord) -> str:
    """What is stored of a run, except that one whose process is gone is not running but interrupted."""
    if record.status != RUNNING:
        return record.status
    owner = store.owner(record.thread_id)
    return RUNNING if owner and owners.alive(owner) else INTERRUPTED


@contextmanager
def standing_still(store: Store, lease: Lease) -> Iterator[None]:
    """Inside, the run of this lease cannot go on, as the code there is what it waits for."""
    place = (id(store), lease.thread_id)
    _standing[place] = (threading.get_ident(), lease)
    try:
        yield
    finally:
        _standing.pop(place, None)


def _around(place: tuple[int, str]) -> Lease | None:
    """The lease of a run that would wait for the present code for as long as that waits for its thread."""
    ident, lease = _standing.get(place, (0, None))
    return lease if ident == threading.get_ident() else _inside.get().get(place)


@asynccontextmanager
async def claimed(store: Store, thread_id: str, *, on_busy: OnBusy) -> AsyncIterator[Lease]:
    """The lease of a thread, released at the end of the `with` block. Raises `ThreadBusyError`."""
    place = (id(store), thread_id)
    if _around(place) is not None:
        raise ThreadBusyError(
            f"thread {thread_id!r} is being run, and that run waits for the code that wants to run it again",
            hint="end its stream, or name another thread_id; inside of a node, without one the call joins the run",
        )
    with _owner() as owner:
        lease = await _claim(store, thread_id, owner, on_busy)
        token = _inside.set({**_inside.get(), place: lease})
        try:
            yield lease
        finally:
            _inside.reset(token)
            store.release(lease)


@contextmanager
def held(store: Store, thread_id: str) -> Iterator[Lease]:
    """The same, for blocking code that wants it for a moment: inside of a run of the thread, that run's lease."""
    around = _around((id(store), thread_id))
    if around is not None:
        yield around
        return
    with _owner() as owner:
        lease = _claim_soon(store, thread_id, owner)
        try:
            yield lease
        finally:
            store.release(lease)


@contextmanager
def _owner() -> Iterator[str]:
    owner = owners.me()
    try:
        yield owner
    finally:
        owners.leave(owner)


async def _claim(store: Store, thread_id: str, owner: str, on_busy: OnBusy) -> Lease:
    loop = asyncio.get_running_loop()
    freed = asyncio.Event()
    forget = store.freed(thread_id, lambda: loop.call_soon_threadsafe(freed.set))
    try:
        around = {lease.owner for lease in _inside.get().values()}
        if around:  # gently, as another store object may lead to a thread of theirs: it is not to be taken from them
            try:
                return await _asked(store, store.claim(thread_id, owner, on_busy="reject"))
            except ThreadBusyError as busy:
                if busy.owner in around:
                    raise
        while True:
            freed.clear()
            try:
                return await _asked(store, store.claim(thread_id, owner, on_busy=on_busy))
            except ThreadBusyError:
                if on_busy != "wait":
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await freed.wait()
    finally:
        forget()


async def _asked(store: Store, claim: Ticket[Lease]) -> Lease:
    try:
        return await claim
    except asyncio.CancelledError:
        claim.add_done_callback(partial(_let_go, store))
        raise


def _let_go(store: Store, claim: Ticket[Lease]) -> None:
    """A claim that nobody waits for any more may have come to a lease all the same."""
    if claim.exception() is None:
        with contextlib.suppress(StoreError):  # it is closed, and its leases lapse
            store.release(claim.result())


def _claim_soon(store: Store, thread_id: str, owner: str) -> Lease:
    freed = threading.Event()
    forget = store.freed(thread_id, freed.set)
    end = time.monotonic() + MOST_FOR_AN_UPDATE
    try:
        while True:
            freed.clear()
            try:
                return store.claim(thread_id, owner, on_busy="wait").result()
            except ThreadBusyError:
                if time.monotonic() >= end:
                    raise
            freed.wait(LOOK_AGAIN)
    finally:
        forget()
