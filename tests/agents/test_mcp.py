"""MCP servers as tools of an agent, over standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import pytest

from fanfold import START, AgentDefinition, StateGraph, Task
from fanfold.agents.causes import raise_from
from fanfold.errors import AgentError
from fanfold.events import Event, Noticed, ToolAnswered
from fanfold.receipt import receipt
from fanfold.receipt.causes import MCP, REMEDIES
from fanfold.testing import ModelServer, Request, ToolUse
from tests.agents.notes_server import TAKES
from tests.agents.programs import alive

SERVER = str(Path(__file__).with_name("notes_server.py"))
NOTES = {"command": sys.executable, "args": [SERVER, "stdio"], "env": {"NOTES_TOKEN": "wet ink"}}
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")
PATIENCE = 20.0


class State(TypedDict, total=False):
    out: list[Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@contextmanager
def listening(**environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of the notes' server, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, SERVER, "http", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **environment})
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening() as (url, _):
        yield url


def agent(entry: dict[str, Any] = NOTES, tools: tuple[str, ...] | None = ("mcp__notes",)) -> AgentDefinition:
    extra = {"mcpServers": [{"notes": entry}]}
    return AgentDefinition("worker", "Works.", "You are the worker.", tools=tools, extra=extra)


async def working(server: ModelServer, definition: AgentDefinition, on_event: Any = None) -> Any:
    async def node(state: State) -> State:
        return {"out": [(await Task(subagent_type="worker", prompt="Work.")).output]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    return await graph.ainvoke({"out": []}, agents=[definition], model=server, on_event=on_event)


def told(server: ModelServer) -> list[str]:
    """What the tools have returned, as the model is told."""
    return [result.text for turn in server.journal[-1].messages for result in turn.tool_results]


def uses(*names: str, **inputs: Any) -> list[str | ToolUse]:
    return [ToolUse(f"mcp__notes__{name}", inputs) for name in names]


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_two_tools_of_one_message_run_at_the_same_time(server: ModelServer, url: str, transport: str) -> None:
    entry = NOTES if transport == "stdio" else {"type": "http", "url": url}
    meeting = [ToolUse("mcp__notes__meet", {"name": name}) for name in ("Mo", "Bo")]
    server.script("worker", [[*meeting], "done"])
    assert asyncio.run(working(server, agent(entry))) == {"out": ["done"]}
    assert sorted(told(server)) == ["Bo was not alone", "Mo was not alone"]


@pytest.mark.timed
@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("tool", ["queue", "beside"])
def test_a_server_that_takes_one_call_at_a_time_is_told_with_a_remedy_and_no_other_one(
    server: ModelServer, url: str, transport: str, tool: str
) -> None:
    entry = NOTES if transport == "stdio" else {"type": "http", "url": url}
    calls: list[str | ToolUse] = [ToolUse(f"mcp__notes__{tool}", {"name": name}) for name in "abcd"]
    server.script("worker", [calls, "done"])
    events: list[Event] = []
    asyncio.run(working(server, agent(entry), events.append))
    answers = [event for event in events if isinstance(event, ToolAnswered)]
    assert [answer.tool for answer in answers] == [f"mcp__notes__{tool}"] * 4
    found = receipt(events)
    if tool == "beside":
        assert found.causes == ()
        return
    (cause,) = found.causes
    assert (cause.kind, cause.remedy) == (MCP, REMEDIES[MCP])
    assert cause.what.startswith("4 calls of 'mcp__notes__queue' that 'worker' made at once were answered one after")
    assert 2.5 * TAKES < cause.seconds < sum(answer.seconds for answer in answers)
    assert f"held back: {cause}" in found.lines()


def test_a_server_sees_little_of_our_environment_and_what_its_entry_gives_it(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    server.script("worker", [uses("environment"), "done"])
    asyncio.run(working(server, agent()))
    seen = json.loads(told(server)[0])
    assert "DATABASE_URL" not in seen
    assert (seen["NOTES_TOKEN"], seen["FANFOLD_AGENT"]) == ("wet ink", "worker")
    assert seen["FANFOLD_TASK"] == server.journal[0].task


@pytest.mark.parametrize(
    ("tools", "has"),
    [
        (("mcp__notes__meet", "Read"), ["read", "mcp__notes__meet"]),
        (("mcp__notes__f*",), ["mcp__notes__fail"]),
        (("Read",), ["read"]),
    ],
)
def test_an_agent_has_the_tools_of_a_server_that_its_file_names(
    server: ModelServer, url: str, tools: tuple[str, ...], has: list[str]
) -> None:
    server.script("worker", "done")
    asyncio.run(working(server, agent({"url": url}, tools=tools)))
    assert sorted(server.journal[0].tools) == sorted(has)


def test_an_agent_that_inherits_its_tools_has_all_of_its_servers(server: ModelServer, url: str) -> None:
    server.script("worker", "done")
    asyncio.run(working(server, agent({"url": url}, tools=None)))
    assert {f"mcp__notes__{name}" for name in ("meet", "environment", "fail", "leave", "spawn")} <= set(
        server.journal[0].tools
    )


def test_a_tool_that_fails_is_told_to_the_model_which_may_go_on(server: ModelServer, url: str) -> None:
    server.script("worker", [uses("fail"), "done"])
    assert asyncio.run(working(server, agent({"url": url}))) == {"out": ["done"]}
    assert "Error executing tool fail" in told(server)[0]


# A server that dies


def notices(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Noticed)]


def test_a_server_that_dies_is_started_anew_and_its_model_is_told_of_the_call_that_was_under_way(
    server: ModelServer,
) -> None:
    server.script("worker", [uses("leave"), uses("fail"), "done"])
    events: list[Event] = []
    assert asyncio.run(working(server, agent(), events.append)) == {"out": ["done"]}
    died, answered = told(server)
    assert json.loads(died)["error"] == (
        "MCP server 'notes' ended with code 5; it said: I was given ***. That was in the middle of this call, "
        "which may or may not have been carried out, and is not repeated by itself."
    )
    assert "Error executing tool fail" in answered
    (notice,) = notices(events)
    assert notice == (
        "agent 'worker': MCP server 'notes' ended with code 5; it said: I was given ***; "
        "it is connected to anew, 1 of at most 2 times"
    )


def test_a_server_that_dies_too_often_is_an_error_that_names_it(server: ModelServer) -> None:
    server.script("worker", [uses("leave"), uses("leave"), uses("leave"), "done"])
    words = r"agent 'worker': MCP server 'notes' ended with code 5; it said: I was given \*\*\*\n.*'leave'"
    events: list[Event] = []
    with pytest.raises(AgentError, match=words):
        asyncio.run(working(server, agent(), events.append))
    assert len(notices(events)) == 2
    assert len(server.journal) == 3


def test_calls_that_were_under_way_together_count_as_one_death(server: ModelServer) -> None:
    both = [*uses("meet", name="Mo"), *uses("meet_and_leave", name="Bo")]
    server.script("worker", [both, both, uses("fail"), "done"])
    events: list[Event] = []
    assert asyncio.run(working(server, agent(), events.append)) == {"out": ["done"]}
    assert ["MCP server 'notes' ended with code 5" in text for text in told(server)] == [True] * 4 + [False]
    assert len(notices(events)) == 2


class _Forgetful(BaseHTTPRequestHandler):
    """An MCP server with sessions, which it forgets when its tool is called for the second time in one of them."""

    sessions: ClassVar[dict[str, int]]
    calls: ClassVar[list[str]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        session, method = self.headers.get("mcp-session-id"), asked["method"]
        if method == "initialize":
            session = f"session-{len(self.sessions)}"
            self.sessions[session] = 0
        if session is None or (method == "tools/call" and self.sessions[session] == 1):
            self.send_error(404)
            return
        if "id" not in asked:
            self._answer(202, session, b"")
            return
        if method == "tools/call":
            self.sessions[session] += 1
            self.calls.append(session)
        self._answer(
            200, session, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": _RESULTS[method]}).encode()
        )

    def do_GET(self) -> None:
        self.send_error(405)

    def do_DELETE(self) -> None:
        self.send_error(405)

    def _answer(self, status: int, session: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("mcp-session-id", session), ("content-type", "application/json")):
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""


_RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "forgetful", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "note", "description": "Notes.", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [{"type": "text", "text": "noted"}]},
}


def test_a_server_that_dies_over_http_is_told_and_is_a_clear_error_when_it_is_needed_again(server: ModelServer) -> None:
    server.script("worker", [uses("leave"), uses("beside", name="me")])
    events: list[Event] = []
    with (
        listening(NOTES_TOKEN="a token") as (url, _),
        pytest.raises(AgentError, match=r"MCP server 'notes' .*cannot be"),
    ):
        asyncio.run(working(server, agent({"type": "http", "url": url}), events.append))
    assert "MCP server 'notes' cannot be reached" in told(server)[0]
    assert "may or may not have been carried out" in told(server)[0]
    assert len(notices(events)) == 1


def test_a_session_that_its_server_has_dropped_is_opened_anew_at_most_twice(server: ModelServer) -> None:
    class Handler(_Forgetful):
        sessions: ClassVar[dict[str, int]] = {}
        calls: ClassVar[list[str]] = []

    server.script("worker", [*([uses("note")] * 6), "done"])
    events: list[Event] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as forgetful:
        threading.Thread(target=forgetful.serve_forever).start()
        entry = {"type": "http", "url": f"http://127.0.0.1:{forgetful.server_port}/mcp"}
        with pytest.raises(AgentError, match=r"MCP server 'notes' has dropped its session\n.*'note'"):
            asyncio.run(working(server, agent(entry), events.append))
        forgetful.shutdown()
    assert Handler.calls == ["session-0", "session-1", "session-2"]
    assert ["has dropped its session" in text for text in told(server)] == [False, True, False, True, False]
    assert len(notices(events)) == 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"command": "no-such-notes"},
            r"MCP server 'notes' \(no-such-notes\) could not be run; it said: .*No such file",
        ),
        (
            {
                "command": sys.executable,
                "args": ["-c", "import sys; sys.exit('wet paper, wet ink')"],
                "env": {"A": "wet ink"},
            },
            r"MCP server 'notes' \(.*\) ended with code 1; it said: wet paper, \*\*\*",
        ),
        ({"url": "http://127.0.0.1:9/mcp"}, r"MCP server 'notes' \(127\.0\.0\.1\) cannot be reached"),
    ],
)
def test_a_server_that_is_not_there_is_an_error_that_names_it_before_any_model_is_asked(
    server: ModelServer, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentError, match=f"agent 'worker': {message}"):
        asyncio.run(working(server, agent(entry)))
    assert server.journal == []


class _Refusing(BaseHTTPRequestHandler):
    """Lets nobody in."""

    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""


def test_an_error_does_not_repeat_what_is_in_the_url_of_a_server(server: ModelServer) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever).start()
        entry = {"type": "sse", "url": f"http://127.0.0.1:{refusing.server_port}/sse?key=wet-ink"}
        with pytest.raises(AgentError, match="401 Unauthorized") as caught:
            asyncio.run(working(server, agent(entry)))
        refusing.shutdown()
    assert "wet-ink" not in "".join(traceback.format_exception(caught.value))


def test_an_error_has_what_it_comes_of_where_that_says_nothing_that_is_secret(server: ModelServer) -> None:
    entry = {"type": "http", "url": "http://127.0.0.1:9/mcp"}
    with pytest.raises(AgentError, match=r"MCP server 'notes' .* cannot be reached") as caught:
        asyncio.run(working(server, agent(entry)))
    assert caught.value.__cause__ is not None


def test_nothing_of_a_secret_is_left_in_what_an_error_can_be_asked_for() -> None:
    def failing() -> None:
        try:
            try:
                raise ExceptionGroup("two", [ValueError("of /?key=wet-ink"), LookupError("harmless")])
            except ExceptionGroup as group:
                raise ConnectionError("lost") from group
        except ConnectionError as error:
            raise_from(AgentError("no server"), error, lambda text: text.replace("wet-ink", "***"))

    with pytest.raises(AgentError, match="no server") as caught:
        failing()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_error_does_not_repeat_a_variable_in_the_arguments_of_a_server(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES_KEY", "wet-ink")
    program = "import sys; sys.exit('cannot be read: ' + sys.argv[1])"
    entry = {"command": sys.executable, "args": ["-c", program, "--key=${NOTES_KEY}"]}
    with pytest.raises(AgentError, match=r"it said: cannot be read: --key=\*\*\*"):
        asyncio.run(working(server, agent(entry)))


# What is left of it


@LINUX
def test_nothing_of_a_server_is_left_when_its_agent_has_ended(server: ModelServer, marked: str) -> None:
    def then(request: Request) -> Any:
        return "done" if len(request.turns) > 1 and len(alive(marked)) >= 2 else uses("spawn")

    server.script("worker", then)
    asyncio.run(working(server, agent()))
    assert alive(marked) == []


@LINUX
def test_nothing_of_a_server_is_left_when_its_agent_is_cancelled(server: ModelServer, marked: str) -> None:
    server.script("worker", [[*uses("spawn"), ToolUse("mcp__notes__meet", {"name": "Mo"})], "never"])

    async def main() -> float:
        run = asyncio.ensure_future(working(server, agent()))
        end = time.monotonic() + PATIENCE
        while len(alive(marked)) < 3:  # the launcher, the server, and what it has started
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        began = time.monotonic()
        run.cancel()
        while alive(marked):
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
        took = time.monotonic() - began
        await asyncio.wait([run])
        return took

    assert asyncio.run(main()) < 0.5
