"""How one engine's work is measured in this process: warmed up, repeated, and told as plain numbers.

An engine is a dictionary of workloads. A workload is given its size and answers with what is to be measured, ready to
go, so that building a graph is no part of it:

- a function to await, which is timed in a running event loop; it says how many tasks it did;
- an async context manager of such a function, where a database must be opened around it;
- `Blocking`, which is timed outside of any event loop;
- `Figures`, which measures by itself whatever it is about, and is asked once.

How many tasks were done is checked by whoever compares: an engine that did less must not look fast.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

LEAST: Final = 3
MOST: Final = 30
LONG: Final = 5.0
"""Seconds from which on the first time counts, and is the only one: warming up is no matter there."""

Work: TypeAlias = Callable[[], Awaitable[int]]
"""Does the work once and says how many tasks that were."""


class AbsentError(Exception):
    """An engine cannot do a workload; the message says why."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """Work that begins outside of any event loop."""

    work: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Watched:
    """Work that knows more figures, by name, once it has been repeated."""

    work: Callable[[], Awaitable[int]]
    more: Callable[[], Mapping[str, float]]

    def __call__(self) -> Awaitable[int]:
        return self.work()


@dataclass(frozen=True, slots=True)
class Figures:
    """Work that finds its own figures, by name."""

    find: Callable[[], Awaitable[Mapping[str, float]]]


Prepared: TypeAlias = Work | AbstractAsyncContextManager[Work] | Blocking | Figures
Workloads: TypeAlias = Mapping[str, Callable[[int], Prepared]]


def measure(workloads: Workloads, name: str, n: int, *, seconds: float) -> dict[str, Any]:
    """What the workload `name` of size `n` takes here, repeated for about so many seconds.

    `{"tasks": how many one repetition did, "us": median microseconds a task}`, or the figures that it found by itself,
    or `{"absent": why}`.
    """
    if name not in workloads:
        return {"absent": "has no such workload"}
    try:
        made = workloads[name](n)
        if isinstance(made, Blocking):
            return _blocking(made.work, seconds)
        return asyncio.run(_awaited(made, seconds))
    except AbsentError as absent:
        return {"absent": str(absent)}


def _blocking(work: Callable[[], int], seconds: float) -> dict[str, Any]:
    began = time.perf_counter()
    tasks = work()
    taken = _long(began)
    end = time.perf_counter() + seconds
    while _again(taken, end):
        gc.collect()
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return _told(tasks, taken)


async def _awaited(made: Prepared, seconds: float) -> dict[str, Any]:
    if isinstance(made, Figures):
        return dict(await made.find())
    if isinstance(made, AbstractAsyncContextManager):
        async with made as work:
            return await _repeated(work, seconds)
    assert not isinstance(made, Blocking), "it was run outside of the loop"
    return await _repeated(made, seconds)


async def _repeated(work: Work, seconds: float) -> dict[str, Any]:
    began = time.perf_counter()
    tasks = await work()
    taken = _long(began)
    end = time.perf_counter() + seconds
    while _again(taken, end):
        gc.collect()
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return {**_told(tasks, taken), **(work.more() if isinstance(work, Watched) else {})}


def _long(began: float) -> list[float]:
    took = time.perf_counter() - began
    return [took] if took >= LONG else []


def _again(taken: list[float], end: float) -> bool:
    """Three times at the least, unless that would take long, and until the time is up."""
    if len(taken) >= MOST or sum(taken) >= LONG:
        return False
    return len(taken) < LEAST or time.perf_counter() < end


def _told(tasks: int, taken: list[float]) -> dict[str, Any]:
    return {"tasks": tasks, "us": statistics.median(taken) / tasks * 1e6}


async def slept(tasks: int, work: Work) -> dict[str, float]:
    """Of agents that sleep at once: seconds until all were done, and bytes that each took meanwhile."""
    gc.collect()
    before = resident()
    began = time.perf_counter()
    done = await work()
    took = time.perf_counter() - began
    assert done == tasks, f"{done:,} of {tasks:,} agents slept"
    return {"tasks": tasks, "seconds": took, "bytes": max(0, peak() - before) / tasks}


def resident() -> int:
    """Bytes of memory that this process has now; where the system does not tell, the most it ever had."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Bytes of memory that this process had at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM") or (most if sys.platform == "darwin" else most * 1024)


def _status(field: str) -> int:
    """A figure of Linux about this process: `getrusage` would count what the parent had when it started us."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0
