"""Channels: how one key of the state takes up what the tasks of a step have written to it.

A channel is a rule without a memory. It says where a key starts and how a batch of updates folds into the value so
far; the values themselves are a plain dictionary in the ledger. That makes a snapshot a copy of a dictionary and a
replay the same fold over the same updates.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, get_origin


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""Stands for "no value yet", which is not the same as None."""


class ConflictError(Exception):
    """Updates that cannot be folded together; the ledger says which nodes and which key."""


class Channel(Protocol):
    """The rule of one key."""

    def initial(self) -> Any:
        """The value before anything was written, or MISSING."""

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The value after one step's `updates`, which are in task order and at least one.

        Must not change `value`: it may be part of a snapshot. Raises `ConflictError` when they exclude each other.
        """


@dataclass(frozen=True, slots=True)
class LastValue:
    """Holds what was written last; two writes in one step exclude each other."""

    type: Any = Any

    def initial(self) -> Any:
        return MISSING

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        if len(updates) > 1:
            raise ConflictError(
                "can take one value a step; give the key a reducer, as in Annotated[list, operator.add]"
            )
        return updates[0]


# What an annotation that cannot be called stands for when a reducer needs a value to start from.
_CONCRETE: Final = {
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}


@dataclass(frozen=True, slots=True)
class BinaryOperatorAggregate:
    """Folds each update into the value with a reducer, one after the other in task order.

    It starts at `type()`; when the type cannot be called without arguments, the first update is taken as it is.
    """

    type: Any
    operator: Callable[[Any, Any], Any]

    def initial(self) -> Any:
        origin = get_origin(self.type) or self.type
        try:
            return _CONCRETE.get(origin, origin)()
        except Exception:  # noqa: BLE001 - a constructor of the user's: whatever it raises means "no empty value"
            return MISSING

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        for update in updates:
            value = update if value is MISSING else self.operator(value, update)
        return value
