"""One budget for whatever clients begin: several runs are held to it together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fanfold import END, START, BudgetError, Limits, StateGraph, Task, asking, python_agent
from fanfold.limits import Shared
from tests.mcp.served import State, called, connected, offered, refused

asked: list[str] = []


@python_agent("writer")
async def writer(prompt: str) -> str:
    for _ in range(2):
        async with asking("ours:model", tokens=100) as request:
            asked.append(prompt)
            await asyncio.sleep(0)
            request.answered(input_tokens=80, output_tokens=20, usd=0.01)
    return prompt.upper()


async def write(state: State) -> State:
    return {"answer": str(await Task(subagent_type="writer", prompt=state["text"]))}


GRAPH = StateGraph(State).add_node(write).add_edge(START, "write").add_edge("write", END)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    asked.clear()
    return tmp_path


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_runs_that_share_a_budget_never_make_more_calls_together_than_it_allows() -> None:
    async def main() -> list[Any]:
        graph, shared = GRAPH.compile(), Shared(Limits(calls=7))
        runs = [
            graph.ainvoke({"text": f"part {number}"}, shared=shared, agents=[writer], model="rehearsal")
            for number in range(6)
        ]
        ended = await asyncio.gather(*runs, return_exceptions=True)
        assert shared.spent() == {"calls": 7.0}
        return ended

    ended = asyncio.run(main())
    assert len(asked) == 7
    assert sum(isinstance(each, dict) for each in ended) == 1  # six have asked once, and one of them twice
    assert all(isinstance(each, BudgetError) for each in ended if not isinstance(each, dict))


def test_runs_that_share_a_limit_of_one_at_once_are_never_at_work_together_nor_wait_for_ever() -> None:
    at_work, most = 0, 0

    async def work(state: State) -> State:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return {"answer": str(await Task(subagent_type="writer", prompt=state["text"]))}

    graph = StateGraph(State).add_node(work).add_edge(START, "work").add_edge("work", END).compile()

    async def main() -> None:
        shared = Shared(Limits(1, calls=100))
        runs = (graph.ainvoke({"text": str(n)}, shared=shared, agents=[writer], model="rehearsal") for n in range(5))
        await asyncio.wait_for(asyncio.gather(*runs), 30)
        assert shared.slots.peak == 1

    asyncio.run(main())
    assert (most, len(asked)) == (1, 10)


def test_what_clients_begin_is_paid_from_one_budget_and_one_run_may_be_given_less(folder: Path) -> None:
    async def main() -> None:
        graphs = {"write": offered(GRAPH, "write", [writer])}
        async with connected(folder, graphs, limits=Limits(calls=5)) as client:
            less = await called(client, "run_start", graph="write", input={"text": "a"}, limits={"calls": 1})
            assert less["run"]["status"] == "failed"
            assert "1 of 1 calls spent" in less["run"]["error"]
            done = await called(client, "run_start", graph="write", input={"text": "b"})
            assert (done["run"]["status"], done["spent"]["calls"]) == ("done", 2)
            again = await called(client, "run_resume", run_id=less["run"]["run_id"], limits={"calls": 9})
            assert again["run"]["status"] == "done"
            spent = await called(client, "run_start", graph="write", input={"text": "c"})
            assert spent["run"]["status"] == "failed"
            assert "5 of 5 calls spent" in spent["run"]["error"]
        assert len(asked) == 5

    run(main())


def test_a_limit_that_is_written_wrong_is_not_taken_for_none(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"write": offered(GRAPH, "write", [writer])}) as client:
            told = await refused(client, "run_start", graph="write", input={"text": "a"}, limits={"dollars": 1})
            assert "limits.dollars" in told
            assert (await called(client, "runs_list"))["runs"] == []

    run(main())
