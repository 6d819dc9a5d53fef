"""One measurement of one engine: `python -m bench.engine WORKLOAD ENGINE N SECONDS` prints a line of JSON."""

from __future__ import annotations

import sys

from bench.engines import ENGINES
from fanfold.bench.alone import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {engine: f"bench.engines.{engine}" for engine in ENGINES}))
