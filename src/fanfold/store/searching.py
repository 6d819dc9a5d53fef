"""Which items of a database a search finds, and in which order: what `fanfold.memory` says, by way of its indexes.

The database narrows down, and what decides is what also decides for the store in memory. Filters are evaluated on the
values themselves, page by page, so they mean the same everywhere. For a query of words the database says which items
have them and which have words that begin so; for one of vectors, which items have any. Where it can compare vectors
itself (pgvector), it leaves out those that cannot be among the first: it counts in single precision, so the ones within
its error of the last place stay in. Scores are then computed here, from the same numbers in the same order, and are
the same to the last bit.

Words of encrypted items are in no index, and are looked through one item after the other.
"""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias

from fanfold.errors import CorruptRecordError, StoreError
from fanfold.memory.matching import HALF, SHORTEST_BEGINNING, WHOLE, hits, passes, word_scores, words_asked
from fanfold.memory.ops import Item, Namespace, SearchItem, SearchOp
from fanfold.memory.vectors import Vector, nearest
from fanfold.store.serde import Codec

PAGE: Final = 500
"""Rows that are read at a time where all have to be looked at."""

Ask: TypeAlias = Callable[[str, Mapping[str, Any]], list[Any]]
Scores: TypeAlias = dict[int, tuple[float, int]]
"""By the number of an item: what a query says of it, and its place among equals."""


class Row(NamedTuple):
    """An item as it is kept."""

    no: int
    namespace: str
    key: str
    data: bytes
    version: int
    born: int
    created: float
    updated: float
    ttl: float | None


class Span(NamedTuple):
    """What lies under a prefix: namespaces from `low` up to but without `high`."""

    low: str
    high: str

    @classmethod
    def under(cls, prefix: Namespace) -> Span:
        """That of a prefix."""
        low = written(prefix)
        return cls(low, f"{low[:-1]}/")  # what comes after a dot


def written(namespace: Namespace) -> str:
    """A namespace as it is kept."""
    return f".{''.join(f'{label}.' for label in namespace)}"


def read(namespace: str) -> Namespace:
    """A namespace that was kept."""
    return tuple(namespace[1:-1].split("."))


class Reader:
    """Makes items of rows."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def value(self, row: Row) -> dict[str, Any]:
        """The value of an item. Raises `CorruptRecordError` and its kin, which name the item."""
        where = _where(row)
        value = self._codec.decode(row.data, where)
        if not isinstance(value, dict):
            raise CorruptRecordError(f"{where} is no dictionary")
        return value

    def item(self, row: Row) -> Item:
        """What a `get` answers."""
        return Item(read(row.namespace), row.key, self.value(row), *_times(row), version=row.version)

    def found(self, row: Row, value: dict[str, Any], score: float | None) -> SearchItem:
        """What a search answers."""
        return SearchItem(read(row.namespace), row.key, value, *_times(row), score, version=row.version)

    def words(self, row: Sequence[Any]) -> Collection[str]:
        """The words of an encrypted item."""
        _, namespace, key, sealed, _ = row
        words: str = self._codec.decode(sealed, f"the words of item {key!r} of namespace {read(namespace)}")
        return frozenset(words.split())

    def vector(self, row: Sequence[Any], length: int) -> Vector:
        """A vector of an item. Raises `StoreError` when it cannot be compared with one of that length."""
        _, namespace, key, _, data = row
        where = f"item {key!r} of namespace {read(namespace)}"
        vector = unpacked(self._codec.decode(data, f"a vector of {where}"))
        if len(vector) != length:
            raise StoreError(
                f"{where} was embedded with {len(vector)} numbers, and the query with {length}",
                hint="put what another model has embedded again, or search with that model",
            )
        return vector


def packed(vector: Vector) -> str:
    """A vector as what a codec is quick with: among bytes of any value it has to look for those that open a list."""
    return b2a_base64(_turned(array("f", vector)).tobytes(), newline=False).decode()


def unpacked(text: str) -> Vector:
    """A vector that was packed."""
    vector = array("f")
    vector.frombytes(a2b_base64(text))
    return _turned(vector)


def _turned(vector: array[float]) -> array[float]:
    """The same, in the order of bytes that is kept, or back."""
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


class Search:
    """One search. `ask` asks the database; `vector` is the query's, in a store that compares vectors."""

    def __init__(self, op: SearchOp, ask: Ask, reader: Reader, vector: Vector | None) -> None:
        self._op = op
        self._ask = ask
        self._reader = reader
        self._vector = vector
        self._span = Span.under(op.namespace_prefix)
        self._end = op.offset + op.limit

    def found(self) -> list[tuple[Row, SearchItem]]:
        """What it finds, in order."""
        if not self._op.limit:
            return []
        passing = self._passing() if self._op.filter else None
        scores = self._scores(passing) if self._op.query else {}
        window = self._window(passing, scores)
        rows = self._rows([no for no, _ in window])
        return list(self._items((rows[no], score) for no, score in window if no in rows))

    def _items(self, window: Iterable[tuple[Row, float | None]]) -> Iterator[tuple[Row, SearchItem]]:
        """The items of these rows; without those that have been changed meanwhile so that the filter keeps them out."""
        for row, score in window:
            value = self._reader.value(row)
            if passes(value, self._op.filter or {}):
                yield row, self._reader.found(row, value, score)

    def _window(self, passing: Mapping[int, int] | None, scores: Scores) -> list[tuple[int, float | None]]:
        """The items that are asked for: those with a score, best first, and then the others, oldest first."""
        ranked = sorted(scores, key=lambda no: (-scores[no][0], scores[no][1]))[self._op.offset : self._end]
        skip, most = max(0, self._op.offset - len(scores)), self._op.limit - len(ranked)
        others = self._others(passing, scores, skip, most) if most else []
        return [(no, scores[no][0]) for no in ranked] + [(no, None) for no in others]

    def _others(self, passing: Mapping[int, int] | None, scores: Scores, skip: int, most: int) -> list[int]:
        if passing is not None:
            return [no for no in passing if no not in scores][skip : skip + most]
        values = {**self._span._asdict(), "without": list(scores), "skip": skip, "most": most}
        return [no for (no,) in self._ask("items_beside", values)]

    def _rows(self, numbers: Sequence[int]) -> dict[int, Row]:
        found = (self._ask("items_numbered", {"items": part}) for part in _parts(numbers))
        return {row[0]: Row(*row) for rows in found for row in rows}

    def _passing(self) -> dict[int, int]:
        """The items that the filter lets pass, with their ages, the oldest first."""
        wanted = self._op.filter or {}
        rows = (Row(*row) for row in self._pages("items_page"))
        ages = {row.no: row.born for row in rows if passes(self._reader.value(row), wanted)}
        return dict(sorted(ages.items(), key=lambda pair: pair[1]))

    def _pages(self, name: str) -> Iterator[Any]:
        """All that a statement has to say which tells a page from an item on; the last of a page comes twice."""
        namespace, key = self._span.low, ""
        while True:
            values = {"namespace": namespace, "key": key, "high": self._span.high, "most": PAGE}
            rows = self._ask(name, values)
            yield from rows
            if len(rows) < PAGE:
                return
            namespace, key = rows[-1][1:3]

    # What a query says

    def _scores(self, passing: Mapping[int, int] | None) -> Scores:
        if self._vector is not None:
            return self._near(self._vector, passing)
        return self._worded(passing)

    def _worded(self, passing: Mapping[int, int] | None) -> Scores:
        asked = words_asked(self._op.query or "")
        found: dict[str, dict[int, float]] = {word: {} for word in asked}
        ages: dict[int, int] = {}
        for share, rows in ((HALF, self._beginning(asked)), (WHOLE, self._having(asked))):
            for word, no, born in rows:
                found[word][no] = share
                ages[no] = born
        self._look_through(found, ages)
        if passing is not None:
            found = {word: {no: places[no] for no in places if no in passing} for word, places in found.items()}
            return _aged(word_scores(list(found.values()), len(passing)), ages)
        ((number,),) = self._ask("count_items", self._span._asdict())
        return _aged(word_scores(list(found.values()), number), ages)

    def _having(self, words: list[str]) -> list[Any]:
        return self._ask("items_with_words", {**self._span._asdict(), "words": words}) if words else []

    def _beginning(self, words: list[str]) -> list[Any]:
        long = [word for word in words if len(word) >= SHORTEST_BEGINNING]
        return self._ask("items_with_beginnings", {**self._span._asdict(), "words": long}) if long else []

    def _look_through(self, found: Mapping[str, dict[int, float]], ages: dict[int, int]) -> None:
        """Add where words are found in encrypted items."""
        if not found:
            return
        for row in self._pages("sealed_page"):
            words = {row[0]: self._reader.words(row)}
            for word, places in found.items():
                places.update(hits(word, words))
            ages[row[0]] = row[4]

    def _near(self, vector: Vector, passing: Mapping[int, int] | None) -> Scores:
        numbers = list(passing) if passing is not None else self._candidates(vector)
        scores: Scores = {}
        for part in _parts(numbers):
            rows = self._ask("vectors_of_items", {"items": part})
            for (no, born), group in groupby(rows, key=lambda row: (row[0], row[3])):
                score = nearest(vector, [self._reader.vector(row, len(vector)) for row in group])
                if score is not None:
                    scores[no] = (score, born)
        return scores

    def _candidates(self, vector: Vector) -> list[int]:
        """Items with vectors: all, or where the database can compare them, at least those that this search shows."""
        values: dict[str, Any] = self._span._asdict()
        if not self._ask("has_likeness", {}):
            return [no for (no,) in self._ask("items_near", values)]
        # The error of a sum of n products that add up to at most 1, with every step rounded to 24 bits, for two sums.
        slack = (len(vector) + 4) * 2.0**-23
        values |= {"query": list(vector), "most": self._end, "slack": slack}
        return [no for (no,) in self._ask("items_nearest", values)]


def _aged(scores: Mapping[int, float], ages: Mapping[int, int]) -> Scores:
    return {no: (score, ages[no]) for no, score in scores.items()}


def _parts(numbers: Sequence[int]) -> Iterator[list[int]]:
    return (list(numbers[start : start + PAGE]) for start in range(0, len(numbers), PAGE))


def _where(row: Row) -> str:
    return f"item {row.key!r} of namespace {read(row.namespace)}"


def _times(row: Row) -> tuple[datetime, datetime]:
    return datetime.fromtimestamp(row.created, UTC), datetime.fromtimestamp(row.updated, UTC)
