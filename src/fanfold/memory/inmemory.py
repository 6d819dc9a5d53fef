"""The store that ends with the process."""

from __future__ import annotations

import asyncio
import copy
import heapq
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fanfold.memory.base import BaseStore
from fanfold.memory.matching import listed, passes, word_scores, words_of
from fanfold.memory.ops import (
    EVERYTHING,
    Clock,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Namespace,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from fanfold.memory.steps import Put, Step, needed, prepared
from fanfold.memory.vectors import Embedder, Vector, Vectors, nearest


@dataclass(slots=True)
class _Row:
    """One item as it is kept. `value` is the store's own and never changed, so it can be copied without the lock."""

    item: Item
    searched: Sequence[Any]  # the parts of the value that a query is compared with
    vectors: Collection[Vector]
    ttl: timedelta | None
    expires: datetime | None
    due: datetime | None = None  # when the heap will look at it: at `expires`, or before it was prolonged
    words: frozenset[str] | None = None  # made when first needed

    def refresh(self, now: datetime) -> None:
        self.expires = now + self.ttl if self.ttl is not None else None

    def vocabulary(self) -> frozenset[str]:
        if self.words is None:
            self.words = frozenset(words_of(list(self.searched)))
        return self.words


def utc_now() -> datetime:
    return datetime.now(UTC)


class InMemoryStore(BaseStore):
    """A store that ends with the process.

    `index={"dims": 384, "embed": function, "fields": ["text"]}` makes searches compare meanings,
    `ttl={"default_ttl": 60, "refresh_on_read": True}` lets items expire, and `clock` says what time it is, with a zone.
    """

    __slots__ = ("_clock", "_due", "_embedder", "_fields", "_lock", "_rows", "ttl_config")

    supports_ttl = True

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

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        steps = [prepared(op, self._fields) for op in ops]
        vectors = self._embedder.embed(*needed(steps)) if self._embedder else Vectors()
        return _copies(self._apply(steps, vectors))

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        steps = [prepared(op, self._fields) for op in ops]
        vectors = await self._embedder.aembed(*needed(steps)) if self._embedder else Vectors()
        if any(isinstance(step, SearchOp) for step in steps):  # it looks at every item, which may take a while
            return await asyncio.to_thread(lambda: _copies(self._apply(steps, vectors)))
        return _copies(self._apply(steps, vectors))

    # Everything below holds the lock.

    def _apply(self, steps: Sequence[Step], vectors: Vectors) -> list[Result]:
        now = self._clock()
        with self._lock:
            self._sweep(now)
            answers = [self._read(step, vectors, now) for step in steps]
            for step in steps:
                self._write(step, vectors, now)
        return answers

    def _read(self, step: Step, vectors: Vectors, now: datetime) -> Result:
        match step:
            case GetOp():
                row = self._rows.get(step.namespace, {}).get(step.key)
                if row is not None and step.refresh_ttl:
                    row.refresh(now)
                return row.item if row else None
            case SearchOp():
                return self._search(step, vectors, now)
            case ListNamespacesOp():
                return listed(self._rows, step)
        return None

    def _search(self, op: SearchOp, vectors: Vectors, now: datetime) -> list[SearchItem]:
        rows = [row for row in self._under(op.namespace_prefix) if passes(row.item.value, op.filter or {})]
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
        if self._embedder is None:
            return word_scores(query, [row.vocabulary() for row in rows])
        return [nearest(vectors.queries[query], row.vectors) for row in rows]

    def _write(self, step: Step, vectors: Vectors, now: datetime) -> None:
        if isinstance(step, Put):
            self._keep(step, [vectors.documents[text] for text in step.texts] if self._embedder else [], now)
        elif isinstance(step, PutOp):
            self._drop(step.namespace, step.key)

    def _keep(self, put: Put, vectors: Collection[Vector], now: datetime) -> None:
        namespace, key = put.op.namespace, put.op.key
        rows = self._rows.setdefault(namespace, {})
        created = rows[key].item.created_at if key in rows else now
        row = _Row(Item(namespace, key, put.value, created, now), put.searched, vectors, put.ttl, None)
        row.refresh(now)
        rows[key] = row
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
            row = self._rows.get(namespace, {}).get(key)
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
    return SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)


def _copies(answers: Iterable[Result]) -> list[Any]:
    return [_copied(answer) for answer in answers]


def _copied(answer: Result) -> Result:
    if isinstance(answer, Item):
        return replace(answer, value=copy.deepcopy(answer.value))
    if isinstance(answer, list):
        return [_copied(entry) if isinstance(entry, Item) else entry for entry in answer]  # type: ignore[return-value]
    return answer
