"""The receipt of runs that really ran. What a task sleeps is its work; nothing here waits by sleeping."""

from __future__ import annotations

import asyncio
import gc
import operator
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, StateGraph, Task, audit, python_agent
from fanfold.errors import RunNotFoundError
from fanfold.receipt import NOTHING_TO_OVERLAP, PARALLEL, PARTLY_SERIAL, SEQUENTIAL, Receipt
from fanfold.receipt.causes import ONE_BY_ONE
from fanfold.store.sqlite import SqliteStore

WORK = 0.12


@pytest.fixture(autouse=True)
def _without_the_garbage_of_others() -> Iterator[None]:
    """Thousands of tests leave much to collect behind, and that would hold the event loop for longer than it may."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class State(TypedDict):
    log: Annotated[list[str], operator.add]


async def busy(state: State) -> Any:
    await asyncio.sleep(WORK)
    return {"log": ["busy"]}


def busy_in_a_thread(state: State) -> None:
    time.sleep(WORK)


async def hog(state: State) -> None:
    time.sleep(WORK)


@python_agent("worker")
async def worker(prompt: str) -> str:
    await asyncio.sleep(WORK)
    return prompt


def ask(prompt: str) -> Task:
    return Task(subagent_type="worker", prompt=prompt)


async def gathers(state: State) -> Any:
    return {"log": [str(answer) for answer in await asyncio.gather(*(ask(word) for word in "abcd"))]}


async def loops(state: State) -> Any:
    return {"log": [str(await ask(word)) for word in "abcd"]}


def side_by_side(action: Any, number: int = 4) -> StateGraph:
    graph = StateGraph(State)
    for index in range(number):
        graph.add_node(f"node{index}", action).add_edge(START, f"node{index}")
    return graph


def audited(graph: StateGraph, **options: Any) -> Receipt:
    return audit(graph.compile().invoke({"log": []}, agents=[worker], **options))


def alone(action: Any) -> StateGraph:
    return StateGraph(State).add_node("team", action).add_edge(START, "team")


@pytest.mark.parametrize("action", [busy, busy_in_a_thread])
def test_nodes_side_by_side_are_parallel(action: Any) -> None:
    found = audited(side_by_side(action))
    assert (found.verdict, found.peak, found.culprits) == (PARALLEL, 4, ())
    assert found.span <= found.wall < found.work


def test_agents_that_a_node_gathers_are_parallel() -> None:
    found = audited(alone(gathers))
    assert (found.verdict, found.peak, len(found.agents)) == (PARALLEL, 4, 4)


def test_a_limit_of_two_for_four_agents_is_partly_serial_and_names_the_limit() -> None:
    found = audited(alone(gathers), max_concurrency=2)
    assert (found.verdict, found.peak, found.limit) == (PARTLY_SERIAL, 2, 2)
    assert "for limit 2" in found.culprits[0]


@pytest.mark.parametrize("action", [busy, busy_in_a_thread, gathers])
def test_a_limit_of_one_is_sequential_and_names_the_limit(action: Any) -> None:
    found = audited(side_by_side(action, 3), max_concurrency=1)
    assert (found.verdict, found.peak) == (SEQUENTIAL, 1)
    assert "for limit 1" in found.culprits[0]


def test_async_nodes_that_block_the_loop_are_sequential_and_named() -> None:
    found = audited(side_by_side(hog, 3))
    assert (found.verdict, found.peak) == (SEQUENTIAL, 1)
    assert found.culprits[0].startswith("blocks the event loop: 'node0', 'node1', 'node2' held the event loop for 0.3")
    assert found.causes[0].seconds == pytest.approx(3 * WORK, rel=0.05)


async def hog_after_an_await(state: State) -> None:
    await asyncio.sleep(0.001)
    time.sleep(WORK)


def test_async_nodes_that_block_after_an_await_are_sequential_and_named() -> None:
    found = audited(side_by_side(hog_after_an_await, 4))
    assert found.verdict == SEQUENTIAL
    assert found.causes[0].what.startswith("'node0', 'node1', 'node2' and 1 more held the event loop")
    assert found.causes[0].seconds == pytest.approx(4 * WORK, rel=0.05)


@python_agent("blocks")
async def blocks(prompt: str) -> str:
    time.sleep(WORK)
    return prompt


async def gathers_blocking_agents(state: State) -> None:
    await asyncio.gather(*(Task(subagent_type="blocks", prompt=word) for word in "abcd"))


def test_gathered_agents_that_block_are_sequential_and_nobody_is_told_to_gather_them() -> None:
    found = audit(alone(gathers_blocking_agents).compile().invoke({"log": []}, agents=[blocks]))
    assert found.verdict == SEQUENTIAL
    assert found.culprits[0].startswith("blocks the event loop: 'blocks' held the event loop")
    assert ONE_BY_ONE not in {cause.kind for cause in found.causes}


def test_a_loop_over_agents_is_sequential_and_names_the_node() -> None:
    found = audited(alone(loops))
    assert (found.verdict, found.peak) == (SEQUENTIAL, 1)
    assert found.causes[0].what == "node 'team' awaited its 4 agents one after another"


def test_a_chain_leaves_nothing_to_overlap() -> None:
    graph = StateGraph(State).add_sequence([(f"node{index}", busy) for index in range(3)]).add_edge(START, "node0")
    found = audited(graph)
    assert (found.verdict, found.peak, found.culprits) == (NOTHING_TO_OVERLAP, 1, ())


def test_the_receipt_from_the_store_is_that_of_the_result(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        result = side_by_side(busy, 2).compile(store).invoke({"log": []}, run_id="run-1")
        assert audit("run-1", store=store) == audit("run", store=store) == audit(result) == audit(result.run.events)
        with pytest.raises(RunNotFoundError):
            audit("another", store=store)


def test_two_sittings_have_one_receipt_in_which_no_work_is_counted_twice(tmp_path: Path) -> None:
    fails = True

    async def flaky(state: State) -> Any:
        await ask("flaky")
        if fails:
            raise LookupError
        return {"log": ["flaky"]}

    graph = side_by_side(busy, 1).add_node("flaky", flaky).add_edge(START, "flaky")
    with SqliteStore(tmp_path / "runs.db") as store:
        compiled = graph.compile(store)
        options: dict[str, Any] = {"thread_id": "t", "agents": [worker]}
        with pytest.raises(LookupError):
            compiled.invoke({"log": []}, run_id="r", max_concurrency=1, **options)
        fails = False
        compiled.invoke(None, **options)
        found = audit("r", store=store)
    assert found.status == "done"
    assert sum(task.role == "agent" for task in found.tasks) == 1
    assert found.work < 4 * WORK
    assert {task.name: task.status for task in found.tasks}["worker"] == "remembered"
