"""Programs as agents: started under the launcher, with little of our environment, and gone when they are to be gone."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from fanfold.agents import launcher
from fanfold.errors import AgentError

T = TypeVar("T")

PASSED_ON: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"}
)
"""The variables of our environment that a program sees, besides the LC_ ones. Keys and passwords are in others."""

LARGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes of the longest line that a program may write."""

LARGEST_COMPLAINT: Final = 64 * 1024
"""Bytes of what it complains of that are kept, the last ones."""

GRACE: Final = 5.0
"""Seconds for the launcher, which kills at once, to see that nothing is left, before it is killed itself."""


SHORTEST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 8.0
"""Seconds between two looks at a program's processes: first so few, then each time twice as many, up to so many."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one program may use. None means no limit.

    `memory` is the bytes that it and whatever comes of it may hold together: where it is more, they are killed.
    `addresses` are the bytes that each of its processes may map, which the system refuses to exceed; programs that
    map far more than they use, as those of JavaScript do, cannot live with it. `cpu` is the seconds of a core.
    """

    memory: int | None = None
    cpu: int | None = None
    addresses: int | None = None


def lacks(system: str = sys.platform) -> tuple[str, ...]:
    """What cannot be had of the launcher on a system, in words for people; nothing on Linux."""
    if system.startswith("linux"):
        return ()
    return (
        "on this system a process that leaves its program's process group is not ended with it",
        "on this system nobody watches how much memory a program and its children hold together",
    )


def environment(extra: Mapping[str, str], base: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program sees of an environment (default: ours), and `extra`."""
    base = os.environ if base is None else base
    kept = {name: value for name, value in base.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**kept, **extra}


def below(pid: int) -> tuple[int, float]:
    """How many processes there are from one on downwards, and the seconds of a core that they have used, with those of
    them that have ended."""
    number, seconds, left = 0, 0.0, [pid]
    while left:
        one = left.pop()
        used = _used(one)
        if used is None:  # it has ended meanwhile
            continue
        alive, cpu = used
        number, seconds = number + alive, seconds + cpu
        left += [int(child) for child in _read(f"/proc/{one}/task/{one}/children").split()]
    return number, seconds


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def _used(pid: int) -> tuple[bool, float] | None:
    """Whether a process has not ended, and the seconds of a core that it and its children that have ended have used."""
    words = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if not words:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return words[0] not in (b"Z", b"X"), sum(int(word) for word in words[11:15]) / ticks


class Program:
    """A program that runs under the launcher. Leaving the `async with` block ends it and whatever came of it.

    One that reads its prompt and writes its answer is told the prompt by `tell`. One that is talked with is written
    to by `write`, as often as there is something to say, and `finish` says that there is nothing more.
    `descriptors` are open files of ours that it gets under the same numbers. `looked` is called now and then, first and
    last thing, with how many processes it has and the seconds of a core that they have used.
    """

    looked: Callable[[int, float], object] | None = None

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        extra: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._extra = dict(extra or {})
        self._bounds = bounds or Bounds()
        self._descriptors = descriptors
        self._process: asyncio.subprocess.Process | None = None
        self._control = -1
        self._report = -1
        self._peak = 0
        self._over = False
        self._heard = 0.0
        self._waited_out = False
        self._rest = bytearray()
        self._telling: asyncio.Task[None] | None = None
        self._complaints: asyncio.Task[bytes] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Program:
        starting = asyncio.ensure_future(self._start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # uvloop loses a program whose start is given up halfway: it is waited for, which is not long, and ended.
            while not starting.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([starting])
            if starting.exception() is None:
                await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        theirs, self._control = os.pipe()
        self._report, reporting = os.pipe()
        os.set_blocking(self._report, False)
        bounds = (self._bounds.memory, self._bounds.addresses, self._bounds.cpu)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launcher.__file__, str(theirs), str(reporting)),
                *(str(bound or 0) for bound in bounds),
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(self._extra),
                cwd=self._folder,
                pass_fds=[theirs, reporting, *self._descriptors],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._control)
            os.close(self._report)
            self._report = -1
            raise
        finally:
            os.close(theirs)
            os.close(reporting)
        self._complaints = asyncio.ensure_future(self._complained())
        self._heard = time.monotonic()
        if self.looked is not None:
            self._looking = asyncio.ensure_future(self._look_again(self.looked))

    async def __aexit__(self, *_: object) -> None:
        process = self.process
        if self.looked is not None:
            self.looked(*self.seen())
        os.close(self._control)  # the launcher's order to end everything
        draining = asyncio.ensure_future(self._drained())
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE)
        except TimeoutError:
            process.kill()
        finally:
            self._weigh()
            os.close(self._report)
            self._report = -1
            for task in (self._telling, self._complaints, self._looking, draining):
                if task is not None:
                    task.cancel()

    @property
    def name(self) -> str:
        """What is run."""
        return self._command[0]

    @property
    def stalled(self) -> bool:
        """Whether somebody has waited for it in vain."""
        return self._waited_out

    @property
    def peak(self) -> int:
        """The most bytes that the program and what came of it were seen to hold together; 0 as long as nobody knows."""
        self._weigh()
        return self._peak

    @property
    def over(self) -> bool:
        """Whether that was more than they may, for which they were killed."""
        self._weigh()
        return self._over

    def _weigh(self) -> None:
        """Take the launcher's reports, of which the last is the largest."""
        while self._report >= 0:
            try:
                told = os.read(self._report, 65_536)
            except BlockingIOError:
                return
            if not told:
                return
            lines = told.split()  # a short write to a pipe is never cut in two
            self._over = self._over or b"over" in lines
            self._peak = max([self._peak, *(int(line) for line in lines if line != b"over")])

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The launcher's process, whose streams are the program's."""
        assert self._process is not None, "it is there within the block"
        return self._process

    def tell(self, text: str) -> None:
        """Have this written to the program's standard input, which is closed then, while the program already works."""
        self._telling = asyncio.ensure_future(self._told(text))

    async def write(self, text: str) -> None:
        """Write to the program's standard input, and wait while it does not keep up with reading.

        A program that has stopped reading is not told, nor are we: that it has ended, `lines` says.
        """
        stream = self._input()
        try:
            stream.write(text.encode("utf-8", "replace"))
            await stream.drain()
        except (BrokenPipeError, ConnectionResetError):
            return

    def finish(self) -> None:
        """Close the program's standard input, after what was written."""
        self._input().close()

    async def _told(self, text: str) -> None:
        try:
            await self.write(text)
        finally:
            self.finish()

    def _input(self) -> asyncio.StreamWriter:
        stream = self.process.stdin
        assert stream is not None, "it is a pipe"
        return stream

    async def _drained(self) -> None:
        """Read what nobody wants any more: of a stream that is full, asyncio does not see the end."""
        stream = self.process.stdout
        assert stream is not None, "it is a pipe"
        while await stream.read(65_536):
            continue

    async def lines(self) -> str:
        """What the program has written to its standard output since: whole lines, or at its end the rest; then nothing.

        Raises `AgentError` for a line without an end.
        """
        stream = self.process.stdout
        assert stream is not None, "it is a pipe"
        while piece := await stream.read(65_536):
            self._heard = time.monotonic()
            if len(self._rest) + len(piece) > LARGEST_LINE:
                raise AgentError(f"{self._command[0]!r} writes a line of more than {LARGEST_LINE:,} bytes")
            whole, mark, rest = piece.rpartition(b"\n")
            if mark:
                whole, self._rest = bytes(self._rest) + whole + mark, bytearray(rest)
                return whole.decode("utf-8", "replace")
            self._rest += piece
        last, self._rest = self._rest, bytearray()
        return last.decode("utf-8", "replace")

    async def patiently(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """What some work with the program gives. Raises `TimeoutError` when the program writes nothing for so long."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                left = self._heard + seconds - time.monotonic()
                if left <= 0:
                    self._waited_out = True
                    raise TimeoutError
                await asyncio.wait([task], timeout=left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def seen(self) -> tuple[int, float]:
        """How many processes of the program there are now, with the launcher, and the seconds of a core that they used.

        The operating system says so, where it has a `/proc`; else there are none.
        """
        return below(self.process.pid)

    async def _look_again(self, looked: Callable[[int, float], object]) -> None:
        pause = SHORTEST_PAUSE
        while True:
            looked(*self.seen())
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def ended(self) -> int:
        """The code with which the program ends; 128 and more is a signal's."""
        return await self.process.wait()

    async def complaints(self) -> str:
        """The end of what the program has written to its standard error."""
        assert self._complaints is not None, "it was started with the program"
        return (await self._complaints).decode("utf-8", "replace")

    async def _complained(self) -> bytes:
        stream = self.process.stderr
        assert stream is not None, "it is a pipe"
        kept = b""
        while piece := await stream.read(65_536):
            self._heard = time.monotonic()
            kept = (kept + piece)[-LARGEST_COMPLAINT:]
        return kept
