"""What fanfold itself is measured with: the workloads of `graphs`, and a few that only concern it."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import fanfold
from fanfold.bench import agentfiles, places, shapes
from fanfold.bench.floor import over_seed
from fanfold.bench.graphs import Engine
from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads
from fanfold.events import Event
from fanfold.teams import seed

SLICES: Final = 20_000
TELLERS: Final = ("fanfold.run", "fanfold.frame", "fanfold.sitting", "fanfold.inner", "fanfold.family", "fanfold.held")
"""The modules of the driver that make events."""


@asynccontextmanager
async def opened(where: str | Path) -> AsyncIterator[Any]:
    """A store of ours."""
    from fanfold.store.opening import open_store

    with open_store(where) as store:
        yield store


def audited(n: int) -> Work:
    """A fan-out with its receipt, as `fanfold run` prints it."""
    app = shapes.fanout(fanfold, n).compile()

    async def run() -> int:
        done = await app.ainvoke({"items": []})
        assert fanfold.audit(done).wall > 0
        return len(done["items"])

    return run


def untold(n: int) -> Work:
    """A fan-out that nobody is told of: no events are made, no code is timed, and no watchdog looks."""
    _silence()
    return ENGINE.fanout(n)


def _silence() -> None:
    for module in map(importlib.import_module, TELLERS):
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and hasattr(value, "kind") and value.__module__ == Event.__args__[0].__module__:
                setattr(module, name, _nothing)
    importlib.import_module("fanfold.family").Emitter.__call__ = _nothing
    watch = importlib.import_module("fanfold.held").LoopWatch
    watch.begin = watch.end = watch.settled = _nothing
    watch.timed = lambda self, emit, task, work: work
    watch.start = lambda self, emit, task, work: (True, work)
    watch.call = lambda self, emit, task, code, *given: code(*given)


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
    """What the watchdog takes of one core while a run only waits, in percent; less what the waiting itself takes."""

    async def find() -> Mapping[str, float]:
        async def rest(state: Any) -> None:
            await asyncio.sleep(n)

        app = shapes.fanout(fanfold, 1, rest).compile()
        await shapes.fanout(fanfold, 1).compile().ainvoke({"items": []})
        bare = await _used(asyncio.sleep(n))
        return {"tasks": 1, "percent": (await _used(app.ainvoke({"items": []})) - bare) / n * 100}

    return Figures(find)


async def _used(work: Awaitable[object]) -> float:
    """Seconds of a core that this process has used meanwhile."""
    began = time.process_time()
    await work
    return time.process_time() - began


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
    "audited": audited,
    "untold": untold,
    "slices": slices,
    "resting": resting,
    "blocked": blocked,
    "seed": seeded,
    "agent_files": agentfiles.loaded,
    "imports": lambda n: imported("import fanfold", "fanfold"),
}
