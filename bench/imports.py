"""What `import fanfold` costs: milliseconds over a bare interpreter, and what it loads."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

BAR_MS = 60.0
ROUNDS = 10

STATEMENTS = {
    "bare interpreter": "pass",
    "import asyncio": "import asyncio",
    "import fanfold": "import fanfold",
    "from fanfold import StateGraph, Task": "from fanfold import StateGraph, Task",
}


def measure() -> dict[str, Any]:
    """Medians of ten, interleaved; the bar is for `import fanfold` alone."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():
        _seconds(statement)  # once for the byte code
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            times[name].append(_seconds(statement))
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    bare = medians["bare interpreter"]
    print(f"imports, median of {ROUNDS}")
    for name, median in medians.items():
        print(f"  {name:<40} {median:7.1f} ms   {median - bare:+7.1f} over bare")
    over = medians["import fanfold"] - bare
    print(f"  bar: {BAR_MS:.0f} ms over bare\n")
    return {"medians_ms": medians, "over_bare_ms": over, "bar_ms": BAR_MS, "met": over <= BAR_MS}


def _seconds(statement: str) -> float:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=env)
    return time.perf_counter() - began
