"""What listeners of a run hear of its agents: the pieces of their answers, while they are said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, CompiledGraph, Limits, MessageChunk, StateGraph, Task, python_agent
from fanfold.agents import asking
from fanfold.errors import ModelUnavailableError
from fanfold.testing import Answer, CutStream, ModelServer, ToolUse

POET = AgentDefinition(name="poet", description="Writes verse.", prompt="You are a poet.", tools=("glob",))
VERSE = "The quick brown fox jumps over the lazy dog, and over the fence, and away."
Stream = Callable[..., list[Any]]


def joined(old: list[str], new: list[str]) -> list[str]:
    return old + new


class State(TypedDict, total=False):
    verses: Annotated[list[str], joined]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def team(*prompts: str, agent: str = "poet") -> CompiledGraph:
    async def write(state: State) -> State:
        answers = await asyncio.gather(*(Task(subagent_type=agent, prompt=prompt) for prompt in prompts))
        return {"verses": [str(answer) for answer in answers]}

    return StateGraph(State).add_node("write", write).add_edge(START, "write").compile()


def heard(graph: CompiledGraph, **options: Any) -> list[tuple[MessageChunk, dict[str, Any]]]:
    return list(graph.stream({"verses": []}, stream_mode="messages", **options))


def test_an_answer_is_heard_in_pieces_that_share_an_id_and_make_up_the_whole(server: ModelServer) -> None:
    server.script("poet", Answer(text=VERSE))
    chunks = heard(team("Write."), agents=[POET], model=server)
    pieces = [chunk for chunk, _ in chunks]
    assert len(pieces) > 1
    assert "".join(piece.content for piece in pieces) == VERSE
    assert len({piece.id for piece in pieces}) == 1
    assert {(piece.name, piece.type) for piece in pieces} == {("poet", "AIMessageChunk")}
    assert all((said["langgraph_node"], said["agent"]) == ("write", "poet") for _, said in chunks)


def test_what_is_heard_is_also_what_the_node_gets(server: ModelServer) -> None:
    server.script("poet", Answer(text=VERSE))
    chunks = list(
        team("Write.").stream({"verses": []}, stream_mode=["messages", "values"], agents=[POET], model=server)
    )
    assert chunks[-1] == ("values", {"verses": [VERSE]})
    assert "".join(told[0].content for mode, told in chunks if mode == "messages") == VERSE


def test_the_answers_of_agents_side_by_side_are_told_apart_by_their_ids(server: ModelServer) -> None:
    server.script("poet", [Answer(text="first " * 20), Answer(text="second " * 20)])
    texts: dict[str, str] = {}
    for piece, _ in heard(team("One.", "Two."), agents=[POET], model=server):
        texts[piece.id] = texts.get(piece.id, "") + piece.content
    assert sorted(texts.values()) == ["first " * 20, "second " * 20]


def test_each_answer_of_an_agent_that_uses_tools_has_an_id_of_its_own(server: ModelServer) -> None:
    looks = Answer(text="Let me look.", tool_uses=(ToolUse("glob", {"pattern": "*"}),))
    server.script("poet", [looks, Answer(text=VERSE)])
    texts: dict[str, str] = {}
    for piece, _ in heard(team("Write."), agents=[POET], model=server):
        texts[piece.id] = texts.get(piece.id, "") + piece.content
    assert list(texts.values()) == ["Let me look.", VERSE]


def test_a_model_is_asked_for_pieces_whoever_listens_so_that_its_silence_is_noticed(server: ModelServer) -> None:
    server.script("poet", [Answer(text=VERSE), Answer(text=VERSE)])
    heard(team("Write."), agents=[POET], model=server)
    team("Write.").invoke({"verses": []}, agents=[POET], model=server)
    assert [call.stream for call in server.journal] == [True, True]


def test_an_answer_that_breaks_off_while_it_is_heard_is_an_error_that_names_the_agent(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("poet", lambda request: CutStream(VERSE))
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.0)
    with pytest.raises(ModelUnavailableError, match="agent 'poet'"):
        heard(team("Write."), agents=[POET], model=server)


def test_an_agent_without_pieces_is_heard_as_a_whole() -> None:
    shouts = python_agent("shout")(str.upper)
    ((piece, said),) = heard(team("quiet", agent="shout"), agents=[shouts])
    assert (piece.content, piece.name, said["langgraph_node"]) == ("QUIET", "shout", "write")


def test_an_agent_inside_of_a_sub_graph_is_heard_with_its_namespace() -> None:
    shouts = python_agent("shout")(str.upper)
    outer = StateGraph(State).add_node("inner", team("quiet", agent="shout")).add_edge(START, "inner").compile()
    ((namespace, (piece, _)),) = outer.stream({}, stream_mode="messages", subgraphs=True, agents=[shouts])
    assert (namespace[0].partition(":")[0], piece.content) == ("inner", "QUIET")
    assert list(outer.stream({}, stream_mode="messages", agents=[shouts])) == []


def test_a_slow_listener_holds_up_an_agent_before_its_pieces_fill_the_memory(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fanfold.stream.MOST_WAITING", 4)
    server.script("poet", Answer(text=VERSE * 20))

    async def most() -> int:
        graph, waiting = team("Write."), 0
        async for _, streams in _watched(graph, server, monkeypatch):
            waiting = max(waiting, streams._waiting)
        return waiting

    assert 1 < asyncio.run(most()) <= 5


async def _watched(graph: CompiledGraph, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    from fanfold import stream

    made: list[Any] = []

    class Watched(stream.Streams):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            made.append(self)

    monkeypatch.setattr("fanfold.graph.Streams", Watched)
    async for chunk in graph.astream({"verses": []}, stream_mode="messages", agents=[POET], model=server):
        for _ in range(20):
            await asyncio.sleep(0)
        yield chunk, made[0]


def test_a_run_that_is_tagged_so_is_not_heard_and_other_tags_are_told() -> None:
    shouts = python_agent("shout")(str.upper)
    graph = team("quiet", agent="shout")
    assert list(graph.stream({}, {"tags": ["nostream"]}, stream_mode="messages", agents=[shouts])) == []
    ((_, said),) = graph.stream({}, {"tags": ["mine"]}, stream_mode="messages", agents=[shouts])
    assert said["tags"] == ["mine"]


def test_the_time_for_which_a_listener_keeps_a_model_waiting_is_not_its_silence(server: ModelServer) -> None:
    server.script("poet", Answer(text=VERSE * 40))
    pieces = team("Write.").stream(
        {"verses": []}, stream_mode="messages", agents=[POET], model=server, limits=Limits(patience=0.7)
    )
    text = ""
    for piece, _ in pieces:
        if not text:
            threading.Event().wait(1.5)  # twice as long as the model may be silent
        text += piece.content
    assert text == VERSE * 40
