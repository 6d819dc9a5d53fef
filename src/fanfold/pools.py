"""Pools of threads that are not a run's own: `asyncio.to_thread`'s, and those that people make.

While somebody listens, what is handed to a `ThreadPoolExecutor` is handed on with something around it. It is the one
place at which that is done, so that those who listen may come and go in any order. When the last one has gone, `submit`
is what it was before.

Of the calls that a task of a run has made, it is told when none of them was at work, as all threads were taken; and how
much of a core those used that were. A call that a thread was free for, and that begins late all the same, has waited
for a core.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from fanfold.frame import Frame, clock, current_frame

Handing: TypeAlias = Callable[[ThreadPoolExecutor, Callable[..., Any], tuple[Any, ...]], Callable[..., Any]]
"""What is to be handed to a pool in place of a function with its arguments."""

_listening: Final[Counter[Handing]] = Counter()
_switch: Final = threading.Lock()
_replaced: Final[list[tuple[Any, Any]]] = []
"""The `submit` that was there and ours, while anybody listens. An older one of ours may still be in the way."""

_open: Final[weakref.WeakKeyDictionary[Any, Counter[str]]] = weakref.WeakKeyDictionary()
"""How many calls of each pool have not ended, of those that were handed to it while somebody listened. A pool is known
by a semaphore of its own: it may be gone while its last call is at work, and its `id` another one's."""
_opening: Final = threading.Lock()


def listen(handing: Handing) -> None:
    """From here on, ask it about whatever is handed to a pool, until as many calls of `unlisten`."""
    with _switch:
        if not _listening:
            original = ThreadPoolExecutor.submit
            ours: Any = _submitting(original)
            ThreadPoolExecutor.submit = ours  # type: ignore[method-assign]  # that is what this module is for
            _replaced.append((original, ours))
        _listening[handing] += 1


def unlisten(handing: Handing) -> None:
    """One that has called `listen` does not listen any longer."""
    with _switch:
        _listening[handing] -= 1
        if not _listening[handing]:
            del _listening[handing]
        if not _listening:
            original, ours = _replaced.pop()
            if ThreadPoolExecutor.submit is ours:  # else somebody has put theirs around it, which would not work then
                ThreadPoolExecutor.submit = original  # type: ignore[method-assign]  # as it was


def _submitting(original: Any) -> Any:
    @functools.wraps(original)
    def submit(pool: Any, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        if not _replaced or _replaced[-1][1] is not submit:  # left behind within somebody else's, or they kept it
            left: Future[Any] = original(pool, fn, *args, **options)
            return left
        calls = _one_more(pool)  # before anything else: meanwhile, other threads may hand it theirs
        try:
            for handing in tuple(_listening):
                fn = handing(pool, fn, args)
            answer: Future[Any] = original(pool, fn, *args, **options)
        except BaseException:
            _one_less(calls)
            raise
        answer.add_done_callback(functools.partial(_one_less, calls))
        return answer

    return submit


def _one_more(pool: Any) -> Counter[str]:
    with _opening:
        calls = _open.setdefault(pool._idle_semaphore, Counter())
        calls["open"] += 1
    return calls


def _one_less(calls: Counter[str], _: object = None) -> None:
    with _opening:
        calls["open"] -= 1


def full(pool: Any) -> bool:
    """Whether what is being handed to a pool has to wait until one of its threads is free.

    Of calls that were handed to it before anybody listened, the pool knows: it starts no thread for what comes while
    one is idle. It may take one for idle that is not, but no idle one for busy.
    """
    calls = _open.get(pool._idle_semaphore)
    return (calls is not None and calls["open"] > pool._max_workers) or (
        len(pool._threads) >= pool._max_workers and not pool._idle_semaphore._value
    )


def size_of(pool: Any) -> str:
    """A pool in words."""
    return f"pool of {pool._max_workers} threads"


class Calls:
    """The calls of one task that are in pools: how many are at work, and since when none is."""

    __slots__ = ("_idle_since", "_lock", "_working")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._idle_since = 0.0

    def stood(self, now: float, seconds: float) -> float:
        """For how long the task has waited for a thread, when a call begins that has waited for one."""
        with self._lock:
            return 0.0 if self._working else min(seconds, now - self._idle_since)

    def counted(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which counts as at work while it is."""

        def run(*args: Any, **options: Any) -> Any:
            with self._lock:
                self._working += 1
            try:
                return fn(*args, **options)
            finally:
                with self._lock:
                    self._working -= 1
                    self._idle_since = clock()

        return run


def of_a_run(pool: ThreadPoolExecutor, fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """What a task of a run hands to a pool."""
    frame = current_frame()
    return fn if frame is None else _told(frame, pool, fn)


def _told(frame: Frame, pool: ThreadPoolExecutor, fn: Callable[..., Any]) -> Callable[..., Any]:
    calls: Calls = frame.outside or Calls()
    frame.outside, was_full = calls, full(pool)

    def waited(began: float, seconds: float) -> tuple[float, str]:
        return calls.stood(began, seconds) if was_full else 0.0, size_of(pool)

    return frame.metered(calls.counted(fn), waited)
