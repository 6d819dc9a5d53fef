"""A thread that looks at the event loops' threads while they do not come back, and says which line keeps them.

::

    a slice begins ─▶ `since` is set ──── 10 ms ────▶ the watchdog looks ── 10 ms ──▶ again ...
                          │                              │
    it ends ◀─────────────┘ `since` is cleared           └─▶ each look counts for the time since the one before

Code that runs on the loop in an asyncio task of its own, such as a tool that an agent's framework calls, has no slice
of ours. When it is seen there, the loop is asked to answer as soon as it can; for as long as it does not, it is held::

    a task that we did not start is seen ─▶ the loop is asked ── 20 ms: it is held, and looked at ─▶ it answers

One thread looks after all loops of the process: it costs what one poll costs, however many there are. It sleeps between
polls, waits for good when no loop runs anything of ours, and ends when that lasts.

What code holds the interpreter's lock keeps the watchdog from looking, too. It gets its turn when that code returns to
Python, and then finds the very line, since that is where the lock is handed over.

A garbage collection is no line of anybody's: how long each took is known from `gc.callbacks`, and taken off whatever it
fell into. Nor is it the code's doing when other programs have the cores: the kernel knows for how long the thread has
waited for one since the slice was first looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from fanfold.cores import waited_for_one
from fanfold.frame import clock
from fanfold.rounds import Rounds
from fanfold.standing import behind
from fanfold.turns import Turns
from fanfold.whose import NOWHERE, USERS, Lines, Place, lines_of, owner, place_at, place_of
from fanfold.work.threads import INSIDE

POLL: Final = 0.01
"""Seconds between two looks; with these, a slice that is worth telling has been seen at least once."""

HELD_FROM: Final = 0.02
"""Seconds on the loop without an await that are worth telling; people do not notice less, and neither do servers."""

RIGHT_AFTER: Final = 0.005
"""Seconds within which a slice begins after the loop was held, when it had been ready before, or in the next rounds."""

MOST_HOLDS: Final = 1000
"""Holds of a loop that never rests that are remembered: of those before, the last ones have told."""

IDLE: Final = 1.0
"""Seconds without anything to look after when the thread ends. Runs that follow each other share one."""

WORTH_KNOWING: Final = 0.001
"""Seconds that a garbage collection has to take to be remembered."""

A_LOOK_AT_ONE: Final = 0.0002
"""Seconds for which threads are left alone after a look, for each of them: a hundred times what that takes."""

STOPPED_FROM: Final = 0.5
"""Seconds for which the watchdog does not wake up, while nothing uses a core, from which on the process was stopped."""

if sys.platform == "linux":
    import resource


Teller: TypeAlias = tuple[str, Callable[[str, float, float, Place], None]]
"""A task, and what to call when it has held the loop: with the task, from when to when, and where."""

Stopped: TypeAlias = Callable[[float, float], object]
"""What to call when the whole process has stood still: from when until when."""


class Post:
    """What the watchdog looks at for one event loop, and what it has seen there.

    `since` is when the code began that is on the loop now, 0.0 when there is none of ours. Only the loop's thread sets
    it. `holds` are when the loop was held since it last came to rest, and by whom; `held_until` is the last end. What
    was ready then goes on in the next rounds of the loop.
    """

    __slots__ = (
        "_asked",
        "_caught",
        "_last",
        "_rounds",
        "_seen",
        "_slice",
        "_strangers",
        "_waited",
        "held_until",
        "holds",
        "loop",
        "native",
        "since",
        "thread",
        "turns",
        "users",
    )

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.native = threading.get_native_id()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.since = 0.0
        self.held_until = float("-inf")
        self.holds: deque[tuple[float, float, tuple[str, ...]]] = deque(maxlen=MOST_HOLDS)
        self.users = 0
        self.turns = Turns()
        self._slice = self._last = self._asked = 0.0
        self._caught: tuple[float, Lines] = 0.0, []
        self._waited = 0.0, 0.0  # at the first look at a slice
        self._rounds = Rounds()  # since it was held
        self._seen: dict[Place, float] = {}
        self._strangers: tuple[Teller, ...] = ()

    def look(self) -> None:
        """See where the code is, if it has been on the loop for a while. Called by the watchdog."""
        since, now = self.since, clock()
        if since:
            if now - since >= POLL / 2:
                self._sample(since, now)
        elif self._asked:
            self._sample(self._asked, now)
        elif self.loop is not None and (stranger := asyncio.current_task(self.loop)) is not None:
            self._ask(self.loop, stranger, now)

    def place(self, since: float) -> Place:
        """Where the slice that began then was most of the time; `NOWHERE` if nobody has looked."""
        seen = self._seen if self._slice == since else {}
        if not seen and self._caught[0] == since:
            return place_at(self._caught[1])
        return max(seen, key=seen.__getitem__, default=NOWHERE)

    def waited(self, since: float) -> float:
        """For how many seconds the slice that began then has waited for a core, since it was first looked at."""
        slice, before = self._waited
        return waited_for_one(self.native) - before if slice == since else 0.0

    def held(self, since: float, until: float, *by: str) -> None:
        """The loop was held for that long, by a task; by several names, where several watch it."""
        if not self.follows(since):
            self.holds.clear()
        self.holds.append((since, until, by))
        self.held_until = until
        self._rounds.begin()

    def follows(self, now: float) -> bool:
        """Whether what begins now does so right after the loop was held."""
        if self._rounds.on:
            return True
        late = now - self.held_until
        return late <= RIGHT_AFTER or late - WATCHDOG.collected(self.held_until, now) <= RIGHT_AFTER

    def kept(self, task: str, ready: float, now: float) -> float:
        """How many seconds others have kept a task from the loop that was ready since then, and goes on now."""
        if ready >= self.held_until or not self.follows(now):
            return 0.0
        return self.held_within(ready, now, task)

    def held_within(self, since: float, until: float, but: str = "") -> float:
        """How many seconds of that time the loop was held by others than one, as far as it is known.

        What was short between two holds belongs to them, and so does what was behind the last one if the loop has not
        rested since: nobody who was ready got on then.
        """
        seconds, last = 0.0, float("-inf")
        for began, ended, by in self.holds:
            own = bool(but) and but in by
            if not own and (late := min(ended, until) - max(began, since)) > 0.0:
                seconds += late + _short(last, began)
                since = last = max(since, ended)  # when two watch a slice, each tells of it
            elif own:
                last = max(since, ended)
        return seconds + (_short(last, until) if self.follows(until) else 0.0)

    def _sample(self, since: float, now: float) -> None:
        lines = lines_of(sys._current_frames().get(self.thread))
        if (self.since or self._asked) != since:  # it has ended meanwhile, and what was seen may be of another
            return
        self._caught = since, lines  # the loop's thread may go on, and ask, before it is known what these are
        place = place_at(lines)
        is_new = self._slice != since
        if is_new:
            self._seen, self._slice, self._last = {}, since, since
        self._seen[place] = self._seen.get(place, 0.0) + now - self._last
        self._last = now
        if is_new:  # last, as to ask lets the code go on
            self._waited = since, waited_for_one(self.native)

    def _ask(self, loop: asyncio.AbstractEventLoop, stranger: asyncio.Task[Any], now: float) -> None:
        tellers = tuple(found for find in FINDERS if (found := find(context_of(stranger))) is not None)
        if not tellers or self.since:
            return
        self._asked, self._strangers = now, tellers
        try:
            loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # it was closed
            self._asked = 0.0

    def _answer(self) -> None:
        """The loop has come round. It may have been a slice of ours that kept it, or nothing of the user's."""
        asked, now, self._asked = self._asked, clock(), 0.0
        place, began = self.place(asked), max(asked, self.held_until)
        if now - began < HELD_FROM or owner(place.file or __file__) != USERS:
            return
        self.held(began, now, *(task for task, _ in self._strangers))
        for task, tell in self._strangers:
            tell(task, began, now, place)


def _short(since: float, until: float) -> float:
    """The seconds behind a hold, if these are not worth telling by themselves; else they were something else's."""
    gap = until - since
    return max(0.0, gap - WATCHDOG.collected(since, until)) if 0.0 < gap < HELD_FROM else 0.0


class _Slept(NamedTuple):
    """A sleep of the watchdog's: from when to when, and what the process and this thread had done before."""

    began: float
    ended: float
    used: float
    asked: int


class Watchdog:
    """The thread, and what it looks after."""

    def __init__(self) -> None:
        self._posts: dict[int, Post] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._pauses: deque[tuple[float, float]] = deque(maxlen=64)
        self._stops: deque[tuple[float, float]] = deque(maxlen=64)
        self._of_stops: list[tuple[asyncio.AbstractEventLoop, Stopped]] = []
        self._collecting = self._look_again = 0.0

    def begin(self) -> Post:
        """The post of this thread's event loop, looked after until as many calls of `end`."""
        with self._lock:
            post = self._posts.get(threading.get_ident())
            if post is None:
                post = self._posts[threading.get_ident()] = Post()
            post.loop = asyncio._get_running_loop() or post.loop
            post.users += 1
            if len(self._posts) == post.users == 1:
                self._start()
        return post

    def end(self, post: Post) -> None:
        """One that has called `begin` needs it no longer."""
        with self._lock:
            post.users -= 1
            if not post.users:
                self._posts.pop(post.thread, None)
                if not self._posts:
                    gc.callbacks.remove(self._collected)

    def held(self, since: float, until: float) -> float:
        """How many seconds of that time this thread's event loop was held, since it last came to rest."""
        post = self._posts.get(threading.get_ident())
        return 0.0 if post is None else post.held_within(since, until)

    def waited(self, since: float) -> float:
        """How many seconds of the slice that began then, and ends now, this thread has waited for a core."""
        post = self._posts.get(threading.get_ident())
        return 0.0 if post is None else post.waited(since)

    def collected(self, since: float, until: float) -> float:
        """How many seconds of that time garbage was collected, in whatever thread: all the others stood still."""
        return sum(max(0.0, min(until, end) - max(since, start)) for start, end in self._pauses.copy())

    def _start(self) -> None:
        gc.callbacks.append(self._collected)
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():  # it has none in a process that was forked, either
            self._thread = threading.Thread(target=self._watch, name="fanfold-watchdog", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        slept: _Slept | None = None
        while self._goes_on():
            for post in list(self._posts.values()):  # at once: the code that had the interpreter is about to go on
                post.look()
            if INSIDE:
                self._look_inside()
            if slept is not None:
                self._see_a_stop(slept)
            slept = self._sleep()

    def _look_inside(self) -> None:
        """See which threads stand behind a lock. The more there are, the less often."""
        now = clock()
        if now < self._look_again:
            return
        frames, calls = sys._current_frames(), tuple(INSIDE.items())
        for thread, call in calls:
            frame = frames.get(thread)
            kind = "" if frame is None else behind(frame)
            call.seen(now, kind, place_of(frame)[:3] if kind else NOWHERE[:3])
        self._look_again = now + len(calls) * A_LOOK_AT_ONE

    def _sleep(self) -> _Slept:
        began, used, asked = clock(), time.process_time(), _waits()
        time.sleep(POLL)
        return _Slept(began, clock(), used, asked)

    def _see_a_stop(self, slept: _Slept) -> None:
        """When a sleep took far too long, and nothing of the process ran meanwhile, it or the machine was stopped, or
        the clock was moved. Code that waits for something and keeps the interpreter meanwhile uses no core, either; but
        then this thread has asked for it again and again."""
        seconds = slept.ended - slept.began
        if seconds < STOPPED_FROM or time.process_time() - slept.used >= seconds / 10:
            return
        if _waits() - slept.asked < seconds / sys.getswitchinterval() / 10:
            self._stops.append((slept.began + POLL, slept.ended))
            for loop, tell in self._of_stops.copy():
                with contextlib.suppress(RuntimeError):  # it was closed
                    loop.call_soon_threadsafe(tell, slept.began + POLL, slept.ended)

    def tell_stops(self, tell: Stopped) -> None:
        """Call that on this thread's event loop whenever the whole process has stood still, until `keep_stops`."""
        self._of_stops.append((asyncio.get_running_loop(), tell))

    def keep_stops(self, tell: Stopped) -> None:
        """Do not, any longer."""
        self._of_stops = [each for each in self._of_stops if each[1] is not tell]

    def stops(self, since: float) -> list[tuple[float, float]]:
        """When the whole process has stood still since then."""
        return [(max(start, since), end) for start, end in self._stops.copy() if end > since]

    def _goes_on(self) -> bool:
        """Whether there is something to look after, maybe after a wait for it. If not, the thread is given up."""
        if self._posts:
            return True
        self._wake.clear()
        if self._posts or self._wake.wait(IDLE):
            return True
        with self._lock:
            if self._posts:
                return True
            self._thread = None
        return False

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting = clock()
            return
        ended = clock()
        if ended - self._collecting >= WORTH_KNOWING:
            self._pauses.append((self._collecting, ended))


def _waits() -> int:
    """How often this thread has given its core away to wait for something; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


WATCHDOG: Final = Watchdog()
os.register_at_fork(after_in_child=lambda: WATCHDOG.__init__())  # type: ignore[misc]  # a lock may have been held


FINDERS: Final[list[Callable[[contextvars.Context], Teller | None]]] = []
"""Ask whom to tell of code that runs in such a context."""


def context_of(task: asyncio.Task[Any]) -> contextvars.Context:
    """The context that a task runs in; Python says so itself from 3.12 on."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    held = (each for each in gc.get_referents(task) if isinstance(each, contextvars.Context))
    return next(held, contextvars.Context())
