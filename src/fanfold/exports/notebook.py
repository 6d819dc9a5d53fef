"""A run as a notebook shows it: its receipt, its tasks on a line of time, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fanfold.cells import GREEN, GREY, RED, YELLOW, Row, cell
from fanfold.events import Event
from fanfold.exports.timeline import PAUSED, WORKING, Line, timeline
from fanfold.receipt import receipt

_COLOURS: Final = {WORKING: GREEN, PAUSED: GREY}


def run_cell(values: Mapping[str, Any], events: Sequence[Event]) -> str:
    """The markup for it. Text of agents in it is escaped."""
    told = timeline(events)
    return cell(receipt(events).lines(), list(map(_row, told.lines)), told.end, values)


def _row(line: Line) -> Row:
    marks = [(one.start, one.end, _COLOURS.get(one.state, YELLOW)) for one in line.stretches]
    marks += [(held.start, held.end, RED) for held in line.held]
    return Row(line.name, f"{line.name} {line.label}: {line.status}, {line.end - line.queued:.3f} s", marks)
