"""Runs a program that must not outlive the process that asked for it. A script: it is run by its path.

::

    whoever asked ──pipe──> guard ──fork, exec──> program ──fork──> its own children
                    <──────────── the guard ends when all of them have ended

The guard's standard input is a pipe from whoever asked: a byte in it is an order to stop, and its end means that the
asker is gone, however it went. `kill -9` leaves nobody else who could notice. A fork of the asker would hold the pipe
open, so where the system can tell (pidfd, Linux 5.3) the asker's process itself is watched, too. PR_SET_PDEATHSIG was
dropped: it fires when the asking *thread* ends, and only Linux has it.

Every descendant of the program inherits one end of a second pipe, so that its end says that all of them are gone. A
server whose last backend still writes has not stopped. Then the guard removes the folder of the program's socket and
passes on how the program ended.

Only what this needs is imported: it is on the way of every start.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys

ORDERS = {b"f": signal.SIGINT, b"i": signal.SIGQUIT}
MERCY_MS = 10_000  # for SIGQUIT; PostgreSQL gives its own processes half of it


def main() -> int:
    """Run `guard.py UID GID SOCKET_FOLDER PROGRAM [ARGUMENT ...]`; an id of -1 leaves the user as it is."""
    uid, gid, folder, *command = sys.argv[1:]
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        _become(int(uid), int(gid), held, command)
    os.close(held)
    try:
        _watch(child, alive)
        return _shell_code(os.waitpid(child, 0)[1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it may be gone already, and nobody is left to tell


def _become(uid: int, gid: int, held: int, command: list[str]) -> None:
    """In the child: turn into the program."""
    try:
        os.set_inheritable(held, True)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.execv(command[0], command)  # noqa: S606 - a list from the process that started us, no shell
    except OSError as error:
        print(f"{command[0]} cannot be run: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _watch(child: int, alive: int) -> None:
    """Return when the program and all that came of it have ended; pass on orders until then."""
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    orders = [0, *_asker()]
    for source in orders:
        poll.register(source, select.POLLIN)
    mercy: int | None = None
    while True:
        ready = [source for source, _ in poll.poll(mercy)]
        if alive in ready:
            return
        order = _order(ready)
        os.kill(child, order)
        os.kill(child, signal.SIGCONT)  # a frozen one would not hear it
        if order == signal.SIGQUIT:
            mercy = MERCY_MS
            while orders:  # nothing is stronger, and an end that was seen would be seen for ever
                poll.unregister(orders.pop())


def _asker() -> list[int]:
    """A descriptor that becomes readable when the process that started us has ended, where there is such a thing."""
    try:
        return [os.pidfd_open(os.getppid())]
    except (AttributeError, OSError):
        return []  # the pipe alone has to do


def _order(ready: list[int]) -> signal.Signals:
    if not ready:
        return signal.SIGKILL  # it had its time
    if ready == [0]:
        return ORDERS.get(os.read(0, 1), signal.SIGQUIT)
    return signal.SIGQUIT


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
