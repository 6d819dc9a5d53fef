"""What an agent may change in its folder, and that nothing outside of it changes whatever it tries."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold.agents import editing
from fanfold.agents.editing import edit, write
from fanfold.agents.workspace import Workspace
from fanfold.errors import WorkspaceError

SECRET = "the secret outside"
LINUX = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Path:
    folder = tmp_path / "root"
    for path, text in {
        "README.md": "# Title\n\nIt folds fans.\nIt folds fans well.\n",
        "src/app.py": "def main():\n    pass\n",
        ".git/config": "token = abc\n",
        ".fanfold/runs.db": "x\n",
        ".claude/agents/a.md": "---\n",
        ".mcp.json": "{}\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "out").symlink_to(outside)
    (folder / "leak.txt").symlink_to(outside / "secret.txt")
    (folder / "alias.md").symlink_to("README.md")
    return folder


@pytest.fixture
def space(root: Path) -> Workspace:
    return Workspace(root)


def texts(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every link as what it leads to."""
    return {
        str(path.relative_to(folder)): os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


# Writing


def test_a_file_is_written_with_its_folders_and_replaced(space: Workspace, root: Path) -> None:
    assert write(space, "new/deep/a.txt", "one\ntwo\n") == "new/deep/a.txt written (2 lines)"
    assert (root / "new/deep/a.txt").read_text() == "one\ntwo\n"
    assert write(space, "new/deep/a.txt", "three") == "new/deep/a.txt replaced (1 line)"
    assert (root / "new/deep/a.txt").read_text() == "three"
    assert os.listdir(root / "new/deep") == ["a.txt"]


def test_what_is_replaced_keeps_its_mode_and_its_other_names_keep_their_text(space: Workspace, root: Path) -> None:
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(0o755)
    os.link(root / "run.sh", root / "other.sh")
    write(space, "run.sh", "new")
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o755
    assert (root / "other.sh").read_text() == "old"


def test_a_link_that_stays_inside_is_the_file_it_leads_to(space: Workspace, root: Path) -> None:
    write(space, "alias.md", "new")
    assert (root / "alias.md").is_symlink()
    assert (root / "README.md").read_text() == "new"


BAD = [
    *("../outside/secret.txt", "out/secret.txt", "out/new.txt", "leak.txt", "/etc/passwd", "src/../../outside/x"),
    *(".git/config", ".git/hooks/pre-commit", "src/.git/x", ".fanfold/runs.db", ".claude/agents/b.md", ".mcp.json"),
    *("src/.mcp.json", "", ".", "src", "src/", "a\0b", "a\nb", "README.md/x", "\ud800"),
]


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_is_not_the_agent_s_to_change_is_refused_and_nothing_changes(
    path: str, space: Workspace, root: Path, outside: Path
) -> None:
    before = texts(root), texts(outside)
    for change in (lambda: write(space, path, "x"), lambda: edit(space, path, "token", "x")):
        with pytest.raises(WorkspaceError):
            change()
    assert (texts(root), texts(outside)) == before


@pytest.mark.parametrize("content", ["x" * (editing.LARGEST_WRITTEN + 1), "\ud800"])
def test_a_content_that_cannot_be_written_is_refused_and_leaves_nothing(
    content: str, space: Workspace, root: Path
) -> None:
    before = texts(root)
    with pytest.raises(WorkspaceError, match=r"'a\.txt'"):
        write(space, "a.txt", content)
    assert texts(root) == before


def test_a_pipe_and_a_folder_are_refused_and_not_waited_for(space: Workspace, root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in ("pipe", "src"):
        with pytest.raises(WorkspaceError, match="no plain file"):
            write(space, path, "x")
        with pytest.raises(WorkspaceError, match="no plain file"):
            edit(space, path, "a", "b")


# Editing


def test_what_stands_once_is_replaced_and_the_rest_stays(space: Workspace, root: Path) -> None:
    (root / "b.txt").write_bytes("\ufeffone\ntwo\nthree".encode())
    assert edit(space, "b.txt", "two", "2\n2") == "b.txt edited at line 2 (1 line became 2 lines)"
    assert (root / "b.txt").read_bytes() == "\ufeffone\n2\n2\nthree".encode()


def test_lines_that_end_with_carriage_returns_go_on_doing_so(space: Workspace, root: Path) -> None:
    (root / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    edit(space, "dos.txt", "one\ntwo\n", "1\n2\n")
    assert (root / "dos.txt").read_bytes() == b"1\r\n2\r\nthree\r\n"


def test_what_stands_nowhere_or_more_than_once_is_said_and_nothing_is_changed(space: Workspace, root: Path) -> None:
    before = texts(root)
    with pytest.raises(WorkspaceError, match=r"'It floats' does not stand in 'README\.md'"):
        edit(space, "README.md", "It floats", "x")
    with pytest.raises(WorkspaceError, match=r"'It folds fans' stands in 'README\.md' 2 times \(lines 3, 4\)"):
        edit(space, "README.md", "It folds fans", "x")
    with pytest.raises(WorkspaceError, match="`old` is empty"):
        edit(space, "README.md", "", "x")
    with pytest.raises(WorkspaceError, match=r"no file 'none\.txt'"):
        edit(space, "none.txt", "a", "b")
    assert texts(root) == before


def test_what_is_no_text_is_not_edited(space: Workspace, root: Path) -> None:
    (root / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(WorkspaceError, match="no UTF-8 text"):
        edit(space, "image.png", "PNG", "x")


# Races


@pytest.fixture
def swap(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], None]:
    """Have something done just before the first call of a function of `os`, which is when a path has been checked."""

    def before(name: str, act: Callable[[], None]) -> None:
        real, left = getattr(os, name), [act]

        def first(*args: object, **kwargs: object) -> object:
            if left:
                left.pop()()
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, first)

    return before


@pytest.mark.parametrize("path", ["src/secret.txt", "src/new/secret.txt"])
@pytest.mark.parametrize("when", ["mkdir", "rename"])
def test_a_folder_that_becomes_a_link_out_of_the_folder_leads_nowhere(
    when: str,
    path: str,
    space: Workspace,
    root: Path,
    outside: Path,
    swap: Callable[[str, Callable[[], None]], None],
) -> None:
    (root / "src" / "secret.txt").write_text("harmless")

    def act() -> None:
        (root / "src").rename(root / "old")
        (root / "src").symlink_to(outside)

    swap(when, act)
    try:
        write(space, path, "changed")
    except WorkspaceError:
        assert (root / "old" / "secret.txt").read_text() == "harmless"
    else:  # it was renamed behind our back, and is still inside
        assert (root / "old" / path.removeprefix("src/")).read_text() == "changed"
    assert texts(outside) == {"secret.txt": SECRET.encode()}
    assert os.listdir(outside) == ["secret.txt"]


def test_a_folder_that_is_moved_out_of_ours_is_not_written_to(
    space: Workspace, root: Path, outside: Path, swap: Callable[[str, Callable[[], None]], None]
) -> None:
    swap("fchmod", lambda: (root / "src").rename(outside / "src") and None)
    with pytest.raises(WorkspaceError, match="changed meanwhile"):
        write(space, "src/app.py", "changed")
    assert texts(outside / "src") == {"app.py": b"def main():\n    pass\n"}


def test_a_file_that_becomes_a_link_is_not_followed(
    space: Workspace, root: Path, outside: Path, swap: Callable[[str, Callable[[], None]], None]
) -> None:
    def act() -> None:
        (root / "README.md").unlink()
        (root / "README.md").symlink_to(outside / "secret.txt")

    swap("rename", act)
    write(space, "README.md", "changed")
    assert (root / "README.md").read_text() == "changed"
    assert texts(outside) == {"secret.txt": SECRET.encode()}


def test_an_edit_of_what_somebody_else_has_changed_meanwhile_is_refused(
    space: Workspace, root: Path, swap: Callable[[str, Callable[[], None]], None]
) -> None:
    swap("fchmod", lambda: (root / "README.md").write_text("somebody else's") and None)
    with pytest.raises(WorkspaceError, match="changed meanwhile"):
        edit(space, "README.md", "# Title", "# Other")
    assert (root / "README.md").read_text() == "somebody else's"


@pytest.fixture
def flickering(root: Path, outside: Path) -> Iterator[None]:
    """A path that is a folder, and a link out of ours, by turns, as fast as can be."""
    done = threading.Event()
    path = root / "flicker"
    path.mkdir()

    def flicker() -> None:
        for number in count():
            if done.is_set():
                return
            path.rename(root / f"spare{number}")
            with contextlib.suppress(FileExistsError, IsADirectoryError):  # it is a folder again: `write` makes it, too
                path.symlink_to(outside)
                path.unlink()
            path.mkdir(exist_ok=True)

    thread = threading.Thread(target=flicker)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("flickering")
def test_a_path_that_changes_all_the_time_never_writes_outside(space: Workspace, outside: Path) -> None:
    written = 0
    for number in range(300):
        try:
            write(space, "flicker/secret.txt", f"changed {number}")
        except WorkspaceError:
            continue
        written += 1
    assert written
    assert texts(outside) == {"secret.txt": SECRET.encode()}


def test_edits_side_by_side_lose_nothing(space: Workspace, root: Path) -> None:
    (root / "list.txt").write_text("".join(f"line {number};\n" for number in range(40)))

    def mark(number: int) -> None:
        while True:
            with contextlib.suppress(WorkspaceError):  # somebody else was quicker
                edit(space, "list.txt", f"line {number};", f"LINE {number};")
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mark, range(40)))
    assert (root / "list.txt").read_text() == "".join(f"LINE {number};\n" for number in range(40))


def test_a_reader_sees_the_old_text_or_the_new_one(space: Workspace, root: Path) -> None:
    done, torn = threading.Event(), []
    write(space, "big.txt", "a" * 1_000_000)

    def look() -> None:
        while not done.is_set():
            text = (root / "big.txt").read_text()
            if len(set(text)) != 1 or len(text) != 1_000_000:
                torn.append(text[:10])

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        write(space, "big.txt", "ab"[number % 2] * 1_000_000)
    done.set()
    reader.join()
    assert torn == []


@LINUX
def test_changing_leaves_no_descriptor_open(space: Workspace) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("README.md", "src/app.py", "src", "out/x", ".git/config", "x/y/z.txt") * 5:
        for change in (lambda path=path: write(space, path, "x"), lambda path=path: edit(space, path, "x", "y")):
            try:
                change()
            except WorkspaceError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


PART = st.sampled_from(
    ["..", ".", "", "src", "out", "leak.txt", "secret.txt", "README.md", "outside", "root", "~", ".git", "x", "\0"]
)
PATHS = st.lists(PART | st.text(st.characters(), max_size=4), max_size=6).map("/".join)


@given(PATHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_changes_anything_outside_the_folder(space: Workspace, outside: Path, path: str) -> None:
    before = texts(outside), sorted(os.listdir(outside.parent))
    for change in (lambda: write(space, path, "x"), lambda: edit(space, path, "secret", "x")):
        try:
            change()
        except WorkspaceError:
            continue
    assert (texts(outside), sorted(os.listdir(outside.parent))) == before
