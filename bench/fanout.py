"""What a task costs: a fan-out of trivial async nodes, beside bare `asyncio.gather` of as many coroutines."""

from __future__ import annotations

import asyncio
import operator
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from fanfold import START, Send, StateGraph

WIDTHS = (10, 100, 1000)
ROUNDS = 5


class State(TypedDict):
    """One list that every node appends to."""

    items: Annotated[list[int], operator.add]


async def work(state: Any) -> dict[str, list[int]]:
    """The least that a node can do."""
    return {"items": [1]}


def measure() -> dict[str, Any]:
    """Microseconds a task, medians of five, and the ratio to gather. There is no bar yet; growth must be linear."""
    rows = []
    print(f"fan-out, median of {ROUNDS}: microseconds a task")
    for width in WIDTHS:
        edges, sends = _edges(width), _sends(width)
        gather, by_edges, by_sends = (_per_task(run, width) for run in (_gather(width), edges, sends))
        rows.append({"width": width, "gather": gather, "edges": by_edges, "sends": by_sends})
        print(
            f"  {width:>6}   gather {gather:6.1f}   edges {by_edges:7.1f} ({by_edges / gather:5.1f}x)"
            f"   Send {by_sends:7.1f} ({by_sends / gather:5.1f}x)"
        )
    print()
    return {"rows": rows, "met": True}


def _per_task(run: Callable[[], object], width: int) -> float:
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times) / width * 1e6


def _gather(width: int) -> Callable[[], object]:
    async def main() -> None:
        await asyncio.gather(*(work(None) for _ in range(width)))

    return lambda: asyncio.run(main())


def _edges(width: int) -> Callable[[], object]:
    graph = StateGraph(State)
    for number in range(width):
        graph.add_node(f"n{number}", work).add_edge(START, f"n{number}")
    app = graph.compile()
    return lambda: app.invoke({"items": []})


def _sends(width: int) -> Callable[[], object]:
    graph = StateGraph(State).add_node("work", work)
    graph.add_conditional_edges(START, lambda state: [Send("work", {"items": []}) for _ in range(width)], ["work"])
    app = graph.compile()
    return lambda: app.invoke({"items": []})
