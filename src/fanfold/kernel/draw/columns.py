"""In which column each item stands.

Every item wishes to stand straight above or below each of its neighbours, an item of a long edge more than a node
does. A sweep goes through the layers and grants the wishes as far as the order of a layer and the room between its
items allow: the sum of what is missed, by weight, is the least possible (isotonic regression by pooling: items that
would collide become a block, which stands at the weighted median of all its wishes). A median is a place that
somebody asked for, so lines come out straight and not nearly straight.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from fanfold.kernel.draw.layers import Item
from fanfold.kernel.draw.tracks import Net

_SWEEPS: Final = 8
_BESIDE_BOX: Final = 2
_BETWEEN_BOXES: Final = 3


class _Wish(NamedTuple):
    """To stand `shift` cells to the right of `other`."""

    other: Item
    shift: int
    weight: int


@dataclass(slots=True)
class _Block:
    """Items that stand as close as they may; `wishes` are where each would have the first of them, with weights."""

    wishes: list[tuple[int, int]]
    size: int
    place: int = 0

    def settle(self) -> None:
        """Stand at the median of the wishes: in the middle, where there are two."""
        passed = list(accumulate(weight for _, weight in self.wishes))
        half = passed[-1] / 2
        low, high = bisect_left(passed, half), bisect_right(passed, half)
        self.place = (self.wishes[low][0] + self.wishes[high][0]) // 2


def align(layers: Sequence[Sequence[Item]], nets: Iterable[Net]) -> None:
    """Set the `x` of every item; the leftmost stands at 0."""
    above: dict[Item, list[_Wish]] = {item: [] for layer in layers for item in layer}
    below: dict[Item, list[_Wish]] = {item: [] for layer in layers for item in layer}
    for net in nets:
        _wish(net, above, below)
    both = {item: above[item] + below[item] for item in above}
    _sweep(layers, {item: [] for item in above})
    for _ in range(_SWEEPS):
        _sweep(layers, above)
        _sweep(layers[::-1], below)
    for order in (layers, layers[::-1], layers):
        _sweep(order, both)
    left = min((item.x for item in above), default=0)
    for item in above:
        item.x -= left


def _wish(net: Net, above: Mapping[Item, list[_Wish]], below: Mapping[Item, list[_Wish]]) -> None:
    for upper, start in net.exits.items():
        for lower, end in net.entries.items():
            if upper in above and lower in above:  # a lane stands in no layer
                weight = (2, 6, 18)[(upper.node is None) + (lower.node is None)]
                # A line that cannot be straight at both ends bends at the lower one, not at both.
                above[lower].append(_Wish(upper, start - end, weight + (lower.node is None)))
                below[upper].append(_Wish(lower, end - start, weight))


def _sweep(layers: Iterable[Sequence[Item]], wishes: Mapping[Item, Sequence[_Wish]]) -> None:
    for layer in layers:
        offsets = _offsets(layer)
        blocks: list[_Block] = []
        for item, offset in zip(layer, offsets, strict=True):
            wanted = [(wish.other.x + wish.shift - offset, wish.weight) for wish in wishes[item]]
            blocks.append(_Block(sorted(wanted) or [(item.x - offset, 1)], 1))
            blocks[-1].settle()
            while len(blocks) > 1 and blocks[-2].place > blocks[-1].place:
                last = blocks.pop()
                blocks[-1] = _Block(sorted(blocks[-1].wishes + last.wishes), blocks[-1].size + last.size)
                blocks[-1].settle()
        places = [block.place for block in blocks for _ in range(block.size)]
        for item, offset, place in zip(layer, offsets, places, strict=True):
            item.x = place + offset


def _offsets(layer: Sequence[Item]) -> list[int]:
    """How far from the first item each must stand at least."""
    offsets = [0] if layer else []
    for item, following in pairwise(layer):
        both = item.node is not None and following.node is not None
        offsets.append(offsets[-1] + item.width + (_BETWEEN_BOXES if both else _BESIDE_BOX))
    return offsets
