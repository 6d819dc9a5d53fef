"""What a node declares besides its edges: the keys it reads and writes, and where it is to run."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest

from fanfold.errors import GraphError
from fanfold.kernel.graph import Builder
from fanfold.kernel.plan import Node
from fanfold.kernel.schema import RemainingSteps
from fanfold.types import START
from tests.kernel.playing import final


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    number: int
    left: RemainingSteps


@dataclass
class Model:
    log: Annotated[list[str], operator.add]
    number: int = 0


class Elsewhere:
    async def call(self, function: Any, *args: Any) -> Any:
        return function(*args)


def see(state: Any) -> dict[str, Any]:
    return {"log": sorted(state)}


def one(schema: Any = State, **declared: Any) -> Builder:
    return Builder(schema).add_node("node", see, **declared).add_edge(START, "node")


def planned(**declared: Any) -> Node:
    return one(**declared).plan().nodes["node"]


def test_a_node_that_says_what_it_reads_sees_just_that() -> None:
    given = {"log": ["in"], "number": 1}
    assert final(one(reads=["number"]).plan(), given)["log"] == ["in", "number"]
    assert final(one(reads=["number", "left"]).plan(), given)["log"] == ["in", "left", "number"]
    assert final(one(reads=[]).plan(), given)["log"] == ["in"]
    assert final(one().plan(), given)["log"] == ["in", "left", "log", "number"]


def test_a_single_key_may_be_named_by_itself() -> None:
    assert (planned(reads="number").reads, planned(writes="log").writes) == (("number",), ("log",))


def test_what_a_node_of_a_class_reads_is_a_dictionary_all_the_same() -> None:
    assert final(one(Model, reads=["number"]).plan(), Model([]))["log"] == ["number"]


def test_the_paths_of_a_node_see_what_it_reads() -> None:
    seen: list[Any] = []
    graph = one(reads=["log"]).add_conditional_edges("node", lambda state: seen.append(state) or "__end__")
    final(graph.plan(), {"log": [], "number": 1})
    assert seen == [{"log": ["log"]}]


def test_a_node_that_declares_nothing_says_so() -> None:
    assert (planned().reads, planned().writes) == (None, None)
    assert planned(writes=["log"]).writes == ("log",)


@pytest.mark.parametrize("use", ["reads", "writes"])
def test_a_declared_key_that_the_state_lacks_is_a_problem_of_the_graph(use: str) -> None:
    with pytest.raises(GraphError, match=f"{use}= of node 'node': names key 'numbre'.*did you mean 'number'"):
        one(**{use: ["numbre"]}).plan()


def test_nobody_writes_what_the_engine_fills_in() -> None:
    with pytest.raises(GraphError, match="writes= of node 'node': names key 'left'"):
        one(writes=["left"]).plan()


def test_two_ways_to_say_what_is_read_are_one_too_many() -> None:
    with pytest.raises(GraphError, match="reads= and input_schema="):
        one(reads=["log"], input_schema=State)


@pytest.mark.parametrize(
    ("executor", "on_loop", "stoppable"),
    [(None, False, False), ("loop", True, False), ("thread", False, False), ("process", False, False)],
)
def test_what_runs_on_the_loop_holds_it_up_and_what_runs_elsewhere_cannot_be_stopped(
    executor: str | None, on_loop: bool, stoppable: bool
) -> None:
    action = planned(executor=executor).action
    assert action is not None
    assert (action.on_loop, action.stoppable) == (on_loop, stoppable)


def test_async_code_can_be_stopped_on_the_loop_and_where_a_user_runs_it() -> None:
    async def wait(_: State) -> None: ...

    graph = Builder(State).add_node("here", wait).add_node("there", wait, executor=Elsewhere())
    graph.add_node("thread", wait, executor="thread")
    nodes = graph.add_edge(START, "here").plan().nodes
    stoppable = {name: node.action.stoppable for name, node in nodes.items() if node.action}
    assert stoppable == {"here": True, "there": True, "thread": False}


def test_the_paths_of_a_node_on_the_loop_are_there_too() -> None:
    def paths(executor: str) -> list[Any]:
        graph = one(executor=executor).add_conditional_edges("node", lambda _: "__end__")
        return [route.path.executor for route in graph.plan().nodes["node"].routes]

    assert (paths("loop"), paths("thread")) == (["loop"], [None])


def test_an_executor_that_is_none_is_refused() -> None:
    with pytest.raises(GraphError, match="it is one of 'loop', 'thread', 'process'; did you mean 'process'"):
        one(executor="proces")
    with pytest.raises(TypeError, match="which has no call"):
        one(executor=object())


def test_a_graph_has_no_place_of_its_own() -> None:
    class Graph:
        plan = None

        async def ainvoke(self, state: State) -> None: ...

    (problem,) = one().add_node("inner", Graph(), executor="thread").problems()
    assert problem == "node 'inner' is a graph and has an executor; give one to the nodes inside of it"


def test_what_cannot_run_where_it_is_to_run_is_a_problem_of_the_graph() -> None:
    def asks(state: State, runtime: Any) -> None: ...

    graph = one().add_node("local", lambda _: None, executor="process")
    graph.add_node("asks", asks, executor="process").add_node("late", see, executor="thread", timeout=1)
    graph.add_node("fine", functools.partial(see), executor="process").add_node("late too", see, timeout=1)
    assert [problem.partition(":")[0] for problem in graph.problems()] == [
        "node 'local' runs in a process, where only a function of a module can be found by its name",
        "node 'asks' runs in a process, where only a function of a module can be found by its name",
        "node 'asks' runs in a process and asks for 'runtime', which is not there",
        "node 'late' has a timeout and executor='thread', where what has begun cannot be stopped",
        "node 'late too' has a timeout and is a blocking function; make it async, or leave it out",
    ]


def test_of_a_state_that_is_one_value_nothing_can_be_read_by_key() -> None:
    (problem,) = one(int, reads=["__root__"]).problems()
    assert problem == "reads= of node 'node': the state is one value and has no keys"


def test_a_generator_function_cannot_run_in_a_process() -> None:
    def numbers(state: State) -> Any:
        yield {"number": 1}

    (problem,) = one().add_node("numbers", numbers, executor="process").problems()
    assert problem == "node 'numbers' is a generator function, which cannot run in a process"
