"""The command line tools of vendors as agents: the real ones where they are there, against a server on this machine.

Nothing but that server can be reached by them: their proxy leads nowhere, their home is empty, and their key is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fanfold.agents.backends import dialects
from fanfold.agents.backends.base import Call
from fanfold.agents.backends.minutes import Minutes
from fanfold.agents.backends.presets import NOWHERE, PRESETS, planned
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.workspace import Workspace
from fanfold.errors import (
    AgentError,
    BudgetError,
    ModelAnswerError,
    ModelCutError,
    ModelKeyError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
    UsageError,
)
from fanfold.events import ModelAnswered, ModelRetried, ToolCalled
from fanfold.testing import Fail, ModelServer, ToolUse
from tests.agents.programs import agent, asked

BIRD = {"type": "object", "properties": {"bird": {"type": "string"}}, "required": ["bird"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The real ones


def _there(name: str) -> bool:
    return shutil.which(name) is not None or (name == "claude" and find_spec("claude_agent_sdk") is not None)


REAL = [
    pytest.param(name, marks=pytest.mark.skipif(not _there(name), reason=f"{name} is not installed: {preset.get}"))
    for name, preset in PRESETS.items()
]
SHELLS = ("Bash", "exec_command", "bash")
"""What the shells of these tools are called."""


def preset(name: str, **extra: Any) -> AgentDefinition:
    return agent(f"preset:{name}", **{"prompt": "You are terse.", **extra})


def told_to(server: ModelServer, answer: Callable[[Any], Any]) -> list[str]:
    """What the agent's model is told, of which each time the answer is made."""
    bodies: list[str] = []

    def says(request: Any) -> Any:
        bodies.append(str(request.body))
        return answer(request)

    server.script("worker", says)
    return bodies


@pytest.mark.parametrize("name", REAL)
def test_a_vendors_program_answers_with_what_its_model_says(name: str) -> None:
    heard: list[Any] = []
    with ModelServer() as server:
        told = told_to(server, lambda _: "Ducks swim.")
        result = asked(preset(name), "What do ducks do?", model=server, on_event=heard.append)
        (call,) = server.journal
    assert (result.output, result.cost_usd, result.usage["requests"]) == ("Ducks swim.", 0.0, 1)
    assert call.task == result.task_id
    assert "You are terse." in told[0]
    assert "What do ducks do?" in told[0]
    (answered,) = [event for event in heard if isinstance(event, ModelAnswered)]
    assert answered.input_tokens == result.usage["input_tokens"] > 0


@pytest.mark.parametrize("name", REAL)
def test_a_vendors_program_may_run_commands_only_if_its_definition_says_so_and_sees_no_secret(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    told: list[str] = []

    def says(request: Any) -> Any:
        told.extend(result.text for turn in request.turns for result in turn.tool_results)
        shell = next((tool.name for tool in request.tools if tool.name in SHELLS), None)
        if told or shell is None:
            return "done"
        return ToolUse(shell, {("cmd" if shell == "exec_command" else "command"): "env", "description": "look"})

    with ModelServer() as server:
        server.script("worker", says)
        result = asked(preset(name, tools=("Read", "Bash")), model=server)
    assert (result.output, result.tool_uses) == ("done", 1)
    assert "HOME=" in told[0]
    assert "secret" not in told[0]
    assert str(Path.home()) not in told[0]


@pytest.mark.parametrize("name", REAL)
def test_a_vendors_program_answers_in_the_form_that_is_wanted(name: str) -> None:
    def says(request: Any) -> Any:
        forms = [tool.name for tool in request.tools if tool.name == "StructuredOutput"]
        done = any(turn.tool_results for turn in request.turns)
        return ToolUse(forms[0], {"bird": "duck"}) if forms and not done else '{"bird": "duck"}'

    with ModelServer() as server:
        told = told_to(server, says)
        assert asked(preset(name), model=server, output=BIRD).output == {"bird": "duck"}
    assert "bird" in told[0]


@pytest.mark.parametrize("name", REAL)
def test_a_key_that_a_vendors_program_is_refused_is_said_at_once(name: str) -> None:
    with ModelServer() as server:
        server.script("worker", lambda _: Fail(401))
        with pytest.raises(ModelKeyError):
            asked(preset(name), model=server)
        assert len(server.journal) == 1


@pytest.mark.parametrize("name", [param for param in REAL if param.values != ("opencode",)])
def test_a_vendors_program_that_is_asked_too_often_is_tried_again_and_that_is_told(name: str) -> None:
    heard: list[Any] = []
    with ModelServer() as server:
        server.script("worker", [Fail(429, retry_after=0.1), "Ducks swim."])
        assert asked(preset(name), model=server, on_event=heard.append).output == "Ducks swim."
    (retried,) = [event for event in heard if isinstance(event, ModelRetried)]
    assert "asked too often (429)" in retried.error


@pytest.mark.skipif(not _there("claude"), reason="claude is not installed")
def test_a_prompt_pulls_no_file_into_what_claude_is_asked(tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.txt"
    secret.write_text("the word is bufflehead")
    with ModelServer() as server:
        told = told_to(server, lambda _: "no")
        asked(preset("claude"), f"Look at @{secret} please", model=server)
    assert f"@{secret}" in told[0]
    assert "bufflehead" not in told[0]


# How they are run


class Desk:
    """Nobody's: it only remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def retried(self, model: str, error: Exception, seconds: float) -> None:
        self.told.append(f"{model}: {error} in {seconds}")

    def refused(self, retry_after: float | None) -> None:
        self.told.append(f"refused for {retry_after}")

    def heard(self, *answer: Any) -> None:
        self.told.append(f"answered {answer}")

    def took(self, *taken: Any) -> None:
        self.told.append(f"took {taken}")


class Server:
    url = "http://127.0.0.1:7"


def call(definition: AgentDefinition, model: Any = None, **extra: Any) -> Call:
    desk: Any = Desk()
    return Call("t", definition, "Go.", model or Server(), Workspace(Path.cwd()), desk, **extra)


def plan(name: str, model: Any = None, more: tuple[str, ...] = (), servers: Any = None, **extra: Any) -> Any:
    with planned(PRESETS[name], call(preset(name, **extra), model, servers=servers or {}), more) as made:
        return made


def test_an_unknown_preset_is_an_error_that_says_which_there_are() -> None:
    with pytest.raises(AgentError, match=r"no preset 'codx'; did you mean 'codex'\?\n  the presets are: claude, codex"):
        asked(agent("preset:codx"), model="rehearsal")


@pytest.mark.parametrize("name", PRESETS)
def test_without_a_named_model_no_key_and_no_home_is_there_and_no_way_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(variable, "secret")
    made = plan(name)
    assert "secret" not in str(made)
    assert made.extra["HOME"] != str(Path.home())
    assert {made.extra[f"{kind}_PROXY"] for kind in ("HTTP", "HTTPS", "ALL")} == {NOWHERE}
    assert Server.url in str(made)


@pytest.mark.parametrize(
    ("name", "model", "there"),
    [("codex", "openai:m", "openai"), ("opencode", "openai:m", "openai"), ("opencode", "anthropic:m", "anthropic")],
)
def test_only_the_key_of_the_named_models_provider_is_there(
    name: str, model: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai-secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "anthropic-secret")
    made = plan(name, model)
    assert [provider for provider in ("openai", "anthropic") if f"{provider}-secret" in str(made.extra)] == [there]
    assert "-secret" not in str(made.words)  # which everybody on the machine can see
    assert not {"HOME", "HTTPS_PROXY"} & made.extra.keys()


def test_a_model_of_another_provider_than_a_preset_asks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="asks models of openai, and 'anthropic:m' was named"):
        plan("codex", "anthropic:m")


def test_words_behind_a_preset_are_given_to_its_program() -> None:
    assert plan("codex", more=("--search", "x y")).words[-3:] == ["--search", "x y", "-"]
    assert plan("opencode", more=("--thinking",)).words[-1] == "--thinking"


def test_codex_may_write_only_if_its_definition_says_so() -> None:
    def sandbox(**extra: Any) -> str:
        words = plan("codex", **extra).words
        return str(words[words.index("--sandbox") + 1])

    assert sandbox() == sandbox(tools=("Read",)) == "read-only"
    assert sandbox(tools=("Write",)) == "workspace-write"
    assert sandbox(tools=("Write",), disallowed_tools=("Write",)) == "read-only"


def test_opencode_may_write_and_run_only_what_its_definition_says() -> None:
    def may(**extra: Any) -> dict[str, str]:
        settings = json.loads(plan("opencode", **extra).extra["OPENCODE_CONFIG_CONTENT"])
        found: dict[str, str] = settings["agent"]["fanfold"]["permission"]
        return found

    assert (may()["edit"], may()["bash"]) == ("deny", "deny")
    assert (may(tools=("Edit",))["edit"], may(tools=("Edit",))["bash"]) == ("allow", "deny")


@pytest.mark.parametrize("name", ["codex", "opencode"])
def test_a_preset_gets_the_servers_of_its_definition(name: str) -> None:
    servers = {"notes": {"command": "notes-server", "args": ["-v"], "env": {"A": 'b"c'}}, "far": {"url": "http://x/"}}
    made = plan(name, servers=servers)
    told = f"{made.words} {made.extra}"
    assert "notes-server" in told
    assert "http://x/" in told


# What they tell, of which the real ones would not do each in a test

Told = Callable[..., Any]


def taken(dialect: dialects.Dialect, *lines: dict[str, Any], schema: Any = None) -> tuple[Minutes, list[Any]]:
    """What is taken down of lines, and what was told."""
    events: list[Any] = []
    at = replace(call(preset("codex")), schema=schema)
    asking: Any = at.desk
    minutes = Minutes(at, events.append, asking, "m")
    for line in lines:
        dialect(minutes, line)
    return minutes, events


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"subtype": "error_max_turns"}, AgentError),
        ({"subtype": "error_max_budget_usd"}, BudgetError),
        ({"subtype": "error_max_structured_output_retries"}, ModelAnswerError),
        ({"subtype": "success", "stop_reason": "refusal"}, ModelAnswerError),
        ({"subtype": "success", "is_error": True, "api_error_status": 429}, ModelRateError),
        ({"subtype": "error_during_execution", "is_error": True}, AgentError),
    ],
)
def test_how_claude_ends_says_what_went_wrong(line: dict[str, Any], error: type[AgentError]) -> None:
    minutes, _ = taken(dialects.claude, {"type": "result", **line})
    with pytest.raises(AgentError) as caught:
        minutes.answer()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("exceeded retry limit, last status: 429 Too Many Requests", ModelRateError),
        ("unexpected status 401 Unauthorized: no", ModelKeyError),
        ('{"error": {"type": "invalid_request_error"}}', ModelRequestError),
        ("We're currently experiencing high demand, which may cause temporary errors.", ModelUnavailableError),
        ("stream disconnected before completion: x", ModelCutError),
        ("error sending request for url (http://x)", ModelUnavailableError),
        ("something else", AgentError),
    ],
)
def test_what_codex_says_in_words_says_what_went_wrong(told: str, error: type[AgentError]) -> None:
    minutes, _ = taken(dialects.codex, {"type": "turn.failed", "error": {"message": told}})
    with pytest.raises(AgentError) as caught:
        minutes.answer()
    assert type(caught.value) is error


def test_what_codex_does_is_told_once() -> None:
    command = {"id": "1", "type": "command_execution", "command": "ls"}
    call = {"id": "2", "type": "mcp_tool_call", "server": "s", "tool": "t", "arguments": {"a": 1}}
    change = {"id": "3", "type": "file_change", "changes": [{"path": "a"}, {"path": "b"}]}
    both = [
        {"type": f"item.{when}", "item": item} for item in (command, call, change) for when in ("started", "completed")
    ]
    minutes, events = taken(dialects.codex, *both, {"type": "turn.completed", "usage": {"input_tokens": 7}})
    assert [(event.tool, event.detail) for event in events if isinstance(event, ToolCalled)] == [
        ("shell", "ls"),
        ("mcp__s__t", '{"a": 1}'),
        ("edit", "a, b"),
    ]
    assert (minutes.tokens, minutes.calls) == ([7, 0], 4)


def test_what_opencode_is_told_by_its_models_server_says_what_went_wrong() -> None:
    data = {"message": "slow down", "statusCode": 429, "responseHeaders": {"retry-after": "7"}}
    minutes, _ = taken(dialects.opencode, {"type": "error", "error": {"name": "APIError", "data": data}})
    with pytest.raises(ModelRateError, match="slow down") as caught:
        minutes.answer()
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("dialect", [dialects.ours, dialects.claude, dialects.codex, dialects.opencode])
@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [None], {"content": 3}, -1, True])
def test_no_odd_line_of_a_program_breaks_anything(dialect: dialects.Dialect, junk: Any) -> None:
    kinds = [
        "tool",
        "usage",
        "retry",
        "error",
        "result",
        "system",
        "assistant",
        "user",
        "text",
        "tool_use",
        "step_finish",
    ]
    items = [{"type": kind} for kind in ("agent_message", "command_execution", "mcp_tool_call", "file_change")]
    for kind in [*kinds, "item.started", "item.completed", "turn.completed", "turn.failed"]:
        for key in ("message", "usage", "item", "part", "error", "seconds", "status", "input_tokens", "num_turns"):
            line: dict[str, Any] = {"type": kind, "subtype": "api_retry", key: junk}
            taken(dialect, line, *({**line, "item": {**item, "changes": junk}} for item in items))
