"""Agents that are programs: what they are given, what they may answer, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, Task, TaskResult, python_agent
from fanfold.agents import processes
from fanfold.agents.backends.python import PythonAgent
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.processes import Bounds, Program, environment
from fanfold.errors import AgentError, AgentTimeoutError
from fanfold.events import ModelAnswered, ToolCalled

PATIENCE = 20.0
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")


class State(TypedDict, total=False):
    number: int


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)


def asked(agent: AgentDefinition | PythonAgent, prompt: str, **options: Any) -> TaskResult:
    """What an agent answers that a node asks."""
    results: list[TaskResult] = []

    async def ask(state: State) -> None:
        results.append(await Task(subagent_type="worker", prompt=prompt))

    graph = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
    graph.invoke({"number": 1}, agents=[agent], **options)
    return results[0]


def agent(command: str | list[str], **extra: Any) -> AgentDefinition:
    words = command if isinstance(command, str) else tuple(command)
    return AgentDefinition("worker", "Works.", backend="process", command=words, **extra)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def answer(command: str | list[str], prompt: str = "go", **extra: Any) -> Any:
    return asked(agent(command, **extra), prompt).output


# What it is given, and what it answers


def test_a_program_reads_the_prompt_and_writes_the_answer() -> None:
    assert answer("cat", "What do ducks\neat?") == "What do ducks\neat?"


def test_the_words_of_a_command_are_those_of_a_shell_or_of_the_list() -> None:
    assert answer("printf '%s|%s' 'two words' one") == "two words|one"
    assert answer(["printf", "%s", "$HOME; no shell"]) == "$HOME; no shell"


def test_the_definitions_own_prompt_comes_first() -> None:
    definition = AgentDefinition("worker", "Works.", "You are terse.", backend="process", command="cat")
    assert asked(definition, "Hello.").output == "You are terse.\n\nHello."


def test_a_program_that_does_not_read_the_prompt_can_answer_all_the_same() -> None:
    assert answer("echo no", "x" * 1_000_000) == "no"


def test_a_program_sees_little_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    seen = json.loads(answer(python("import json, os; print(json.dumps([dict(os.environ)]))")))[0]
    assert "secret" not in str(seen)
    assert seen["LC_ALL"] == "C.UTF-8"
    assert seen["FANFOLD_AGENT"] == "worker"
    assert seen.keys() <= {*processes.PASSED_ON, "FANFOLD_AGENT", "FANFOLD_TASK", "LC_ALL", "LC_CTYPE"}


def test_what_is_added_to_an_environment_wins() -> None:
    assert environment({"HOME": "/nowhere"}, {"HOME": "/root", "PATH": "/bin", "TOKEN": "t"}) == {
        "HOME": "/nowhere",
        "PATH": "/bin",
    }


def test_the_program_knows_the_id_of_its_task() -> None:
    result = asked(agent(python("import os; print(os.environ['FANFOLD_TASK'])")), "go")
    assert result.output == result.task_id


# JSON lines


def speaking(*lines: Any) -> list[str]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return python(f"print({text!r})")


def test_a_program_can_tell_what_it_does_in_json_lines() -> None:
    heard: list[Any] = []
    result = asked(
        agent(
            speaking(
                {"type": "tool", "name": "search", "detail": "ducks"},
                {"type": "usage", "model": "m", "input_tokens": 10, "output_tokens": 5},
                {"type": "usage", "input_tokens": 1, "output_tokens": 2},
                {"type": "something of its own"},
                {"type": "result", "output": {"birds": ["duck"]}},
            )
        ),
        "go",
        on_event=heard.append,
    )
    assert result.output == {"birds": ["duck"]}
    assert (result.model, result.tool_uses, result.total_tokens) == ("m", 1, 18)
    (tool,) = [event for event in heard if isinstance(event, ToolCalled)]
    assert (tool.tool, tool.detail) == ("search", "ducks")
    assert [event.input_tokens for event in heard if isinstance(event, ModelAnswered)] == [10, 1]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"type": "tool", "name": "x"}], "none of type 'result'"),
        ([{"type": "tool", "name": "x"}, "oops"], "JSON lines, and then 'oops'"),
    ],
)
def test_json_lines_that_name_no_result_are_an_error(lines: list[Any], told: str) -> None:
    with pytest.raises(AgentError, match=told):
        answer(speaking(*lines))


@pytest.mark.parametrize("text", ['{"no": "type"}', "[1, 2]", 'first\n{"type": "result"}', "{"])
def test_a_text_that_only_looks_like_json_is_a_text(text: str) -> None:
    assert answer(speaking(text)) == text


# How it can go wrong


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program --now", "'no-such-program' could not be run"),
        (["sh", "-c", "echo one >&2; echo two >&2; exit 3"], "ended with code 3; it said: two"),
        (["sh", "-c", "kill -9 $$"], "ended by signal 9"),
        ([], "has no `command`"),
        ("echo 'no end", "cannot be cut into words: No closing quotation"),
    ],
)
def test_a_program_that_does_not_end_well_is_an_error_that_says_how(command: Any, told: str) -> None:
    with pytest.raises(AgentError, match=told):
        answer(command)


def test_a_program_that_never_stops_writing_is_an_error() -> None:
    with pytest.raises(AgentError, match="more than 16,777,216 characters"):
        answer("yes")
    with pytest.raises(AgentError, match="a line of more than 16,777,216 bytes"):
        answer(["cat", "/dev/zero"])


def test_a_program_that_uses_more_memory_than_it_may_is_refused_it() -> None:
    with pytest.raises(AgentError, match="MemoryError"):
        answer(python("bytearray(2**30)"), memory_mb=300)


def test_a_program_that_takes_too_long_is_ended(marked: str) -> None:
    with pytest.raises(AgentTimeoutError, match=r"'worker' did not answer within 0.2 s"):
        answer("sleep 1000", timeout=0.2)
    assert alive(marked) == []


def test_an_agent_of_any_kind_has_only_the_time_that_its_definition_gives_it() -> None:
    async def sleeps(prompt: str) -> str:
        await asyncio.Event().wait()
        return prompt

    made = python_agent("worker")(sleeps)
    made = replace(made, definition=replace(made.definition, timeout=0.01))
    with pytest.raises(AgentTimeoutError, match=r"within 0.01 s"):
        asked(made, "go")


# What is left of it


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A language that no other process speaks, by which those of a program are known."""
    mark = f"LANG=fanfold-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*mark.split("="))
    yield mark
    for pid in alive(mark):  # a test that fails leaves nothing either
        os.kill(pid, signal.SIGKILL)


def alive(mark: str) -> list[int]:
    """The processes with the mark, but for ours."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in (entry / "environ").read_text():
                found.append(int(entry.name))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


BROOD = """
import os, sys, time
def daemon(depth):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        if depth:
            daemon(depth - 1)
        open(sys.argv[1] + str(depth), "w").close()
        time.sleep(1000)
daemon(2)
os.system("sleep 1000 &")
while not all(os.path.exists(sys.argv[1] + str(depth)) for depth in range(3)):
    time.sleep(0.005)
"""
"""Leaves three daemons, each the child of another, and a job in the background."""


def brood(folder: Path, then: str) -> list[str]:
    return [*python(f"{BROOD}\nprint('born', flush=True)\n{then}"), str(folder / "daemon")]


@LINUX
def test_nothing_of_a_program_is_left_when_it_has_ended(marked: str, tmp_path: Path) -> None:
    assert answer(brood(tmp_path, "")) == "born"
    until(lambda: not alive(marked))


@LINUX
def test_nothing_of_a_program_is_left_when_it_is_cancelled(marked: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Program(brood(tmp_path, "time.sleep(1000)"), tmp_path) as program:
            assert await program.lines() == "born\n"
            assert len(alive(marked)) >= 6
        assert alive(marked) == []

    asyncio.run(main())


ENGINE = """
import asyncio, sys
from pathlib import Path
from fanfold.agents.processes import Program

async def main():
    async with Program({command!r}, Path({folder!r})) as program:
        print(await program.lines(), end="", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@LINUX
def test_nothing_of_a_program_is_left_when_its_engine_is_killed(marked: str, tmp_path: Path) -> None:
    code = ENGINE.format(command=brood(tmp_path, "time.sleep(1000)"), folder=str(tmp_path))
    engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    assert engine.stdout.readline() == b"born\n"
    engine.kill()
    engine.wait()
    engine.stdout.close()
    until(lambda: not alive(marked))


def test_an_agent_file_can_name_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".claude" / "agents"
    folder.mkdir(parents=True)
    command = shlex.join(python("import sys; print(sys.stdin.read().upper())"))
    text = f"---\nname: shouter\ndescription: Shouts.\nbackend: process\ncommand: {json.dumps(command)}\n---\n"
    (folder / "shouter.md").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert Task(subagent_type="shouter", prompt="hello").run().output == "HELLO"


# The program itself


def test_a_program_can_be_talked_with_until_it_is_told_that_there_is_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with Program(["cat"], tmp_path) as program:
            for said in ("one\n", "two\n"):
                await program.write(said)
                assert await program.lines() == said
            program.finish()
            assert await program.lines() == ""
            assert await program.ended() == 0

    asyncio.run(main())


def test_a_program_that_has_stopped_reading_can_be_written_to_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with Program(["true"], tmp_path) as program:
            assert await program.ended() == 0
            for _ in range(3):
                await program.write("x" * 1_000_000)

    asyncio.run(main())


def test_a_program_that_nobody_reads_any_more_is_left_at_once(tmp_path: Path) -> None:
    async def main() -> float:
        async with Program(["yes"], tmp_path) as program:
            assert await program.lines()
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(main()) < processes.GRACE / 2


HOARDER = "import time; kept = bytearray(40 << 20); time.sleep(1000)"


@LINUX
def test_what_a_program_and_its_children_hold_is_measured_together(tmp_path: Path) -> None:
    held = shlex.join(python(HOARDER))

    async def main() -> None:
        async with Program(["sh", "-c", f"{held} & {held} & wait"], tmp_path) as program:
            until(lambda: program.peak > 80 << 20)
            assert program.peak < 120 << 20
            assert not program.over
        assert 80 << 20 < program.peak < 120 << 20

    asyncio.run(main())


@LINUX
def test_a_program_that_holds_more_than_it_may_is_killed_with_its_children(marked: str, tmp_path: Path) -> None:
    held = shlex.join(python(HOARDER))

    async def main() -> None:
        command = ["sh", "-c", f"{held} & {held} & wait"]
        async with Program(command, tmp_path, bounds=Bounds(memory=60 << 20)) as program:
            assert await program.ended() == 128 + signal.SIGKILL
            assert alive(marked) == []
            assert program.over

    asyncio.run(main())


def test_a_program_of_which_nothing_could_be_measured_weighs_as_much_as_its_heaviest_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with Program(["true"], tmp_path) as program:
            pass
        assert 1 << 20 < program.peak < 60 << 20

    asyncio.run(main())


def test_a_program_is_ended_by_a_pipe_that_nobody_reads_as_it_is_from_a_shell() -> None:
    assert answer(["bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}"]) == f"y\n{128 + signal.SIGPIPE}"
