"""What one sitting of a run writes down as it goes, and what it finds written when it begins.

The moment a task has finished, its result goes to the store. A checkpoint is taken when the results since the last
one have outgrown it, and when the run ends; until then the state is that checkpoint and the results after it. So the
bytes written stay in proportion to what the tasks returned, however long the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

from fanfold.errors import CorruptRecordError, NotStorableError, UsageError, did_you_mean
from fanfold.events import Event, to_record
from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.plan import Plan
from fanfold.store.base import (
    DONE,
    FAILED,
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
from fanfold.types import Send

EVENTS_AT_ONCE: Final = 256
EVENTS_AFTER: Final = 0.05
"""Events are queued for the store when so many are gathered, so many seconds after the first, and at the end. They do
not ride with a result: somebody waits for that one, and nobody for them."""


_CHANGED: Final = "the graph has changed since the thread was stored: give it back what it had, or begin another thread"


class Journal(Protocol):
    """The record of one sitting."""

    def open(self) -> None:
        """The sitting begins: from here on there is a run to be listed and resumed."""

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

    def open(self) -> None:
        """Nothing is kept."""

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
        self._since = sum(map(len, self._results.values()))
        self._events: list[Mapping[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None

    def open(self) -> None:
        self._submit(RunOpened(self._run))

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
        if not isinstance(answer, dict) or not answer.keys() >= {"fingerprint", "answer"}:
            raise CorruptRecordError(f"{where} is not what was written there: {answer!r:.80}")
        return answer

    def keep(self, task: Task, result: Result) -> Future[None]:
        try:
            return self._keep(task.id, task.node, task.step, from_result(result), None)
        except NotStorableError:
            for key, value in result.writes:  # one of them raises as well, and its message names the key
                self._codec.encode(value, f"key {key!r}, as node {task.node!r} wrote it")
            raise

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
        if not self._events:
            self._timer = asyncio.get_running_loop().call_later(EVENTS_AFTER, self._flush)
        self._events.append(to_record(event))
        if len(self._events) >= EVENTS_AT_ONCE:
            self._flush()

    async def close(self, status: str, error: str) -> None:
        self._flush()
        await self._close(status, error)
        if self._failure is not None and status == DONE:  # not all of it is on disk, so it is not done
            await self._close(FAILED, f"{type(self._failure).__name__}: {self._failure}")
        self._raise_failure()

    async def _close(self, status: str, error: str) -> None:
        text = error.encode("utf-8", "backslashreplace").decode()  # a message may hold half a character
        await on_disk(self._submit(RunClosed(self._run.run_id, status, time.time(), text)))

    def _keep(self, task_id: str, name: str, step: int, value: Any, parent: str | None) -> Future[None]:
        self._raise_failure()  # nobody waits for most changes, so a store that fails is noticed here, not at the end
        where = f"the result of {name!r}"
        data = self._codec.encode(value, where)
        self._since += len(data)
        return self._submit(ResultKept(self._run.thread_id, self._run.run_id, task_id, name, step, data, parent))

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
    Raises `UsageError` when the graph has changed so that it cannot go on from there.
    """
    where = f"checkpoint {found.step} of thread {thread_id!r}"
    snapshot = to_snapshot(codec.decode(found.checkpoint, where), where)
    _check_fits(ledger.plan, snapshot, thread_id)
    ledger.restore(snapshot)
    while not ledger.over:
        tasks = ledger.pending()
        known = [_known(ledger.plan, journal, task) for task in tasks]
        results = [result for result in known if result is not None]
        _check_nodes(ledger.plan, (goal for result in results for goal in result.goto), thread_id)
        if len(results) < len(tasks):
            return
        for task, result in zip(tasks, results, strict=True):
            ledger.finish(task, result)


def _known(plan: Plan, journal: Journal, task: Task) -> Result | None:
    node = plan.nodes[task.node]
    nothing_to_run = node.action is None and not node.routes  # START with plain edges only, which is never kept
    return Result() if nothing_to_run else journal.recall(task)


def _check_fits(plan: Plan, snapshot: Snapshot, thread_id: str) -> None:
    _check_nodes(plan, (task.node for task in snapshot.tasks), thread_id)
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


async def on_disk(ticket: Future[None] | None) -> None:
    """Wait until a change is on disk. Raises the `StoreError` that kept it from getting there."""
    if ticket is not None:
        await asyncio.wrap_future(ticket)
