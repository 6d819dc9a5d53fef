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
import contextlib
import contextvars
import functools
import warnings
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from fanfold import interop
from fanfold.attempt import attempts, limited
from fanfold.context import metadata_of
from fanfold.errors import (
    GraphDrained,
    GraphInterrupt,
    InvalidUpdateError,
    KeptError,
    NodeCancelledError,
    NodeError,
    ParentCommand,
    StepTimeoutError,
    StoreError,
    did_you_mean,
)
from fanfold.events import (
    Event,
    Noticed,
    StepFinished,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)
from fanfold.family import Emitter, Family, UnknownKeyWarning, brief
from fanfold.frame import ANY, Frame, clock, current_frame, enter
from fanfold.journal import Kept, Unkept, on_disk
from fanfold.kernel.ledger import Ledger, Result, Task, Write
from fanfold.kernel.plan import Action, Handler, Node
from fanfold.kernel.schema import commanded, has, updates_of
from fanfold.limits import Slots
from fanfold.show import Show
from fanfold.store.records import from_result, to_result
from fanfold.store.ticket import Ticket
from fanfold.types import Command, Interrupt, Send

T = TypeVar("T")


class Runner:
    """Drives one ledger until it is over or stands still. Used once, from one event loop.

    `interrupts` are the questions that kept it from going on, if any did. `detour` is where START leads besides.
    """

    def __init__(
        self,
        family: Family,
        ledger: Ledger,
        journal: Kept | Unkept,
        *,
        namespace: tuple[str, ...] = (),
        top: str = "",
        parents: Mapping[str, str] | None = None,
        previous: Any = None,
        keys: str | Collection[str] | None = None,
        around: Frame | None = None,
    ) -> None:
        self.family = family
        self.around = around  # of the task that this graph is a part of
        self.inside = None if around is None else around.task.id
        self.ledger = ledger
        self.journal = journal
        self.namespace = namespace
        self.top = top
        self.parents = dict(parents or {})
        self.interrupts: list[Interrupt] = []
        self.interrupted = False
        self.detour: tuple[str | Send, ...] = ()
        self.keys = ledger.plan.keys if keys is None else keys
        self.show = Show(self)
        self._previous = previous
        # What every task starts with. A task is started by the one that ended last, whose own must not leak into it.
        self._context = contextvars.copy_context()
        self._cancellable: dict[asyncio.Task[None] | None, int] = {}
        """What may be cancelled of tasks that have begun, and their steps."""
        self._failure: BaseException | None = None
        self._unbegun: dict[str, None] = {}
        """The tasks whose code has not begun: one that is cancelled before cannot say so itself."""
        self._held: dict[str, Callable[[], None]] = {}
        """What is to be done about tasks that have ended otherwise than well, once their step has come."""
        self._timer: asyncio.TimerHandle | None = None

    # What frames and agents ask for

    @property
    def emit(self) -> Emitter:
        """Where events go."""
        return self.family.emit

    @property
    def slots(self) -> Slots:
        """What limits how many tasks of the run are busy at once."""
        return self.family.slots

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run's options for agents."""
        return self.family.settings

    def follows(self, parents: Mapping[str, str]) -> bool:
        """Whether a graph that one of the tasks here has called may have begun at these checkpoints, by namespace."""
        place = "|".join(self.namespace)
        around = {key: id for key, id in parents.items() if key != place}
        if not self.journal.follows(parents.get(place, "")):
            return False
        return self.around.runner.follows(around) if self.around is not None else not around

    def previous(self) -> Any:
        """What the thread's last run of an entrypoint saved."""
        return self._previous

    def stream(self, mode: str, chunk: Any) -> None:
        """A chunk for whoever streams the run."""
        self.show.stream(mode, chunk)

    def hears(self) -> bool:
        """Whether somebody listens to the messages of this graph."""
        return self.show.wanted("messages")

    async def say(self, message: Any, metadata: Mapping[str, Any]) -> None:
        """A message for whoever listens; it waits while too much is waiting for them."""
        self.stream("messages", (message, metadata))
        if self.family.streams is not None:
            await self.family.streams.room()

    async def drive(self) -> None:
        """Run everything that there is to run. Raises the first error of a node, once all the others have ended."""
        self._stand_still()
        if self.family.step_timeout is not None:  # it is for steps, one after the other
            self.ledger.keep_to_steps()
        try:
            async with asyncio.TaskGroup() as group:
                self._launch(group)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for id in self._unbegun:
                self.emit(TaskCancelled(clock(), id))
        if self._failure is not None:
            raise self._failure

    # Tasks of the graph

    def _launch(self, group: asyncio.TaskGroup, by: Task | None = None) -> None:
        """Start what is ready since a task has ended. What an earlier sitting had finished is settled at once, which
        may make more ready."""
        try:
            while self._failure is None and (ready := self._ready()):
                self._time(self.ledger.step)
                self.show.starts(ready)
                for task in ready:
                    self._begin(group, task, "" if by is None or by.id in task.after else by.id)
            if self._failure is None:
                self._catch_up()
        except Exception as error:  # noqa: BLE001 - whatever keeps the next step from starting ends the run
            self._stop(error)

    def _time(self, step: int) -> None:
        """Stop the run if the step that begins takes longer than it may."""
        if self._timer is not None:
            self._timer.cancel()
        limit = self.family.step_timeout
        if limit is not None:
            self._await_end(step, limit, limit + self.family.now())

    def _await_end(self, step: int, seconds: float, end: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late, step, end)

    def _late(self, step: int, end: float) -> None:
        left = end - self.family.now()
        if left > 0:  # it was the consumer who took the time
            self._await_end(step, left, end)
        else:
            self._stop(StepTimeoutError(f"step {step} did not end within {self.family.step_timeout:.3f} s"))

    def _ready(self) -> list[Task]:
        control = self.family.control
        if control is not None and control.drain_requested and not self.ledger.over and self._between_steps():
            self._failure = GraphDrained(control.drain_reason or "shutdown")
            return []
        return self.ledger.ready()

    def _between_steps(self) -> bool:
        """Whether a step is about to begin: a run that stands still, for a person or where it was told to, is not."""
        return not self.interrupted and self.ledger.fresh

    def _begin(self, group: asyncio.TaskGroup, task: Task, released: str) -> None:
        node = self.ledger.plan.nodes[task.node]
        if node.action is None and not node.routes:  # START with plain edges only: there is nothing to run
            self._settle(task, Result(self.ledger.input_writes(task.arg), self.detour))
            return
        self.emit(
            TaskQueued(clock(), task.id, task.node, task.step, "node", task.after, self.inside, released=released)
        )
        result = self.journal.recall(task.id, "result")
        if result is not None:
            self.emit(TaskRemembered(clock(), task.id))
            self.show.result(task, result, cached=True)
            self._settle(task, result)
            return
        self._unbegun[task.id] = None
        work = self._attempt(group, task, node)
        try:
            attempt = group.create_task(work, context=self._context.copy())
        except RuntimeError:  # the run is being cancelled from outside; the group takes no more
            work.close()
            return
        self._cancellable[attempt] = task.step

    async def _attempt(self, group: asyncio.TaskGroup, task: Task, node: Node) -> None:
        del self._unbegun[task.id]
        frame = Frame(self, task, answers=dict(self.journal.recall(task.id, "answers") or {}))
        enter(frame)
        try:
            told = self.show.identified(await self._worked(frame, node))
            ended = clock()
            frame.progress()
            result = self.ledger.settled(told)
            ticket = self.journal.keep(task, "result", result)
            self.emit(TaskFinished(ended, task.id, tuple(dict.fromkeys(key for key, _ in result.writes))))
            self.show.result(task, told, cached=frame.cached)
            if node.action is not None and not frame.cached:
                self.show.messages(frame, told.writes)
            await self._let_go(frame, ticket)
        except GraphInterrupt as pause:
            self._in_turn(task, functools.partial(self._pause, task, pause, frame.written))
        except asyncio.CancelledError:
            self.emit(TaskCancelled(clock(), task.id))
            raise
        except BaseException as error:  # noqa: BLE001 - `drive` raises it when the siblings have ended
            self._in_turn(task, functools.partial(self._failed, task, error))
        else:
            self._go_on(group, task, result)
        finally:
            self._cancellable.pop(asyncio.current_task(), None)

    async def _let_go(self, frame: Frame, ticket: Ticket[None] | None) -> None:
        """Return when the next step may begin, as far as this task is concerned."""
        if frame.has_spawned:
            await frame.rest()
        if self.family.wait_for_disk:
            await on_disk(ticket)
        elif self.family.record is not None:
            await self.family.record.room()
        if self.family.streams is not None:
            await self.family.streams.room()

    def _in_turn(self, task: Task, told: Callable[[], None]) -> None:
        """Do something about a task now, or when it is its step's turn: before, nothing has led to it for certain."""
        if task.step > self.ledger.step:
            self._held[task.id] = told
        else:
            told()

    def _pause(self, task: Task, pause: GraphInterrupt, written: tuple[Write, ...]) -> None:
        """A task waits for a person; its siblings go on, and the step is not folded before it has ended."""
        self.ledger.foresee(task, written)
        try:
            self.journal.keep(task, "interrupt", pause.interrupts)
        except Exception as error:  # noqa: BLE001 - a question that cannot be kept could never be answered
            self._failed(task, error)
            return
        self.emit(TaskInterrupted(clock(), task.id, len(pause.interrupts)))
        self.interrupted = True
        self.interrupts += pause.interrupts
        self.show.asked(task, pause.interrupts)

    def _failed(self, task: Task, error: BaseException) -> None:
        if isinstance(error, ParentCommand):
            self.emit(TaskFinished(clock(), task.id))
            self._stop(error)
            return
        self.emit(TaskFailed(clock(), task.id, brief(error)))
        if isinstance(error, Exception):
            handler = self.ledger.plan.nodes[task.node].handler
            if handler is None:  # else it is the error that the handler was told of that counts
                with contextlib.suppress(StoreError):  # a store that fails is told of when the run is closed
                    self.journal.keep(task, "error", repr(error).encode("utf-8", "backslashreplace").decode())
            self.show.end(task if handler is None else replace(task, node=handler.name), error=error)
        self._stop(_noted(error, task))  # `drive` raises it when the siblings have ended

    def _go_on(self, group: asyncio.TaskGroup, task: Task, result: Result) -> None:
        try:
            if self._failure is None:
                self._settle(task, result)
        except Exception as error:  # noqa: BLE001 - a step that cannot be folded ends the run like a failed node
            error.add_note(f"at the end of step {self.ledger.step}")
            self._stop(error)
        self._launch(group, task)

    def _settle(self, task: Task, result: Result) -> None:
        folded = self.ledger.finish(task, result)
        while folded:
            self.show.values(always=False)
            self.mark("loop")
            self.emit(StepFinished(clock(), self.ledger.step - 1))
            if not self.namespace:
                self.family.answers.pop(ANY, None)  # it was for the step that the run went on with
            self._stand_still()
            folded = self._failure is None and self.ledger.fold()

    def _catch_up(self) -> None:
        """What came of tasks that ran ahead and did not end well counts now that it is their turn."""
        for task in self.ledger.tasks if self._held else ():
            if (told := self._held.pop(task.id, None)) is not None:
                told()

    def _stand_still(self) -> None:
        """Where the ledger has come to a stop that was asked for, the run ends there."""
        if self.ledger.paused:
            self.interrupted = True
            if not self.namespace:  # an inner graph's stop is its task's, who tells of it
                self.show.stopped()

    def mark(self, source: str, *, due: bool = False, resumed: bool = False) -> None:
        """The ledger stands somewhere new: take a checkpoint, and show it to whoever streams those."""
        step = self.ledger.step - 1
        told = {"source": source, "step": step, "parents": self.parents}
        metadata = metadata_of(self.family.config, told)
        self.journal.checkpoint(self.ledger, source, metadata, due=due)
        if resumed:
            self.show.values(always=True)
        self.show.checkpoint(metadata)

    def resume(self, metadata: Mapping[str, Any]) -> None:
        """The run goes on where an earlier sitting stopped: show where that is."""
        self.show.values(always=True)
        self.show.checkpoint(metadata)

    def _stop(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            if not self.family.let_finish or isinstance(error, ParentCommand):
                everything = not isinstance(error, Exception) or isinstance(error, ParentCommand)
                for attempt, step in list(self._cancellable.items()):
                    # What has run ahead into later steps does not depend on what failed; it is let finish, and kept.
                    siblings = step <= self.ledger.step or everything
                    if siblings and attempt is not None and attempt is not asyncio.current_task():
                        attempt.cancel()

    async def _worked(self, frame: Frame, node: Node) -> Result:
        if node.action is None or node.action.executor != "process":
            return await self._admitted(frame, node)
        # Who waits for a process holds no slot that others could use.
        waited = await self.family.processing.take()
        try:
            return await self._admitted(frame, node, f"{self.family.processing.limit} processes" if waited else "")
        finally:
            self.family.processing.give()

    async def _admitted(self, frame: Frame, node: Node, waited_for: str = "") -> Result:
        if not self.slots.take_nowait():
            waited_for = self._limit_name(await self.slots.take()) or waited_for
        frame.holding = True
        try:
            await self._started(frame, waited_for)
            if node.action is not None and not node.action.stoppable:
                self._cancellable.pop(asyncio.current_task(), None)
            with _asking():
                return await self._result(frame, node)
        except BaseException as error:
            await frame.rest(stop=not isinstance(error, GraphInterrupt))
            raise
        finally:
            if not frame.leave():
                await frame.end()

    async def _result(self, frame: Frame, node: Node) -> Result:
        if node.action is None:
            given = frame.task.arg
            return await self.routed(frame, node, self.ledger.input_writes(given), self.detour, returned=given)
        action = node.action
        key = self._cache_key(frame, node, action)
        cached = None if key is None else self.family.cache.get((self.ledger.plan.name, node.name), key)
        if cached is not None:
            frame.cached = True
            return to_result(cached, f"the cached result of node {node.name!r}")
        result = await self._tried(frame, node, action)
        if key is not None and node.cache is not None:
            self.family.cache.set((self.ledger.plan.name, node.name), key, from_result(result), node.cache.ttl)
        return result

    def _cache_key(self, frame: Frame, node: Node, action: Action) -> str | None:
        if self.family.cache is None or node.cache is None:
            return None
        key = node.cache.key_func(self.ledger.view(frame.task, action.schema))
        return key.decode("latin-1") if isinstance(key, bytes) else key

    async def _tried(self, frame: Frame, node: Node, action: Action) -> Result:
        if node.handler is None:
            return await attempts(frame, node.retry, lambda: self._once(frame, node, action))
        kept = self.journal.recall(frame.task.id, "error")
        if kept is not None:  # in an earlier sitting the handler did not get to its end
            return await self._handled(frame, node, node.handler, KeptError(kept))
        try:
            return await attempts(frame, node.retry, lambda: self._once(frame, node, action))
        except Exception as error:  # noqa: BLE001 - it is for the handler
            self.journal.keep(frame.task, "error", repr(error))
            self.show.end(frame.task, error=error)
            return await self._handled(frame, node, node.handler, error)

    async def _handled(self, frame: Frame, node: Node, handler: Handler, error: Exception) -> Result:
        """What the error handler decides. The node's own edges do not count: it says itself where to go on."""
        frame.error = NodeError(node.name, error)
        frame.ended = frame.late = False
        told = replace(node, name=handler.name, routes=(), timeout=None)
        return replace(await self._once(frame, told, handler.action), handled=handler.name)

    async def _once(self, frame: Frame, node: Node, action: Action) -> Result:
        """One attempt: the action's value, as what it writes and where it leads."""
        timeout = (frame.task.timeout or node.timeout) if frame.error is None else None
        work = self._called(frame, action)
        try:
            value = await (work if timeout is None else limited(frame, timeout, work))
        except asyncio.CancelledError as cancelled:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            raise NodeCancelledError(node.name) from cancelled
        writes, goto = self._decided(frame.task, node, value)
        quiet = action.graph is not None and not isinstance(value, Command)  # it returns the whole of its state
        known = self._known(frame.task, writes, quiet=quiet)
        if node.writes is not None:
            known = _declared(node, known, quiet=quiet)
        result = await self.routed(frame, node, known, goto, returned=value)
        if self.ledger.plan.reach is not None:
            self.ledger.plan.reach.check(frame.task.node, result.goto)
        return result

    async def _called(self, frame: Frame, action: Action) -> Any:
        view = self.ledger.view(frame.task, action.schema)
        try:
            if action.graph is not None:
                return await action.graph.nested(frame, view)
            given = frame.injected(action.asks) if action.asks else {}
            code = functools.partial(action.function, **given) if given else action.function
            if action.executor is None and action.is_async:
                value = await self.family.watch.timed(self.emit, frame.task.id, code(view))
            else:
                executor = self.family.places.of(action.executor, is_async=action.is_async)
                value = await self._timed(frame, action, executor.call(code, view))
            # A node may answer with a graph or the like, which then gets its input; most answer with a dictionary.
            while type(value) is not dict and has(value, "ainvoke"):
                value = await value.ainvoke(view, frame.config())
            return interop.ours(value)
        except ParentCommand as command:
            if command.command.graph != Command.PARENT:
                raise
            return Command(update=command.command.update, goto=command.command.goto)

    def _timed(self, frame: Frame, action: Action, work: Awaitable[T]) -> Awaitable[T]:
        """The work, with what it does on the event loop timed; a thread has no part in that."""
        return self.family.watch.timed(self.emit, frame.task.id, work) if action.on_loop else work

    def _decided(self, task: Task, node: Node, value: Any) -> tuple[tuple[Write, ...], tuple[str | Send, ...]]:
        """What a node's return value writes, and where its Commands lead."""
        items = value if isinstance(value, list | tuple) and any(isinstance(i, Command) for i in value) else [value]
        writes: list[Write] = []
        goto: list[str | Send] = []
        for item in items:
            if isinstance(item, Send):
                goto += self.ledger.plan.goals(item, f"node {node.name!r}")
            elif isinstance(item, Command):
                if item.graph == Command.PARENT:
                    raise ParentCommand(item)
                writes += commanded(item.update, self.ledger.plan.state)
                goto += self.ledger.plan.goals(item.goto, f"the Command of node {node.name!r}")
            else:
                writes += updates_of(item, self.ledger.plan.state)
        return tuple(writes), tuple(goto)

    async def routed(
        self,
        frame: Frame,
        node: Node,
        writes: tuple[Write, ...],
        goto: tuple[str | Send, ...],
        *,
        returned: Any = None,
    ) -> Result:
        """The result of a task that `returned` something. Its paths see that, too, where the state lacks the key."""
        goals = list(goto)
        frame.written = writes
        for route in node.routes:
            state = self.ledger.preview(frame.task, writes, route)
            if isinstance(state, dict) and isinstance(returned, dict) and not route.path.declared:
                state = {**returned, **state}
            answer = interop.ours(await self._answered(frame, route.path, state))
            goals += self.ledger.plan.destinations(route, answer)
        return Result(writes, tuple(goals))

    async def _answered(self, frame: Frame, path: Action, state: Any) -> Any:
        """What a path answers. A blocking one may call graphs and wait for tasks, which takes a thread, like a node."""
        given = frame.injected(path.asks) if path.asks else {}
        code = functools.partial(path.function, **given) if given else path.function
        if path.on_loop:
            return await self._timed(frame, path, self.family.places.loop.call(code, state))
        attempt = asyncio.current_task()
        step = self._cancellable.pop(attempt, None)
        try:
            return await self.family.places.threads.call(code, state)
        finally:
            if step is not None:  # the node itself may be tried again
                self._cancellable[attempt] = step

    def _known(self, task: Task, writes: tuple[Write, ...], *, quiet: bool) -> tuple[Write, ...]:
        channels = self.ledger.plan.channels
        if all([key in channels for key, _ in writes]):
            return writes
        for key, _ in writes:
            if key not in channels and not quiet and (task.node, key) not in self.family.warned:
                self.family.warned.add((task.node, key))
                message = (
                    f"node {task.node!r} returned key {key!r}, which the state does not have; it is ignored"
                    + did_you_mean(str(key), channels)
                )
                self.emit(Noticed(clock(), message, task.id))
                warnings.warn(message, UnknownKeyWarning, stacklevel=2)
        return tuple(write for write in writes if write[0] in channels)

    async def _started(self, frame: Frame, waited_for: str) -> None:
        """The task's code is about to run: see that this process may still run the thread, and say so."""
        if self.family.record is not None:
            await self.family.record.check()
        self.emit(TaskStarted(clock(), frame.task.id, waited_for=waited_for))
        frame.progress()

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
        role: str = "agent",
        given: Any = None,
    ) -> Mapping[str, Any]:
        """What `work(task id)` answers, as plain data: run under a slot of its own, kept, and never asked twice.

        The answer is on disk before it is returned. An answer to the same `fingerprint` that was kept by an earlier
        sitting is returned without running `work`. May be awaited in any event loop: a blocking node can have one of
        its own. Streams are shown tasks with what was `given` to them, and no agents.
        """

        async def called() -> Mapping[str, Any]:
            child = Task(frame.child_id(name, fingerprint), name, frame.task.step, send=0, arg=given)
            if role == "task":
                return await self._asked(frame, child, work, label, fingerprint, role)
            frame.check()
            return await frame.own(self._asked(frame, child, work, label, fingerprint, role))

        if asyncio.get_running_loop() is self.family.loop:
            return await called()
        return await asyncio.wrap_future(self.from_outside(frame, called))

    async def _asked(
        self,
        parent: Frame,
        child: Task,
        work: Callable[[str], Awaitable[Mapping[str, Any]]],
        label: str,
        fingerprint: str,
        role: str,
    ) -> Mapping[str, Any]:
        self.emit(TaskQueued(clock(), child.id, child.node, child.step, role, (), parent.task.id, label))
        shown = role == "task"
        if shown:
            self.show.call(child)
        known = self.journal.recall(child.id, "child")
        if known is not None:
            self.emit(TaskRemembered(clock(), child.id))
            remembered: Mapping[str, Any] = known["answer"]
            return remembered
        parent.pause()
        frame = Frame(self, child, answers=dict(self.journal.recall(child.id, "answers") or {}), caller=parent)
        try:
            answer = await self._child(frame, work)
            ended = clock()
            record = {"fingerprint": fingerprint, "answer": answer}
            await on_disk(self.journal.keep(child, "child", record, parent=parent.task.id))
        except BaseException as error:
            self.emit(_ending(child.id, error))
            if shown and isinstance(error, Exception):
                self.show.called(child, error=error)
            await parent.proceed()
            raise
        self.emit(TaskFinished(ended, child.id))
        frame.progress()
        if shown:
            told = {child.node: answer["value"]}
            self.stream("updates", {**told, "__metadata__": {"cached": True}} if frame.cached else told)
            if not frame.cached:
                self.show.called(child, (("__return__", answer["value"]),))
                self.show.messages(frame, (("__return__", answer["value"]),))
        await parent.proceed()
        return answer

    async def _child(self, frame: Frame, work: Callable[[str], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        child = frame.task
        enter(frame)  # an agent can call agents, too, and gives its slot back to them
        waited = await self.slots.take()
        frame.holding = True
        try:
            await self._started(frame, self._limit_name(waited))
            with _asking():
                answer = await self.family.watch.timed(self.emit, child.id, work(child.id))
        except BaseException as error:
            await frame.rest(stop=isinstance(error, Exception))
            raise
        finally:
            await frame.end()
        await frame.rest()
        return answer

    def from_thread(self, awaitable: Callable[[], Awaitable[T]]) -> T:
        """Await something on the run's loop from the thread of a blocking node."""
        frame = current_frame()
        assert frame is not None, "only the code of a task has a runner to ask"
        return self.from_outside(frame, awaitable).result()

    def from_outside(self, frame: Frame, awaitable: Callable[[], Awaitable[T]]) -> Future[T]:
        """Await something on the run's loop from another thread or loop; the future of it."""
        frame.check()  # a thread can outlive its run, whose loop may be closed
        assert self.family.loop is not None, "a frame exists only while its runner drives"

        async def within() -> T:
            return await awaitable()

        return asyncio.run_coroutine_threadsafe(within(), self.family.loop)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Questions that a task group of the user's raises, and nothing else, are one pause."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(GraphInterrupt)[1] is not None:
            raise
        questions = [question for pause in _leaves(group) for question in pause.interrupts]
        raise GraphInterrupt(questions) from group


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[Any]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _ending(task_id: str, error: BaseException) -> Event:
    if isinstance(error, Exception):
        return TaskFailed(clock(), task_id, brief(error))
    if isinstance(error, GraphInterrupt):
        return TaskInterrupted(clock(), task_id, len(error.interrupts))
    return TaskCancelled(clock(), task_id)


def _declared(node: Node, writes: tuple[Write, ...], *, quiet: bool) -> tuple[Write, ...]:
    """The writes that the node declares. Another one is an error; what a graph as a node has besides stays in there."""
    for key, _ in writes:
        if key not in (node.writes or ()) and not quiet:
            listed = ", ".join(map(repr, node.writes or ())) or "none"
            said = "its writes=" if node.returns is None else "its return annotation"
            raise InvalidUpdateError(f"node {node.name!r} wrote key {key!r}, and {said} declares {listed}")
    return tuple(write for write in writes if write[0] in (node.writes or ()))


def _noted(error: BaseException, task: Task) -> BaseException:
    error.add_note(f"in node {task.node!r}, step {task.step}, task {task.id}")
    return error
