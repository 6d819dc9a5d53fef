"""The table of controls, printed when the tests of this folder have run: what each is, and what was made of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proof.controls import ROWS


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
def _a_table_of_this_session() -> None:
    ROWS.clear()
