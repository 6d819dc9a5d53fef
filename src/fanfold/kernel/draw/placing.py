"""The one layout: where each box stands and how each line runs, on a grid of character cells.

Everything is a whole number of cells, so that text can be drawn from it as it is, and SVG by a scale. A line runs from
the border of its source to the border of its target, only down, up and sideways. A node that holds a graph is a box
around that graph's own layout, which is made first.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fanfold.kernel.draw.columns import align
from fanfold.kernel.draw.layers import LANE, Hop, Item, Weave, weave
from fanfold.kernel.draw.scene import DrawnEdge, DrawnNode, Picture, shown
from fanfold.kernel.draw.tracks import Net, lay_tracks, nets_of

Point: TypeAlias = tuple[int, int]

_REACH: Final = 3
"""How many cells a loop reaches out from its box."""
_BESIDE_LINE: Final = 2
"""How far right of a line its label begins."""
_FEW_PORTS: Final = 4
"""Up to how many lines may end on a side before they stand closer together."""


@dataclass(frozen=True, slots=True)
class Box:
    """A node at its place: `x`, `y` are its top left cell. What is `inside` counts its cells from `origin`."""

    node: DrawnNode
    label: str
    x: int
    y: int
    width: int
    height: int
    inside: Layout | None = None

    @property
    def origin(self) -> Point:
        """The cell at which the layout inside begins: below the title."""
        return self.x + 2, self.y + 2


@dataclass(frozen=True, slots=True)
class Line:
    """An edge at its place: the corners of its way, from a cell of its source's border to one of its target's."""

    edge: DrawnEdge
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Caption:
    """The label of an edge, beginning at a cell beside its line."""

    text: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture laid out. Boxes are in the order of its nodes, lines in that of its edges."""

    name: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    captions: tuple[Caption, ...]


def layout(picture: Picture) -> Layout:
    """Lay the picture out. The same picture always gets the same layout."""
    woven = weave(picture)
    channels = [nets_of(hops) for hops in woven.channels]
    nets = [list(dict.fromkeys(found.values())) for found in channels]
    frames = _frames(picture, woven.nodes)
    _size(picture, woven, frames, nets)
    align(woven.layers, [net for found in nets for net in found])
    width = _place_lanes(woven)
    height = _stack(woven.layers, nets)
    net_of = {hop: net for found in channels for hop, net in found.items()}
    ways = {number: _way(hops, net_of) for number, hops in woven.threads.items()}
    width = max([width, *(x + 1 for way in ways.values() for x, _ in way)])
    for frame in frames:
        ways.update({number: frame.loop(index) for index, number in enumerate(frame.loops)})
    boxes = (frame.box(node) for frame, node in zip(frames, picture.nodes, strict=True))
    lines = (Line(edge, ways[number]) for number, edge in enumerate(picture.edges))
    captions = (*_captions(woven), *(caption for frame in frames for caption in frame.captions(picture)))
    return Layout(picture.name, width, height, tuple(boxes), tuple(lines), captions)


def text_width(text: str) -> int:
    """How many cells `text` takes in a terminal."""
    return sum(map(cells, text))


def cells(mark: str) -> int:
    """How many cells one character takes in a terminal."""
    if unicodedata.category(mark) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(mark) in "WF" else 1


@dataclass(slots=True)
class _Frame:
    """A node's item, what decides its size, and the box: that stands at the left of the item, its `loops` beside it."""

    item: Item
    label: str
    inside: Layout | None
    loops: list[int] = field(default_factory=list)
    width: int = 0

    def measure(self, picture: Picture, sides: Iterable[int]) -> None:
        """Take the size that the label, the graph inside, the loops and so many ports on the `sides` need."""
        inner = (0, 1) if self.inside is None else (self.inside.width, self.inside.height + 1)
        widest = max(text_width(self.label), inner[0], *(_pitch(ports) * (ports - 1) - 1 for ports in sides))
        self.width = (widest + 4) | 1  # odd, so that it has a middle
        self.item.height = 2 + max(inner[1], 2 * len(self.loops))
        texts = (text_width(shown(picture.edges[number].label)) for number in self.loops)
        self.item.width = self.width + max((_REACH + _BESIDE_LINE + text for text in texts), default=0)

    def port(self, index: int, ports: int) -> int:
        """Where the line at one of the `ports` of a side ends, counted from the left of the box."""
        return self.width // 2 + (2 * index - (ports - 1)) * _pitch(ports) // 2

    def loop(self, index: int) -> tuple[Point, ...]:
        """The corners of a loop: out of the right side, and back into it one row below."""
        border, row = self.item.x + self.width - 1, self.item.y + 1 + 2 * index
        return (border, row), (border + _REACH, row), (border + _REACH, row + 1), (border, row + 1)

    def captions(self, picture: Picture) -> Iterable[Caption]:
        """The labels of its loops."""
        for index, number in enumerate(self.loops):
            _, (x, y), *_ = self.loop(index)
            if label := picture.edges[number].label:
                yield Caption(shown(label), x + _BESIDE_LINE, y)

    def box(self, node: DrawnNode) -> Box:
        """The box, once the item has its place."""
        return Box(node, self.label, self.item.x, self.item.y, self.width, self.item.height, self.inside)


def _pitch(ports: int) -> int:
    return 4 if ports <= _FEW_PORTS else 2


def _frames(picture: Picture, items: Iterable[Item]) -> list[_Frame]:
    frames = {
        node.name: _Frame(item, shown(node.label), layout(node.inside) if node.inside else None)
        for node, item in zip(picture.nodes, items, strict=True)
    }
    for number, edge in enumerate(picture.edges):
        if edge.source == edge.target:
            frames[edge.source].loops.append(number)
    return list(frames.values())


def _size(picture: Picture, woven: Weave, frames: Sequence[_Frame], nets: Iterable[Iterable[Net]]) -> None:
    """Give every item its size, and every line that ends at a node a port of its own there."""
    for layer in woven.layers:
        for item in layer:
            item.width = text_width(shown(item.label)) + _BESIDE_LINE if item.label else 1
    leaving, entering = _ports(nets)
    for frame in frames:
        out, into = leaving.get(frame.item, []), entering.get(frame.item, [])
        frame.measure(picture, (len(out), len(into)))
        for index, net in enumerate(out):
            net.exits[frame.item] = frame.port(index, len(out))
        for index, net in enumerate(into):
            net.entries[frame.item] = frame.port(index, len(into))


def _ports(nets: Iterable[Iterable[Net]]) -> tuple[dict[Item, list[Net]], dict[Item, list[Net]]]:
    """The nets below and above each node, from left to right."""
    leaving: dict[Item, list[Net]] = {}
    entering: dict[Item, list[Net]] = {}
    for channel in nets:
        for net in sorted(channel, key=lambda net: (_middle(net.entries), net.flow)):
            for item in net.exits:
                leaving.setdefault(item, []).append(net)
        for net in sorted(channel, key=lambda net: (_middle(net.exits), net.flow)):
            for item in net.entries:
                entering.setdefault(item, []).append(net)
    return leaving, entering


def _middle(items: Iterable[Item]) -> float:
    places = [math.inf if item.layer == LANE else item.place for item in items]
    return sum(places) / len(places)


def _place_lanes(woven: Weave) -> int:
    """Put the lanes right of everything, as close as their ways allow; returns the width of the whole."""
    right = max((item.x + item.width for layer in woven.layers for item in layer), default=0)
    spans: dict[Item, list[int]] = {}
    for channel, hops in enumerate(woven.channels):
        for hop in hops:
            for item in (hop.upper, hop.lower):
                if item.layer == LANE:
                    spans.setdefault(item, []).append(channel)
    taken: list[int] = []
    for lane, span in sorted(spans.items(), key=lambda entry: entry[1][0]):
        column = next((column for column, last in enumerate(taken) if last < span[0]), len(taken))
        taken[column : column + 1] = [span[-1]]
        lane.x = right + 1 + 2 * column
    return right + 2 * len(taken)


def _stack(layers: Sequence[Sequence[Item]], nets: Sequence[Sequence[Net]]) -> int:
    """Set the rows of all items and tracks, from the top; returns the height of the whole."""
    y = 0
    for layer, channel in zip(layers, nets, strict=True):
        tall = max((item.height for item in layer), default=0)
        for item in layer:
            item.y = y + (tall - item.height) // 2
        y += tall
        tracks = lay_tracks(channel)
        room = 1 if tracks and any(map(_points_up, channel)) else 0
        for run in (run for net in channel for run in net.runs):
            run.y = y + room + run.track
        y += room + tracks + 1  # the last row is that of the arrows down
    return max(0, y - 1)


def _points_up(net: Net) -> bool:
    return net.flow.back and any(item.node is not None for item in net.exits)


def _way(hops: Sequence[Hop], nets: Mapping[Hop, Net]) -> tuple[Point, ...]:
    """The corners of an edge, from its source to its target."""
    points: list[Point] = []
    for hop in hops:
        net, upper, lower = nets[hop], hop.upper, hop.lower
        top, end = upper.x + net.exits[upper], lower.x + net.entries[lower]
        if upper.layer != LANE:
            points.append((top, upper.y + upper.height - 1))
        at = top
        for run in net.runs if top != end else ():
            points.append((at, run.y))
            at = end if run.turn is None else run.turn
            points.append((at, run.y))
        if lower.layer != LANE:
            points.append((end, lower.y))
    corners = _corners(points)
    return corners[::-1] if hops[0].flow.back else corners


def _corners(points: Sequence[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for point in points:
        while len(kept) > 1 and (kept[-2][0] == kept[-1][0] == point[0] or kept[-2][1] == kept[-1][1] == point[1]):
            kept.pop()
        kept.append(point)
    return tuple(kept)


def _captions(woven: Weave) -> Iterable[Caption]:
    labelled = (item for layer in woven.layers for item in layer if item.label)
    return (Caption(shown(item.label), item.x + _BESIDE_LINE, item.y) for item in labelled)
