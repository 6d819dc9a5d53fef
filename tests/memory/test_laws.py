"""Whatever is done, every long-term store holds what a dictionary would, and answers what the one in memory answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fanfold.errors import ItemConflictError
from fanfold.memory import BaseStore, Item, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from tests.memory.conftest import Open
from tests.memory.places import InDatabase, InMemory, Place, letters

NAMESPACES = [("a",), ("a", "b"), ("a-",), ("ab", "\U0010ffff"), ("c",)]
namespaces = st.sampled_from(NAMESPACES)
names = st.sampled_from(["x", "y", "", "ü 'z"])
words = st.sampled_from(
    ["red", "redder", "Boat", "boats", "ÉTÉ", "été2", "_a", "a_b", "١٢", "\u017f", "中文字", "x" * 150, "e\u0301t"]
)
texts = st.lists(words | st.text(max_size=4), max_size=5).map(" ".join)
values = st.fixed_dictionaries({"t": texts}, optional={"n": st.integers(0, 3), "l": st.lists(texts, max_size=2)})
filters = st.sampled_from(
    [None, None, {"n": 1}, {"n": {"$gte": 2}}, {"n": {"$ne": 0}}, {"t": {"$lt": "c"}}, {"l": []}, {"n": {"$gt": "0"}}]
)
windows = st.tuples(st.integers(0, 4), st.integers(0, 4))
minutes = st.sampled_from([None, None, 2, 5])


def run(machine: Any, examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


class LikeADictionary(RuleBasedStateMachine):
    """The model is a dictionary of numbers with the minute at which they expire."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.store = place.store()
        self.model: dict[tuple[tuple[str, ...], str], tuple[int, float, float | None]] = {}
        self.minute = 0.0

    @rule(namespace=namespaces, key=names, number=st.integers(), ttl=minutes)
    def put(self, namespace: tuple[str, ...], key: str, number: int, ttl: float | None) -> None:
        self.store.put(namespace, key, {"n": number}, ttl=ttl)
        self.model[namespace, key] = (number, self.minute + (ttl or math.inf), ttl)

    @rule(namespace=namespaces, key=names, number=st.integers())
    def put_if_it_is_not_there(self, namespace: tuple[str, ...], key: str, number: int) -> None:
        try:
            self.store.put(namespace, key, {"n": number}, if_version=None)
            assert (namespace, key) not in self.model
            self.model[namespace, key] = (number, math.inf, None)
        except ItemConflictError:
            assert (namespace, key) in self.model

    @rule(namespace=namespaces, key=names)
    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        self.store.delete(namespace, key)
        self.model.pop((namespace, key), None)

    @rule(minutes=st.integers(1, 4))
    def wait(self, minutes: int) -> None:
        self.place.advance(minutes)
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
        found = {
            (item.namespace, item.key): item.value["n"] for item in self.store.search((), refresh_ttl=False, limit=99)
        }
        assert found == {place: row[0] for place, row in self.model.items()}
        assert self.store.list_namespaces() == sorted({namespace for namespace, _ in self.model})


@pytest.mark.parametrize(("name", "examples"), [("dict", 40), ("memory", 15), ("postgres", 5)])
def test_a_store_holds_what_a_dictionary_would(name: str, examples: int, opened: Open) -> None:
    run(lambda: LikeADictionary(InMemory() if name == "dict" else opened(name)), examples)


class Alike(RuleBasedStateMachine):
    """Two stores, of which one is in memory, are told and asked the same."""

    def __init__(self, place: InDatabase, index: Any) -> None:
        super().__init__()
        self.places: tuple[Place, Place] = (InMemory(), place)
        self.index = index
        self.stores: tuple[BaseStore, ...] = ()

    @initialize()
    def open(self) -> None:
        self.stores = tuple(place.store(index=self.index) for place in self.places)

    @rule(
        namespace=namespaces,
        key=names,
        value=values,
        index=st.sampled_from([None, None, None, False, ["l[*]"]]),
        ttl=minutes,
    )
    def put(self, **given: Any) -> None:
        for store in self.stores:
            store.put(given["namespace"], given["key"], given["value"], given["index"], ttl=given["ttl"])

    @rule(writes=st.lists(st.tuples(namespaces, names, st.none() | values), max_size=5), namespace=namespaces)
    def batch(self, writes: list[Any], namespace: tuple[str, ...]) -> None:
        ops = [SearchOp(namespace), *(PutOp(*write) for write in writes), ListNamespacesOp()]
        self.same(lambda store: [shown(answer) for answer in store.batch(ops)])

    @rule(namespace=namespaces, key=names, value=st.none() | values, offset=st.sampled_from([0, 0, 1, None]))
    def write_if(self, namespace: tuple[str, ...], key: str, value: Any, offset: int | None) -> None:
        self.same(lambda store: written_if(store, namespace, key, value, offset))

    @rule(minutes=st.integers(1, 3))
    def wait(self, minutes: int) -> None:
        for place in self.places:
            place.advance(minutes)

    @rule(namespace=namespaces, key=names, refresh=st.booleans())
    def get(self, namespace: tuple[str, ...], key: str, refresh: bool) -> None:
        self.same(lambda store: shown(store.get(namespace, key, refresh_ttl=refresh)))

    @rule(
        prefix=namespaces | st.just(()), query=st.none() | texts, wanted=filters, window=windows, refresh=st.booleans()
    )
    def search(self, prefix: Any, query: Any, wanted: Any, window: tuple[int, int], refresh: bool) -> None:
        limit, offset = window
        self.same(
            lambda store: shown(
                store.search(prefix, query=query, filter=wanted, limit=limit, offset=offset, refresh_ttl=refresh)
            )
        )

    @rule(
        kind=st.sampled_from(["prefix", "suffix"]),
        path=st.lists(st.sampled_from(["a", "b", "*", "ab"]), min_size=1, max_size=2).map(tuple),
        depth=st.sampled_from([None, 1, 2]),
    )
    def list_namespaces(self, kind: Any, path: tuple[str, ...], depth: int | None) -> None:
        op = ListNamespacesOp((MatchCondition(kind, path),), depth)
        self.same(lambda store: store.batch([op]))

    @invariant()
    def holds_the_same(self) -> None:
        if self.stores:
            self.same(lambda store: shown(store.search((), limit=99, refresh_ttl=False)))

    def same(self, what: Any) -> None:
        model, other = [what(store) for store in self.stores]
        assert other == model


def written_if(store: BaseStore, namespace: tuple[str, ...], key: str, value: Any, offset: int | None) -> Any:
    """Write if the version is the one that is there, or another one, or if there is none; whether that was done."""
    item = store.get(namespace, key, refresh_ttl=False)
    expected = None if offset is None and value is not None else (item.version if item else 1) + (offset or 0)
    try:
        store.batch([PutOp(namespace, key, value, if_version=expected)])
    except ItemConflictError as error:
        return error.current is None
    return "done"


def shown(answer: Any) -> Any:
    """What can be compared of an answer: clocks and counts are a store's own. Scores are the same to the bit."""
    if isinstance(answer, list):
        return [shown(each) for each in answer]
    if isinstance(answer, Item):
        return answer.namespace, answer.key, answer.value, getattr(answer, "score", None)
    return answer


@pytest.mark.parametrize("by_vector", [False, True], ids=["words", "vectors"])
@pytest.mark.parametrize(("name", "examples"), [("memory", 30), ("postgres", 10)])
def test_a_database_answers_what_the_store_in_memory_answers(
    name: str, examples: int, by_vector: bool, opened: Open
) -> None:
    index = {"dims": 4, "embed": letters, "fields": ["t", "l[*]"]} if by_vector else None
    run(lambda: Alike(opened(name), index), examples)
