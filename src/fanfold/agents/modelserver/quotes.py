"""What the tools returned, as lines with a source, and the choice of those that are worth quoting.

Everything here is derived from the text of tool results; nothing reads a file. The results have these forms (ours
first, then the one of Claude Code's own tools)::

    grep    path:12: text                      path:12:text
    read    12<TAB>text, below a header line   12→text
    glob    path

A line in no such form is a note of the tool ("(more matches were left out)", an error) and is never quoted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_GREP = re.compile(r"(?P<path>[^\n]+?):(?P<line>\d+): ?(?P<text>.*)")
_READ = re.compile(r"\s*(?P<line>\d+)[\t→](?P<text>.*)")
_STARTS = re.compile(r"(?:async def|def|class|func|fn|function|#{1,6}) ")
_IMPORT = re.compile(r"(?:import|from|use|#include|package)\b|.*\brequire\(")
_README = re.compile(r"(?:readme|about|index|contributing)(?:\.\w+)?", re.IGNORECASE)

SHORTEST, LONGEST = 12, 200
"""Characters of a line that can be quoted: less says nothing, more is not read."""

_MOST, _ENOUGH, _PER_FILE, _FILES, _WINDOW, _LIST = 6, 4, 2, 3, 60, 4


@dataclass(frozen=True, slots=True)
class Words:
    """What is searched for: words of the prompt, and words that say what this role looks for. All casefolded."""

    prompt: tuple[str, ...]
    role: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.role, *self.prompt)))

    def within(self, text: str) -> tuple[str, ...]:
        """Those that occur in the text, each as the beginning of a word: `class` is not in "dataclass"."""
        folded = text.casefold()
        return tuple(word for word in self.all if word in folded and _begins(word, folded))

    def enumerated(self, text: str) -> bool:
        """Whether the text only lists such words, as the agents' own files do; a list shows nothing of a project."""
        return len(self.within(text)) > _LIST

    def weight(self, words: Iterable[str]) -> int:
        """A role's own word counts twice, so that different roles come to different places."""
        return sum(2 if word in self.role else 1 for word in words)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, as a tool returned it."""

    path: str
    no: int
    text: str

    @property
    def quotable(self) -> bool:
        return SHORTEST <= len(self.text) <= LONGEST and not self.text.endswith("…")


def grepped(text: str) -> Iterator[Line]:
    """The lines in the result of a grep."""
    for row in _rows(text):
        if found := _GREP.fullmatch(row):
            yield Line(_plain(found["path"]), int(found["line"]), found["text"].strip())


def was_read(path: str, text: str) -> Iterator[Line]:
    """The lines in the result of a read of `path`."""
    for row in _rows(text):
        if found := _READ.fullmatch(row):
            yield Line(_plain(path), int(found["line"]), found["text"].strip())


def globbed(text: str) -> Iterator[str]:
    """The paths in the result of a glob."""
    return (_plain(row) for row in _rows(text) if row.strip() and not (row[0] == "(" and row[-1] == ")"))


def readme(paths: Iterable[str]) -> str | None:
    """The path that looks most like an introduction; the shortest one of the likeliest name."""
    likely = [path for path in paths if _README.fullmatch(PurePosixPath(path).name)]
    return min(likely, key=_introduces, default=None)


def telling_places(hits: Iterable[Line], words: Words) -> list[tuple[str, int]]:
    """Up to three files, each with the line to read from.

    Files in which the most distinct words occur come first; one of another kind (tests, documents, settings, code)
    is preferred as long as it has half as much to tell.
    """
    files: dict[str, list[Line]] = {}
    for hit in hits:
        if not words.enumerated(hit.text):
            files.setdefault(hit.path, []).append(hit)
    weights = {path: words.weight(words.within("\n".join(h.text for h in at))) for path, at in files.items()}
    ranked = sorted(files, key=lambda path: (-weights[path], -len(files[path]), path))
    chosen: list[str] = []
    while ranked and len(chosen) < _FILES:
        kinds = {_kind(path) for path in chosen}
        other = (path for path in ranked if _kind(path) not in kinds and 2 * weights[path] >= weights[ranked[0]])
        chosen.append(next(other, ranked[0]))
        ranked.remove(chosen[-1])
    return [(path, _window(files[path], words)) for path in chosen]


def findings(lines: Iterable[Line], words: Words) -> list[tuple[str, Line]]:
    """Two to six lines worth quoting, each with a sentence that is true of it; fewer if there are no more."""
    quotable = _distinct(line for line in lines if line.quotable)
    chosen = _choose(quotable, words)
    found = [(_sentence(line, words.within(line.text)), line) for line in chosen]
    if len(found) == 1:
        found += _beside(chosen[0], quotable, words)
    return found


def sentences(lines: Iterable[Line], words: Words) -> list[tuple[str, Line]]:
    """Every line in which one of the words occurs, with a sentence that is true of it."""
    told = (line for line in _distinct(each for each in lines if each.quotable) if not words.enumerated(line.text))
    return [(_sentence(line, within), line) for line in told if (within := words.within(line.text))]


def introduction(lines: Iterable[Line]) -> Line | None:
    """The first line of prose; failing that, the first that can be quoted."""
    quotable = [line for line in lines if line.quotable]
    prose = (line for line in quotable if line.text[0].isalnum() and line.text.count(" ") >= 3)
    return next(prose, next(iter(quotable), None))


def finding(sentence: str, line: Line) -> str:
    """The form of a finding, which real models are told to use too: what it shows, the quote, its source."""
    return f"- {sentence}\n  > {line.text}\n  — {line.path}:{line.no}"


def listed(words: Iterable[str]) -> str:
    """The words as a person lists them: `a`, `b` and `c`."""
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} and {last}" if others else last


def _rows(text: str) -> Iterator[str]:
    """Not `splitlines`: a form feed may stand inside of a line of a file."""
    return (row.rstrip("\r") for row in text.split("\n"))


def _begins(word: str, folded: str) -> bool:
    return re.search(rf"(?<![^\W\d_]){re.escape(word)}", folded) is not None


def _choose(quotable: list[Line], words: Words) -> list[Line]:
    """Each time the line with the most words that no chosen line has; never more than two of one file at first."""
    found = ((line, words.within(line.text)) for line in quotable if not words.enumerated(line.text))
    left = {line: within for line, within in found if within}
    chosen: list[Line] = []
    covered: set[str] = set()
    while left and len(chosen) < _MOST:
        taken = Counter(line.path for line in chosen)
        fresh = {line: words.weight(set(has) - covered) for line, has in left.items()}
        open_ = [line for line in left if taken[line.path] < _PER_FILE] or (list(left) if len(chosen) < 2 else [])
        if not open_ or (len(chosen) >= _ENOUGH and not any(fresh[line] for line in open_)):
            break
        best = max(open_, key=lambda line: (fresh[line], _telling(line.text), words.weight(left[line])))
        chosen.append(best)
        covered.update(left.pop(best))
    return chosen


def _telling(text: str) -> int:
    """An import tells little, a sentence or a whole statement the most."""
    return 0 if _IMPORT.match(text) else 1 + (text.count(" ") >= 4)


def _beside(line: Line, quotable: list[Line], words: Words) -> list[tuple[str, Line]]:
    near = [other for other in quotable if other.path == line.path and other.no != line.no]
    if not near:
        return []
    other = min(near, key=lambda each: (abs(each.no - line.no), each.no))
    away, where = abs(other.no - line.no), "after" if other.no > line.no else "before"
    said = (
        f"This stands {away} line{'s' * (away > 1)} {where} line {line.no}, in which {listed(words.within(line.text))}"
    )
    return [(f"{said} {_occur(words.within(line.text))}.", other)]


def _sentence(line: Line, words: tuple[str, ...]) -> str:
    start = _STARTS.match(line.text)
    more = f", which starts with `{start[0].strip()}`" if start else ""
    return f"{listed(words)} {_occur(words)} in line {line.no} of {line.path}{more}."


def _occur(words: tuple[str, ...]) -> str:
    return "occurs" if len(words) == 1 else "occur"


def _distinct(lines: Iterable[Line]) -> list[Line]:
    """Without a line that came twice, or whose text is that of another."""
    by_text: dict[str, Line] = {}
    for line in lines:
        by_text.setdefault(line.text, line)
    return list(by_text.values())


def _window(hits: list[Line], words: Words) -> int:
    """The line to read from, so that the most distinct words are in what is read."""

    def told(start: int) -> int:
        inside = "\n".join(hit.text for hit in hits if start <= hit.no < start + _WINDOW)
        return words.weight(words.within(inside))

    starts = (max(1, hit.no - 5) for hit in sorted(hits, key=lambda hit: hit.no))
    return max(starts, key=told)


def _kind(path: str) -> str:
    place = PurePosixPath(path.casefold())
    if any(part.startswith("test") for part in place.parts) or place.stem.endswith(("_test", ".test", ".spec")):
        return "test"
    if place.suffix in (".md", ".rst", ".txt", ".adoc"):
        return "document"
    if place.suffix in (".toml", ".yml", ".yaml", ".json", ".cfg", ".ini", ".lock") or not place.suffix:
        return "settings"
    return "code"


def _introduces(path: str) -> tuple[bool, int, str]:
    name = PurePosixPath(path).name.casefold()
    return not name.startswith("readme"), path.count("/"), path


def _plain(path: str) -> str:
    return path.strip().removeprefix("./")
