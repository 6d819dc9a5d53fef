"""What one sitting of a graph writes down as it goes, and what it finds written when it begins.

The moment a task has finished, its result goes to the store, on the checkpoint that the task started from. After each
step there is a new checkpoint. It holds all values only when that is much shorter than what has to be read otherwise.
Any other says what is to run next, and holds the values that a reducer of the user's has made, since that need not make
the same again; the rest follows from its parent's values and the results there. So the bytes written stay in proportion
to what the tasks returned, however long the run, and those that are read to what the state holds: a list that only
grows is never written whole, and values that take the place of others are, now and then.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from fanfold.chance import unique
from fanfold.errors import CorruptRecordError, NotStorableError, UsageError, did_you_mean
from fanfold.events import Event, to_record
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.plan import Plan
from fanfold.store.base import (
    DONE,
    FAILED,
    Change,
    CheckpointKept,
    EventsKept,
    Lease,
    ResultKept,
    RunClosed,
    RunOpened,
    RunRecord,
    Store,
    ThreadRecord,
)
from fanfold.store.records import from_result, from_snapshot, to_result, to_snapshot, to_step
from fanfold.store.serde import Codec
from fanfold.store.ticket import Ticket
from fanfold.types import START, Interrupt, Send

EVENTS_AT_ONCE: Final = 256
EVENTS_AFTER: Final = 0.05
"""Events are queued for the store when so many are gathered, so many seconds after the first, and at the end. They do
not ride with a result: somebody waits for that one, and nobody for them."""

MOST_WAITING: Final = 4096
"""Changes that wait for the store before the run waits, too."""

WORTH: Final = 3
"""How many times as much as all values has to be read before they are written whole: of all that is stored, at most
every third byte is there for that."""

_LOOK_AGAIN: Final = 2
"""How many times as much has to be read until it is looked again whether they would be shorter, where they were not."""

_ROW: Final = 256
"""To read a row takes about as long as to read so many bytes."""

_CHANGES: Final = ("", "command")
"""Where a checkpoint keeps what Commands from outside have changed: it is of no task."""

GIVEN: Final = ("", "given")
"""Where a checkpoint keeps the answers by id that people have given: they are of no task until they are asked for."""

_DONE_ONCE: Final = frozenset({"result", "child", "error"})
"""What a task has come to that is not so any more when it runs again."""

_RESULTS: Final = ("result", "command", "update")
"""What is written down as a task's result is: besides one, what Commands have changed, and what an update has said in
the place of a task."""

_CHANGED: Final = "the graph has changed since; run it with the graph that began it, or in a new thread"


@dataclass(frozen=True, slots=True)
class Position:
    """A checkpoint, read: where the ledger stands there, and what its tasks have come to since, by (task id, kind).

    Those of later steps that had run ahead are there, too; as they are stored, in `early`. `line` are the checkpoints
    before this one at which tasks were begun that are not of the past here. `read` is what had to be read for this, in
    bytes, and `look` at how many it is looked whether all values together are shorter.
    """

    checkpoint_id: str
    parent_id: str | None
    source: str
    created: float
    run_id: str
    snapshot: Snapshot
    metadata: Mapping[str, Any]
    found: Mapping[tuple[str, str], Any]
    read: int
    look: int
    early: Mapping[tuple[str, str], ResultKept] = field(default_factory=dict)
    line: tuple[str, ...] = ()

    def stand(self, ledger: Ledger) -> None:
        """Bring a ledger to where this is, with what Commands have changed there since."""
        ledger.restore(self.snapshot)
        ledger.change(self.changes)

    @property
    def changes(self) -> Result:
        """What Commands have changed at this checkpoint."""
        changes: Result = self.found.get(_CHANGES, Result())
        return changes

    def result(self, task: Task) -> Result | None:
        """What the task decided, if it has ended."""
        result: Result | None = self.found.get((task.id, "result"))
        return result

    def told(self, task: Task) -> Result | None:
        """What the task decided, or what an update has said in its place."""
        told: Result | None = self.result(task) or self.found.get((task.id, "update"))
        return told

    def asked(self, task: Task) -> tuple[Interrupt, ...]:
        """The questions that the task stopped at last, answered since or not."""
        asked: tuple[Interrupt, ...] = self.found.get((task.id, "interrupt"), ())
        return asked

    def interrupts(self, task: Task) -> tuple[Interrupt, ...]:
        """The questions that the task has asked and that nobody has answered."""
        return self.asked(task) if self.result(task) is None else ()

    @property
    def open_interrupts(self) -> tuple[Interrupt, ...]:
        """All questions that nobody has answered, in the order of the tasks."""
        return tuple(interrupt for task in self.snapshot.tasks for interrupt in self.interrupts(task))


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def new_checkpoint_id() -> str:
    """An id that sorts after every one that was made before, in the form of a UUID."""
    return _as_uuid(f"{time.time_ns():016x}{unique()}")


def _as_uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True)
class _Header:
    """What a checkpoint says: where the ledger stands, and about itself.

    With `looked`, to write all values was found not to be worth it there.
    """

    snapshot: Snapshot
    metadata: Mapping[str, Any]
    line: tuple[str, ...] = ()
    looked: bool = False

    def plain(self, source: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The header as plain data with these values, without what follows from `source` and the step."""
        implied = _implied(source, self.snapshot.step)
        more = {
            "m": {key: value for key, value in self.metadata.items() if key not in implied or implied[key] != value},
            "l": [bytes.fromhex(id.replace("-", "")) for id in self.line],
            "k": int(self.looked),
        }
        return {**from_snapshot(self.snapshot, values), **{name: value for name, value in more.items() if value}}


def _implied(source: str, step: int) -> dict[str, Any]:
    """What the metadata of a checkpoint says that is no inner graph's."""
    return {"source": source, "step": step, "parents": {}}


def _to_header(data: Any, source: str, where: str) -> _Header:
    """The header that was written as this data, by an earlier version with whole names."""
    snapshot = to_snapshot(data, where)
    if "metadata" in data:
        metadata, line = data["metadata"], data.get("line", ())
    else:
        line = [_as_uuid(id.hex()) if isinstance(id, bytes) else id for id in data.get("l", ())]
        metadata = data.get("m", {})
    if not isinstance(metadata, dict) or not _is_line(line):
        raise CorruptRecordError(f"{where} is not what was written there: {data!r:.80}")
    return _Header(snapshot, {**_implied(source, snapshot.step), **metadata}, tuple(line))


class Reader:
    """Turns the records of one graph in one namespace back into positions."""

    def __init__(self, plan: Plan, codec: Codec, store: Store, thread_id: str, seed: str) -> None:
        self._plan = plan
        self._codec = codec.bound(store)
        self._thread_id = thread_id
        self._seed = seed

    def position(self, found: ThreadRecord) -> Position:
        """Where `found` stands. Raises `UsageError` when the graph has changed so that it cannot stand there."""
        (position,) = self.positions(found, {found.head.checkpoint_id})
        return position

    def positions(self, found: ThreadRecord, wanted: Collection[str]) -> list[Position]:
        """Where those of the checkpoints of `found` stand that are wanted: one way through all of them.

        Raises `UsageError` when the graph has changed so that it cannot stand at one of them.
        """
        chain = [self._codec.decode(kept.data, self._where(kept)) for kept in found.chain]
        places = [place for place, kept in enumerate(found.chain) if kept.checkpoint_id in wanted]
        records = {place: ThreadRecord(found.chain[: place + 1], found.results) for place in places}
        headers = {place: self._header(record, chain[place]) for place, record in records.items()}
        ledger = Ledger(self._plan, seed=self._seed, step_limit=1)
        ways = enumerate(self._replay(ledger, found, chain))
        return [
            self._position(records[place], headers[place], ledger.snapshot().values, *way)
            for place, way in ways
            if place in headers
        ]

    def _header(self, found: ThreadRecord, told: Any) -> _Header:
        header = _to_header(told, found.head.source, self._where(found.head))
        _check_fits(self._plan, header.snapshot, self._thread_id)
        return header

    def _position(
        self, found: ThreadRecord, header: _Header, values: Mapping[str, Any], read: int, look: int
    ) -> Position:
        head, snapshot = found.head, header.snapshot
        told = {(kept.task_id, kept.kind): kept for kept in (*_early(found), *_hanging(found))}
        if _CHANGES in told:  # what had run ahead may have seen other values
            told = {key: kept for key, kept in told.items() if kept.step <= head.step + 1}
        hanging = {key: self._decoded(kept) for key, kept in told.items()}
        chosen = (goal for result in hanging.values() if isinstance(result, Result) for goal in result.goto)
        _check_nodes(self._plan, chosen, self._thread_id)
        return Position(
            checkpoint_id=head.checkpoint_id,
            parent_id=head.parent_id,
            source=head.source,
            created=head.created,
            run_id=head.run_id,
            snapshot=replace(snapshot, values=values),
            metadata=header.metadata,
            found=hanging,
            read=read + _weight(_hanging(found)),
            look=look,
            early={key: kept for key, kept in told.items() if kept.step > head.step + 1},
            line=header.line,
        )

    def _replay(self, ledger: Ledger, found: ThreadRecord, chain: Sequence[Any]) -> Iterator[tuple[int, int]]:
        """Bring the ledger's values from those of the full checkpoint to those of each one after it, up to the head.

        `chain` is what each checkpoint says. For each there is what that takes to read, and at how much it is worth to
        look for a shorter way.
        """
        where = self._where(found.chain[0])
        ledger.restore(to_snapshot(chain[0], where))
        tasks, _ = to_step(chain[0], where)
        read = _weight(found.chain[:1])
        look = WORTH * read
        yield read, look
        results: dict[str, ResultKept] = {}
        for before, kept, told in zip(found.chain, found.chain[1:], chain[1:], strict=False):
            if before.source != "loop":  # what had run ahead of it does not count after it
                results = {}
            hanging = found.results[before.checkpoint_id]
            for each in hanging:
                if each.kind == "result":
                    results[each.task_id] = each
            following, values = to_step(told, self._where(kept))
            read += _weight(hanging) if hanging else 0
            look = _LOOK_AGAIN * read if told.get("k") else look
            read += len(kept.data) + _ROW
            if kept.source == "loop":
                ledger.refold([(task, self._result(ledger, task, results)) for task in tasks], values)
            tasks = following
            yield read, look

    def _result(self, ledger: Ledger, task: Task, results: Mapping[str, ResultKept]) -> Result:
        if task.node == START:  # what it writes is the input, which its task holds
            return Result(ledger.input_writes(task.arg))
        if task.id not in results:
            raise CorruptRecordError(
                f"the result of node {task.node!r}, step {task.step}, thread {self._thread_id!r} is missing"
            )
        result: Result = self._decoded(results[task.id])
        return Result(result.writes)  # what it led to, the next checkpoint says

    def _where(self, kept: CheckpointKept) -> str:
        return f"checkpoint {kept.checkpoint_id} (step {kept.step}) of thread {self._thread_id!r}"

    def _decoded(self, kept: ResultKept) -> Any:
        where = f"{_what(kept.kind, kept.name)}, step {kept.step}, thread {self._thread_id!r}"
        data = self._codec.decode(kept.data, where)
        if kept.kind in _RESULTS:
            return to_result(data, where)
        if kept.kind == "interrupt":
            return tuple(Interrupt(*parts) for parts in data)
        if kept.kind == "child" and (not isinstance(data, dict) or not data.keys() >= {"fingerprint", "answer"}):
            raise CorruptRecordError(f"{where} is not what was written there: {data!r:.80}")
        return data


@dataclass(slots=True)
class Record:
    """What is the same for every graph of one run: its store, its name there, and the events that it gathers.

    Changes go to the store as they come. With `at_end` they are held back until the run leaves the process; then the
    last checkpoint of each graph is stored, and what hangs on it.
    """

    store: Store
    run: RunRecord
    lease: Lease | None = None
    at_end: bool = False
    next_event: int = 0
    failure: BaseException | None = None
    _held: dict[str, list[Callable[[], Change]]] = field(default_factory=dict)
    _events: list[Mapping[str, Any]] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _last: Ticket[None] | None = None

    def open(self, at: str = "") -> None:
        """The sitting begins: from here on there is a run to be listed and resumed. `at` is as in `RunOpened`."""
        self.submit(RunOpened(self.run, at))

    def event(self, event: Event) -> None:
        """Something happened."""
        if not self._events:
            self._timer = asyncio.get_running_loop().call_later(EVENTS_AFTER, self._flush)
        self._events.append(to_record(event))
        if len(self._events) >= EVENTS_AT_ONCE:
            self._flush()

    def keep(self, change: ResultKept | CheckpointKept, *, patient: bool) -> Ticket[None] | None:
        """Queue what is to be stored; the future is resolved when it is on disk. Raises what kept earlier ones off.

        What is `patient`, nobody is going to wait for.
        """
        self.raise_failure()  # nobody waits for most changes, so a store that fails is noticed here, not at the end
        if self.at_end:
            self._held.setdefault(change.namespace, []).append(lambda: change)
            return None
        return self.submit(change, patient=patient)

    def keep_last(self, namespace: str, checkpoint: Callable[[], CheckpointKept]) -> None:
        """Hold a checkpoint back until the end, in the place of all that was held of its graph; it is made then."""
        self._held[namespace] = [checkpoint]

    def held(self, namespace: str) -> ThreadRecord | None:
        """Where a graph stands by what is held back of it, if anything is: a later call of it begins there."""
        changes = [make() for make in self._held.get(namespace, ())]
        checkpoints = [change for change in changes if isinstance(change, CheckpointKept)]
        if not checkpoints:
            return None
        id = checkpoints[-1].checkpoint_id
        hanging = [change for change in changes if isinstance(change, ResultKept) and change.checkpoint_id == id]
        return ThreadRecord((checkpoints[-1],), {id: hanging})

    def submit(self, change: Change, *, patient: bool = False) -> Ticket[None]:
        """Queue a change at once; one that is `patient` may be stored with the next."""
        ticket = self._last = self.store.submit(change, self.lease, patient=patient)
        ticket.add_done_callback(self._judge)
        return ticket

    def crowded(self) -> bool:
        """Whether so much waits for the store that the run is to wait, too."""
        return self.store.backlog() > MOST_WAITING

    async def room(self) -> None:
        """Wait while too much waits for the store: a run must not fill the memory because a disk is slow."""
        if self._last is not None and self.crowded():
            await on_disk(self._last)

    def sure(self) -> bool:
        """Whether this process may run the thread for certain. Raises what kept an earlier change from the disk."""
        self.raise_failure()
        return self.lease is None or self.store.holds(self.lease)

    async def check(self) -> None:
        """Raise `LeaseLostError` when somebody else runs the thread now, or when that cannot be told."""
        while not self.sure():
            assert self.lease is not None, "without one it is sure"
            await on_disk(self.store.confirm(self.lease))  # by the time we hear of it, it may have lapsed again

    async def written(self) -> None:
        """Wait until what was queued can be read. Raises the `StoreError` that kept the last of it off."""
        await on_disk(self._last)

    def flush(self) -> None:
        """Wait, blocking, until what was kept is on disk. Raises the `StoreError` that kept it off."""
        self.submit(EventsKept(self.run.run_id, [])).result()
        self.raise_failure()

    async def close(self, status: str, error: str) -> None:
        """The sitting has ended; returns when everything is on disk. Raises the `StoreError` that kept it off."""
        held, self._held = self._held, {}
        # All of it or nothing: a graph inside must not remember what the one around it knows nothing of.
        for ticket in self.store.submit_together([make() for of_one in held.values() for make in of_one], self.lease):
            ticket.add_done_callback(self._judge)
        self._flush()
        await self._close(status, error)
        if self.failure is not None and status == DONE:  # not all of it is on disk, so it is not done
            await self._close(FAILED, f"{type(self.failure).__name__}: {self.failure}")
        self.raise_failure()

    async def _close(self, status: str, error: str) -> None:
        # A message may hold half a character, or one that no database has.
        text = error.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
        await on_disk(self.submit(RunClosed(self.run.run_id, status, time.time(), text)))

    def raise_failure(self) -> None:
        """Raise what kept an earlier change from the disk, if anything did."""
        if self.failure is not None:
            raise self.failure

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events:
            self.submit(EventsKept(self.run.run_id, self._events, self.next_event), patient=True)
            self.next_event += len(self._events)
            self._events = []

    def _judge(self, ticket: Future[None]) -> None:
        self.failure = self.failure or ticket.exception()


class Unkept:
    """The journal of a graph whose run has no store. It remembers what this sitting needs of itself, and no more."""

    parent_id: str | None = None

    def __init__(self) -> None:
        self._id: str | None = None

    @property
    def checkpoint_id(self) -> str:
        """The id of the checkpoint, which is made when somebody asks."""
        if self._id is None:
            self._id = new_checkpoint_id()
        return self._id

    def recall(self, task_id: str, kind: str) -> Any:
        """Nothing was kept."""
        return None

    def follows(self, checkpoint_id: str) -> bool:
        """Nobody has begun anything in an earlier sitting."""
        return False

    def keep(
        self,
        task: Task,
        kind: str,
        value: Any,
        *,
        name: str = "",
        parent: str | None = None,
        patient: bool = False,
    ) -> None:
        """Nothing is kept."""

    def change(self, step: int, change: Result) -> None:
        """Nothing is kept."""

    def give(self, step: int, answers: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def checkpoint(self, ledger: Ledger, source: str, metadata: Mapping[str, Any], *, due: bool = False) -> None:
        """Nothing is kept; the checkpoint has an id all the same."""
        self._id = None


class Kept:
    """The journal of a graph whose run has a store: its checkpoints in one namespace, and what hangs on the newest.

    With `again`, the thread has moved on from the position, and its tasks are to run once more: the answers that they
    were given count, what they came to does not. That stays where it is, for those who look at it from further on.
    """

    def __init__(
        self,
        record: Record,
        codec: Codec,
        plan: Plan,
        namespace: str,
        position: Position | None,
        *,
        again: bool = False,
        around: str | None = None,
    ) -> None:
        self._record = record
        self._codec = codec.bound(record.store)
        self._plan = plan
        self._namespace = namespace
        self._around = around
        self._branch = ""  # of what hangs on the present checkpoint
        self.checkpoint_id: str | None = position.checkpoint_id if position else None
        held = record.held(namespace)
        # What is held back gives way to what comes now, which follows from what that would have followed from.
        self._begun = self.checkpoint_id if held is None else held.head.parent_id
        self.parent_id: str | None = position.parent_id if position else None
        self._found: dict[tuple[str, str], Any] = dict(position.found) if position else {}
        self._early: dict[tuple[str, str], tuple[Any, ResultKept]] = {}
        """What tasks of later steps have come to."""
        self._step = position.snapshot.step + 1 if position else 0
        self._line: list[tuple[int, str]] = [(sys.maxsize, id) for id in position.line] if position else []
        self._read = position.read if position else 0
        self._look = position.look if position else 0
        if again:
            self._found = {key: value for key, value in self._found.items() if key[1] not in _DONE_ONCE}
            self._branch = unique()
        elif position:
            self._early = {key: (self._found.pop(key), kept) for key, kept in position.early.items()}

    def recall(self, task_id: str, kind: str) -> Any:
        """What the task has come to on the present checkpoint, in this sitting or an earlier one; None for nothing."""
        found = self._found.get((task_id, kind))
        return self._early.get((task_id, kind), _NOTHING)[0] if found is None else found

    def follows(self, checkpoint_id: str) -> bool:
        """Whether a task of the present step, or of a later one, may have been begun at this checkpoint."""
        return checkpoint_id == self.checkpoint_id or any(id == checkpoint_id for _, id in self._line)

    def keep(
        self,
        task: Task,
        kind: str,
        value: Any,
        *,
        name: str = "",
        parent: str | None = None,
        patient: bool = False,
    ) -> Ticket[None] | None:
        """Queue what a task has come to; the future, if there is one, is resolved when it is on disk.

        What is `patient`, nobody is going to wait for.
        """
        name = name or task.node
        data = self._encoded(kind, value, name)
        run = self._record.run
        assert self.checkpoint_id is not None, "a checkpoint is taken before the first task begins"
        kept = ResultKept(
            thread_id=run.thread_id,
            namespace=self._namespace,
            checkpoint_id=self.checkpoint_id,
            run_id=run.run_id,
            task_id=task.id,
            kind=kind,
            name=name,
            step=task.step,
            data=data,
            parent=parent,
            attempt=unique(),
            branch=self._branch,
        )
        if task.step > self._step:
            self._early[task.id, kind] = value, kept
        else:
            self._found[task.id, kind] = value
        self._read += _weight([kept])
        return self._record.keep(kept, patient=patient)

    def change(self, step: int, change: Result) -> None:
        """Keep what a Command has changed at the present checkpoint, beside what others had."""
        if change != Result():
            self._early = {}  # what had run ahead may have seen other values
            before: Result = self._found.get(_CHANGES, Result())
            whole = Result((*before.writes, *change.writes), (*before.goto, *change.goto))
            self.keep(Task(*_CHANGES, step), "command", whole)

    def give(self, step: int, answers: Mapping[str, Any]) -> None:
        """Keep answers by the ids of their questions: a question may not come up before another one stops its node."""
        if answers:
            self.keep(Task(*GIVEN, step), GIVEN[1], {**(self.recall(*GIVEN) or {}), **answers})

    def checkpoint(self, ledger: Ledger, source: str, metadata: Mapping[str, Any], *, due: bool = False) -> None:
        """The ledger stands somewhere new: keep it, with all values when that is worth it, or when it is `due`."""
        changed = _CHANGES in self._found  # a replay looks at what tasks have returned, and at nothing else
        at_end = self._record.at_end
        # What is run again does not follow from the results that stand there.
        full = due or changed or at_end or self.checkpoint_id is None or bool(self._branch)
        snapshot = ledger.snapshot()
        if source != "loop":  # what had run ahead of this does not follow from it
            self._early = {}
        header = _Header(snapshot, metadata, self._lengthened(ledger, snapshot))
        branch = self._branch
        self.parent_id = self._begun if at_end else self.checkpoint_id
        self.checkpoint_id, self._found, self._branch = new_checkpoint_id(), {}, ""
        run = self._record.run
        kept = CheckpointKept(
            thread_id=run.thread_id,
            namespace=self._namespace,
            checkpoint_id=self.checkpoint_id,
            parent_id=self.parent_id,
            run_id=run.run_id,
            step=snapshot.step,
            source=source,
            created=time.time(),
            full=full,
            data=b"",
            around=self._around,
        )
        if at_end:
            self._record.keep_last(self._namespace, lambda: self._written(kept, header, snapshot.values))
            self._hang_again()
            return
        kept = self._shorter(kept, header, ledger)
        if kept.full or branch:  # from here, nobody looks back for what tasks that ran ahead have come to
            self._hang_again()  # first, so that the checkpoint is never there without them
        self._record.keep(kept, patient=True)

    def _shorter(self, kept: CheckpointKept, header: _Header, ledger: Ledger) -> CheckpointKept:
        """The checkpoint, with all values if it has to be full, or if they are worth it."""
        if kept.full or self._read >= self._look:
            whole = self._written(replace(kept, full=True), header, header.snapshot.values)
            weight = _weight([whole])
            if kept.full or WORTH * weight <= self._read:
                self._read, self._look = weight, WORTH * weight
                return whole
            header = replace(header, looked=True)
            self._look = _LOOK_AGAIN * self._read
        kept = self._written(kept, header, ledger.changed())
        self._read += _weight([kept])
        return kept

    def _lengthened(self, ledger: Ledger, snapshot: Snapshot) -> tuple[str, ...]:
        """Take the present checkpoint into the line, if tasks that were begun there are still to count, and step on."""
        if self.checkpoint_id is not None:
            self._line.append((self._step, self.checkpoint_id))
        self._step = snapshot.step + 1
        since = ledger.ahead_since()
        self._line = [] if since is None else [(step, id) for step, id in self._line if step >= since]
        # What is of this step now is found as any other is; what is of a past one, nobody asks for any more.
        self._early = {key: early for key, early in self._early.items() if early[1].step >= self._step}
        return tuple(id for _, id in self._line)

    def _hang_again(self) -> None:
        """Keep what tasks of this step and later ones have come to on the present checkpoint as well."""
        assert self.checkpoint_id is not None, "it was taken just now"
        for key, (value, kept) in self._early.items():
            again = replace(kept, checkpoint_id=self.checkpoint_id, branch=self._branch)
            self._early[key] = value, again
            self._record.keep(again, patient=True)

    def _written(self, kept: CheckpointKept, header: _Header, values: Mapping[str, Any]) -> CheckpointKept:
        try:
            told = header.plain(kept.source, values)
            return replace(kept, data=self._codec.encode(told, f"the state after step {kept.step}"))
        except NotStorableError:
            for task in header.snapshot.tasks:  # if it is what one of them is given, that says more
                what = "the input" if task.node == START else f"what was sent to node {task.node!r}"
                self._codec.encode(None if task.arg is MISSING else task.arg, what)
            raise

    def _encoded(self, kind: str, value: Any, name: str) -> bytes:
        if kind == "interrupt":
            value = [[interrupt.value, interrupt.id, interrupt.response_schema] for interrupt in value]
        if kind not in _RESULTS:
            return self._codec.encode(value, _what(kind, name))
        tracked = tuple(write for write in value.writes if self._plan.channels[write[0]].tracked)
        goto = tuple(replace(g, arg=self._plan.kept(g.arg)) if isinstance(g, Send) else g for g in value.goto)
        try:
            return self._codec.encode(from_result(replace(value, writes=tracked, goto=goto)), _what(kind, name))
        except NotStorableError:
            for key, written in tracked:  # one of them raises as well, and its message names the key
                self._codec.encode(written, f"key {key!r}, as node {name!r} wrote it")
            raise


_NOTHING: Final = (None, None)


def _hanging(found: ThreadRecord) -> Sequence[ResultKept]:
    """What hangs on the checkpoint itself."""
    return found.results[found.head.checkpoint_id]


def _early(found: ThreadRecord) -> list[ResultKept]:
    """What tasks that are still to come had come to at the checkpoints before, as far as this one follows from them."""
    early: list[ResultKept] = []
    for before, after in zip(found.chain[-2::-1], found.chain[:0:-1], strict=True):
        if after.source != "loop":
            break
        early += [kept for kept in found.results[before.checkpoint_id] if kept.step > found.head.step]
    return early


def _weight(rows: Sequence[CheckpointKept | ResultKept]) -> int:
    """What it takes to read these rows, in bytes."""
    return sum(len(row.data) + _ROW for row in rows)


def _is_line(line: Any) -> bool:
    return isinstance(line, list | tuple) and all(isinstance(id, str) for id in line)


def _what(kind: str, name: str) -> str:
    """What a record is, in the words of a message about it."""
    return _WHAT.get(kind, f"the {kind} of {{}}").format(repr(name))


_WHAT: Final = {
    "result": "the result of node {}",
    "child": "the answer of {}",
    "interrupt": "the question of {}",
    "answers": "the answers to the questions of {}",
    "command": "what a Command has changed",
    "given": "the answers that were given",
    "update": "the update as node {}",
}


def _check_fits(plan: Plan, snapshot: Snapshot, thread_id: str) -> None:
    _check_nodes(plan, (*(task.node for task in snapshot.tasks), *snapshot.deferred), thread_id)
    members = [set(seen) for seen in snapshot.joins]
    if len(members) != len(plan.joins) or any(
        not seen <= join.members for seen, join in zip(members, plan.joins, strict=True)
    ):
        raise UsageError(
            f"thread {thread_id!r} was run by a graph with other joins than graph {plan.name!r} has",
            hint=_CHANGED,
        )


def _check_nodes(plan: Plan, goals: Iterable[str | Send], thread_id: str) -> None:
    for goal in goals:
        name = goal.node if isinstance(goal, Send) else goal
        if name not in plan.nodes:
            raise UsageError(
                f"thread {thread_id!r} goes on with node {name!r}, which graph {plan.name!r} does not have"
                + did_you_mean(name, plan.nodes),
                hint=_CHANGED,
            )


async def on_disk(ticket: Ticket[None] | None) -> None:
    """Wait until a change is on disk. Raises the `StoreError` that kept it from getting there."""
    if ticket is not None:
        await ticket
