"""What a team of agents came to, as a report for people and as JSON: where it is written, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from fanfold.cli.common import check_writable, further, print_json, say
from fanfold.cli.sitting import Sitting

F = TypeVar("F", bound=Callable[..., Any])


class Report(Protocol):
    """What a team came to."""

    def json(self) -> dict[str, Any]:
        """All of it."""

    def markdown(self) -> str:
        """What people read."""


def report_options(function: F) -> F:
    """`-o FILE` and `--export FILE`: where the report goes, and all that it was made of."""
    file = click.Path(dir_okay=False)
    export = click.option("--export", type=file, metavar="FILE", help="Write everything as JSON to a file.")
    output = click.option("-o", "--output", type=file, metavar="FILE", help="Write the report to a file.")
    return output(export(function))


def check_files(*paths: str | None) -> None:
    """Raise `UsageError` where one of those that were named could not be written."""
    for path in filter(None, paths):
        check_writable(path)


def show(sitting: Sitting, report: Report, output: str | None, export: str | None, as_json: bool) -> None:
    """Write the files that were named; print the report that no file has, and the receipt, or everything as JSON."""
    if export:
        Path(export).write_text(json.dumps(report.json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        say(f"everything written to {export}")
    if output:
        Path(output).write_text(report.markdown(), encoding="utf-8")
        say(f"report written to {output}")
    if as_json:
        print_json({"run_id": sitting.run_id, **report.json()})
        return
    if not output:
        print(report.markdown())
    for notice in sitting.notices:
        say(f"note: {notice}")
    for line in (*sitting.receipt.lines(), further(sitting.run_id)):
        print(line)
