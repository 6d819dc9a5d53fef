"""Whole trees of processes: what they see, that they work at once, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, Task, TaskResult
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import AgentTimeoutError
from tests.agents.programs import SOON, agent, alive, asked, graph, python, until

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")
ACP = shlex.join([sys.executable, str(Path(__file__).with_name("acp_agent.py"))])

LEAVER = """
import json, os, subprocess, sys, time
folder = sys.stdin.read().split()[-1]
if "lines" in sys.argv:
    print(json.dumps({"type": "tool", "name": "start"}), flush=True)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
open(os.path.join(folder, f"hangs-{os.getpid()}"), "w").close()
time.sleep(1000)
"""
"""Leaves its group with a child that stays, as the agent of the protocol does, and hangs."""

KINDS = {"text": shlex.join(python(LEAVER)), "lines": f"{shlex.join(python(LEAVER))} lines", "acp": f"acp:{ACP}"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hanging(folder: Path) -> int:
    return len(list(folder.glob("hangs-*")))


# What they see

SEEN = {
    "text": python("import json, os; print(json.dumps([dict(os.environ)]))"),
    "lines": python("import json, os; print(json.dumps({'type': 'result', 'output': dict(os.environ)}))"),
    "acp": f"acp:{ACP}",
}


@pytest.mark.parametrize("kind", SEEN)
def test_no_kind_of_program_sees_the_secrets_of_our_environment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    seen = str(asked(agent(SEEN[kind]), "environment").output)
    assert "FANFOLD_TASK" in seen
    assert "secret" not in seen


# That they are gone


@LINUX
@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_tree_is_gone_at_once(kind: str, folder: Path, marked: str) -> None:
    results: list[TaskResult] = []

    async def main() -> float:
        run = asyncio.ensure_future(
            graph(f"hang {folder}", results).ainvoke({"number": 1}, agents=[agent(KINDS[kind])])
        )
        while not hanging(folder):
            await asyncio.sleep(0.005)
        assert len(alive(marked)) >= 3
        began = time.monotonic()
        run.cancel()
        await asyncio.wait([run])
        assert alive(marked) == []
        return time.monotonic() - began

    assert asyncio.run(main()) < SOON


@pytest.mark.timed
@LINUX
@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_whose_time_is_up_is_gone_at_once(kind: str, folder: Path, marked: str) -> None:
    for seconds in (0.5, 2.0, 8.0, 32.0):  # as long as it takes this machine to start it
        began = time.monotonic()
        with pytest.raises(AgentTimeoutError):
            asked(agent(KINDS[kind], timeout=seconds), f"hang {folder}")
        took = time.monotonic() - began
        assert alive(marked) == []
        if hanging(folder):
            break
    assert took < seconds + SOON
    assert (folder / "cancelled").exists() == (kind == "acp")


ENGINE = """
import asyncio, json, sys
from pathlib import Path
from typing import TypedDict
from fanfold import START, StateGraph, Task
from fanfold.agents.definition import AgentDefinition

commands = json.loads(sys.argv[1])
agents = [AgentDefinition(kind, "Hangs.", backend="process", command=command) for kind, command in commands.items()]

class State(TypedDict, total=False):
    number: int

async def team(state: State) -> None:
    tasks = [Task(subagent_type=kind, prompt=f"hang {sys.argv[2]}") for kind in commands for _ in range(4)]
    await asyncio.gather(*tasks)

graph = StateGraph(State).add_node(team).add_edge(START, "team").compile()
asyncio.run(graph.ainvoke({"number": 1}, agents=agents))
"""


@LINUX
def test_nothing_of_twelve_agents_is_left_half_a_second_after_their_engine_is_killed(folder: Path, marked: str) -> None:
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, json.dumps(KINDS), str(folder)])
    try:
        until(lambda: hanging(folder) == 12)
        assert len(alive(marked)) >= 12 * 3  # each with its launcher and a child; the engine has the mark as well
        os.kill(engine.pid, signal.SIGKILL)
        until(lambda: not alive(marked), SOON)
    finally:
        engine.kill()
        engine.wait()


# That they work at once


class State(TypedDict, total=False):
    number: int


def test_eight_programs_work_at_once() -> None:
    """Each waits for a line that only comes when all eight have begun."""
    script = "read go < gate; echo done"
    os.mkfifo("gate")
    worker = AgentDefinition("worker", "Works.", backend="process", command=("sh", "-c", f"echo x >> begun; {script}"))
    results: list[Any] = []

    async def one() -> TaskResult:
        return await Task(subagent_type="worker", prompt="go")

    async def team(state: State) -> None:
        asked = [asyncio.ensure_future(one()) for _ in range(8)]
        while not (os.path.exists("begun") and Path("begun").read_text().count("x") == 8):
            await asyncio.sleep(0.005)
        gate = await asyncio.to_thread(os.open, "gate", os.O_RDWR)
        os.write(gate, b"go\n" * 8)
        results.extend(await asyncio.gather(*asked))
        os.close(gate)

    StateGraph(State).add_node(team).add_edge(START, "team").compile().invoke({"number": 1}, agents=[worker])
    assert [result.output for result in results] == ["done"] * 8
