"""Threads for blocking code, started as they are needed.

The pool of the standard library starts a thread for each call that comes while none is idle, and wakes the event loop
once for each that ends. Both cost more than most code takes. Here a few threads start at once and the others when the
loop comes round again, if there is still something for them to do; by then short calls have ended. What has ended
meanwhile is told to the loop together.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias

from fanfold.cores import waited_for_one

MOST_THREADS: Final = 4096
"""What bounds the threads of a run is its concurrency limit, which its slots enforce.

The pool itself must not: a node that waits for an agent has given its slot back but still occupies its thread, and a
pool of just `limit` threads would leave none for the node that got the slot.
"""

AT_ONCE: Final = 2
"""Threads that are started without looking first whether those that are there get through with it."""

BUSY_FROM: Final = 0.02
"""Seconds of a core that are worth telling."""

LOOK_AFTER: Final = 1.0
"""Seconds after which a thread that has nothing to do looks whether the program is at its end."""

_numbers: Final = itertools.count()


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    context: contextvars.Context
    action: Callable[..., Any]
    args: tuple[Any, ...]


class Threads:
    """Runs blocking functions in threads; used from one event loop.

    A function that answers with an awaitable (a lambda around a coroutine) has it awaited on the loop.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended: deque[tuple[_Call, Any, BaseException | None]] = deque()
        self._threads: list[threading.Thread] = []
        self._open = 0  # calls that have not ended
        self._told = False  # that something has ended
        self._hiring = False
        self._short = False  # of threads: the system allows no more
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    @property
    def full(self) -> bool:
        """Whether there are as many threads as there can be, so that a call waits until one of them is free."""
        return self._short or len(self._threads) >= MOST_THREADS

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns in a thread."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._told = loop, False
        future = loop.create_future()
        self._open += 1
        self._calls.put(_Call(future, contextvars.copy_context(), action, args))
        if self._open > len(self._threads) and not self._hiring:
            if len(self._threads) < AT_ONCE:
                self._hire(1)
            else:
                self._hiring = True
                loop.call_soon(self._hire_more)
        value = await future
        return await value if inspect.isawaitable(value) else value

    def close(self, *, wait: bool) -> None:
        """Let the threads go; a function that has begun cannot be stopped, only waited for or left."""
        calls, self._calls = self._calls, SimpleQueue()
        threads, self._threads = self._threads, []
        for call in _waiting(calls):
            self._open -= 1
            call.future.cancel()
        for _ in threads:
            calls.put(None)
        for thread in threads if wait else ():
            thread.join()

    def _hire_more(self) -> None:
        """Start a thread for each call that none has taken up yet."""
        self._hiring = False
        self._hire(min(self._calls.qsize(), self._open - len(self._threads), MOST_THREADS - len(self._threads)))

    def _hire(self, number: int) -> None:
        for _ in range(number):
            thread = threading.Thread(target=self._work, args=(self._calls,), name=f"fanfold-node_{next(_numbers)}")
            try:
                thread.start()
            except RuntimeError as error:  # there are as many as the system allows, or the program is at its end
                self._do_without(error)
                return
            self._threads.append(thread)

    def _do_without(self, error: RuntimeError) -> None:
        """Leave what waits to the threads that there are; without one, nobody would ever call it."""
        self._short = True
        if self._threads:
            warnings.warn(f"no more than {len(self._threads)} threads for blocking nodes: {error}", stacklevel=2)
            return
        for call in _waiting(self._calls):
            self._open -= 1
            if not call.future.done():
                call.future.set_exception(error)

    def _work(self, calls: SimpleQueue[_Call | None]) -> None:
        while (call := _next(calls)) is not None:
            value = error = None
            if not call.future.cancelled():
                try:
                    value = call.context.run(_called, call.action, call.args)
                except BaseException as raised:  # noqa: BLE001 - it is for whoever awaits the call
                    error = raised
            self._ended.append((call, value, error))
            del call, value, error  # a thread that waits must not keep them
            self._tell()

    def _tell(self) -> None:
        if self._told or self._loop is None:
            return
        self._told = True
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            if not self._loop.is_closed():  # else nobody waits any more
                raise

    def _settle(self) -> None:
        """Tell those who wait what their calls have come to."""
        self._told = False  # first: what ends from here on is told of anew
        while self._ended:
            call, value, error = self._ended.popleft()
            self._open -= 1
            if call.future.done():
                continue
            if error is None:
                call.future.set_result(value)
            else:
                call.future.set_exception(error)


Place: TypeAlias = tuple[str, int, str]
Stood: TypeAlias = Callable[[float, float, str, Place], object]
"""Tells until when a thread has stood behind a lock, for how long, of which kind, and at which line."""


class Inside:
    """A call that is at work in a thread, for who looks at that thread now and then."""

    __slots__ = ("_kind", "_place", "_since", "_stood")

    def __init__(self, stood: Stood) -> None:
        self._stood = stood
        self._since = 0.0
        self._kind = ""
        self._place: Place = ("", 0, "")

    def seen(self, now: float, kind: str, place: Place) -> None:
        """It stands behind a lock of that kind, at that place; or behind none."""
        if kind and not self._since:
            self._since, self._kind, self._place = now, kind, place
        elif self._since and not kind:
            self.over(now)

    def over(self, now: float) -> None:
        """It goes on, or has ended."""
        since, self._since = self._since, 0.0
        if since and now - since >= BUSY_FROM:
            self._stood(now, now - since, self._kind, self._place)


INSIDE: Final[dict[int, Inside]] = {}
"""The calls that are at work in threads, by their threads."""


def metered(
    code: Callable[..., Any],
    tell: Callable[[float, float, float, float], object],
    late: Callable[[float, float], object],
    stood: Stood,
) -> Callable[..., Any]:
    """The same code. When it has kept a core busy, `tell` gets its end, its seconds, and how many of these it used a
    core, and how many it could have gone on while others had them. When it begins long after now, `late` gets when
    that is, and for how long it has waited. `stood` is told when somebody looks and sees it behind a lock.

    Of threads that take turns, each takes longer by the others, and spends that in neither.
    """
    asked = time.monotonic()

    def run(*args: Any, **options: Any) -> Any:
        began, used = time.monotonic(), time.thread_time()
        if began - asked >= BUSY_FROM:
            late(began, began - asked)
        thread = threading.get_ident()
        around, mine = INSIDE.get(thread), Inside(stood)
        INSIDE[thread] = mine
        try:
            return code(*args, **options)
        finally:
            mine.over(time.monotonic())
            if around is None:
                del INSIDE[thread]
            else:
                INSIDE[thread] = around
            if (cpu := time.thread_time() - used) >= BUSY_FROM:
                ended = time.monotonic()
                tell(ended, ended - began, cpu, max(0.0, min(_ready(), ended - began - cpu)))

    return run


_been: Final = threading.local()


def _ready() -> float:
    """Seconds since it was last asked that this thread could have gone on while others had the cores; Linux knows.

    What it takes to ask is spent only after code that takes a thousand times as long.
    """
    waited = waited_for_one(threading.get_native_id())
    before, _been.ready = getattr(_been, "ready", 0.0), waited
    return waited - before


def _called(action: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return action(*args)
    except StopIteration as stop:  # no future can carry one, so it would never arrive and its caller wait for ever
        raise RuntimeError("a blocking function raised StopIteration") from stop


def _next(calls: SimpleQueue[_Call | None]) -> _Call | None:
    """What is to be called next; None when the thread is to end, as at the end of a program that did not close."""
    while True:
        try:
            return calls.get(timeout=LOOK_AFTER)
        except Empty:
            if not threading.main_thread().is_alive():
                return None


def _waiting(calls: SimpleQueue[_Call | None]) -> Iterator[_Call]:
    """The calls that no thread has taken, taken from the threads."""
    while True:
        try:
            call = calls.get_nowait()
        except Empty:
            return
        if call is not None:
            yield call
