"""What `audit.watch()` sees of other people's code. What is blocked or slept here is what is to be judged."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypedDict

import anyio
import anyio._backends._asyncio as anyios
import langgraph.graph
import pytest
import uvloop
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

import fanfold
from fanfold import audit
from fanfold.errors import UsageError
from fanfold.events import LoopHeld, TaskBlocked, TaskContinued, TaskHeldUp, TaskPaused, TaskStarted, ThreadUsed
from fanfold.receipt import NOTHING_TO_OVERLAP, PARALLEL, PARTLY_SERIAL, SEQUENTIAL, Receipt
from fanfold.receipt.causes import GIL_BOUND, LOCKED
from fanfold.watch import Watch
from fanfold.watch.units import NODE
from fanfold.watchdog import WATCHDOG
from fanfold.whose import USERS, owner
from tests.proof.portable import burns
from tests.proof.test_watchdog import line_of as _line_of

WORK = 0.1
took: list[float] = []
"""How many seconds each call has blocked, by the clock."""


def line_of(text: str) -> int:
    return _line_of(text, __file__)


@pytest.fixture(autouse=True)
def _without_the_garbage_of_others() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    took.clear()
    yield
    gc.unfreeze()


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on a loop of each kind."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


async def waits(number: int = 0) -> None:
    await asyncio.sleep(WORK)


async def blocks(number: int = 0) -> None:
    began = time.monotonic()
    time.sleep(WORK)  # plain code
    took.append(time.monotonic() - began)


async def gathers(work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*map(work, range(4)))


def held(watched: Watch) -> list[LoopHeld]:
    return [event for event in watched.events if isinstance(event, LoopHeld)]


def names(receipt: Receipt) -> list[str]:
    return [task.name for task in receipt.agents]


# Plain asyncio


def test_coroutines_that_are_gathered_are_parallel(on: Run) -> None:
    with audit.watch() as watched:
        on(gathers(waits))
    found = watched.receipt
    assert (found.verdict, found.peak, names(found)) == (PARALLEL, 4, ["waits"] * 4)
    assert found.culprits == ()


def test_coroutines_that_block_are_sequential_and_named_with_their_line(on: Run) -> None:
    with audit.watch() as watched:
        on(gathers(blocks))
    found = watched.receipt
    assert (found.verdict, found.peak) == (SEQUENTIAL, 1)
    assert {(event.file, event.line, event.function) for event in held(watched)} == {
        (__file__, line_of("plain code"), "blocks")
    }
    assert sum(event.seconds for event in held(watched)) == pytest.approx(sum(took), rel=0.05)


def test_who_still_slept_when_the_loop_was_held_was_not_held_up(on: Run) -> None:
    async def sleeps() -> None:
        await asyncio.sleep(0.1)

    async def holds() -> None:
        await asyncio.sleep(0)
        time.sleep(0.08)
        asyncio.get_running_loop().call_soon(time.sleep, 0.04)

    async def both() -> Watch:
        with audit.watch() as watched:
            await asyncio.gather(sleeps(), holds())
        return watched

    watched = on(both())
    assert len(held(watched)) == 1
    assert [event for event in watched.events if isinstance(event, TaskHeldUp)] == []


async def in_turn() -> None:
    for number in range(4):
        await waits(number)


def test_calls_that_a_coroutine_awaits_one_after_another_are_sequential_and_it_is_named() -> None:
    with audit.watch() as watched:
        asyncio.run(in_turn())
    found = watched.receipt
    assert (found.verdict, found.peak, names(found)) == (SEQUENTIAL, 1, ["waits"] * 4)
    assert "'in_turn' awaited its 4" in found.culprits[0]


def test_tasks_that_each_await_several_calls_in_turn_are_parallel() -> None:
    async def team() -> None:
        await asyncio.gather(in_turn(), in_turn(), in_turn())

    with audit.watch() as watched:
        asyncio.run(team())
    assert (watched.receipt.verdict, names(watched.receipt)) == (PARALLEL, ["in_turn"] * 3)


def test_one_coroutine_leaves_nothing_to_overlap() -> None:
    with audit.watch() as watched:
        asyncio.run(waits())
    assert watched.receipt.verdict == NOTHING_TO_OVERLAP


def test_within_a_loop_that_runs_already_the_same_is_seen(on: Run) -> None:
    async def main() -> list[Receipt]:
        found = []
        for work in (waits, blocks):
            async with audit.watch() as watched:
                await asyncio.gather(*map(work, range(3)))
            found.append(watched.receipt)
            with audit.watch() as watched:
                await asyncio.gather(*map(work, range(3)))
            found.append(watched.receipt)
        return found

    found = on(main())
    assert [receipt.verdict for receipt in found] == [PARALLEL] * 2 + [SEQUENTIAL] * 2
    assert all(
        names(receipt) == [work] * 3 for receipt, work in zip(found, ["waits"] * 2 + ["blocks"] * 2, strict=True)
    )


def test_code_of_the_block_itself_that_blocks_the_loop_is_named(on: Run) -> None:
    async def main() -> Watch:
        async with audit.watch() as watched:
            waiting = asyncio.create_task(waits())
            await asyncio.sleep(0)
            time.sleep(2 * WORK)  # in the block
            await waiting
        return watched

    watched = on(main())
    (event,) = held(watched)
    assert (event.line, event.task) == (line_of("in the block"), "watched-0")


def test_the_receipt_can_be_had_before_the_block_is_over() -> None:
    async def main() -> tuple[Receipt, Receipt]:
        async with audit.watch() as watched:
            await gathers(waits)
            early = watched.receipt
            await waits()
        return early, watched.receipt

    early, late = asyncio.run(main())
    assert (early.verdict, early.status) == (PARALLEL, "running")
    assert (late.status, late.wall > early.wall + WORK / 2) == ("done", True)


def test_an_error_passes_and_is_on_the_receipt() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    with pytest.raises(LookupError), audit.watch() as watched:
        asyncio.run(fails())
    assert watched.receipt.status == "failed"
    assert {task.name: task.status for task in watched.receipt.tasks} == {"watched": "failed", "fails": "failed"}


def test_a_task_that_is_cancelled_before_it_begins_leaves_no_warning_and_has_an_end() -> None:
    async def main() -> None:
        task = asyncio.create_task(waits())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with audit.watch() as watched:
        asyncio.run(main())
    gc.collect()  # a coroutine that was never awaited would be complained of here
    assert {task.name: task.status for task in watched.receipt.tasks}["waits"] == "cancelled"


def test_who_stands_behind_a_lock_is_told_with_who_had_it(on: Run) -> None:
    async def main() -> None:
        lock = asyncio.Lock()

        async def one(number: int) -> None:
            async with lock:  # the lock
                await asyncio.sleep(WORK / 2)

        await gathers(one)

    with audit.watch() as watched:
        on(main())
    blocked = [event for event in watched.events if isinstance(event, TaskBlocked)]
    assert [event.on for event in blocked] == ["lock"] * 3
    assert {event.line for event in blocked} == {line_of("the lock")}
    assert {event.holder for event in blocked} == {watched.receipt.agents[0].task}
    assert sorted(event.seconds for event in blocked)[2] > 1.2 * WORK


@pytest.mark.parametrize("make", [asyncio.Lock, anyio.Lock, lambda: anyio.CapacityLimiter(1)])
def test_locks_of_whatever_kind_are_seen_with_the_line_and_without_one_where_it_is_not_known(make: Any) -> None:
    async def main() -> None:
        lock = make()

        async def one(number: int) -> None:
            async with lock:  # of any kind
                await asyncio.sleep(WORK / 2)

        async def other(number: int) -> None:
            await asyncio.wait_for(lock.acquire(), 30)
            await asyncio.sleep(WORK / 2)
            lock.release()

        await gathers(one)
        if isinstance(lock, asyncio.Lock):  # anyio's belong to the task that has taken them
            await gathers(other)

    with audit.watch() as watched:
        asyncio.run(main())
    blocked = [event for event in watched.events if isinstance(event, TaskBlocked)]
    assert {event.line for event in blocked[:3]} == {line_of("of any kind")}
    assert {owner(event.file) for event in blocked if event.file} == {USERS}


def test_tasks_of_anyios_are_tasks_and_parallel() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(waits)

    with audit.watch() as watched:
        asyncio.run(main())
    assert (watched.receipt.verdict, watched.receipt.peak) == (PARALLEL, 4)
    assert [name.rpartition(".")[2] for name in names(watched.receipt)] == ["waits"] * 4
    with audit.watch() as watched:
        anyio.run(main)
    assert (watched.receipt.verdict, watched.receipt.peak) == (PARALLEL, 4)


def test_what_begins_when_the_watch_is_over_is_none_of_its_business() -> None:
    async def main() -> Watch:
        async with audit.watch() as watched:
            task = asyncio.create_task(waits())
        await task
        return watched

    watched = asyncio.run(main())
    assert watched.events[-1].kind == "run_finished"
    assert {task.name: task.status for task in watched.receipt.tasks}["waits"] == "queued"


def test_a_watch_is_used_once() -> None:
    watched = audit.watch()
    with watched:
        asyncio.run(waits())
    with pytest.raises(UsageError, match="has been used"), watched:
        pass
    assert names(watched.receipt) == ["waits"]


def test_seconds_in_which_the_process_stood_still_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await gathers(waits)

    with audit.watch() as watched:
        asyncio.run(main())
    whole = watched.receipt.wall
    first = watched.events[0].at
    monkeypatch.setattr(WATCHDOG, "_stops", deque([(first - 9, first - 8), (first + 0.01, first + 0.04)]))
    assert watched.receipt.jumped == pytest.approx(0.03)
    assert watched.receipt.wall == pytest.approx(whole - 0.03)


def test_calls_that_find_no_free_thread_are_told_with_the_size_of_the_pool(on: Run) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            await asyncio.gather(*(asyncio.to_thread(time.sleep, WORK) for _ in range(4)))

    with audit.watch() as watched:
        on(main())
    blocked = [event for event in watched.events if isinstance(event, TaskBlocked)]
    assert [(event.on, event.place) for event in blocked] == [("thread", "pool of 2 threads")] * 2
    assert all(WORK / 2 < event.seconds < 3 * WORK for event in blocked)


def test_functions_that_blocking_code_hands_to_threads_are_tasks() -> None:
    def work(number: int) -> None:
        time.sleep(WORK)

    with audit.watch() as watched, ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (watched.receipt.verdict, names(watched.receipt)) == (PARALLEL, ["work"] * 4)


def test_a_watch_that_has_not_begun_has_no_receipt_and_says_so() -> None:
    watch = audit.watch()
    assert watch.events == []
    with pytest.raises(UsageError, match="of which no event is known"):
        _ = watch.receipt


# LangGraph


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def side_by_side(action: Any, number: int = 4) -> Any:
    graph = langgraph.graph.StateGraph(State)
    for index in range(number):
        graph.add_node(f"node{index}", action)
        graph.add_edge(langgraph.graph.START, f"node{index}")
    return graph.compile()


async def node_that_waits(state: State) -> State:
    await asyncio.sleep(WORK)
    return {"log": ["a"]}


async def node_that_blocks(state: State) -> State:
    began = time.monotonic()
    time.sleep(WORK)  # in a node
    took.append(time.monotonic() - began)
    return {"log": ["a"]}


def node_in_a_thread(state: State) -> State:
    time.sleep(WORK)
    return {"log": ["a"]}


def test_nodes_of_langgraphs_that_wait_are_parallel(on: Run) -> None:
    graph = side_by_side(node_that_waits)
    with audit.watch() as watched:
        on(graph.ainvoke({"log": []}))
    found = watched.receipt
    assert (found.verdict, found.peak) == (PARALLEL, 4)
    assert {f"node{index}" for index in range(4)} < {task.name for task in found.tasks}


def test_nodes_of_langgraphs_that_block_are_sequential_and_named_with_their_line(on: Run) -> None:
    graph = side_by_side(node_that_blocks)
    on(graph.ainvoke({"log": []}))  # what is imported when it first runs holds the loop, too
    took.clear()
    with audit.watch() as watched:
        on(graph.ainvoke({"log": []}))
    found = watched.receipt
    assert found.verdict == SEQUENTIAL
    assert "'node0', 'node1', 'node2' and 1 more held the event loop" in found.culprits[0]
    assert f"test_watch.py:{line_of('in a node')} in node_that_blocks" in found.culprits[0]
    events = [event for event in held(watched) if event.seconds > WORK / 2]
    assert {(event.file, event.line, event.function) for event in events} == {
        (__file__, line_of("in a node"), "node_that_blocks")
    }
    assert sorted(task.name for task in found.tasks if task.held) == [f"node{index}" for index in range(4)]
    assert sum(event.seconds for event in events) == pytest.approx(sum(took), rel=0.05)


def test_a_blocking_call_of_a_langgraph_runs_its_nodes_in_threads() -> None:
    graph = side_by_side(node_in_a_thread)
    with audit.watch() as watched:
        graph.invoke({"log": []})
    found = watched.receipt
    assert (found.verdict, found.peak) == (PARALLEL, 4)
    assert {f"node{index}" for index in range(4)} < {task.name for task in found.tasks}


def test_nodes_of_langgraphs_that_find_no_free_thread_are_told_with_the_size_of_the_pool() -> None:
    graph = side_by_side(node_in_a_thread, 5)
    with audit.watch() as watched:
        graph.invoke({"log": []}, {"max_concurrency": 2})
    assert (watched.receipt.peak, watched.receipt.verdict) == (2, PARTLY_SERIAL)
    assert "3 tasks waited" in watched.receipt.culprits[0]
    assert "the thread pool of 2 threads" in watched.receipt.culprits[0]


def node_that_computes(state: State) -> State:
    burns(0.2)
    return {"log": ["a"]}


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
def test_nodes_of_langgraphs_that_compute_in_threads_take_turns(call: str) -> None:
    graph = side_by_side(node_that_computes, 3)
    with audit.watch() as watched:
        result = getattr(graph, call)({"log": []})
        if call == "ainvoke":
            asyncio.run(result)
    found = watched.receipt
    assert (found.verdict, found.causes[0].kind) == (SEQUENTIAL, GIL_BOUND)
    assert "'node0', 'node1', 'node2' waited" in found.culprits[0]


def test_nodes_of_langgraphs_in_threads_that_stand_behind_a_lock_are_named_with_the_line() -> None:
    lock = threading.Lock()

    def node(state: State) -> State:
        with lock:  # one by one
            time.sleep(WORK)
        return {"log": ["a"]}

    graph = side_by_side(node)
    with audit.watch() as watched:
        graph.invoke({"log": []})
    found = watched.receipt
    assert (found.verdict, found.causes[0].kind) == (SEQUENTIAL, LOCKED)
    assert found.causes[0].place == f"{__file__}:{line_of('one by one')}"


def test_what_a_graph_in_a_thread_computes_there_is_told_of_its_node_and_not_again_of_who_has_called_it() -> None:
    inner = side_by_side(node_that_computes, 1)

    def outer(state: State) -> State:
        inner.invoke({"log": []})
        return {"log": ["a"]}

    graph = side_by_side(outer, 2)
    with audit.watch() as watched:
        graph.invoke({"log": []})
    names = {task.task: task.name for task in watched.receipt.tasks}
    used = [event for event in watched.events if isinstance(event, ThreadUsed)]
    assert [(names[event.task], event.cpu > 0.15) for event in used] == [("node0", True)] * 2
    outside = {task.parent for task in watched.receipt.tasks if task.task in {event.task for event in used}}
    assert len(outside) == 2, "each was told of the node inside, which has a parent of its own"


def test_a_wait_for_a_thread_is_that_of_the_node_and_not_of_who_has_called_the_graph() -> None:
    def called(task: Any) -> None:
        pass

    called.fanfold_is_a_task = True  # type: ignore[attr-defined]  # as that of a LangGraph's node is
    context = contextvars.copy_context()
    with audit.watch() as watched, ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, WORK)
        pool.submit(partial(contextvars.copy_context().run, context.run, called, None))
    assert [event.task for event in watched.events if isinstance(event, TaskBlocked)] == []


def test_who_waits_for_a_task_waits_for_it_also_when_the_one_before_had_ended_since_that_was_asked_for() -> None:
    with audit.watch() as watched:
        first = watched.queue("first", NODE)
        watched.start(first)
        asked = time.monotonic()
        watched.end(first)
        second = watched.queue("second", NODE, at=asked)
        watched.start(second)
        watched.end(second)
    mine = [event for event in watched.events if event.at and getattr(event, "task", "") == "watched-0"]
    kinds = [type(event) for event in mine if isinstance(event, TaskPaused | TaskContinued)]
    assert kinds == [TaskPaused, TaskContinued] * 2


def test_what_limits_a_langgraph_is_what_its_nodes_waited_for() -> None:
    graph = side_by_side(node_that_waits)
    with audit.watch() as watched:
        asyncio.run(graph.ainvoke({"log": []}, {"max_concurrency": 2}))
    assert watched.receipt.peak == 2
    waited = [event.waited_for for event in watched.events if isinstance(event, TaskStarted) and event.waited_for]
    assert waited == ["limit 2"] * 2


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
def test_a_chain_of_langgraphs_nodes_leaves_nothing_to_overlap(call: str) -> None:
    graph = langgraph.graph.StateGraph(State)
    for index in range(3):
        graph.add_node(f"node{index}", node_in_a_thread)
        graph.add_edge(f"node{index - 1}" if index else langgraph.graph.START, f"node{index}")
    compiled = graph.compile()
    with audit.watch() as watched:
        if call == "invoke":
            compiled.invoke({"log": []})
        else:
            asyncio.run(compiled.ainvoke({"log": []}))
    assert watched.receipt.verdict == NOTHING_TO_OVERLAP
    assert [task.name for task in watched.receipt.tasks if task.name.startswith("node")] == ["node0", "node1", "node2"]


# pydantic-ai


async def answers(messages: list[Any], info: Any) -> ModelResponse:
    await asyncio.sleep(WORK / 2)
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("look", {})])
    return ModelResponse(parts=[TextPart("done")])


def team(tool: Callable[[], Coroutine[Any, Any, str]]) -> list[Agent]:
    agents = [Agent(FunctionModel(answers), name=f"agent-{name}") for name in "abc"]
    for agent in agents:
        agent.tool_plain(tool, name="look")
    return agents


async def looks() -> str:
    await asyncio.sleep(WORK)
    return "found"


async def looks_and_blocks() -> str:
    reads()
    return "found"


def reads() -> None:
    time.sleep(2 * WORK)  # in a tool


def test_agents_of_pydantic_ais_that_are_gathered_are_parallel_and_have_their_names() -> None:
    agents = team(looks)

    async def main() -> None:
        await asyncio.gather(*(agent.run("go") for agent in agents))

    asyncio.run(main())  # what is imported when it is first used has been
    with audit.watch() as watched:
        asyncio.run(main())
    assert (watched.receipt.verdict, names(watched.receipt)) == (PARALLEL, ["agent-a", "agent-b", "agent-c"])


def test_agents_of_pydantic_ais_in_a_loop_are_sequential() -> None:
    agents = team(looks)

    async def main() -> None:
        for agent in agents:
            await agent.run("go")

    with audit.watch() as watched:
        asyncio.run(main())
    assert watched.receipt.verdict == SEQUENTIAL
    assert "'main' awaited its 3 agents one after another" in watched.receipt.culprits[0]


def test_a_tool_of_pydantic_ais_that_blocks_is_found_below_its_agent(on: Run) -> None:
    agents = team(looks_and_blocks)

    async def main() -> None:
        await asyncio.gather(*(agent.run("go") for agent in agents))

    with audit.watch() as watched:
        on(main())
    by_tools = [event for event in held(watched) if event.function == "reads"]
    assert [(event.line, event.callers) for event in by_tools] == [(line_of("in a tool"), ("looks_and_blocks",))] * 3
    assert {event.task for event in by_tools} == {task.task for task in watched.receipt.agents}


# Runs of ours


async def waits_in_ours(state: State) -> None:
    await asyncio.gather(asyncio.sleep(WORK), asyncio.sleep(WORK))


def ours() -> Any:
    graph = fanfold.StateGraph(State).add_node("a", waits_in_ours).add_node("b", waits_in_ours)
    return graph.add_edge(fanfold.START, "a").add_edge(fanfold.START, "b").compile()


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
def test_of_a_single_run_of_ours_the_receipt_is_its_own(call: str) -> None:
    graph = ours()

    async def main() -> Any:
        return await graph.ainvoke({"log": []})

    with audit.watch() as watched:
        result = graph.invoke({"log": []}) if call == "invoke" else asyncio.run(main())
    assert watched.receipt == audit(result)


# How it comes and goes


_REPLACED: list[tuple[Any, str]] = [
    (asyncio.BaseEventLoop, "create_task"),
    (uvloop.Loop, "create_task"),
    (asyncio.Lock, "acquire"),
    (asyncio.Lock, "release"),
    (asyncio.Semaphore, "acquire"),
    (asyncio.Semaphore, "release"),
    (ThreadPoolExecutor, "submit"),
    (Agent, "iter"),
    *((of, name) for of in (anyios.Lock, anyios.Semaphore) for name in ("acquire", "release")),
    *((anyios.CapacityLimiter, f"{name}_on_behalf_of") for name in ("acquire", "release")),
]


def _as_it_is() -> list[Any]:
    import langgraph.pregel._runner as runner

    here = [(of, name, vars(of).get(name)) for of, name in _REPLACED]
    return [*here, runner.run_with_retry, runner.arun_with_retry, list(gc.callbacks)]


def test_nothing_is_left_of_it_whatever_happens_within() -> None:
    before = _as_it_is()
    with pytest.raises(KeyError), audit.watch():
        raise KeyError(_as_it_is() != before)
    assert _as_it_is() == before


def test_of_two_that_overlap_each_sees_what_ran_in_its_own_time() -> None:
    before = _as_it_is()
    outer, inner = audit.watch("outer"), audit.watch("inner")
    with outer:
        asyncio.run(waits())
        inner.__enter__()
        asyncio.run(gathers(waits))
    assert _as_it_is() != before
    asyncio.run(blocks())
    inner.__exit__(None, None, None)
    assert _as_it_is() == before
    assert names(outer.receipt) == ["waits"] * 5
    assert names(inner.receipt) == ["waits"] * 4 + ["blocks"]
    assert [event.function for event in held(inner)] == ["blocks"]
    assert held(outer) == []


def test_of_two_at_once_each_names_the_line() -> None:
    with audit.watch("outer") as outer, audit.watch("inner") as inner:
        asyncio.run(blocks())
    assert [event.line for watched in (outer, inner) for event in held(watched)] == [line_of("plain code")] * 2


def test_what_somebody_else_has_put_around_is_theirs_to_take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with audit.watch():
        ours = asyncio.BaseEventLoop.create_task

        def theirs(loop: Any, coro: Any, **options: Any) -> Any:
            seen.append(coro.__qualname__)
            return ours(loop, coro, **options)

        monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", theirs)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(waits())
    assert seen[0] == "waits"
    monkeypatch.undo()
    asyncio.BaseEventLoop.create_task = ours.__wrapped__  # type: ignore[method-assign, attr-defined]


def test_a_task_looks_as_it_would_without_it() -> None:
    async def main() -> tuple[str, str]:
        task = asyncio.create_task(waits(), name="mine")
        await task
        return task.get_name(), task.get_coro().__qualname__  # type: ignore[union-attr]

    with audit.watch() as watched:
        assert asyncio.run(main()) == ("mine", "waits")
    assert "mine" in names(watched.receipt)


def test_loops_of_several_threads_are_watched_at_once() -> None:
    with audit.watch() as watched:
        threads = [threading.Thread(target=asyncio.run, args=(blocks(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (watched.receipt.verdict, names(watched.receipt)) == (PARALLEL, ["blocks"] * 3)
    assert [event.line for event in held(watched)] == [line_of("plain code")] * 3
