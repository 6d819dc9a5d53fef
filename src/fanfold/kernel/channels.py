"""Channels: how one key of the state takes up what the tasks of a step have written to it.

A channel is a rule without a memory. It says where a key starts, how a batch of updates folds into the value so far,
and what is left of the value after a step that did not write it; the values themselves are a plain dictionary in the
ledger. That makes a snapshot a copy of a dictionary and a replay the same fold over the same updates. Two channels are
equal when their rules are; the type of the value is no part of that.
"""

from __future__ import annotations

import collections.abc
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol, get_origin

from fanfold.errors import EmptyChannelError, InvalidUpdateError
from fanfold.types import OVERWRITE, Overwrite


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:  # there is one; so copies and pickles of it are itself
        return "MISSING"


MISSING: Final = _Missing()
"""Stands for "no value yet", which is not the same as None."""


class ConflictError(Exception):
    """Updates that cannot be folded together; the ledger says which nodes and which key."""


class Channel(Protocol):
    """The rule of one key."""

    @property
    def tracked(self) -> bool:
        """Whether the value is stored and survives the run."""

    @property
    def replays(self) -> bool:
        """Whether folding the same updates again gives the same value, and runs none of the user's code."""

    def settle(self, update: Any) -> Any:
        """The update as it is stored and folded: with everything decided that would be left to chance otherwise."""

    def initial(self) -> Any:
        """The value before anything was written, or MISSING."""

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The value after one step's `updates`, which are in task order and at least one.

        Must not change `value`: it may be part of a snapshot. Raises `ConflictError` when they exclude each other.
        """

    def lapse(self, value: Any) -> Any:
        """What is left of the value after a step that did not write the key."""

    def read(self, value: Any) -> Any:
        """What a node sees of the value, or MISSING."""


class Cell:
    """A channel on its own, with a value that it holds: for trying a rule out, and for tests of one.

    Graphs have none of these; their values are in the ledger.
    """

    __slots__ = ("_value", "channel")

    def __init__(self, channel: Channel, value: Any = MISSING) -> None:
        self.channel = channel
        self._value = channel.initial() if value is MISSING else value

    @property
    def ValueType(self) -> Any:  # noqa: N802 - LangGraph's name for it
        """The type of the value."""
        return getattr(self.channel, "ValueType", Any)

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - LangGraph's name for it
        """The type of an update."""
        return getattr(self.channel, "UpdateType", Any)

    def update(self, updates: Sequence[Any]) -> bool:
        """Take one step's updates, which may be none; whether the value is another one now.

        Raises `InvalidUpdateError` when they exclude each other.
        """
        before = self._value
        try:
            self._value = self.channel.fold(before, updates) if updates else self.channel.lapse(before)
        except ConflictError as conflict:
            raise InvalidUpdateError(f"this {type(self.channel).__name__} {conflict}") from None
        return self._value is not before if self._gathers() or not updates else True

    def get(self) -> Any:
        """The value. Raises `EmptyChannelError` when there is none."""
        value = self.channel.read(self._value)
        if value is MISSING:
            raise EmptyChannelError(f"this {type(self.channel).__name__} holds no value")
        return value

    def is_available(self) -> bool:
        """Whether there is a value."""
        return self.channel.read(self._value) is not MISSING

    def checkpoint(self) -> Any:
        """What a checkpoint would hold of it, or MISSING."""
        return self._value if self.channel.tracked else MISSING

    def from_checkpoint(self, checkpoint: Any = MISSING) -> Cell:
        """Another one, as a checkpoint held it."""
        return Cell(self.channel, checkpoint if self.channel.tracked else MISSING)

    def copy(self) -> Cell:
        """Another one with the same value."""
        return Cell(self.channel, copy(self._value))

    def consume(self) -> bool:
        """A task was triggered by it: a barrier that was full is empty again. Whether that changed anything."""
        full = self._gathers() and self.is_available()
        self._value = MISSING if full else self._value
        return full

    def finish(self) -> bool:
        """The run would end now; no channel here waits for that."""
        return False

    def _gathers(self) -> bool:
        return isinstance(self.channel, NamedBarrierValue)


class _Lasting:
    """What most channels have in common: they are stored, and keep and show their value as it is.

    A channel that a program holds in its hands can also be used on its own, as in LangGraph: then it has a `Cell`.
    """

    __slots__ = ("_cell",)
    tracked = True

    @property
    def ValueType(self: Any) -> Any:  # noqa: N802 - LangGraph's name for it
        """The type of the value."""
        return self.type

    @property
    def UpdateType(self: Any) -> Any:  # noqa: N802 - LangGraph's name for it
        """The type of an update."""
        return self.type

    @property
    def own(self: Any) -> Cell:
        """The cell of a channel that is used on its own."""
        if not hasattr(self, "_cell"):
            object.__setattr__(self, "_cell", Cell(self))
        cell: Cell = self._cell
        return cell

    def update(self, updates: Sequence[Any]) -> bool:
        """See `Cell.update`."""
        return self.own.update(updates)

    def get(self) -> Any:
        """See `Cell.get`."""
        return self.own.get()

    def is_available(self) -> bool:
        """See `Cell.is_available`."""
        return self.own.is_available()

    def checkpoint(self) -> Any:
        """See `Cell.checkpoint`."""
        return self.own.checkpoint()

    def from_checkpoint(self, checkpoint: Any = MISSING) -> Cell:
        """See `Cell.from_checkpoint`."""
        return self.own.from_checkpoint(checkpoint)

    def copy(self) -> Cell:
        """See `Cell.copy`."""
        return self.own.copy()

    def consume(self) -> bool:
        """See `Cell.consume`."""
        return self.own.consume()

    def finish(self) -> bool:
        """See `Cell.finish`."""
        return self.own.finish()

    @property
    def replays(self) -> bool:
        """Yes."""
        return True

    def settle(self, update: Any) -> Any:
        """The update."""
        return update

    def initial(self) -> Any:
        """Nothing."""
        return MISSING

    def lapse(self, value: Any) -> Any:
        """The value."""
        return value

    def read(self, value: Any) -> Any:
        """The value."""
        return value


_ONE_VALUE: Final = "can take one value a step; give the key a reducer, as in Annotated[list, operator.add]"


@dataclass(frozen=True, slots=True)
class LastValue(_Lasting):
    """Holds what was written last; two writes in one step exclude each other."""

    type: Any = field(default=Any, compare=False)

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The only update."""
        if len(updates) > 1:
            raise ConflictError(_ONE_VALUE)
        return updates[0]


@dataclass(frozen=True, slots=True)
class AnyValue(_Lasting):
    """Holds what was written last; of several writes in one step, which should be equal, the last in task order.

    It is gone after a step that did not write it.
    """

    type: Any = field(default=Any, compare=False)

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The last update."""
        return updates[-1]

    def lapse(self, value: Any) -> Any:
        """Nothing."""
        return MISSING


@dataclass(frozen=True, slots=True)
class EphemeralValue(_Lasting):
    """Holds a value for the step after the one that wrote it; with `guard`, two writes exclude each other."""

    type: Any = field(default=Any, compare=False)
    guard: bool = True

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The only update, or without a guard the last."""
        if self.guard and len(updates) > 1:
            raise ConflictError(f"can take one value a step; EphemeralValue({self.type!r}, guard=False) takes the last")
        return updates[-1]

    def lapse(self, value: Any) -> Any:
        """Nothing."""
        return MISSING


@dataclass(frozen=True, slots=True)
class UntrackedValue(_Lasting):
    """Holds a value during the run and is never stored, for what cannot be: a connection, a lock, a handle."""

    type: Any = field(default=Any, compare=False)
    guard: bool = True
    tracked = False

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The only update, or without a guard the last."""
        if self.guard and len(updates) > 1:
            raise ConflictError(f"can take one value a step; UntrackedValue({self.type!r}, guard=False) takes the last")
        return updates[-1]


@dataclass(frozen=True, slots=True)
class Topic(_Lasting):
    """Collects all values of a step, lists taken apart; with `accumulate`, of all steps."""

    type: Any = field(default=Any, compare=False)
    accumulate: bool = False

    @property
    def ValueType(self) -> Any:  # noqa: N802 - LangGraph's name for it
        """A sequence of what is collected."""
        return Sequence[self.type]  # type: ignore[name-defined]  # the type is the user's

    @property
    def UpdateType(self) -> Any:  # noqa: N802 - LangGraph's name for it
        """One, or a list of them."""
        return self.type | list[self.type]  # type: ignore[name-defined]  # the type is the user's

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The updates in task order, after the earlier ones if they accumulate."""
        kept = list(value) if self.accumulate and value is not MISSING else []
        return kept + list(_apart(updates))

    def lapse(self, value: Any) -> Any:
        """Nothing, unless they accumulate."""
        return value if self.accumulate else MISSING

    def read(self, value: Any) -> Any:
        """The collected values, if there are any."""
        return value if value is not MISSING and value else MISSING


def _apart(updates: Iterable[Any]) -> Iterator[Any]:
    for update in updates:
        if isinstance(update, list):
            yield from update
        else:
            yield update


@dataclass(frozen=True, slots=True)
class NamedBarrierValue(_Lasting):
    """Has a value (None) once each of `names` was written, in whichever steps."""

    type: Any = field(compare=False)
    names: frozenset[str]

    def __init__(self, type: Any, names: Iterable[str]) -> None:
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "names", frozenset(names))

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The names written so far, in order."""
        for update in updates:
            if update not in self.names:
                raise ConflictError(f"takes only {', '.join(sorted(self.names))}, and {update!r} is none of them")
        before = set() if value is MISSING else set(value)
        return value if before.issuperset(updates) else sorted(before | set(updates))

    def read(self, value: Any) -> Any:
        """None once all names are there."""
        return None if value is not MISSING and self.names == set(value) else MISSING


def alike(one: Channel, other: Channel) -> bool:
    """Whether two declarations of a key mean the same rule, whatever type they give its value.

    Lambdas count as the same: one that is written twice is two objects, and nothing tells whether they differ.
    """
    if one == other:
        return True
    reducers = [getattr(channel, "operator", getattr(channel, "reducer", None)) for channel in (one, other)]
    return type(one) is type(other) and any(getattr(each, "__name__", "") == "<lambda>" for each in reducers)


# Reducers of the standard library that always fold the same way. Those of ours say so themselves.
_REPLAYING: Final = frozenset({operator.add, operator.concat, operator.or_, operator.and_, operator.mul, max, min})


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


def _empty(declared: Any) -> Any:
    origin = get_origin(declared) or declared
    try:
        return _CONCRETE.get(origin, origin)()
    except Exception:  # noqa: BLE001 - a constructor of the user's: whatever it raises means "no empty value"
        return MISSING


def _is_in(reducer: Any, known: frozenset[Any]) -> bool:
    try:
        return reducer in known
    except TypeError:  # an object that has no hash
        return False


def overwritten(update: Any) -> Any:
    """The value that an update puts in the place of a key's own, or MISSING for an ordinary update.

    It may have been through JSON: `{"__overwrite__": value}` and `{"type": "__overwrite__", "value": value}` count.
    """
    if isinstance(update, Overwrite):
        return update.value
    if type(update) is not list and isinstance(update, Mapping):
        if len(update) == 1 and OVERWRITE in update:
            return update[OVERWRITE]
        if update.get("type") == OVERWRITE and "value" in update:
            return update["value"]
    return MISSING


def _reset(updates: Sequence[Any]) -> Any:
    """The value of the one Overwrite among the updates, or MISSING. Raises `ConflictError` for two."""
    found = [value for update in updates if (value := overwritten(update)) is not MISSING]
    if len(found) > 1:
        raise ConflictError("can take one Overwrite a step")
    return found[0] if found else MISSING


@dataclass(frozen=True, slots=True)
class BinaryOperatorAggregate(_Lasting):
    """Folds each update into the value with a reducer, one after the other in task order.

    It starts at `type()`; when the type cannot be called without arguments, the first update is taken as it is. An
    `Overwrite` takes the place of the value, and the other updates of its step are dropped.
    """

    type: Any = field(compare=False)
    operator: Callable[[Any, Any], Any]

    @property
    def replays(self) -> bool:
        """Whether the reducer is known to be the same each time."""
        return _is_in(self.operator, _REPLAYING) or bool(getattr(self.operator, "replays", False))

    def settle(self, update: Any) -> Any:
        """What the reducer itself makes of an update beforehand, if it has a say."""
        settle = getattr(self.operator, "settle", None)
        if settle is None:
            return update
        return update if overwritten(update) is not MISSING else settle(update)

    def initial(self) -> Any:
        """What the type starts from."""
        return _empty(self.type)

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The value with each update folded in."""
        reset = _reset(updates)
        if reset is not MISSING:
            return reset
        if self.operator is operator.add and type(value) is list and all([type(update) is list for update in updates]):
            return [*value, *chain.from_iterable(updates)]  # to add one after the other copies what was added before
        for update in updates:
            value = update if value is MISSING else self.operator(value, update)
        return value


@dataclass(frozen=True, slots=True)
class DeltaChannel(_Lasting):
    """Folds all updates of a step at once: `reducer(value, updates)`.

    The reducer must not care how updates are grouped into steps. `snapshot_frequency` is accepted for LangGraph's
    sake; when to take a snapshot is decided by what it would save.
    """

    reducer: Callable[[Any, Sequence[Any]], Any]
    type: Any = field(default=list, compare=False)
    snapshot_frequency: int = field(default=100, compare=False)

    @property
    def replays(self) -> bool:
        """No: the reducer is the user's."""
        return False

    def __post_init__(self) -> None:
        if self.snapshot_frequency <= 0:
            raise ValueError(f"snapshot_frequency must be 1 or more, and it is {self.snapshot_frequency}")

    def initial(self) -> Any:
        """What the type starts from."""
        return _empty(self.type)

    def fold(self, value: Any, updates: Sequence[Any]) -> Any:
        """The value with the step's updates folded in."""
        reset = _reset(updates)
        if reset is not MISSING:
            return _empty(self.type) if reset is None else reset
        return self.reducer(_empty(self.type) if value is MISSING else value, list(updates))
