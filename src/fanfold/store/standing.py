"""Where a thread of another engine stands at a checkpoint, and how that differs from where it stood before.

A checkpoint is stored as what differs from its parent, since most of it never does: the versions that went on, the
values that were set, what a list has got behind its end. It is stored whole when what one has to read to get at it,
back to the last whole one, has outgrown that one several times. So what is stored stays linear in what was new, and the
time to read a checkpoint in how large it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fanfold.store.pieces import Node, grown

LONGEST: Final = 4
"""How many times its size may have to be read to get at a whole checkpoint's descendants."""
FREE: Final = 4096
"""Bytes that may have to be read in any case."""

REST, ABOUT, VERSIONS, SEEN, VALUES, MORE = range(6)
"""What the parts of a difference are called: numbers, as each checkpoint has them. What is gone of a part has the same
number below zero."""

_NOTHING: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class Standing:
    """A checkpoint: its values by channel, their versions, which of them each node has seen, and what it says else."""

    rest: Node
    about: Node
    versions: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: Mapping[str, Node] = field(default_factory=dict)


EMPTY: Final = Standing(None, None)


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint as it is stored, with what it means. `whole` and `behind` are the sizes of what was read for it."""

    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    full: bool
    data: bytes
    standing: Standing
    whole: int
    behind: int

    def bears(self, size: int) -> bool:
        """Whether a child may be stored as what differs from this one, if that takes so many bytes."""
        return self.behind + size <= LONGEST * self.whole + FREE


def difference(old: Standing, new: Standing) -> dict[int, Any]:
    """What is stored of a checkpoint: what has to be done to `old` to make it `new`."""
    record: dict[int, Any] = {REST: new.rest, ABOUT: new.about}
    parts = ((VERSIONS, old.versions, new.versions), (SEEN, old.seen, new.seen), (VALUES, old.values, new.values))
    for part, before, after in parts:
        record[part] = {key: each for key, each in after.items() if before.get(key, _NOTHING) != each}
        record[-part] = [key for key in before if key not in after]
    kept = {key: grown(old.values.get(key), each) for key, each in record[VALUES].items()}
    record[MORE] = {key: [many, *record[VALUES].pop(key)[many:]] for key, many in kept.items() if many > 1}
    return {part: each for part, each in record.items() if each}


class Folding:
    """Puts differences together, from a whole checkpoint on. What is added belongs to it from then on."""

    def __init__(self) -> None:
        self.rest: Node = None
        self.about: Node = None
        self.versions: dict[str, Any] = {}
        self.seen: dict[str, Mapping[str, Any]] = {}
        self.values: dict[str, Node] = {}

    def add(self, record: Mapping[int, Any]) -> None:
        """Go on by a difference, in time that depends on it alone."""
        self.rest, self.about = record[REST], record[ABOUT]
        for part, entries in ((VERSIONS, self.versions), (SEEN, self.seen), (VALUES, self.values)):
            entries.update(record.get(part, {}))
            for key in record.get(-part, ()):
                del entries[key]
        for key, (kept, *added) in record.get(MORE, {}).items():
            del self.values[key][kept:]
            self.values[key] += added

    def standing(self) -> Standing:
        """What has come of it so far."""
        return Standing(self.rest, self.about, self.versions, self.seen, self.values)


def nodes(record: Mapping[int, Any]) -> list[Node]:
    """The values that a difference names: all that those of a standing are made of, over its differences."""
    added = (each for _, *more in record.get(MORE, {}).values() for each in more)
    return [*record.get(VALUES, {}).values(), *added]
