"""The thread that writes: whoever closes it waits for its work, and for no lock that he may hold himself."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fanfold.store.opening import open_store


@pytest.mark.timeout(30)
def test_a_store_can_be_collected_while_a_thread_holds_the_lock_of_threading(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    assert list(store.runs()) == []
    with threading._active_limbo_lock:  # type: ignore[attr-defined]  # as within threading.enumerate()
        store.close()
