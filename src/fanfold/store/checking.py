"""What is wrong with a store, and how much is in it; asked of the database alone, without a graph and without a key.

Every record has a checksum, every checkpoint a number and a parent, every event a number and the hash of the one
before. So a bit that has flipped and a row that is missing are found by what is around them, and each finding names
the table, the thread, and where in it.

A look takes no lock, and a run that writes meanwhile can make a whole thread look broken. So where something is found,
it is looked for again within a transaction of the writer, and only what is found there counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from fanfold.errors import CorruptRecordError, StoreError
from fanfold.store import owner as owners
from fanfold.store.base import CANCELLED, DONE, FAILED, PAUSED, RUNNING
from fanfold.store.batches import chained_on, unpacked
from fanfold.store.serde import verify
from fanfold.store.upkeep import WHOLE, OpenStore, threads
from fanfold.store.writer import Session

INTERRUPTED: Final = "interrupted"
"""Said to be running, by a process that is gone."""

_ENDED: Final = (DONE, FAILED, CANCELLED, PAUSED)
_PAGE: Final = 500
_SOME: Final = 3
"""Of several numbers that are missing in a row, as many are findings of their own."""

_OLDEST_AT_RISK, _NEWEST_AT_RISK = (3, 7, 0), (3, 51, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `sequence` is the number of the row in its thread, or in its run for an event."""

    table: str
    thread_id: str
    sequence: int | None
    message: str

    def __str__(self) -> str:
        place = [f"thread {self.thread_id!r}"] if self.thread_id else []
        place += [f"number {self.sequence}"] if self.sequence is not None else []
        return f"{', '.join([self.table, *place])}: {self.message}"


@dataclass(frozen=True, slots=True)
class Amount:
    """Rows, and the bytes of their payloads."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease as the database has it; `lapsed` when its process has not been heard of for too long."""

    thread_id: str
    owner: str
    claimed: float
    lapsed: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """How much is in a store, and what it is made of. `bytes` are those of the disk, or of memory."""

    store: str
    version: str
    schema: int
    bytes: int
    tables: Mapping[str, Amount]
    threads: Mapping[str, int]
    largest: Mapping[str, Amount]
    oldest_lease: HeldLease | None

    @property
    def may_damage_its_log(self) -> bool:
        """Whether this SQLite can damage its log when connections commit and copy it at once, which ours never do."""
        name, _, number = self.version.partition(" ")
        version = tuple(int(part) for part in re.findall(r"\d+", number)[:3])
        return name == "SQLite" and _OLDEST_AT_RISK <= version <= _NEWEST_AT_RISK


# Checking


def check(store: OpenStore, thread_id: str | None = None) -> list[Finding]:
    """Everything that is wrong, in a thread or in the whole database."""
    if thread_id is not None:
        return _looked_at(store, thread_id)
    found = [*_of_database(store), *_of_items(store)]
    try:
        names = store.look(threads)
    except StoreError as error:
        return [*found, Finding("thread", "", None, str(error))]
    return [*found, *chain.from_iterable(_looked_at(store, name) for name in names)]


def _of_database(store: OpenStore) -> Iterator[Finding]:
    try:
        for (said,) in store.look(lambda session: session.rows("integrity")):
            if said != "ok":
                yield Finding("database", "", None, said)
        for run, first in store.look(lambda session: session.rows("lost_events")):
            yield Finding("event", "", first, f"run {run!r}, whose events are here, is missing")
    except StoreError as error:
        yield Finding("database", "", None, str(error))


def _of_items(store: OpenStore) -> Iterator[Finding]:
    """What is wrong with long-term items, a page at a time."""
    after = -1
    try:
        while page := store.look(lambda session, after=after: _items_after(session, after)):  # type: ignore[misc]
            after = page[-1][0]
            for no, data, what in page:
                try:
                    verify(data, what)
                except CorruptRecordError as error:
                    yield Finding("item", "", no, str(error))
    except StoreError as error:
        yield Finding("item", "", None, str(error))


def _items_after(session: Session, after: int) -> list[tuple[int, bytes, str]]:
    """The records of a page of items, of each its value first."""
    rows = session.rows("whole_items", {"after": after, "most": _PAGE})
    names = {no: f"item {key!r} of {namespace!r}" for no, namespace, key, _, _ in rows}
    records = [(no, data, names[no]) for no, _, _, data, _ in rows]
    records += [(no, sealed, f"the words of {names[no]}") for no, *_, sealed in rows if sealed is not None]
    if rows:
        vectors = session.rows("whole_vectors", {"items": list(names)})
        records += [(no, data, f"a vector of {names[no]}") for no, data in vectors]
    return sorted(records, key=lambda record: record[0])


def _looked_at(store: OpenStore, thread_id: str) -> list[Finding]:
    try:
        if not store.look(lambda session: findings(session, thread_id)):
            return []
        return store.write(lambda session: _held(session, thread_id)).result()
    except StoreError as error:
        return [Finding("thread", thread_id, None, str(error))]


def _held(session: Session, thread_id: str) -> list[Finding]:
    session.rows("hold_thread", {"thread": thread_id})
    return findings(session, thread_id)


def findings(session: Session, thread_id: str) -> list[Finding]:
    """What is wrong with a thread, as this session sees it."""
    return [*_Thread(session, thread_id).findings()]


class _Thread:
    """One thread that is looked at."""

    def __init__(self, session: Session, thread_id: str) -> None:
        self._session = session
        self._thread_id = thread_id
        self._checkpoints = self._rows("whole_checkpoints")
        self._ids = {row[2] for row in self._checkpoints}
        self._pruned: dict[str, int] = dict(self._rows("pruned"))

    def findings(self) -> Iterator[Finding]:
        yield from self._payloads()
        yield from self._numbers()
        yield from self._parents()
        yield from self._results()
        for row in self._rows("whole_runs"):
            yield from self._run(row)
        yield from self._saved()
        for (checkpoint,) in self._rows("pins"):
            if checkpoint != WHOLE and checkpoint not in self._ids:
                yield self._found("pin", None, f"checkpoint {checkpoint}, which is pinned, is missing")

    def _rows(self, name: str) -> list[Any]:
        return self._session.rows(name, {"thread": self._thread_id})

    def _found(self, table: str, sequence: int | None, message: str) -> Finding:
        return Finding(table, self._thread_id, sequence, message)

    def _payloads(self) -> Iterator[Finding]:
        for namespace, seq, checkpoint, _, step, _, data in self._checkpoints:
            yield from self._payload("checkpoint", seq, data, f"checkpoint {checkpoint} (step {step}){_in(namespace)}")

    def _payload(self, table: str, sequence: int | None, data: bytes, what: str) -> Iterator[Finding]:
        try:
            verify(data, what)
        except CorruptRecordError as error:
            yield self._found(table, sequence, str(error))

    def _numbers(self) -> Iterator[Finding]:
        """Numbers that are missing, where nothing was pruned."""
        lines: dict[str, list[int]] = {}
        for namespace, seq, *_ in self._checkpoints:
            lines.setdefault(namespace, []).append(seq)
        for namespace, line in lines.items():
            for seq in _missing(line, self._pruned.get(namespace, -1) + 1):
                yield self._found("checkpoint", seq, f"checkpoint number {seq}{_in(namespace)} is missing")

    def _parents(self) -> Iterator[Finding]:
        """Parents that are missing. One that was pruned is no loss to a checkpoint that holds all values."""
        for namespace, seq, checkpoint, parent, _, full, _ in self._checkpoints:
            if parent is None or parent in self._ids or (full and self._pruned):
                continue
            message = f"checkpoint {parent}{_in(namespace)}, the parent of {checkpoint}, is missing"
            yield self._found("checkpoint", seq, message)

    def _results(self) -> Iterator[Finding]:
        places = {(row[0], row[2]) for row in self._checkpoints}
        epochs = self._rows("epoch")
        newest = epochs[0][0] if epochs else 0
        for namespace, no, checkpoint, kind, name, step, epoch, branch, data in self._rows("whole_results"):
            what = f"the {kind} of {name!r}, step {step}{_in(namespace)}"
            yield from self._payload("task_result", no, data, what)
            beside = (branch or kind == "update") and namespace in self._pruned  # written while that was pruned
            if (namespace, checkpoint) not in places and not beside:
                yield self._found("task_result", no, f"{what} hangs on checkpoint {checkpoint}, which is missing")
            if epoch > newest:
                yield self._found("task_result", no, f"{what} is of epoch {epoch}, and the thread has had {newest}")

    def _run(self, row: Sequence[Any]) -> Iterator[Finding]:
        run, status, settings = row[0], row[4], row[8]
        try:
            json.loads(settings)
        except ValueError as error:
            yield self._found("run", None, f"the settings of run {run!r} are not readable: {error}")
        yield from self._events(run, status)

    def _events(self, run: str, status: str) -> Iterator[Finding]:
        before, expected, kind = b"", 0, None
        for no, number, data, packed, hashed in self._session.rows("whole_events", {"run": run}):
            if no != expected:
                yield self._found("event", expected, f"event {expected} of run {run!r} is missing")
            texts, kind = _read(data, packed)
            if len(texts) != number or (no == expected and chained_on(before, texts) != hashed):
                which = f"event {no}" if number == 1 else f"one of {number} events from {no} on"
                yield self._found("event", no, f"{which} of run {run!r}, or its hash, was changed")
            before, expected = hashed, no + number
        if status in _ENDED and kind != "run_finished":
            yield self._found("event", expected, f"event {expected} of run {run!r}, its end, is missing")

    def _saved(self) -> Iterator[Finding]:
        """What is wrong with what LangGraph's own graphs have kept; it has no numbers."""
        for table, namespace, name, data in self._rows("whole_saved"):
            yield from self._payload(table, None, data, f"{name}{_in(namespace)}")
        for namespace, name, parent in self._rows("saved_without_parent"):
            message = f"checkpoint {parent}{_in(namespace)}, from which {name} follows, is missing"
            yield self._found("saver_checkpoint", None, message)


def _in(namespace: str) -> str:
    return f" in {namespace!r}" if namespace else ""


def _missing(line: Sequence[int], first: int) -> Iterator[int]:
    """Numbers from `first` up to the last that are not there; of a long gap, its beginning."""
    there = [seq for seq in line if seq >= first]
    for seq in [*there]:
        yield from range(first, min(seq, first + _SOME))
        first = seq + 1


def _read(data: bytes, packed: bytes | None) -> tuple[list[str], Any]:
    """What the events of a row say and of which kind the last one is; nothing of what cannot be read."""
    try:
        texts = unpacked(bytes(data).decode(), None if packed is None else bytes(packed), "")
        return texts, [json.loads(text).get("kind") for text in texts][-1]
    except (ValueError, AttributeError, CorruptRecordError):
        return [], None


# Counting


def stats(session: Session, label: str, largest: int) -> Stats:
    """How much is in a store, as this session sees it."""
    ((version,),) = session.rows("version")
    ((schema,),) = session.rows("schema_version")
    ((size,),) = session.rows("size")
    big = session.rows("largest_threads", {"limit": largest})
    leases = session.rows("oldest_lease")
    return Stats(
        store=label,
        version=version,
        schema=int(schema),
        bytes=int(size),
        tables={table: Amount(int(rows), int(bytes_)) for table, rows, bytes_ in session.rows("weights")},
        threads=_states(session),
        largest={thread: Amount(int(rows), int(bytes_)) for thread, rows, bytes_ in big},
        oldest_lease=next((HeldLease(name, owner, since, bool(lapsed)) for name, owner, since, lapsed in leases), None),
    )


def _states(session: Session) -> dict[str, int]:
    """How many threads there are by the status of their newest run, in the words that runs are listed with."""
    states: dict[str, int] = {}
    for status, owner, number in session.rows("thread_states"):
        if status == RUNNING and not (owner and owners.alive(owner)):
            status = INTERRUPTED
        states[status or "without a run"] = states.get(status or "without a run", 0) + number
    return states
