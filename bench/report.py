"""What was measured, for people and for programs: a table on the terminal, JSON, and the page in `docs/`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from bench.engines import ENGINES
from fanfold.bench.bars import Judged
from fanfold.bench.rounds import Table

RESULTS: Final = Path(__file__).parent / "results"
PAGE: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"

PACKAGES: Final = {
    "langgraph": ("LangGraph", "langgraph"),
    "agent_framework": ("Agent Framework", "agent-framework-core"),
    "burr": ("Burr", "burr"),
    "pydantic_graph": ("pydantic-graph", "pydantic-graph"),
    "adk": ("Google ADK", "google-adk"),
    "llamaindex": ("LlamaIndex workflows", "llama-index-workflows"),
}

FIGURES: Final = {
    "us": "us a task",
    "seconds": "s",
    "bytes": "bytes",
    "ms": "ms",
    "p50": "p50, ms",
    "named": "",
    "packages": "",
    "over": "on, x off",
    "audited": "on with a receipt, x off",
}

INTRO: Final = """# Benchmarks

This page is written by `make bench`, which installs the other engines, pinned in `bench/peers.txt`, into an environment
of its own, runs everything, and replaces this file. `fanfold bench` measures the part that needs no other engine, in
less than a minute.

What is compared does the same work, each engine in a process of its own, one right after the other, over and over;
figures are medians over the rounds, and most bars are ratios within one run. Ratios move, too, most of all those to a
commit: where others use the disk, everything waits for it alike, and what an engine adds hardly shows. On a quiet
machine such a ratio is several times as high. Everything that a run of fanfold does is on: events, limits, copies of
the state for each node, and where something is stored, a lease and the order of what was written. Graphs of LangGraph
and of fanfold are the same code; those of the others are written as their documentation shows, in `bench/engines/`. A
graph is built before the clock starts, but for Burr, whose applications run once; the nodes that begin and join a fan-
out, where an engine needs some, are not counted as tasks.
"""


def shown(table: Table, judged: Sequence[Judged]) -> None:
    """Everything on the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    wide = Console()
    console = wide if wide.is_terminal else Console(width=160)
    console.print(Markdown("\n\n".join([_figures(table), _bars(judged)])))
    missed = [each.bar.claim for each in judged if not each.met]
    print(f"bars missed: {len(missed)} of {len(judged)}" if missed else "all bars met")


def results(table: Table, judged: Sequence[Judged], rounds: int) -> None:
    """A file for each workload, and one for the bars."""
    RESULTS.mkdir(exist_ok=True)
    for workload in dict.fromkeys(workload for workload, _, _ in [*table.figures, *table.absent]):
        sizes: dict[int, dict[str, Any]] = {}
        for (name, n, engine), figures in table.figures.items():
            if name == workload:
                sizes.setdefault(n, {})[engine] = {**figures, "rounds": table.rounds.get((name, n, engine), [])}
        for (name, n, engine), reason in table.absent.items():
            if name == workload:
                sizes.setdefault(n, {})[engine] = {"absent": reason}
        _write(workload, {"workload": workload, "rounds": rounds, "machine": machine(), "sizes": sizes})
    _write("bars", {"rounds": rounds, "machine": machine(), "bars": [_plain(each) for each in judged]})


def _write(name: str, data: Mapping[str, Any]) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")


def _plain(judged: Judged) -> dict[str, Any]:
    bar = judged.bar
    goal = {"bar": bar.bar, "stretch": bar.stretch, "unit": bar.unit, "more_is_better": bar.more}
    return {
        "claim": bar.claim,
        "found": judged.found,
        "spread": judged.spread,
        **goal,
        "met": judged.met,
        "verdict": judged.verdict,
    }


def machine() -> dict[str, Any]:
    """What kind of machine it was, as far as it matters: nothing that tells whose."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"python": platform.python_version(), "system": platform.system(), "cores": cores}


def page(table: Table, judged: Sequence[Judged], rounds: int) -> str:
    """The page of the documentation."""
    where = machine()
    kind = f"{where['cores']} cores, {where['system']}, Python {where['python']}"
    said = f"The machine of these figures had {kind}, and others worked on it; medians of {rounds} rounds.\n"
    parts = [INTRO, said, "## The bars\n", _bars(judged), "\n## The figures\n", _figures(table)]
    return "\n".join([*parts, "\n## What is absent, and why\n", _absent(table), "\n## Versions\n", _versions(), ""])


def _bars(judged: Sequence[Judged]) -> str:
    rows = ["| claim | found | by round | bar | stretch | |", "|---|--:|--:|--:|--:|---|"]
    for each in judged:
        bar, sign = each.bar, ">=" if each.bar.more else "<="
        found = "-" if each.found is None else f"{each.found:,.2f} {bar.unit}".strip()
        spread = "" if each.spread is None else "{:,.2f} to {:,.2f}".format(*each.spread)
        rows.append(
            f"| {bar.claim} | {found} | {spread} | {sign} {bar.bar:g} | {sign} {bar.stretch:g} | {each.verdict} |"
        )
    return "\n".join(rows)


def _figures(table: Table) -> str:
    engines = [engine for engine in ENGINES if any(engine == each for _, _, each in table.figures)]
    rows = [f"| workload | N | figure | {' | '.join(engines)} |", f"|---|--:|---|{'--:|' * len(engines)}"]
    for workload, n in dict.fromkeys((workload, n) for workload, n, _ in [*table.figures, *table.absent]):
        for figure, unit in FIGURES.items():
            cells = [_cell(table.figure(workload, n, engine, figure)) for engine in engines]
            if any(cells):
                rows.append(f"| {workload} | {n:,} | {unit or figure} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _absent(table: Table) -> str:
    """The reasons, each once, with what it is the reason for."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for (workload, n, engine), reason in table.absent.items():
        reasons.setdefault((engine, reason), {})[f"{workload} of {n:,}"] = None
    return "\n".join(f"- {engine} {reason}: {', '.join(what)}" for (engine, reason), what in reasons.items())


def _versions() -> str:
    return "\n".join(f"- {title} {_version(package)}" for title, package in PACKAGES.values())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
