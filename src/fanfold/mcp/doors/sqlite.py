"""The door to a SQLite file: statements are carried out in a process of their own, which may be killed at any time.

SQLite has no roles, and no limit on what a statement may take. Some of its functions, such as a search for half a
megabyte in a megabyte, cannot even be interrupted. So the process that asks (see `sqlite_process`) is another one: its
memory and the files that it may write are limited by the system, and it is killed when an answer is late or nobody
waits for it any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fanfold.errors import QueryError, QueryRefusedError, StoreError
from fanfold.mcp.door import Answer, Caps, Parameter, View

GRACE: Final = 0.5
"""Seconds after which a process is killed that should have ended its statement by itself."""
START: Final = 20.0
"""Seconds that a process may need to start on a busy machine."""
_KEPT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")
"""What the process is told of our environment: no keys."""


class SqliteWalls:
    """A SQLite file, which is opened to be read."""

    dialect = "sqlite"

    def __init__(self, path: str, caps: Caps) -> None:
        self.label = path
        self._path = Path(path).absolute()
        self._caps = caps
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()

    async def ask(self, sql: str, parameters: Sequence[Parameter]) -> Answer:
        told = await self._told({"sql": sql, "parameters": list(parameters)})
        return Answer(tuple(told["columns"]), tuple(tuple(row) for row in told["rows"]), told["truncated"])

    async def views(self) -> list[View]:
        told = await self._told({"views": True})
        return [View(name, tuple((column, kind) for column, kind in columns)) for name, columns in told["views"]]

    async def close(self) -> None:
        everyone, self._idle = [*self._idle, *self._busy], []
        for process in everyone:
            await process.kill()

    async def _told(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not self._path.is_file():
            raise StoreError(f"there is no store at {self.label}", hint="name another with --store; a run makes one")
        process = self._idle.pop() if self._idle else await _Process.started(self._path, self._caps)
        self._busy.add(process)
        try:
            told = await process.told(asked, self._caps)
        except BaseException:
            # Whoever is cancelled does not leave it running; it is a signal, so there is nothing long to be waited for.
            await asyncio.shield(process.kill())
            raise
        finally:
            self._busy.discard(process)
        self._idle.append(process)
        if "error" in told:
            raise _refusal(told)
        return told


class _Process:
    """One process that answers, a line for a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def started(cls, path: Path, caps: Caps) -> _Process:
        """A process that has opened the file."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fanfold.mcp.doors.sqlite_process", str(path), json.dumps(asdict(caps))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Bytes may become twelve times as many as JSON: a NUL is written as \\u0000.
            limit=16 * caps.bytes + 1024 * 1024,
            env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONPATH": _code()},
        )
        started = cls(process)
        try:
            if await asyncio.wait_for(started._line(), START) is None:
                raise StoreError(
                    "the process that reads the store ended before it began", hint="is the store readable?"
                )
        except BaseException:
            await asyncio.shield(started.kill())
            raise
        return started

    async def told(self, asked: dict[str, Any], caps: Caps) -> dict[str, Any]:
        """What it answers. Raises `QueryRefusedError` when that is late, or when it ended instead."""
        assert self._process.stdin is not None, "it is a pipe"
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended; its last line says so
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._line(), caps.seconds + GRACE)
        except TimeoutError:
            raise QueryRefusedError(
                f"the statement took longer than {caps.seconds:g} s, and its process was killed", wall="cap"
            ) from None
        if line is None:
            raise QueryRefusedError("the statement needed more memory than it may", wall="cap")
        told: dict[str, Any] = json.loads(line)
        return told

    async def kill(self) -> None:
        """End it, whatever it does, and let its pipes go."""
        with suppress(ProcessLookupError):
            self._process.kill()
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.close()
        await self._process.wait()

    async def _line(self) -> bytes | None:
        assert self._process.stdout is not None, "it is a pipe"
        line = await self._process.stdout.readline()
        return line or None


def _code() -> str:
    """Where this package is, so that the other process has the same."""
    return str(Path(__file__).parents[3])


def _refusal(told: dict[str, Any]) -> QueryError:
    if told["wall"]:
        return QueryRefusedError(told["error"], wall=told["wall"], hint=told["hint"])
    return QueryError(told["error"], hint=told["hint"])
