"""SQLite: a store in one file, or in memory.

One connection writes and another one reads (write-ahead log), so neither waits for the other. `synchronous=FULL`: in
write-ahead mode anything less returns from a commit before the data is on the disk.

The log is copied back into the file by the writer alone, between two of its commits, and under a lock that the writers
of all processes take for each commit: SQLite from 3.7.0 to 3.51.2 can damage the log when one connection commits while
another one copies it (its release notes of 3.51.3).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Unpack

from fanfold.errors import StoreError
from fanfold.store import files
from fanfold.store.migrations import migrate
from fanfold.store.sql import SqlStore, StoreOptions, statements
from fanfold.store.writer import NO_VALUES, Columns, Row, Session, Values

try:
    import fcntl
except ImportError:  # not on this system: then SQLite copies its log by itself, as ever
    fcntl = None  # type: ignore[assignment]

MEMORY: Final = ":memory:"

_TRIES_TO_SWITCH: Final = 100
_LONG_LOG: Final = 4 * 1024 * 1024
"""Bytes of the log after which it is copied back."""
_COMMITS: Final = 64
"""Commits between two looks at its length."""
_LONGEST_WAIT: Final = 10.0
"""Seconds for which another process may keep this one from writing."""
_IN_THE_WAY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class SqliteStore(SqlStore):
    """Keeps everything in the file at `path`, which is made if need be, or in memory for `":memory:"`.

    A lease lasts `ttl` seconds without a sign of life. Raises `StoreError` when the file cannot be opened, was written
    by a newer fanfold, or holds something else.
    """

    def __init__(self, path: str | Path, **options: Unpack[StoreOptions]) -> None:
        self.path = str(path)
        super().__init__(_File(self.path), **options)


class _File:
    """A SQLite file as a place of sessions."""

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        self.label = path
        self.lasting = path != MEMORY
        self.migrated: Sequence[int] = ()
        self._reading = threading.Lock()
        self._ready = False
        self._reader: _Connection | None = None

    def connect(self) -> Session:
        """The connection that writes. A database in memory belongs to one connection, so its reader shares it.

        Only the first one looks after the tables: who has begun goes on when a newer version changes them.
        """
        if self.lasting:
            session = _opened(
                self.label, _FileLock(self.label) if fcntl is not None else None, migrating=not self._ready
            )
        else:
            session = self._reader = _opened(self.label, _Turns(self._reading), migrating=True)
        self._ready = True
        self.migrated = session.migrated
        return session

    def passes(self, error: Exception) -> bool:
        """Another process had the file for too long."""
        cause = error.__cause__ if isinstance(error, StoreError) else error
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return self.lasting and (isinstance(cause, TimeoutError) or code in _IN_THE_WAY)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The connection that reads, for one at a time."""
        with self._reading:
            if self._reader is None:
                self._reader = _opened(self.label, None, migrating=False)
            yield self._reader

    def close(self) -> None:
        """Let the reading connection go."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()


class _Connection:
    """A connection to the file. Only one that writes begins transactions."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: _FileLock | _Turns | None) -> None:
        self._path = path
        self._connection = connection
        self._statements = statements("sqlite")
        self.migrated: Sequence[int] = ()
        self._commits = 0
        self._closed = False
        self._lock = lock

    def rows(self, name: str, values: Values = NO_VALUES) -> list[Row]:
        return self._connection.execute(self._statements[name], _fit(values)).fetchall()

    def many(self, name: str, rows: Sequence[Values]) -> int:
        return self._connection.executemany(self._statements[name], rows).rowcount

    def at_once(self, _name: str, _columns: Callable[[], Columns | None]) -> bool:
        """There is no way to the database that one statement would save."""
        return False

    def script(self, text: str) -> None:
        for statement in text.split(";\n"):
            self._connection.execute(statement)

    def lock(self) -> None:
        """A transaction that writes keeps all others out anyway."""

    def begin(self) -> None:
        if self._lock is not None:
            self._lock.take()
        self._connection.execute("begin immediate")

    def commit(self) -> None:
        self._connection.execute("commit")
        if self._lock is not None:
            # What is committed stays so if the log cannot be copied now, be it that the disk is full. The next commits
            # say so, if they find no room; and the log is copied when there is some.
            with contextlib.suppress(sqlite3.OperationalError):
                self._copy_log()
            self._lock.give()

    def rollback(self) -> None:
        try:
            # Where even this fails, the next transaction cannot begin, and that is told to whoever asks for it.
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
        finally:
            if self._lock is not None:
                self._lock.give()

    def close(self) -> None:
        self._connection.close()
        if self._path != MEMORY and not self._closed:
            files.closed(self._path)
        self._closed = True
        if self._lock is not None:
            self._lock.close()

    def _copy_log(self) -> None:
        """Copy the log back now and then, when it is long. What a reader still needs of it is copied the next time."""
        self._commits += 1
        if self._commits % _COMMITS == 0 and _size(f"{self._path}-wal") >= _LONG_LOG:
            self._connection.execute("pragma wal_checkpoint(passive)")


class _Turns:
    """A lock for a database in memory, whose one connection shows a reader what is not committed yet."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._mine = False

    def take(self) -> None:
        """Wait until nobody reads."""
        self._lock.acquire()
        self._mine = True

    def give(self) -> None:
        """Let them read; harmless without it."""
        if self._mine:
            self._mine = False
            self._lock.release()

    def close(self) -> None:
        """Let go of it for good."""
        self.give()


class _FileLock:
    """A lock that all processes take which write to a file. It is let go of when a process dies."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}-lock"
        self._file: int | None = None

    def take(self) -> None:
        """Wait for it. Raises `TimeoutError` when somebody has it for longer than any commit takes."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + _LONGEST_WAIT
        pause = 0.0002
        while not self._taken():
            if time.monotonic() > end:
                raise TimeoutError(f"another process has been writing for {_LONGEST_WAIT:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.005)

    def give(self) -> None:
        """Let go of it; harmless without it."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it for good."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _taken(self) -> bool:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _fit(values: Values) -> Values:
    """The values as SQLite takes them: a list as JSON."""
    if not any(isinstance(value, list) for value in values.values()):
        return values
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in values.items()}


def _opened(path: str, lock: _FileLock | _Turns | None, *, migrating: bool) -> _Connection:
    try:
        if path != MEMORY:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_LONGEST_WAIT)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(path, error) from error
    connection = _Connection(path, raw, lock)
    if path != MEMORY:
        files.opened(path)
    try:
        _write_ahead(raw)
        raw.execute("pragma synchronous = full")
        if path != MEMORY and fcntl is not None:
            raw.execute("pragma wal_autocheckpoint = 0")
        if migrating:
            connection.migrated = migrate(connection, "sqlite", path)
    except (OSError, sqlite3.Error) as error:
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


def _cannot_open(path: str, error: Exception) -> StoreError:
    return StoreError(
        f"cannot open the store {path}: {error}",
        hint="name another file with --store sqlite:///path/to/runs.db or FANFOLD_STORE",
    )
