"""How many bytes are stored for those that are written, in both databases, and how many have to be read."""

from __future__ import annotations

import operator
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import END, START, StateGraph
from fanfold.graph import CompiledGraph
from fanfold.journal import WORTH
from fanfold.store.base import CheckpointKept
from fanfold.store.serde import Codec
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from tests.store.making import Open

KB = 1024


class Chat(TypedDict):
    messages: Annotated[list[dict[str, str]], operator.add]
    last: str


@pytest.fixture
def text() -> Callable[[], str]:
    """Makes kilobytes that no two of are alike."""
    letters = random.Random(7)
    return lambda: "".join(letters.choices(string.ascii_letters + string.digits, k=KB))


def pages(store: SqlStore) -> int:
    """The bytes of a database: its tables and indexes, and in SQLite also what is still in the log."""
    ask = store.write(lambda session: session._connection.execute(SIZES[store._place.dialect]).fetchone())  # type: ignore[attr-defined]
    return int(ask.result(10)[0])


SIZES = {
    "sqlite": "select page_count * page_size from pragma_page_count(), pragma_page_size()",
    "postgres": """
        select sum(pg_total_relation_size(oid)) from pg_class
        where relkind = 'r' and relnamespace = current_schema()::regnamespace
        """,
}


def chat(store: SqlStore, text: Callable[[], str]) -> CompiledGraph:
    graph = StateGraph(Chat)
    graph.add_node("answer", lambda state: {"messages": [{"role": "assistant", "content": text()}]})
    return graph.add_edge(START, "answer").add_edge("answer", END).compile(store)


def talked(graph: CompiledGraph, text: Callable[[], str], turns: int, thread: str = "t") -> Iterator[int]:
    """Talk on and on; after each turn, how many there have been."""
    for turn in range(1, turns + 1):
        graph.invoke({"messages": [{"role": "user", "content": text()}]}, thread_id=thread)
        yield turn


def fulls(store: SqlStore, thread: str = "t") -> list[CheckpointKept]:
    return [kept for kept in store.history(thread) if kept.full]


def test_turns_of_two_kilobytes_take_at_most_two_and_a_half_times_their_bytes_however_many(
    again: Open, text: Callable[[], str]
) -> None:
    with again() as store:
        graph = chat(store, text)
        for _ in talked(graph, text, 20, "first"):  # what a database takes for its tables and the first of their pages
            pass
        before = pages(store)
        taken = {turn: (pages(store) - before) / (turn * 2 * KB) for turn in talked(graph, text, 300) if turn % 25 == 0}
        assert max(ratio for turn, ratio in taken.items() if turn >= 150) <= 2.4, taken
        assert len(fulls(store)) == 1  # what only grows is never written whole


def test_a_file_of_two_hundred_turns_takes_at_most_two_and_a_half_times_their_bytes(
    tmp_path: Path, text: Callable[[], str]
) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        for _ in talked(chat(store, text), text, 200):
            pass
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) <= 2.5 * 200 * 2 * KB


@pytest.mark.parametrize("steps", [150, 400, 1000])
def test_a_step_that_adds_a_kilobyte_takes_little_more_whatever_their_number(
    again: Open, text: Callable[[], str], steps: int
) -> None:
    def said(state: Chat) -> dict[str, Any]:
        return {"messages": [{"role": "assistant", "content": text()}]}

    graph = StateGraph(Chat).add_node("say", said).add_edge(START, "say")
    graph.add_conditional_edges("say", lambda state: "say" if len(state["messages"]) % steps else END)
    with again() as store:
        app = graph.compile(store)
        app.invoke({"last": ""}, {"recursion_limit": steps + 10}, thread_id="first")
        before = pages(store)
        app.invoke({"last": ""}, {"recursion_limit": steps + 10}, thread_id="t")
        assert (pages(store) - before) / steps <= 2.2 * KB


# What is read


def test_values_that_take_the_place_of_others_are_written_whole_before_much_has_to_be_read(store: SqlStore) -> None:
    graph = StateGraph(Chat)
    graph.add_node("say", lambda state: {"last": f"{len(state['last'])}" + "x" * KB}).add_edge(START, "say")
    app = graph.compile(store)
    for _ in range(60):
        app.invoke({"last": "y"}, thread_id="t")
        record = store.thread("t")
        assert record is not None
        assert len(record.chain) <= 4 * WORTH
    history = store.history("t")
    whole = sum(len(kept.data) for kept in history if kept.full)
    assert whole <= sum(len(kept.data) for kept in history)
    assert 60 / 4 <= len(fulls(store)) <= len(history) / 2


def test_small_steps_are_written_whole_before_many_rows_have_to_be_read(store: SqlStore) -> None:
    def short() -> str:
        return "x" * 200

    for _ in talked(chat(store, short), short, 100):
        pass
    taken = [len(store.thread("t", "", kept.checkpoint_id).chain) for kept in store.history("t")]  # type: ignore[union-attr]
    assert max(taken) < len(taken)
    assert 3 <= len(fulls(store)) <= 15


def test_sittings_do_not_look_again_for_what_an_earlier_one_has_found(store: SqlStore, text: Callable[[], str]) -> None:
    for _ in talked(chat(store, text), text, 100):
        pass
    looked = [kept for kept in store.history("t") if Codec().decode(kept.data).get("k")]
    assert 3 <= len(looked) <= 10
