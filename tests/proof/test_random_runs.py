"""Whole runs of random graphs, with whatever can happen: the accounts add up, at each moment and from the store."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fanfold import (
    START,
    Command,
    Limits,
    Receipt,
    RetryPolicy,
    StateGraph,
    Task,
    audit,
    interrupt,
    python_agent,
)
from fanfold.events import Event, from_record
from fanfold.exports.report import report
from fanfold.exports.timeline import timeline
from fanfold.exports.trace import trace
from fanfold.receipt import receipt
from fanfold.store.sqlite import SqliteStore
from tests.proof.controls import State
from tests.proof.test_accounts import check

SITTINGS = 4
LIVE = {"running", "queued", "paused"}


class Some:
    """Graphs that wait, block, ask agents and people, fail and try again, and have graphs inside, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

        @python_agent("worker")
        async def worker(prompt: str) -> str:
            await asyncio.sleep(self.chance.uniform(0, 0.02))
            if self.chance.random() < 0.1:
                time.sleep(0.022)
            if self.chance.random() < 0.1:
                raise ValueError(prompt)
            return prompt

        self.worker = worker

    def graph(self, depth: int = 0) -> StateGraph:
        graph = StateGraph(State)
        for number in range(self.chance.randint(2, 4)):
            inside = depth < 2 and self.chance.random() < 0.25
            action = self.graph(depth + 1).compile() if inside else self.node()
            more = {"retry_policy": RetryPolicy(0.001, max_attempts=3, retry_on=ValueError, jitter=False)}
            graph.add_node(f"{depth}-{number}", action, **(more if self.chance.random() < 0.4 else {}))
            before = START if self.chance.random() < 0.5 or not number else f"{depth}-{self.chance.randrange(number)}"
            graph.add_edge(before, f"{depth}-{number}")
        return graph

    def node(self) -> Callable[[State], Any]:
        async def on_the_loop(state: State) -> Any:
            await asyncio.sleep(self.chance.uniform(0, 0.01))
            happens = self.chance.random()
            if happens < 0.2:
                asks = (Task(subagent_type="worker", prompt=str(number)) for number in range(3))
                await asyncio.gather(*asks, return_exceptions=True)
            elif happens < 0.35:
                interrupt("what now?")
            elif happens < 0.5:
                raise ValueError("no luck")
            elif happens < 0.6:
                time.sleep(0.022)
            return {"log": ["done"]}

        def in_a_thread(state: State) -> Any:
            time.sleep(self.chance.uniform(0, 0.02))
            if self.chance.random() < 0.2:
                raise ValueError("no luck there")

        return on_the_loop if self.chance.random() < 0.7 else in_a_thread


def sit(some: Some, graph: Any, thread: str, hear: Callable[[Event], None]) -> None:
    """Run a graph until it has ended, or often enough: what it asks is answered, and what failed is tried again."""
    limits = Limits(max_concurrency=some.chance.choice([None, 1, 2, 3]))
    given: Any = {"log": []}
    for sitting in range(SITTINGS):
        more = {} if sitting else {"run_id": thread}
        try:
            result = graph.invoke(given, agents=[some.worker], limits=limits, thread_id=thread, on_event=hear, **more)
        except ValueError:
            given = None
            continue
        if "__interrupt__" not in result:
            return
        given = Command(resume={asked.id: "go on" for asked in result["__interrupt__"]})


def holds(found: Receipt) -> None:
    check(found)
    for task in found.tasks:
        assert all(0 <= one.start < one.end <= found.wall + 1e-9 for one in task.stretches), task
        assert task.started is None or task.attempts >= 1, task
    if found.status != "running":
        assert not {task.status for task in found.tasks} & LIVE


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_accounts_add_up_at_each_moment_and_are_those_of_the_store(
    seed: int, tmp_path: Path
) -> None:
    some, kinds = Some(seed), set()
    with SqliteStore(tmp_path / "runs.db") as store:
        for number in range(8):
            heard: list[Event] = []
            sit(some, some.graph().compile(store), f"t{number}", heard.append)
            found = audit(f"t{number}", store=store)
            holds(found)
            assert found == receipt(heard)
            for cut in range(1, len(heard), 5):
                holds(receipt(heard[:cut]))
            kept = timeline([from_record(record) for record in store.events(f"t{number}")])
            assert kept.receipt == found
            assert report(kept)
            assert trace(kept)
            kinds |= {event.kind for event in heard}
    assert {"task_finished", "task_failed"} <= kinds
