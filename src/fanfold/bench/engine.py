"""What fanfold itself is measured with: the workloads of `graphs`, and a few that only concern it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import fanfold
from fanfold.bench import agentfiles, places, shapes
from fanfold.bench.floor import over_seed
from fanfold.bench.graphs import Engine
from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Workloads
from fanfold.events import KINDS
from fanfold.teams import seed

SLICES: Final = 20_000
TURNS: Final = 25
EVENTS: Final = tuple(KINDS.values())
TELLERS: Final = ("fanfold.run", "fanfold.frame", "fanfold.sitting", "fanfold.inner", "fanfold.family", "fanfold.held")
"""The modules of the driver that make events."""


@asynccontextmanager
async def opened(where: str | Path) -> AsyncIterator[Any]:
    """A store of ours."""
    from fanfold.store.opening import open_store

    with open_store(where) as store:
        yield store


def always_on(n: int) -> Figures:
    """What it costs a fan-out that it is told of: how many times as long it takes `over` the same without events,
    timing and watchdog, and `audited`, with its receipt besides, as `fanfold run` prints it.

    They take turns, run by run, so that what the machine does meanwhile concerns them all alike; the middle one of all
    turns counts.
    """

    async def find() -> Mapping[str, float]:
        app = shapes.fanout(fanfold, n).compile()
        over, audited = [], []
        for _ in range(TURNS):
            with _silence():
                off, _done = await _second(app)
            on, done = await _second(app)
            began = time.perf_counter()
            assert len(fanfold.audit(done).tasks) == n
            over.append(on / off)
            audited.append((on + time.perf_counter() - began) / off)
        return {"tasks": n, "over": statistics.median(over), "audited": statistics.median(audited)}

    return Figures(find)


async def _second(app: Any) -> tuple[float, Any]:
    """How many seconds a run takes that comes after one like it, as the interpreter adapts to what it runs."""
    await app.ainvoke({"items": []})
    gc.collect()
    began = time.perf_counter()
    done = await app.ainvoke({"items": []})
    return time.perf_counter() - began, done


@contextmanager
def _silence() -> Iterator[None]:
    """Within this, nobody is told of anything: no events are made, no code is timed, and no watchdog looks."""
    watch = importlib.import_module("fanfold.held").LoopWatch
    instead: list[tuple[Any, str, Any]] = [
        (importlib.import_module("fanfold.sitting"), "emitter", lambda *_: (_nothing, _nothing)),
        *((watch, name, _nothing) for name in ("begin", "end", "settled")),
        (watch, "timed", lambda self, emit, task, work: work),
        (watch, "start", lambda self, emit, task, work: (True, work)),
        (watch, "call", lambda self, emit, task, code, *given: code(*given)),
    ]
    for module in map(importlib.import_module, TELLERS):
        instead += [(module, name, _nothing) for name, value in vars(module).items() if value in EVENTS]
    before = [(where, name, getattr(where, name)) for where, name, _ in instead]
    for where, name, value in instead:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for every event, and for the telling of it."""


def slices(n: int) -> Figures:
    """What it costs a slice of an agent's code that it is timed, in microseconds: the price of naming who blocks."""

    async def find() -> Mapping[str, float]:
        from fanfold.held import LoopWatch

        watch = LoopWatch()
        bare, timed = [], []
        for _ in range(7):
            bare.append(await _spun(lambda work: work))
            timed.append(await _spun(partial(watch.timed, _nothing, "task")))
        return {"tasks": n, "us": (min(timed) - min(bare)) / SLICES * 1e6}

    return Figures(find)


async def _spun(around: Callable[[Awaitable[None]], Awaitable[None]]) -> float:
    """Seconds that so many slices took."""

    async def spin() -> None:
        for _ in range(SLICES):
            await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await around(spin())
    return loop.time() - began


def resting(n: int) -> Figures:
    """What the watchdog takes of one core while a run only waits, in percent."""

    async def find() -> Mapping[str, float]:
        taken: list[float] = []

        async def rest(state: Any) -> None:
            used = _clock_of("fanfold-watchdog")
            began = used()
            await asyncio.sleep(n)
            taken.append(used() - began)

        await shapes.fanout(fanfold, 1, rest).compile().ainvoke({"items": []})
        return {"tasks": 1, "percent": taken[0] / n * 100}

    return Figures(find)


def _clock_of(name: str) -> Callable[[], float]:
    """Tells how many seconds of a core a thread has used; on systems that do not say, the whole process."""
    thread = next(each for each in threading.enumerate() if each.name == name)
    if not hasattr(time, "pthread_getcpuclockid") or thread.ident is None:
        return time.process_time
    return partial(time.clock_gettime, time.pthread_getcpuclockid(thread.ident))


def blocked(n: int) -> Figures:
    """Four nodes that block the loop for a while each: how many of them the receipt names."""

    async def find() -> Mapping[str, float]:
        async def block(state: Any) -> dict[str, list[int]]:
            time.sleep(0.1)  # noqa: ASYNC251 - that is what is to be found out
            return {"items": [1]}

        done = await shapes.fanout(fanfold, n, block).compile().ainvoke({"items": []})
        named = {life.name for life in fanfold.audit(done).tasks if life.held > 0.05}
        return {"tasks": n, "named": len(named)}

    return Figures(find)


def seeded(n: int) -> Figures:
    """The seed's run, stored in SQLite: from its start to its end, as its receipt has it.

    An agent that answers at once comes before, so that what is imported when it is first used is there.
    """

    @fanfold.python_agent("quick", "Answers at once.")
    async def quick(prompt: str) -> str:
        return prompt

    async def ask(state: Any) -> dict[str, list[str]]:
        return {"items": [str(await fanfold.Task(subagent_type="quick", prompt="go", description="go"))]}

    async def run() -> float:
        async with opened(places.file()) as store:
            await shapes.fanout(fanfold, 1, ask).compile(store).ainvoke({"items": []}, agents=[quick])
            done = await seed.graph.compile(store).ainvoke({"answers": []}, agents=seed.agents)
            return fanfold.audit(done).wall

    return Figures(lambda: over_seed(run))


ENGINE: Final = Engine(fanfold, opened, opened, opened, declared=True)
WORKLOADS: Final[Workloads] = {
    **ENGINE.workloads(),
    "always_on": always_on,
    "slices": slices,
    "resting": resting,
    "blocked": blocked,
    "seed": seeded,
    "agent_files": agentfiles.loaded,
    "imports": lambda n: imported("import fanfold", "fanfold"),
}
