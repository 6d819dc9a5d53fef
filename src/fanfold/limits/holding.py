"""What of a run's limits code is inside of: what its agent holds and may give back, and the agents that it works for.

It is in the context, so that whatever the code starts is inside of it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

Around: TypeAlias = tuple[object, ...]

_around: Final[ContextVar[Around]] = ContextVar("holding", default=())


@contextmanager
def inside(held: object) -> Iterator[None]:
    """What runs in this block is inside of something."""
    outer = _around.get()
    _around.set((*outer, held))
    try:
        yield
    finally:
        _around.set(outer)  # a token would be of another context where the block is one of a generator's


def around() -> Around:
    """All that this code is inside of, the outermost first."""
    return _around.get()
