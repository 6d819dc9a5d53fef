"""Graphs inside of graphs: as nodes and as functions, their questions, their state, and their commands."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import (
    END,
    START,
    CachePolicy,
    Command,
    GraphRecursionError,
    InMemoryCache,
    InMemorySaver,
    InvalidUpdateError,
    Limits,
    ParentCommand,
    Send,
    StateGraph,
    entrypoint,
    interrupt,
)
from fanfold.errors import StateError, StepTimeoutError, UsageError
from fanfold.limits import Slots
from tests.langgraph.asking import State, add, ask, thread
from tests.langgraph.conftest import Run


def line(*named: tuple[str, Any], schema: Any = State, **options: Any) -> Any:
    return StateGraph(schema).add_sequence(named).add_edge(START, named[0][0]).compile(**options)


def asking(**options: Any) -> Any:
    return line(("s1", add("s1")), ("s2", ask("?")), ("s3", add("s3")), **options)


def around(inner: Any, **options: Any) -> Any:
    return line(("a", add("a")), ("sub", inner), ("z", add("z")), checkpointer=InMemorySaver(), **options)


def inner_state(graph: Any, *path: int) -> Any:
    state = graph.get_state(thread(), subgraphs=True)
    for task in path or (0,):
        state = state.tasks[task].state
    return state


class Deep(TypedDict, total=False):
    own: Annotated[list[Any], operator.add]


class Memo(TypedDict, total=False):
    q: int
    ys: list[Any]


def remembering() -> Any:
    inner = line(("s", lambda s: {"xs": [len(s["xs"])]}), checkpointer=True)
    graph = StateGraph(Memo).add_node("call", lambda s: {"ys": inner.invoke({"xs": [s["q"]]})["xs"]})
    return graph.add_edge(START, "call").compile(InMemorySaver())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_question_is_answered_at_any_depth(run: Run, depth: int) -> None:
    inner = asking()
    for _ in range(depth - 1):
        inner = line(("deeper", inner))
    graph = line(("sub", inner), checkpointer=InMemorySaver())
    assert run(graph, {"xs": []}, thread())["__interrupt__"][0].value == "?"
    assert inner_state(graph, *[0] * depth).next == ("s2",)
    assert run(graph, Command(resume="x"), thread())["xs"] == ["s1", "x", "s3"]


def test_what_an_inner_graph_had_finished_is_not_run_again(run: Run) -> None:
    ran: list[str] = []
    inner = line(("s1", lambda _: ran.append("s1")), ("s2", lambda _: ran.append("s2") or {"xs": [interrupt("?")]}))
    graph = around(inner)
    run(graph, {"xs": []}, thread())
    run(graph, Command(resume="x"), thread())
    assert ran == ["s1", "s2", "s2"]


def test_a_graph_that_a_node_calls_is_a_function(run: Run) -> None:
    inner = asking()

    def call(_: State) -> State:
        first = interrupt("before")
        middle = inner.invoke({"xs": ["c"]})["xs"]
        return {"xs": [first, middle, interrupt("after")]}

    graph = line(("call", call), checkpointer=InMemorySaver())
    run(graph, {"xs": []}, thread())
    assert run(graph, Command(resume=1), thread())["__interrupt__"][0].value == "?"
    assert inner_state(graph).values == {"xs": ["c", "s1"]}
    assert run(graph, Command(resume=2), thread())["__interrupt__"][0].value == "after"
    assert run(graph, Command(resume=3), thread()) == {"xs": [1, ["c", "s1", 2, "s3"], 3]}


def test_a_graph_may_be_called_several_times_by_one_node(run: Run) -> None:
    inner = line(("s", lambda s: {"xs": [interrupt(s["n"])]}))
    graph = line(
        ("call", lambda _: {"xs": [inner.invoke({"xs": [], "n": n})["xs"] for n in range(2)]}),
        checkpointer=InMemorySaver(),
    )
    run(graph, {"xs": []}, thread())
    run(graph, Command(resume="a"), thread())
    assert run(graph, Command(resume="b"), thread()) == {"xs": [["a"], ["b"]]}


def test_an_entrypoint_may_be_called_by_another(run: Run) -> None:
    @entrypoint()
    def inner(word: str) -> str:
        return word + str(interrupt("?"))

    @entrypoint(checkpointer=InMemorySaver())
    def outer(word: str) -> str:
        return inner.invoke(word) + "!"

    run(outer, "a", thread())
    assert run(outer, Command(resume="b"), thread()) == "ab!"


def test_inner_graphs_that_run_beside_each_other_are_answered_in_any_order(run: Run) -> None:
    class Part(TypedDict, total=False):
        k: int
        xs: Annotated[list[Any], operator.add]

    inner = line(("w", lambda s: {"xs": [f"{s['k']}{interrupt(s['k'])}"]}), schema=Part)
    graph = StateGraph(State).add_node("sub", inner)
    app = graph.add_conditional_edges(START, lambda _: [Send("sub", {"k": k}) for k in range(3)]).compile(
        InMemorySaver()
    )
    run(app, {"xs": []}, thread())
    for k in (2, 0, 1):
        ids = {each.value: each.id for each in app.get_state(thread()).interrupts}
        output = run(app, Command(resume={ids[k]: "!"}), thread())
    assert output == {"xs": ["0!", "1!", "2!"]}


def test_shared_keys_are_handed_over_and_own_ones_are_not(run: Run) -> None:
    class Inner(TypedDict, total=False):
        n: int
        own: int

    inner = line(("s", lambda s: {"own": 1, "n": s["n"] + 1}), schema=Inner)
    assert run(line(("sub", inner)), {"n": 1, "xs": ["i"]}) == {"n": 2, "xs": ["i"]}


def test_an_inner_graph_need_not_share_a_key(run: Run) -> None:
    class Inner(TypedDict, total=False):
        own: int

    assert run(line(("sub", line(("s", lambda _: {"own": 1}), schema=Inner))), {"xs": ["i"]}) == {"xs": ["i"]}


def test_a_shared_key_that_adds_up_has_the_outer_values_twice(run: Run) -> None:
    assert run(around(line(("s", add("s")))), {"xs": ["i"]}, thread()) == {"xs": ["i", "a", "i", "a", "s", "z"]}


def test_an_inner_graph_forgets_unless_it_was_given_a_memory(run: Run) -> None:
    graph = remembering()
    outputs = [run(graph, {"q": q}, thread())["ys"] for q in (1, 2)]
    assert outputs == [[1, 1], [1, 1, 2, 3]]
    forgetful = line(("s", lambda s: {"xs": [len(s["xs"])]}))
    graph = line(("call", lambda _: {"xs": [forgetful.invoke({"xs": ["c"]})["xs"]]}), checkpointer=InMemorySaver())
    run(graph, {"xs": []}, thread())
    assert run(graph, {"xs": []}, thread()) == {"xs": [["c", 1], ["c", 1]]}


def test_an_inner_graph_forgets_what_it_came_to_in_another_branch_of_the_thread(run: Run) -> None:
    inner = line(("s", lambda s: {"xs": [len(s["xs"])]}))
    graph = StateGraph(State).add_node("call", lambda s: {"n": s["n"] + 1, "xs": [inner.invoke({"xs": ["c"]})["xs"]]})
    graph.add_conditional_edges("call", lambda s: "call" if s["n"] < 3 else END)
    app = graph.add_edge(START, "call").compile(InMemorySaver())
    output = run(app, {"xs": [], "n": 0}, thread())
    assert output["xs"] == [["c", 1]] * 3
    earlier = [snapshot for snapshot in app.get_state_history(thread()) if snapshot.next]
    for snapshot in earlier:  # a step of the new branch has tasks of the same ids as that step had before
        assert run(app, None, snapshot.config) == output


@pytest.mark.parametrize(
    ("outer", "inner", "seen"),
    [
        (None, None, [0, 0]),
        (None, True, [0, 1]),
        (True, True, [0, 1]),
        (False, True, [0, 1]),
        (False, None, [0, 0]),
        (True, False, [0, 0]),
    ],
)
def test_a_graph_that_remembers_does_so_at_any_depth(run: Run, outer: Any, inner: Any, seen: list[int]) -> None:
    found: list[int] = []

    def node(state: Deep) -> Deep:
        found.append(len(state.get("own", [])))
        return {"own": ["x"]}

    deep = line(("s", node), schema=Deep, checkpointer=inner)
    graph = around(line(("deep", deep), checkpointer=outer))
    run(graph, {"xs": []}, thread())
    run(graph, {"xs": []}, thread())
    assert found == seen


def test_the_place_of_a_graph_that_remembers_is_its_nodes_names(run: Run, stream: Run) -> None:
    graph = around(line(("deep", asking(checkpointer=True))))
    spaces = [space for space, _ in stream(graph, {"xs": []}, thread(), subgraphs=True)]
    assert ("sub", "deep") in spaces
    assert inner_state(graph, 0, 0).config["configurable"]["checkpoint_ns"] == "sub|deep"
    assert inner_state(graph, 0, 0).next == ("s2",)
    assert run(graph, Command(resume="x"), thread())["xs"][-2:] == ["s3", "z"]


def test_a_graph_inside_of_one_that_keeps_nothing_begins_anew(run: Run) -> None:
    ran: list[str] = []
    deep = line(("s1", lambda _: ran.append("s1")), ("s2", ask("?")))
    graph = around(line(("deep", deep), checkpointer=False))
    run(graph, {"xs": []}, thread())
    assert run(graph, Command(resume="x"), thread()) == {"xs": ["a", "a", "a", "x", "z"]}
    assert ran == ["s1", "s1"]


def test_a_graph_that_an_entrypoint_calls_is_found_by_it(run: Run) -> None:
    inner = asking()

    @entrypoint(checkpointer=InMemorySaver())
    def flow(value: str) -> Any:
        return inner.invoke({"xs": [value]})["xs"]

    run(flow, "i", thread())
    assert inner_state(flow).next == ("s2",)
    assert run(flow, Command(resume="x"), thread()) == ["i", "s1", "x", "s3"]


def test_a_branch_of_an_earlier_time_remembers_what_was_known_then(run: Run) -> None:
    graph = remembering()
    for q in (1, 2, 3):
        run(graph, {"q": q}, thread())
    places = [state.config for state in graph.get_state_history(thread()) if state.next == ("call",)]
    assert run(graph, None, places[1])["ys"] == [1, 1, 2, 3]
    assert run(graph, {"q": 9}, thread())["ys"] == [1, 1, 2, 3, 9, 5]
    assert run(graph, None, places[2])["ys"] == [1, 1]


def test_only_an_inner_graph_can_use_another_s_store(run: Run) -> None:
    with pytest.raises(StateError, match="inside of another one"):
        run(line(("s", add("s")), checkpointer=True), {"xs": []}, thread())


def test_a_graph_without_a_checkpointer_of_its_own_is_found_by_its_node() -> None:
    inner = asking()
    called = line(("call", lambda _: inner.invoke({"xs": []})))
    graph = around(line(("inner", inner), ("other", line(("s", add("s")), checkpointer=False))))
    assert [name for name, _ in called.get_subgraphs()] == ["call"]
    assert [name for name, _ in graph.get_subgraphs(recurse=True)] == ["sub", "sub|inner"]
    assert [name for name, _ in graph.get_subgraphs(namespace="sub|inner", recurse=True)] == ["sub|inner"]
    assert list(graph.get_subgraphs(namespace="sub|inner")) == []

    async def names() -> list[str]:
        return [name async for name, _ in graph.aget_subgraphs()]

    assert asyncio.run(names()) == ["sub"]


def test_an_inner_graph_has_a_history_of_its_own(run: Run) -> None:
    graph = around(asking())
    run(graph, {"xs": []}, thread())
    place = graph.get_state(thread()).tasks[0].state
    assert [state.next for state in graph.get_state_history(place)] == [("s2",), ("s1",), ("__start__",)]
    assert graph.get_state(place).metadata["parents"] == {
        "": graph.get_state(thread()).config["configurable"]["checkpoint_id"]
    }


@pytest.mark.parametrize(
    ("as_node", "output"),
    [(None, ["a", "a", "s1", "U", "x", "s3", "z"]), ("s2", ["a", "a", "s1", "U", "s3", "z"])],
)
def test_the_state_of_an_inner_graph_can_be_changed(run: Run, as_node: str | None, output: list[str]) -> None:
    graph = around(asking())
    run(graph, {"xs": []}, thread())
    graph.update_state(inner_state(graph).config, {"xs": ["U"]}, as_node=as_node)
    assert inner_state(graph).values == {"xs": ["a", "s1", "U"]}
    assert run(graph, Command(resume="x"), thread()) == {"xs": output}


def test_a_run_may_begin_at_a_step_of_an_inner_graph(run: Run) -> None:
    graph = around(line(("s1", ask(1)), ("s2", ask(2))))
    run(graph, {"xs": []}, thread())
    place = graph.get_state(thread()).tasks[0].state
    run(graph, Command(resume="first"), thread())
    (there,) = [state.config for state in graph.get_state_history(place) if state.next == ("s1",)]
    assert run(graph, None, there)["__interrupt__"][0].value == 1
    assert run(graph, Command(resume="again"), thread())["__interrupt__"][0].value == 2
    assert run(graph, Command(resume="x"), thread())["xs"] == ["a", "a", "again", "x", "z"]


@pytest.mark.parametrize("memory", [None, True])
def test_a_change_of_an_inner_graph_that_has_ended_is_answered_there(run: Run, memory: Any) -> None:
    graph = around(asking(checkpointer=memory))
    run(graph, {"xs": []}, thread())
    place = inner_state(graph).config
    assert run(graph, Command(resume="x"), thread())["xs"] == ["a", "a", "s1", "x", "s3", "z"]
    changed = graph.update_state(place, {"xs": ["U"]})
    assert run(graph, None, changed)["__interrupt__"][0].value == "?"
    assert run(graph, Command(resume="y"), changed)["xs"] == ["a", "a", "s1", "U", "y", "s3", "z"]


def test_a_run_from_before_an_inner_graph_begins_it_anew(run: Run) -> None:
    ran: list[str] = []
    graph = around(line(("s1", lambda _: ran.append("s1")), ("s2", lambda _: ran.append("s2"))))
    run(graph, {"xs": []}, thread())
    (there,) = [state.config for state in graph.get_state_history(thread()) if state.next == ("sub",)]
    run(graph, None, there)
    assert ran == ["s1", "s2"] * 2


def test_an_inner_graph_stops_where_it_was_asked_to(run: Run, stream: Run) -> None:
    graph = around(line(("s1", add("s1")), ("s2", add("s2")), interrupt_before=["s2"]))
    chunks = stream(graph, {"xs": []}, thread(), subgraphs=True)
    assert (chunks[-1], chunks[1][1]) == (((), {"__interrupt__": ()}), {"s1": {"xs": ["s1"]}})
    assert inner_state(graph).next == ("s2",)
    assert run(graph, None, thread()) == {"xs": ["a", "a", "s1", "s2", "z"]}
    told = [
        chunk for chunk in stream(graph, {"xs": []}, thread("other"), stream_mode="tasks") if chunk["name"] == "sub"
    ]
    assert ["input" in chunk for chunk in told] == [True]  # it has begun, and has come to nothing


def to_parent(**command: Any) -> Callable[[State], Command]:
    return lambda _: Command(graph=Command.PARENT, **command)


@pytest.mark.parametrize("kind", [InvalidUpdateError, ParentCommand, Exception])
def test_a_command_for_a_graph_around_needs_one(run: Run, kind: type[BaseException]) -> None:
    with pytest.raises(kind, match="there is none") as stray:
        run(line(("s", to_parent(goto="b"))), {"xs": []})
    assert stray.value.command.goto == "b"


@pytest.mark.parametrize("called", [False, True])
def test_a_command_for_the_graph_around_ends_the_inner_one(run: Run, called: bool) -> None:
    inner = line(("s1", add("s1")), ("s2", to_parent(goto="b", update={"xs": ["up"]})), ("s3", add("s3")))
    node = (lambda state: inner.invoke(state)) if called else inner
    graph = StateGraph(State).add_node("sub", node).add_node("b", add("b")).add_edge(START, "sub").compile()
    assert run(graph, {"xs": ["i"]}) == {"xs": ["i", "up", "b"]}


def test_a_command_reaches_the_nearest_graph_around(run: Run) -> None:
    deep = line(("s", to_parent(goto=[Send("w", {"n": 1}), Send("w", {"n": 2})])))
    middle = StateGraph(State).add_node("deep", deep).add_node("w", lambda s: {"xs": [s["n"]]})
    assert run(line(("middle", middle.add_edge(START, "deep").compile())), {"xs": []}) == {"xs": [1, 2]}


def test_a_command_for_the_graph_around_may_loop(run: Run) -> None:
    inner = line(("s", lambda s: to_parent(goto="sub" if len(s["xs"]) < 3 else END, update={"xs": ["s"]})(s)))
    graph = StateGraph(State).add_node("sub", inner).add_edge(START, "sub").compile(InMemorySaver())
    assert run(graph, {"xs": []}, thread()) == {"xs": ["s", "s", "s", "s"]}


def test_a_failed_inner_graph_goes_on_with_what_had_finished(run: Run) -> None:
    failures, ran = [ValueError("once")], []

    def bad(_: State) -> State:
        if failures:
            raise failures.pop()
        return {"xs": ["bad"]}

    graph = around(line(("ok", lambda _: ran.append("ok")), ("bad", bad)))
    with pytest.raises(ValueError, match="once"):
        run(graph, {"xs": []}, thread())
    assert run(graph, None, thread())["xs"] == ["a", "a", "bad", "z"]
    assert ran == ["ok"]


# Config and options of a call inside a node

OUTER: dict[str, Any] = {
    "configurable": {"a": 1, "both": "outer"},
    "metadata": {"m": 1, "both": "outer"},
    "tags": ["outer"],
    "recursion_limit": 30,
}
INNER: dict[str, Any] = {
    "configurable": {"b": 2, "both": "inner"},
    "metadata": {"n": 2, "both": "inner"},
    "tags": ["inner"],
    "recursion_limit": 7,
}


def see(_: State, config: dict[str, Any]) -> State:
    values, told = config["configurable"], config["metadata"]
    seen = [values.get(key) for key in ("a", "b", "both")], [told.get(key) for key in ("m", "n", "both")]
    return {"xs": [*seen, config.get("tags"), config["recursion_limit"]]}


BOTH = [[1, 2, "inner"], [1, 2, "inner"], ["outer", "inner"], 7]


def test_the_config_of_an_inner_call_is_merged_into_the_run_s(run: Run) -> None:
    inner = line(("s", see))
    assert run(line(("call", lambda _: inner.invoke({"xs": []}, INNER))), {"xs": []}, OUTER)["xs"] == BOTH


def test_the_config_of_an_inner_stream_is_merged_into_the_run_s(run: Run) -> None:
    inner = line(("s", see))
    graph = line(("call", lambda _: list(inner.stream({"xs": []}, INNER, stream_mode="values"))[-1]))
    assert run(graph, {"xs": []}, OUTER)["xs"] == BOTH


def test_the_config_of_an_inner_call_holds_for_the_graphs_further_in(run: Run) -> None:
    deep = line(("s", see))
    inner = line(("s", lambda _: deep.invoke({"xs": []})))
    assert run(line(("call", lambda _: inner.invoke({"xs": []}, INNER))), {"xs": []}, OUTER)["xs"] == BOTH


def test_the_config_of_an_inner_call_does_not_leak_out_of_it(run: Run) -> None:
    inner = line(("s", see))

    def call(state: State, config: dict[str, Any]) -> State:
        inner.invoke({"xs": []}, INNER)
        return see(state, config)

    alone = [[1, None, "outer"], [1, None, "outer"], ["outer"], 30]
    assert run(line(("call", call), ("after", see)), {"xs": []}, OUTER)["xs"] == alone * 2


def test_a_bound_config_holds_where_the_graph_is_called(run: Run) -> None:
    inner = line(("s", see)).with_config(INNER)
    assert run(line(("call", lambda _: inner.invoke({"xs": []}))), {"xs": []}, OUTER)["xs"] == BOTH


def test_a_bound_config_of_a_node_yields_to_that_of_the_run(run: Run) -> None:
    graph = line(("sub", line(("s", see)).with_config(INNER)))
    assert run(graph, {"xs": []}, OUTER)["xs"] == [[1, 2, "outer"], [1, 2, "outer"], ["outer", "inner"], 30]


def test_a_config_that_is_handed_on_says_nothing_of_the_node_that_did(run: Run) -> None:
    inner = line(("s", see), checkpointer=True)

    def call(_: State, config: dict[str, Any]) -> State:
        return inner.invoke({"xs": []}, config)

    graph = line(("call", call), checkpointer=InMemorySaver())
    run(graph, {"xs": []}, {**thread(), "metadata": {"m": 1}})
    kept = graph.get_state({"configurable": {"thread_id": "t", "checkpoint_ns": "call"}}).metadata
    assert kept["m"] == 1
    assert not [key for key in kept if key.startswith("langgraph_")]


def test_an_inner_call_has_a_recursion_limit_of_its_own(run: Run) -> None:
    endless = StateGraph(State).add_node("s", add("s")).add_edge(START, "s").add_edge("s", "s").compile()

    def call(_: State) -> State:
        with pytest.raises(GraphRecursionError, match="4"):
            endless.invoke({"xs": []}, {"recursion_limit": 4})
        return {"xs": ["stopped"]}

    assert run(line(("call", call)), {"xs": []}) == {"xs": ["stopped"]}


def test_an_unknown_option_of_an_inner_call_is_named(run: Run) -> None:
    inner = line(("s", add("s")))
    with pytest.raises(UsageError, match=r"'recursion_limt'.*recursion_limit"):
        run(line(("call", lambda _: inner.invoke({"xs": []}, recursion_limt=3))), {"xs": []})


@pytest.mark.parametrize("option", [{"run_id": "r"}, {"on_busy": "reject"}, {"durability": "exit"}, {"model": "m"}])
def test_an_option_for_a_whole_run_is_refused_inside_of_one(run: Run, option: dict[str, Any]) -> None:
    inner = line(("s", add("s")))
    graph = line(("call", lambda _: inner.invoke({"xs": []}, **option)), checkpointer=InMemorySaver())
    with pytest.raises(UsageError, match=rf"{next(iter(option))}=.* is for a whole run.*'call'"):
        run(graph, {"xs": []}, thread())


def test_an_inner_call_may_say_how_durable_it_is(run: Run) -> None:
    inner = line(("s", add("s")))
    graph = line(("call", lambda _: inner.invoke({"xs": []}, durability="sync")), checkpointer=InMemorySaver())
    assert run(graph, {"xs": []}, thread()) == {"xs": ["s"]}


# What an inner graph has of its own


class Counting:
    """Branches that count how many of them are busy at once."""

    def __init__(self) -> None:
        self.busy = self.peak = 0

    async def work(self, _: State) -> None:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        for _ in range(5):
            await asyncio.sleep(0)
        self.busy -= 1

    def graph(self, **options: Any) -> Any:
        graph = StateGraph(State)
        for name in "abcd":
            graph.add_node(name, self.work).add_edge(START, name)
        return graph.compile(**options)


def test_the_limit_of_an_inner_graph_holds_inside_of_it(run: Run) -> None:
    counting = Counting()
    run(line(("sub", counting.graph(limits=Limits(max_concurrency=2)))), {"xs": []})
    assert counting.peak == 2


def test_an_inner_call_may_limit_itself(run: Run) -> None:
    counting = Counting()
    inner = counting.graph()
    run(line(("call", lambda _: inner.invoke({"xs": []}, max_concurrency=1))), {"xs": []})
    assert counting.peak == 1


def test_the_limit_of_the_run_holds_over_those_inside_of_it(run: Run) -> None:
    counting, graph = Counting(), StateGraph(State)
    for name in "xyz":
        graph.add_node(name, counting.graph(limits=Limits(max_concurrency=2))).add_edge(START, name)
    run(graph.compile(), {"xs": []}, max_concurrency=3)
    assert counting.peak == 3


def test_limits_inside_of_limits_let_everything_through(run: Run) -> None:
    counting = Counting()
    graph = counting.graph(limits=Limits(max_concurrency=1))
    for depth in (2, 3, 2):
        graph = line(("s", graph), ("call", lambda _, inner=graph: inner.invoke({"xs": []})), limits=Limits(depth))
    run(graph, {"xs": []}, max_concurrency=4)
    assert (counting.busy, counting.peak) == (0, 1)


def test_an_inner_graph_may_let_the_siblings_of_a_failed_node_finish(run: Run) -> None:
    ran = []

    async def slow(_: State) -> None:
        await asyncio.sleep(0.01)
        ran.append("slow")

    def bad(_: State) -> None:
        raise ValueError("bad")

    inner = StateGraph(State).add_node("bad", bad).add_node("slow", slow).add_edge(START, "bad").add_edge(START, "slow")
    with pytest.raises(ValueError, match="bad"):
        run(line(("sub", inner.compile(on_error="finish"))), {"xs": []})
    assert ran == ["slow"]


def test_an_inner_graph_may_have_a_cache_of_its_own(run: Run) -> None:
    calls = []
    inner = StateGraph(State).add_node("s", lambda s: calls.append(s["n"]), cache_policy=CachePolicy())
    graph = line(("sub", inner.add_edge(START, "s").compile(cache=InMemoryCache())))
    for number in (1, 2, 1):
        run(graph, {"n": number})
    assert calls == [1, 2]


def test_an_inner_graph_may_have_a_step_timeout_of_its_own(run: Run) -> None:
    async def endless(_: State) -> None:
        await asyncio.Event().wait()

    inner = line(("s", endless))
    inner.step_timeout = 0.01
    with pytest.raises(StepTimeoutError):
        run(line(("sub", inner)), {"xs": []})


def test_a_bound_limit_of_a_node_holds_inside_of_it(run: Run) -> None:
    counting = Counting()
    run(line(("sub", counting.graph().with_config(max_concurrency=1))), {"xs": []}, {"max_concurrency": 3})
    assert counting.peak == 1


def test_who_gives_up_waiting_for_the_run_s_slot_gives_its_own_back() -> None:
    async def go() -> None:
        shared = Slots(1)
        own = Slots(1, within=shared)
        await shared.take()
        first, second = asyncio.create_task(own.take()), asyncio.create_task(own.take())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        shared.give()
        assert await second
        assert (own.held, shared.held, own.take_nowait()) == (1, 1, False)
        own.give()
        assert (own.held, shared.held) == (0, 0)
        assert own.take_nowait()

    asyncio.run(go())


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_graph_that_remembers_does_so_within_a_run_however_that_is_stored(run: Run, durability: str) -> None:
    inner = line(("s", lambda s: {"xs": [len(s["xs"])]}), checkpointer=True)
    graph = StateGraph(State).add_node("call", lambda _: {"n": inner.invoke({"xs": ["q"]})["xs"][-1]})
    graph.add_edge(START, "call").add_conditional_edges("call", lambda s: END if s["n"] > 4 else "call")
    assert run(graph.compile(InMemorySaver()), {"xs": []}, thread(), durability=durability) == {"xs": [], "n": 5}
