"""Stop rules: each one's own condition, and how they are put together."""

from __future__ import annotations

from typing import Any

import pytest

from fanfold.teams.debating.objects import Challenge, Claim, Opening, Rebuttal, Statement
from fanfold.teams.debating.stopping import (
    HARD_CAP,
    Calls,
    Money,
    Progress,
    Rounds,
    Spent,
    Sprt,
    Stability,
    StopRule,
    Tokens,
    Unanimity,
    Wald,
    progress,
    reasons,
    usual_rule,
)
from fanfold.teams.debating.votes import Ballot


def rounds(*answers: str, new: int = 0, **spending: Spent) -> Progress:
    """The progress in which the members answered so, round after round: `rounds("aab", "aaa")`."""
    cast = [tuple(Ballot(voter=f"v{at}", answer=said) for at, said in enumerate(round)) for round in answers]
    return Progress(ballots=tuple(cast), new_challenges=new, **spending)


def names(rule: StopRule, at: Progress) -> list[str]:
    return [stopped.rule for stopped in rule.stops(at)]


def test_unanimity_stops_only_when_nothing_new_was_raised() -> None:
    assert names(Unanimity(), rounds("abb", "aaa")) == ["unanimity"]
    assert names(Unanimity(), rounds("abb", "aaa", new=1)) == []
    assert names(Unanimity(), rounds("aaa", "aab")) == []


def test_openings_that_agree_are_not_yet_unanimity_and_neither_is_one_alone() -> None:
    assert names(Unanimity(), rounds("aaa")) == []
    assert names(Unanimity(), rounds("a", "a")) == []
    assert names(Unanimity(), rounds("", "")) == []


def test_stability_is_two_equal_rounds_of_rebuttals() -> None:
    assert names(Stability(2), rounds("ab", "ab")) == []
    assert names(Stability(2), rounds("aa", "ab", "ab")) == ["stability"]
    assert names(Stability(2), rounds("ab", "ab", "ba")) == []
    assert names(Stability(2), rounds("ab", "ab", "abb")) == []
    assert names(Stability(3), rounds("ab", "ab", "ab")) == []
    assert names(Stability(3), rounds("ab", "ab", "ab", "ab")) == ["stability"]
    assert names(Stability(2), rounds("", "", "")) == []
    one, other = (Ballot(voter=voter, answer="a") for voter in "vw")
    assert names(Stability(2), Progress(ballots=((), (one,), (other,)))) == []


def test_the_test_stops_when_the_lead_is_sure_and_when_it_is_surely_none() -> None:
    assert names(Sprt(), rounds("aaab", "aaaa")) == []
    (held,) = Sprt().stops(rounds("aaab", "aaaa", "aaaa"))
    assert held.reason == "8 of 8 ballots were for 'a', which led: its share is taken to be at least 0.8"
    (lost,) = Sprt().stops(rounds("aaabcde", "aabcdef"))
    assert lost.reason == "2 of 7 ballots were for 'a', which led: its share is taken to be only 0.5"


def test_the_test_begins_again_when_another_answer_leads() -> None:
    assert names(Sprt(), rounds("aaab", "aaaa", "bbbb", "bbbb")) == []
    assert names(Sprt(), rounds("aaab", "aaaa", "bbbb", "bbbb", "bbbb")) == ["sprt"]
    assert names(Sprt(), rounds("aabb", "aaaa", "bbbb")) == ["sprt"]
    assert names(Sprt(), rounds("aabb", "bbbbbbbb")) == []


def test_the_test_looks_at_what_led_before_the_ballots_it_counts() -> None:
    assert names(Sprt(), rounds("b" * 9, "a" * 9)) == ["sprt"]
    assert "0 of 9 ballots were for 'b'" in Sprt().stops(rounds("b" * 9, "a" * 9))[0].reason


@pytest.mark.parametrize(
    "wrong", [{"p0": 0.8, "p1": 0.5}, {"p0": 0}, {"p1": 1}, {"alpha": 0}, {"alpha": 1}, {"beta": 0}, {"beta": 1.5}]
)
def test_a_test_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"p0|alpha"):
        Wald(**wrong)


def test_the_number_of_rounds_stops_whatever_was_said() -> None:
    assert [names(Rounds(2), rounds(*["ab"] * count)) for count in (1, 2, 3, 4)] == [[], [], ["rounds"], ["rounds"]]


def test_no_debate_has_more_than_four_rounds() -> None:
    class Never:
        def stops(self, progress: Progress) -> tuple[Any, ...]:
            return ()

    assert reasons(Never(), rounds(*["ab"] * HARD_CAP)) == ()
    (hard,) = reasons(Never(), rounds(*["ab"] * (HARD_CAP + 1)))
    assert hard.reason == "round 4 was the last of 4"
    for many in (5, -1):
        with pytest.raises(ValueError, match="0 to 4 rounds"):
            Rounds(many)
    with pytest.raises(ValueError, match="two rounds or more"):
        Stability(1)


@pytest.mark.parametrize(("rule", "cost"), [(Calls(10), "calls"), (Tokens(10), "tokens"), (Money(10), "money")])
def test_a_budget_stops_before_the_round_that_would_exceed_it(rule: StopRule, cost: str) -> None:
    def spent(so_far: int, last: int) -> list[str]:
        return names(rule, rounds("ab", spent=Spent(**{cost: so_far}), last=Spent(**{cost: last})))

    assert spent(7, 3) == []
    assert spent(8, 3) == [cost]
    assert spent(9, 0) == []
    assert spent(10, 0) == [cost]
    assert names(rule, rounds("ab", spent=Spent(99, 99, 99.0))) == [cost]
    others = {"calls": 99, "tokens": 99, "money": 99.0} | {cost: 1}
    assert names(rule, rounds("ab", spent=Spent(**others), last=Spent(**others))) == []


def test_a_budget_says_in_dollars_what_was_spent() -> None:
    (stopped,) = Money(1.5).stops(rounds("ab", spent=Spent(money=1.2), last=Spent(money=0.4)))
    assert stopped.reason == "1.2 of 1.5 dollars are spent, and another round takes about 0.4"


def test_either_stops_with_the_reasons_of_all_that_stop() -> None:
    rule = Unanimity() | Stability(2) | Rounds(2)
    assert names(rule, rounds("aa", "aa", "aa")) == ["unanimity", "stability", "rounds"]
    assert names(rule, rounds("ab", "ab", "ab")) == ["stability", "rounds"]
    assert names(rule, rounds("ab", "ab")) == []
    assert names(usual_rule(2), rounds("aa", "aa", "aa")) == names(rule, rounds("aa", "aa", "aa"))


def test_both_stop_only_together() -> None:
    rule = Unanimity() & Rounds(1)
    assert names(rule, rounds("aa", "aa")) == ["unanimity", "rounds"]
    assert names(rule, rounds("aa", "ab")) == []
    assert names((Unanimity() & Rounds(2)) | Rounds(3), rounds("aa", "aa")) == []
    assert names(Rounds(3) | Unanimity() & Rounds(1), rounds("aa", "aa")) == ["unanimity", "rounds"]


def said(seat: str, round: int, answer: Any, *challenges: tuple[str, Any]) -> Statement:
    made = [Challenge(claim=claim, kind=kind, severity=1, text="t") for claim, kind in challenges]
    return Statement(seat=seat, round=round, said=Rebuttal(answer=answer, confidence=1, challenges=tuple(made)))


def test_progress_counts_only_what_is_raised_for_the_first_time() -> None:
    claim = Claim(id="A.1", text="t", gap="meta-gap", confidence=1)
    opened = Opening(stance="pro", answer="concede", confidence=1, claims=(claim,))
    statements = [
        Statement(seat="pro-1", round=0, said=opened),
        said("con-1", 1, "concede", ("A.1", "rebut"), ("A.1", "rebut"), ("A.1", "undercut")),
        said("con-1", 2, "concede", ("A.1", "rebut")),
        said("con-1", 3, "innovate", ("A.1", "undermine")),
    ]
    assert [progress(statements, round).new_challenges for round in (0, 1, 2, 3)] == [0, 2, 0, 1]
    after = progress(statements, 2, Spent(calls=4), Spent(calls=2))
    assert [len(round) for round in after.ballots] == [1, 2, 2]
    assert names(Unanimity(), after) == ["unanimity"]
    assert (after.round, after.spent.calls, after.last.calls) == (2, 4, 2)
    assert names(Unanimity(), progress(statements, 3)) == []
