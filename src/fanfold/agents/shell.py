"""Commands that an agent runs in its folder.

A command is a program under the launcher (`agents/processes`): it sees little of our environment, has a time limit, and
when it has ended or is ended nothing of it is left. That alone keeps it from no file and no network: it is a process of
the user's. Where `bwrap` (bubblewrap) is installed and works, it is **confined** besides: it sees the folder, which it
may change, and the system's programs, which it may not; nothing else of the disk, and no network. `.git`, `.fanfold`
and links out of the folder lead nowhere in there, and `.claude` and `.mcp.json` are as read-only as for `write`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fanfold.agents.editing import KEPT
from fanfold.agents.processes import Bounds, Program
from fanfold.agents.workspace import CLOSED, NOISE, Workspace
from fanfold.errors import WorkspaceError

LONGEST_RUN: Final = 600.0
DEFAULT_RUN: Final = 120.0
LONGEST_SHOWN: Final = 30_000
"""Characters of a command's output that are shown: the first and the last half of as many."""

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
_SETTINGS: Final = (
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/passwd", "/etc/group"),
    *("/etc/localtime", "/etc/timezone", "/etc/nsswitch.conf", "/etc/ssl/certs", "/etc/mime.types"),
)
_SCRATCH: Final = "/tmp"  # noqa: S108 - one of its own, in memory
_PROBE_SECONDS: Final = 5.0


@functools.cache
def confiner(path: str | None = None) -> str | None:
    """The program that confines commands, if there is one that works. `path` is where to look (default: PATH)."""
    found = shutil.which("bwrap", path=path)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *_walls(), "--", "/bin/sh", "-c", "exit 7"],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 7 else None


async def find_confiner() -> str | None:
    """`confiner()`, looked for in a thread, since it is tried out."""
    return await asyncio.to_thread(confiner, os.environ.get("PATH"))


def can_hold(space: Workspace) -> bool:
    """Whether a folder can be confined to: the whole system, or a folder that the system needs, cannot."""
    return not any(
        Path(place).is_relative_to(space.root) for place in (*_SYSTEM, *_SETTINGS, "/proc", "/dev", _SCRATCH)
    )


def _walls() -> list[str]:
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
    walls += [
        "--tmpfs",
        _SCRATCH,
        "--setenv",
        "HOME",
        _SCRATCH,
        "--unsetenv",
        "TMPDIR",
        "--unsetenv",
        "XDG_RUNTIME_DIR",
    ]
    for place in (*_SYSTEM, *_SETTINGS):
        walls += ["--ro-bind-try", place, place]
    return walls


def _confined(program: str, space: Workspace) -> list[str]:
    """What stands before a command so that it sees nothing but its folder and the system's programs."""
    root = str(space.root)
    words = [program, *_walls(), "--bind", root, root]
    for place in _special(space.root):
        if place.name in KEPT:
            words += ["--ro-bind", str(place), str(place)]
        elif place.is_dir():
            words += ["--tmpfs", str(place)]
        else:
            words += ["--ro-bind", os.devnull, str(place)]
    return [*words, "--chdir", root, "--"]


def _special(root: Path) -> Iterator[Path]:
    """What in a folder is closed to agents, or not theirs to change. Links are passed over: they lead nowhere."""
    for here, folders, names in os.walk(root):
        for name in (*folders, *names):
            if name in CLOSED | KEPT and not os.path.islink(os.path.join(here, name)):
                yield Path(here, name)
        folders[:] = [name for name in folders if name not in NOISE | CLOSED | KEPT]


async def run(
    space: Workspace,
    command: str,
    seconds: float,
    extra: Mapping[str, str],
    bounds: Bounds | None = None,
    confined_by: str | None = None,
) -> str:
    """What a command writes, and how it ended when that was not well."""
    if "\0" in command or not command.strip():
        raise WorkspaceError("the command is empty, or has a zero byte in it")
    seconds = min(max(seconds, 0.1), LONGEST_RUN)
    walls = await asyncio.to_thread(_confined, confined_by, space) if confined_by else []
    shell = shutil.which("bash") or "/bin/sh"
    # What goes wrong stands where it went wrong, in the order in which it was written.
    words = [*walls, "/bin/sh", "-c", 'exec "$0" -c "$1" 2>&1', shell, command]
    output, ending = _Output(), ""
    async with Program(words, space.root, extra, bounds) as program:
        program.tell("")
        try:
            async with asyncio.timeout(seconds):
                await output.take(program)
                code = await program.ended()
            ending = _ending(code, program)
        except TimeoutError:
            ending = f"(it was ended after {seconds:g} s, and whatever it had started)"
    return "\n".join(filter(None, (output.text(), ending))) or "(it ended well and wrote nothing)"


def _ending(code: int, program: Program) -> str:
    """How a command ended, where that was not well."""
    if code and program.over:
        return f"(it was ended, as it held {program.peak / 1e6:,.0f} MB, which is more than it may)"
    return f"(it ended with code {code})" if code else ""


class _Output:
    """The beginning and the end of what a command writes."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._left_out = 0

    async def take(self, program: Program) -> None:
        """Read all of it, and keep what can be shown."""
        stream = program.process.stdout
        assert stream is not None, "it is a pipe"
        half = LONGEST_SHOWN // 2
        while piece := await stream.read(65_536):
            room = half - len(self._head)
            self._head += piece[:room]
            self._tail += piece[room:]
            self._left_out += max(0, len(self._tail) - half)
            self._tail = self._tail[-half:]

    def text(self) -> str:
        """What is kept, with a word about what is not."""
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        middle = f"\n... ({self._left_out:,} bytes are left out here) ...\n" if self._left_out else ""
        return (head + middle + tail).strip("\n")
