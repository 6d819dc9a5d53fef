"""The rule of each kind of key: how updates fold, what is left of a value, and what is seen of it."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import pytest

from fanfold.errors import EmptyChannelError, InvalidUpdateError
from fanfold.kernel.channels import (
    MISSING,
    AnyValue,
    BinaryOperatorAggregate,
    Channel,
    ConflictError,
    DeltaChannel,
    EphemeralValue,
    LastValue,
    NamedBarrierValue,
    Topic,
    UntrackedValue,
    alike,
    overwritten,
)
from fanfold.kernel.graph import Builder
from fanfold.types import START, Overwrite
from tests.kernel.playing import begun, final, steps


def extended(value: list[int], updates: Sequence[list[int]]) -> list[int]:
    return [*value, *(item for update in updates for item in update)]


class Rounding:
    """A reducer that says of itself that it can be replayed, and has a say about updates."""

    replays = True

    def settle(self, update: float) -> float:
        return round(update)

    def __call__(self, value: float, update: float) -> float:
        return value + update


ADD = BinaryOperatorAggregate(int, operator.add)
DELTA = DeltaChannel(extended)
BARRIER = NamedBarrierValue(str, ["a", "b"])

Fold = Callable[[Channel, Any, list[Any]], Any]


# Folding


@pytest.mark.parametrize(
    ("channel", "value", "updates", "folded"),
    [
        (LastValue(int), 1, [2], 2),
        (AnyValue(int), 1, [2, 3], 3),
        (EphemeralValue(int), 1, [2], 2),
        (EphemeralValue(int, guard=False), 1, [2, 3], 3),
        (UntrackedValue(int), 1, [2], 2),
        (UntrackedValue(int, guard=False), 1, [2, 3], 3),
        (Topic(int), [1], [2, [3, 4]], [2, 3, 4]),
        (Topic(int), MISSING, [[]], []),
        (Topic(int, accumulate=True), [1], [2, [3]], [1, 2, 3]),
        (Topic(int, accumulate=True), MISSING, [2], [2]),
        (BARRIER, MISSING, ["b"], ["b"]),
        (BARRIER, ["b"], ["a", "a"], ["a", "b"]),
        (ADD, 1, [2, 3], 6),
        (ADD, 1, [2, Overwrite(10), 3], 10),
        (DELTA, [1], [[2], [3]], [1, 2, 3]),
        (DELTA, MISSING, [[2]], [2]),
        (DELTA, [1], [Overwrite([5]), [3]], [5]),
        (DELTA, [1], [Overwrite(None)], []),
    ],
)
def test_updates_of_a_step_fold_into_the_value_and_leave_it_alone(
    channel: Channel, value: Any, updates: list[Any], folded: Any
) -> None:
    before = copy.deepcopy(value)
    assert channel.fold(value, updates) == folded
    assert value == before


@pytest.mark.parametrize(
    ("channel", "updates", "why"),
    [
        (LastValue(int), [1, 1], "can take one value a step; give the key a reducer"),
        (EphemeralValue(int), [1, 2], r"can take one value a step; EphemeralValue\(<class 'int'>, guard=False\) takes"),
        (UntrackedValue(int), [1, 2], r"can take one value a step; UntrackedValue\(<class 'int'>, guard=False\) takes"),
        (BARRIER, ["a", "c"], "takes only a, b, and 'c' is none of them"),
        (ADD, [Overwrite(1), Overwrite(1)], "can take one Overwrite a step"),
        (DELTA, [Overwrite([]), Overwrite([])], "can take one Overwrite a step"),
    ],
)
def test_updates_that_exclude_each_other_are_refused_with_the_way_out(
    channel: Channel, updates: list[Any], why: str
) -> None:
    with pytest.raises(ConflictError, match=why):
        channel.fold(channel.initial(), updates)


@pytest.mark.parametrize(
    ("update", "value"),
    [
        (Overwrite(1), 1),
        ({"__overwrite__": 1}, 1),
        ({"type": "__overwrite__", "value": 1}, 1),
        ({"type": "__overwrite__"}, MISSING),
        ({"__overwrite__": 1, "more": 2}, MISSING),
        ({"value": 1}, MISSING),
        (1, MISSING),
    ],
)
def test_an_overwrite_is_one_also_when_it_has_been_through_json(update: Any, value: Any) -> None:
    assert overwritten(update) is value or overwritten(update) == value


# What is left, what is seen, what is stored


@pytest.mark.parametrize(
    ("channel", "left"),
    [
        (LastValue(list), ["x"]),
        (AnyValue(list), MISSING),
        (EphemeralValue(list), MISSING),
        (UntrackedValue(list), ["x"]),
        (Topic(str), MISSING),
        (Topic(str, accumulate=True), ["x"]),
        (BARRIER, ["x"]),
        (ADD, ["x"]),
        (DELTA, ["x"]),
    ],
)
def test_what_is_left_of_a_value_after_a_step_that_did_not_write_it(channel: Channel, left: Any) -> None:
    assert channel.lapse(["x"]) == left


def test_a_topic_shows_itself_when_it_holds_something_and_a_barrier_when_all_have_come() -> None:
    assert [Topic(int).read(value) for value in ([1], [], MISSING)] == [[1], MISSING, MISSING]
    assert [BARRIER.read(value) for value in (MISSING, ["a"], ["a", "b"])] == [MISSING, MISSING, None]
    assert LastValue(int).read(1) == 1


def test_only_an_untracked_value_is_never_stored() -> None:
    channels = [LastValue(), AnyValue(), EphemeralValue(), UntrackedValue(), Topic(), BARRIER, ADD, DELTA]
    assert [channel for channel in channels if not channel.tracked] == [UntrackedValue()]


@pytest.mark.parametrize("reducer", [operator.add, max, operator.or_, Rounding()])
def test_a_reducer_that_folds_the_same_each_time_is_replayed(reducer: Any) -> None:
    assert BinaryOperatorAggregate(int, reducer).replays
    assert LastValue().replays


def test_a_reducer_of_the_users_is_not_replayed_whatever_it_is() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, value: int, update: int) -> int:
            return value

    assert not BinaryOperatorAggregate(int, lambda value, update: value).replays
    assert not BinaryOperatorAggregate(int, Unhashable()).replays
    assert not DELTA.replays


def test_a_reducer_may_settle_an_update_before_it_is_stored_but_not_an_overwrite() -> None:
    channel = BinaryOperatorAggregate(int, Rounding())
    assert channel.settle(1.6) == 2
    assert channel.settle(Overwrite(1.6)) == Overwrite(1.6)
    assert ADD.settle(1.6) == 1.6
    assert LastValue().settle(1.6) == 1.6


def test_a_delta_channel_starts_at_the_empty_value_of_its_type_and_wants_a_frequency_above_nought() -> None:
    assert DeltaChannel(extended, set).initial() == set()
    with pytest.raises(ValueError, match="snapshot_frequency must be 1 or more, and it is 0"):
        DeltaChannel(extended, snapshot_frequency=0)


def test_missing_stays_the_one_that_it_is() -> None:
    assert copy.deepcopy([MISSING])[0] is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING


# Two declarations of one key


def test_channels_are_equal_when_their_rules_are_whatever_the_type() -> None:
    assert LastValue(int) == LastValue(str)
    assert BinaryOperatorAggregate(int, operator.add) == BinaryOperatorAggregate(list, operator.add)
    assert NamedBarrierValue(int, {"b", "a"}) == BARRIER
    assert Topic(int) != Topic(int, accumulate=True)
    assert EphemeralValue(int) != EphemeralValue(int, guard=False)


def test_two_lambdas_may_be_the_same_and_two_functions_are_not() -> None:
    one, other = (BinaryOperatorAggregate(int, lambda value, update: value + update) for _ in range(2))
    assert alike(one, other)
    assert alike(ADD, ADD)
    assert not alike(ADD, BinaryOperatorAggregate(int, operator.sub))
    assert not alike(one, LastValue(int))


# In a graph


class Keys(TypedDict, total=False):
    total: Annotated[int, operator.add]
    hint: Annotated[str, EphemeralValue]
    seen: Annotated[list[Any], Topic(str, accumulate=True)]
    items: Annotated[list[int], DeltaChannel(extended)]


def test_a_fleeting_key_is_there_for_the_next_step_alone() -> None:
    def look(name: str) -> Any:
        return lambda state: {"seen": [f"{name}: {state.get('hint')}"]}

    graph = Builder(Keys).add_node("a", lambda state: {"hint": "psst", **look("a")(state)})
    graph.add_sequence([("b", look("b")), ("c", look("c"))]).add_edge(START, "a").add_edge("a", "b")
    assert final(graph.plan(), {"hint": "start"}) == {
        "total": 0,
        "items": [],
        "seen": ["a: start", "b: psst", "c: None"],
    }


def test_an_overwrite_takes_the_place_of_what_a_reducer_has_gathered() -> None:
    graph = Builder(Keys).add_node("a", lambda _: {"total": 5, "items": [1]})
    graph.add_node("b", lambda _: {"total": Overwrite(100), "items": {"__overwrite__": [7]}})
    graph.add_node("c", lambda _: {"total": 1, "items": [8]})
    graph.add_edge(START, "a").add_edge("a", "b").add_edge("b", "c")
    assert final(graph.plan(), {"total": 1}) == {"total": 101, "items": [7, 8]}


def test_two_overwrites_of_a_key_in_one_step_name_nodes_and_key() -> None:
    graph = Builder(Keys)
    for name in "ab":
        graph.add_node(name, lambda _: {"total": Overwrite(1)}).add_edge(START, name)
    with pytest.raises(InvalidUpdateError, match="nodes 'a' and 'b' wrote key 'total', which can take one Overwrite"):
        list(steps(begun(graph.plan(), {"total": 1})))


# A channel on its own


def test_a_channel_on_its_own_holds_a_value() -> None:
    channel = LastValue(int)
    assert not channel.is_available()
    with pytest.raises(EmptyChannelError, match="this LastValue holds no value"):
        channel.get()
    assert channel.update([1])
    assert not channel.update([])
    assert (channel.get(), channel.is_available(), channel.checkpoint()) == (1, True, 1)
    with pytest.raises(InvalidUpdateError, match="this LastValue can take one value a step"):
        channel.update([1, 2])
    assert channel.get() == 1
    assert channel.ValueType is channel.UpdateType is int
    assert LastValue(int) == channel


def test_a_copy_and_what_a_checkpoint_held_are_channels_of_their_own() -> None:
    channel = Topic(int, accumulate=True)
    channel.update([1])
    twin, again = channel.copy(), channel.from_checkpoint(channel.checkpoint())
    channel.update([2])
    assert (channel.get(), twin.get(), again.get()) == ([1, 2], [1], [1])
    assert not again.from_checkpoint().is_available()
    for one in (channel, twin, again):
        assert (one.ValueType, one.UpdateType) == (Sequence[int], int | list[int])


def test_a_checkpoint_holds_nothing_of_a_value_that_is_not_tracked() -> None:
    channel = UntrackedValue(int)
    channel.update([1])
    assert channel.checkpoint() is MISSING
    assert not channel.from_checkpoint(1).is_available()


def test_a_barrier_on_its_own_is_empty_again_once_it_was_used() -> None:
    barrier = NamedBarrierValue(str, {"a", "b"})
    assert barrier.update(["a"])
    assert not barrier.update(["a"])
    assert not barrier.consume()
    assert barrier.update(["b"])
    assert barrier.get() is None
    assert not barrier.finish()
    assert barrier.consume()
    assert not barrier.is_available()
