"""What is known about votes and debates, worked out with the parts of this package, beside what the literature says.

Nothing here asks a model. Votes are counted by `votes`, who hears whom is said by `exchange`, and what a sequential
test decides by `stopping`; so a fault in one of them shows as a number that is not the known one. What can be added up
is exact; the rest is drawn with a seed, and the same seed gives the same numbers.

- **Votes.** Condorcet's jury theorem, and what is left of it when jurors err together (beta-binomial).
- **Debates.** The model of Choi, Zhu and Li (NeurIPS 2025, arXiv:2508.17536): a member's belief is a Dirichlet
  distribution over the answers. In each round everybody says an answer drawn by its belief and adds what it hears to
  it. Then the mean belief in the right answer stays where it was: debate is a martingale. When some wrong messages are
  taken out, as a check of evidence does, it rises. The paper proves the direction; the numbers here are those of five
  members, four answers, and beliefs worth four messages to begin with.
- **Sequential tests.** Their errors stay below `alpha` and `beta`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import comb, exp, factorial, lgamma, prod
from typing import Final, Literal, TypeAlias

from fanfold.teams.debating.baselines import credit
from fanfold.teams.debating.exchange import TOPOLOGIES, Table
from fanfold.teams.debating.stopping import Wald
from fanfold.teams.debating.votes import Ballot, majority

# Votes.


def vote_accuracy(members: int, p: float, correlation: float = 0.0) -> float:
    """How often a majority is right, of members who each are with probability `p`, and err together that much."""
    chances = (_chance(right, members, p, correlation) for right in range(members + 1))
    return sum(chance * _credit((right, members - right)) for right, chance in enumerate(chances))


def plurality_accuracy(members: int, p: float, options: int) -> float:
    """How often most votes are for the right one of several answers, where the wrong ones are equally likely."""
    wrong = (1 - p) / (options - 1)
    return sum(
        factorial(members)
        / prod(map(factorial, counts))
        * p ** counts[0]
        * wrong ** (members - counts[0])
        * _credit(tuple(counts))
        for counts in _splits(members, options)
    )


def _chance(right: int, members: int, p: float, correlation: float) -> float:
    """How likely it is that so many are right; beta-binomial where they err together."""
    ways = comb(members, right)
    if correlation == 0:
        return float(ways * p**right * (1 - p) ** (members - right))
    a, b = (share * (1 - correlation) / correlation for share in (p, 1 - p))
    return ways * exp(_log_beta(right + a, members - right + b) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _splits(total: int, parts: int) -> Iterator[list[int]]:
    """Every way in which so many votes can fall on so many answers."""
    if parts == 1:
        yield [total]
        return
    for first in range(total + 1):
        yield from ([first, *rest] for rest in _splits(total - first, parts - 1))


@cache
def _credit(counts: tuple[int, ...]) -> float:
    """How right the vote is when the answers have so many ballots; the first answer is the right one."""
    answers = [str(at) for at, count in enumerate(counts) for _ in range(count)]
    return credit(majority([Ballot(voter=str(at), answer=answer) for at, answer in enumerate(answers)]), "0")


# Debates.

Counts: TypeAlias = list[float]


@dataclass(frozen=True, slots=True)
class Course:
    """How debates went on average, from the openings on: the belief in what is right, and how often the vote was."""

    beliefs: tuple[float, ...]
    votes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """The debates that are imagined. `dropped` is what part of all wrong messages nobody gets to hear."""

    table: Table = field(default_factory=lambda: Table(3, 2))
    rounds: int = 5
    p: float = 0.4
    options: int = 4
    prior: float = 4.0
    """How many messages a belief is worth to begin with."""
    dropped: float = 0.0


def course(setting: Setting, *, runs: int, seed: int) -> Course:
    """The average over so many debates."""
    chance = random.Random(seed)  # noqa: S311 - it is no secret
    beliefs, votes = [0.0] * (setting.rounds + 1), [0.0] * (setting.rounds + 1)
    hearing = [_hearing(setting.table, round + 1) for round in range(setting.rounds + 1)]
    for _ in range(runs):
        members = _openings(setting)
        for round in range(setting.rounds + 1):
            beliefs[round] += sum(member[0] / sum(member) for member in members) / len(members)
            said = [_said(member, chance) for member in members]
            votes[round] += _credit(tuple(map(said.count, range(setting.options))))
            passed = [answer == 0 or chance.random() >= setting.dropped for answer in said]
            _hear(members, hearing[round], said, passed)
    return Course(tuple(belief / runs for belief in beliefs), tuple(vote / runs for vote in votes))


def _openings(setting: Setting) -> list[Counts]:
    wrong = (1 - setting.p) / (setting.options - 1)
    belief = [setting.prior * share for share in (setting.p, *[wrong] * (setting.options - 1))]
    return [list(belief) for _ in setting.table.seats]


def _hearing(table: Table, round: int) -> list[list[int]]:
    """For each seat, the places of those whom it hears before this round."""
    return [[table.seats.index(other) for other in table.reads(seat, round)] for seat in table.seats]


def _said(belief: Counts, chance: random.Random) -> int:
    """An answer, drawn by the belief. What a Dirichlet distribution makes likely is in proportion to its counts."""
    drawn, answer = chance.random() * sum(belief), 0
    while answer < len(belief) - 1 and drawn >= belief[answer]:
        drawn -= belief[answer]
        answer += 1
    return answer


def _hear(members: list[Counts], hearing: list[list[int]], said: list[int], passed: list[bool]) -> None:
    for member, heard in zip(members, hearing, strict=True):
        for other in heard:
            if passed[other]:
                member[said[other]] += 1


# Sequential tests.


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a sequential test decides when something happens with a given probability."""

    for_p1: float
    for_p0: float
    undecided: float
    """How likely it is that even the last observation has not decided it."""
    observations: float
    """How many it takes on average."""


def decisions(test: Wald, p: float, longest: int = 1_000) -> Decisions:
    """What the test decides when it looks after each of at most `longest` observations. Exact."""
    reached = {0: 1.0}  # how likely each number of successes is, of those who have not decided yet
    decided = {True: 0.0, False: 0.0}
    observations = 0.0
    for count in range(1, longest + 1):
        observations += sum(reached.values())
        after: dict[int, float] = {}
        for yes, chance in reached.items():
            after[yes + 1] = after.get(yes + 1, 0.0) + chance * p
            after[yes] = after.get(yes, 0.0) + chance * (1 - p)
        verdicts = {yes: test.decide(yes, count - yes) for yes in after}
        for yes, verdict in verdicts.items():
            if verdict is not None:
                decided[verdict] += after[yes]
        reached = {yes: chance for yes, chance in after.items() if verdicts[yes] is None and chance > 1e-15}
    return Decisions(decided[True], decided[False], sum(reached.values()), observations)


# The tables.


@dataclass(frozen=True, slots=True)
class Row:
    """One number that is known, and what we get."""

    table: str
    case: str
    known: float
    ours: float
    bound: Literal["about", "at most"] = "about"
    within: float = 0.0005
    """How far apart both may be: half of the last digit, or what chance does to a number that is drawn."""

    @property
    def right(self) -> bool:
        """Whether ours is the known one, as far as it is known."""
        return self.ours <= self.known if self.bound == "at most" else abs(self.ours - self.known) <= self.within


CONDORCET: Final = {1: 0.600, 3: 0.648, 5: 0.683, 7: 0.710, 9: 0.733, 11: 0.753, 13: 0.771, 15: 0.787}
"""Votes of so many who are right with .6, by the binomial distribution."""
BETA_BINOMIAL: Final = {0.0: 0.787, 0.1: 0.695, 0.2: 0.657, 0.5: 0.614, 0.8: 0.602}
"""Votes of 15 who are right with .6, by how much they err together."""
VERIFIER: Final = (0.511, 0.761)
"""Votes of five with four answers, before and after five rounds in which half of the wrong messages are dropped."""
TESTS: Final = (Wald(), Wald(0.01, 0.1), Wald(0.1, 0.01, 0.4, 0.6), Wald(0.05, 0.05, 1 / 3, 0.9))

DRAWN: Final = 0.01
"""How far a number that is drawn may be off."""


def tables(seed: int = 0, runs: int = 20_000) -> tuple[Row, ...]:
    """Every number, known and ours."""
    parts: tuple[Callable[[], Iterable[Row]], ...] = (
        lambda: _martingale(seed, runs),
        _votes,
        lambda: _verifier(seed, runs),
        _tests,
    )
    return tuple(row for part in parts for row in part())


def _martingale(seed: int, runs: int) -> Iterator[Row]:
    for topology in TOPOLOGIES:
        setting = Setting(Table(3, 2, topology))
        beliefs = course(setting, runs=runs // 2, seed=seed).beliefs
        off = max(beliefs, key=lambda belief: abs(belief - setting.p))
        yield Row("martingale", f"belief, farthest in five rounds, {topology}", setting.p, off, within=DRAWN)


def _votes() -> Iterator[Row]:
    for members, known in CONDORCET.items():
        yield Row("vote by N", f"N = {members}, p = .6", known, vote_accuracy(members, 0.6))
    for rho, known in BETA_BINOMIAL.items():
        yield Row("beta-binomial", f"N = 15, p = .6, correlation {rho:g}", known, vote_accuracy(15, 0.6, rho))


def _verifier(seed: int, runs: int) -> Iterator[Row]:
    votes = course(Setting(dropped=0.5), runs=runs, seed=seed).votes
    yield Row("verifier", "vote of the openings", VERIFIER[0], votes[0], within=DRAWN)
    yield Row("verifier", "vote after five rounds", VERIFIER[1], votes[-1], within=DRAWN)


def _tests() -> Iterator[Row]:
    for test in TESTS:
        between = f"p0 = {test.p0:.2g}, p1 = {test.p1:.2g}"
        yield Row("sprt", f"alpha, {between}", test.alpha, decisions(test, test.p0).for_p1, "at most")
        yield Row("sprt", f"beta, {between}", test.beta, decisions(test, test.p1).for_p0, "at most")


def lines(rows: Sequence[Row]) -> list[str]:
    """The tables for people, one number a line."""
    wide = max(len(row.case) for row in rows)
    return [f"{row.table:<13}  {row.case:<{wide}}  {_known(row)}  {row.ours:.3f}{_WRONG[row.right]}" for row in rows]


def _known(row: Row) -> str:
    known = f"at most {row.known:.3f}" if row.bound == "at most" else f"{row.known:.3f} ± {row.within:.4f}"
    return f"{known:<14}"


_WRONG: Final = {True: "", False: "   <- WRONG"}
