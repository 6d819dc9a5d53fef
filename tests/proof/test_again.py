"""Tests of this folder that are run again, as they failed for want of a core; and how that is known."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.starved import AWAY_FROM, Metronomes

pytest_plugins = ["pytester"]

CONFTEST = """
import itertools
from tests import starved
from tests.proof.conftest import pytest_runtest_protocol, pytest_terminal_summary as table
from tests.proof.conftest import _a_table_of_this_session

def pytest_terminal_summary(terminalreporter):
    table(terminalreporter)
    starved.tell(terminalreporter)

starved.waited_for_cores = {waited}.__next__
starved.METRONOMES.begin = lambda: None
starved.METRONOMES.late = lambda: {away}
"""
TESTS = """
from tests.proof.controls import ROWS, Row

runs = []

def test_is_right():
    ROWS.append(Row("one", "PARALLEL", "PARALLEL", 4, 4.0))

def test_fails_once():
    runs.append(1)
    ROWS.append(Row("two", "PARALLEL", "PARALLEL", 4, 4.0))
    assert len(runs) == 2

def test_fails_always():
    assert not runs
"""


WAITS, GETS_THEM_ALL = "itertools.count(0.0, 1e6)", "itertools.repeat(0.0)"


def outcome(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *chosen: str, waited: str = WAITS, away: float = 0.0
) -> pytest.RunResult:
    """What comes of these tests on a machine of which others have the cores: its own programs, or its host's."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
    pytester.makeconftest(CONFTEST.format(waited=waited, away=away))
    pytester.makepyfile(test_it=TESTS)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *(f"test_it.py::{name}" for name in chosen))


def test_the_last_test_of_all_is_run_again_and_the_table_is_kept(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_is_right", "test_fails_once")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*controls: 2 of 2 right*"])
    result.stdout.fnmatch_lines(["*run again*", "*::test_fails_once: something waited for a core*"])


def test_what_fails_while_the_host_has_a_core_is_run_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_fails_once", waited=GETS_THEM_ALL, away=0.02)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_fails_once: a core was away for 20 ms"])


def test_what_fails_on_cores_that_are_there_is_not_run_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_is_right", "test_fails_once", waited=GETS_THEM_ALL)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*run again*")


def test_what_always_fails_fails_however_often_it_is_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_fails_once", "test_fails_always")
    result.assert_outcomes(passed=1, failed=1)


def test_a_metronome_that_does_not_run_for_a_while_says_for_how_long() -> None:
    ones = Metronomes()
    try:
        ones.begin()
        began = time.monotonic()
        for each in ones.running:
            os.kill(each.pid, signal.SIGSTOP)
        while time.monotonic() - began < 4 * AWAY_FROM:
            pass  # nobody is waited for: this is the time that they are to miss
        for each in ones.running:
            os.kill(each.pid, signal.SIGCONT)
        assert 3 * AWAY_FROM < ones.late() < time.monotonic() - began
    finally:
        ones.stop()


def test_a_metronome_ends_with_who_has_started_it() -> None:
    ones = Metronomes()
    ones.begin()
    running = ones.running
    ones.stop()
    assert [each.returncode for each in running] == [0] * len(running)


def test_a_metronome_that_somebody_has_ended_is_done_without() -> None:
    ones = Metronomes()
    try:
        ones.begin()
        for each in ones.running:
            each.kill()
            each.wait()
        assert ones.late() >= 0
        ones.begin()
        assert ones.late() == 0
    finally:
        ones.stop()
