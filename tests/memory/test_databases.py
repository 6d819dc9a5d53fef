"""What only items in a database have: they last, their text may be secret, and the database may compare vectors."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, entrypoint, get_store, register_type
from fanfold.errors import CorruptRecordError, NotStorableError, StoreError, UsageError
from fanfold.memory import GetOp, InMemoryStore, PutOp, SearchOp
from fanfold.memory.matching import LONGEST_WORD, MOST_WORDS
from fanfold.store import items as items_module
from fanfold.store.items import Items
from fanfold.store.postgres import PostgresStore
from fanfold.store.searching import Reader, Search
from fanfold.store.serde import Codec, Encryption, Keys
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from tests.memory.conftest import schema
from tests.memory.places import NS, InDatabase, filled, keys, letters
from tests.memory.test_laws import shown

KEY = bytes(range(32))


@pytest.fixture(params=["file", "postgres"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., SqlStore]:
    """Opens one and the same database as often as it is called."""
    if request.param == "file":
        return lambda **options: SqliteStore(tmp_path / "runs.db", **options)
    url = request.getfixturevalue("postgres")
    return lambda **options: PostgresStore(url, **options)


def secret() -> Encryption:
    return Encryption(Keys("k", {"k": KEY}))


# They last


def test_items_are_there_when_the_store_is_opened_again(again: Callable[..., SqlStore]) -> None:
    with again() as store:
        filled(store.items, a={"t": "the red boat"}, b={})
        store.items.delete(NS, "b")
        before = store.items.get(NS, "a")
    with again() as store:
        item = store.items.get(NS, "a")
        assert (item, item and item.version) == (before, before and before.version)
        assert keys(store.items.search(NS, query="boat")) == ["a"]


def test_what_one_writes_another_reads_at_once(again: Callable[..., SqlStore]) -> None:
    with again() as one, again() as other:
        filled(one.items, a={"n": 1})
        item = other.items.get(NS, "a")
        assert item is not None
        other.items.put(NS, "a", {"n": 2}, if_version=item.version)
        assert [item.value for item in one.items.search(NS)] == [{"n": 2}]


@register_type
@dataclass
class Liking:
    food: str
    since: tuple[int, ...]


def test_values_come_back_as_what_they_were(database: InDatabase) -> None:
    value = {"liking": Liking("plums", (2030, 1)), "bytes": b"\0\xff", "nul": "a\0b", "lone": "\ud800", "big": 10**30}
    store = filled(database.store(), a=value)
    (found,) = store.search(NS, query="plums", filter={"liking": Liking("plums", (2030, 1))})
    assert found.value == value
    assert type(found.value["liking"].since) is tuple


@pytest.mark.parametrize("key", ["a\0", "\ud800"])
def test_a_key_that_no_database_can_keep_is_refused(database: InDatabase, key: str) -> None:
    for store in (database.store(), InMemoryStore()):
        with pytest.raises(UsageError, match="no database keeps"):
            store.put(NS, key, {})
        with pytest.raises(UsageError, match="no database keeps"):
            store.batch([GetOp(NS, key)])


def test_a_value_without_a_stored_form_leaves_nothing_of_its_batch(database: InDatabase) -> None:
    store = database.store()
    with pytest.raises(NotStorableError, match="item 'b' of namespace"):
        store.batch([PutOp(NS, "a", {}), PutOp(NS, "b", {"x": [object()]})])
    assert store.search(()) == []


def test_a_damaged_item_is_named(database: InDatabase) -> None:
    store = filled(database.store(), a={"n": 1})
    cut = "substr(data, 1, 5)" if database.kept_in._place.dialect == "sqlite" else "substring(data from 1 for 5)"
    database.say(f"update item set data = {cut}")
    for read in (lambda: store.get(NS, "a"), lambda: store.search(NS), lambda: store.search(NS, filter={"n": 1})):
        with pytest.raises(CorruptRecordError, match=r"item 'a' of namespace \('notes',\)"):
            read()


def test_what_is_read_in_pages_is_complete(database: InDatabase) -> None:
    store = database.store()
    store.batch([PutOp((f"n{number % 3}",), str(number), {"n": number}) for number in range(1100)])
    found = store.search((), filter={"n": {"$gte": 0}}, limit=2000)
    assert [item.value["n"] for item in found] == list(range(1100))
    assert len(store.search(("n1",), filter={"n": {"$gte": 500}}, limit=2000)) == 200


def test_an_item_that_the_filter_lets_pass_no_more_when_it_is_fetched_is_not_shown(database: InDatabase) -> None:
    store = filled(database.store(), a={"n": 1}, b={"n": 1})

    def ask(name: str, values: Any) -> list[Any]:
        rows = database.kept_in.ask(name, values)
        if name == "items_page":
            filled(store, a={"n": 2})
        return rows

    found = Search(SearchOp(NS, {"n": 1}), ask, Reader(Codec()), None).found()
    assert [item.key for _, item in found] == ["b"]


# Words


def test_long_words_and_long_texts_are_found_by_their_beginning(database: InDatabase) -> None:
    word = "w" * 5000
    many = " ".join(f"word{number:06}" for number in range(MOST_WORDS // 10 + 10))
    for store in (database.store(), InMemoryStore()):
        filled(store, a={"t": word}, b={"t": many}, c={"t": word[: LONGEST_WORD - 1]})
        assert [(item.key, item.score) for item in store.search(NS, query=word)] == [("a", 1), ("b", None), ("c", None)]
        assert keys(store.search(NS, query="word000001", limit=1)) == ["b"]
        assert store.search(NS, query=f"word{MOST_WORDS // 10 + 9:06}", limit=1)[0].score is None


@pytest.mark.parametrize(
    "query", ['"', "'", "red OR boat", "red*", "words:red", "-red", "NEAR(red boat)", "red & !boat"]
)
def test_a_query_is_words_and_no_language(database: InDatabase, query: str) -> None:
    found = []
    for store in (database.store(), InMemoryStore()):
        filled(store, a={"t": "red"}, b={"t": "boat"}, c={"t": "or near words"})
        found.append(shown(store.search(NS, query=query)))
    assert found[0] == found[1]


# Vectors


def test_one_database_is_searched_by_words_and_by_vectors(database: InDatabase) -> None:
    by_words = database.store()
    by_vectors = database.store(index={"embed": letters, "fields": ["t"]})
    by_vectors.put(NS, "both", {"t": "bab"})
    by_words.put(NS, "words", {"t": "aaa"})
    assert [(item.key, item.score) for item in by_words.search(NS, query="bab")] == [("both", 1.0), ("words", None)]
    assert keys(by_vectors.search(NS, query="a")) == ["both", "words"]
    assert by_vectors.search(NS, query="a")[1].score is None


def test_a_value_that_is_put_without_an_index_has_no_vectors_of_the_one_before(database: InDatabase) -> None:
    by_vectors = filled(database.store(index={"embed": letters}), a={"t": "a"})
    assert by_vectors.search(NS, query="a")[0].score is not None
    filled(database.store(), a={"t": "b"})
    assert by_vectors.search(NS, query="a")[0].score is None
    assert by_vectors.search(NS, query="a", filter={"t": "b"})[0].score is None


def test_vectors_of_what_was_replaced_are_deleted(database: InDatabase) -> None:
    store = filled(database.store(index={"embed": letters, "fields": ["t[*]"]}), a={"t": ["a", "b", "c"]})
    filled(store, a={"t": ["d"]})
    assert count(database, "item_vector") == 1
    store.delete(NS, "a")
    assert count(database, "item_vector") == 0


def test_vectors_of_another_length_are_named(database: InDatabase) -> None:
    filled(database.store(index={"embed": letters}), a={"t": "a"})
    other = database.store(index={"embed": lambda texts: [[1.0, 0.0] for _ in texts]})
    with pytest.raises(StoreError, match=r"item 'a' .* was embedded with 4 numbers, and the query with 2"):
        other.search(NS, query="a")


def near(texts: list[str]) -> list[list[float]]:
    """Vectors of 300 numbers whose cosines differ by about as much as single precision can tell."""
    return [[1 + random.Random(f"{text} {place}").random() * 1e-3 for place in range(300)] for text in texts]


def test_pgvector_finds_what_a_plain_scan_finds_in_the_same_order(pgvector: str) -> None:
    with ExitStack() as closing, PostgresStore(schema(pgvector, closing)) as store:
        index = {"embed": near, "fields": ["t[*]"]}
        compared, model = Items(store, index=index), InMemoryStore(index=index)
        writes = [PutOp(NS, str(number), {"t": [str(number % 40), "x"][: number % 3]}) for number in range(120)]
        for one in (compared, model):
            one.batch(writes)
        assert store.ask("has_likeness", {})
        for query in "abcdefgh":
            for limit, offset in [(1, 0), (1, 7), (3, 20), (5, 78), (200, 0)]:
                asked = {"query": query, "limit": limit, "offset": offset}
                assert shown(compared.search(NS, **asked)) == shown(model.search(NS, **asked))
        wanted = {"t": ["7"]}
        assert shown(compared.search(NS, query="7", filter=wanted)) == shown(model.search(NS, query="7", filter=wanted))


def test_pgvector_leaves_out_what_cannot_be_among_the_first(pgvector: str) -> None:
    with ExitStack() as closing, PostgresStore(schema(pgvector, closing)) as store:
        compared = Items(store, index={"embed": letters, "fields": ["t"]})
        compared.batch([PutOp(NS, str(number), {"t": "a" * number + "b"}) for number in range(50)])
        values = {"low": ".", "high": "/", "query": [0.0, 1.0, 0.0, 0.0], "most": 2, "slack": 1e-6}
        assert len(store.ask("items_nearest", values)) == 2
        values["query"] = [0.0, 1.0]
        assert len(store.ask("items_nearest", values)) == 50, "what cannot be compared is for others to look at"


def test_without_pgvector_the_database_is_not_asked_to_compare(pgvector: str, tmp_path: Path) -> None:
    with ExitStack() as closing, PostgresStore(schema(pgvector, closing)) as store:
        InDatabase(store).say("drop function likeness")
        compared = filled(Items(store, index={"embed": letters, "fields": ["t"]}), a={"t": "a"}, b={"t": "ab"})
        assert [item.score for item in compared.search(NS, query="a")] == pytest.approx([1, math.sqrt(0.5)])


# Time


def test_a_sweep_deletes_what_has_expired_and_says_how_much(database: InDatabase) -> None:
    store = database.store(index={"embed": letters})
    assert isinstance(store, Items)
    for key in "abc":
        store.put(NS, key, {"t": key}, ttl=1 if key < "c" else None)
    database.advance(2)
    assert count(database, "item") == 3
    assert (store.sweep_ttl(), store.sweep_ttl()) == (2, 0)
    assert (count(database, "item"), count(database, "item_vector")) == (1, 1)


def test_whoever_writes_sweeps_now_and_then(database: InDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "SWEEP", 0.0)
    store = database.store()
    store.put(NS, "a", {}, ttl=1)
    database.advance(2)
    store.put(("other",), "b", {})
    assert count(database, "item") == 1


def test_reading_what_does_not_expire_writes_nothing(database: InDatabase) -> None:
    store = filled(database.store(), a={"t": "a"})
    kept_in, queued = database.kept_in, []
    queue = kept_in._writer.queue
    kept_in._writer.queue = lambda work: (queued.append(work), queue(work))[1]  # type: ignore[method-assign]
    try:
        store.get(NS, "a")
        store.search(NS, query="a")
        assert queued == []
        store.put(NS, "a", {}, ttl=10)
        store.get(NS, "a", refresh_ttl=False)
        reading = len(queued)
        store.get(NS, "a")
        assert len(queued) == reading + 1, "its time begins anew"
    finally:
        kept_in._writer.queue = queue  # type: ignore[method-assign]


# Secrets


def test_an_encrypted_store_keeps_no_text_of_its_items(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db", encryption=secret()) as store:
        filled(store.items, a={"t": "cherries"})
        index = {"embed": lambda texts: [[3.0, 4.0] for _ in texts]}
        filled(Items(store, index=index), b={"t": "melon"})
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"notes" in found, "namespaces are not encrypted"
    for text in (b"cherr", b"melon", b64encode(bytes.fromhex("9a99193f"))[:5]):  # 0.6 in single precision
        assert text not in found


def test_an_encrypted_postgres_keeps_no_text_of_its_items(pgvector: str) -> None:
    with ExitStack() as closing, PostgresStore(schema(pgvector, closing), encryption=secret()) as store:
        filled(Items(store, index={"embed": letters}), a={"t": "abc cherries"})
        rows = store.write(lambda session: raw(session, "select words, lexemes::text, data from item")).result(10)
        vectors = store.write(lambda session: raw(session, "select embedding from item_vector")).result(10)
    assert [row[:2] for row in rows] == [("", None)]
    assert b"cherries" not in rows[0][2]
    assert vectors == [(None,)]


def test_an_encrypted_store_finds_the_same(again: Callable[..., SqlStore]) -> None:
    model = InMemoryStore()
    with again(encryption=secret()) as store:
        for one in (model, store.items):
            filled(one, a={"t": "the red boats"}, b={"t": "a RED boat"}, c={"t": "nothing"})
        for query in ("red boat", "boa", "thing", ""):
            assert shown(store.items.search(NS, query=query)) == shown(model.search(NS, query=query))
        near = filled(Items(store, index={"embed": letters, "fields": ["t"]}), d={"t": "ab"}, e={"t": "a"})
        assert keys(near.search(NS, query="a"))[:2] == ["e", "d"]


def test_what_was_put_before_a_store_was_encrypted_is_found_with_the_rest(again: Callable[..., SqlStore]) -> None:
    with again() as store:
        filled(store.items, a={"t": "red"})
    with again(encryption=Encryption(Keys("k", {"k": KEY}, read_plain=True))) as store:
        filled(store.items, b={"t": "red boat"})
        assert [(item.key, item.score) for item in store.items.search(NS, query="red")] == [("a", 1.0), ("b", 1.0)]


# Graphs


class State(TypedDict):
    said: str


def remember(state: State) -> dict[str, Any]:
    before = get_store().search(NS)
    get_store().put(NS, str(len(before)), {"said": state["said"]})
    return {"said": f"{len(before)} before"}


def talking(**settings: Any) -> Any:
    return StateGraph(State).add_node("remember", remember).add_edge(START, "remember").compile(**settings)


@pytest.mark.parametrize("how", ["url", "path", "store", "items", "checkpointer"])
def test_a_graph_is_given_memory_in_several_ways(how: str, tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with SqliteStore(path) as store:
        given: dict[str, dict[str, Any]] = {
            "url": {"store": f"sqlite:///{path}"},
            "path": {"store": path},
            "store": {"store": store},
            "items": {"store": store.items, "checkpointer": store},
            "checkpointer": {"store": True, "checkpointer": f"sqlite:///{path}"},
        }
        graph = talking(**given[how])
        assert graph.invoke({"said": "hello"}, thread_id="1") == {"said": "0 before"}
        assert asyncio.run(graph.ainvoke({"said": "again"}, thread_id="2")) == {"said": "1 before"}
        assert [item.value["said"] for item in store.items.search(NS)] == ["hello", "again"]


def test_memory_of_a_checkpointer_needs_one() -> None:
    with pytest.raises(UsageError, match="store=True"):
        talking(store=True)


def test_an_entrypoint_is_given_memory_in_the_same_ways() -> None:
    @entrypoint(checkpointer="memory:", store=True)
    def talk(said: str) -> str:
        return str(remember({"said": said})["said"])

    assert [talk.invoke("hello", thread_id=thread) for thread in "12"] == ["0 before", "1 before"]


def test_a_store_that_is_closed_says_so() -> None:
    store = SqliteStore(":memory:")
    store.close()
    for use in (lambda: store.items.get(NS, "a"), lambda: store.items.put(NS, "a", {})):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_sqlite_tells_of_a_file_that_has_lost_its_words(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        filled(store.items, a={"t": "red"})
    with sqlite3.connect(tmp_path / "runs.db") as raw_connection:
        raw_connection.execute("insert into item_words (item_words) values ('integrity-check')")
    raw_connection.close()


def count(database: InDatabase, table: str) -> int:
    ((number,),) = database.kept_in.write(lambda session: raw(session, f"select count(*) from {table}")).result(10)
    return int(number)


def raw(session: Any, statement: str) -> list[tuple[Any, ...]]:
    """What a statement returns that is none of ours."""
    return list(session._connection.execute(statement).fetchall())
