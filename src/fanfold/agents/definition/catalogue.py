"""Which definition a name means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from fanfold.agents.definition.agent import AgentDefinition, folded
from fanfold.agents.definition.files import Broken, Entry, Problem, load_folder
from fanfold.errors import AgentFileError, AgentNotFoundError, UsageError, did_you_mean

PACKAGED: Final = Path(__file__).parents[1] / "packaged"

_NAMES_LISTED: Final = 12


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The definitions that names can mean in one working directory, as they were when it was loaded."""

    entries: Mapping[str, Entry] = field(repr=False)
    problems: tuple[Problem, ...]
    places: tuple[str, ...]

    @classmethod
    def load(cls, cwd: Path, home: Path | None = None, registered: Iterable[AgentDefinition] = ()) -> Catalogue:
        """Read every agent file that counts for `cwd`. `home` is the user's home directory unless it is given."""
        objects = list(registered)
        entries: dict[str, Entry] = {}
        problems: list[Problem] = []
        places = ["this run"] if objects else []
        _shelve(objects, entries, problems)
        for label, folder, origin in _places(cwd.resolve(), _home(home)):
            places.append(label)
            found, troubles = _packaged() if folder == PACKAGED else load_folder(folder, origin)
            problems += troubles
            _shelve(found, entries, problems)
        return cls(entries, tuple(problems), tuple(places))

    @classmethod
    def below(cls, folder: Path) -> Catalogue:
        """Every agent file below one folder, wherever it lies, and no other. Raises `UsageError` for no folder."""
        if not folder.is_dir():
            raise UsageError(f"there is no folder {str(folder)!r} with agent files in it")
        entries: dict[str, Entry] = {}
        found, problems = load_folder(folder.resolve(), "run")
        _shelve(found, entries, problems)
        return cls(entries, tuple(problems), (str(folder),))

    def get(self, name: str) -> AgentDefinition:
        """The definition that `name` means.

        Raises AgentNotFoundError when there is none, and the file's own AgentFileError when it is broken.
        """
        entry = self.entries.get(folded(name))
        if isinstance(entry, Broken):
            raise _again(entry.error)
        if entry is None:
            raise self._not_found(name)
        return entry

    def broken(self) -> list[Path]:
        """The files that cannot be used and keep a name from meaning anything else."""
        return sorted({entry.source for entry in self.entries.values() if isinstance(entry, Broken)})

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


def agents_in(folder: str | Path) -> list[AgentDefinition]:
    """The definitions of the agent files below a folder, in the order of their names, for `invoke(agents=...)`.

    Of two with one name the first path counts. Raises `AgentFileError` for a file that cannot be used.
    """
    catalogue = Catalogue.below(Path(folder))
    for entry in catalogue.entries.values():
        if isinstance(entry, Broken):
            raise _again(entry.error)
    return list(catalogue)


def _again(error: AgentFileError) -> AgentFileError:
    """The error once more: one that is raised twice would collect both tracebacks."""
    return AgentFileError(*error.args, hint=error.hint)


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


def _shelve(found: Iterable[Entry], entries: dict[str, Entry], problems: list[Problem]) -> None:
    """Add what was found in one place; a name that is taken stays taken."""
    added: set[str] = set()
    for entry in sorted(found, key=lambda entry: isinstance(entry, Broken)):
        for name in entry.names if isinstance(entry, Broken) else (entry.name,):
            first = entries.setdefault(folded(name), entry)
            if first is entry:
                added.add(folded(name))
            elif isinstance(entry, AgentDefinition):
                kind, why = ("duplicate", "a duplicate of") if folded(name) in added else ("shadowed", "shadowed by")
                other = first.source or "an object of this run"
                problems.append(Problem(entry.source, f"agent {name!r} is {why} {other}", kind))


@cache
def _packaged() -> tuple[list[Entry], list[Problem]]:
    """The agents that come with fanfold, which do not change while it runs."""
    return load_folder(PACKAGED, "packaged")
