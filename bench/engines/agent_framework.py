"""Microsoft Agent Framework: executors that send each other messages, in super-steps.

Its builder has no map over a list that is known only when it runs, so it has no `send`.
"""

import asyncio
from typing import Any, Never

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads, slept


class Begin(Executor):
    """Tells everybody to begin."""

    @handler
    async def begin(self, message: int, ctx: WorkflowContext[int]) -> None:
        """Pass it on."""
        await ctx.send_message(message)


class Worker(Executor):
    """Does next to nothing, after a while."""

    def __init__(self, id: str, seconds: float = 0.0) -> None:
        super().__init__(id=id)
        self.seconds = seconds

    @handler
    async def work(self, message: int, ctx: WorkflowContext[int]) -> None:
        """Pass on what is one more."""
        if self.seconds:
            await asyncio.sleep(self.seconds)
        await ctx.send_message(message + 1)


class Join(Executor):
    """Waits for all of them."""

    @handler
    async def join(self, results: list[int], ctx: WorkflowContext[Never, int]) -> None:
        """Say how many there were."""
        await ctx.yield_output(len(results))


class Last(Executor):
    """The end of a chain."""

    @handler
    async def last(self, message: int, ctx: WorkflowContext[Never, int]) -> None:
        """Say what has come of it."""
        await ctx.yield_output(message)


class Step(Executor):
    """Sends to itself until it has counted to the limit."""

    def __init__(self, id: str, limit: int) -> None:
        super().__init__(id=id)
        self.limit = limit

    @handler
    async def step(self, message: int, ctx: WorkflowContext[int, int]) -> None:
        """Go round once more."""
        if message + 1 < self.limit:
            await ctx.send_message(message + 1)
        else:
            await ctx.yield_output(message + 1)


def fanout(n: int, seconds: float = 0.0) -> Work:
    """One executor, `n` that it fans out to, and one that they fan in to."""
    begin, join = Begin(id="begin"), Join(id="join")
    workers = [Worker(f"n{number}", seconds) for number in range(n)]
    builder = WorkflowBuilder(start_executor=begin, max_iterations=10)
    return _running(builder.add_fan_out_edges(begin, workers).add_fan_in_edges(workers, join).build())


def chain(n: int) -> Work:
    """`n` executors in a row."""
    workers: list[Any] = [Worker(f"n{number}") for number in range(n)]
    builder = WorkflowBuilder(start_executor=workers[0], max_iterations=n + 10)
    return _running(builder.add_chain([*workers, Last(id="last")]).build())


def loop(n: int) -> Work:
    """One executor with an edge to itself."""
    step = Step("step", n)
    return _running(WorkflowBuilder(start_executor=step, max_iterations=n + 10).add_edge(step, step).build())


def unequal(n: int) -> Figures:
    """Two legs that are long at different ends."""
    begin, join = Begin(id="begin"), Join(id="join")
    a, b, c, d = (Worker(id, seconds) for id, seconds in (("a", 0.1), ("b", 1.0), ("c", 1.0), ("d", 0.1)))
    builder = WorkflowBuilder(start_executor=begin, max_iterations=10).add_fan_out_edges(begin, [a, c])
    run = _running(builder.add_edge(a, b).add_edge(c, d).add_fan_in_edges([b, d], join).build())

    async def five() -> int:
        assert await run() == 2
        return 5

    return Figures(lambda: slept(5, five))


def _running(workflow: Workflow) -> Work:
    async def run() -> int:
        (output,) = (await workflow.run(0)).get_outputs()
        return int(output)

    return run


WORKLOADS: Workloads = {
    "fanout": fanout,
    "chain": chain,
    "loop": loop,
    "asleep": lambda n: Figures(lambda: slept(n, fanout(n, 1.0))),
    "unequal": unequal,
    "imports": lambda n: imported("from agent_framework import WorkflowBuilder", "agent-framework-core"),
}
