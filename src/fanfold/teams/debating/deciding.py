"""What a debate comes to, worked out of its transcript alone: the same whenever, and by whomever, it is done again.

In this order, and each step says when it does not decide::

    too few have voted      ─▶ stand pat, since nothing was shown that would justify a change
    a judge who was swapped ─▶ what the winning side answers
    the vote                ─▶ what most of them answer
    a tie                   ─▶ stand pat

The synthesizer writes the rest: how each claim ended, dissent, open questions, what is to be looked into. Of that, what
the transcript contradicts is put right: a claim that its own side conceded is refuted, one without a quote that was
found is not upheld, an id that nobody has given is left out, and what lies in which gap is counted. In a cascade, where
nobody votes against anybody, its decision is the debate's, if both sides were heard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from fanfold.teams.debating.baselines import Baselines, compared
from fanfold.teams.debating.exchange import Exchange, Table, stance_of
from fanfold.teams.debating.judging import Judged, judged
from fanfold.teams.debating.objects import (
    Claim,
    Decision,
    Gap,
    Kind,
    Mark,
    Opening,
    Questions,
    Rebuttal,
    ResearchItem,
    Stance,
    Standing,
    Statement,
    Validation,
    Verdict,
    coverage,
)
from fanfold.teams.debating.stopping import BUDGETS, Spent
from fanfold.teams.debating.transcript import ORDERS, Transcript, challenges, last_said, spent
from fanfold.teams.debating.votes import RULES, Ballot, Tally, ballots, quorum

OTHERWISE: Final[Decision] = "stand pat"
"""The decision where nothing decides: whoever wants a change has to show why."""

REHEARSED: Final = "rehearsal"
NEEDED: Final = (
    "no language model was asked. The quotes and what the check says of them are real. The answers, their confidences, "
    "the kinds and severities of challenges, the judgements, the synthesis and the validation are what the agents' "
    "files say where nothing decides; for these a language model is needed"
)

_KINDS: Final[dict[Gap, tuple[Kind, ...]]] = {
    "technical implementation": ("technical", "performance", "security", "scalability", "deployment", "maintenance"),
    "regulatory and legal": ("regulatory", "risk"),
    "market reality": ("market", "financial", "competitive", "user"),
    "theoretical foundation": ("technical", "data"),
    "historical precedent": ("risk", "competitive"),
    "cross-domain integration": ("integration", "data"),
    "meta-gap": ("innovation", "risk"),
}
_SIDES: Final = ("advocate", "challenger")
_MOST_RESEARCH: Final = 15
_MOST_DISSENT: Final = 20


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict, and how it came about."""

    verdict: Verdict
    opening: Tally
    """The vote of round 0, before anybody had read anybody."""
    final: Tally
    judged: Judged | None
    validation: Validation | None
    baselines: Baselines
    marks: tuple[Mark, ...]


def decide(transcript: Transcript) -> Decided:
    """The verdict of a debate."""
    found = _Found(transcript)
    decision, decided_by = found.decision()
    verdict, corrections = found.verdict(decision)
    return Decided(
        verdict=verdict,
        opening=found.opening,
        final=found.final,
        judged=found.judged,
        validation=found.validation,
        baselines=found.baselines(decision),
        marks=(*found.marks(), *decided_by, *corrections),
    )


def standing(transcript: Transcript) -> dict[str, Any]:
    """What votes and judges have come to, for the synthesizer."""
    found = _Found(transcript)
    decision, marks = found.decision()
    told = {"decision": decision, "vote": found.final.reason, "notes": [mark.text for mark in marks]}
    return told if found.judged is None else {**told, "judges": found.judged.reason}


class _Found:
    """What is worked out of a transcript once, and used in several places."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.table = Table(transcript.advocates, transcript.challengers, transcript.topology)
        self.exchange = Exchange(self.table, transcript.seed)
        self.statements = transcript.statements
        self.claims = {claim.id: claim for claim in transcript.claims}
        self.cascade = transcript.protocol == "cascade"
        rule = quorum(RULES[transcript.vote], len(self.table.seats), transcript.quorum)
        self.opening, self.final = rule(ballots(self.statements, 0)), rule(ballots(self.statements))
        self.judged = _judged(transcript)
        self.synthesis = _last(transcript, "synthesizer", Verdict)
        self.validation = _last(transcript, "validator", Validation)
        self.rehearsed = any(call.model == REHEARSED for call in transcript.calls)

    # The decision.

    def decision(self) -> tuple[Decision, tuple[Mark, ...]]:
        """What is decided, and what has to be known about how."""
        if self.final.winner is None and not self.final.tied:
            return OTHERWISE, (Mark(kind="no quorum", text=f"{self.final.reason}: {OTHERWISE}"),)
        if self.cascade and self.synthesis is not None:
            return self.synthesis.decision, ()
        side = None if self.judged is None else self.judged.winner
        won = None if side is None else self._answer_of(side)
        if won is not None:
            return won, ()
        undecided = [Mark(kind="undecided", text=f"{self.judged.reason}: the vote decides")] if self.judged else []
        if self.final.winner is None:
            return OTHERWISE, (*undecided, Mark(kind="tie", text=f"{self.final.reason}: {OTHERWISE}"))
        return _decision(self.final.winner), tuple(undecided)

    def _answer_of(self, side: Stance) -> Decision | None:
        cast = [ballot for ballot in ballots(self.statements) if stance_of(ballot.voter) == side]
        winner = RULES[self.transcript.vote](cast).winner
        return None if winner is None else _decision(winner)

    # The verdict around it.

    def verdict(self, decision: Decision) -> tuple[Verdict, tuple[Mark, ...]]:
        """The whole verdict, and what of the synthesizer's was put right."""
        said, odd = self.synthesis, []
        if said is not None and said.decision != decision:
            odd.append(
                Mark(
                    kind="undecided",
                    who="synthesizer",
                    text=f"it would decide {said.decision!r}, against what decides: {decision!r}",
                )
            )
        if said is not None and (unknown := sorted(said.claims.keys() - self.claims.keys())):
            odd.append(
                Mark(kind="unknown id", who="synthesizer", text=f"claims that nobody made: {', '.join(unknown)[:400]}")
            )
        agrees = said is not None and said.decision == decision
        questions = self._open_questions()
        return (
            Verdict(
                decision=decision,
                confidence=said.confidence if said is not None and agrees else round(self.final.share, 3),
                claims={id: self._standing(claim) for id, claim in self.claims.items()},
                dissent=self._all_dissent(decision),
                open_questions=tuple(dict.fromkeys(questions))[:40],
                coverage=coverage(self.claims.values()),
                research_queue=self._research(),
            ),
            tuple(odd),
        )

    def _standing(self, claim: Claim) -> Standing:
        """How a claim ended: as the synthesizer says, as far as the transcript bears it."""
        if self._conceded(claim):
            return "refuted"
        wanted = self.synthesis.claims.get(claim.id) if self.synthesis is not None else None
        if not any(piece.verified for piece in claim.evidence):
            return "open" if wanted in (None, "upheld") else wanted
        return wanted or ("open" if self._unanswered(claim) else "upheld")

    def _challenges_of(self, claim: Claim) -> list[str]:
        return [
            self.exchange.challenge_id(statement.seat, statement.round, at)
            for statement, at, challenge in challenges(self.statements)
            if challenge.claim == claim.id
        ]

    def _responses(self, claim: Claim, *actions: str) -> set[str]:
        """The challenges of a claim to which its own author has responded so."""
        author = claim.id.partition(".")[0]
        return {
            response.challenge
            for statement in self.statements
            if isinstance(statement.said, Rebuttal) and self.exchange.letters[statement.seat] == author
            for response in statement.said.responses
            if response.action in actions
        }

    def _conceded(self, claim: Claim) -> bool:
        return not self._responses(claim, "concede").isdisjoint(self._challenges_of(claim))

    def _unanswered(self, claim: Claim) -> bool:
        return not set(self._challenges_of(claim)) <= self._responses(claim, "refute", "refine", "concede")

    def _all_dissent(self, decision: Decision) -> tuple[str, ...]:
        """The synthesizer's, and that of each member, for which there is room whatever the synthesizer says."""
        members = self._dissent(decision)[:_MOST_DISSENT]
        told = self.synthesis.dissent if self.synthesis is not None else ()
        return (*told[: _MOST_DISSENT - len(members)], *members)

    def _dissent(self, decision: Decision) -> list[str]:
        """What those say who answer something else, each with the best of its claims."""
        others = [each for each in last_said(self.statements).values() if each.said.answer != decision]
        return [self._held(each) for each in sorted(others, key=lambda each: self.exchange.letters[each.seat])]

    def _held(self, statement: Statement) -> str:
        name = f"participant {self.exchange.letters[statement.seat]}"
        text = f"{name} answers {statement.said.answer!r}, with confidence {statement.said.confidence:g}"
        own = [
            claim
            for each in self.statements
            if each.seat == statement.seat and isinstance(each.said, Opening)
            for claim in each.said.claims
        ]
        best = max(own, key=lambda claim: (self._standing(claim) == "upheld", claim.confidence), default=None)
        return text if best is None else f"{text}: [{best.id}] {best.text}"[:4000]

    def _open_questions(self) -> list[str]:
        if self._unsaid:
            return [question.text for question in self._asked()]
        return list(self.synthesis.open_questions) if self.synthesis is not None else []

    def _research(self) -> tuple[ResearchItem, ...]:
        """What the synthesizer wants to have looked into; without one, the questions that were asked."""
        if not self._unsaid:
            return () if self.synthesis is None else self.synthesis.research_queue
        taken: dict[Gap, int] = {}
        items = []
        for question in self._asked()[:_MOST_RESEARCH]:
            kinds = _KINDS[question.gap]
            at = taken[question.gap] = taken.get(question.gap, -1) + 1
            items.append(
                ResearchItem(kind=kinds[at % len(kinds)], question=question.text, priority=min(3, 1 + at // len(kinds)))
            )
        return tuple(items)

    @property
    def _unsaid(self) -> bool:
        """Whether nobody has said which questions are open: there is no synthesis, or one that was only rehearsed."""
        said = self.synthesis
        return said is None or (self.rehearsed and not said.open_questions and not said.research_queue)

    def _asked(self) -> list[Any]:
        said = _last(self.transcript, "questioner", Questions)
        if said is None:
            return []
        return list({question.text.casefold(): question for question in said.questions}.values())

    # What less would have brought.

    def baselines(self, decision: Decision) -> Baselines:
        """The decision beside the vote of the openings, and that of single answers for the same cost."""
        samples = [record for record in self.transcript.by("sample") if isinstance(record.said, Opening)]
        single = samples or [
            record for record in self.transcript.records if record.role in _SIDES and record.round == 0
        ]
        cost = spent(call for record in single for call in record.calls)
        openings = [record for record in self.transcript.records if record.role in _SIDES and record.round == 0]
        models = {record.who: call.model for record in openings for call in record.calls if call.model}
        debate = self.transcript.spent()
        if any(call.unpriced for call in self.transcript.calls):  # in dollars, only a part of it is known
            debate = replace(debate, money=0.0)
        return compared(
            decision,
            ballots(self.statements, 0),
            [_ballot(record.who, record.said) for record in samples if isinstance(record.said, Opening)],
            debate,
            Spent(*(amount / max(1, len(single)) for amount in (cost.calls, cost.tokens, cost.money))),  # type: ignore[arg-type]  # a mean
            models=models,
            rule=RULES[self.transcript.vote],
        )

    # What has to be known.

    def marks(self) -> list[Mark]:
        """All marks that do not come of deciding."""
        marks = [mark for record in self.transcript.records for mark in record.marks]
        heard = set(last_said(self.statements))
        if len(heard) < len(self.table.seats) and self.final.cast and (self.final.winner or self.final.tied):
            text = f"{len(heard)} of {len(self.table.seats)} members have answered, which is enough to decide"
            unheard = {"pro", "con"} - {stance_of(seat) for seat in heard}
            marks.append(
                Mark(kind="quorum", text=text + "".join(f"; nobody of the side {side!r} has" for side in unheard))
            )
        marks += self._of_evidence()
        for each in self.transcript.ended:
            marks.append(Mark(kind="over budget" if each.rule in BUDGETS else "stopped", text=each.reason))
        if self.validation is not None and self.validation.result != "accepted":
            feedback = self.validation.feedback or "without a reason"
            marks.append(Mark(kind="rejected", who="validator", text=f"{self.validation.result}: {feedback}"[:4000]))
        if self.rehearsed:
            marks.append(Mark(kind="rehearsal", text=NEEDED))
        return marks

    def _of_evidence(self) -> list[Mark]:
        bare = [id for id, claim in self.claims.items() if not any(piece.verified for piece in claim.evidence)]
        if len(bare) == len(self.claims):
            return [Mark(kind="no evidence", text="not one claim has a quote that stands in the source it names")]
        if not bare:
            return []
        return [Mark(kind="unverified", text=f"claims without a quote that was found: {', '.join(bare)}"[:4000])]


def _ballot(voter: str, said: Opening) -> Ballot:
    return Ballot(voter=voter, answer=said.answer, confidence=said.confidence)


def _last(transcript: Transcript, role: Any, form: type[Any]) -> Any:
    said = [each for each in transcript.said_by(role) if isinstance(each, form)]
    return said[-1] if said else None


def _decision(winner: str) -> Decision:
    """The answer that won, which is a decision, as ballots are made of them."""
    return winner  # type: ignore[return-value]  # a Ballot's answer is any text


def _judged(transcript: Transcript) -> Judged | None:
    if not transcript.judges:
        return None
    said: dict[str, Any] = {record.who: record.said for record in transcript.by("judge")}
    return judged(*(said.get(order) for order in ORDERS[: transcript.judges]))
