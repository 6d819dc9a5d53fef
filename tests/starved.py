"""Tests that say what took how long, on a machine whose cores others may keep busy.

One that fails is run again: what it has timed may be the work of others as well. How long anything had to wait for a
core, the kernel counts, and that is told; what the host of a virtual machine takes away, it does not know. What always
fails fails all the same.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

ATTEMPTS: Final = 5


def waited_for_cores() -> float:
    """Seconds in which anything on this machine was ready to run and had no core, so far."""
    with contextlib.suppress(OSError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return 0.0


def run(item: pytest.Item, nextitem: pytest.Item | None, *, again: list[str], rows: list[Any]) -> bool:
    """Run a test, and tell in `again` that it was run again; what it then has added to `rows` is taken back."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(ATTEMPTS)):
        began, waited, before = time.monotonic(), waited_for_cores(), len(rows)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        share = (waited_for_cores() - waited) / (time.monotonic() - began)
        if not left or not any(report.failed for report in reports):
            break
        del rows[before:]
        again.append(f"{item.nodeid}: something waited for a core in {share:.0%} of its time")
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
