"""Programs as agents: started under the launcher, with little of our environment, and gone when they are to be gone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fanfold.agents import launcher
from fanfold.errors import AgentError

PASSED_ON: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"}
)
"""The variables of our environment that a program sees, besides the LC_ ones. Keys and passwords are in others."""

LARGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes that a program may answer with."""

LARGEST_COMPLAINT: Final = 64 * 1024
"""Bytes of what it complains of that are kept, the last ones."""

GRACE: Final = 5.0
"""Seconds for the launcher, which kills at once, to see that nothing is left, before it is killed itself."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one program may use: bytes of address space, and seconds of a core. None means no limit."""

    memory: int | None = None
    cpu: int | None = None


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

    `descriptors` are open files of ours that it gets under the same numbers.
    """

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
        self._read = 0
        self._rest = b""
        self._telling: asyncio.Task[None] | None = None
        self._complaints: asyncio.Task[bytes] | None = None

    async def __aenter__(self) -> Program:
        theirs, self._control = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launcher.__file__),
                *(str(theirs), str(self._bounds.memory or 0), str(self._bounds.cpu or 0), *self._command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(self._extra),
                cwd=self._folder,
                pass_fds=[theirs, *self._descriptors],
                start_new_session=True,
                limit=LARGEST_ANSWER,  # of a stream that is full, asyncio does not see the end
            )
        except BaseException:
            os.close(self._control)
            raise
        finally:
            os.close(theirs)
        self._complaints = asyncio.ensure_future(self._complained())
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self.process
        os.close(self._control)  # the launcher's order to end everything
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE)
        except TimeoutError:
            process.kill()
        finally:
            for task in (self._telling, self._complaints):
                if task is not None:
                    task.cancel()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The launcher's process, whose streams are the program's."""
        assert self._process is not None, "it is there within the block"
        return self._process

    def tell(self, text: str) -> None:
        """Have this written to the program's standard input, which is closed then, while the program already works."""
        self._telling = asyncio.ensure_future(self._told(text))

    async def _told(self, text: str) -> None:
        stream = self.process.stdin
        assert stream is not None, "it is a pipe"
        try:
            stream.write(text.encode("utf-8", "replace"))
            await stream.drain()
        except (BrokenPipeError, ConnectionResetError):  # it does not want to hear it
            return
        finally:
            stream.close()

    async def lines(self) -> str:
        """What the program has written to its standard output since: whole lines, or at its end the rest; then nothing.

        Raises `AgentError` for more than an agent may answer.
        """
        stream = self.process.stdout
        assert stream is not None, "it is a pipe"
        while piece := await stream.read(65_536):
            self._read += len(piece)
            if self._read > LARGEST_ANSWER:
                raise AgentError(f"{self._command[0]!r} answers with more than {LARGEST_ANSWER:,} bytes")
            whole, mark, rest = piece.rpartition(b"\n")
            if mark:
                whole, self._rest = self._rest + whole + mark, rest
                return whole.decode("utf-8", "replace")
            self._rest += piece
        rest, self._rest = self._rest, b""
        return rest.decode("utf-8", "replace")

    def seen(self) -> tuple[int, float]:
        """How many processes of the program there are now, with the launcher, and the seconds of a core that they used.

        The operating system says so, where it has a `/proc`; else there are none.
        """
        return below(self.process.pid)

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
            kept = (kept + piece)[-LARGEST_COMPLAINT:]
        return kept
