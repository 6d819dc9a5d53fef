"""The places that one run has for the code of its nodes, by the names that a node can give."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from fanfold.work.base import Executor
from fanfold.work.local import Inline, Loops
from fanfold.work.threads import Threads

if TYPE_CHECKING:
    from fanfold.work.process import Processes


def cores() -> int:
    """How many processes can really run at once here."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


class Places:
    """The executors of a run; threads and processes are there once something runs in them."""

    def __init__(self) -> None:
        self.loop: Final = Inline()
        self.threads: Final = Threads()
        self.loops: Final = Loops(self.threads)

    @cached_property
    def processes(self) -> Processes:
        """As many processes as can really run at once."""
        from fanfold.work.process import Processes  # only who needs it pays for importing multiprocessing

        return Processes(cores())

    def of(self, executor: Any, *, is_async: bool) -> Executor:
        """Where code runs that names `executor`; without one, async code on the loop and other code in threads."""
        if executor is None:
            return self.loop if is_async else self.threads
        if not isinstance(executor, str):
            return cast(Executor, executor)
        if executor == "process":
            return self.processes
        if executor == "loop":
            return self.loop
        return self.loops if is_async else self.threads

    def close(self, *, wait: bool) -> None:
        """Take no more work; with `wait`, return when what had begun has ended. A user's executor is theirs."""
        self.threads.close(wait=wait)
        if "processes" in self.__dict__:
            self.processes.close(wait=wait)
