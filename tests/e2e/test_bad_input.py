"""Bad input: one clear message, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanfold.testing import ModelServer
from tests.e2e.conftest import Command

GRAPH = """
from typing import TypedDict
from fanfold import END, START, StateGraph

class State(TypedDict):
    number: int

def double(state: State) -> dict:
    if state["number"] < 0:
        raise ValueError("no negative numbers")
    return {"number": state["number"] * 2}

def leave(state: State) -> dict:
    raise SystemExit(9)

def broken(state: State) -> dict:
    raise BrokenPipeError(32, "the node's own pipe")

def asking(state: State) -> dict:
    return {"number": input()}

leaving = StateGraph(State).add_node(leave).add_edge(START, "leave")
breaking = StateGraph(State).add_node(broken).add_edge(START, "broken")
unheard = StateGraph(State).add_node(asking).add_edge(START, "asking")
graph = StateGraph(State).add_node(double).add_edge(START, "double").add_edge("double", END)
typo = StateGraph(State).add_node(double).add_edge(START, "duoble").add_edge("duoble", "nowhere")
"""

BROKEN = {
    "unclosed.py": "import os\nx = (\n",
    "needy.py": "import os\n\nimport nowhere_to_be_found\n",
    "leaving.py": "import sys\nsys.exit(4)\n",
    "twice.py": "from fanfold import StateGraph\ng = StateGraph(dict)\nfor _ in 'ab':\n    g.add_node('a', print)\n",
    "factory.py": "def graph(config):\n    return None\n",
    "list.json": "[1]",
    "null.json": "null",
}

USAGE, FAILED, ENVIRONMENT = 2, 1, 6


@pytest.fixture
def app(fanfold: Command) -> Path:
    path = fanfold.folder / "app.py"
    path.write_text(GRAPH)
    for name, text in BROKEN.items():
        (fanfold.folder / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["task", "sydney-reserch", "hello"], USAGE, ["sydney-reserch", "sydney-research", "fanfold agents ls"]),
        (["task", "sydney-research", " "], USAGE, ["prompt is empty"]),
        (["demo", "--path", "nowhere"], USAGE, ["'nowhere'", "does not exist"]),
        (["demo", "--path", "app.py"], USAGE, ["'app.py'", "is not a folder"]),
        (["demo", "--max-concurrency", "0"], USAGE, ["--max-concurrency"]),
        (["demo", "--question", " "], USAGE, ["question is empty"]),
        (["demo", "-o", "nowhere/report.md"], USAGE, ["'nowhere/report.md'", "the folder 'nowhere' does not exist"]),
        (["demo", "-o", "app.py/report.md"], USAGE, ["the folder 'app.py' is not a folder"]),
        (["demo", "--model", "gpt"], USAGE, ["'gpt'", "anthropic", "openai"]),
        (["demo", "--model", "antropic:x"], USAGE, ["antropic", "did you mean 'anthropic'"]),
        (["demo", "--model", "openai:x", "--rehearse"], USAGE, ["--model", "--rehearse"]),
        (["demo", "--model", "openai:x"], ENVIRONMENT, ["OPENAI_API_KEY"]),
        (["run", "app.py:typo", "-i", "number=1"], USAGE, ["duoble", "did you mean 'double'", "nowhere"]),
        (["run", "app.py:graf"], USAGE, ["graf", "did you mean 'graph'"]),
        (["run", "ap.py:graph"], USAGE, ["ap.py"]),
        (["run", "nomodule:graph"], USAGE, ["nomodule"]),
        (["run", "unclosed.py:graph"], USAGE, ["unclosed.py, line 2", "never closed"]),
        (["run", "unclosed:graph"], USAGE, ["unclosed.py, line 2", "never closed"]),
        (["run", "needy.py:graph"], USAGE, ["needy.py", "nowhere_to_be_found", "needy.py, line 3"]),
        (["run", "needy:graph"], USAGE, ["needy", "nowhere_to_be_found", "needy.py, line 3"]),
        (["run", "leaving.py:graph"], USAGE, ["SystemExit: 4", "leaving.py, line 2"]),
        (["run", "twice.py:g"], USAGE, ["'a'", "twice.py, line 4"]),
        (["run", "factory.py:graph"], USAGE, ["factory.py:graph", "config"]),
        (["run", "app.py:leaving", "-i", "number=1"], FAILED, ["SystemExit: 9", "'leave'", "fanfold resume"]),
        (["run", "app.py:breaking", "-i", "number=1"], FAILED, ["the node's own pipe", "'broken'"]),
        (["run", "app.py:unheard", "-i", "number=1"], FAILED, ["EOFError", "'asking'"]),
        (["run", "app.py:graph", "-f", "list.json"], USAGE, ["list.json holds a list", "its keys are: number"]),
        (["run", "app.py:graph", "-f", "null.json"], USAGE, ["null.json holds null", "its keys are: number"]),
        (["run", "app.py:graph", "-i", "number=1", "--workspace", "nowhere"], USAGE, ["'nowhere'", "--workspace"]),
        (["graph", "show", "app.py:graf"], USAGE, ["did you mean 'graph'"]),
        (["graph", "show", "app.py:graph", "--format", "png"], USAGE, ["png", "mermaid"]),
        (["graph", "show", "app.py:graph", "-o", "nowhere/a.svg"], USAGE, ["nowhere"]),
        (["audit", "feed", "--min-speedup", "nan"], USAGE, ["--min-speedup is nan"]),
        (["audit", "feed", "--min-speedup", "-1"], USAGE, ["--min-speedup is -1"]),
        (["audit", "feed", "--min-speedup", "inf"], USAGE, ["--min-speedup is inf"]),
        (["run", "graph"], USAGE, ["module:attr"]),
        (["run", "app.py:graph", "-i", "numbr=1"], USAGE, ["numbr", "did you mean 'number'"]),
        (["run", "app.py:graph", "-i", "number"], USAGE, ["key=value"]),
        (["run", "app.py:graph", "-f", "none.json"], USAGE, ["none.json"]),
        (["run", "app.py:graph", "-f", "app.py"], USAGE, ["app.py", "not JSON"]),
        (["run", "app.py:graph"], USAGE, ["sets no key", "number"]),
        (["run", "app.py:graph", "-i", "number=-1"], FAILED, ["ValueError", "no negative numbers", "'double'"]),
        (["runs", "show", "feed"], USAGE, ["feed", "fanfold runs ls"]),
        (["resume", "feed"], USAGE, ["feed", "fanfold runs ls"]),
        (["audit", "feed"], USAGE, ["feed", "fanfold runs ls"]),
        (["runs", "ls", "--store", "mysql://x"], USAGE, ["mysql://", "sqlite:///"]),
        (["runs", "ls", "--store", "app.py"], ENVIRONMENT, ["app.py", "--store"]),
        (["runs", "ls", "--store", "app.py/runs.db"], ENVIRONMENT, ["app.py/runs.db", "--store"]),
        (["dmeo"], USAGE, ["dmeo", "did you mean 'demo'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and value[0] in COMMANDS else "",
)
def test_a_mistake_is_told_once_clearly_and_with_its_exit_code(
    fanfold: Command, app: Path, words: list[str], code: int, told: list[str]
) -> None:
    done = fanfold(*words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.lower().startswith("error:") for line in done.stderr.splitlines()) == 1
    for part in told:
        assert part in done.stderr


def test_a_server_that_is_not_there_is_told_and_the_run_can_go_on_once_it_is(
    fanfold: Command, server: ModelServer
) -> None:
    (fanfold.folder / "notes.txt").write_text("the purpose of these notes is to be quoted\n")
    server.close()
    away = {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "made-up"}
    done = fanfold("demo", "--quiet", "--model", "openai:scripted", **away)
    assert done.returncode == ENVIRONMENT
    assert "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr
    assert "OPENAI_BASE_URL" in done.stderr
    run = json.loads(fanfold("runs", "ls", "--json").stdout)
    assert run["status"] == "failed"
    assert f"fanfold resume {run['run_id'][:8]}" in done.stderr
    with ModelServer() as back:
        there = {"OPENAI_BASE_URL": back.openai_url, "OPENAI_API_KEY": "made-up"}
        assert fanfold("resume", run["run_id"], "--quiet", **there).returncode == 0


def test_a_key_that_is_refused_is_told_with_the_variable_that_holds_it(fanfold: Command) -> None:
    with ModelServer(required_key="the right one") as server:
        wrong = {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "the-wrong-one"}
        done = fanfold("task", "sydney-coder", "hello", "--model", "openai:scripted", "--quiet", **wrong)
    assert done.returncode == ENVIRONMENT
    assert "Traceback" not in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "the-wrong-one" not in done.stderr


def test_an_agent_file_that_is_broken_is_named_and_the_others_are_listed(fanfold: Command) -> None:
    folder = fanfold.folder / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "broken.md").write_text("---\nname: broken\n---\nno description\n")
    done = fanfold("agents", "ls")
    assert done.returncode == 0
    assert "sydney-research" in done.stdout
    assert "broken.md" in done.stderr
    assert "description" in done.stderr


def test_traceback_shows_where_an_error_was_raised(fanfold: Command, app: Path) -> None:
    done = fanfold("--traceback", "run", "app.py:graph", "-i", "number=-1")
    assert done.returncode == FAILED
    assert "Traceback" in done.stderr
    assert 'app.py", line' in done.stderr


COMMANDS = {"graph", "task", "demo", "run", "runs", "resume", "audit", "dmeo"}
