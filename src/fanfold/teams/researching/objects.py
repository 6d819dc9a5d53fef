"""What the members of the research team say, and what is kept of it.

::

    specialist     Findings ──▶ Finding ─▶ Evidence     what it says
    (a check)      Study ─────▶ Found ───▶ Source       what of that stands where it says
    synthesizer    Synthesis ─▶ Point ───▶ ids of Found

A `Source` is made by a check alone and never by an agent: its quote stands in that line of that file.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

from fanfold import register_type
from fanfold.teams.debating.objects import KINDS, Form, Id, Kind, Line, Mark, Quoted, Text

AGENTS: Final[dict[str, str]] = {kind: f"research-{kind}" for kind in KINDS}
"""The agent of each kind of specialist."""

MOST: Final = len(KINDS)
"""Most specialists of one run."""

Long: TypeAlias = Annotated[str, Field(max_length=4_000)]


class Finding(Form):
    """Something that a specialist found, in a sentence, and what shows it."""

    text: Text
    evidence: Quoted = ()


class Findings(Form):
    """What a specialist answers."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=12)] = ()
    missing: Long = Field(default="", description="What was looked for and not found.")


class Source(Form):
    """A quote that stands where it says."""

    path: Line
    line: Annotated[int, Field(ge=1)]
    quote: Annotated[str, Field(max_length=2_000)]


class Found(Form):
    """A finding after its quotes were looked up. Without `sources` nothing supports it; `unsupported` stand nowhere."""

    id: Id
    text: Text
    sources: tuple[Source, ...] = ()
    unsupported: Annotated[int, Field(ge=0)] = 0


class Study(Form):
    """What one specialist came to, and what has to be known about it.

    `failed` says why it has no answer, if it has none; `attempt` is how often it was tried, `seconds` and `tokens` what
    its answer took, `model` who gave it.
    """

    number: Annotated[int, Field(ge=1)]
    kind: Kind
    question: Line
    priority: Annotated[int, Field(ge=1, le=3)]
    found: tuple[Found, ...] = ()
    missing: Long = ""
    failed: Long = ""
    attempt: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(ge=0)] = 0.0
    tokens: Annotated[int, Field(ge=0)] = 0
    model: str = ""
    marks: tuple[Mark, ...] = ()


class Point(Form):
    """One thing that follows from findings."""

    text: Text
    findings: Annotated[tuple[Id, ...], Field(max_length=24)] = Field(
        default=(), description="Ids of the findings that it follows from."
    )


class Synthesis(Form):
    """What a synthesizer answers."""

    summary: Text
    points: Annotated[tuple[Point, ...], Field(max_length=24)] = ()
    open_questions: Annotated[tuple[Line, ...], Field(max_length=24)] = ()


class Half(Form):
    """One of the two halves of the report: what its synthesizer said, with ids only of findings that there are."""

    name: Line
    synthesis: Synthesis
    model: str = ""


class Plan(Form):
    """What a run is to do.

    At most so many `specialists`; when the verdict asks for fewer, kinds that it does not name are asked about the
    topic, unless it is to be followed `only`. The part `quorum` of them has to answer. A verdict is sent back
    to a new debate at most `revisions` times.
    """

    specialists: Annotated[int, Field(ge=1, le=MOST)] = MOST
    only: bool = False
    quorum: Annotated[float, Field(ge=0, le=1)] = 0.5
    revisions: Annotated[int, Field(ge=0, le=5)] = 1


for _form in (Finding, Findings, Source, Found, Study, Point, Synthesis, Half, Plan):
    register_type(_form, f"research.{_form.__name__}")
