"""What a debate hands over, and how people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold import Receipt
from fanfold.teams.debating.deciding import Decided, decide
from fanfold.teams.debating.evidence import evidence_in
from fanfold.teams.debating.exchange import Exchange, Table
from fanfold.teams.debating.objects import Mark, Validation, Verdict, recorded
from fanfold.teams.debating.transcript import Transcript

FORM: Final = "fanfold.debate/1"
"""What an exported debate calls itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A debate that is over: what was said and what came of it. `receipt` is None where the run is not at hand."""

    transcript: Transcript
    decided: Decided
    receipt: Receipt | None = None

    @classmethod
    def of(cls, transcript: Mapping[str, Any] | Transcript, receipt: Receipt | None = None) -> Outcome:
        """The outcome of a transcript, or of what `json` once made of one. Raises `ValueError` where it is neither."""
        if not isinstance(transcript, Transcript):
            transcript = recorded(Transcript, transcript.get("transcript", transcript))
        return cls(transcript, decide(transcript), receipt)

    @property
    def verdict(self) -> Verdict:
        """What is decided, with what is left of each claim, dissent, and open questions."""
        return self.decided.verdict

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What a reader has to know before trusting the verdict."""
        return self.decided.marks

    @property
    def validation(self) -> Validation | None:
        """What the validator said last; None where there was none, or it did not answer."""
        return self.decided.validation

    def marked(self, kind: str) -> list[Mark]:
        """The marks of one kind."""
        return [mark for mark in self.marks if mark.kind == kind]

    @property
    def spent(self) -> dict[str, Any]:
        """What the debate took, as the sum of its calls; `usd` is None where no price was known, and without what
        the `unpriced` ones cost.
        """
        calls = self.transcript.calls
        prices = [call.cost_usd for call in calls if call.cost_usd is not None]
        return {
            "calls": len(calls),
            "requests": sum(call.requests for call in calls),
            "input_tokens": sum(call.input_tokens for call in calls),
            "output_tokens": sum(call.output_tokens for call in calls),
            "usd": sum(prices) if prices else None,
            "unpriced": sum(call.unpriced for call in calls),
            "seconds": round(sum(call.seconds for call in calls), 6),
        }

    def json(self) -> dict[str, Any]:
        """Everything as plain data; `Outcome.of` and `replay` read it back."""
        decided = self.decided
        return {
            "form": FORM,
            "verdict": self.verdict.model_dump(mode="json"),
            "marks": [mark.model_dump(mode="json") for mark in self.marks],
            "votes": {"opening": decided.opening.model_dump(), "final": decided.final.model_dump()},
            "judged": None if decided.judged is None else decided.judged.model_dump(mode="json"),
            "validation": None if self.validation is None else self.validation.model_dump(mode="json"),
            "baselines": decided.baselines.model_dump(mode="json"),
            "spent": self.spent,
            "transcript": self.transcript.model_dump(mode="json"),
            "receipt": None if self.receipt is None else self.receipt.to_dict(),
        }

    def markdown(self) -> str:
        """The report for people."""
        return "\n".join(_report(self)) + "\n"


def replay(transcript: Mapping[str, Any] | Transcript) -> Outcome:
    """The outcome of a debate that was held before, worked out again without asking anybody."""
    return Outcome.of(transcript)


def _report(outcome: Outcome) -> list[str]:
    transcript, verdict = outcome.transcript, outcome.verdict
    verified, quotes = _quotes(outcome)
    lines = [
        f"# {_line(transcript.question)}",
        "",
        f"**{verdict.decision}** (confidence {verdict.confidence:.2f})",
        "",
        f"- vote of the openings: {outcome.decided.opening.reason}",
        f"- vote at the end: {outcome.decided.final.reason}",
    ]
    if outcome.decided.judged is not None:
        lines.append(f"- judges: {outcome.decided.judged.reason}")
    if outcome.validation is not None:
        lines.append(f"- validator: {outcome.validation.result}")
    lines += [f"- quotes: {verified} of {quotes} stand in the source that they name", ""]
    lines += _section(
        "What to know first", [f"**{mark.kind}**{_who(mark)}: {_line(mark.text)}" for mark in outcome.marks]
    )
    lines += ["## Claims", "", *_claims(outcome)]
    lines += _section("Dissent", [_line(text) for text in verdict.dissent], "Nobody answers anything else.")
    lines += _section("Open questions", [_line(text) for text in verdict.open_questions], "None was named.")
    research = [f"{item.priority}: {item.kind}: {_line(item.question)}" for item in verdict.research_queue]
    lines += _section("To be looked into", research)
    lines += _section("What was argued about", [f"{gap}: {count}" for gap, count in verdict.coverage.items()])
    lines += ["## Against less effort", "", *outcome.decided.baselines.lines(), ""]
    lines += _cost(outcome)
    return lines


def _quotes(outcome: Outcome) -> tuple[int, int]:
    """How many quotes were found, of how many."""
    pieces = [piece for statement in outcome.transcript.statements for piece in evidence_in(statement)]
    return sum(piece.verified for piece in pieces), len(pieces)


def _claims(outcome: Outcome) -> list[str]:
    lines = []
    for claim in outcome.transcript.claims:
        lines += [f"- **{outcome.verdict.claims[claim.id]}** [{claim.id}] {_line(claim.text)}"]
        for piece in claim.evidence:
            found = "verified" if piece.verified else "NOT VERIFIED"
            lines += [f"  > {_line(piece.quote)}", f"  — `{_line(piece.source)}`, {found}"]
        lines.append("")
    return lines or ["Nobody made any.", ""]


def _cost(outcome: Outcome) -> list[str]:
    lines = ["## What it took", "", "| who | model | tokens in | out | $ | seconds |", "|---|---|---:|---:|---:|---:|"]
    letters = _letters(outcome.transcript)
    for call in outcome.transcript.calls:
        who = f"{call.who} ({letters[call.who]}), round {call.round}" if call.who in letters else call.who
        cost = "" if call.cost_usd is None else f"{call.cost_usd:.4f}"
        model = call.model if call.status == "answered" else "no answer"
        lines.append(f"| {who} | {model} | {call.input_tokens} | {call.output_tokens} | {cost} | {call.seconds:.2f} |")
    spent = outcome.spent
    cost = "unknown" if spent["usd"] is None else f"{'at least ' if spent['unpriced'] else ''}{spent['usd']:.4f}"
    total = f"| {spent['calls']} calls | | {spent['input_tokens']} | {spent['output_tokens']} | {cost} |"
    return [*lines, f"{total} {spent['seconds']:.2f} |", "", *_overlap(outcome)]


def _overlap(outcome: Outcome) -> list[str]:
    """What was measured of the run, where it is at hand."""
    return [] if outcome.receipt is None else [outcome.receipt.lines()[-1], ""]


def _letters(transcript: Transcript) -> Mapping[str, str]:
    table = Table(transcript.advocates, transcript.challengers, transcript.topology)
    return Exchange(table, transcript.seed).letters


def _section(title: str, items: list[str], otherwise: str = "") -> list[str]:
    if not items and not otherwise:
        return []
    return [f"## {title}", "", *([f"- {item}" for item in items] or [otherwise]), ""]


def _who(mark: Mark) -> str:
    return f" ({mark.who})" if mark.who else ""


def _line(text: str) -> str:
    """Somebody else's text on one line, so that it ends nothing of the report."""
    return " ".join(text.split())
