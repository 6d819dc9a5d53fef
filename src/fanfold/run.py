"""The driver: runs the tasks that the ledger allows, and tells it what they returned.

One asyncio task per task of the graph, all of them in one task group. When one ends it is settled right there: its
result is kept, told to the ledger, and whatever became ready is started. There is no loop that watches, so the cost
of an ending does not depend on how many others are running.

What runs when::

    queued ─▶ slot taken ─▶ node's code ─▶ its conditional edges ─▶ slot given back ─▶ result kept ─▶ settled
                              │    ▲
                              ▼    │  an agent is called: the node's slot is given back while it waits
                            child task, with a slot and a stored result of its own

The first error stops the run: async siblings are cancelled, siblings in threads are let finish and their results are
kept; then it is raised, with a note that names node, step and task.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from fanfold.errors import did_you_mean
from fanfold.events import (
    Event,
    Noticed,
    StepFinished,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)
from fanfold.journal import Journal, on_disk
from fanfold.kernel.ledger import Ledger, Result, Task, Write
from fanfold.kernel.plan import Node
from fanfold.kernel.schema import updates_of
from fanfold.limits import Slots
from fanfold.types import Send
from fanfold.work.base import Executor
from fanfold.work.local import Inline, Threads

clock: Final = time.monotonic

_frame: contextvars.ContextVar[Frame | None] = contextvars.ContextVar("fanfold_frame", default=None)


class UnknownKeyWarning(UserWarning):
    """A node returned a key that the state does not have; it was ignored."""


class Emitter:
    """Hands each event to every subscriber. One that raises is removed and named; the run goes on."""

    def __init__(self, subscribers: Sequence[Callable[[Event], object]]) -> None:
        self._subscribers = list(subscribers)

    def __call__(self, event: Event) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001 - an onlooker must not be able to stop a run, whatever it raises
                self._subscribers.remove(subscriber)
                name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
                self(Noticed(clock(), f"subscriber {name} raised {_brief(error)} and was removed"))


@dataclass(slots=True)
class Frame:
    """Where the code that asks is running: inside which task of which run."""

    runner: Runner
    task: Task
    holding: bool = False
    _calls: Counter[str] = field(default_factory=Counter)
    _children: int = 0

    def child_id(self, name: str) -> str:
        """The id of the next call of agent `name` in this task: the same again when the task runs again."""
        index = self._calls[name]
        self._calls[name] += 1
        path = f"{self.task.id}|{name}|{index}"
        return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def pause(self) -> None:
        """A child is awaited: with the first, this task's slot is given back."""
        self._children += 1
        if self._children == 1 and self.holding:
            self.holding = False
            self.runner.slots.give()
            self.runner.emit(TaskPaused(clock(), self.task.id))

    async def proceed(self) -> None:
        """A child has ended: with the last, this task needs a slot again before its code goes on."""
        self._children -= 1
        if self._children == 0 and not self.holding:
            await self.runner.slots.take()
            self.holding = True
            self.runner.emit(TaskContinued(clock(), self.task.id))

    def end(self) -> None:
        """The task's code has ended, one way or another."""
        if self.holding:
            self.holding = False
            self.runner.slots.give()


def current_frame() -> Frame | None:
    """The frame of the node that is running this code, or None outside of any run."""
    return _frame.get()


class Runner:
    """Drives one ledger until it is over. Used once, from one event loop.

    `settings` are the run's options that only the agents' floor understands, such as the model.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        emit: Emitter,
        slots: Slots,
        *,
        wait_for_disk: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.ledger = ledger
        self.journal = journal
        self.emit = emit
        self.slots = slots
        self.settings = settings or {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._wait_for_disk = wait_for_disk
        self._inline = Inline()
        self._threads = Threads()
        self._cancellable: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._warned: set[tuple[str, str]] = set()

    async def drive(self) -> None:
        """Run everything that there is to run. Raises the first error of a node, once all the others have ended."""
        self.loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                self._launch(group)
        except BaseException:
            self._threads.close(wait=False)
            raise
        self._threads.close(wait=True)
        if self._failure is not None:
            raise self._failure

    # Tasks of the graph

    def _launch(self, group: asyncio.TaskGroup) -> None:
        """Start what is ready; what an earlier sitting had finished is settled at once, which may make more ready."""
        try:
            while self._failure is None and (ready := self.ledger.ready()):
                for task in ready:
                    self._begin(group, task)
        except Exception as error:  # noqa: BLE001 - a step that cannot be folded ends the run like a failed node
            self._stop(error)

    def _begin(self, group: asyncio.TaskGroup, task: Task) -> None:
        node = self.ledger.plan.nodes[task.node]
        if node.action is None and not node.routes:  # START with plain edges only: there is nothing to run
            self._settle(task, Result())
            return
        self.emit(TaskQueued(clock(), task.id, task.node, task.step, "node", task.after))
        result = self.journal.recall(task)
        if result is not None:
            self.emit(TaskRemembered(clock(), task.id))
            self._settle(task, result)
            return
        attempt = group.create_task(self._attempt(group, task, node))
        self._cancellable.add(attempt)
        attempt.add_done_callback(self._cancellable.discard)

    async def _attempt(self, group: asyncio.TaskGroup, task: Task, node: Node) -> None:
        frame = Frame(self, task)
        _frame.set(frame)
        try:
            result = await self._worked(frame, node)
            ended = clock()
            ticket = self.journal.keep(task, result)
            self.emit(TaskFinished(ended, task.id, tuple(dict.fromkeys(key for key, _ in result.writes))))
            if self._wait_for_disk:
                await on_disk(ticket)
            if self._failure is None:
                self._settle(task, result)
        except asyncio.CancelledError as cancelled:
            self.emit(TaskCancelled(clock(), task.id))
            if not _was_cancelled():  # the node raised it by itself; nobody asked it to stop
                self._stop(_noted(cancelled, task))
            raise
        except Exception as error:  # noqa: BLE001 - `drive` raises it when the siblings have ended
            self.emit(TaskFailed(clock(), task.id, _brief(error)))
            self._stop(_noted(error, task))
        else:
            self._launch(group)

    def _settle(self, task: Task, result: Result) -> None:
        if self.ledger.finish(task, result):
            self.journal.checkpoint(self.ledger, due=self.ledger.over)
            self.emit(StepFinished(clock(), task.step))

    def _stop(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            for attempt in list(self._cancellable):
                if attempt is not asyncio.current_task():
                    attempt.cancel()

    async def _worked(self, frame: Frame, node: Node) -> Result:
        waited = await self.slots.take()
        frame.holding = True
        try:
            if not node.is_async:  # a thread cannot be stopped, so from here on it is let finish
                self._cancellable.discard(asyncio.current_task())
            self.emit(TaskStarted(clock(), frame.task.id, waited_for=self._limit_name(waited)))
            return await self._result(frame.task, node)
        finally:
            frame.end()

    async def _result(self, task: Task, node: Node) -> Result:
        writes: tuple[Write, ...] = ()
        if node.action is not None:
            executor: Executor = self._inline if node.is_async else self._threads
            value = await executor.call(node.action, self.ledger.view(task))
            writes = self._known(task, updates_of(value, self.ledger.plan.state))
        goto: list[str | Send] = []
        for route in node.routes:
            answer = route.path(self.ledger.preview(task, writes, route))
            if asyncio.iscoroutine(answer):
                answer = await answer
            goto += self.ledger.plan.destinations(route, answer)
        return Result(writes, tuple(goto))

    def _known(self, task: Task, writes: tuple[Write, ...]) -> tuple[Write, ...]:
        channels = self.ledger.plan.channels
        for key, _ in writes:
            if key not in channels and (task.node, key) not in self._warned:
                self._warned.add((task.node, key))
                message = (
                    f"node {task.node!r} returned key {key!r}, which the state does not have; it is ignored"
                    + did_you_mean(str(key), channels)
                )
                self.emit(Noticed(clock(), message, task.id))
                warnings.warn(message, UnknownKeyWarning, stacklevel=2)
        return tuple(write for write in writes if write[0] in channels)

    def _limit_name(self, waited: bool) -> str:
        return f"limit {self.slots.limit}" if waited else ""

    # Children: agents that a node calls

    async def call(
        self,
        frame: Frame,
        name: str,
        work: Callable[[str], Awaitable[Mapping[str, Any]]],
        *,
        label: str,
        fingerprint: str,
    ) -> Mapping[str, Any]:
        """What `work(task id)` answers, as plain data: run under a slot of its own, kept, and never asked twice.

        The answer is on disk before it is returned. An answer that was kept by an earlier sitting is returned
        without running `work`, if it is an answer to the same `fingerprint`.
        """
        task_id = frame.child_id(name)
        parent = frame.task
        self.emit(TaskQueued(clock(), task_id, name, parent.step, "agent", (), parent.id, label))
        known = self.journal.recall_child(task_id)
        if known is not None and known["fingerprint"] == fingerprint:
            self.emit(TaskRemembered(clock(), task_id))
            remembered: Mapping[str, Any] = known["answer"]
            return remembered
        if known is not None:
            self.emit(Noticed(clock(), f"agent {name!r} is asked something else than before; it is run anew", task_id))
        frame.pause()
        try:
            answer = await self._child(task_id, work)
            ended = clock()
            ticket = self.journal.keep_child(task_id, name, parent, {"fingerprint": fingerprint, "answer": answer})
            await on_disk(ticket)
        except BaseException as error:
            self.emit(_ending(task_id, error))
            await frame.proceed()
            raise
        self.emit(TaskFinished(ended, task_id))
        await frame.proceed()
        return answer

    async def _child(self, task_id: str, work: Callable[[str], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        waited = await self.slots.take()
        try:
            self.emit(TaskStarted(clock(), task_id, waited_for=self._limit_name(waited)))
            return await work(task_id)
        finally:
            self.slots.give()

    def from_thread(self, awaitable: Callable[[], Awaitable[Any]]) -> Any:
        """Await something on the run's loop from the thread of a blocking node."""
        assert self.loop is not None, "a frame exists only while its runner drives"

        async def within() -> Any:
            return await awaitable()

        future: Future[Any] = asyncio.run_coroutine_threadsafe(within(), self.loop)
        return future.result()


def _ending(task_id: str, error: BaseException) -> Event:
    if isinstance(error, Exception):
        return TaskFailed(clock(), task_id, _brief(error))
    return TaskCancelled(clock(), task_id)


def _was_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _brief(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _noted(error: BaseException, task: Task) -> BaseException:
    error.add_note(f"in node {task.node!r}, step {task.step}, task {task.id}")
    return error
