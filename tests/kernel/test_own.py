"""What is handed out is a copy."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from fanfold.kernel.own import own


@dataclass
class Box:
    items: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    left: list[int]
    right: list[int]


def _lists(value: Any) -> Iterator[list[Any]]:
    """Every list within `value`."""
    if isinstance(value, list):
        yield value
    inner = value.values() if isinstance(value, dict) else vars(value).values() if isinstance(value, Box) else value
    for item in inner if not isinstance(inner, int) else ():
        yield from _lists(item)


@pytest.mark.parametrize(
    "value",
    [[1], {"a": [1]}, ([1],), [[1]], {"a": {"b": ([1],)}}, Box([1]), OrderedDict(a=[1]), Pair([1], [2]), [Box([1])]],
)
def test_a_copy_that_is_changed_in_place_leaves_the_original_alone(value: Any) -> None:
    before, copy = repr(value), own(value)
    assert copy == value
    assert type(copy) is type(value)
    for inner in list(_lists(copy)):
        inner.append(99)
    assert repr(value) == before != repr(copy)


@pytest.mark.parametrize("value", [1, "text", None, True, 1.5, b"bytes", 1j])
def test_leaves_are_shared(value: Any) -> None:
    assert own(value) is value


def test_what_refuses_to_be_copied_is_shared() -> None:
    lock = threading.Lock()
    assert own({"lock": lock})["lock"] is lock


def test_a_container_that_contains_itself_is_copied_once() -> None:
    circle: dict[str, Any] = {"list": []}
    circle["self"] = circle
    copy = own(circle)
    assert copy is not circle
    assert copy["self"] is copy
    assert copy["list"] is not circle["list"]


def test_what_occurs_twice_is_two_things_in_the_copy_as_it_is_once_it_has_been_stored() -> None:
    row = [0]
    first, second = own([row, row])
    first.append(1)
    assert second == [0]
