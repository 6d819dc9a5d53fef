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

While it waits it looks every now and then at how much memory everything below it holds: the PSS of each process, which
counts a page that three share as a third, or its RSS where the former cannot be read. What holds more than it may is
killed. The engine is told the most that was seen. It does none of this itself, since it would
have to do it for all agents at once, and could not while some code of a node holds its interpreter.

Only what this needs is imported: it is on the way of every agent.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

SUBREAPER, PDEATHSIG = 36, 1  # of prctl(2)
ROUNDS = 1000
SOON, SELDOM, OFTEN = 0.02, 0.5, 0.1
"""Seconds until memory is first looked at; and the most between two looks, without and with a limit."""
FEW = 6


def main() -> int:
    """Run `launcher.py PIPE REPORT MEMORY ADDRESSES SECONDS PROGRAM [ARGUMENT ...]`; a limit of 0 is none.

    MEMORY is the bytes that all processes may hold together, ADDRESSES those that each may map, SECONDS a core's. Ends
    as the program does: with its code, or 128 and the number of the signal that ended it. Each time
    that they hold more than ever, REPORT gets a line with the bytes, and `over` when that is too much.
    """
    pipe, report, memory, addresses, seconds, *command = sys.argv[1:]
    for ours in (pipe, report):
        os.set_inheritable(int(ours), False)  # the program is not to have it
    _prctl(SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        _become(int(addresses), int(seconds), command)
    for stream in (0, 1):  # they are the program's: the engine is to see their end when that closes them
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    scales = _Scales(int(memory), int(report))
    status = _watched(child, int(pipe), scales)
    _kill_all(child)
    scales.end()
    return _shell_code(status)


class _Scales:
    """Weighs what is below us, more seldom the longer it lasts, and tells the engine what it weighs at most."""

    def __init__(self, most: int, report: int) -> None:
        self._most = most
        self._report = report
        self._peak = 0
        self._heaviest = 0
        self._looks = 0
        self._pause = SOON

    def pause(self) -> float:
        """Seconds until the next look."""
        now, self._pause = self._pause, min(self._pause * 2, OFTEN if self._most else SELDOM)
        return now

    def over(self) -> bool:
        """Look, and say whether it is too much.

        PSS is never above RSS and is dear to read, so it is read when RSS has grown, or alone would be too much.
        """
        self._looks += 1
        processes = _below(os.getpid())
        resident = sum(map(_resident, processes))
        if resident > self._heaviest * 1.02 or (self._most and resident > self._most):
            self._heaviest = max(resident, self._heaviest)
            self._seen(sum(map(_share, processes)))
        if self._most and self._peak > self._most:
            self._tell(b"over\n")
            return True
        return False

    def end(self) -> None:
        """Of what has ended after a few looks, they tell less than what its heaviest process held, for the system."""
        if self._looks < FEW:
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            self._seen(most if sys.platform == "darwin" else most * 1024)

    def _seen(self, weight: int) -> None:
        if weight <= self._peak * 1.02:  # so that there are at most some hundred reports, which a pipe can hold
            return
        self._peak = weight
        self._tell(b"%d\n" % weight)

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._report, line)
        except OSError:  # there is no engine any more
            return


def _become(addresses: int, seconds: int, command: list[str]) -> None:
    """In the child: turn into the program."""
    try:
        os.setpgid(0, 0)
        _prctl(PDEATHSIG, signal.SIGKILL)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, which we are, and the program may not be
            signal.signal(ignored, signal.SIG_DFL)
        if addresses:
            resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        os.execvp(command[0], command)  # noqa: S606 - a list from the engine, no shell
    except (OSError, ValueError) as error:
        print(f"{command[0]} cannot be run: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _watched(child: int, pipe: int, scales: _Scales) -> int:
    """The status with which the program ended, by itself or because the engine is gone, or has had enough of it, or it
    held too much memory.
    """
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    signal.set_wakeup_fd(ends)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for source in (ended, pipe, *_engine()):
        poll.register(source, select.POLLIN)
    look = time.monotonic() + scales.pause()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        ready = [source for source, _ in poll.poll(max(0.0, look - time.monotonic()) * 1000)]
        if ended in ready:
            os.read(ended, 4096)
        if time.monotonic() >= look:
            if scales.over():
                break
            look = time.monotonic() + scales.pause()
        if set(ready) - {ended}:
            break
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


def _below(pid: int) -> list[int]:
    """The processes that come of one, at any depth; none where the system does not list them."""
    found, open_ones = list[int](), [pid]
    while open_ones:
        for thread in _listed(f"/proc/{(parent := open_ones.pop())}/task"):
            children = [int(child) for child in _text(f"/proc/{parent}/task/{thread}/children").split()]
            found += children
            open_ones += children
    return found


def _resident(pid: int) -> int:
    """The bytes that a process holds, with all that it shares; 0 of one that has ended."""
    fields = _text(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _share(pid: int) -> int:
    """The bytes that a process holds, and its share of those that it shares."""
    kilobytes = [line.split()[1] for line in _text(f"/proc/{pid}/smaps_rollup").splitlines() if _is_share(line)]
    return sum(map(int, kilobytes)) * 1024 if kilobytes else _resident(pid)


def _is_share(line: str) -> bool:
    return line.startswith(("Pss:", "SwapPss:"))


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:  # it has ended meanwhile, or is not ours to read
        return ""


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
