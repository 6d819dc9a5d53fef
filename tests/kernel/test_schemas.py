"""What annotations say: keys, reducers, and the shape in which a node gets the state."""

from __future__ import annotations

import dataclasses
import functools
import operator
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, NotRequired, Required, TypedDict, TypeVar

import pydantic
import pytest
import typing_extensions

from fanfold.errors import EmptyInputError, GraphError, InvalidUpdateError
from fanfold.kernel.channels import MISSING, BinaryOperatorAggregate, DeltaChannel, EphemeralValue, LastValue, Topic
from fanfold.kernel.graph import Builder
from fanfold.kernel.schema import (
    ASKABLE,
    ROOT,
    IsLastStep,
    RemainingSteps,
    asked_for,
    commanded,
    hints_of,
    input_schema,
    read_schema,
    single_schema,
    updates_of,
)
from fanfold.types import END, START, Runtime, StreamWriter
from tests.kernel.playing import begun, final, steps


class Typed(TypedDict):
    number: int
    log: Annotated[list[str], operator.add]


class Extended(typing_extensions.TypedDict):
    number: int
    log: typing_extensions.Annotated[list[str], operator.add]


@dataclasses.dataclass
class Data:
    number: int
    log: Annotated[list[str], operator.add]
    constant: typing.ClassVar[int] = 3


class Model(pydantic.BaseModel):
    number: int
    log: Annotated[list[str], operator.add]
    constant: typing.ClassVar[int] = 3


KEYED = [Typed, Extended, Data, Model]


# Keys


@pytest.mark.parametrize("declared", KEYED)
def test_each_way_to_declare_keys_gives_the_same_channels(declared: type) -> None:
    assert read_schema(declared).channels == {
        "number": LastValue(int),
        "log": BinaryOperatorAggregate(list[str], operator.add),
    }


@pytest.mark.parametrize("declared", KEYED)
def test_a_node_gets_the_state_in_the_shape_that_was_declared(declared: Any) -> None:
    seen = []
    graph = Builder(declared).add_node("n", lambda state: seen.append(state)).add_edge(START, "n")
    assert final(graph.plan(), {"number": 1, "log": ["a"]}) == {"number": 1, "log": ["a"]}
    assert seen == [declared(number=1, log=["a"])]


def test_required_and_not_required_are_stripped_on_either_side_of_annotated() -> None:
    class State(TypedDict, total=False):
        a: Required[int]
        b: NotRequired[Annotated[list[int], operator.add]]
        c: Annotated[NotRequired[list[int]], operator.add]

    add = BinaryOperatorAggregate(list[int], operator.add)
    assert read_schema(State).channels == {"a": LastValue(int), "b": add, "c": add}


def test_inherited_keys_belong_to_the_state() -> None:
    class More(Typed):
        more: str

    assert set(read_schema(More).channels) == {"number", "log", "more"}


@pytest.mark.parametrize("declared", [int, list[int], int | None, Any, dict, Annotated[int, "a note"]])
def test_any_other_type_is_one_root_channel(declared: Any) -> None:
    schema = read_schema(declared)
    assert schema.single == ROOT
    assert set(schema.channels) == {ROOT}


def test_an_instance_is_no_schema() -> None:
    with pytest.raises(TypeError, match="a state schema is a type"):
        read_schema({"number": int})


def test_a_root_state_is_folded_shown_and_returned_as_it_is() -> None:
    seen = []
    graph = Builder(Annotated[list, operator.add])
    graph.add_node("n", lambda state: seen.append(state)).add_node("m", lambda state: [len(state)])
    graph.add_edge(START, "n").add_edge("n", "m")
    assert final(graph.plan(), [5]) == [5, 1]
    assert seen == [[5]]


def test_a_root_that_was_never_written_is_none() -> None:
    with pytest.raises(EmptyInputError):
        begun(Builder(int).add_node("n", str).add_edge(START, "n").plan(), None)
    assert read_schema(int).shape({}) is None


# Reducers


def test_the_last_annotation_is_the_reducer_if_it_can_be_called() -> None:
    class State(TypedDict):
        a: Annotated[int, "words", max]
        b: Annotated[int, max, "words"]

    assert read_schema(State).channels == {"a": BinaryOperatorAggregate(int, max), "b": LastValue(int)}


@pytest.mark.parametrize("reducer", [lambda one: one, lambda: None, lambda a, b, c: a])
def test_a_reducer_of_another_arity_is_refused(reducer: Any) -> None:
    with pytest.raises(ValueError, match=r"the reducer of key '__root__', .*, must take two arguments"):
        read_schema(Annotated[int, reducer])


def test_a_builtin_without_a_signature_is_taken_at_its_word() -> None:
    assert read_schema(Annotated[int, max]).channels == {ROOT: BinaryOperatorAggregate(int, max)}


def test_a_channel_may_be_given_as_a_class_or_made_and_takes_the_type_that_it_needs() -> None:
    class State(TypedDict):
        a: Annotated[int, EphemeralValue]
        b: Annotated[int, "words", Topic(str, accumulate=True)]
        c: Annotated[NotRequired[set[int]], DeltaChannel(lambda value, updates: value)]

    channels = read_schema(State).channels
    assert channels["a"] == EphemeralValue(int)
    assert channels["b"] == Topic(str, accumulate=True)
    assert channels["c"].initial() == set()


class Picky:
    def __init__(self, needed: int) -> None:
        self.needed = needed


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        (int, 0),
        (str, ""),
        (list[int], []),
        (set[int], set()),
        (Sequence[int], []),
        (typing.Sequence, []),
        (Mapping[str, int], {}),
        (Picky, MISSING),
        (int | None, MISSING),
    ],
)
def test_a_reducer_starts_at_the_empty_value_of_its_type_if_there_is_one(declared: Any, start: Any) -> None:
    assert BinaryOperatorAggregate(declared, operator.add).initial() == start


def test_without_an_empty_value_the_first_update_is_taken_as_it_is() -> None:
    channel = BinaryOperatorAggregate(int | None, operator.sub)
    assert channel.fold(channel.initial(), [10, 3, 2]) == 5


def test_missing_says_what_it_is() -> None:
    assert repr(MISSING) == "MISSING"


# What a node declares


def test_the_first_parameter_declares_what_a_node_sees() -> None:
    def function(state: Typed) -> None: ...

    class Method:
        def bound(self, state: Typed) -> None: ...

        def __call__(self, state: Typed) -> None: ...

    def late(extra: int, state: Typed) -> None: ...

    for action in (function, Method().bound, Method(), functools.partial(late, 1)):
        schema = input_schema(action)
        assert schema is not None
        assert schema.type is Typed


T = TypeVar("T")


class Boxed(TypedDict, Generic[T]):
    item: T


def _unresolvable(state: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


def _keyless(state: dict[str, Any]) -> None: ...


def _generic(state: Boxed[int]) -> None: ...


@pytest.mark.parametrize("action", [_unresolvable, _keyless, _generic, lambda: None, lambda state: None, Picky, max])
def test_an_annotation_that_names_no_keys_declares_nothing(action: Any) -> None:
    assert input_schema(action) is None


def test_annotations_of_an_object_are_those_of_its_call() -> None:
    class Path:
        def __call__(self, state: Typed) -> typing.Literal["a"]:
            return "a"

    assert hints_of(Path()) == {"state": Typed, "return": typing.Literal["a"]}


class RunnableConfig: ...


class BaseStore: ...


class NodeError: ...


def _by_type(
    state: Any, a: RunnableConfig, *rest: Any, b: BaseStore | None, c: Runtime, d: Runtime[Typed], e: NodeError, f: int
) -> None: ...


def _by_name(state: Any, config: Any, runtime, store, writer: StreamWriter, previous: int, error, **rest: Any) -> None:  # type: ignore[no-untyped-def]
    ...


def _unresolved(state: Any, a: langchain.RunnableConfig, b: Optional[Runtime[Any]], c: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


def _with_defaults(
    state: Any,
    config: RunnableConfig | None = None,
    runtime: Any = None,
    store: int = 0,
    writer: StreamWriter | None = None,
    previous: int = 0,
    error: Any = None,
    other: RunnableConfig | None = None,
) -> None: ...


def _untyped_defaults(state, config=None, error=None) -> None:  # type: ignore[no-untyped-def]
    ...


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        (_by_type, {"a": "config", "b": "store", "c": "runtime", "d": "runtime", "e": "error"}),
        (_by_name, {name: name for name in ASKABLE}),
        (_unresolved, {"a": "config", "b": "runtime"}),
        (_with_defaults, {name: name for name in ("config", "runtime", "writer", "previous")}),
        (_untyped_defaults, {"config": "config"}),
        (lambda state: None, {}),
        (max, {}),
    ],
)
def test_what_a_node_asks_for_is_told_by_the_type_or_the_name_of_a_parameter(action: Any, asked: Any) -> None:
    assert asked_for(action) == asked


# What the engine fills in


class Counted(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    left: RemainingSteps
    last: NotRequired[IsLastStep]


def test_the_steps_that_are_left_are_counted_down_for_nodes_and_paths_and_stored_nowhere() -> None:
    def look(state: Counted) -> Any:
        return {"log": [(state["left"], state["last"])]}

    seen: list[Any] = []

    def path(state: Counted) -> str:
        seen.append((state["left"], state["last"]))
        return END if state["last"] else "look"

    graph = Builder(Counted).add_node(look).add_edge(START, "look").add_conditional_edges("look", path)
    ledger = begun(graph.plan(), {"log": []}, limit=3)
    for _ in steps(ledger):
        assert set(ledger.snapshot().values) == {"log"}
    assert ledger.values() == {"log": [(2, False), (1, True)]}
    assert seen == [(2, False), (1, True)]


@pytest.mark.parametrize("use", ["input", "output"])
def test_a_key_that_the_engine_fills_in_is_neither_input_nor_output(use: str) -> None:
    with pytest.raises(GraphError, match=f"the {use} schema declares 'left', 'last', which the engine fills in"):
        Builder(Typed, **{f"{use}_schema": Counted})


# What a node returns


def test_a_dataclass_writes_all_its_fields() -> None:
    assert updates_of(Data(1, ["a"]), read_schema(Data)) == (("number", 1), ("log", ["a"]))


def test_a_model_writes_all_but_the_none_that_nobody_set() -> None:
    class State(pydantic.BaseModel):
        given: int | None
        default: int = 5
        unset: int | None = None
        set_to_none: int | None = None
        not_none_by_default: int | None = 1

    value = State(given=None, set_to_none=None, not_none_by_default=None)
    written = {"given": None, "default": 5, "set_to_none": None, "not_none_by_default": None}
    assert dict(updates_of(value, read_schema(State))) == written


class Attributes:
    number: int


class MoreAttributes(Attributes):
    log: Annotated[list[str], operator.add]
    unset: str


def test_a_class_with_annotations_has_keys_too_and_nodes_see_a_dictionary() -> None:
    schema = read_schema(MoreAttributes)
    assert set(schema.channels) == {"number", "log", "unset"}
    assert schema.shape({"number": 1}) == {"number": 1}
    value = MoreAttributes()
    value.number, value.log = 1, ["a"]
    assert updates_of(value, schema) == (("number", 1), ("log", ["a"]))


def test_a_whole_that_is_one_value_is_written_whole() -> None:
    schema = single_schema("answer", LastValue())
    assert updates_of({"a": 1}, schema) == (("answer", {"a": 1}),)
    assert (schema.shape({"answer": 1}), schema.shape({})) == (1, None)


def test_none_writes_nothing() -> None:
    assert updates_of(None, read_schema(Typed)) == ()
    assert updates_of(None, read_schema(int)) == ()


@pytest.mark.parametrize("value", ["text", 7, [("number", 1)], Data])
def test_what_is_no_set_of_keys_is_refused_by_type_and_value(value: Any) -> None:
    with pytest.raises(InvalidUpdateError, match=f"expected a dictionary of keys to write, got {type(value).__name__}"):
        updates_of(value, read_schema(Typed))


def test_a_command_writes_as_a_node_would_or_pairs_as_they_are() -> None:
    schema = read_schema(Typed)
    assert commanded([("log", ["a"]), ("log", ["b"])], schema) == (("log", ["a"]), ("log", ["b"]))
    assert commanded({"number": 1}, schema) == (("number", 1),)
    assert commanded(None, schema) == ()
    with pytest.raises(InvalidUpdateError):
        commanded(["log"], schema)
