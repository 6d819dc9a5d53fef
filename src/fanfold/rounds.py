"""Rounds of an event loop, counted behind something that has happened there.

A loop that comes round carries out what is ready, then looks what has come in meanwhile, and rests if there is nothing.
What was ready when something happened goes on in one of the next few rounds. They are counted, as a core that others
take away in between makes them last for any length of time; and while they are, the loop does not rest.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Final

ROUNDS: Final = 5
"""How many: the one that is under way, one in which what came in meanwhile is found, and one each for those who are
told by a callback, by a future, and by a task that waited."""


class Rounds:
    """Whether this thread's event loop is in one of the rounds right after something."""

    __slots__ = ("_context", "_left", "_loop")

    def __init__(self) -> None:
        self._left = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # which comes round to count
        self._context = contextvars.Context()

    def begin(self) -> None:
        """It has happened now. Without a loop that runs here, there are no rounds."""
        self._left, loop = ROUNDS, asyncio._get_running_loop()
        if loop is not None and loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._count, loop, context=self._context)

    @property
    def on(self) -> bool:
        """Whether what goes on now does so in one of them."""
        return self._loop is not None and self._loop is asyncio._get_running_loop()

    def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop has come round. One that was stopped meanwhile, and is no longer asked, may do so late."""
        if loop is not self._loop:
            return
        self._left -= 1
        if self._left:
            loop.call_soon(self._count, loop, context=self._context)
        else:
            self._loop = None
