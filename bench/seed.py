"""The measurement that fanfold began with: four agents and a compile step, 2.0 s at the least, 5 s one by one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fanfold.cli.demo import measure as run_seed
from fanfold.store.opening import open_store
from fanfold.teams import seed

BAR_MS = 5.0
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Medians of the run and of the whole call around it, beside bare asyncio doing the same sleeps.

    The run is from its start to its end as the receipt has it; the call besides that claims the thread before, and
    waits until the end is on disk after. The bar is for the run.
    """
    runs, calls, floor, verdicts = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "runs.db") as store:
        for _ in range(ROUNDS):
            call, receipt = run_seed(store)
            calls.append(call)
            runs.append(receipt.wall)
            verdicts.append(receipt.verdict)
            floor.append(asyncio.run(_bare()))
    over, whole, bare = ((statistics.median(times) - seed.LEAST) * 1000 for times in (runs, calls, floor))
    print(f"seed, median of {ROUNDS}: milliseconds over {seed.LEAST:.3f} s")
    print(f"  fanfold, stored in SQLite: the run       {over:7.1f} ms")
    print(f"  fanfold, stored in SQLite: the call      {whole:7.1f} ms")
    print(f"  bare asyncio.gather                      {bare:7.1f} ms")
    print(f"  bar: {BAR_MS:.0f} ms; {seed.ONE_BY_ONE / statistics.median(runs):.2f}x as fast as one by one\n")
    return {
        "over_ms": over,
        "call_over_ms": whole,
        "bare_ms": bare,
        "bar_ms": BAR_MS,
        "verdicts": verdicts,
        "met": over <= BAR_MS,
    }


async def _bare() -> float:
    began = time.perf_counter()
    await asyncio.gather(*(asyncio.sleep(seconds) for seconds in seed.SECONDS.values()))
    await asyncio.sleep(seed.COMPILE_SECONDS)
    return time.perf_counter() - began
