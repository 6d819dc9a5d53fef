"""PostgreSQL (14 or newer): a store for teams and for several machines.

One connection writes, in a thread of its own; questions are asked over a small pool. Results and events go to the
server as arrays, one statement for however many end together. The tables are in the schema that the URL's `search_path`
names, or else in one of their own, `fanfold`.

A server that stops answering without closing the connection would keep the writer waiting for ever. So a watch looks
at how long it has been waiting, and breaks the connection itself.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, Unpack

from fanfold.errors import MissingExtraError, StoreError
from fanfold.store.migrations import migrate
from fanfold.store.sql import SqlStore, StoreOptions, statements
from fanfold.store.writer import NO_VALUES, Row, Session, Values

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

MOST_READERS: Final = 4
LONGEST_ANSWER: Final = 20.0
"""Seconds after which a server that does not answer counts as lost."""


class PostgresStore(SqlStore):
    """Keeps everything in the database that `url` names, such as `postgresql://user@host/name`.

    A lease lasts `ttl` seconds without a sign of life, by the database's clock. A server that cannot be reached is
    tried again for `patience` seconds. Raises `MissingExtraError` without psycopg, `StoreError` when the database
    cannot be opened, was written by a newer fanfold, or holds something else in that schema.
    """

    def __init__(self, url: str, **options: Unpack[StoreOptions]) -> None:
        super().__init__(_Server(url), **options)


class _Server:
    """A PostgreSQL database as a place of sessions."""

    dialect = "postgres"
    lasting = True

    def __init__(self, url: str) -> None:
        self._driver = _driver()
        self._url = url
        self.label = _label(self._driver, url)
        self._pool: ConnectionPool[Any] | None = None
        self._opening = threading.Lock()

    def connect(self) -> Session:
        """A connection, with the tables of this version there. Raises `StoreError` when there cannot be one."""
        try:
            connection = self._driver.connect(self._url, autocommit=True, **_SETTINGS)
        except self._driver.Error as error:
            raise StoreError(
                f"cannot open the store {self.label}: {_brief(error)}",
                hint="is the server running, and does the URL name a database and a user that it knows?",
            ) from error
        session = _Session(connection, Watch(connection.fileno()))
        try:
            _choose_schema(connection)
            migrate(session, "postgres", self.label)
        except BaseException:
            session.close()
            raise
        return session

    def passes(self, error: Exception) -> bool:
        """The connection broke, the server is starting or stopping, or two transactions were in each other's way."""
        cause = error.__cause__ if isinstance(error, StoreError) else error
        return isinstance(cause, self._driver.OperationalError | self._driver.InterfaceError) and not isinstance(
            cause, self._driver.errors.DiskFull | self._driver.errors.InsufficientResources
        )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A connection of the pool. One that has broken meanwhile is replaced before it is handed out."""
        with self._readers().connection() as connection:
            yield _Session(connection)

    def close(self) -> None:
        """Close the pool."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()

    def _readers(self) -> ConnectionPool[Any]:
        from psycopg_pool import ConnectionPool

        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._url,
                    min_size=1,
                    max_size=MOST_READERS,
                    kwargs={"autocommit": True, **_SETTINGS},
                    configure=_choose_schema,
                    check=ConnectionPool.check_connection,
                    name="fanfold-readers",
                    open=True,
                )
            return self._pool


_SETTINGS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "fanfold",
}


_UNWATCHED: Final = nullcontext[None]()


class _Session:
    """A connection to the server. That of the writer has a watch."""

    def __init__(self, connection: psycopg.Connection[Any], watch: Watch | nullcontext[None] = _UNWATCHED) -> None:
        self._connection = connection
        self._statements = statements("postgres")
        self._watch = watch

    def rows(self, name: str, values: Values = NO_VALUES) -> list[Row]:
        with self._watch:
            cursor = self._connection.execute(self._statements[name], values or None, binary=True)
            return cursor.fetchall() if cursor.description else []

    def many(self, name: str, rows: Sequence[Values]) -> int:
        columns = {column: [row[column] for row in rows] for column in rows[0]}
        with self._watch:
            return self._connection.execute(self._statements[name], columns).rowcount

    def script(self, text: str) -> None:
        self._connection.execute(text)

    def lock(self) -> None:
        self.rows("lock_migrations")

    def begin(self) -> None:
        with self._watch:
            self._connection.execute("begin")

    def commit(self) -> None:
        with self._watch:
            self._connection.execute("commit")

    def rollback(self) -> None:
        from psycopg import Error

        with suppress(Error), self._watch:  # a connection that is broken has undone it
            self._connection.execute("rollback")

    def close(self) -> None:
        if isinstance(self._watch, Watch):
            self._watch.close()
        self._connection.close()


class Watch:
    """Breaks a connection when an answer takes longer than it may: `with watch:` around whatever waits for one."""

    def __init__(self, file: int, longest: float = LONGEST_ANSWER) -> None:
        self._socket = socket.socket(fileno=os.dup(file))
        self._longest = longest
        self._end: float | None = None
        self._closing = threading.Event()
        threading.Thread(target=self._look, name="fanfold-watch", daemon=True).start()

    def __enter__(self) -> None:
        self._end = time.monotonic() + self._longest

    def __exit__(self, *_: object) -> None:
        self._end = None

    def close(self) -> None:
        """Watch no more."""
        self._closing.set()

    def _look(self) -> None:
        with self._socket:
            while not self._closing.wait(self._longest / 4):
                end = self._end
                if end is not None and time.monotonic() >= end:
                    with suppress(OSError):  # it is broken already
                        self._socket.shutdown(socket.SHUT_RDWR)
                    return


def _driver() -> Any:
    try:
        import psycopg
        import psycopg.errors
    except ImportError as error:
        raise MissingExtraError(
            f"a PostgreSQL store needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[postgres]'",
        ) from error
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


def _choose_schema(connection: psycopg.Connection[Any]) -> None:
    """Stay in the schema that the URL chose; in the one that is there by default, make one of our own."""
    session = _Session(connection)
    session.rows("keep_quiet")
    ((chosen,),) = session.rows("schema_chosen")
    if chosen in (None, "public"):
        session.rows("make_schema")
        session.rows("use_schema")


def _brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
