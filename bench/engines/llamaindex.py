"""LlamaIndex workflows: steps that take events and return events.

A step has four workers unless it says otherwise; here it says how many there are to be. Steps belong to a class, so
that `n` different ones are made by a loop; nobody writes a fan-out so, who can return a list of events.
"""

import asyncio

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads, slept


class Job(Event):
    """One task."""

    number: int


class Done(Event):
    """What came of one."""

    number: int


class AfterA(Event):
    """The first leg's short step is done."""


class AfterC(Event):
    """The second leg's long step is done."""


class BeginA(Event):
    """Begins the first leg."""


class BeginC(Event):
    """Begins the second leg."""


def send(n: int, seconds: float = 0.0) -> Work:
    """A step that returns `n` events, one that does them, and one that collects them."""

    class Map(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Job]:
            return [Job(number=number) for number in range(n)]

        @step(num_workers=n)
        async def work(self, ev: Job) -> Done:
            if seconds:
                await asyncio.sleep(seconds)
            return Done(number=1)

        @step
        async def join(self, events: list[Done]) -> StopEvent:
            return StopEvent(result=len(events))

    return _running(Map(timeout=None))


def loop(n: int) -> Work:
    """A step that takes what it returns."""

    class Loop(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Job:
            return Job(number=0)

        @step
        async def count(self, ev: Job) -> Job | StopEvent:
            number = ev.number + 1
            return Job(number=number) if number < n else StopEvent(result=number)

    return _running(Loop(timeout=None))


def unequal(n: int) -> Figures:
    """Two legs that are long at different ends."""

    class Unequal(Workflow):
        @step
        async def a(self, ev: StartEvent) -> AfterA:
            await asyncio.sleep(0.1)
            return AfterA()

        @step
        async def c(self, ev: StartEvent) -> AfterC:
            await asyncio.sleep(1.0)
            return AfterC()

        @step
        async def b(self, ev: AfterA) -> BeginA:
            await asyncio.sleep(1.0)
            return BeginA()

        @step
        async def d(self, ev: AfterC) -> BeginC:
            await asyncio.sleep(0.1)
            return BeginC()

        @step
        async def join(self, first: BeginA, second: BeginC) -> StopEvent:
            return StopEvent(result=5)

    run = _running(Unequal(timeout=None))
    return Figures(lambda: slept(5, run))


def _running(workflow: Workflow) -> Work:
    async def run() -> int:
        return int(await workflow.run())

    return run


WORKLOADS: Workloads = {
    "send": send,
    "loop": loop,
    "asleep": lambda n: Figures(lambda: slept(n, send(n, 1.0))),
    "unequal": unequal,
    "imports": lambda n: imported("from workflows import Workflow", "llama-index-workflows"),
}
