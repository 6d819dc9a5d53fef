"""One measurement in a process of its own: `WORKLOAD ENGINE N SECONDS`, answered with a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module

from fanfold.bench.timing import Workloads, measure

HOMES = {"floor": "fanfold.bench.floor", "fanfold": "fanfold.bench.engine"}


def main(words: Sequence[str], homes: dict[str, str] = HOMES) -> int:
    """Measure, and print what was found; `homes` are the modules of the engines by name."""
    workload, engine, n, seconds = words
    try:
        workloads: Workloads = import_module(homes[engine]).WORKLOADS
    except ImportError as error:
        print(json.dumps({"absent": f"is not installed: {error}"}))
    else:
        print(json.dumps(measure(workloads, workload, int(n), seconds=float(seconds))))
    return 0
