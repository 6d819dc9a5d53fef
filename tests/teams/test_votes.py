"""Votes: who wins, what ties, and what is too few."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.teams.debating.objects import DECISIONS, Claim, Opening, Rebuttal, Statement
from fanfold.teams.debating.votes import Ballot, Rule, Tally, ballots, majority, quorum, weight, weighted


def cast(*answers: str | tuple[str, float]) -> list[Ballot]:
    pairs = [(answer, 1.0) if isinstance(answer, str) else answer for answer in answers]
    return [Ballot(voter=f"v{at}", answer=answer, confidence=sure) for at, (answer, sure) in enumerate(pairs)]


def test_most_votes_win_whatever_their_confidence() -> None:
    tally = majority(cast(("a", 0.1), ("a", 0.1), ("b", 1.0)))
    assert (tally.winner, tally.tied, tally.weights) == ("a", (), {"a": 2, "b": 1})
    assert tally.reason == "'a' has 2; 'b' 1"
    assert tally.share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("confidence", "weighs"),
    [(1, 1), (0.99, 0.8), (0.9, 0.8), (0.89, 0.5), (0.8, 0.5), (0.79, 0.3), (0.61, 0.3), (0.6, 0.1), (0, 0.1)],
)
def test_confidence_weighs_as_in_reconcile(confidence: float, weighs: float) -> None:
    assert weight(confidence) == weighs
    assert weighted(cast(("a", confidence))).weights == {"a": weighs}


def test_one_who_is_sure_outweighs_two_who_guess() -> None:
    split = cast(("a", 0.7), ("a", 0.7), ("b", 1.0))
    assert (majority(split).winner, weighted(split).winner) == ("a", "b")


def test_weights_that_are_equal_tie_though_floats_would_not_add_up() -> None:
    tenfold = weighted(cast(*[("a", 0.0)] * 3, ("b", 0.7)))  # .1 + .1 + .1 is not .3
    assert (tenfold.winner, tenfold.tied) == (None, ("a", "b"))


def test_a_tie_has_no_winner_and_says_between_whom() -> None:
    tally = majority(cast("b", "a", "c", "a", "b"))
    assert (tally.winner, tally.tied) == (None, ("a", "b"))
    assert tally.reason == "a tie between 'a', 'b', with 2 each"


def test_no_ballots_have_no_winner() -> None:
    assert majority([]).winner is None
    assert majority([]).share == 0
    assert weighted([]).reason == "nobody voted"


def test_nobody_votes_twice() -> None:
    with pytest.raises(ValueError, match="more than one ballot"):
        majority([Ballot(voter="v", answer="a"), Ballot(voter="v", answer="b")])


def test_without_a_quorum_nothing_is_decided_and_that_is_said() -> None:
    rule = quorum(majority, 6)
    few, enough = rule(cast("a", "a", "a")), rule(cast("a", "a", "a", "b"))
    assert (few.winner, few.cast, few.expected) == (None, 3, 6)
    assert few.reason == "no quorum: 3 of 6 voted, and 4 are needed"
    assert few.weights == {"a": 3}
    assert (enough.winner, enough.cast, enough.expected) == ("a", 4, 6)
    assert quorum(weighted, 6, 2)(cast("a", "b")).tied == ("a", "b")
    assert quorum(weighted, 6, 3)(cast("a", "b")).tied == ()


@pytest.mark.parametrize(("expected", "least"), [(0, None), (3, 0), (3, 4)])
def test_a_quorum_that_cannot_be_is_refused(expected: int, least: int | None) -> None:
    with pytest.raises(ValueError, match="quorum"):
        quorum(majority, expected, least)


@pytest.mark.parametrize("rule", [majority, weighted, quorum(majority, 3, 1)])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=9), st.randoms())
def test_the_order_of_ballots_does_not_count(rule: Rule, said: list[tuple[str, float]], chance: random.Random) -> None:
    given_ = cast(*said)
    tally = rule(given_)
    assert rule(chance.sample(given_, len(given_))) == tally
    assert list(tally.weights) == list(rule(given_[::-1]).weights)
    assert (tally.winner is None) == (len(tally.tied) != 0 or not said)
    assert Tally.model_validate_json(tally.model_dump_json()) == tally


def test_the_vote_of_a_round_counts_what_each_said_last_until_then() -> None:
    claim = Claim(id="c", text="t", gap="meta-gap", confidence=0.5)
    innovate, concede, stay = DECISIONS[1], DECISIONS[2], DECISIONS[0]
    said = [
        Statement(seat="pro-1", round=2, said=Rebuttal(answer=stay, confidence=0.3)),
        Statement(seat="pro-1", round=0, said=Opening(stance="pro", answer=innovate, confidence=0.9, claims=(claim,))),
        Statement(seat="pro-1", round=1, said=Rebuttal(answer=concede, confidence=0.2)),
        Statement(seat="con-1", round=1, said=Rebuttal(answer=concede, confidence=0.7)),
    ]
    assert ballots(said, 0) == (Ballot(voter="pro-1", answer=innovate, confidence=0.9),)
    assert [ballot.answer for ballot in ballots(said, 1)] == [concede, concede]
    assert {ballot.voter: ballot.answer for ballot in ballots(said)} == {"pro-1": stay, "con-1": concede}
