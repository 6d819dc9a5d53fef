"""Channels that a program holds in its hands and uses on their own."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import pytest

from fanfold import (
    AnyValue,
    BinaryOperatorAggregate,
    DeltaChannel,
    EmptyChannelError,
    EphemeralValue,
    InvalidUpdateError,
    LastValue,
    NamedBarrierValue,
    Overwrite,
    Topic,
    UntrackedValue,
)

EMPTY = "empty"


def value(channel: Any) -> Any:
    try:
        return channel.get()
    except EmptyChannelError:
        assert not channel.is_available()
        return EMPTY


def played(channel: Any, *steps: Sequence[Any]) -> list[Any]:
    """The value at the start and after each step's updates."""
    seen = [value(channel)]
    for updates in steps:
        channel.update(updates)
        seen.append(value(channel))
    return seen


def extend(old: list[Any], updates: Sequence[list[Any]]) -> list[Any]:
    return old + [item for update in updates for item in update]


@pytest.mark.parametrize(
    ("channel", "steps", "seen"),
    [
        (LastValue(int), ([1], [], [2]), [EMPTY, 1, 1, 2]),
        (AnyValue(int), ([1, 2], []), [EMPTY, 2, EMPTY]),
        (EphemeralValue(int), ([1], []), [EMPTY, 1, EMPTY]),
        (EphemeralValue(int, guard=False), ([1, 2],), [EMPTY, 2]),
        (UntrackedValue(int), ([1], []), [EMPTY, 1, 1]),
        (Topic(str), (["a", ["b"]], []), [EMPTY, ["a", "b"], EMPTY]),
        (Topic(str, accumulate=True), (["a"], [], ["b"]), [EMPTY, ["a"], ["a"], ["a", "b"]]),
        (BinaryOperatorAggregate(int, operator.add), ([1, 2], []), [0, 3, 3]),
        (BinaryOperatorAggregate(list, operator.add), ([[1]], [[5], Overwrite([9]), [7]]), [[], [1], [9]]),
        (NamedBarrierValue(str, {"a", "b"}), (["a"], ["b"]), [EMPTY, EMPTY, None]),
        (DeltaChannel(extend, list), ([[1]], [[2], [3]]), [[], [1], [1, 2, 3]]),
    ],
)
@pytest.mark.parametrize("restored", [False, True])
def test_a_channel_takes_updates_step_by_step(channel: Any, steps: Any, seen: Any, restored: bool) -> None:
    assert played(channel.from_checkpoint() if restored else channel.copy(), *steps) == seen


def test_a_channel_that_is_not_copied_holds_its_own_value() -> None:
    channel = LastValue(int)
    assert channel.update([1])
    assert (channel.get(), channel.is_available(), channel.checkpoint()) == (1, True, 1)
    assert value(LastValue(int)) == EMPTY


@pytest.mark.parametrize(
    ("channel", "updates"),
    [
        (LastValue(int), [1, 2]),
        (EphemeralValue(int), [1, 2]),
        (UntrackedValue(int), [1, 2]),
        (NamedBarrierValue(str, {"a"}), ["b"]),
        (BinaryOperatorAggregate(list, operator.add), [Overwrite([1]), Overwrite([2])]),
    ],
)
def test_updates_that_exclude_each_other_are_refused(channel: Any, updates: Any) -> None:
    with pytest.raises(InvalidUpdateError, match=type(channel).__name__):
        channel.update(updates)


def test_a_copy_and_a_restored_channel_go_their_own_way() -> None:
    channel = Topic(str, accumulate=True).from_checkpoint(["a"])
    copied, restored = channel.copy(), channel.from_checkpoint(channel.checkpoint())
    copied.update(["b"])
    restored.update(["c"])
    assert (channel.get(), copied.get(), restored.get()) == (["a"], ["a", "b"], ["a", "c"])


def test_an_untracked_value_is_not_in_a_checkpoint() -> None:
    channel = UntrackedValue(int)
    channel.update([1])
    assert value(channel.from_checkpoint(channel.checkpoint())) == EMPTY


def test_a_barrier_says_what_is_new_and_empties_when_it_is_used() -> None:
    barrier = NamedBarrierValue(str, {"a", "b"}).from_checkpoint()
    assert [barrier.update(["a"]), barrier.update(["a"]), barrier.consume()] == [True, False, False]
    barrier.update(["b"])
    assert [barrier.consume(), barrier.is_available(), barrier.consume(), barrier.finish()] == [
        True,
        False,
        False,
        False,
    ]


def test_channels_are_equal_when_their_rules_are() -> None:
    assert LastValue(int) == LastValue(str)
    assert BinaryOperatorAggregate(int, operator.add) == BinaryOperatorAggregate(list, operator.add)
    assert BinaryOperatorAggregate(int, operator.add) != BinaryOperatorAggregate(int, operator.or_)
    assert Topic(int) != Topic(int, accumulate=True)


def test_channels_tell_the_types_of_what_they_take_and_hold() -> None:
    assert (LastValue(int).ValueType, LastValue(int).UpdateType) == (int, int)
    assert (Topic(int).ValueType, Topic(int).UpdateType) == (Sequence[int], int | list[int])
