"""How many at once. Slots are handed on in the order in which they were asked for.

A kind of agent may have a limit of its own, whatever graph asks. That is taken before those of the graph: who waits for
one of its kind holds back nobody else.

A graph inside of another one may have a limit of its own, within that of the run. A task then holds a slot of each. It
takes the inner one first: who waits for the run's slot holds back only its own graph, and nobody waits for an inner
one while holding the run's, so the two cannot wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from fanfold.limits.holding import Around, around
from fanfold.limits.values import Report, least, reported


class Line:
    """All who wait for a slot, of whichever of a run's limits, and what each is inside of.

    `called` are those who have got theirs and have not gone on yet. `look` is called when more wait, or fewer have a
    slot.
    """

    __slots__ = ("called", "look", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[object, Around] = {}
        self.called: set[object] = set()
        self.look: Callable[[], None] = _nobody

    def call(self, turn: object) -> None:
        """Somebody in line has got a slot."""
        del self.waiting[turn]
        self.called.add(turn)

    def leave(self, turn: object) -> None:
        """Somebody goes on, with a slot or without."""
        self.waiting.pop(turn, None)
        self.called.discard(turn)


def _nobody() -> None:
    """Nobody wants to know who waits."""


class Slots:
    """At most `limit` holders at once; used from one event loop.

    `peak` is the high-water mark, `waits` counts how often somebody had to wait, and `waited` for how many seconds each
    of those who said their name. `line` is that of the slots around it, unless another one is given.
    """

    __slots__ = ("_waiting", "held", "limit", "line", "peak", "waited", "waits", "within")

    def __init__(self, limit: int | None, within: Slots | None = None, line: Line | None = None) -> None:
        self.limit = limit
        self.within = within
        self.line: Line = line or (Line() if within is None else within.line)
        self.held = 0
        self.peak = 0
        self.waits = 0
        self.waited: dict[str, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_nowait(self) -> bool:
        """Take a slot if one is free and nobody is waiting for it."""
        held = self.held
        if self._waiting or (self.limit is not None and held >= self.limit):
            return False
        if self.within is not None and not self.within.take_nowait():
            return False
        self.held = held = held + 1
        if held > self.peak:
            self.peak = held
        return True

    async def take(self, who: str = "") -> bool:
        """Take a slot, waiting for it if need be. True when there was a wait."""
        waited = await self._take_own(who)
        if self.within is None:
            return waited
        try:
            return await self.within.take(who) or waited
        except BaseException:
            self._give_own()
            raise

    async def _take_own(self, who: str) -> bool:
        if self._free():
            self._grant()
            return False
        self.waits += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        began = time.monotonic()
        self.line.waiting[turn] = around()
        self.line.look()
        try:
            await turn
        except asyncio.CancelledError:
            self.line.leave(turn)
            if turn.done() and not turn.cancelled():
                self._give_own()  # it was ours already when the wait was cancelled
            raise  # a turn that was cancelled stays in line; `_give_own` passes over it
        else:
            self.line.leave(turn)
        finally:
            self.waited[who] = self.waited.get(who, 0.0) + time.monotonic() - began
        return True

    def give(self) -> None:
        """Give a slot back; whoever has waited longest gets it."""
        self._give_own()  # before the others: who waits for this one does not wait for nothing when they look
        if self.within is not None:
            self.within.give()

    def report(self, name: str) -> Report:
        """How close it came to its limit."""
        return reported(name, self.limit, self.peak, self.waits, self.waited)

    def _free(self) -> bool:
        return not self._waiting and (self.limit is None or self.held < self.limit)

    def _give_own(self) -> None:
        self.held -= 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._grant()
                self.line.call(turn)
                turn.set_result(None)
                return
        if self.line.waiting:
            self.line.look()

    def _grant(self) -> None:
        self.held += 1
        if self.held > self.peak:
            self.peak = self.held


class Pair:
    """A slot of a kind's own limit, and one of those that everybody takes."""

    __slots__ = ("common", "kind", "own")

    def __init__(self, kind: str, own: Slots, common: Slots) -> None:
        self.kind = kind
        self.own = own
        self.common = common

    async def take(self, who: str = "") -> str:
        """Take both, waiting for them if need be. The limits that were waited for, in words."""
        waited = [f"limit {self.own.limit} of {self.kind}"] if await self.own.take(who) else []
        try:
            waited += [f"limit {self.common.limit}"] if await self.common.take(who) else []
        except BaseException:
            self.own.give()
            raise
        return " and ".join(waited)

    @property
    def limit(self) -> int | None:
        """How many at once there can be of what takes both."""
        return least(self.own.limit, self.common.limit)

    def give(self) -> None:
        """Give both back, the kind's first, as `Slots` does."""
        self.own.give()
        self.common.give()


def no_kind(common: Slots) -> Pair:
    """The slots that everybody takes, for what has no limit of its kind."""
    return Pair("", Slots(None), common)
