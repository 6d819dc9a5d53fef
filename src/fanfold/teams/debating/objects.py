"""What the members of a debate say to each other: objects of a known form, parsed by their schema and never evaluated.

::

    questioner    Questions ─▶ Question
    either side   Opening ───▶ Claim ─▶ Evidence
                  Rebuttal ──▶ Challenge, Response ─▶ Evidence
    judge         Judgement
    synthesizer   Verdict ───▶ ResearchItem
    validator     Validation

Every class can be an agent's `output`. Each is frozen, refuses what it does not know, and bounds every text, so that
one answer cannot fill all prompts that come after it. Vocabularies are literals and not enums: they are stored,
exported and shown as the words that they are.

**Who may say `verified`.** A check alone, in `evidence`. Whatever else makes an `Evidence`, whether an agent's answer
or code, gets one that is not verified: what it says about that is dropped, not refused, since an agent that boasts is
not worth another call. What a check once found is read back from a record with `recorded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from fanfold import register_type

Decision: TypeAlias = Literal["stand pat", "innovate", "concede"]
Stance: TypeAlias = Literal["pro", "con"]
Gap: TypeAlias = Literal[
    "technical implementation",
    "regulatory and legal",
    "market reality",
    "theoretical foundation",
    "historical precedent",
    "cross-domain integration",
    "meta-gap",
]
Attack: TypeAlias = Literal["undercut", "rebut", "undermine"]
"""At what a challenge is aimed: the step from evidence to claim, the claim itself, or the evidence."""
Action: TypeAlias = Literal["refute", "refine", "concede"]
Winner: TypeAlias = Literal["first", "second", "neither"]
Standing: TypeAlias = Literal["upheld", "refuted", "open"]
Result: TypeAlias = Literal["accepted", "rejected", "revision"]
Kind: TypeAlias = Literal[
    "technical",
    "financial",
    "market",
    "regulatory",
    "security",
    "scalability",
    "user",
    "competitive",
    "risk",
    "integration",
    "performance",
    "data",
    "deployment",
    "maintenance",
    "innovation",
]

DECISIONS: Final[tuple[Decision, ...]] = get_args(Decision)
GAPS: Final[tuple[Gap, ...]] = get_args(Gap)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""The specialists of the research team."""

FEWEST_QUESTIONS: Final = 15

Id: TypeAlias = Annotated[str, Field(min_length=1, max_length=80)]
Line: TypeAlias = Annotated[str, Field(min_length=1, max_length=500)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=4_000)]
Confidence: TypeAlias = Annotated[float, Field(ge=0, le=1)]

_RECORD: Final = {"made by": "a check"}
_Form = TypeVar("_Form", bound="Form")


class Form(BaseModel):
    """What all of them have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def recorded(form: type[_Form], record: Any) -> _Form:
    """A `form` out of what `model_dump` once made of it, with what the check had found. Never for agents' answers."""
    return form.model_validate(record, context=_RECORD)


class Evidence(Form):
    """Words that stand in a source, as somebody quotes them."""

    source: Line = Field(description="Path of the file, relative to the folder of sources.")
    quote: Annotated[str, Field(min_length=1, max_length=2_000)] = Field(description="Its words, unchanged.")
    verified: bool = Field(default=False, description="Leave it out: a check sets it, and what you say is ignored.")

    @model_validator(mode="before")
    @classmethod
    def _unsworn(cls, said: Any, info: ValidationInfo) -> Any:
        if info.context is _RECORD or not isinstance(said, Mapping):
            return said
        return {name: value for name, value in said.items() if name != "verified"}


Quoted: TypeAlias = Annotated[tuple[Evidence, ...], Field(max_length=8)]


class Question(Form):
    """A question about an assumption, an edge case or a risk."""

    id: Id
    text: Line
    gap: Gap


class Questions(Form):
    """All that the questioner asks."""

    questions: Annotated[tuple[Question, ...], Field(min_length=FEWEST_QUESTIONS, max_length=40)]


class Claim(Form):
    """Something that is so, as its side says, and what shows it."""

    id: Id
    text: Text
    gap: Gap
    confidence: Confidence
    evidence: Quoted = ()


class Opening(Form):
    """What a member says first, and before it has read anybody else's."""

    stance: Stance
    answer: Decision
    confidence: Confidence
    claims: Annotated[tuple[Claim, ...], Field(min_length=1, max_length=12)]


class Challenge(Form):
    """What is wrong with a claim of the other side."""

    claim: Id = Field(description="The id of the claim, as you read it.")
    kind: Attack
    severity: Annotated[int, Field(ge=1, le=5)]
    text: Text
    evidence: Quoted = ()


class Response(Form):
    """What is said to a challenge. A concession is only ever one that says so."""

    challenge: Id = Field(description="The id of the challenge, as you read it.")
    action: Action
    text: Text
    evidence: Quoted = ()


class Rebuttal(Form):
    """What a member says in a round, after it has read others."""

    answer: Decision
    confidence: Confidence
    challenges: Annotated[tuple[Challenge, ...], Field(max_length=12)] = ()
    responses: Annotated[tuple[Response, ...], Field(max_length=24)] = ()
    agrees: Annotated[tuple[Line, ...], Field(max_length=12)] = Field(
        default=(), description="Where the other side is right."
    )


class FairRebuttal(Rebuttal):
    """A challenger's rebuttal: it also has to say where the advocate is right."""

    agrees: Annotated[tuple[Line, ...], Field(min_length=1, max_length=12)] = Field(
        description="Where the other side is right; at least one thing."
    )


class Statement(Form):
    """What a member said: its opening in round 0, its rebuttal in any later one."""

    seat: Id
    round: Annotated[int, Field(ge=0)]
    said: Opening | Rebuttal


class Judgement(Form):
    """Which of two sides argued better, in the order in which the judge read them."""

    winner: Winner
    reasons: Text


class ResearchItem(Form):
    """A question that the debate left open, for a specialist."""

    kind: Kind
    question: Line
    priority: Annotated[int, Field(ge=1, le=3)] = Field(description="1 is the first to be looked at.")


class Verdict(Form):
    """What the debate comes to."""

    decision: Decision
    confidence: Confidence
    claims: Annotated[dict[Id, Standing], Field(max_length=400)] = Field(
        default_factory=dict, description="How each claim ended, by its id."
    )
    dissent: Annotated[tuple[Text, ...], Field(max_length=20)] = ()
    open_questions: Annotated[tuple[Line, ...], Field(max_length=40)] = ()
    coverage: Annotated[dict[Gap, Annotated[int, Field(ge=0)]], Field(max_length=len(GAPS))] = Field(
        default_factory=dict, description="Leave it out: it is counted."
    )
    research_queue: Annotated[tuple[ResearchItem, ...], Field(max_length=45)] = ()


class Validation(Form):
    """Whether a verdict may go on to research."""

    result: Result
    feedback: Annotated[str, Field(max_length=4_000)] = ""


class Mark(Form):
    """Something about a result that its reader must know before trusting it."""

    kind: Literal[
        "timed out",
        "refused",
        "misfit",
        "failed",
        "quorum",
        "no quorum",
        "tie",
        "undecided",
        "no evidence",
        "unverified",
        "unknown id",
        "over budget",
        "stopped",
        "rejected",
        "rehearsal",
    ]
    who: Annotated[str, Field(max_length=200)] = ""
    text: Text


def coverage(claims: Iterable[Claim]) -> dict[Gap, int]:
    """How many of the claims lie in each gap; a gap that nobody looked into has 0."""
    found = [claim.gap for claim in claims]
    return {gap: found.count(gap) for gap in GAPS}


_FORMS: Final[tuple[type[Form], ...]] = (
    *(Evidence, Question, Questions, Claim, Opening, Challenge, Response, Rebuttal, FairRebuttal),
    *(Statement, Judgement, ResearchItem, Verdict, Validation, Mark),
)
for _form in _FORMS:
    # Under a name of its own, so that a stored debate is still read when these classes live in another module.
    register_type(_form, f"debate.{_form.__name__}")
