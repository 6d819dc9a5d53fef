"""A layout as text: boxes and lines of Unicode's or of plain ASCII's drawing characters.

Lines are collected as sides of cells first, since what a cell shows depends on all that meets in it. Lines of one net
join where they part; where two nets only cross, the one that runs down stays whole and the other passes beneath.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final, NamedTuple

from fanfold.kernel.draw.placing import Box, Layout, Line, Point, cells
from fanfold.kernel.draw.scene import EdgeKind

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_STEPS: Final = {_UP: (0, -1), _DOWN: (0, 1), _LEFT: (-1, 0), _RIGHT: (1, 0)}


class _Marks(NamedTuple):
    """The characters of a drawing. Those of lines are indexed by the sides of the cell that they touch."""

    lines: Mapping[EdgeKind, str]
    heads: Mapping[int, str]
    square: str
    round: str


_UNICODE: Final = _Marks(
    {
        "plain": " │││─┘┐┤─└┌├─┴┬┼",
        "join": " ┃┃┃━┛┓┫━┗┏┣━┻┳╋",
        "conditional": " ┆┆┆┄┘┐┤┄└┌├┄┴┬┼",
    },
    {_UP: "▲", _DOWN: "▼", _LEFT: "◄"},
    "┌┐└┘─│",
    "╭╮╰╯─│",
)
_ASCII: Final = _Marks(
    {
        "plain": " |||-+++-+++-+++",
        "join": " ###=###=###=###",
        "conditional": " :::.+++.+++.+++",
    },
    {_UP: "^", _DOWN: "v", _LEFT: "<"},
    "++++-|",
    "..''-|",
)


def ascii(layout: Layout, *, unicode: bool = True) -> str:
    """The layout as text; with `unicode=False` its lines are plain ASCII, though labels stay as they are."""
    rows = [[" "] * layout.width for _ in range(layout.height)]
    canvas = _Canvas(_UNICODE if unicode else _ASCII, rows)
    canvas.draw(layout, (0, 0))
    return canvas.text()


@dataclass(slots=True)
class _Cell:
    """What meets in a cell: the sides it touches, what runs down and what sideways, and whether any line turns."""

    sides: int = 0
    down: EdgeKind | None = None
    across: EdgeKind = "plain"
    turns: bool = False


@dataclass(slots=True)
class _Canvas:
    marks: _Marks
    rows: list[list[str]]

    def draw(self, layout: Layout, origin: Point) -> None:
        x, y = origin
        for box in layout.boxes:
            self._box(box, x + box.x, y + box.y)
            if box.inside:
                self.draw(box.inside, (x + box.origin[0], y + box.origin[1]))
        meeting: dict[Point, _Cell] = {}
        for line in layout.lines:
            _run(line, meeting)
        for (across, down), cell in meeting.items():
            self.rows[y + down][x + across] = self._line(cell)
        for line in layout.lines:
            self._ends(line, x, y)
        for caption in layout.captions:
            self._write(caption.text, x + caption.x, y + caption.y)

    def text(self) -> str:
        """The rows, without blanks at their ends."""
        return "".join("".join(row).rstrip() + "\n" for row in self.rows)

    def _box(self, box: Box, x: int, y: int) -> None:
        corners = self.marks.square if box.node.kind == "node" else self.marks.round
        right, bottom = x + box.width - 1, y + box.height - 1
        for column in range(x + 1, right):
            self.rows[y][column] = self.rows[bottom][column] = corners[4]
        for row in range(y + 1, bottom):
            self.rows[row][x] = self.rows[row][right] = corners[5]
        for (row, column), corner in zip(product((y, bottom), (x, right)), corners, strict=False):
            self.rows[row][column] = corner
        self._write(box.label, x + 2, y + (1 if box.inside else (box.height - 1) // 2))

    def _write(self, text: str, x: int, y: int) -> None:
        for mark in text:
            width = cells(mark)
            if width == 0:
                self.rows[y][x - 1] += mark
            for part in range(width):
                self.rows[y][x + part] = "" if part else mark
            x += width

    def _line(self, cell: _Cell) -> str:
        crossing = cell.sides == _UP | _DOWN | _LEFT | _RIGHT and not cell.turns
        return self.marks.lines[cell.down or cell.across][_UP | _DOWN if crossing else cell.sides]

    def _ends(self, line: Line, x: int, y: int) -> None:
        """The mark where the line leaves its source, and the head of the arrow."""
        (start, after), (before, end) = line.points[:2], line.points[-2:]
        leaves, enters = _side(start, after), _side(before, end)
        border = _UP | _DOWN if leaves == _RIGHT else _LEFT | _RIGHT
        self.rows[y + start[1]][x + start[0]] = self.marks.lines["plain"][border | leaves]
        across, down = _STEPS[enters]
        self.rows[y + end[1] - down][x + end[0] - across] = self.marks.heads[enters]


def _run(line: Line, meeting: dict[Point, _Cell]) -> None:
    """Note the line in every cell between the borders at which it ends."""
    way = [line.points[0]]
    for start, end in pairwise(line.points):
        across, down = _STEPS[_side(start, end)]
        steps = abs(end[0] - start[0]) + abs(end[1] - start[1])
        way += [(start[0] + across * step, start[1] + down * step) for step in range(1, steps + 1)]
    for before, point, after in zip(way, way[1:], way[2:], strict=False):
        cell = meeting.setdefault(point, _Cell())
        back, on = _side(point, before), _side(point, after)
        cell.sides |= back | on
        cell.turns |= (back | on) not in (_UP | _DOWN, _LEFT | _RIGHT)
        if (back | on) & (_UP | _DOWN):
            cell.down = line.edge.kind
        if (back | on) & (_LEFT | _RIGHT):
            cell.across = line.edge.kind


def _side(start: Point, end: Point) -> int:
    """In which direction `end` lies."""
    if start[0] == end[0]:
        return _DOWN if end[1] > start[1] else _UP
    return _RIGHT if end[0] > start[0] else _LEFT
