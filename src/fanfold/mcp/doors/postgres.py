"""The door to PostgreSQL: a role that may only read, one prepared statement, a transaction that can only be undone.

The wire protocol's own steps are used, since each is a wall. *Prepare* takes exactly one statement, so nothing can be
stacked behind it; *describe* tells, before anything is carried out, whether it returns columns; and rows are taken one
by one, so that what is too much is not waited for. The number of bytes that wait in the socket is looked at before they
are read: one row of a gigabyte would else be a gigabyte here.

A connection that gave an answer is used again after `discard all`. One whose statement was cut off, cancelled or lost
is closed, and the statement ended on the server.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import termios
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from fanfold.errors import MissingExtraError, QueryError, QueryRefusedError, StoreError, UsageError
from fanfold.mcp.door import Answer, Caps, Parameter, View
from fanfold.mcp.doors.plain import Page
from fanfold.mcp.statements import statements

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.pq.abc import PGresult

GRACE: Final = 0.5
"""Seconds after which we stop waiting for a server that should have stopped by itself."""
SLACK: Final = 256 * 1024
"""Bytes that may arrive beyond the cap: what a socket holds."""
AT_LEAST: Final = 8 * 1024
"""Bytes that libpq takes at once, if they are there."""
AT_ONCE: Final = 1024
"""Bytes of a row's values that are read right where they arrive; what more of them means is found out in a thread."""

_WALLS: Final = {
    "42501": "role",
    "0LP01": "role",
    "28000": "role",
    "25006": "transaction",
    "25001": "transaction",
    "25P02": "transaction",
    "2D000": "transaction",
    "3B001": "transaction",
    "57014": "cap",
    "55P03": "cap",
    "53100": "cap",
    "53200": "cap",
    "53300": "cap",
    "53400": "cap",
    "54000": "cap",
    "54001": "cap",
}
"""Which wall an error of the server is, by its code."""
_STACKED: Final = "cannot insert multiple commands"
_BREAKS: Final = ("57P", "08")
"""Beginnings of codes after which the connection is not used again."""

_CONVERTED: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda text: text == b"t",
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    17: lambda text: bytes.fromhex(text[2:].decode()),
    114: json.loads,
    3802: json.loads,
}
"""How values become ours, by the type's number; everything else is shown as the server writes it."""
_LISTS: Final = frozenset({1000, 1005, 1007, 1016, 1009, 1015, 1021, 1022})
"""Arrays of truth values, numbers and texts, which become lists."""
_READ: Final = _LISTS | {17, 114, 3802}
"""Values that mean more than a number or a text."""


class PostgresWalls:
    """A PostgreSQL database, as the role that `url` names."""

    dialect = "postgres"

    def __init__(self, url: str, caps: Caps, *, path: str | None = None, trusting: bool = False) -> None:
        """`path` is the schema that names are looked for in, else the role's own setting says it.

        `trusting` lets any role in; that is for tests, which look whether the other walls hold alone.
        """
        self._driver = _driver()
        try:
            self._where = self._driver.conninfo.conninfo_to_dict(url)
        except self._driver.Error as error:
            raise UsageError(
                f"cannot read the URL of the database: {_brief(error)}",
                hint="it looks like postgresql://user@host/name",
            ) from None
        self.label = "postgresql://{user}@{host}/{dbname}".format_map(_Blank(self._where))
        self._caps = caps
        self._path = path
        self._trusting = trusting
        self._idle: list[_Line] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def ask(self, sql: str, parameters: Sequence[Parameter]) -> Answer:
        values = [self._written(each) for each in parameters]
        return await self._with_line(lambda line: line.ask(sql, values))

    async def views(self) -> list[View]:
        answer = await self._with_line(lambda line: line.ask(statements("postgres")["readable"], [], own=True))
        found: dict[str, list[tuple[str, str]]] = {}
        for relation, column, kind, on_path, schema in answer.rows:
            name = relation if on_path else f"{schema}.{relation}"
            found.setdefault(name, []).append((column, kind))
        return [View(name, tuple(columns)) for name, columns in sorted(found.items())]

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            await line.close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _with_line(self, work: Callable[[_Line], Any]) -> Answer:
        """What `work` answers over a connection that is ready; which is kept only when it is known to be clean."""
        line = await self._ready()
        try:
            answer: Answer = await work(line)
        except BaseException:
            self._keep_or_end(line)
            raise
        self._keep_or_end(line)
        return answer

    async def _ready(self) -> _Line:
        """A connection with its transaction begun. One that broke while it was idle is not the last word."""
        while self._idle:
            line = self._idle.pop()
            try:
                await line.begin()
                return line
            except (QueryError, self._driver.Error):
                await line.close()
            except BaseException:
                self._keep_or_end(line)
                raise
        line = await self._connected()
        try:
            await line.begin()
        except BaseException:
            self._keep_or_end(line)
            raise
        return line

    async def _connected(self) -> _Line:
        settings = {"connect_timeout": 5, "application_name": "fanfold-mcp", **self._where, "client_encoding": "utf8"}
        try:
            connection = await self._driver.AsyncConnection.connect(**settings, autocommit=True)
        except self._driver.Error as error:
            raise self._not_let_in(error) from error
        line = _Line(connection, self._caps, self._path)
        try:
            if not self._trusting:
                await self._check_role(line)
        except BaseException:
            self._keep_or_end(line, clean=False)
            raise
        return line

    async def _check_role(self, line: _Line) -> None:
        """Raise `QueryRefusedError` for a role that could do more than read: then one wall would be missing."""
        found = await line.own("strengths")
        if found:
            raise QueryRefusedError(
                f"the role of {self.label} is too strong to be handed to agents: {'; '.join(row[0] for row in found)}",
                wall="role",
                hint="make one that may only read: fanfold mcp setup-role",
            )

    def _not_let_in(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot open the door to {self.label}: {_brief(error)}",
            hint="is the role there? `fanfold mcp setup-role` makes it; its password, where it has one, is read from"
            " FANFOLD_READER_PASSWORD",
        )

    def _keep_or_end(self, line: _Line, *, clean: bool = True) -> None:
        if clean and line.clean:
            self._idle.append(line)
            return
        task = asyncio.get_running_loop().create_task(line.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _written(self, value: Parameter) -> bytes | None:
        """A parameter as text, whose type the server finds out by where it stands."""
        if value is None:
            return None
        if isinstance(value, bool):
            return b"true" if value else b"false"
        if isinstance(value, str | int | float):
            return str(value).encode()
        if isinstance(value, dict):
            return json.dumps(value).encode()
        transformer = self._driver.adapt.Transformer()
        (written,) = transformer.dump_sequence([list(value)], [self._driver.adapt.PyFormat.TEXT])
        return bytes(written)


class _Line:
    """One connection, and the steps of a statement on it. `clean` says that nothing of one is left."""

    def __init__(self, connection: AsyncConnection[Any], caps: Caps, path: str | None) -> None:
        self._connection = connection
        self._path = None if path is None else path.encode()
        self._pg = connection.pgconn
        self._caps = caps
        self._statements = statements("postgres")
        self._arrived = 0
        self._flooded = False
        self.clean = True

    async def begin(self) -> None:
        """Begin a transaction that only reads, and fix what it sees."""
        self.clean = False
        milliseconds = str(max(1, int(self._caps.seconds * 1000)))
        silent = str(max(1, int((self._caps.seconds + GRACE) * 1000)))
        async with asyncio.timeout(self._caps.seconds + GRACE):
            await self._said(lambda: self._pg.send_query(self._statements["begin"].encode()))
            look = "1000" if self._pg.server_version >= 140000 else "0"
            values = [milliseconds.encode(), silent.encode(), look.encode(), self._path]
            await self._said(lambda: self._pg.send_query_params(self._statements["settle"].encode(), values))

    async def own(self, name: str) -> list[tuple[Any, ...]]:
        """The rows of a statement of ours, outside of a transaction."""
        async with asyncio.timeout(self._caps.seconds + GRACE):
            (result,) = await self._said(lambda: self._pg.send_query(self._statements[name].encode()))
        return [
            tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    async def ask(self, sql: str, values: Sequence[bytes | None], *, own: bool = False) -> Answer:
        """The answer to a statement, after `begin`; and the connection as it was before it."""
        try:
            async with asyncio.timeout(self._caps.seconds + GRACE):
                try:
                    return await self._answer(sql, values, capped=not own)
                finally:
                    await self._forget()
        except TimeoutError:
            raise QueryRefusedError(_too_long(self._caps), wall="cap") from None
        except self._connection_errors() as error:
            raise QueryError(f"the connection broke while the statement was answered: {_brief(error)}") from error

    async def close(self) -> None:
        """Let the connection go."""
        await self._connection.close()

    async def end(self) -> None:
        """End what is still running, and let the connection go."""
        with suppress(Exception):  # it may be gone already; the server's own caps end the statement then
            await self._connection.cancel_safe(timeout=2.0)
        await self._connection.close()

    async def _answer(self, sql: str, values: Sequence[bytes | None], *, capped: bool) -> Answer:
        await self._said(lambda: self._pg.send_prepare(b"asked", sql.encode()))
        (described,) = await self._said(lambda: self._pg.send_describe_prepared(b"asked"))
        if described.nfields == 0:
            raise QueryRefusedError(
                "this statement returns no columns, so it was not carried out", wall="prepare", hint="only queries are"
            )
        if described.nparams != len(values):
            raise QueryError(f"the statement has {described.nparams} parameters, and {len(values)} were given")
        columns = tuple((described.fname(at) or b"").decode() for at in range(described.nfields))
        return await self._rows(columns, values, capped)

    async def _rows(self, columns: tuple[str, ...], values: Sequence[bytes | None], capped: bool) -> Answer:
        times = 1 if capped else 64
        page = Page(times * self._caps.rows, times * self._caps.bytes, time.monotonic() + self._caps.seconds)
        most = 4 * times * self._caps.bytes + SLACK
        self._pg.send_query_prepared(b"asked", values)
        self._pg.set_single_row_mode()
        self._arrived, self._flooded = 0, False
        async with aclosing(self._results(most)) as results:
            async for result in results:
                _raise_for(result)
                for row in range(result.ntuples):
                    if cap := await self._added(page, result, row):
                        return _cut(columns, page, cap, self._caps)
        return _cut(columns, page, "bytes" if self._flooded else "", self._caps)

    async def _added(self, page: Page, result: PGresult, row: int) -> str:
        """Take a row: in a thread, if it may take long to find out what it means, so that others are answered."""
        texts = [(result.ftype(column), result.get_value(row, column)) for column in range(result.nfields)]
        read = sum(len(text or b"") for kind, text in texts if kind in _READ)
        values = (self._value(kind, text) for kind, text in texts)
        return await asyncio.to_thread(page.add, values) if read > AT_ONCE else page.add(values)

    def _value(self, kind: int, text: bytes | None) -> Any:
        if text is None:
            return None
        try:
            if kind in _LISTS:
                from psycopg.adapt import Transformer
                from psycopg.pq import Format

                return Transformer(self._connection).get_loader(kind, Format.TEXT).load(text)
            convert = _CONVERTED.get(kind)
            return convert(text) if convert else text.decode("utf-8", "backslashreplace")
        except (ValueError, RecursionError, self._connection_errors()):
            return text.decode("utf-8", "backslashreplace")

    async def _forget(self) -> None:
        """Undo the transaction, and end the session's state; not in the middle of a statement, which is cut off."""
        from psycopg.pq import TransactionStatus

        if self._pg.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            return
        await self._said(lambda: self._pg.send_query(self._statements["leave"].encode()))
        await self._said(lambda: self._pg.send_query(self._statements["forget"].encode()))
        while self._pg.notifies() is not None:
            pass
        self.clean = True

    async def _said(self, send: Callable[[], None]) -> list[PGresult]:
        """What the server answers to one step. Raises `QueryError` for an error."""
        send()
        results = [result async for result in self._results(None)]
        for result in results:
            _raise_for(result)
        return results

    async def _results(self, most: int | None) -> AsyncGenerator[PGresult, None]:
        """The results of what was sent, until there are no more, or until more than `most` bytes have arrived."""
        while self._pg.flush():
            await self._wait(writing=True)
        while True:
            while self._pg.is_busy():
                await self._wait()
                if most is not None and self._arrived > most:
                    self._flooded = True
                    return
                waiting = _waiting(self._pg.socket)
                self._pg.consume_input()
                # What it leaves there waits again, and counts once; while it reads, more may come.
                self._arrived += max(waiting - _waiting(self._pg.socket), min(waiting, AT_LEAST))
            result = self._pg.get_result()
            if result is None:
                return
            yield result

    async def _wait(self, *, writing: bool = False) -> None:
        loop, file = asyncio.get_running_loop(), self._pg.socket
        ready: asyncio.Future[None] = loop.create_future()

        def come() -> None:
            if not ready.done():
                ready.set_result(None)

        add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
        add(file, come)
        try:
            await ready
        finally:
            remove(file)

    @staticmethod
    def _connection_errors() -> Any:
        import psycopg

        return psycopg.Error


class _Blank(dict[str, Any]):
    """The parts of a URL, empty where there is none."""

    def __missing__(self, _: str) -> str:
        return ""


def _raise_for(result: PGresult) -> None:
    """Raise what an error of the server means."""
    from psycopg.pq import DiagnosticField, ExecStatus

    if result.status not in (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE):
        if result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH):
            raise QueryRefusedError("this statement copies, and is no query", wall="prepare")
        return
    code = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    said = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode("utf-8", "replace")
    hint = (result.error_field(DiagnosticField.MESSAGE_HINT) or b"").decode("utf-8", "replace") or None
    wall = "prepare" if _STACKED in said else _WALLS.get(code)
    if wall is None:
        raise QueryError(f"the statement cannot be answered: {said}", hint=hint)
    raise QueryRefusedError(f"refused ({wall}): {said}", wall=wall, hint=hint)


def _cut(columns: tuple[str, ...], page: Page, cap: str, caps: Caps) -> Answer:
    if cap == "seconds":
        raise QueryRefusedError(_too_long(caps), wall="cap")
    if cap and not page.rows:
        raise QueryRefusedError(
            f"one row is larger than {caps.bytes:,} bytes", wall="cap", hint="select fewer columns, or a part of them"
        )
    return Answer(columns, tuple(page.rows), cap)


def _too_long(caps: Caps) -> str:
    return f"the statement took longer than {caps.seconds:g} s, and was ended"


def _waiting(file: int) -> int:
    """How many bytes a socket holds for us."""
    size = array.array("i", [0])
    fcntl.ioctl(file, termios.FIONREAD, size)
    return size[0]


def _brief(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _driver() -> Any:
    try:
        import psycopg
        import psycopg.adapt
        import psycopg.conninfo
    except ImportError as error:
        raise MissingExtraError(
            f"a door to PostgreSQL needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[postgres]'",
        ) from error
    return psycopg
