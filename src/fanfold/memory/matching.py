"""What a filter lets pass, what the fields of an item are, how words rank it, and which namespaces match."""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

from fanfold.errors import UsageError, did_you_mean
from fanfold.memory.ops import Fields, ListNamespacesOp, MatchCondition, Namespace

K = TypeVar("K")

LONGEST_WORD: Final = 100
"""Characters by which a word counts."""
MOST_WORDS: Final = 200_000
"""Characters of all words by which an item is found."""
SHORTEST_BEGINNING: Final = 3
"""Characters that a word of a query needs to be the beginning of another."""
WHOLE, HALF = 1.0, 0.5
"""What it counts when a word is found, and when the beginning of one is."""

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


def vocabulary(parts: Iterable[Any]) -> tuple[str, ...]:
    """The words in these parts of a value, without the names of its keys, each once.

    A word counts by its first LONGEST_WORD characters, and an item by its first words, up to MOST_WORDS characters
    together. More is not safe in every database: PostgreSQL cuts a word of more than 2046 bytes to its length modulo
    2048, and loses its place behind a megabyte, without a word of complaint.
    """
    found = dict.fromkeys(word[:LONGEST_WORD] for word in _words(list(parts)))
    lengths = accumulate(map(len, found))
    return tuple(word for word, length in zip(found, lengths, strict=True) if length <= MOST_WORDS)


def words_asked(query: str) -> list[str]:
    """The words of a query, each once, in an order that depends on them alone."""
    return sorted({word[:LONGEST_WORD] for word in _WORD.findall(query.casefold())})


def _words(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _words(inner)
    elif part is not None:
        yield from _WORD.findall(str(part).casefold())


# Ranking


def hits(word: str, vocabularies: Mapping[K, Collection[str]]) -> dict[K, float]:
    """Where the word is found: it counts fully where it is, half where a word begins with it."""
    shares = {place: _hit(word, words) for place, words in vocabularies.items()}
    return {place: share for place, share in shares.items() if share}


def _hit(word: str, words: Collection[str]) -> float:
    if word in words:
        return WHOLE
    return HALF if len(word) >= SHORTEST_BEGINNING and any(other.startswith(word) for other in words) else 0.0


def word_scores(found: Sequence[Mapping[K, float]], looked_at: int) -> dict[K, float]:
    """For each place where words of a query were found, the share of the query's weight that is there.

    `found` has what `hits` says of each word, in the order of `words_asked`: the sums are then the same everywhere.
    """
    weights = [math.log1p(looked_at / max(1, len(places))) for places in found]
    scores: dict[K, float] = {}
    for weight, places in zip(weights, found, strict=True):
        for place, share in places.items():
            scores[place] = scores.get(place, 0.0) + weight * share
    total = sum(weights)
    return {place: score / total for place, score in scores.items()}


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
