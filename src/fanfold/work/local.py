"""Executors inside this process: on the event loop, and in threads."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from fanfold.work.threads import Threads


class Inline:
    """Runs functions where the run is: on its event loop, which a blocking one holds up."""

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns, or what the coroutine that it returns does."""
        value = action(*args)
        return await value if inspect.isawaitable(value) else value

    def close(self, *, wait: bool) -> None:
        """Nothing is held, so there is nothing to close."""


class Loops:
    """Runs async functions in threads, each in an event loop of its own: for those that block between their awaits."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What the coroutine of `action(*args)` returns."""

        async def within() -> Any:
            return await action(*args)

        return await self._threads.call(lambda: asyncio.run(within()))

    def close(self, *, wait: bool) -> None:
        """The threads are closed by whoever has them."""
