"""The thread that writes: whoever closes it waits for its work, and for no lock that he may hold himself."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fanfold.store.opening import open_store
from tests.store.making import Open, result


@pytest.mark.timeout(30)
def test_a_store_can_be_collected_while_a_thread_holds_the_lock_of_threading(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    assert list(store.runs()) == []
    with threading._active_limbo_lock:  # type: ignore[attr-defined]  # as within threading.enumerate()
        store.close()


def test_whoever_collects_a_store_waits_for_nothing_and_nothing_of_it_is_lost(again: Open) -> None:
    store = again()
    held, go_on = threading.Event(), threading.Event()

    def hold(_session: object) -> None:
        held.set()
        assert go_on.wait(20)

    store.write(hold)
    assert held.wait(20)
    kept, writer = store.submit(result("a")), store._writer._thread
    del store
    gc.collect()  # here: the writer may need what this thread has
    assert not kept.done()
    go_on.set()
    writer.join(20)
    assert not writer.is_alive()
    with again() as reopened:
        assert len(reopened.results("r1")) == 1


FORKED = """
import os, sys
from fanfold.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
if not (child := os.fork()):
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_off_ends_without_the_writer_that_it_does_not_have(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKED, tmp_path / "runs.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
