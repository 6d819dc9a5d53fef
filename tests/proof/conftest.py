"""Tests of this folder say what took how long, and who kept whom from going on.

A test that fails while others kept this machine's cores from its processes is run again: what it has timed is their
work as well. How long anything had to wait for a core, the kernel counts; where it does not, nothing is run again. The
table of controls, what each is and what was made of it, and the tests that were run again are printed at the end.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tests.proof.controls import ROWS

ATTEMPTS: Final = 5
STARVED_FROM: Final = 0.05
"""The share of a test's time in which something waited for a core, from which on it has proved nothing by failing."""

_BEGUN: Final = pytest.StashKey[bool]()
_again: list[str] = []


def _waited_for_cores() -> float:
    """Seconds in which anything on this machine was ready to run and had no core, so far."""
    with contextlib.suppress(OSError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return 0.0


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(ATTEMPTS)):
        began, waited, rows = time.monotonic(), _waited_for_cores(), len(ROWS)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        share = (_waited_for_cores() - waited) / (time.monotonic() - began)
        if not left or share < STARVED_FROM or not any(report.failed for report in reports):
            break
        del ROWS[rows:]
        _again.append(f"{item.nodeid}: something waited for a core in {share:.0%} of its time")
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _again:
        terminalreporter.section("run again, as they failed on a machine without a free core")
        for line in _again:
            terminalreporter.write_line(line)
    if not ROWS:
        return
    right = sum(row.right for row in ROWS)
    wide = max(len(row.control) for row in ROWS)
    verdict = max(len(text) for row in ROWS for text in (row.expected, row.given))
    terminalreporter.section(f"controls: {right} of {len(ROWS)} right ({right / len(ROWS):.0%})")
    terminalreporter.write_line(f"{'control':<{wide}}  {'expected':<{verdict}}  {'given':<{verdict}}  peak  mean")
    for row in ROWS:
        terminalreporter.write_line(
            f"{row.control:<{wide}}  {row.expected:<{verdict}}  {row.given:<{verdict}}  {row.peak:>4}  {row.mean:4.2f}"
            + ("" if row.right else "   <- WRONG")
        )


@pytest.fixture(scope="session", autouse=True)
def _a_table_of_this_session(request: pytest.FixtureRequest) -> None:
    if not request.session.stash.get(_BEGUN, False):  # it is made anew when the last test of all is run again
        request.session.stash[_BEGUN] = True
        ROWS.clear()
        _again.clear()
