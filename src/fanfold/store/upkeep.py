"""Upkeep of a store: what may be forgotten of a thread, and a thread once more under another name.

Of a thread's checkpoints these stay, whatever is asked for::

    the last ones of the whole graph, at least one     and with a time, those that are younger
    the last ones of each graph that remembers         (`checkpointer=True`: its namespace names no task)
    those that are pinned, or that a run which goes on began at
    ── and what these need ──
    back to the nearest that holds all values          the others follow from their parents
    all of the graphs that ran inside of them          (their namespace names a task; `around` says whose they are)
    what each graph that remembers knew at that time   its last one before

What hangs on a checkpoint stays and goes with it. A run goes with its events, its receipt, when nothing that stays is
of it and it has ended long enough ago. So a thread can always go on, and whatever is still listed can be read, and run
again from there.

What goes is decided from the checkpoints' marks alone, without what they hold. It is decided and deleted in one
transaction of the writer, which keeps whoever runs the thread from writing until it is over: they stand at the last
checkpoint, or at one that they have named. How far a thread was pruned is remembered, so that `check` can tell what is
gone on purpose from what is missing.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from fanfold.errors import RunNotFoundError, StoreError, UsageError
from fanfold.store.batches import chained_on, packed, to_text, unpacked
from fanfold.store.writer import Session

T = TypeVar("T")

WHOLE: Final = ""
"""In the place of a checkpoint's id: the whole thread is pinned."""

_OF_A_TASK: Final = re.compile(r":[0-9a-f]{32}(?::\d+)?(?:\||$)")


class OpenStore(Protocol):
    """The store that is kept up."""

    @property
    def label(self) -> str:
        """What it is called in messages."""

    def look(self, work: Callable[[Session], T]) -> T:
        """What `work` finds out, without changing anything."""

    def write(self, work: Callable[[Session], T]) -> Future[T]:
        """Queue `work` to be done in a transaction of the writer."""

    def write_once(self, work: Callable[[Session], T]) -> Future[T]:
        """The same, for work that would come to something else if it were done twice."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of a thread: its `keep_last` newest checkpoints, and whatever is younger than `older_than`.

    `older_than` is a timedelta or in seconds. One of them is enough; without `keep_last`, the newest checkpoint stays.
    """

    keep_last: int | None = None
    older_than: float | timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep_last is None and self.older_than is None:
            raise UsageError("a retention says nothing", hint="give it keep_last=, older_than=, or both")
        if self.keep_last is not None and self.keep_last < 1:
            raise UsageError(
                f"keep_last is {self.keep_last}, and a thread needs its newest checkpoint",
                hint="delete_thread forgets a thread altogether",
            )
        if not 0 <= self.seconds < math.inf:
            raise UsageError(f"older_than is {self.older_than!r}; it is a number of seconds, or a timedelta")

    @property
    def last(self) -> int:
        """How many of the newest checkpoints stay."""
        return self.keep_last or 1

    @property
    def seconds(self) -> float:
        """How long things are kept in any case."""
        age = self.older_than
        return age.total_seconds() if isinstance(age, timedelta) else float(age or 0)

    def before(self, now: float) -> float:
        """Only what is older than this goes."""
        return math.inf if self.older_than is None else now - self.seconds


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted of a thread, or would be; `bytes` are those of the payloads."""

    thread_id: str
    checkpoints: int = 0
    results: int = 0
    runs: int = 0
    events: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.results or self.runs)


@dataclass(frozen=True, slots=True)
class Mark:
    """A checkpoint without what it holds."""

    namespace: str
    seq: int
    checkpoint_id: str
    parent_id: str | None
    run_id: str
    created: float
    full: bool
    around: str | None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Hanging:
    """The results of one run that hang on one checkpoint; `aside` when all are of those that only look back."""

    namespace: str
    checkpoint_id: str
    run_id: str
    aside: bool
    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a thread when it is decided what goes. `runs` are (id, whether it goes on, when it ended).

    `pins` are the ids of checkpoints that stay; `pruned` says up to which number they may be missing, by namespace.
    """

    now: float
    marks: Sequence[Mark]
    hanging: Sequence[Hanging] = ()
    runs: Sequence[tuple[str, bool, float]] = ()
    pins: frozenset[str] = frozenset()
    pruned: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Doomed:
    """What goes of a thread."""

    marks: Sequence[Mark]
    hanging: Sequence[Hanging]
    runs: Sequence[str]
    emptied: frozenset[str]
    """The namespaces of which nothing stays."""


# Deciding


def doomed(facts: Facts, retention: Retention) -> Doomed:
    """What goes of a thread; nothing that stays needs it."""
    before = retention.before(facts.now)
    stays = kept(facts.marks, facts.pins, retention.last, before)
    places = {(mark.namespace, mark.checkpoint_id) for mark in stays}
    there = {(mark.namespace, mark.checkpoint_id) for mark in facts.marks}
    hanging = [
        each
        for each in facts.hanging
        if (place := (each.namespace, each.checkpoint_id)) not in places
        and (place in there or (each.aside and each.namespace in facts.pruned))
    ]
    gone = set(hanging)
    needed = {mark.run_id for mark in stays} | {each.run_id for each in facts.hanging if each not in gone}
    whole = WHOLE in facts.pins
    return Doomed(
        marks=[mark for mark in facts.marks if mark not in stays],
        hanging=hanging,
        runs=[run for run, goes_on, ended in facts.runs if not (whole or goes_on or run in needed) and ended < before],
        emptied=frozenset(mark.namespace for mark in facts.marks) - {mark.namespace for mark in stays},
    )


def kept(marks: Sequence[Mark], pins: frozenset[str], last: int, before: float) -> set[Mark]:
    """The checkpoints that stay: those that are wanted, and what they need."""
    if WHOLE in pins:
        return set(marks)
    needs = _Needs(marks)
    wanted = [mark for line in needs.lasting for mark in line[-last:]]
    wanted += [mark for mark in marks if mark.checkpoint_id in pins or mark.created >= before]
    wanted += needs.homeless
    stays: set[Mark] = set()
    while wanted:
        mark = wanted.pop()
        if mark not in stays:
            stays.add(mark)
            wanted += needs.of(mark)
    return stays


class _Needs:
    """What each checkpoint of a thread needs to be read, and to be run from."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._places = {(mark.namespace, mark.checkpoint_id): mark for mark in marks}
        lines: dict[str, list[Mark]] = defaultdict(list)
        for mark in sorted(marks, key=lambda mark: mark.seq):
            lines[mark.namespace].append(mark)
        self.lasting = [line for namespace, line in lines.items() if not _OF_A_TASK.search(namespace)]
        """The checkpoints of the whole graph, and of each that remembers, the oldest first."""
        inner = [mark for mark in marks if _OF_A_TASK.search(mark.namespace)]
        self._around = {mark: self._home(mark) for mark in inner}
        self.homeless = [mark for mark, home in self._around.items() if home is None]
        """Checkpoints of which it is not known to which of the whole graph they belong."""
        self._inside: dict[str, list[Mark]] = defaultdict(list)
        for mark, home in self._around.items():
            if home is not None:
                self._inside[home].append(mark)
        memories = [line for line in self.lasting if line[0].namespace]
        self._memories = [sorted(line, key=lambda mark: mark.checkpoint_id) for line in memories]

    def of(self, mark: Mark) -> Iterator[Mark]:
        """What `mark` needs by itself."""
        if not mark.full and mark.parent_id is not None:
            yield from self._at(mark.namespace, mark.parent_id)
        if mark in self._around:
            yield from self._at("", self._around[mark] or "")
        if not mark.namespace:
            yield from self._inside.get(mark.checkpoint_id, ())
            for before in filter(None, (mark.checkpoint_id, mark.parent_id)):
                yield from self._known(before)

    def _at(self, namespace: str, checkpoint_id: str) -> Iterator[Mark]:
        if (mark := self._places.get((namespace, checkpoint_id))) is not None:
            yield mark

    def _known(self, before: str) -> Iterator[Mark]:
        """What graphs that remember knew when the whole graph stood at `before`."""
        for line in self._memories:
            place = bisect_left(line, before, key=lambda mark: mark.checkpoint_id)
            if place:
                yield line[place - 1]

    def _home(self, mark: Mark) -> str | None:
        """The checkpoint of the whole graph inside of which an inner one was taken; an update from outside has its
        parent's."""
        seen: Mark | None = mark
        while seen is not None and seen.around is None:
            seen = self._places.get((seen.namespace, seen.parent_id or ""))
        return None if seen is None else seen.around


# Pruning


def prune(store: OpenStore, retention: Retention, thread_id: str | None, *, dry_run: bool) -> list[Pruned]:
    """What was deleted, or would be with `dry_run`, of a thread or of all; each thread in a transaction of its own."""
    store.write(lambda _: None).result()  # what was queued before counts
    names = [thread_id] if thread_id is not None else store.look(threads)
    told = []
    for name in names:
        gone = store.look(lambda session, name=name: _pruned(session, name, retention, dry_run=True))  # type: ignore[misc]
        if gone and not dry_run:
            gone = store.write_once(lambda session, name=name: prune_thread(session, name, retention)).result()  # type: ignore[misc]
        if gone:
            told.append(gone)
    return told


def prune_thread(session: Session, thread_id: str, retention: Retention) -> Pruned:
    """What was deleted of a thread. Whoever runs it waits with what they write until the transaction ends."""
    session.rows("hold_thread", {"thread": thread_id})
    return _pruned(session, thread_id, retention, dry_run=False)


def apply(session: Session, thread_id: str, retention: Retention) -> None:
    """Prune a thread, if a look at its last checkpoints tells that there may be something to prune."""
    ((now,),) = session.rows("now")
    values = {"thread": thread_id, "keep_last": retention.last, "before": retention.before(float(now))}
    if session.rows("may_be_pruned", values):
        prune_thread(session, thread_id, retention)


def threads(session: Session) -> list[str]:
    """Every thread of which anything is known."""
    return [name for (name,) in session.rows("threads")]


def _pruned(session: Session, thread_id: str, retention: Retention, *, dry_run: bool) -> Pruned:
    gone = doomed(_facts(session, thread_id), retention)
    told = _weighed(session, thread_id, gone)
    if not dry_run:
        _drop(session, thread_id, gone)
    return told


def _facts(session: Session, thread_id: str) -> Facts:
    thread = {"thread": thread_id}
    ((now,),) = session.rows("now")
    runs = session.rows("runs_of_thread", thread)
    begun = {at for _, goes_on, _, at in runs if goes_on and at}
    return Facts(
        now=float(now),
        marks=[Mark(*row) for row in session.rows("marks", thread)],
        hanging=[
            Hanging(namespace, checkpoint, run, bool(aside), int(number), int(size))
            for namespace, checkpoint, run, aside, number, size in session.rows("hanging", thread)
        ],
        runs=[(run, bool(goes_on), ended) for run, goes_on, ended, _ in runs],
        pins=frozenset(begun.union(checkpoint for (checkpoint,) in session.rows("pins", thread))),
        pruned=dict(session.rows("pruned", thread)),
    )


def _weighed(session: Session, thread_id: str, gone: Doomed) -> Pruned:
    events, size = session.rows("weigh_events", {"runs": list(gone.runs)})[0] if gone.runs else (0, 0)
    return Pruned(
        thread_id,
        checkpoints=len(gone.marks),
        results=sum(each.number for each in gone.hanging),
        runs=len(gone.runs),
        events=int(events),
        bytes=int(size) + sum(mark.size for mark in gone.marks) + sum(each.size for each in gone.hanging),
    )


def _drop(session: Session, thread_id: str, gone: Doomed) -> None:
    for namespace, ids in _by_namespace(gone.hanging).items():
        session.rows("drop_results", {"thread": thread_id, "namespace": namespace, "checkpoints": ids})
    for namespace, ids in _by_namespace(gone.marks).items():
        place = {"thread": thread_id, "namespace": namespace}
        session.rows("drop_checkpoints", {**place, "checkpoints": ids})
        if namespace in gone.emptied:
            session.rows("forget_pruned_in", place)
        else:
            last = max(mark.seq for mark in gone.marks if mark.namespace == namespace)
            session.rows("note_pruned", {**place, "seq": last})
    if gone.runs:
        session.rows("drop_events", {"runs": list(gone.runs)})
        session.rows("drop_runs", {"runs": list(gone.runs)})


def _by_namespace(gone: Iterable[Mark | Hanging]) -> dict[str, list[str]]:
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for each in gone:
        places[each.namespace][each.checkpoint_id] = None
    return {namespace: list(ids) for namespace, ids in places.items()}


# Pins


def pin(session: Session, thread_id: str, checkpoint_id: str | None, label: str) -> None:
    """Never prune a checkpoint, or all of a thread. Raises `RunNotFoundError` when there is no such checkpoint."""
    place = {"thread": thread_id, "checkpoint": WHOLE if checkpoint_id is None else checkpoint_id}
    session.rows("hold_thread", place)
    if checkpoint_id is not None and not session.rows("has_checkpoint", place):
        raise RunNotFoundError(f"thread {thread_id!r} has no checkpoint {checkpoint_id!r} in {label}")
    session.rows("pin", place)


def unpin(session: Session, thread_id: str, checkpoint_id: str | None) -> None:
    """Take a pin back."""
    session.rows("unpin", {"thread": thread_id, "checkpoint": WHOLE if checkpoint_id is None else checkpoint_id})


# Copying


class Copy:
    """A thread once more under another name, done in one transaction, and once only.

    Checkpoints and results are as they were, so an interrupted run can go on in either thread. Runs have ids of their
    own, since a resume goes on with the run of its checkpoint and must not be the other thread's; what happened in
    them is copied as well, and their settings say of which run they are a copy. Pins are not copied.
    """

    def __init__(self, source: str, target: str, label: str) -> None:
        if source == target:
            raise UsageError(f"thread {source!r} cannot be copied onto itself", hint="give the copy another name")
        self._source, self._target, self._label = source, target, label

    def __call__(self, session: Session) -> None:
        """Copy. Raises `RunNotFoundError` for a thread that holds nothing, `StoreError` for a target that does."""
        for name in sorted((self._source, self._target)):  # everybody in this order, so that nobody waits in a ring
            session.rows("touch_thread", {"thread": name})
            session.rows("hold_thread", {"thread": name})
        runs = {run: os.urandom(6).hex() for run in _run_ids(session, self._source)}
        self._check(session, runs)
        places = {"thread": self._source, "target": self._target}
        mapping = {"old": list(runs), "fresh": list(runs.values())}
        for what in ("copy_checkpoints", "copy_results", "copy_pruned"):
            session.rows(what, {**places, **mapping})
        for row in session.rows("whole_runs", {"thread": self._source}):
            self._copy_run(session, row, runs[row[0]])

    def _check(self, session: Session, runs: Collection[str]) -> None:
        if not runs:
            raise RunNotFoundError(f"thread {self._source!r} holds nothing in {self._label}")
        if _run_ids(session, self._target):
            raise StoreError(
                f"thread {self._target!r} holds something already, so thread {self._source!r} is not copied there",
                hint="give the copy another name, or delete that thread first",
            )

    def _copy_run(self, session: Session, row: Sequence[Any], fresh: str) -> None:
        names = ("run", "thread", "graph", "digest", "status", "created", "finished", "error", "settings")
        run = dict(zip(names, row, strict=True))
        settings = json.dumps({**json.loads(run["settings"]), "copied_from": run["run"]})
        session.rows("copy_run", {**run, "run": fresh, "thread": self._target, "settings": settings})
        before, rows = b"", []
        for no, text, value in session.rows("events_of_run", {"run": run["run"]}):
            said = [self._renamed(text, fresh) for text in unpacked(text, value, f"event {no} of run {run['run']!r}")]
            before = chained_on(before, said)
            rows.append({"run": fresh, "no": no, "number": len(said), "packed": packed(said), "hash": before})
        if rows:
            session.many("keep_events", rows)

    def _renamed(self, text: str, fresh: str) -> str:
        """An event in the words of the copy: it names the thread and the run where it begins."""
        event = json.loads(text)
        if "thread_id" not in event:
            return text
        return to_text({**event, "run_id": fresh, "thread_id": self._target})


def _run_ids(session: Session, thread_id: str) -> list[str]:
    return [run for (run,) in session.rows("run_ids", {"thread": thread_id})]
