"""How an agent changes files of its folder: `write` a whole one, or `edit` a place in it.

**The boundary** is the one of reading (`agents/workspace`), and a little narrower: what says which agents there are and
what they start (`.claude`, `.mcp.json`) is read and not written, since an agent that writes it would decide what the
next run may do.

**Races.** A path is resolved once, and then walked from the folder's own descriptor, part by part, without following a
link: what has become one since was swapped in, and is refused. The new text is written beside its place under a name
that nobody can guess, and takes the place by a rename. So a reader sees the old file or the new one; a link that stands
there is replaced and not followed, and other names of the same file (hard links) keep what they had. An edit is
refused when the file is not the one any more that was looked at.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fanfold.agents.workspace import Workspace, place_of
from fanfold.errors import WorkspaceError
from fanfold.store import files

KEPT: Final = frozenset({".claude", ".mcp.json"})
"""Names of what an agent may read and not write."""

LARGEST_WRITTEN: Final = 10_000_000
_LONGEST_SHOWN: Final = 60
_LINES_NAMED: Final = 5
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Agents of one process do not change a file between somebody's last look at it and his rename.
_changing = threading.Lock()


def write(space: Workspace, path: str, content: str) -> str:
    """Make `content` the whole text of a file, which need not exist yet, nor its folders."""
    with _place(space, path) as place:
        new = place.replace(_encoded(path, content), place.standing())
    return f"{path} {'written' if new else 'replaced'} ({_lines(content)})"


def edit(space: Workspace, path: str, old: str, new: str) -> str:
    """Put `new` in the place of `old`, which must stand in the file exactly once.

    In a file whose lines end with carriage returns, `old` and `new` need none.
    """
    if not old:
        raise WorkspaceError("`old` is empty, so it has no place", hint="use `write` for a whole file")
    with _place(space, path) as place:
        before = place.standing()
        text = _decoded(path, place.content(before))
        if old not in text and "\r\n" in text:
            old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
        at = _only(path, text, old)
        place.replace(_encoded(path, text[:at] + new + text[at + len(old) :]), before)
    return f"{path} edited at line {text.count(chr(10), 0, at) + 1} ({_lines(old)} became {_lines(new)})"


def _only(path: str, text: str, old: str) -> int:
    """Where `old` stands in the text. Raises `WorkspaceError` where that is nowhere or not one place."""
    count = text.count(old)
    shown = old.strip().split("\n")[0][:_LONGEST_SHOWN]
    if not count:
        hint = "copy it from what `read` shows, without the line's number and the tab"
        raise WorkspaceError(f"nothing was changed: {shown!r} does not stand in {path!r} like that", hint=hint)
    if count > 1:
        lines, at = list[str](), text.find(old)
        while at >= 0 and len(lines) < _LINES_NAMED:
            lines.append(str(text.count("\n", 0, at) + 1))
            at = text.find(old, at + len(old))
        where = ", ".join(lines) + (", ..." if count > len(lines) else "")
        raise WorkspaceError(
            f"nothing was changed: {shown!r} stands in {path!r} {count} times (lines {where})",
            hint="give more of the text around the one that is meant",
        )
    return text.find(old)


def _encoded(path: str, content: str) -> bytes:
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        raise WorkspaceError(f"{path!r} cannot be written: {error}") from None
    if len(encoded) > LARGEST_WRITTEN:
        raise WorkspaceError(f"{path!r} would be larger than {LARGEST_WRITTEN // 1_000_000} MB and is not written")
    return encoded


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise WorkspaceError(f"{path!r} is no UTF-8 text and is not edited") from None


def _lines(text: str) -> str:
    count = len(text.removesuffix("\n").split("\n")) if text else 0
    return f"{count} line{'s' * (count != 1)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file stands or is to stand: its name, in a folder that is held open."""

    space: Workspace
    path: str
    where: Path
    folder: int

    @property
    def name(self) -> str:
        """The file's name in its folder."""
        return self.where.name

    def standing(self) -> os.stat_result | None:
        """The file that stands there. Raises `WorkspaceError` where that is something else than a plain file."""
        try:
            status = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise WorkspaceError(f"{self.path!r} is no plain file, and is not written")
        if files.has(status):
            raise WorkspaceError(f"{self.path!r} is a database that this process has open, and only that writes it")
        return status

    def content(self, standing: os.stat_result | None) -> bytes:
        """What the file has in it. Raises `WorkspaceError` where there is none, or another one by now."""
        if standing is None:
            raise WorkspaceError(f"no file {self.path!r} in the folder", hint="`write` makes one")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(self.name, flags, dir_fd=self.folder), "rb") as file:
            content = file.read(LARGEST_WRITTEN + 1)
            if not os.path.samestat(os.fstat(file.fileno()), standing):
                raise self._changed()
        if len(content) > LARGEST_WRITTEN:
            raise WorkspaceError(f"{self.path!r} is larger than {LARGEST_WRITTEN // 1_000_000} MB and is not edited")
        return content

    def replace(self, content: bytes, before: os.stat_result | None) -> bool:
        """Make `content` the file's, if what stands there is still as it was; whether it is a new file."""
        beside = f".{self.name[:100]}.{secrets.token_hex(8)}"
        mode = stat.S_IMODE(before.st_mode) if before else 0o666
        with open(os.open(beside, _NEW, mode, dir_fd=self.folder), "wb") as file:
            try:
                file.write(content)
                file.flush()
                if before:
                    os.fchmod(file.fileno(), mode)  # the mask of the process took away of what it had
                with _changing:
                    self._check(before)
                    os.rename(beside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(beside, dir_fd=self.folder)
                raise
        return before is None

    def _check(self, before: os.stat_result | None) -> None:
        """Raise `WorkspaceError` when the file is another one than it was, or its folder has left ours."""
        now = self.standing()
        if _version(now) != _version(before) or not writable(
            self.space, place_of(self.folder, self.where.parent) / self.name
        ):
            raise self._changed()

    def _changed(self) -> WorkspaceError:
        return WorkspaceError(f"{self.path!r} was changed meanwhile, and was not written", hint="read it again")


def _version(status: os.stat_result | None) -> tuple[int, ...] | None:
    return status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def writable(space: Workspace, place: Path) -> bool:
    """Whether an agent may change what stands at a place, links followed."""
    return space.holds(place) and KEPT.isdisjoint(place.relative_to(space.root).parts)


@contextlib.contextmanager
def _place(space: Workspace, path: str) -> Iterator[_Place]:
    """The place that `path` means, in its folder, which is made if there is none and held open meanwhile."""
    place = space.place(path)
    parts = place.relative_to(space.root).parts
    if not parts or path.endswith("/"):
        raise WorkspaceError(f"{path!r} names a folder and no file")
    if not path.isprintable():
        raise WorkspaceError(f"{path!r} cannot be written on one line, and could pass itself off as several")
    if not writable(space, place):
        raise WorkspaceError(f"{path!r} is read and not written: it says which agents there are and what they start")
    held = os.open(space.root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = _opened(held, part)
            os.close(held)
            held = inner
        yield _Place(space, path, place, held)
    except OSError as error:
        raise WorkspaceError(f"{path!r} cannot be written: {error.strerror}") from error
    finally:
        os.close(held)


def _opened(folder: int, name: str) -> int:
    """A folder inside of one, opened without following a link, and made where it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
