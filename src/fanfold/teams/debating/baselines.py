"""What would have come of less: the vote of the openings, and as many answers as the debate's cost would have bought.

Most of what debates gain, a plain vote gains as well. So each debate is held against two that are cheaper to have: the
vote of round 0, which it had anyway, and *self-consistency at equal cost*, a vote of single answers that nobody argued
about, as many as cost together what the debate did. A debate that does not beat the second was not worth its rounds.

Whether it does, one debate cannot tell: nobody knows the right answer, or nobody would debate. Over many questions with
known answers, `gain` says it, with how likely as clear a difference is by chance; and `correlation` says how much the
members err together, which is what limits every vote of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fanfold import register_type
from fanfold.teams.debating.objects import DECISIONS, Confidence, Form, Line
from fanfold.teams.debating.stopping import Spent
from fanfold.teams.debating.votes import Ballot, Rule, Tally, majority

Currency: TypeAlias = Literal["money", "tokens", "calls"]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Confidence


class Agreement(Form):
    """In what part of all pairs of members both had the same answer; None where there is no such pair."""

    all: Share | None
    same_model: Share | None = None
    different_models: Share | None = None

    @property
    def above_chance(self) -> float | None:
        """The same for all pairs, with 0 for what guessing among the decisions gives, and 1 for unanimity."""
        chance = 1 / len(DECISIONS)
        return None if self.all is None else (self.all - chance) / (1 - chance)


class Baselines(Form):
    """A debate's decision beside what less effort would have decided."""

    decision: Line
    opening: Tally
    """The vote of round 0."""
    equal_cost: Tally | None
    """The vote of single answers; None where none were bought."""
    affordable: Count
    """How many single answers cost as much as the debate; 0 where that is not known."""
    currency: Currency
    """In what cost was compared: in money where prices are known, else in tokens, else in calls."""
    agreement: Agreement

    @property
    def short(self) -> bool:
        """Whether fewer single answers were bought than the debate's cost would have paid for."""
        return self.equal_cost is not None and self.equal_cost.cast < self.affordable

    def lines(self) -> list[str]:
        """The comparison for people, as items of a list in Markdown."""
        return [
            f"- vote of the openings, which had read nobody: {self.opening.reason} ({self._beside(self.opening)})",
            f"- as many single answers as the debate's cost buys: {self._equal_cost()}",
            f"- gain over the vote at equal cost: {self._gain()}",
            f"- correlation of answers: {self._agreement()}",
        ]

    def _beside(self, tally: Tally) -> str:
        if tally.winner is None:
            return "decides nothing"
        return "the same as the debate" if tally.winner == self.decision else "the debate decided otherwise"

    def _equal_cost(self) -> str:
        buys = f"{self.affordable}, by {self.currency}" if self.affordable else "a number that is not known"
        if self.equal_cost is None:
            return f"{buys}; none were bought (`samples`)"
        return f"{self.equal_cost.reason}, in {self.equal_cost.cast} of {buys} ({self._beside(self.equal_cost)})"

    def _gain(self) -> str:
        if self.equal_cost is None:
            return "not known, since no single answers were bought"
        same = self.equal_cost.winner == self.decision
        unknown = "not known, since one debate does not show which decision is right"
        told = "none, since the vote decides the same" if same else unknown
        return told + (f", as far as {self.equal_cost.cast} answers tell of {self.affordable}" if self.short else "")

    def _agreement(self) -> str:
        found, above = self.agreement, self.agreement.above_chance
        if found.all is None or above is None:
            return "not known, with fewer than two openings"
        parts = [f"{found.all:.2f} of the pairs of openings agree, {above:+.2f} beside chance"]
        if found.same_model is not None:
            parts.append(f"{found.same_model:.2f} of those of one model")
        if found.different_models is not None:
            parts.append(f"{found.different_models:.2f} of those of two models")
        return "; ".join(parts)


register_type(Agreement, "debate.Agreement")
register_type(Baselines, "debate.Baselines")


def compared(
    decision: str,
    opening: Sequence[Ballot],
    samples: Sequence[Ballot],
    debate: Spent,
    sample: Spent,
    *,
    models: Mapping[str, str] | None = None,
    rule: Rule = majority,
) -> Baselines:
    """A debate that cost `debate` beside its openings' vote, and beside that of `samples` at `sample` each.

    `sample` is what one single answer costs; that of an opening, where none was bought. Of more samples than the
    debate's cost buys, only the first ones count. `models` is which model each voter of the openings is.
    """
    affordable, currency = bought(debate, sample)
    counted = samples[:affordable] if affordable else samples
    return Baselines(
        decision=decision,
        opening=rule(opening),
        equal_cost=rule(counted) if counted else None,
        affordable=affordable,
        currency=currency,
        agreement=agreement(opening, models),
    )


def bought(debate: Spent, sample: Spent) -> tuple[int, Currency]:
    """How many times `sample` goes into `debate`, and in which currency both are known; 0 where in none."""
    prices: tuple[tuple[Currency, float, float], ...] = (
        ("money", debate.money, sample.money),
        ("tokens", debate.tokens, sample.tokens),
        ("calls", debate.calls, sample.calls),
    )
    for currency, whole, each in prices:
        if whole > 0 and each > 0:
            return int(whole / each + 1e-9), currency  # prices are sums of floats
    return 0, "calls"


def agreement(cast: Sequence[Ballot], models: Mapping[str, str] | None = None) -> Agreement:
    """How often two members have the same answer, and whether that depends on their being the same model."""
    pairs = list(combinations(cast, 2))
    of = models or {}
    known = [(one, other) for one, other in pairs if one.voter in of and other.voter in of]
    return Agreement(
        all=_alike(pairs),
        same_model=_alike([(one, other) for one, other in known if of[one.voter] == of[other.voter]]),
        different_models=_alike([(one, other) for one, other in known if of[one.voter] != of[other.voter]]),
    )


def _alike(pairs: Sequence[tuple[Ballot, Ballot]]) -> float | None:
    return sum(one.answer == other.answer for one, other in pairs) / len(pairs) if pairs else None


# Over many questions whose right answers are known.


class Gain(Form):
    """How often debates were right, and how often what less would have bought."""

    questions: Count
    debate: Share
    opening: Share
    equal_cost: Share
    better: Count
    """Questions on which the debate was right, or nearer to it, and the vote at equal cost was not."""
    worse: Count
    chance: Share
    """How likely a difference as clear as that of `better` and `worse` is, in either direction, by chance alone."""
    short: Count = 0
    """Questions on which the vote had fewer answers than the debate's cost pays for, so that it cost less."""

    @property
    def over_vote(self) -> float:
        """The gain over the vote at equal cost: how much more often the debates were right."""
        return self.debate - self.equal_cost

    def line(self) -> str:
        """The gain for people."""
        return (
            f"gain over the vote at equal cost: {self.over_vote:+.3f} in {self.questions} questions "
            f"({self.debate:.3f} against {self.equal_cost:.3f}; openings {self.opening:.3f}; better in {self.better}, "
            f"worse in {self.worse}, by chance with p = {self.chance:.3f})"
            + (f"; the vote cost less in {self.short}: buy more `samples`" if self.short else "")
        )


register_type(Gain, "debate.Gain")


def gain(results: Iterable[tuple[str, Baselines]]) -> Gain:
    """The gain of debates over their baselines, from the right answers and the baselines of each.

    A tie counts as what breaking it by lot would give. Raises `ValueError` where there is no result, or one for which
    no single answers were bought.
    """
    right: list[tuple[float, float, float]] = []
    short = 0
    for answer, found in results:
        if found.equal_cost is None:
            raise ValueError("a debate without single answers of equal cost has no gain over them; buy `samples`")
        short += found.short
        right.append((float(found.decision == answer), credit(found.opening, answer), credit(found.equal_cost, answer)))
    if not right:
        raise ValueError("no results, so no gain")
    debate, opening, equal = (sum(column) / len(right) for column in zip(*right, strict=True))
    better = sum(mine > theirs for mine, _, theirs in right)
    worse = sum(mine < theirs for mine, _, theirs in right)
    return Gain(
        questions=len(right),
        debate=debate,
        opening=opening,
        equal_cost=equal,
        better=better,
        worse=worse,
        chance=_sign_test(better, worse),
        short=short,
    )


def credit(tally: Tally, answer: str) -> float:
    """How right a vote is: 1 or 0, and a part of it where it ties with the right answer among those that tie."""
    if tally.tied:
        return 1 / len(tally.tied) if answer in tally.tied else 0.0
    return float(tally.winner == answer)


def _sign_test(better: int, worse: int) -> float:
    """How often a fair coin falls as unevenly as that, or more."""
    thrown = better + worse
    tail = sum(comb(thrown, heads) for heads in range(min(better, worse) + 1)) / (1 << thrown)
    return min(1.0, 2 * tail)


def correlation(right: Sequence[Sequence[bool]]) -> float | None:
    """How much members err together, from who was right on each question: 0 if independently, 1 if all as one.

    It is the intraclass correlation, as the analysis of variance estimates it, and slightly below 0 at times. None
    where everybody was always right or always wrong, or nobody had company.
    """
    groups = [list(map(float, group)) for group in right if group]
    total, questions = sum(map(len, groups)), len(groups)
    if questions < 2 or total == questions:
        return None
    mean = sum(map(sum, groups)) / total
    between = sum(len(group) * (_mean(group) - mean) ** 2 for group in groups) / (questions - 1)
    within = sum((value - _mean(group)) ** 2 for group in groups for value in group) / (total - questions)
    size = (total - sum(len(group) ** 2 for group in groups) / total) / (questions - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread else None


def _mean(group: Sequence[float]) -> float:
    return sum(group) / len(group)


def independent(members: int, correlation: float) -> float:
    """How many members who err independently are worth as much, in a mean of them, as so many who err together."""
    return members / (1 + (members - 1) * correlation)
