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


def difference(old: Standing, new: Standing) -> dict[str, Any]:
    """What is stored of a checkpoint: what has to be done to `old` to make it `new`."""
    record: dict[str, Any] = {"rest": new.rest, "about": new.about}
    for name in ("versions", "seen", "values"):
        before, after = getattr(old, name), getattr(new, name)
        changed = {key: each for key, each in after.items() if before.get(key, _NOTHING) != each}
        if gone := [key for key in before if key not in after]:
            record[f"{name} gone"] = gone
        if name == "values":
            more = {key: kept for key, each in changed.items() if (kept := grown(before.get(key), each)) > 1}
            if more:
                record["more"] = {key: [kept, *changed.pop(key)[kept:]] for key, kept in more.items()}
        if changed:
            record[name] = changed
    return record


class Folding:
    """Puts differences together, from a whole checkpoint on. What is added belongs to it from then on."""

    def __init__(self) -> None:
        self.rest: Node = None
        self.about: Node = None
        self.versions: dict[str, Any] = {}
        self.seen: dict[str, Mapping[str, Any]] = {}
        self.values: dict[str, Node] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Go on by a difference, in time that depends on it alone."""
        self.rest, self.about = record["rest"], record["about"]
        for name, part in (("versions", self.versions), ("seen", self.seen), ("values", self.values)):
            part.update(record.get(name, {}))
            for key in record.get(f"{name} gone", ()):
                del part[key]
        for key, (kept, *added) in record.get("more", {}).items():
            del self.values[key][kept:]
            self.values[key] += added

    def standing(self) -> Standing:
        """What has come of it so far."""
        return Standing(self.rest, self.about, self.versions, self.seen, self.values)


def nodes(record: Mapping[str, Any]) -> list[Node]:
    """All nodes that a difference names: all that those of a standing are made of, over its differences."""
    return [
        record["rest"],
        record["about"],
        *record.get("values", {}).values(),
        *(each for _, *added in record.get("more", {}).values() for each in added),
    ]
