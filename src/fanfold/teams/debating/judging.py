"""Who has argued better, as judges say who read the sides in opposite orders.

Judges favour a position, most often the first, whoever stands there. Two of them, each of whom reads the other side
first, make that visible: if both find for the same side, the order did not decide. Otherwise nothing is decided, and
what was asked falls back to the vote. It works only because openings are simultaneous; where one side had answered the
other, the sides could not be swapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fanfold import register_type
from fanfold.teams.debating.objects import Form, Judgement, Line, Stance, Winner

FIRST_READ: Final[tuple[Stance, Stance]] = ("pro", "con")
"""Which side each of the two judges reads first."""


class Judged(Form):
    """What the judges have come to. `winner` is None where they decide nothing."""

    winner: Stance | None
    flipped: bool | None
    """Whether the same position won in both orders, so that the sides did not count; None where that is not known."""
    reason: Line


register_type(Judged, "debate.Judged")


def judged(*judgements: Judgement | None) -> Judged:
    """What follows from the judgements, of the one who read `pro` first and of the one who read `con` first.

    None stands for a judge without an answer. A single judgement counts as it is, and the reason says what that is
    worth.
    """
    if not 1 <= len(judgements) <= 2:
        raise ValueError(f"one or two judges decide, not {len(judgements)}")
    heard = [judgement for judgement in judgements if judgement is not None]
    if len(heard) < len(judgements):
        answered = "one of two judges" if heard else "no judge"
        return Judged(winner=None, flipped=None, reason=f"{answered} answered, so nothing is decided")
    sides = [_side(judgement.winner, first) for judgement, first in zip(heard, FIRST_READ, strict=False)]
    if len(heard) == 1:
        reason = f"one judge, in one order, found for {_named(sides[0])}: a liking for a position is not ruled out"
        return Judged(winner=sides[0], flipped=None, reason=reason)
    return _agreed(sides[0], sides[1], flipped=heard[0].winner == heard[1].winner != "neither")


def _agreed(one: Stance | None, other: Stance | None, *, flipped: bool) -> Judged:
    if one == other:
        reason = f"both judges found for {_named(one)}, in either order"
        return Judged(winner=one, flipped=flipped, reason=reason)
    split = (
        f"undecided: the judge who read {FIRST_READ[0]!r} first found for {_named(one)}, the other for {_named(other)}"
    )
    return Judged(winner=None, flipped=flipped, reason=split)


def _side(winner: Winner, first: Stance) -> Stance | None:
    """The side that stood in the position."""
    if winner == "neither":
        return None
    other = FIRST_READ[1 - FIRST_READ.index(first)]
    return first if winner == "first" else other


def _named(side: Stance | None) -> str:
    return "neither side" if side is None else repr(side)


def flip_rate(results: Iterable[Judged]) -> float | None:
    """In what part of the debates with two judgements the position won and not a side; None where there were none."""
    flips = [judged.flipped for judged in results if judged.flipped is not None]
    return sum(flips) / len(flips) if flips else None
