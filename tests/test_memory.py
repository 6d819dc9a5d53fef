"""The long-term store: a dictionary of namespaced copies that can be filtered, searched, and outlived."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fanfold.errors import NotStorableError, SyncInLoopError, UsageError
from fanfold.memory import (
    BaseStore,
    GetOp,
    InMemoryStore,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)

NS = ("notes",)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


def letters(texts: list[str]) -> list[list[float]]:
    """How often each letter from a to d is in the text."""
    return [[float(text.count(letter)) for letter in "abcd"] for text in texts]


def filled(store: InMemoryStore, **values: Any) -> InMemoryStore:
    for key, value in values.items():
        store.put(NS, key, value)
    return store


def keys(items: Iterable[Item]) -> list[str]:
    return [item.key for item in items]


# Items


def test_an_item_comes_back_with_its_place_and_its_times() -> None:
    clock = Clock()
    store = InMemoryStore(clock=clock)
    store.put(NS, "a", {"x": 1})
    assert store.get(NS, "a") == Item(NS, "a", {"x": 1}, clock.now, clock.now)


def test_what_is_not_there_is_none_and_leaves_no_trace() -> None:
    store = InMemoryStore()
    assert store.get(NS, "a") is None
    store.delete(NS, "a")
    assert store.list_namespaces() == []


def test_times_have_a_zone() -> None:
    item = filled(InMemoryStore(), a={}).get(NS, "a")
    assert item is not None
    assert item.created_at.utcoffset() == item.updated_at.utcoffset() == timedelta(0)


def test_putting_again_replaces_the_value_and_keeps_the_time_of_creation() -> None:
    clock = Clock()
    store = InMemoryStore(clock=clock)
    store.put(NS, "a", {"x": 1})
    clock.advance(5)
    store.put(NS, "a", {"y": 2})
    item = store.get(NS, "a")
    assert item is not None
    assert item.value == {"y": 2}
    assert item.updated_at - item.created_at == timedelta(minutes=5)


def test_a_value_of_none_deletes() -> None:
    store = filled(InMemoryStore(), a={})
    assert store.batch([PutOp(NS, "a", None)]) == [None]
    assert store.get(NS, "a") is None


def test_a_key_that_is_no_text_becomes_one() -> None:
    store = InMemoryStore()
    store.put(NS, 7, {})  # type: ignore[arg-type]
    assert store.get(NS, "7") is not None


def test_changing_what_was_put_or_returned_changes_nothing_stored() -> None:
    store, value = InMemoryStore(), {"list": [1]}
    store.put(NS, "a", value)
    value["list"].append(2)
    for _ in range(2):
        (found,), got = store.search(NS), store.get(NS, "a")
        assert got is not None
        assert got.value == found.value == {"list": [1]}
        got.value["list"].append(3)
        found.value["list"].append(4)


def test_an_item_can_be_said_in_json_and_kept_in_a_set() -> None:
    store = InMemoryStore(clock=Clock())
    store.put(NS, "a", {"x": 1})
    (found,) = store.search(NS)
    moment = "2030-01-01T00:00:00+00:00"
    plain = {"namespace": ["notes"], "key": "a", "value": {"x": 1}, "created_at": moment, "updated_at": moment}
    got = store.get(NS, "a")
    assert got is not None
    assert got.dict() == plain
    assert found.dict() == {**plain, "score": None}
    assert {got, found} == {got}


@pytest.mark.parametrize("value", ["text", ["list"], 3])
def test_a_value_that_is_no_dictionary_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="'a' of namespace"):
        InMemoryStore().put(NS, "a", value)


def test_a_value_that_cannot_be_copied_is_refused_by_name() -> None:
    with pytest.raises(NotStorableError, match="item 'a'"):
        InMemoryStore().put(NS, "a", {"lock": threading.Lock()})


# Namespaces


@pytest.mark.parametrize("namespace", [(), ("a.b",), ("",), ("a", ""), (1,), ("a\0",), ("langgraph", "x"), "notes"])
def test_a_namespace_that_cannot_be_is_refused(namespace: Any) -> None:
    with pytest.raises(InvalidNamespaceError) as caught:
        InMemoryStore().put(namespace, "a", {})
    assert isinstance(caught.value, ValueError)


def test_reading_refuses_wrong_labels_only() -> None:
    store = filled(InMemoryStore(), a={})
    assert store.get(("langgraph",), "a") is None
    assert keys(store.search(())) == ["a"]
    for wrong in (lambda: store.get(("a.b",), "a"), lambda: store.search(("",)), lambda: store.delete(("a.b",), "a")):
        with pytest.raises(InvalidNamespaceError):
            wrong()
    with pytest.raises(InvalidNamespaceError):
        store.batch([GetOp(("a.b",), "a")])


@pytest.fixture
def tree() -> InMemoryStore:
    store = InMemoryStore()
    for path in ("a/b/c", "a/b/d/e", "a/b/d/i", "a/b/f", "a/c/f", "b"):
        store.put(tuple(path.split("/")), "k", {})
    return store


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        ({}, ["a/b/c", "a/b/d/e", "a/b/d/i", "a/b/f", "a/c/f", "b"]),
        ({"prefix": ("a", "b"), "max_depth": 3}, ["a/b/c", "a/b/d", "a/b/f"]),
        ({"prefix": ("a", "*", "f")}, ["a/b/f", "a/c/f"]),
        ({"suffix": ("f",)}, ["a/b/f", "a/c/f"]),
        ({"suffix": ("d", "*")}, ["a/b/d/e", "a/b/d/i"]),
        ({"prefix": ("a", "b"), "suffix": ("f",)}, ["a/b/f"]),
        ({"prefix": ("a", "b", "c", "d", "e")}, []),
        ({"suffix": ("a", "b")}, []),
        ({"max_depth": 1}, ["a", "b"]),
        ({"limit": 2, "offset": 3}, ["a/b/f", "a/c/f"]),
    ],
)
def test_namespaces_are_listed_by_how_they_begin_and_end(tree: InMemoryStore, asked: Any, paths: list[str]) -> None:
    assert tree.list_namespaces(**asked) == [tuple(path.split("/")) for path in paths]


def test_a_namespace_ends_with_its_last_item(tree: InMemoryStore) -> None:
    tree.delete(("b",), "k")
    assert ("b",) not in tree.list_namespaces()


def test_an_unknown_way_to_match_is_refused(tree: InMemoryStore) -> None:
    with pytest.raises(UsageError, match="'infix'"):
        tree.batch([ListNamespacesOp((MatchCondition("infix", ("a",)),))])  # type: ignore[arg-type]


# Searching


def test_a_search_without_a_query_keeps_the_order_of_the_first_put() -> None:
    store = filled(InMemoryStore(), b={}, a={}, c={})
    store.put(NS, "b", {"again": True})
    assert keys(store.search(NS)) == ["b", "a", "c"]
    assert keys(store.search(NS, limit=1, offset=1)) == ["a"]


def test_a_search_returns_ten_items_unless_told_otherwise() -> None:
    store = filled(InMemoryStore(), **{f"k{n}": {} for n in range(12)})
    assert len(store.search(NS)) == 10
    assert len(store.search(NS, limit=12)) == 12
    assert store.search(NS, limit=0) == []


def test_a_prefix_takes_whole_labels(tree: InMemoryStore) -> None:
    assert len(tree.search(("a", "b"))) == 4
    assert tree.search(("a", "bb")) == []


def test_a_negative_window_is_refused() -> None:
    with pytest.raises(UsageError, match="limit=-1"):
        InMemoryStore().search(NS, limit=-1)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "abc"),
        ({"n": 2}, "b"),
        ({"n": {"$eq": 2}}, "b"),
        ({"n": {"$ne": 2}}, "ac"),
        ({"n": {"$gt": 2}}, "c"),
        ({"n": {"$gte": 2}}, "bc"),
        ({"n": {"$lt": 2}}, "a"),
        ({"n": {"$gt": 1, "$lt": 10}}, "b"),
        ({"n": {"$lte": "2"}}, "ab"),
        ({"day": {"$gt": "2030-01-15"}}, "b"),
        ({"day": {"$lt": 5}}, ""),
        ({"deep": {"x": {"$gte": 5}}}, "c"),
        ({"tags": ["u", "v"]}, "a"),
        ({"tags": ["u"]}, ""),
        ({"n": 2, "day": "2030-02-01"}, "b"),
        ({"missing": None}, "abc"),
        ({"missing": {"$gt": 1}}, ""),
        ({"missing": {"$ne": 1}}, "abc"),
    ],
)
def test_a_filter_compares_key_by_key(wanted: Any, found: str) -> None:
    store = filled(
        InMemoryStore(),
        a={"n": 1, "day": "2030-01-01", "tags": ["u", "v"]},
        b={"n": 2, "day": "2030-02-01", "deep": {"x": 1}},
        c={"n": 10, "deep": {"x": 5}},
    )
    assert "".join(keys(store.search(NS, filter=wanted))) == found


@pytest.mark.parametrize("wanted", [{"n": {"$gtr": 1}}, {"a": {"n": {"$in": [1]}}}, {"n": {"$gt": 1, "m": 2}}])
def test_an_unknown_operator_is_refused_even_when_there_is_nothing_to_compare(wanted: Any) -> None:
    with pytest.raises(ValueError, match="no operator"):
        InMemoryStore().search(NS, filter=wanted)


def test_the_filter_comes_before_the_limit() -> None:
    store = filled(InMemoryStore(), a={"x": 1}, b={"x": 2}, c={"x": 2})
    assert keys(store.search(NS, filter={"x": 2}, limit=1, offset=1)) == ["c"]


# Searching words


def test_words_rank_and_hide_nothing() -> None:
    store = filled(
        InMemoryStore(), a={"t": "the sea"}, b={"t": "the red boats"}, c={"t": "a RED boat"}, d={"t": "nothing"}
    )
    found = store.search(NS, query="red boat")
    assert keys(found) == ["c", "b", "a", "d"]
    assert found[0].score == 1.0
    assert 0.5 < (found[1].score or 0) < 1, "half of 'boat' was found"
    assert [item.score for item in found[2:]] == [None, None]


def test_rare_words_weigh_more_than_common_ones() -> None:
    common = {f"x{n}": {"t": "the user"} for n in range(5)}
    store = filled(InMemoryStore(), **common, rare={"t": "cherries"})
    assert keys(store.search(NS, query="the cherries"))[0] == "rare"


def test_names_of_keys_are_not_searched() -> None:
    store = filled(InMemoryStore(), a={"food": "plum"}, b={"x": [{"y": "food"}]})
    assert keys(store.search(NS, query="food")) == ["b", "a"]


def test_index_says_what_is_searched_for_words_too() -> None:
    store = InMemoryStore()
    store.put(NS, "hidden", {"t": "plum"}, index=False)
    store.put(NS, "other", {"t": "plum", "u": "pear"}, index=["u"])
    store.put(NS, "open", {"t": "plum"})
    assert [(item.key, item.score) for item in store.search(NS, query="plum")] == [
        ("open", 1.0),
        ("hidden", None),
        ("other", None),
    ]


@pytest.mark.parametrize("query", ["", "?!"])
def test_a_query_without_words_ranks_nothing(query: str) -> None:
    found = filled(InMemoryStore(), a={"t": "x"}, b={"t": "y"}).search(NS, query=query)
    assert [(item.key, item.score) for item in found] == [("a", None), ("b", None)]


# Searching vectors


def vectors(fields: list[str] | None = None, embed: Any = letters) -> InMemoryStore:
    return InMemoryStore(index={"dims": 4, "embed": embed, "fields": fields})


def test_the_score_is_the_cosine() -> None:
    store = filled(vectors(["t"]), a={"t": "aaa"}, b={"t": "ab"}, c={"t": "b"})
    found = store.search(NS, query="a")
    assert keys(found) == ["a", "b", "c"]
    assert [item.score for item in found] == pytest.approx([1, math.sqrt(0.5), 0])


def test_of_many_vectors_the_nearest_counts() -> None:
    store = filled(vectors(["items[*].t"]), a={"items": [{"t": "c"}, {"t": "b"}]}, b={"items": [{"t": "bc"}]})
    found = store.search(NS, query="b")
    assert [(item.key, round(item.score or 0, 3)) for item in found] == [("a", 1.0), ("b", 0.707)]


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("title", ["a"]),
        ("deep.name", ["b"]),
        ("list[0]", ["c"]),
        ("list[-1]", ["d"]),
        ("list[*]", ["c", "d"]),
        ("list[7]", []),
        ("list[x]", []),
        ("items[*].t", ["1", "2.5"]),
        ("deep", ['{"name": "b"}']),
        ("{title,deep.name}", ["a", "b"]),
        ("deep.*", ["b"]),
        ("$.title", ["a"]),
        ("none", []),
        ("missing.more", []),
        ("title[0]", []),
    ],
)
def test_a_path_gives_the_texts_that_are_embedded(path: str, texts: list[str]) -> None:
    seen: list[str] = []

    def embed(asked: list[str]) -> list[list[float]]:
        seen.extend(asked)
        return letters(asked)

    value = {"title": "a", "deep": {"name": "b"}, "list": ["c", "d"], "items": [{"t": 1}, {"t": 2.5}], "none": None}
    vectors([path], embed).put(NS, "k", value)
    assert seen == texts


def test_without_fields_the_whole_value_is_one_text() -> None:
    seen: list[str] = []
    store = vectors(embed=lambda texts: seen.extend(texts) or letters(texts))
    store.put(NS, "k", {"b": "ü", "a": 1})
    assert seen == ['{"a": 1, "b": "ü"}']


def test_an_item_without_a_vector_comes_last_and_without_a_score() -> None:
    store = vectors(["t"])
    store.put(NS, "out", {"t": "a"}, index=False)
    store.put(NS, "other", {"t": "d", "u": "a"}, index=["u"])
    store.put(NS, "in", {"t": "ab"})
    found = store.search(NS, query="a")
    assert keys(found) == ["other", "in", "out"]
    assert found[-1].score is None
    assert keys(store.search(NS, query="a", offset=1, limit=2)) == ["in", "out"]


def test_putting_again_forgets_the_old_vectors() -> None:
    store = filled(vectors(["t", "u"]), a={"t": "a", "u": "b"})
    store.put(NS, "a", {"t": "c"})
    (item,) = store.search(NS, query="ab")
    assert item.score == 0


def test_a_text_is_embedded_once_however_often_it_is_put() -> None:
    calls: list[list[str]] = []
    store = vectors(["t"], lambda texts: calls.append(texts) or letters(texts))
    store.batch([PutOp(NS, key, {"t": "same"}) for key in "ab"])
    assert calls == [["same"]]
    assert keys(store.search(NS, query="same")) == ["a", "b"]


class Questions:
    """Embeds a question as the opposite of what a document of that text would be."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return letters(texts)

    def embed_query(self, text: str) -> list[float]:
        return letters([text[::-1].translate(str.maketrans("abcd", "dcba"))])[0]


def test_an_object_may_embed_queries_in_another_way() -> None:
    store = filled(vectors(["t"], Questions()), a={"t": "a"}, d={"t": "d"})
    assert keys(store.search(NS, query="a")) == ["d", "a"]
    assert keys(asyncio.run(store.asearch(NS, query="a"))) == ["d", "a"]


class Both(Questions):
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return letters(texts)

    async def aembed_query(self, text: str) -> list[float]:
        return letters([text])[0]


def test_an_object_with_async_methods_is_awaited() -> None:
    store = vectors(["t"], Both())

    async def use() -> list[SearchItem]:
        await store.aput(NS, "a", {"t": "a"})
        await store.aput(NS, "d", {"t": "d"})
        return await store.asearch(NS, query="a")

    assert keys(asyncio.run(use())) == ["a", "d"]


async def aletters(texts: list[str]) -> list[list[float]]:
    return letters(texts)


def test_an_async_function_embeds_for_blocking_calls_too() -> None:
    store = filled(vectors(["t"], aletters), a={"t": "a"}, b={"t": "b"})
    assert keys(store.search(NS, query="b")) == ["b", "a"]
    assert keys(asyncio.run(store.asearch(NS, query="b"))) == ["b", "a"]


def test_a_blocking_call_that_would_need_the_running_loop_names_the_async_one() -> None:
    async def use() -> None:
        vectors(["t"], aletters).put(NS, "a", {"t": "a"})

    with pytest.raises(SyncInLoopError, match="aput"):
        asyncio.run(use())


def test_a_blocking_function_does_not_block_the_loop() -> None:
    threads: list[int] = []
    store = vectors(["t"], lambda texts: threads.append(threading.get_ident()) or letters(texts))
    asyncio.run(store.aput(NS, "a", {"t": "a"}))
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda texts: [[1.0, 2.0] for _ in texts], "2 numbers for 'a'.*has 4"),
        (lambda texts: [], "0 vectors for 1 texts"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_nothing_is_stored(embed: Any, said: str) -> None:
    store = vectors(["t"], embed)
    with pytest.raises(UsageError, match=said):
        store.put(NS, "a", {"t": "a"})
    assert store.get(NS, "a") is None


@pytest.mark.parametrize("embed", [None, "vendor:model"])
def test_what_cannot_embed_is_refused_at_once(embed: Any) -> None:
    with pytest.raises(UsageError, match="cannot embed"):
        vectors(embed=embed)


# Batches


def test_reads_of_a_batch_come_before_its_writes() -> None:
    store = filled(InMemoryStore(), a={"x": 1})
    answers = store.batch(
        [PutOp(NS, "a", {"x": 2}), GetOp(NS, "a"), SearchOp(NS), ListNamespacesOp(), PutOp(NS, "b", {})]
    )
    assert answers[0] is answers[4] is None
    assert answers[1].value == answers[2][0].value == {"x": 1}
    assert answers[3] == [NS]
    assert [item.value for item in store.search(NS)] == [{"x": 2}, {}]


def test_the_last_write_of_a_batch_counts() -> None:
    store = InMemoryStore()
    store.batch([PutOp(NS, "a", {"x": 1}), PutOp(NS, "a", None), PutOp(NS, "a", {"x": 3}), PutOp(NS, "b", {})])
    store.batch([PutOp(NS, "b", {}), PutOp(NS, "b", None)])
    assert [item.value for item in store.search(NS)] == [{"x": 3}]


def test_a_batch_with_a_mistake_does_nothing() -> None:
    store = InMemoryStore()
    with pytest.raises(UsageError, match="no operation"):
        store.batch([PutOp(NS, "a", {}), "get"])  # type: ignore[list-item]
    assert store.search(()) == []


def test_async_methods_do_what_the_others_do_and_say_so() -> None:
    store = InMemoryStore()

    async def use() -> tuple[Any, ...]:
        await store.aput(NS, "a", {"x": 1}, ttl=None)
        await store.aput(NS, "b", {"x": 2})
        await store.adelete(NS, "b")
        (got,) = await store.abatch([GetOp(NS, "a")])
        return got, await store.aget(NS, "a"), await store.asearch(NS, filter={"x": 1}), await store.alist_namespaces()

    got, again, found, namespaces = asyncio.run(use())
    assert got == again == store.get(NS, "a")
    assert (found, namespaces) == (store.search(NS), store.list_namespaces())
    for name in ("get", "search", "put", "delete", "list_namespaces"):
        twin = getattr(store, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(getattr(store, name))


def test_async_methods_refuse_what_the_others_refuse() -> None:
    with pytest.raises(InvalidNamespaceError):
        asyncio.run(InMemoryStore().aput((), "a", {}))


class Recorder(BaseStore):
    """A store that answers with the operations it was asked to do."""

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        return list(ops)

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        return list(ops)


def test_a_store_of_ones_own_needs_two_methods() -> None:
    store = Recorder()
    assert store.get(NS, "a") == GetOp(NS, "a", True) == asyncio.run(store.aget(NS, "a"))
    assert store.search(NS, query="q") == SearchOp(NS, None, 10, 0, "q", True)
    assert asyncio.run(store.alist_namespaces(prefix=("a",))) == ListNamespacesOp((MatchCondition("prefix", ("a",)),))


def test_a_store_that_lets_nothing_expire_refuses_a_time_to_live() -> None:
    with pytest.raises(UsageError, match="supports_ttl"):
        Recorder().put(NS, "a", {}, ttl=1)


def test_whatever_has_the_methods_is_a_store() -> None:
    alike = type("Alike", (), {name: getattr(Recorder, name) for name in dir(Recorder) if name[0] != "_"})
    assert isinstance(alike(), BaseStore)
    assert not isinstance({}, BaseStore)
    assert not issubclass(alike, InMemoryStore)


# Time to live


def expiring(**config: Any) -> tuple[InMemoryStore, Clock]:
    clock = Clock()
    return InMemoryStore(ttl=config or None, clock=clock), clock  # type: ignore[arg-type]


def test_an_item_is_gone_for_every_operation_when_its_time_is_over() -> None:
    store, clock = expiring()
    store.put(NS, "a", {}, ttl=10)
    clock.advance(9.9)
    assert store.get(NS, "a", refresh_ttl=False) is not None
    clock.advance(0.1)
    assert store.get(NS, "a") is None
    assert (store.search(()), store.list_namespaces()) == ([], [])


def test_its_memory_is_given_back_without_anyone_asking_for_it() -> None:
    store, clock = expiring()
    store.put(NS, "a", {}, ttl=1)
    clock.advance(1)
    store.put(("other",), "b", {})
    assert (list(store._rows), store._due) == ([("other",)], [])


def test_the_default_holds_unless_put_says_otherwise() -> None:
    store, clock = expiring(default_ttl=10)
    store.put(NS, "default", {})
    store.put(NS, "longer", {}, ttl=20)
    store.put(NS, "forever", {}, ttl=None)
    clock.advance(10)
    assert keys(store.search(NS, refresh_ttl=False)) == ["longer", "forever"]
    clock.advance(10)
    assert keys(store.search(NS)) == ["forever"]


@pytest.mark.parametrize("read", [lambda store: store.get(NS, "a"), lambda store: store.search(NS)])
def test_reading_begins_the_time_anew(read: Any) -> None:
    store, clock = expiring(default_ttl=10)
    store.put(NS, "a", {})
    for _ in range(5):
        clock.advance(9)
        assert read(store)
    clock.advance(10)
    assert not read(store)


def test_reading_does_not_when_the_store_or_the_call_says_so() -> None:
    store, clock = expiring(default_ttl=10, refresh_on_read=False)
    store.put(NS, "a", {})
    store.put(NS, "b", {})
    clock.advance(9)
    store.get(NS, "a")
    store.get(NS, "b", refresh_ttl=True)
    clock.advance(1)
    assert keys(store.search(NS)) == ["b"]


def test_only_what_a_search_returns_is_prolonged() -> None:
    store, clock = expiring(default_ttl=10)
    filled(store, a={}, b={})
    clock.advance(9)
    store.search(NS, limit=1)
    clock.advance(1)
    assert keys(store.search(NS)) == ["a"]


def test_putting_again_sets_the_time_anew_also_to_a_shorter_one() -> None:
    store, clock = expiring()
    store.put(NS, "a", {}, ttl=100)
    store.put(NS, "a", {}, ttl=1)
    store.put(NS, "b", {}, ttl=1)
    store.put(NS, "b", {})
    clock.advance(1)
    assert keys(store.search(NS)) == ["b"]


@pytest.mark.parametrize("ttl", [0, -1, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(ttl: float) -> None:
    with pytest.raises(UsageError, match="ttl="):
        InMemoryStore().put(NS, "a", {}, ttl=ttl)


# Laws


class LikeADictionary(RuleBasedStateMachine):
    """Whatever is put, deleted and waited for, the store holds what a dictionary of expiry times says."""

    namespaces = st.sampled_from([("a",), ("a", "b"), ("c",)])
    names = st.sampled_from("xyz")

    def __init__(self) -> None:
        super().__init__()
        self.store, self.clock = expiring()
        self.model: dict[tuple[tuple[str, ...], str], tuple[int, float, float | None]] = {}
        self.minute = 0.0

    @rule(namespace=namespaces, key=names, number=st.integers(), ttl=st.sampled_from([None, 1, 3, 7]))
    def put(self, namespace: tuple[str, ...], key: str, number: int, ttl: float | None) -> None:
        self.store.put(namespace, key, {"n": number}, ttl=ttl)
        self.model[namespace, key] = (number, self.minute + (ttl or math.inf), ttl)

    @rule(namespace=namespaces, key=names)
    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        self.store.delete(namespace, key)
        self.model.pop((namespace, key), None)

    @rule(minutes=st.integers(1, 5))
    def wait(self, minutes: int) -> None:
        self.clock.advance(minutes)
        self.minute += minutes
        self.model = {place: row for place, row in self.model.items() if row[1] > self.minute}

    @rule(namespace=namespaces, key=names)
    def get(self, namespace: tuple[str, ...], key: str) -> None:
        item = self.store.get(namespace, key)
        row = self.model.get((namespace, key))
        assert (item.value["n"] if item else None) == (row[0] if row else None)
        if row:
            self.model[namespace, key] = (row[0], self.minute + (row[2] or math.inf), row[2])

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = {(item.namespace, item.key): item.value["n"] for item in self.store.search((), refresh_ttl=False)}
        assert found == {place: row[0] for place, row in self.model.items()}
        assert self.store.list_namespaces() == sorted({namespace for namespace, _ in self.model})


TestLikeADictionary = LikeADictionary.TestCase
TestLikeADictionary.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

texts = st.text("abcd ", min_size=1, max_size=6)


@given(st.lists(texts, max_size=8), texts, st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_windows_of_a_ranking_are_pieces_of_the_whole(
    contents: list[str], query: str, offset: int, limit: int, by_vector: bool
) -> None:
    store = vectors(["t"]) if by_vector else InMemoryStore()
    store.batch([PutOp(NS, str(place), {"t": text}) for place, text in enumerate(contents)])
    whole = store.search(NS, query=query, limit=100)
    scores = [-math.inf if item.score is None else item.score for item in whole]
    assert sorted(keys(whole)) == [str(place) for place in range(len(contents))]
    assert scores == sorted(scores, reverse=True)
    assert all(score == -math.inf or score <= 1.000001 for score in scores)
    assert keys(store.search(NS, query=query, limit=limit, offset=offset)) == keys(whole)[offset : offset + limit]


def test_threads_lose_no_write() -> None:
    store = InMemoryStore()
    start = threading.Barrier(4)

    def write(who: int) -> None:
        start.wait()
        for number in range(50):
            store.put(("t", str(number)), str(who), {"n": number})
            store.search(("t",), query="n", limit=3)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.search(("t",), limit=1000)) == 200
