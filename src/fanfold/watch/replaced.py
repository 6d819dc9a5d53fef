"""What is replaced while somebody watches, and put back when the last one stops."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from fanfold.events import TaskBlocked, ThreadUsed
from fanfold.frame import clock, current_frame
from fanfold.held import ANYIOS
from fanfold.pools import full, listen, size_of, unlisten
from fanfold.watch.coroutines import Lived, Sliced, Units, lived
from fanfold.watch.units import AGENT, TASK, Unit
from fanfold.watchdog import HELD_FROM, WATCHDOG
from fanfold.whose import ANYIO, NOWHERE, OURS, PYTHON, USERS, owner, place_of
from fanfold.work.threads import BUSY_FROM, INSIDE, metered

if TYPE_CHECKING:
    from fanfold.watch import Watch

_active: list[Watch] = []
_switch: Final = threading.Lock()


_originals: list[tuple[Any, str, Any, Any]] = []


def _replace(of: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Put something around a function of somebody else's."""
    own = vars(of).get(name)
    ours = around(getattr(of, name) if own is None else own)
    setattr(of, name, ours)
    _originals.append((of, name, own, ours))


def begin(watch: Watch) -> None:
    """From here on, it is told of what runs."""
    if "anyio" in sys.modules:  # which imports the rest of itself when its first lock is made, and nobody looks then
        importlib.import_module(_ANYIOS)
    with _switch:
        if not _active:
            _watch_asyncio()
            listen(_handing)
            _unseen.update(_LIBRARIES)
        _active.append(watch)
    _look_for_libraries()


def end(watch: Watch) -> None:
    """From here on, it is not."""
    with _switch:
        _active.remove(watch)
        if not _active:
            unlisten(_handing)
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


_ANYIOS: Final = "anyio._backends._asyncio"
_LIBRARIES: Final = ("langgraph.pregel._runner", "pydantic_ai.agent", _ANYIOS)
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
    elif name == _ANYIOS and hasattr(module, "CapacityLimiter"):
        _watch_anyios(module)
    elif hasattr(module, "arun_with_retry") and hasattr(module, "run_with_retry"):
        _replace(module, "arun_with_retry", _node_awaited)
        _replace(module, "run_with_retry", _node_called)
    else:  # it is being imported
        return
    _unseen.discard(name)


def _watch_anyios(module: Any) -> None:
    for method, kind in ANYIOS.items():
        of, _, acquire = method.partition(".")
        _replace(getattr(module, of), acquire, partial(_acquiring, kind))
        _replace(getattr(module, of), acquire.replace("acquire", "release"), _releasing)


def _creating(original: Any) -> Any:
    @functools.wraps(original)
    def create_task(loop: Any, coro: Any, **options: Any) -> Any:
        _look_for_libraries()
        if _active and asyncio.iscoroutine(coro) and not isinstance(coro, Sliced):
            coro = _task_of(coro)
        return original(loop, coro, **options)

    return create_task


def _node_awaited(original: Any) -> Any:
    @functools.wraps(original)
    def arun_with_retry(task: Any, *args: Any, **options: Any) -> Any:
        work = original(task, *args, **options)
        limit = (task.config or {}).get("max_concurrency")
        units = [(watch, watch.node(task)) for watch in _watching(task)]
        return Lived(work, units, "" if limit is None else f"limit {limit}") if units else work

    return arun_with_retry


def _node_called(original: Any) -> Any:
    @functools.wraps(original)
    def run_with_retry(task: Any, *args: Any, **options: Any) -> Any:
        asked, pool = _waited_for_a_thread()
        units = [(watch, watch.node(task, asked)) for watch in _watching(task)]
        in_a_pool = threading.get_ident() in INSIDE
        with lived(units, pool):
            return (_metered(original, units) if in_a_pool else original)(task, *args, **options)

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


_holders: weakref.WeakKeyDictionary[Any, dict[Watch, list[Unit]]] = weakref.WeakKeyDictionary()


def _acquiring(kind: str, original: Any) -> Any:
    @functools.wraps(original)
    async def acquire(lock: Any, *args: Any) -> Any:
        held, since = {key: list(units) for key, units in _holders.get(lock, {}).items()}, clock()
        answer = await original(lock, *args)
        now = clock()
        stood = now - since - WATCHDOG.held(since, now)
        for watch in tuple(_active):
            unit = watch.current
            _holders.setdefault(lock, {}).setdefault(watch, []).append(unit)
            if stood >= HELD_FROM and unit.started and not unit.live:
                holder = next((one.id for one in held.get(watch, ()) if one is not unit), "")
                place = place_of(sys._getframe())
                if owner(place.file) in (PYTHON, OURS):  # it is acquired in a task of its own
                    place = NOWHERE
                watch.emit(TaskBlocked(now, unit.id, kind, stood, "", holder, *place[:3]))
        return answer

    return acquire


def _releasing(original: Any) -> Any:
    @functools.wraps(original)
    def release(lock: Any, *args: Any) -> Any:
        for watch, units in _holders.get(lock, {}).items():
            unit = watch.current
            if units:
                units.remove(unit if unit in units else units[0])
        return original(lock, *args)

    return release


# Threads


_here: Final = threading.local()


def _handing(pool: ThreadPoolExecutor, fn: Any, args: Any) -> Any:
    _look_for_libraries()
    return _Handed(pool, fn, args) if _active else fn


class _Handed:
    """A function that is handed to a thread of a pool, and how long it waits for that thread, if none was free."""

    __slots__ = ("_asked", "_fn", "_place", "_units", "_waits")

    def __init__(self, pool: Any, fn: Any, args: Any) -> None:
        self._asked = clock()
        self._fn = fn
        self._place = size_of(pool) if full(pool) else ""
        told_by_itself = any(hasattr(each, "fanfold_is_a_task") for each in _calls(fn, args))
        watches = tuple(_active) if not told_by_itself else ()
        on_loop = asyncio._get_running_loop() is not None
        theirs = not on_loop and _is_users(fn)
        self._units = [(watch, watch.queue(_short(fn), TASK)) for watch in watches] if theirs else []
        self._waits = [] if theirs else [(watch, watch.current) for watch in watches]

    def __call__(self, *args: Any, **options: Any) -> Any:
        now = clock()
        late = now - self._asked >= HELD_FROM
        _here.handed = (self._asked, self._place)
        for watch, unit in self._waits if late and self._place else ():
            if unit.started and not unit.live:
                watch.emit(TaskBlocked(now, unit.id, "thread", now - self._asked, self._place))
        try:
            with lived(self._units, self._place):
                return _metered(self._fn, [*self._units, *self._waits])(*args, **options)
        finally:
            _here.handed = None


def _metered(code: Any, units: Units) -> Any:
    """The same code, to be called here: how much of a core it uses, and where it stands, is told of these tasks.

    What was told of the tasks of a graph that it calls in this very thread is not told of it again.
    """
    before = getattr(_here, "told", 0.0)

    def stood(until: float, seconds: float, kind: str, place: tuple[str, int, str]) -> None:
        for watch, unit in units:
            if unit.started and not unit.live:
                watch.emit(TaskBlocked(until, unit.id, kind, seconds, "", "", *place))

    def used(ended: float, seconds: float, cpu: float, ready: float) -> None:
        told = getattr(_here, "told", 0.0)
        cpu -= told - before
        if cpu < BUSY_FROM or not units:
            return
        _here.told = told + cpu
        for watch, unit in units:
            if unit.started and not unit.live:
                watch.emit(ThreadUsed(ended, unit.id, seconds, cpu, ready))

    return metered(code, used, lambda *_: None, stood)


def _calls(fn: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is called when a function is, as far as what it gets are functions: LangGraph hands on contexts and partials
    that hand on the function of a node."""
    while isinstance(fn, partial):
        fn, args = fn.func, (*fn.args, *args)
    return fn, *args[:3]


def _is_users(fn: Any) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    return code is not None and owner(code.co_filename) == USERS


def _waited_for_a_thread() -> tuple[float | None, str]:
    """Since when the function that this thread of a pool runs has waited, and the pool if no thread was free."""
    handed, _here.handed = getattr(_here, "handed", None), None
    return handed or (None, "")


# Whose a coroutine is


def _task_of(coroutine: Any) -> Any:
    """What an asyncio task is to run instead of a coroutine."""
    watches = tuple(_active)
    code = getattr(coroutine, "cr_code", None)
    if code is not None and owner(code.co_filename) == OURS and not isinstance(coroutine, Lived):
        return coroutine  # runs of ours tell of themselves
    inner = coroutine
    if not isinstance(coroutine, Lived) and _counts(coroutine):
        name = _name_of(coroutine)
        inner = Lived(coroutine, [(watch, watch.queue(name, TASK)) for watch in watches])
    return Sliced(inner, watches)


def _counts(coroutine: Any) -> bool:
    """Whether it is the user's, or started by the user's code, and no part of a run of ours."""
    if current_frame() is not None:
        return False
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    whose = PYTHON if code is None else owner(code.co_filename)
    if whose == USERS:
        return True
    frame: FrameType | None = sys._getframe(2)
    between = (PYTHON, ANYIO)
    while frame is not None and (frame.f_code.co_filename == __file__ or owner(frame.f_code.co_filename) in between):
        if frame.f_code.co_filename == asyncio.runners.__file__:  # it tidies up
            return False
        frame = frame.f_back
    return frame is not None and owner(frame.f_code.co_filename) == USERS


def _name_of(coroutine: Any) -> str:
    if getattr(coroutine, "cr_code", None) is asyncio.to_thread.__code__:
        return _short(coroutine.cr_frame.f_locals["func"])
    return _short(coroutine)


def _short(code: Any) -> str:
    while isinstance(code, partial):
        code = code.func
    name = getattr(code, "__qualname__", None) or getattr(code, "__name__", None) or type(code).__qualname__
    return str(name).rpartition("<locals>.")[2]
