"""PostgreSQL (14 or newer): a store for teams and for several machines.

One connection writes, in a thread of its own; questions are asked over a small pool. Results and events go to the
server as arrays, one statement for however many end together. The tables are in the schema that the URL's `search_path`
names, or else in one of their own, `fanfold`.

A server that stops answering without closing the connection would keep us waiting for ever. So a watch looks at how
long each answer has been waited for, and breaks the connection itself. The other way round, a process that is frozen in
the middle of a transaction holds the rows of its threads, which nobody could take over: the server ends the connection
of one that is silent there for as long. And a statement that waits for a lock ends a little earlier than that: one that
was given up here would go on waiting there, and be carried out when nobody asks for it any more.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Unpack

from fanfold.errors import MissingExtraError, StoreError
from fanfold.store.arrays import column, understand
from fanfold.store.migrations import migrate
from fanfold.store.sql import PATIENCE, SqlStore, StoreOptions, statements
from fanfold.store.writer import NO_VALUES, Columns, Row, Session, Values

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

MOST_READERS: Final = 4
LONGEST_ANSWER: Final = 20.0
"""Seconds after which a server that does not answer counts as lost."""
LONGEST_WAIT: Final = 0.75
"""The part of that for which a statement waits for a lock: it ends on the server before we give it up, and what was
called lost does not come to be done when the lock is free at last."""


class PostgresStore(SqlStore):
    """Keeps everything in the database that `url` names, such as `postgresql://user@host/name`.

    A lease lasts `ttl` seconds without a sign of life, by the database's clock. A server that cannot be reached is
    tried again for `patience` seconds, and counts as lost when an answer takes `longest_answer` seconds. Raises
    `MissingExtraError` without psycopg, `StoreError` when the database cannot be opened, was written by a newer
    fanfold, or holds something else in that schema.
    """

    def __init__(self, url: str, *, longest_answer: float = LONGEST_ANSWER, **options: Unpack[StoreOptions]) -> None:
        super().__init__(_Server(url, longest_answer, options.get("patience", PATIENCE)), **options)


class _Server:
    """A PostgreSQL database as a place of sessions."""

    dialect = "postgres"
    lasting = True

    def __init__(self, url: str, longest_answer: float, patience: float) -> None:
        self._driver = _driver()
        self._url = url
        self.label = _label(self._driver, url)
        self._longest_answer = longest_answer
        self._patience = patience
        self._watch = Watch(longest_answer)
        self.migrated: Sequence[int] = ()
        self._pool: ConnectionPool[Any] | None = None
        self._opening = threading.Lock()
        self._ready = False

    def connect(self) -> Session:
        """A connection, with the tables of this version there. Raises `StoreError` when there cannot be one.

        Only the first one looks after the tables: who has begun goes on when a newer version changes them.
        """
        try:
            connection = self._driver.connect(self._url, autocommit=True, **_SETTINGS)
            session = _Session(connection, self._watch)
            try:
                self._prepare(connection)
                session.rows("end_if_silent", _milliseconds(self._longest_answer))
                if not self._ready:
                    self.migrated = migrate(session, "postgres", self.label)
                    self._ready = True
                session.rows("wait_in_turn", _milliseconds(LONGEST_WAIT * self._longest_answer))
            except BaseException:
                session.close()
                raise
        except self._driver.Error as error:
            raise StoreError(
                f"cannot open the store {self.label}: {_brief(error)}",
                hint="is the server running, and does the URL name a database and a user that it knows?",
            ) from error
        return session

    def passes(self, error: Exception) -> bool:
        """The connection broke, the server is starting or stopping, or two transactions were in each other's way."""
        cause = error.__cause__ if isinstance(error, StoreError) else error
        errors = self._driver.errors
        state = getattr(cause, "sqlstate", None) or ""
        if state[:2] in _LASTING:
            return bool(state == errors.TooManyConnections.sqlstate)
        passing = (
            self._driver.OperationalError,
            self._driver.InterfaceError,
            errors.IdleInTransactionSessionTimeout,
            errors.UniqueViolation,  # of two who number on at once; anything else that is unique may be there already
        )
        return isinstance(cause, passing)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A connection of the pool. One that turns out to be broken is not put back, and the question asked again.

        To have the pool check each before it is handed out would double the way, and it sleeps when one fails.
        """
        with self._readers().connection(self._patience) as connection:
            yield _Session(connection, self._watch)

    def close(self) -> None:
        """Close the pool."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()
        self._watch.close()

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Stay in the schema that the URL chose; in the one that is there by default, make one of our own."""
        understand(connection)
        session = _Session(connection, self._watch)
        session.rows("keep_quiet")
        session.rows("wait_for_disk")
        ((chosen,),) = session.rows("schema_chosen")
        if chosen in (None, "public"):
            session.rows("make_schema")
            session.rows("use_schema")

    def _readers(self) -> ConnectionPool[Any]:
        from psycopg_pool import ConnectionPool

        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._url,
                    min_size=1,
                    max_size=MOST_READERS,
                    kwargs={"autocommit": True, **_SETTINGS},
                    configure=self._prepare,
                    name="fanfold-readers",
                    open=True,
                )
            return self._pool


def _milliseconds(seconds: float) -> Values:
    return {"milliseconds": str(max(int(seconds * 1000), 1))}  # 0 would be for ever


_SETTINGS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "fanfold",
    "client_encoding": "utf8",  # whatever the database's is, or the URL says: texts are sent as bytes
}


_LASTING: Final = ("53", "54")
"""Classes of errors that the same again will run into again: no room for it, or more than can be said at once."""


class _Session:
    """A connection to the server, whose answers are watched."""

    def __init__(self, connection: psycopg.Connection[Any], watch: Watch) -> None:
        from psycopg import errors

        self._connection = connection
        self._statements = statements("postgres")
        self._watch = watch
        self._undone = errors.DivisionByZero

    def rows(self, name: str, values: Values = NO_VALUES) -> list[Row]:
        with self._watch(self._connection):
            cursor = self._connection.execute(self._statements[name], values or None, binary=True)
            return cursor.fetchall() if cursor.description else []

    def many(self, name: str, rows: Sequence[Values]) -> int:
        columns = {name: column([row[name] for row in rows]) for name in rows[0]}
        with self._watch(self._connection):
            return self._connection.execute(self._statements[name], columns).rowcount

    def at_once(self, name: str, columns: Callable[[], Columns | None]) -> bool:
        if (made := columns()) is None:
            return False
        values = {name: column(values) for name, values in made.items()}
        try:
            with self._watch(self._connection):
                self._connection.execute(self._statements[name], values)
        except self._undone:
            return False
        return True

    def script(self, text: str) -> None:
        self._connection.execute(text)  # not watched, for a migration may take as long as it takes

    def lock(self) -> None:
        self._connection.execute(self._statements["lock_migrations"])

    def begin(self) -> None:
        with self._watch(self._connection):
            self._connection.execute("begin")

    def commit(self) -> None:
        with self._watch(self._connection):
            self._connection.execute("commit")

    def rollback(self) -> None:
        from psycopg import Error

        with suppress(Error), self._watch(self._connection):  # a connection that is broken has undone it
            self._connection.execute("rollback")

    def close(self) -> None:
        self._connection.close()


class Watch:
    """Breaks connections whose answers take longer than they may: `with watch(connection):` around what waits for one.

    It looks from a thread of its own, which is there as soon as it is needed and until it is closed.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.Lock()
        self._ends: dict[int, float] = {}
        """Until when an answer may come, by a descriptor of ours for its connection."""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def __call__(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        # A descriptor of ours, for the connection's own may be closed, and mean something else, before we look.
        file = None if connection.closed else os.dup(connection.fileno())
        if file is None:
            yield  # what is said to it fails at once
            return
        with self._lock:
            self._ends[file] = time.monotonic() + self._longest
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="fanfold-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[file]
                os.close(file)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(self._longest / 4):
            with self._lock:
                now = time.monotonic()
                for file in [file for file, end in self._ends.items() if now >= end]:
                    _break(file)


def _break(file: int) -> None:
    """End a connection, so that whoever waits for it is told."""
    connection = socket.socket(fileno=os.dup(file))
    with connection, suppress(OSError):  # it is broken already
        connection.shutdown(socket.SHUT_RDWR)


def _driver() -> Any:
    try:
        import psycopg
        import psycopg.errors
    except ImportError as error:
        raise MissingExtraError(
            f"a PostgreSQL store needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[postgres]'",
        ) from error
    # What the pool has to say of connections that broke, it would say on the terminal of a program that logs nothing.
    logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
    return psycopg


def _label(driver: Any, url: str) -> str:
    """What a URL names, without a password."""
    try:
        parts = driver.conninfo.conninfo_to_dict(url)
    except driver.Error as error:
        raise StoreError(
            f"cannot read the store's URL: {_brief(error)}", hint="it looks like postgresql://user@host:5432/name"
        ) from None
    host, port, name = (parts.get(part, "") for part in ("host", "port", "dbname"))
    return f"postgresql://{host}{':' if port else ''}{port}/{name}"


def _brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
