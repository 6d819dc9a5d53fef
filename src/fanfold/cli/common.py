"""What several commands share: their options, the store, and how a sitting is shown and ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fanfold.cli.program import program
from fanfold.errors import UsageError

if TYPE_CHECKING:
    from fanfold.store.sql import SqlStore

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE: Final = "sqlite:///.fanfold/runs.db"


def store_option(function: F) -> F:
    """`--store URL`, else FANFOLD_STORE, else a file in the working directory."""
    text = f"Where runs are kept.  [env: FANFOLD_STORE; default: {DEFAULT_STORE}]"
    return click.option("--store", "store_url", metavar="URL", help=text)(function)


def json_option(function: F) -> F:
    """`--json`: data on standard output, a line an object; all else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(function)


def display_options(function: F) -> F:
    """`--plain` and `--quiet`: how a run is shown while it goes on."""
    function = click.option("--plain", is_flag=True, help="One line for each thing that happens, no live display.")(
        function
    )
    return click.option("--quiet", is_flag=True, help="Show nothing while it runs.")(function)


def input_options(function: F) -> F:
    """`-i KEY=VALUE`, as often as one likes, and `-f FILE`: the input of a graph."""
    text = "A key of the input; VALUE may be JSON."
    file = click.option(
        "-f", "--file", "input_file", type=click.Path(), metavar="FILE", help="The input as a JSON file."
    )
    return click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help=text)(file(function))


def open_named_store(url: str | None, *, make: bool = True) -> SqlStore:
    """The store of the option, of the environment, or of the working directory; unless `make`, one that is there."""
    from fanfold.store.opening import open_store

    return open_store(named_store(url), make=make)


def named_store(url: str | None) -> str:
    """What names the store: the option, else the environment, else a file in the working directory."""
    return url or os.environ.get("FANFOLD_STORE") or DEFAULT_STORE


def existing_folder(path: str, option: str = "--path") -> str:
    """The absolute path of a folder. Raises `UsageError`, which names the option, when there is none."""
    folder = Path(path)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"the folder {path!r} {what}", hint=f"give the path of a folder with {option}")
    return str(folder.resolve())


def check_writable(path: str) -> None:
    """Raise `UsageError` where a file could not be written, before the work whose result it is to hold."""
    file = Path(path)
    folder = file.parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"cannot write {path!r}: the folder {str(folder)!r} {what}", hint="name another with -o")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise UsageError(f"cannot write {path!r}: permission denied", hint="name another file with -o")


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output holds only what was asked for."""
    print(text, file=sys.stderr)


def print_json(value: Mapping[str, Any]) -> None:
    """One object on one line of standard output."""
    print(json.dumps(value, default=str, ensure_ascii=False), flush=True)


def short(run_id: str) -> str:
    """As much of a run's id as people need to type."""
    return run_id[:8]


def suggested(*words: str) -> str:
    """A command of ours as it can be typed here."""
    return " ".join([program(), *words])


def further(run_id: str) -> str:
    """The line that says how to look at a run again."""
    run = short(run_id)
    return f"look further:  {suggested('runs', 'show', run)}    {suggested('audit', run)}"


def counted(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def ago(then: float, now: float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0, int(now - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
