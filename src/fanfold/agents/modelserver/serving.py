"""The HTTP side of the model server: the routes, one call from its first to its last byte, and the thread it is in.

This is the only module that needs Starlette and uvicorn; it is imported when a server starts. Uvicorn's `Server` is
left out on purpose: it installs signal handlers, logs, and wakes ten times a second. What is needed of uvicorn is
its HTTP/1.1 protocol, on a socket that we bound ourselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from fanfold.agents.modelserver import anthropic, chat, responses
from fanfold.agents.modelserver.journal import Call, Journal
from fanfold.agents.modelserver.rehearsal import rehearse
from fanfold.agents.modelserver.rendezvous import Rendezvous
from fanfold.agents.modelserver.script import Scripts, perform
from fanfold.agents.modelserver.values import (
    Answer,
    CutStream,
    Fail,
    Message,
    Reply,
    Request,
    Stall,
    estimate,
    message,
)
from fanfold.agents.modelserver.wire import Wire
from fanfold.errors import UsageError

Part: TypeAlias = dict[str, Any]
"""An ASGI message: the head of a response, or a part of its body."""

_KEYS = ("authorization", "x-api-key")
_MODEL = "rehearsal"  # the one that /v1/models lists; a call may name any

# An answer that ends in the middle is wanted here; uvicorn would log each one as an error, on the terminal. An
# exception that nobody expected is still shown.
_quiet = logging.getLogger("fanfold.modelserver")
_quiet.setLevel(logging.ERROR)
_quiet.addFilter(lambda record: bool(record.exc_info))


@dataclass(slots=True)
class Desk:
    """What the calls of one server share."""

    journal: Journal
    scripts: Scripts
    latency: float
    required_key: str | None = field(repr=False)
    at_once: int | None = None
    gate: Rendezvous | None = None
    unknown: dict[str, str] = field(default_factory=dict)  # system prompt -> the name we gave
    places: asyncio.Semaphore | None = field(init=False)

    def __post_init__(self) -> None:
        self.places = None if self.at_once is None else asyncio.Semaphore(self.at_once)

    @asynccontextmanager
    async def serving(self, call: Call) -> AsyncIterator[None]:
        """Within this, the call is served; before, it may have to wait until others have been."""
        if self.places is None:
            yield
            return
        async with self.places:
            self.journal.taken_up(call)
            yield

    def admit(self, headers: Mapping[str, str]) -> None:
        """Refuse a call that has another key than the one required."""
        if self.required_key is None:
            return
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self.required_key.encode()):
            raise _Refused(Fail(401, "the key of this call is not the one that this server requires"))

    def named(self, request: Request, headers: Mapping[str, str]) -> Request:
        """The request with its agent and task."""
        agent = headers.get("x-fanfold-agent") or self.scripts.named(request.system, request.model)
        if not agent:
            agent = self.unknown.setdefault(request.system, f"unknown-{len(self.unknown) + 1}")
        said = {name.lower(): value for name, value in headers.items() if name.lower() not in _KEYS}
        return replace(request, agent=agent, task=headers.get("x-fanfold-task", ""), headers=said)

    async def reply(self, request: Request) -> Reply:
        """What is answered, once all waiting is over."""
        if self.gate:
            await self.gate.wait((request.agent, request.task))
        step = self.scripts.take(request.agent)
        said = await perform(rehearse if step is None else step, request)
        await asyncio.sleep(self.latency + (said.latency if isinstance(said, Answer) else 0.0))
        return said


class _Refused(Exception):  # noqa: N818  # it is a decision on the way to a response, and never leaves this module
    def __init__(self, fail: Fail) -> None:
        super().__init__(fail.message)
        self.fail = fail


class Endpoint:
    """The ASGI application of one protocol."""

    def __init__(self, wire: Wire, desk: Desk) -> None:
        self._wire = wire
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        try:
            raw = await http.body()
        except ClientDisconnect:
            return  # nobody is there to be answered, and nothing was asked yet
        await _while_connected(self._serve(http, raw, send), receive)

    async def _serve(self, http: HttpRequest, raw: bytes, send: Send) -> None:
        try:
            request = self._read(http, raw)
        except _Refused as refused:
            await self._refuse(http, refused.fail, send)
            return
        call = self._desk.journal.begin(request)
        try:
            async with self._desk.serving(call):
                await self._answer(request, call, await self._desk.reply(request), send)
        finally:
            self._desk.journal.left(call)

    def _read(self, http: HttpRequest, raw: bytes) -> Request:
        self._desk.admit(http.headers)
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise _Refused(Fail(400, f"the body is not valid JSON: {error}")) from error
        if not isinstance(body, dict):
            raise _Refused(Fail(400, "the body must be a JSON object"))
        try:
            return self._desk.named(self._wire.read(body), http.headers)
        except UsageError as error:
            raise _Refused(Fail(400, str(error))) from error

    async def _refuse(self, http: HttpRequest, fail: Fail, send: Send) -> None:
        """A call that could not be understood is in the journal too, with what its headers say."""
        agent, task = http.headers.get("x-fanfold-agent", ""), http.headers.get("x-fanfold-task", "")
        call = self._desk.journal.begin(Request(self._wire.NAME, agent=agent, task=task))
        await self._fail(call, fail, send)

    async def _answer(self, request: Request, call: Call, reply: Reply, send: Send) -> None:
        if isinstance(reply, Fail):
            if reply.after is None or not request.stream:
                await self._fail(call, reply, send)
            else:
                await self._break(request, call, reply, send)
            return
        if isinstance(reply, Answer):
            said = message(request, reply, call.no)
        else:
            said = message(request, Answer(reply.after), call.no, complete=False)
        try:
            start, chunks = self._chunks(request, said)
        except (TypeError, ValueError) as error:
            text = f"the answer for agent {call.agent!r} has no JSON form: {error}"
            await self._fail(call, Fail(500, text, retry=False), send)
            return
        if isinstance(reply, Stall):
            await _stall(request, start, chunks, send)
        broken = isinstance(reply, CutStream) and not (reply.politely and request.stream)
        await self._say(call, said, [start, *map(_body, chunks)], send, broken=broken)

    async def _break(self, request: Request, call: Call, fail: Fail, send: Send) -> None:
        """Begin an answer, and have an error in the place of its end."""
        fail = _worded(fail)
        start, chunks = self._chunks(request, message(request, Answer(fail.after or ""), call.no, complete=False))
        for part in (start, *map(_body, chunks)):
            await send(part)
        self._desk.journal.failed(call, fail.status, fail.message)
        await send({**_body(self._wire.broken(fail, call.no)), "more_body": False})

    async def _say(self, call: Call, said: Message, parts: list[Part], send: Send, *, broken: bool) -> None:
        *before, last = parts
        for part in before:
            await send(part)
            await asyncio.sleep(0)  # nothing in `send` waits, and a client that has gone is to be noticed
        # Before the last byte: whoever has the answer finds it in the journal, and is in flight no more.
        self._desk.journal.answered(call, said)
        await send({**last, "more_body": broken})

    async def _fail(self, call: Call, fail: Fail, send: Send) -> None:
        fail = _worded(fail)
        body = json.dumps(self._wire.error(fail, call.no)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if fail.retry_after is not None:
            headers.append((b"retry-after", f"{fail.retry_after:g}".encode()))
        if fail.retry is not None:
            headers.append((b"x-should-retry", b"true" if fail.retry else b"false"))
        self._desk.journal.failed(call, fail.status, fail.message)
        await send({"type": "http.response.start", "status": fail.status, "headers": headers})
        await send({**_body(body), "more_body": False})

    def _chunks(self, request: Request, said: Message) -> tuple[Part, list[bytes]]:
        """The head of the response and its body in parts. A cut answer has a head that promises more."""
        if request.stream:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            chunks = list(self._wire.events(request, said))
        else:
            body = json.dumps(self._wire.whole(request, said), ensure_ascii=False).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            chunks = [body if said.complete else body[: len(body) // 2]]
        return {"type": "http.response.start", "status": 200, "headers": headers}, chunks


def application(desk: Desk) -> Starlette:
    """All routes of the server."""

    async def models(_: HttpRequest) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_model(_MODEL)], "has_more": False})

    async def one_model(http: HttpRequest) -> JSONResponse:
        return JSONResponse(_model(http.path_params["name"]))

    async def count_tokens(http: HttpRequest) -> JSONResponse:
        request = anthropic.read({"max_tokens": 1, **await http.json()})
        return JSONResponse({"input_tokens": estimate(request, Answer())[0]})

    async def lost(http: HttpRequest, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 400
        text = f"{http.method} {http.url.path}: {error}"
        wire: Wire = anthropic if "anthropic-version" in http.headers else chat
        return JSONResponse(wire.error(Fail(status, text), 0), status_code=status)

    routes = [
        Route("/v1/messages", Endpoint(anthropic, desk), methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        Route("/v1/chat/completions", Endpoint(chat, desk), methods=["POST"]),
        Route("/v1/responses", Endpoint(responses, desk), methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", one_model),
    ]
    handlers: Any = {HTTPException: lost, UsageError: lost, ValueError: lost}
    return Starlette(routes=routes, exception_handlers=handlers)


@asynccontextmanager
async def listening(app: Starlette, sock: socket.socket) -> AsyncIterator[None]:
    """Serve the application on the socket; at the end break what is still connected, and wait for its calls."""
    config = Config(
        app,
        lifespan="off",
        ws="none",
        http=_Connection,
        log_config=None,
        proxy_headers=False,
        workers=1,  # given here, as these two are otherwise read from the environment
        forwarded_allow_ips="127.0.0.1",
        timeout_keep_alive=75,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(config, state, {}, loop), sock=sock)
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks)
        await server.wait_closed()


class _Connection(H11Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet
        self.access_log = False


async def _while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do the work, and drop it as soon as the client has gone."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        watching = group.create_task(_cancel_when_gone(working, receive))
        working.add_done_callback(lambda _: watching.cancel())


async def _cancel_when_gone(working: asyncio.Task[None], receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    working.cancel()


def _worded(fail: Fail) -> Fail:
    return replace(fail, message=fail.message or f"the script answers with status {fail.status}")


def _body(chunk: bytes) -> Part:
    return {"type": "http.response.body", "body": chunk, "more_body": True}


async def _stall(request: Request, start: Part, chunks: list[bytes], send: Send) -> NoReturn:
    """Say what there is to say, if it is streamed, and then nothing until the client or the server goes."""
    if request.stream:
        await send(start)
        for chunk in chunks:
            await send(_body(chunk))
    while True:
        await asyncio.Event().wait()


def _model(name: str) -> dict[str, Any]:
    """In the shape of both vendors at once; each reads the fields that it knows."""
    return {
        "id": name,
        "type": "model",
        "object": "model",
        "display_name": name,
        "created": 0,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": "fanfold",
    }
