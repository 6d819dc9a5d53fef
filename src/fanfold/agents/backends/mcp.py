"""MCP servers as tools of an agent: programs that speak over their standard streams, and servers at a URL.

A program runs under the launcher (`agents/processes`), like an agent that is one: it sees little of our environment
besides what its entry gives it, and nothing of it is left when the agent has ended. A tool `t` of server `s` is called
`mcp__s__t`. An agent's servers are connected to before its model is asked: one that is not there is an error that names
it, and costs nothing. One that dies later is started anew, within bounds, and the call that it died of is not repeated.
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
import httpx2
from fastmcp.client.transports import ClientTransport, SSETransport, StreamableHttpTransport
from fastmcp.client.transports.base import TransportOptions
from httpx2 import TransportError
from mcp import ClientSession
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from fanfold.agents import sizes
from fanfold.agents.backends.base import Call
from fanfold.agents.causes import raise_from
from fanfold.agents.processes import PASSED_ON, Program
from fanfold.agents.servers import plain
from fanfold.agents.tools import permits
from fanfold.errors import AgentError

SECONDS_TO_START: Final = 30.0
RESTARTS: Final = 2
"""How often a server that has died is started anew in one conversation of an agent, or its session opened anew."""

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
    """The tools of one server, the connections to which the stack closes."""
    connection = await _connect(call, name, entry, stack)
    watched = _Watched(call, name, entry, stack, connection)
    return _permitted(call, watched.prefixed(f"mcp__{plain(name)}_"))


@dataclass(eq=False)
class _Connection:
    """One connection to a server, until it is `lost`: the words say how."""

    toolset: MCPToolset[Call]
    transport: ClientTransport
    dropped: list[str]
    lost: str | None = None
    _closing: asyncio.Future[Any] | None = None

    def ending(self, error: Exception | None = None) -> str | None:
        """How it was lost, if it was: the program has ended, or the server is out of reach or knows us no more."""
        ended = isinstance(self.transport, Standard) and self.transport.code is not None
        if self.lost is None and (ended or isinstance(error, TransportError)):
            self.lost = _ending(self.transport, error)
        if self.lost is None and self.dropped:
            self.lost = self.dropped[0]
        return self.lost

    async def close(self) -> None:
        """Close it, once: whoever asks again waits for the same. It is closed even where nobody waits any more."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self.toolset.__aexit__()
        except Exception:
            if self.ending() is None:  # of one that is lost it was told already
                raise


async def _connect(call: Call, name: str, entry: Mapping[str, Any], stack: AsyncExitStack) -> _Connection:
    """A new connection to a server, which the stack closes at the latest."""
    dropped: list[str] = []
    transport = _transport(call, entry, dropped)
    toolset: MCPToolset[Call] = MCPToolset(transport, init_timeout=SECONDS_TO_START, tool_error_behavior="failed")
    with _named(call, name, entry, transport):
        await toolset.__aenter__()
    connection = _Connection(toolset, transport, dropped)
    stack.push_async_callback(connection.close)
    return connection


class _Watched(AbstractToolset[Call]):
    """The tools of a server, which is started anew when it has died, or its session opened anew, a few times.

    A call that was under way is not made again, as it may have had effects: its model is told. The connection is the
    agent's, and not that of whoever enters and leaves the toolset.
    """

    def __init__(
        self, call: Call, name: str, entry: Mapping[str, Any], stack: AsyncExitStack, connection: _Connection
    ) -> None:
        self._call = call
        self._name = name
        self._entry = entry
        self._stack = stack
        self._connection = connection
        self._turn = asyncio.Lock()
        self._restarts = 0
        self._tools: dict[str, ToolsetTool[Call]] = {}

    @property
    def id(self) -> None:
        """It has none: it lives no longer than the conversation."""

    async def get_tools(self, ctx: RunContext[Call]) -> dict[str, ToolsetTool[Call]]:
        """The tools that the server has, or had when it was last asked."""
        connection = self._connection
        try:
            self._tools = await connection.toolset.get_tools(ctx)
        except Exception as error:
            lost = connection.ending(error)
            if lost is None:
                raise
            if not self._tools:
                raise_from(self._gone(lost, "that was when it was asked for its tools"), error, self._masked)
        return self._tools

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: RunContext[Call], tool: Any) -> Any:
        """What the tool returns."""
        connection = await self._alive()
        try:
            with self._call.desk.using(f"mcp__{plain(self._name)}__{name}"):
                return await connection.toolset.call_tool(name, tool_args, ctx, tool)
        except Exception as error:
            lost = connection.ending(error)
            if lost is None:
                raise
            failure: Exception = self._gone(lost, f"that was in the middle of its tool {name!r}")
            if self._restarts < RESTARTS or connection is not self._connection:
                failure = ToolFailed(
                    f"MCP server {self._name!r} {self._masked(lost)}. That was in the middle of this call, which may "
                    "or may not have been carried out, and is not repeated by itself."
                )
            raise_from(failure, error, self._masked)

    async def _alive(self) -> _Connection:
        """The connection, or a new one in the place of one that is lost. Several calls have one made together."""
        async with self._turn:
            lost = self._connection.ending()
            if lost is not None:
                await self._anew(lost)
            return self._connection

    async def _anew(self, lost: str) -> None:
        if self._restarts == RESTARTS:
            raise self._gone(lost, f"it was started anew {RESTARTS} times, which is the most")
        self._restarts += 1
        again = f"{self._restarts} of at most {RESTARTS} times"
        self._call.desk.notice(f"{self._who()} {self._masked(lost)}; it is connected to anew, {again}")
        await self._connection.close()  # before the other one starts: there is room for one of them
        self._connection = await _connect(self._call, self._name, self._entry, self._stack)

    def _gone(self, lost: str, hint: str) -> AgentError:
        return AgentError(f"{self._who()} {self._masked(lost)}", hint=hint)

    def _who(self) -> str:
        return f"agent {self._call.definition.name!r}: MCP server {self._name!r}"

    def _masked(self, text: str) -> str:
        return _masked(text, self._entry)


def _transport(call: Call, entry: Mapping[str, Any], dropped: list[str]) -> ClientTransport:
    if entry["type"] == "stdio":
        return Standard(call, entry)
    if entry["type"] == "sse":
        return SSETransport(entry["url"], headers=dict(entry["headers"]))

    async def look(response: httpx2.Response) -> None:
        # By the protocol, 404 to a request of a session says that the session is no more.
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            dropped.append("has dropped its session")

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
        **_: Any,  # redirects: the transport follows them itself, within the server's origin
    ) -> httpx2.AsyncClient:
        made = create_mcp_http_client(headers, timeout, auth)
        made.event_hooks["response"].append(look)
        send = made.send

        async def sent(*given: Any, **how: Any) -> httpx2.Response:
            try:
                return await send(*given, **how)
            except TransportError as error:  # whoever called is told no more than that something was closed
                dropped.append(f"cannot be reached: {error}")
                raise

        made.send = sent  # type: ignore[method-assign]  # a client has no hook for what has no response
        return made

    return StreamableHttpTransport(entry["url"], headers=dict(entry["headers"]), httpx_client_factory=client)


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


def _ending(transport: ClientTransport, error: Exception | None) -> str:
    code = transport.code if isinstance(transport, Standard) else None
    if not isinstance(transport, Standard) or code is None:
        return f"cannot be reached: {error}"
    lines = [line for line in transport.complaints.splitlines() if line.strip()]
    ended = "could not be run" if code == 127 else f"ended with code {code}"
    return ended + (f"; it said: {lines[-1].strip():.500}" if lines else "")
