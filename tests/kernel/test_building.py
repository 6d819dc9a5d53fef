"""What a builder accepts, and what it says to what it does not."""

from __future__ import annotations

import functools
import operator
from datetime import timedelta
from typing import Annotated, Any, Literal, TypedDict

import pytest

from fanfold.errors import GraphError
from fanfold.kernel.channels import BinaryOperatorAggregate
from fanfold.kernel.graph import Builder, name_of
from fanfold.kernel.plan import Action
from fanfold.types import END, START, CachePolicy, Command, RetryPolicy, Send, TimeoutPolicy
from tests.kernel.playing import final, names


class State(TypedDict):
    log: Annotated[list[str], operator.add]


class Plain(TypedDict):
    log: list[str]
    extra: int


class Other(TypedDict):
    log: Annotated[list[str], operator.or_]


class In(TypedDict):
    question: str


class Out(TypedDict):
    answer: str


class Whole(In, Out):
    note: str


class Private(TypedDict):
    secret: str


class Wide(State):
    more: int


def say(word: str) -> Any:
    return lambda _: {"log": [word]}


def lettered(*letters: str) -> Builder:
    """A graph with a node for each letter, which logs that letter, and no edge."""
    graph = Builder(State)
    for letter in letters:
        graph.add_node(letter, say(letter))
    return graph


def first(state: State) -> dict[str, Any]:
    return {"log": ["first"]}


class Caller:
    def __call__(self, state: State) -> dict[str, Any]:
        return {"log": ["caller"]}


class Named(Caller):
    name = "christened"


# Nodes


@pytest.mark.parametrize(
    ("action", "name"),
    [(first, "first"), (functools.partial(first), "first"), (Caller(), "Caller"), (Named(), "christened")],
)
def test_a_node_is_named_after_what_it_runs(action: Any, name: str) -> None:
    graph = Builder(State).add_node(action).add_edge(START, name)
    assert names(graph.plan(), {"log": []}) == [[name]]


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(GraphError, match="node 'a' is there already"):
        lettered("a").add_node("a", first)


@pytest.mark.parametrize("name", [START, END])
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        Builder(State).add_node(name, first)


@pytest.mark.parametrize("name", ["a|b", "a:b"])
def test_a_name_with_a_separator_of_task_paths_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="separates the parts"):
        Builder(State).add_node(name, first)


@pytest.mark.parametrize("action", [None, 7])
def test_a_node_that_cannot_be_called_is_refused(action: Any) -> None:
    with pytest.raises(TypeError, match=r"node 'a' is .*, which cannot be called"):
        Builder(State).add_node("a", action)


def test_async_functions_are_recognised_behind_partials_and_objects() -> None:
    async def slow(state: State) -> None: ...

    class Slow:
        async def __call__(self, state: State) -> None: ...

    graph = Builder(State).add_node("f", slow).add_node("p", functools.partial(slow)).add_node("o", Slow())
    plan = graph.add_node("s", first).add_node("c", Caller()).add_edge(START, "f").plan()
    assert {name for name, node in plan.nodes.items() if node.action and node.action.is_async} == {"f", "p", "o"}


# Edges


def test_an_edge_that_is_added_twice_is_one_edge() -> None:
    graph = lettered("a", "b").add_edge(START, "a").add_edge("a", "b").add_edge("a", "b")
    assert final(graph.plan(), {"log": []}) == {"log": ["a", "b"]}


def test_an_edge_out_of_end_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="END cannot be the start"):
        lettered("a").add_edge(END, "a")


def test_an_edge_into_start_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="START cannot be the end of an edge from 'a'"):
        lettered("a").add_edge("a", START)


def test_a_join_of_nothing_is_refused() -> None:
    with pytest.raises(GraphError, match="waits for no node"):
        lettered("a").add_edge([], "a")


def test_start_cannot_be_a_member_of_a_join() -> None:
    with pytest.raises(ValueError, match="waits for START"):
        lettered("a", "b").add_edge([START, "a"], "b")


def test_end_cannot_be_a_member_of_a_join() -> None:
    with pytest.raises(ValueError, match="END cannot be the start"):
        lettered("a", "b").add_edge(["a", END], "b")


def test_a_join_into_end_ends_its_branch() -> None:
    graph = lettered("a", "b").add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], END)
    assert final(graph.plan(), {"log": []}) == {"log": ["a", "b"]}


def test_entry_and_finish_points_are_edges() -> None:
    graph = lettered("a", "b").set_entry_point("a").add_edge("a", "b").set_finish_point("b")
    assert names(graph.plan(), {"log": []}) == [["a"], ["b"]]


def test_a_sequence_is_nodes_with_an_edge_from_each_to_the_next() -> None:
    graph = Builder(State).add_sequence([first, ("b", say("b")), ("c", say("c"))]).add_edge(START, "first")
    assert names(graph.plan(), {"log": []}) == [["first"], ["b"], ["c"]]


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(GraphError, match="at least one node"):
        Builder(State).add_sequence([])


# Conditional edges


def to_b(state: State) -> Any:
    return "b"


def test_two_conditions_of_one_name_on_one_node_are_refused() -> None:
    graph = lettered("a", "b").add_conditional_edges("a", to_b)
    with pytest.raises(ValueError, match="node 'a' has a conditional edge named 'to_b' already"):
        graph.add_conditional_edges("a", to_b)


def test_one_condition_can_serve_two_nodes() -> None:
    graph = lettered("a", "b", "c").add_edge(START, "a").add_edge("a", "c")
    graph.add_conditional_edges("a", to_b).add_conditional_edges("c", to_b)
    assert names(graph.plan(), {"log": []}) == [["a"], ["b", "c"], ["b"]]


def test_a_conditional_edge_out_of_end_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="END cannot be the start"):
        lettered("b").add_conditional_edges(END, to_b)


def test_a_path_map_into_start_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="START cannot be the end of an edge from 'a'"):
        lettered("a").add_conditional_edges("a", to_b, {"b": START})


# The whole


def test_every_problem_is_reported_at_once_with_the_name_that_was_meant() -> None:
    def astray(state: State) -> Literal["brvao", "__end__"]:
        return "brvao"

    graph = Builder(State).add_node("alpha", say("a")).add_node("bravo", say("b"))
    graph.add_edge("alpha", "bravvo").add_edge(["alpha", "brava"], "alhpa")
    graph.add_conditional_edges("alhpa", to_b, {"b": "nowhere", "also b": "nowhere"})
    graph.add_conditional_edges("alpha", astray)
    with pytest.raises(GraphError) as caught:
        graph.plan()
    assert caught.value.problems == (
        "edge 'alpha' -> 'bravvo': names node 'bravvo', which does not exist; did you mean 'bravo'?",
        "join ['alpha', 'brava'] -> 'alhpa': names node 'brava', which does not exist; did you mean 'bravo'?",
        "join ['alpha', 'brava'] -> 'alhpa': names node 'alhpa', which does not exist; did you mean 'alpha'?",
        "conditional edge 'to_b' of 'alhpa': names node 'alhpa', which does not exist; did you mean 'alpha'?",
        "conditional edge 'to_b' of 'alhpa': names node 'nowhere', which does not exist",
        "conditional edge 'astray' of 'alpha': names node 'brvao', which does not exist; did you mean 'bravo'?",
        "nothing leaves START, so no node would ever run; add_edge(START, 'first node')",
    )
    assert "the graph has 7 problems" in str(caught.value)


def test_a_source_of_an_unlimited_condition_must_exist() -> None:
    graph = lettered("a").add_edge(START, "a").add_conditional_edges("zz", to_b)
    assert graph.problems() == ("conditional edge 'to_b' of 'zz': names node 'zz', which does not exist",)


def test_a_conditional_edge_is_a_way_in() -> None:
    assert names(lettered("b").add_conditional_edges(START, to_b).plan(), {"log": []}) == [["b"]]


def test_a_plan_does_not_change_with_its_builder() -> None:
    graph = lettered("a").add_edge(START, "a")
    plan = graph.plan()
    graph.add_node("b", say("b")).add_edge("a", "b")
    assert names(plan, {"log": []}) == [["a"]]


def test_the_digest_tells_shapes_apart_and_not_the_code_of_nodes() -> None:
    def digest(graph: Builder) -> str:
        return graph.plan().digest()

    plain = digest(lettered("a", "b").add_edge(START, "a"))
    assert digest(Builder(State).add_node("b", first).add_node("a", first).add_edge(START, "a")) == plain
    others = [
        lettered("a", "b").add_edge(START, "b"),
        lettered("a", "c").add_edge(START, "a"),
        lettered("a", "b").add_edge(START, "a").add_edge(["a"], "b"),
        lettered("a", "b").add_edge(START, "a").add_conditional_edges("a", to_b),
        Builder(TypedDict("Other", {"lag": int})).add_node("a", first).add_node("b", first).add_edge(START, "a"),
    ]
    assert len({plain, *map(digest, others)}) == 6


# Keys of several schemas


def test_keys_of_all_schemas_are_merged_and_a_reducer_wins_over_a_plain_key() -> None:
    def node(state: Plain) -> dict[str, Any]:
        return {"log": ["n"], "extra": 1}

    for graph in (Builder(State).add_node("n", node), Builder(Plain, output_schema=State).add_node("n", first)):
        channels = graph.add_edge(START, "n").plan().channels
        assert set(channels) == {"log", "extra"}
        assert isinstance(channels["log"], BinaryOperatorAggregate)


def test_one_key_with_two_reducers_is_refused() -> None:
    def node(state: Other) -> None: ...

    with pytest.raises(GraphError, match="key 'log' is declared twice, with different reducers"):
        Builder(State).add_node("n", node)


def test_input_and_output_schemas_are_named() -> None:
    with pytest.raises(TypeError, match="positional"):
        Builder(State, None, State)  # type: ignore[misc]


def test_input_sets_the_keys_of_the_input_schema_and_output_has_those_of_the_output_schema() -> None:
    def node(state: Whole) -> dict[str, Any]:
        return {"answer": f"{state['question']}, {sorted(state)}", "note": "n"}

    graph = Builder(Whole, input_schema=In, output_schema=Out).add_node("n", node).add_edge(START, "n")
    value = {"question": "q", "note": "not of the input", "answer": "nor this"}
    assert final(graph.plan(), value) == {"answer": "q, ['question']"}


def test_a_private_key_is_seen_by_the_nodes_that_declare_it_and_not_in_the_output() -> None:
    def writer(state: State) -> dict[str, Any]:
        return {"secret": "s", "log": [str(sorted(state))]}

    def reader(state: Private) -> dict[str, Any]:
        return {"log": [str(state)]}

    graph = Builder(State).add_node(writer).add_node(reader).add_edge(START, "writer").add_edge("writer", "reader")
    assert final(graph.plan(), {"log": []}) == {"log": ["['log']", "{'secret': 's'}"]}


def test_a_path_sees_the_keys_that_it_declares() -> None:
    seen = []

    def path(state: State) -> Any:
        seen.append(state)
        return Send("b", state)

    graph = Builder(Wide).add_node("a", say("a")).add_node("b", say("b"))
    final(graph.add_edge(START, "a").add_conditional_edges("a", path).plan(), {"log": [], "more": 1})
    assert seen == [{"log": ["a"]}]


# Anything that can be called


class Runnable:
    name = "runnable"

    def invoke(self, state: State, config: Any) -> Any:
        return {"log": [f"invoked with {config}"]}


class AsyncRunnable(Runnable):
    async def ainvoke(self, state: State, config: Any) -> Any:
        return {"log": [f"awaited with {config}"]}

    def get_name(self) -> str:
        return "named by itself"


def action_of(code: Any, **options: Any) -> Action:
    """How a builder would call `code` as a node."""
    graph = Builder(State).add_node("n", code, **options).add_edge(START, "n")
    action = graph.plan().nodes["n"].action
    assert action is not None
    return action


def test_what_has_invoke_is_called_with_a_config_and_awaited_where_it_can_be() -> None:
    blocking, awaited = action_of(Runnable()), action_of(AsyncRunnable())
    assert (blocking.is_async, awaited.is_async) == (False, True)
    assert blocking.asks == awaited.asks == {"config": "config"}
    assert blocking.function({}, "c") == {"log": ["invoked with c"]}
    assert run(awaited.function({}, "c")) == {"log": ["awaited with c"]}
    assert [name_of(code) for code in (Runnable(), AsyncRunnable())] == ["runnable", "named by itself"]


def run(coroutine: Any) -> Any:
    """The value of a coroutine that waits for nothing: the kernel's tests have no event loop."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


class Compiled:
    """A graph as the builder sees one."""

    plan = "its plan"

    async def ainvoke(self, state: Any) -> None: ...


def test_a_compiled_graph_is_kept_as_such_and_asks_for_nothing() -> None:
    graph = Compiled()
    action = action_of(graph)
    assert (action.graph, action.is_async, action.asks, action.declared) == (graph, True, {}, False)


def test_a_generator_returns_what_it_has_yielded_added_up_where_that_can_be_added() -> None:
    def numbers(state: State) -> Any:
        yield from (1, 2, 3)

    def dictionaries(state: State) -> Any:
        yield {"log": ["first"]}
        yield {"log": ["last"]}

    async def words(state: State) -> Any:
        for letter in "abc":
            yield letter

    assert action_of(numbers).function({}) == 6
    assert action_of(dictionaries).function({}) == {"log": ["last"]}
    assert action_of(words).is_async
    assert run(action_of(words).function({})) == "abc"
    assert final(Builder(State).add_node(dictionaries).add_edge(START, "dictionaries").plan(), {}) == {"log": ["last"]}


# What a node has besides its code


async def waits(state: State) -> None: ...


def test_a_node_has_the_policies_that_it_was_given_and_else_those_of_the_graph() -> None:
    always, once = RetryPolicy(max_attempts=9), RetryPolicy(max_attempts=1)
    cache, forever = CachePolicy(ttl=1), CachePolicy()
    graph = Builder(State).add_node("plain", waits)
    own: dict[str, Any] = {"retry_policy": [once, always], "cache_policy": cache, "error_handler": first, "timeout": 1}
    graph.add_node("own", waits, defer=True, metadata={"owner": "me"}, **own)
    assert graph.set_node_defaults() is graph
    graph.set_node_defaults(
        retry_policy=always, cache_policy=forever, error_handler=say("sorry"), timeout=timedelta(seconds=2)
    )
    nodes = graph.add_edge(START, "plain").plan().nodes
    plain, other = nodes["plain"], nodes["own"]
    assert (plain.retry, plain.cache, plain.timeout) == ((always,), forever, TimeoutPolicy(2.0))
    assert (other.retry, other.cache, other.timeout) == ((once, always), cache, TimeoutPolicy(1.0))
    assert plain.handler is not None
    assert other.handler is not None
    assert (plain.handler.name, other.handler.name) == ("__default_error_handler__", "__error_handler__own")
    assert (other.defer, other.metadata, plain.defer, plain.metadata) == (True, {"owner": "me"}, False, {})
    assert (nodes[START].retry, nodes[START].handler) == ((), None)


def test_several_policies_may_be_the_graph_s() -> None:
    several = [RetryPolicy(max_attempts=1), RetryPolicy(max_attempts=2)]
    graph = lettered("a").set_node_defaults(retry_policy=several).add_edge(START, "a")
    assert graph.plan().nodes["a"].retry == tuple(several)


def test_a_time_limit_on_blocking_code_is_refused_since_nobody_could_keep_it() -> None:
    graph = Builder(State).add_node("a", first, timeout=1).add_edge(START, "a")
    assert graph.problems() == ("node 'a' has a timeout and is a blocking function; make it async, or leave it out",)
    assert lettered("a").add_edge(START, "a").set_node_defaults(timeout=1).problems() == graph.problems()


def test_a_node_sees_what_its_input_schema_declares_and_so_do_its_handler_and_its_paths() -> None:
    graph = Builder(Wide).add_node("a", lambda state: None, input_schema=Plain, error_handler=lambda state: None)
    plan = graph.add_edge(START, "a").add_conditional_edges("a", lambda state: END).plan()
    node = plan.nodes["a"]
    assert node.action is not None
    assert node.handler is not None
    assert node.action.schema.type is node.handler.action.schema.type is node.routes[0].path.schema.type is Plain
    assert node.action.declared


@pytest.mark.parametrize("given", [["b"], {"b": "by hand"}])
def test_where_commands_may_lead_is_said_by_destinations(given: Any) -> None:
    graph = lettered("b").add_node("a", first, destinations=given).add_edge(START, "a")
    assert graph.plan().nodes["a"].destinations == (given if isinstance(given, dict) else {"b": ""})


def _to_b(state: State) -> Command[Literal["b"]]: ...


def _to_b_or_not(state: State) -> Command[Literal["b", "__end__"]] | None: ...


@pytest.mark.parametrize(("code", "led"), [(_to_b, ["b"]), (_to_b_or_not, ["b", END]), (first, []), (Runnable(), [])])
def test_where_commands_may_lead_is_read_from_the_annotation(code: Any, led: list[str]) -> None:
    graph = lettered("b").add_node("a", code).add_edge(START, "a")
    assert list(graph.plan().nodes["a"].destinations) == led


def test_a_destination_that_does_not_exist_is_reported() -> None:
    graph = lettered("bravo").add_node("a", first, destinations=["brvo"]).add_edge(START, "a")
    (problem,) = graph.problems()
    assert problem == ("destinations of node 'a': names node 'brvo', which does not exist; did you mean 'bravo'?")


def test_names_that_the_engine_uses_itself_are_reported() -> None:
    class Reserved(TypedDict):
        checkpoint_id: str

    graph = Builder(Reserved).add_node("__interrupt__", lambda _: None).add_edge(START, "__interrupt__")
    assert graph.problems() == (
        "node '__interrupt__': the engine uses this name itself",
        "key 'checkpoint_id': the engine uses this name itself",
    )


def test_a_stop_at_a_node_that_does_not_exist_is_reported_and_at_one_that_does_is_not() -> None:
    graph = lettered("alpha").add_edge(START, "alpha")
    graph.plan(stops=["alpha"])
    with pytest.raises(
        GraphError, match="interrupt at 'alhpa': names node 'alhpa', which does not exist; did you mean"
    ):
        graph.plan(stops=["alhpa"])


def test_a_conditional_way_in_is_a_conditional_edge_from_start() -> None:
    assert names(lettered("b").set_conditional_entry_point(to_b).plan(), {"log": []}) == [["b"]]


def test_an_empty_path_map_limits_nothing() -> None:
    graph = lettered("a", "b").add_edge(START, "a").add_conditional_edges("a", to_b, {})
    assert names(graph.plan(), {"log": []}) == [["a"], ["b"]]


def test_a_graph_tells_its_edges_and_may_be_written_with_its_types() -> None:
    graph = lettered("a", "b").add_edge(START, "a").add_edge("a", "b").add_edge("b", END)
    assert graph.edges == {(START, "a"), ("a", "b"), ("b", END)}
    assert Builder[State] is Builder


def test_a_node_knows_whether_an_edge_leads_from_it_to_the_end() -> None:
    graph = lettered("a", "b", "c", "d").add_edge(START, "a").add_edge("a", END).add_edge(["b", "c"], END)
    nodes = graph.plan().nodes
    assert [name for name, node in nodes.items() if node.ends] == ["a", "b", "c"]
    assert nodes["b"].joins == ()


def test_who_is_missing_from_a_join_to_the_end_is_reported_like_any_other() -> None:
    graph = lettered("alpha").add_edge(START, "alpha").add_edge(["alpha", "alhpa"], END)
    assert graph.problems() == (
        "join ['alpha', 'alhpa'] -> '__end__': names node 'alhpa', which does not exist; did you mean 'alpha'?",
    )
