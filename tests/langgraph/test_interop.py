"""Parts of LangChain and LangGraph in our graphs, and our graphs in chains of LangChain's."""

from __future__ import annotations

import asyncio
import operator
import sys
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel

from fanfold import END, START, InMemoryStore, Runtime, Send, StateGraph, TimeoutPolicy
from fanfold.errors import MissingExtraError
from fanfold.graph import CompiledGraph
from fanfold.interop import ours
from tests.langgraph.conftest import Run


class State(TypedDict):
    number: int
    log: Annotated[list[Any], operator.add]


class Looking:
    """Something with `ainvoke`, like LangGraph's ToolNode, that tells what it finds in its config."""

    def __init__(self, find: Any) -> None:
        self.find = find

    async def ainvoke(self, input: Any, config: Any) -> dict[str, Any]:
        return {"log": [self.find(config["configurable"])]}


def adding(step: int = 1) -> CompiledGraph:
    graph = StateGraph(State).add_node("add", lambda state: {"number": state["number"] + step})
    return graph.add_edge(START, "add").compile(name="adding")


# What such parts find in the config


def test_a_runnable_finds_the_runtime_in_its_config_under_the_key_that_langgraph_uses(run: Run) -> None:
    store = InMemoryStore()

    def told(configurable: Any) -> list[Any]:
        runtime = configurable["__pregel_runtime"]
        info = runtime.execution_info
        return [type(runtime), runtime.context, runtime.store is store, info.node_attempt, runtime.server_info]

    graph = StateGraph(State, dict).add_node("look", Looking(told)).add_edge(START, "look").compile(store=store)
    assert run(graph, {"log": []}, context={"user": 1})["log"] == [[Runtime, {"user": 1}, True, 1, None]]


def test_what_is_written_with_that_runtime_is_seen_in_the_stream(stream: Run) -> None:
    look = Looking(lambda configurable: configurable["__pregel_runtime"].stream_writer("seen"))
    graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()
    assert stream(graph, {"log": []}, stream_mode="custom") == ["seen"]


def test_a_runnable_that_was_sent_its_input_can_read_the_state_that_it_would_have_seen(run: Run) -> None:
    look = Looking(lambda configurable: configurable["__pregel_read_state"]()["number"])
    graph = StateGraph(State).add_node("look", look)
    graph.add_conditional_edges(START, lambda state: [Send("look", "only this")], ["look"])
    assert run(graph.compile(), {"number": 7})["log"] == [7]


def test_a_runnable_that_an_edge_leads_to_has_its_state_already(run: Run) -> None:
    look = Looking(lambda configurable: configurable["__pregel_read_state"])
    graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()
    assert run(graph, {"number": 7})["log"] == [None]


def test_a_graph_inside_of_a_node_that_was_sent_its_input_does_not_read_the_state_around_it(run: Run) -> None:
    look = Looking(lambda configurable: configurable["__pregel_read_state"])
    inner = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()

    async def call(state: State, config: Any) -> dict[str, Any]:
        return {"log": (await inner.ainvoke(state, config))["log"]}

    graph = StateGraph(State).add_node("call", call)
    graph.add_conditional_edges(START, lambda state: [Send("call", {"number": 1})], ["call"])
    assert run(graph.compile(), {"number": 7})["log"] == [None]


# What such parts answer


def theirs(kind: str, **values: Any) -> Any:
    """A stand-in for a value of LangGraph's, which is known by the name of its class and by its module."""
    return type(kind, (SimpleNamespace,), {"__module__": "langgraph.types"})(**values)


def their_command(**values: Any) -> Any:
    return theirs("Command", **{"graph": None, "update": None, "resume": None, "goto": (), **values})


@pytest.mark.parametrize("several", [False, True])
def test_a_command_of_langgraphs_writes_and_leads_like_one_of_ours(run: Run, several: bool) -> None:
    command = their_command(update={"number": 5}, goto="next")
    graph = StateGraph(State).add_node("first", lambda state: [command, {"log": ["too"]}] if several else command)
    graph.add_node("next", lambda state: {"log": [state["number"]]}).add_edge(START, "first")
    assert run(graph.compile(), {"number": 1})["log"] == (["too", 5] if several else [5])


def test_a_send_of_langgraphs_runs_its_node(run: Run) -> None:
    graph = StateGraph(State).add_node("next", lambda given: {"log": [given]})
    graph.add_conditional_edges(
        START, lambda state: [theirs("Send", node="next", arg=1, timeout=None), Send("next", 2), END], ["next", END]
    )
    assert run(graph.compile(), {"number": 1})["log"] == [1, 2]


def test_a_command_of_langgraphs_may_hold_sends_with_time_limits_of_its_own() -> None:
    limit = theirs("TimeoutPolicy", run_timeout=None, idle_timeout=2, refresh_on="auto")
    command = ours(their_command(goto=[theirs("Send", node="next", arg=1, timeout=limit)]))
    assert command.goto == [Send("next", 1, timeout=TimeoutPolicy(idle_timeout=2.0))]


def test_other_values_of_langgraphs_stay_as_they_are() -> None:
    other = theirs("Interrupt", value=1)
    assert ours(other) is other
    assert ours([other])[0] is other


# Our graphs in chains


CHAINS = {
    "after a runnable": lambda: RunnableLambda(lambda number: {"number": number}) | adding(),
    "before a function": lambda: (lambda number: {"number": number}) | (adding(2) | (lambda out: {**out, "number": 5})),
    "between functions": lambda: (lambda number: {"number": number}) | adding() | (lambda out: out),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_graph_is_a_part_of_a_chain(chain: str) -> None:
    made = CHAINS[chain]()
    assert made.invoke(4)["number"] == 5
    assert asyncio.run(made.ainvoke(4))["number"] == 5
    assert [output["number"] for output in made.batch([4, 4])] == [5, 5]


def test_a_graph_runs_beside_others_in_a_parallel_of_langchains() -> None:
    outputs = RunnableParallel(one=adding(1), two=adding(2)).invoke({"number": 1})
    assert [outputs["one"]["number"], outputs["two"]["number"]] == [2, 3]


def test_a_chain_with_a_graph_in_it_is_a_node_and_the_graph_a_part_of_the_run(run: Run) -> None:
    chain = RunnableLambda(lambda state: {"number": state["number"] * 10}) | adding() | (lambda out: out["number"])
    graph = StateGraph(State).add_node("chain", chain | (lambda number: {"log": [number]})).add_edge(START, "chain")
    assert run(graph.compile(), {"number": 1})["log"] == [11]


def test_a_compiled_graph_can_be_called() -> None:
    assert adding()({"number": 1}) == {"number": 2, "log": []}


def test_a_chain_without_langchain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.runnables", None)
    with pytest.raises(MissingExtraError, match="pip install langchain-core"):
        adding() | print
