"""The store that ends with the process. It also is what every other one is compared with: what they do, it does."""

from __future__ import annotations

import asyncio
import copy
import heapq
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import attrgetter
from typing import Any

from fanfold.memory.base import BaseStore
from fanfold.memory.matching import hits, listed, passes, vocabulary, word_scores, words_asked
from fanfold.memory.ops import (
    EVERYTHING,
    Clock,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Namespace,
    Op,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    Value,
    check_version,
    own_value,
)
from fanfold.memory.steps import Batch, Read, Write, batch_of
from fanfold.memory.vectors import Embedder, Vector, Vectors, nearest


@dataclass(slots=True)
class _Row:
    """One item as it is kept. `value` is the store's own and never changed, so it can be copied without the lock."""

    item: Item
    born: int  # its version when it was put first, which is what the order of items goes by
    searched: Sequence[Any]  # the parts of the value that a query is compared with
    vectors: Collection[Vector]
    ttl: timedelta | None
    expires: datetime | None
    due: datetime | None = None  # when the heap will look at it: at `expires`, or before it was prolonged
    words: frozenset[str] | None = None  # its vocabulary, made when first needed

    def refresh(self, now: datetime) -> None:
        self.expires = now + self.ttl if self.ttl is not None else None

    def vocabulary(self) -> frozenset[str]:
        if self.words is None:
            self.words = frozenset(vocabulary(self.searched))
        return self.words


def utc_now() -> datetime:
    return datetime.now(UTC)


class InMemoryStore(BaseStore):
    """A store that ends with the process.

    `index={"dims": 384, "embed": function, "fields": ["text"]}` makes searches compare meanings,
    `ttl={"default_ttl": 60, "refresh_on_read": True}` lets items expire, and `clock` says what time it is, with a zone.
    """

    __slots__ = ("_clock", "_due", "_embedder", "_fields", "_lock", "_rows", "_versions", "ttl_config")

    supports_ttl = True
    supports_versions = True

    def __init__(
        self, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None, clock: Clock = utc_now
    ) -> None:
        self.ttl_config = ttl
        self._embedder = Embedder(index) if index else None
        self._fields = self._embedder.fields if self._embedder else EVERYTHING
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[Namespace, dict[str, _Row]] = {}
        self._due: list[tuple[datetime, Namespace, str]] = []
        self._versions = count(1)

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        batch = batch_of(ops, self._fields, own_value)
        vectors = self._embedder.embed(*batch.texts()) if self._embedder else Vectors()
        return _copies(self._apply(batch, vectors))

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        batch = batch_of(ops, self._fields, own_value)
        vectors = await self._embedder.aembed(*batch.texts()) if self._embedder else Vectors()
        if any(isinstance(read, SearchOp) for read in batch.reads.values()):  # it looks at every item: that takes time
            return await asyncio.to_thread(lambda: _copies(self._apply(batch, vectors)))
        return _copies(self._apply(batch, vectors))

    # Everything below holds the lock.

    def _apply(self, batch: Batch, vectors: Vectors) -> list[Result]:
        now = self._clock()
        with self._lock:
            self._sweep(now)
            for write in batch.writes:
                row = self._row(*write.place)
                check_version(write.op, row.item.version if row else None)
            found = {place: self._read(read, vectors, now) for place, read in batch.reads.items()}
            for write in batch.writes:
                self._write(write, vectors, now)
        return batch.answers(found)

    def _row(self, namespace: Namespace, key: str) -> _Row | None:
        return self._rows.get(namespace, {}).get(key)

    def _read(self, read: Read, vectors: Vectors, now: datetime) -> Result:
        match read:
            case GetOp():
                row = self._row(read.namespace, read.key)
                if row is not None and read.refresh_ttl:
                    row.refresh(now)
                return row.item if row else None
            case SearchOp():
                return self._search(read, vectors, now)
            case ListNamespacesOp():
                return listed(self._rows, read)

    def _search(self, op: SearchOp, vectors: Vectors, now: datetime) -> list[SearchItem]:
        rows = [row for row in self._under(op.namespace_prefix) if passes(row.item.value, op.filter or {})]
        rows.sort(key=attrgetter("born"))
        ranked = _ranked(rows, self._scores(op.query, rows, vectors) if op.query else [None] * len(rows))
        window = ranked[op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            for row, _ in window:
                row.refresh(now)
        return [_scored(row.item, score) for row, score in window]

    def _under(self, prefix: Namespace) -> Iterator[_Row]:
        for namespace, rows in self._rows.items():
            if namespace[: len(prefix)] == prefix:
                yield from rows.values()

    def _scores(self, query: str, rows: Sequence[_Row], vectors: Vectors) -> list[float | None]:
        if self._embedder is not None:
            return [nearest(vectors.queries[query], row.vectors) for row in rows]
        words = {place: row.vocabulary() for place, row in enumerate(rows)}
        scores = word_scores([hits(word, words) for word in words_asked(query)], len(rows))
        return [scores.get(place) for place in words]

    def _write(self, write: Write, vectors: Vectors, now: datetime) -> None:
        if write.value is None:
            self._drop(*write.place)
        else:
            self._keep(write, write.value, [vectors.documents[text] for text in write.texts if self._embedder], now)

    def _keep(self, write: Write, value: Value, vectors: Collection[Vector], now: datetime) -> None:
        namespace, key = write.place
        before, version = self._row(namespace, key), next(self._versions)
        created, born = (before.item.created_at, before.born) if before else (now, version)
        item = Item(namespace, key, value, created, now, version=version)
        row = _Row(item, born, write.searched, vectors, write.ttl, None)
        row.refresh(now)
        self._rows.setdefault(namespace, {})[key] = row
        self._watch(row)

    def _drop(self, namespace: Namespace, key: str) -> None:
        rows = self._rows.get(namespace, {})
        rows.pop(key, None)
        if not rows:
            self._rows.pop(namespace, None)

    def _watch(self, row: _Row) -> None:
        row.due = row.expires
        if row.due is not None:
            heapq.heappush(self._due, (row.due, row.item.namespace, row.item.key))

    def _sweep(self, now: datetime) -> None:
        """Drop what has expired. A row that was read meanwhile has been prolonged, and is looked at again later."""
        while self._due and self._due[0][0] <= now:
            due, namespace, key = heapq.heappop(self._due)
            row = self._row(namespace, key)
            if row is None or row.due != due:  # deleted or put again since
                continue
            if row.expires is not None and row.expires <= now:
                self._drop(namespace, key)
            else:
                self._watch(row)


def _ranked(rows: Sequence[_Row], scores: Sequence[float | None]) -> list[tuple[_Row, float | None]]:
    """Best first; those without a score last. Equals keep their order."""
    return sorted(
        zip(rows, scores, strict=True), key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True
    )


def _scored(item: Item, score: float | None) -> SearchItem:
    return SearchItem(
        item.namespace, item.key, item.value, item.created_at, item.updated_at, score, version=item.version
    )


def _copies(answers: Iterable[Result]) -> list[Any]:
    return [_copied(answer) for answer in answers]


def _copied(answer: Result) -> Result:
    if isinstance(answer, Item):
        return replace(answer, value=copy.deepcopy(answer.value))
    if isinstance(answer, list):
        return [_copied(entry) if isinstance(entry, Item) else entry for entry in answer]  # type: ignore[return-value]
    return answer
