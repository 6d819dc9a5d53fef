"""MCP servers as tools of an agent: programs that speak over their standard streams, and servers at a URL.

A program runs under the launcher (`agents/processes`), like an agent that is one: it sees little of our environment
besides what its entry gives it, and nothing of it is left when the agent has ended. A tool `t` of server `s` is called
`mcp__s__t`. An agent's servers are connected to before its model is asked: one that is not there is an error that names
it, and costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import anyio
from fastmcp.client.transports import ClientTransport, SSETransport, StreamableHttpTransport
from fastmcp.client.transports.base import TransportOptions
from httpx2 import TransportError
from mcp import ClientSession
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.toolsets import AbstractToolset, WrapperToolset

from fanfold.agents import sizes
from fanfold.agents.backends.base import Call
from fanfold.agents.causes import raise_from
from fanfold.agents.processes import PASSED_ON, Program
from fanfold.agents.servers import plain
from fanfold.agents.tools import permits
from fanfold.errors import AgentError

SECONDS_TO_START: Final = 30.0
_SHORTEST_SECRET: Final = 6


class Standard(ClientTransport):
    """The standard streams of a program, which is started for the connection and ended with it."""

    legacy_only = False

    def __init__(self, call: Call, entry: Mapping[str, Any]) -> None:
        self._call = call
        self._words = sizes.words_of(entry)
        self._environment = {"FANFOLD_TASK": call.task, "FANFOLD_AGENT": call.definition.name, **entry["env"]}
        self.complaints = ""
        self.code: int | None = None

    @asynccontextmanager
    async def connect_session(
        self, *, transport_options: TransportOptions | None = None, **session_kwargs: Any
    ) -> AsyncGenerator[ClientSession, None]:
        """A session with the program."""
        options = transport_options or TransportOptions()
        heard, hearing = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        saying, said = anyio.create_memory_object_stream[SessionMessage](0)
        program = Program(self._words, self._call.workspace.root, self._environment)
        async with self._measured(program):
            reading = asyncio.ensure_future(self._read(program, heard))
            writing = asyncio.ensure_future(_write(program, said))
            try:
                async with options.session_class(hearing, saying, **session_kwargs) as session:
                    yield session
            finally:
                reading.cancel()
                writing.cancel()
                await asyncio.gather(reading, writing, return_exceptions=True)
                for stream in (heard, hearing, saying, said):
                    stream.close()

    @asynccontextmanager
    async def _measured(self, program: Program) -> AsyncIterator[None]:
        """Around the program's life: what it held is remembered, for those who need room for it later."""
        try:
            async with program:
                yield
        finally:
            sizes.seen(self._words, program.peak)

    async def _read(self, program: Program, heard: Any) -> None:
        stream = program.process.stdout
        assert stream is not None, "it is a pipe"
        async with heard:
            while line := await stream.readline():
                if line.strip():
                    await heard.send(_message(line))
            self.code = await program.ended()
            self.complaints = await program.complaints()


async def _write(program: Program, said: Any) -> None:
    stream = program.process.stdin
    assert stream is not None, "it is a pipe"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # that it is gone, its other stream says
        async for message in said:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            stream.write(f"{text}\n".encode())
            await stream.drain()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


@asynccontextmanager
async def connected(call: Call) -> AsyncIterator[list[AbstractToolset[Call]]]:
    """The tools of the servers that a call may use, as far as its definition permits them."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.TaskGroup() as group:
                opening = [group.create_task(_opened(call, name, entry, stack)) for name, entry in call.servers.items()]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        yield [task.result() for task in opening]


async def _opened(call: Call, name: str, entry: Mapping[str, Any], stack: AsyncExitStack) -> AbstractToolset[Call]:
    """The tools of one server, to which the stack closes the connection."""
    transport = _transport(call, entry)
    toolset: MCPToolset[Call] = MCPToolset(transport, init_timeout=SECONDS_TO_START, tool_error_behavior="failed")
    with _named(call, name, entry, transport):
        await toolset.__aenter__()
    stack.push_async_exit(toolset)
    return _permitted(call, _Watched(toolset, call, name, entry, transport).prefixed(f"mcp__{plain(name)}_"))


@dataclass
class _Watched(WrapperToolset[Call]):
    """The tools of a server. That the server is gone is an error of the agent's, and not of one tool."""

    call: Call
    name: str
    entry: Mapping[str, Any]
    transport: ClientTransport

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: RunContext[Call], tool: Any) -> Any:
        """What the tool returns."""
        try:
            with self.call.desk.using(f"mcp__{plain(self.name)}__{name}"):
                return await super().call_tool(name, tool_args, ctx, tool)
        except Exception as error:
            ended = isinstance(self.transport, Standard) and self.transport.code is not None
            if ended or isinstance(error, TransportError):
                ending = _masked(_ending(self.transport, error), self.entry)
                lost = AgentError(
                    f"agent {self.call.definition.name!r}: MCP server {self.name!r} {ending}",
                    hint=f"that was in the middle of its tool {name!r}",
                )
                raise_from(lost, error, partial(_masked, entry=self.entry))
            raise


def _transport(call: Call, entry: Mapping[str, Any]) -> ClientTransport:
    if entry["type"] == "stdio":
        return Standard(call, entry)
    make = SSETransport if entry["type"] == "sse" else StreamableHttpTransport
    return make(entry["url"], headers=dict(entry["headers"]))


def _permitted(call: Call, toolset: AbstractToolset[Call]) -> AbstractToolset[Call]:
    tools, disallowed = call.definition.tools, call.definition.disallowed_tools

    def may(_: RunContext[Call], tool: ToolDefinition) -> bool:
        return permits(tools, disallowed, tool.name)

    return toolset.filtered(may)


@contextlib.contextmanager
def _named(call: Call, name: str, entry: Mapping[str, Any], transport: ClientTransport) -> Iterator[None]:
    """Around the connecting: an error names the server, and says what it said, without what it was given."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it is raised as one of ours
        what = entry["command"] if entry["type"] == "stdio" else urlsplit(entry["url"]).hostname
        text = f"MCP server {name!r} ({what}) {_ending(transport, error)}"
        failure = AgentError(
            f"agent {call.definition.name!r}: {_masked(text, entry)}",
            hint="does it run by itself? `.mcp.json` or the agent's file says how it is started",
        )
        raise_from(failure, error, partial(_masked, entry=entry))


def _masked(text: str, entry: Mapping[str, Any]) -> str:
    """The text without what the server was given: it may say that again when it complains."""
    for given in sorted(_given(entry), key=len, reverse=True):
        text = text.replace(given, "***") if len(given) >= _SHORTEST_SECRET else text
    return text


def _given(entry: Mapping[str, Any]) -> Iterator[str]:
    """What may be secret of an entry: environment, headers, what is in its URL, and variables in its arguments."""
    yield from (*entry.get("env", {}).values(), *entry.get("headers", {}).values())
    url = urlsplit(entry.get("url", ""))
    yield from (url.password or "", url.query, *(value for _, value in parse_qsl(url.query)))
    for name, value in os.environ.items():
        if value and name not in PASSED_ON and any(value in word for word in entry.get("args", ())):
            yield value


def _ending(transport: ClientTransport, error: Exception) -> str:
    code = transport.code if isinstance(transport, Standard) else None
    if not isinstance(transport, Standard) or code is None:
        return f"cannot be reached: {error}"
    lines = [line for line in transport.complaints.splitlines() if line.strip()]
    ended = "could not be run" if code == 127 else f"ended with code {code}"
    return ended + (f"; it said: {lines[-1].strip():.500}" if lines else "")
