"""Of whom it can be told that he is gone, and of whom it cannot."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys

import pytest

from fanfold.store import owner as owners


def changed(owner: str, **parts: object) -> str:
    names = ("boot", "host", "pid", "start", "sitting")
    return "/".join(str(parts.get(name, part)) for name, part in zip(names, owner.split("/"), strict=True))


@pytest.fixture(scope="module")
def stranger() -> str:
    """An owner in a process that has ended."""
    program = "from fanfold.store import owner; print(owner.me())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_sitting_lives_until_it_is_left() -> None:
    one, other = owners.me(), owners.me()
    assert one != other
    assert owners.alive(one)
    owners.leave(one)
    assert not owners.alive(one)
    assert owners.alive(other)
    owners.leave(other)
    owners.leave(other)


def test_another_sitting_of_this_process_is_described_as_one() -> None:
    me = owners.me()
    owners.leave(me)
    assert owners.describe(me) == "another call in this process"


def test_a_process_that_has_ended_is_gone(stranger: str) -> None:
    assert not owners.alive(stranger)
    pid = stranger.split("/")[2]
    assert owners.describe(stranger) == f"process {pid} on {platform.node()}"


def test_a_process_that_lives_is_alive_and_one_that_was_killed_is_not_even_if_nobody_reaps_it() -> None:
    program = "import sys; from fanfold.store import owner; print(owner.me(), flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        other = process.stdout.readline().strip()
        assert owners.alive(other)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not owners.alive(other)
    assert not owners.alive(other)


def test_another_process_with_the_same_number_is_not_the_owner() -> None:
    me = owners.me()
    owners.leave(me)
    assert not owners.alive(changed(me, pid=1))
    assert not owners.alive(changed(me, start="1"))


def test_what_ran_before_this_machine_was_started_anew_is_gone() -> None:
    me = owners.me()
    assert not owners.alive(changed(me, boot="an earlier boot"))
    owners.leave(me)


@pytest.mark.parametrize("boot", ["another boot", None])
def test_of_another_machine_or_container_it_cannot_be_told_so_it_counts_as_alive(
    stranger: str, boot: str | None
) -> None:
    parts = {"host": "elsewhere"} | ({"boot": boot} if boot else {})
    there = changed(stranger, **parts)
    assert owners.alive(there)
    pid = stranger.split("/")[2]
    assert owners.describe(there) == f"process {pid} on elsewhere"


def test_the_same_number_on_another_machine_is_not_this_process() -> None:
    me = owners.me()
    owners.leave(me)
    assert owners.describe(changed(me, host="elsewhere")) == f"process {os.getpid()} on elsewhere"
