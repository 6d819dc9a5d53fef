"""Agents that are programs: what they are given, what they may answer, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanfold import Limits, Task, loops, python_agent
from fanfold.agents import processes, sizes
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.heeded import unheeded
from fanfold.agents.processes import Bounds, Program, environment, lacks
from fanfold.errors import (
    AgentError,
    AgentLostError,
    AgentMemoryError,
    AgentStalledError,
    AgentTimeoutError,
    ModelAnswerError,
    ModelError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
)
from fanfold.events import ModelAnswered, ModelRetried, Noticed, ToolCalled
from tests.agents.programs import agent, alive, answer, asked, python, until

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sub-reapers")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)


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


def test_a_program_knows_the_form_that_its_answer_is_to_have() -> None:
    code = "import json, os; print(json.loads(os.environ['FANFOLD_SCHEMA'])['title'])"
    assert answer(python(code), output={"title": "ducks", "type": "string"}) == "ducks"


def test_the_program_knows_the_id_of_its_task() -> None:
    result = asked(agent(python("import os; print(os.environ['FANFOLD_TASK'])")), "go")
    assert result.output == result.task_id


# The form of its answer

BIRD: dict[str, Any] = {"type": "object", "properties": {"bird": {"const": "duck"}}, "required": ["bird"]}


@pytest.mark.parametrize(
    "said",
    [
        '{"bird": "duck"}',
        'Here:\n```json\n{"bird": "duck"}\n```\n',
        {"type": "result", "output": {"bird": "duck"}},
        {"type": "result", "output": '{"bird": "duck"}'},
    ],
)
def test_an_answer_that_fits_its_schema_is_data(said: Any) -> None:
    assert answer(speaking(said), output=BIRD) == {"bird": "duck"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("I had rather not.", "was to be JSON, and is 'I had rather not.'"),
        ('{"bird": "gull"}\n', r"\$.bird: 'duck' was expected"),
        ("[]", "is not of type 'object'"),
        ("null", "None is not of type 'object'"),
    ],
)
def test_an_answer_that_does_not_fit_its_schema_is_an_error_that_says_where(said: str, told: str) -> None:
    with pytest.raises(ModelAnswerError, match=told):
        answer(["printf", "%s", said], output=BIRD)


def test_a_schema_that_is_none_is_said_and_none_is_fetched() -> None:
    with pytest.raises(AgentError, match="the schema of its answer is none"):
        answer("echo 1", output={"type": "ducks"})
    with pytest.raises(AgentError, match="the schema of its answer cannot be used"):
        answer("echo 1", output={"$ref": "http://192.0.2.1/schema"})


def test_a_text_can_be_the_answer_that_a_schema_wants() -> None:
    assert answer("echo two words", output={"type": "string"}) == "two words"
    assert answer("echo 7", output={"type": ["string", "integer"]}) == 7


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


def test_what_a_program_says_that_it_cost_is_the_cost() -> None:
    lines = [{"type": "usage", "input_tokens": 1, "output_tokens": 1, "cost_usd": cost} for cost in (0.5, 0.25)]
    result = asked(agent(speaking(*lines, {"type": "result", "output": "x"})), "go")
    assert (result.cost_usd, result.usage["requests"]) == (0.75, 2)


@pytest.mark.parametrize("cost", ["1e999", "NaN", "-1", "true", '"free"', "1" + "0" * 400])
def test_a_cost_that_can_be_none_is_not_believed(cost: str) -> None:
    line = f'{{"type": "usage", "input_tokens": 1{"0" * 30}, "output_tokens": 1, "cost_usd": {cost}}}'
    heard: list[Any] = []
    result = asked(agent(speaking(line, {"type": "result", "output": "x"})), "go", on_event=heard.append)
    assert (result.cost_usd, result.total_tokens) == (None, 1)
    assert [event.cost_usd for event in heard if isinstance(event, ModelAnswered)] == [None]


def test_what_a_tool_was_given_is_told_up_to_a_length() -> None:
    lines = [{"type": "tool", "name": "x", "detail": detail} for detail in ("a" * 120, "a" * 121)]
    heard: list[Any] = []
    asked(agent(speaking(*lines, {"type": "result", "output": "x"})), "go", on_event=heard.append)
    details = [event.detail for event in heard if isinstance(event, ToolCalled)]
    assert details == ["a" * 120, "a" * 116 + " ..."]


def test_ends_of_lines_that_only_unicode_knows_do_not_end_a_line() -> None:
    assert answer(["printf", "%s\n", '{"type": "result", "output": "a\u2028b"}']) == "a\u2028b"


def failing(line: dict[str, Any]) -> list[str]:
    return python(f"import sys; print({json.dumps(line)!r}); sys.exit(1)")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ModelKeyError),
        (403, ModelKeyError),
        (400, ModelRequestError),
        (404, ModelRequestError),
        (429, ModelRateError),
        (529, ModelOverloadedError),
        (500, ModelUnavailableError),
        (None, AgentError),
    ],
)
def test_a_status_says_what_a_program_failed_with(status: int | None, error: type[AgentError]) -> None:
    line = {"type": "error", "status": status, "message": "no more ducks", "retry_after": 0}
    acted = {"type": "tool", "name": "shoot"}  # which must not be done twice
    with pytest.raises(AgentError) as caught:
        answer(python(f"import sys; print({json.dumps(acted)!r}); print({json.dumps(line)!r}); sys.exit(1)"))
    assert type(caught.value) is error
    assert ("no more ducks" in str(caught.value)) == (error is not ModelKeyError)


def test_an_error_that_a_result_follows_was_none() -> None:
    assert answer(speaking({"type": "error", "status": 500}, {"type": "result", "output": "fine"})) == "fine"


SLOW = """
import json, pathlib, sys
tried = pathlib.Path(sys.argv[1])
if tried.exists():
    sys.exit(print(json.dumps({"type": "result", "output": "yes"})))
tried.touch()
print(json.dumps({"type": "error", "status": 429, "retry_after": 0}))
sys.exit(1)
"""


def test_a_program_that_is_asked_too_often_is_run_again_when_it_has_done_nothing_yet(tmp_path: Path) -> None:
    heard: list[Any] = []
    command = [*python(SLOW), str(tmp_path / "tried")]
    assert asked(agent(command), "go", on_event=heard.append).output == "yes"
    (retried,) = [event for event in heard if isinstance(event, ModelRetried)]
    assert (retried.model, "asked too often (429)" in retried.error) == ("process:worker", True)


def test_a_program_that_tries_again_by_itself_says_so_and_the_others_wait() -> None:
    heard: list[Any] = []
    retry = {"type": "retry", "status": 429, "seconds": 0.01}
    asked(agent(speaking(retry, {"type": "result", "output": "x"})), "go", on_event=heard.append)
    assert [event.seconds for event in heard if isinstance(event, ModelRetried)] == [0.01]


def test_a_program_takes_calls_and_tokens_of_the_runs_budget() -> None:
    from fanfold.errors import BudgetError

    usage = {"type": "usage", "input_tokens": 600, "output_tokens": 1}
    worker = agent(speaking(usage, usage, {"type": "result", "output": "x"}))
    assert asked(worker, "go", limits=Limits(calls=2)).output == "x"
    with pytest.raises(BudgetError):
        asked(agent("echo x"), "go", limits=Limits(calls=0))


def test_a_program_that_ended_well_was_not_killed_whatever_it_held(tmp_path: Path) -> None:
    async def main() -> None:
        async with Program(python("kept = bytearray(60 << 20)"), tmp_path, bounds=Bounds(memory=1 << 60)) as program:
            assert await program.ended() == 0
        assert program.peak > 60 << 20
        assert not program.over

    asyncio.run(main())


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


@pytest.mark.parametrize(
    ("command", "error"),
    [("no-such-program", AgentError), ("sh -c 'exit 3'", AgentLostError), ("sh -c 'kill -9 $$'", AgentLostError)],
)
def test_a_program_that_has_gone_is_lost_and_one_that_never_was_is_not(command: str, error: type[AgentError]) -> None:
    with pytest.raises(AgentError) as caught:
        answer(command)
    assert type(caught.value) is error
    assert not isinstance(caught.value, ModelError)


def test_a_program_that_maps_more_memory_than_it_may_is_refused_it() -> None:
    with pytest.raises(AgentMemoryError, match="MemoryError"):
        answer(python("bytearray(2**30)"), memory_mb=300)


@LINUX
def test_a_program_whose_children_hold_more_memory_than_it_may_is_killed_and_named(marked: str) -> None:
    held = shlex.join(python(HOARDER))
    with pytest.raises(AgentMemoryError, match=r"held \d+ MB, more than the 100 MB that it may, and was killed"):
        answer(["sh", "-c", f"{held} & {held} & {held} & wait"], memory_mb=100)
    assert alive(marked) == []


@LINUX
def test_what_the_programs_of_an_agent_held_is_remembered() -> None:
    worker = agent(python("kept = bytearray(60 << 20); print(len(kept))"), max_concurrent=7)
    assert sizes.measured(worker) is None
    assert sizes.expected(worker) == sizes.UNKNOWN
    asked(worker)
    assert 60 <= (sizes.measured(worker) or 0) < 100
    assert sizes.expected(worker) == sizes.measured(worker)
    assert sizes.expected(replace(worker, memory_mb=7)) == 7


def test_a_program_of_which_nothing_is_heard_has_stalled(marked: str) -> None:
    with pytest.raises(AgentStalledError, match=r"nothing was heard of its program for 0.3 s"):
        asked(agent("sleep 1000"), limits=Limits(patience=0.3))
    assert alive(marked) == []


def test_a_program_that_closes_its_output_and_stays_has_stalled() -> None:
    with pytest.raises(AgentStalledError):
        asked(agent(["sh", "-c", "exec >/dev/null; sleep 1000"]), limits=Limits(patience=0.3))


def test_a_program_that_is_heard_of_has_not_stalled_however_long_it_takes() -> None:
    beat = (
        "import sys, time\nfor _ in range(12): print('.', file=sys.stderr, flush=True); time.sleep(0.1)\nprint('done')"
    )
    assert asked(agent(python(beat)), limits=Limits(patience=0.9)).output == "done"


def test_what_cannot_be_had_on_other_systems_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacks("linux") == ()
    assert len(lacks("darwin")) == 2
    monkeypatch.setattr("fanfold.agents.backends.process.lacks", lambda: lacks("darwin"))
    heard: list[Any] = []
    asked(agent("echo x"), on_event=heard.append)
    assert [e.message for e in heard if isinstance(e, Noticed)] == [
        f"agent 'worker': {text}" for text in lacks("darwin")
    ]


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("wc -w", ["tools", "permissionMode"]),
        ("preset:codex --x", ["permissionMode"]),
        ("preset:claude", []),
        ("acp:gemini --acp", []),
    ],
)
def test_which_keys_a_program_does_not_heed_depends_on_the_program(command: str, left: list[str]) -> None:
    definition = agent(command, tools=("Read",), extra={"permissionMode": "plan"}, output={}, memory_mb=9)
    assert unheeded(definition) == left


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


@pytest.mark.parametrize("turns", range(8))
def test_a_program_whose_start_is_given_up_at_any_point_is_ended(turns: int, marked: str, tmp_path: Path) -> None:
    async def main() -> None:
        starting = asyncio.ensure_future(Program(["sleep", "1000"], tmp_path).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    loops.run(main())  # of uvloop's, where it is installed
    assert alive(marked) == []


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
            while not program.process.stdout._paused:  # it is full, and asyncio has stopped reading
                await asyncio.sleep(0)
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
