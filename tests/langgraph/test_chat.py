"""The stream mode "messages" with LangChain's chat models and messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from fanfold import START, MessagesState, StateGraph, TimeoutPolicy, add_messages, entrypoint, task
from fanfold.graph import CompiledGraph
from tests.langgraph.conftest import Run

ASKED = {"messages": [HumanMessage("hi", id="asked")]}


def saying(text: str, **options: Any) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(text)]), **options)


def alone(node: Any, state: Any = MessagesState) -> CompiledGraph:
    return StateGraph(state).add_node("node", node).add_edge(START, "node").compile()


def told(chunks: Any) -> list[tuple[str, str]]:
    return [(message.content, metadata["langgraph_node"]) for message, metadata in chunks]


def test_a_model_that_is_called_with_metadata_of_its_own_is_heard_with_that_of_its_node(stream: Run) -> None:
    model = saying("hello")
    graph = alone(lambda state: {"messages": [model.invoke("x", {"metadata": {"mine": 1}})]})
    ((message, metadata),) = stream(graph, ASKED, stream_mode="messages")
    assert (message.content, metadata["langgraph_node"], metadata["mine"]) == ("hello", "node", 1)


def test_tags_of_a_call_add_to_those_of_the_run(stream: Run) -> None:
    model = saying("hello")
    graph = alone(lambda state: {"messages": [model.invoke("x", {"tags": ["call"]})]})
    ((_, metadata),) = stream(graph, ASKED, {"tags": ["run"]}, stream_mode="messages")
    assert sorted(metadata["tags"]) == ["call", "run"]


def test_callbacks_of_the_run_hear_of_its_models_while_it_is_streamed(stream: Run) -> None:
    heard = []

    class Ear(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, metadata: Any = None, **more: Any) -> None:
            heard.append(metadata["langgraph_node"])

    model = saying("hello")
    graph = alone(lambda state: {"messages": [model.invoke("x", {"metadata": {"mine": 1}})]})
    stream(graph, ASKED, {"callbacks": [Ear()]}, stream_mode="messages")
    assert heard == ["node"]


def test_a_message_is_streamed_under_the_id_by_which_the_state_knows_it(stream: Run) -> None:
    graph = alone(lambda state: {"messages": [AIMessage("new")]})
    chunks = stream(graph, ASKED, stream_mode=["messages", "updates", "values"])
    ids = {mode: chunk for mode, chunk in chunks}
    known = ids["values"]["messages"][-1].id
    assert known is not None
    assert (ids["messages"][0].id, ids["updates"]["node"]["messages"][0].id) == (known, known)


def test_the_object_that_a_node_returned_gets_no_id(stream: Run) -> None:
    message = AIMessage("new")
    stream(alone(lambda state: {"messages": [message]}), ASKED, stream_mode=["messages", "updates"])
    assert message.id is None


def test_an_update_of_another_key_is_shown_as_it_was_returned(stream: Run) -> None:
    class State(TypedDict):
        last: Any

    (update,) = stream(alone(lambda state: {"last": AIMessage("new")}, State), {"last": 1}, stream_mode="updates")
    assert update["node"]["last"].id is None


def test_what_only_stands_for_a_message_is_not_streamed_as_one(stream: Run) -> None:
    graph = alone(lambda state: {"messages": [{"role": "assistant", "content": "new"}]})
    assert stream(graph, ASKED, stream_mode="messages") == []


def test_a_message_of_a_graph_that_is_a_node_is_told_once(stream: Run) -> None:
    inner = alone(lambda state: {"messages": [AIMessage("new")]})
    chunks = stream(alone(inner), ASKED, stream_mode="messages", subgraphs=True)
    assert [(len(place), message.content) for place, (message, _) in chunks] == [(1, "new")]


def test_a_message_that_a_task_returns_is_told_once_also_when_its_caller_returns_it(stream: Run) -> None:
    @task
    def write(topic: str) -> AIMessage:
        return AIMessage(topic)

    @entrypoint()
    def flow(topic: str) -> AIMessage:
        return write(topic).result()

    assert told(stream(flow, "new", stream_mode="messages")) == [("new", "write")]


def test_a_message_under_several_keys_has_one_id(stream: Run) -> None:
    class State(TypedDict):
        messages: Annotated[list[Any], add_messages]
        last: Any

    message = AIMessage("new")
    graph = alone(lambda state: {"messages": [message], "last": message}, State)
    *_, (mode, values) = stream(graph, {"messages": []}, stream_mode=["messages", "values"])
    assert (mode, values["last"].id) == ("values", values["messages"][0].id)


def test_a_node_may_return_the_config_that_it_was_given(run: Run) -> None:
    class State(TypedDict):
        config: Any

    returned = run(alone(lambda state, config: {"config": config}, State), {"config": None})["config"]
    assert returned["metadata"]["langgraph_node"] == "node"


class Slow(GenericFakeChatModel):
    """A model that takes its time for each word."""

    async def _astream(self, *args: Any, **more: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in super()._stream(*args, **more):
            await asyncio.sleep(0.05)
            if more.get("run_manager") is not None:
                await more["run_manager"].on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


@pytest.mark.parametrize("heard", [True, False])
def test_what_a_model_says_puts_the_idle_limit_of_its_node_off(run: Run, stream: Run, heard: bool) -> None:
    async def node(_: Any) -> Any:
        model = Slow(messages=iter([AIMessage("one two three four five")]))
        words = [chunk.content async for chunk in model.astream("go")]
        return {"messages": [AIMessage("".join(words), id="said")]}

    graph = StateGraph(MessagesState).add_node("node", node, timeout=TimeoutPolicy(idle_timeout=0.3))
    app = graph.add_edge(START, "node").compile()
    if heard:
        assert len(stream(app, {"messages": []}, stream_mode="messages")) > 5
    else:
        assert run(app, {"messages": []})["messages"][0].content == "one two three four five"
