"""Judges in both orders: what they agree on, what a liking for a position cannot decide, and how often it shows."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.teams.debating.judging import FIRST_READ, Judged, flip_rate, judged
from fanfold.teams.debating.objects import Judgement, Stance, Winner

WINNERS: tuple[Winner, ...] = ("first", "second", "neither")
MIRRORED: dict[Stance | None, Stance | None] = {"pro": "con", "con": "pro", None: None}

Judge = Callable[[float, float], Winner]
"""Finds for one of two arguments, given how good they are, in the order in which it reads them."""


def found(winner: Winner) -> Judgement:
    return Judgement(winner=winner, reasons="so it seems")


def debated(judge: Judge, pro: float, con: float) -> Judged:
    """What comes of two sides as good as that."""
    return judged(found(judge(pro, con)), found(judge(con, pro)))


def leaning(bias: float) -> Judge:
    """A judge to whom the first seems better than it is, by so much."""
    return lambda first, second: "first" if first + bias > second else "second"


@pytest.mark.parametrize(
    ("pro_first", "con_first", "winner", "flipped"),
    [
        ("first", "second", "pro", False),
        ("second", "first", "con", False),
        ("first", "first", None, True),
        ("second", "second", None, True),
        ("neither", "neither", None, False),
        ("first", "neither", None, False),
        ("neither", "first", None, False),
    ],
)
def test_a_side_wins_that_wins_in_both_orders(
    pro_first: Winner, con_first: Winner, winner: Stance | None, flipped: bool
) -> None:
    result = judged(found(pro_first), found(con_first))
    assert (result.winner, result.flipped) == (winner, flipped)


def test_what_is_undecided_says_what_each_judge_found() -> None:
    assert judged(found("first"), found("neither")).reason == (
        "undecided: the judge who read 'pro' first found for 'pro', the other for neither side"
    )
    assert judged(found("second"), found("first")).reason == "both judges found for 'con', in either order"
    assert "neither side" in judged(found("neither"), found("neither")).reason


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-2, 2))
def test_swapping_the_sides_swaps_the_result_however_the_judge_leans(pro: float, con: float, bias: float) -> None:
    result, swapped = (debated(leaning(bias), *sides) for sides in ((pro, con), (con, pro)))
    assert swapped.winner == MIRRORED[result.winner]
    assert swapped.flipped == result.flipped


def test_one_order_alone_is_not_invariant() -> None:
    def alone(pro: float, con: float) -> Stance | None:
        return judged(found(leaning(0.5)(pro, con))).winner

    assert alone(0.5, 0.6) == alone(0.6, 0.5) == "pro"


def test_a_judge_who_looks_only_at_the_position_decides_nothing() -> None:
    first: Judge = lambda first, second: "first"  # noqa: E731 - it is a judge
    assert {debated(first, pro, con).winner for pro, con in product((0, 1), (0, 1))} == {None}
    assert flip_rate(debated(first, *pair) for pair in product((0, 1), (0, 1))) == 1


def test_the_flip_rate_is_that_of_the_judges_leaning() -> None:
    chance = random.Random(5)
    sides = [(chance.random(), chance.random()) for _ in range(20_000)]
    fair, biased = (flip_rate(debated(leaning(bias), *pair) for pair in sides) for bias in (0.0, 0.2))
    assert fair == 0
    assert biased == pytest.approx(1 - 0.8**2, abs=0.01)  # two random numbers are that often no further apart than 0.2


def test_the_flip_rate_counts_only_where_both_judges_answered() -> None:
    results = [judged(found("first"), found("first")), judged(found("first"), None), judged(found("first"))]
    assert flip_rate(results) == 1
    assert flip_rate(results[1:]) is None


@pytest.mark.parametrize("winner", WINNERS)
def test_without_one_of_two_judges_nothing_is_decided(winner: Winner) -> None:
    for pair in ((found(winner), None), (None, found(winner))):
        assert (judged(*pair).winner, judged(*pair).flipped) == (None, None)
        assert judged(*pair).reason.startswith("one of two judges")
    assert judged(None, None).reason == judged(None).reason == "no judge answered, so nothing is decided"


def test_one_judge_counts_and_it_is_said_what_that_is_worth() -> None:
    assert [judged(found(winner)).winner for winner in WINNERS] == ["pro", "con", None]
    assert "not ruled out" in judged(found("first")).reason
    assert FIRST_READ[0] == "pro"


def test_there_are_one_or_two_judges() -> None:
    for many in (0, 3):
        with pytest.raises(ValueError, match="one or two judges"):
            judged(*[found("first")] * many)
