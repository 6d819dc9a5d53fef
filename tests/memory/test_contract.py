"""What every long-term store does: namespaced copies that can be filtered, searched, compared, and outlived."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fanfold.errors import NotStorableError, SyncInLoopError, UsageError
from fanfold.memory import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)
from tests.memory.places import NS, Place, filled, keys, letters

# Items


def test_an_item_comes_back_with_its_place_and_its_times(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {"x": 1})
    item = store.get(NS, "a")
    assert item is not None
    assert (item.namespace, item.key, item.value) == (NS, "a", {"x": 1})
    assert item.created_at == item.updated_at == pytest.approx(datetime.now(UTC), abs=timedelta(minutes=1))


def test_what_is_not_there_is_none_and_leaves_no_trace(place: Place) -> None:
    store = place.store()
    assert store.get(NS, "a") is None
    store.delete(NS, "a")
    assert store.list_namespaces() == []


def test_times_have_a_zone(place: Place) -> None:
    item = filled(place.store(), a={}).get(NS, "a")
    assert item is not None
    assert item.created_at.utcoffset() == item.updated_at.utcoffset() == timedelta(0)


def test_putting_again_replaces_the_value_and_keeps_the_time_of_creation(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {"x": 1})
    place.advance(5)
    store.put(NS, "a", {"y": 2})
    item = store.get(NS, "a")
    assert item is not None
    assert item.value == {"y": 2}
    assert item.updated_at - item.created_at == pytest.approx(timedelta(minutes=5), abs=timedelta(seconds=30))


def test_a_value_of_none_deletes(place: Place) -> None:
    store = filled(place.store(), a={})
    assert store.batch([PutOp(NS, "a", None)]) == [None]
    assert store.get(NS, "a") is None


def test_a_key_that_is_no_text_becomes_one(place: Place) -> None:
    store = place.store()
    store.put(NS, 7, {})  # type: ignore[arg-type]
    assert store.get(NS, "7") is not None


def test_changing_what_was_put_or_returned_changes_nothing_stored(place: Place) -> None:
    store, value = place.store(), {"list": [1]}
    store.put(NS, "a", value)
    value["list"].append(2)
    for _ in range(2):
        (found,), got = store.search(NS), store.get(NS, "a")
        assert got is not None
        assert got.value == found.value == {"list": [1]}
        got.value["list"].append(3)
        found.value["list"].append(4)


def test_an_item_can_be_said_in_json_and_kept_in_a_set(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {"x": 1})
    (found,), got = store.search(NS), store.get(NS, "a")
    assert got is not None
    times = {"created_at": got.created_at.isoformat(), "updated_at": got.updated_at.isoformat()}
    plain = {"namespace": ["notes"], "key": "a", "value": {"x": 1}, **times}
    assert json.loads(json.dumps(got.dict())) == plain
    assert found.dict() == {**plain, "score": None}
    assert {got, found} == {got}


@pytest.mark.parametrize("value", ["text", ["list"], 3])
def test_a_value_that_is_no_dictionary_is_refused(place: Place, value: Any) -> None:
    with pytest.raises(UsageError, match="'a' of namespace"):
        place.store().put(NS, "a", value)


def test_a_value_that_cannot_be_kept_is_refused_by_name(place: Place) -> None:
    with pytest.raises(NotStorableError, match="item 'a'"):
        place.store().put(NS, "a", {"lock": threading.Lock()})


# Namespaces


@pytest.mark.parametrize("namespace", [(), ("a.b",), ("",), ("a", ""), (1,), ("a\0",), ("langgraph", "x"), "notes"])
def test_a_namespace_that_cannot_be_is_refused(place: Place, namespace: Any) -> None:
    with pytest.raises(InvalidNamespaceError) as caught:
        place.store().put(namespace, "a", {})
    assert isinstance(caught.value, ValueError)


def test_reading_refuses_wrong_labels_only(place: Place) -> None:
    store = filled(place.store(), a={})
    assert store.get(("langgraph",), "a") is None
    assert keys(store.search(())) == ["a"]
    for wrong in (lambda: store.get(("a.b",), "a"), lambda: store.search(("",)), lambda: store.delete(("a.b",), "a")):
        with pytest.raises(InvalidNamespaceError):
            wrong()
    with pytest.raises(InvalidNamespaceError):
        store.batch([GetOp(("a.b",), "a")])


@pytest.fixture
def tree(place: Place) -> BaseStore:
    store = place.store()
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
def test_namespaces_are_listed_by_how_they_begin_and_end(tree: BaseStore, asked: Any, paths: list[str]) -> None:
    assert tree.list_namespaces(**asked) == [tuple(path.split("/")) for path in paths]


def test_a_namespace_ends_with_its_last_item(tree: BaseStore) -> None:
    tree.delete(("b",), "k")
    assert ("b",) not in tree.list_namespaces()


def test_an_unknown_way_to_match_is_refused(tree: BaseStore) -> None:
    with pytest.raises(UsageError, match="'infix'"):
        tree.batch([ListNamespacesOp((MatchCondition("infix", ("a",)),))])  # type: ignore[arg-type]


# Searching


def test_a_search_without_a_query_keeps_the_order_of_the_first_put(place: Place) -> None:
    store = filled(place.store(), b={}, a={}, c={})
    store.put(NS, "b", {"again": True})
    assert keys(store.search(NS)) == ["b", "a", "c"]
    assert keys(store.search(NS, limit=1, offset=1)) == ["a"]


def test_a_search_returns_ten_items_unless_told_otherwise(place: Place) -> None:
    store = filled(place.store(), **{f"k{n}": {} for n in range(12)})
    assert len(store.search(NS)) == 10
    assert len(store.search(NS, limit=12)) == 12
    assert store.search(NS, limit=0) == []


def test_a_prefix_takes_whole_labels(tree: BaseStore) -> None:
    assert len(tree.search(("a", "b"))) == 4
    assert tree.search(("a", "bb")) == []


def test_a_negative_window_is_refused(place: Place) -> None:
    with pytest.raises(UsageError, match="limit=-1"):
        place.store().search(NS, limit=-1)


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
def test_a_filter_compares_key_by_key(place: Place, wanted: Any, found: str) -> None:
    store = filled(
        place.store(),
        a={"n": 1, "day": "2030-01-01", "tags": ["u", "v"]},
        b={"n": 2, "day": "2030-02-01", "deep": {"x": 1}},
        c={"n": 10, "deep": {"x": 5}},
    )
    assert "".join(keys(store.search(NS, filter=wanted))) == found


@pytest.mark.parametrize("wanted", [{"n": {"$gtr": 1}}, {"a": {"n": {"$in": [1]}}}, {"n": {"$gt": 1, "m": 2}}])
def test_an_unknown_operator_is_refused_even_when_there_is_nothing_to_compare(place: Place, wanted: Any) -> None:
    with pytest.raises(ValueError, match="no operator"):
        place.store().search(NS, filter=wanted)


def test_the_filter_comes_before_the_limit(place: Place) -> None:
    store = filled(place.store(), a={"x": 1}, b={"x": 2}, c={"x": 2})
    assert keys(store.search(NS, filter={"x": 2}, limit=1, offset=1)) == ["c"]


# Searching words


def test_words_rank_and_hide_nothing(place: Place) -> None:
    store = filled(
        place.store(), a={"t": "the sea"}, b={"t": "the red boats"}, c={"t": "a RED boat"}, d={"t": "nothing"}
    )
    found = store.search(NS, query="red boat")
    assert keys(found) == ["c", "b", "a", "d"]
    assert found[0].score == 1.0
    assert 0.5 < (found[1].score or 0) < 1, "half of 'boat' was found"
    assert [item.score for item in found[2:]] == [None, None]


def test_rare_words_weigh_more_than_common_ones(place: Place) -> None:
    common = {f"x{n}": {"t": "the user"} for n in range(5)}
    store = filled(place.store(), **common, rare={"t": "cherries"})
    assert keys(store.search(NS, query="the cherries"))[0] == "rare"


def test_names_of_keys_are_not_searched(place: Place) -> None:
    store = filled(place.store(), a={"food": "plum"}, b={"x": [{"y": "food"}]})
    assert keys(store.search(NS, query="food")) == ["b", "a"]


def test_index_says_what_is_searched_for_words_too(place: Place) -> None:
    store = place.store()
    store.put(NS, "hidden", {"t": "plum"}, index=False)
    store.put(NS, "other", {"t": "plum", "u": "pear"}, index=["u"])
    store.put(NS, "open", {"t": "plum"})
    assert [(item.key, item.score) for item in store.search(NS, query="plum")] == [
        ("open", 1.0),
        ("hidden", None),
        ("other", None),
    ]


@pytest.mark.parametrize("query", ["", "?!"])
def test_a_query_without_words_ranks_nothing(place: Place, query: str) -> None:
    found = filled(place.store(), a={"t": "x"}, b={"t": "y"}).search(NS, query=query)
    assert [(item.key, item.score) for item in found] == [("a", None), ("b", None)]


# Searching vectors


def vectors(place: Place, fields: list[str] | None = None, embed: Any = letters) -> BaseStore:
    return place.store(index={"dims": 4, "embed": embed, "fields": fields})


def test_the_score_is_the_cosine(place: Place) -> None:
    store = filled(vectors(place, ["t"]), a={"t": "aaa"}, b={"t": "ab"}, c={"t": "b"})
    found = store.search(NS, query="a")
    assert keys(found) == ["a", "b", "c"]
    assert [item.score for item in found] == pytest.approx([1, math.sqrt(0.5), 0])


def test_of_many_vectors_the_nearest_counts(place: Place) -> None:
    store = filled(vectors(place, ["items[*].t"]), a={"items": [{"t": "c"}, {"t": "b"}]}, b={"items": [{"t": "bc"}]})
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
def test_a_path_gives_the_texts_that_are_embedded(place: Place, path: str, texts: list[str]) -> None:
    seen: list[str] = []

    def embed(asked: list[str]) -> list[list[float]]:
        seen.extend(asked)
        return letters(asked)

    value = {"title": "a", "deep": {"name": "b"}, "list": ["c", "d"], "items": [{"t": 1}, {"t": 2.5}], "none": None}
    vectors(place, [path], embed).put(NS, "k", value)
    assert seen == texts


def test_without_fields_the_whole_value_is_one_text(place: Place) -> None:
    seen: list[str] = []
    store = vectors(place, embed=lambda texts: seen.extend(texts) or letters(texts))
    store.put(NS, "k", {"b": "ü", "a": 1})
    assert seen == ['{"a": 1, "b": "ü"}']


def test_an_item_without_a_vector_comes_last_and_without_a_score(place: Place) -> None:
    store = vectors(place, ["t"])
    store.put(NS, "out", {"t": "a"}, index=False)
    store.put(NS, "other", {"t": "d", "u": "a"}, index=["u"])
    store.put(NS, "in", {"t": "ab"})
    found = store.search(NS, query="a")
    assert keys(found) == ["other", "in", "out"]
    assert found[-1].score is None
    assert keys(store.search(NS, query="a", offset=1, limit=2)) == ["in", "out"]


def test_putting_again_forgets_the_old_vectors(place: Place) -> None:
    store = filled(vectors(place, ["t", "u"]), a={"t": "a", "u": "b"})
    store.put(NS, "a", {"t": "c"})
    (item,) = store.search(NS, query="ab")
    assert item.score == 0


def test_a_text_is_embedded_once_however_often_it_is_put(place: Place) -> None:
    calls: list[list[str]] = []
    store = vectors(place, ["t"], lambda texts: calls.append(texts) or letters(texts))
    store.batch([PutOp(NS, key, {"t": "same"}) for key in "ab"])
    assert calls == [["same"]]
    assert keys(store.search(NS, query="same")) == ["a", "b"]


class Questions:
    """Embeds a question as the opposite of what a document of that text would be."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return letters(texts)

    def embed_query(self, text: str) -> list[float]:
        return letters([text[::-1].translate(str.maketrans("abcd", "dcba"))])[0]


def test_an_object_may_embed_queries_in_another_way(direct: Place) -> None:
    store = filled(vectors(direct, ["t"], Questions()), a={"t": "a"}, d={"t": "d"})
    assert keys(store.search(NS, query="a")) == ["d", "a"]
    assert keys(asyncio.run(store.asearch(NS, query="a"))) == ["d", "a"]


class Both(Questions):
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return letters(texts)

    async def aembed_query(self, text: str) -> list[float]:
        return letters([text])[0]


def test_an_object_with_async_methods_is_awaited(direct: Place) -> None:
    store = vectors(direct, ["t"], Both())

    async def use() -> list[SearchItem]:
        await store.aput(NS, "a", {"t": "a"})
        await store.aput(NS, "d", {"t": "d"})
        return await store.asearch(NS, query="a")

    assert keys(asyncio.run(use())) == ["a", "d"]


async def aletters(texts: list[str]) -> list[list[float]]:
    return letters(texts)


def test_an_async_function_embeds_for_blocking_calls_too(direct: Place) -> None:
    store = filled(vectors(direct, ["t"], aletters), a={"t": "a"}, b={"t": "b"})
    assert keys(store.search(NS, query="b")) == ["b", "a"]
    assert keys(asyncio.run(store.asearch(NS, query="b"))) == ["b", "a"]


def test_a_blocking_call_that_would_need_the_running_loop_names_the_async_one(direct: Place) -> None:
    async def use() -> None:
        vectors(direct, ["t"], aletters).put(NS, "a", {"t": "a"})

    with pytest.raises(SyncInLoopError, match="aput"):
        asyncio.run(use())


def test_a_blocking_function_does_not_block_the_loop(direct: Place) -> None:
    threads: list[int] = []
    store = vectors(direct, ["t"], lambda texts: threads.append(threading.get_ident()) or letters(texts))
    asyncio.run(store.aput(NS, "a", {"t": "a"}))
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda texts: [[1.0, 2.0] for _ in texts], "2 numbers for 'a'.*has 4"),
        (lambda texts: [], "0 vectors for 1 texts"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_nothing_is_stored(place: Place, embed: Any, said: str) -> None:
    store = vectors(place, ["t"], embed)
    with pytest.raises(UsageError, match=said):
        store.put(NS, "a", {"t": "a"})
    assert store.get(NS, "a") is None


@pytest.mark.parametrize("embed", [None, "vendor:model"])
def test_what_cannot_embed_is_refused_at_once(place: Place, embed: Any) -> None:
    with pytest.raises(UsageError, match="cannot embed"):
        vectors(place, embed=embed)


# Batches


def test_reads_of_a_batch_come_before_its_writes(place: Place) -> None:
    store = filled(place.store(), a={"x": 1})
    answers = store.batch(
        [PutOp(NS, "a", {"x": 2}), GetOp(NS, "a"), SearchOp(NS), ListNamespacesOp(), PutOp(NS, "b", {})]
    )
    assert answers[0] is answers[4] is None
    assert answers[1].value == answers[2][0].value == {"x": 1}
    assert answers[3] == [NS]
    assert [item.value for item in store.search(NS)] == [{"x": 2}, {}]


def test_the_last_write_of_a_batch_counts(place: Place) -> None:
    store = place.store()
    store.batch([PutOp(NS, "a", {"x": 1}), PutOp(NS, "a", None), PutOp(NS, "a", {"x": 3}), PutOp(NS, "b", {})])
    store.batch([PutOp(NS, "b", {}), PutOp(NS, "b", None)])
    assert [item.value for item in store.search(NS)] == [{"x": 3}]


def test_a_batch_with_a_mistake_does_nothing(place: Place) -> None:
    store = place.store()
    with pytest.raises(UsageError, match="no operation"):
        store.batch([PutOp(NS, "a", {}), "get"])  # type: ignore[list-item]
    assert store.search(()) == []


def test_async_methods_do_what_the_others_do_and_say_so(direct: Place) -> None:
    store = direct.store()

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


def test_async_methods_refuse_what_the_others_refuse(direct: Place) -> None:
    with pytest.raises(InvalidNamespaceError):
        asyncio.run(direct.store().aput((), "a", {}))


# Time to live


def test_an_item_is_gone_for_every_operation_when_its_time_is_over(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {}, ttl=10)
    place.advance(9.9)
    assert store.get(NS, "a", refresh_ttl=False) is not None
    place.advance(0.1)
    assert store.get(NS, "a") is None
    assert (store.search(()), store.list_namespaces()) == ([], [])


def test_the_default_holds_unless_put_says_otherwise(place: Place) -> None:
    store = place.store(ttl=dict(default_ttl=10))
    store.put(NS, "default", {})
    store.put(NS, "longer", {}, ttl=20)
    store.put(NS, "forever", {}, ttl=None)
    place.advance(10)
    assert keys(store.search(NS, refresh_ttl=False)) == ["longer", "forever"]
    place.advance(10)
    assert keys(store.search(NS)) == ["forever"]


@pytest.mark.parametrize("read", [lambda store: store.get(NS, "a"), lambda store: store.search(NS)])
def test_reading_begins_the_time_anew(place: Place, read: Any) -> None:
    store = place.store(ttl=dict(default_ttl=10))
    store.put(NS, "a", {})
    for _ in range(5):
        place.advance(9)
        assert read(store)
    place.advance(10)
    assert not read(store)


def test_reading_does_not_when_the_store_or_the_call_says_so(place: Place) -> None:
    store = place.store(ttl=dict(default_ttl=10, refresh_on_read=False))
    store.put(NS, "a", {})
    store.put(NS, "b", {})
    place.advance(9)
    store.get(NS, "a")
    store.get(NS, "b", refresh_ttl=True)
    place.advance(1)
    assert keys(store.search(NS)) == ["b"]


def test_only_what_a_search_returns_is_prolonged(place: Place) -> None:
    store = place.store(ttl=dict(default_ttl=10))
    filled(store, a={}, b={})
    place.advance(9)
    store.search(NS, limit=1)
    place.advance(1)
    assert keys(store.search(NS)) == ["a"]


def test_putting_again_sets_the_time_anew_also_to_a_shorter_one(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {}, ttl=100)
    store.put(NS, "a", {}, ttl=1)
    store.put(NS, "b", {}, ttl=1)
    store.put(NS, "b", {})
    place.advance(1)
    assert keys(store.search(NS)) == ["b"]


@pytest.mark.parametrize("ttl", [0, -1, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(place: Place, ttl: float) -> None:
    with pytest.raises(UsageError, match="ttl="):
        place.store().put(NS, "a", {}, ttl=ttl)
