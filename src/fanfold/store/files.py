"""The files of databases that this process has open, which nothing else in it may open.

POSIX drops all locks that a process has on a file when it closes any descriptor of that file. Whoever reads such a file
takes SQLite's locks away with it, and then other processes write while this one does
(https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
from collections import Counter
from threading import Lock
from typing import Final

_WITH_IT: Final = ("", "-wal", "-shm")

_changing: Final = Lock()
_open: Final[Counter[str]] = Counter()


def opened(path: str) -> None:
    """A connection to this database is open from here on, until as many calls of `closed`."""
    with _changing:
        _open[os.path.abspath(path)] += 1


def closed(path: str) -> None:
    """A connection to this database has been closed."""
    name = os.path.abspath(path)
    with _changing:
        _open[name] -= 1
        if not _open[name]:
            del _open[name]


def has(status: os.stat_result) -> bool:
    """Whether a file is one of theirs."""
    with _changing:
        paths = tuple(_open)
    for path in paths:
        for ending in _WITH_IT:
            try:
                theirs = os.stat(path + ending)
            except OSError:
                continue
            if os.path.samestat(status, theirs):
                return True
    return False
