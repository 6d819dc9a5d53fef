"""What an agent file says, and which definition a name means.

An agent file is Markdown: a front matter between two `---` lines, and a body that is the agent's system prompt. The
format is Claude Code's own, with a few keys of ours, so that existing collections work as they are.

**Reading.** The front matter is read as YAML, but only as the part of YAML that is plain data: text, numbers, true and
false, null, lists and mappings (YAML 1.2, so `no` is a word). Tags, aliases and very deep nesting are refused, which
leaves nothing that could run code or grow without end. Public collections hold many files whose front matter is no
YAML at all, nearly always because a description has a colon in it (`description: Use this agent when: ...`). Only
when YAML refuses a file, it is cut at its key lines and each piece is read alone: as YAML if it is that, otherwise as
the text that stands there. That is said in `notices`, and it is never done to a key that holds more than text.

**Finding.** Nearest first, and the first that has the name is meant::

    objects registered on the run
    .claude/agents/**/*.md          of the working directory, then of each folder above it
    ~/.claude/agents/**/*.md
    packaged                        the agents that come with fanfold

Names are compared without case and separators: `Sydney Research` is `sydney-research`. There is no fallback: a broken
file keeps its name from meaning a farther definition, and asking for it says what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from fanfold.errors import AgentFileError, AgentNotFoundError, UsageError, did_you_mean

BACKENDS: Final = ("model", "claude", "process", "python")
PACKAGED: Final = Path(__file__).parent / "packaged"

_LARGEST_FILE: Final = 256 * 1024
_DEEPEST: Final = 32
_NAMES_LISTED: Final = 12


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """One agent, as its file says or as an object that was registered on the run.

    `tools` is None for all tools and empty for none. `model` is None when the run's own is meant (also `inherit`).
    `command` is the program of a `process`, as one line or as its words, and `memory_mb` what each of its processes may
    have. `timeout` is in seconds. `max_concurrent` is how many of this agent a run may have at work at once.
    `extra` holds recognised keys that nothing honours yet. `notices` are what a person should know about the file.
    `digest` changes with everything that the agent is made of, and not with the place where it was found.
    """

    name: str
    description: str
    prompt: str = ""
    tools: tuple[str, ...] | None = None
    disallowed_tools: tuple[str, ...] = ()
    model: str | None = None
    max_turns: int | None = None
    backend: str = "model"
    output: Mapping[str, Any] | None = field(default=None, hash=False)
    command: str | tuple[str, ...] = ()
    timeout: float | None = None
    memory_mb: int | None = None
    max_concurrent: int | None = None
    source: Path | None = None
    origin: str = "run"  # "run", "project", "user" or "packaged"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    notices: tuple[str, ...] = field(default=(), compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if not folded(self.name):
            raise UsageError(f"agent name {self.name!r} has no letter or digit in it")
        for key in ("tools", "disallowed_tools"):
            if isinstance(getattr(self, key), str):
                raise UsageError(f"agent {self.name!r}: {key} must be a tuple of names, not one text")
        object.__setattr__(self, "digest", _digest(self))


def _digest(definition: AgentDefinition) -> str:
    d = definition
    content = [d.name, d.description, d.prompt, d.tools, d.disallowed_tools, d.model, d.max_turns, d.backend]
    bounds = [d.command, d.timeout, d.memory_mb, d.max_concurrent]
    text = json.dumps([*content, d.output, bounds, d.extra], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def folded(name: str) -> str:
    """The name as names are compared: without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())


# What each key may hold.


@dataclass(frozen=True, slots=True)
class _Kind:
    wanted: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


_TEXT: Final = _Kind("text (put it in quotes)", _is_text)
_COUNT: Final = _Kind("a whole number of 1 or more", _is_count)
_AMOUNT: Final = _Kind("a number above 0", _is_amount)
_FLAG: Final = _Kind("true or false", lambda value: isinstance(value, bool))
_NAMES: Final = _Kind("names with commas between them, or a list of names", _is_names)
_COMMAND: Final = _Kind("a command, or a list of its words", _is_names)
_TABLE: Final = _Kind("a mapping", lambda value: isinstance(value, dict))
_TABLE_OR_LIST: Final = _Kind("a mapping or a list", lambda value: isinstance(value, dict | list))
_LEVEL: Final = _Kind("a word or a whole number", lambda value: _is_text(value) or _is_count(value))

KEYS: Final[Mapping[str, _Kind]] = {
    "name": _TEXT,
    "description": _TEXT,
    "tools": _NAMES,
    "disallowedTools": _NAMES,
    "model": _TEXT,
    "effort": _LEVEL,
    "permissionMode": _TEXT,
    "maxTurns": _COUNT,
    "skills": _NAMES,
    "mcpServers": _TABLE_OR_LIST,
    "hooks": _TABLE,
    "memory": _TEXT,
    "background": _FLAG,
    "isolation": _TEXT,
    "color": _TEXT,
    "initialPrompt": _TEXT,
    "omitClaudeMd": _FLAG,
    "autoCompactWindow": _COUNT,
    "observer": _TEXT,
    "observerMessage": _TEXT,
    "backend": _TEXT,
    "command": _COMMAND,
    "output": _TABLE,
    "timeout": _AMOUNT,
    "budget_usd": _AMOUNT,
    "memory_mb": _COUNT,
    "max_concurrent": _COUNT,
}
_HONOURED: Final = frozenset(
    {"name", "description", "tools", "disallowedTools", "model", "maxTurns", "backend", "output"}
    | {"command", "timeout", "memory_mb", "max_concurrent"}
)
_PROSE: Final = frozenset({"description", "initialPrompt", "observerMessage"})  # text of more than one line


# From the text of a file to a definition.


@dataclass(slots=True)
class _Page:
    """The front matter of one file while it is read. Line numbers count from the first line of the file."""

    source: Path | None
    prompt: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def error(self, cause: str, *, line: int | None = None, hint: str | None = None) -> AgentFileError:
        """The error that names the file, the line and the cause; the caller raises it."""
        where = str(self.source) if self.source else "agent definition"
        return AgentFileError(f"{where}:{line}: {cause}" if line else f"{where}: {cause}", hint=hint)

    def wrong(self, key: str, wanted: str, hint: str | None = None) -> AgentFileError:
        """The error that says what a key must hold and what it holds."""
        found = json.dumps(self.values[key], ensure_ascii=False)
        cause = f"`{key}` must be {wanted}; found {textwrap.shorten(found, 60, placeholder=' ...')}"
        return self.error(cause, line=self.lines.get(key), hint=hint)


def parse(text: str, source: Path | None = None, *, origin: str = "run") -> AgentDefinition:
    """Read the text of an agent file. `source` is where it stands, for messages and for the definition.

    Raises AgentFileError, and nothing else, for a text that cannot be used.
    """
    page = _Page(source)
    head, first = _cut(page, text)
    _read(page, head, first)
    _check(page)
    values = page.values
    model = values.get("model", "").strip()
    return AgentDefinition(
        name=values["name"],
        description=values["description"],
        prompt=page.prompt,
        tools=_tools(page),
        disallowed_tools=_names(values.get("disallowedTools", [])),
        model=None if model in ("", "inherit") else model,
        max_turns=values.get("maxTurns"),
        backend=values.get("backend", "model"),
        output=values.get("output"),
        command=_command(values.get("command", "")),
        timeout=values.get("timeout"),
        memory_mb=values.get("memory_mb"),
        max_concurrent=values.get("max_concurrent"),
        source=source,
        origin=origin,
        extra={key: value for key, value in values.items() if key in KEYS and key not in _HONOURED},
        notices=tuple(page.notices),
    )


def _command(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _cut(page: _Page, text: str) -> tuple[str, int]:
    """Put the body on the page; give the front matter and the line on which it begins."""
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((at for at, line in enumerate(lines) if line.strip()), 0)
    if lines[start].rstrip() != "---":
        hint = "begin the file with `---`, `name: ...`, `description: ...`, `---`"
        raise page.error("no front matter", line=start + 1, hint=hint)
    end = next((at for at in range(start + 1, len(lines)) if lines[at].rstrip() == "---"), None)
    if end is None:
        raise page.error("the front matter has no closing `---`", line=start + 1)
    page.prompt = "\n".join(lines[end + 1 :]).strip()
    if not page.prompt:
        page.notices.append("no body: the agent has no system prompt")
    return "\n".join(lines[start + 1 : end]), start + 2


def _read(page: _Page, head: str, first: int) -> None:
    """Put the keys on the page: as YAML, or piece by piece where the whole is no YAML."""
    import yaml

    try:
        page.values, lines, page_notices = _data(head)
    except yaml.YAMLError as error:
        _read_pieces(page, head, first, error)
    else:
        page.lines = {key: line + first for key, line in lines.items()}
        page.notices += page_notices


def _check(page: _Page) -> None:
    """Raise for a value that cannot be used; make a notice of a key that nobody knows."""
    unknown = [key for key in page.values if key not in KEYS]
    page.notices += [f"unknown key {key!r}{did_you_mean(key, KEYS)}" for key in unknown]
    for key, kind in KEYS.items():
        if page.values.get(key) is None and key != "tools":
            page.values.pop(key, None)  # `color:` with nothing behind it says nothing
        elif page.values.get(key) is not None and not kind.fits(page.values[key]):
            raise page.wrong(key, kind.wanted)
    for key in ("name", "description"):
        page.values[key] = page.values.get(key, "").strip()
        if not page.values[key]:
            hint = "found instead: " + ", ".join(map(repr, unknown[:5])) if unknown else None
            raise page.error(f"no `{key}`", line=page.lines.get(key), hint=hint)
    if not page.values["name"].isprintable() or not folded(page.values["name"]):
        raise page.wrong("name", "one line with a letter or a digit in it")
    if page.values.get("backend", "model") not in BACKENDS:
        close = did_you_mean(page.values["backend"], BACKENDS).removeprefix("; ") or None
        raise page.wrong("backend", "one of " + ", ".join(BACKENDS), hint=close)


def _tools(page: _Page) -> tuple[str, ...] | None:
    """The tools that the file names: None for all, when it has no such key or says `*`."""
    if "tools" not in page.values:
        return None
    tools = _names(page.values["tools"] or [])
    if not tools and page.values["tools"] != []:
        page.notices.append("`tools` is empty, so the agent has none; leave the key out to give it all")
    return None if "*" in tools else tools


def _names(value: str | list[str]) -> tuple[str, ...]:
    """Names out of a list or a text; a comma in parentheses, as in `Agent(a, b)`, belongs to the name."""
    texts = [value] if isinstance(value, str) else value
    parts = [part.strip() for text in texts for part in re.findall(r"(?:[^,(]|\([^)]*\)?)+", text)]
    if isinstance(value, str) and len(parts) == 1 and "(" not in value:
        parts = parts[0].split()  # `Read Grep Glob`
    return tuple(dict.fromkeys(part for part in parts if part))


# YAML, as plain data.

_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)


def _plain(text: str) -> Any:
    """What an unquoted word of YAML stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still open. A mapping's keys and values stand in one row, in turns."""

    mapping: bool
    items: list[Any] = field(default_factory=list)

    def wants_key(self) -> bool:
        return self.mapping and len(self.items) % 2 == 0

    def value(self) -> list[Any] | dict[str, Any]:
        return dict(zip(self.items[::2], self.items[1::2], strict=True)) if self.mapping else self.items


def _data(text: str) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """The mapping that `text` is, the line (from 0) of each of its keys, and what is odd about it.

    Built from the parser's events: they come one by one, so a hostile file costs no more than its length, and it is
    about twice as fast as `yaml.load`. Raises YAMLError for a text that is no mapping of plain data.
    """
    import yaml

    top = _Frame(mapping=False)
    frames, lines, notices = [top], dict[str, int](), list[str]()
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        frame, line = frames[-1], event.start_mark.line if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent) and frame.wants_key():
            if len(frames) == 2 and lines.setdefault(event.value, line) != line:
                notices.append(f"key {event.value!r} stands twice; the last one counts")
                lines[event.value] = line
            frame.items.append(event.value)
        elif isinstance(event, yaml.ScalarEvent):
            _refuse(event, "a tag" if event.tag else None)
            frame.items.append(_plain(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            odd = "a tag" if event.tag else "a list or mapping as a key" if frame.wants_key() else None
            _refuse(event, odd if len(frames) < _DEEPEST else "nesting this deep")
            frames.append(_Frame(isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            frames.pop()
            frames[-1].items.append(frame.value())
        elif isinstance(event, yaml.AliasEvent):
            _refuse(event, "an alias")
    if len(top.items) == 1 and isinstance(top.items[0], dict):
        return top.items[0], lines, notices
    if top.items and top.items != [None]:
        raise yaml.YAMLError("not a list of `key: value` lines")
    return {}, lines, notices


def _refuse(event: Any, what: str | None) -> None:
    """Raise the parser's own kind of error for something that YAML knows and an agent file has no use for."""
    import yaml

    if what:
        raise yaml.MarkedYAMLError(problem=f"{what} is not read here", problem_mark=event.start_mark)


# The second reading.

_KEY_LINE: Final = re.compile(r"([A-Za-z][\w-]*)[ \t]*:(?:[ \t]+(.*))?$")
_BLOCK_MARK: Final = re.compile(r"\A[|>][-+0-9]{0,2}[ \t]*\n")


@dataclass(slots=True)
class _Piece:
    """A key line and the lines below it that belong to it. `line` counts from the start of the file."""

    key: str
    line: int
    rest: str
    rows: list[str]

    def value(self) -> Any:
        """The value as YAML has it. Raises YAMLError when it has none, or when other keys stand below."""
        import yaml

        values, _, _ = _data("\n".join(self.rows))
        if list(values) != [self.key]:
            raise yaml.YAMLError("lines below it look like keys")
        return values[self.key]

    def text(self) -> str:
        """The value as the text that stands there, without the marks that YAML would have taken away."""
        below = textwrap.dedent("\n".join(self.rows[1:]))
        text = _BLOCK_MARK.sub("", f"{self.rest}\n{below}".strip(), count=1).strip()
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
        return text[1:-1].strip() if quoted else text


def _read_pieces(page: _Page, head: str, first: int, whole: Exception) -> None:
    """Read a front matter that is no YAML: each piece as YAML of its own, or as text where a key holds text."""
    import yaml

    for piece in _pieces(page, head, first, whole):
        page.lines[piece.key] = piece.line
        try:
            page.values[piece.key] = piece.value()
        except yaml.YAMLError as error:
            kind = KEYS.get(piece.key, _TEXT)
            long = any(row.strip() for row in piece.rows[1:])
            if kind not in (_TEXT, _NAMES) or (long and piece.key in KEYS and piece.key not in _PROSE):
                raise _bad_yaml(page, first, whole) from None
            page.values[piece.key] = piece.text()
            page.notices.append(
                f"line {piece.line}: `{piece.key}` is no valid YAML ({_cause(error)}) and was read as plain text;"
                " put it in quotes"
            )


def _pieces(page: _Page, head: str, first: int, whole: Exception) -> list[_Piece]:
    """Cut the front matter at its key lines.

    A key that we know always begins a piece. Another word with a colon does not when it stands further down in a
    text of several lines: there it is part of an example, such as `user: ...`, that was not indented.
    """
    pieces: list[_Piece] = []
    for number, row in enumerate(head.split("\n"), first):
        match = _KEY_LINE.match(row)
        prose = bool(pieces) and pieces[-1].key in _PROSE and len(pieces[-1].rows) > 1
        if match and (match[1] in KEYS or not prose):
            pieces.append(_Piece(match[1], number, match[2] or "", [row]))
        elif pieces:
            pieces[-1].rows.append(row)
        elif row.strip() and not row.startswith("#"):
            raise _bad_yaml(page, first, whole)
    return pieces


def _bad_yaml(page: _Page, first: int, error: Exception) -> AgentFileError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    hint = "quote a value that has a colon, a quote mark or a bracket in it"
    line = mark.line + first if mark else first
    return page.error(f"the front matter is no valid YAML: {_cause(error)}", line=line, hint=hint)


def _cause(error: Exception) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)


# Which definition a name means.


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about an agent file that a person should know. `path` is None for an object of the run."""

    path: Path | None
    message: str

    def __str__(self) -> str:
        return f"{self.path or 'this run'}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Broken:
    """A file that has no usable definition, and the names by which one would ask for it."""

    source: Path
    error: AgentFileError
    names: tuple[str, ...]


_Entry: TypeAlias = AgentDefinition | _Broken


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The definitions that names can mean in one working directory, as they were when it was loaded."""

    entries: Mapping[str, _Entry] = field(repr=False)
    problems: tuple[Problem, ...]
    places: tuple[str, ...]

    @classmethod
    def load(cls, cwd: Path, home: Path | None = None, registered: Iterable[AgentDefinition] = ()) -> Catalogue:
        """Read every agent file that counts for `cwd`. `home` is the user's home directory unless it is given."""
        objects = list(registered)
        entries: dict[str, _Entry] = {}
        problems: list[Problem] = []
        places = ["this run"] if objects else []
        _shelve(objects, entries, problems)
        for label, folder, origin in _places(cwd.resolve(), _home(home)):
            places.append(label)
            found, troubles = _packaged() if folder == PACKAGED else _load_folder(folder, origin)
            problems += troubles
            _shelve(found, entries, problems)
        return cls(entries, tuple(problems), tuple(places))

    def get(self, name: str) -> AgentDefinition:
        """The definition that `name` means.

        Raises AgentNotFoundError when there is none, and the file's own AgentFileError when it is broken.
        """
        entry = self.entries.get(folded(name))
        if isinstance(entry, _Broken):
            raise AgentFileError(*entry.error.args, hint=entry.error.hint)
        if entry is None:
            raise self._not_found(name)
        return entry

    def broken(self) -> list[Path]:
        """The files that cannot be used and keep a name from meaning anything else."""
        return sorted({entry.source for entry in self.entries.values() if isinstance(entry, _Broken)})

    def __iter__(self) -> Iterator[AgentDefinition]:
        """The definitions that can be asked for, in the order of their names."""
        visible = [entry for entry in self.entries.values() if isinstance(entry, AgentDefinition)]
        return iter(sorted(visible, key=lambda definition: definition.name.casefold()))

    def _not_found(self, name: str) -> AgentNotFoundError:
        names = [definition.name for definition in self]
        close = did_you_mean(name, names).removeprefix("; ").replace("'", '"')
        listed = ", ".join(names[:_NAMES_LISTED]) or "no agent at all"
        more = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
        return AgentNotFoundError(
            f'agent "{name}" not found\n  searched: {", ".join(self.places)}\n  there are: {listed}{more}',
            hint=f"{close}     fanfold agents ls" if close else "fanfold agents ls",
        )


def _home(home: Path | None) -> Path | None:
    if home is not None:
        return home.resolve()
    try:
        return Path.home().resolve()
    except RuntimeError:  # a process without HOME and without an account has no files of its own
        return None


def _places(cwd: Path, home: Path | None) -> Iterator[tuple[str, Path, str]]:
    """Label, folder and origin of each place that is searched, nearest first."""
    for parent in (cwd, *cwd.parents):
        folder = parent / ".claude" / "agents"
        if parent != home and (parent == cwd or folder.is_dir()):
            yield ".claude/agents" if parent == cwd else str(folder), folder, "project"
    if home is not None:
        yield "~/.claude/agents", home / ".claude" / "agents", "user"
    yield "packaged", PACKAGED, "packaged"


def _shelve(found: Iterable[_Entry], entries: dict[str, _Entry], problems: list[Problem]) -> None:
    """Add what was found in one place; a name that is taken stays taken."""
    added: set[str] = set()
    for entry in sorted(found, key=lambda entry: isinstance(entry, _Broken)):
        for name in entry.names if isinstance(entry, _Broken) else (entry.name,):
            first = entries.setdefault(folded(name), entry)
            if first is entry:
                added.add(folded(name))
            elif isinstance(entry, AgentDefinition):
                why = "a duplicate of" if folded(name) in added else "shadowed by"
                problems.append(
                    Problem(entry.source, f"agent {name!r} is {why} {first.source or 'an object of this run'}")
                )


@cache
def _packaged() -> tuple[list[_Entry], list[Problem]]:
    """The agents that come with fanfold, which do not change while it runs."""
    return _load_folder(PACKAGED, "packaged")


def _load_folder(folder: Path, origin: str) -> tuple[list[_Entry], list[Problem]]:
    """Every file below a folder; what cannot be used is among the problems, too."""
    found: list[_Entry] = []
    problems: list[Problem] = []
    for path in _files(folder, problems):
        text = ""
        try:
            text = _text(path)
            definition = parse(text, path, origin=origin)
        except AgentFileError as error:
            named = re.search(r"^name[ \t]*:[ \t]*(.+)$", text, re.MULTILINE)
            names = (path.stem, named[1].strip().strip("\"'")) if named else (path.stem,)
            found.append(_Broken(path, error, tuple(name for name in names if folded(name))))
            problems.append(Problem(path, str(error).removeprefix(f"{path}:").strip()))
        else:
            found.append(definition)
            problems += [Problem(path, notice) for notice in definition.notices]
    return found, problems


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """The Markdown files below a folder, in the order of their paths; linked folders are named and not followed."""

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # most people have no such folder, and need none
            problems.append(Problem(Path(error.filename), f"cannot be listed: {error.strerror}"))

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for linked in (Path(here, name) for name in folders if Path(here, name).is_symlink()):
            problems.append(Problem(linked, "is a link to a folder, and is not followed"))
        yield from (Path(here, name) for name in sorted(names) if name.lower().endswith(".md"))


def _text(path: Path) -> str:
    """The text of an agent file. Raises AgentFileError for what is no readable UTF-8 text of a sensible size."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise AgentFileError(f"{path}: not a file")
        if status.st_size > _LARGEST_FILE:
            raise AgentFileError(f"{path}: {status.st_size} bytes; an agent file has {_LARGEST_FILE} at most")
        return path.read_bytes().decode()
    except OSError as error:
        raise AgentFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AgentFileError(f"{path}: not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error
