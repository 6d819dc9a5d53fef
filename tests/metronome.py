"""Beats on one core, and says when a beat was late: then nobody could have run there. Started as a program of its own.

It comes before everybody else on that core where the system allows it. So what makes it late is no other program, but
the host of a virtual machine that has taken the core away; the kernel does not know of that, and counts it nowhere.

In: `b`, on which it begins to beat, and `t`, on which it tells and rests. Out: an empty line when it has begun; then, a
line for each beat that was late, with its seconds, and an empty one behind them.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator

BEAT = 0.002
LATE_FROM = 0.001


def beats(core: int) -> None:
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(OSError):  # not everybody may
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    while os.read(0, 1):
        print(flush=True)
        for late in _late_beats():
            print(late)
        print(flush=True)


def _late_beats() -> Iterator[float]:
    last = time.monotonic()
    asked = False
    while not asked:
        asked = bool(select.select([0], [], [], BEAT)[0])
        now = time.monotonic()
        if (late := now - last - BEAT) >= LATE_FROM:
            yield late
        last = now
    os.read(0, 1)


if __name__ == "__main__":
    beats(int(sys.argv[1]))
