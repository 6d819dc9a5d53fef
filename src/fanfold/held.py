"""Who holds the event loop, and who has to wait for it.

Agents that overlap in time are not parallel when one of them blocks the loop: while it does, the others stand still
although nothing keeps them. Each slice of a task's code on the loop, from one await to the next, is timed. A slice of
`HELD_FROM` seconds or more holds the loop. A task whose slice begins right after such a one was ready before and has
waited for it. The price is two readings of the clock a slice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, TypeAlias, TypeVar

from fanfold.events import LoopHeld, TaskHeldUp
from fanfold.frame import clock

T = TypeVar("T")
Emit: TypeAlias = Callable[[LoopHeld | TaskHeldUp], None]

HELD_FROM: Final = 0.02
"""Seconds on the loop without an await that are worth telling; people do not notice less, and neither do servers."""

RIGHT_AFTER: Final = 0.005
"""Seconds within which a slice begins after the loop was held, when it had been ready before."""


class LoopWatch:
    """Times the slices of one run's tasks and tells whose held the loop, and who waited for it meanwhile."""

    __slots__ = ("_began", "_ended")

    def __init__(self) -> None:
        self._began = self._ended = float("-inf")

    def timed(self, emit: Emit, task: str, work: Awaitable[T]) -> Awaitable[T]:
        """The same work, with each of its slices timed."""
        return _Timed(self, emit, task, work)

    def called(self, emit: Emit, task: str, began: float) -> float:
        """Code that was called on the loop, without an await, has returned: how many seconds it took."""
        ended = clock()
        if ended - began >= HELD_FROM:
            self.held(began, ended)
            emit(LoopHeld(ended, task, ended - began))
        return ended - began

    def waited(self, suspended: float, now: float) -> float:
        """How many seconds before now a task that was suspended could have gone on, had the loop been free."""
        if now - self._ended > RIGHT_AFTER or suspended >= self._ended:
            return 0.0
        return self._ended - max(self._began, suspended)

    def held(self, began: float, ended: float) -> None:
        """A slice has held the loop; slices that follow each other hold it as one."""
        if began - self._ended > RIGHT_AFTER:
            self._began = began
        self._ended = ended


class _Timed(Generic[T]):
    """An awaitable around another one. It passes on whatever goes in and out, and looks at the clock."""

    __slots__ = ("_emit", "_task", "_watch", "_work")

    def __init__(self, watch: LoopWatch, emit: Emit, task: str, work: Awaitable[T]) -> None:
        self._watch = watch
        self._emit = emit
        self._task = task
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        watch, task, inner = self._watch, self._task, self._work.__await__()
        step, value = inner.send, None
        began = clock()
        while True:
            try:
                waits_for = step(value)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                ended = clock()
                if ended - began >= HELD_FROM:
                    watch.held(began, ended)
                    self._emit(LoopHeld(ended, task, ended - began))
            try:
                value = yield waits_for
                step = inner.send
            except BaseException as error:  # noqa: BLE001 - it is meant for the work inside, whatever it is
                value, step = error, inner.throw
            began = clock()
            waited = watch.waited(ended, began)
            if waited >= HELD_FROM:
                self._emit(TaskHeldUp(began, task, waited))
