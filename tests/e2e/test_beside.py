"""A graph's own file brings the agent files in `.claude/agents` beside it, wherever it is run from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Command

GRAPH = """
from typing import TypedDict
from fanfold import StateGraph, Task, interrupt

class State(TypedDict, total=False):
    said: str

async def node(state: State) -> State:
    interrupt("go on?")
    return {"said": str(await Task(subagent_type="counter", prompt="one two three"))}

graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node")
"""


def agent(folder: Path, command: str, name: str = "counter") -> None:
    path = folder / ".claude" / "agents" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: {name}\ndescription: d\nbackend: process\ncommand: {command}\n---\n")


@pytest.fixture
def team(fanfold: Command) -> Path:
    folder = fanfold.folder / "team"
    folder.mkdir()
    (folder / "app.py").write_text(GRAPH)
    agent(folder, "wc -w")
    return folder


def test_they_come_with_a_run_and_with_its_resume_and_count_before_those_of_the_working_directory(
    fanfold: Command, team: Path
) -> None:
    agent(fanfold.folder, "echo another one")
    assert fanfold("run", "team/app.py:graph", "-i", "said=no").returncode == 3
    done = fanfold("resume", fanfold.newest(), "--respond", "yes")
    assert done.returncode == 0, done.stderr
    assert '"said": "3"' in done.stdout


def test_one_that_cannot_be_used_is_said_and_keeps_nobody_from_running(fanfold: Command, team: Path) -> None:
    (team / ".claude" / "agents" / "broken.md").write_text("---\nname: broken\n---\n")
    begun = fanfold("run", "team/app.py:graph", "-i", "said=no")
    assert begun.returncode == 3
    assert "broken.md: no `description`" in begun.stderr
