"""Which layer each node stands in, and in which order, after Sugiyama.

Edges that close a cycle are turned round for the layout, so that every edge leads down. A node stands one layer below
the deepest of those that lead to it. An edge that crosses layers passes through an item of each, which keeps its way
free; edges that leave one node in the same manner share these items until they part. A label is such an item, too,
so that nothing can cover it. The order within the layers is improved by fixed rounds of sweeps.

A picture with very many long edges would be mostly such items. Beyond a bound the longest edges leave the layers and
run down a lane at the side.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from fanfold.kernel.draw.scene import DrawnEdge, EdgeKind, Picture

LANE: Final = -1
"""The layer of a lane: none."""

_ROUNDS: Final = 8
_PASSED: Final = 2000
"""How many items edges may pass in all before the longest of them take a lane."""

_SHORT: Final = 3
"""How many layers down an edge may lead and be better off among them than in a lane."""


class Flow(NamedTuple):
    """The manner of an edge: what lines must have in common to be drawn as one."""

    kind: EdgeKind
    join: int
    back: bool


@dataclass(slots=True, eq=False)
class Item:
    """What takes room in a layer: a node, a label, or just the line of an edge that passes. `x`, `y`: top left."""

    layer: int
    node: int | None = None
    label: str = ""
    place: int = 0
    width: int = 1
    height: int = 1
    x: int = 0
    y: int = 0
    up: list[Hop] = field(default_factory=list)
    down: list[Hop] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Hop:
    """A piece of an edge, from an item to one in the layer below it, or to or from a lane."""

    upper: Item
    lower: Item
    flow: Flow


@dataclass(slots=True)
class Weave:
    """A picture in layers. `threads` holds, for each edge that is no loop, its hops from top to bottom.

    `channels[i]` are the hops in the space below layer `i`.
    """

    layers: list[list[Item]]
    channels: list[list[Hop]]
    nodes: list[Item]
    threads: dict[int, list[Hop]] = field(default_factory=dict)
    lanes: list[Item] = field(default_factory=list)


class _Span(NamedTuple):
    """An edge between layers, turned so that it leads down."""

    edge: int
    upper: int
    lower: int
    flow: Flow
    label: str

    @property
    def least(self) -> int:
        return 2 if self.label else 1


def weave(picture: Picture) -> Weave:
    """The picture in layers, ordered so that few edges cross."""
    order, spans = _downward(picture)
    depths = _depths(picture, order, spans)
    return _untangled(_Loom(depths).weave(spans))


def _downward(picture: Picture) -> tuple[list[int], list[_Span]]:
    """The nodes in an order in which every edge leads forward once those that close a cycle are turned round."""
    index = {node.name: number for number, node in enumerate(picture.nodes)}
    ways: list[list[tuple[int, int]]] = [[] for _ in picture.nodes]
    for number, edge in enumerate(picture.edges):
        if edge.source != edge.target:
            ways[index[edge.source]].append((number, index[edge.target]))
    order, closing = _search(ways)
    return order, [
        _span(number, start, end, picture.edges[number], number in closing)
        for start, leaving in enumerate(ways)
        for number, end in leaving
    ]


def _span(number: int, start: int, end: int, edge: DrawnEdge, back: bool) -> _Span:
    upper, lower = (end, start) if back else (start, end)
    return _Span(number, upper, lower, Flow(edge.kind, edge.join, back), edge.label)


def _search(ways: Sequence[Sequence[tuple[int, int]]]) -> tuple[list[int], set[int]]:
    """Depth first, without recursion: the nodes in topological order, and the edges that close a cycle."""
    left: list[int] = []
    closing: set[int] = set()
    fresh, active = set(range(len(ways))), set[int]()
    for root in range(len(ways)):
        stack = [root] if root in fresh else []
        rest = {root: iter(ways[root])}
        while stack:
            node = stack[-1]
            fresh.discard(node)
            active.add(node)
            for edge, target in rest[node]:
                if target in fresh:
                    rest[target] = iter(ways[target])
                    stack.append(target)
                    break
                if target in active:
                    closing.add(edge)
            else:
                active.discard(node)
                left.append(stack.pop())
    return left[::-1], closing


def _depths(picture: Picture, order: Sequence[int], spans: Iterable[_Span]) -> list[int]:
    """The layer of each node: as high as it can be, then lowered where that makes more edges shorter than longer."""
    above: list[list[_Span]] = [[] for _ in order]
    below: list[list[_Span]] = [[] for _ in order]
    for span in spans:
        above[span.lower].append(span)
        below[span.upper].append(span)
    depths = [0] * len(order)
    for node in order:
        depths[node] = max((depths[span.upper] + span.least for span in above[node]), default=0)
    for node in reversed(order):
        if len(below[node]) > len(above[node]) and picture.nodes[node].kind != "start":
            depths[node] = min(depths[span.lower] - span.least for span in below[node])
    return depths


class _Loom:
    """Makes the items and hops of a weave from the depths of its nodes."""

    def __init__(self, depths: Sequence[int]) -> None:
        self._nodes = [Item(depth, node) for node, depth in enumerate(depths)]
        count = max(depths, default=-1) + 1
        self._made = Weave([[] for _ in range(count)], [[] for _ in range(count)], self._nodes)
        for item in self._nodes:
            self._made.layers[item.layer].append(item)
        self._trunks: dict[tuple[Item, Flow], list[Item]] = {}
        self._lanes: dict[tuple[Item, Flow], Item] = {}
        self._hops: dict[tuple[Item, Item, Flow], Hop] = {}

    def weave(self, spans: Sequence[_Span]) -> Weave:
        far = self._far(spans)
        for span in spans:
            stops = self._stops(span, span.edge in far)
            self._made.threads[span.edge] = [self._hop(a, b, span.flow) for a, b in pairwise(stops)]
        self._made.lanes = list(self._lanes.values())
        return self._made

    def _far(self, spans: Iterable[_Span]) -> set[int]:
        passed = sorted((self._nodes[span.lower].layer - self._nodes[span.upper].layer, span.edge) for span in spans)
        total, far = 0, set()
        for length, edge in passed:
            total += length - 1
            if total > _PASSED and length > _SHORT:
                far.add(edge)
        return far

    def _stops(self, span: _Span, far: bool) -> list[Item]:
        """What the edge passes. Its label stands near its source: at the top, or at the bottom of one turned round."""
        upper, lower = self._nodes[span.upper], self._nodes[span.lower]
        if not span.label:
            return [upper, *self._passing(upper, lower.layer, span.flow, far), lower]
        if span.flow.back:
            label = self._label(span, lower.layer - 1)
            return [upper, *self._passing(upper, label.layer, span.flow, far), label, lower]
        label = self._label(span, upper.layer + 1)
        return [upper, label, *self._passing(label, lower.layer, span.flow, far), lower]

    def _label(self, span: _Span, layer: int) -> Item:
        item = Item(layer, label=span.label)
        self._made.layers[layer].append(item)
        return item

    def _passing(self, start: Item, end: int, flow: Flow, far: bool) -> Sequence[Item]:
        if far:
            return [self._lanes.setdefault((start, flow), Item(LANE))]
        trunk = self._trunks.setdefault((start, flow), [])
        for layer in range(start.layer + 1 + len(trunk), end):
            trunk.append(Item(layer))
            self._made.layers[layer].append(trunk[-1])
        return trunk[: end - start.layer - 1]

    def _hop(self, upper: Item, lower: Item, flow: Flow) -> Hop:
        hop = self._hops.get((upper, lower, flow))
        if hop is None:
            hop = self._hops[upper, lower, flow] = Hop(upper, lower, flow)
            self._made.channels[lower.layer - 1 if upper.layer == LANE else upper.layer].append(hop)
            if LANE not in (upper.layer, lower.layer):
                upper.down.append(hop)
                lower.up.append(hop)
        return hop


def _untangled(weave: Weave) -> Weave:
    """Order each layer by where its neighbours stand, down and up again, and keep the best order that was seen."""
    for layer in weave.layers:
        _number(layer)
    best: list[list[Item]] = []
    fewest = math.inf
    for sweep in range(_ROUNDS):
        down = sweep % 2 == 0
        for layer in weave.layers if down else reversed(weave.layers):
            layer.sort(key=_from_above if down else _from_below)
            _number(layer)
        crossings = sum(map(_crossings, weave.layers))
        if crossings <= fewest:
            best, fewest = [list(layer) for layer in weave.layers], crossings
    weave.layers = best
    for layer in best:
        _number(layer)
    return weave


def _number(layer: Sequence[Item]) -> None:
    for place, item in enumerate(layer):
        item.place = place


def _from_above(item: Item) -> tuple[float, bool]:
    return _middle([hop.upper.place for hop in item.up] or [item.place]), item.label != ""


def _from_below(item: Item) -> tuple[float, bool]:
    return _middle([hop.lower.place for hop in item.down] or [item.place]), item.label != ""


def _middle(places: Sequence[int]) -> float:
    return sum(places) / len(places)


def _crossings(layer: Sequence[Item]) -> int:
    """How many hops below this layer cross each other."""
    seen: list[int] = []
    total = 0
    for item in layer:
        for end in sorted(hop.lower.place for hop in item.down):
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total
