"""The event loops of blocking calls. A caller who has a loop of their own has chosen it; these are for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def runner() -> asyncio.Runner:
    """Runs coroutines in a loop of uvloop's where that is installed (extra `fast`), else in one of Python's."""
    return asyncio.Runner(loop_factory=_factory())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, run to its end in a loop of its own."""
    with runner() as one:
        return one.run(coroutine)


@cache
def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        made: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return made
