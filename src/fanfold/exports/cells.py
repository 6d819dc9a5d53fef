"""A run and its receipt as a notebook shows them below a cell: small, still, and without a script.

Notebooks take style from attributes only, and may be light or dark, so colours are such as can be read on both, and
text has that of the page around.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fanfold.events import Event
from fanfold.exports.report import escaped, numbers
from fanfold.exports.timeline import PAUSED, WORKING, Line, Timeline, timeline
from fanfold.receipt import Receipt, TaskLife, receipt

MOST_ROWS: Final = 40
WIDE: Final = 420
ROW: Final = 16
LONGEST: Final = 200

_COLOURS: Final[Mapping[str, str]] = {WORKING: "#2f9e6b", PAUSED: "#9aa5b1"}
_OTHER: Final = "#c59a1b"
_BLOCKED: Final = "#d3122f"


def run_cell(values: Mapping[str, Any], events: Sequence[Event]) -> str:
    """What a run came to: its receipt, its tasks on a line of time, and its values."""
    line, told = timeline(events), receipt(events)
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escaped(str(key))}</th>"
        f"<td style='text-align:left'><code>{escaped(_brief(value))}</code></td></tr>"
        for key, value in list(values.items())[:MOST_ROWS]
    )
    return _boxed(_headline(told) + _picture(line) + _more(told) + (f"<table>{rows}</table>" if rows else ""))


def receipt_cell(told: Receipt) -> str:
    """A receipt: its last line first, its numbers, and a bar for each task."""
    return _boxed(_headline(told) + _numbers(told) + _bars(told) + _more(told))


def _boxed(inner: str) -> str:
    return f"<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.45'>{inner}</div>"


def _headline(told: Receipt) -> str:
    return f"<p style='margin:.3em 0'><b>{escaped(told.lines()[-1])}</b></p>"


def _numbers(told: Receipt) -> str:
    inner = numbers(told).replace("<div>", "<div style='margin-right:1.4em'>").replace("<dd>", "<dd style='margin:0'>")
    return f"<dl style='display:flex;flex-wrap:wrap;margin:.4em 0'>{inner}</dl>"


def _more(told: Receipt) -> str:
    lines = "\n".join(escaped(line) for line in told.lines())
    return f"<details><summary>receipt</summary><pre style='white-space:pre-wrap'>{lines}</pre></details>"


def _brief(value: Any) -> str:
    """A value in a line. What it says of itself is its own code, which may raise."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not hide the others
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


# Pictures


def _picture(line: Timeline) -> str:
    """The tasks' stretches, as an image with a name; the first ones, where there are too many to be small."""
    if not line.lines or not line.end:
        return ""
    rows = "".join(_row(number, one, line.end) for number, one in enumerate(line.lines[:MOST_ROWS]))
    return _svg(rows, len(line.lines), f"timeline of {len(line.lines)} tasks over {line.end:.2f} seconds")


def _row(number: int, one: Line, end: float) -> str:
    marks = [(stretch.start, stretch.end, _COLOURS.get(stretch.state, _OTHER)) for stretch in one.stretches]
    marks += [(held.start, held.end, _BLOCKED) for held in one.held]
    words = f"{one.name} {one.label}: {one.status}, {one.end - one.queued:.3f} s"
    return _drawn(number, one.name, words, marks, end)


def _bars(told: Receipt) -> str:
    if not told.tasks or not told.wall:
        return ""
    rows = "".join(_life(number, life, told.wall) for number, life in enumerate(told.tasks[:MOST_ROWS]))
    return _svg(rows, len(told.tasks), f"when {len(told.tasks)} tasks were busy, in {told.wall:.2f} seconds")


def _life(number: int, life: TaskLife, wall: float) -> str:
    marks = [(start, end, _COLOURS[WORKING]) for start, end in life.busy]
    return _drawn(number, life.name, f"{life.name}: {life.status}, worked {life.work:.3f} s", marks, wall)


def _drawn(number: int, name: str, words: str, marks: Sequence[tuple[float, float, str]], end: float) -> str:
    y = number * ROW
    label = name if len(name) <= 22 else name[:21] + "…"
    text = f"<text x='0' y='{y + 12}' fill='currentColor'>{escaped(label)}</text>"
    return f"<g><title>{escaped(words[:LONGEST])}</title>{text}{''.join(_rects(y, marks, end))}</g>"


def _rects(y: int, marks: Sequence[tuple[float, float, str]], end: float) -> Iterator[str]:
    for since, until, colour in marks[:LONGEST]:
        x, width = 150 + WIDE * since / end, max(1.0, WIDE * (until - since) / end)
        yield f"<rect x='{x:.1f}' y='{y + 3}' width='{width:.1f}' height='{ROW - 6}' fill='{colour}'/>"


def _svg(rows: str, number: int, words: str) -> str:
    shown = min(number, MOST_ROWS)
    rest = f"<p style='margin:0'>and {number - shown:,} more</p>" if number > shown else ""
    return (
        f"<svg role='img' aria-label='{escaped(words)}' width='{150 + WIDE}' height='{shown * ROW + 4}'"
        f" style='font-size:11px'>{rows}</svg>{rest}"
    )
