"""Burr: actions in a state machine, of which one may map an action over states.

It has no edges to several actions at once: its fan-out is the map, so that `fanout` and `send` are the same.
"""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

from burr.core import ApplicationBuilder, State, action, default, when
from burr.core.parallelism import MapStates

from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads, slept

APPLICATION: Any = ApplicationBuilder  # these have no types
again: Any = when


def fanout(n: int, seconds: float = 0.0) -> Work:
    """An action mapped over `n` states."""

    @action(reads=["number"], writes=["number"])
    async def work(state: State[Any]) -> State[Any]:
        if seconds:
            await asyncio.sleep(seconds)
        return state.update(number=1)

    class Map(MapStates):
        """What is mapped, over what, and how the results are put together."""

        def is_async(self) -> bool:
            return True

        def action(self, state: State[Any], inputs: dict[str, Any]) -> Any:
            return work

        async def states(
            self, state: State[Any], context: Any, inputs: dict[str, Any]
        ) -> AsyncGenerator[State[Any], None]:
            for number in range(n):
                yield state.update(number=number)

        async def reduce(self, state: State[Any], results: Any) -> State[Any]:  # type: ignore[override]  # as it is told
            return state.update(items=[each["number"] async for each in results])

        @property
        def reads(self) -> list[str]:
            return ["number"]

        @property
        def writes(self) -> list[str]:
            return ["items"]

    mapped: Any = Map

    async def run() -> int:
        builder = APPLICATION().with_actions(map=mapped()).with_state(number=0, items=[]).with_entrypoint("map")
        _, _, state = await (await builder.abuild()).arun(halt_after=["map"])
        return len(state["items"])

    return run


def chain(n: int) -> Work:
    """`n` actions in a row."""
    names = [f"n{number}" for number in range(n)]

    @action(reads=["number"], writes=["number"])
    async def step(state: State[Any]) -> State[Any]:
        return state.update(number=1)

    async def run() -> int:
        builder = APPLICATION().with_actions(**dict.fromkeys(names, step)).with_state(number=0)
        builder = builder.with_transitions(*pairwise(names)).with_entrypoint(names[0])
        await (await builder.abuild()).arun(halt_after=[names[-1]])
        return n

    return run


def loop(n: int) -> Work:
    """An action that leads to itself."""

    @action(reads=["number"], writes=["number", "more"])
    async def step(state: State[Any]) -> State[Any]:
        return state.update(number=state["number"] + 1, more=state["number"] + 1 < n)

    @action(reads=[], writes=[])
    async def last(state: State[Any]) -> State[Any]:
        return state

    async def run() -> int:
        builder = APPLICATION().with_actions(step=step, last=last).with_state(number=0, more=True)
        builder = builder.with_transitions(("step", "step", again(more=True)), ("step", "last", default))
        _, _, state = await (await builder.with_entrypoint("step").abuild()).arun(halt_after=["last"])
        return int(state["number"])

    return run


WORKLOADS: Workloads = {
    "fanout": fanout,
    "send": fanout,
    "chain": chain,
    "loop": loop,
    "asleep": lambda n: Figures(lambda: slept(n, fanout(n, 1.0))),
    "imports": lambda n: imported("from burr.core import ApplicationBuilder", "apache-burr"),
}
