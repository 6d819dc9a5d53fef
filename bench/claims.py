"""What `make bench` measures: which workload, how large, done by whom.

The sizes are those that the bars are about. With `--quick` all are small, and what comes of it says nothing but that
everything runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.engines import ENGINES
from bench.saver import CONDITIONS
from fanfold.bench.bars import Sizes, floor_jobs
from fanfold.bench.graphs import MODES
from fanfold.bench.rounds import Job

LARGEST: Final = {"llamaindex": 100, "adk": 1000}
"""Tasks of one run; beyond that these take minutes, since what they need a task grows with the number of tasks."""

SMALL: Final = Sizes(fan=100, growing=(10, 100, 1000), steps=100, kept=30, messages=50, results=1)
PAIR: Final = ("fanfold", "langgraph")
DURABILITIES: Final = ("sync", "async", "exit")
SLEEPERS: Final = (10_000, 100_000)


def jobs(sizes: Sizes, *, small: bool) -> list[Job]:
    """Everything, in the order in which it is shown."""
    return list(_merged([*_by_all(sizes), *_by_two(sizes), *_durable(sizes), *floor_jobs(sizes)], small))


def _by_all(sizes: Sizes) -> Iterable[Job]:
    """What every engine is asked for."""
    for name in ("fanout", "send"):
        for n in sorted({10, *sizes.growing}):
            yield Job(name, n, ENGINES if n <= 10_000 else ("floor", "fanfold"))
    for n in (sizes.fan,):
        yield Job("chain", n, ENGINES)
    for n in sorted({100, sizes.fan, sizes.steps}):
        yield Job("loop", n, ENGINES)
    yield Job("unequal", 1, ENGINES)
    yield Job("asleep", SLEEPERS[0], ENGINES)
    yield Job("asleep", SLEEPERS[1], ("floor", "fanfold"))


def _by_two(sizes: Sizes) -> Iterable[Job]:
    """What only makes sense for engines that have a state with keys."""
    tenth = sizes.fan // 10
    yield Job("fanout_blocking", tenth, ("floor", *PAIR))
    yield Job("one", 1, ("floor", *PAIR))
    yield Job("imports", 1, ENGINES)
    for name, n in (("subgraphs", tenth), ("react", tenth), ("wide", 15), ("wide", tenth), ("messages", tenth)):
        yield Job(name, n, PAIR)
    yield Job("messages", sizes.messages, PAIR)
    for mode in MODES:
        yield Job(f"stream_{mode}", sizes.fan, PAIR)


def _durable(sizes: Sizes) -> Iterable[Job]:
    """What is stored."""
    for database in ("sqlite", "postgres"):
        for durability in DURABILITIES:
            engines = ("floor", *PAIR) if durability == "sync" else PAIR
            yield Job(f"{database}_{durability}", sizes.kept, engines)
        yield Job(f"{database}_fanout", sizes.fan // 10, PAIR)
    yield Job("postgres_32", sizes.kept // 10, ("floor", *PAIR))
    for n in (sizes.messages // 4, sizes.messages):
        yield Job("sqlite_bytes", n, PAIR)
    for name in ("results_64", "saver_64"):
        for condition in CONDITIONS:
            yield Job(f"{name}{condition}", sizes.results, PAIR)


def _merged(jobs: Iterable[Job], small: bool) -> Iterable[Job]:
    """Each workload and size once, by whoever does it in any of them, without who would take minutes."""
    engines: dict[tuple[str, int], dict[str, None]] = {}
    for job in jobs:
        n = 1000 if small and job.workload == "asleep" and job.n == SLEEPERS[1] else job.n
        engines.setdefault((job.workload, n), {}).update(dict.fromkeys(job.engines))
    for (workload, n), named in engines.items():
        yield Job(workload, n, tuple(named))


def beyond(job: Job, engine: str) -> str:
    """Why an engine is not asked for a job, if it is not."""
    most = LARGEST.get(engine)
    if most is not None and job.workload in ("fanout", "send", "chain", "loop", "asleep") and job.n > most:
        return f"not asked: beyond {most:,} tasks it takes minutes"
    return ""
