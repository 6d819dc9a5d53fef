"""A store in a database that speaks SQL: what it does, whichever database that is.

The statements of a database are in its own file under `sql/`, by the same names. One thread writes (see `writer`);
questions are asked over other connections, so neither waits for the other.

Every change says under which lease it is made. A batch begins with one look at the epochs of all threads that it
concerns, which also keeps them as they are until the batch is committed; what is of an older epoch is refused.
"""

from __future__ import annotations

import json
import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Final, Protocol, Self, TypeAlias, TypedDict, TypeVar

from fanfold.errors import CorruptRecordError, RunNotFoundError, StoreError
from fanfold.store import checking, upkeep
from fanfold.store.base import Change, CheckpointKept, Lease, OnBusy, ResultKept, RunRecord, ThreadRecord
from fanfold.store.batches import unpacked
from fanfold.store.changes import Changes, Kept
from fanfold.store.checking import Finding, Stats
from fanfold.store.items import Items
from fanfold.store.leases import TTL, Leases
from fanfold.store.once import Once
from fanfold.store.serde import Codec, Encryption
from fanfold.store.ticket import Ticket
from fanfold.store.upkeep import Pruned, Retention
from fanfold.store.writer import LONGEST_PAUSE, Database, Session, Writer

PATIENCE: Final = 30.0
"""Seconds for which a database that cannot be reached is tried again."""

FORGOTTEN: Final = (
    "events", "results", "checkpoints", "runs", "pins", "pruned",
    "saver_checkpoints", "saver_writes", "saver_pieces", "saver_thread",
)  # fmt: skip
"""What there is of a thread, in the order in which it is deleted."""

T = TypeVar("T")
Work: TypeAlias = Callable[[Session], T]


class Place(Database, Protocol):
    """A database of one kind, with the connections that questions are asked over."""

    dialect: str
    lasting: bool
    """Whether what is written outlives this process."""
    migrated: Sequence[int]
    """The migrations that the last `connect` has done."""

    def reading(self) -> AbstractContextManager[Session]:
        """A session to ask questions in."""


class StoreOptions(TypedDict, total=False):
    """What every store can be told: see `SqlStore`."""

    ttl: float
    patience: float
    encryption: Encryption | None
    compress: bool
    retention: Retention | None


@cache
def statements(dialect: str) -> Mapping[str, str]:
    """The statements of a database, by name."""
    text = files("fanfold.store").joinpath(f"sql/{dialect}.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


class SqlStore:
    """Keeps threads, runs, results and events in a database; see `store.base.Store` for what it promises.

    A lease lasts `ttl` seconds without a sign of life. A database that cannot be reached is tried again for `patience`
    seconds. What graphs store is encrypted with `encryption`, by default with the keys in FANFOLD_STORE_KEY, if
    there are any, and compressed with `compress`. A `retention` is applied to a thread whenever a run of it ends.
    """

    def __init__(
        self,
        place: Place,
        *,
        ttl: float = TTL,
        patience: float = PATIENCE,
        encryption: Encryption | None = None,
        compress: bool = False,
        retention: Retention | None = None,
    ) -> None:
        self.encryption = encryption or Encryption.from_environment()
        self.compress = compress
        # A database in memory ends with the process, so it may hold objects of any class that this process has written.
        self.learned = None if place.lasting else Codec()
        self._place = place
        self._retention = retention
        self._patience = patience
        self._leases = Leases(ttl)
        # The writer knows the leases and not the store, so that a store which nobody closes can be collected.
        self._writer = Writer(place, place.connect(), Changes(self._leases), self._leases, patience=patience)
        self.migrated = tuple(place.migrated)
        """The migrations that opening it has done."""
        self._once = Once(self._writer.queue)
        # Also when nobody closes it: what is queued is committed, at the latest when the process ends.
        self._finish = weakref.finalize(self, self._writer.leave)
        self._finish.atexit = False  # the writer sees to that, and waits

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def label(self) -> str:
        """What the database is called in messages, without a password."""
        return self._place.label

    def close(self) -> None:
        """Commit what is queued and let everything go. Closing twice is harmless."""
        self._writer.close()
        self._finish.detach()

    # Changes

    def submit(self, change: Change, lease: Lease | None = None, *, patient: bool = False) -> Ticket[None]:
        """Queue a change; see `Store.submit`."""
        return self._writer.queue(Kept(change, lease), _size(change), patient=patient)

    def submit_together(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Ticket[None]]:
        """Queue changes of which either all are to be on disk or none."""
        return self._writer.queue_together([(Kept(change, lease), _size(change)) for change in changes])

    def backlog(self) -> int:
        """How many changes are queued that nobody has begun to write."""
        return self._writer.backlog()

    def write(self, work: Work[T]) -> Ticket[T]:
        """Queue `work` to be done in the writer's session, within a transaction; it may be done more than once."""
        return self._writer.queue(work)

    def write_once(self, work: Work[T], touches: Sequence[tuple[str, str]] = ()) -> Ticket[T]:
        """The same for work that may not be done twice, such as what depends on what is there; see `once`."""
        return self._once.write(work, touches)

    def delete_thread(self, thread_id: str) -> Ticket[None]:
        """Forget a thread with all that it holds. Whoever runs it is refused from then on."""

        def work(session: Session) -> None:
            # The thread first: then whoever runs it writes nothing more, not even while this is going on.
            session.rows("forget_thread", {"thread": thread_id})
            session.rows("saver_hold", {"thread": thread_id})
            for what in FORGOTTEN:
                session.rows(f"forget_{what}", {"thread": thread_id})

        return self.write(work)

    @cached_property
    def items(self) -> Items:
        """Long-term memory in the same database. `Items(store, index=..., ttl=...)` is the same with other settings."""
        return Items(self)

    def fence(self, session: Session, leases: Iterable[Lease]) -> dict[Lease, StoreError]:
        """Of these leases, those that are no longer good: to be asked first by `work` that is done under some.

        The threads of the others stay as they are until the session's transaction ends.
        """
        return self._leases.fence(session, leases)

    # Upkeep

    def copy_thread(self, source: str, target: str) -> Ticket[None]:
        """Keep everything that a thread holds once more, under the name `target`; both go on independently.

        The future fails with `RunNotFoundError` when `source` holds nothing, with `StoreError` when `target` does.
        """
        return self.write_once(upkeep.Copy(source, target, self.label))

    def pin(self, thread_id: str, checkpoint_id: str | None = None) -> Ticket[None]:
        """Never prune a checkpoint, or without its id all of a thread; a graph can be run from there for ever.

        The future fails with `RunNotFoundError` when there is no such checkpoint.
        """
        return self.write(lambda session: upkeep.pin(session, thread_id, checkpoint_id, self.label))

    def unpin(self, thread_id: str, checkpoint_id: str | None = None) -> Ticket[None]:
        """Take a pin back; harmless without one."""
        return self.write(lambda session: upkeep.unpin(session, thread_id, checkpoint_id))

    def prune(self, retention: Retention, *, thread_id: str | None = None, dry_run: bool = False) -> list[Pruned]:
        """Delete what a retention does not keep, of a thread or of all; what was deleted of each, on disk by then.

        With `dry_run` nothing is deleted. What a thread needs to go on stays, also while somebody runs it.
        """
        return upkeep.prune(self, retention, thread_id, dry_run=dry_run)

    def check(self, thread_id: str | None = None) -> list[Finding]:
        """What is wrong with what is kept, in a thread or anywhere. Needs neither the graphs nor the keys."""
        return checking.check(self, thread_id)

    def stats(self, *, largest: int = 10) -> Stats:
        """How much is kept, who runs threads, and in which database."""
        return self.look(lambda session: checking.stats(session, self.label, largest))

    # Leases

    def claim(self, thread_id: str, owner: str, *, on_busy: OnBusy = "reject") -> Ticket[Lease]:
        """Become the only runner of a thread; see `Store.claim`."""
        leases = self._leases

        def judge(ticket: Future[Lease]) -> None:
            if ticket.exception() is not None:
                leases.unclaimed(thread_id, owner)

        ticket = self.write(lambda session: leases.claim(session, thread_id, owner, on_busy))
        ticket.add_done_callback(judge)
        return ticket

    def release(self, lease: Lease) -> None:
        """Stop being the runner of a thread. Returns at once: whoever claims it next is queued behind."""
        leases = self._leases
        leases.drop(lease)
        released = self.write(lambda session: leases.release(session, lease))
        released.add_done_callback(lambda _: leases.tell(lease.thread_id))
        if (retention := self._retention) is not None:
            applied = self.write(lambda session: upkeep.apply(session, lease.thread_id, retention))
            applied.add_done_callback(lambda done: _say(done, lease.thread_id))

    def holds(self, lease: Lease) -> bool:
        """Whether the lease can be relied on without asking."""
        return self._leases.good(lease)

    def confirm(self, lease: Lease) -> Ticket[None]:
        """Ask the database whether the lease is good; see `Store.confirm`."""
        return self.write(lambda session: self._leases.confirm(session, lease))

    def freed(self, thread_id: str, waiter: Callable[[], object]) -> Callable[[], None]:
        """Call `waiter` when this process releases the thread; what is returned takes that back."""
        return self._leases.freed(thread_id, waiter)

    def owner(self, thread_id: str) -> str | None:
        """Who runs the thread, unless their lease has lapsed."""
        rows = self.ask("owner", {"thread": thread_id})
        return rows[0][0] if rows else None

    # Questions

    def ask(self, name: str, values: Mapping[str, Any]) -> list[Any]:
        """What a statement returns that changes nothing."""
        return self.look(lambda session: session.rows(name, values))

    def look(self, work: Work[T]) -> T:
        """What `work` finds out in a session, changing nothing. Over a connection that breaks it asks again."""
        end, pause = time.monotonic() + self._patience, 0.02
        while True:
            if not self._finish.alive:
                raise StoreError(f"the store {self._place.label} is closed")
            try:
                with self._place.reading() as session:
                    return work(session)
            except Exception as error:
                if not self._place.passes(error) or time.monotonic() + pause >= end:
                    if isinstance(error, StoreError):
                        raise
                    raise StoreError(f"cannot read {self._place.label}: {error}") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def thread(self, thread_id: str, namespace: str = "", checkpoint_id: str | None = None) -> ThreadRecord | None:
        """What is needed to stand at a checkpoint; see `Store.thread`."""
        while True:
            named = self._newest(thread_id, namespace) if checkpoint_id is None else checkpoint_id
            found = None if named is None else self._stood(thread_id, namespace, named)
            if found is None and (named is None or checkpoint_id is not None):
                return None
            # Between two questions the thread may have gone on, and what is older have been pruned: then once more.
            if found is not None and (len(found.chain) == 1 or self._still(found.chain[0])):
                return found

    def _newest(self, thread_id: str, namespace: str) -> str | None:
        rows = self.ask("newest_checkpoint", {"thread": thread_id, "namespace": namespace})
        return rows[0][0] if rows else None

    def _still(self, kept: CheckpointKept) -> bool:
        return bool(self.ask("has_checkpoint", {"thread": kept.thread_id, "checkpoint": kept.checkpoint_id}))

    def _stood(self, thread_id: str, namespace: str, checkpoint_id: str) -> ThreadRecord | None:
        place = {"thread": thread_id, "namespace": namespace}
        chain = tuple(_checkpoint(row) for row in self.ask("chain", {**place, "checkpoint": checkpoint_id}))
        if not chain:
            return None
        results: dict[str, list[ResultKept]] = {kept.checkpoint_id: [] for kept in chain}
        for row in self.ask("results_of_chain", {**place, "checkpoints": list(results)}):
            kept = _result(row)
            results[kept.checkpoint_id].append(kept)
        return ThreadRecord(chain, results)

    def history(self, thread_id: str, namespace: str = "") -> list[CheckpointKept]:
        """All checkpoints of a thread, the newest first."""
        return [_checkpoint(row) for row in self.ask("history", {"thread": thread_id, "namespace": namespace})]

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so; see `Store.run`."""
        rows = self.ask("runs_named", {"start": run_id}) if run_id else []
        exact = [row for row in rows if row[0] == run_id]
        label = self._place.label
        if len(rows) > 1 and not exact:
            raise RunNotFoundError(f"more than one run begins with {run_id!r} in {label}; give more of its id")
        if not rows:
            raise RunNotFoundError(f"there is no run {run_id!r} in {label}", hint="list them: fanfold runs ls")
        return _record((exact or rows)[0])

    def runs(self, *, limit: int = 50, until: float | None = None) -> list[RunRecord]:
        """The newest runs first, all with a negative limit; of those that were created no later than `until`."""
        asked = {"limit": limit if limit >= 0 else _ALL, "until": _EVER if until is None else until}
        return [_record(row) for row in self.ask("runs", asked)]

    def results(self, run_id: str) -> list[ResultKept]:
        """Every result of a run that is still held."""
        return [_result(row) for row in self.ask("results_of_run", {"run": run_id})]

    def events(self, run_id: str, *, first: int = 0) -> list[Mapping[str, Any]]:
        """What happened in a run, from number `first` on."""
        if not first:
            rows = self.ask("events_of_run", {"run": run_id})
            return [event for row in rows for event in _events(row, run_id)]
        rows = self.ask("events_from", {"run": run_id, "no": first})
        held = [event for no, _, text, packed, _ in rows for event in _events((no, text, packed), run_id)]
        return held[first - rows[0][0] :] if rows else []

    def count_events(self, run_id: str) -> int:
        """How much has happened in a run."""
        ((number,),) = self.ask("count_events", {"run": run_id})
        return int(number)


_ALL: Final = 2**62
_EVER: Final = float(2**53)


def _say(applied: Future[None], thread_id: str) -> None:
    """Nobody waits for a retention, so one that could not be applied is a warning."""
    if (error := applied.exception()) is not None:
        warnings.warn(f"the retention could not be applied to thread {thread_id!r}: {error}", stacklevel=2)


# Rows


def _checkpoint(row: Sequence[Any]) -> CheckpointKept:
    return CheckpointKept(*row)


def _result(row: Sequence[Any]) -> ResultKept:
    return ResultKept(*row)


def _record(row: Any) -> RunRecord:
    *plain, settings = row
    names = ("run_id", "thread_id", "graph", "digest", "status", "created", "finished", "error")
    return RunRecord(**dict(zip(names, plain, strict=True)), settings=_from_json(settings, f"run {row[0]!r}, settings"))


def _events(row: Sequence[Any], run_id: str) -> list[Mapping[str, Any]]:
    no, text, value = row
    where = f"event {no} of run {run_id!r}"
    return [_from_json(text, where) for text in unpacked(text, value, where)]


def _from_json(text: str, where: str) -> Mapping[str, Any]:
    try:
        value: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise CorruptRecordError(f"{where} is not readable: {error}") from error
    return value


def _size(change: Change) -> int:
    """About how many bytes a change is."""
    return len(getattr(change, "data", b""))
