"""Beats on one core, and says when a beat was late: then nobody could have run there. Started as a program of its own.

It comes before everybody else on that core where the system allows it. So what makes it late is no other program, but
the host of a virtual machine that has taken the core away; the kernel does not know of that, and counts it nowhere.

In: anything, on which what was late so far is told. Out: a line for each beat that was late, with its seconds, and an
empty one when it was asked.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time

BEAT = 0.002
LATE_FROM = 0.001


def beats(core: int) -> None:
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(OSError):  # not everybody may
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    last = time.monotonic()
    while True:
        asked, _, _ = select.select([0], [], [], BEAT)
        now = time.monotonic()
        late = now - last - BEAT
        if late >= LATE_FROM:
            print(late)
        last = now
        if asked:
            if not os.read(0, 1):
                return
            print(flush=True)


if __name__ == "__main__":
    beats(int(sys.argv[1]))
