"""A run as one page that needs nothing else: no network, no other file, and no trust in what agents said.

The receipt is in the page as text. The timeline and the table are drawn by a small script from data in the page. The
page's own policy forbids every request, and every script and style but its own, which it names by their digest. Text
of agents is escaped where it is written into the page, and only ever becomes text where the script shows it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fanfold.cleaning import clean, escaped
from fanfold.exports.timeline import Line, Timeline, critical_path, words
from fanfold.receipt import LimitUse, Receipt, Stretch
from fanfold.receipt.values import PARTS

FIELDS: Final = (
    *("id", "name", "label", "role", "step", "depth", "status", "error", "parent", "after", "critical"),
    *("queued", "started", "ended", "end", "work", "waited", "held", "barrier", "behind", "tokens", "calls", "cost"),
    *("stretches", "blocks", "requests", "used"),
)
LONGEST: Final = 2_000
"""Characters of one text of an agent that are shown."""
MOST: Final = 200
"""Requests, tools and blocks of one task that are listed."""


def report(timeline: Timeline) -> str:
    """The page, as text of a file."""
    receipt = timeline.receipt
    began = datetime.fromtimestamp(timeline.wall, UTC).isoformat(timespec="seconds")
    texts = {
        "title": f"{receipt.graph}: {receipt.verdict} · fanfold",
        "graph": receipt.graph,
        "run": receipt.run_id,
        "thread": receipt.thread_id,
        "status": receipt.status,
        "began": began,
        "verdict": receipt.verdict,
        "foot": "Written by fanfold from the run's events. This page makes no request to any network.",
    }
    parts = {name: escaped(text) for name, text in texts.items()}
    parts["error"] = f'<p class="error">{escaped(timeline.error)}</p>' if timeline.error else ""
    parts["numbers"] = numbers(receipt)
    parts["words"] = "".join(_line(line) for line in receipt.lines())
    parts["limits"] = limits(receipt.limits)
    parts["data"] = _embedded(data(timeline))
    style, script = _part("report.css"), _part("report.js")
    parts |= {"style": style, "script": script, "policy": policy(style, script)}
    # In one pass: what a text of an agent brings with it is never taken for a place of ours.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _part("report.html"))


def policy(style: str, script: str) -> str:
    """What the page may do: run its own script, be styled by its own style, and nothing else."""
    rules = {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{rule} {value}" for rule, value in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    return files("fanfold.exports").joinpath(name).read_text(encoding="utf-8")


def _embedded(value: Mapping[str, Any]) -> str:
    """Data as a script element may hold it: without a character that could end that."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# The receipt


def numbers(receipt: Receipt) -> str:
    """The receipt's numbers, as the pairs of a list of definitions."""
    told = {
        "wall": f"{receipt.wall:.3f} s",
        "agent time": f"{receipt.work:.3f} s",
        "longest chain": f"{receipt.span:.3f} s",
        "speed-up": f"{receipt.speedup:.2f}x",
        "peak": str(receipt.peak),
        "mean": f"{receipt.mean:.2f}",
        "limit": "none" if receipt.limit is None else str(receipt.limit),
        "waited": f"{receipt.waited:.3f} s",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in told.items())


def _line(line: str) -> str:
    """A line of the receipt; one that names a cause stands out."""
    kind = ' class="cause"' if line.startswith("held back") else ""
    return f"<li{kind}>{escaped(line)}</li>"


def limits(uses: Sequence[LimitUse]) -> str:
    """The run's limits, and how close it came to each; nothing where there are none."""
    if not uses:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escaped(use.name)}</th><td class="number">{_bound(use.limit)}</td>'
        f'<td class="number">{use.peak:,.6g}</td><td class="number">{use.waits:,}</td>'
        f'<td class="number">{use.waited:.3f} s</td><td>{escaped(_by(use))}</td></tr>'
        for use in uses
    )
    heads = "".join(
        f'<th scope="col"{kind}>{head}</th>'
        for head, kind in {"limit": "", **dict.fromkeys(_COUNTED, ' class="number"'), "by whom": ""}.items()
    )
    return f'<h3>Limits</h3><div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


_COUNTED: Final = ("set to", "peak", "waits", "waited")


def _bound(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:,.6g}"


def _by(use: LimitUse) -> str:
    waited = (f"{who} {seconds:.3f} s" for who, seconds in use.by)
    return ", ".join([*waited, *([use.note] if use.note else [])])


# The data of the script


def data(timeline: Timeline) -> dict[str, Any]:
    """What the script draws: each task as a row of `fields`, in the order of a tree of who called whom."""
    receipt, says = timeline.receipt, _Says(timeline.names)
    critical = frozenset(critical_path(receipt))
    return {
        "fields": FIELDS,
        "parts": PARTS,
        "end": _rounded(timeline.end),
        "limit": receipt.limit,
        "peak": receipt.peak,
        "steps": [
            (step.step, _rounded(step.start), _rounded(timeline.end if step.end is None else step.end))
            for step in timeline.steps
        ],
        "working": [(_rounded(at), number) for at, number in timeline.at_work],
        "tasks": [
            _row(line, depth, line.life.task in critical, says, timeline.end) for line, depth in _tree(timeline.lines)
        ],
        "says": list(says.known),
    }


class _Says:
    """What stretches are called. Thousands share a few texts, so each is told once, and has a number."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.known: dict[str, int] = {}

    def number(self, stretch: Stretch) -> int:
        return self.known.setdefault(_text(words(stretch, self.names)), len(self.known))


def _rounded(seconds: float) -> float:
    """To the microsecond, which no screen shows, and which makes the page a good deal smaller."""
    return round(seconds, 6)


def _text(text: str) -> str:
    return clean(text)[:LONGEST]


def _row(line: Line, depth: int, critical: bool, says: _Says, now: float) -> list[Any]:
    life = line.life
    told = [life.task, _text(life.name), _text(life.label), life.role, life.step, depth, life.status, _text(life.error)]
    place = [life.parent, list(life.after)[:MOST], int(critical)]
    times = [_rounded(line.start), *(None if at is None else _rounded(at) for at in (life.started, life.ended))]
    sums = [_rounded(seconds) for seconds in (line.end, life.work, life.waited, life.held, life.barrier)]
    behind = _text(says.names.get(life.held_back_by, ""))
    spent = [life.input_tokens + life.output_tokens, life.tools, life.cost_usd]
    blocks = [(_rounded(held.start), _rounded(held.end), _text(held.where)) for held in line.held[:MOST]]
    requests = [
        (
            _rounded(one.start),
            _rounded(now if one.end is None else one.end),
            _text(one.model),
            _text(one.error),
            one.input_tokens,
            one.output_tokens,
        )
        for one in line.requests[:MOST]
    ]
    used = [(_rounded(use.start), _text(use.tool), _text(use.detail)) for use in line.tools[:MOST]]
    return [*told, *place, *times, *sums, behind, *spent, _flat(life.stretches, says), blocks, requests, used]


def _flat(stretches: Iterable[Stretch], says: _Says) -> list[float]:
    """Stretches as one list: where each starts and ends, which part of a life it is, and what it is called."""
    row: list[float] = []
    for one in stretches:
        row += [_rounded(one.start), _rounded(one.end), PARTS.index(one.part), says.number(one)]
    return row


def _tree(lines: Sequence[Line]) -> list[tuple[Line, int]]:
    """The tasks in the order in which they could run, each with those that it called below it, and how deep it is."""
    known = {line.life.task for line in lines}
    inside: dict[str | None, list[Line]] = {}
    for line in lines:
        inside.setdefault(line.life.parent if line.life.parent in known else None, []).append(line)
    waiting = [(line, 0) for line in reversed(inside.get(None, []))]
    rows: list[tuple[Line, int]] = []
    while waiting:
        line, depth = waiting.pop()
        rows.append((line, depth))
        waiting += [(child, depth + 1) for child in reversed(inside.get(line.life.task, []))]
    return rows
