"""What attacks are aimed at, seen from the owner's side: something to be stolen, and whether anything has changed.

In PostgreSQL that is the store itself, since its role is what the operator has made it: a table, a sequence, a function
and a procedure are put into the store's schema for as long as it takes. A SQLite file has no such state, so a store in
a folder of its own does as well.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from fanfold.errors import QueryError, StoreError
from fanfold.mcp.door import READER, Caps, Door
from fanfold.mcp.doors.plain import LONGEST
from fanfold.mcp.roles import door_of, quoted, reader_url
from fanfold.mcp.statements import statements
from fanfold.store.batches import packed
from fanfold.store.sqlite import SqliteStore


class Victim(Protocol):
    """Something to be attacked."""

    secret: str
    """What no answer may contain."""
    words: Mapping[str, Any]
    """What the braces of an attack stand for."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def door(self, caps: Caps) -> Door:
        """A new door to it."""

    def say(self, sql: str) -> None:
        """Do something as the owner."""

    def state(self) -> Mapping[str, str]:
        """What may not have changed, by what it is."""

    async def session(self, door: Door) -> Any:
        """What the next statement of the door finds in its session."""


class PostgresVictim:
    """The store at `url`, which names its owner; agents come as `role`."""

    def __init__(self, url: str, role: str = READER) -> None:
        import psycopg

        self._psycopg = psycopg
        self._url = url
        self._role = role
        mark = secrets.token_hex(4)
        self.secret = secrets.token_hex(16)
        self._file = Path(tempfile.gettempdir()) / f"fanfold-attacked-{mark}"
        self.words: Mapping[str, Any] = {
            "table": f"attacked_{mark}",
            "sequence": f"attacked_no_{mark}",
            "function": f"attacked_by_{mark}",
            "procedure": f"attacked_in_{mark}",
            "channel": f"attacked_{mark}",
            "file": str(self._file),
            "secret": self.secret,
            "reader": quoted(role),
            **_LENGTHS,
        }

    def __enter__(self) -> Self:
        try:
            self._connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        except self._psycopg.Error as error:
            raise StoreError(f"cannot connect as the owner of the store: {_brief(error)}") from error
        try:
            self.words = {**self.words, **self._place()}
            self.say(statements("victim")["make"].format_map(self.words))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if "schema" in self.words:
                self.say(statements("victim")["forget"].format_map(self.words))
        finally:
            self._connection.close()
            self._file.unlink(missing_ok=True)

    def door(self, caps: Caps) -> Door:
        return Door.open(reader_url(self._url, self._role), caps)

    def say(self, sql: str) -> None:
        try:
            self._connection.execute(sql.encode())
        except self._psycopg.Error as error:
            raise StoreError(
                f"the attacks cannot be prepared: {_brief(error)}",
                hint="they put a table and a function into the store, which takes its owner",
            ) from error

    def state(self) -> Mapping[str, str]:
        rows = self._connection.execute(statements("victim")["state"].format_map(self.words).encode()).fetchall()
        heard = sum(1 for _ in self._connection.notifies(timeout=0))
        self._heard = getattr(self, "_heard", 0) + heard
        return {**dict(rows), "a file of its own": str(self._file.exists()), "notifications": str(self._heard)}

    async def session(self, door: Door) -> Any:
        return (await door.query(statements("victim")["session"])).rows

    def _place(self) -> dict[str, Any]:
        row = self._connection.execute(statements("victim")["place"].encode()).fetchone()
        assert row is not None, "it has no condition"
        owner, text, schema, pid = row
        schema = "fanfold" if schema in (None, "public") else schema
        door = quoted(door_of(schema.strip('"')))
        return {"owner": owner, "owner_text": text.replace("'", "''"), "schema": schema, "door": door, "pid": pid}


class SqliteVictim:
    """A store in a folder of its own, with a table that is none of ours."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="fanfold-attacked-")
        self._path = Path(self._folder.name) / "runs.db"
        self.words: Mapping[str, Any] = {
            "table": "attacked",
            "path": str(self._path),
            "file": str(Path(self._folder.name) / "made"),
            **_LENGTHS,
        }

    def __enter__(self) -> Self:
        try:
            with SqliteStore(self._path) as store:
                store.items.put(("attacked",), "item", {"seen": True})
            self.say("create table attacked (secret text)")
            self.say(f"insert into attacked values ('{self.secret}')")  # noqa: S608 - ours, of hexadecimal digits
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def door(self, caps: Caps) -> Door:
        return Door.open(str(self._path), caps)

    def say(self, sql: str) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute(sql)
        finally:
            connection.close()

    def state(self) -> Mapping[str, str]:
        # Nobody in this process has it open: to read such a file would take SQLite's locks away.
        files = [path for path in sorted(self._path.parent.iterdir()) if not path.name.endswith("-shm")]
        contents = {path.name: path.read_bytes() for path in files}
        if not contents.get("runs.db-wal", b"x"):
            del contents["runs.db-wal"]  # whoever reads may make an empty one
        return {name: hashlib.blake2b(data, digest_size=8).hexdigest() for name, data in contents.items()}

    async def session(self, door: Door) -> Any:
        """Nothing lives longer than a statement; but the door has to answer again."""
        try:
            return (await door.query("select count(*) from memory")).rows
        except QueryError as error:
            return str(error)


_LENGTHS = {
    "long": "x" * 200_000,
    "deep": "+".join(["1"] * 2_000),
    "pattern": "%a" * 400 + "b",
    "bomb": packed(["1" + " " * (LONGEST - 2)]).hex(),
    "bombs": ", ".join(["bomb"] * 400),
}


def _brief(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
