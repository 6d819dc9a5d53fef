"""pydantic-graph, with the builder: steps, forks, and joins that reduce."""

import asyncio
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic_graph import GraphBuilder, reduce_list_append

from fanfold.bench.imports import imported
from fanfold.bench.timing import Figures, Work, Workloads, slept

Context: TypeAlias = Any  # `StepContext`, whose parameters mypy cannot see


@dataclass
class Count:
    """How far a loop is."""

    number: int = 0


def fanout(n: int) -> Work:
    """`n` steps that the first leads to, and a join."""
    g = _builder()
    source, join = _source(g, 1), g.join(reduce_list_append, initial_factory=list)
    workers = [_worker(g, f"n{number}") for number in range(n)]
    g.add(g.edge_from(g.start_node).to(source), g.edge_from(source).to(*workers))
    g.add(g.edge_from(*workers).to(join), g.edge_from(join).to(g.end_node))
    return _items(g.build())


def send(n: int, seconds: float = 0.0) -> Work:
    """One step that is mapped over a list, and a join."""
    g = _builder()
    source, work, join = _source(g, n), _worker(g, "work", seconds), g.join(reduce_list_append, initial_factory=list)
    g.add(g.edge_from(g.start_node).to(source), g.edge_from(source).map().to(work))
    g.add(g.edge_from(work).to(join), g.edge_from(join).to(g.end_node))
    return _items(g.build())


def chain(n: int) -> Work:
    """`n` steps in a row."""
    g = _builder()
    steps = [_worker(g, f"n{number}") for number in range(n)]
    for before, after in zip([g.start_node, *steps], [*steps, g.end_node], strict=True):
        g.add_edge(before, after)
    graph = g.build()

    async def run() -> int:
        await graph.run(state=Count(), inputs=0)
        return n

    return run


def loop(n: int) -> Work:
    """A step and a decision that leads back to it."""
    g = _builder()

    async def count(ctx: Context) -> int:
        ctx.state.number += 1
        return int(ctx.state.number)

    step = g.step(count, node_id="step")
    decision = g.decision()
    decision = decision.branch(g.match(int, matches=lambda number: number < n).to(step))
    decision = decision.branch(g.match(int, matches=lambda number: number >= n).to(g.end_node))
    g.add(g.edge_from(g.start_node).to(step), g.edge_from(step).to(decision))
    graph = g.build()

    async def run() -> int:
        return int(await graph.run(state=Count(), inputs=0))

    return run


def unequal(n: int) -> Figures:
    """Two legs that are long at different ends."""
    g = _builder()
    source, join = _source(g, 1), g.join(reduce_list_append, initial_factory=list)
    a, b, c, d = (_worker(g, id, seconds) for id, seconds in (("a", 0.1), ("b", 1.0), ("c", 1.0), ("d", 0.1)))
    g.add(g.edge_from(g.start_node).to(source), g.edge_from(source).to(a, c))
    g.add(g.edge_from(a).to(b), g.edge_from(c).to(d))
    g.add(g.edge_from(b, d).to(join), g.edge_from(join).to(g.end_node))
    run = _items(g.build())

    async def five() -> int:
        assert await run() == 2
        return 5

    return Figures(lambda: slept(5, five))


def _builder() -> Any:
    return GraphBuilder(state_type=Count, input_type=Any, output_type=Any)


def _source(g: Any, n: int) -> Any:
    async def source(ctx: Context) -> list[int]:
        return list(range(n))

    return g.step(source, node_id="source")


def _worker(g: Any, id: str, seconds: float = 0.0) -> Any:
    async def work(ctx: Context) -> int:
        if seconds:
            await asyncio.sleep(seconds)
        return 1

    return g.step(work, node_id=id)


def _items(graph: Any) -> Work:
    async def run() -> int:
        return len(await graph.run(state=Count(), inputs=0))

    return run


WORKLOADS: Workloads = {
    "fanout": fanout,
    "send": send,
    "chain": chain,
    "loop": loop,
    "asleep": lambda n: Figures(lambda: slept(n, send(n, 1.0))),
    "unequal": unequal,
    "imports": lambda n: imported("from pydantic_graph import GraphBuilder", "pydantic-graph"),
}
