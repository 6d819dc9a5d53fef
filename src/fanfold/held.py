"""Who holds the event loop, and who has to wait for it.

Agents that overlap in time are not parallel when one of them blocks the loop: while it does, the others stand still
although nothing keeps them. Each slice of a task's code on the loop, from one await to the next, is timed. A slice of
`HELD_FROM` seconds or more holds the loop, and the watchdog has looked where it was meanwhile. A task whose slice
begins right after such a one was ready before and has waited for it. The price is two readings of the clock a slice.
What shorter slices come to, on a loop that never rests between them, `turns` knows.

A task that has stood still for as long is looked at when it goes on, before it does: it may have stood behind a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextvars import Context
from functools import partial
from types import CodeType, CoroutineType, FrameType, GeneratorType, coroutine
from typing import Any, Final, TypeAlias, TypeVar

from fanfold.events import COLLECTING, WITHOUT_A_CORE, LoopHeld, TaskBlocked, TaskHeldUp
from fanfold.frame import clock, frame_in
from fanfold.pools import listen, of_a_run, unlisten
from fanfold.turns import BRIEF, Seen
from fanfold.watchdog import FINDERS, HELD_FROM, WATCHDOG, Post, Teller
from fanfold.whose import ANYIO, NOWHERE, USERS, Place, ends_at, owner

T = TypeVar("T")
Told: TypeAlias = LoopHeld | TaskHeldUp | TaskBlocked
Emit: TypeAlias = Callable[[Told], None]


class LoopWatch:
    """Times the slices of one run's tasks and tells whose held the loop, and who waited for it meanwhile.

    Until it begins, and when it has ended, nobody looks where the code is; the times are told all the same.
    """

    __slots__ = ("post",)

    def __init__(self) -> None:
        self.post = Post()

    def begin(self) -> None:
        """From here on, the watchdog looks after this thread's event loop."""
        self.post = WATCHDOG.begin()
        listen(of_a_run)

    def end(self) -> None:
        """It need not look after it any longer, as far as this run is concerned."""
        unlisten(of_a_run)
        WATCHDOG.end(self.post)

    def timed(self, emit: Emit, task: str, work: Awaitable[T]) -> Awaitable[T]:
        """The same work, with each of its slices timed."""
        return _timed(self, emit, task, work)

    def start(self, emit: Emit, task: str, work: Any) -> tuple[bool, Any]:
        """Carry out the first slice of work: whether it waits for something then, and what to await for its answer; or
        its answer, if it is over by then, as that of most tasks is."""
        if type(work) not in _GONE_THROUGH:
            work = work.__await__()
        post, over = self.post, True
        began = post.since = clock()
        try:
            answer = work.send(None)
            over = False
        except StopIteration as end:
            answer = end.value
        finally:
            ended = clock()
            post.since = 0.0
            if ended - began >= BRIEF:
                self.took(emit, task, began, ended)
                if over:
                    post.turns.forget(task)
        return (False, answer) if over else (True, _slices(self, emit, task, work, ended, answer))

    def call(self, emit: Emit, task: str, code: Callable[..., T], *given: Any) -> T:
        """What code answers that is called on the loop, without an await."""
        began = self.post.since = clock()
        try:
            return code(*given)
        finally:
            ended = clock()
            self.post.since = 0.0
            if ended - began >= HELD_FROM:
                self.held(emit, task, began, ended)

    def settled(self, emit: Emit, task: str, began: float) -> None:
        """Code of ours, in which the user's reducers are called, has returned: when one was seen, it held the loop."""
        self.post.since, ended = 0.0, clock()
        if ended - began >= HELD_FROM and owner(self.post.place(began).file or __file__) == USERS:
            self.held(emit, task, began, ended)

    def took(self, emit: Emit, task: str, began: float, ended: float) -> None:
        """A slice was somebody's turn on the loop, or has even held it."""
        if ended - began >= HELD_FROM:
            self.held(emit, task, began, ended)
        else:
            self.post.turns.took(task, began, ended, self.post.place(began), partial(tell_pieces, emit))

    def held(self, emit: Emit, task: str, began: float, ended: float) -> None:
        """A slice has held the loop."""
        self.post.held(began, ended, task)
        late = self.post.turns.held(task, began, ended)
        if late:
            emit(TaskHeldUp(began, task, late))
        tell(emit, task, began, ended, self.post.place(began))


def tell(emit: Emit, task: str, began: float, ended: float, place: Place) -> None:
    """Tell that a task has held the loop at a place. What was collected meanwhile, and what others had the cores for,
    is none of its code's doing."""
    collected, waited = WATCHDOG.collected(began, ended), WATCHDOG.waited(began)
    own, at = ended - began - collected - waited, began
    others = (waited, Place(function=WITHOUT_A_CORE)), (collected, Place(function=COLLECTING))
    for seconds, where in (*others, (own, place)):  # one behind the other, so that no moment of it is nobody's
        at = min(at + seconds, ended)
        if seconds >= HELD_FROM:
            emit(LoopHeld(at, task, seconds, *where))


def tell_pieces(emit: Emit, task: str, until: float, seconds: float, pieces: int, place: Seen) -> None:
    """Tell that a task has held the loop, for a moment and again."""
    emit(LoopHeld(until, task, seconds, *place, pieces))


def _teller(context: Context) -> Teller | None:
    """Whom to tell that code in this context has held the loop: the run that it belongs to."""
    frame = frame_in(context)
    return None if frame is None else (frame.task.id, partial(tell, frame.runner.emit))


_GONE_THROUGH: Final = frozenset((CoroutineType, GeneratorType))
"""What can be gone through as it is: what its `__await__` would make costs as much as the timing."""


@coroutine
def _timed(watch: LoopWatch, emit: Emit, task: str, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """Work, with each of its slices timed."""
    waits, answer = watch.start(emit, task, work)
    result: T = (yield from answer) if waits else answer
    return result


@coroutine
def _slices(
    watch: LoopWatch, emit: Emit, task: str, work: Any, ended: float, waits_for: Any
) -> Generator[Any, Any, Any]:
    """The slices of work after its first one, each of them timed. Whatever goes in and out of it is passed on."""
    post, first, over = watch.post, ended, False
    while True:
        try:
            value = yield waits_for
            step = work.send
        except BaseException as error:  # noqa: BLE001 - it is meant for the work inside, whatever it is
            value, step = error, work.throw
        began = post.since = clock()
        if began - ended >= HELD_FROM or post.turns.follows(began):
            _look_back(watch, emit, task, work, ended, began)
        try:
            waits_for = step(value)
        except StopIteration as end:
            over = True
            return end.value
        except BaseException:
            over = True
            raise
        finally:
            ended = clock()
            post.since = 0.0
            if ended - began >= BRIEF:
                watch.took(emit, task, began, ended)
            if over and post.turns.until >= first:
                post.turns.forget(task)


def _look_back(watch: LoopWatch, emit: Emit, task: str, work: Any, suspended: float, now: float) -> None:
    """The task goes on, and is still where it waited: what did it wait for?"""
    since, post = suspended, watch.post
    held_up = post.kept(task, since, now)
    if held_up or post.turns.follows(now):
        since = max(suspended, due(work, now))
        held_up = post.kept(task, since, now)
    stood = now - held_up - suspended
    if stood >= HELD_FROM and (found := _behind(work)) is not None:
        what, place = found
        emit(TaskBlocked(now - held_up, task, what, stood, "", "", *place[:3]))
    held_up = held_up if held_up >= HELD_FROM else 0.0
    held_up += post.turns.late(task, since, now, held_up)
    if held_up:
        emit(TaskHeldUp(now, task, held_up))


def due(work: Any, now: float) -> float:
    """When a suspended coroutine that sleeps was to go on. Until then it was not ready, whoever held the loop."""
    loop = asyncio._get_running_loop()
    if loop is None:  # what never ended is given up
        return float("-inf")
    for frame in awaiting(work):
        timer = frame.f_locals.get("h") if frame.f_code is asyncio.sleep.__code__ else None  # none is set for 0 s
        if timer is not None and hasattr(timer, "when"):  # nor by uvloop for less than half a millisecond
            late = loop.time() - timer.when()
            return now - late if late >= 0.0 else float("-inf")  # else somebody has woken it before
    return float("-inf")


_LOCKS: Final[dict[CodeType, str]] = {
    asyncio.Lock.acquire.__code__: "lock",
    asyncio.Semaphore.acquire.__code__: "semaphore",
}


ANYIOS: Final = {
    "Lock.acquire": "lock",
    "Semaphore.acquire": "semaphore",
    "CapacityLimiter.acquire_on_behalf_of": "capacity limiter",
}
"""The methods of anyio's in which tasks stand, and behind what."""


def _behind(work: Any) -> tuple[str, Place] | None:
    """What kind of lock a suspended coroutine waits for, if it does, and the user's line at which it stands."""
    place = NOWHERE
    for frame in awaiting(work):
        what = _kind_of(frame.f_code)
        if what is None and frame.f_code is asyncio.wait_for.__code__:  # until Python 3.12, in a task of its own
            what = _kind_of(getattr(_coroutine_of(frame.f_locals.get("fut")), "cr_code", None))
        if what is not None:
            return what, place
        if owner(frame.f_code.co_filename) == USERS:
            place = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
    return None


def _kind_of(code: CodeType | None) -> str | None:
    """What kind of lock is waited for in that code, if it is what waits for one."""
    if code is None or code in _LOCKS:
        return None if code is None else _LOCKS[code]
    what = ANYIOS.get(code.co_qualname)
    return what if what is not None and owner(code.co_filename) == ANYIO else None


def _coroutine_of(future: Any) -> Any:
    return future.get_coro() if isinstance(future, asyncio.Task) else None


def awaiting(work: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine and of those that it awaits, outermost first."""
    while work is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(work, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                work = getattr(work, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return


FINDERS.append(_teller)
ends_at(LoopWatch.call.__code__)
ends_at(LoopWatch.start.__code__)
ends_at(_slices.__code__)
