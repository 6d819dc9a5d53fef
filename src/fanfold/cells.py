"""What a notebook shows below a cell: small, still, and without a script.

A notebook takes style from attributes only, and may be light or dark: text has the colour of the page around, and bars
have such as can be seen on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fanfold.cleaning import escaped
from fanfold.facts import fact

GREEN: Final = "#2f9e6b"
GREY: Final = "#9aa5b1"
YELLOW: Final = "#c59a1b"
RED: Final = "#d3122f"

MOST_ROWS: Final = 40
MOST_MARKS: Final = 200
LONGEST: Final = 200
WIDE: Final = 420
NAMES: Final = 150
ROW: Final = 16


@fact
class Row:
    """A line of a picture: a name, what it is in words, and bars from when until when, in which colour."""

    name: str
    words: str
    marks: Sequence[tuple[float, float, str]]


def cell(lines: Sequence[str], rows: Sequence[Row], end: float, values: Mapping[str, Any] | None = None) -> str:
    """The last line of a receipt, a picture of `rows` up to `end`, the other lines folded away, and values."""
    text = "\n".join(map(escaped, lines))
    parts = [
        f"<p style='margin:.3em 0'><b>{escaped(lines[-1])}</b></p>",
        _picture(rows, end) if rows and end > 0 else "",
        f"<details><summary>receipt</summary><pre style='white-space:pre-wrap'>{text}</pre></details>",
        _table(values) if values else "",
    ]
    return f"<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.45'>{''.join(parts)}</div>"


def _picture(rows: Sequence[Row], end: float) -> str:
    shown = rows[:MOST_ROWS]
    inner = "".join(_drawn(number, row, end) for number, row in enumerate(shown))
    rest = f"<p style='margin:0'>and {len(rows) - len(shown):,} more</p>" if len(rows) > len(shown) else ""
    return (
        f"<svg role='img' aria-label='when {len(rows)} tasks ran, in {end:.2f} seconds' style='font-size:11px'"
        f" width='{NAMES + WIDE}' height='{len(shown) * ROW + 4}'>{inner}</svg>{rest}"
    )


def _drawn(number: int, row: Row, end: float) -> str:
    y = number * ROW
    name = row.name if len(row.name) <= 22 else row.name[:21] + "…"
    text = f"<text x='0' y='{y + 12}' fill='currentColor'>{escaped(name)}</text>"
    return f"<g><title>{escaped(row.words[:LONGEST])}</title>{text}{''.join(_rects(y, row, end))}</g>"


def _rects(y: int, row: Row, end: float) -> Iterator[str]:
    for since, until, colour in row.marks[:MOST_MARKS]:
        x, width = NAMES + WIDE * since / end, max(1.0, WIDE * (until - since) / end)
        yield f"<rect x='{x:.1f}' y='{y + 3}' width='{width:.1f}' height='{ROW - 6}' fill='{colour}'/>"


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escaped(str(key))}</th>"
        f"<td style='text-align:left'><code>{escaped(_brief(value))}</code></td></tr>"
        for key, value in list(values.items())[:MOST_ROWS]
    )
    return f"<table>{rows}</table>"


def _brief(value: Any) -> str:
    """A value in a line. What it says of itself is its own code, which may raise."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not hide the others
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
