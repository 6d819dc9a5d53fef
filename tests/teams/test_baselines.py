"""What less effort would have decided: the openings' vote, equal cost, the gain over both, and erring together."""

from __future__ import annotations

import random

import pytest

from fanfold.teams.debating.baselines import (
    Baselines,
    Gain,
    agreement,
    bought,
    compared,
    correlation,
    credit,
    gain,
    independent,
)
from fanfold.teams.debating.stopping import Spent
from fanfold.teams.debating.votes import Ballot, majority, weighted


def cast(answers: str) -> list[Ballot]:
    return [Ballot(voter=f"v{at}", answer=answer) for at, answer in enumerate(answers)]


def beside(decision: str, opening: str, samples: str, buys: int = 99) -> Baselines:
    return compared(decision, cast(opening), cast(samples), Spent(calls=buys), Spent(calls=1))


@pytest.mark.parametrize(
    ("debate", "sample", "expected"),
    [
        (Spent(13, 9_000, 0.3), Spent(1, 500, 0.1), (3, "money")),
        (Spent(13, 9_000, 0.3), Spent(1, 500, 0.0), (18, "tokens")),
        (Spent(13, 9_000, 0.0), Spent(1, 500, 0.1), (18, "tokens")),
        (Spent(13, 0, 0.0), Spent(1, 500, 0.1), (13, "calls")),
        (Spent(13, 9_999), Spent(1, 1_000), (9, "tokens")),
        (Spent(), Spent(1, 500, 0.1), (0, "calls")),
        (Spent(5, 100), Spent(1, 200), (0, "tokens")),
    ],
)
def test_the_debates_cost_buys_so_many_answers(debate: Spent, sample: Spent, expected: tuple[int, str]) -> None:
    assert bought(debate, sample) == expected


def test_no_more_answers_count_than_the_debates_cost_buys() -> None:
    found = beside("b", "ab", "aabbb", buys=3)
    assert found.equal_cost is not None
    assert (found.equal_cost.winner, found.equal_cost.cast, found.affordable) == ("a", 3, 3)
    everything = compared("b", cast("ab"), cast("aabbb"), Spent(), Spent()).equal_cost
    assert everything is not None
    assert everything.winner == "b"


def test_the_baselines_count_by_the_debates_own_rule() -> None:
    ballots = [
        Ballot(voter=f"v{at}", answer=said, confidence=sure)
        for at, (said, sure) in enumerate([("a", 0.5), ("a", 0.5), ("b", 1.0)])
    ]
    by = {
        rule.__name__: compared("a", ballots, ballots, Spent(9), Spent(1), rule=rule) for rule in (majority, weighted)
    }
    assert [found.opening.winner for found in by.values()] == ["a", "b"]
    assert [found.equal_cost.winner for found in by.values() if found.equal_cost] == ["a", "b"]


def test_every_result_says_both_baselines_and_the_gain() -> None:
    opening, equal, gained, correlated = beside("a", "aab", "bbbab", buys=13).lines()
    assert opening == "- vote of the openings, which had read nobody: 'a' has 2; 'b' 1 (the same as the debate)"
    assert equal == (
        "- as many single answers as the debate's cost buys: 'b' has 4; 'a' 1, in 5 of 13, by calls "
        "(the debate decided otherwise)"
    )
    assert gained.endswith("one debate does not show which decision is right, as far as 5 answers tell of 13")
    assert correlated == "- correlation of answers: 0.33 of the pairs of openings agree, +0.00 beside chance"


def test_what_was_not_measured_is_said_to_be_unknown() -> None:
    lines = beside("a", "ab", "", buys=13).lines()
    assert "(decides nothing)" in lines[0]
    assert lines[1].endswith("13, by calls; none were bought (`samples`)")
    assert lines[2].endswith("not known, since no single answers were bought")
    assert beside("a", "a", "a", buys=1).lines()[2].endswith("none, since the vote decides the same")
    assert beside("a", "a", "a").lines()[3].endswith("not known, with fewer than two openings")
    assert "a number that is not known" in compared("a", [], [], Spent(), Spent()).lines()[1]


def test_agreement_is_told_apart_by_model() -> None:
    models = {"v0": "m", "v1": "m", "v2": "n", "v3": "n"}
    found = agreement(cast("aaab"), models)
    assert (found.all, found.same_model, found.different_models) == (0.5, 0.5, 0.5)
    found = agreement(cast("aabb"), models)
    assert (found.all, found.same_model, found.different_models) == (pytest.approx(1 / 3), 1, 0)
    assert found.above_chance == pytest.approx(0)
    assert agreement(cast("aaa")).above_chance == 1
    assert agreement(cast("ab"), {"v0": "m"}).different_models is None
    assert agreement(cast("a")).above_chance is None
    lines = compared("a", cast("aabb"), [], Spent(), Spent(), models=models).lines()
    assert lines[3].endswith("1.00 of those of one model; 0.00 of those of two models")


@pytest.mark.parametrize(("answers", "right"), [("aab", 1), ("abb", 0), ("aabb", 0.5), ("aabbcc", 1 / 3), ("bbcc", 0)])
def test_a_tie_is_as_right_as_breaking_it_by_lot(answers: str, right: float) -> None:
    assert credit(majority(cast(answers)), "a") == right


def test_the_gain_is_over_what_costs_as_much() -> None:
    results = [("a", beside("a", "a", "b"))] * 6 + [("a", beside("b", "b", "a"))] + [("a", beside("a", "b", "a"))] * 3
    found = gain(results)
    assert (found.questions, found.debate, found.opening, found.equal_cost) == (10, 0.9, 0.6, 0.4)
    assert found.over_vote == pytest.approx(0.5)
    assert (found.better, found.worse) == (6, 1)
    assert found.chance == pytest.approx(2 * (1 + 7) / 2**7)
    assert found.line().startswith("gain over the vote at equal cost: +0.500 in 10 questions")


def test_a_vote_that_costs_less_than_the_debate_says_so() -> None:
    found = gain([("a", beside("a", "a", "ba", buys=2)), ("a", beside("a", "a", "ba", buys=3))])
    assert found.short == 1
    assert found.line().endswith("; the vote cost less in 1: buy more `samples`")
    lines = beside("a", "a", "ba", buys=3).lines()
    assert any(line.endswith("which decision is right, as far as 2 answers tell of 3") for line in lines)
    assert not any("as far as" in line for line in beside("a", "a", "ba", buys=2).lines())


def test_a_gain_that_is_none_may_well_be_chance() -> None:
    assert gain([("a", beside("a", "a", "a"))]).chance == 1
    assert gain([("a", beside("a", "a", "b")), ("a", beside("b", "a", "a"))]).chance == 1


def test_there_is_no_gain_without_answers_to_compare_with() -> None:
    with pytest.raises(ValueError, match="buy `samples`"):
        gain([("a", beside("a", "a", ""))])
    with pytest.raises(ValueError, match="no results"):
        gain([])


def erring(members: int, rho: float, questions: int, p: float = 0.6) -> list[list[bool]]:
    """Who is right, where members share how hard each question is, with this correlation."""
    chance = random.Random(11)
    scale = (1 - rho) / rho if rho else 0.0
    hard = [chance.betavariate(p * scale, (1 - p) * scale) if rho else p for _ in range(questions)]
    return [[chance.random() < q for _ in range(members)] for q in hard]


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.3, 0.6])
def test_correlation_is_found_again_where_it_was_put_in(rho: float) -> None:
    assert correlation(erring(6, rho, 4_000)) == pytest.approx(rho, abs=0.02)


def test_correlation_is_found_again_where_members_fail_to_answer() -> None:
    right = [group[: 6 if at % 2 else 1] for at, group in enumerate(erring(6, 0.3, 4_000))]
    assert correlation(right) == pytest.approx(0.3, abs=0.03)


def test_correlation_is_what_the_analysis_of_variance_gives() -> None:
    between, within, size = 0.75, 0.1875, 6 - (16 + 4) / 6
    expected = (between - within) / (between + (size - 1) * within)
    assert correlation([[True, True, True, False], [False, False]]) == pytest.approx(expected)


def test_all_as_one_correlate_fully_and_nothing_can_be_said_of_those_who_never_differ() -> None:
    assert correlation([[True] * 3, [False] * 3, [True] * 3]) == 1
    assert correlation([[True] * 3, [True] * 3]) is None
    assert correlation([[True, False]]) is None
    assert correlation([[True], [False], []]) is None


def test_members_who_err_together_are_worth_fewer() -> None:
    assert independent(15, 0) == 15
    assert independent(15, 1) == 1
    assert independent(15, 0.1) == pytest.approx(6.25)


def test_baselines_and_gain_are_read_back_from_their_records() -> None:
    found = beside("a", "aab", "ab")
    assert Baselines.model_validate_json(found.model_dump_json()) == found
    assert Gain.model_validate_json(gain([("a", found)]).model_dump_json()) == gain([("a", found)])
