"""LangGraph's own graphs on our stores, from their start over a question to their past."""

from __future__ import annotations

import asyncio
import random
import string
import uuid
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command

from fanfold.langgraph import Saver
from fanfold.store.sql import SqlStore
from tests.saver.conftest import Open
from tests.saver.graphs import Ask, State, ask_awaiting, ask_with, counting, drafting

CONFIG: Any = {"configurable": {"thread_id": "t"}}
SAID = [{"agent": number, "said": "x" * 500} for number in range(3)]


@pytest.fixture(params=[ask_with, ask_awaiting], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


def test_a_graph_pauses_and_goes_on_in_another_process(opening: Open, ask: Ask) -> None:
    paused = ask(drafting(opening()), "invoke", {"notes": ["begun"]}, CONFIG)
    assert [each.value for each in paused["__interrupt__"]] == ["Is it good?"]

    again = drafting(opening())
    state = ask(again, "get_state", CONFIG, subgraphs=True)
    assert (state.next, state.values) == (("inner",), {"notes": ["begun", "planned", *SAID]})
    assert state.tasks[0].state.values == {"draft": "draft"}
    ended = ask(again, "invoke", Command(resume="yes"), CONFIG)
    assert ended == {"notes": ["begun", "planned", *SAID, "ended"], "draft": "draft, yes"}


def test_a_graph_can_be_run_from_its_past_and_both_ways_stay(opening: Open, ask: Ask) -> None:
    graph = drafting(opening())
    ask(graph, "invoke", {"notes": []}, CONFIG)
    first = ask(graph, "invoke", Command(resume="yes"), CONFIG)
    history = ask(graph, "get_state_history", CONFIG)
    (before,) = [each for each in history if each.next == ("end",)]

    other = ask(graph, "update_state", before.config, {"draft": "another"}, as_node="inner")
    second = ask(graph, "invoke", None, other)
    assert (first["draft"], second["draft"]) == ("draft, yes", "another")
    assert second["notes"] == first["notes"] == ["planned", *SAID, "ended"]

    later = ask(graph, "get_state_history", CONFIG)
    assert later[-len(history) :] == history
    assert ask(graph, "get_state", CONFIG).values == second
    assert ask(graph, "get_state", history[0].config).values == first


def test_what_sixty_four_tasks_write_at_once_is_all_there(saver: Saver) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": str(uuid.uuid4())}}

    async def main() -> None:
        saver_writes = (
            saver.aput_writes(config, [("small", number), ("large", "z" * 1000)], f"task {number}", f"{number:02}")
            for number in range(64)
        )
        await asyncio.gather(*saver_writes)
        checkpoint: Any = {
            "v": 4, "id": config["configurable"]["checkpoint_id"], "ts": "", "channel_values": {},
            "channel_versions": {}, "versions_seen": {}, "updated_channels": None,
        }  # fmt: skip
        await saver.aput({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, checkpoint, {}, {})

    asyncio.run(main())
    found = saver.get_tuple(config)
    assert found is not None
    wanted = [(f"task {n}", *write) for n in range(64) for write in (("small", n), ("large", "z" * 1000))]
    assert found.pending_writes == wanted
    assert len(saver.store.ask("saver_digests", {"thread": "t"})) == 1  # what all of them wrote is stored once


# What a channel is rebuilt from


def test_a_channel_that_is_rebuilt_from_what_was_written_is_the_same_after_pruning(opening: Open, ask: Ask) -> None:
    graph = counting(opening())
    for turn in range(5):
        ask(graph, "invoke", {"notes": [turn]}, CONFIG)
    before = ask(graph, "get_state", CONFIG).values
    assert len(before["notes"]) == 10

    saver = opening()
    saver.prune(["t"])
    assert ask(counting(saver), "get_state", CONFIG).values == before
    assert len(ask(counting(saver), "invoke", {"notes": ["more"]}, CONFIG)["notes"]) == 12


def test_the_history_of_a_channel_is_that_of_langgraphs_own_walk(saver: Saver) -> None:
    graph = counting(saver)
    for turn in range(3):
        graph.invoke({"notes": [turn]}, CONFIG)
    fork = graph.update_state(list(graph.get_state_history(CONFIG))[4].config, {"notes": ["forked"]}, as_node="answer")
    for place in (CONFIG, fork, list(graph.get_state_history(CONFIG))[-1].config):
        asked: Any = {"config": place, "channels": ["notes", "branch:to:answer", "none"]}
        found = saver.get_delta_channel_history(**asked)
        assert found == BaseCheckpointSaver.get_delta_channel_history(saver, **asked)
        assert found == asyncio.run(saver.aget_delta_channel_history(**asked))


# What it takes


def test_two_hundred_turns_of_two_kilobytes_take_at_most_two_and_a_half_times_their_bytes(saver: Saver) -> None:
    letters = random.Random(7)

    def text() -> str:
        return "".join(letters.choices(string.ascii_letters, k=1024))

    def answer(state: State) -> dict[str, Any]:
        return {"notes": [{"role": "assistant", "content": text()}]}

    from langgraph.graph import START, StateGraph

    graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)

    def talk(thread: str, turns: int) -> None:
        for _ in range(turns):
            graph.invoke({"notes": [{"role": "user", "content": text()}]}, {"configurable": {"thread_id": thread}})

    talk(str(uuid.uuid4()), 20)  # what a database takes for its tables and the first of their pages
    before = stored(saver.store)
    talk(str(uuid.uuid4()), 200)
    grown = stored(saver.store) - before
    assert grown <= 2.5 * 200 * 2 * 1024


def stored(store: SqlStore) -> int:
    """The bytes of a database: its pages, tables and indexes alike."""
    connection: Any = store._writer._session._connection
    if store._place.dialect == "sqlite":
        return int(connection.execute("pragma page_count").fetchone()[0] * 4096)
    tables = "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relname like 'saver%'"
    own = " and relnamespace = current_schema()::regnamespace"
    return int(connection.execute(tables + own).fetchone()[0])
