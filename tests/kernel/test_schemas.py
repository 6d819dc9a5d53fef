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

from fanfold.errors import EmptyInputError, InvalidUpdateError
from fanfold.kernel.channels import MISSING, BinaryOperatorAggregate, LastValue
from fanfold.kernel.graph import Builder
from fanfold.kernel.schema import ROOT, hints_of, input_schema, read_schema, updates_of
from fanfold.types import START
from tests.kernel.playing import begun, final


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
    assert schema.is_root
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


def test_none_writes_nothing() -> None:
    assert updates_of(None, read_schema(Typed)) == ()
    assert updates_of(None, read_schema(int)) == ()


@pytest.mark.parametrize("value", ["text", 7, [("number", 1)], Data])
def test_what_is_no_set_of_keys_is_refused_by_type_and_value(value: Any) -> None:
    with pytest.raises(InvalidUpdateError, match=f"expected a dictionary of keys to write, got {type(value).__name__}"):
        updates_of(value, read_schema(Typed))
