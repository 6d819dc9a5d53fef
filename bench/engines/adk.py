"""Google ADK: the `Workflow` of nodes, run by its runner in a session in memory."""

import asyncio
import itertools
import logging
from typing import Any

from google.adk.agents.context import Context
from google.adk.runners import InMemoryRunner
from google.adk.workflow import START, Edge, JoinNode, Workflow, node
from google.genai import types

from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads, slept

logging.disable(logging.WARNING)
_names = itertools.count()


def fanout(n: int) -> Work:
    """`n` nodes after START, and a join."""
    join = JoinNode(name="join")
    workers = tuple(_worker(f"n{number}") for number in range(n))
    return _running(Workflow(name="fanout", edges=[(START, workers, join)]), len)


def send(n: int, seconds: float = 0.0) -> Work:
    """A node that runs once for each item of a list."""

    @node(name="source")
    async def source(node_input: Any) -> list[int]:
        return list(range(n))

    @node(name="work", parallel_worker=True)
    async def work(node_input: Any) -> int:
        if seconds:
            await asyncio.sleep(seconds)
        return 1

    return _running(Workflow(name="send", edges=[(START, source, work)]), len)


def chain(n: int) -> Work:
    """`n` nodes in a row."""
    return _running(
        Workflow(name="chain", edges=[(START, *(_worker(f"n{number}") for number in range(n)))]), lambda _: n
    )


def loop(n: int) -> Work:
    """A node with an edge to itself, which is followed while it says so."""

    @node(name="step")
    async def step(ctx: Context, node_input: Any) -> int:
        number = node_input + 1 if isinstance(node_input, int) else 1
        ctx.route = number < n
        return number

    @node(name="last")
    async def last(node_input: int) -> int:
        return node_input

    edges = [Edge(from_node=step, to_node=step, route=True), Edge(from_node=step, to_node=last, route=False)]
    return _running(Workflow(name="loop", edges=[(START, step), *edges]), int)


def unequal(n: int) -> Figures:
    """Two legs that are long at different ends."""
    join = JoinNode(name="join")
    a, b, c, d = (_worker(id, seconds) for id, seconds in (("a", 0.1), ("b", 1.0), ("c", 1.0), ("d", 0.1)))
    run = _running(Workflow(name="unequal", edges=[(START, a, b, join), (START, c, d, join)]), len)

    async def five() -> int:
        assert await run() == 2
        return 5

    return Figures(lambda: slept(5, five))


def _worker(name: str, seconds: float = 0.0) -> Any:
    @node(name=name)
    async def work(node_input: Any) -> int:
        if seconds:
            await asyncio.sleep(seconds)
        return 1

    return work


def _running(workflow: Workflow, counted: Any) -> Work:
    """A run in a session of its own; what its last event holds is the output."""
    runner = InMemoryRunner(node=workflow)
    message = types.UserContent("begin")

    async def run() -> int:
        session = await runner.session_service.create_session(
            app_name=runner.app_name, user_id="bench", session_id=str(next(_names))
        )
        output: Any = None
        async for event in runner.run_async(user_id="bench", session_id=session.id, new_message=message):
            if event.output is not None:
                output = event.output
        return int(counted(output))

    return run


WORKLOADS: Workloads = {
    "fanout": fanout,
    "send": send,
    "chain": chain,
    "loop": loop,
    "asleep": lambda n: Figures(lambda: slept(n, send(n, 1.0))),
    "unequal": unequal,
    "imports": lambda n: imported("from google.adk.workflow import Workflow", "google-adk"),
}
