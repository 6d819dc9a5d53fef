"""The rate of one model: who may ask it now.

All agents of a run ask a model through one gate. When the model's provider says that it is asked too often, everybody
waits for as long as it said, not only the agent that was told; and fewer ask at once from then on: half of those that
were in flight. With each quiet window, a time without such an answer, one more is let through, until as many are as
were before (additive increase, multiplicative decrease: D.-M. Chiu and R. Jain, "Analysis of the increase and decrease
algorithms for congestion avoidance in computer networks", Computer Networks and ISDN Systems 17, 1989).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from fanfold.limits.values import Report, reported

QUIET: Final = 10.0
"""Seconds without a refusal after which one more request is let through at once."""

LONGEST_PAUSE: Final = 300.0
"""Seconds that a gate is closed at most: what a provider asks for beyond that fails the request instead."""


class Ticket:
    """One request in flight. `after` is how many refusals the gate had seen when it went through."""

    __slots__ = ("after",)

    def __init__(self, after: int) -> None:
        self.after = after


class Gate:
    """Lets requests to one model through. Used from one event loop; times are that loop's.

    `limit` is what a user allows at once, and `width` what the provider seems to allow; None means all.
    """

    def __init__(self, model: str, limit: int | None, quiet: float = QUIET) -> None:
        self.model = model
        self.limit = limit
        self.width: int | None = None
        self.narrowest: int | None = None
        self.flying = 0
        self.peak = 0
        self.refusals = 0
        self.paused = 0.0
        self.waits = 0
        self.waited: dict[str, float] = {}
        self._quiet = quiet
        self._before = 0  # how many were in flight when the provider first refused
        self._cuts = 0
        self._closed_until = 0.0
        self._line: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since = 0.0

    def enter_nowait(self) -> Ticket | None:
        """Go through, if nobody waits and there is room."""
        if self._line or not self._open():
            return None
        return self._through()

    async def enter(self) -> Ticket:
        """Go through when it is its turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        while True:
            self._look()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()
                raise
            if self._now() >= self._closed_until:
                return self.ticket()
            self.flying -= 1  # it was closed again before this went on: the next turn is its own
            turn = asyncio.get_running_loop().create_future()
            self._line.appendleft(turn)

    def ticket(self) -> Ticket:
        """The ticket of a request that goes through now."""
        return Ticket(self._cuts)

    def leave(self) -> None:
        """A request has ended."""
        self.flying -= 1
        self._look()

    def refused(self, ticket: Ticket, pause: float) -> None:
        """The provider has refused a request and is not to be asked for `pause` seconds. The request is still to leave.

        What was in flight already when fewer were let through says nothing about those.
        """
        now = self._now()
        self.refusals += 1
        if ticket.after == self._cuts:
            self._cuts += 1
            self._before = max(self._before, self.flying)
            self.width = max(1, self.flying // 2)
            self.narrowest = min(self.width, self.narrowest or self.width)
        until = now + min(pause, LONGEST_PAUSE)
        self.paused += max(0.0, until - max(now, self._closed_until))
        self._closed_until = max(self._closed_until, until)
        self._quiet_since = self._closed_until
        self._look()

    def has_waited(self, who: str, seconds: float) -> None:
        """Somebody has waited to get through, for so long."""
        self.waits += 1
        self.waited[who] = self.waited.get(who, 0.0) + seconds

    @property
    def why(self) -> str:
        """What those wait for that wait now, in words."""
        if self._now() < self._closed_until:
            return f"{self.model} to take requests again"
        if self.limit is not None and self.flying >= self.limit:
            return f"limit {self.limit} of requests to {self.model}"
        return f"{self.model}, of which {self.width} may be asked at once after {self.refusals} refusals"

    def report(self) -> Report:
        """How many were in flight at most, of how many that were allowed."""
        name = f"requests to {self.model} at once"
        return reported(name, self.limit, self.peak, self.waits, self.waited, self._told())

    def _told(self) -> str:
        """What the provider's refusals came to."""
        if not self.refusals:
            return ""
        return f"refused {self.refusals}x, closed for {self.paused:.1f} s in all, narrowed to {self.narrowest} at once"

    def _through(self) -> Ticket:
        self.flying += 1
        self.peak = max(self.peak, self.flying)
        return self.ticket()

    def _open(self) -> bool:
        self._widen()
        most = min((most for most in (self.limit, self.width) if most is not None), default=None)
        return self._now() >= self._closed_until and (most is None or self.flying < most)

    def _widen(self) -> None:
        """One more for each quiet window since the last refusal."""
        while self.width is not None and (after := self._quiet_since + self._quiet) <= self._now():
            self._quiet_since = after
            self.width += 1
            if self.width >= self._before:
                self.width, self._before = None, 0

    def _look(self) -> None:
        """Let those through for whom there is room, and come back when there may be more."""
        while self._line and (self._line[0].done() or self._open()):
            turn = self._line.popleft()
            if not turn.done():
                self._through()
                turn.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line:
            self._come_back()

    def _come_back(self) -> None:
        now = self._now()
        if now < self._closed_until:
            at = self._closed_until
        elif self.width is not None:
            at = self._quiet_since + self._quiet
        else:
            return  # whoever leaves will look
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(max(at, now), self._look)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
