"""Agents that claude runs: the real program, against a scripted model server on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")

from fanfold import Task
from fanfold.agents.backends import claude_command
from fanfold.agents.backends.claude import load
from fanfold.agents.heeded import unheeded
from fanfold.errors import (
    AgentError,
    AgentLostError,
    AgentMemoryError,
    AgentStalledError,
    BudgetError,
    MissingExtraError,
    ModelAnswerError,
    ModelCutError,
    ModelError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRequestError,
)
from fanfold.events import Event, ModelAnswered, ModelRetried, Noticed, ToolCalled
from fanfold.limits import Limits
from fanfold.testing import Answer, CutStream, Fail, ModelServer, Stall, ToolUse
from tests.agents.claude_agents import ask, asked, claude, graph

SCHEMA = {"type": "object", "properties": {"birds": {"type": "string"}}, "required": ["birds"]}
READ = ToolUse("Read", {"file_path": "README.md"})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, beside a file that is none of an agent's business."""
    (tmp_path / "outside.txt").write_text("a secret\n")
    inside = tmp_path / "workspace"
    inside.mkdir()
    (inside / "README.md").write_text("Ducks swim in the pond.\n")
    monkeypatch.chdir(inside)
    return inside


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(claude_command._QUIET, "CLAUDE_CODE_MAX_RETRIES", "0")


def results(server: ModelServer) -> dict[str, str]:
    """What each of the tools returned that the last call of the model was told of."""
    *_, last = server.journal
    return {result.id: result.text for turn in last.messages for result in turn.tool_results}


# What it is given, and what it answers


def test_claude_can_be_rehearsed_with_its_own_tools_on_the_real_files(folder: Path) -> None:
    heard: list[Event] = []
    agent = claude(tools=("Read", "grep", "Glob", "LS"), prompt="You look for `pond`.")
    result = ask(agent, "rehearsal", "Where do the ducks swim?", heard=heard)
    assert result.output.startswith("Rehearsal: quotes found by searching, no language model was asked.")
    assert "> Ducks swim in the pond.\n  — README.md:1" in result.output
    assert (result.model, result.cost_usd, result.status) == ("rehearsal", 0.0, "completed")
    called = [event.tool for event in heard if isinstance(event, ToolCalled)]
    assert called == ["Grep", "Grep", "Glob", "Read"]
    assert result.tool_uses == 4
    (notice,) = [event.message for event in heard if isinstance(event, Noticed)]
    assert notice == "agent 'worker' asks for tools that claude does not have here: LS"


def test_each_answer_is_counted_once_with_the_providers_own_tokens_and_told_in_pieces(server: ModelServer) -> None:
    text = "Ducks, and many other birds, swim in ponds."
    server.script("worker", [Answer("I look.", [READ, READ], usage=(100, 10)), Answer(text, usage=(200, 20))])
    found: list[Any] = []
    heard: list[Event] = []
    compiled = graph(Task(subagent_type="worker", prompt="go"), found=found)
    options = {"agents": [claude(tools=("Read",))], "model": server, "on_event": heard.append}
    pieces = [piece for piece, _ in compiled.stream({"number": 1}, stream_mode="messages", **options)]
    counts = [(event.input_tokens, event.output_tokens) for event in heard if isinstance(event, ModelAnswered)]
    assert counts == [(100, 10), (200, 20)]
    assert found[0].usage == {"input_tokens": 300, "output_tokens": 30, "requests": 2}
    assert found[0].tool_uses == 2
    said = [turn["content"] for turn in found[0].transcript if turn["role"] == "assistant"]
    assert [block["type"] for turn in said for block in turn] == ["text", "tool_use", "tool_use", "text"]
    assert found[0].transcript[0]["role"] == "user"  # a tool may have ended before the next one was asked for
    last = [piece.content for piece in pieces if piece.id == pieces[-1].id]
    assert "".join(last) == text
    assert len(last) > 1


def test_an_answer_that_could_not_be_streamed_is_counted_once_too(server: ModelServer) -> None:
    look = Answer("I look.", [READ, READ], usage=(100, 10))
    server.script("worker", [Fail(404), look, Answer("Done.", usage=(5, 1))])
    heard: list[Event] = []
    assert ask(claude(tools=("Read",)), server, heard=heard).output == "Done."
    counts = [(event.input_tokens, event.output_tokens) for event in heard if isinstance(event, ModelAnswered)]
    assert counts == [(100, 10), (5, 1)]
    assert [call.stream for call in server.journal][:2] == [True, False]


def test_an_answer_has_the_form_that_was_asked_for(server: ModelServer) -> None:
    server.script("worker", ToolUse("StructuredOutput", {"birds": "ducks"}))
    assert ask(claude(tools=()), server, output=SCHEMA).output == {"birds": "ducks"}


def test_files_can_be_read_and_changed_in_the_workspace_only(server: ModelServer, folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "outside.txt")
    outside = str(folder.parent / "outside.txt")
    uses = {
        "in": READ,
        "out": ToolUse("Read", {"file_path": outside}),
        "up": ToolUse("Read", {"file_path": "../outside.txt"}),
        "link": ToolUse("Read", {"file_path": "link"}),
        "search": ToolUse("Grep", {"pattern": "secret", "path": outside, "output_mode": "content"}),
        "new": ToolUse("Write", {"file_path": "new.txt", "content": "x"}),
        "escape": ToolUse("Write", {"file_path": "../escaped.txt", "content": "x"}),
        "shell": ToolUse("Bash", {"command": "cat ../outside.txt", "description": "look"}),
    }
    server.script("worker", [[dataclasses.replace(use, id=name) for name, use in uses.items()], "done"])
    ask(claude(tools=("Read(//**)", "Grep", "Write")), server)
    told = results(server)
    assert "Ducks swim" in told["in"]
    assert "a secret" not in str(told)
    assert (folder / "new.txt").read_text() == "x"
    assert not (folder.parent / "escaped.txt").exists()
    assert "No such tool available: Bash" in told["shell"]


def test_the_named_model_is_asked_and_no_other(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    server.script("worker", "done")
    result = ask(claude(model="claude-opus-4-1"), "anthropic:claude-sonnet-4-5")
    assert [call.model for call in server.journal] == ["claude-sonnet-4-5"]
    assert result.model == "anthropic:claude-sonnet-4-5"
    assert result.cost_usd is not None
    assert result.cost_usd > 0


def test_claude_cannot_ask_models_of_others() -> None:
    with pytest.raises(ModelError, match="is run by claude, which cannot ask model 'openai:gpt-5'"):
        ask(claude(), "openai:gpt-5")


def test_a_model_without_a_key_is_not_asked() -> None:
    with pytest.raises(ModelKeyError, match="needs a key and there is none"):
        ask(claude(), "anthropic:claude-sonnet-4-5")


def test_without_tools_in_its_file_an_agent_has_those_that_stay_in_the_folder(server: ModelServer) -> None:
    server.script("worker", "done")
    heard: list[Event] = []
    ask(claude(), server, heard=heard)
    own = {tool for tool in server.journal[0].tools if not tool.startswith("Deferred")}
    assert own == {"Read", "Grep", "Glob", "Edit", "Write", "NotebookEdit"}
    assert not [event for event in heard if isinstance(event, Noticed)]


NOTES = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    tools = [{"name": "look", "description": "Looks.", "inputSchema": {"type": "object"}}]
    answers = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "notes", "version": "1"},
        },
        "tools/list": {"tools": tools},
        "tools/call": {"content": [{"type": "text", "text": "a note"}]},
    }
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answers.get(asked["method"], {})}), flush=True)
"""


def test_an_agent_can_use_its_own_mcp_servers(server: ModelServer) -> None:
    server.script("worker", [ToolUse("mcp__notes__look"), "done"])
    notes = {"command": sys.executable, "args": ["-I", "-c", NOTES]}
    result = ask(claude(tools=("mcp__notes__look",), extra={"mcpServers": {"notes": notes}}), server)
    assert list(results(server).values()) == ["a note"]
    assert result.tool_uses == 1


def test_an_mcp_server_that_cannot_be_used_is_an_error_that_names_it(server: ModelServer) -> None:
    servers = {"notes": {"command": "/no/such/server"}}
    with pytest.raises(AgentError, match="MCP server 'notes' cannot be used"):
        ask(claude(extra={"mcpServers": servers}), server)


def test_what_claude_does_not_heed_is_said() -> None:
    extra = {"isolation": "worktree", "effort": "enormous", "skills": "pdf", "permissionMode": "plan"}
    assert sorted(unheeded(claude(extra=extra))) == ["effort", "isolation", "skills"]
    assert unheeded(claude(extra={"isolation": "sandbox", "effort": "low"})) == []


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", None)
    monkeypatch.delitem(sys.modules, "fanfold.agents.backends.claude_session", raising=False)
    with pytest.raises(MissingExtraError, match="claude_agent_sdk") as failure:
        load()
    assert failure.value.hint == "install it with: pip install 'fanfold[claude]'"


# What goes wrong


@pytest.mark.timed
def test_a_model_that_is_asked_too_often_is_left_alone_and_that_is_told(server: ModelServer) -> None:
    server.script("worker", [Fail(429, "slow down", retry_after=1), "done"])
    heard: list[Event] = []
    assert ask(claude(), server, heard=heard).output == "done"
    (retried,) = [event for event in heard if isinstance(event, ModelRetried)]
    assert 1 <= retried.seconds < 2
    assert "too often (429)" in retried.error


@pytest.mark.usefixtures("no_second_try")
@pytest.mark.parametrize(
    ("fate", "error", "text"),
    [
        (Fail(529, "full"), ModelOverloadedError, r"overloaded \(529\).*full"),
        (Fail(401, "who?"), ModelKeyError, r"the key was refused \(401\)"),
        (Fail(400, "what?"), ModelRequestError, r"refused the request \(400\).*what\?"),
        (CutStream("Ducks sw"), ModelCutError, "broke off in the middle of its answer"),
    ],
)
def test_what_a_models_server_refuses_is_an_error_of_its_kind(
    server: ModelServer, fate: Any, error: type[Exception], text: str
) -> None:
    server.script("worker", lambda request: fate)
    with pytest.raises(error, match=text):
        ask(claude(), server)


def test_an_answer_without_the_form_that_was_asked_for_is_none(server: ModelServer) -> None:
    server.script("worker", lambda request: "just text")
    with pytest.raises(ModelAnswerError, match="does not have the form that was asked for"):
        ask(claude(), server, output=SCHEMA)


def test_an_agent_that_has_spent_its_own_budget_is_stopped(server: ModelServer) -> None:
    server.script("worker", [READ, "done"])
    with pytest.raises(BudgetError, match="Reached maximum budget"):
        ask(claude(budget_usd=0.0001), server)
    assert len(server.journal) == 1


def test_the_calls_of_a_run_are_never_exceeded(server: ModelServer) -> None:
    server.script("worker", [READ] * 5)
    with pytest.raises(BudgetError, match="there were no calls left for more"):
        ask(claude(), server, limits=Limits(calls=3))
    assert len(server.journal) == 3


@pytest.mark.parametrize("limits", [Limits(max_concurrency=1), Limits(models={"rehearsal": 1})])
def test_an_agent_lends_its_place_to_those_that_it_calls(server: ModelServer, limits: Limits) -> None:
    call = ToolUse(claude_command.TASK_TOOL, {"subagent_type": "helper", "prompt": "help"})
    server.script("worker", [[call, call], "done"])
    server.script("helper", ["one", "two"])
    agents = [claude(tools=("Agent(helper)",)), claude("helper", backend="model", tools=())]
    (result,) = asked(Task(subagent_type="worker", prompt="go"), agents=agents, model=server, limits=limits)
    assert result.output == "done"
    assert server.peak <= 2 - len(limits.models)


def test_an_agent_ends_when_one_that_it_calls_finds_the_budget_spent(server: ModelServer) -> None:
    call = ToolUse(claude_command.TASK_TOOL, {"subagent_type": "helper", "prompt": "help"})
    server.script("worker", [call, "It went without help."])
    helper = claude("helper", backend="model", tools=())
    agents = [claude(max_turns=3, tools=("Agent(helper)",)), helper]
    with pytest.raises(BudgetError):
        asked(Task(subagent_type="worker", prompt="go"), agents=agents, model=server, limits=Limits(calls=3))
    assert {call.agent for call in server.journal} == {"worker"}


def test_an_agent_takes_no_more_turns_than_its_file_allows(server: ModelServer) -> None:
    server.script("worker", [READ] * 5)
    with pytest.raises(AgentError, match=r"maximum number of turns \(2\)"):
        ask(claude(max_turns=2), server)


def test_an_agent_of_which_nothing_is_heard_has_stalled(server: ModelServer) -> None:
    server.script("worker", Stall("Ducks"))
    with pytest.raises(AgentStalledError, match="nothing was heard of claude for 2 s"):
        ask(claude(), server, limits=Limits(patience=2))


def playing(folder: Path, code: str) -> str:
    """The path of a program that stands where claude is expected."""
    path = folder / "claude"
    path.write_text(f"#!{sys.executable} -I\n{code}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_that_ends_before_it_has_answered_is_lost_with_its_last_words(folder: Path) -> None:
    path = playing(folder, "import sys; print('first', file=sys.stderr); sys.exit('no room')")
    with pytest.raises(AgentLostError, match=r"ended with code 1 before it had answered; it said: no room\n"):
        ask(claude(command=path), "rehearsal")


def test_a_program_that_is_killed_is_lost(folder: Path) -> None:
    path = playing(folder, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(AgentLostError, match="ended with signal 9"):
        ask(claude(command=path), "rehearsal")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(AgentLostError, match=r"/no/such/claude cannot be run: .*No such file"):
        ask(claude(command="/no/such/claude"), "rehearsal")


def test_a_program_that_wants_more_memory_than_it_may_have_is_told_apart(folder: Path) -> None:
    path = playing(folder, "bytearray(2**31)")
    with pytest.raises(AgentMemoryError, match="wanted more than the 1000 MB"):
        ask(claude(command=path, memory_mb=1000), "rehearsal")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what processes hold")
def test_a_program_that_holds_more_than_it_may_is_ended_for_it(server: ModelServer) -> None:
    server.script("worker", Stall("Ducks"))
    with pytest.raises(AgentMemoryError, match=r"held \d+ MB, more than the 60 MB that it may"):
        ask(claude(memory_mb=60), server)


def test_an_answer_may_be_long(server: ModelServer) -> None:
    text = "Ducks swim. " * 50_000
    server.script("worker", [Answer(text)])
    assert ask(claude(), server).output == text


def test_a_program_that_says_nothing_sensible_has_stalled(folder: Path) -> None:
    path = playing(folder, "import time; print('hello', flush=True); time.sleep(1000)")
    with pytest.raises(AgentStalledError):
        ask(claude(command=path), "rehearsal", limits=Limits(patience=0.3))


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"command": "claude --model x"}, "has more than that"),
        ({"extra": {"permissionMode": "auto"}}, "which nobody is there to answer for"),
    ],
)
def test_what_claude_cannot_have_is_said_before_it_is_started(extra: dict[str, Any], text: str) -> None:
    with pytest.raises(AgentError, match=text):
        ask(claude(**extra), "rehearsal")


# Many at once


@pytest.mark.timed
def test_eight_claude_agents_are_in_flight_at_once(server: ModelServer) -> None:
    server.script("*", lambda request: Answer("done", latency=2.0))
    gate = server.rendezvous(8, timeout=60)
    tasks = [Task(subagent_type=f"worker-{number}", prompt="go") for number in range(8)]
    began = time.monotonic()
    results = asked(*tasks, agents=[claude(task.subagent_type) for task in tasks], model=server)
    took = time.monotonic() - began
    assert [result.output for result in results] == ["done"] * 8
    assert gate.met
    assert server.peak == 8
    assert took < sum(result.duration for result in results) / 4  # however slow the machine is


def test_nothing_of_an_agents_home_is_left(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    homes: list[list[str]] = []

    def look(request: Any) -> str:
        homes.append(os.listdir(temporary))
        return "done"

    server.script("worker", look)
    ask(claude(), server)
    assert len(homes[0]) == 1
    assert os.listdir(temporary) == []


def test_the_servers_of_an_agent_are_in_a_file_and_on_no_command_line(server: ModelServer, tmp_path: Path) -> None:
    asyncio.run(_servers_are_written(tmp_path))


async def _servers_are_written(home: Path) -> None:
    from fanfold.agents.backends.base import Call
    from fanfold.agents.workspace import Workspace
    from fanfold.limits import Governor

    governor = Governor(Limits())
    with governor.desk("t", "worker", stop=lambda: None, ask=_nobody) as desk:
        servers = {"notes": {"command": "notes", "env": {"TOKEN": "secret"}}}
        call = Call("t", claude(), "go", type("Server", (), {"url": "http://127.0.0.1:1"}), Workspace(home), desk)
        begin = claude_command.start(dataclasses.replace(call, servers=servers), "claude", home)
    assert json.loads((home / "mcp.json").read_text()) == {"mcpServers": servers}
    assert "secret" not in str(begin)
    assert "--allowed-tools=Read(./**),Read(./**)" in str(begin.command)
    assert "mcp__notes" in str(begin.command)


async def _nobody(name: str, prompt: str, description: str) -> str:
    raise AssertionError("nobody is asked")
