"""How a graph runs: truly at once, each node with a state of its own, and with the face that was called."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
import threading
import time
import warnings
from typing import Any

import pytest

from fanfold import END, START, EmptyInputError, GraphRecursionError, InvalidUpdateError, Limits, Send, StateGraph
from fanfold.errors import SyncInLoopError, UsageError
from fanfold.events import (
    LoopHeld,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskFailed,
    TaskFinished,
    TaskQueued,
    TaskStarted,
)
from fanfold.family import UnknownKeyWarning
from fanfold.held import HELD_FROM
from fanfold.store.sqlite import SqliteStore
from tests.drivers.conftest import Run
from tests.drivers.parts import INPUT, PATIENCE, State, beside, chain, kinds, met, names

# At once


def test_async_nodes_of_one_step_are_in_flight_together(run: Run) -> None:
    barrier = asyncio.Barrier(3)

    async def node(state: State) -> Any:
        await met(barrier)
        return {"log": ["met"]}

    assert run(beside(a=node, b=node, c=node).compile(), INPUT) == {"log": ["met"] * 3}


def test_a_run_that_nobody_listened_to_tells_afterwards_what_one_tells_who_listens(run: Run) -> None:
    async def node(state: State) -> Any:
        return {"log": ["done"]}

    heard: list[Any] = []
    graph = beside(a=node, b=node).compile()
    listened, alone = run(graph, INPUT, on_event=heard.append).run, run(graph, INPUT).run
    assert list(listened.events) == heard
    kept = alone.events
    assert [type(event) for event in kept] == [type(event) for event in heard]
    assert [(event.name, event.role, event.step) for event in kept if isinstance(event, TaskQueued)] == [
        (event.name, event.role, event.step) for event in heard if isinstance(event, TaskQueued)
    ]
    assert [event.wrote for event in kept if isinstance(event, TaskFinished)] == [("log",), ("log",)]
    assert all(one is again for one, again in zip(kept, alone.events, strict=True))


def test_a_copy_of_a_finished_run_is_equal_to_it_whether_or_not_its_events_were_read(run: Run) -> None:
    async def node(state: State) -> Any:
        return {"log": ["done"]}

    graph = beside(a=node).compile()
    unread, other = run(graph, INPUT), run(graph, INPUT)
    copies = [copy.deepcopy(unread), pickle.loads(pickle.dumps(unread))]
    assert len(copies[0].run.events) > 0
    assert [(each, each.run) for each in copies] == [(unread, unread.run)] * 2
    assert {unread.run, *(each.run for each in copies)} == {unread.run}
    assert other.run != unread.run


def test_blocking_nodes_of_one_step_are_in_flight_together(run: Run) -> None:
    barrier = threading.Barrier(3)

    def node(state: State) -> Any:
        barrier.wait(PATIENCE)
        return {"log": ["met"]}

    assert run(beside(a=node, b=node, c=node).compile(), INPUT) == {"log": ["met"] * 3}


def test_a_blocking_and_an_async_node_are_in_flight_together(run: Run) -> None:
    here, there = threading.Event(), threading.Event()

    def blocking(state: State) -> None:
        here.set()
        assert there.wait(PATIENCE)

    async def waiting(state: State) -> None:
        assert await asyncio.to_thread(here.wait, PATIENCE)
        there.set()

    run(beside(a=blocking, b=waiting).compile(), INPUT)


def test_sends_are_in_flight_together(run: Run) -> None:
    barrier = asyncio.Barrier(11)

    async def worker(arg: int) -> Any:
        await met(barrier)
        return {"log": [str(arg)]}

    graph = StateGraph(State).add_node(worker)
    graph.add_conditional_edges(START, lambda _: [Send("worker", index) for index in range(11)])
    assert run(graph.compile(), INPUT)["log"] == [str(index) for index in range(11)]


def test_the_order_of_finishing_does_not_change_the_state(run: Run) -> None:
    done = {name: asyncio.Event() for name in "abc"}

    def after(name: str, other: str | None) -> Any:
        async def node(state: State) -> Any:
            if other:
                await done[other].wait()
            done[name].set()
            return {"log": [name]}

        return node

    graph = beside(a=after("a", "b"), b=after("b", "c"), c=after("c", None)).compile()
    result = run(graph, INPUT)
    assert names(result.run.events, TaskFinished) == ["c", "b", "a"]
    assert result == {"log": ["a", "b", "c"]}


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("given", ["keyword", "config", "compile"])
def test_a_limit_binds_and_reports_its_peak(run: Run, limit: int, given: str) -> None:
    lock, inside, most = threading.Lock(), 0, 0

    def node(state: State) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    limits = Limits(limit) if given == "compile" else Limits(None)
    graph = beside(a=node, b=node, c=node, d=node).compile(limits=limits)
    options: dict[str, Any] = {"max_concurrency": limit} if given == "keyword" else {}
    config = {"max_concurrency": limit} if given == "config" else None
    events = run(graph, INPUT, config, **options).run.events
    assert most <= limit
    assert kinds(events, RunFinished)[0].peak == limit
    assert kinds(events, RunStarted)[0].max_concurrency == limit
    waited = [event.waited_for for event in kinds(events, TaskStarted)]
    assert waited == [""] * limit + [f"limit {limit}"] * (4 - limit)


# What a node sees


def test_blocking_nodes_run_in_threads_with_the_context_of_the_caller(run: Run) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen = []

    def node(state: State) -> None:
        seen.append((who.get(), threading.current_thread() is threading.main_thread()))

    token = who.set("me")
    run(beside(a=node).compile(), INPUT)
    who.reset(token)
    assert seen == [("me", False)]


def test_a_context_variable_that_a_node_sets_stays_its_own(run: Run) -> None:
    who = contextvars.ContextVar("who", default="nobody")

    async def first(state: State) -> None:
        who.set("first")

    def second(state: State) -> Any:
        who.set("second")
        return {"log": [who.get()]}

    def third(state: State) -> Any:
        return {"log": [who.get()]}

    assert run(chain(a=first, b=second, c=third).compile(), INPUT) == {"log": ["second", "nobody"]}


def test_a_node_that_changes_its_input_changes_neither_its_siblings_nor_the_state(run: Run) -> None:
    barrier = threading.Barrier(2)
    seen = []

    def node(state: State) -> None:
        state["log"].append("mine")
        barrier.wait(PATIENCE)
        seen.append(state["log"])

    given: State = {"log": ["given"]}
    assert run(beside(a=node, b=node).compile(), given) == {"log": ["given"]}
    assert seen == [["given", "mine"]] * 2
    assert given == {"log": ["given"]}


def test_a_function_that_returns_a_coroutine_is_awaited(run: Run) -> None:
    async def slow(state: State) -> Any:
        return {"log": ["slow"]}

    assert run(beside(a=lambda state: slow(state)).compile(), INPUT) == {"log": ["slow"]}


def test_a_path_may_be_async(run: Run) -> None:
    async def path(state: State) -> Any:
        await asyncio.sleep(0)
        return "b" if state["log"] == ["a"] else END

    graph = beside(a=lambda _: {"log": ["a"]}).add_node("b", lambda _: {"log": ["b"]})
    assert run(graph.add_conditional_edges("a", path).compile(), INPUT) == {"log": ["a", "b"]}


def test_a_root_state_comes_back_as_it_is(run: Run) -> None:
    graph = StateGraph(int).add_node("n", lambda number: number + 1).add_edge(START, "n")
    assert run(graph.compile(), 41) == 42


def test_steps_are_told_in_order(run: Run) -> None:
    events = run(chain(a=lambda _: None, b=lambda _: None).compile(), INPUT).run.events
    assert [event.step for event in kinds(events, StepFinished)] == [0, 1, 2]
    assert [event.at for event in events] == sorted(event.at for event in events)


# Writes


def test_an_unknown_key_is_ignored_with_one_warning_for_each_node_and_key(run: Run) -> None:
    def wrong(state: State) -> Any:
        return {"log": ["x"], "lag": 1, "other": 2}

    def loop(state: State) -> Any:
        return "a" if len(state["log"]) < 6 else END

    graph = beside(a=wrong, b=wrong).add_conditional_edges("a", loop).compile()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(graph, INPUT)
    assert result == {"log": ["x"] * 6}
    messages = [str(warning.message) for warning in caught if warning.category is UnknownKeyWarning]
    assert sorted(messages) == [
        "node 'a' returned key 'lag', which the state does not have; it is ignored; did you mean 'log'?",
        "node 'a' returned key 'other', which the state does not have; it is ignored",
        "node 'b' returned key 'lag', which the state does not have; it is ignored; did you mean 'log'?",
        "node 'b' returned key 'other', which the state does not have; it is ignored",
    ]
    assert sorted(event.message for event in kinds(result.run.events, Noticed)) == sorted(messages)


def test_two_writes_of_a_plain_key_are_an_error_of_the_step_and_of_no_single_node(run: Run) -> None:
    heard: list[Any] = []
    graph = beside(a=lambda _: {"number": 1}, b=lambda _: {"number": 2}).compile()
    with pytest.raises(InvalidUpdateError, match="nodes 'a' and 'b' wrote key 'number'") as caught:
        run(graph, INPUT, on_event=heard.append)
    assert caught.value.__notes__ == ["at the end of step 1"]
    assert sorted(names(heard, TaskFinished)) == ["a", "b"]
    assert kinds(heard, TaskFailed) == []


def test_a_node_that_returns_no_update_is_named(run: Run) -> None:
    with pytest.raises(InvalidUpdateError, match="got str: 'text'") as caught:
        run(beside(a=lambda _: "text").compile(), INPUT)
    assert caught.value.__notes__[0].startswith("in node 'a', step 1, task ")


# Calling


def test_a_graph_of_n_steps_needs_a_recursion_limit_of_n_plus_one(run: Run) -> None:
    graph = chain(a=lambda _: {"log": ["a"]}, b=lambda _: {"log": ["b"]}).compile(name="two")
    assert run(graph, INPUT, recursion_limit=3) == {"log": ["a", "b"]}
    heard: list[Any] = []
    with pytest.raises(GraphRecursionError, match="graph 'two' took 2 steps"):
        run(graph, INPUT, {"recursion_limit": 2}, on_event=heard.append)
    assert names(heard, TaskFinished) == ["a", "b"]


def test_input_that_sets_no_key_is_refused(run: Run) -> None:
    with pytest.raises(EmptyInputError, match="its keys are: log, number"):
        run(beside(a=lambda _: None).compile(), {"lag": 1})


def test_an_empty_input_is_an_input(run: Run) -> None:
    assert run(beside(a=lambda _: {"log": ["a"]}).compile(), {}) == {"log": ["a"]}


def test_there_is_nothing_to_go_on_with_where_nothing_was_kept(run: Run) -> None:
    with pytest.raises(EmptyInputError, match="nothing to go on with in thread 't'"):
        run(beside(a=lambda _: None).compile(), None, thread_id="t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurency": 1}, "no option 'max_concurency'; did you mean 'max_concurrency'?"),
        ({"zzz": 1}, "no option 'zzz'$"),
        ({"max_concurrency": 0}, "max_concurrency is 0; it must be at least 1"),
        ({"recursion_limit": 0}, "recursion_limit is 0; it must be at least 1"),
        ({"durability": "perhaps"}, "durability is 'perhaps'; it is one of"),
    ],
)
def test_a_bad_option_is_refused_with_the_one_that_was_meant(run: Run, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(beside(a=lambda _: None).compile(), INPUT, **options)


def test_keywords_win_over_config_and_config_may_hold_what_is_not_ours(run: Run) -> None:
    config = {"configurable": {"thread_id": 7, "user": "u"}, "tags": ["x"], "max_concurrency": 1}
    result = run(beside(a=lambda _: None).compile(), INPUT, config, max_concurrency=2)
    assert result.run.thread_id == "7"
    assert kinds(result.run.events, RunStarted)[0].max_concurrency == 2


def test_a_blocking_call_where_a_loop_runs_is_refused_and_the_way_out_named() -> None:
    async def main() -> None:
        beside(a=lambda _: None).compile().invoke(INPUT)

    with pytest.raises(SyncInLoopError, match=r"use: await graph.ainvoke\(...\)"):
        asyncio.run(main())


def test_a_graph_can_run_many_times_at_the_same_time() -> None:
    barrier = asyncio.Barrier(5)

    async def node(state: State) -> Any:
        await met(barrier)
        return {"log": [*state["log"]]}

    graph = beside(a=node).compile()

    async def main() -> list[Any]:
        return await asyncio.gather(*(graph.ainvoke({"log": [str(index)]}) for index in range(5)))

    assert asyncio.run(main()) == [{"log": [str(index)] * 2} for index in range(5)]


def test_a_graph_that_is_a_node_needs_no_slot_beside_those_of_its_own_nodes(run: Run) -> None:
    inner = beside(i=lambda _: {"log": ["i"]}, j=lambda _: {"log": ["j"]}).compile()
    middle = beside(inner=inner, k=lambda _: {"log": ["k"]}).compile()
    result = run(beside(middle=middle, m=lambda _: {"log": ["m"]}).compile("memory:"), INPUT, max_concurrency=1)
    assert sorted(result["log"]) == ["i", "j", "k", "m"]
    assert kinds(result.run.events, RunFinished)[0].peak == 1


def test_graphs_that_a_node_calls_side_by_side_share_the_run_s_limit(run: Run) -> None:
    lock, inside, most = threading.Lock(), 0, 0

    def busy(state: State) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    inner = beside(a=busy, b=busy).compile()

    async def node(state: State) -> Any:
        await asyncio.gather(*(inner.ainvoke(INPUT) for _ in range(3)))
        return {"log": ["done"]}

    assert run(beside(n=node).compile(), INPUT, max_concurrency=2) == {"log": ["done"]}
    assert most <= 2


def test_a_graph_that_a_node_calls_on_a_thread_of_its_own_is_a_run_of_its_own(run: Run, store: SqliteStore) -> None:
    inner = beside(i=lambda _: {"log": ["inner"]}).compile(store)

    def node(state: State) -> Any:
        return inner.invoke({"log": []}, thread_id="other", run_id="its own")

    assert run(beside(n=node).compile(store), INPUT, thread_id="t", run_id="outer") == {"log": ["inner"]}
    assert {record.run_id: record.thread_id for record in store.runs()} == {"outer": "t", "its own": "other"}


def test_a_graph_can_be_called_within_a_node_of_another(run: Run) -> None:
    inner = beside(i=lambda _: {"log": ["inner"]}).compile()

    def blocking(state: State) -> Any:
        return inner.invoke({"log": ["b"]})

    async def awaiting(state: State) -> Any:
        return await inner.ainvoke({"log": ["a"]})

    outer = beside(a=awaiting, b=blocking).compile()
    assert run(outer, INPUT, max_concurrency=1) == {"log": ["a", "inner", "b", "inner"]}


def test_an_async_path_that_holds_the_event_loop_is_told_and_a_blocking_one_does_not(run: Run) -> None:
    async def holding(state: State) -> str:
        time.sleep(2 * HELD_FROM)
        return END

    def blocking(state: State) -> str:
        time.sleep(2 * HELD_FROM)
        return END

    for path, told in ((holding, 1), (blocking, 0)):
        graph = chain(a=lambda _: {"log": ["a"]}).add_conditional_edges("a", path, [END])
        held = kinds(run(graph.compile(), INPUT).run.events, LoopHeld)
        assert len([event for event in held if event.by_code]) == told
