"""What a filter lets pass, what the fields of an item are, how words rank it, and which namespaces match."""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from fanfold.errors import UsageError, did_you_mean
from fanfold.memory.ops import Fields, ListNamespacesOp, MatchCondition, Namespace

# Filters

_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS: Final = ("$eq", "$ne", *_ORDER)


def passes(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(_fits(value.get(key), want) for key, want in wanted.items())


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a part of a value is what the filter wants there."""
    if isinstance(wanted, Mapping):
        if any(str(key).startswith("$") for key in wanted):
            return all(_holds(value, name, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and passes(value, wanted)
    if isinstance(wanted, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    return bool(value == wanted)


def _holds(value: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return bool(value == operand)
    if name == "$ne":
        return bool(value != operand)
    left, right = _comparable(value, operand)
    try:
        return bool(_ORDER[name](left, right))
    except TypeError:  # a text and a number, or nothing at all: neither comes before the other
        return False


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Both as numbers where both are, also when they are written as text; else as they are."""
    try:
        return float(left), float(right)
    except (TypeError, ValueError, OverflowError):
        return left, right


def check_filter(wanted: Any) -> None:
    """Raise `UsageError` for an operator that there is none of, before anything is compared."""
    if not isinstance(wanted, Mapping):
        return
    operators = any(str(key).startswith("$") for key in wanted)
    for key, want in wanted.items():
        if operators and key not in _OPERATORS:
            raise UsageError(
                f"a filter has no operator {key!r}{did_you_mean(str(key), _OPERATORS)}",
                hint=f"the operators are {', '.join(_OPERATORS)}, and they do not mix with names of keys",
            )
        check_filter(want)


# Fields and their texts

_STEP: Final = re.compile(r"\[[^\]]*\]|\{[^}]*\}|[^.\[\]{}]+")
_WORD: Final = re.compile(r"\w+")


@functools.lru_cache(maxsize=512)
def _steps(path: str) -> tuple[str, ...]:
    """The steps of a path: a key, `[0]`, `[-1]`, `[*]`, `*` or `{key,other.key}`. `$` is the whole value."""
    return tuple(step for step in _STEP.findall(path) if step != "$")


def _at(value: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    """What stands at a path, each thing on its own; nothing where the path leads nowhere."""
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step.startswith("{"):
        for path in step[1:-1].split(","):
            yield from _at(value, _steps(path.strip()) + rest)
    else:
        for part in _parts(value, step):
            yield from _at(part, rest)


def _parts(value: Any, step: str) -> Iterable[Any]:
    if isinstance(value, Mapping):
        if step == "*":
            return value.values()
        return (value[step],) if step in value else ()
    if not isinstance(value, list | tuple):
        return ()
    if step in ("*", "[*]"):
        return value
    place = int(step[1:-1]) if re.fullmatch(r"\[-?\d+\]", step) else len(value)
    return (value[place],) if -len(value) <= place < len(value) else ()


def parts_of(value: Any, fields: Fields) -> list[Any]:
    return [part for path in fields for part in _at(value, _steps(path)) if part is not None]


def text_of(part: Any) -> str:
    """What is embedded: a text or a number as it is, anything else as JSON."""
    if isinstance(part, str | int | float):
        return str(part)
    return json.dumps(part, sort_keys=True, ensure_ascii=False, default=str)


def words_of(part: Any) -> Iterator[str]:
    """The words in a value, without the names of its keys."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from words_of(inner)
    elif part is not None:
        yield from _WORD.findall(str(part).casefold())


# Ranking


def word_scores(query: str, texts: Sequence[Collection[str]]) -> list[float | None]:
    """For each text, the share of the query's weight that its words have; None for none of it."""
    asked = sorted(set(_WORD.findall(query.casefold())))
    hits = [[_hit(word, text) for text in texts] for word in asked]
    weights = [math.log1p(len(texts) / max(1, sum(map(bool, row)))) for row in hits]
    total = sum(weights)
    sums = [sum(map(operator.mul, weights, column)) for column in zip(*hits, strict=True)] or [0.0] * len(texts)
    return [found / total if found else None for found in sums]


def _hit(word: str, text: Collection[str]) -> float:
    if word in text:
        return 1.0
    return 0.5 if len(word) >= 3 and any(other.startswith(word) for other in text) else 0.0


# Namespaces


def listed(namespaces: Iterable[Namespace], op: ListNamespacesOp) -> list[Namespace]:
    matching = {
        namespace[: op.max_depth]
        for namespace in namespaces
        if all(_matches(namespace, condition) for condition in op.match_conditions or ())
    }
    return sorted(matching)[op.offset : op.offset + op.limit]


def _matches(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[start : start + len(path)]
    return len(part) == len(path) and all(want in ("*", label) for want, label in zip(path, part, strict=True))
