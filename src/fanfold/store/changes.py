"""What the writer does with a batch of changes, in one transaction.

It begins with one look at the epochs of all threads that the batch concerns, which also keeps them as they are until
the batch is committed: what is of an older epoch is refused. Results that come one after the other are kept together.
Whatever is done here is harmless to do twice, since a commit of which nobody has heard may have happened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

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
from fanfold.store.leases import Leases
from fanfold.store.once import Turn
from fanfold.store.writer import Session


@dataclass(frozen=True, slots=True)
class Kept:
    """A change with the lease under which it is made."""

    change: Change
    lease: Lease | None


class Changes:
    """Does batches of changes, and of functions that take a session."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def __call__(self, session: Session, batch: Sequence[Any]) -> list[Any]:
        """What came of each. A `StoreError` is a refusal of one alone; what is raised concerns the batch."""
        leases = dict.fromkeys(item.lease for item in batch if isinstance(item, Kept) and item.lease is not None)
        lost = self._leases.fence(session, leases) if leases else {}
        _hold_items(session, batch)
        outcomes: list[Any] = []
        for together, group in groupby(batch, key=_is_result):
            if together:
                outcomes += _keep_results(session, list(group), lost)
            else:
                outcomes += [_done(session, item, lost) for item in group]
        return outcomes


def _hold_items(session: Session, batch: Sequence[Any]) -> None:
    """Lock the items that the batch writes, in an order that is the same for all processes: none waits for another one
    that waits for it. Those that are new cannot be locked. There the database finds out, and one of them tries again.
    """
    items = sorted({place for item in batch if isinstance(item, Turn) for place in item.touches})
    if len(items) > 1:
        namespaces, keys = zip(*items, strict=True)
        session.rows("hold_items", {"namespaces": list(namespaces), "keys": list(keys)})


def _is_result(item: Any) -> bool:
    return isinstance(item, Kept) and isinstance(item.change, ResultKept)


def _done(session: Session, item: Any, lost: Mapping[Lease, StoreError]) -> Any:
    try:
        if not isinstance(item, Kept):
            return item(session)
        if item.lease is not None and item.lease in lost:
            return lost[item.lease]
        return _keep(session, item.change)
    except StoreError as refusal:
        return refusal


def _keep_results(session: Session, batch: Sequence[Kept], lost: Mapping[Lease, StoreError]) -> list[Any]:
    """Keep results that were submitted one after the other; what came of each."""
    rows = [_row(kept) for kept in batch if kept.lease not in lost]
    finals = [row for row in rows if row["kind"] in FINAL]
    latest = {_key(row): row for row in rows if row["kind"] not in FINAL}
    refused: Mapping[Any, StoreError] = {}
    if finals and session.many("keep_final", finals) < len(finals):
        refused = _duplicates(session, finals)
    if latest:
        session.many("keep_latest", list(latest.values()))
    written = iter(rows)
    return [
        lost[kept.lease] if kept.lease in lost else _verdict(next(written), refused)  # type: ignore[index]
        for kept in batch
    ]


def _verdict(row: Mapping[str, Any], refused: Mapping[Any, StoreError]) -> StoreError | None:
    return refused.get((_key(row), row["attempt"])) if refused else None


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
            if attempts[row["task_id"], row["kind"]] != row["attempt"]:
                refused[_key(row), row["attempt"]] = DuplicateResultError(
                    f"{row['name']!r}, step {row['step']}, thread {place[0]!r} has a result of another attempt already"
                )
    return refused


_PLACE: Final = ("thread_id", "namespace", "checkpoint_id", "branch")
_COLUMNS: Final = (
    "thread_id", "namespace", "checkpoint_id", "run_id", "task_id", "kind", "name", "step", "attempt", "parent",
    "branch", "data",
)  # fmt: skip


def _row(kept: Kept) -> dict[str, Any]:
    row = {name: getattr(kept.change, name) for name in _COLUMNS}
    row["epoch"] = kept.lease.epoch if kept.lease is not None else 0
    return row


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("thread_id", "namespace", "checkpoint_id", "branch", "task_id", "kind"))


def _keep(session: Session, change: Change) -> None:
    match change:
        case EventsKept():
            _keep_events(session, change)
        case CheckpointKept():
            _keep_checkpoint(session, change)
        case RunOpened(run):
            values = {
                "run": run.run_id,
                "thread": run.thread_id,
                "graph": run.graph,
                "digest": run.digest,
                "status": run.status,
                "created": run.created,
                "settings": json.dumps(dict(run.settings)),
            }
            session.rows("open_run", values)
        case RunClosed():
            values = {
                "run": change.run_id,
                "status": change.status,
                "finished": change.finished,
                "error": change.error,
            }
            session.rows("close_run", values)


def _keep_checkpoint(session: Session, change: CheckpointKept) -> None:
    values = asdict(change)
    if session.rows("keep_checkpoint", values):
        return
    same = (change.parent_id, change.run_id, change.step, change.data)
    if session.rows("checkpoint_is", values) != [same]:
        raise StoreError(
            f"checkpoint {change.checkpoint_id!r} of thread {change.thread_id!r} is there already, and another one"
        )


def _keep_events(session: Session, change: EventsKept) -> None:
    if not change.events:
        return
    first, before = _event_before(session, change)
    rows = []
    for no, event in enumerate(change.events, first):
        text = json.dumps(event)
        before = chained(before, text)
        rows.append({"run": change.run_id, "no": no, "data": text, "hash": before})
    session.many("keep_events", rows)


def _event_before(session: Session, change: EventsKept) -> tuple[int, bytes]:
    """The number that the first of these events has, and the hash of the one before it."""
    if change.first is None:
        last = session.rows("last_event", {"run": change.run_id})
        return (last[0][0] + 1, last[0][1]) if last else (0, b"")
    if change.first == 0:
        return 0, b""
    found = session.rows("event_hash", {"run": change.run_id, "no": change.first - 1})
    if not found:
        raise StoreError(f"event {change.first} of run {change.run_id!r} cannot follow one that is not there")
    return change.first, found[0][0]


def chained(before: bytes, text: str) -> bytes:
    """The hash of an event: of what it says and of the hash of the one before it."""
    return hashlib.blake2b(before + text.encode(), digest_size=16).digest()
