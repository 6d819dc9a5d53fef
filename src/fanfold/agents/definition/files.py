"""Agent files on disk: which there are below a folder, and what came of reading each."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from fanfold.agents.definition.agent import AgentDefinition, folded
from fanfold.agents.definition.parsing import parse
from fanfold.errors import AgentFileError

_LARGEST_FILE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about an agent file that a person should know. `path` is None for an object of the run.

    `kind` is "unusable" (a file without a definition), "odd" (one that has it all the same), "duplicate" or "shadowed"
    (one whose name means another), or "skipped" (a folder that was not looked into).
    """

    path: Path | None
    message: str
    kind: str = "odd"

    def __str__(self) -> str:
        return f"{self.path or 'this run'}: {self.message}"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that has no usable definition, and the names by which one would ask for it."""

    source: Path
    error: AgentFileError
    names: tuple[str, ...]


Entry: TypeAlias = AgentDefinition | Broken


def load_folder(folder: Path, origin: str) -> tuple[list[Entry], list[Problem]]:
    """Every file below a folder; what cannot be used is among the problems, too."""
    found: list[Entry] = []
    problems: list[Problem] = []
    for path in _files(folder, problems):
        text = ""
        try:
            text = _text(path)
            definition = parse(text, path, origin=origin)
        except AgentFileError as error:
            named = re.search(r"^name[ \t]*:[ \t]*(.+)$", text, re.MULTILINE)
            names = (path.stem, named[1].strip().strip("\"'")) if named else (path.stem,)
            found.append(Broken(path, error, tuple(name for name in names if folded(name))))
            problems.append(Problem(path, str(error).removeprefix(f"{path}:").strip(), "unusable"))
        else:
            found.append(definition)
            problems += [Problem(path, notice) for notice in definition.notices]
    return found, problems


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """The Markdown files below a folder, in the order of their paths; linked folders are named and not followed."""

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # most people have no such folder, and need none
            problems.append(Problem(Path(error.filename), f"cannot be listed: {error.strerror}", "skipped"))

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for linked in (Path(here, name) for name in folders if Path(here, name).is_symlink()):
            problems.append(Problem(linked, "is a link to a folder, and is not followed", "skipped"))
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
