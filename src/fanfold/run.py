"""The driver: runs the tasks that the ledger allows, and tells it what they returned.

Tasks of the graph that may run side by side have an asyncio task each, a carrier. When one ends it is settled right
there: its result is kept, told to the ledger, and whatever became ready is started, one task of it by the same
carrier. No loop watches, so the cost of an ending does not depend on how many others are running.

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
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, TypeVar

from fanfold.calling import Calls
from fanfold.children import Children, questions
from fanfold.context import metadata_of
from fanfold.errors import (
    GraphDrained,
    GraphInterrupt,
    NodeCancelledError,
    ParentCommand,
    StepTimeoutError,
    StoreError,
)
from fanfold.events import (
    StepFinished,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)
from fanfold.family import Family, brief, named
from fanfold.frame import ANY, Frame, clock, current_frame, enter
from fanfold.journal import Kept, Unkept, on_disk
from fanfold.kernel.ledger import Ledger, Result, Task, Write
from fanfold.kernel.plan import Node
from fanfold.show import Show
from fanfold.store.ticket import Ticket
from fanfold.types import START, Interrupt, Send
from fanfold.within import Within

T = TypeVar("T")

LONGEST_TURN: Final = 0.005
"""Seconds after which tasks that run one after the other let the event loop go."""


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
        self.emit = family.emit
        self.jot = family.jot
        self.slots = family.slots
        self.show = Show(self)
        self.calls = Calls(self)
        self.children = Children(self)
        self._previous = previous
        # What every task starts with. A task is started by the one that ended last, whose own must not leak into it.
        self._context = contextvars.copy_context()
        self._running: dict[str, tuple[Task, asyncio.Task[None]]] = {}
        """The tasks that were handed out and have not ended, each with what runs it."""
        self._carriers: set[asyncio.Task[None]] = set()
        self._unstoppable: set[str] = set()
        """Those of them whose code is in a thread or a process."""
        self._idle: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._unbegun: dict[str, None] = {}
        """The tasks whose code has not begun: one that is cancelled before cannot say so itself."""
        self._held: dict[str, Callable[[], None]] = {}
        """What is to be done about tasks that have ended otherwise than well, once their step has come."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._unseen = isinstance(journal, Unkept) and family.streams is None
        """Whether nobody is ever told of a checkpoint."""
        self._patient = family.wait_for_disk or family.streams is not None
        """Whether what has been done is waited for before the next step."""

    # What frames and agents ask for

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
        self._idle = asyncio.get_running_loop().create_future()
        try:
            self._launch()
            if self._carriers:
                await self._idle
        except asyncio.CancelledError:
            self._cancel()
            raise
        finally:
            try:
                await self._ended()
            finally:
                if self._timer is not None:
                    self._timer.cancel()
                for id in self._unbegun:
                    self.emit(TaskCancelled(clock(), id))
        if self._failure is not None:
            raise self._failure

    def _cancel(self) -> None:
        """The run is cancelled from outside; nothing begins any more."""
        self._closing = True
        for carrier in self._carriers:
            carrier.cancel()

    async def _ended(self) -> None:
        """Wait for those that still run, of a run that stops early. What was cancelled before it began is one, too."""
        cancelled: asyncio.CancelledError | None = None
        while self._carriers:
            try:
                await asyncio.wait(self._carriers)
            except asyncio.CancelledError as error:
                cancelled = error
                self._cancel()
            self._carriers = {carrier for carrier in self._carriers if not carrier.done()}
        if cancelled is not None:
            raise cancelled

    # Tasks of the graph

    def _launch(self, by: Task | None = None) -> Task | None:
        """Start what is ready since a task has ended. What an earlier sitting had finished is settled at once, which
        may make more ready. A task that is returned is left to whatever ran that one."""
        carrier = self._going_on(by)
        left: Task | None = None
        try:
            settled = True
            while settled and self._failure is None and (ready := self._ready()):
                settled = False
                if self.family.step_timeout is not None:
                    self._time(self.ledger.step, self.family.step_timeout)
                if self.family.streams is not None:
                    self.show.starts(ready)
                for task in ready:
                    if not self._begin(task, "" if by is None or by.id in task.after else by.id):
                        settled = True
                    elif self._closing:  # it does not begin any more
                        continue
                    elif carrier is not None and left is None:
                        left = task
                        self._running[task.id] = (task, carrier)
                    else:
                        self._carry_out(task)
            if self._held and self._failure is None:
                self._catch_up()
        except Exception as error:  # noqa: BLE001 - whatever keeps the next step from starting ends the run
            self._stop(error)
        return left if left is not None and self._spares(left) else None

    def _going_on(self, by: Task | None) -> asyncio.Task[None] | None:
        """What has run a task, if it may go on with another: not before those whose turn it is have begun, and who
        streams is shown one step before the next begins."""
        if by is None or self._unbegun or self.family.streams is not None:
            return None
        _, carrier = self._running[by.id]
        return None if carrier.cancelling() else carrier

    def _time(self, step: int, limit: float) -> None:
        """Stop the run if the step that begins takes longer than it may."""
        if self._timer is not None:
            self._timer.cancel()
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

    def _begin(self, task: Task, released: str) -> bool:
        """Whether the task's code is to run. If there is none, or it has run in an earlier sitting, it is settled."""
        node = self.ledger.plan.nodes[task.node]
        if node.action is None and not node.routes:  # START with plain edges only: there is nothing to run
            self._settle(task, Result(self.ledger.input_writes(task.arg), self.detour))
            return False
        self.jot((TaskQueued, clock(), task.id, task.node, task.step, "node", task.after, self.inside, "", released))
        result = self.journal.recall(task.id, "result")
        if result is not None:
            self.emit(TaskRemembered(clock(), task.id))
            self.show.result(task, result, cached=True)
            self._settle(task, result)
            return False
        self._unbegun[task.id] = None
        return True

    def _carry_out(self, task: Task) -> None:
        carrier = asyncio.get_running_loop().create_task(self._carried(task), context=self._context.copy())
        carrier.add_done_callback(self._left)
        self._carriers.add(carrier)
        self._running[task.id] = (task, carrier)

    async def _carried(self, task: Task) -> None:
        """Run a task, then one that it has led to, and so on: most steps of a loop or a chain have a single task.

        Each sees a context of its own, and the loop is let go at times, whatever the tasks do.
        """
        try:
            following = await self._attempt(task)
            since = clock()
            while following is not None:
                if clock() - since > LONGEST_TURN:
                    await asyncio.sleep(0)
                    since = clock()
                following = await Within(self._context.copy(), self._attempt(following))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - one of ours, or of who is told of the run: `drive` raises it
            self._stop(error)

    def _left(self, carrier: asyncio.Task[None]) -> None:
        """A carrier is through with its tasks, or was cancelled before it began with one."""
        self._carriers.discard(carrier)
        if carrier.cancelled() and self._failure is None and not self._closing:
            for task, ran_by in self._running.values():
                if ran_by is carrier:
                    self._stop(NodeCancelledError(task.node))
        if not self._carriers:
            self._wake()

    def _wake(self) -> None:
        """Let `drive` see that there is nothing more to wait for, or that the run stops."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _attempt(self, task: Task) -> Task | None:
        """Run a task to its end, one way or another. A task that has become ready by that is returned."""
        del self._unbegun[task.id]
        frame, told_of = Frame(self, task), False
        node = self.ledger.plan.nodes[task.node]
        try:
            enter(frame)
            if node.in_process or not self.slots.take_nowait():
                told = await self._waited(frame, node)
            else:
                told = await self._coded(frame, node)
            ended = clock()
            result, ticket = self._kept(frame, told, ended)
            told_of = True
            if self._patient or frame.has_spawned or (self.family.record is not None and self.family.record.crowded()):
                await self._let_go(frame, ticket)
        except GraphInterrupt as pause:
            self._in_turn(task, functools.partial(self._pause, task, pause, frame.written))
        except asyncio.CancelledError as cancelled:
            if self._failure is None and not self._closing:  # it is neither the run nor its caller who has cancelled it
                gone = NodeCancelledError(task.node)
                gone.__cause__ = cancelled
                if told_of:
                    self._stop(gone)
                else:
                    self._in_turn(task, functools.partial(self._failed, task, gone))
                return None
            if not told_of:
                self.emit(TaskCancelled(clock(), task.id))
            raise
        except BaseException as error:  # noqa: BLE001 - `drive` raises it when the siblings have ended
            self._in_turn(task, functools.partial(self._failed, task, error))
        else:
            return self._go_on(task, result)
        finally:
            del self._running[task.id]
            self._unstoppable.discard(task.id)
        return None

    def _kept(self, frame: Frame, told: Result, ended: float) -> tuple[Result, Ticket[None] | None]:
        """What a task has come to, as it is folded, and the ticket of what is to be stored of it."""
        task, streamed = frame.task, self.family.streams is not None
        if streamed:
            told = self.show.identified(told)
        if self.around is not None:
            frame.progress()
        result = self.ledger.settled(told)
        ticket = self.journal.keep(task, "result", result, patient=not self.family.wait_for_disk)
        self.jot((TaskFinished, ended, task.id, _keys_of(result.writes)))
        if streamed:
            self.show.result(task, told, cached=frame.cached)
            if task.node != START and not frame.cached:
                self.show.messages(frame, told.writes)
        return result, ticket

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
                    self.journal.keep(task, "error", named(error))
            self.show.end(task if handler is None else replace(task, node=handler.name), error=error)
        self._stop(_noted(error, task))  # `drive` raises it when the siblings have ended

    def _go_on(self, task: Task, result: Result) -> Task | None:
        watch = self.family.watch
        began = watch.post.since = clock()
        try:
            changed = self._failure is None and self._settle(task, result)
        except Exception as error:  # noqa: BLE001 - a step that cannot be folded ends the run like a failed node
            error.add_note(f"at the end of step {self.ledger.step}")
            self._stop(error)
            return None
        finally:
            watch.settled(self.emit, task.id, began)
        return self._launch(task) if changed else None

    def _settle(self, task: Task, result: Result) -> bool:
        """Tell the ledger of a result. Whether more may be ready than was before."""
        ledger = self.ledger
        folded = ledger.finish(task, result)
        if not folded:
            return ledger.looks_ahead
        while folded:
            self.show.values(always=False)
            self.mark("loop")
            self.emit(StepFinished(clock(), ledger.step - 1))
            if self.family.answers and not self.namespace:
                self.family.answers.pop(ANY, None)  # it was for the step that the run went on with
            self._stand_still()
            folded = ledger.looks_ahead and self._failure is None and ledger.fold()
        return True

    def _catch_up(self) -> None:
        """What came of tasks that ran ahead and did not end well counts now that it is their turn."""
        for task in self.ledger.tasks:
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
        if self._unseen:
            self.journal.checkpoint(self.ledger, source, {})
            return
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
        if self._failure is not None:
            return
        self._failure = error
        for task, carrier in self._running.values():
            if not self._spares(task) and carrier is not asyncio.current_task():
                carrier.cancel()
        self._wake()

    def _spares(self, task: Task) -> bool:
        """Whether a task is let finish, although the run stops."""
        if self._failure is None or self._closing:
            return not self._closing
        if isinstance(self._failure, ParentCommand):
            return task.id in self._unstoppable
        # What has run ahead into later steps does not depend on what failed; it is let finish, and kept.
        ahead = task.step > self.ledger.step and isinstance(self._failure, Exception)
        return ahead or self.family.let_finish or task.id in self._unstoppable

    @contextlib.contextmanager
    def unstoppable(self, task: Task) -> Iterator[None]:
        """Within this, the task is not cancelled when a sibling fails: what it has begun cannot be stopped."""
        mine = task.id not in self._unstoppable
        self._unstoppable.add(task.id)
        try:
            yield
        finally:
            if mine:  # the node itself may be tried again
                self._unstoppable.discard(task.id)

    # The task's code

    async def _waited(self, frame: Frame, node: Node) -> Result:
        """What a task decides, once it has what limits its kind."""
        processing = self.family.processing if node.in_process else None
        waited_for = ""
        if processing is not None and await processing.take():  # who waits for a process holds no slot of others
            waited_for = f"{processing.limit} processes"
        try:
            if await self.slots.take(frame.task.node):
                waited_for = f"limit {self.slots.limit}"
            return await self._coded(frame, node, waited_for)
        finally:
            if processing is not None:
                processing.give()

    async def _coded(self, frame: Frame, node: Node, waited_for: str = "") -> Result:
        """What a task that has a slot decides; the slot is given back."""
        frame.holding = True
        try:
            if self.family.record is not None and not self.family.record.sure():
                await self.family.record.check()
            self.jot((TaskStarted, clock(), frame.task.id, 1, waited_for))
            if self.around is not None:
                frame.progress()
            action = node.action
            if action is not None and not action.stoppable:
                self._unstoppable.add(frame.task.id)
            if action is None or node.governed:
                return await self.calls.governed(frame, node)
            return await self.calls.once(frame, node, action)
        except BaseException as error:
            asked = questions(error)
            await frame.rest(stop=asked is None and not isinstance(error, GraphInterrupt))
            if asked is not None:
                raise asked from error
            raise
        finally:
            if not frame.leave():
                await frame.end()

    # What is asked from elsewhere

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


def _keys_of(writes: tuple[Write, ...]) -> tuple[str, ...]:
    """What is written, each key once."""
    return (writes[0][0],) if len(writes) == 1 else tuple(dict.fromkeys(key for key, _ in writes))


def _noted(error: BaseException, task: Task) -> BaseException:
    with contextlib.suppress(TypeError):  # from an error whose notes are something of its own
        error.add_note(f"in node {task.node!r}, step {task.step}, task {task.id}")
    return error
