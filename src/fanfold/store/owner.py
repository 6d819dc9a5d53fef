"""Who runs a thread: a process of this machine, and one sitting inside of it.

An owner is written as `boot/host/pid/start/sitting`. Of a process on the same boot of the same machine it can be
told whether it lives, also when its pid was given to another process since. Of another machine, or of a container
with a name of its own, it cannot be told, so such an owner counts as alive.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from functools import cache
from pathlib import Path

_sittings: set[str] = set()


def here() -> tuple[str, str, int]:
    """This process: its name, its machine's and its number."""
    pid = os.getpid()
    return "/".join((_boot(), platform.node(), str(pid), _start(pid))), platform.node(), pid


def awake() -> float:
    """Seconds of a clock that goes on while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def me() -> str:
    """A new owner: this process, in a sitting of its own. It lives until `leave` or until the process ends."""
    sitting = uuid.uuid4().hex[:12]
    _sittings.add(sitting)
    return f"{here()[0]}/{sitting}"


def leave(owner: str) -> None:
    """The sitting of `owner`, which is of this process, is over."""
    _sittings.discard(owner.rpartition("/")[2])


def alive(owner: str) -> bool:
    """Whether `owner` may still be running."""
    boot, host, pid, start, sitting = _parts(owner)
    if host != platform.node():
        return True
    if boot != _boot():
        return False
    if pid == os.getpid() and start == _start(pid):
        return sitting in _sittings
    return _start(pid) == start and exists(pid)


def describe(owner: str) -> str:
    """`owner` in words, for a message."""
    boot, host, pid, start, _ = _parts(owner)
    mine = (boot, host, pid, start) == (_boot(), platform.node(), os.getpid(), _start(os.getpid()))
    return "another call in this process" if mine else f"process {pid} on {host}"


def _parts(owner: str) -> tuple[str, str, int, str, str]:
    boot, host, pid, start, sitting = owner.split("/")
    return boot, host, int(pid), start, sitting


def exists(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to somebody else
        return True
    return True


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: the host's name has to do
        return platform.node()


def _start(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # not Linux, or no such process; `exists` tells them apart
        return "0"
    fields = stat.rpartition(")")[2].split()
    # Killed, and its parent has not asked how it ended. In a container without an init process nobody ever does.
    return "gone" if fields[0] in "ZX" else fields[19]
