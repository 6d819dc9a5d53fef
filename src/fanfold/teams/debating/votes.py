"""What members would decide if they were asked now, and how that is counted.

A rule makes a `Tally` out of ballots. It never breaks a tie: a tie has no winner and says between whom it is, and
whoever asked decides what follows. The same ballots give the same tally, in whichever order they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import Field

from fanfold import register_type
from fanfold.teams.debating.objects import Confidence, Form, Id, Line, Statement


class Ballot(Form):
    """One member's answer, and how sure it is."""

    voter: Id
    answer: Line
    confidence: Confidence = 1.0


class Tally(Form):
    """What a vote came to. `winner` is None for a tie, for too few ballots, and for none at all."""

    rule: Line
    winner: Line | None
    weights: dict[Line, float]
    """How much each answer got, the heaviest first."""
    tied: tuple[Line, ...] = ()
    cast: Annotated[int, Field(ge=0)]
    expected: Annotated[int, Field(ge=0)]
    reason: Line

    @property
    def share(self) -> float:
        """What part of all weight the heaviest answer got; 0 where nothing was cast."""
        total = sum(self.weights.values())
        return max(self.weights.values()) / total if total else 0.0


register_type(Ballot, "debate.Ballot")
register_type(Tally, "debate.Tally")

Rule: TypeAlias = Callable[[Sequence[Ballot]], Tally]

_TENTHS: Final = ((1.0, 10), (0.9, 8), (0.8, 5))
"""ReConcile's weights, in tenths: confidence from here on, and its weight. In whole numbers, since sums have to tie."""


def ballots(statements: Iterable[Statement], until: int | None = None) -> tuple[Ballot, ...]:
    """Each member's last answer up to the round `until`, by the names of their seats; of round 0, the openings."""
    last: dict[str, Statement] = {}
    for statement in sorted(statements, key=lambda statement: (statement.seat, statement.round)):
        if until is None or statement.round <= until:
            last[statement.seat] = statement
    return tuple(
        Ballot(voter=seat, answer=statement.said.answer, confidence=statement.said.confidence)
        for seat, statement in last.items()
    )


def majority(cast: Sequence[Ballot]) -> Tally:
    """One ballot, one vote; most of them win."""
    return _counted("majority", cast, {ballot.voter: 10 for ballot in cast})


def weighted(cast: Sequence[Ballot]) -> Tally:
    """Ballots weigh .1, .3, .5, .8 or 1 by their confidence, as in ReConcile: models are surer than they should be."""
    return _counted("weighted", cast, {ballot.voter: _tenths(ballot.confidence) for ballot in cast})


def _tenths(confidence: float) -> int:
    for least, weight in _TENTHS:
        if confidence >= least:
            return weight
    return 3 if confidence > 0.6 else 1


def weight(confidence: float) -> float:
    """How much a ballot of this confidence weighs."""
    return _tenths(confidence) / 10


def quorum(rule: Rule, expected: int, least: int | None = None) -> Rule:
    """The rule, where at least so many of the `expected` ballots have to be cast; more than half if nothing is said."""
    needed = expected // 2 + 1 if least is None else least
    if not 1 <= needed <= expected:
        raise ValueError(f"a quorum of {needed} among {expected} can never decide, or always does")

    def count(cast: Sequence[Ballot]) -> Tally:
        tally = rule(cast).model_copy(update={"expected": expected})
        if len(cast) >= needed:
            return tally
        reason = f"no quorum: {len(cast)} of {expected} voted, and {needed} are needed"
        return tally.model_copy(update={"winner": None, "tied": (), "reason": reason})

    return count


RULES: Final[Mapping[str, Rule]] = {"majority": majority, "weighted": weighted}


def _counted(rule: str, cast: Sequence[Ballot], tenths: Mapping[str, int]) -> Tally:
    if len(tenths) < len(cast):
        raise ValueError("somebody has cast more than one ballot")
    sums: dict[str, int] = {}
    for ballot in cast:
        sums[ballot.answer] = sums.get(ballot.answer, 0) + tenths[ballot.voter]
    ordered = sorted(sums, key=lambda answer: (-sums[answer], answer))
    first = tuple(answer for answer in ordered if sums[answer] == sums[ordered[0]])
    return Tally(
        rule=rule,
        winner=first[0] if len(first) == 1 else None,
        weights={answer: sums[answer] / 10 for answer in ordered},
        tied=first if len(first) > 1 else (),
        cast=len(cast),
        expected=len(cast),
        reason=_reason(first, {answer: f"{sums[answer] / 10:g}" for answer in ordered}),
    )


def _reason(first: tuple[str, ...], weights: Mapping[str, str]) -> str:
    if not first:
        return "nobody voted"
    if len(first) > 1:
        return f"a tie between {', '.join(map(repr, first))}, with {weights[first[0]]} each"[:500]
    others = ", ".join(f"{answer!r} {got}" for answer, got in weights.items() if answer != first[0])
    return f"{first[0]!r} has {weights[first[0]]}" + (f"; {others}" if others else ", and nothing else has any")
