"""`with audit.watch() as watched:` judges whatever runs on asyncio meanwhile: plain coroutines, graphs of LangGraph's,
agents of pydantic-ai's. It writes the same events about them as a run of ours does, so the same receipt comes of them.

What counts as a task, and by which name:

- a node of a LangGraph graph, async or in a thread, by its own name;
- a run of an agent of pydantic-ai's, by the agent's;
- an asyncio task that runs the user's coroutine, or that the user's code has started, by the coroutine's;
- a function of the user's that blocking code hands to a pool of threads;
- where nothing of this was seen but one coroutine, the calls of another one that it awaits one after another.

The block itself is the outermost one. A task whose own tasks are at work waits for them. What a library starts for
itself belongs to the task that has called the library.

While somebody watches, a few functions of asyncio and of these libraries are replaced by ones that tell us, and put
back when the last one stops. That is all: no loop, no task factory and no policy is touched, so asyncio's own loop and
uvloop are watched alike, and whatever a program has installed there stays.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, ContextVar
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fanfold.errors import UsageError
from fanfold.events import (
    ClockJumped,
    Event,
    LoopHeld,
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskHeldUp,
    TaskPaused,
    TaskQueued,
    TaskStarted,
    ThreadUsed,
)
from fanfold.family import ONLOOKERS, brief
from fanfold.frame import clock
from fanfold.held import tell, tell_pieces
from fanfold.turns import BRIEF
from fanfold.watch import replaced
from fanfold.watch.units import AGENT, BLOCK, NODE, TASK, Call, Segment, Unit, named_here
from fanfold.watchdog import FINDERS, HELD_FROM, WATCHDOG, Teller
from fanfold.whose import USERS, Place, owner

if TYPE_CHECKING:
    from fanfold.receipt import Receipt


class Watch:
    """Watches what runs between its beginning and its end, in all threads. Used once, as `with` or `async with`.

    Where a single graph of ours has run and nothing else, the receipt is that run's own.
    """

    def __init__(self, name: str, judge: Callable[[list[Event]], Receipt]) -> None:
        self.name = name
        self._judge = judge
        self.runs: list[list[Event]] = []
        self._told: list[Event] = []
        self._queued_so_far = 0
        self._names: dict[str, str] = {}  # what tasks have been named after they were made
        self._current: ContextVar[Unit] = ContextVar("fanfold_watched")
        self._block = Unit(f"{name}-0", name, BLOCK, None, 0.0)
        self._lock = threading.RLock()
        self._segments: dict[int, Segment] = {}
        self._steps: dict[Any, tuple[int, list[str], list[str]]] = {}
        self._onlooker = self._new_run
        self.over = False

    def __enter__(self) -> Watch:
        if self._told:
            raise UsageError("this watch has been used", hint="make another one: audit.watch()")
        now = clock()
        self._told.append(RunStarted(now, f"{self.name}-{uuid.uuid4().hex[:8]}", "", self.name, time.time()))
        self._told.append(TaskQueued(now, self._block.id, self.name, 1, BLOCK))
        self._told.append(TaskStarted(now, self._block.id))
        self._block.started = True
        ONLOOKERS.append(self._onlooker)
        FINDERS.append(self._teller)
        self._segment()
        replaced.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        replaced.end(self)
        FINDERS.remove(self._teller)
        ONLOOKERS.remove(self._onlooker)
        with self._lock:
            for segment in self._segments.values():
                WATCHDOG.end(segment.post)
            self.end(self._block, error)
            self._told.append(
                RunFinished(clock(), "done" if error is None else "failed", brief(error) if error else "")
            )
            self.over = True

    async def __aenter__(self) -> Watch:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def events(self) -> list[Event]:
        """What has been seen so far, in order, as events of one run."""
        with self._lock:
            told = sorted([*self._told, *self._stops()], key=lambda event: event.at)
        queued = [event for event in told if type(event) is TaskQueued]
        roles, above = {event.role for event in queued}, {event.parent for event in queued}

        def role(event: TaskQueued) -> str:
            if event.role == AGENT or (event.role == TASK and event.task not in above and not roles & {AGENT, NODE}):
                return AGENT
            return NODE

        names = self._names
        return [
            replace(event, role=role(event), name=names.get(event.task, event.name))
            if type(event) is TaskQueued
            else event
            for event in told
        ]

    def _stops(self) -> Iterator[ClockJumped]:
        """When the whole process has stood still."""
        if not self._told:  # it has not begun
            return
        first, last = self._told[0].at, self._told[-1].at
        for since, until in WATCHDOG.stops(first):
            if until <= last or not self.over:
                yield ClockJumped(until, until - since)

    @property
    def receipt(self) -> Receipt:
        """Whether what was watched ran side by side, and what kept it from that. Within the block, so far."""
        return self._judge(self._judged)

    @property
    def longest_hold(self) -> LoopHeld | None:
        """When code held the event loop for longest, if it did."""
        holds = [event for event in self._judged if isinstance(event, LoopHeld) and event.by_code]
        return max(holds, key=lambda hold: hold.seconds, default=None)

    @property
    def _judged(self) -> list[Event]:
        alone = len(self.runs) == 1 and not any(event.role in (AGENT, NODE) for event in self._queued())
        return list(self.runs[0]) if alone else self.events

    def _queued(self) -> Iterator[TaskQueued]:
        """The tasks of other people's that were seen; those around a single run of ours only wait for it."""
        above = {event.parent for event in self._told if type(event) is TaskQueued}
        for event in self._told:
            if type(event) is TaskQueued:
                leads = event.task not in above and event.role == TASK and event.parent != self._block.id
                yield replace(event, role=AGENT) if leads else event

    def _new_run(self) -> Callable[[Event], object]:
        events: list[Event] = []
        self.runs.append(events)
        return events.append

    # Tasks

    def _new_id(self) -> str:
        self._queued_so_far += 1
        return f"{self.name}-{self._queued_so_far}"

    @property
    def current(self) -> Unit:
        """The task whose code runs here."""
        return self._current.get(self._block)

    def enter(self, unit: Unit, now: float) -> Unit:
        """From here on, the code that runs here is this task's; whose it was."""
        before = self.current
        self._current.set(unit)
        self._cut(unit, now)
        return before

    def queue(self, name: str, role: str, *, at: float | None = None, step: int = 1, after: Sequence[str] = ()) -> Unit:
        """A task may run; it belongs to the one whose code runs here."""
        parent = self.current
        with self._lock:
            now = clock() if at is None else at
            unit = Unit(self._new_id(), name, role, parent, now)
            self._told.append(TaskQueued(now, unit.id, name, step, role, tuple(after), parent.id))
            parent.live += 1
            if parent.live == 1 and not parent.ended and parent.started:
                paused = clock()  # what it waited for until now may have ended since `at`
                self._told.append(TaskPaused(paused, parent.id))
        return unit

    def start(self, unit: Unit, waited_for: str = "", pool: str = "") -> None:
        """Its code begins; if that is late, it has waited for that, or for a thread of a pool."""
        now = clock()
        with self._lock:
            if self.over:
                return
            if unit.role == TASK and (named := named_here()):
                self._names[unit.id] = named
            unit.started = True
            late = now - unit.queued >= HELD_FROM
            at = unit.queued if pool and late else now
            self._told.append(TaskStarted(at, unit.id, waited_for=waited_for if late else ""))
            if at < now:
                self._told.append(TaskBlocked(now, unit.id, "thread", now - at, pool))

    def end(self, unit: Unit, error: BaseException | None = None) -> None:
        """Its code has ended."""
        now, parent = clock(), unit.parent
        with self._lock:
            if unit.ended or self.over:
                return
            unit.ended = True
            for segment in self._segments.values():
                segment.turns.forget(unit.id)
            if error is None:
                self._told.append(TaskFinished(now, unit.id))
            elif isinstance(error, Exception):
                self._told.append(TaskFailed(now, unit.id, brief(error)))
            else:
                self._told.append(TaskCancelled(now, unit.id))
            if parent is not None:
                parent.live -= 1
                parent.free = now
                if not parent.live and not parent.ended and parent.started:
                    self._told.append(TaskContinued(now, parent.id))

    def emit(self, event: LoopHeld | TaskHeldUp | TaskBlocked | ThreadUsed) -> None:
        """What was seen of a task, in a stretch that ends now."""
        with self._lock:
            if not self.over:
                self._told.append(event)

    # Slices

    def _segment(self) -> Segment:
        thread = threading.get_ident()
        segment = self._segments.get(thread)
        if segment is None:
            segment = self._segments[thread] = Segment(WATCHDOG.begin(), self._block)
        elif segment.post.loop is None or segment.post.loop.is_closed():
            segment.post.loop = asyncio._get_running_loop()
        return segment

    def begin_slice(self, suspended: float, now: float) -> tuple[Segment, Unit | None]:
        """A task of asyncio's goes on, here and now; maybe within the slice of another, which is returned with it."""
        segment = self._segment()
        around = segment.unit if segment.since else None
        self._cut(self.current, now)
        post, unit = segment.post, self.current
        segment.unit = unit
        segment.since = post.since = now
        suspended = max(suspended, unit.free)
        if unit.started and not unit.live:
            held_up = self._waited(segment, suspended, now)
            held_up += segment.turns.late(unit.id, suspended, now, held_up)
            if held_up:
                self.emit(TaskHeldUp(now, unit.id, held_up))
        return segment, around

    def _waited(self, segment: Segment, suspended: float, now: float) -> float:
        """Seconds for which the task that goes on could have done so, had another one not held the loop just before."""
        seconds = segment.post.kept(segment.unit.id, suspended, now)
        return seconds if seconds >= HELD_FROM else 0.0

    def end_slice(self, segment: Segment, around: Unit | None, now: float) -> None:
        """It has come to an await, or to its end."""
        segment.unit.free = now
        self._took(segment, now)
        segment.since = 0.0 if around is None else now
        segment.unit = around or segment.unit
        segment.post.since = segment.since

    def _cut(self, unit: Unit, now: float) -> None:
        """The code that goes on without an await is another task's from here on."""
        segment = self._segments.get(threading.get_ident())
        if segment is None or not segment.since:
            return
        self._took(segment, now)
        segment.unit = unit
        segment.since = segment.post.since = now

    def _took(self, segment: Segment, now: float) -> None:
        """What was on the loop, if anything was, goes from it."""
        since, unit = segment.since, segment.unit
        if since and now - since >= HELD_FROM:
            self._held(segment, since, now)
        elif since and now - since >= BRIEF and unit.role != BLOCK:
            place = segment.post.place(since)
            segment.turns.took(unit.id, since, now, place, partial(tell_pieces, self.emit))

    def _held(self, segment: Segment, began: float, ended: float) -> None:
        segment.post.held(began, ended, segment.unit.id)
        late = segment.turns.held(segment.unit.id, began, ended)
        if late:
            self.emit(TaskHeldUp(began, segment.unit.id, late))
        self._blame(segment.unit, began, ended, segment.post.place(began))

    def _blame(self, unit: Unit, began: float, ended: float, place: Place) -> None:
        """A task has held the loop. One that waits for its own tasks was at work then, all the same."""
        if unit.role == BLOCK and owner(place.file or __file__) != USERS:
            return  # what asyncio does at its beginning and its end is nobody's doing
        with self._lock:
            waiting = unit.live > 0 and unit.started and not unit.ended
            if waiting:
                self._told.append(TaskContinued(began, unit.id))
            tell(self.emit, unit.id, began, ended, place)
            if waiting:
                self._told.append(TaskPaused(ended, unit.id))

    def _teller(self, context: Context) -> Teller | None:
        """Whom to tell of code that no slice is known of: that of the block itself."""
        unit = context.get(self._current, self._block)
        return unit.id, lambda _, began, ended, place: self._blame(unit, began, ended, place)

    # Calls that a task awaits one after another

    def called(self, unit: Unit, calls: Sequence[Call]) -> None:
        """A task has awaited these, one after another. If nothing else was seen, they are told of as tasks.

        Where there are tasks, such calls are their own affair: one that asks page after page is one task all the same.
        """
        if self._queued_so_far > 1 or len(calls) < 2 or len({call.code for call in calls}) > 1:
            return
        with self._lock:
            for call in calls:
                id = self._new_id()
                self._told.append(TaskPaused(call.began, unit.id))
                self._told.append(TaskQueued(call.began, id, call.code.co_name, 1, TASK, (), unit.id))
                self._told.append(TaskStarted(call.began, id))
                self._told.append(TaskFinished(call.ended, id))
                self._told.append(TaskContinued(call.ended, unit.id))

    # LangGraph's nodes

    def node(self, task: Any, at: float | None = None) -> Unit:
        """A node's task, after all tasks of the step before in its graph."""
        config = task.config or {}
        step = int((config.get("metadata") or {}).get("langgraph_step") or 1)
        place = str((config.get("configurable") or {}).get("checkpoint_ns") or "").rpartition("|")[0]
        key = (self.current.id, place, getattr(config.get("callbacks"), "parent_run_id", None))
        with self._lock:
            known, before, now = self._steps.get(key, (step, [], []))
            if known != step:
                before, now = now, []
            unit = self.queue(str(task.name), NODE, at=at, step=step, after=before)
            now.append(unit.id)
            self._steps[key] = (step, before, now)
        return unit
