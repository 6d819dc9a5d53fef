"""Long-term stores of one's own, and what only the one in memory has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from fanfold.errors import UsageError
from fanfold.memory import BaseStore, GetOp, InMemoryStore, ListNamespacesOp, MatchCondition, SearchItem, SearchOp
from tests.memory.places import NS, InMemory


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


def test_a_store_without_versions_refuses_a_condition_instead_of_forgetting_it() -> None:
    store = Recorder()
    for write in (lambda: store.put(NS, "a", {}, if_version=None), lambda: store.delete(NS, "a", if_version=1)):
        with pytest.raises(UsageError, match="supports_versions"):
            write()
    with pytest.raises(UsageError, match="supports_versions"):
        asyncio.run(store.aput(NS, "a", {}, if_version=1))


def test_whatever_has_the_methods_is_a_store() -> None:
    alike = type("Alike", (), {name: getattr(Recorder, name) for name in dir(Recorder) if name[0] != "_"})
    assert isinstance(alike(), BaseStore)
    assert not isinstance({}, BaseStore)
    assert not issubclass(alike, InMemoryStore)


def test_a_found_item_takes_its_score_where_langgraph_s_does() -> None:
    item = InMemoryStore()
    item.put(NS, "a", {})
    (found,) = item.search(NS)
    assert SearchItem(NS, "a", {}, found.created_at, found.updated_at, 0.5).score == 0.5


def test_memory_is_given_back_without_anyone_asking_for_it() -> None:
    place = InMemory()
    store = place.store()
    assert isinstance(store, InMemoryStore)
    store.put(NS, "a", {}, ttl=1)
    place.advance(1)
    store.put(("other",), "b", {})
    assert (list(store._rows), store._due) == ([("other",)], [])
