"""What a node can ask for besides its state, and the options of a call."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from fanfold import (
    START,
    Command,
    InMemorySaver,
    InMemoryStore,
    InvalidUpdateError,
    Runtime,
    Send,
    StateGraph,
    get_config,
    get_runtime,
    get_store,
)
from fanfold.errors import SyncInLoopError, UsageError
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State, alone, say

THREAD = {"configurable": {"thread_id": "1"}}
NOTHING: dict[str, Any] = {"log": []}


@dataclass
class User:
    name: str
    age: int = 0


def knowing(node: Any, **options: Any) -> Any:
    return StateGraph(State, User).add_node("node", node).add_edge(START, "node").compile(**options)


def named(_: State, runtime: Runtime[User]) -> dict[str, Any]:
    return {"log": [runtime.context]}


# Context


@pytest.mark.parametrize("given", [{"name": "Ada"}, User("Ada")])
def test_context_comes_in_the_type_that_the_graph_declares(run: Run, given: Any) -> None:
    assert run(knowing(named), NOTHING, context=given) == {"log": [User("Ada")]}


def test_without_a_declared_type_context_comes_as_it_is(run: Run) -> None:
    assert run(alone(named), NOTHING, context=5) == {"log": [5]}


def test_a_sub_graph_has_the_context_of_its_run_unless_it_is_given_one(run: Run) -> None:
    inner = knowing(named)

    def calls(_: State) -> dict[str, Any]:
        log = [*inner.invoke(NOTHING)["log"], *inner.invoke(NOTHING, context={"name": "Eve"})["log"]]
        return {"log": log}

    as_node = StateGraph(State, User).add_node("inner", inner).add_edge(START, "inner").compile()
    assert run(as_node, NOTHING, context={"name": "Ada"}) == {"log": [User("Ada")]}
    assert run(knowing(calls), NOTHING, context={"name": "Ada"}) == {"log": [User("Ada"), User("Eve")]}


def test_conditional_edges_know_the_context_too(run: Run) -> None:
    def route(_: State, runtime: Runtime[User]) -> str:
        return runtime.context.name

    graph = StateGraph(State, User).add_node("a", say("a")).add_node("b", say("b")).add_conditional_edges(START, route)
    assert run(graph.compile(), NOTHING, context={"name": "b"}) == {"log": ["b"]}


# The runtime


def test_functions_that_a_node_calls_find_the_runtime(run: Run) -> None:
    def tool() -> Any:
        return get_runtime(User).context.name

    assert run(knowing(lambda _: {"log": [tool()]}), NOTHING, context=User("Ada")) == {"log": ["Ada"]}


def test_a_runtime_is_changed_by_making_another() -> None:
    runtime = Runtime(context=1, previous=3)
    assert runtime.override(context=2).context == 2
    merged = runtime.merge(Runtime(context=5))
    assert (merged.context, merged.previous, runtime.context) == (5, 3, 1)
    with pytest.raises(RuntimeError, match="no execution_info"):
        runtime.patch_execution_info(node_attempt=2)


def test_a_runtime_by_itself_writes_to_nobody() -> None:
    runtime = Runtime()
    runtime.stream_writer("unheard")
    runtime.heartbeat()
    assert (runtime.context, runtime.store, runtime.drain_requested) == (None, None, False)


def test_execution_info_names_the_thread_the_task_and_the_attempt(run: Run) -> None:
    def node(_: State, runtime: Runtime) -> dict[str, Any]:
        info = runtime.execution_info
        assert info is not None
        other = runtime.patch_execution_info(node_attempt=7).execution_info
        assert other is not None
        return {"log": [info.thread_id, info.checkpoint_ns == f"node:{info.task_id}", other.node_attempt]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
    assert run(graph.compile(checkpointer=InMemorySaver()), NOTHING, THREAD) == {"log": ["1", True, 7]}
    assert run(graph.compile(), NOTHING)["log"][0] is None


# Config


def test_a_node_sees_the_config_of_its_call_and_where_it_runs(run: Run) -> None:
    def node(_: State, config: Any) -> dict[str, Any]:
        metadata = config["metadata"]
        return {
            "log": [
                config["configurable"]["x"],
                metadata["user"],
                metadata["team"],
                metadata["langgraph_node"],
                metadata["langgraph_step"],
                metadata["langgraph_triggers"],
                config["tags"],
                get_config()["recursion_limit"],
            ]
        }

    graph = StateGraph(State).add_node("node", node, metadata={"team": "t"}).add_edge(START, "node").compile()
    config = {"configurable": {"x": 1}, "metadata": {"user": "u"}, "tags": ["tag"], "recursion_limit": 9}
    assert run(graph, NOTHING, config) == {"log": [1, "u", "t", "node", 1, ("branch:to:node",), ["tag"], 9]}


def test_a_bound_config_is_merged_with_that_of_the_call(run: Run) -> None:
    def node(_: State, config: Any) -> dict[str, Any]:
        return {"log": [config["configurable"], sorted(config["tags"]), config["recursion_limit"]]}

    bound = alone(node).with_config({"configurable": {"x": 1}, "tags": ["a"], "metadata": {"m": 1}}, recursion_limit=5)
    configurable, tags, limit = run(bound, NOTHING, {"configurable": {"y": 2}, "tags": ["b"]})["log"]
    assert (configurable["x"], configurable["y"], tags, limit) == (1, 2, ["a", "b"], 5)


def test_config_keys_of_langchain_are_accepted(run: Run) -> None:
    config = {"run_name": "name", "callbacks": [], "tags": [], "metadata": {}, "run_id": None}
    assert run(alone(say("x")), NOTHING, config) == {"log": ["x"]}


def test_an_option_that_does_not_exist_is_refused_with_a_suggestion(run: Run) -> None:
    with pytest.raises(UsageError, match="did you mean 'durability'"):
        run(alone(say("x")), NOTHING, durabilty="sync")


def test_max_concurrency_binds(run: Run) -> None:
    busy, most = 0, 0

    async def node(_: Any) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    graph = StateGraph(State).add_node("node", node)
    graph.add_conditional_edges(START, lambda _: [Send("node", n) for n in range(10)])
    run(graph.compile(), NOTHING, {"max_concurrency": 2})
    assert most == 2


# The long-term store


def test_nodes_and_functions_find_the_store(run: Run) -> None:
    store = InMemoryStore()

    async def node(_: State, *, store: Any, runtime: Runtime) -> dict[str, Any]:
        await get_store().aput(("users",), "1", {"name": "Ada"})
        found = await store.aget(("users",), "1")
        return {"log": [found.value["name"], runtime.store is store]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(store=store)
    assert run(graph, NOTHING) == {"log": ["Ada", True]}
    found = store.get(("users",), "1")
    assert found is not None
    assert found.value == {"name": "Ada"}


def test_a_sub_graph_has_the_store_of_its_run(run: Run) -> None:
    inner = alone(lambda _: {"log": [get_store() is not None]})
    graph = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile(store=InMemoryStore())
    assert run(graph, NOTHING) == {"log": [True]}


# Calls


def test_async_nodes_run_under_a_blocking_invoke() -> None:
    async def node(_: State) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"log": ["async"]}

    assert alone(node).invoke(NOTHING) == {"log": ["async"]}


def test_blocking_calls_in_a_running_loop_name_the_other_form() -> None:
    async def go() -> None:
        with pytest.raises(SyncInLoopError, match=r"await graph\.ainvoke"):
            alone(say("x")).invoke(NOTHING)
        with pytest.raises(SyncInLoopError, match=r"graph\.astream"):
            list(alone(say("x")).stream(NOTHING))

    asyncio.run(go())


def test_nodes_see_the_context_variables_of_their_caller(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    assert run(alone(lambda _: {"log": [variable.get()]}), NOTHING) == {"log": ["set"]}


def test_a_batch_answers_in_the_order_of_its_inputs() -> None:
    graph = alone(say("x"))
    inputs = [{"log": [n]} for n in range(4)]
    expected = [{"log": [n, "x"]} for n in range(4)]
    assert graph.batch(inputs) == expected
    assert asyncio.run(graph.abatch(inputs)) == expected


def test_what_a_node_changes_later_in_what_it_returned_is_no_part_of_the_state(run: Run) -> None:
    kept: dict[str, Any] = {}

    def first(state: State) -> dict[str, Any]:
        kept["word"] = ["as returned"]
        return {"log": [kept["word"]]}

    def second(state: State) -> None:
        kept["word"].append("changed")

    graph = StateGraph(State).add_sequence([first, second]).add_edge(START, "first")
    with InMemorySaver() as saver:
        app = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        assert run(app, {"log": []}, config)["log"] == [["as returned"]]
        assert app.get_state(config).values["log"] == [["as returned"]]


def test_what_a_run_has_returned_can_be_kept_in_the_state_of_another(run: Run) -> None:
    inner = StateGraph(State).add_node("say", lambda state: {"log": ["said"]}).add_edge(START, "say").compile()

    def ask(state: State) -> dict[str, Any]:
        return {"log": [inner.invoke({"log": []}, {"configurable": {"thread_id": "its own"}})]}

    with InMemorySaver() as saver:
        app = StateGraph(State).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        assert run(app, {"log": []}, config)["log"] == [{"log": ["said"]}]
        assert type(app.get_state(config).values["log"][0]) is dict
        outcome = inner.invoke({"log": ["as input"]})
        assert run(app, outcome, {"configurable": {"thread_id": "u"}})["log"] == ["as input", "said", {"log": ["said"]}]


# How many runs of a batch, where runs stop, and what they leave behind


class Busy:
    """A node that counts how many runs are in it at once."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    async def __call__(self, _: State) -> None:
        self.now += 1
        self.peak = max(self.peak, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1


@pytest.mark.parametrize("given", [{"config": {"max_concurrency": 2}}, {"max_concurrency": 2}])
def test_a_batch_runs_as_many_at_once_as_it_was_told(given: dict[str, Any]) -> None:
    for asynchronous in (False, True):
        busy = Busy()
        graph = alone(busy)
        if asynchronous:
            asyncio.run(graph.abatch([NOTHING] * 5, **given))
        else:
            graph.batch([NOTHING] * 5, **given)
        assert busy.peak == 2


def test_a_batch_of_nothing_is_empty() -> None:
    assert alone(say("x")).batch([], max_concurrency=2) == []


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_a_call_that_is_to_stop_at_a_node_that_does_not_exist_is_refused(run: Run, when: str) -> None:
    with pytest.raises(UsageError, match=r"interrupt at 'nodee'.*'node'"):
        run(knowing(named, checkpointer=InMemorySaver()), NOTHING, THREAD, **{when: ["nodee"]})


def test_a_command_for_no_graph_around_leaves_no_threads_behind() -> None:
    def lost(_: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="x")

    async def left() -> set[str]:
        before = set(threading.enumerate())
        with pytest.raises(InvalidUpdateError, match="there is none"):
            await alone(lost).ainvoke(NOTHING)
        after = [one for one in threading.enumerate() if one not in before and one.name.startswith("fanfold-node")]
        for one in after:
            one.join(5)
        return {one.name for one in after if one.is_alive()}

    assert asyncio.run(left()) == set()
