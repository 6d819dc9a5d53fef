"""Our own clause: of two writers of a thread, one is fenced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanfold.errors import LeaseLostError, ThreadBusyError
from fanfold.langgraph import Saver
from fanfold.store import owner as owners
from tests.saver.conftest import STORES, Open
from tests.saver.frozen import CONFIG, opened
from tests.saver.graphs import State, counting


@pytest.mark.parametrize("kind", STORES)
def test_a_process_that_was_frozen_and_replaced_may_write_no_more(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    place = str(tmp_path / "runs.db") if kind == "sqlite" else request.getfixturevalue("postgres")
    opened(place).close()
    command = [sys.executable, "-m", "tests.saver.frozen", place]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as frozen:
        try:
            assert frozen.stdout is not None
            assert frozen.stdout.readline() == "owns\n"
            os.kill(frozen.pid, signal.SIGSTOP)
            with opened(place) as store:
                saver = Saver(store)
                graph = counting(saver, State)
                with saver.owning("t", on_busy="wait"):  # until the frozen one has not been heard of for too long
                    written = graph.invoke({"notes": ["mine"]}, CONFIG)
                    os.kill(frozen.pid, signal.SIGCONT)
                    said, _ = frozen.communicate("\n", timeout=60)
                    assert said.startswith("this run has lost its thread 't'")
                assert graph.get_state(CONFIG).values == written
                assert len(list(saver.list(CONFIG))) == 3
        finally:
            frozen.kill()


def test_all_that_writes_to_a_thread_is_refused_once_another_owns_it(opening: Open) -> None:
    stale, fresh = opening(), opening()
    counting(fresh, State).invoke({"notes": ["first"]}, CONFIG)
    place: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c"}}
    checkpoint: Any = {"id": "d", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
    with stale.owning("t") as lease:
        owners.leave(lease.owner)  # as if its process had ended
        with fresh.owning("t"):
            for write in (
                lambda: stale.put(place, checkpoint, {}, {}),
                lambda: stale.put_writes(place, [("a", 1)], "task"),
                lambda: asyncio.run(stale.aput_writes(place, [("a", 1)], "task")),
                lambda: stale.delete_thread("t"),
                lambda: stale.prune(["t"]),
                lambda: stale.copy_thread("u", "t"),
            ):
                with pytest.raises(LeaseLostError, match="another call in this process runs it now"):
                    write()
            fresh.put_writes(place, [("a", 1)], "task")
    assert len(list(fresh.list(CONFIG))) == 3


def test_a_refusal_concerns_nobody_else_whose_writes_are_in_the_same_transaction(opening: Open) -> None:
    stale, fresh = opening(), opening()
    mine, other = ({"configurable": {"thread_id": name, "checkpoint_id": "c"}} for name in "tu")

    async def main(saver: Saver) -> list[Any]:
        writes = [saver.aput_writes(place, [("a", 1)], "task") for place in (mine, other) * 8]
        return await asyncio.gather(*writes, return_exceptions=True)

    with stale.owning("t") as lease:
        owners.leave(lease.owner)
        with fresh.owning("t"):
            outcomes = asyncio.run(main(stale))
    assert [type(each) for each in outcomes] == [LeaseLostError, type(None)] * 8


def test_a_thread_has_one_owner_and_the_next_one_waits_for_it(opening: Open) -> None:
    first, second = opening(), opening()
    with first.owning("t"):
        with pytest.raises(ThreadBusyError, match="another call in this process"), second.owning("t"):
            pass
        with first.owning("u"):  # another thread is not concerned
            pass

    async def main() -> list[str]:
        said = []

        async def own(saver: Saver) -> None:
            async with saver.aowning("t", on_busy="wait"):
                said.append("in")
                await asyncio.sleep(0)
                said.append("out")

        await asyncio.gather(own(first), own(second), own(first))
        return said

    assert asyncio.run(main()) == ["in", "out"] * 3
    with second.owning("t", on_busy="wait"):
        pass
