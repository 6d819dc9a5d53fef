"""Who may speak to the server over HTTP, and the serving itself.

Whoever has the token may call every tool, so it is asked of every request, whatever its method and path. The name in
`Host` has to be one that the server goes by, and the page in `Origin`, if a browser sends one, has to be allowed: else
any page that somebody looks at could speak to a server on their own machine, by a name that its owner lets point there.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import os
import secrets
import socket
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fanfold.errors import UsageError

PORT: Final = 8765
PATH: Final = "/mcp"
TOKEN: Final = "FANFOLD_MCP_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST: Final = 16
"""Characters of a token that somebody else has made."""
IDLE: Final = 10 * 60.0
"""Seconds after which a session that nobody uses is forgotten."""
SESSION: Final = b"mcp-session-id"
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - it is only compared
HTTP: Final = 80
"""The port that clients leave out."""


class Guard:
    """Lets those requests through that have the token, and come by a name and from a page that are allowed."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(scope["headers"])) is not None:
            await _refuse(send, *refusal)
        elif scope["type"] in ("http", "lifespan"):
            await self._app(scope, receive, send)

    def _refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """The status and the reason of a request that is not let through."""
        given: dict[bytes, list[str]] = {}
        for name, value in headers:
            given.setdefault(name.lower(), []).append(value.decode("latin-1"))
        if len(hosts := given.get(b"host", [])) != 1 or hosts[0].lower() not in self._hosts:
            return 421, "this server does not go by that name"
        if any(origin not in self._origins for origin in given.get(b"origin", [])):
            return 403, "pages from there may not use this server"
        if len(tokens := given.get(b"authorization", [])) != 1 or not self._fits(tokens[0]):
            return 401, "the token is missing, or another one"
        return None

    def _fits(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)


class Leaving:
    """Ends what a request waits for when its client has gone: that is how a call is cancelled by clients since 2026.

    The SDK does so where an answer is a stream. Those of earlier versions have a session, which goes on without one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, until it is answered or nobody is there any more."""
        if scope["type"] != "http" or scope["method"] != "POST" or any(name == SESSION for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        asked, answered = asyncio.Event(), False

        async def heard() -> Message:
            if asked.is_set():
                await asyncio.shield(leaving)
                return {"type": "http.disconnect"}
            message = await receive()
            if not message.get("more_body"):
                asked.set()
            return message

        async def told(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def left() -> None:
            await asked.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        leaving, answering = asyncio.create_task(left()), asyncio.ensure_future(self._app(scope, heard, told))
        try:
            await asyncio.wait([leaving, answering], return_when=asyncio.FIRST_COMPLETED)
            if answered or answering.done():  # then there is nobody to be heard from, either
                await answering
        finally:
            leaving.cancel()
            answering.cancel()
            await asyncio.wait([leaving, answering])


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fanfold"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def token_from(file: str | None) -> tuple[str, bool]:
    """The token, and whether it is a new one: of the file, of the environment, else made here.

    Raises `UsageError` for a file that others can read, and for a token that is easily guessed.
    """
    if file is None and not os.environ.get(TOKEN):
        return secrets.token_urlsafe(32), True
    token = os.environ[TOKEN] if file is None else _read(Path(file))
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"the token has to be at least {SHORTEST} characters without spaces",
            hint="leave it out, and a new one is made and printed",
        )
    return token, False


def _read(path: Path) -> str:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise UsageError(f"the token in {str(path)!r} can be read by others", hint=f"chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"cannot read the token file {str(path)!r}: {error.strerror}") from error


def names(host: str, port: int, more: Iterable[str]) -> list[str]:
    """What may stand in `Host`: the address, every name of this machine if that is how it is reached, and `more`.

    Those are taken as they are, too: clients leave the port of their scheme out, and a proxy's is not ours.
    """
    own = (*LOOPBACK, *((host,) if host not in LOOPBACK else ())) if host in (*LOOPBACK, *EVERYWHERE) else (host,)
    added = [name.lower() for name in more]
    known = [_bracketed(name) for name in (*own, *added)]
    return [f"{name}:{port}" for name in known] + added + (known if port == HTTP else [])


def _bracketed(name: str) -> str:
    """An address of IPv6 as it stands before a port."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `UsageError` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {host}, port {port}: {error.strerror}", hint="name another --port"
        ) from error
    # Connections have it from here. Else the end of an answer waits for the client to say that it has the beginning,
    # which takes 40 ms: asyncio sets it only where it has made the socket itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def app(
    made: MCPServer[Any], token: str, hosts: Collection[str], origins: Collection[str], *, progress: bool = True
) -> ASGIApp:
    """The server as an application, behind its guard. Without `progress`, an answer is one body and not a stream."""
    # The guard has looked at both headers, for every path; the SDK would look once more, at fewer requests.
    inner: ASGIApp = made.streamable_http_app(
        streamable_http_path=PATH,
        session_idle_timeout=IDLE,
        json_response=not progress,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    inner = inner if progress else Leaving(inner)
    pages = [origin.lower().rstrip("/") for origin in origins]
    guarded = Guard(inner, token, hosts, pages)
    if not pages:
        return guarded
    # A browser asks first whether the page may send the token, and tells the page only of headers that it may see.
    methods, seen = ["GET", "POST", "DELETE"], ["Mcp-Session-Id", "WWW-Authenticate"]
    return CORSMiddleware(guarded, pages, allow_methods=methods, allow_headers=["*"], expose_headers=seen)


class _Server(uvicorn.Server):
    """One that leaves signals to the command."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # theirs is a generator's
        """Capture none."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        self.ready.set()

    ready: asyncio.Event


SWITCH: Final = 0.0005
"""Seconds after which a thread that computes lets others go on."""


def make_prompt() -> None:
    """Let this process, which does nothing but serve, answer without long pauses: measured, it halves the slowest 1 %.

    Python's collector looks at all that was imported again and again, and nothing of that is ever garbage. And a thread
    that has read something from the store waits for as long as the event loop computes, by default for 5 ms each time.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH)


async def serve(application: ASGIApp, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until it is cancelled. `ready` is called when requests are answered."""
    config = uvicorn.Config(
        application, ws="none", log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    running = _Server(config)
    running.ready = asyncio.Event()
    serving = asyncio.create_task(running.serve(sockets=[listener]))
    starting = asyncio.create_task(running.ready.wait())
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            ready()
        await asyncio.shield(serving)
    finally:
        starting.cancel()
        running.should_exit = True
        await asyncio.wait([serving])
