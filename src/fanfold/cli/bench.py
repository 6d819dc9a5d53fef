"""`fanfold bench`: what fanfold costs on this machine, beside bare asyncio and bare commits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fanfold.cli.common import json_option, print_json, say
from fanfold.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from fanfold.bench.bars import Judged
    from fanfold.bench.rounds import Table

SECONDS = 0.2
BUDGET = 40.0
"""Seconds after which no further round is begun; the first takes about half of that on a machine of our days."""


@click.command()
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How often each is measured, if that is a matter of less than a minute.",
)
@click.option("--full", is_flag=True, help="The sizes that the bars are about, and all rounds; takes minutes.")
@json_option
def bench(workloads: tuple[str, ...], rounds: int, full: bool, as_json: bool) -> None:
    """Measure what fanfold costs here, as ratios to doing the same without it. Takes less than a minute.

    WORKLOAD names what to measure, by default everything.
    """
    from rich.console import Console

    from fanfold.bench.bars import QUICK, Sizes, floor_bars, floor_jobs
    from fanfold.bench.rounds import measured

    sizes = Sizes() if full else QUICK
    budget = math.inf if full else BUDGET
    jobs = floor_jobs(sizes)
    known = {job.workload for job in jobs}
    for name in workloads:
        if name not in known:
            hint = f"there are: {', '.join(sorted(known))}"
            raise UsageError(f"there is no workload {name!r}{did_you_mean(name, known)}", hint=hint)
    chosen = [job for job in jobs if not workloads or job.workload in workloads]
    table = measured(chosen, rounds=rounds, seconds=SECONDS, budget=budget, tell=say)
    judged = [bar.judged(table) for bar in floor_bars(sizes)]
    judged = [each for each in judged if not workloads or each.found is not None]
    if as_json:
        for data in (*map(_bar, judged), *_figures(table)):
            print_json(data)
        return
    console = Console()
    console.print(_shown_figures(table))
    console.print(_shown_bars(judged))


def _bar(judged: Judged) -> Mapping[str, Any]:
    bar = judged.bar
    return {
        "claim": bar.claim,
        "found": judged.found,
        "spread": judged.spread,
        "unit": bar.unit,
        "bar": bar.bar,
        "stretch": bar.stretch,
        "met": judged.met,
        "verdict": judged.verdict,
    }


def _figures(table: Table) -> list[Mapping[str, Any]]:
    found = [
        {"workload": workload, "n": n, "engine": engine, **figures}
        for (workload, n, engine), figures in table.figures.items()
    ]
    absent = [
        {"workload": workload, "n": n, "engine": engine, "absent": reason}
        for (workload, n, engine), reason in table.absent.items()
    ]
    return [*found, *absent]


def _shown_figures(table: Table) -> Any:
    from rich import box
    from rich.table import Table as Shown

    shown = Shown("workload", box=box.SIMPLE_HEAD, title="microseconds a task")
    for title in ("N", "floor", "fanfold", "ratio"):
        shown.add_column(title, justify="right")
    for workload, n in dict.fromkeys((workload, n) for workload, n, _ in table.figures):
        floor, ours = (table.figure(workload, n, engine) for engine in ("floor", "fanfold"))
        if ours is not None:
            ratio = "" if floor is None else f"{ours / floor:.1f}x"
            shown.add_row(workload, f"{n:,}", "" if floor is None else f"{floor:,.1f}", f"{ours:,.1f}", ratio)
    return shown


def _shown_bars(bars: list[Judged]) -> Any:
    from rich import box
    from rich.table import Table as Shown

    shown = Shown("claim", box=box.SIMPLE_HEAD, title="bars")
    for title in ("found", "bar", "stretch"):
        shown.add_column(title, justify="right")
    shown.add_column("")
    for judged in bars:
        bar = judged.bar
        found = "-" if judged.found is None else f"{judged.found:.2f} {bar.unit}"
        sign = ">=" if bar.more else "<="
        shown.add_row(bar.claim, found, f"{sign} {bar.bar:g}", f"{sign} {bar.stretch:g}", judged.verdict)
    return shown
