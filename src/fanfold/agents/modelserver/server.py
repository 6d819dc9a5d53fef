"""`ModelServer`: a model for tests and rehearsals, over real HTTP on the loopback address.

It runs in a thread with an event loop of its own, so that it serves sync and async code, and other processes, alike.
Nothing of the outside world is touched: the port is chosen by the system, and no environment variable is read.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fanfold.agents.modelserver.journal import Call, Journal
from fanfold.agents.modelserver.rendezvous import Rendezvous
from fanfold.agents.modelserver.script import Scripts, Step
from fanfold.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from fanfold.agents.modelserver.serving import Desk

_LONGEST_START = 10.0  # seconds; it takes some hundredths of one


class ModelServer:
    """A model server on the loopback address, from `with` (or `start`) to its end (or `close`).

    ::

        with ModelServer() as server:  # no script: the rehearsal model answers
            server.script("critic", ["too long", Fail(429, retry_after=1), ToolUse("read", {"path": "a.py"})])
            client = Anthropic(base_url=server.url, api_key="any")

    Whose a call is, its header `x-fanfold-agent` says; without it the name of a scripted agent that occurs in the
    system prompt; else it is "unknown-N", one N for each system prompt. `latency` seconds are added to each call.
    With `journal_path` the journal is a file too, for other processes. With `required_key` other keys are refused.
    With `at_once`, no more calls than that are served at once, as small servers do: others wait in its queue.
    """

    def __init__(
        self,
        *,
        latency: float = 0.0,
        journal_path: Path | None = None,
        required_key: str | None = None,
        at_once: int | None = None,
    ) -> None:
        if latency < 0:
            raise UsageError(f"a latency of {latency} seconds is not possible; it must be 0 or more")
        if at_once is not None and at_once < 1:
            raise UsageError(f"a server that serves {at_once} calls at once would answer none; it must be 1 or more")
        self._latency = latency
        self._at_once = at_once
        self._required_key = required_key
        self._journal = Journal(journal_path)
        self._scripts = Scripts()
        self._desk: Desk | None = None
        self._socket: socket.socket | None = None
        self._port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<ModelServer {self.url if self._socket else 'not started'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen. Returns when the server can be called."""
        if self._thread:
            raise UsageError("this model server has been started before; make a new one")
        try:
            from fanfold.agents.modelserver.serving import Desk
        except ImportError as error:
            raise MissingExtraError(
                f"a model server needs Starlette and uvicorn, and {error.name!r} is not installed",
                hint="pip install 'fanfold[llm]'",
            ) from error
        self._journal.open()
        self._desk = Desk(self._journal, self._scripts, self._latency, self._required_key, self._at_once)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._port = self._socket.getsockname()[1]
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fanfold-model-server", daemon=True)
        self._thread.start()
        ready.result(_LONGEST_START)

    def close(self) -> None:
        """Break what is still connected and end the thread. The journal can be read further; again does nothing."""
        if self._loop and self._stop and self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._journal.close()

    @property
    def url(self) -> str:
        """The base URL for Anthropic's protocol."""
        if self._socket is None:
            raise UsageError("this model server has no address yet; use it in a `with` statement, or start() it")
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's two protocols."""
        return f"{self.url}/v1"

    @property
    def journal(self) -> list[Call]:
        """Every call up to now, the open ones too, in the order in which they began."""
        return self._journal.calls

    @property
    def in_flight(self) -> int:
        """How many agents wait for an answer now. An agent with two calls is one; two tasks of it are two."""
        return self._journal.in_flight

    @property
    def peak(self) -> int:
        """The most that `in_flight` has been."""
        return self._journal.peak

    @property
    def unused(self) -> dict[str, int]:
        """How many answers of each script nobody has asked for."""
        return self._scripts.unused()

    def script(self, agent: str, answers: Step | Iterable[Step]) -> None:
        """Say what an agent is told, in order; `"*"` is any agent without a script of its own.

        A callable in place of the list answers every call. Called again for the same agent it adds to the end.
        """
        self._scripts.add(agent, answers)

    def rendezvous(self, agents: int, timeout: float = 5.0) -> Rendezvous:
        """From now on hold each call back until that many agents are in flight. Opens an earlier gate."""
        if self._desk is None or self._loop is None:
            raise UsageError("a rendezvous needs a server that runs; use it inside the `with` statement")
        gate, earlier = Rendezvous(agents, timeout), self._desk.gate
        self._desk.gate = gate
        if earlier:
            self._loop.call_soon_threadsafe(earlier.open)
        return gate

    def _run(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[None]) -> None:
        from fanfold.agents.modelserver.serving import application, listening

        assert self._desk is not None
        assert self._socket is not None
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with listening(application(self._desk), self._socket):
            ready.set_result(None)
            await self._stop.wait()
