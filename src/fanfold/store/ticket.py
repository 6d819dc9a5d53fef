"""What whoever queues a change for a store is given: a future that tasks of an event loop can wait for, too.

Sixty-four agents whose results are committed together are woken together. `asyncio.wrap_future` would call each of
their loop's tasks by itself, and each such call is a byte through a pipe, after which the loop and the writer take
turns at the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Ticket(Future[T]):
    """The outcome of something that is queued: `.result()` blocks for it, `await` waits for it in an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[asyncio.Future[None]] = []

    def __await__(self) -> Generator[object, None, T]:
        """The outcome, or what is raised instead of one. Whoever is cancelled here stops waiting, and nothing else."""
        if not self.done():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            if not self.done():  # it is done before its waiters are looked for, so one of the two has seen the other
                yield from waiter
        return self.result()

    def set_result(self, result: T) -> None:
        """Say how it ended, and let those go on who wait."""
        super().set_result(result)
        _wake([self])

    def set_exception(self, exception: BaseException | None) -> None:
        """Say what went wrong, and let those go on who wait."""
        super().set_exception(exception)
        _wake([self])


def settle(tickets: Sequence[Ticket[T]], outcomes: Iterable[T | BaseException]) -> None:
    """Say how these ended, an exception being what is raised, and let those of one event loop go on together."""
    for ticket, outcome in zip(tickets, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            Future.set_exception(ticket, outcome)
        else:
            Future.set_result(ticket, outcome)
    _wake(tickets)


def _wake(tickets: Iterable[Ticket[T]]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for ticket in tickets:
        for waiter in ticket._waiting:
            loops.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, waiters in loops.items():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(_go_on, waiters)


def _go_on(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
