"""A layout as SVG: one element tree without scripts, fonts, links or ids, so that it works offline and in any page.

Shapes are drawn in `currentColor` by attributes, and a style sheet inside adds colours for light and dark screens. So
where a page's content policy blocks that style sheet, the drawing takes the page's own colour and stays readable.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

from fanfold.kernel.draw.placing import Box, Caption, Layout, Line, Point
from fanfold.kernel.draw.scene import EdgeKind, shown

Spot: TypeAlias = tuple[float, float]

_ACROSS: Final = 8
"""Pixels to a cell's width: that of a character in a fixed-width font of 13 pixels."""
_DOWN: Final = 16
_BEND: Final = 7
_HEAD: Final = 8

_STYLE: Final = """
.fanfold-graph{max-width:100%;height:auto;color:#334155}
.fanfold-graph .paper{fill:#fff}
.fanfold-graph .line{color:#64748b}
.fanfold-graph .node{fill:#eef2ff;stroke:#6366f1;fill-opacity:1}
.fanfold-graph .start{fill:#dcfce7;stroke:#16a34a;fill-opacity:1}
.fanfold-graph .end{fill:#e2e8f0;stroke:#64748b;fill-opacity:1}
.fanfold-graph .group{fill:#f8fafc;stroke:#94a3b8;fill-opacity:1}
@media (prefers-color-scheme:dark){
.fanfold-graph{color:#e2e8f0}
.fanfold-graph .paper{fill:#0f172a}
.fanfold-graph .line{color:#94a3b8}
.fanfold-graph .node{fill:#1e1b4b;stroke:#818cf8}
.fanfold-graph .start{fill:#052e16;stroke:#4ade80}
.fanfold-graph .end{fill:#1e293b;stroke:#94a3b8}
.fanfold-graph .group{fill:#131c31;stroke:#475569}
}
"""
_STROKES: Final[dict[EdgeKind, str]] = {
    "plain": 'stroke-width="1.5"',
    "join": 'stroke-width="2.75"',
    "conditional": 'stroke-width="1.5" stroke-dasharray="5 4"',
}


def svg(layout: Layout) -> str:
    """The layout as an SVG document: dashed lines are conditional, thick ones a join."""
    width, height = _pixels((layout.width + 3, layout.height + 1))
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="fanfold-graph" role="img" fill="none" font-size="13"'
        f' width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        " font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">"
    )
    body = (
        f"<title>{_text(layout.name)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width:g}" height="{height:g}" rx="8"/>',
        *_parts(layout, (2, 1)),
    )
    return "\n".join((head, *body, "</svg>")) + "\n"


def _parts(layout: Layout, origin: Point) -> Iterable[str]:
    x, y = _pixels(origin)
    yield f'<g transform="translate({x:g} {y:g})">'
    yield '<g class="line" stroke="currentColor">'
    yield from (f'<path {_STROKES[line.edge.kind]} d="{_path(line)}"/>' for line in layout.lines)
    yield "</g>"
    heads = dict.fromkeys(_head(line) for line in layout.lines)
    yield f'<path class="line" fill="currentColor" d="{" ".join(heads)}"/>'
    for box in layout.boxes:
        yield from _box(box)
    yield from (_caption(caption) for caption in layout.captions)
    yield "</g>"


def _box(box: Box) -> Iterable[str]:
    x, y = _pixels((box.x, box.y))
    width, height = _pixels((box.width - 1, box.height - 1))
    group = box.inside is not None
    bend = 6 if box.node.kind == "node" else height / 2
    yield (
        f'<rect class="{"group" if group else box.node.kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        f' rx="{bend:g}" stroke="currentColor" stroke-width="1.25" fill="currentColor" fill-opacity="0.05"/>'
    )
    if box.inside is None:
        middle = f'x="{x + width / 2:g}" y="{y + height / 2:g}" text-anchor="middle"'
    else:
        middle = f'x="{x + 2 * _ACROSS:g}" y="{y + _DOWN:g}" font-weight="600"'
    yield f'<text {middle} dy="0.35em" fill="currentColor">{_text(box.label)}</text>'
    if box.inside is not None:
        yield from _parts(box.inside, box.origin)


def _caption(caption: Caption) -> str:
    x, y = _pixels((caption.x, caption.y))
    start = f'x="{x - _ACROSS / 2:g}" y="{y:g}" dy="0.35em"'
    return f'<text {start} font-size="12" fill="currentColor">{_text(caption.text)}</text>'


def _path(line: Line) -> str:
    """The way of a line with its corners bent, from the top down, so that the dashes of lines that fork agree."""
    spots = [_pixels(point) for point in line.points]
    spots[-1] = _towards(spots[-1], spots[-2], _HEAD - 1)
    if spots[0][1] > spots[-1][1]:
        spots.reverse()
    steps = [f"M{_at(spots[0])}"]
    for before, corner, after in zip(spots, spots[1:], spots[2:], strict=False):
        bend = min(_BEND, _far(before, corner) / 2, _far(corner, after) / 2)
        steps.append(f"L{_at(_towards(corner, before, bend))}Q{_at(corner)} {_at(_towards(corner, after, bend))}")
    return "".join((*steps, f"L{_at(spots[-1])}"))


def _head(line: Line) -> str:
    """The arrow's head: a triangle whose tip touches the border of the target."""
    before, tip = (_pixels(point) for point in line.points[-2:])
    x, y = _towards(tip, before, _HEAD)
    wide = (_HEAD / 2, 0) if x == tip[0] else (0, _HEAD / 2)
    return f"M{_at(tip)}L{_at((x + wide[0], y + wide[1]))}L{_at((x - wide[0], y - wide[1]))}Z"


def _towards(start: Spot, end: Spot, steps: float) -> Spot:
    """The spot so many pixels from `start` on the way to `end`, which lies straight above, below or beside it."""
    share = steps / _far(start, end)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _far(start: Spot, end: Spot) -> float:
    return abs(start[0] - end[0]) + abs(start[1] - end[1])


def _pixels(point: Point) -> Spot:
    return point[0] * _ACROSS, point[1] * _DOWN


def _at(spot: Spot) -> str:
    return f"{spot[0]:g} {spot[1]:g}"


def _text(text: str) -> str:
    return escape(shown(text))
