"""Long-term items in a store's database: what `fanfold.memory` says, for good, and for many processes at once.

::

    store = SqliteStore("runs.db")
    store.items.put(("users", "ada"), "likes", {"food": "cherries"})
    Items(store, index={"dims": 384, "embed": embed}, ttl={"default_ttl": 60})

Everything that a batch changes is one piece of work for the store's writer, within one transaction, so it is on disk
when the call returns, and together with whatever else ends at the same time. A batch that only reads asks over a
reading connection. It waits for the writer only when it prolongs the life of what it has read.

**Versions.** A conditional put is one statement that says the condition again; the database decides between those who
come at once, and never a look that was taken before. A batch with such a put goes back to a savepoint when one of them
is refused. It is done once, also when the connection breaks while it is committed (see `once`).

**Time** is the database's. What has expired is gone for every statement, from that moment on; its room is given back
now and then by whoever writes, or by `sweep_ttl`. As long as nothing expires that is one look at an empty index.

**Encryption.** The values of an encrypted store are encrypted here, too, and so are the words and vectors that searches
look at: an index of words is a copy of the text, and vectors give away much of it. So there is no index of words, and
pgvector has nothing to compare; searches find the same, and take the time that it takes to look through all that lies
under the prefix. Namespaces, keys and times are not encrypted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from fanfold.errors import ItemConflictError, StoreError
from fanfold.memory.base import BaseStore
from fanfold.memory.matching import listed, vocabulary
from fanfold.memory.ops import (
    EVERYTHING,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Namespace,
    NotGiven,
    Op,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    given_value,
)
from fanfold.memory.steps import Batch, Read, Write, batch_of
from fanfold.memory.vectors import Embedder, Vectors
from fanfold.store.searching import Ask, Reader, Row, Search, Span, packed, read, written
from fanfold.store.serde import Codec, Encryption
from fanfold.store.ticket import Ticket
from fanfold.store.writer import Session

SWEEP: Final = 60.0
"""Seconds between two looks for what has expired."""
MOST_SWEPT: Final = 1000
"""Items that are deleted at a time, so that nobody waits long for the writer."""

T = TypeVar("T")


class Keeper(Protocol):
    """What items need of the store that they are in."""

    learned: Codec | None
    encryption: Encryption | None
    compress: bool

    def write(self, work: Callable[[Session], T]) -> Ticket[T]:
        """Queue work to be done in a transaction."""

    def write_once(self, work: Callable[[Session], T], touches: Sequence[tuple[str, str]] = ()) -> Ticket[T]:
        """The same for work that may not be done twice; `touches` are the namespaces and keys that it writes."""

    def ask(self, name: str, values: Mapping[str, Any]) -> list[Any]:
        """What a statement returns that changes nothing."""


class Items(BaseStore):
    """The long-term items of a store, in the same database.

    `index={"dims": 384, "embed": function, "fields": ["text"]}` makes searches compare meanings, and
    `ttl={"default_ttl": 60, "refresh_on_read": True}` lets items expire. Values are what the store's codec can write:
    plain data, and classes that `register_type` was told. Whoever closes the store closes its items.
    """

    __slots__ = ("_codec", "_embedder", "_fields", "_hides", "_next_sweep", "_reader", "_store", "ttl_config")

    supports_ttl = True
    supports_versions = True

    def __init__(self, store: Keeper, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None) -> None:
        self.ttl_config = ttl
        self._store = store
        self._embedder = Embedder(index) if index else None
        self._fields = self._embedder.fields if self._embedder else EVERYTHING
        self._codec = Codec().bound(store)
        self._hides = store.encryption is not None
        self._reader = Reader(self._codec)
        self._next_sweep = 0.0

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        batch = batch_of(ops, self._fields, given_value)
        vectors = self._embedder.embed(*batch.texts()) if self._embedder else Vectors()
        if batch.writes:
            return self._written(batch, vectors).result()
        return self._looked_up(batch, vectors)

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        batch = batch_of(ops, self._fields, given_value)
        vectors = await self._embedder.aembed(*batch.texts()) if self._embedder else Vectors()
        if batch.writes:
            return await self._written(batch, vectors)
        return await asyncio.to_thread(self._looked_up, batch, vectors)

    def sweep_ttl(self) -> int:
        """Delete all items whose time is over; how many there were. They are gone for every operation anyway."""
        total = 0
        while swept := self._store.write(_sweep).result():
            total += swept
        return total

    # Reading

    def _looked_up(self, batch: Batch, vectors: Vectors) -> list[Result]:
        """The answers of a batch that only reads."""
        looking = _Looking(self._store.ask, self._reader, vectors)
        answers = batch.answers({place: looking.answer(read) for place, read in batch.reads.items()})
        if looking.prolonged:
            self._store.write(lambda session: _refresh(session, looking.prolonged)).result()
        return answers

    # Writing

    def _written(self, batch: Batch, vectors: Vectors) -> Ticket[list[Result]]:
        """The answers of a batch that also writes. What cannot be stored is refused here, and nothing is done."""
        changes = [self._change(write, vectors) for write in batch.writes]

        def work(session: Session) -> list[Result]:
            self._sweep_now_and_then(session)
            return _undone_if_refused(session, batch, lambda: self._done(session, batch, changes, vectors))

        return self._store.write_once(work, [(change.row["namespace"], change.row["key"]) for change in changes])

    def _change(self, write: Write, vectors: Vectors) -> _Change:
        place = {"namespace": written(write.op.namespace), "key": write.op.key}
        if write.value is None:
            return _Change(write, place, [])
        words = " ".join(vocabulary(write.searched))
        hidden = self._hides and words
        row = {
            **place,
            "data": self._codec.encode(write.value, write.op.where),
            "words": "" if hidden else words,
            "sealed": self._codec.encode(words) if hidden else None,
            "ttl": write.ttl.total_seconds() if write.ttl else None,
        }
        return _Change(write, row, self._vector_rows(write, place, vectors))

    def _vector_rows(self, write: Write, place: Mapping[str, Any], vectors: Vectors) -> list[dict[str, Any]]:
        if self._embedder is None:
            return []
        return [
            {
                **place,
                "place": number,
                "data": self._codec.encode(packed(vectors.documents[text])),
                "embedding": None if self._hides else _braced(vectors.documents[text]),
            }
            for number, text in enumerate(write.texts)
        ]

    def _done(self, session: Session, batch: Batch, changes: Sequence[_Change], vectors: Vectors) -> list[Result]:
        looking = _Looking(session.rows, self._reader, vectors)
        answers = batch.answers({place: looking.answer(read) for place, read in batch.reads.items()})
        if looking.prolonged:
            _refresh(session, looking.prolonged)
        _write(session, changes)
        if self._embedder is not None:
            _write_vectors(session, changes)
        return answers

    def _sweep_now_and_then(self, session: Session) -> None:
        if time.monotonic() >= self._next_sweep and _sweep(session) < MOST_SWEPT:
            self._next_sweep = time.monotonic() + SWEEP


class _Looking:
    """Answers reads, and notes what was read whose life that prolongs."""

    def __init__(self, ask: Ask, reader: Reader, vectors: Vectors) -> None:
        self._ask = ask
        self._reader = reader
        self._vectors = vectors
        self.prolonged: list[int] = []

    def answer(self, op: Read) -> Result:
        match op:
            case GetOp():
                return self._get(op)
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                return self._list(op)

    def _get(self, op: GetOp) -> Item | None:
        rows = self._ask("item", {"namespace": written(op.namespace), "key": op.key})
        if not rows:
            return None
        row = Row(*rows[0])
        self._prolong([row], op.refresh_ttl)
        return self._reader.item(row)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        found = Search(op, self._ask, self._reader, self._vectors.queries.get(op.query or "")).found()
        self._prolong([row for row, _ in found], op.refresh_ttl)
        return [item for _, item in found]

    def _list(self, op: ListNamespacesOp) -> list[Namespace]:
        prefixes = [condition.path for condition in op.match_conditions or () if condition.match_type == "prefix"]
        fixed = max((_fixed(path) for path in prefixes), key=len, default=())
        rows = self._ask("namespaces", Span.under(fixed)._asdict())
        return listed((read(name) for (name,) in rows), op)

    def _prolong(self, rows: Iterable[Row], wanted: bool) -> None:
        self.prolonged += [row.no for row in rows if wanted and row.ttl is not None]


class _Change:
    """A write as the database takes it: a row, and rows for its vectors."""

    __slots__ = ("row", "vectors", "write")

    def __init__(self, write: Write, row: dict[str, Any], vectors: list[dict[str, Any]]) -> None:
        self.write = write
        self.row = row
        self.vectors = vectors

    @property
    def place(self) -> dict[str, Any]:
        """Which item it is about."""
        return {"namespace": self.row["namespace"], "key": self.row["key"]}


def _undone_if_refused(session: Session, batch: Batch, work: Callable[[], T]) -> T:
    """Do it, and leave nothing of it when it is refused. The transaction goes on: it is also that of others."""
    conditional = any(write.op.conditional for write in batch.writes)
    if not conditional or batch.size == 1:
        return work()
    session.rows("set_savepoint")
    try:
        outcome = work()
    except StoreError:
        session.rows("return_to_savepoint")
        session.rows("release_savepoint")
        raise
    session.rows("release_savepoint")
    return outcome


def _write(session: Session, changes: Sequence[_Change]) -> None:
    if any(change.write.op.conditional for change in changes):
        for change in changes:
            _write_one(session, change)
        return
    kept = [change.row for change in changes if change.write.value is not None]
    gone = [change.row for change in changes if change.write.value is None]
    if kept:
        session.many("keep_item", kept)
    if gone:
        session.many("forget_item", gone)


def _write_one(session: Session, change: _Change) -> None:
    """Do one write if its condition holds. The statement is what decides; what is asked afterwards is for the error."""
    expected, gone = change.write.op.if_version, change.write.value is None
    if isinstance(expected, NotGiven):
        session.many("forget_item" if gone else "keep_item", [change.row])
        return
    statement = "add_item" if expected is None else "drop_item" if gone else "change_item"
    if not session.rows(statement, {**change.row, "expected": expected}):
        rows = session.rows("version_of_item", change.place)
        raise ItemConflictError(*change.write.place, expected, rows[0][0] if rows else None)


def _write_vectors(session: Session, changes: Sequence[_Change]) -> None:
    session.many("forget_vectors", [change.place for change in changes])
    rows = [row for change in changes for row in change.vectors]
    if rows:
        session.many("keep_vector", rows)


def _refresh(session: Session, items: list[int]) -> None:
    session.rows("refresh_items", {"items": items})


def _sweep(session: Session) -> int:
    return len(session.rows("sweep_items", {"most": MOST_SWEPT}))


def _fixed(path: Sequence[str]) -> tuple[str, ...]:
    """The labels before the first that stands for any."""
    return tuple(path[: path.index("*")] if "*" in path else path)


def _braced(vector: Sequence[float]) -> str:
    """A vector as PostgreSQL writes an array. Nine digits say which number of single precision it is."""
    return f"{{{','.join(f'{number:.9g}' for number in vector)}}}"
