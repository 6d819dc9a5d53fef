"""`fanfold audit`: whether a run was parallel, and what kept it from it; a gate for CI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import click

from fanfold.cli import GATE
from fanfold.cli.common import (
    F,
    existing_folder,
    input_options,
    json_option,
    open_named_store,
    print_json,
    say,
    store_option,
)
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.loading import absolute, agents_beside, load_graph
from fanfold.cli.models import chosen, model_options
from fanfold.cli.run import input_of
from fanfold.cli.sitting import Sitting, whole_receipt
from fanfold.errors import UsageError
from fanfold.limits import Limits
from fanfold.live import clean
from fanfold.receipt import Receipt, TaskLife, Thresholds
from fanfold.receipt.values import WORKING
from fanfold.store.base import Store

MOST_TASKS: Final = 40
"""Tasks of which the account is printed; those that waited longest, where there are more."""

_LINES: Final = {
    "parallel": "The gain from which on it is PARALLEL.",
    "sequential": "The gain up to which it is SEQUENTIAL.",
    "worthwhile": "The part of the work that must be able to overlap, else there is NOTHING TO OVERLAP.",
    "telling": "The part of the wall time from which on something is a cause.",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run has to come up to; None is no demand."""

    concurrency: int | None
    speedup: float | None
    blocked_ms: float | None

    def __post_init__(self) -> None:
        for option, value in (("--min-speedup", self.speedup), ("--max-blocked-ms", self.blocked_ms)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{option} is {value}; it is a number such as 2 or 1.5")

    def missed(self, told: Receipt) -> Iterator[str]:
        """In words, what the run does not come up to."""
        if self.concurrency is not None and told.steady < self.concurrency:
            yield f"at most {told.steady} tasks ran at once; {self.concurrency} were asked for"
        if self.speedup is not None and told.speedup < self.speedup:
            yield f"it was {told.speedup:.2f}x as fast as one by one; {self.speedup:g}x were asked for"
        if self.blocked_ms is not None and told.blocked * 1000 > self.blocked_ms:
            yield f"the event loop was blocked for {told.blocked * 1000:.0f} ms; {self.blocked_ms:g} ms were allowed"


def _threshold_options(function: F) -> F:
    """An option for each line of a verdict that can be moved."""
    usual = {field.name: field.default for field in fields(Thresholds)}
    for name, text in reversed(_LINES.items()):
        option = click.option(f"--{name}", type=float, default=usual[name], show_default=True, metavar="X", help=text)
        function = option(function)
    return function


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--module", "graph", metavar="GRAPH", help="Run this graph and judge that: module:attr or file.py:attr.")
@input_options
@click.option("--workspace", metavar="DIR", help="The folder that agents see.  [default: this one]")
@model_options
@limit_options
@click.option("--min-concurrency", type=click.IntRange(1), metavar="N", help="Fail unless N tasks ran at once.")
@click.option("--min-speedup", type=float, metavar="X", help="Fail unless it was X times as fast as one by one.")
@click.option("--max-blocked-ms", type=float, metavar="N", help="Fail when the event loop was blocked for longer.")
@click.option(
    "--journal", type=click.Path(), metavar="FILE", help="The journal of a model server, as a second witness."
)
@_threshold_options
@store_option
@json_option
def audit(
    run_id: str | None,
    graph: str | None,
    pairs: tuple[str, ...],
    input_file: str | None,
    workspace: str | None,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    min_concurrency: int | None,
    min_speedup: float | None,
    max_blocked_ms: float | None,
    journal: str | None,
    store_url: str | None,
    as_json: bool,
    **lines: float,
) -> None:
    """Print the receipt of RUN, or of a run of the graph that --module names; with a gate that it does not pass, exit
    with 4.

    RUN may still be going on: it is judged until the newest thing that happened.
    """
    if (run_id is None) == (graph is None):
        raise UsageError("audit takes a run, or a graph with --module", hint="list the runs: fanfold runs ls")
    gate = Gate(min_concurrency, min_speedup, max_blocked_ms)
    how = {"thresholds": Thresholds(**lines), "journal": _journal(journal)}
    with open_named_store(store_url) as store:
        if graph is not None:
            answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
            folder = existing_folder(workspace, "--workspace") if workspace else None
            settings = {"graph": absolute(graph), **answering.settings, "workspace": folder, "limits": held}
            run_id = _run(store, graph, settings, lambda compiled: input_of(compiled, pairs, input_file))
        told = whole_receipt(store, store.run(str(run_id)).run_id, **how)
    _tell(told, as_json)
    missed = list(gate.missed(told))
    for text in missed:
        say(f"gate: {text}")
    if missed:
        click.get_current_context().exit(GATE)


def _journal(path: str | None) -> list[Any]:
    if path is None:
        return []
    from fanfold.agents.modelserver.journal import read_journal

    try:
        return list(read_journal(Path(path)))
    except OSError as error:
        raise UsageError(f"cannot read the journal {path!r}: {error.strerror}") from error


def _run(store: Store, graph: str, settings: dict[str, Any], given: Callable[[Any], Any]) -> str:
    """Run a graph for its receipt; the run's id."""
    compiled = load_graph(graph, store)
    sitting = Sitting(compiled, settings, quiet=True)
    options = {key: settings[key] for key in ("model", "models", "workspace")}
    held = settings["limits"]
    sitting.invoke(given(compiled), agents=agents_beside(graph), limits=Limits(**held) if held else None, **options)
    return sitting.run_id


def _tell(told: Receipt, as_json: bool) -> None:
    if as_json:
        print_json(told.to_dict())
        return
    names = {life.task: life.name for life in told.tasks}
    shown = _worst(told.tasks)
    for life in shown:
        print(clean(f"{'  ' if life.parent else ''}{life.name}: {life.lived:.3f} s = {life.account(names)}"))
    if len(shown) < len(told.tasks):
        print(f"and {len(told.tasks) - len(shown):,} tasks that waited less")
    for line in told.lines():
        print(clean(line))


def _worst(tasks: tuple[TaskLife, ...]) -> list[TaskLife]:
    """The tasks whose account is told, in the order in which they could run."""
    waited = sorted(tasks, key=lambda life: life.parts.get(WORKING, 0.0) - life.lived)
    chosen = {life.task for life in waited[:MOST_TASKS]}
    return [life for life in tasks if life.task in chosen]
