"""Who may run a thread, and who may change it, seen from the calls that want to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fanfold import START, InMemorySaver, StateGraph
from fanfold.errors import ThreadBusyError, UsageError
from tests.drivers.parts import State, happened

CONFIG = {"configurable": {"thread_id": "t"}}


def one(node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(InMemorySaver())


class Gate:
    """A node that says when it runs, and ends when it is let."""

    def __init__(self) -> None:
        self.runs = 0
        self.reached = asyncio.Event()
        self.let = asyncio.Event()

    async def __call__(self, state: State) -> State:
        self.runs += 1
        self.reached.set()
        await happened(self.let)
        return {"log": [f"run {self.runs}"]}


def test_a_second_run_of_a_thread_waits_for_the_first_and_sees_what_it_wrote() -> None:
    async def go() -> Any:
        gate = Gate()
        graph = one(gate)
        first = asyncio.create_task(graph.ainvoke({"log": []}, CONFIG))
        await happened(gate.reached)
        second = asyncio.create_task(graph.ainvoke({"log": ["more"]}, CONFIG))
        for _ in range(50):
            await asyncio.sleep(0)
        assert gate.runs == 1
        gate.let.set()
        return await first, await second

    first, second = asyncio.run(go())
    assert (first["log"], second["log"]) == (["run 1"], ["run 1", "more", "run 2"])


def test_a_second_run_may_be_refused_instead() -> None:
    async def go() -> None:
        gate = Gate()
        graph = one(gate)
        first = asyncio.create_task(graph.ainvoke({"log": []}, CONFIG))
        await happened(gate.reached)
        with pytest.raises(ThreadBusyError, match="thread 't' is being run by another call in this process"):
            await graph.ainvoke({"log": []}, CONFIG, on_busy="reject")
        gate.let.set()
        await first

    asyncio.run(go())


def test_who_gives_up_waiting_leaves_the_thread_free() -> None:
    async def go() -> Any:
        gate = Gate()
        graph = one(gate)
        first = asyncio.create_task(graph.ainvoke({"log": []}, CONFIG))
        await happened(gate.reached)
        second = asyncio.create_task(graph.ainvoke({"log": []}, CONFIG))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.let.set()
        await first
        return await graph.ainvoke({"log": []}, CONFIG, on_busy="reject")

    assert asyncio.run(go())["log"] == ["run 1", "run 2"]


def test_a_run_that_would_wait_for_itself_is_refused() -> None:
    async def again(_: State) -> State:
        with pytest.raises(ThreadBusyError):
            await graph.ainvoke({"log": []}, thread_id="t")
        return {"log": ["went on"]}

    graph = one(again)
    assert asyncio.run(graph.ainvoke({"log": []}, CONFIG))["log"] == ["went on"]


def test_a_thread_is_not_changed_beside_a_run_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanfold.claiming.MOST_FOR_AN_UPDATE", 0.0)

    async def go() -> Any:
        gate = Gate()
        graph = one(gate)
        first = asyncio.create_task(graph.ainvoke({"log": []}, CONFIG))
        await happened(gate.reached)
        with pytest.raises(ThreadBusyError):
            await graph.aupdate_state(CONFIG, {"log": ["from outside"]})
        gate.let.set()
        return await first

    assert asyncio.run(go())["log"] == ["run 1"]


def test_a_run_may_change_its_own_thread() -> None:
    def changes(_: State) -> State:
        graph.update_state(CONFIG, {"log": ["from inside"]}, as_node="node")
        return {"log": ["returned"]}

    graph = one(changes)
    assert graph.invoke({"log": []}, CONFIG)["log"] == ["returned"]
    assert any(one.values.get("log") == ["from inside"] for one in graph.get_state_history(CONFIG))


def test_updates_at_once_come_one_after_the_other() -> None:
    graph = one(lambda _: None)
    graph.invoke({"log": []}, CONFIG)

    async def go() -> None:
        await asyncio.gather(*(graph.aupdate_state(CONFIG, {"log": [f"{n}"]}) for n in range(10)))

    asyncio.run(go())
    assert sorted(graph.get_state(CONFIG).values["log"]) == sorted(f"{n}" for n in range(10))


def test_an_unknown_way_to_be_busy_is_refused() -> None:
    with pytest.raises(UsageError, match="on_busy is 'steal'; it is one of wait, reject, take_over"):
        one(lambda _: None).invoke({"log": []}, CONFIG, on_busy="steal")
