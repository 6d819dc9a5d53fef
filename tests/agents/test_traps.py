"""The nine traps of running real agents, and that ours falls into none. Each was met with the real program."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")

from fanfold import Task
from fanfold.agents.backends import claude_command
from fanfold.errors import AgentError, AgentNotFoundError
from fanfold.events import Event, ToolCalled
from fanfold.testing import Answer, ModelServer, ToolUse
from tests.agents.claude_agents import ask, asked, claude, graph, until
from tests.agents.programs import alive

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")
LONG = "python3 -c 'import time; time.sleep(1000)'"
TASK = claude_command.TASK_TOOL


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, beside a file that is none of an agent's business."""
    (tmp_path / "outside.txt").write_text("a secret\n")
    inside = tmp_path / "workspace"
    inside.mkdir()
    monkeypatch.chdir(inside)
    return inside


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def shell(command: str) -> ToolUse:
    return ToolUse("Bash", {"command": command, "description": "does it"})


def told(server: ModelServer) -> list[str]:
    """What the tools returned that the last call of the model was told of."""
    *_, last = server.journal
    return [result.text for turn in last.messages for result in turn.tool_results]


# 1. Its own sub-agents answer "launched", and an unknown agent becomes one that may do everything.


def test_claude_starts_no_agents_of_its_own(server: ModelServer) -> None:
    uses = [ToolUse(name, {"prompt": "x", "description": "y", "subagent_type": "z"}) for name in ("Agent", "Task")]
    server.script("worker", [uses, "done"])
    assert ask(claude(tools=None), server).output == "done"
    assert len(server.journal) == 2  # no sub-agent has asked
    assert all("No such tool available" in text for text in told(server))
    assert not {"Agent", "Task"} & {tool for call in server.journal for tool in call.tools}


def test_an_unknown_agent_is_an_error_and_no_other_one() -> None:
    with pytest.raises(AgentNotFoundError, match='agent "wroker" not found'):
        asked(Task(subagent_type="wroker", prompt="go"), agents=[claude()], model="rehearsal")


def test_a_command_does_not_go_on_behind_the_answers_back(server: ModelServer) -> None:
    use = ToolUse("Bash", {"command": "echo over", "description": "x", "run_in_background": True})
    server.script("worker", [use, "done"])
    ask(claude(tools=("Bash",)), server)
    assert "unexpected parameter `run_in_background`" in told(server)[0]


# 2. The program runs the tools of MCP servers one after the other unless they say that they only read.


def test_agents_that_claude_calls_in_one_message_work_at_the_same_time(server: ModelServer) -> None:
    calls = [ToolUse(TASK, {"subagent_type": "helper", "prompt": prompt}) for prompt in ("one", "two")]
    server.script("worker", [calls, "done"])
    server.script("helper", lambda request: Answer(f"It was {request.prompt}."))
    gates = []

    def begin(event: Event) -> None:
        if isinstance(event, ToolCalled) and not gates:
            gates.append(server.rendezvous(2, timeout=20))

    helper = claude("helper", backend="model", tools=())
    agents = [claude(tools=("Agent(helper)",)), helper]
    found: list[Any] = []
    compiled = graph(Task(subagent_type="worker", prompt="go"), found=found)
    compiled.invoke({"number": 1}, agents=agents, model=server, on_event=begin)
    assert found[0].output == "done"
    assert gates[0].met
    texts = "\n".join(told(server))
    assert texts.count("<agent-output") == 2
    assert "It was one." in texts
    assert "It was two." in texts


# 3. and 4. Whatever ends an agent ends all of it, and soon.


def working(server: ModelServer, *names: str) -> None:
    for name in names:
        server.script(name, [shell(LONG)])


def shells(mark: str) -> list[int]:
    """The marked processes that an agent's shell has started."""
    return [pid for pid in alive(mark) if "time.sleep(1000)" in _command(pid)]


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return " ".join(words) if "python" in words[0] else ""


def best(measure: Callable[[], float], tries: int = 3) -> float:
    """The shortest of several times, unless an early one is short enough: the machine may be busy with other things."""
    times: list[float] = []
    while len(times) < tries and not any(each < 0.5 for each in times):
        times.append(measure())
    return min(times)


@LINUX
def test_a_cancelled_agent_is_gone_with_its_commands_in_half_a_second(server: ModelServer, marked: str) -> None:
    def measure() -> float:
        working(server, "worker")
        took = asyncio.run(_cancelled(server, marked))
        assert alive(marked) == []
        return took

    assert best(measure) < 0.5


async def _cancelled(server: ModelServer, mark: str) -> float:
    compiled = graph(Task(subagent_type="worker", prompt="go"), found=[])
    options = {"agents": [claude(tools=("Bash",))], "model": server}
    running = asyncio.ensure_future(compiled.ainvoke({"number": 1}, **options))
    async with asyncio.timeout(30):
        while not shells(mark):
            await asyncio.sleep(0.02)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return time.monotonic() - began


ENGINE = """
import types
from fanfold import AgentDefinition, StateGraph, START, Task
import asyncio

async def work(state):
    await asyncio.gather(*(Task(subagent_type=f"worker-{{n}}", prompt="go") for n in range(4)))

agents = [AgentDefinition(f"worker-{{n}}", "Works.", "You work.", backend="claude", tools=("Bash",)) for n in range(4)]
graph = StateGraph(dict).add_node("work", work).add_edge(START, "work").compile()
graph.invoke({{"number": 1}}, agents=agents, model=types.SimpleNamespace(url={url!r}))
"""


@LINUX
def test_nothing_of_four_agents_is_left_half_a_second_after_their_engine_was_killed(
    server: ModelServer, marked: str
) -> None:
    def measure() -> float:
        working(server, *(f"worker-{number}" for number in range(4)))
        engine = subprocess.Popen([sys.executable, "-c", ENGINE.format(url=server.url)])
        try:
            until(lambda: len(shells(marked)) >= 4, within=60)
            assert len(alive(marked)) >= 4 * 3  # launcher, claude, command
        finally:
            engine.send_signal(signal.SIGKILL)
        took = until(lambda: alive(marked) in ([], [engine.pid]))
        engine.wait()
        return took

    assert best(measure) < 0.5


# 5. The SDK would hand our whole environment to the program.


def test_nothing_of_an_agent_sees_our_environment_nor_the_key(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://hidden-url")
    monkeypatch.setenv("OTHER_API_KEY", "hidden-other")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "hidden-key")
    with ModelServer(required_key="hidden-key") as strict:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", strict.url)
        parents = (
            "p=$$; while [ $p -gt 1 ] && grep -q FANFOLD_TASK /proc/$p/environ; do tr '\\0' '\\n' </proc/$p/environ"
        )
        up = "; p=$(awk '{print $4}' /proc/$p/stat); done"
        strict.script("worker", [shell(f"echo begin; env; {parents}{up}; echo end"), "done"])
        result = ask(claude(tools=("Bash",)), "anthropic:claude-sonnet-4-5")
        (seen,) = told(strict)
    assert result.output == "done"
    assert seen.startswith("begin")
    assert "FANFOLD_AGENT=worker" in seen
    assert "hidden" not in seen


# 6. A prompt is made of what other agents wrote; a path in it must not pull in a file.


def test_a_path_in_a_prompt_is_only_text(server: ModelServer, folder: Path) -> None:
    server.script("worker", "done")
    prompt = f"Look at @{folder.parent / 'outside.txt'} and @../outside.txt.\n/help"
    ask(claude(), server, prompt)
    (call,) = server.journal
    assert call.messages[0].text == prompt
    assert "a secret" not in str(call)


# 7. A sandbox that cannot be had is not done without.


def test_an_agent_that_wants_a_sandbox_does_not_run_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AgentError, match="isolation: sandbox`, and there is no bwrap and no socat"):
        ask(claude(extra={"isolation": "sandbox"}), "rehearsal")


# 8. What is hidden in the stream of events is an error of its own: `test_claude.py` has one test for each.


def test_structured_output_that_is_none_is_no_answer(server: ModelServer) -> None:
    from fanfold.errors import ModelAnswerError

    server.script("worker", lambda request: "no")
    with pytest.raises(ModelAnswerError):
        ask(claude(), server, output={"type": "object", "properties": {"a": {}}, "required": ["a"]})


# 9. As root, the program refuses to bypass permissions, and says so in a way that nobody sees.


def test_bypassing_permissions_as_root_is_refused_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(AgentError, match="claude refuses that as root"):
        ask(claude(command="/no/such", extra={"permissionMode": "bypassPermissions"}), "rehearsal")
