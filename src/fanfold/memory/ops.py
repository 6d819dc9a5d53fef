"""The operations of a long-term store, what they answer with, and what is wrong with one before it is done."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

from fanfold.errors import InvalidNamespaceError, ItemConflictError, NotStorableError, UsageError

Namespace: TypeAlias = tuple[str, ...]
Value: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], datetime]
Fields: TypeAlias = Sequence[str]

EVERYTHING: Final[Fields] = ("$",)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A value as it was when it was read, and when it was put first and last."""

    namespace: Namespace
    key: str
    value: Value
    created_at: datetime
    updated_at: datetime
    version: int = field(default=0, kw_only=True)
    """Another one after each put, and never one that the item had before, also when it was deleted meanwhile."""

    def dict(self) -> Value:
        """The item as JSON can say it."""
        return {
            "namespace": list(self.namespace),
            "key": self.key,
            "value": self.value,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    # An item that was found by searching equals the one that was got: the score says something about the search.
    def __eq__(self, other: object) -> bool:
        return Item.dict(self) == Item.dict(other) if isinstance(other, Item) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.namespace, self.key))


@dataclass(frozen=True, slots=True, eq=False)
class SearchItem(Item):
    """An item that a search found. `score` is None when there was no query or it says nothing about the item."""

    score: float | None = None

    def dict(self) -> Value:
        return {**Item.dict(self), "score": self.score}


class NotGiven(Enum):
    NOT_GIVEN = "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
"""Stands for "as the store says" or "whatever it is", where None has another meaning."""


class GetOp(NamedTuple):
    """Read one item."""

    namespace: Namespace
    key: str
    refresh_ttl: bool = True


class SearchOp(NamedTuple):
    """Read the items under a prefix that pass the filter, ranked by the query."""

    namespace_prefix: Namespace
    filter: Mapping[str, Any] | None = None
    limit: int = 10
    offset: int = 0
    query: str | None = None
    refresh_ttl: bool = True


class PutOp(NamedTuple):
    """Write one item, or delete it when the value is None.

    With `if_version` that is done only while the item has that version, with None only while there is none.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any] | None
    index: Literal[False] | Fields | None = None  # type: ignore[assignment]  # hides tuple.index; LangGraph's name
    ttl: float | None = None
    if_version: int | NotGiven | None = NOT_GIVEN

    @property
    def conditional(self) -> bool:
        """Whether it depends on the version that the item has."""
        return not isinstance(self.if_version, NotGiven)

    @property
    def where(self) -> str:
        """What it is called in errors."""
        return f"item {self.key!r} of namespace {self.namespace}"


class MatchCondition(NamedTuple):
    """How a namespace has to begin or to end; the label `*` stands for any."""

    match_type: Literal["prefix", "suffix"]
    path: Namespace


class ListNamespacesOp(NamedTuple):
    """Read which namespaces there are."""

    match_conditions: Sequence[MatchCondition] | None = None
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


Op: TypeAlias = GetOp | SearchOp | PutOp | ListNamespacesOp
Result: TypeAlias = Item | list[SearchItem] | list[Namespace] | None


class IndexConfig(TypedDict, total=False):
    """How texts become vectors. Without `fields` the whole value is one text."""

    dims: int
    embed: Any  # a function from texts to vectors, plain or async, or an object with `embed_documents`
    fields: Fields | None


class TTLConfig(TypedDict, total=False):
    """How long items live, in minutes, when `put` does not say, and whether reading prolongs it (it does)."""

    default_ttl: float | None
    refresh_on_read: bool


def labels_of(namespace: Iterable[str]) -> Namespace:
    """The namespace, checked."""
    if isinstance(namespace, str):
        raise InvalidNamespaceError(f"a namespace is a tuple of labels; write ({namespace!r},) for {namespace!r}")
    labels = tuple(namespace)
    for label in labels:
        if not isinstance(label, str):
            raise InvalidNamespaceError(f"label {label!r} of namespace {labels} is not a str")
        if not label or "." in label or not _storable(label):
            raise InvalidNamespaceError(
                f"label {label!r} of namespace {labels} is empty, or contains a '.', a NUL or a lone surrogate"
            )
    return labels


def checked_key(key: str) -> str:
    """The key, if every store can keep it."""
    if not _storable(key):
        raise UsageError(f"key {key!r} contains a NUL or a lone surrogate, which no database keeps")
    return key


def _storable(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def writable(namespace: Iterable[str]) -> Namespace:
    labels = labels_of(namespace)
    if not labels:
        raise InvalidNamespaceError("an item needs a namespace of at least one label, and this one is empty")
    if labels[0] == "langgraph":
        raise InvalidNamespaceError(f"namespace {labels} cannot be written: the first label 'langgraph' is reserved")
    return labels


def checked_condition(condition: MatchCondition) -> MatchCondition:
    if condition.match_type not in ("prefix", "suffix"):
        raise UsageError(f"namespaces match by 'prefix' or 'suffix', not by {condition.match_type!r}")
    return condition._replace(path=labels_of(condition.path))


def check_window(op: SearchOp | ListNamespacesOp) -> None:
    for name in ("limit", "offset"):
        if getattr(op, name) < 0:
            raise UsageError(f"{name}={getattr(op, name)} is negative; it counts what is returned or skipped")


def given_value(op: PutOp) -> Value:
    """The value that is to be put, still the caller's own."""
    if not isinstance(op.value, Mapping):
        raise UsageError(f"the value of {op.where} is no dictionary: {op.value!r:.100}", hint="write {'value': ...}")
    return dict(op.value)


def own_value(op: PutOp) -> Value:
    """A copy of it."""
    try:
        return copy.deepcopy(given_value(op))
    except TypeError as error:
        raise NotStorableError(f"{op.where} cannot be kept, because it cannot be copied: {error}") from error


def check_condition(op: PutOp) -> None:
    """Raise `UsageError` when `if_version` is no version, or one that a deletion cannot ask for."""
    asked = op.if_version
    if not isinstance(asked, int | NotGiven | None) or isinstance(asked, bool):
        raise UsageError(
            f"if_version={asked!r} of item {op.key!r} is no version", hint="take item.version of what you have read"
        )
    if asked is None and op.value is None:
        raise UsageError(f"item {op.key!r} cannot be deleted if it is not there: if_version=None is for put")


def check_version(op: PutOp, current: int | None) -> None:
    """Raise `ItemConflictError` when the item has another version than the operation asks for."""
    if not isinstance(op.if_version, NotGiven) and op.if_version != current:
        raise ItemConflictError(op.namespace, op.key, op.if_version, current)


def time_to_live(op: PutOp) -> timedelta | None:
    if op.ttl is None:
        return None
    if not 0 < op.ttl < math.inf:
        raise UsageError(f"ttl={op.ttl} of item {op.key!r} is no time to live", hint="minutes, or None for no end")
    return timedelta(minutes=op.ttl)
