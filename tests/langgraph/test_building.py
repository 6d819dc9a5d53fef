"""What a state, a node and its parameters may be declared as."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, Required, TypedDict
from unittest.mock import MagicMock, Mock

import pydantic
import pytest

from fanfold import (
    END,
    START,
    BaseStore,
    BinaryOperatorAggregate,
    Command,
    EphemeralValue,
    InMemoryStore,
    InvalidUpdateError,
    IsLastStep,
    LastValue,
    NodeError,
    Overwrite,
    Runtime,
    Send,
    StateGraph,
    StreamWriter,
    get_config,
    get_runtime,
    get_store,
    get_stream_writer,
)
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State, alone, lettered, say


def join(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


class Whole(TypedDict):
    question: str
    answer: str
    note: int


class Question(TypedDict):
    question: str


class Answer(TypedDict):
    answer: str


@dataclasses.dataclass
class Data:
    number: int = 0
    word: str = "word"


class Model(pydantic.BaseModel):
    number: int
    word: str = "word"
    maybe: Optional[int] = None  # noqa: UP045 - as users write it


class RunnableConfig(TypedDict, total=False):
    configurable: Mapping[str, Any]


# States


def test_required_and_not_required_say_nothing_about_how_a_key_folds(run: Run) -> None:
    class Marked(TypedDict):
        number: Required[int]
        inner: Annotated[NotRequired[list[int]], operator.add]
        outer: NotRequired[Annotated[list[int], operator.add]]

    graph = alone(lambda state: {"inner": [state["number"]], "outer": [2]}, Marked)
    assert run(graph, {"number": 1, "inner": [0], "outer": [0]}) == {"number": 1, "inner": [0, 1], "outer": [0, 2]}


def test_a_dataclass_is_what_nodes_get_may_return_and_may_be_given(run: Run) -> None:
    graph = alone(lambda state: dataclasses.replace(state, number=state.number + 1), Data)
    assert run(graph, Data(3, "own")) == {"number": 4, "word": "own"}
    assert run(graph, {"number": 3}) == {"number": 4, "word": "word"}


def test_a_model_checks_and_converts_what_a_node_sees_and_not_what_is_kept(run: Run) -> None:
    graph = alone(lambda state: {"word": f"{state.number + 1}"}, Model)
    assert run(graph, {"number": "7"}) == {"number": "7", "word": "8"}
    with pytest.raises(pydantic.ValidationError):
        run(graph, {"number": "seven"})


def test_a_model_writes_its_fields_except_a_none_that_is_only_there_by_default(run: Run) -> None:
    graph = alone(lambda state: Model(number=state.number + 1), Model)
    assert run(graph, {"number": 1, "word": "own", "maybe": 4}) == {"number": 2, "word": "word", "maybe": 4}


def test_a_class_with_annotations_declares_keys_and_is_written_by_its_attributes(run: Run) -> None:
    class Plain:
        number: int
        word: str

        def __init__(self) -> None:
            self.number = 5

    assert run(alone(lambda state: Plain(), Plain), {"number": 1, "word": "w"}) == {"number": 5, "word": "w"}


def test_a_named_tuple_is_an_update(run: Run) -> None:
    class Pair(NamedTuple):
        number: int
        log: list[Any]

    assert run(alone(lambda state: Pair(4, ["x"])), {"number": 1}) == {"number": 4, "log": ["x"]}


@pytest.mark.parametrize(
    ("schema", "given", "answer", "result"),
    [(int, 3, 4, 4), (str, "a", "b", "b"), (Annotated[list[int], operator.add], [1], [2], [1, 2]), (int, 3, None, 3)],
)
def test_a_plain_type_is_a_graph_of_one_value(run: Run, schema: Any, given: Any, answer: Any, result: Any) -> None:
    assert run(alone(lambda state: answer, schema), given) == result


def test_input_and_output_have_the_keys_of_their_schemas_and_values_have_all(run: Run) -> None:
    graph = alone(lambda s: {"answer": str(sorted(s)), "note": 1}, Whole, input_schema=Question, output_schema=Answer)
    assert run(graph, {"question": "q", "note": 7}) == {"answer": "['question']"}
    values = list(graph.stream({"question": "q"}, stream_mode="values"))
    assert values == [{"question": "q"}, {"question": "q", "answer": "['question']", "note": 1}]


def test_a_run_that_writes_nothing_of_its_output_has_none(run: Run) -> None:
    graph = alone(lambda state: {"note": 1}, Whole, input_schema=Question, output_schema=Answer)
    assert run(graph, {"question": "q"}) is None
    assert run(alone(lambda state: None), {"number": 1}, output_keys=["log"]) is None


def test_what_the_engine_fills_in_can_be_neither_input_nor_output() -> None:
    class Managed(TypedDict):
        last: IsLastStep

    for side in ("input_schema", "output_schema"):
        with pytest.raises(ValueError, match="'last'"):
            StateGraph(State, **{side: Managed})


def test_one_key_with_two_reducers_is_refused_and_lambdas_count_as_the_same() -> None:
    def other(old: Any, new: Any) -> Any:
        return new

    def declared(reducer: Any) -> Any:
        return TypedDict("Declared", {"log": Annotated[list[Any], reducer]})

    with pytest.raises(ValueError, match="'log' is declared twice"):
        StateGraph(declared(join), input_schema=declared(other))
    StateGraph(declared(join), input_schema=declared(lambda old, new: new))
    StateGraph(TypedDict("Declared", {"log": Annotated[list[int], join]}), input_schema=declared(join))


@pytest.mark.parametrize("reducer", [lambda one: one, lambda one, two, three: one, lambda one, two, three=3: one])
def test_a_reducer_takes_two_arguments(reducer: Any) -> None:
    with pytest.raises(ValueError, match="must take two arguments"):
        StateGraph(TypedDict("Bad", {"log": Annotated[list[Any], reducer]}))


def test_a_channel_counts_wherever_it_stands_in_an_annotation(run: Run) -> None:
    class Brief(TypedDict):
        once: Annotated[int, EphemeralValue, "for one step"]
        log: Annotated[list[Any], operator.add]

    graph = StateGraph(Brief).add_sequence(
        [
            ("a", lambda s: {"once": 1}),
            ("b", lambda s: {"log": [s.get("once")]}),
            ("c", lambda s: {"log": [s.get("once")]}),
        ]
    )
    assert run(graph.add_edge(START, "a").compile(), {"log": []}) == {"log": [1, None]}


@pytest.mark.parametrize(
    "update", [Overwrite(["new"]), {"__overwrite__": ["new"]}, {"type": "__overwrite__", "value": ["new"]}]
)
def test_an_overwrite_takes_the_place_of_a_value_in_each_of_its_forms(run: Run, update: Any) -> None:
    assert run(alone(lambda state: {"log": update}), {"log": ["old"]}) == {"log": ["new"]}


# Nodes


class Callable_:
    def __call__(self, state: State) -> dict[str, Any]:
        return {"log": ["called"]}

    def method(self, state: State) -> dict[str, Any]:
        return {"log": ["method"]}

    async def later(self, state: State) -> dict[str, Any]:
        return {"log": ["later"]}


class Invoked:
    def invoke(self, state: Any, config: Any = None) -> dict[str, Any]:
        return {"log": [config["configurable"]["word"]]}


class InvokedLater:
    async def ainvoke(self, state: Any, config: Any = None) -> dict[str, Any]:
        return {"log": [config["configurable"]["word"]]}


def keyed(word: str, state: State) -> dict[str, Any]:
    return {"log": [word]}


def generating(state: State) -> Any:
    yield {"log": ["first"]}
    yield {"log": ["last"]}


async def generating_later(state: State) -> Any:
    yield {"log": ["last"]}


@pytest.mark.parametrize(
    ("node", "word"),
    [
        (Callable_(), "called"),
        (Callable_().method, "method"),
        (Callable_().later, "later"),
        (functools.partial(keyed, "bound"), "bound"),
        (Invoked(), "configured"),
        (InvokedLater(), "configured"),
        (generating, "last"),
        (generating_later, "last"),
        (lambda state: lettered("x", [(START, "x")]).compile(), "x"),
    ],
)
def test_a_node_is_anything_that_can_be_called_or_invoked(run: Run, node: Any, word: str) -> None:
    assert run(alone(node), {"log": []}, {"configurable": {"word": "configured"}}) == {"log": [word]}


def test_the_builder_tells_its_nodes_edges_and_keys() -> None:
    graph = lettered("ab", [(START, "a"), ("a", "b")])
    assert sorted(graph.nodes) == ["a", "b"]
    assert graph.edges == {(START, "a"), ("a", "b")}
    assert graph.channels == {"log": BinaryOperatorAggregate(list, operator.add), "number": LastValue(int)}
    assert graph.input_schema is graph.output_schema is State
    assert sorted(graph.compile().nodes) == [START, "a", "b"]


def test_a_graph_class_can_be_annotated_with_its_types() -> None:
    assert isinstance(StateGraph[State](State), StateGraph)


@pytest.mark.parametrize("name", ["__interrupt__", "__error__", "checkpoint_ns"])
def test_a_name_that_the_engine_uses_itself_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the engine uses this name itself"):
        StateGraph(State).add_node(name, say("x")).add_edge(START, name).compile()


def test_destinations_have_to_exist() -> None:
    def lost(state: State) -> Command[Literal["nowhere"]]:
        return Command()

    for graph in (
        StateGraph(State).add_node(lost).add_edge(START, "lost"),
        StateGraph(State).add_node("lost", say("x"), destinations=("nowhere",)).add_edge(START, "lost"),
    ):
        with pytest.raises(ValueError, match="'nowhere', which does not exist"):
            graph.compile()


def test_the_metadata_of_a_node_is_in_its_config(run: Run) -> None:
    def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"log": [config["metadata"]["owner"]]}  # type: ignore[typeddict-item]

    graph = StateGraph(State).add_node(node, metadata={"owner": "me"}).add_edge(START, "node").compile()
    assert run(graph, {"log": []}) == {"log": ["me"]}


# What a node asks for


def configured(state: State, config: RunnableConfig) -> dict[str, Any]:
    return {"log": [config["configurable"]["word"]]}


def configured_maybe(state: State, config: Optional[RunnableConfig] = None) -> dict[str, Any]:  # noqa: UP045
    assert config is not None
    return {"log": [config["configurable"]["word"]]}


def configured_by_keyword(state: State, *, config: RunnableConfig) -> dict[str, Any]:
    return {"log": [config["configurable"]["word"]]}


def configured_unresolved(state: Nowhere, config: RunnableConfig | None = None) -> dict[str, Any]:  # type: ignore[name-defined]  # noqa: F821
    assert config is not None
    return {"log": [config["configurable"]["word"]]}


def configured_by_runtime(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
    return {"log": [runtime.context]}


def configured_by_store(state: State, *, store: BaseStore) -> dict[str, Any]:
    store.put(("words",), "key", {"word": "configured"})
    found = store.get(("words",), "key")
    assert found is not None
    return {"log": [found.value["word"]]}


def configured_by_looking(state: State) -> dict[str, Any]:
    assert get_store() is not None
    get_stream_writer()("seen")
    return {"log": [get_config()["configurable"]["word"] if get_runtime().context else None]}


@pytest.mark.parametrize(
    "node",
    [
        configured,
        configured_maybe,
        configured_by_keyword,
        configured_unresolved,
        configured_by_runtime,
        configured_by_store,
        configured_by_looking,
    ],
)
def test_a_node_is_given_what_it_asks_for_by_name_and_type(run: Run, node: Any) -> None:
    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(store=InMemoryStore())
    config = {"configurable": {"word": "configured"}}
    assert run(graph, {"log": []}, config, context="configured") == {"log": ["configured"]}


def defaulted(
    state: State,
    other: RunnableConfig | None = None,
    config: dict[str, Any] | None = None,
    error: int = 7,
    store: str = "mine",
) -> dict[str, Any]:
    return {"log": [other, config, error, store]}


def test_a_parameter_with_a_default_keeps_it_unless_name_and_type_agree(run: Run) -> None:
    assert run(alone(defaulted), {"log": []}) == {"log": [None, None, 7, "mine"]}


def test_a_writer_is_a_parameter_too() -> None:
    def node(state: State, writer: StreamWriter, error: NodeError | None = None) -> dict[str, Any]:
        writer({"error": error})
        return {"log": []}

    assert list(alone(node).stream({"log": []}, stream_mode="custom")) == [{"error": None}]


def test_a_path_is_given_what_it_asks_for(run: Run) -> None:
    def path(state: State, config: RunnableConfig, *, runtime: Runtime[str]) -> str:
        return f"{config['configurable']['first']}{runtime.context}"

    graph = StateGraph(State).add_node("ab", say("ab")).add_conditional_edges(START, path).compile()
    assert run(graph, {"log": []}, {"configurable": {"first": "a"}}, context="b") == {"log": ["ab"]}


@pytest.mark.parametrize("ask", [get_config, get_runtime, get_store, get_stream_writer])
def test_asking_for_the_run_outside_of_one_is_a_runtime_error(ask: Any) -> None:
    with pytest.raises(RuntimeError, match="called outside of a node"):
        ask()


def test_a_runtime_can_be_changed_and_merged_into_another() -> None:
    runtime = Runtime(context=1, previous=2)
    assert runtime.override(context=3).context == 3
    merged = runtime.merge(Runtime(context=4))
    assert (merged.context, merged.previous) == (4, 2)


# How things are written out


def test_what_users_hand_over_is_written_as_they_wrote_it() -> None:
    assert repr(Send("a", 1)) == "Send(node='a', arg=1)"
    assert repr(Command(goto="a")) == "Command(goto='a')"
    assert repr(Command()) == "Command()"
    assert Overwrite(1).type == "__overwrite__"
    assert END == "__end__"


@pytest.mark.parametrize("mocked", [Mock, MagicMock])
def test_a_mock_is_called_like_the_function_that_it_stands_for(run: Run, mocked: type[Mock]) -> None:
    node, path = mocked(return_value={"log": ["mocked"]}), mocked(return_value="node", __name__="path")
    graph = StateGraph(State).add_node("node", node).add_conditional_edges(START, path, ["node"])
    assert run(graph.compile(), {"log": []}) == {"log": ["mocked"]}
    assert (node.call_count, path.call_count) == (1, 1)


class Unset(pydantic.BaseModel):
    number: int | None = None
    word: str | None = None


def test_a_model_of_which_nothing_is_set_is_an_input(run: Run) -> None:
    assert run(alone(lambda state: Unset(word=f"{state.number}"), Unset), Unset()) == {"word": "None"}
    with pytest.raises(ValueError, match="sets no key"):
        run(alone(lambda _: None, Unset), {"other": 1})


def test_a_graph_may_be_named_after_it_was_compiled() -> None:
    graph = alone(say("x"))
    graph.name = "renamed"
    assert (graph.name, graph.get_name()) == ("renamed", "renamed")


# What a node declares


def test_a_node_may_write_what_it_declares_and_nothing_else(run: Run) -> None:
    graph = StateGraph(State).add_node("f", lambda _: {"log": ["x"], "number": 1}, writes=["log"]).add_edge(START, "f")
    with pytest.raises(InvalidUpdateError, match="node 'f' wrote key 'number', and its writes= declares 'log'"):
        run(graph.compile(), {"log": []})
    graph = StateGraph(State).add_node("f", lambda _: Command(update={"log": ["x"]}), writes=["log"])
    assert run(graph.add_edge(START, "f").compile(), {"log": []}) == {"log": ["x"]}


def test_what_a_graph_returns_besides_what_it_is_declared_to_write_stays_inside(run: Run) -> None:
    inner = StateGraph(State).add_node("f", lambda _: {"log": ["x"], "number": 1}).add_edge(START, "f").compile()
    graph = StateGraph(State).add_node("inner", inner, writes=["number"]).add_edge(START, "inner")
    assert run(graph.compile(), {"log": []}) == {"log": [], "number": 1}


def test_a_node_that_reads_some_keys_is_handed_just_those(run: Run) -> None:
    graph = StateGraph(State).add_node("f", lambda state: {"log": sorted(state)}, reads=["number"])
    assert run(graph.add_edge(START, "f").compile(), {"log": [], "number": 1})["log"] == ["number"]
