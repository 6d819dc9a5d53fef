"""What must be true of a thread whose workers were killed and frozen, told from its log and from its rows.

The rows are read with statements of the checks' own: what is examined has no say in it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from fanfold.store.base import FINAL
from tests.crash import team
from tests.crash.log import Line


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database holds of a thread, in the order in which it was kept: each result's attempt and epoch, each
    checkpoint's id and number, and the numbers of its run's events."""

    results: Sequence[tuple[str, int]]
    checkpoints: Sequence[tuple[str, int]]
    events: Sequence[int]


def rows(place: str, thread: str) -> Rows:
    """The rows of a thread that has one run, of its own name."""
    if place.startswith("postgresql:"):
        with psycopg.connect(place) as server:
            return _asked(lambda text: server.execute(text.replace("?", "%s"), (thread,)).fetchall())
    file = sqlite3.connect(place)
    try:
        return _asked(lambda text: file.execute(text, (thread,)).fetchall())
    finally:
        file.close()


def _asked(ask: Any) -> Rows:
    return Rows(
        ask("select attempt, epoch from task_result where thread_id = ? order by no"),
        ask("select checkpoint_id, seq from checkpoint where thread_id = ? and namespace = '' order by seq"),
        [
            no + more
            for no, number in ask("select no, number from event where run_id = ? order by no")
            for more in range(number)
        ],
    )


@dataclass(slots=True)
class Verdict:
    """What is wrong, and what was counted. `last_group` are plain nodes that ran again, since their results had not
    been acknowledged; `most` is how many of them one worker's end has cost."""

    wrong: list[str] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0
    repeated: int = 0
    stale_visible: int = 0
    refused: int = 0
    last_group: int = 0
    most: int = 0


def verdict(lines: Sequence[Line], held: Rows, *, sync: bool) -> Verdict:
    """What there is to say of a thread that is done."""
    found = Verdict()
    acked = [line for line in lines if line.what == "ack"]
    finals = [line for line in acked if line.kind in FINAL]
    found.acknowledged = len(finals)
    found.refused = sum(line.what == "refused" for line in lines)
    for what, check in {"lost": _lost, "repeated": _repeated, "stale_visible": _stale}.items():
        problems = list(check(lines, held))
        setattr(found, what, len(problems))
        found.wrong += problems
    found.wrong += [*_replaced(finals, held), *_owners(lines, held), *_gaps(held), *_prefixes(lines)]
    found.wrong += [*_begun_too_early(lines, held, sync=sync)]
    found.wrong += [f"the store said of {line.name or line.kind!r}: {line.what}" for line in lines if ":" in line.what]
    again = Counter(_again(lines))
    found.last_group, found.most = again.total(), max(again.values(), default=0)
    return found


def _lost(lines: Sequence[Line], held: Rows) -> Iterator[str]:
    """I1: what was acknowledged is there, as that attempt."""
    there = {attempt for attempt, _ in held.results} | {checkpoint for checkpoint, _ in held.checkpoints}
    for line in lines:
        if line.what == "ack" and line.kind in (*FINAL, "checkpoint") and line.id not in there:
            yield f"lost: the {line.kind} {line.id} of {line.name!r} was acknowledged at {line.at} and is not there"


def _replaced(finals: Sequence[Line], held: Rows) -> Iterator[str]:
    """I2: one result a task, from one attempt."""
    attempts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in finals:
        attempts[line.name, line.kind].add(line.id)
    for (name, _), several in attempts.items():
        if len(several) > 1:
            yield f"replaced: {name!r} has results of {len(several)} attempts, and each was acknowledged"


def _repeated(lines: Sequence[Line], held: Rows) -> Iterator[str]:
    """I4: what was acknowledged never starts again, neither after a crash nor in a worker that was frozen."""
    first: dict[str, int] = {}
    for line in lines:
        if line.what == "ack" and line.kind in FINAL:
            first.setdefault(line.name, line.at)
    for line in lines:
        if line.what == "start" and first.get(line.name, line.since) < line.since:
            yield f"repeated: {line.name!r} was acknowledged at {first[line.name]} and started again at {line.at}"


def _stale(lines: Sequence[Line], held: Rows) -> Iterator[str]:
    """I3: nothing is stored, or said to be, that was sent after the thread had a newer owner."""
    there = {attempt for attempt, _ in held.results} | {checkpoint for checkpoint, _ in held.checkpoints}
    there |= {line.id for line in lines if line.what == "ack"}
    newest = 0
    for line in lines:
        if line.what == "claim":
            newest = max(newest, line.epoch)
        if line.what == "sent" and line.epoch < newest and line.id in there:
            yield f"stale: the {line.kind} of {line.name!r} was sent in epoch {line.epoch} at {line.at}, after {newest}"


def _owners(lines: Sequence[Line], held: Rows) -> Iterator[str]:
    """I3: epochs grow from owner to owner, and what is stored was stored by one owner after the other."""
    epochs = [line.epoch for line in lines if line.what == "claim"]
    if len(set(epochs)) < len(epochs):
        yield f"owners: two have had the same epoch, {epochs}"
    asked: dict[int, int] = {}
    newest = 0
    for line in lines:
        if line.what == "ask":
            asked[line.pid] = newest
        if line.what == "claim":
            if line.epoch <= asked[line.pid]:
                yield f"owners: epoch {line.epoch} was given when there had been {asked[line.pid]}"
            newest = max(newest, line.epoch)
    stored = [epoch for _, epoch in held.results]
    if stored != sorted(stored):
        yield f"owners: results of epochs were stored in the order {stored}"


def _gaps(held: Rows) -> Iterator[str]:
    """I5 and I9: checkpoints and events are numbered without gaps."""
    numbers = [number for _, number in held.checkpoints]
    if numbers != list(range(len(numbers))):
        yield f"gaps: the checkpoints are {numbers}"
    if list(held.events) != list(range(len(held.events))):
        yield f"gaps: the events are {held.events}"


def _prefixes(lines: Sequence[Line]) -> Iterator[str]:
    """What a worker has sent is acknowledged in that order, so what it loses is what it sent last."""
    open_: dict[int, list[str]] = defaultdict(list)
    for line in lines:
        if line.what == "sent":
            open_[line.pid].append(line.id)
        elif line.id in open_[line.pid]:
            if line.what == "ack" and open_[line.pid][0] != line.id:
                yield f"order: {line.id} was acknowledged at {line.at} before what worker {line.pid} had sent earlier"
            open_[line.pid].remove(line.id)


def _begun_too_early(lines: Sequence[Line], held: Rows, *, sync: bool) -> Iterator[str]:
    """What depends on an agent's answer, and in `sync` on anything, starts when that is on the disk.

    A worker that was killed may have stored what it did not live to see acknowledged.
    """
    there = {attempt for attempt, _ in held.results}
    safe: set[str] = set()
    stored: dict[str, int] = {}
    for line in lines:
        if line.what == "ack" and line.kind in FINAL:
            safe.add(line.name)
        if line.what == "sent" and line.kind in FINAL and line.id in there:
            stored[line.name] = line.pid
        if line.what == "start":
            for name in team.needs(line.name, sync=sync) - safe:
                if stored.get(name, line.pid) == line.pid:
                    yield f"early: {line.name!r} started at {line.at}, before {name!r} was on the disk"


def _again(lines: Sequence[Line]) -> Iterator[int]:
    """The worker, for each plain node that it had brought to its end and that another one ran again.

    `_repeated` says that none of them was acknowledged, and `_prefixes` that nothing which came later was: so they
    belong to the last group, which was not committed.
    """
    ended: dict[str, int] = {}
    for line in lines:
        if line.name.startswith("agent"):
            continue
        if line.what == "start" and ended.get(line.name, line.pid) != line.pid:
            yield ended.pop(line.name)
        if line.what == "end":
            ended[line.name] = line.pid
