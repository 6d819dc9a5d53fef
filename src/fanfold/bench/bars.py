"""Which ratios we want, and how far away they are.

A bar is one line of a table: a claim, how it is found in what was measured, the least that we want, and what we hope
for. Nearly all are ratios within one run. Times stand by themselves only where sleeping makes up nearly all of them,
and sizes where nothing of the machine is in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fanfold.bench.rounds import Job, Table

Find: TypeAlias = Callable[[Table], float | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """One claim: it is met when what is found is at most `bar`, or with `more` at least that."""

    claim: str
    find: Find
    bar: float
    stretch: float
    unit: str = "x"
    more: bool = False

    def judged(self, table: Table) -> Judged:
        """Where it stands in what was measured."""
        each = [found for turn in table.by_round() if (found := self.find(turn)) is not None]
        return Judged(self, self.find(table), (min(each), max(each)) if each else None)


@dataclass(frozen=True, slots=True)
class Judged:
    """A bar, and what was found; None when something that it needs is absent.

    `spread` is the least and the most of single rounds: a verdict that some of them contradict is not to be relied on.
    """

    bar: Bar
    found: float | None
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether the bar was reached; what is absent has not reached it."""
        return self._reached(self.bar.bar)

    @property
    def steady(self) -> bool:
        """Whether each round by itself says the same of the bar."""
        return self.spread is None or self._within(self.spread[0]) == self._within(self.spread[1])

    @property
    def verdict(self) -> str:
        """In words: the stretch, met, or how many times too little or too much it is."""
        if self.found is None:
            return "absent"
        if self.met:
            reached = "stretch" if self._reached(self.bar.stretch) else "met"
            return reached if self.steady else f"{reached}, not in each round"
        small, large = sorted((self.found, self.bar.bar))
        return f"{large / small:.2f}x away" if small > 0 else "missed"

    def _reached(self, goal: float) -> bool:
        return self.found is not None and (self.found >= goal if self.bar.more else self.found <= goal)

    def _within(self, found: float) -> bool:
        return found >= self.bar.bar if self.bar.more else found <= self.bar.bar


def times(workload: str, n: int, *, of: str = "floor", engine: str = "fanfold", name: str = "us") -> Find:
    """How many times as much as the floor it takes."""
    return lambda table: table.ratio(workload, n, engine, of, name)


def faster(workload: str, n: int, *, than: str = "langgraph", name: str = "us") -> Find:
    """How many times as fast as another engine it is."""
    return lambda table: table.ratio(workload, n, than, "fanfold", name)


def plain(workload: str, n: int, name: str = "us", *, scale: float = 1.0) -> Find:
    """A figure of fanfold's by itself."""

    def find(table: Table) -> float | None:
        figure = table.figure(workload, n, "fanfold", name)
        return None if figure is None else figure * scale

    return find


def growth(workload: str, sizes: Sequence[int], engine: str = "fanfold") -> Find:
    """The exponent of the whole time over the size: 1 is linear, 2 quadratic. The slope of a line through all sizes."""

    def find(table: Table) -> float | None:
        figures = [table.figure(workload, n, engine) for n in sizes]
        points = [(math.log(n), math.log(us * n)) for n, us in zip(sizes, figures, strict=True) if us]
        return _slope(points) if len(points) == len(sizes) else None

    return find


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle_x, middle_y = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    rise = sum((x - middle_x) * (y - middle_y) for x, y in points)
    return rise / math.fsum((x - middle_x) ** 2 for x, _ in points)


def floor_bars(sizes: Sizes) -> tuple[Bar, ...]:
    """The bars that need no other engine."""
    return (
        Bar(f"fan-out of {sizes.fan:,}, a task: over gather", times("fanout", sizes.fan), 2.2, 1.5),
        Bar(f"Send of {sizes.fan:,}, a task: over gather", times("send", sizes.fan), 2.2, 1.5),
        Bar("fan-out, growth: exponent of time over N", growth("fanout", sizes.growing), 1.05, 1.0, ""),
        Bar("Send, growth: exponent of time over N", growth("send", sizes.growing), 1.05, 1.0, ""),
        Bar("a run of one node: over asyncio.run of one", times("one", 1), 1.8, 1.36),
        Bar(
            f"durable loop of {sizes.kept:,}, sync, SQLite, a step: over a bare commit",
            times("sqlite_sync", sizes.kept),
            1.5,
            1.25,
        ),
        Bar("10,000 agents asleep for 1 s: wall", plain("asleep", 10_000, "seconds"), 1.15, 1.10, "s"),
        Bar("10,000 agents asleep: memory an agent", plain("asleep", 10_000, "bytes", scale=1 / 1024), 4.0, 3.0, "KB"),
        Bar("the seed's run: over 2.000 s", plain("seed", 1, "ms"), 5.0, 2.0, "ms"),
        Bar("unequal branches: wall", plain("unequal", 1, "seconds"), 1.12, 1.105, "s"),
        Bar("four nodes that block the loop for 0.1 s each: named", plain("blocked", 4, "named"), 4, 4, "", more=True),
        Bar("timing a slice of an agent's code", plain("slices", 1), 1.0, 0.7, "us"),
        Bar("a watchdog for a run that only waits: of one core", plain("resting", 2, "percent"), 2.0, 1.0, "%"),
        Bar("events, timing and watchdog on: over off", plain("always_on", sizes.fan, "over"), 1.15, 1.1),
        Bar("the same with a receipt made: over off", plain("always_on", sizes.fan, "audited"), 1.3, 1.15),
        Bar(
            f"bytes stored a step, messages of 1 KB, {sizes.messages:,} steps",
            plain("sqlite_bytes", sizes.messages, "bytes", scale=1 / 1024),
            3.0,
            2.0,
            "KB",
        ),
        Bar(
            f"{sizes.files} agent files loaded: wall",
            plain("agent_files", sizes.files, scale=sizes.files / 1000),
            150.0,
            75.0,
            "ms",
        ),
        Bar(
            f"{sizes.files} agent files, a file: over the fastest loader of PyYAML",
            times("agent_files", sizes.files),
            4.0,
            2.5,
        ),
        Bar("import fanfold: over a bare interpreter", plain("imports", 1, "ms"), 60.0, 50.0, "ms"),
        Bar("packages that fanfold brings, itself among them", plain("imports", 1, "packages"), 8, 8, ""),
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the workloads are."""

    fan: int = 1000
    growing: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    steps: int = 3000
    kept: int = 300
    messages: int = 1000
    results: int = 20
    files: int = 200


QUICK: Final = Sizes(growing=(100, 1000, 5000), steps=300, kept=100, messages=250)


def floor_jobs(sizes: Sizes) -> tuple[Job, ...]:
    """What has to be measured for them."""
    ours = ("fanfold",)
    return (
        *(Job(name, n) for name in ("fanout", "send") for n in sizes.growing),
        Job("loop", sizes.steps),
        Job("one", 1),
        Job("sqlite_sync", sizes.kept),
        Job("asleep", 10_000),
        Job("seed", 1),
        Job("unequal", 1),
        Job("blocked", 4, ours),
        Job("slices", 1, ours),
        Job("resting", 2, ours),
        Job("always_on", sizes.fan, ours),
        Job("sqlite_bytes", sizes.messages, ours),
        Job("agent_files", sizes.files),
        Job("imports", 1),
    )
