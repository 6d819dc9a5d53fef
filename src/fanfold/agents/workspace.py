"""What an agent may see of a folder.

A `Workspace` is one folder and three tools that read below it: `glob`, `grep` and `read`. They return text that is
made for models and reads well for people. Nothing here writes: that is `agents/editing`, and what a command may do in
the folder is `agents/shell`. Which of these tools an agent has, `agents/tools` says.

**The boundary.** A path is relative, has no `..`, and must lead to a plain file whose real place, after every link in
it, lies below the root. `.git` and `.fanfold` are closed as well: the first often holds a token in its `config`, the
second what other runs have stored. A path is checked, opened without following a link at its end, and then the open
file itself is asked where it lies. So a link that somebody swaps in between the check and the opening is found out. A
hard link cannot be told from the file that it is, and is not refused.

**What is not walked.** Version control, virtual environments, installed packages and caches (`NOISE`). Other hidden
folders are content, such as `.github` and `.claude`. Links to folders are not walked, so there are no cycles. A file
whose name cannot be written on one line is not listed, since it could pass itself off as several.

**Patterns of a model are untrusted, too.** A regular expression can take longer than the universe has, and holds the
interpreter while it does, so that no time-out of this process would fire. A pattern without groups and with one
repetition at most is quadratic at worst and is searched here; any other by a short-lived process that can be killed.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from itertools import islice, product
from pathlib import Path
from typing import Final, TypeAlias

from fanfold.errors import WorkspaceError, did_you_mean
from fanfold.store import files

NOISE: Final = frozenset(
    {
        *(".git", ".hg", ".svn", ".fanfold", ".venv", "venv", "node_modules", "__pycache__", ".cache"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache"),
        *(".tox", ".nox", ".eggs", ".gradle", ".terraform", ".next", ".ipynb_checkpoints", ".idea"),
    }
)
CLOSED: Final = frozenset({".git", ".fanfold"})
CUT: Final = " ..."
"""What stands at the end of a line that is not shown to its end."""

_MOST_PATHS: Final = 500
_MOST_MATCHES: Final = 200
_MOST_IN_A_FILE: Final = 20
_LONGEST_SHOWN: Final = 300
_LONGEST_SEARCHED: Final = 2_000
_LONGEST_PATTERN: Final = 500
_LONGEST_READ: Final = 2_000
_MOST_LINES_READ: Final = 2_000
_LARGEST_SEARCHED: Final = 1_000_000
_LARGEST_READ: Final = 10_000_000
_BINARY_PROBE: Final = 8_192
_SECONDS_TO_SEARCH: Final = 5.0
_BATCH: Final = 2_000_000
_CANDIDATES: Final = 2_000

Lines: TypeAlias = list[str]
Search: TypeAlias = Callable[[list[Lines]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder that an agent may read. Paths in and out are relative to it, with `/` between their parts."""

    root: Path

    def __post_init__(self) -> None:
        try:
            root = Path(self.root).resolve(strict=True)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            hint = "name a folder that exists"
            raise WorkspaceError(f"folder {str(self.root)!r} cannot be used: {cause}", hint=hint) from error
        if not root.is_dir():
            raise WorkspaceError(f"{str(self.root)!r} is no folder", hint="name the folder that it lies in")
        object.__setattr__(self, "root", root)

    def glob(self, pattern: str) -> str:
        """The paths of the files that match, one a line. `**` stands for any number of folders."""
        paths = sorted(self._matching(pattern))
        if not paths:
            wider = "" if "**" in pattern else f"; `**/{pattern}` looks in every folder"
            return f"(no file matches `{pattern}`{wider})"
        left_out = len(paths) - _MOST_PATHS
        note = [f"({left_out} more files were left out)"] if left_out > 0 else []
        return "\n".join(paths[:_MOST_PATHS] + note)

    def grep(self, pattern: str, glob: str = "**/*") -> str:
        """The lines in which a regular expression is found, as `path:line: text`; case does not matter."""
        problem = _pattern_problem(pattern)
        if problem:
            return f"(the pattern `{pattern[:80]}` cannot be used: {problem})"
        paths = sorted(self._matching(glob))
        deadline = time.monotonic() + _SECONDS_TO_SEARCH
        search = _search_here(pattern, deadline) if _is_cheap(pattern) else _search_apart(pattern, deadline)
        found, notes = _Report(), list[str]()
        try:
            for batch in _batches(self._searchable(paths, notes)):
                for (path, lines), hits in zip(batch, search([lines for _, lines in batch]), strict=True):
                    found.add(path, lines, hits)
                if found.is_full():
                    break
        except TimeoutError:
            notes.append(f"(stopped after {_SECONDS_TO_SEARCH:g} s: use a simpler pattern or a narrower glob)")
        return found.text(notes)

    def read(self, path: str, offset: int = 1, limit: int = 200) -> str:
        """Some lines of a file, each after its number and a tab, under a line that says which they are."""
        lines = self._lines(path, _LARGEST_READ)
        first = max(1, offset)
        shown = lines[first - 1 : first - 1 + max(1, min(limit, _MOST_LINES_READ))]
        if not shown:
            return f"{path} (no line {first}: it has {len(lines)})" if lines else f"{path} (empty)"
        rows = [f"{number}\t{_shortened(line, _LONGEST_READ)}" for number, line in enumerate(shown, first)]
        return "\n".join([f"{path} (lines {first}-{first + len(shown) - 1} of {len(lines)})", *rows])

    def text(self, path: str) -> str:
        """The whole text of a file, as it stands there."""
        with open(self._open(path), "rb") as file:
            content = file.read(_LARGEST_READ + 1)
        if len(content) > _LARGEST_READ:
            raise WorkspaceError(f"{path!r} is larger than {_LARGEST_READ // 1_000_000} MB and is not read")
        return content.decode("utf-8", "replace")

    def find_quote(self, path: str, line: int, quote: str) -> int | None:
        """The number of the line nearest to `line` in which `quote` stands, or None when it stands nowhere.

        White space and quote marks are folded. A path that may not be read gives None as well: path, line and quote
        are what a model claims, and a claim about a file that is not there is simply not borne out.
        """
        wanted = _folded(quote.strip().removesuffix(CUT))
        try:
            lines = self._lines(path, _LARGEST_READ)
        except WorkspaceError:
            return None
        numbers = [number for number, text in enumerate(lines, 1) if wanted and wanted in _folded(text)]
        return min(numbers, key=lambda number: abs(number - line), default=None)

    # The boundary.

    def _open(self, path: str) -> int:
        """A descriptor of the plain file that `path` leads to. Raises WorkspaceError for anything else."""
        place = self.place(path)
        try:
            status = os.lstat(place)
            if not stat.S_ISREG(status.st_mode):
                raise WorkspaceError(f"{path!r} is no plain file", hint="`glob` lists the files")
            if files.has(status):
                raise WorkspaceError(f"{path!r} is a database that this process has open, and only that reads it")
            # O_NONBLOCK: should it have become a pipe by now, opening it must not wait for a writer.
            fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            close = did_you_mean(path, islice(self._walk(), _CANDIDATES)).removeprefix("; ")
            raise WorkspaceError(f"no file {path!r} in the folder", hint=close or None) from None
        except OSError as error:
            raise WorkspaceError(f"{path!r} cannot be read: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode) or not self.holds(place_of(fd, place)):
                raise WorkspaceError(f"{path!r} changed while it was opened, and is refused")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def place(self, path: str) -> Path:
        """Where `path` really leads, when that is below the root. The file need not exist."""
        parts = path.split("/")
        if not path or "\0" in path or path.startswith("/") or ".." in parts:
            raise WorkspaceError(f"{path!r} may not be read: paths are relative to the folder, without `..`")
        try:
            place = Path(os.path.realpath(self.root / path))
        except (OSError, ValueError) as error:  # ValueError: characters that no file name can have
            raise WorkspaceError(f"{path!r} cannot be read: {error}") from error
        if not self.holds(place):
            raise WorkspaceError(f"{path!r} may not be read: it leads to a place that is closed to agents")
        return place

    def holds(self, place: Path) -> bool:
        """Whether a place, links followed, lies in the folder and is not closed."""
        return place.is_relative_to(self.root) and CLOSED.isdisjoint(place.relative_to(self.root).parts)

    def _lines(self, path: str, largest: int) -> Lines:
        """The text of a file, line by line. Only a line feed ends a line, so that numbers agree with editors."""
        with open(self._open(path), "rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise WorkspaceError(f"{path!r} is larger than {largest // 1_000_000} MB and is not read")
        if b"\0" in content[:_BINARY_PROBE]:
            raise WorkspaceError(f"{path!r} is a binary file")
        text = content.decode("utf-8-sig", "replace").replace("\r\n", "\n")
        return text.removesuffix("\n").split("\n") if text else []

    # Walking.

    def _walk(self) -> Iterator[str]:
        """The relative path of every file that may be seen.

        A folder that this process may not list is passed over: then it is one that the agent may not see either.
        """
        for here, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name not in NOISE and name.isprintable())
            base = os.path.relpath(here, self.root).replace(os.sep, "/")
            for name in names:
                path = name if base == "." else f"{base}/{name}"
                if name.isprintable() and name not in CLOSED and self._is_file(path):
                    yield path

    def _is_file(self, path: str) -> bool:
        try:
            mode = os.lstat(self.root / path).st_mode
            return stat.S_ISREG(os.lstat(self.place(path)).st_mode) if stat.S_ISLNK(mode) else stat.S_ISREG(mode)
        except (OSError, WorkspaceError):  # it is gone again, or a link leads out of the folder
            return False

    def _matching(self, pattern: str) -> Iterator[str]:
        patterns = _globs(pattern)
        return (path for path in self._walk() if any(_matches(path.split("/"), glob) for glob in patterns))

    def _searchable(self, paths: Iterable[str], notes: list[str]) -> Iterator[tuple[str, Lines]]:
        """Path and lines of each text file; the notes get those that are too large, when all are through."""
        large = 0
        for path in paths:
            try:
                if os.stat(self.root / path).st_size > _LARGEST_SEARCHED:
                    large += 1
                else:
                    yield path, self._lines(path, _LARGEST_SEARCHED)
            except (OSError, WorkspaceError):  # binary, or changed since it was listed: it has no line to show
                continue
        if large:
            notes.append(f"({large} files of more than {_LARGEST_SEARCHED // 1_000_000} MB were not searched)")


def place_of(fd: int, place: Path) -> Path:
    """Where an open file lies now.

    Linux says so itself. Elsewhere the path is looked at a second time and must lead to the very file that is open.
    """
    link = f"/proc/self/fd/{fd}"
    if os.path.islink(link):
        return Path(os.readlink(link))
    again = Path(os.path.realpath(place))
    return again if os.path.samestat(os.fstat(fd), os.lstat(again)) else Path("/")


def _shortened(line: str, longest: int) -> str:
    return line if len(line) <= longest else line[:longest] + CUT


_QUOTE_MARKS: Final = str.maketrans(dict.fromkeys('"`´‘’‚‛“”„‟«»‹›′″', "'"))  # noqa: RUF001 - it is a list of them


def _folded(text: str) -> str:
    return " ".join(text.translate(_QUOTE_MARKS).split())


# Globs: matched part by part, without going back, so that no pattern is slow.

Glob: TypeAlias = list[re.Pattern[str] | None]  # None is `**`

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MOST_ALTERNATIVES: Final = 64


def _globs(pattern: str) -> list[Glob]:
    """The pattern, taken apart at `/`; several when it has braces, as in `*.{md,py}`."""
    if pattern.startswith("/") or ".." in pattern.split("/") or "\0" in pattern:
        raise WorkspaceError(f"pattern {pattern!r} leaves the folder: patterns are relative to it, without `..`")
    if not any(part not in ("", ".") for part in pattern.split("/")) or len(pattern) > _LONGEST_PATTERN:
        raise WorkspaceError(f"pattern {pattern[:80]!r} names no file", hint="`**/*` is every file")
    pieces = _BRACES.split(pattern)
    choices = [piece.split(",") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    plain = ("".join(chosen) for chosen in islice(product(*choices), _MOST_ALTERNATIVES))
    return [_glob(text) for text in plain]


def _glob(pattern: str) -> Glob:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return [None if part == "**" else re.compile(translate(part)) for part in parts]


def _matches(parts: list[str], glob: Glob) -> bool:
    """Whether the whole path matches. `at` are the places in the glob that the parts so far can have led to."""
    at = _with_empty({0}, glob)
    for part in parts:
        stay = {place for place in at if place < len(glob) and glob[place] is None}
        step = {place + 1 for place in at if place < len(glob) and _fits(glob[place], part)}
        at = _with_empty(stay | step, glob)
    return len(glob) in at


def _fits(piece: re.Pattern[str] | None, part: str) -> bool:
    return piece is not None and piece.match(part) is not None


def _with_empty(at: set[int], glob: Glob) -> set[int]:
    """Add the places behind each `**`, which may stand for no folder at all."""
    for place in range(len(glob)):
        if place in at and glob[place] is None:
            at.add(place + 1)
    return at


# Searching.


class _Report:
    """The matches of a search, as they are shown."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.matches = 0

    def is_full(self) -> bool:
        return self.matches >= _MOST_MATCHES

    def add(self, path: str, lines: Lines, hits: list[int]) -> None:
        """Show the lines of one file, as many as there is room for."""
        room = min(_MOST_IN_A_FILE, _MOST_MATCHES - self.matches)
        shown = hits[:room]
        self.rows += [f"{path}:{at + 1}: {_shortened(lines[at].rstrip(), _LONGEST_SHOWN)}" for at in shown]
        self.matches += len(shown)
        if room and len(hits) > room:
            self.rows.append(f"({len(hits) - room} more matches in {path})")

    def text(self, notes: list[str]) -> str:
        """All that was found, then what a reader must know to judge it."""
        rows = self.rows or ["(no line matches)"]
        full = [f"(stopped at {_MOST_MATCHES} matches: use a narrower pattern or glob)"] if self.is_full() else []
        return "\n".join(rows + full + notes)


def _batches(files: Iterable[tuple[str, Lines]]) -> Iterator[list[tuple[str, Lines]]]:
    """Files together until they are about `_BATCH` characters, so that a process is worth starting."""
    batch: list[tuple[str, Lines]] = []
    size = 0
    for path, lines in files:
        batch.append((path, lines))
        size += sum(map(len, lines))
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pattern_problem(pattern: str) -> str:
    """Why a pattern is no regular expression that can be used, or nothing."""
    if len(pattern) > _LONGEST_PATTERN:
        return f"it has more than {_LONGEST_PATTERN} characters"
    try:
        re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:  # the last, where warnings raise
        return f"{error}; put a backslash before a character that stands for itself"
    return ""


def _is_cheap(pattern: str) -> bool:
    """Whether the pattern can be tried in a quadratic number of ways at most.

    So it is when one character at most is repeated and there is no group: already `(a|a)(a|a)...` is exponential.
    """
    bare = re.sub(r"\\.", "", pattern, flags=re.DOTALL)
    return "(" not in bare and sum(map(bare.count, "*+?{")) <= 1


def _search_here(pattern: str, deadline: float) -> Search:
    find = re.compile(pattern, re.IGNORECASE).search

    def in_time(line: str) -> bool:
        if time.monotonic() > deadline:
            raise TimeoutError
        return find(line[:_LONGEST_SEARCHED]) is not None

    return lambda files: [[at for at, line in enumerate(lines) if in_time(line)] for lines in files]


# The process limits itself as well: nobody is left to kill it when its parent is killed first.
_CHILD: Final = """
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
pattern, files = json.load(sys.stdin)
find = re.compile(pattern, re.IGNORECASE).search
json.dump([[at for at, line in enumerate(lines) if find(line)] for lines in files], sys.stdout)
"""


def _search_apart(pattern: str, deadline: float) -> Search:
    import json
    import subprocess

    def search(files: list[Lines]) -> list[list[int]]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        cut = [[line[:_LONGEST_SEARCHED] for line in lines] for lines in files]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-W", "ignore", "-c", _CHILD],
                input=json.dumps([pattern, cut]),
                capture_output=True,
                text=True,
                env={},
                timeout=left,
                check=True,
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            if isinstance(error, subprocess.CalledProcessError) and error.returncode > 0:
                raise WorkspaceError(f"the search did not work: {error.stderr[-300:]}") from error
            raise TimeoutError from error
        found: list[list[int]] = json.loads(done.stdout)
        return found

    return search
