"""The process that reads a SQLite file for those we do not trust: one line of JSON in, one line out.

Each statement has a connection of its own, so nothing of one is left for the next. The file is opened to be read, and
an authorizer says for each part of a statement whether it may be: only the views may be read, and only functions of a
list called.

The authorizer is told which view a table is read through, but a statement can name a part of itself after a view. So
the views are made of others, whose names are drawn anew for each connection, and it is those that may read tables.

The process may use some memory beyond what it has now, and may write no file longer than the index of SQLite's log.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from fanfold.mcp.doors.plain import Page
from fanfold.mcp.statements import views

try:
    import resource
except ImportError:  # not on this system: then the time is the only limit
    resource = None  # type: ignore[assignment]

MEMORY: Final = 512 * 1024 * 1024
"""Bytes of memory that statements may take."""
LONGEST_FILE: Final = 1024 * 1024
"""Bytes of a file that may be written: the index of the log is shared memory in a file."""
LONGEST_VALUE: Final = 32 * 1024 * 1024
STEPS: Final = 2_000
"""Steps of SQLite's machine between two looks at the clock."""

_FUNCTIONS: Final = frozenset(
    """abs avg cast ceil ceiling char coalesce concat concat_ws count cume_dist date datetime dense_rank exp first_value
    floor format glob group_concat hex ifnull iif instr json json_array json_array_length json_each json_extract
    json_group_array json_group_object json_insert json_object json_patch json_quote json_remove json_replace json_set
    json_tree json_type json_valid julianday lag last_value lead length like ln log lower ltrim max median min mod
    nth_value ntile nullif octet_length percent_rank pow power printf quote rank replace round row_number rtrim sign
    sqrt sqlite_version strftime string_agg substr substring sum time timediff total trim trunc typeof unhex unicode
    unistr unixepoch upper -> ->>""".split()  # noqa: SIM905
)
_TABLES: Final = frozenset({"json_each", "json_tree"})
"""Functions that are read like tables."""
_LIMITS: Final = {
    "SQLITE_LIMIT_LENGTH": LONGEST_VALUE,
    "SQLITE_LIMIT_SQL_LENGTH": 200_000,
    "SQLITE_LIMIT_COLUMN": 500,
    "SQLITE_LIMIT_EXPR_DEPTH": 200,
    "SQLITE_LIMIT_COMPOUND_SELECT": 50,
    "SQLITE_LIMIT_VDBE_OP": 200_000,
    "SQLITE_LIMIT_FUNCTION_ARG": 64,
    "SQLITE_LIMIT_ATTACHED": 0,
    "SQLITE_LIMIT_LIKE_PATTERN_LENGTH": 1_000,
    "SQLITE_LIMIT_VARIABLE_NUMBER": 100,
    "SQLITE_LIMIT_TRIGGER_DEPTH": 1,
    "SQLITE_LIMIT_WORKER_THREADS": 0,
}


class Refused(Exception):  # noqa: N818 - it never leaves this module; the other process has the error
    """A statement is refused by a wall, or by none when it is wrong."""

    def __init__(self, message: str, wall: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.told = {"error": message, "wall": wall, "hint": hint}


class Reader:
    """A connection for one statement, behind its walls. `hidden` are the names of views that may read tables."""

    def __init__(self, path: str, caps: dict[str, Any]) -> None:
        self._caps = caps
        self._refused = ""
        self.views = views("sqlite", "main")
        self._hidden = {f"_{secrets.token_hex(16)}": name for name in self.views}
        self._connection = self._opened(path)
        self._check_store()
        for hidden, name in self._hidden.items():
            self._connection.execute(f"create temp view {hidden} as {self.views[name]}")
            self._connection.execute(f"create temp view {name} as select * from temp.{hidden}")  # noqa: S608 - ours
        # Tables that are functions are made at their first use, which later would be refused.
        self._connection.execute("select 1 from json_each('[]'), json_tree('[]')")
        for limit, value in _LIMITS.items():
            self._connection.setlimit(getattr(sqlite3, limit), value)
        self._end = 0.0
        self._connection.set_progress_handler(self._late, STEPS)

    def close(self) -> None:
        """Forget it, and whatever a statement has left in it."""
        self._connection.close()

    def described(self) -> list[Any]:
        """The views, with their columns and types."""
        found = []
        for name in sorted(self.views):
            columns = self._connection.execute(f"pragma temp.table_xinfo({name})")  # a name of ours
            found.append([name, [[column[1], column[2].lower()] for column in columns]])
        return found

    def answer(self, sql: str, parameters: Sequence[Any]) -> dict[str, Any]:
        """The answer to one statement, within the caps. Raises `Refused`."""
        self._end = time.monotonic() + self._caps["seconds"]
        self._connection.set_authorizer(self._may)
        named = {str(number): _bound(value) for number, value in enumerate(parameters, 1)}
        try:
            cursor = self._connection.execute(sql, named)
            if cursor.description is None:
                raise Refused(
                    "this statement returns no columns, and only queries are carried out", "prepare", "write a select"
                )
            columns = [column[0] for column in cursor.description]
            rows, truncated = self._taken(cursor)
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise self._refusal(error) from None
        return {"columns": columns, "rows": rows, "truncated": truncated}

    def _taken(self, cursor: Iterable[Sequence[Any]]) -> tuple[list[Any], str]:
        page = Page(self._caps["rows"], self._caps["bytes"])
        cap = next(filter(None, map(page.add, cursor)), "")
        if cap and not page.rows:
            raise Refused(
                f"one row is larger than {self._caps['bytes']:,} bytes", "cap", "select fewer columns, or substr()"
            )
        return page.rows, cap

    def _opened(self, path: str) -> sqlite3.Connection:
        from urllib.parse import quote

        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=1.0)
        connection.execute("pragma temp_store = memory")  # what a statement puts aside counts as its memory
        connection.execute("pragma trusted_schema = off")
        connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
        return connection

    def _check_store(self) -> None:
        """Raise `Refused` for a file that is no store: its tables are nobody's views."""
        there = {name.lower() for (name,) in self._connection.execute("select name from sqlite_master")}
        if _SHOWN - there:
            raise Refused("this file is no store of fanfold", "role", "name one with --store; a run makes one")
        self._closed = (there - _SHOWN) | _SCHEMAS

    def _may(self, action: int, first: str | None, second: str | None, database: str | None, view: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and self._may_read(first or "", second, database, view):
            return sqlite3.SQLITE_OK
        self._refused = _named(action, first, second)
        return sqlite3.SQLITE_DENY

    def _may_read(self, table: str, column: str | None, database: str | None, view: str | None) -> bool:
        if view in self._hidden:
            return True
        if database == "temp":
            return table in self.views or table in self._hidden
        # Rows that are only counted are read without a column and without a view's name; also those of a subquery.
        return table in _TABLES or (column == "" and table.lower() not in self._closed)

    def _late(self) -> int:
        return int(self._end > 0.0 and time.monotonic() > self._end)

    def _refusal(self, error: Exception) -> Refused:
        said = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return Refused(f"the statement took longer than {self._caps['seconds']:g} s, and was ended", "cap")
        if code == sqlite3.SQLITE_AUTH or self._refused:
            return Refused(
                f"refused (role): {self._refused or said}", "role", "read the views: " + ", ".join(self.views)
            )
        if code == sqlite3.SQLITE_READONLY:
            return Refused(f"refused (transaction): {said}", "transaction")
        if code in (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FULL):
            return Refused(f"refused (cap): {said}", "cap")
        if "one statement at a time" in said:
            return Refused("refused (prepare): only one statement at a time", "prepare")
        if "too many" in said or "too large" in said or "too deep" in said or "too long" in said:
            return Refused(f"refused (cap): {said}", "cap")
        if "Binding" in said or "binding" in said:
            return Refused(f"the parameters do not fit: {said}", hint="they are written $1, $2 and so on")
        return Refused(f"the statement cannot be answered: {said}")


_SHOWN: Final = frozenset({"run", "thread", "checkpoint", "task_result", "event", "item"})
"""The tables that views show."""
_SCHEMAS: Final = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"})
_ACTIONS: Final = {
    getattr(sqlite3, f"SQLITE_{name.upper().replace(' ', '_')}"): name
    for name in (
        "insert", "update", "delete", "read", "function", "pragma", "attach", "detach", "transaction", "savepoint",
        "analyze", "reindex", "alter table", "create table", "create temp table", "create view", "create temp view",
        "create index", "create temp index", "create trigger", "create temp trigger", "create vtable", "drop table",
        "drop view", "drop temp view", "drop index", "drop trigger",
    )
}  # fmt: skip


def _named(action: int, first: str | None, second: str | None) -> str:
    """What a statement wanted to do."""
    what = _ACTIONS.get(action, f"action {action}")
    return f"{what} {' '.join(filter(None, (first, second)))} is not allowed".replace("  ", " ")


def _bound(value: Any) -> Any:
    """A parameter as SQLite takes it: a list or an object as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _narrow() -> None:
    """Limit what this process may take, for good."""
    if resource is not None:
        with suppress(OSError, ValueError):  # a system that has no such limit
            most = _size() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (LONGEST_FILE, LONGEST_FILE))
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _size() -> int:
    """Bytes of addresses that this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def answered(reader: Reader, asked: dict[str, Any]) -> dict[str, Any]:
    """What is said to one line."""
    try:
        return {"views": reader.described()} if "views" in asked else reader.answer(asked["sql"], asked["parameters"])
    except Refused as refused:
        return refused.told
    except MemoryError:
        return Refused("refused (cap): the statement needed more memory than it may", "cap").told
    finally:
        reader.close()


def main() -> None:
    """Answer each line of standard input, until there are no more. A connection is ready before it is asked for."""
    path, caps = sys.argv[1], json.loads(sys.argv[2])
    _narrow()
    reader = _ready(path, caps)
    print("{}", flush=True)
    for line in sys.stdin.buffer:
        if not isinstance(reader, Reader):
            reader = _ready(path, caps)  # it may be there by now
        told = answered(reader, json.loads(line)) if isinstance(reader, Reader) else reader.told
        print(json.dumps(told), flush=True)
        reader = _ready(path, caps)


def _ready(path: str, caps: dict[str, Any]) -> Reader | Refused:
    try:
        return Reader(path, caps)
    except Refused as refused:
        return refused
    except sqlite3.Error as error:
        return Refused(f"the store cannot be read: {error}")


if __name__ == "__main__":
    main()
