"""Code that another process finds by its name. It imports little, as each process does."""

from __future__ import annotations

import time
from typing import Any


def sleeps(state: dict[str, Any]) -> None:
    """Is at work for a while."""
    time.sleep(1.2)


def burns(seconds: float) -> float:
    """Keeps a core busy until it has had that much of one; what it had."""
    began = time.thread_time()
    while (used := time.thread_time() - began) < seconds:
        sum(range(1000))
    return used


def burns_here(state: dict[str, Any]) -> None:
    """Keeps a core busy for a while."""
    burns(0.4)
