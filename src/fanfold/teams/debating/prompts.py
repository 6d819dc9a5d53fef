"""What the members of a debate are asked: short, since what each of them is stands in its agent's file.

Whatever others said stands in frames, which it cannot end. Where a text says that something `is` something, in
backticks, that is what to say if nothing else decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fanfold import framed
from fanfold.teams.debating.exchange import Exchange, claims_of, stance_of
from fanfold.teams.debating.objects import GAPS, Claim, Form, Gap, Mark, Questions, Stance, Statement
from fanfold.teams.debating.transcript import challenges

_SIDES: Final[Mapping[Stance, str]] = {
    "pro": "You speak for it: `stance` is `pro`.",
    "con": "You speak against it: `stance` is `con`.",
}
_OPENING: Final = "Nobody has said anything yet. Give your opening: your answer, and the claims that it rests on."
_REBUTTAL: Final = (
    "Give your rebuttal: challenge what does not hold, respond to challenges of your own claims, say what you agree "
    "with, and what your answer is now. Name claims and challenges by their ids."
)
_UNHEARD: Final = "Nobody whom you were to read has said anything."
_LONGEST_LIST: Final = 60


def questioning(question: str) -> str:
    """The questioner's prompt."""
    return f"{_asked(question)}\n\nWhat has to be asked before anybody answers this?"


def opening(question: str, stance: Stance | None, gap: Gap, asked: Questions | None = None) -> str:
    """The prompt of an opening; of one that takes no side, where there is no stance."""
    parts = [_asked(question), _SIDES[stance] if stance else "Take the side that you find right.", _angle(gap)]
    return "\n\n".join([*parts, *_questions(asked), _OPENING])


def angle(number: int) -> Gap:
    """The gap with which the member of that number begins, so that a side does not look at one thing only."""
    return GAPS[number % len(GAPS)]


def rebuttal(
    question: str,
    exchange: Exchange,
    seat: str,
    shown: Sequence[Statement],
    own: Sequence[Statement],
    asked: Questions | None,
) -> str:
    """The prompt of a rebuttal, for what the seat is `shown` of others and has said itself."""
    return "\n\n".join(
        [
            _asked(question),
            _SIDES[stance_of(seat)],
            *_first_of_all(exchange, seat, shown),
            *_section("What you said before:", exchange.written(own)),
            *_section("What others said, in no order that means anything:", exchange.written(shown) or _UNHEARD),
            *_questions(asked),
            _REBUTTAL,
        ]
    )


def judging(question: str, exchange: Exchange, statements: Sequence[Statement], first: Stance) -> str:
    """The prompt of a judge who reads the side `first` before the other."""
    sides = sorted(("pro", "con"), key=lambda side: side != first)
    parts = [_asked(question)]
    for place, side in zip(("first", "second"), sides, strict=True):
        said = exchange.written(each for each in exchange.drawn("judge", statements) if stance_of(each.seat) == side)
        parts += _section(f"The {place} side:", said or "It has said nothing.")
    return "\n\n".join([*parts, "Which side has argued better: the first, the second, or neither?"])


def synthesizing(
    question: str,
    exchange: Exchange,
    statements: Sequence[Statement],
    asked: Questions | None,
    standing: Mapping[str, Any],
    feedback: str = "",
) -> str:
    """The synthesizer's prompt; `standing` is what votes and judges have come to."""
    return "\n\n".join(
        [
            _asked(question),
            *_section("What was said:", exchange.written(exchange.drawn("synthesizer", statements)) or _UNHEARD),
            *_questions(asked),
            *_section("What votes and judges have come to:", json.dumps(standing, ensure_ascii=False, indent=1)),
            *(_section("A verdict was sent back:", framed(feedback, source="validator")) if feedback else ()),
            "Make one verdict of it.",
        ]
    )


def validating(question: str, exchange: Exchange, statements: Sequence[Statement], verdict: Form) -> str:
    """The validator's prompt."""
    said = verdict.model_dump(mode="json")
    return "\n\n".join(
        [
            _asked(question),
            *_section("What was said:", exchange.written(exchange.drawn("validator", statements)) or _UNHEARD),
            *_section("The verdict:", framed(said, source="synthesizer")),
            "Is it borne out by what was said?",
        ]
    )


def distinct(asked: Questions) -> Questions:
    """The questions without those that were asked twice."""
    by_text = {question.text.casefold(): question for question in reversed(asked.questions)}
    return asked.model_copy(update={"questions": tuple(reversed(by_text.values()))})


def _asked(question: str) -> str:
    return f"The question:\n{question}"


def _angle(gap: Gap) -> str:
    return f"Begin where `gap` is `{gap}`."


def _section(title: str, text: str) -> list[str]:
    return [f"{title}\n{text}"] if text else []


def _questions(asked: Questions | None) -> list[str]:
    if asked is None:
        return []
    listed = "\n".join(f"- {question.text} ({question.gap})" for question in asked.questions[:_LONGEST_LIST])
    return _section("What has been asked:", framed(listed, source="questioner"))


def _first_of_all(exchange: Exchange, seat: str, shown: Sequence[Statement]) -> list[str]:
    """What to take up if nothing else decides: the claim with least to show for it, and the severest challenge."""
    hints = []
    theirs = [claim for claim in claims_of(shown) if not claim.id.startswith(f"{exchange.letters[seat]}.")]
    if theirs:
        hints.append(f"`claim` is `{min(theirs, key=_shows).id}`")
    against = [
        (exchange.challenge_id(statement.seat, statement.round, at), challenge)
        for statement, at, challenge in challenges(shown)
        if challenge.claim.startswith(f"{exchange.letters[seat]}.")
    ]
    if against:
        hints.append(f"`challenge` is `{max(against, key=lambda pair: pair[1].severity)[0]}`")
    return [f"To begin with, {' and '.join(hints)}."] if hints else []


def _shows(claim: Claim) -> tuple[int, float]:
    """How much a claim has to show for itself; of those that have as much, the one that is surer of itself is less."""
    return sum(piece.verified for piece in claim.evidence), -claim.confidence


def noted(marks: Iterable[Mark]) -> list[str]:
    """Marks as lines for people."""
    return [f"{mark.kind}{f' ({mark.who})' if mark.who else ''}: {mark.text}" for mark in marks]
