"""Which MCP servers an agent may use: those that it names, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fanfold.agents.definition import AgentDefinition, parse
from fanfold.agents.servers import servers_of
from fanfold.errors import AgentError, AgentFileError

NOTES = {"command": "notes", "args": ["--dir", "${HOME}/notes"], "env": {"TOKEN": "${NOTES_TOKEN:-none}"}}
WEB = {"type": "http", "url": "https://web.example/${WHO}", "headers": {"Authorization": "Bearer ${WEB_TOKEN}"}}
ENVIRONMENT = {"HOME": "/home/mo", "WHO": "mo", "WEB_TOKEN": "w", "DATABASE_URL": "secret"}


def agent(servers: Any = None, tools: tuple[str, ...] | None = None, origin: str = "run") -> AgentDefinition:
    extra = {} if servers is None else {"mcpServers": servers}
    return AgentDefinition("worker", "Works.", extra=extra, tools=tools, origin=origin)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "project" / "sub"
    inner.mkdir(parents=True)
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"notes": {"command": "far"}, "web": WEB}}))
    (tmp_path / "project" / ".mcp.json").write_text(json.dumps({"mcpServers": {"notes": NOTES}}))
    return inner


def test_a_name_means_the_nearest_server_and_variables_are_put_in(folder: Path) -> None:
    assert servers_of(agent(["notes", "web"]), folder, ENVIRONMENT) == {
        "notes": {"type": "stdio", "command": "notes", "args": ["--dir", "/home/mo/notes"], "env": {"TOKEN": "none"}},
        "web": {"type": "http", "url": "https://web.example/mo", "headers": {"Authorization": "Bearer w"}},
    }


def test_an_agent_that_names_no_server_has_none(folder: Path) -> None:
    for tools in (None, (), ("Read",), ("*",)):
        assert servers_of(agent(tools=tools), folder, ENVIRONMENT) == {}


def test_an_agent_that_names_a_server_s_tool_has_the_server(folder: Path) -> None:
    assert list(servers_of(agent(tools=("mcp__notes__search",)), folder, ENVIRONMENT)) == ["notes"]
    assert list(servers_of(agent(tools=("mcp__web", "MCP__Notes__*")), folder, ENVIRONMENT)) == ["notes", "web"]
    assert servers_of(agent(tools=("mcp__other__search",)), folder, ENVIRONMENT) == {}


def test_an_agent_can_describe_servers_itself_and_they_win(folder: Path) -> None:
    own = {"notes": {"command": "mine", "args": [1], "env": {"N": 2}}}
    ready = {"type": "stdio", "command": "mine", "args": ["1"], "env": {"N": "2"}}
    assert servers_of(agent([own, "web"]), folder, ENVIRONMENT)["notes"] == ready
    assert servers_of(agent(own), folder, ENVIRONMENT) == {"notes": ready}


def test_an_agent_file_says_it_in_the_same_ways(folder: Path) -> None:
    text = "---\nname: a\ndescription: b\nmcpServers:\n  - notes\n  - own: {url: http://127.0.0.1/mcp}\n---\n"
    assert list(servers_of(parse(text), folder, ENVIRONMENT)) == ["own", "notes"]


@pytest.mark.parametrize("origin", ["project", "user", "packaged"])
@pytest.mark.parametrize("entry", [{"command": "x", "env": {"A": "${DATABASE_URL}"}}, {"url": "http://x/${A:-b}"}])
def test_an_agent_file_s_own_server_is_given_no_variable_of_ours(folder: Path, origin: str, entry: Any) -> None:
    with pytest.raises(AgentError, match=r"agent files are given none\n.*\.mcp\.json"):
        servers_of(agent([{"own": entry}], origin=origin), folder, ENVIRONMENT)
    assert servers_of(agent([{"own": entry}]), folder, ENVIRONMENT)


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        (["note"], "names MCP server 'note', and no .mcp.json .*did you mean 'notes'"),
        ([{"own": {}}], "'own' has no `command`"),
        ([{"own": {"type": "http"}}], "'own' has no `url`"),
        ([{"own": {"type": "pigeon", "command": "x"}}], "of type 'pigeon', which is none of stdio, http"),
        ([{"own": "x"}], "'own' must be a mapping"),
        ([{"own": {"command": "x", "args": "y"}}], "`args` must be a list"),
        ([{"own": {"command": "x", "env": ["y"]}}], "`env` must be a mapping"),
        ([3], "holds 3, which is no server"),
        ([{"own": {"command": "${NOWHERE}"}}], "needs the variable NOWHERE, which is not set"),
    ],
)
def test_a_server_that_cannot_be_meant_is_named(folder: Path, servers: Any, message: str) -> None:
    with pytest.raises(AgentError, match=f"agent 'worker'.*{message}"):
        servers_of(agent(servers), folder, ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no valid JSON"), ("[]", "`mcpServers` must be"), ('{"mcpServers": {"a": 1}}', "an object of objects")],
)
def test_a_file_that_is_none_is_named(folder: Path, text: str, message: str) -> None:
    (folder / ".mcp.json").write_text(text)
    with pytest.raises(AgentFileError, match=message) as failure:
        servers_of(agent(["notes"]), folder, ENVIRONMENT)
    assert str(folder / ".mcp.json") in str(failure.value)
    assert servers_of(agent(), folder, ENVIRONMENT) == {}
