"""A store in one SQLite file.

All changes go through one thread that owns the only writing connection. It takes whatever is queued and commits it
as one transaction, so that sixty results that end together cost one sync of the disk. Nothing else writes, and
readers have a connection of their own (write-ahead log), so neither waits for the other.

`synchronous=FULL`: in write-ahead mode anything less returns from a commit before the data is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

from fanfold.errors import CorruptRecordError, RunNotFoundError, StoreError, ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import (
    Change,
    CheckpointKept,
    EventsKept,
    ResultKept,
    RunClosed,
    RunOpened,
    RunRecord,
    ThreadRecord,
)
from fanfold.store.serde import Codec

SCHEMA_VERSION: Final = 2

T = TypeVar("T")
_Work: TypeAlias = Callable[[sqlite3.Connection], T]

_EMPTY: Final = object()
_TRIES_TO_SWITCH: Final = 100

# What is raised over a value that cannot be written: half a character, an id that is no text, data that is no JSON.
_UNFIT: Final = (
    TypeError,
    ValueError,
    OverflowError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
)


@cache
def _sql() -> Mapping[str, str]:
    text = files("fanfold.store").joinpath("sql/sqlite.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


class _Writer:
    """The one connection that writes, in a thread of its own. Work is done in the order in which it was queued."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[_Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="fanfold-store", daemon=True)
        self._thread.start()

    def queue(self, work: _Work[T]) -> Future[T]:
        """Have `work` done in the next transaction; the future has its result when that is on disk.

        It cannot be cancelled: whoever stops waiting for it, what was queued is done.
        """
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise StoreError(f"the store {self._path} is closed")
            self._queue.put((work, done))
        return done

    def close(self) -> None:
        """Commit what is queued and let the connection go. Closing twice is harmless."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        # A store that nobody closed is collected in whatever thread the collector happens to run: in this one, too.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _write(self) -> None:
        try:
            self._serve()
        finally:
            self._connection.close()

    def _serve(self) -> None:
        item = self._queue.get()
        while item is not None:
            batch = [item]
            while (item := self._next()) is not _EMPTY and item is not None:
                batch.append(item)
            self._commit(batch)
            item = self._queue.get() if item is _EMPTY else None

    def _next(self) -> Any:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return _EMPTY

    def _commit(self, batch: list[tuple[_Work[Any], Future[Any]]]) -> None:
        try:
            self._connection.execute("begin immediate")
            outcomes = [_outcome(work, self._connection, self._path) for work, _ in batch]
            self._connection.execute("commit")
        except Exception as error:  # noqa: BLE001 - told to all who wait; a writer that dies would let them wait for ever
            outcomes = [_failure(self._path, error)] * len(batch)
            self._roll_back()
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

    def _roll_back(self) -> None:
        # Where even this fails, the next transaction cannot begin, and that is told to whoever asks for it.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("rollback")


class SqliteStore:
    """Keeps everything in the file at `path`, which is made if need be, or in memory for `":memory:"`.

    Raises `StoreError` when the file cannot be opened or was written by a newer fanfold.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        # A database in memory ends with the process, so it may hold objects of any class that this process has written.
        self.learned = Codec() if self.path == ":memory:" else None
        self._reading = threading.Lock()
        connection = _opened(self.path)
        # A database in memory belongs to one connection, so the reader then shares the writer's.
        self._reader = connection if self.path == ":memory:" else _opened(self.path)
        self._writer = _Writer(self.path, connection)
        # Also when nobody closes it: at the latest when the process ends, what is queued is committed.
        self._finish = weakref.finalize(self, _finish, self._writer, self._reader)

    # Changes

    def claim(self, thread_id: str, owner: str, *, take_over: bool = False) -> Future[None]:
        """Become the only runner of a thread; see `Store.claim`."""

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute(_sql()["owner"], (thread_id,)).fetchone()
            current = row[0] if row else None
            if current and current != owner and owners.alive(current) and not take_over:
                raise ThreadBusyError(
                    f"thread {thread_id!r} is being run by {owners.describe(current)}",
                    hint="wait for it to end, or stop it; where it is surely gone, take_over=True takes the thread",
                )
            connection.execute(_sql()["claim"], {"thread": thread_id, "owner": owner})

        return self._writer.queue(work)

    def release(self, thread_id: str, owner: str) -> None:
        """Stop being the runner of a thread. Returns at once: whoever claims it next is queued behind."""
        self._writer.queue(lambda c: _run(c, "release", {"thread": thread_id, "owner": owner}))

    def submit(self, change: Change) -> Future[None]:
        """Queue a change; see `Store.submit`."""
        return self._writer.queue(lambda connection: _apply(connection, change))

    def close(self) -> None:
        """Commit what is queued and close the file. Closing twice is harmless."""
        self._writer.close()
        with self._reading:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Questions

    def owner(self, thread_id: str) -> str | None:
        """Who claimed the thread and has not released it."""
        rows = self._read("owner", (thread_id,))
        return rows[0][0] if rows else None

    def thread(self, thread_id: str, namespace: str = "", checkpoint_id: str | None = None) -> ThreadRecord | None:
        """What is needed to stand at a checkpoint; see `Store.thread`."""
        if checkpoint_id is None:
            rows = self._read("newest_checkpoint", (thread_id, namespace))
            if not rows:
                return None
            checkpoint_id = rows[0][0]
        place = {"thread": thread_id, "namespace": namespace, "checkpoint": checkpoint_id}
        chain = tuple(CheckpointKept(*row) for row in self._read("chain", place))
        if not chain:
            return None
        return ThreadRecord(chain, {one.checkpoint_id: self._hanging(one) for one in chain})

    def _hanging(self, checkpoint: CheckpointKept) -> list[ResultKept]:
        place = (checkpoint.thread_id, checkpoint.namespace, checkpoint.checkpoint_id)
        return [ResultKept(*row) for row in self._read("results_of_checkpoint", place)]

    def history(self, thread_id: str, namespace: str = "") -> list[CheckpointKept]:
        """All checkpoints of a thread, the newest first."""
        return [CheckpointKept(*row) for row in self._read("history", (thread_id, namespace))]

    def delete_thread(self, thread_id: str) -> Future[None]:
        """Forget a thread with all that it holds."""

        def work(connection: sqlite3.Connection) -> None:
            for what in ("events", "results", "checkpoints", "runs", "thread"):
                _run(connection, f"forget_{what}", (thread_id,))

        return self._writer.queue(work)

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so."""
        rows = self._read("runs_named", {"start": run_id}) if run_id else []
        exact = [row for row in rows if row[0] == run_id]
        if len(rows) > 1 and not exact:
            raise RunNotFoundError(f"more than one run begins with {run_id!r} in {self.path}; give more of its id")
        if not rows:
            raise RunNotFoundError(f"there is no run {run_id!r} in {self.path}", hint="list them: fanfold runs ls")
        return _record((exact or rows)[0])

    def runs(self, *, limit: int = 50) -> list[RunRecord]:
        """The newest runs first."""
        return [_record(row) for row in self._read("runs", (limit,))]

    def results(self, run_id: str) -> list[ResultKept]:
        """Every result of a run."""
        return [ResultKept(*row) for row in self._read("results_of_run", (run_id,))]

    def events(self, run_id: str) -> list[Mapping[str, Any]]:
        """Everything that happened in a run."""
        rows = self._read("events_of_run", (run_id,))
        return [_from_json(text, f"event {no} of run {run_id!r}") for no, text in rows]

    def _read(self, name: str, values: Any) -> list[Any]:
        with self._reading:
            if not self._finish.alive:
                raise StoreError(f"the store {self.path} is closed")
            try:
                return self._reader.execute(_sql()[name], values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"cannot read {self.path}: {error}") from error


def _finish(writer: _Writer, reader: sqlite3.Connection) -> None:
    writer.close()
    reader.close()


def _opened(path: str) -> sqlite3.Connection:
    try:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(path, error) from error
    try:
        _write_ahead(connection)
        connection.execute("pragma synchronous = full")
        _ensure_schema(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise _cannot_open(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead mode, also while other processes do the same with a new file.

    For this one statement SQLite does not wait until the others are done but fails at once. It does wait to begin an
    exclusive transaction, so that is what is done before the next try.
    """
    for _ in range(_TRIES_TO_SWITCH):
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        connection.execute("begin exclusive")
        connection.execute("rollback")
    raise sqlite3.OperationalError("database is locked")


def _ensure_schema(connection: sqlite3.Connection, path: str) -> None:
    (version,) = connection.execute(_sql()["version"]).fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer fanfold; upgrade this one to use it")
    if version < SCHEMA_VERSION:
        # The version is set in the same transaction, so that a crash leaves all of it or none.
        connection.executescript(f"begin immediate; {_sql()['schema']} pragma user_version = {SCHEMA_VERSION}; commit;")


def _cannot_open(path: str, error: Exception) -> StoreError:
    return StoreError(
        f"cannot open the store {path}: {error}",
        hint="name another file with --store sqlite:///path/to/runs.db or FANFOLD_STORE",
    )


def _outcome(work: _Work[T], connection: sqlite3.Connection, path: str) -> T | StoreError:
    """Do one piece of work of a transaction; a refusal concerns it alone and leaves the others be.

    It leaves nothing half done either: a value is refused before the first row of its work is written.
    """
    try:
        return work(connection)
    except StoreError as refusal:
        return refusal
    except _UNFIT as error:
        return _failure(path, error)


def _failure(path: str, error: Exception) -> StoreError:
    failure = StoreError(f"cannot write to {path}: {error}")
    failure.__cause__ = error
    return failure


def _run(connection: sqlite3.Connection, name: str, values: Any) -> None:
    connection.execute(_sql()[name], values)


def _apply(connection: sqlite3.Connection, change: Change) -> None:
    match change:
        case ResultKept():
            _run(connection, "keep_result", asdict(change))
        case EventsKept():
            rows = [{"run": change.run_id, "data": json.dumps(event)} for event in change.events]
            connection.executemany(_sql()["keep_event"], rows)
        case CheckpointKept():
            _run(connection, "keep_checkpoint", asdict(change))
        case RunOpened(run):
            values = {
                "run": run.run_id,
                "thread": run.thread_id,
                "graph": run.graph,
                "digest": run.digest,
                "status": run.status,
                "created": run.created,
                "settings": json.dumps(dict(run.settings)),
            }
            _run(connection, "open_run", values)
        case RunClosed():
            values = {
                "run": change.run_id,
                "status": change.status,
                "finished": change.finished,
                "error": change.error,
            }
            _run(connection, "close_run", values)


def _record(row: Any) -> RunRecord:
    *plain, settings = row
    names = ("run_id", "thread_id", "graph", "digest", "status", "created", "finished", "error")
    return RunRecord(**dict(zip(names, plain, strict=True)), settings=_from_json(settings, f"run {row[0]!r}, settings"))


def _from_json(text: str, where: str) -> Mapping[str, Any]:
    try:
        value: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise CorruptRecordError(f"{where} is not readable: {error}") from error
    return value
