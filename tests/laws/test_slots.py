"""The law of slots: agents that call agents never wait for each other for ever, and no limit is passed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any, TypedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold import START, Limits, StateGraph, Task, audit, python_agent

PATIENCE = 20.0

trees = st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=10)
"""Who calls whom: an agent is the list of those that it calls."""


class State(TypedDict, total=False):
    number: int


@settings(max_examples=60, deadline=None)
@given(
    st.lists(trees, min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1, 2]),
)
def test_agents_that_call_agents_end_at_any_limit_and_no_limit_is_passed(
    calls: list[Any], limit: int, kind: int | None, by_name: int | None
) -> None:
    busy = most = 0

    async def works(prompt: str) -> int:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        called = [Task(subagent_type="worker", prompt=json.dumps(each)) for each in json.loads(prompt)]
        return 1 + sum([answer.output for answer in await asyncio.gather(*called)])

    made = python_agent("worker")(works)
    worker = dataclasses.replace(made, definition=dataclasses.replace(made.definition, max_concurrent=kind))
    counted: list[int] = []
    limits = Limits(limit, agents={"Worker": by_name} if by_name else {}, depth=None)

    async def main() -> Any:
        graph = StateGraph(State)
        for number, tree in enumerate(calls):

            async def node(state: State, tree: Any = tree) -> None:
                counted.append((await Task(subagent_type="worker", prompt=json.dumps(tree))).output)

            graph.add_node(f"n{number}", node).add_edge(START, f"n{number}")
        async with asyncio.timeout(PATIENCE):
            return await graph.compile().ainvoke({"number": 1}, agents=[worker], limits=limits)

    receipt = audit(asyncio.run(main()))
    assert sum(counted) == sum(map(size, calls)) == len(receipt.agents)
    assert most <= min(limit, kind or limit, by_name or limit)
    assert receipt.peak <= limit


def size(tree: Any) -> int:
    return 1 + sum(map(size, tree))
