"""The read-only door to a database: one statement of somebody we do not trust, and its answer, within caps.

What a statement may do is never decided by reading it. Four walls stand one behind the other, and a refusal says which
of them held:

| wall | PostgreSQL | SQLite |
|---|---|---|
| `role` | a role that may read some views and nothing else; a stronger one is not let in | an authorizer |
| `prepare` | the statement is prepared alone, and one that returns no columns is not carried out | the same |
| `transaction` | read-only, its snapshot fixed before, always rolled back | the file is opened to be read |
| `cap` | rows, bytes, seconds, and how many at once; on the server and here | the same, in a process that is killed |

::

    async with Door.open("sqlite:///runs.db") as door:
        rows = await door.query("select run_id, status from runs where graph = $1", ["study"])
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeAlias

from fanfold.errors import QueryRefusedError, UsageError

READER: Final = "fanfold_reader"
"""The role that `setup-role` makes."""
LONGEST_STATEMENT: Final = 100_000
"""Characters of a statement, and of its parameters together."""
MOST_PARAMETERS: Final = 100

Parameter: TypeAlias = str | int | float | bool | Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Caps:
    """What one statement may cost: rows and bytes of its answer, seconds; and how many go on at once."""

    rows: int = 1_000
    bytes: int = 1_000_000
    seconds: float = 10.0
    at_once: int = 4

    def __post_init__(self) -> None:
        if min(self.rows, self.bytes, self.at_once) < 1 or not self.seconds > 0:
            raise UsageError(f"caps are positive, and these are not: {self}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a database has answered. `truncated` names the cap that cut it off: "rows" or "bytes", else it is empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a statement: values as JSON has them, the cap that cut it off or "", and how long it took."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: str
    ms: float


@dataclass(frozen=True, slots=True)
class View:
    """Something that can be queried, with the names and types of its columns."""

    name: str
    columns: tuple[tuple[str, str], ...]


class Walls(Protocol):
    """A database behind its walls."""

    label: str
    dialect: str

    async def ask(self, sql: str, parameters: Sequence[Parameter]) -> Answer:
        """The answer to one statement. Raises `QueryError`."""

    async def views(self) -> list[View]:
        """What can be queried."""

    async def close(self) -> None:
        """Let every connection go, and end what is still running."""


class Door:
    """Answers statements that only read, at most `caps.at_once` at a time; the others wait for their turn.

    Not for use in several event loops.
    """

    def __init__(self, walls: Walls, caps: Caps) -> None:
        self.caps = caps
        self._walls = walls
        self._turns = asyncio.Semaphore(caps.at_once)

    @classmethod
    def open(cls, url: str, caps: Caps | None = None) -> Self:
        """The door to the database of `url`, which for PostgreSQL names the restricted role; nothing connects yet.

        Raises `UsageError` for a URL that names neither database, `MissingExtraError` without psycopg.
        """
        caps = caps or Caps()
        if url.startswith(("postgresql://", "postgres://")):
            from fanfold.mcp.doors.postgres import PostgresWalls

            return cls(PostgresWalls(url, caps), caps)
        from fanfold.mcp.doors.sqlite import SqliteWalls

        return cls(SqliteWalls(_file(url), caps), caps)

    @classmethod
    def beside(cls, store_url: str, caps: Caps | None = None) -> Self:
        """The door to a store's own database: for PostgreSQL as the role that `setup-role` has made there.

        Raises `StoreError` when the store cannot be asked where it is in its database.
        """
        if store_url.startswith(("postgresql://", "postgres://")):
            from fanfold.mcp.doors.postgres import PostgresWalls
            from fanfold.mcp.roles import door_at, reader_url

            caps = caps or Caps()
            return cls(PostgresWalls(reader_url(store_url), caps, path=door_at(store_url)), caps)
        return cls.open(store_url, caps)

    @property
    def label(self) -> str:
        """What the database is called in messages, without a password."""
        return self._walls.label

    @property
    def dialect(self) -> str:
        """ "postgres" or "sqlite"."""
        return self._walls.dialect

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def query(self, sql: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """The answer to one statement that reads; its parameters are `$1`, `$2` and so on.

        Raises `QueryRefusedError`, whose `wall` says what kept it from being answered, and `QueryError` for a statement
        that is wrong. Cancelling it ends it in the database, too.
        """
        _check(sql, parameters)
        begun = time.perf_counter()
        try:
            await asyncio.wait_for(self._turns.acquire(), self.caps.seconds)
        except TimeoutError:
            raise QueryRefusedError(
                f"{self.caps.at_once} statements are being answered, and none ended in {self.caps.seconds:g} s",
                wall="cap",
                hint="ask again later",
            ) from None
        try:
            answer = await self._walls.ask(sql, parameters)
        finally:
            self._turns.release()
        ms = (time.perf_counter() - begun) * 1000
        return Rows(answer.columns, answer.rows, answer.truncated, round(ms, 3))

    async def views(self) -> list[View]:
        """What can be queried, in the order of names."""
        async with self._turns:
            return await self._walls.views()

    async def close(self) -> None:
        """Let every connection go. Closing twice is harmless."""
        await self._walls.close()


def _file(url: str) -> str:
    """The file of a SQLite database. Raises `UsageError` for one in memory, which nobody else can see."""
    from fanfold.store.opening import sqlite_path

    path = sqlite_path(url)
    if path == ":memory:":
        raise UsageError("a store in memory has no door for queries", hint="keep runs in a file or in PostgreSQL")
    return path


def _check(sql: str, parameters: Sequence[Parameter]) -> None:
    if len(parameters) > MOST_PARAMETERS:
        raise QueryRefusedError(f"a statement has at most {MOST_PARAMETERS} parameters", wall="cap")
    if len(sql) + sum(len(each) for each in parameters if isinstance(each, str)) > LONGEST_STATEMENT:
        raise QueryRefusedError(
            f"a statement and its parameters have at most {LONGEST_STATEMENT:,} characters", wall="cap"
        )
    if "\0" in sql or any(isinstance(each, str) and "\0" in each for each in parameters):
        raise QueryRefusedError("a statement and its parameters have no NUL in them", wall="prepare")
