"""`make bench`: measure what the documents claim, as ratios within one run, and write `docs/benchmarks.md`.

`python -m bench [WORKLOAD ...]` measures these workloads, or all of them. Each leaves its numbers in
`bench/results/WORKLOAD.json`, the bars theirs in `bench/results/bars.json`. The page is written when everything was
measured in full size.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bars import bars
from bench.claims import SMALL, beyond, jobs
from bench.report import PAGE, page, results, shown
from fanfold.bench.bars import Sizes
from fanfold.bench.places import POSTGRES
from fanfold.bench.rounds import Job, measured, started
from fanfold.errors import MissingExtraError, did_you_mean


def main(words: Sequence[str]) -> int:
    """Measure; 1 when a bar was missed, 2 when there is no such workload."""
    asked = _parsed(words)
    sizes = SMALL if asked.quick else Sizes()
    every = jobs(sizes, small=asked.quick)
    known = {job.workload for job in every}
    if unknown := [name for name in asked.workloads if name not in known]:
        print(f"no workload {unknown[0]!r}{did_you_mean(unknown[0], known)}", file=sys.stderr)
        return 2
    chosen = [job for job in every if not asked.workloads or job.workload in asked.workloads]
    with _server(chosen):
        table = measured(
            chosen,
            rounds=asked.rounds,
            seconds=asked.seconds,
            start=started("bench.engine"),
            tell=_tell,
            excused=beyond,
        )
    judged = [bar.judged(table) for bar in bars(sizes)]
    judged = [each for each in judged if not asked.workloads or each.found is not None]
    results(table, judged, asked.rounds)
    shown(table, judged)
    if not asked.workloads and not asked.quick:
        PAGE.write_text(page(table, judged, asked.rounds))
    return 0 if all(each.met for each in judged) else 1


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what the documents claim.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="which; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a process repeats its work (0.5)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see whether everything runs")
    return parser.parse_args(words)


@contextlib.contextmanager
def _server(jobs: Sequence[Job]) -> Iterator[None]:
    """A PostgreSQL of our own, if there are jobs that need one and it is installed."""
    needing = [job for job in jobs if "postgres" in job.workload or "_64" in job.workload]
    if not needing or POSTGRES in os.environ:
        yield
        return
    from fanfold.store.cluster import Cluster

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fanfold-bench-"))
        try:
            os.environ[POSTGRES] = stack.enter_context(Cluster(Path(folder))).url()
        except MissingExtraError as error:
            print(error, file=sys.stderr)
        yield


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
