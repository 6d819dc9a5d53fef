"""Seconds that agents work, added up: while three work, three of them pass each second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fanfold.limits.budget import Account

LATE: Final = 0.001
"""Seconds by which a timer may come early."""


class Meter:
    """Counts the seconds of those who work, and stops them all when there are none left. Used from one event loop."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._stops: dict[object, Callable[[], None]] = {}
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        self._count()
        return self.account.spent + LATE >= self.account.limit

    def start(self, who: object, stop: Callable[[], None]) -> None:
        """From now on, `who` works; `stop` is called when the seconds are spent."""
        self._count()
        self._stops[who] = stop
        self._look()

    def end(self, who: object) -> None:
        """From now on, `who` does not work any more."""
        self._count()
        self._stops.pop(who, None)
        self._look()

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._stops:
            self.account.spent += len(self._stops) * (now - self._since)
            self.account.peak = self.account.spent
        self._since = now

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stops:
            left = max(0.0, self.account.limit - self.account.spent) / len(self._stops)
            self._timer = asyncio.get_running_loop().call_later(left, self._out)

    def _out(self) -> None:
        self._timer = None
        if not self.spent:
            self._look()
            return
        for stop in list(self._stops.values()):
            stop()
