"""Whether quotes stand where their authors say: the one thing in a debate that is known and not argued.

A quote is verified when its words stand in the source that it names, one after another. White space and quote marks
are folded, so a quote may run over the end of a line; nothing else is. Case counts, an omission within a quote is not
filled in, and a quote may not begin or end within a word or a number: "safe to use" is no quote of "unsafe to use",
nor "we can" of "we can't", nor "5 %" of "0.5 %". What is too short to show anything is not verified either.

What a quote means, and whether it bears out its claim, is left to those who argue.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from fanfold import AgentError, UsageError, Workspace
from fanfold.teams.debating.objects import Evidence, Form

SHORTEST_QUOTE: Final = 8
"""Characters below which a quote shows nothing, because it stands almost anywhere."""
FEWEST_LETTERS: Final = 4
"""How many of them are letters or digits: a ruled line is no statement."""
CUT: Final = " ..."
"""What our tools put at the end of a line that they do not show to its end, and a quote may have taken along."""

_QUOTE_MARKS: Final = str.maketrans(dict.fromkeys('"`´‘’‚‛“”„‟«»‹›′″', "'"))  # noqa: RUF001 - it is a list of them
_LINES: Final = re.compile(r"(?::\d+(?:[-:]\d+)?|#L\d+(?:-L?\d+)?|,? \(?lines? \d+(?:[-\u2013]\d+)?\)?)$")
_AROUND: Final = "`'\"<>"
"""What models put around a path."""
# Scripts that put spaces between words. In others, a cut between two letters may well be one between two words.
_W: Final = r"[0-9A-Za-z_\u00c0-\u024f\u0370-\u052f]"
_TORN: Final = re.compile(rf"{_W}\n{_W}|{_W}-\n{_W}|{_W}\n-{_W}|{_W}\n'{_W}|[-\u2212]\n\d|\d[.,]\n\d|\d\n[.,]\d")

_Said = TypeVar("_Said")
_Quote: TypeAlias = tuple[str, str]


class Sources(Protocol):
    """Where quotes come from."""

    def text(self, source: str) -> str | None:
        """The whole text of a source; None for one that there is not, or that may not be read."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The files below a folder, under the bounds of a `Workspace`: nothing outside, nothing above 10 MB."""

    root: str | Path
    _workspace: Workspace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_workspace", Workspace(Path(self.root)))

    def text(self, source: str) -> str | None:
        """The text of a file, by its path relative to the folder; line numbers at the end of the path are dropped."""
        return self._read(self.path(source))

    def path(self, source: str) -> str:
        """The path of the file that a source means: below the folder, without line numbers and what stands around it,
        unless there is a file of that very name.
        """
        if self._read(source) is not None and not Path(source).is_absolute():
            return source
        plain = _LINES.sub("", source.strip(_AROUND)).strip(_AROUND)
        root = Path(self.root).resolve()
        return str(Path(plain).relative_to(root)) if Path(plain).is_relative_to(root) else plain

    def _read(self, path: str) -> str | None:
        try:
            return self._workspace.text(path)
        except (AgentError, OSError):  # a file that is not there is what the check is about
            return None


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by their names, where there is no folder."""

    texts: Mapping[str, str]

    def text(self, source: str) -> str | None:
        """The text of that name."""
        return self.texts.get(source)


class Folded:
    """A text in which quotes are looked for."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._numbers: list[int] = []
        folded: list[str] = []
        length = 0
        for number, line in enumerate(text.split("\n"), 1):
            words = fold(line)
            if words:
                self._starts.append(length)
                self._numbers.append(number)
                folded.append(words)
                length += len(words) + 1
        self._text = " ".join(folded)

    def line_of(self, quote: str) -> int | None:
        """The number of the line where a quote begins that stands here; None when it does not."""
        words = fold(quote.strip().removesuffix(CUT))
        if len(words) < SHORTEST_QUOTE or sum(map(str.isalnum, words)) < FEWEST_LETTERS:
            return None
        at = self._text.find(words)
        while at >= 0:
            if self._stands(at, at + len(words), cut=quote.rstrip().endswith(CUT)):
                return self._numbers[bisect_right(self._starts, at) - 1]
            at = self._text.find(words, at + 1)
        return None

    def _stands(self, start: int, end: int, *, cut: bool) -> bool:
        return not self._torn(start) and (cut or not self._torn(end))

    def _torn(self, at: int) -> bool:
        """Whether a word or a number would be torn if the text was cut here."""
        return _TORN.search(f"{self._text[max(0, at - 2) : at]}\n{self._text[at : at + 2]}") is not None


def existing(folder: str) -> str:
    """The folder. Raises `UsageError` when there is none: no agent's failure, which would count all of them out."""
    if not Path(folder).is_dir():
        raise UsageError(f"there is no folder {folder!r} to quote from")
    return folder


def fold(text: str) -> str:
    """The text with every white space as one blank, and every quote mark as the same one."""
    return " ".join(text.translate(_QUOTE_MARKS).split())


def verify(said: _Said, sources: Sources | None) -> _Said:
    """The same objects, in which every `Evidence` says whether its quote stands in its source.

    `said` is a form, or lists, tuples and dicts of forms. Without sources, nothing is verified. Every source is read
    once, and only one is held at a time. It reads files: where an event loop waits, call it in a thread.
    """
    found = {} if sources is None else places(said, sources)
    return _marked(said, found)  # type: ignore[no-any-return]  # the same objects


def places(said: Any, sources: Sources) -> dict[tuple[str, str], int]:
    """The line where each quote begins, by source and quote; those that stand nowhere are left out."""
    wanted: dict[str, list[str]] = {}
    for evidence in evidence_in(said):
        wanted.setdefault(evidence.source, []).append(evidence.quote)
    return {place: line for source, quotes in wanted.items() for place, line in _lines(source, quotes, sources)}


def _lines(source: str, quotes: list[str], sources: Sources) -> Iterator[tuple[_Quote, int]]:
    text = sources.text(source)
    if text is None:
        return
    folded = Folded(text)
    for quote in dict.fromkeys(quotes):
        line = folded.line_of(quote)
        if line is not None:
            yield (source, quote), line


def evidence_in(said: Any) -> Iterator[Evidence]:
    """Every piece of evidence in the objects, in the order in which it stands there."""
    if isinstance(said, Evidence):
        yield said
    elif isinstance(said, Form):
        for name in type(said).model_fields:
            yield from evidence_in(getattr(said, name))
    elif isinstance(said, (list, tuple, Mapping)):
        for inner in said.values() if isinstance(said, Mapping) else said:
            yield from evidence_in(inner)


def _marked(said: Any, found: Mapping[_Quote, int]) -> Any:
    if isinstance(said, Evidence):
        return said.model_copy(update={"verified": (said.source, said.quote) in found})
    if isinstance(said, Form):
        inner = {name: getattr(said, name) for name in type(said).model_fields}
        return said.model_copy(update={name: _marked(value, found) for name, value in inner.items()})
    if isinstance(said, (list, tuple)):
        return type(said)(_marked(inner, found) for inner in said)
    return {key: _marked(value, found) for key, value in said.items()} if isinstance(said, Mapping) else said
