"""Waiting for limits: who is refused while somebody could still give something back, and who waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any, TypedDict

import pytest

from fanfold import START, BudgetError, Limits, StateGraph, Task, asking, python_agent
from fanfold.agents.backends.python import PythonAgent

PATIENCE = 20.0


class State(TypedDict, total=False):
    out: list[Any]


async def _outcome(task: Awaitable[Any]) -> Any:
    """What an agent answered, or the name of the error that it came to."""
    try:
        return (await task).output
    except BudgetError as error:
        return type(error).__name__


def outcomes(agents: list[PythonAgent], *asked: tuple[str, str], **limits: Any) -> Any:
    """What each of these agents came to, in a run with these limits: they are asked side by side."""

    async def node(state: State) -> State:
        tasks = [_outcome(Task(subagent_type=name, prompt=prompt)) for name, prompt in asked]
        return {"out": await asyncio.gather(*tasks)}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(":memory:")

    async def main() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await graph.ainvoke({}, thread_id="t", agents=agents, limits=Limits(**limits))

    return asyncio.run(main())["out"]


@python_agent("asker")
async def asker(prompt: str) -> str:
    """Sets aside as many calls as the prompt says, and uses one of them."""
    async with asking("m:x", calls=int(prompt)) as request:
        await asyncio.sleep(0)
        request.answered(1, 1, 0.0, calls=1)
    return "asked"


def test_who_was_let_through_and_has_not_gone_on_yet_still_may_give_something_back() -> None:
    assert outcomes([asker], *[("asker", "25")] * 3, calls=30) == ["asked"] * 3


def test_who_waits_for_an_agent_that_needs_no_budget_still_may_give_something_back() -> None:
    began = asyncio.Event()

    @python_agent("helper")
    async def helper(prompt: str) -> str:
        for _ in range(10):
            await asyncio.sleep(0)
        return "helped"

    @python_agent("holder")
    async def holder(prompt: str) -> str:
        async with asking("m:x", calls=25) as request:
            began.set()
            await asyncio.sleep(0)
            answer = await Task(subagent_type="helper", prompt="help")
            request.answered(1, 1, 0.0, calls=1)
        return str(answer)

    @python_agent("late")
    async def late(prompt: str) -> str:
        await began.wait()
        async with asking("m:x", calls=25) as request:
            request.answered(1, 1, 0.0, calls=1)
        return "late"

    found = outcomes([helper, holder, late], ("holder", "go"), ("late", "go"), calls=30)
    assert found == ["helped", "late"]


@pytest.mark.parametrize(
    ("of_run", "of_graph"),
    [
        (Limits(1, calls=1), Limits()),
        (Limits(calls=1), Limits(1)),
        (Limits(), Limits(1, calls=1)),
    ],
    ids=["both the run's", "of each one", "both the graph's"],
)
def test_an_agent_whose_graph_waits_for_the_slot_of_one_that_waits_for_a_budget_goes_on(
    of_run: Limits, of_graph: Limits
) -> None:
    async def work(state: State) -> State:
        return {"out": ["worked"]}

    inner = StateGraph(State).add_node("work", work).add_edge(START, "work").compile()

    @python_agent("grapher")
    async def grapher(prompt: str) -> Any:
        await asyncio.sleep(0)
        return (await inner.ainvoke({}))["out"]

    async def node(state: State) -> State:
        await Task(subagent_type="asker", prompt="1")
        tasks = [_outcome(Task(subagent_type=name, prompt="1")) for name in ("grapher", "asker")]
        return {"out": await asyncio.gather(*tasks)}

    part = StateGraph(State).add_node("node", node).add_edge(START, "node")
    whole = StateGraph(State).add_node("part", part.compile(limits=of_graph))
    graph = whole.add_edge(START, "part").compile(":memory:")

    async def main() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await graph.ainvoke({}, thread_id="t", agents=[asker, grapher], limits=of_run)

    assert asyncio.run(main())["out"] == [["worked"], "BudgetError"]


def test_an_agent_that_calls_a_graph_inside_of_its_own_request_lends_its_place_at_their_model() -> None:
    async def work(state: State) -> State:
        return {"out": ["worked"]}

    inner = StateGraph(State).add_node("work", work).add_edge(START, "work").compile()

    @python_agent("grapher")
    async def grapher(prompt: str) -> Any:
        async with asking("m:x") as request:
            found = (await inner.ainvoke({}))["out"]
            request.answered(1, 1, 0.0)
        return found

    limits: dict[str, Any] = {"models": {"m:x": 1}, "max_concurrency": 1}
    assert outcomes([asker, grapher], ("grapher", "go"), ("asker", "1"), **limits) == [["worked"], "asked"]


def test_an_agent_that_calls_one_inside_of_its_own_request_lends_it_the_place_at_their_model() -> None:
    @python_agent("caller")
    async def caller(prompt: str) -> str:
        async with asking("m:x") as request:
            answer = await Task(subagent_type="asker", prompt="1")
            request.answered(1, 1, 0.0)
        return str(answer)

    assert outcomes([asker, caller], ("caller", "go"), models={"m:x": 1}) == ["asked"]


def _in_a_loop_of_its_own(prompt: str) -> str:
    async def main() -> str:
        async with asking("m:x", calls=int(prompt)) as request:
            await asyncio.sleep(0.01)
            request.answered(1, 1, 0.0, calls=1)
        return "asked"

    return asyncio.run(main())


@pytest.mark.parametrize("limits", [{"models": {"m:x": 1}}, {"calls": 28}], ids=["gate", "budget"])
def test_agents_in_event_loops_of_their_own_wait_for_each_other(limits: dict[str, Any]) -> None:
    agent = python_agent("blocking")(_in_a_loop_of_its_own)
    assert outcomes([agent], *[("blocking", "25")] * 4, **limits) == ["asked"] * 4


def test_agents_in_event_loops_of_their_own_are_refused_what_is_spent() -> None:
    agent = python_agent("blocking")(_in_a_loop_of_its_own)
    assert sorted(outcomes([agent], *[("blocking", "1")] * 3, calls=2)) == ["BudgetError", "asked", "asked"]


def test_seconds_are_counted_on_while_an_agent_in_a_loop_of_its_own_has_called_another() -> None:
    stopped = threading.Event()

    @python_agent("sleeper")
    async def sleeper(prompt: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "slept"

    @python_agent("quick")
    async def quick(prompt: str) -> str:
        return "quick"

    @python_agent("blocking")
    def blocking(prompt: str) -> str:
        async def main() -> str:
            return str(await Task(subagent_type="quick", prompt="go"))

        answer = asyncio.run(main())
        return answer if stopped.wait(PATIENCE / 4) else "never stopped"

    found = outcomes([sleeper, quick, blocking], ("sleeper", "go"), ("blocking", "go"), seconds=0.5)
    assert found[0] == "BudgetError"
    assert found[1] != "never stopped"


def test_agents_that_take_a_moment_to_end_are_stopped_once_when_the_seconds_are_spent() -> None:
    complaints: list[dict[str, Any]] = []

    @python_agent("slow")
    async def slow(prompt: str) -> str:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02 * int(prompt))
        return "never"

    assert outcomes([slow], ("slow", "1"), ("slow", "2"), ("slow", "3"), seconds=0.1) == ["BudgetError"] * 3
    assert complaints == []


async def _asks(calls: int, turns: int = 3) -> str:
    """A request that sets aside so many calls, takes some turns of the loop, and uses one of them."""
    async with asking("m:x", calls=calls) as request:
        for _ in range(turns):
            await asyncio.sleep(0)
        request.answered(1, 1, 0.0, calls=1)
    return "asked"


async def _said(*work: Awaitable[Any]) -> list[Any]:
    """What each of these came to, side by side: what it returned, or the name of its error."""
    found = await asyncio.gather(*work, return_exceptions=True)
    return [type(each).__name__ if isinstance(each, Exception) else str(each) for each in found]


@pytest.mark.parametrize("where", ["its own loop", "the run's loop"])
def test_an_agent_works_while_one_of_its_requests_does_although_others_wait(where: str) -> None:
    @python_agent("several", executor=None if where == "the run's loop" else "thread")
    def blocking(prompt: str) -> Any:
        return asyncio.run(_said(*(_asks(25) for _ in range(4))))

    @python_agent("several")
    async def several(prompt: str) -> Any:
        return await _said(*(_asks(25) for _ in range(4)))

    agent = several if where == "the run's loop" else blocking
    assert outcomes([agent], ("several", "go"), calls=30) == [["asked"] * 4]


def test_an_agent_works_while_its_request_does_although_an_agent_that_it_called_waits() -> None:
    @python_agent("several")
    async def several(prompt: str) -> Any:
        return await _said(_asks(25, turns=30), Task(subagent_type="asker", prompt="25"))

    assert outcomes([several, asker], ("several", "go"), calls=30) == [["asked", "asked"]]


def test_an_agent_that_waits_inside_of_its_own_request_does_not_work() -> None:
    @python_agent("nested")
    async def nested(prompt: str) -> Any:
        async with asking("m:x", calls=25) as request:
            said = await _said(_asks(25))
            request.answered(1, 1, 0.0, calls=1)
        return [*said, *await _said(_asks(25))]

    assert outcomes([nested], ("nested", "go"), calls=30) == [["BudgetError", "asked"]]


def test_of_several_requests_that_can_never_be_had_each_is_refused() -> None:
    @python_agent("several")
    async def several(prompt: str) -> Any:
        return await _said(*(_asks(25) for _ in range(3)))

    assert outcomes([several], ("several", "go"), calls=24) == [["BudgetError"] * 3]


def test_an_agent_that_waits_for_a_budget_inside_of_a_request_lends_its_place_at_that_model() -> None:
    began = asyncio.Event()

    @python_agent("nested")
    async def nested(prompt: str) -> str:
        async with asking("m:x", calls=3) as request:
            began.set()
            for _ in range(20):
                await asyncio.sleep(0)
            async with asking("m:y", calls=5) as inner:
                inner.answered(1, 1, 0.0, calls=1)
            request.answered(1, 1, 0.0, calls=1)
        return "both"

    @python_agent("late")
    async def late(prompt: str) -> str:
        await began.wait()
        return await _asks(5)

    found = outcomes([nested, late], ("nested", "go"), ("late", "go"), calls=10, models={"m:x": 1})
    assert found == ["both", "asked"]


def test_what_an_agent_starts_inside_of_a_request_that_has_ended_has_no_place_at_its_model_to_lend() -> None:
    busy: list[str] = []
    most = 0

    @python_agent("starter")
    async def starter(prompt: str) -> str:
        async def later() -> str:
            await ended.wait()
            return str(await Task(subagent_type="crowd", prompt="go"))

        ended = asyncio.Event()
        async with asking("m:x") as request:
            started = asyncio.create_task(later())
            await asyncio.sleep(0)
            request.answered(1, 1, 0.0)
        ended.set()
        return await started

    @python_agent("counted")
    async def counted(prompt: str) -> str:
        nonlocal most
        async with asking("m:x") as request:
            busy.append(prompt)
            most = max(most, len(busy))
            await asyncio.sleep(0.001)
            busy.remove(prompt)
            request.answered(1, 1, 0.0)
        return "counted"

    @python_agent("crowd")
    async def crowd(prompt: str) -> str:
        await asyncio.gather(*(Task(subagent_type="counted", prompt=str(number)) for number in range(3)))
        return "all"

    assert outcomes([starter, crowd, counted], ("starter", "go"), models={"m:x": 1}) == ["all"]
    assert most == 1
