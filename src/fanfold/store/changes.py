"""What the writer does with a batch of changes, in one transaction.

Changes that come one after the other begin with one look at the epochs of all threads that they concern, which also
keeps them as they are until the batch is committed: what is of an older epoch is refused. After a claim or a deletion
in their midst there is another look. Results that come one after the other are kept together. Whatever is done here is
harmless to do twice, since a commit of which nobody has heard may have happened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, TypeAlias

from fanfold.errors import DuplicateResultError, StoreError
from fanfold.store.base import (
    FINAL,
    Change,
    CheckpointKept,
    EventsKept,
    Lease,
    ResultKept,
    RunClosed,
    RunOpened,
)
from fanfold.store.batches import IN_A_ROW, chained_on, packed, to_text, unpacked
from fanfold.store.leases import Leases, unfit
from fanfold.store.once import Turn
from fanfold.store.writer import Columns, Session


@dataclass(slots=True, eq=False)
class Kept:
    """A change with the lease under which it is made."""

    change: Change
    lease: Lease | None
    first: int | None = None
    """The number that the first of its events was given, also when it is not known whether that has lasted."""


class Changes:
    """Does batches of changes, and of functions that take a session."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def __call__(self, session: Session, batch: Sequence[Any]) -> list[Any]:
        """What came of each. A `StoreError` is a refusal of one alone; what is raised concerns the batch."""
        _hold_items(session, batch)
        outcomes: list[Any] = []
        for changes, group in groupby(batch, key=lambda item: isinstance(item, Kept)):
            if changes:
                outcomes += self._keep(session, list(group))
            else:
                outcomes += [_done(item, session) for item in group]
        return outcomes

    def at_once(self, session: Session, batch: Sequence[Any]) -> bool:
        """Keep a batch that is nothing but final results under leases, if none of them is to be refused.

        What there is to refuse, the statement does not say; it undoes itself, and then the batch is looked at closely.
        """
        if not all(isinstance(item, Kept) and _how(item) is _keep_finals for item in batch):
            return False
        leases = {item.lease for item in batch}
        if None in leases or any(map(self._leases.spoilt, leases)) or any(map(astray, batch)):
            return False

        def columns() -> Columns | None:
            found = _columns(batch)
            fit = all(_fits(found[name]) for name in _TEXTS)
            return {**found, "threads": sorted({lease.thread_id for lease in leases})} if fit else None

        return session.at_once("keep_final_at_once", columns)

    def failed(self, batch: Sequence[Any], failure: StoreError) -> None:
        """Nothing of this batch was stored."""
        for item in batch:
            if isinstance(item, Kept) and item.lease is not None:
                self._leases.spoil(item.lease, failure, for_good=True)

    def _keep(self, session: Session, batch: Sequence[Kept]) -> list[StoreError | None]:
        leases = dict.fromkeys(kept.lease for kept in batch if kept.lease is not None)
        lost: Mapping[Any, StoreError] = self._leases.fence(session, leases) if leases else {}
        outcomes: list[StoreError | None] = []
        for keep, together in _groups(batch):
            refused = [lost.get(kept.lease) or self._unfit(kept) for kept in together]
            good = [kept for kept, refusal in zip(together, refused, strict=True) if refusal is None]
            done = iter(keep(session, good) if good else ())
            came = [refusal or next(done) for refusal in refused]
            self._spoil(together, came)
            outcomes += came
        return outcomes

    def _unfit(self, kept: Kept) -> StoreError | None:
        refusal = self._leases.spoilt(kept.lease) if isinstance(kept.change, _FOLLOWING) else None
        if refusal is None and (refusal := unfit_change(kept.change) or astray(kept)) is not None:
            self._spoil([kept], [refusal])
        return refusal

    def _spoil(self, batch: Sequence[Kept], outcomes: Sequence[StoreError | None]) -> None:
        for kept, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None and kept.lease is not None:
                self._leases.spoil(kept.lease, outcome)


def _hold_items(session: Session, batch: Sequence[Any]) -> None:
    """Lock the items that the batch writes, in an order that is the same for all processes: none waits for another one
    that waits for it. Those that are new cannot be locked. There the database finds out, and one of them tries again.
    """
    items = sorted({place for item in batch if isinstance(item, Turn) for place in item.touches})
    if len(items) > 1:
        namespaces, keys = zip(*items, strict=True)
        session.rows("hold_items", {"namespaces": list(namespaces), "keys": list(keys)})


_FOLLOWING: Final = (ResultKept, CheckpointKept)
"""What would stand on air where something earlier is missing. Of events the chain says so, and a run may always end."""


def unfit_change(change: Change) -> StoreError | None:
    """What keeps a text of this change from being stored, in any database, if anything does."""
    facts = change.run if isinstance(change, RunOpened) else change
    found = (unfit(field.name, getattr(facts, field.name)) for field in fields(facts))
    return next((problem for problem in found if problem is not None), None)


def astray(kept: Kept) -> StoreError | None:
    """What is wrong with a change of one thread under the lease of another one, whose fence would let it through.

    An end and events name their run alone; whose that is, only the database could tell.
    """
    change, lease = kept.change, kept.lease
    thread = change.run.thread_id if isinstance(change, RunOpened) else getattr(change, "thread_id", None)
    if lease is None or thread is None or thread == lease.thread_id:
        return None
    return StoreError(
        f"a change of thread {thread!r} was submitted under the lease of thread {lease.thread_id!r}",
        hint=f"submit it under the lease that claiming {thread!r} gave",
    )


class _AloneError(Exception):
    """The changes of this batch have to be done one by one."""


def _done(work: Callable[[Session], Any], session: Session) -> Any:
    try:
        return work(session)
    except StoreError as refusal:
        return refusal


_Keep: TypeAlias = Callable[[Session, Sequence[Kept]], list[StoreError | None]]


def _groups(batch: Sequence[Kept]) -> Iterator[tuple[_Keep, list[Kept]]]:
    """What is kept together, and how; what is refused in one group is known before the next."""
    for keep, group in groupby(batch, key=_how):
        if keep is _keep_alone:
            yield from ((keep, [kept]) for kept in group)
        else:
            yield keep, list(group)


def _how(kept: Kept) -> _Keep:
    if not isinstance(kept.change, ResultKept):
        return _keep_alone
    return _keep_finals if kept.change.kind in FINAL else _keep_latest


def _keep_finals(session: Session, batch: Sequence[Kept]) -> list[StoreError | None]:
    """Keep results that stay as they are, unless another attempt's is there."""
    rows = _rows(batch)
    if session.many("keep_final", rows) == len(rows):
        return [None] * len(rows)
    refused = _duplicates(session, rows)
    outcomes = [refused.get((_key(row), row["attempt"])) for row in rows]
    if len(batch) > 1 and any(
        kept.lease is not None and outcome for kept, outcome in zip(batch, outcomes, strict=True)
    ):
        raise _AloneError  # what comes after it under its lease may not stay
    return outcomes


def _keep_latest(session: Session, batch: Sequence[Kept]) -> list[StoreError | None]:
    """Keep what tasks have come to for now, each in the place of what was there before."""
    latest = {_key(row): row for row in _rows(batch)}
    session.many("keep_latest", list(latest.values()))
    return [None] * len(batch)


def _keep_alone(session: Session, batch: Sequence[Kept]) -> list[StoreError | None]:
    return [_done(partial(_keep, kept), session) for kept in batch]


def _duplicates(session: Session, rows: Sequence[Mapping[str, Any]]) -> dict[Any, StoreError]:
    """Of these final results, those in whose place another attempt's is."""
    refused: dict[Any, StoreError] = {}
    places: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        places.setdefault(tuple(row[name] for name in _PLACE), []).append(row)
    for place, there in places.items():
        tasks = [row["task_id"] for row in there]
        stored = session.rows("attempts", {**dict(zip(_PLACE, place, strict=True)), "tasks": tasks})
        attempts = {(task, kind): attempt for task, kind, attempt in stored}
        for row in there:
            if attempts.get((row["task_id"], row["kind"]), "") != row["attempt"]:  # or it was pruned just now
                refused[_key(row), row["attempt"]] = DuplicateResultError(
                    f"{row['name']!r}, step {row['step']}, thread {place[0]!r} has a result of another attempt already"
                )
    return refused


_PLACE: Final = ("thread_id", "namespace", "checkpoint_id", "branch")
_COLUMNS: Final = (
    "thread_id", "namespace", "checkpoint_id", "run_id", "task_id", "kind", "name", "step", "attempt", "parent",
    "branch", "data",
)  # fmt: skip


_TEXTS: Final = tuple(name for name in _COLUMNS if name not in {"step", "data"})


def _columns(batch: Sequence[Kept]) -> dict[str, list[Any]]:
    changes = [kept.change for kept in batch]
    columns = {name: list(map(attrgetter(name), changes)) for name in _COLUMNS}
    columns["epoch"] = [kept.lease.epoch if kept.lease is not None else 0 for kept in batch]
    return columns


def _rows(batch: Sequence[Kept]) -> list[dict[str, Any]]:
    columns = _columns(batch)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _fits(texts: Sequence[str | None]) -> bool:
    """Whether every database has these texts, for all that a glance tells."""
    text = "".join(filter(None, texts))
    return text.isascii() and "\0" not in text


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("thread_id", "namespace", "checkpoint_id", "branch", "task_id", "kind"))


def _keep(kept: Kept, session: Session) -> None:
    match change := kept.change:
        case EventsKept():
            _keep_events(session, kept, change)
        case CheckpointKept():
            _keep_checkpoint(session, change)
        case RunOpened():
            _open_run(session, change)
        case RunClosed():
            values = {
                "run": change.run_id,
                "status": change.status,
                "finished": change.finished,
                "error": change.error,
            }
            session.rows("close_run", values)


def _open_run(session: Session, opened: RunOpened) -> None:
    run = opened.run
    values = {
        "run": run.run_id,
        "thread": run.thread_id,
        "graph": run.graph,
        "digest": run.digest,
        "status": run.status,
        "created": run.created,
        "settings": json.dumps(dict(run.settings)),
        "at": opened.at,
    }
    if opened.at and not session.rows("has_checkpoint", {"thread": run.thread_id, "checkpoint": opened.at}):
        raise StoreError(
            f"checkpoint {opened.at!r} of thread {run.thread_id!r} was pruned before a run could begin there"
        )
    session.rows("open_run", values)


_OF_CHECKPOINT: Final = tuple(field.name for field in fields(CheckpointKept))
_CHECKPOINT: Final = ("parent_id", "run_id", "step", "source", "created", "full", "around", "data")


def _keep_checkpoint(session: Session, change: CheckpointKept) -> None:
    values = {name: getattr(change, name) for name in _OF_CHECKPOINT}
    if session.rows("keep_checkpoint", values):
        return
    there = session.rows("checkpoint_is", values)
    name = f"checkpoint {change.checkpoint_id!r} of thread {change.thread_id!r}"
    if not there:
        raise StoreError(f"{name} follows from {change.parent_id!r}, which is not there")
    if there != [tuple(values[column] for column in _CHECKPOINT)]:
        raise StoreError(f"{name} is there already, and another one")


def _keep_events(session: Session, kept: Kept, change: EventsKept) -> None:
    """Keep what happened. What is there under the same numbers already has to be the same."""
    texts = [to_text(event) for event in change.events]
    if not texts:
        return
    first = kept.first if change.first is None else change.first
    before, there = (b"", []) if first is None else _events_there(session, change.run_id, first)
    if texts[: len(there)] != there[: len(texts)]:
        if change.first is not None:
            raise StoreError(
                f"event {first} of run {change.run_id!r} or one after it is there already, and another one"
            )
        first, there = None, []  # somebody else was given these numbers
    if first is None:
        last = session.rows("last_event", {"run": change.run_id})
        first, before = last[0] if last else (0, b"")
    kept.first = first
    if rows := _event_rows(change.run_id, first + len(there), texts[len(there) :], before):
        session.many("keep_events", rows)


def _event_rows(run_id: str, first: int, texts: Sequence[str], before: bytes) -> list[dict[str, Any]]:
    rows = []
    for begin in range(0, len(texts), IN_A_ROW):
        part = texts[begin : begin + IN_A_ROW]
        before = chained_on(before, part)
        place = {"run": run_id, "no": first + begin, "number": len(part)}
        rows.append({**place, "packed": packed(part), "hash": before})
    return rows


def _events_there(session: Session, run_id: str, first: int) -> tuple[bytes, list[str]]:
    """What happened from number `first` on, as far as it is there already; and the hash of the last that is there."""
    rows = session.rows("events_from", {"run": run_id, "no": max(first - 1, 0)})
    if first > (rows[-1][0] + rows[-1][1] if rows else 0):
        raise StoreError(f"event {first} of run {run_id!r} cannot follow one that is not there")
    there: list[str] = []
    for no, number, text, value, _ in rows:
        if no + number > first:
            there += unpacked(text, value, f"event {no} of run {run_id!r}")[max(first - no, 0) :]
    return rows[-1][-1] if rows else b"", there
