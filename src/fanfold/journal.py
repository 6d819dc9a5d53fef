"""What one sitting of a run writes down as it goes, and what it finds written when it begins.

The moment a task has finished, its result goes to the store. A checkpoint is taken when the results since the last
one have outgrown it, and when the run ends; until then the state is that checkpoint and the results after it. So the
bytes written stay in proportion to what the tasks returned, however long the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

from fanfold.errors import CorruptRecordError
from fanfold.events import Event, to_record
from fanfold.kernel.ledger import Ledger, Result, Task
from fanfold.store.base import (
    Change,
    CheckpointKept,
    EventsKept,
    ResultKept,
    RunClosed,
    RunOpened,
    RunRecord,
    Store,
    ThreadRecord,
)
from fanfold.store.records import from_result, from_snapshot, to_result, to_snapshot
from fanfold.store.serde import Codec

EVENTS_AT_ONCE: Final = 64
"""How many events are gathered before they are queued for the store; a result or the end takes them along too."""


class Journal(Protocol):
    """The record of one sitting."""

    def recall(self, task: Task) -> Result | None:
        """The task's result from an earlier sitting."""

    def recall_child(self, task_id: str) -> Mapping[str, Any] | None:
        """What an agent that a node called answered in an earlier sitting."""

    def keep(self, task: Task, result: Result) -> Future[None] | None:
        """Queue a task's result; the future, if there is one, is resolved when it is on disk."""

    def keep_child(self, task_id: str, name: str, parent: Task, answer: Mapping[str, Any]) -> Future[None] | None:
        """Queue what an agent answered."""

    def checkpoint(self, ledger: Ledger, *, due: bool = False) -> None:
        """A step has been folded; take a checkpoint if it is worth it, or if it is `due` anyway."""

    def event(self, event: Event) -> None:
        """Something happened."""

    async def close(self, status: str, error: str) -> None:
        """The sitting has ended; returns when everything is on disk. Raises the `StoreError` that kept it off."""


class Unkept:
    """The journal of a run that has no store."""

    def recall(self, task: Task) -> Result | None:
        """Nothing was kept."""
        return None

    def recall_child(self, task_id: str) -> Mapping[str, Any] | None:
        """Nothing was kept."""
        return None

    def keep(self, task: Task, result: Result) -> Future[None] | None:
        """Nothing is kept."""
        return None

    def keep_child(self, task_id: str, name: str, parent: Task, answer: Mapping[str, Any]) -> Future[None] | None:
        """Nothing is kept."""
        return None

    def checkpoint(self, ledger: Ledger, *, due: bool = False) -> None:
        """Nothing is kept."""

    def event(self, event: Event) -> None:
        """Nothing is kept."""

    async def close(self, status: str, error: str) -> None:
        """There is nothing to wait for."""


class Stored:
    """The journal of a run that has a store. `found` is what the thread held when the sitting began."""

    def __init__(self, store: Store, codec: Codec, run: RunRecord, found: ThreadRecord | None) -> None:
        self._store = store
        self._codec = codec
        self._run = run
        self._results = dict(found.results) if found else {}
        self._last_size = len(found.checkpoint) if found else 0
        self._since = 0
        self._events: list[Mapping[str, Any]] = []
        self._failure: BaseException | None = None
        self._submit(RunOpened(run))

    def recall(self, task: Task) -> Result | None:
        data = self._results.get(task.id)
        if data is None:
            return None
        where = f"the result of node {task.node!r}, step {task.step}, thread {self._run.thread_id!r}"
        return to_result(self._codec.decode(data, where), where)

    def recall_child(self, task_id: str) -> Mapping[str, Any] | None:
        data = self._results.get(task_id)
        if data is None:
            return None
        where = f"the answer of task {task_id}, thread {self._run.thread_id!r}"
        answer = self._codec.decode(data, where)
        if not isinstance(answer, dict):
            raise CorruptRecordError(f"{where} is a {type(answer).__name__}, not a record")
        return answer

    def keep(self, task: Task, result: Result) -> Future[None]:
        return self._keep(task.id, task.node, task.step, from_result(result), None)

    def keep_child(self, task_id: str, name: str, parent: Task, answer: Mapping[str, Any]) -> Future[None]:
        return self._keep(task_id, name, parent.step, dict(answer), parent.id)

    def checkpoint(self, ledger: Ledger, *, due: bool = False) -> None:
        if not due and self._since < self._last_size:
            return
        snapshot = ledger.snapshot()
        data = self._codec.encode(from_snapshot(snapshot), "the state")
        self._submit(CheckpointKept(self._run.thread_id, self._run.run_id, snapshot.step, data))
        self._last_size, self._since = len(data), 0

    def event(self, event: Event) -> None:
        self._events.append(to_record(event))
        if len(self._events) >= EVENTS_AT_ONCE:
            self._flush()

    async def close(self, status: str, error: str) -> None:
        self._flush()
        await on_disk(self._submit(RunClosed(self._run.run_id, status, time.time(), error)))
        self._raise_failure()

    def _keep(self, task_id: str, name: str, step: int, value: Any, parent: str | None) -> Future[None]:
        self._raise_failure()  # nobody waits for most changes, so a store that fails is noticed here, not at the end
        where = f"the result of {name!r}"
        data = self._codec.encode(value, where)
        self._since += len(data)
        self._flush()
        return self._submit(ResultKept(self._run.thread_id, self._run.run_id, task_id, name, step, data, parent))

    def _flush(self) -> None:
        if self._events:
            self._submit(EventsKept(self._run.run_id, self._events))
            self._events = []

    def _submit(self, change: Change) -> Future[None]:
        ticket = self._store.submit(change)
        ticket.add_done_callback(self._judge)
        return ticket

    def _judge(self, ticket: Future[None]) -> None:
        self._failure = self._failure or ticket.exception()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def replay(ledger: Ledger, journal: Journal, codec: Codec, found: ThreadRecord, thread_id: str) -> None:
    """Bring a fresh ledger to where the thread stands: its checkpoint, then every step whose results are all kept.

    The tasks of the step that is not complete are ready again; `journal.recall` still knows those that had finished.
    """
    where = f"checkpoint {found.step} of thread {thread_id!r}"
    ledger.restore(to_snapshot(codec.decode(found.checkpoint, where), where))
    while not ledger.over:
        tasks = ledger.pending()
        known = [journal.recall(task) for task in tasks]
        results = [result for result in known if result is not None]
        if len(results) < len(tasks):
            return
        for task, result in zip(tasks, results, strict=True):
            ledger.finish(task, result)


async def on_disk(ticket: Future[None] | None) -> None:
    """Wait until a change is on disk. Raises the `StoreError` that kept it from getting there."""
    if ticket is not None:
        await asyncio.wrap_future(ticket)
