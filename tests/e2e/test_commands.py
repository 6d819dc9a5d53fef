"""The other commands, as people use them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
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


ASKING = """
from typing import TypedDict
from fanfold import START, StateGraph, interrupt

class State(TypedDict):
    answer: str

def ask(state: State) -> dict:
    return {"answer": interrupt("Shall I?")}

graph = StateGraph(State).add_node(ask).add_edge(START, "ask")
"""


def test_a_run_that_waits_for_a_person_exits_with_3_and_is_answered_by_resume(fanfold: Command) -> None:
    (fanfold.folder / "asking.py").write_text(ASKING)
    paused = fanfold("run", "asking.py:graph", "-i", "answer=none")
    assert paused.returncode == 3
    assert "waiting: Shall I?" in paused.stderr
    run = fanfold.json("runs", "ls", "--json")
    assert run["status"] == "paused"
    done = fanfold("resume", run["run_id"], "--respond", "yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["output"] == {"answer": "yes"}
    assert fanfold.json("runs", "ls", "--json")["status"] == "done"


QUESTIONS = (
    ASKING.replace("answer: str", "first: str\n    second: str")
    + """
def other(state: State) -> dict:
    return {"second": interrupt({"of": "the other"})}

def ask(state: State) -> dict:
    return {"first": interrupt("Shall I?")}

graph = StateGraph(State).add_node(ask).add_node(other).add_edge(START, "ask").add_edge(START, "other")
"""
)


def test_several_questions_are_answered_by_their_ids_together_or_one_after_the_other(fanfold: Command) -> None:
    (fanfold.folder / "asking.py").write_text(QUESTIONS)
    paused = fanfold("run", "asking.py:graph", "-i", "first=x", "--json")
    assert paused.returncode == 3
    told = json.loads(paused.stdout.splitlines()[-1])
    first, second = told["interrupts"]
    assert (first["value"], second["value"]) == ("Shall I?", {"of": "the other"})
    assert 'waiting: {"of": "the other"}' in paused.stderr
    run = told["run_id"]

    (hint,) = (line for line in paused.stderr.splitlines() if line.startswith("answer with: "))
    *_, option, form = shlex.split(hint)
    assert option == "--respond"
    assert json.loads(form) == {first["id"]: "ANSWER", second["id"]: "ANSWER"}

    unclear = fanfold("resume", run, "--respond", "yes")
    assert unclear.returncode == 2
    assert first["id"] in unclear.stderr
    assert fanfold.json("runs", "ls", "--json")["status"] == "paused"

    half = fanfold("resume", run, "--respond", json.dumps({first["id"]: "yes"}), "--json")
    assert half.returncode == 3
    (left,) = json.loads(half.stdout.splitlines()[-1])["interrupts"]
    assert left["id"] == second["id"]
    whole = fanfold("resume", run, "--respond", "no", "--json")
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout.splitlines()[-1])["output"] == {"first": "yes", "second": "no"}


def test_where_a_compiled_graph_pauses_the_command_does_and_takes_no_answer(fanfold: Command, app: Path) -> None:
    with app.open("a") as file:
        file.write('pausing = graph.compile(interrupt_before=["last"])\n')
    paused = fanfold("run", "app.py:pausing", "-i", "names=[]")
    assert paused.returncode == 3
    run = fanfold.newest()
    assert f"fanfold resume {run[:8]}" in paused.stderr
    refused = fanfold("resume", run, "--respond", "yes")
    assert refused.returncode == 2
    assert "has asked nothing" in refused.stderr
    assert fanfold("resume", run).returncode == 0
    assert (fanfold.folder / "last.ran").read_text() == "x"
    assert (fanfold.folder / "quick.ran").read_text() == "x"


def test_resuming_a_run_that_is_done_says_so_prints_its_receipt_and_runs_nothing(fanfold: Command, app: Path) -> None:
    fanfold("run", "app.py:graph", "-i", "names=[]")
    run = fanfold.newest()
    before = fanfold("audit", run).stdout
    done = fanfold("resume", run)
    assert done.returncode == 0
    assert "is done" in done.stderr
    receipt, further = done.stdout.rsplit("\n", 2)[0], done.stdout.splitlines()[-1]
    assert before.endswith(f"\n{receipt}\n")
    assert further.startswith("look further:")
    told = fanfold.json("resume", run, "--json")
    assert told["output"] == {"names": ["quick", "slow", "last"]}
    assert fanfold("resume", run, "--respond", "yes").returncode == 2
    assert fanfold("audit", run).stdout == before
    assert (fanfold.folder / "last.ran").read_text() == "x"


def test_the_result_of_a_run_stays_its_own_when_the_thread_has_gone_on(fanfold: Command, app: Path) -> None:
    runs = []
    for name in ("one", "two"):
        fanfold("run", "app.py:graph", "-i", f'names=["{name}"]', "--thread", "t")
        runs.append(fanfold.newest())
    told = [fanfold.json("runs", "show", run, "--result", "--json")["output"]["names"] for run in runs]
    assert told[0] == ["one", "quick", "slow", "last"]
    assert told[1] == [*told[0], "two", "quick", "slow", "last"]


def test_a_key_that_the_state_lacks_is_a_note_and_no_raw_warning(fanfold: Command, app: Path) -> None:
    app.write_text(GRAPH.replace('{"names": [name]}', '{"names": [name], "nmaes": 1}'))
    done = fanfold("run", "app.py:graph", "-i", "names=[]", "--quiet")
    assert done.returncode == 0
    assert "note: node 'quick' returned key 'nmaes'" in done.stderr
    assert "Warning" not in done.stderr


def test_that_the_rehearsal_answers_is_a_note_and_no_raw_warning(fanfold: Command) -> None:
    graph = "fanfold.teams.single:graph"
    done = fanfold("run", graph, "-i", "agent=sydney-coder", "-i", "prompt=What is it?", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "note: model: rehearsal" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("form", "begins"),
    [("ascii", "  ╭"), ("mermaid", "flowchart"), ("svg", "<svg"), ("dot", "digraph"), ("json", "{")],
)
def test_a_graph_is_drawn_in_each_format_and_nothing_of_it_runs(
    fanfold: Command, app: Path, form: str, begins: str
) -> None:
    shown = fanfold("graph", "show", "app.py:graph", "--format", form)
    assert shown.returncode == 0, shown.stderr
    assert begins in shown.stdout[: 200 if form in ("mermaid", "ascii") else len(begins)]
    assert "quick" in shown.stdout
    written = fanfold("graph", "show", "app.py:graph", "--format", form, "-o", "drawn")
    assert written.returncode == 0
    assert written.stdout == ""
    assert (fanfold.folder / "drawn").read_text() == shown.stdout
    assert not (fanfold.folder / "quick.ran").exists()
    assert not (fanfold.folder / ".fanfold").exists()


BRANCHES = """
from typing import TypedDict
from fanfold import START, StateGraph

class State(TypedDict, total=False):
    a: int
    b: int

class A(TypedDict):
    a: int

def one(state: State) -> A: ...
def two(state: State): ...
def other(state: State): ...

graph = StateGraph(State).add_node(one).add_node(two).add_node(other)
graph.add_edge(START, "one").add_edge(START, "other").add_edge("one", "two")
"""


def test_a_graph_is_checked_for_who_waits_for_whom_and_what_would_end_it(fanfold: Command) -> None:
    (fanfold.folder / "branches.py").write_text(BRANCHES)
    done = fanfold("graph", "check", "branches.py:graph")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "graph 'graph': 3 nodes, 1 of them declare what they write",
        "two waits for other: it would not with writes= (or a return annotation) for other"
        " and reads= (or an annotation of its input) for two",
    ]
    told = fanfold.json("graph", "check", "branches.py:graph", "--json")
    assert told["waits"] == [
        {"node": "two", "other": "other", "keys": [], "writers": ["other"], "reads": True, "needed": False}
    ]
    (fanfold.folder / "branches.py").write_text(BRANCHES.replace("other(state: State)", "other(state: State) -> A"))
    done = fanfold("graph", "check", "branches.py:graph")
    assert "two waits for other: it sees 'a', written by other or by what that leads to" in done.stdout
    (fanfold.folder / "branches.py").write_text(BRANCHES.replace('.add_edge("one", "two")', ""))
    assert "no node waits" in fanfold("graph", "check", "branches.py:graph").stdout


def test_a_run_is_shown_with_what_was_waited_at_barriers(fanfold: Command) -> None:
    waiting = BRANCHES.replace("def other(state: State): ...", "def other(state: State):\n    time.sleep(0.2)")
    (fanfold.folder / "branches.py").write_text("import time\n" + waiting)
    assert fanfold("run", "branches.py:graph", "-i", "a=1", "--quiet").returncode == 0
    lines = fanfold("runs", "show", fanfold.newest()).stdout.splitlines()
    (two,) = [line for line in lines if " two " in line and "step" in line]
    assert re.search(r"  held back 0\.[12]\d\d s by other$", two), two


def test_output_that_nobody_reads_ends_the_command_without_a_word(fanfold: Command, app: Path) -> None:
    fanfold("run", "app.py:graph", "-i", "names=[]")
    process = fanfold.start("runs", "ls", "--json")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == ""


def test_commands_are_suggested_as_the_command_was_called(fanfold: Command) -> None:
    script = fanfold.folder / "bin" / "fanfold"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom fanfold.cli import main\nmain()\n")
    script.chmod(0o755)
    assert "python -m fanfold demo" in fanfold("runs", "ls").stderr
    fanfold.program = ["bin/fanfold"]
    assert "begin with: bin/fanfold demo\n" in fanfold("runs", "ls").stderr
    assert "list them: bin/fanfold runs ls\n" in fanfold("runs", "show", "feed").stderr
    fanfold.program = [str(script)]
    assert "begin with: bin/fanfold demo\n" in fanfold("runs", "ls").stderr
    fanfold.program = ["bin/fanfold"]
    path = f"{script.parent}:{os.environ['PATH']}"
    assert "begin with: fanfold demo\n" in fanfold("runs", "ls", PATH=path).stderr


def test_a_task_is_stored_and_listed_like_any_run(fanfold: Command) -> None:
    (fanfold.folder / "notes.md").write_text("The purpose of this note is to be found by an agent.\n")
    told = fanfold.json("task", "Sydney Research", "What is the purpose?", "--json")
    assert told["agent"] == "sydney-research"
    assert "to be found by an agent" in told["output"]
    assert fanfold.newest() == told["run_id"]


def test_a_task_says_which_run_it_was_and_how_to_look_further(fanfold: Command) -> None:
    done = fanfold("task", "sydney-coder", "What is it?", "--quiet")
    run = fanfold.newest()
    assert f"run {run}" in done.stderr
    assert f"fanfold runs show {run[:8]}" in done.stderr
    again = fanfold("runs", "show", run, "--result")
    assert again.stdout == done.stdout


def test_agents_of_the_project_are_listed_and_win_over_packaged_ones(fanfold: Command) -> None:
    folder = fanfold.folder / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "mine.md").write_text("---\nname: sydney-coder\ndescription: My own coder\n---\nCode.\n")
    listed = [json.loads(line) for line in fanfold("agents", "ls", "--json").stdout.splitlines()]
    coder = next(agent for agent in listed if agent["name"] == "sydney-coder")
    assert coder["origin"] == "project"
    assert coder["description"] == "My own coder"


def agent_files(fanfold: Command, **files: str) -> Path:
    folder = fanfold.folder / ".claude" / "agents"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def test_an_agent_is_shown_with_what_its_file_says_and_what_nobody_heeds(fanfold: Command) -> None:
    head = "---\nname: counter\ndescription: Counts.\nbackend: process\ncommand: wc -w\ncolor: red\ntimeout: 3\n---\n"
    folder = agent_files(fanfold, counter=f"{head}Count well.\n")
    shown = fanfold("agents", "show", "Counter")
    assert shown.stdout.splitlines() == [
        "name: counter",
        "description: Counts.",
        f"source: {folder / 'counter.md'}",
        "backend: process",
        "answered by: its program",
        "command: wc -w",
        "timeout: 3",
        "color: red",
        "",
        "Count well.",
    ]
    assert "key 'color' is not heeded by backend 'process'" in shown.stderr
    told = fanfold.json("agents", "show", "counter", "--json")
    assert (told["command"], told["prompt"], told["backend"]) == ("wc -w", "Count well.", "process")
    missing = fanfold("agents", "show", "countr")
    assert missing.returncode == 2
    assert "counter" in missing.stderr


def test_agent_files_are_checked_and_what_is_odd_about_them_is_said(fanfold: Command) -> None:
    fine = "---\nname: {}\ndescription: Fine.\n{}---\nBody.\n"
    folder = agent_files(fanfold, one=fine.format("one", "colour: red\n"), two=fine.format("one", "effort: high\n"))
    (folder / "sydney.md").write_text(fine.format("sydney-coder", ""))
    checked = fanfold("agents", "check")
    assert checked.returncode == 0
    assert f"{folder / 'one.md'}: unknown key 'colour'; did you mean 'color'?" in checked.stdout
    assert f"{folder / 'two.md'}: agent 'one' is a duplicate of {folder / 'one.md'}" in checked.stdout
    assert "agent 'sydney-coder' is shadowed by" in checked.stdout
    (folder / "broken.md").write_text("---\nname: broken\ndescription: x\nmaxTurns: many\n---\n")
    (folder / "odd.md").write_text(fine.format("odd", "memory: project\n"))
    again = fanfold("agents", "check", "--json")
    assert again.returncode == 2
    told = [json.loads(line) for line in again.stdout.splitlines()]
    assert any(each["path"].endswith("broken.md") and "maxTurns" in each["message"] for each in told)
    unheeded = {"kind": "unheeded", "message": "key 'memory' is not heeded by backend 'model'"}
    assert {"path": str(folder / "odd.md"), **unheeded} in told
    assert "files that cannot be used: 1" in again.stderr


@pytest.mark.parametrize("kind", ["backend: claude", "backend: process\ncommand: preset:claude"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("isolation: worktree", "key 'isolation' is not heeded by backend '{backend}'"),
        ("isolation: sandbox", None),
        ("memory_mb: 150", "`memory_mb: 150` is less than claude takes, about 200: it is killed when it holds more"),
        ("memory_mb: 1000", None),
    ],
)
def test_what_claude_cannot_do_with_its_file_is_said(fanfold: Command, kind: str, line: str, said: str | None) -> None:
    agent_files(fanfold, one=f"---\nname: one\ndescription: d\n{kind}\n{line}\n---\nBody.\n")
    told = [json.loads(each)["message"] for each in fanfold("agents", "check", "--json").stdout.splitlines()]
    assert told == ([] if said is None else [said.format(backend=kind.split()[1])])


def test_memory_that_is_too_small_to_be_all_that_claude_maps_is_said(fanfold: Command) -> None:
    agent_files(fanfold, one="---\nname: one\ndescription: d\nbackend: claude\nmemory_mb: 899\n---\nBody.\n")
    said = "`memory_mb: 899` is heeded for what its processes hold together, and not for what each of them may map"
    assert said in fanfold("agents", "check").stdout
    assert said in fanfold("agents", "show", "one").stderr


def test_a_folder_of_agent_files_is_checked_before_it_is_used(fanfold: Command) -> None:
    corpus = Path(__file__).parents[1] / "agents" / "corpus"
    checked = fanfold("agents", "check", str(corpus), "--json")
    assert checked.returncode == 2
    kinds = [json.loads(line)["kind"] for line in checked.stdout.splitlines()]
    assert kinds.count("unusable") == len(list((corpus / "broken").iterdir()))
    assert {"odd", "duplicate", "unheeded"} <= set(kinds)
    assert "sydney" not in checked.stdout
    fine = fanfold("agents", "check", str(corpus / "core"))
    assert (fine.returncode, fine.stdout.count("\n")) == (0, 1), fine.stdout  # a colour
    assert fanfold("agents", "check", "nowhere").returncode == 2


def test_who_an_agent_may_call_and_cannot_is_said(fanfold: Command) -> None:
    head = "---\nname: lead\ndescription: d\ntools: Agent(sydney-coder, sydney-codr, broken)\n---\nBody.\n"
    folder = agent_files(fanfold, lead=head, broken="---\nname: broken\n---\n")
    lines = fanfold("agents", "check").stdout.splitlines()
    said = [line.partition(": ")[2] for line in lines if line.startswith(str(folder / "lead.md"))]
    assert said == [
        "may call 'sydney-codr', and there is no such agent; did you mean 'sydney-coder'?",
        "may call 'broken', and its file cannot be used",
    ]


def test_who_answers_an_agent_is_shown_as_the_environment_has_it(fanfold: Command) -> None:
    agent_files(fanfold, one="---\nname: one\ndescription: d\nmodel: Haiku\n---\nBody.\n")
    assert "answered by: the run's model" in fanfold("agents", "show", "one").stdout
    told = fanfold.json("agents", "show", "one", "--json", FANFOLD_MODELS="haiku=openai:small")
    assert told["answered_by"] == "openai:small, by FANFOLD_MODELS"


def test_plain_display_says_one_line_a_transition(fanfold: Command, app: Path) -> None:
    done = fanfold("run", "app.py:graph", "-i", "names=[]", "--plain")
    assert any("started" in line and "quick" in line for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr + done.stdout
