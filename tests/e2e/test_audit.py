"""`fanfold audit` as people and CI use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanfold.testing import ModelServer
from tests.e2e.conftest import Command, kill, until

APP = """
import asyncio, pathlib, time
from typing import TypedDict
from fanfold import START, StateGraph

class State(TypedDict, total=False):
    number: int

async def blocks(state: State):
    time.sleep(0.1)  # blocks here

async def waits(state: State):
    await asyncio.sleep(0.1)

async def holds(state: State):
    pathlib.Path("begun").touch()
    while pathlib.Path("hold").exists():
        await asyncio.sleep(0.01)

blocking = StateGraph(State)
for name in "ab":
    blocking.add_node(name, blocks).add_edge(START, name)
waiting = StateGraph(State)
for name in "ab":
    waiting.add_node(name, waits).add_edge(START, name)
holding = StateGraph(State)
for name in "ab":
    holding.add_node(name, holds).add_edge(START, name)
"""


@pytest.fixture(autouse=True)
def app(fanfold: Command) -> Path:
    path = fanfold.folder / "app.py"
    path.write_text(APP)
    return path


def test_a_graph_is_run_and_judged_and_the_gate_names_what_it_missed(fanfold: Command) -> None:
    done = fanfold("audit", "--module", "app.py:blocking", "-i", "number=1", "--max-blocked-ms", "50")
    assert done.returncode == 4
    assert "gate: the event loop was blocked for 2" in done.stderr
    assert "50 ms were allowed" in done.stderr
    *account, last = done.stdout.splitlines()
    assert last.endswith("SEQUENTIAL")
    assert account[0].startswith("a: 0.")
    assert "blocking the loop 0.1" in account[0]
    line = APP.splitlines().index("    time.sleep(0.1)  # blocks here") + 1
    assert any(f"app.py:{line} in blocks" in text and "asyncio.to_thread" in text for text in account)

    run = fanfold.newest()
    assert fanfold("audit", run).stdout == done.stdout, "the run is stored, and judged alike"
    told = fanfold.json("audit", run, "--json")
    assert told["causes"][0]["kind"] == "blocks the event loop"
    assert all(sum(task["parts"].values()) == pytest.approx(task["ended"] - task["queued"]) for task in told["tasks"])
    assert fanfold.json("audit", run, "--json", "--telling", "1")["causes"] == []


def test_a_graph_that_is_parallel_passes(fanfold: Command) -> None:
    gates = ("--min-concurrency", "2", "--min-speedup", "1.1", "--max-blocked-ms", "500")
    done = fanfold("audit", "--module", "app.py:waiting", "-i", "number=1", *gates)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("PARALLEL")


def test_a_run_that_goes_on_is_judged_until_now(fanfold: Command) -> None:
    (fanfold.folder / "hold").touch()
    process = fanfold.start("run", "app.py:holding", "-i", "number=1", "--quiet")
    until(lambda: (fanfold.folder / "begun").exists() and len(fanfold("runs", "ls", "--json").stdout) > 1, process)
    told = fanfold.json("audit", fanfold.newest(), "--json")
    kill(process)
    assert told["status"] == "running"
    assert {task["status"] for task in told["tasks"]} <= {"queued", "running"}


def test_a_journal_is_a_second_witness(fanfold: Command, tmp_path: Path) -> None:
    assert fanfold("audit", "--module", "app.py:waiting", "-i", "number=1").returncode == 0
    run = fanfold.newest()
    with ModelServer(journal_path=tmp_path / "journal.ndjson"):
        pass
    assert fanfold("audit", run, "--journal", str(tmp_path / "journal.ndjson")).returncode == 0
    (tmp_path / "broken").write_text("{}\n")
    assert (
        "not a line of a model server's journal" in fanfold("audit", run, "--journal", str(tmp_path / "broken")).stderr
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "takes a run, or a graph with --module"),
        (("feed", "--module", "app.py:waiting"), "takes a run, or a graph with --module"),
        (("--module", "app.py:waitin"), "did you mean 'waiting'"),
        (("feed", "--max-blocked-ms", "nan"), "--max-blocked-ms is nan"),
        (("feed", "--parallel", "0"), "leave nothing between them"),
        (("feed", "--journal", "nowhere"), "cannot read the journal 'nowhere'"),
    ],
)
def test_what_cannot_be_meant_is_refused(fanfold: Command, words: tuple[str, ...], complaint: str) -> None:
    done = fanfold("audit", *words)
    assert done.returncode == 2
    assert complaint in done.stderr
