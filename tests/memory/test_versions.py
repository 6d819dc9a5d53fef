"""Versions, and writes that depend on them: what several read, change and write back is not lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fanfold.errors import ItemConflictError, StoreError, UsageError
from fanfold.memory import BaseStore, GetOp, PutOp
from fanfold.store.opening import open_store
from tests.memory import counter
from tests.memory.places import NS, InDatabase, Place, filled


def version(store: BaseStore, key: str = "a") -> int:
    item = store.get(NS, key)
    assert item is not None
    return item.version


def test_each_put_gives_another_version_and_reading_does_not(place: Place) -> None:
    store = filled(place.store(), a={})
    first = version(store)
    assert version(store) == store.search(NS)[0].version == first > 0
    filled(store, a={}, b={})
    assert first < version(store) < version(store, "b")


def test_a_put_that_depends_on_the_version_is_done_when_it_fits(place: Place) -> None:
    store = place.store()
    store.put(NS, "a", {"n": 1}, if_version=None)
    store.put(NS, "a", {"n": 2}, if_version=version(store))
    (item,) = store.search(NS)
    assert item.value == {"n": 2}
    store.delete(NS, "a", if_version=item.version)
    assert store.get(NS, "a") is None


@pytest.mark.parametrize("there", [True, False])
def test_otherwise_it_is_refused_and_the_error_tells_what_is_there(place: Place, there: bool) -> None:
    store = filled(place.store(), a={"n": 1})
    old = version(store)
    store.put(NS, "a", {"n": 2})
    now: int | None = version(store)
    if not there:
        store.delete(NS, "a")
        now = None
    for write in (
        lambda: store.put(NS, "a", {"n": 3}, if_version=old),
        lambda: store.delete(NS, "a", if_version=old),
        lambda: store.put(NS, "a", {"n": 3}, if_version=None) if there else store.delete(NS, "a", if_version=old),
    ):
        with pytest.raises(ItemConflictError, match="item 'a' of namespace") as caught:
            write()
        assert (caught.value.namespace, caught.value.key, caught.value.current) == (NS, "a", now)
        assert caught.value.expected in (old, None)
        assert isinstance(caught.value, StoreError)
    assert [item.value for item in store.search(NS)] == ([{"n": 2}] if there else [])


def test_an_item_that_was_deleted_and_put_again_has_none_of_its_old_versions(place: Place) -> None:
    store = filled(place.store(), a={})
    old = version(store)
    store.delete(NS, "a")
    filled(store, a={})
    assert version(store) > old
    with pytest.raises(ItemConflictError):
        store.put(NS, "a", {}, if_version=old)


def test_an_item_whose_time_is_over_is_not_there_for_a_condition(place: Place) -> None:
    store = place.store()
    for key in "abc":
        store.put(NS, key, {}, ttl=1)
    old = version(store)
    place.advance(2)
    for write in (
        lambda: store.put(NS, "a", {}, if_version=old),
        lambda: store.delete(NS, "a", if_version=old),
    ):
        with pytest.raises(ItemConflictError) as caught:
            write()
        assert caught.value.current is None
    store.put(NS, "b", {"new": True}, if_version=None)
    store.put(NS, "a", {"new": True})
    assert [(item.key, item.value) for item in store.search(NS)] == [("b", {"new": True}), ("a", {"new": True})]
    for item in store.search(NS):
        assert item.created_at == item.updated_at, "it is another item, and as old as its put"


def test_of_a_batch_with_a_refused_write_nothing_is_done(place: Place) -> None:
    store = filled(place.store(), a={"n": 1}, b={"n": 1})
    with pytest.raises(ItemConflictError, match="'b'"):
        store.batch(
            [
                PutOp(NS, "new", {"n": 2}),
                PutOp(NS, "a", {"n": 2}, if_version=version(store)),
                GetOp(NS, "a"),
                PutOp(NS, "b", None, if_version=version(store) + 1000),
            ]
        )
    assert [(item.key, item.value) for item in store.search(NS)] == [("a", {"n": 1}), ("b", {"n": 1})]


def test_a_batch_whose_conditions_hold_is_done_in_its_order(place: Place) -> None:
    store = filled(place.store(), a={"n": 1})
    got, *rest = store.batch(
        [
            GetOp(NS, "a"),
            PutOp(NS, "c", {"n": 2}),
            PutOp(NS, "a", {"n": 2}, if_version=version(store)),
            PutOp(NS, "b", {"n": 2}, if_version=None),
        ]
    )
    assert (got.value, rest) == ({"n": 1}, [None] * 3)
    assert [(item.key, item.value["n"]) for item in store.search(NS)] == [("a", 2), ("c", 2), ("b", 2)]


@pytest.mark.parametrize("asked", ["1", 1.0, True])
def test_a_version_that_is_none_is_refused(place: Place, asked: Any) -> None:
    with pytest.raises(UsageError, match="no version"):
        place.store().put(NS, "a", {}, if_version=asked)


def test_two_writes_to_one_key_of_a_batch_are_refused_when_one_has_a_condition(place: Place) -> None:
    with pytest.raises(UsageError, match="twice"):
        place.store().batch([PutOp(NS, "a", {}), PutOp(NS, "a", {}, if_version=None)])


def test_a_deletion_cannot_ask_that_there_is_nothing(place: Place) -> None:
    with pytest.raises(UsageError, match="cannot be deleted"):
        place.store().batch([PutOp(NS, "a", None, if_version=None)])


def test_of_many_who_put_what_is_not_there_one_succeeds(direct: Place) -> None:
    store = direct.store()

    async def use() -> list[BaseException | None]:
        return await asyncio.gather(
            *(store.aput(NS, "a", {"n": n}, if_version=None) for n in range(20)), return_exceptions=True
        )

    outcomes = asyncio.run(use())
    assert sum(outcome is None for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes} == {type(None), ItemConflictError}


def test_threads_that_count_together_lose_nothing(direct: Place) -> None:
    store = direct.store()

    def count() -> None:
        for _ in range(15):
            counter.add_one(store, "c")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    item = store.get(counter.NS, "c")
    assert item is not None
    assert item.value == {"n": 60}


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_processes_that_count_together_lose_nothing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres") if kind == "postgres" else f"sqlite:///{tmp_path}/runs.db"
    processes, times, threads = 3, 10, 2
    command = [sys.executable, "-m", "tests.memory.counter", url, str(times), str(threads), "x", "y"]
    counting = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    for process in counting:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
    with open_store(url) as store:
        found = {item.key: item.value["n"] for item in store.items.search(counter.NS)}
    assert found == {"x": processes * times * threads, "y": processes * times * threads}


def test_what_was_committed_and_not_heard_of_is_not_done_twice(database: InDatabase) -> None:
    """The connection breaks behind a commit, and the writer does the same batch again."""
    store = filled(database.store(), a={"n": 0})
    kept_in, old = database.kept_in, version(store)
    queue, queued = kept_in._once._queue, []
    kept_in._once._queue = lambda turn: (queued.append(turn), queue(turn))[1]
    try:
        store.put(NS, "a", {"n": 1}, if_version=old)
        with pytest.raises(ItemConflictError):
            store.put(NS, "a", {"n": 2}, if_version=old)
    finally:
        kept_in._once._queue = queue
    stands = version(store)
    assert queue(queued[0]).result(10) == [None]
    with pytest.raises(ItemConflictError):
        queue(queued[1]).result(10)
    assert version(store) == stands
