"""Random graphs, drawn from bytes: no byte left, or a small one, is the simplest choice, so that failures shrink."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
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
    """A graph that is being drawn. `durable` leaves out what a run that is resumed does not know any more."""

    def __init__(self, chance: _Chance, *, declared: bool, durable: bool) -> None:
        self.chance = chance
        self.declaring = chance.pick((90, 60, 20)) if declared else 0
        self.names = self._shuffled(NAMES[: 2 + chance.below(6)])
        self.forward = chance.maybe(70)
        self.counted = chance.maybe(20)
        self.writable = KEYS[:-1] if durable else KEYS
        self.readable = (*self.writable, LEFT) if self.counted else self.writable

    def _shuffled(self, names: Sequence[str]) -> tuple[str, ...]:
        left = list(names)
        return tuple(left.pop(self.chance.below(len(left))) for _ in names)

    def drawing(self) -> Drawing:
        chance, names = self.chance, self.names
        entries = {START: chance.some(names, 3) or names[:1]}
        return Drawing(
            spots=tuple(map(self.spot, names)),
            edges=tuple((START, name) for name in entries[START])
            + tuple(dict.fromkeys(self.edge() for _ in range(chance.below(11)))),
            joins=tuple((chance.some(names, 3) or names[:1], chance.pick(names)) for _ in range(chance.below(3))),
            ways=tuple((chance.pick((*names, START)), self.way()) for _ in range(chance.below(4))),
            counted=self.counted,
        )

    def edge(self) -> tuple[str, str]:
        start = self.chance.below(len(self.names) - 1) if self.forward else self.chance.below(len(self.names))
        later = self.names[start + 1 :] if self.forward else self.names
        return self.names[start], END if self.chance.maybe(8) else self.chance.pick(later)

    def spot(self, name: str) -> Spot:
        chance = self.chance
        common = chance.some(("mix", "trail", "spark", "notes"), 3)
        rare = chance.some([key for key in self.writable if key in ("last", "flash", "picky", "loose")], 1)
        puts = (*common, *(rare if chance.maybe(40) else ()))
        leads = self.choices() if chance.maybe(15) else ()
        led = {target.strip("[]") for choice in leads for target in choice} - {END}
        spot = Spot(
            name,
            puts=puts,
            reads=self.keys(self.readable) if chance.maybe(self.declaring) else None,
            annotated=chance.maybe(40),
            leads=leads,
            late=chance.maybe(8),
            breaks=chance.maybe(8),
            handled=chance.maybe(10),
        )
        if chance.maybe(self.declaring):
            others = self.keys(self.writable) if chance.maybe(20) else ()
            return replace(
                spot, writes=tuple({**dict.fromkeys(puts), **dict.fromkeys(others)}), destinations=tuple(sorted(led))
            )
        return replace(spot, destinations=tuple(sorted(led))[:1])

    def keys(self, of: Sequence[str]) -> tuple[str, ...]:
        return self.chance.some(of, 3)

    def choices(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(self.target() for _ in range(self.chance.below(3))) for _ in range(1 + self.chance.below(3)))

    def target(self) -> str:
        name = self.chance.pick((*self.names, END))
        return f"[{name}]" if name != END and self.chance.maybe(35) else name

    def way(self) -> Way:
        chance = self.chance
        limited, declared = chance.maybe(self.declaring), chance.maybe(self.declaring // 2)
        return Way(self.choices(), limited=limited, reads=self.keys(self.readable) if declared else None)


def case_of(blob: bytes, *, declared: bool = True, durable: bool = False) -> Case:
    """The case that these bytes stand for."""
    chance = _Chance(blob)
    seed = chance.below(256) * 256 + chance.below(256)
    value = {"mix": chance.below(100), **({"last": 5} if chance.maybe(20) else {})}
    return Case(_Draft(chance, declared=declared, durable=durable).drawing(), value, seed)


@st.composite
def cases(draw: st.DrawFn, *, declared: bool = True, durable: bool = False) -> Case:
    """Random cases; without `declared` no node says anything of what it reads or writes."""
    return case_of(draw(st.binary(min_size=256, max_size=256)), declared=declared, durable=durable)
