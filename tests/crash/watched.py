"""Real stores that note what they are asked and what they have answered, and that can end their process within a call.

They are the library's own stores; nothing is put in the place of anything. A change is acknowledged when its ticket is
resolved, and the first who hears of that is the note: it is in the log before anyone else can act upon it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from fanfold.errors import DuplicateResultError, LeaseLostError
from fanfold.store.base import Change, CheckpointKept, Lease, OnBusy, ResultKept
from fanfold.store.postgres import PostgresStore
from fanfold.store.serde import Codec
from fanfold.store.sql import Place, SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.ticket import Ticket
from fanfold.store.writer import Session
from tests.crash.log import Note


class Fuse:
    """Ends the process at the `last`th moment before or after a call to the database, or freezes it; never with 0."""

    def __init__(self, last: int, note: Note, *, freezes: bool) -> None:
        self._last = last
        self._note = note
        self._freezes = freezes
        self._count = 0

    def moment(self) -> None:
        self._count += 1
        if self._count == self._last:
            if self._freezes:
                self._note("frozen")
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                os._exit(EXITED)

    def around(self, call: Any) -> Any:
        def fused(*args: Any) -> Any:
            self.moment()
            result = call(*args)
            self.moment()
            return result

        return fused


EXITED = 7
"""How a process ends whose fuse has blown."""


class FusedPlace:
    """A database whose writing connection has a fuse."""

    def __init__(self, place: Place, fuse: Fuse) -> None:
        self._place = place
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def connect(self) -> Session:
        return FusedSession(self._place.connect(), self._fuse)


class FusedSession:
    """A connection with a fuse at everything that it does."""

    def __init__(self, session: Session, fuse: Fuse) -> None:
        self._session = session
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)
        return self._fuse.around(method) if name in ("rows", "many", "at_once", "begin", "commit") else method


class Watched(SqlStore):
    """What both databases' watched stores have in common. A process works on one thread at a time."""

    def __init__(self, place: Place, *, note: Note, fuse: Fuse, **options: Any) -> None:
        super().__init__(FusedPlace(place, fuse), **options)
        self.note = note
        self.epoch = 0
        self.allowed: dict[Any, int] = {}

    def claim(self, thread_id: str, owner: str, *, on_busy: OnBusy = "reject") -> Future[Lease]:
        self.note("ask", name=thread_id)
        ticket = super().claim(thread_id, owner, on_busy=on_busy)
        ticket.add_done_callback(self._claimed)
        return ticket

    def _claimed(self, ticket: Future[Lease]) -> None:
        if ticket.exception() is None:
            lease = ticket.result()
            self.epoch = lease.epoch
            self.note("claim", epoch=lease.epoch, name=lease.thread_id)

    def release(self, lease: Lease) -> None:
        self.note("release", epoch=lease.epoch, name=lease.thread_id)
        super().release(lease)

    def submit(self, change: Change, lease: Lease | None = None, *, patient: bool = False) -> Ticket[None]:
        noted = self._noted(change, lease)
        ticket = super().submit(change, lease, patient=patient)
        ticket.add_done_callback(noted)
        return ticket

    def submit_together(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Ticket[None]]:
        noted = [self._noted(change, lease) for change in changes]
        tickets = super().submit_together(changes, lease)
        for ticket, settled in zip(tickets, noted, strict=True):
            ticket.add_done_callback(settled)
        return tickets

    def _noted(self, change: Change, lease: Lease | None) -> Callable[[Future[None]], None]:
        """Note that a change was sent; what is returned notes what became of it."""
        epoch = lease.epoch if lease else 0
        name, kind, id = identified(change)
        self.note("sent", epoch=epoch, name=name, kind=kind, id=id)

        def settled(ticket: Future[None]) -> None:
            self.note(_verdict(ticket.exception()), epoch=epoch, name=name, kind=kind, id=id)

        return settled

    def holds(self, lease: Lease) -> bool:
        """As ever; and where it says yes, whatever begins before the event loop turns began with this permission.

        A process may be frozen between the last look at its lease and the first line of an agent, and no program can
        do anything about that. So such a start counts from the look. Whatever waits in between counts from its line.
        """
        here = self.note.here()
        holds = super().holds(lease)
        if holds and threading.current_thread() is threading.main_thread():
            task = asyncio.current_task()
            self.allowed[task] = here
            asyncio.get_running_loop().call_soon(self.allowed.pop, task, None)
        return holds

    def started(self, name: str) -> None:
        """Code of the worker's begins: its line."""
        since = self.allowed.get(asyncio.current_task(), self.note.here())
        self.note("start", epoch=self.epoch, name=name, since=since)

    def ended(self, name: str) -> None:
        """Code of the worker's has ended: its line."""
        self.note("end", epoch=self.epoch, name=name)


class WatchedSqlite(SqliteStore, Watched):
    """A file that is watched."""


class WatchedPostgres(PostgresStore, Watched):
    """A PostgreSQL database that is watched."""


LONGEST_ANSWER = 1.0
"""Seconds that a PostgreSQL server may take to answer, and that it waits for a worker in a transaction."""


def watched(place: str, note: Note, *, ttl: float, fuse: Fuse) -> Watched:
    """The store at `place`, whose leases last `ttl` seconds."""
    options: dict[str, Any] = {"ttl": ttl, "note": note, "fuse": fuse}
    if place.startswith("postgresql:"):
        return WatchedPostgres(place, longest_answer=LONGEST_ANSWER, **options)
    return WatchedSqlite(place, **options)


def identified(change: Change) -> tuple[str, str, str]:
    """The name, the kind and the id of a change."""
    match change:
        case ResultKept():
            return who(change), change.kind, change.attempt
        case CheckpointKept():
            return "", "checkpoint", change.checkpoint_id
        case _:
            return "", type(change).__name__, os.urandom(8).hex()


def who(result: ResultKept) -> str:
    """What a node or an agent calls itself in its result, which is what its lines in the log say, too."""
    record = Codec().decode(result.data)
    if result.parent is not None:
        return str(record["answer"]["output"])
    log = dict(record["writes"]).get("log") if isinstance(record, dict) else None
    return str(log[0]) if log else result.name


def _verdict(error: BaseException | None) -> str:
    if error is None:
        return "ack"
    if isinstance(error, LeaseLostError):
        return "refused"
    return "twice" if isinstance(error, DuplicateResultError) else f"failed: {error}"
