"""The other commands, as people use them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from fanfold.cli import COMMANDS
from tests.e2e.conftest import PATIENCE, Command, kill, until

GRAPH = """
import asyncio, operator, pathlib
from typing import Annotated, TypedDict
from fanfold import END, START, StateGraph

class State(TypedDict):
    names: Annotated[list[str], operator.add]

def node(name):
    async def run(state: State) -> dict:
        with open(f"{name}.ran", "a") as file:
            file.write("x")
        while pathlib.Path("hold").exists() and name == "slow":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return {"names": [name]}
    return run

graph = StateGraph(State)
for name in ("quick", "slow"):
    graph.add_node(name, node(name))
    graph.add_edge(START, name)
graph.add_node("last", node("last"))
graph.add_edge(["quick", "slow"], "last")
"""


@pytest.fixture
def app(fanfold: Command) -> Path:
    path = fanfold.folder / "app.py"
    path.write_text(GRAPH)
    return path


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_command_has_help(fanfold: Command, name: str) -> None:
    done = fanfold(*([name] if name else []), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_run_prints_the_output_and_the_receipt(fanfold: Command, app: Path) -> None:
    done = fanfold("run", "app.py:graph", "-i", 'names=["first"]')
    assert done.returncode == 0, done.stderr
    output, _, rest = done.stdout.partition("\n}\n")
    assert json.loads(output + "}") == {"names": ["first", "quick", "slow", "last"]}
    assert "peak 2" in rest
    assert "fanfold audit" in rest


def test_run_with_json_prints_each_event_and_the_result_last(fanfold: Command, app: Path) -> None:
    done = fanfold("run", "app.py:graph", "-i", "names=[]", "--json")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["kind"] == "run_started"
    assert [event["kind"] for event in events].count("task_finished") == 3
    assert last["kind"] == "result"
    assert last["output"] == {"names": ["quick", "slow", "last"]}


def test_a_thread_goes_on_from_where_it_stood(fanfold: Command, app: Path) -> None:
    for _ in range(2):
        done = fanfold("run", "app.py:graph", "-i", 'names=["x"]', "--thread", "t", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["output"]["names"] == ["x", "quick", "slow", "last"] * 2


def test_the_gate_passes_and_fails_with_exit_code_4(fanfold: Command, app: Path) -> None:
    fanfold("run", "app.py:graph", "-i", "names=[]")
    run = fanfold.json("runs", "ls", "--json")["run_id"]
    assert fanfold("audit", run, "--min-concurrency", "2", "--min-speedup", "1.1").returncode == 0
    failed = fanfold("audit", run, "--min-concurrency", "3")
    assert failed.returncode == 4
    assert "at most 2 tasks ran at once; 3 were asked for" in failed.stderr
    assert fanfold("audit", run, "--min-speedup", "9").returncode == 4


def test_after_kill_9_only_what_had_not_finished_runs_again(fanfold: Command, app: Path) -> None:
    (fanfold.folder / "hold").touch()
    process = fanfold.start("run", "app.py:graph", "-i", "names=[]", "--quiet")
    ran = fanfold.folder / "slow.ran"
    until(lambda: ran.exists() and fanfold.kept(agents=False) == {"quick"}, process)
    kill(process)
    (fanfold.folder / "hold").unlink()
    run = fanfold.json("runs", "ls", "--json")
    assert run["status"] == "interrupted"
    done = fanfold("resume", run["run_id"], "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["output"] == {"names": ["quick", "slow", "last"]}
    assert (fanfold.folder / "quick.ran").read_text() == "x"
    assert ran.read_text() == "xx"
    assert (fanfold.folder / "last.ran").read_text() == "x"


def test_a_run_that_goes_on_cannot_be_resumed_beside_itself(fanfold: Command, app: Path) -> None:
    (fanfold.folder / "hold").touch()
    process = fanfold.start("run", "app.py:graph", "-i", "names=[]", "--quiet")
    until(lambda: (fanfold.folder / "slow.ran").exists(), process)
    run = fanfold.json("runs", "ls", "--json")
    assert run["status"] == "running"
    refused = fanfold("resume", run["run_id"])
    assert refused.returncode == 6
    assert f"process {process.pid}" in refused.stderr
    (fanfold.folder / "hold").unlink()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_says_how_to_go_on(
    fanfold: Command, app: Path, number: signal.Signals, code: int
) -> None:
    (fanfold.folder / "hold").touch()
    process = fanfold.start("run", "app.py:graph", "-i", "names=[]", "--quiet")
    until(lambda: (fanfold.folder / "slow.ran").exists() and fanfold.kept(agents=False) == {"quick"}, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in err
    run = fanfold.json("runs", "ls", "--json")
    assert run["status"] == "cancelled"
    assert f"fanfold resume {run['run_id'][:8]}" in err
    (fanfold.folder / "hold").unlink()
    assert fanfold("resume", run["run_id"]).returncode == 0
    assert (fanfold.folder / "quick.ran").read_text() == "x"


def test_resuming_a_run_that_is_done_says_so_and_runs_nothing(fanfold: Command, app: Path) -> None:
    fanfold("run", "app.py:graph", "-i", "names=[]")
    run = fanfold.json("runs", "ls", "--json")["run_id"]
    done = fanfold("resume", run)
    assert done.returncode == 0
    assert "is done" in done.stderr
    assert (fanfold.folder / "last.ran").read_text() == "x"


def test_a_task_is_stored_and_listed_like_any_run(fanfold: Command) -> None:
    (fanfold.folder / "notes.md").write_text("The purpose of this note is to be found by an agent.\n")
    told = fanfold.json("task", "Sydney Research", "What is the purpose?", "--json")
    assert told["agent"] == "sydney-research"
    assert "to be found by an agent" in told["output"]
    assert fanfold.json("runs", "ls", "--json")["run_id"] == told["run_id"]


def test_agents_of_the_project_are_listed_and_win_over_packaged_ones(fanfold: Command) -> None:
    folder = fanfold.folder / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "mine.md").write_text("---\nname: sydney-coder\ndescription: My own coder\n---\nCode.\n")
    listed = [json.loads(line) for line in fanfold("agents", "ls", "--json").stdout.splitlines()]
    coder = next(agent for agent in listed if agent["name"] == "sydney-coder")
    assert coder["origin"] == "project"
    assert coder["description"] == "My own coder"


def test_plain_display_says_one_line_a_transition(fanfold: Command, app: Path) -> None:
    done = fanfold("run", "app.py:graph", "-i", "names=[]", "--plain")
    assert any("started" in line and "quick" in line for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr + done.stdout
