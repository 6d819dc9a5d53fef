"""Numbers that are known about votes, debates and sequential tests, reproduced with the parts that debates use."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.teams.debating import theory
from fanfold.teams.debating.exchange import Table
from fanfold.teams.debating.stopping import Wald
from fanfold.teams.debating.theory import (
    BETA_BINOMIAL,
    CONDORCET,
    Course,
    Row,
    Setting,
    course,
    decisions,
    lines,
    plurality_accuracy,
    vote_accuracy,
)

TABLES = {"martingale": 3, "vote by N": 8, "beta-binomial": 5, "verifier": 2, "sprt": 8}


def test_every_number_is_the_one_in_the_literature(rows: tuple[Row, ...]) -> None:
    assert [row for row in rows if not row.right] == []
    assert {table: sum(row.table == table for row in rows) for table in TABLES} == TABLES
    assert len(rows) == sum(TABLES.values())


@pytest.fixture(scope="module")
def unguided() -> Course:
    return course(Setting(), runs=10_000, seed=3)


@pytest.fixture(scope="module")
def verified() -> Course:
    return course(Setting(dropped=0.5), runs=10_000, seed=3)


def test_debate_alone_does_not_raise_the_belief_in_what_is_right(unguided: Course) -> None:
    assert unguided.beliefs == pytest.approx([0.4] * 6, abs=0.01)
    assert unguided.votes[-1] < unguided.votes[0]


def test_dropping_wrong_messages_raises_it_in_every_round(verified: Course) -> None:
    for curve in (verified.beliefs, verified.votes):
        assert all(later > earlier for earlier, later in itertools.pairwise(curve))
    assert (verified.votes[0], verified.votes[-1]) == pytest.approx((0.511, 0.761), abs=0.012)


def test_a_stricter_check_helps_more_and_one_that_lets_all_pass_is_none(unguided: Course, verified: Course) -> None:
    strict = course(Setting(dropped=0.9), runs=10_000, seed=3)
    assert unguided.votes[-1] < verified.votes[-1] < strict.votes[-1]
    assert strict.beliefs[-1] > verified.beliefs[-1] + 0.05


def test_the_openings_vote_is_what_can_be_worked_out_exactly(unguided: Course) -> None:
    exact = plurality_accuracy(5, 0.4, 4)
    assert exact == pytest.approx(0.509, abs=0.0005)
    assert unguided.votes[0] == pytest.approx(exact, abs=0.01)
    assert plurality_accuracy(7, 0.6, 2) == pytest.approx(vote_accuracy(7, 0.6))


def test_the_same_seed_gives_the_same_course_and_another_one_another() -> None:
    setting = Setting(Table(2, 2, "ring"), rounds=2)
    assert course(setting, runs=50, seed=1) == course(setting, runs=50, seed=1)
    assert course(setting, runs=50, seed=1) != course(setting, runs=50, seed=2)


def test_members_who_hear_nobody_keep_their_belief() -> None:
    class Alone(Table):
        def reads(self, seat: str, round: int) -> tuple[str, ...]:
            return ()

    alone = course(Setting(Alone(3, 2), dropped=0.5), runs=20, seed=1)
    assert alone.beliefs == pytest.approx([0.4] * 6)


def test_in_each_round_members_hear_whom_they_read_in_that_round() -> None:
    class Once(Table):
        def reads(self, seat: str, round: int) -> tuple[str, ...]:
            return tuple(other for other in self.seats if other != seat) if round == 1 else ()

    before, *after = course(Setting(Once(3, 2), dropped=1.0), runs=200, seed=1).beliefs
    assert min(after) > before + 0.1
    assert after == pytest.approx([after[0]] * 5)


def test_the_belief_that_is_shown_is_the_one_that_strays_farthest() -> None:
    few = theory.tables(seed=1, runs=200)[0]
    beliefs = course(Setting(), runs=100, seed=1).beliefs
    assert abs(few.ours - 0.4) == max(abs(belief - 0.4) for belief in beliefs) > 0


def test_a_larger_vote_is_righter_as_long_as_members_are_right_more_often_than_not() -> None:
    better = [vote_accuracy(members, 0.6) for members in CONDORCET]
    worse = [vote_accuracy(members, 0.4) for members in CONDORCET]
    assert better == sorted(better)
    assert worse == pytest.approx([1 - accuracy for accuracy in better])
    assert vote_accuracy(1, 0.6) == pytest.approx(vote_accuracy(2, 0.6)) == pytest.approx(0.6)


def test_members_who_err_together_take_the_vote_back_to_one_of_them() -> None:
    assert list(BETA_BINOMIAL.values()) == sorted(BETA_BINOMIAL.values(), reverse=True)
    assert vote_accuracy(15, 0.6, 0.9999) == pytest.approx(0.6, abs=0.001)
    assert vote_accuracy(15, 0.6, 0.0001) == pytest.approx(vote_accuracy(15, 0.6), abs=0.001)
    assert vote_accuracy(1, 0.6, 0.5) == pytest.approx(0.6)


@given(st.floats(0.005, 0.3), st.floats(0.005, 0.3), st.floats(0.05, 0.85), st.floats(0.1, 0.9))
def test_a_sequential_test_errs_no_more_than_it_may(alpha: float, beta: float, p0: float, apart: float) -> None:
    test = Wald(alpha, beta, p0, p0 + (0.98 - p0) * apart)
    assert decisions(test, test.p0, 150).for_p1 <= alpha
    assert decisions(test, test.p1, 150).for_p0 <= beta


def test_a_sequential_test_decides_in_the_end_and_soon_where_it_is_clear() -> None:
    for p in (0.5, 0.65, 0.8):
        found = decisions(Wald(), p)
        assert found.undecided < 1e-6
        assert found.for_p1 + found.for_p0 == pytest.approx(1)
    clear, hard = decisions(Wald(), 0.99), decisions(Wald(), 0.65)
    assert 7 <= clear.observations < 8 < hard.observations


def test_bounds_that_are_too_close_are_found_out() -> None:
    class Hasty(Wald):
        def decide(self, yes: int, no: int) -> bool | None:
            return Wald(0.4, 0.4, self.p0, self.p1).decide(yes, no)

    assert decisions(Hasty(), 0.5).for_p1 > 0.05
    assert decisions(Hasty(), 0.8).for_p0 > 0.05


def test_a_number_that_is_not_the_known_one_is_called_wrong() -> None:
    row = Row("t", "c", 0.5, 0.5004)
    assert row.right
    assert not replace(row, ours=0.501).right
    assert not replace(row, ours=0.499).right
    assert replace(row, ours=0.1, bound="at most").right
    assert not replace(row, ours=0.5004, bound="at most").right
    assert [line.endswith("<- WRONG") for line in lines([row, replace(row, ours=0.6)])] == [False, True]


def test_a_rule_that_breaks_ties_for_the_right_answer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    theory._credit.cache_clear()
    monkeypatch.setattr(theory, "credit", lambda tally, answer: float(answer in (tally.winner, *tally.tied)))
    try:
        assert plurality_accuracy(5, 0.4, 4) > 0.52
    finally:
        theory._credit.cache_clear()
