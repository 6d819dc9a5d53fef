"""The log of a thread: one file, to which all processes append that work on it, and that outlives every one of them.

A line is one write to a file that is open for appending, so lines of several processes are never mixed, and their order
in the file is the order in which they were written. That order is what the checks go by; no clock has a part in them.
Each line is on the disk before the work goes on that it tells of, but for "sent", which only says what was about to be.

The lines, each with the process that wrote it and the epoch of its lease::

    ask                the process is about to claim the thread
    claim              it has the thread
    release            it is about to let go of the thread
    start  name        a node or an agent begins; `since` is the place in the log at which that was allowed
    end    name        it has ended
    sent   id kind     a change is about to be handed to the store
    ack    id kind     the store has said that the change is on disk
    refused id kind    the store has said that the change is of an old lease
    twice  id kind     the store has said that another attempt's result is there
    told   name        the caller of a run has been told that it is done
    frozen             the process is about to freeze itself in the middle of a call to the database
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

FIELDS = ("what", "pid", "epoch", "name", "kind", "id", "since")


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and the number of bytes before it. `name` says whose: a node's, an agent's, or a thread's."""

    at: int
    what: str
    pid: int
    epoch: int
    name: str
    kind: str
    id: str
    since: int


class Note:
    """Appends lines to the file at `path`, and tells them to whoever reads the pipe `told`."""

    def __init__(self, path: str, told: int | None = None) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._told = told

    def __call__(
        self, what: str, *, epoch: int = 0, name: str = "", kind: str = "", id: str = "", since: int = 0
    ) -> None:
        line = "\t".join(map(str, (what, os.getpid(), epoch, name, kind, id, since))).encode() + b"\n"
        os.write(self._file, line)
        if what != "sent":
            os.fsync(self._file)
        if self._told is not None:
            os.write(self._told, line)

    def here(self) -> int:
        """The place in the log up to which everything has happened already."""
        return os.fstat(self._file).st_size


def parsed(text: bytes, at: int) -> Line:
    """A line that begins at place `at` of the log."""
    what, pid, epoch, name, kind, id, since = text.decode().rstrip("\n").split("\t")
    return Line(at, what, int(pid), int(epoch), name, kind, id, int(since))


def read(path: Path) -> list[Line]:
    """All lines of a log, in their order."""
    lines, at = [], 0
    for text in path.read_bytes().splitlines(keepends=True):
        lines.append(parsed(text, at))
        at += len(text)
    return lines
