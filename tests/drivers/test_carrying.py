"""Tasks that run one after the other in one asyncio task see nothing of each other, and hold nobody up."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, TypedDict

import pytest

from fanfold import END, START, StateGraph
from fanfold.within import Within


class State(TypedDict, total=False):
    number: int


VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("VALUE", default="none")


def chain(**nodes: Any) -> Any:
    graph = StateGraph(State)
    previous = START
    for name, code in nodes.items():
        graph.add_node(name, code).add_edge(previous, name)
        previous = name
    return graph.compile()


def test_what_a_node_sets_in_its_context_the_next_one_does_not_see() -> None:
    seen: list[Any] = []

    async def sets(state: State) -> None:
        seen.append((VALUE.get(), asyncio.current_task()))
        VALUE.set("mine")
        await asyncio.sleep(0)
        assert VALUE.get() == "mine"

    async def main() -> None:
        VALUE.set("the caller's")
        await chain(first=sets, second=sets, third=sets).ainvoke({"number": 1})
        assert VALUE.get() == "the caller's"

    asyncio.run(main())
    assert [value for value, _ in seen] == ["the caller's"] * 3
    assert len({task for _, task in seen}) == 1


def test_a_loop_that_never_awaits_lets_others_on_the_event_loop_go_on() -> None:
    turns = 0

    async def step(state: State) -> Any:
        return {"number": state["number"] + 1}

    def again(state: State) -> Any:
        return "step" if turns < 5 else END

    async def beside() -> None:
        nonlocal turns
        while turns < 5:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> int:
        graph = StateGraph(State).add_node("step", step).add_edge(START, "step")
        graph.add_conditional_edges("step", again)
        other = asyncio.create_task(beside())
        done = await graph.compile().ainvoke({"number": 0}, recursion_limit=1_000_000)
        await other
        number: int = done["number"]
        return number

    assert asyncio.run(main()) > 5  # it went on in between, too


def test_a_node_that_cancels_its_own_task_at_its_end_does_not_cancel_the_next() -> None:
    seen: list[Any] = []

    async def first(state: State) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        seen.append(task)

    async def second(state: State) -> Any:
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        return {"number": 2}

    assert asyncio.run(chain(first=first, second=second).ainvoke({"number": 1})) == {"number": 2}
    assert len(set(seen)) == 2


def test_a_coroutine_within_a_context_is_told_of_errors_and_tells_its_own() -> None:
    async def work() -> str:
        VALUE.set("inside")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        assert VALUE.get() == "inside"
        raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            await Within(contextvars.copy_context(), work())
        assert VALUE.get() == "none"

    asyncio.run(main())
