"""Executors inside this process: on the event loop, and in threads."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

MOST_THREADS: Final = 4096
"""What bounds the threads of a run is its concurrency limit, which its slots enforce.

The pool itself must not: a node that waits for an agent has given its slot back but still occupies its thread, and a
pool of just `limit` threads would leave none for the node that got the slot.
"""


class Inline:
    """Runs functions where the run is: on its event loop, which a blocking one holds up."""

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns, or what the coroutine that it returns does."""
        value = action(*args)
        return await value if inspect.isawaitable(value) else value

    def close(self, *, wait: bool) -> None:
        """Nothing is held, so there is nothing to close."""


class Threads:
    """Runs blocking functions in threads, which are started as they are needed.

    A function that answers with an awaitable (a lambda around a coroutine) has it awaited on the loop.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns in a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="fanfold-node")
        context = contextvars.copy_context()
        value = await asyncio.get_running_loop().run_in_executor(self._pool, context.run, _called, action, args)
        return await value if inspect.isawaitable(value) else value

    def close(self, *, wait: bool) -> None:
        """Let the threads go; a function that has begun cannot be stopped, only waited for or left."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None


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


def _called(action: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return action(*args)
    except StopIteration as stop:  # no future can carry one, so it would never arrive and its caller wait for ever
        raise RuntimeError("a blocking function raised StopIteration") from stop
