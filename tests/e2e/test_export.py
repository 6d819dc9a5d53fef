"""`fanfold runs export`, as people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanfold.events import to_record
from fanfold.exports.ndjson import read
from fanfold.store.sqlite import SqliteStore
from tests.e2e.conftest import Command
from tests.exports.receiver import receiving
from tests.exports.rules import complaints, strict

GRAPH = """
from typing import TypedDict
from fanfold import START, StateGraph

class State(TypedDict, total=False):
    left: int
    right: int

def left(state: State) -> dict:
    return {"left": 1}

def right(state: State) -> dict:
    return {"right": 2}

graph = StateGraph(State).add_node(left).add_node(right).add_edge(START, "left").add_edge(START, "right")
"""


@pytest.fixture
def run(fanfold: Command) -> str:
    """The id of a run that is over."""
    (fanfold.folder / "app.py").write_text(GRAPH)
    assert fanfold("run", "app.py:graph", "-i", "left=0").returncode == 0
    run_id: str = fanfold.json("runs", "ls", "--json")["run_id"]
    return run_id


def test_a_run_is_written_as_a_page_a_trace_and_its_events(fanfold: Command, run: str) -> None:
    for form in ("html", "trace", "ndjson"):
        done = fanfold("runs", "export", run, "--format", form, "-o", f"run.{form}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{form} written to run.{form}\n")
    written = {form: (fanfold.folder / f"run.{form}").read_text() for form in ("html", "trace", "ndjson")}
    assert run in written["html"]
    document = strict(written["trace"])
    assert complaints(document) == []
    assert {"left", "right"} <= {event["name"] for event in document["traceEvents"]}
    with SqliteStore(str(fanfold.folder / ".fanfold" / "runs.db")) as store:
        stored = list(store.events(run))
    assert [json.loads(line) for line in written["ndjson"].splitlines()] == stored
    assert [to_record(event) for event in read(written["ndjson"].splitlines())] == stored


def test_without_a_file_it_goes_to_standard_output(fanfold: Command, run: str) -> None:
    done = fanfold("runs", "export", run[:8], "--format", "ndjson")
    assert json.loads(done.stdout.splitlines()[0])["kind"] == "run_started"
    assert fanfold("runs", "export", run).stdout.startswith("<!doctype html>")


def test_a_run_is_sent_to_a_receiver_that_is_named_or_in_the_environment(fanfold: Command, run: str) -> None:
    with receiving() as receiver:
        done = fanfold("runs", "export", run, "--format", "otlp", "--to", receiver.url)
        assert (done.returncode, done.stderr) == (0, f"3 spans sent to {receiver.url}\n")
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=open"}
        assert fanfold("runs", "export", run, "--format", "otlp", **given).returncode == 0
        assert receiver.keys == [None, "open"]
        assert sorted(span.name for span in receiver.spans) == sorted(
            2 * ["invoke_workflow graph", "node left", "node right"]
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "otlp"], "needs a receiver"),
        (["--format", "otlp", "-o", "x"], "not written to a file"),
        (["--to", "http://localhost:1"], "--to is for --format otlp"),
        (["--format", "trace", "--content"], "--content is for --format otlp"),
        (["-o", "nowhere/x"], "the folder 'nowhere' does not exist"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(
    fanfold: Command, options: list[str], said: str
) -> None:
    done = fanfold("runs", "export", "x", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_receiver_that_is_not_there_is_named(fanfold: Command, run: str) -> None:
    done = fanfold("runs", "export", run, "--format", "otlp", "--to", "http://127.0.0.1:9")
    assert done.returncode == 6
    assert done.stderr.startswith("error: cannot send to http://127.0.0.1:9: Connection refused\n")
    done = fanfold("runs", "export", run, "--format", "otlp", "--to", "127.0.0.1:9")
    assert done.returncode == 2
    assert "is no URL" in done.stderr


def test_a_run_that_is_not_there_is_named(fanfold: Command, run: str) -> None:
    done = fanfold("runs", "export", "nothing", "-o", "x.html")
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert not Path(fanfold.folder, "x.html").exists()
