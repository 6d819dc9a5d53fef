"""The one thread that writes to a store's database, over a connection of its own.

It takes whatever is queued and commits it as one transaction, so that sixty results that end together cost one sync of
the disk. It shares neither the limiter nor the threads of the nodes, so neither a blocked event loop nor a full run can
delay a result. While nothing is queued it beats: it tells the database that this process lives.

A connection that breaks is opened again, and the same batch is tried again, until `patience` is over: everything that
can be queued is harmless to do twice. Then those who wait are told.

A store that nobody closed is collected in whatever thread the collector happens to run, whatever lock that one holds.
So nothing is waited for there: the writer commits what is queued, lets everything go and ends. A process's end waits.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from fanfold.errors import StoreError
from fanfold.store.ticket import Ticket, settle

T = TypeVar("T")
Values: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, Sequence[Any]]
NO_VALUES: Final[Values] = {}
Row: TypeAlias = tuple[Any, ...]

LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries of a batch, at most."""
PATIENCE: Final = 0.002
"""Seconds that items for which nobody waits are held back, for others to ride along in the same transaction."""
LARGEST_BATCH: Final = 32 * 1024 * 1024
"""Bytes after which a batch takes nothing more: a statement of a gigabyte is more than a database takes."""

_NOTHING: Final = object()


class Session(Protocol):
    """One connection to a database, which knows statements by their names."""

    def rows(self, name: str, values: Values = NO_VALUES) -> list[Row]:
        """What a statement returns."""

    def many(self, name: str, rows: Sequence[Values]) -> int:
        """Say a statement for each of these rows, in their order; how many rows of the database it changed."""

    def at_once(self, name: str, columns: Callable[[], Columns | None]) -> bool:
        """Say a statement that is a transaction by itself, where that takes less time than to say more of them.

        False when it does not here, when there are no columns to say it for, or when it has found something to be
        looked at: then nothing is done. The columns are made only where they are of use.
        """

    def begin(self) -> None:
        """Begin a transaction that may write."""

    def commit(self) -> None:
        """Make the transaction last; returns when it is on the disk."""

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""

    def close(self) -> None:
        """Let the connection go."""


class Database(Protocol):
    """Where sessions come from, and what its errors mean."""

    label: str
    """What it is called in messages, without a password."""

    def connect(self) -> Session:
        """A new session. Raises the driver's error."""

    def passes(self, error: Exception) -> bool:
        """Whether the same again may well succeed: the connection broke, or another process was in the way."""

    def close(self) -> None:
        """Let everything go that is open besides the sessions."""


class Heart(Protocol):
    """What is told to the database besides, so that it hears of this process."""

    @property
    def every(self) -> float:
        """Seconds between two beats."""

    @property
    def needed(self) -> bool:
        """Whether there is anything to beat for."""

    def beat(self, session: Session) -> None:
        """Say that this process lives."""

    def ended(self, *, committed: bool) -> None:
        """The transaction that may have had a beat in it has ended."""


@dataclass(slots=True, eq=False)
class Item:
    """Something that is queued: `work` to be done in a session, about how many bytes, and who waits for the outcome.

    Nobody waits for one that is `patient`.
    """

    work: Any
    size: int = 0
    patient: bool = False
    done: Ticket[Any] = field(default_factory=Ticket)


class Apply(Protocol):
    """Does batches in a session. Each item has an outcome, and a `StoreError` is a refusal of that item alone."""

    def __call__(self, session: Session, batch: Sequence[Any], /) -> list[Any]:
        """Do it, in a transaction that may be undone and done again."""

    def at_once(self, session: Session, batch: Sequence[Any], /) -> bool:
        """Do it and commit it, if all of it can be done in one statement; then nothing of it is refused."""

    def failed(self, batch: Sequence[Any], failure: StoreError, /) -> None:
        """It could not be done, and will not be tried again."""


LEAVING: Final = 1.0
"""Seconds to wait for a thread to be gone that has done all it had to do."""

_open: Final[set[Writer]] = set()
"""Those whose threads have not ended, for a process that ends. One that was forked off has none of the threads."""
os.register_at_fork(after_in_child=_open.clear)


@atexit.register
def _close_all() -> None:
    for writer in tuple(_open):
        writer.leave()
    for writer in tuple(_open):
        writer.close()


class Writer:
    """Does what is queued, in its order, by `apply`. A beat of `heart` has a transaction of its own."""

    def __init__(
        self,
        database: Database,
        session: Session,
        apply: Apply,
        heart: Heart,
        *,
        patience: float,
    ) -> None:
        self._database = database
        self._session = session
        self._doubtful = False
        """Whether the session may be broken."""
        self._apply = apply
        self._heart = heart
        self._patience = patience
        self._queue: queue.SimpleQueue[Sequence[Item] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._ended = threading.Event()
        self._closed = False
        self._stop = threading.Event()
        self._next_beat = time.monotonic() + heart.every
        self._thread = threading.Thread(target=self._write, name="fanfold-store", daemon=True)
        _open.add(self)
        self._thread.start()

    def queue(self, work: Any, size: int = 0, *, patient: bool = False) -> Ticket[Any]:
        """Have `work` done in the next transaction; the future has its outcome when that is on disk.

        What is `patient` may be held back for a moment, until something comes that is not. It cannot be cancelled:
        whoever stops waiting for it, what was queued is done.
        """
        item = Item(work, size, patient)
        self._put([item])
        return item.done

    def queue_together(self, works: Sequence[tuple[Any, int]]) -> list[Ticket[Any]]:
        """Have all of this done in one transaction: work, and about how many bytes that is."""
        items = [Item(work, size) for work, size in works]
        if items:
            self._put(items)
        return [item.done for item in items]

    def _put(self, items: Sequence[Item]) -> None:
        for item in items:
            item.done.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise StoreError(f"the store {self._database.label} is closed")
            self._queue.put(items)

    def backlog(self) -> int:
        """How much is queued that nobody has begun to do."""
        return self._queue.qsize()

    def leave(self) -> None:
        """Have what is queued committed and all let go of, without waiting or a lock. Nothing may be queued after."""
        self._queue.put(None)

    def close(self) -> None:
        """Commit what is queued and let everything go, the database with it. Closing twice is harmless."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._stop.set()
                self.leave()
        if threading.get_ident() != self._thread.ident:
            # Not by `join` alone: that needs a lock of `threading`'s, which whoever closes this may hold.
            self._ended.wait()
            self._thread.join(LEAVING)

    def _write(self) -> None:
        with ExitStack() as ending:
            ending.callback(self._ended.set)
            ending.callback(_open.discard, self)
            ending.callback(self._database.close)
            ending.callback(lambda: self._session.close())  # the one it has then
            self._serve()

    def _serve(self) -> None:
        while (items := self._wait()) is not None:
            batch: list[Item] = []
            size, end = 0, time.monotonic() + PATIENCE
            while items is not _NOTHING and items is not None:
                batch += items
                for item in items:
                    size += item.size
                    end = end if item.patient else 0.0
                items = self._taken(end) if size < LARGEST_BATCH else _NOTHING
            self._settle(batch)
            if items is None:
                return

    def _wait(self) -> Any:
        """The next item; meanwhile the heart beats."""
        while True:
            if time.monotonic() >= self._next_beat:
                self._beat_once()
            try:  # at least a look, also where beats take longer than is between them
                return self._queue.get(timeout=max(self._next_beat - time.monotonic(), 0.0))
            except queue.Empty:
                continue

    def _taken(self, end: float) -> Any:
        """What is queued, or comes until `end`, which is 0 when somebody waits for what has been taken already."""
        try:
            wait = end - time.monotonic() if end else 0.0
            return self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
        except queue.Empty:
            return _NOTHING

    def _settle(self, batch: list[Item]) -> None:
        outcomes = self._tried(batch, time.monotonic() + self._patience)
        settle([item.done for item in batch], outcomes)
        if time.monotonic() >= self._next_beat:  # also when there is always something to write
            self._beat_once()

    def _tried(self, batch: list[Item], end: float) -> list[Any]:
        """The outcomes of a batch. One that is refused as a whole is done item by item, to find who is at fault."""
        work, pause = [item.work for item in batch], 0.02
        while True:
            try:
                return self._batched(work)
            except Exception as error:  # noqa: BLE001 - told to all who wait; a writer that dies would let them wait for ever
                passes = self._database.passes(error)
                if not passes and len(batch) > 1:
                    return [outcome for item in batch for outcome in self._tried([item], end)]
                if not passes or time.monotonic() + pause >= end:
                    failure = self.failure(error)
                    self._apply.failed(work, failure)
                    return [failure] * len(batch)
            self._stop.wait(pause) if not self._closed else time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _batched(self, work: Sequence[Any]) -> list[Any]:
        """The outcomes of a batch, committed."""
        try:
            self._ready()
            if self._apply.at_once(self._session, work):
                return [None] * len(work)
        except Exception as error:
            self._doubt(error)
            raise
        return self._transacted(lambda session: self._apply(session, work))

    def _transacted(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, committed. After an error that may pass it begins in a new session."""
        committed = False
        try:
            self._ready()
            self._session.begin()
            outcome = work(self._session)
            self._session.commit()
            committed = True
        except BaseException as error:
            self._doubt(error)
            self._session.rollback()
            raise
        finally:
            self._heart.ended(committed=committed)
        return outcome

    def _doubt(self, error: BaseException) -> None:
        self._doubtful = self._doubtful or (isinstance(error, Exception) and self._database.passes(error))

    def _ready(self) -> None:
        """Have a session that is not known to be broken."""
        if self._doubtful:
            fresh = self._database.connect()
            self._session.close()
            self._session, self._doubtful = fresh, False

    def _beat_once(self) -> None:
        self._next_beat = time.monotonic() + self._heart.every
        if self._heart.needed:
            # A beat that is missed is noticed by the leases, which then lapse.
            with suppress(Exception):
                self._transacted(self._heart.beat)

    def failure(self, error: Exception) -> StoreError:
        """The error of ours for one of the database's."""
        failure = StoreError(f"cannot write to {self._database.label}: {error}")
        failure.__cause__ = error
        return failure
