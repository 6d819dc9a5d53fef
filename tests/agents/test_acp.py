"""Agents that speak the Agent Client Protocol: real processes, written with the other side of its SDK."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanfold import Limits, TaskResult
from fanfold.agents.backends.acp import allowed
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import (
    AgentError,
    AgentLostError,
    AgentMemoryError,
    AgentStalledError,
    ModelAnswerError,
    ModelKeyError,
    ModelRateError,
)
from fanfold.events import ModelAnswered, Noticed, ToolCalled
from tests.agents.programs import SOON, agent, alive, asked, graph, until

WORKER = shlex.join([sys.executable, str(Path(__file__).with_name("acp_agent.py"))])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def worker(**extra: Any) -> AgentDefinition:
    return agent(f"acp:{WORKER}", **extra)


def answer(prompt: str, **extra: Any) -> Any:
    return asked(worker(**extra), prompt).output


# What it is told, and what it tells


def test_an_agent_answers_what_it_says_last_and_tells_what_it_does() -> None:
    heard: list[Any] = []
    result = asked(worker(), "work", on_event=heard.append)
    assert result.output == "Ducks swim."
    assert (result.tool_uses, result.usage, result.cost_usd) == (
        1,
        {"input_tokens": 10, "output_tokens": 5, "requests": 1},
        0.25,
    )
    assert [(e.tool, e.detail) for e in heard if isinstance(e, ToolCalled)] == [("search", "Look at ducks")]
    assert [(e.input_tokens, e.cost_usd) for e in heard if isinstance(e, ModelAnswered)] == [(10, 0.25)]
    (plan,) = [event.message for event in heard if isinstance(event, Noticed)]
    assert plan == "agent 'worker' has done 0 of the 2 steps of its plan, and is at: look"
    types = [entry["type"] for entry in result.transcript if "type" in entry]
    assert types == ["plan", "message", "tool", "message"]


def test_its_words_are_heard_while_it_says_them() -> None:
    pieces = [
        message.content
        for message, _ in graph("echo a b", []).stream({"number": 1}, agents=[worker()], stream_mode="messages")
    ]
    assert pieces == ["a ", "b "]


def test_it_works_in_the_workspace_with_the_servers_that_its_definition_names(folder: Path) -> None:
    servers = {
        "notes": {"command": "sh", "args": ["-c", "true"], "env": {"A": "b"}},
        "far": {"type": "http", "url": "x"},
    }
    heard: list[Any] = []
    told = json.loads(asked(worker(extra={"mcpServers": servers}), "told", on_event=heard.append).output)
    assert (told["files"]["read_text_file"], told["files"]["write_text_file"], told["terminal"]) == (True, False, False)
    assert told["cwd"] == str(folder.resolve())
    (server,) = told["servers"]
    assert (server["name"], os.path.basename(server["command"]), server["args"]) == ("notes", "sh", ["-c", "true"])
    assert [(entry["name"], entry["value"]) for entry in server["env"]] == [("A", "b")]
    assert [e.message for e in heard if isinstance(e, Noticed)] == [
        "agent 'worker': its program cannot use MCP server 'far', which speaks http"
    ]


def test_lines_that_are_no_messages_do_no_harm() -> None:
    result = asked(worker(), "noise")
    assert result.output == "quiet"
    assert {"type": "output", "text": "this is no message"} in result.transcript


def wanted(key: str) -> dict[str, Any]:
    return {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}


def test_it_is_told_which_form_its_answer_has_to_have_and_the_answer_is_held_against_it() -> None:
    definition = AgentDefinition("worker", "Works.", "echo first", backend="process", command=f"acp:{WORKER}")
    assert asked(replace(definition, output=wanted("bird"))).output == {"bird": "duck"}
    with pytest.raises(ModelAnswerError, match="'fish' is a required property"):
        answer("go", output=wanted("fish"))


# What it may do


@pytest.mark.parametrize(
    ("kind", "said", "may"),
    [
        ("read", {}, True),
        ("search", {}, True),
        ("think", {"tools": ()}, True),
        ("edit", {}, False),
        ("execute", {}, False),
        ("fetch", {}, False),
        ("other", {}, False),
        (None, {}, False),
        ("read", {"tools": ("Grep",)}, False),
        ("edit", {"tools": ("Read", "Edit")}, True),
        ("execute", {"tools": ("Bash",)}, True),
        ("execute", {"tools": ("Bash",), "disallowed_tools": ("Bash",)}, False),
        ("edit", {"extra": {"permissionMode": "acceptEdits"}}, True),
        ("execute", {"extra": {"permissionMode": "acceptEdits"}}, False),
        ("edit", {"tools": ("Read",), "extra": {"permissionMode": "acceptEdits"}}, False),
        ("edit", {"tools": ("Edit",), "extra": {"permissionMode": "plan"}}, False),
        ("other", {"extra": {"permissionMode": "bypassPermissions"}}, True),
        ("read", {"disallowed_tools": ("Read",), "extra": {"permissionMode": "bypassPermissions"}}, False),
    ],
)
def test_what_it_may_do_stands_in_its_definition(kind: str | None, said: dict[str, Any], may: bool) -> None:
    assert allowed(worker(**said), kind) is may


def test_it_is_answered_when_it_asks_whether_it_may_and_never_for_ever(folder: Path) -> None:
    heard: list[Any] = []
    root = folder.resolve()
    steps = [f"permit read {root}/a.txt", "permit read /etc/passwd", f"permit read {root}/../a.txt", "permit execute"]
    said = asked(worker(), "; ".join(["permit read", *steps]), on_event=heard.append).output
    assert said.split("; ") == ["allow_once", "allow_once", "reject_once", "reject_once", "reject_once"]
    assert [e.message for e in heard if isinstance(e, Noticed)] == [
        *["agent 'worker' was not allowed to read: Do it"] * 2,
        "agent 'worker' was not allowed to execute: Do it",
    ]


def test_it_reads_files_of_the_workspace_through_us_and_no_others(folder: Path) -> None:
    (folder / "a.txt").write_text("one\r\ntwo\nthree\n")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("token")
    root = folder.resolve()
    paths = [f"{root}/a.txt", f"{root}/a.txt 2 1", "/etc/passwd", f"{root}/link", f"{root}/.git/config"]
    said = answer("; ".join([*(f"read {path}" for path in paths), f"write {root}/b.txt no", "terminal", "echo end"]))
    whole, some, *refused, end = said.split("; ")
    assert (whole, some, end) == ("one\r\ntwo\nthree\n", "two\n", "end")
    assert len(refused) == 5
    assert all("may not be read" in text for text in refused[:3])
    assert "may not edit" in refused[3]
    assert refused[4] == "Method not found"
    assert not (folder / "b.txt").exists()


def test_it_writes_files_of_the_workspace_when_its_definition_says_so(folder: Path) -> None:
    root = folder.resolve()
    said = answer(f"told; write {root}/b/c.txt new; write /tmp/no.txt no; echo end", tools=("Write",))
    told, written, refused, _ = said.split("; ")
    assert (json.loads(told)["files"]["read_text_file"], json.loads(told)["files"]["write_text_file"]) == (False, True)
    assert (written, "/tmp/no.txt" in refused) == ("written", True)
    assert (folder / "b" / "c.txt").read_text() == "new"


# How it can go wrong


@pytest.mark.parametrize(
    ("prompt", "error", "told"),
    [
        ("stop refusal", ModelAnswerError, "refuses to go on"),
        ("stop max_tokens", ModelAnswerError, "was cut off"),
        ("stop max_turn_requests", AgentError, "was stopped after the requests"),
        ("stop cancelled", AgentLostError, "says that it was cancelled"),
        ("die", AgentLostError, "ended with code 3; it said: oh no"),
        ("leave", AgentLostError, "ended before it had answered"),
        ("fail -32000", ModelKeyError, "wants somebody to log in"),
        ("fail -32603", AgentError, "says that it failed: it does not work"),
        ("fail 429", ModelRateError, r"asked too often \(429\)"),
    ],
)
def test_what_goes_wrong_with_an_agent_has_a_name(prompt: str, error: type[AgentError], told: str) -> None:
    with pytest.raises(error, match=told):
        answer(prompt)


@pytest.mark.parametrize(
    ("command", "told"),
    [("acp:no-such-program", "'no-such-program' could not be run"), ("acp:", "names no program")],
)
def test_a_program_that_is_not_there_is_an_error(command: str, told: str) -> None:
    with pytest.raises(AgentError, match=told):
        asked(agent(command))


def test_another_version_of_the_protocol_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ACP_VERSION", "7")
    with pytest.raises(AgentError, match="speaks version 7 of the Agent Client Protocol"):
        answer("echo hello")


def test_an_agent_of_which_nothing_is_heard_has_stalled(folder: Path, marked: str) -> None:
    with pytest.raises(AgentStalledError, match=r"nothing was heard of its program for 1.5 s"):
        asked(worker(), f"sulk {folder}", limits=Limits(patience=1.5))
    assert alive(marked) == []


def test_an_agent_that_holds_more_memory_than_it_may_is_killed_and_named() -> None:
    with pytest.raises(AgentMemoryError, match=r"held \d+ MB, more than the 10 MB that it may"):
        answer("sulk .", memory_mb=10)


# Its end


@pytest.mark.parametrize("prompt", ["hang", "sulk"])
def test_a_cancelled_agent_is_gone_at_once(folder: Path, marked: str, prompt: str) -> None:
    results: list[TaskResult] = []

    async def main() -> float:
        run = asyncio.ensure_future(graph(f"{prompt} {folder}", results).ainvoke({"number": 1}, agents=[worker()]))
        while not list(folder.glob("hangs-*")):
            await asyncio.sleep(0.005)
        began = time.monotonic()
        run.cancel()
        await asyncio.wait([run])
        assert alive(marked) == []
        return time.monotonic() - began

    assert asyncio.run(main()) < SOON
    until(lambda: not alive(marked), SOON)
    assert (folder / "cancelled").exists() == (prompt == "hang")
