"""The tables of theory, printed when their tests have run: what is known, and what our parts make of it."""

from __future__ import annotations

from typing import Any

import pytest

from fanfold.teams.debating.theory import Row, lines, tables

_ROWS: list[Row] = []


@pytest.fixture(scope="session")
def rows() -> tuple[Row, ...]:
    """The tables, worked out once."""
    _ROWS[:] = tables()
    return tuple(_ROWS)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _ROWS:
        return
    right = sum(row.right for row in _ROWS)
    terminalreporter.section(f"theory: {right} of {len(_ROWS)} as in the literature (known, ours)")
    for line in lines(_ROWS):
        terminalreporter.write_line(line)
