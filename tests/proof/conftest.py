"""Tests of this folder say what took how long, and who kept whom from going on.

A test that fails is run again where it had to do without a core (`tests/starved`). The table of controls, what each is
and what was made of it, is printed at the end.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests import starved
from tests.proof.controls import ROWS

_BEGUN: Final = pytest.StashKey[bool]()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    return starved.run(item, nextitem, ROWS)


def pytest_terminal_summary(terminalreporter: Any) -> None:
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
