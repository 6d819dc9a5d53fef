"""Runs one agent's program, and leaves nothing of it behind. A script: it is run by its path.

::

    engine ──pipe──> launcher ──fork, exec──> program ──fork──> its own children, and theirs
                     <── whoever loses its parent becomes the launcher's child

When the pipe ends, the engine is gone, by `kill -9` too, or wants the program to end. Then everything below the
launcher is killed, and so is what is left when the program ends by itself. A fork of the engine would hold the pipe
open, so where the system can tell (pidfd, Linux 5.3) the engine's process is watched, too.

What is below the launcher stays below it: on Linux it is a sub-reaper, so a process that is orphaned, as a daemon makes
itself, becomes its child. If the launcher itself is killed, the program gets PR_SET_PDEATHSIG. Elsewhere there is
neither, and what is killed is the process group: a program that leaves it gets away.

Only what this needs is imported: it is on the way of every agent.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys

SUBREAPER, PDEATHSIG = 36, 1  # of prctl(2)
ROUNDS = 1000


def main() -> int:
    """Run `launcher.py PIPE MEMORY_BYTES CPU_SECONDS PROGRAM [ARGUMENT ...]`; a limit of 0 is none.

    Ends as the program does: with its code, or 128 and the number of the signal that ended it.
    """
    pipe, memory, seconds, *command = sys.argv[1:]
    os.set_inheritable(int(pipe), False)  # the program is not to have it
    _prctl(SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        _become(int(memory), int(seconds), command)
    for stream in (0, 1):  # they are the program's: the engine is to see their end when that closes them
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    status = _watched(child, int(pipe))
    _kill_all(child)
    return _shell_code(status)


def _become(memory: int, seconds: int, command: list[str]) -> None:
    """In the child: turn into the program."""
    try:
        os.setpgid(0, 0)
        _prctl(PDEATHSIG, signal.SIGKILL)
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        os.execvp(command[0], command)  # noqa: S606 - a list from the engine, no shell
    except (OSError, ValueError) as error:
        print(f"{command[0]} cannot be run: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _watched(child: int, pipe: int) -> int:
    """The status with which the program ended, by itself or because the engine is gone or has had enough of it."""
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    signal.set_wakeup_fd(ends)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for source in (ended, pipe, *_engine()):
        poll.register(source, select.POLLIN)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        ready = [source for source, _ in poll.poll()]
        if ready == [ended]:
            os.read(ended, 4096)
            continue
        _signal_group(child)
        return os.waitpid(child, 0)[1]


def _engine() -> list[int]:
    """A descriptor that becomes readable when the engine has ended, where there is such a thing."""
    try:
        return [os.pidfd_open(os.getppid())]
    except (AttributeError, OSError):
        return []  # the pipe alone has to do


def _kill_all(child: int) -> None:
    """Kill what is below us, and what becomes our child by that, until there is nothing."""
    _signal_group(child)
    for _ in range(ROUNDS):
        for pid in _children():
            _signal(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The processes that are our children now. None are found where there is no /proc: nor are there sub-reapers."""
    return [int(name) for name in _listed("/proc") if name.isdigit() and _parent(name) == os.getpid()]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _signal_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # none of it is left, or only what has ended
        _signal(leader)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
