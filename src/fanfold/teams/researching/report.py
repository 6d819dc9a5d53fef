"""The report of a research run, in Markdown. What agents have said is only ever text in it: no line of theirs begins
a heading, and a quote is printed as a quote only with the place where it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from fanfold.teams.debating.objects import Mark, Validation, Verdict
from fanfold.teams.researching.objects import Found, Half, Point, Source, Study

TITLES = {"agreement": "What the findings come to", "dissent": "What stands against it"}
"""The heading of each half, by the name of its synthesizer."""


def written(
    topic: str,
    verdict: Verdict | None,
    validation: Validation | None,
    studies: Sequence[Study],
    halves: Sequence[Half],
    marks: Sequence[Mark],
) -> str:
    """The whole report."""
    parts = [
        [f"# {line(topic)}", *_decided(verdict, validation)],
        *(_half(half) for half in sorted(halves, key=lambda half: half.name)),
        _findings(studies),
        _unsupported(studies),
        _absent(studies),
        _open(verdict, halves),
        _sources(studies),
        _notes(marks),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def paragraphs(text: str) -> list[str]:
    """The text of an agent in paragraphs, none of which is anything but text."""
    folded = (line(part) for part in text.split("\n\n"))
    return [f"\\{part}" if part[0] in "#>-*+=|`<" else part for part in folded if part]


def numbered(studies: Iterable[Study]) -> list[tuple[Study, Found]]:
    """All findings in the order of their specialists."""
    return [(study, found) for study in sorted(studies, key=lambda study: study.number) for found in study.found]


def listed(studies: Iterable[Study]) -> str:
    """The findings as the synthesizers read them."""
    return "\n".join(_entry(study, found) for study, found in numbered(studies))


def _entry(study: Study, found: Found) -> str:
    quotes = [f'  "{line(source.quote)}" ({source.path}:{source.line})' for source in found.sources]
    state = "" if found.sources else " (not verified)"
    return "\n".join([f"{found.id} [{study.kind}] {line(found.text)}{state}", *quotes])


def _decided(verdict: Verdict | None, validation: Validation | None) -> list[str]:
    if verdict is None:
        return ["", "The debate came to no verdict."]
    gate = f"; the validator: {validation.result}" if validation else "; no validator has judged it"
    said = f"The debate: {verdict.decision}, confidence {verdict.confidence:.2f}{gate}."
    feedback = [f"Its feedback: {line(validation.feedback)}"] if validation and validation.feedback else []
    return ["", said, *feedback]


def _half(half: Half) -> list[str]:
    said = half.synthesis
    lines = [f"## {TITLES.get(half.name, half.name)}", ""]
    for paragraph in paragraphs(said.summary):
        lines += [paragraph, ""]
    return [*lines, *(_point(point) for point in said.points)] if said.points else lines[:-1]


def _point(point: Point) -> str:
    borne = f" ({', '.join(point.findings)})" if point.findings else " (no finding named)"
    return f"- {line(point.text)}{borne}"


def _findings(studies: Sequence[Study]) -> list[str]:
    lines: list[str] = []
    for study in sorted(studies, key=lambda study: study.number):
        supported = [found for found in study.found if found.sources]
        if study.failed:
            continue
        lines += [f"### {study.kind}", "", f"Asked, with priority {study.priority}: {line(study.question)}", ""]
        for found in supported:
            lines += [f"- {found.id}: {line(found.text)}", *_quotes(found.sources), ""]
        lines += [] if supported else ["Nothing with a quote that stands where it says.", ""]
        lines += [f"Looked for and not found: {line(study.missing)}", ""] if study.missing else []
    lines = lines[:-1]  # the parts of the report are set apart already
    return ["## Findings", "", *lines] if lines else []


def _quotes(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        yield f"  > {line(source.quote)}"
        yield f"  — `{source.path}:{source.line}`"


def _unsupported(studies: Sequence[Study]) -> list[str]:
    lost = [(study, found) for study, found in numbered(studies) if not found.sources]
    if not lost:
        return []
    said = "No quote that was given for these stands in the file it names."
    return ["## Not verified", "", said, "", *(f"- {found.id} [{s.kind}]: {line(found.text)}" for s, found in lost)]


def _absent(studies: Sequence[Study]) -> list[str]:
    failed = [study for study in sorted(studies, key=lambda study: study.number) if study.failed]
    told = [f"- {study.kind}, after {_times(study.attempt)}: {line(study.failed)}" for study in failed]
    return ["## Specialists without an answer", "", *told] if told else []


def _times(number: int) -> str:
    return "one attempt" if number == 1 else f"{number} attempts"


def _open(verdict: Verdict | None, halves: Sequence[Half]) -> list[str]:
    asked = [
        *(verdict.open_questions if verdict else ()),
        *(q for half in halves for q in half.synthesis.open_questions),
    ]
    told = [f"- {line(question)}" for question in dict.fromkeys(asked)]
    dissent = [f"- Dissent in the debate: {line(text)}" for text in (verdict.dissent if verdict else ())]
    return ["## Open questions", "", *told, *dissent] if told or dissent else []


def _sources(studies: Sequence[Study]) -> list[str]:
    """Each file that is quoted, with the lines, and the findings that quote it."""
    lines: dict[str, set[int]] = {}
    by: dict[str, dict[str, None]] = {}
    for _, found in numbered(studies):
        for source in found.sources:
            lines.setdefault(source.path, set()).add(source.line)
            by.setdefault(source.path, {})[found.id] = None
    told = [
        f"{number}. `{path}`, {_lines(lines[path])}: {', '.join(by[path])}"
        for number, path in enumerate(sorted(lines), 1)
    ]
    return ["## Sources", "", *told] if told else []


def _lines(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in sorted(numbers)]
    return f"line{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def _notes(marks: Sequence[Mark]) -> list[str]:
    told = [f"- {mark.kind}{f', {mark.who}' if mark.who else ''}: {line(mark.text)}" for mark in marks]
    return ["## Notes", "", *told] if told else []


def known(half: Half, ids: Collection[str]) -> tuple[Half, int]:
    """The half without ids of findings that there are not, and how many these were."""
    dropped = sum(id not in ids for point in half.synthesis.points for id in point.findings)
    points = tuple(
        point.model_copy(update={"findings": tuple(id for id in point.findings if id in ids)})
        for point in half.synthesis.points
    )
    return half.model_copy(update={"synthesis": half.synthesis.model_copy(update={"points": points})}), dropped
