"""Random graphs as plain data, what their nodes do, and how a graph of ours is made of them.

What a node does depends on everything that it sees, and what it writes goes into keys for which the order or the time
of a write matters. So a difference anywhere in what runs when ends up in the state.
"""

from __future__ import annotations

import functools
import operator
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

from fanfold.kernel.channels import EphemeralValue, Topic, UntrackedValue
from fanfold.kernel.graph import Builder
from fanfold.kernel.schema import RemainingSteps
from fanfold.types import Command, Overwrite, Send

T = TypeVar("T")
B = TypeVar("B", bound=Builder)

MODULUS = 10_007


def mixed(value: int, update: int) -> int:
    """A reducer for which the order of updates matters."""
    return (value * 31 + update) % MODULUS


def picky(value: int, update: int) -> int:
    """A reducer that takes not every update to every value."""
    if (value + update) % 41 == 40:
        raise ArithmeticError(f"{update} does not go with {value}")
    return mixed(value, update)


HINTS: Mapping[str, Any] = {
    "mix": Annotated[int, mixed],
    "trail": Annotated[tuple[str, ...], operator.add],
    "last": int,
    "spark": Annotated[int, EphemeralValue(int, guard=False)],
    "flash": Annotated[int, EphemeralValue(int)],
    "notes": Annotated[list[str], Topic(str)],
    "picky": Annotated[int, picky],
    "loose": Annotated[int, UntrackedValue(int, guard=False)],
}
KEYS = tuple(HINTS)
LEFT = "left"
"""The key that the engine fills in: how many steps the run may still take."""


def _terse(self: Any) -> str:
    """What it differs in from the simplest of its kind."""
    told = (field.name for field in fields(self) if getattr(self, field.name) != field.default)
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"


@dataclass(frozen=True, repr=False)
class Way:
    """A conditional edge: it answers one of its `choices`, each a list of targets; one in brackets is a `Send`.

    `limited` says whether all of them are given as a path map; `reads` is what its own parameter declares, None where
    that declares nothing.
    """

    __repr__ = _terse

    choices: tuple[tuple[str, ...], ...]
    limited: bool = False
    reads: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False)
class Spot:
    """A node. It writes some of `puts`, and where it has `leads`, it does so by a Command that leads like a `Way`.

    `reads` and `writes` are declared, by arguments or, if it is `annotated`, by its annotations; `destinations` is
    where its Commands may lead. It may raise, if it `breaks`, which its error handler sees to, if it is `handled`.
    """

    __repr__ = _terse

    name: str
    puts: tuple[str, ...] = ()
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    annotated: bool = False
    leads: tuple[tuple[str, ...], ...] = ()
    destinations: tuple[str, ...] = ()
    late: bool = False
    breaks: bool = False
    handled: bool = False

    @property
    def returns(self) -> bool:
        """Whether its return annotation says what it writes; that of a Command could not."""
        return self.annotated and self.writes is not None and not self.leads and not self.handled


@dataclass(frozen=True, repr=False)
class Drawing:
    """A graph. `counted` is whether its state has the key that the engine fills in."""

    __repr__ = _terse

    spots: tuple[Spot, ...]
    edges: tuple[tuple[str, str], ...]
    joins: tuple[tuple[tuple[str, ...], str], ...] = ()
    ways: tuple[tuple[str, Way], ...] = ()
    counted: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """What a node sees that declares nothing."""
        return (*KEYS, LEFT) if self.counted else KEYS


# What nodes and paths do


class Broken(LookupError):
    """Raised by nodes that break."""


def digest(*parts: Any) -> int:
    """A number that tells values apart, the same in every process."""
    return zlib.crc32(repr(parts).encode())


def wrote(spot: Spot, number: int) -> dict[str, Any]:
    """The update of a node: some of the keys that it may write."""
    made: dict[str, Any] = {}
    for place, key in enumerate(spot.puts):
        if number >> (2 * place) & 3:
            made[key] = _update(key, f"{spot.name}{number % 997}", number % MODULUS)
    return made


def _update(key: str, text: str, number: int) -> Any:
    if key == "trail":
        return (text,)
    if key == "notes":
        return [text, number] if number % 2 else text
    return Overwrite(number) if key == "mix" and number % 11 == 0 else number


def worked(spot: Spot, seen: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | tuple[str, Any]]]:
    """What a node writes for what it sees, and where its Command leads. Raises `Broken` in some cases."""
    number = digest(spot.name, sorted(seen.items()))
    if spot.breaks and number % 5 == 0:
        raise Broken(spot.name)
    return wrote(spot, number), chosen(spot.leads, number)


def mended(spot: Spot, seen: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | tuple[str, Any]]]:
    """What the error handler of a node writes, and where it leads."""
    number = digest("handler", spot.name, sorted(seen.items()))
    return wrote(spot, number), chosen(spot.leads, number)


def answered(source: str, place: int, way: Way, seen: Mapping[str, Any]) -> list[str | tuple[str, Any]]:
    """What a path answers for what it sees; a tuple is a Send."""
    return chosen(way.choices, digest("path", source, place, sorted(seen.items())))


def chosen(choices: Sequence[Sequence[str]], number: int) -> list[str | tuple[str, Any]]:
    """One of the choices. Most Sends are left out, for in a loop each of them could bring forth others without end."""
    if not choices:
        return []
    targets = choices[number % len(choices)]
    sent = number >> 8 & 1
    return [
        (target[1:-1], {"mix": (number + place) % MODULUS}) if target.startswith("[") else target
        for place, target in enumerate(targets)
        if sent or not target.startswith("[")
    ]


# As a graph of ours


@functools.cache
def _typed(keys: tuple[str, ...]) -> Any:
    hints = {**HINTS, LEFT: RemainingSteps}
    return TypedDict("Some", {key: NotRequired[hints[key]] for key in keys})  # type: ignore[operator]  # made at run time


def _goals(targets: Iterable[str | tuple[str, Any]]) -> list[Any]:
    return [target if isinstance(target, str) else Send(*target) for target in targets]


def action(spot: Spot) -> Callable[[Any], Any]:
    """The function of a node."""

    def node(state: Any) -> Any:
        update, goals = worked(spot, state)
        return Command(update=update, goto=_goals(goals)) if spot.leads else update

    node.__annotations__ = {}
    if spot.annotated and spot.reads is not None:
        node.__annotations__["state"] = _typed(spot.reads)
    if spot.returns:
        node.__annotations__["return"] = _typed(spot.writes or ())
    return node


def _handler(spot: Spot) -> Callable[[Any], Any]:
    def handler(state: Any) -> Any:
        update, goals = mended(spot, state)
        return Command(update=update, goto=_goals(goals))

    return handler


def _path(source: str, place: int, way: Way) -> Callable[[Any], Any]:
    def path(state: Any) -> Any:
        return _goals(answered(source, place, way, state))

    path.__name__ = f"path{place}"
    path.__annotations__ = {} if way.reads is None else {"state": _typed(way.reads)}
    return path


def built(drawing: Drawing, kind: Callable[[Any], B], wrap: Callable[[Spot, Any], Any] = lambda _, code: code) -> B:
    """The drawing as a builder of this kind. `wrap` may put something around the function of each node."""
    graph = kind(_typed(drawing.keys))
    for spot in drawing.spots:
        declared = {} if spot.reads is None or spot.annotated else {"reads": spot.reads}
        graph.add_node(
            spot.name,
            wrap(spot, action(spot)),
            writes=None if spot.returns else spot.writes,
            destinations=spot.destinations,
            defer=spot.late,
            error_handler=_handler(spot) if spot.handled else None,
            **declared,
        )
    for start, end in drawing.edges:
        graph.add_edge(start, end)
    for members, target in drawing.joins:
        graph.add_edge(list(members), target)
    for place, (source, way) in enumerate(drawing.ways):
        limits = [target.strip("[]") for choice in way.choices for target in choice]
        graph.add_conditional_edges(source, _path(source, place, way), limits if way.limited else None)
    return graph
