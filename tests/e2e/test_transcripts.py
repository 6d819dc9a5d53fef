"""`fanfold runs show RUN --agent NAME`: what an agent said is there afterwards, also of one that failed."""

from __future__ import annotations

import json

from tests.e2e.conftest import Command


def agent(fanfold: Command, name: str, command: str) -> None:
    path = fanfold.folder / ".claude" / "agents" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: {name}\ndescription: d\nbackend: process\ncommand: {command}\n---\n")


def test_what_an_agent_said_is_shown_by_its_name_or_its_task(fanfold: Command) -> None:
    agent(fanfold, "word-counter", "wc -w")
    task = fanfold.json("task", "word-counter", "one two \x1b[31mthree", "--json")
    told = fanfold("runs", "show", task["run_id"], "--agent", "Word Counter")
    assert told.returncode == 0, told.stderr
    first, *rest = told.stdout.splitlines()
    assert first.startswith("word-counter · task ")
    assert " · completed · " in first
    assert rest == ["", "user", "    one two three", "", "agent", "    3"]

    found = fanfold.json("runs", "show", task["run_id"], "--agent", first.split()[3][:8], "--json")
    assert (found["run_id"], found["agent_type"], found["output"]) == (task["run_id"], "word-counter", "3")
    assert [message["role"] for message in found["transcript"]] == ["user", "assistant"]

    missing = fanfold("runs", "show", task["run_id"], "--agent", "word-conter")
    assert missing.returncode == 2
    assert "has kept nothing of an agent 'word-conter'; did you mean 'word-counter'?" in missing.stderr


def test_what_an_agent_said_that_failed_is_shown_with_its_error(fanfold: Command) -> None:
    line = json.dumps({"type": "tool", "name": "search", "detail": "ducks"})
    agent(fanfold, "clumsy", json.dumps(["sh", "-c", f"echo '{line}'; sleep 0.2; echo oops >&2; exit 3"]))
    assert fanfold("task", "clumsy", "look").returncode != 0
    told = fanfold("runs", "show", fanfold.newest(), "--agent", "clumsy")
    assert told.returncode == 0, told.stderr
    assert " · failed" in told.stdout
    assert "Error: agent 'clumsy': its program ended with code 3; it said: oops" in told.stdout
    assert "\ncalls search\n    ducks\n" in told.stdout
