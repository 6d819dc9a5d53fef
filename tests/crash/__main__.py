"""`make crash`: the long form, on both databases, as a table. Ends with 1 when anything is wrong.

::

    python -m tests.crash --kills 1000 --seed 7 --seconds 60
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from fanfold.store.cluster import Cluster
from tests.crash import counters, mutants
from tests.crash.harness import Campaign, Tally, caught
from tests.crash.moments import Moments

TABLE = (
    "database", "threads", "kills", "frozen", "taken over", "acknowledged", "lost", "repeated", "stale refused",
    "stale visible", "last group", "most", "seconds",
)  # fmt: skip


RUNS = (("sync", "remembers"), ("async", "remembers"), ("exit", "plain"), ("exit", "pauses"), ("exit", "remembers"))
"""The durability of what ends at each moment, and the graph inside of it."""


def main(arguments: Sequence[str]) -> int:
    """Run everything that was asked for; the exit code."""
    options = _parser().parse_args(arguments)
    print(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="fanfold-crash-"))
    with _places(folder) as places:
        wrong = _campaigns(options, folder, places)
        wrong += _moments(folder, places)
        wrong += _counters(options, folder, places)
        wrong += _mutants(options, folder, places)
    for each in wrong:
        print(f"WRONG {each}")
    if wrong:
        print(f"{len(wrong)} things are wrong; repeat with --seed {options.seed}; the logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    print("nothing is wrong")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="for each database (default 1000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of counting on each database (default 60)")
    parser.add_argument("--seed", default="long", help="what befalls whom is drawn from it (default 'long')")
    parser.add_argument("--lanes", type=int, default=6, help="threads at a time (default 6)")
    return parser


@contextmanager
def _places(folder: Path) -> Iterator[Callable[[str], dict[str, str]]]:
    """Makes a place in each database, empty and of the given name."""
    with tempfile.TemporaryDirectory(prefix="fanfold-crash-") as data, Cluster(data) as cluster:

        def places(name: str) -> dict[str, str]:
            (folder / name).mkdir()
            with psycopg.connect(cluster.url(), autocommit=True) as server:
                server.execute(f"create schema {name}")
            schema = f"{cluster.url()}&options=-csearch_path%3D{name}"
            return {"SQLite": str(folder / name), "PostgreSQL": schema}

        yield places


def _campaigns(options: argparse.Namespace, folder: Path, places: Callable[[str], dict[str, str]]) -> list[str]:
    print("  ".join(TABLE))
    wrong = []
    for name, place in places("kills").items():
        began = time.monotonic()
        tally = Campaign(place, folder, f"{options.seed}-{name}", options.kills, lanes=options.lanes).run()
        print(_row(name, tally, time.monotonic() - began), flush=True)
        wrong += tally.wrong
    return wrong


def _row(name: str, tally: Tally, seconds: float) -> str:
    told = (
        name, tally.threads, tally.kills, tally.frozen, tally.taken, tally.acknowledged, tally.lost, tally.repeated,
        tally.refused, tally.stale_visible, tally.last_group, tally.most, round(seconds),
    )  # fmt: skip
    return "  ".join(f"{value!s:>{len(title)}}" for title, value in zip(TABLE, told, strict=True))


def _moments(folder: Path, places: Callable[[str], dict[str, str]]) -> list[str]:
    wrong = []
    for durability, inside in RUNS:
        for name, place in places(f"moments_{durability}_{inside}").items():
            file = place if place.startswith("postgresql:") else f"{place}/runs.db"
            logs = folder / f"{name} {durability} {inside}"
            logs.mkdir()
            found = Moments(file, logs, durability, inside, 1).found()
            print(
                f"{name}: {durability}: a worker ended at each of {found.moments} moments of a run;"
                f" {len(found.wrong)} things are wrong",
                flush=True,
            )
            wrong += [f"{name}: {durability}: {each}" for each in found.wrong]
    return wrong


def _counters(options: argparse.Namespace, folder: Path, places: Callable[[str], dict[str, str]]) -> list[str]:
    wrong = []
    for name, place in places("counters").items():
        file = place if place.startswith("postgresql:") else f"{place}/counters.db"
        found = counters.counted(file, folder, f"{options.seed}-counters-{name}", options.seconds)
        print(
            f"{name}: {counters.PROCESSES} processes, {counters.THREADS} threads, {options.seconds:g} s:"
            f" {found.runs} runs were told that they had added {found.added}; {len(found.wrong)} things are wrong",
            flush=True,
        )
        wrong += found.wrong
    return wrong


def _mutants(options: argparse.Namespace, folder: Path, places: Callable[[str], dict[str, str]]) -> list[str]:
    wrong = []
    for number, (mutant, (_, sign)) in enumerate(mutants.MUTANTS.items()):
        for name, place in places(f"mutant{number}").items():
            seed = f"{options.seed}-mutant{number}-{name}"
            tally = caught(place, folder, seed, mutant)
            found = any(f": {sign}: " in each for each in tally.wrong)
            after = f"after {tally.kills} kills and {tally.frozen} frozen workers"
            print(f"{name}: {mutant}: {'caught' if found else 'NOT CAUGHT'} {after}", flush=True)
            wrong += [] if found else [f"the harness has not caught the mutant {mutant!r} on {name}"]
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
