"""Tests of this folder that are run again, as they failed while others had the cores."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import itertools
from tests import starved
from tests.proof.conftest import *
from tests.proof.conftest import _a_table_of_this_session
starved.waited_for_cores = itertools.count(0.0, 1e6).__next__
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


def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *chosen: str) -> pytest.RunResult:
    """What comes of these tests on a machine of which others always have the cores."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *(f"test_it.py::{name}" for name in chosen))


def test_the_last_test_of_all_is_run_again_and_the_table_is_kept(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_is_right", "test_fails_once")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*run again*", "*::test_fails_once: *", "*controls: 2 of 2 right*"])


def test_what_always_fails_fails_however_often_it_is_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = outcome(pytester, monkeypatch, "test_fails_once", "test_fails_always")
    result.assert_outcomes(passed=1, failed=1)
