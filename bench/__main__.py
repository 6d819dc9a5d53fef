"""`make bench`: measure what the documents claim, as ratios within one run.

`python -m bench [NAME ...]` runs the benchmarks of these names, or all but those that need what our tests do not. Each
prints a table and writes its numbers to `bench/results/NAME.json`. The machine is never fast or slow alone: each number
stands beside a floor of the same run.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

NAMES = ("imports", "seed", "fanout")
ON_REQUEST = ("saver",)
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    """Run the benchmarks; 1 when a bar was missed, 2 when there is no such benchmark."""
    if unknown := [name for name in names if name not in NAMES + ON_REQUEST]:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(NAMES + ON_REQUEST)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    missed = []
    for name in names or NAMES:
        numbers = import_module(f"bench.{name}").measure()
        (RESULTS / f"{name}.json").write_text(json.dumps(numbers, indent=2) + "\n")
        if not numbers["met"]:
            missed.append(name)
    print(f"bars missed: {', '.join(missed)}" if missed else "all bars met")
    return 1 if missed else 0


sys.exit(main(sys.argv[1:]))
