"""What a `DeltaChannel` is rebuilt from, for any line of checkpoints.

LangGraph's own suite has clauses for that in its repository, and not in a release yet: 81 of what it has are released.
They are all cases of what is said here of lines that are drawn: the writes are in the order in which they were made,
those of one step in the order of their tasks' paths; they begin with those at the nearest checkpoint that holds a
value, plain or a snapshot; those at the checkpoint that is asked about are pending, and not among them.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from fanfold.langgraph import Saver

CHANNELS = ("a", "b")
PATHS = ("", "~pull, 01", "~pull, 02", "~push, 0")

Write = tuple[str, str, int]
"""Of a task whose path is given, to a channel."""


@dataclass
class Step:
    """A checkpoint: the values that it holds, and what was written at it. It follows from `parent`, the number of one
    before it, None for the first."""

    parent: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)


def put(saver: Saver, steps: list[Step]) -> list[Any]:
    """Keep these checkpoints in a thread of their own; their places."""
    thread = str(uuid.uuid4())
    places: list[Any] = []
    for number, step in enumerate(steps):
        parent = None if step.parent is None else places[step.parent]["configurable"]["checkpoint_id"]
        versions = {name: number + 1 for name in step.values}
        checkpoint: Any = {
            "v": 4, "id": str(uuid6(clock_seq=-1)), "ts": "", "channel_values": step.values,
            "channel_versions": versions, "versions_seen": {}, "updated_channels": None,
        }  # fmt: skip
        place: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}}
        places.append(saver.put(place, checkpoint, {"step": number}, versions))
        for no, (path, channel, value) in enumerate(step.writes):
            # The ids of tasks sort the other way round than the order in which they wrote.
            saver.put_writes(places[-1], [(channel, value)], str(uuid.UUID(int=1000 - no)), path)
    return places


def wanted(steps: list[Step], at: int, channel: str) -> dict[str, Any]:
    """What a channel is rebuilt from at checkpoint number `at`: the values that were written, and the seed."""
    way: list[int] = []
    number = steps[at].parent
    while number is not None:
        way.insert(0, number)
        if channel in steps[number].values:
            break
        number = steps[number].parent
    found: dict[str, Any] = {"writes": []}
    for each in way:
        latest_first = enumerate(steps[each].writes)
        ordered = sorted(latest_first, key=lambda write: (write[1][0], -write[0]))
        found["writes"] += [value for _, (_, name, value) in ordered if name == channel]
    if number is not None:
        found["seed"] = steps[number].values[channel]
    return found


def told(saver: Saver, place: Any, channels: tuple[str, ...]) -> dict[str, Any]:
    history: Any = asyncio.run(saver.aget_delta_channel_history(config=place, channels=channels))
    assert history == saver.get_delta_channel_history(config=place, channels=channels)
    return {
        name: {**each, "writes": [value for _, channel, value in each["writes"] if channel == name]}
        for name, each in history.items()
    }


def values() -> Any:
    numbers = st.lists(st.integers(0, 9), max_size=3)
    return st.dictionaries(st.sampled_from(CHANNELS), numbers | numbers.map(_DeltaSnapshot), max_size=2)


@st.composite
def lines(draw: Any) -> list[Step]:
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 7))):
        # Most follow from the one before; some fork.
        parent = None if number == 0 else draw(st.just(number - 1) | st.integers(0, number - 1))
        writes = draw(
            st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(CHANNELS), st.integers(0, 9)), max_size=4)
        )
        steps.append(Step(parent, draw(values()) if draw(st.integers(0, 2)) == 0 else {}, writes))
    return steps


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=lines())
def test_a_channel_is_rebuilt_from_its_nearest_value_and_from_what_was_written_since(
    saver: Saver, steps: list[Step]
) -> None:
    places = put(saver, steps)
    for number, place in enumerate(places):
        assert told(saver, place, CHANNELS) == {name: wanted(steps, number, name) for name in CHANNELS}


def test_what_was_written_without_a_path_comes_before_what_tasks_wrote(saver: Saver) -> None:
    first = [("", "a", 1), ("~pull, 01", "a", 2), ("~pull, 02", "a", 3)]
    *_, head = put(saver, [Step(writes=first), Step(parent=0, writes=[("", "a", 9)])])
    assert told(saver, head, ("a",)) == {"a": {"writes": [1, 2, 3]}}


def test_a_value_from_before_the_channel_was_one_is_a_seed_and_what_was_written_at_it_counts(saver: Saver) -> None:
    steps = [
        Step(values={"a": [1]}, writes=[("", "a", 1)]),
        Step(0, {"a": [1, 2]}, [("", "a", 3)]),
        Step(1, {}, [("", "a", 4)]),
        Step(2, {}, [("", "a", 5)]),
    ]
    *_, head = put(saver, steps)
    assert told(saver, head, ("a",)) == {"a": {"seed": [1, 2], "writes": [3, 4]}}


def test_a_snapshot_comes_back_as_one(saver: Saver) -> None:
    *_, head = put(saver, [Step(values={"a": _DeltaSnapshot([1])}), Step(0)])
    seed = saver.get_delta_channel_history(config=head, channels=["a"])["a"]["seed"]
    assert isinstance(seed, _DeltaSnapshot)
    assert seed.value == [1]


def test_who_asks_for_no_channel_is_told_of_none(saver: Saver) -> None:
    (place,) = put(saver, [Step(writes=[("", "a", 1)])])
    assert told(saver, place, ()) == {}


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_what_a_channel_is_rebuilt_from_outlasts_pruning(saver: Saver, keep: int) -> None:
    """`keep` is the checkpoint with the last value; what came before it is not needed."""
    steps = [Step(None if n == 0 else n - 1, {"a": [n]} if n == keep else {}, [("", "a", n)]) for n in range(4)]
    steps.append(Step(3))
    places = put(saver, steps)
    before = told(saver, places[-1], ("a",))
    assert before == {"a": {"seed": [keep], "writes": list(range(keep, 4))}}
    counters: Any = {"counters_since_delta_snapshot": {"a": (4 - keep, 4 - keep)}}
    head = saver.get_tuple(places[-1])
    assert head is not None
    saver.put(places[-2], head.checkpoint, counters, {})
    saver.prune([places[0]["configurable"]["thread_id"]])
    assert told(saver, places[-1], ("a",)) == before
    assert len(list(saver.list({"configurable": {"thread_id": places[0]["configurable"]["thread_id"]}}))) == 5 - keep
