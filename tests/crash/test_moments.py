"""I7, and I4 by the way: wherever a worker ends, the thread ends as it would have ended undisturbed.

A worker ends at every n-th moment here, at each one with `make crash`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.moments import Moments


def file(place: str) -> str:
    return place if place.startswith("postgresql:") else f"{place}/runs.db"


@pytest.mark.parametrize(("durability", "stride"), [("sync", 13), ("async", 11)])
def test_i7_a_run_that_ends_anywhere_is_resumed_to_the_same_end_and_i4_nothing_that_can_be_seen_starts_again(
    place: str, tmp_path: Path, durability: str, stride: int
) -> None:
    """Among side-by-side nodes, an agent, a join, and a graph inside that remembers."""
    found = Moments(file(place), tmp_path, durability, "remembers", stride).found()
    assert found.wrong == []
    assert 3 < found.stored < found.moments  # there was something to go on with, and sometimes nothing yet


@pytest.mark.parametrize(
    ("inside", "stride", "killed"),
    [("plain", 7, False), ("plain", 4, True), ("pauses", 3, False), ("remembers", 5, False)],
)
def test_i7_a_run_that_stores_at_its_exit_leaves_its_thread_as_it_was_wherever_it_ends_before(
    place: str, tmp_path: Path, inside: str, stride: int, killed: bool
) -> None:
    found = Moments(file(place), tmp_path, "exit", inside, stride, killed=killed).found()
    assert found.wrong == []
    assert found.moments > 4
