"""Whose a line of code is: the user's, a library's, Python's or ours; and which of those that a thread is at counts."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import lru_cache
from types import CodeType, FrameType
from typing import Final, NamedTuple, TypeAlias

_OURS: Final = os.path.dirname(__file__) + os.sep
_PYTHON: Final = os.path.dirname(os.__file__) + os.sep
_STARTS: Final = threading.Thread.start.__code__


class Place(NamedTuple):
    """A line of code, and the functions that had called it, innermost first."""

    file: str = ""
    line: int = 0
    function: str = ""
    callers: tuple[str, ...] = ()


NOWHERE: Final = Place()

Lines: TypeAlias = list[tuple[CodeType, int]]
"""What a thread has called, innermost first, each with the line that it is at."""


def lines_of(frame: FrameType | None) -> Lines:
    """Where the code at `frame` is, as far as it is of a task. It is quick: that code may go on at any moment."""
    found: Lines = []
    while frame is not None and frame.f_code not in _ends:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def place_of(frame: FrameType | None) -> Place:
    """Which line of the user's the code at `frame` is in, as `place_at` has it."""
    return place_at(lines_of(frame))


def place_at(frames: Lines) -> Place:
    """Which line of these is the user's; without one, which is of whatever is nearest to the user's.

    A library that the user's code calls, such as a client of a server, is not the user's; where nothing else is there,
    it is the innermost line of what was called first. None is where a library only waits for a thread to begin: what
    that takes is for who has the interpreter, or the cores.
    """
    owners = [owner(code.co_filename) for code, _ in frames]
    whose = USERS if USERS in owners else next((o for o in reversed(owners) if o not in (PYTHON, OURS)), None)
    if whose != USERS and any(code is _STARTS for code, _ in frames):
        return NOWHERE
    if whose is None:
        whose = OURS if OURS in owners else PYTHON
    chosen = [each for each, one in zip(frames, owners, strict=True) if one == whose]
    if not chosen:
        return NOWHERE
    (code, line), *above = chosen
    return Place(code.co_filename, line, code.co_qualname, tuple(each.co_qualname for each, _ in above))


PYTHON: Final = "python"
OURS: Final = "fanfold"
USERS: Final = ""
ANYIO: Final = "package anyio"
"""Through which code starts tasks and takes locks as through asyncio."""


@lru_cache(maxsize=4096)
def owner(file: str) -> str:
    """Whose code a file has: Python's, ours, that of the package with this name, or the user's."""
    for folder in ("site-packages", "dist-packages"):
        _, found, inside = file.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return OURS if inside.startswith(f"fanfold{os.sep}") else f"package {inside.split(os.sep)[0]}"
    if file.endswith(".pyx"):  # compiled, with a path in its own sources
        return f"package {file.split('/')[0]}"
    if file.startswith(_OURS):
        return OURS
    return PYTHON if file.startswith((_PYTHON, "<frozen ")) else USERS


_ends: set[CodeType] = {
    asyncio.Handle._run.__code__,
    asyncio.BaseEventLoop.run_forever.__code__,
    asyncio.BaseEventLoop.run_until_complete.__code__,
    asyncio.Runner.run.__code__,
}


def ends_at(code: CodeType) -> None:
    """What has called a function with this code is no part of what a task does."""
    _ends.add(code)
