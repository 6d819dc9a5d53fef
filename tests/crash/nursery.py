"""Where worker processes come from: a process that has imported everything once, and forks.

A Python that starts from nothing would spend three quarters of a short life on imports. The nursery has no thread and
no connection, so a child of it is as good as a process that began by itself. When whoever uses it goes away, it kills
its children and ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Self

from tests.crash import log, mutants, worker
from tests.crash.log import Line
from tests.crash.worker import Order

ROOT = Path(__file__).parents[2]


class Nursery:
    """Starts workers, whose library has the `mutant` if one is named. May be used by several threads."""

    def __init__(self, mutant: str = "") -> None:
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.nursery", str(its.fileno())],
                cwd=ROOT,
                env={**os.environ, mutants.VARIABLE: mutant},
                pass_fds=[its.fileno()],
            )
        self._line = ours
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.wait(timeout=30)

    def start(self, order: Order) -> Worker:
        """A worker that carries out an order."""
        reading, writing = os.pipe()
        with self._asking:
            socket.send_fds(self._line, [json.dumps(asdict(order)).encode()], [writing])
            pid = int(self._answer())
        os.close(writing)
        return Worker(self, pid, reading)

    def ended(self, pid: int) -> int:
        """How a worker has ended: its exit code, or a signal's number, negative. Waits until it has."""
        with self._asking:
            self._line.send(json.dumps(pid).encode())
            return os.waitstatus_to_exitcode(int(self._answer()))

    def stopped(self, pid: int) -> None:
        """Wait until a worker stands still, which it was told to, or has ended."""
        with self._asking:
            self._line.send(json.dumps([pid]).encode())
            self._answer()

    def _answer(self) -> bytes:
        answer = self._line.recv(64)
        if not answer:
            raise RuntimeError("the nursery has ended; it has said why on stderr")
        return answer


class Worker:
    """A worker process: its lines as they come, and what may befall it."""

    def __init__(self, nursery: Nursery, pid: int, told: int) -> None:
        self.pid = pid
        self.said = ""
        self._nursery = nursery
        self._code: int | None = None
        self._told: int | None = told
        self._rest = b""
        self._lines: list[Line] = []

    def line(self, within: float = 60.0) -> Line | None:
        """Its next line; None when it has ended. Raises `TimeoutError`."""
        while not self._lines:
            if self._told is None:
                return None
            if not select.select([self._told], [], [], within)[0]:
                raise TimeoutError(f"worker {self.pid} has not said anything for {within:g} s")
            self._take(os.read(self._told, 65536))
        return self._lines.pop(0)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Its number is its own until `wait` has returned."""
        os.kill(self.pid, number)

    def stands_still(self) -> None:
        """Wait until it does, after a SIGSTOP, whoever sent that."""
        self._nursery.stopped(self.pid)

    @property
    def alive(self) -> bool:
        """Whether nobody has waited for its end."""
        return self._code is None

    def wait(self, within: float = 60.0) -> int:
        """Its exit code, or a signal's number, negative."""
        while self.line(within) is not None:
            pass
        if self._code is None:
            self._code = self._nursery.ended(self.pid)
        return self._code

    def _take(self, text: bytes) -> None:
        if not text:
            os.close(self._told or 0)
            self._told = None
        *whole, self._rest = (self._rest + text).split(b"\n")
        for each in whole:
            if each.startswith(b"!"):
                self.said += each[1:].decode(errors="replace") + "\n"
            else:
                self._lines.append(log.parsed(each, 0))


def main(descriptor: int) -> None:
    """Serve the nursery's owner until it goes away."""
    mutant = os.environ.get(mutants.VARIABLE, "")
    if mutant:
        change, _ = mutants.MUTANTS[mutant]
        change()
    children: set[int] = set()
    with socket.socket(fileno=descriptor) as line:
        while True:
            text, descriptors, _, _ = socket.recv_fds(line, 65536, 1)
            if not text:
                break
            asked = json.loads(text)
            if isinstance(asked, int):
                answer = os.waitpid(asked, 0)[1]
                children.discard(asked)
            elif isinstance(asked, list):
                answer = asked[0]
                os.waitid(os.P_PID, answer, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            else:
                answer = _forked(line, Order(**asked), descriptors[0])
                children.add(answer)
            line.send(str(answer).encode())
    for child in children:
        os.kill(child, signal.SIGKILL)


def _forked(line: socket.socket, order: Order, told: int) -> int:
    pid = os.fork()
    if pid:
        os.close(told)
        return pid
    code = worker.FAILED
    try:
        line.close()
        code = worker.work(order, told)
    except BaseException:  # noqa: BLE001 - told to whoever waits for the worker
        trouble = traceback.format_exc().replace("\n", "\n!")
        os.write(told, f"!{trouble}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
