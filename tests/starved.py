"""Tests that say what took how long, on a machine whose cores others may have meanwhile.

One that fails is run again if it has missed a core: if programs of this machine waited for each other's, which the
kernel counts, or if the host of a virtual machine has taken one away, of which the kernel does not know and a metronome
on each core does. What fails on cores that were there fails, and so does what always fails.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tests import metronome

ATTEMPTS: Final = 5
AGAIN: Final = "run again"
"""Among a report's properties: why the test was run again, each time."""

WAITED_FROM: Final = 0.05
"""The part of a test's time in which something waited for a core, from which on it has missed one."""

AWAY_FROM: Final = 0.005
"""Seconds that a core was away, in all, from which on a test has missed it: what these tests still tell apart."""


def waited_for_cores() -> float:
    """Seconds in which anything on this machine was ready to run and had no core, so far."""
    with contextlib.suppress(OSError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return 0.0


class Metronomes:
    """One on each core that this process may use, once they are asked; none where the system binds nothing to cores."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] | None = None

    def begin(self) -> None:
        """Have them beat from now on."""
        for each in self.running:
            self._say(each, "b")
        for each in self.running:
            self._told(each)

    def late(self) -> float:
        """Seconds that a core was away since they began, in all, of the core of which it was longest; now they rest."""
        for each in self.running:
            self._say(each, "t")
        return max(map(self._told, self.running), default=0.0)

    def _say(self, one: subprocess.Popen[str], what: str) -> None:
        assert one.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody has ended it; then it has nothing to tell
            one.stdin.write(what)
            one.stdin.flush()

    def _told(self, one: subprocess.Popen[str]) -> float:
        assert one.stdout is not None
        return sum(map(float, takewhile(str.strip, one.stdout)))

    @property
    def running(self) -> list[subprocess.Popen[str]]:
        """All of them."""
        if self._running is None:
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
            command = [sys.executable, "-IS", metronome.__file__]
            self._running = [
                subprocess.Popen([*command, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for core in cores
            ]
            atexit.register(self.stop)
        return self._running

    def stop(self) -> None:
        """Have them end."""
        for each in self._running or ():
            each.communicate()
        self._running = None


METRONOMES: Final = Metronomes()


def missed(away: float, waited: float, took: float) -> str:
    """How a test has missed a core, or nothing."""
    if away >= AWAY_FROM:
        return f"a core was away for {away * 1e3:.0f} ms"
    share = waited / took
    return f"something waited for a core in {share:.0%} of its time" if share >= WAITED_FROM else ""


def run(item: pytest.Item, nextitem: pytest.Item | None, rows: list[Any]) -> bool:
    """Run a test, and again if it fails for want of a core; what it then has added to `rows` is taken back."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    again: list[tuple[str, object]] = []
    for left in reversed(range(ATTEMPTS)):
        METRONOMES.begin()
        began, waited, before = time.monotonic(), waited_for_cores(), len(rows)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        why = missed(METRONOMES.late(), waited_for_cores() - waited, time.monotonic() - began)
        if not left or not why or not any(report.failed for report in reports):
            break
        del rows[before:]
        again.append((AGAIN, why))
    for report in reports:
        report.user_properties += again if report.when == "teardown" else ()
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def tell(terminalreporter: Any) -> None:
    """Print which tests were run again, and why, whichever process has run them."""
    reports = [report for of_a_kind in terminalreporter.stats.values() for report in of_a_kind]
    lines = [
        f"{report.nodeid}: {why}"
        for report in reports
        for name, why in getattr(report, "user_properties", ())
        if name == AGAIN
    ]
    if lines:
        terminalreporter.section("run again, as they failed without all their cores")
        for line in lines:
            terminalreporter.write_line(line)
