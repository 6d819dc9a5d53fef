"""Batches that have been checked: what can be wrong with an operation is found before any of its batch is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from fanfold.errors import UsageError
from fanfold.memory.matching import check_filter, parts_of, text_of
from fanfold.memory.ops import (
    Fields,
    GetOp,
    ListNamespacesOp,
    Namespace,
    Op,
    PutOp,
    Result,
    SearchOp,
    Value,
    check_condition,
    check_window,
    checked_condition,
    checked_key,
    labels_of,
    time_to_live,
)

Read: TypeAlias = GetOp | SearchOp | ListNamespacesOp
Keep: TypeAlias = Callable[[PutOp], Value]


@dataclass(frozen=True, slots=True)
class Write:
    """A write that has been checked: the value as it is to be kept, None to delete, and what a search will look at."""

    op: PutOp
    value: Value | None = None
    searched: Sequence[Any] = ()
    ttl: timedelta | None = None

    @property
    def place(self) -> tuple[Namespace, str]:
        """Which item it is about."""
        return self.op.namespace, self.op.key

    @property
    def texts(self) -> list[str]:
        """What is embedded."""
        return [text_of(part) for part in self.searched]


@dataclass(frozen=True, slots=True)
class Batch:
    """The reads of a batch, by their places in it, and its writes: one a key, the last, in the place of the first."""

    reads: Mapping[int, Read]
    writes: Sequence[Write]
    size: int

    def answers(self, found: Mapping[int, Result]) -> list[Result]:
        """What was asked for, in order; a write has no answer."""
        return [found.get(place) for place in range(self.size)]

    def texts(self) -> tuple[list[str], list[str]]:
        """What is to be embedded, each once: the texts of what is put, and the queries."""
        documents = {text: None for write in self.writes for text in write.texts}
        queries = {read.query: None for read in self.reads.values() if isinstance(read, SearchOp) and read.query}
        return list(documents), list(queries)


@dataclass(slots=True)
class _Sorted:
    reads: dict[int, Read] = field(default_factory=dict)
    writes: dict[tuple[Namespace, str], Write] = field(default_factory=dict)

    def add(self, write: Write) -> None:
        before = self.writes.get(write.place)
        if before is not None and (before.op.conditional or write.op.conditional):
            raise UsageError(
                f"a batch writes item {write.op.key!r} of namespace {write.op.namespace} twice, with if_version",
                hint="make two batches of it",
            )
        self.writes[write.place] = write


def batch_of(ops: Iterable[Op], fields: Fields, keep: Keep) -> Batch:
    """The operations, checked. `fields` are searched where a put does not say otherwise; `keep` gives what is kept."""
    sorted_ = _Sorted()
    size = 0
    for size, op in enumerate(ops, 1):
        if isinstance(op, PutOp):
            sorted_.add(_write(op, fields, keep))
        else:
            sorted_.reads[size - 1] = _read(op)
    return Batch(sorted_.reads, tuple(sorted_.writes.values()), size)


def _read(op: Read) -> Read:
    match op:
        case GetOp():
            return op._replace(namespace=labels_of(op.namespace), key=checked_key(op.key))
        case SearchOp():
            check_window(op)
            check_filter(op.filter)
            return op._replace(namespace_prefix=labels_of(op.namespace_prefix))
        case ListNamespacesOp():
            check_window(op)
            return op._replace(match_conditions=tuple(map(checked_condition, op.match_conditions or ())))
    raise UsageError(f"{op!r:.100} is no operation of a store")


def _write(op: PutOp, fields: Fields, keep: Keep) -> Write:
    op = op._replace(namespace=labels_of(op.namespace), key=checked_key(op.key))
    check_condition(op)
    if op.value is None:
        return Write(op)
    value = keep(op)
    searched = [] if op.index is False else parts_of(value, fields if op.index is None else op.index)
    return Write(op, value, searched, time_to_live(op))
