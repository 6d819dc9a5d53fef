"""The kernel's values survive the way to plain data and back, through the codec as well."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import CorruptRecordError
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Result, Snapshot, Task
from fanfold.store.records import from_result, from_snapshot, to_result, to_snapshot, to_step
from fanfold.store.serde import Codec
from fanfold.types import Send, TimeoutPolicy

CODEC = Codec()

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
seconds = st.none() | st.floats(0.001, 1e6)
timeouts = st.builds(TimeoutPolicy, seconds, seconds, st.sampled_from(["auto", "heartbeat"])).map(TimeoutPolicy.coerce)
sends = st.builds(Send, texts, values, timeout=timeouts)
results = st.builds(
    Result,
    st.lists(st.tuples(texts, values), max_size=4).map(tuple),
    st.lists(texts | sends, max_size=4).map(tuple),
)
names = texts | st.binary(min_size=16, max_size=16).map(bytes.hex)
ids = st.lists(names, max_size=3).map(tuple)
tasks = st.builds(Task, names, texts, st.integers(0, 9), after=ids) | st.builds(
    Task, names, texts, st.integers(0, 9), st.integers(0, 9), values, ids, timeouts
)
snapshots = st.builds(
    Snapshot,
    st.integers(-1, 2**40),
    st.dictionaries(texts, values, max_size=4),
    st.lists(tasks, max_size=4).map(tuple),
    st.lists(st.dictionaries(texts, names, max_size=3), max_size=3).map(tuple),
    st.dictionaries(texts, ids, max_size=3),
    ids,
)


def through(plain: Any) -> Any:
    return CODEC.decode(CODEC.encode(plain, "it"), "it")


@given(results)
def test_a_result_comes_back_equal(result: Result) -> None:
    assert to_result(through(from_result(result)), "it") == result


@given(snapshots)
def test_a_snapshot_comes_back_equal(snapshot: Snapshot) -> None:
    assert to_snapshot(through(from_snapshot(snapshot, snapshot.values)), "it") == snapshot


def whole_names(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as earlier versions have written it."""
    tasks = []
    for task in snapshot.tasks:
        timeout = task.timeout and [task.timeout.run_timeout, task.timeout.idle_timeout, task.timeout.refresh_on]
        told = {"id": task.id, "node": task.node, "step": task.step, "after": list(task.after)}
        more = {"arg": task.arg, "send": task.send, "timeout": timeout}
        tasks.append({**told, **{name: value for name, value in more.items() if value not in (MISSING, None)}})
        if task.arg is None:
            tasks[-1]["arg"] = None
    return {
        "step": snapshot.step,
        "values": snapshot.values,
        "tasks": tasks,
        "joins": [dict(seen) for seen in snapshot.joins],
        "deferred": {name: list(by) for name, by in snapshot.deferred.items()},
        "ran": list(snapshot.ran),
    }


@given(snapshots)
def test_a_snapshot_of_an_earlier_version_comes_back_equal(snapshot: Snapshot) -> None:
    stored = through(whole_names(snapshot))
    assert to_snapshot(stored, "it") == snapshot
    assert to_step(stored, "it") == (list(snapshot.tasks), snapshot.values)


@given(snapshots)
def test_what_folds_a_step_is_what_the_snapshot_says(snapshot: Snapshot) -> None:
    stored = through(from_snapshot(snapshot, snapshot.values))
    assert to_step(stored, "it") == (list(snapshot.tasks), snapshot.values)


@given(st.binary(min_size=16, max_size=16))
def test_ids_of_tasks_are_stored_as_the_bytes_that_they_are(raw: bytes) -> None:
    snapshot = Snapshot(2, {}, (Task(raw.hex(), "n", 3, after=(raw.hex(),)),), ({"m": raw.hex()},), {"d": (raw.hex(),)})
    stored = CODEC.encode(from_snapshot(snapshot, {}), "it")
    assert stored.count(raw) >= 4
    assert to_snapshot(CODEC.decode(stored, "it"), "it") == snapshot


@pytest.mark.parametrize("argument", [None, {"key": 1}, Send("node", Send("other", (1, 2)))])
def test_the_argument_of_a_send_comes_back_also_when_it_is_none(argument: object) -> None:
    task = Task("id", "node", 3, 0, argument, ("by",))
    snapshot = Snapshot(2, {}, (task,), ())
    assert to_snapshot(through(from_snapshot(snapshot, snapshot.values)), "it").tasks == (task,)


def test_a_task_that_no_send_made_has_no_argument() -> None:
    (task,) = to_snapshot(through(from_snapshot(Snapshot(2, {}, (Task("id", "node", 3),), ()), {})), "it").tasks
    assert task.arg is MISSING
    assert task.send is None


def test_a_snapshot_of_an_empty_state_is_not_the_same_as_none() -> None:
    assert to_snapshot(through(from_snapshot(Snapshot(0, {}, (), ()), {})), "it") == Snapshot(0, {}, (), ())


@pytest.mark.parametrize(
    "data", [None, [], {}, "text", {"writes": 1, "goto": []}, {"writes": [["key"]], "goto": []}, {"goto": []}]
)
def test_a_record_that_is_no_result_is_named(data: Any) -> None:
    with pytest.raises(CorruptRecordError, match="the result of 'x' is not what was written there: "):
        to_result(data, "the result of 'x'")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"step": 1, "values": {}, "tasks": [{}], "joins": [], "deferred": {}, "ran": []},
        {"step": 1, "values": {}, "tasks": 3, "joins": [], "deferred": {}, "ran": []},
        {"step": 1, "values": {}, "tasks": [], "joins": [], "deferred": [], "ran": []},
        {"step": 1, "values": {}, "tasks": [], "joins": []},
        {"s": 1, "t": [{}]},
        {"s": 1, "t": 3},
        {"s": 1, "d": []},
        {"s": 1, "j": [3]},
        {"t": []},
    ],
)
def test_a_record_that_is_no_snapshot_is_named(data: Any) -> None:
    with pytest.raises(CorruptRecordError, match="checkpoint 3 is not what was written there: "):
        to_snapshot(data, "checkpoint 3")
