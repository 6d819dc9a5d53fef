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
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fanfold.errors import UsageError, did_you_mean
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

T = TypeVar("T")

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
                if subscriber not in self._subscribers:  # it was removed while it was told of another's removal
                    continue
                self._subscribers.remove(subscriber)
                name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
                self(Noticed(clock(), f"subscriber {name} raised {_brief(error)} and was removed"))


@dataclass(slots=True)
class Frame:
    """Where the code that asks is running: inside which task of which run."""

    runner: Runner
    task: Task
    holding: bool = False
    ended: bool = False
    _asked: Counter[str] = field(default_factory=Counter)
    _children: int = 0
    _calls: set[asyncio.Task[Any]] = field(default_factory=set)
    _regaining: asyncio.Lock = field(default_factory=asyncio.Lock)

    def child_id(self, name: str, fingerprint: str) -> str:
        """The id of the next call that asks agent `name` just this: the same again when the task runs again.

        Calls are counted for each question by itself. Counted together, two chains of agents in one node would get
        each other's places whenever they are not as fast as they were the last time.
        """
        question = f"{self.task.id}|{name}|{fingerprint}"
        path = f"{question}|{self._asked[question]}"
        self._asked[question] += 1
        return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    async def own(self, call: Coroutine[Any, Any, T]) -> T:
        """Run the call of a child, which then cannot outlive this task."""
        running = asyncio.get_running_loop().create_task(call)
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        return await running

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
        async with self._regaining:  # one asks for all: a second slot would be one that nobody gives back
            if not self._needs_slot():
                return
            await self.runner.slots.take()
            if self._needs_slot():
                self.holding = True
                self.runner.emit(TaskContinued(clock(), self.task.id))
            else:  # meanwhile another child was called, and may be waiting for just this one
                self.runner.slots.give()

    async def end(self) -> None:
        """The task's code has ended, one way or another; so do the children that it did not wait for."""
        self.ended = True
        for call in self._calls:
            call.cancel()
        try:
            if self._calls:
                await asyncio.wait(self._calls)
        finally:
            if self.holding:
                self.holding = False
                self.runner.slots.give()

    def check(self) -> None:
        """Raise `UsageError` when the task's code has ended: nobody would wait for a child of it."""
        if self.ended:
            raise UsageError(
                f"{self.task.node!r} has ended, so it can call no agent any more",
                hint="await every agent before returning",
            )

    def _needs_slot(self) -> bool:
        return not (self._children or self.holding or self.ended)


def current_frame() -> Frame | None:
    """The frame of the node or agent that is running this code, or None outside of any run."""
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
        # What every task starts with. A task is started by the one that ended last, whose own must not leak into it.
        self._context = contextvars.copy_context()
        self._cancellable: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._unbegun: set[str] = set()
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
        except Exception as error:  # noqa: BLE001 - whatever keeps the next step from starting ends the run
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
        self._unbegun.add(task.id)
        work = self._attempt(group, task, node)
        try:
            attempt = group.create_task(work, context=self._context.copy())
        except RuntimeError:  # the run is being cancelled from outside; the group takes no more
            work.close()
            self._unattempted(task)
            return
        self._cancellable.add(attempt)
        attempt.add_done_callback(self._cancellable.discard)
        attempt.add_done_callback(lambda _: self._unattempted(task))

    def _unattempted(self, task: Task) -> None:
        """Say that a task was cancelled before its code began, if it was: then it could not say so itself."""
        if task.id in self._unbegun:
            self._unbegun.discard(task.id)
            self.emit(TaskCancelled(clock(), task.id))

    async def _attempt(self, group: asyncio.TaskGroup, task: Task, node: Node) -> None:
        self._unbegun.discard(task.id)
        frame = Frame(self, task)
        _frame.set(frame)
        try:
            result = await self._worked(frame, node)
            ended = clock()
            ticket = self.journal.keep(task, result)
            self.emit(TaskFinished(ended, task.id, tuple(dict.fromkeys(key for key, _ in result.writes))))
            if self._wait_for_disk:
                await on_disk(ticket)
        except asyncio.CancelledError as cancelled:
            self.emit(TaskCancelled(clock(), task.id))
            if not _was_cancelled():  # the node raised it by itself; nobody asked it to stop
                self._stop(_noted(cancelled, task))
            raise
        except BaseException as error:  # noqa: BLE001 - `drive` raises it when the siblings have ended
            self.emit(TaskFailed(clock(), task.id, _brief(error)))
            self._stop(_noted(error, task))
        else:
            self._go_on(group, task, result)

    def _go_on(self, group: asyncio.TaskGroup, task: Task, result: Result) -> None:
        try:
            if self._failure is None:
                self._settle(task, result)
        except Exception as error:  # noqa: BLE001 - a step that cannot be folded ends the run like a failed node
            error.add_note(f"at the end of step {task.step}")
            self._stop(error)
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
            await frame.end()

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

        The answer is on disk before it is returned. An answer to the same `fingerprint` that was kept by an earlier
        sitting is returned without running `work`. May be awaited in any event loop: a blocking node can have one of
        its own.
        """

        async def called() -> Mapping[str, Any]:
            frame.check()
            child = Task(frame.child_id(name, fingerprint), name, frame.task.step)
            return await frame.own(self._called(frame, child, work, label, fingerprint))

        if asyncio.get_running_loop() is self.loop:
            return await called()
        return await asyncio.wrap_future(self._from_outside(frame, called))

    async def _called(
        self,
        parent: Frame,
        child: Task,
        work: Callable[[str], Awaitable[Mapping[str, Any]]],
        label: str,
        fingerprint: str,
    ) -> Mapping[str, Any]:
        self.emit(TaskQueued(clock(), child.id, child.node, child.step, "agent", (), parent.task.id, label))
        known = self.journal.recall_child(child.id)
        if known is not None:
            self.emit(TaskRemembered(clock(), child.id))
            remembered: Mapping[str, Any] = known["answer"]
            return remembered
        parent.pause()
        try:
            answer = await self._child(child, work)
            ended = clock()
            record = {"fingerprint": fingerprint, "answer": answer}
            await on_disk(self.journal.keep_child(child.id, child.node, parent.task, record))
        except BaseException as error:
            self.emit(_ending(child.id, error))
            await parent.proceed()
            raise
        self.emit(TaskFinished(ended, child.id))
        await parent.proceed()
        return answer

    async def _child(self, child: Task, work: Callable[[str], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        frame = Frame(self, child)  # an agent can call agents, too, and gives its slot back to them
        _frame.set(frame)
        waited = await self.slots.take()
        frame.holding = True
        try:
            self.emit(TaskStarted(clock(), child.id, waited_for=self._limit_name(waited)))
            return await work(child.id)
        finally:
            await frame.end()

    def from_thread(self, awaitable: Callable[[], Awaitable[T]]) -> T:
        """Await something on the run's loop from the thread of a blocking node."""
        frame = current_frame()
        assert frame is not None, "only the code of a task has a runner to ask"
        return self._from_outside(frame, awaitable).result()

    def _from_outside(self, frame: Frame, awaitable: Callable[[], Awaitable[T]]) -> Future[T]:
        frame.check()  # a thread can outlive its run, whose loop may be closed
        assert self.loop is not None, "a frame exists only while its runner drives"

        async def within() -> T:
            return await awaitable()

        return asyncio.run_coroutine_threadsafe(within(), self.loop)


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
