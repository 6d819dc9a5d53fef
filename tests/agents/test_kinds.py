"""Agents of every kind together: all in flight at once, and programs only as many as there is memory for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, BudgetError, Limits, StateGraph, Task, audit, python_agent
from fanfold.agents import sizes
from fanfold.events import TaskWaiting
from fanfold.testing import ModelServer, Request, ToolUse
from tests.agents.meets import meet
from tests.agents.programs import SOON, alive, python, until

pytest.importorskip("acp", reason="agents that speak ACP need the extra `acp`")
pytest.importorskip("claude_agent_sdk", reason="agents that claude runs need the extra `claude`")

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what processes there are")
PATIENCE = 60.0
HERE = Path(__file__).parent
NOTES: dict[str, Any] = {"command": sys.executable, "args": [str(HERE / "notes_server.py"), "stdio"]}


def joined(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


class State(TypedDict, total=False):
    out: Annotated[list[Any], joined]


def fan(*tasks: Task) -> Any:
    """A graph with a node for each agent, all of them at once."""
    graph = StateGraph(State)
    for number, task in enumerate(tasks):

        async def ask(state: State, task: Task = task) -> State:
            return {"out": [str(await task)]}

        graph.add_node(f"{task.subagent_type}-{number}", ask).add_edge(START, f"{task.subagent_type}-{number}")
    return graph.compile()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model server in the place of two vendors."""
    monkeypatch.chdir(tmp_path)
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-dummy")
        yield server


def test_an_agent_of_each_kind_is_in_flight_at_the_same_time(server: ModelServer) -> None:
    names = ("function", "by-anthropic", "by-openai", "by-claude", "command", "by-acp")
    for name in names:
        server.script(name, [f"I am {name}."])

    @python_agent("function")
    async def function(prompt: str) -> str:
        return await asyncio.to_thread(meet, server.url, "function")

    made = {
        "by-anthropic": AgentDefinition("by-anthropic", "A model.", "Be one.", tools=()),
        "by-openai": AgentDefinition("by-openai", "A model.", "Be one.", tools=()),
        "by-claude": AgentDefinition("by-claude", "Claude Code.", "Be one.", tools=(), backend="claude"),
        "command": AgentDefinition(
            *("command", "A program."),
            backend="process",
            command=(sys.executable, str(HERE / "meets.py"), server.url, "command"),
        ),
        "by-acp": AgentDefinition(
            *("by-acp", "A program that speaks ACP."),
            backend="process",
            command=f"acp:{sys.executable} {HERE / 'acp_agent.py'}",
        ),
    }
    models = {"by-openai": "openai:gpt-x", "by-anthropic": "anthropic:claude-x", "by-claude": "anthropic:claude-x"}
    prompts = {"by-acp": f"meet {server.url} by-acp"}
    tasks = [Task(subagent_type=name, prompt=prompts.get(name, "go"), model=models.get(name)) for name in names]
    gate = server.rendezvous(len(names), timeout=PATIENCE)
    done = fan(*tasks).invoke({"out": []}, agents=[function, *made.values()])
    assert gate.met, gate
    assert server.peak >= len(names)
    assert sorted(done["out"]) == sorted(f"I am {name}." for name in names)
    receipt = audit(done)
    assert receipt.peak == len(names)
    by_vendors = {call.agent: call.protocol for call in server.journal if call.agent.startswith("by-")}
    assert (by_vendors["by-anthropic"], by_vendors["by-openai"]) == ("anthropic", "openai-chat")


# Each says that it is there, waits until it is counted, and may go then.
PROGRAM = """
import os, pathlib, time
pathlib.Path(f'here-{os.getpid()}').touch()
while not pathlib.Path(f'go-{os.getpid()}').exists(): time.sleep(0.01)
pathlib.Path(f'here-{os.getpid()}').unlink()
"""
COMMAND = "touch here-$$; until [ -e go-$$ ]; do sleep 0.01; done; rm here-$$"


@pytest.mark.parametrize("kind", ["programs", "commands of models"])
def test_of_eight_programs_only_three_are_alive_when_there_is_memory_for_three(
    server: ModelServer, tmp_path: Path, marked: str, kind: str
) -> None:
    program = AgentDefinition("worker", "Works.", backend="process", command=tuple(python(PROGRAM)), memory_mb=100)
    if kind == "commands of models":
        program = AgentDefinition("worker", "Works.", tools=("Bash",), memory_mb=100)
        bash = ToolUse("bash", {"command": COMMAND, "timeout": PATIENCE})
        server.script("worker", lambda request: "done" if len(request.turns) > 1 else bash)
    counted: list[int] = []
    events: list[Any] = []

    def there() -> list[Path]:
        return list(tmp_path.glob("here-*"))

    async def watch() -> None:
        for number in range(8):
            async with asyncio.timeout(PATIENCE):
                while len(there()) < min(3, 8 - number):
                    await asyncio.sleep(0.01)
            counted.append(len(there()))
            one = there()[0]
            one.with_name(one.name.replace("here", "go")).touch()
            async with asyncio.timeout(PATIENCE):
                while one.exists():
                    await asyncio.sleep(0.01)

    async def main() -> Any:
        graph = fan(*(Task(subagent_type="worker", prompt=str(number)) for number in range(8)))
        watching = asyncio.create_task(watch())
        limits = Limits(memory_mb=350)
        done = await graph.ainvoke({"out": []}, agents=[program], model=server, limits=limits, on_event=events.append)
        await watching
        return done

    done = asyncio.run(main())
    assert counted == [3, 3, 3, 3, 3, 3, 2, 1]
    (room,) = [use for use in audit(done).limits if use.name == "memory_mb"]
    assert (room.peak, room.limit, room.waits) == (300, 350, 5)
    assert {event.waits_for for event in events if isinstance(event, TaskWaiting)} == {"room in memory_mb"}
    until(lambda: not alive(marked), SOON)


def served(server: ModelServer, agents: int, tools: tuple[str, ...], megabytes: int) -> tuple[Any, list[TaskWaiting]]:
    """A run in which so many models have an MCP server each, and who waited in it."""
    worker = AgentDefinition("worker", "Works.", tools=tools, extra={"mcpServers": [{"notes": NOTES}]}, memory_mb=50)
    events: list[Any] = []
    graph = fan(*(Task(subagent_type="worker", prompt=str(number)) for number in range(agents)))
    limits = Limits(memory_mb=megabytes)
    done = graph.invoke({"out": []}, agents=[worker], model=server, limits=limits, on_event=events.append)
    return done, [event for event in events if isinstance(event, TaskWaiting)]


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has seen any program yet."""
    monkeypatch.setattr(sizes, "_peaks", {})


@LINUX
def test_no_more_servers_of_models_are_alive_than_there_is_memory_for(
    server: ModelServer, marked: str, unknown: None
) -> None:
    counted: list[int] = []

    def answered(request: Request) -> Any:
        counted.append(len(alive(marked)))
        return "done" if len(request.turns) > 1 else ToolUse("mcp__notes__environment", {})

    server.script("worker", answered)
    done, waits = served(server, 2, ("mcp__notes",), sizes.UNKNOWN + 50)
    assert counted == [2] * 4, "its launcher and itself"
    assert {wait.waits_for for wait in waits} == {"room in memory_mb"}
    (room,) = [use for use in audit(done).limits if use.name == "memory_mb"]
    assert (room.peak, room.waits) == (sizes.UNKNOWN, 1)


def test_a_model_that_holds_room_for_its_server_has_room_for_a_command_and_two_such_do_not_wait_for_each_other(
    server: ModelServer, unknown: None
) -> None:
    three = [ToolUse("bash", {"command": "mkdir one && sleep 0.05 && rmdir one && echo alone"}) for _ in range(3)]
    server.script("worker", lambda request: "done" if len(request.turns) > 1 else three)
    done, waits = served(server, 2, ("Bash", "mcp__notes"), sizes.UNKNOWN + 50)
    told = [part.text for call in server.journal for turn in call.messages for part in turn.tool_results]
    assert (done["out"], told) == (["done"] * 2, ["alone"] * 6)
    assert len(waits) >= 5, "one for both rooms, and two commands of each for the one before"


def test_what_a_server_was_seen_to_hold_is_what_the_next_one_needs(server: ModelServer, unknown: None) -> None:
    server.script("worker", lambda request: "done")
    assert sizes.of_servers([NOTES]) == sizes.UNKNOWN
    served(server, 1, ("mcp__notes",), 500)
    (held,) = sizes._peaks.values()
    assert 10 < sizes.of_servers([NOTES]) < 500
    assert (sizes.of_servers([NOTES]) - 1) * sizes.MEGABYTE < held <= sizes.of_servers([NOTES]) * sizes.MEGABYTE
    assert sizes.of_servers([NOTES, {"type": "http", "url": "http://127.0.0.1:9"}]) == sizes.of_servers([NOTES])


def test_a_program_that_no_memory_budget_could_hold_is_refused_and_says_what_to_do(server: ModelServer) -> None:
    program = AgentDefinition("worker", "Works.", backend="process", command="true", memory_mb=500)
    with pytest.raises(BudgetError, match="500 memory_mb finds no room in the run's 400") as caught:
        fan(Task(subagent_type="worker", prompt="go")).invoke(
            {"out": []}, agents=[program], limits=Limits(memory_mb=400)
        )
    assert "limits=Limits(memory_mb=...)" in str(caught.value)
