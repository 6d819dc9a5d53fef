"""The event loops of blocking calls. A caller who has a loop of their own has chosen it; these are for the others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def runner() -> asyncio.Runner:
    """Runs coroutines in a loop of uvloop's where that is installed (extra `fast`), else in one of Python's.

    Where a program has chosen a policy of event loops, that decides.
    """
    return asyncio.Runner(loop_factory=None if _has_policy() else _factory())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, run to its end in a loop of its own."""
    with runner() as one:
        return one.run(coroutine)


def _has_policy() -> bool:
    return sys.version_info < (3, 14) and type(asyncio.get_event_loop_policy()) is not asyncio.DefaultEventLoopPolicy


@cache
def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        made: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return made
