"""What a compiled graph tells of itself."""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict

import pytest
from pydantic import BaseModel, ValidationError

from fanfold import START, GraphError, InMemorySaver, InMemoryStore, StateGraph, entrypoint
from fanfold.errors import MissingExtraError
from fanfold.graph import CompiledGraph
from tests.langgraph.conftest import Run


class State(TypedDict):
    number: int
    log: NotRequired[Annotated[list[str], operator.add]]


class Given(TypedDict):
    number: int


class Model(BaseModel):
    number: int = 1


@dataclass
class Data:
    number: int
    name: str = "x"
    log: list[str] = field(default_factory=list)


NUMBER = {"title": "Number", "type": "integer"}
LOG = {"title": "Log", "type": "array", "items": {"type": "string"}}


def compiled(schema: Any = State, context: Any = None, **schemas: Any) -> CompiledGraph:
    graph = StateGraph(schema, context, **schemas).add_node("node", lambda state: None).add_edge(START, "node")
    return graph.compile(name="flow")


# Schemas


def test_a_typed_dict_is_told_as_json_schema_with_the_keys_that_it_requires() -> None:
    told = {"title": "State", "type": "object", "properties": {"number": NUMBER, "log": LOG}, "required": ["number"]}
    assert compiled().get_input_jsonschema() == compiled().get_output_jsonschema() == told


def test_input_and_output_have_schemas_of_their_own() -> None:
    graph = compiled(input_schema=Given)
    assert graph.get_input_jsonschema()["properties"] == {"number": NUMBER}
    assert graph.get_output_jsonschema()["properties"] == {"number": NUMBER, "log": LOG}


def test_a_model_is_its_own_schema() -> None:
    graph = compiled(Model)
    assert graph.get_input_schema() is Model
    assert graph.get_input_jsonschema() == Model.model_json_schema()


def test_a_dataclass_is_told_with_its_defaults() -> None:
    told = compiled(Data).get_input_jsonschema()
    assert (told["title"], told["required"]) == ("flow_input", ["number"])
    name = {"title": "Name", "type": "string", "default": "x"}
    assert told["properties"] == {"number": NUMBER, "name": name, "log": LOG}


def test_a_state_of_one_value_is_told_as_that_value() -> None:
    assert compiled(int).get_output_jsonschema() == {"title": "flow_output", "type": "integer", "default": None}
    assert compiled(int).get_output_schema().model_json_schema() == {"title": "flow_output", "type": "integer"}


def test_an_input_can_be_checked_against_its_schema() -> None:
    schema = compiled().get_input_schema()
    assert schema.model_validate({"number": "1"}).model_dump() == {"number": 1}
    with pytest.raises(ValidationError):
        schema.model_validate({"number": "many"})


def test_any_key_of_an_output_may_be_missing() -> None:
    assert compiled().get_output_schema()().model_dump() == {"number": None, "log": None}


def test_a_key_may_be_called_like_a_method_of_models() -> None:
    class Odd(TypedDict):
        copy: int
        _own: int

    assert list(compiled(Odd).get_output_schema().model_json_schema()["properties"]) == ["copy", "_own"]


@pytest.mark.parametrize("context", [Given, Model, Data])
def test_a_context_is_told_as_json_schema(context: Any) -> None:
    told = compiled(context=context).get_context_jsonschema()
    assert (told["title"], told["properties"]["number"]["type"]) == (context.__name__, "integer")


def test_a_graph_without_a_context_tells_of_none_and_one_without_fields_is_a_mistake() -> None:
    assert compiled().get_context_jsonschema() is None
    with pytest.raises(ValueError, match="no model, TypedDict or dataclass"):
        compiled(context=int).get_context_jsonschema()


def test_an_entrypoint_is_told_by_its_annotations() -> None:
    @entrypoint()
    def Flow(topic: str) -> entrypoint.final[int, str]:
        return entrypoint.final(value=1, save=topic)

    assert Flow.get_input_schema().model_json_schema() == {"title": "FlowInput", "type": "string"}
    assert Flow.get_output_schema().model_json_schema() == {"title": "FlowOutput", "type": "integer"}


def test_without_pydantic_schemas_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(MissingExtraError, match=r"fanfold\[llm\]"):
        compiled().get_input_jsonschema()


# Attributes


def test_a_graph_tells_of_its_channels_and_its_builder() -> None:
    graph = compiled(context=Given, output_schema=Given)
    assert {key: type(channel).__name__ for key, channel in graph.channels.items()} == {
        "number": "LastValue",
        "log": "BinaryOperatorAggregate",
    }
    assert (graph.input_channels, graph.output_channels) == (START, ["number"])
    assert graph.stream_channels == graph.stream_channels_asis == graph.stream_channels_list == ["number", "log"]
    assert graph.context_schema is Given
    assert graph.builder is not None
    assert (list(graph.builder.nodes), graph.builder.edges) == (["node"], {(START, "node")})


def test_of_a_state_of_one_value_the_channel_is_named_by_itself() -> None:
    graph = compiled(int)
    assert (graph.stream_channels, graph.stream_channels_list) == ("__root__", ["__root__"])


def test_the_store_of_a_graph_is_its_long_term_memory() -> None:
    store, saver = InMemoryStore(), InMemorySaver()
    graph = StateGraph(State).add_node("node", lambda state: None).add_edge(START, "node")
    app = graph.compile(checkpointer=saver, store=store)
    assert (app.store, app.checkpointer) == (store, saver)


def test_a_graph_can_be_renamed() -> None:
    graph = compiled()
    graph.name = "other"
    assert (graph.name, graph.get_name()) == ("other", "other")


def test_a_graph_can_be_given_another_mode_to_stream_in(stream: Run) -> None:
    graph = compiled()
    assert graph.stream_mode == "updates"
    graph.stream_mode = "values"
    assert stream(graph, {"number": 1}) == [{"number": 1, "log": []}]


def test_a_builder_can_be_checked_before_it_is_compiled() -> None:
    graph = StateGraph(State).add_node("node", lambda state: None)
    with pytest.raises(GraphError, match="nothing leaves START"):
        graph.validate()
    graph.add_edge(START, "node")
    assert graph.validate() is graph
