"""What the tests of agents share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.agents.programs import alive


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A language that no other process speaks, by which those of a program are known."""
    mark = f"LANG=fanfold-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*mark.split("="))
    yield mark
    for pid in alive(mark):  # a test that fails leaves nothing either
        os.kill(pid, signal.SIGKILL)
