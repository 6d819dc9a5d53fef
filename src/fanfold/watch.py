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
import contextlib
import functools
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fanfold.events import (
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
)
from fanfold.family import ONLOOKERS, brief
from fanfold.frame import clock, current_frame
from fanfold.held import tell
from fanfold.watchdog import (
    FINDERS,
    HELD_FROM,
    OURS,
    PYTHON,
    USERS,
    WATCHDOG,
    Place,
    Post,
    Teller,
    ends_at,
    owner,
    place_of,
)

if TYPE_CHECKING:
    from fanfold.receipt import Receipt

BLOCK: Final = "block"
TASK: Final = "task"
NODE: Final = "node"
AGENT: Final = "agent"


@dataclass(slots=True, eq=False)
class _Unit:
    """One task as it is watched. `live` of its own tasks have not ended; while there are any, it waits for them.

    `free` is when it was last at work or had waited for the last of them, on whatever asyncio task.
    """

    id: str
    name: str
    role: str
    parent: _Unit | None
    queued: float
    live: int = 0
    free: float = 0.0
    started: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Segment:
    """What a thread's event loop does now, and since when; `since` is 0.0 while it does nothing of what is watched."""

    post: Post
    unit: _Unit
    since: float = 0.0


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
        self._current: ContextVar[_Unit] = ContextVar("fanfold_watched")
        self._block = _Unit(f"{name}-0", name, BLOCK, None, 0.0)
        self._lock = threading.RLock()
        self._segments: dict[int, _Segment] = {}
        self._steps: dict[Any, tuple[int, list[str], list[str]]] = {}
        self._onlooker = self._new_run
        self.over = False

    def __enter__(self) -> Watch:
        now = clock()
        self._told.append(RunStarted(now, f"{self.name}-{uuid.uuid4().hex[:8]}", "", self.name, time.time()))
        self._told.append(TaskQueued(now, self._block.id, self.name, 1, BLOCK))
        self._told.append(TaskStarted(now, self._block.id))
        self._block.started = True
        ONLOOKERS.append(self._onlooker)
        FINDERS.append(self._teller)
        if asyncio._get_running_loop() is not None:
            self._segment()
        _begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self)
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
            told = sorted(self._told, key=lambda event: event.at)
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

    @property
    def receipt(self) -> Receipt:
        """Whether what was watched ran side by side, and what kept it from that. Within the block, so far."""
        return self._judge(self._judged)

    @property
    def longest_hold(self) -> LoopHeld | None:
        """When the event loop was held for longest, if it was."""
        holds = [event for event in self._judged if isinstance(event, LoopHeld)]
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
    def current(self) -> _Unit:
        """The task whose code runs here."""
        return self._current.get(self._block)

    def enter(self, unit: _Unit, now: float) -> _Unit:
        """From here on, the code that runs here is this task's; whose it was."""
        before = self.current
        self._current.set(unit)
        self._cut(unit, now)
        return before

    def queue(
        self, name: str, role: str, *, at: float | None = None, step: int = 1, after: Sequence[str] = ()
    ) -> _Unit:
        """A task may run; it belongs to the one whose code runs here."""
        parent = self.current
        with self._lock:
            now = clock() if at is None else at
            unit = _Unit(self._new_id(), name, role, parent, now)
            self._told.append(TaskQueued(now, unit.id, name, step, role, tuple(after), parent.id))
            parent.live += 1
            if parent.live == 1 and not parent.ended and parent.started:
                self._told.append(TaskPaused(now, parent.id))
        return unit

    def start(self, unit: _Unit, waited_for: str = "", pool: str = "") -> None:
        """Its code begins; if that is late, it has waited for that, or for a thread of a pool."""
        now = clock()
        with self._lock:
            if self.over:
                return
            if unit.role == TASK and (named := _named()):
                self._names[unit.id] = named
            unit.started = True
            late = now - unit.queued >= HELD_FROM
            at = unit.queued if pool and late else now
            self._told.append(TaskStarted(at, unit.id, waited_for=waited_for if late else ""))
            if at < now:
                self._told.append(TaskBlocked(now, unit.id, "thread", now - at, pool))

    def end(self, unit: _Unit, error: BaseException | None = None) -> None:
        """Its code has ended."""
        now, parent = clock(), unit.parent
        with self._lock:
            if unit.ended or self.over:
                return
            unit.ended = True
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

    def emit(self, event: LoopHeld | TaskHeldUp | TaskBlocked) -> None:
        """What was seen of a task, in a stretch that ends now."""
        with self._lock:
            if not self.over:
                self._told.append(event)

    # Slices

    def _segment(self) -> _Segment:
        thread = threading.get_ident()
        segment = self._segments.get(thread)
        if segment is None:
            segment = self._segments[thread] = _Segment(WATCHDOG.begin(), self._block)
        elif segment.post.loop is None or segment.post.loop.is_closed():
            segment.post.loop = asyncio._get_running_loop()
        return segment

    def begin_slice(self, suspended: float, now: float) -> tuple[_Segment, _Unit | None]:
        """A task of asyncio's goes on, here and now; maybe within the slice of another, which is returned with it."""
        segment = self._segment()
        around = segment.unit if segment.since else None
        self._cut(self.current, now)
        post, unit = segment.post, self.current
        segment.unit = unit
        segment.since = post.since = now
        suspended = max(suspended, unit.free)
        if suspended < post.held_until and post.follows(now) and post.held_by != {unit.id} and not unit.live:
            seconds = post.held_until - max(post.held_since, suspended)
            if seconds >= HELD_FROM and unit.started:
                self.emit(TaskHeldUp(now, unit.id, seconds))
        return segment, around

    def end_slice(self, segment: _Segment, around: _Unit | None, now: float) -> None:
        """It has come to an await, or to its end."""
        segment.unit.free = now
        if segment.since and now - segment.since >= HELD_FROM:
            self._held(segment, segment.since, now)
        segment.since = 0.0 if around is None else now
        segment.unit = around or segment.unit
        segment.post.since = segment.since

    def _cut(self, unit: _Unit, now: float) -> None:
        """The code that goes on without an await is another task's from here on."""
        segment = self._segments.get(threading.get_ident())
        if segment is None or not segment.since:
            return
        if now - segment.since >= HELD_FROM:
            self._held(segment, segment.since, now)
        segment.unit = unit
        segment.since = segment.post.since = now

    def _held(self, segment: _Segment, began: float, ended: float) -> None:
        segment.post.held(began, ended, segment.unit.id)
        self._blame(segment.unit, began, ended, segment.post.place(began))

    def _blame(self, unit: _Unit, began: float, ended: float, place: Place) -> None:
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

    def called(self, unit: _Unit, calls: Sequence[_Call]) -> None:
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

    def node(self, task: Any, at: float | None = None) -> _Unit:
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


Units: TypeAlias = list[tuple[Watch, _Unit]]
_active: list[Watch] = []
_switch: Final = threading.Lock()


# Coroutines


@dataclass(slots=True)
class _Call:
    code: CodeType
    began: float
    ended: float
    of: Any = field(repr=False, default=None)


class _Around(Coroutine[Any, Any, Any]):
    """A coroutine around another one, which passes on whatever goes in and out, and is taken for that one."""

    __slots__ = ("__weakref__", "_inner")

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Any = partial(self.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            try:
                step = partial(self.send, (yield waits_for))
            except GeneratorExit:
                self.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is meant for the work inside, whatever it is
                step = partial(self.throw, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        return step(*given)


class _Sliced(_Around):
    """What a task of asyncio's runs: each of its slices is timed."""

    __slots__ = ("_suspended", "_watches")

    def __init__(self, inner: Any, watches: Sequence[Watch]) -> None:
        super().__init__(inner)
        self._watches = watches
        self._suspended = clock()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        now = clock()  # the same for all of them: the watchdog knows a slice by its beginning
        open = [(watch, *watch.begin_slice(self._suspended, now)) for watch in self._watches if not watch.over]
        try:
            return step(*given)
        finally:
            self._suspended = now = clock()
            for watch, segment, around in open:
                watch.end_slice(segment, around, now)


class _Lived(_Around):
    """A coroutine that is a task, from its first slice to its end."""

    __slots__ = ("_before", "_calls", "_since", "_units", "_waited_for")

    def __init__(self, inner: Any, units: Units, waited_for: str = "") -> None:
        super().__init__(inner)
        self._units = units
        self._waited_for = waited_for
        self._before: Units | None = None
        self._calls: list[_Call] = []
        self._since = 0.0

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        if self._before is None:
            self._before = entered(self._units, self._waited_for)
        self._since = clock()
        try:
            waits_for = step(*given)
        except BaseException as end:
            self._told_calls()
            left(self._units, self._before, None if isinstance(end, StopIteration) else end)
            raise
        self._look()
        return waits_for

    def close(self) -> None:
        self._inner.close()
        if self._before is None:
            for watch, unit in self._units:
                watch.end(unit, GeneratorExit())

    def _told_calls(self) -> None:
        if self._calls and self._calls[-1].of is not None:
            self._calls[-1].ended = self._since
        for watch, unit in self._units:
            watch.called(unit, [call for call in self._calls if call.ended - call.began >= HELD_FROM])

    def _look(self) -> None:
        """See which coroutine of the user's is awaited now: the same as before, or one that has been called since."""
        awaits = getattr(self._inner, "cr_await", None)
        code = getattr(awaits, "cr_code", None)
        if self._calls and self._calls[-1].of is not None:
            self._calls[-1].ended = self._since
            if self._calls[-1].of is awaits:
                return
            self._calls[-1].of = None
        if code is not None and owner(code.co_filename) == USERS:
            self._calls.append(_Call(code, self._since, self._since, awaits))


def entered(units: Units, waited_for: str = "", pool: str = "") -> Units:
    """The code of these tasks begins here; whose code it was that runs here."""
    for watch, unit in units:
        watch.start(unit, waited_for, pool)
    now = clock()
    return [(watch, watch.enter(unit, now)) for watch, unit in units]


def left(units: Units, before: Units, error: BaseException | None = None) -> None:
    """It has ended, and the code that goes on is of those before."""
    now = clock()
    for watch, unit in before:
        watch.enter(unit, now)
    for watch, unit in units:
        watch.end(unit, error)


@contextlib.contextmanager
def lived(units: Units, pool: str = "") -> Iterator[None]:
    """Within this, the code that runs is that of these tasks, in a thread of a pool if one is named."""
    before = entered(units, pool=pool)
    try:
        yield
    except BaseException as error:
        left(units, before, error)
        raise
    left(units, before)


def _task_of(coroutine: Any) -> Any:
    """What an asyncio task is to run instead of a coroutine."""
    watches = tuple(_active)
    code = getattr(coroutine, "cr_code", None)
    if code is not None and owner(code.co_filename) == OURS and not isinstance(coroutine, _Lived):
        return coroutine  # runs of ours tell of themselves
    inner = coroutine
    if not isinstance(coroutine, _Lived) and _counts(coroutine):
        name = _name_of(coroutine)
        inner = _Lived(coroutine, [(watch, watch.queue(name, TASK)) for watch in watches])
    return _Sliced(inner, watches)


def _counts(coroutine: Any) -> bool:
    """Whether it is the user's, or started by the user's code, and no part of a run of ours."""
    if current_frame() is not None:
        return False
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    whose = PYTHON if code is None else owner(code.co_filename)
    if whose == USERS:
        return True
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename == __file__ or owner(frame.f_code.co_filename) == PYTHON):
        if frame.f_code.co_filename == asyncio.runners.__file__:  # it tidies up
            return False
        frame = frame.f_back
    return frame is not None and owner(frame.f_code.co_filename) == USERS


def _named() -> str:
    """How somebody has named the asyncio task that runs here; "" where it is only numbered."""
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    name = "" if task is None else task.get_name()
    return "" if name.startswith("Task-") else name


def _name_of(coroutine: Any) -> str:
    if getattr(coroutine, "cr_code", None) is asyncio.to_thread.__code__:
        return _short(coroutine.cr_frame.f_locals["func"])
    return _short(coroutine)


def _short(code: Any) -> str:
    while isinstance(code, partial):
        code = code.func
    name = getattr(code, "__qualname__", None) or getattr(code, "__name__", None) or type(code).__qualname__
    return str(name).rpartition("<locals>.")[2]


# What is replaced while somebody watches

_originals: list[tuple[Any, str, Any, Any]] = []


def _replace(of: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Put something around a function of somebody else's."""
    own = vars(of).get(name)
    ours = around(getattr(of, name) if own is None else own)
    setattr(of, name, ours)
    _originals.append((of, name, own, ours))


def _begin(watch: Watch) -> None:
    with _switch:
        if not _active:
            _watch_asyncio()
            _unseen.update(("langgraph.pregel._runner", "pydantic_ai.agent"))
        _active.append(watch)
    _look_for_libraries()


def _end(watch: Watch) -> None:
    with _switch:
        _active.remove(watch)
        while not _active and _originals:
            of, name, own, ours = _originals.pop()
            if vars(of).get(name) is not ours:  # somebody has put theirs around it, which without ours would not work
                continue
            if own is None:
                delattr(of, name)
            else:
                setattr(of, name, own)


def _watch_asyncio() -> None:
    loops: list[Any] = [asyncio.BaseEventLoop]
    with contextlib.suppress(ImportError):
        import uvloop

        loops.append(uvloop.Loop)
    for loop in loops:
        _replace(loop, "create_task", _creating)
    for lock, kind in ((asyncio.Lock, "lock"), (asyncio.Semaphore, "semaphore")):
        _replace(lock, "acquire", partial(_acquiring, kind))
        _replace(lock, "release", _releasing)
    _replace(ThreadPoolExecutor, "submit", _submitting)


_unseen: set[str] = set()
"""The libraries that are not there yet; one may be imported only when the first of its graphs runs."""


def _look_for_libraries() -> None:
    for name in tuple(_unseen):
        if name in sys.modules:
            with _switch:
                _watch_library(name, sys.modules[name])


def _watch_library(name: str, module: Any) -> None:
    if name not in _unseen or not _active:
        return
    if name == "pydantic_ai.agent" and hasattr(module, "Agent"):
        _replace(module.Agent, "iter", _agent_run)
    elif hasattr(module, "arun_with_retry") and hasattr(module, "run_with_retry"):
        _replace(module, "arun_with_retry", _node_awaited)
        _replace(module, "run_with_retry", _node_called)
    else:  # it is being imported
        return
    _unseen.discard(name)


def _creating(original: Any) -> Any:
    @functools.wraps(original)
    def create_task(loop: Any, coro: Any, **options: Any) -> Any:
        _look_for_libraries()
        if _active and asyncio.iscoroutine(coro) and not isinstance(coro, _Sliced):
            coro = _task_of(coro)
        return original(loop, coro, **options)

    return create_task


def _node_awaited(original: Any) -> Any:
    @functools.wraps(original)
    def arun_with_retry(task: Any, *args: Any, **options: Any) -> Any:
        work = original(task, *args, **options)
        limit = (task.config or {}).get("max_concurrency")
        units = [(watch, watch.node(task)) for watch in _watching(task)]
        return _Lived(work, units, "" if limit is None else f"limit {limit}") if units else work

    return arun_with_retry


def _node_called(original: Any) -> Any:
    @functools.wraps(original)
    def run_with_retry(task: Any, *args: Any, **options: Any) -> Any:
        asked, pool = _waited_for_a_thread()
        with lived([(watch, watch.node(task, asked)) for watch in _watching(task)], pool):
            return original(task, *args, **options)

    run_with_retry.fanfold_is_a_task = True  # type: ignore[attr-defined]  # so that its wait for a thread is its own
    return run_with_retry


def _watching(task: Any) -> tuple[Watch, ...]:
    """Those who are to hear of a node; what only brings the input in is none."""
    return () if task.name == "__start__" else tuple(_active)


def _agent_run(original: Any) -> Any:
    @functools.wraps(original)
    @contextlib.asynccontextmanager
    async def iter(agent: Any, *args: Any, **options: Any) -> Any:
        name = str(getattr(agent, "name", None) or "agent")
        watches = tuple(_active) if current_frame() is None else ()  # a run of ours tells of its agents itself
        with lived([(watch, watch.queue(name, AGENT)) for watch in watches]):
            async with original(agent, *args, **options) as run:
                yield run

    return iter


# Locks


_holders: weakref.WeakKeyDictionary[Any, dict[Watch, list[_Unit]]] = weakref.WeakKeyDictionary()


def _acquiring(kind: str, original: Any) -> Any:
    @functools.wraps(original)
    async def acquire(lock: Any) -> Any:
        held, since = {key: list(units) for key, units in _holders.get(lock, {}).items()}, clock()
        answer = await original(lock)
        now = clock()
        stood = now - since - WATCHDOG.held(since, now)
        for watch in tuple(_active):
            unit = watch.current
            _holders.setdefault(lock, {}).setdefault(watch, []).append(unit)
            if stood >= HELD_FROM and unit.started and not unit.live:
                holder = next((one.id for one in held.get(watch, ()) if one is not unit), "")
                place = place_of(sys._getframe())
                watch.emit(TaskBlocked(now, unit.id, kind, stood, "", holder, place.file, place.line, place.function))
        return answer

    return acquire


def _releasing(original: Any) -> Any:
    @functools.wraps(original)
    def release(lock: Any) -> Any:
        for watch, units in _holders.get(lock, {}).items():
            unit = watch.current
            if units:
                units.remove(unit if unit in units else units[0])
        return original(lock)

    return release


# Threads


_here: Final = threading.local()


def _submitting(original: Any) -> Any:
    @functools.wraps(original)
    def submit(pool: Any, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        _look_for_libraries()
        answer: Future[Any] = original(pool, _Handed(pool, fn, args), *args, **options)
        return answer

    return submit


class _Handed:
    """A function that is handed to a thread of a pool, and how long it waits for that thread."""

    __slots__ = ("_asked", "_fn", "_place", "_units", "_waits")

    def __init__(self, pool: Any, fn: Any, args: Any) -> None:
        self._asked = clock()
        self._fn = fn
        self._place = f"pool of {pool._max_workers} threads"
        told_by_itself = any(hasattr(arg, "fanfold_is_a_task") for arg in args[:2])
        watches = tuple(_active) if not told_by_itself else ()
        on_loop = asyncio._get_running_loop() is not None
        theirs = not on_loop and _is_users(fn)
        self._units = [(watch, watch.queue(_short(fn), TASK)) for watch in watches] if theirs else []
        self._waits = [] if theirs else [(watch, watch.current) for watch in watches]

    def __call__(self, *args: Any, **options: Any) -> Any:
        now = clock()
        late = now - self._asked >= HELD_FROM
        _here.handed = (self._asked, self._place)
        for watch, unit in self._waits if late else ():
            if unit.started and not unit.live:
                watch.emit(TaskBlocked(now, unit.id, "thread", now - self._asked, self._place))
        try:
            with lived(self._units, self._place):
                return self._fn(*args, **options)
        finally:
            _here.handed = None


def _is_users(fn: Any) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    return code is not None and owner(code.co_filename) == USERS


def _waited_for_a_thread() -> tuple[float | None, str]:
    """Since when the function that this thread of a pool runs has waited, and the pool."""
    handed, _here.handed = getattr(_here, "handed", None), None
    return handed or (None, "")


ends_at(_Sliced._step.__code__)
