"""Processes that take turns, and the medians of what they found.

Each round does everything once, and the engines of a workload one right after the other, so that whatever else the
machine does meets them all. An
engine that cannot do a workload is kept as absent, with its reason, and is not asked again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

PATIENCE: Final = 180.0
"""Seconds after which a measurement is given up."""

QUIET: Final = {"BURR_TELEMETRY_ENABLED": "false", "LANGSMITH_TRACING": "false", "PYTHONWARNINGS": "ignore"}


Key: TypeAlias = tuple[str, int, str]
"""A workload, its size, and who did it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A workload of one size, and the engines that are to do it."""

    workload: str
    n: int
    engines: tuple[str, ...] = ("floor", "fanfold")


@dataclass(slots=True)
class Table:
    """Figures by workload, size, engine and name, as medians and by rounds; and why some are absent."""

    figures: dict[Key, dict[str, float]] = field(default_factory=dict)
    absent: dict[Key, str] = field(default_factory=dict)
    rounds: dict[Key, list[dict[str, float]]] = field(default_factory=dict)

    def by_round(self) -> list[Table]:
        """Each round by itself; one that does not have everything lacks it."""
        most = max(map(len, self.rounds.values()), default=0)
        return [
            Table({key: each[turn] for key, each in self.rounds.items() if turn < len(each) and key in self.figures})
            for turn in range(most)
        ]

    def figure(self, workload: str, n: int, engine: str, name: str = "us") -> float | None:
        """A median; None where it is absent."""
        return self.figures.get((workload, n, engine), {}).get(name)

    def ratio(self, workload: str, n: int, over: str, under: str, name: str = "us") -> float | None:
        """How many times as much `over` takes as `under`; None where one of them is absent."""
        more, less = self.figure(workload, n, over, name), self.figure(workload, n, under, name)
        return None if more is None or not less else more / less


Tell: TypeAlias = Callable[[str], object]
Start: TypeAlias = Callable[[Job, str, float], Mapping[str, Any]]
"""Measures a job with an engine once: its figures, or why there are none, under "absent"."""


def measured(
    jobs: Sequence[Job],
    *,
    rounds: int,
    seconds: float,
    start: Start | None = None,
    budget: float = math.inf,
    tell: Tell = lambda _: None,
    excused: Callable[[Job, str], str] = lambda *_: "",
) -> Table:
    """The medians of so many rounds, or of as many as could begin within `budget` seconds, but of one at the least.

    Ctrl-C ends it with what has been measured by then.

    `start` measures once, by default in a process of `fanfold.bench`, and is told for how many `seconds` to repeat the
    work. An engine is `excused` from a job by a reason.
    """
    start = start or started("fanfold.bench")
    table = Table(
        absent={(job.workload, job.n, each): why for job in jobs for each in job.engines if (why := excused(job, each))}
    )
    found: dict[Key, list[dict[str, float]]] = {}
    end = time.monotonic() + budget
    with contextlib.suppress(KeyboardInterrupt):  # who has seen enough is told what there is
        for turn, job in itertools.product(range(rounds), jobs):
            if turn and time.monotonic() >= end:
                break
            tell(f"round {turn + 1} of {rounds}: {job.workload} of {job.n:,}")
            for engine in job.engines:
                if (job.workload, job.n, engine) not in table.absent:
                    _keep(table, found, job, engine, start(job, engine, seconds))
    table.figures.update({key: _medians(each) for key, each in found.items()})
    table.rounds.update(found)
    for job in jobs:
        _compare(table, job)
    return table


def _keep(
    table: Table, found: dict[Key, list[dict[str, float]]], job: Job, engine: str, told: Mapping[str, Any]
) -> None:
    key = (job.workload, job.n, engine)
    if "absent" in told:
        table.absent[key] = told["absent"]
        found.pop(key, None)
    else:
        found.setdefault(key, []).append(dict(told))


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _compare(table: Table, job: Job) -> None:
    """Who did another number of tasks than the first engine did is not compared with it."""
    first = next((each for each in job.engines if (job.workload, job.n, each) in table.figures), None)
    if first is None:
        return
    wanted = table.figures[job.workload, job.n, first]["tasks"]
    for engine in job.engines:
        did = table.figure(job.workload, job.n, engine, "tasks")
        if did is not None and did != wanted:
            del table.figures[job.workload, job.n, engine]
            table.absent[job.workload, job.n, engine] = f"did {did:,.0f} tasks, {first} did {wanted:,.0f}"


def started(module: str) -> Start:
    """Measures in a process of its own: `python -m module WORKLOAD ENGINE N SECONDS`, which prints a line of JSON."""

    def start(job: Job, engine: str, seconds: float) -> dict[str, Any]:
        words = [sys.executable, "-m", module, job.workload, engine, str(job.n), str(seconds)]
        env = {**os.environ, **QUIET}
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=env, check=False)
        except subprocess.TimeoutExpired:
            return {"absent": f"was not done after {PATIENCE:.0f} s"}
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not lines:
            return {"absent": f"failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1][:200]}"}
        told: dict[str, Any] = json.loads(lines[-1])
        return told

    return start
