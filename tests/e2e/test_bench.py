"""`fanfold bench`, on what is quick to measure."""

from __future__ import annotations

import json

from tests.e2e.conftest import Command


def test_it_prints_bars_and_figures_as_json(fanfold: Command) -> None:
    done = fanfold("bench", "one", "slices", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["claim"].split(":")[0] for line in lines if "claim" in line} == {
        "a run of one node",
        "timing a slice of an agent's code",
    }
    assert {(line["workload"], line["engine"]) for line in lines if "workload" in line} == {
        ("one", "floor"),
        ("one", "fanfold"),
        ("slices", "fanfold"),
    }


def test_it_prints_tables_for_people(fanfold: Command) -> None:
    done = fanfold("bench", "one", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "a run of one node" in done.stdout
    assert "round 1 of 1" in done.stderr


def test_a_workload_that_there_is_not_is_named(fanfold: Command) -> None:
    done = fanfold("bench", "fanuot")
    assert done.returncode == 2
    assert "there is no workload 'fanuot'; did you mean 'fanout'?" in done.stderr
