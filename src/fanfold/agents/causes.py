"""What an error comes of, as far as everybody may read it.

What a message of ours leaves out, such as a key in a server's address, the vendors' errors below it still say, and
whoever prints a traceback prints those. So an error whose causes say it is raised as if it had none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn


def raise_from(failure: Exception, cause: BaseException, masked: Callable[[str], str]) -> NoReturn:
    """Raise `failure` from its cause, or from nothing where that, or what it comes of itself, says what is masked."""
    if not any(masked(text) != text for error in _all(cause) for text in _texts(error)):
        raise failure from cause
    try:
        raise failure from None
    finally:
        failure.__context__ = None  # it is not printed, and can be read all the same


def _all(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it comes of."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            within = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            left += [each for each in (one.__cause__, one.__context__, *within) if each is not None]


def _texts(error: BaseException) -> Iterator[str]:
    yield from (str(error), repr(error), *getattr(error, "__notes__", ()))
