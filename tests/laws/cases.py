"""Random graphs, drawn from bytes: no byte left, or a small one, is the simplest choice, so that failures shrink."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from fanfold.types import END, START
from tests.laws.drawings import KEYS, LEFT, Drawing, Spot, Way
from tests.laws.reference import Place

T = TypeVar("T")

NAMES = ("a", "b", "c", "d", "e", "f", "g")
TIMES = (1, 1, 2, 3, 5, 8, 0)


@dataclass(frozen=True)
class Case:
    """A graph, an input, and a number that decides how long each task takes and which of two ends first."""

    drawing: Drawing
    value: dict[str, Any]
    seed: int

    def time(self, place: Place) -> int:
        """How long a task takes."""
        return TIMES[self.chance("time", *place) % len(TIMES)]

    def tie(self, place: Place) -> int:
        """Which of two tasks that end at the same time is first: the one with the smaller number."""
        return self.chance("tie", *place)

    def chance(self, *what: Any) -> int:
        """A number for something that is left to chance."""
        return zlib.crc32(repr((self.seed, what)).encode())


class _Chance:
    def __init__(self, blob: bytes) -> None:
        self._bytes = iter(blob)

    def below(self, most: int) -> int:
        return next(self._bytes, 0) % most

    def maybe(self, percent: int) -> bool:
        return self.below(100) >= 100 - percent

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], most: int, least: int = 0) -> tuple[T, ...]:
        """Different ones of them, in their order."""
        count = least + self.below(most - least + 1)
        found = {self.below(len(options)) for _ in range(count)}
        return tuple(option for place, option in enumerate(options) if place in found)


class _Draft:
    """A graph that is being drawn. `durable` leaves out what a run that is resumed does not know any more, `plain` also
    what a driver does not come to the same with each time (how far it is from its limit, and two sorts of errors) and
    Sends in loops, which people's answers can let grow without end.

    A graph that goes `forward` has no loops.
    """

    def __init__(self, chance: _Chance, *, declared: bool, durable: bool, plain: bool) -> None:
        self.chance = chance
        self.declaring = chance.pick((100, 95, 85, 50)) if declared else 0
        self.names = self._shuffled(NAMES[: 2 + chance.pick((0, 1, 2, 3, 4, 5, 4, 3))])
        self.forward = chance.maybe(70)
        self.sends = 35 if self.forward or not plain else 0
        self.counted = chance.maybe(20) and not plain
        self.writable = KEYS[:-2] if plain else KEYS[:-1] if durable else KEYS
        self.readable = (*self.writable, LEFT) if self.counted else self.writable

    def _shuffled(self, names: Sequence[str]) -> tuple[str, ...]:
        left = list(names)
        return tuple(left.pop(self.chance.below(len(left))) for _ in names)

    def drawing(self) -> Drawing:
        chance, names = self.chance, self.names
        entries = [(START, name) for name in chance.some(names[:4], 3) or names[:1]]
        edges = dict.fromkeys([*entries, *(self.edge() for _ in range(chance.below(14)))])
        return Drawing(
            spots=tuple(self.spot(name, {end for start, end in edges if start == name}) for name in names),
            edges=tuple(edges),
            joins=tuple(self.join() for _ in range(chance.below(3))),
            ways=tuple(self.way(chance.pick((*names, START))) for _ in range(chance.below(4))),
            counted=self.counted,
        )

    def edge(self) -> tuple[str, str]:
        start = self.chance.pick(self.names[:-1] if self.forward else self.names)
        return start, END if self.chance.maybe(5) else self.chance.pick(self.after(start))

    def join(self) -> tuple[tuple[str, ...], str]:
        members = self.chance.some(self.names[:-1], 3) or self.names[:1]
        return members, self.chance.pick(self.after(members[-1]))

    def after(self, name: str) -> Sequence[str]:
        """Where this node may lead."""
        return self.names if name == START or not self.forward else self.names[self.names.index(name) + 1 :]

    def spot(self, name: str, next_ones: Collection[str]) -> Spot:
        chance = self.chance
        puts = chance.some(("mix", "trail", "spark", "notes"), 2)
        if chance.maybe(35):
            puts += (chance.pick([key for key in self.writable if key in ("last", "flash", "picky", "loose")]),)
        leads = self.choices(name) if chance.maybe(15) else ()
        led = tuple(sorted({target.strip("[]") for choice in leads for target in choice} - {END}))
        spot = Spot(
            name,
            puts=puts,
            reads=self.keys(self.readable) if chance.maybe(self.declaring) else None,
            annotated=chance.maybe(40),
            leads=leads,
            destinations=led[:1],
            late=chance.maybe(10),
            breaks=chance.maybe(12),
        )
        spot = replace(spot, handled=chance.maybe(60 if spot.breaks else 5))
        if not chance.maybe(self.declaring):
            return spot
        others = self.keys(self.writable) if chance.maybe(20) else ()
        if chance.maybe(50):  # where an edge leads, a Command may lead without another word, and send only with one
            sent = {target.strip("[]") for choice in leads for target in choice if target.startswith("[")}
            led = tuple(name for name in led if name not in next_ones or name in sent)
        return replace(spot, writes=tuple(dict.fromkeys((*puts, *others))), destinations=led)

    def keys(self, of: Sequence[str]) -> tuple[str, ...]:
        return self.chance.some(of, 3)

    def choices(self, source: str) -> tuple[tuple[str, ...], ...]:
        """What a path of the node, or a Command, chooses among."""
        chance = self.chance
        return tuple(tuple(self.target(source) for _ in range(chance.below(3))) for _ in range(1 + chance.below(3)))

    def target(self, source: str) -> str:
        name = self.chance.pick((*self.after(source), END))
        return f"[{name}]" if name != END and self.chance.maybe(self.sends) else name

    def way(self, source: str) -> tuple[str, Way]:
        chance = self.chance
        limited, declared = chance.maybe(self.declaring), chance.maybe(self.declaring // 2)
        choices = self.choices(source)
        return source, Way(choices, limited=limited, reads=self.keys(self.readable) if declared else None)


def case_of(blob: bytes, *, declared: bool = True, durable: bool = False, plain: bool = False) -> Case:
    """The case that these bytes stand for."""
    chance = _Chance(blob)
    seed = chance.below(256) * 256 + chance.below(256)
    value = {"mix": chance.below(100), **({"last": 5} if chance.maybe(20) else {})}
    return Case(_Draft(chance, declared=declared, durable=durable, plain=plain).drawing(), value, seed)


@st.composite
def cases(draw: st.DrawFn, *, declared: bool = True, durable: bool = False, plain: bool = False) -> Case:
    """Random cases; without `declared` no node says anything of what it reads or writes."""
    return case_of(draw(st.binary(min_size=256, max_size=256)), declared=declared, durable=durable, plain=plain)
