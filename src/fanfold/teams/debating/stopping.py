"""When a debate has gone on for long enough.

A rule looks at the progress after a round and says why to stop, or nothing. Rules are put together: `a | b` stops when
either does, `a & b` when both do in the same round. Whatever the rule, `reasons` also stops after `HARD_CAP` rounds, so
no debate goes on for ever.

Rounds are those of rebuttals. The openings are round 0 and stop nothing: nobody has read anybody yet, so that they
agree, or do not, is what is to be argued about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from typing import Final, Protocol

from fanfold import register_type
from fanfold.teams.debating.objects import Form, Id, Rebuttal, Statement, Text
from fanfold.teams.debating.votes import Ballot, ballots, majority

HARD_CAP: Final = 4
"""Rounds after which every debate ends."""


class Stopped(Form):
    """A rule that stopped a debate, and why."""

    rule: Id
    reason: Text


register_type(Stopped, "debate.Stopped")


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls of agents have cost. `money` is in dollars."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a debate is. `ballots` has those of each round so far, beginning with the openings'."""

    ballots: tuple[tuple[Ballot, ...], ...]
    new_challenges: int = 0
    """How many challenges of the last round had not been made before."""
    spent: Spent = Spent()
    """What everything has cost so far."""
    last: Spent = Spent()
    """What the last round has cost; another one will cost about as much."""

    @property
    def round(self) -> int:
        """The round that has ended."""
        return len(self.ballots) - 1


def progress(
    statements: Iterable[Statement], round: int, spent: Spent | None = None, last: Spent | None = None
) -> Progress:
    """The progress after a round, out of what was said. Who says nothing in a round stays with its last answer."""
    said = [statement for statement in statements if statement.round <= round]
    return Progress(
        ballots=tuple(ballots(said, at) for at in range(round + 1)),
        new_challenges=_new_challenges(said, round),
        spent=spent or Spent(),
        last=last or Spent(),
    )


def _new_challenges(said: Sequence[Statement], round: int) -> int:
    """Against how many claims something was raised for the first time; the same kind of challenge again is not new."""
    raised: list[set[tuple[str, str]]] = [set(), set()]
    for statement in said:
        if isinstance(statement.said, Rebuttal):
            raised[statement.round == round] |= {(made.claim, made.kind) for made in statement.said.challenges}
    before, now = raised
    return len(now - before)


class StopRule(Protocol):
    """Anything that can say why to stop."""

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """The reasons to stop now; none to go on."""
        ...


class _Composable:
    """`|` and `&` between rules."""

    __slots__ = ()

    def __or__(self: StopRule, other: StopRule) -> Either:
        return Either((self, other))

    def __and__(self: StopRule, other: StopRule) -> Both:
        return Both((self, other))


@dataclass(frozen=True, slots=True)
class Either(_Composable):
    """Stops when any of the rules does, with the reasons of all that do."""

    rules: tuple[StopRule, ...]

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """The reasons of every rule that stops."""
        return tuple(reason for rule in self.rules for reason in rule.stops(progress))


@dataclass(frozen=True, slots=True)
class Both(_Composable):
    """Stops when all of the rules do in the same round."""

    rules: tuple[StopRule, ...]

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """The reasons of all rules, or none."""
        found = [rule.stops(progress) for rule in self.rules]
        return tuple(reason for reasons in found for reason in reasons) if all(found) else ()


@dataclass(frozen=True, slots=True)
class Unanimity(_Composable):
    """Stops when all have the same answer and nobody has raised anything new against a claim."""

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether all agree."""
        now = progress.ballots[-1]
        if progress.round < 1 or len(now) < 2 or progress.new_challenges or len({vote.answer for vote in now}) > 1:
            return ()
        reason = f"all {len(now)} say {now[0].answer!r} in round {progress.round}, and none raised anything new"
        return (Stopped(rule="unanimity", reason=reason),)


@dataclass(frozen=True, slots=True)
class Stability(_Composable):
    """Stops when so many rounds of rebuttals, one after another, have ended with the same answers of everybody."""

    rounds: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise ValueError(f"answers are stable over two rounds or more, not over {self.rounds}")

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether the last rounds are equal."""
        last = progress.ballots[1:][-self.rounds :]
        answers = {tuple((vote.voter, vote.answer) for vote in round) for round in last}
        if len(last) < self.rounds or len(answers) > 1 or not last[-1]:
            return ()
        return (
            Stopped(
                rule="stability", reason=f"everybody's answer was the same after each of the last {self.rounds} rounds"
            ),
        )


@dataclass(frozen=True, slots=True)
class Wald:
    """A sequential test of whether something happens with probability `p1` or only `p0`.

    After each observation it decides, or wants more. Wrongly deciding for `p1` has at most the probability `alpha`, and
    wrongly for `p0` at most `beta`, whenever one looks. For that the bounds are 1/alpha and beta, a little further
    apart than Wald's own (1-beta)/alpha and beta/(1-alpha), which hold only about.
    """

    alpha: float = 0.05
    beta: float = 0.05
    p0: float = 0.5
    p1: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.p0 < self.p1 < 1:
            raise ValueError(f"0 < p0 < p1 < 1 must hold, and p0 is {self.p0} and p1 {self.p1}")
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError(f"alpha and beta are probabilities between 0 and 1, not {self.alpha} and {self.beta}")

    def decide(self, yes: int, no: int) -> bool | None:
        """True for `p1`, False for `p0`, None while neither is sure enough; after so many that happened and did not."""
        ratio = yes * log(self.p1 / self.p0) + no * log((1 - self.p1) / (1 - self.p0))
        if ratio >= -log(self.alpha):
            return True
        return False if ratio <= log(self.beta) else None


@dataclass(frozen=True, slots=True)
class Sprt(_Composable):
    """Stops when a sequential test is sure that the leading answer is widely shared, or that it is not.

    Every ballot is an observation of whether a member shares the answer that led in the round before; when another
    answer leads, the test begins again. Its error bounds hold for ballots that are independent of each other. Those of
    one debate are so only in part, so they say how strict the rule is and not how often it errs.
    """

    test: Wald = field(default_factory=Wald)

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether the test has decided."""
        leader, yes, no = self._observed(progress.ballots)
        decided = self.test.decide(yes, no)
        if leader is None or decided is None:
            return ()
        sure = f"at least {self.test.p1:g}" if decided else f"only {self.test.p0:g}"
        reason = f"{yes} of {yes + no} ballots were for {leader!r}, which led: its share is taken to be {sure}"
        return (Stopped(rule="sprt", reason=reason),)

    @staticmethod
    def _observed(rounds: Sequence[Sequence[Ballot]]) -> tuple[str | None, int, int]:
        """The leading answer, and how many ballots since it leads were for it and for others."""
        leader, yes, no = None, 0, 0
        for before, now in pairwise(rounds):
            led = majority(before).winner
            if led != leader:
                leader, yes, no = led, 0, 0
            shared = sum(vote.answer == leader for vote in now)
            yes, no = yes + shared, no + len(now) - shared
        return leader, yes, no


@dataclass(frozen=True, slots=True)
class Rounds(_Composable):
    """Stops after so many rounds."""

    most: int = HARD_CAP

    def __post_init__(self) -> None:
        if not 0 <= self.most <= HARD_CAP:
            raise ValueError(f"a debate has 0 to {HARD_CAP} rounds, not {self.most}")

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether that was the last round."""
        if progress.round < self.most:
            return ()
        return (Stopped(rule="rounds", reason=f"round {progress.round} was the last of {self.most}"),)


@dataclass(frozen=True, slots=True)
class Calls(_Composable):
    """Stops before a round that would bring the calls of agents above a number."""

    most: int

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether another round would be too much."""
        return _budget("calls", self.most, progress.spent.calls, progress.last.calls)


@dataclass(frozen=True, slots=True)
class Tokens(_Composable):
    """Stops before a round that would bring the tokens above a number, if it took as many as the last one."""

    most: int

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether another round would be too much."""
        return _budget("tokens", self.most, progress.spent.tokens, progress.last.tokens)


@dataclass(frozen=True, slots=True)
class Money(_Composable):
    """Stops before a round that would bring the cost above so many dollars, if it took as much as the last one."""

    most: float

    def stops(self, progress: Progress) -> tuple[Stopped, ...]:
        """Whether another round would be too much."""
        return _budget("money", self.most, progress.spent.money, progress.last.money)


BUDGETS: Final = frozenset({"calls", "tokens", "money"})
"""The rules whose reasons mean that a debate ended because of what it costs."""


def _budget(rule: str, most: float, spent: float, more: float) -> tuple[Stopped, ...]:
    if spent < most and spent + more <= most:
        return ()
    reason = f"{spent:g} of {most:g} {rule} are spent, and another round takes about {more:g}"
    return (Stopped(rule=rule, reason=reason.replace("money", "dollars")),)


def usual_rule(rounds: int = 2) -> StopRule:
    """Unanimity, two equal rounds, or the number of rounds."""
    return Unanimity() | Stability() | Rounds(rounds)


def reasons(rule: StopRule, progress: Progress) -> tuple[Stopped, ...]:
    """Why a debate under this rule ends now; nothing while it goes on. None goes on after `HARD_CAP` rounds."""
    return rule.stops(progress) or Rounds(HARD_CAP).stops(progress)
