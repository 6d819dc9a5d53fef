"""How the command was called, so that whatever it suggests can be typed as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection
from pathlib import Path


def program() -> str:
    """The word for this command here: its name where that finds it, else its path, or `python -m fanfold`."""
    given = Path(sys.argv[0])
    if given.name == "__main__.py":
        return "python -m fanfold"
    found = shutil.which(given.name)
    if found and given.exists() and os.path.samefile(found, given):
        return given.name
    return shlex.quote(_from_here(given))


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)


def as_called(text: str, commands: Collection[str]) -> str:
    """`text`, in which `fanfold COMMAND` is written the way the command was called. The floors below cannot know it."""
    named = rf"(^|: | {{2,}})fanfold (?=(?:{'|'.join(commands)}|--help)\b)"
    return re.sub(named, lambda match: f"{match[1]}{program()} ", text, flags=re.MULTILINE)
