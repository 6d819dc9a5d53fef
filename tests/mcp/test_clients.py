"""Clients that others have written, with the same calls: the SDK's in three ways, pydantic-ai's, and claude itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from fastmcp.client.transports import StdioTransport
from mcp import Client, StdioServerParameters
from pydantic_ai import Agent
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from fanfold import AgentDefinition, Limits
from fanfold.testing import ModelServer, Request, ToolUse
from tests.agents.claude_agents import ask, claude
from tests.mcp.served import (
    agents,
    asking,
    called,
    command,
    connected,
    environment,
    http_client,
    offered,
    over_http,
    server,
)

Answers: TypeAlias = list[Any]

SLOW = '---\nname: slow\ndescription: Takes a second.\nbackend: process\ncommand: sh -c "sleep 1"\n---\nYou sleep.\n'
OVER = ("--allow-write", "--store", "sqlite:///runs.db")
SQL = "select graph, status from runs order by created"
AT_ONCE = 1.6
"""Seconds within which three tools of one second have to be done."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    agents(tmp_path, slow=SLOW)
    return tmp_path


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


# The same calls


async def _filled(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Put something into the folder's store; the calls that look at it."""
    async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
        for number in range(3):
            await called(client, "memory_put", namespace=["a"], key=str(number), value={"text": f"duck {number}"})
        begun = await called(client, "run_start", graph="ask", input={"text": "ducks"})
    run_id = begun["run"]["run_id"]
    return [
        ("memory_get", {"namespace": ["a"], "key": "1"}),
        ("memory_get", {"namespace": ["a"], "key": "none"}),
        ("memory_search", {"namespace": ["a"], "query": "duck", "limit": 2}),
        ("memory_put", {"namespace": ["a"], "key": "1", "value": {}}),
        ("runs_list", {"limit": 5}),
        ("run_get", {"run_id": run_id}),
        ("run_follow", {"run_id": run_id, "after": 2}),
        ("query", {"sql": SQL}),
        ("query", {"sql": "drop table run"}),
    ]


def _same(answer: Any) -> Any:
    """An answer without how long it took; an error as its text."""
    if isinstance(answer, dict):
        return {name: value for name, value in answer.items() if name != "ms"}
    return answer


async def _sdk(client: Client, calls: Any) -> Answers:
    results = [await client.call_tool(name, arguments) for name, arguments in calls]
    return [_same(each.content[0].text if each.is_error else each.structured_content) for each in results]


async def _pydantic_ai(folder: Path, calls: Any) -> Answers:
    started = command(folder, *OVER)
    transport = StdioTransport(started.command, started.args, env=started.env, cwd=str(folder), keep_alive=False)
    answers = []
    async with MCPToolset[Any](transport, tool_error_behavior="failed") as tools:
        for name, arguments in calls:
            try:
                answers.append(_same(await tools.direct_call_tool(name, arguments)))
            except ToolFailed as error:
                answers.append(str(error))
    return answers


def _claude_agent(folder: Path, *words: str) -> AgentDefinition:
    """An agent that claude runs, with our server and nothing else."""
    started = command(folder, *OVER, *words)
    entry = {"command": started.command, "args": started.args, "env": started.env}
    return claude(tools=("mcp__fanfold",), extra={"mcpServers": {"fanfold": entry}})


def _claude(folder: Path, models: ModelServer, calls: Any) -> Answers:
    uses = [[ToolUse(f"mcp__fanfold__{name}", arguments)] for name, arguments in calls]
    models.script("worker", [*uses, "done"])
    assert ask(_claude_agent(folder), models).output == "done"
    told = [result for turn in models.journal[-1].messages for result in turn.tool_results]
    return [each.text if each.is_error else _same(json.loads(each.text)) for each in told]


def test_five_clients_get_the_same_answers_to_the_same_calls(folder: Path, models: ModelServer) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")

    async def main() -> tuple[Any, dict[str, Answers]]:
        calls = await _filled(folder)
        found: dict[str, Answers] = {}
        async with Client(command(folder, *OVER)) as client:
            found["stdio"] = await _sdk(client, calls)
        async with server(folder) as made, Client(made, mode="legacy") as client:
            found["memory"] = await _sdk(client, calls)
        async with server(folder) as made, over_http(made) as url, http_client(url) as client:
            found["http"] = await _sdk(client, calls)
        found["pydantic-ai"] = await _pydantic_ai(folder, calls)
        return calls, found

    calls, found = asyncio.run(main())
    found["claude"] = _claude(folder, models, calls)
    expected = found.pop("memory")
    assert expected[0]["item"]["value"] == {"text": "duck 1"}
    assert "ItemConflictError" in expected[3]
    assert expected[5]["run"]["status"] == "paused"
    assert expected[7]["rows"] == [["ask", "paused"]]
    assert "QueryRefusedError" in expected[8]
    for client, answers in found.items():
        for call, answer, other in zip(calls, answers, expected, strict=True):
            assert answer == other, (client, call)


# Three tools of a second each, in one message


@pytest.mark.timed
def test_claude_runs_three_tools_of_a_message_at_the_same_time(folder: Path, models: ModelServer) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")
    use = ToolUse("mcp__fanfold__task", {"agent": "slow", "prompt": "Sleep."})
    models.script("worker", [[use], [use, use, use], "done"])  # the first one only warms the server up
    assert ask(_claude_agent(folder), models).output == "done"
    *_, asked, done = models.journal
    assert asked.ended is not None
    assert 1.0 <= done.started - asked.ended < AT_ONCE
    told = [json.loads(result.text) for turn in done.messages for result in turn.tool_results]
    assert [each["status"] for each in told] == ["done"] * 4


@pytest.mark.timed
def test_pydantic_ai_runs_three_tools_of_a_message_at_the_same_time(folder: Path) -> None:
    times: list[float] = []
    call = ("task", {"agent": "slow", "prompt": "Sleep."})

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        times.append(time.monotonic())
        asked = [1, 3, 0][len(times) - 1]  # the first one only warms the server up
        return ModelResponse([ToolCallPart(*call) for _ in range(asked)] or [TextPart("done")])

    async def main() -> Any:
        started = command(folder, *OVER)
        transport = StdioTransport(started.command, started.args, env=started.env, cwd=str(folder), keep_alive=False)
        async with Agent(FunctionModel(model), toolsets=[MCPToolset[Any](transport)]) as agent:
            return await agent.run("go")

    result = asyncio.run(main())
    told = [part.content for each in result.all_messages() for part in each.parts if isinstance(part, ToolReturnPart)]
    assert [each["status"] for each in told] == ["done"] * 4
    assert 1.0 <= times[2] - times[1] < AT_ONCE


# A debate, through the server only


def test_claude_has_a_debate_held_follows_it_and_reads_its_verdict_within_the_servers_budget(
    folder: Path, models: ModelServer
) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")
    (folder / "pond.md").write_text("Ducks swim in the pond.\nWhen it freezes, ducks do not swim.\n")
    told: list[dict[str, Any]] = []

    def play(request: Request) -> Any:
        results = [result.text for turn in request.turns for result in turn.tool_results]
        told[:] = [json.loads(text) for text in results[:-1]]
        if results:
            told.append(json.loads(results[-1]) if results[-1].startswith("{") else {"error": results[-1]})
        if not told:
            return [ToolUse("mcp__fanfold__debate", {"question": "Do ducks swim?", "rounds": 1})]
        run_id = told[0]["run"]["run_id"]
        if "output" in told[-1] and len(told) > 1:
            return f"They decided: {told[-1]['output']['verdict']['decision']}"
        if told[-1].get("ended"):
            return [ToolUse("mcp__fanfold__run_get", {"run_id": run_id})]
        return [ToolUse("mcp__fanfold__run_follow", {"run_id": run_id, "after": told[-1].get("next", 0)})]

    models.script("worker", play)
    agent = _claude_agent(folder, "--limit", "calls=100")
    assert ask(agent, models).output == "They decided: stand pat"
    account = told[-1]
    assert account["run"]["status"] == "done"
    assert account["output"]["verdict"]["claims"]
    assert 16 <= account["spent"]["calls"] <= 100
    assert any("PARALLEL" in line for line in account["receipt"])


def test_a_debate_is_held_no_further_than_the_servers_budget_goes(folder: Path) -> None:
    (folder / "pond.md").write_text("Ducks swim in the pond.\n")

    async def main() -> None:
        async with connected(folder, limits=Limits(calls=9)) as client:
            account = await called(client, "debate", question="Do ducks swim?", rounds=1, wait=60)
            assert account["spent"]["calls"] <= 9
            again = await called(client, "task", agent="serm-single", prompt="Do ducks swim?")
            assert (again["status"], again["spent"]["calls"]) == ("failed", 0)
            assert "9 of 9 calls spent" in again["error"]

    asyncio.run(main())


# What a client has to be told


@pytest.mark.parametrize("client", ["claude", "cursor", "vscode", "codex"])
def test_what_a_client_is_told_starts_the_same_server_from_any_folder(folder: Path, client: str) -> None:
    (folder / "pond").mkdir()
    printed = config(folder, client, "--allow-write", "--limit", "seconds=60", "--workspace", "pond")
    told = tomllib.loads(printed.stdout) if client == "codex" else json.loads(printed.stdout)
    entry = next(value for name, value in told.items() if "servers" in name.lower())["fanfold"]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()

    async def main() -> None:
        started = StdioServerParameters(
            command=entry["command"], args=entry["args"], cwd=elsewhere, env=environment(folder)
        )
        async with Client(started) as connected:
            await called(connected, "memory_put", namespace=["a"], key="k", value={"n": 1})
            asked = await called(connected, "task", agent="where", prompt="Where are you?")
            assert asked["output"] == str(folder / "pond")

    agents(folder, where="---\nname: where\ndescription: Says it.\nbackend: process\ncommand: pwd\n---\n")
    asyncio.run(main())
    assert entry["args"][-5:] == ["--workspace", str(folder / "pond"), "--limit", "seconds=60", "--allow-write"]
    assert (folder / ".fanfold" / "runs.db").exists()
    assert not (elsewhere / ".fanfold").exists()


def test_a_password_is_not_written_down_unsaid_and_what_is_no_address_not_at_all(folder: Path) -> None:
    assert "password" not in config(folder, "claude", "--store", "postgresql://me@host/name").stderr
    assert "it has a password in it" in config(folder, "claude", "--store", "postgresql://me:hush@host/name").stderr
    assert "it has a password in it" in config(folder, "codex", "--database", "postgresql://h/n?password=hush").stderr
    assert "no address of a server" in config(folder, "claude", "--url", "here").stderr
    assert "runs already" in config(folder, "claude", "--url", "http://h/mcp", "--limit", "calls=1").stderr


def config(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `fanfold mcp config` says in a folder."""
    command = [sys.executable, "-m", "fanfold", "mcp", "config", *words]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
