"""Operations that have been checked: what can be wrong with one is found before any of its batch is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from fanfold.errors import UsageError
from fanfold.memory.matching import check_filter, parts_of, text_of
from fanfold.memory.ops import (
    Fields,
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    SearchOp,
    Value,
    check_window,
    checked_condition,
    labels_of,
    own_value,
    time_to_live,
)


@dataclass(frozen=True, slots=True)
class Put:
    """A write that has been checked: the store's own copy of the value, and what a search will look at."""

    op: PutOp
    value: Value
    searched: Sequence[Any]
    ttl: timedelta | None

    @property
    def texts(self) -> list[str]:
        return [text_of(part) for part in self.searched]


Step: TypeAlias = GetOp | SearchOp | ListNamespacesOp | PutOp | Put


def prepared(op: Op, fields: Fields) -> Step:
    """The operation, checked. `fields` are searched where it does not say otherwise."""
    match op:
        case GetOp():
            return op._replace(namespace=labels_of(op.namespace))
        case PutOp():
            op = op._replace(namespace=labels_of(op.namespace))
            return op if op.value is None else _prepared_put(op, fields)
        case SearchOp():
            check_window(op)
            check_filter(op.filter)
            return op._replace(namespace_prefix=labels_of(op.namespace_prefix))
        case ListNamespacesOp():
            check_window(op)
            return op._replace(match_conditions=tuple(map(checked_condition, op.match_conditions or ())))
    raise UsageError(f"{op!r:.100} is no operation of a store")


def _prepared_put(op: PutOp, fields: Fields) -> Put:
    value = own_value(op)
    searched = [] if op.index is False else parts_of(value, fields if op.index is None else op.index)
    return Put(op, value, searched, time_to_live(op))


def needed(steps: Iterable[Step]) -> tuple[list[str], list[str]]:
    """The texts to embed, each once: those of what is put, and the queries."""
    documents = {text: None for step in steps if isinstance(step, Put) for text in step.texts}
    queries = {step.query: None for step in steps if isinstance(step, SearchOp) and step.query}
    return list(documents), list(queries)
