from __future__ import annotations

import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.agents import workspace as room
from fanfold.agents.workspace import Workspace
from fanfold.errors import WorkspaceError

SECRET = "the secret outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for path, text in {
        "README.md": "# Title\n\nIt folds fans.\n",
        "src/app.py": "import os\n\n\ndef main() -> None:\n    print('Hello')\n",
        "src/deep/er/util.py": "TIMEOUT = 5\n",
        ".github/workflows/ci.yml": "on: push\n",
        ".claude/agents/a.md": "---\n",
        ".git/config": "token = abc\n",
        ".fanfold/runs.db": "x\n",
        "node_modules/x/index.js": "import y\n",
        "src/__pycache__/app.pyc": "import os\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def space(root: Path) -> Workspace:
    return Workspace(root)


# The folder.


def test_a_root_that_is_missing_or_no_folder_is_refused_by_name(root: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"missing' cannot be used: No such file.*\n.*a folder that exists"):
        Workspace(root / "missing")
    with pytest.raises(WorkspaceError, match=r"README\.md' is no folder"):
        Workspace(root / "README.md")
    with pytest.raises(WorkspaceError, match="cannot be used"):
        Workspace(Path("a\0b"))


def test_a_root_that_is_a_link_is_the_folder_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert Workspace(tmp_path / "link") == Workspace(root)


# glob


def test_hidden_folders_are_content_and_noise_is_not(space: Workspace) -> None:
    assert space.glob("**/*").split("\n") == [
        ".claude/agents/a.md",
        ".github/workflows/ci.yml",
        "README.md",
        "src/app.py",
        "src/deep/er/util.py",
    ]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.md", ["README.md"]),
        ("./README.md", ["README.md"]),
        ("**/*.py", ["src/app.py", "src/deep/er/util.py"]),
        ("src/**", ["src/app.py", "src/deep/er/util.py"]),
        ("src/**/app.py", ["src/app.py"]),
        ("src/*/*/util.py", ["src/deep/er/util.py"]),
        ("**/er/**", ["src/deep/er/util.py"]),
        ("**/**/u?il.[p]y", ["src/deep/er/util.py"]),
        ("**/*.{md,yml}", [".claude/agents/a.md", ".github/workflows/ci.yml", "README.md"]),
    ],
)
def test_a_glob_lists_what_it_says(pattern: str, paths: list[str], space: Workspace) -> None:
    assert space.glob(pattern).split("\n") == paths


def test_a_glob_that_matches_nothing_says_how_to_look_deeper(space: Workspace) -> None:
    assert space.glob("util.py") == "(no file matches `util.py`; `**/util.py` looks in every folder)"
    assert space.glob("**/*.rs") == "(no file matches `**/*.rs`)"


def test_a_long_list_is_cut_and_says_by_how_much(root: Path) -> None:
    (root / "many").mkdir()
    for number in range(510):
        (root / "many" / f"{number:03}.txt").touch()
    lines = Workspace(root).glob("many/*").split("\n")
    assert lines[0] == "many/000.txt"
    assert len(lines) == 501
    assert lines[-1] == "(10 more files were left out)"


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "src/../../*", "a\0b", "", ".", "//", "x" * 501])
def test_a_glob_that_leaves_the_folder_or_names_nothing_is_refused(pattern: str, space: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="pattern '"):
        space.glob(pattern)


@pytest.mark.timed
def test_no_glob_is_slow(root: Path) -> None:
    (root / ("a" * 200)).touch()
    start = time.perf_counter()
    Workspace(root).glob("*a" * 100 + "b")
    Workspace(root).glob("**/" * 100 + "b")
    Workspace(root).glob("{a,b}" * 30)
    assert time.perf_counter() - start < 1.0


@given(
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "*", "**", "?b", "b"]), min_size=1, max_size=5),
)
def test_matching_part_by_part_agrees_with_trying_every_way(parts: list[str], pattern: list[str]) -> None:
    def plainly(parts: list[str], pattern: list[str]) -> bool:
        if not pattern:
            return not parts
        if pattern[0] == "**":
            return any(plainly(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
        return bool(parts) and fnmatchcase(parts[0], pattern[0]) and plainly(parts[1:], pattern[1:])

    (glob,) = room._globs("/".join(pattern))
    assert room._matches(parts, glob) == plainly(parts, pattern)


# grep


def test_grep_shows_path_line_and_text_whatever_the_case(space: Workspace) -> None:
    assert space.grep("timeout") == "src/deep/er/util.py:1: TIMEOUT = 5"
    assert space.grep("^import", "**/*.py") == "src/app.py:1: import os"
    assert space.grep("HELLO|folds", "*.md") == "README.md:3: It folds fans."


def test_a_pattern_with_several_repetitions_finds_the_same(space: Workspace) -> None:
    assert space.grep(r"^\s*print\(.*lo.*\)+$") == "src/app.py:5:     print('Hello')"


def test_nothing_found_is_said(space: Workspace) -> None:
    assert space.grep("zebra") == "(no line matches)"
    assert space.grep("z+e+b+r+a+") == "(no line matches)"


@pytest.mark.parametrize("pattern", ["(", "*", "[a", "a{99999999999999999999}", "(" * 400, "x" * 501])
def test_a_pattern_that_is_none_is_answered_with_its_fault(pattern: str, space: Workspace) -> None:
    assert re.match(r"\(the pattern `.*` cannot be used: .+\)$", space.grep(pattern))


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(.*)*b", "a?" * 60 + "a" * 60 + "b", "(a|a)*b", "(a|a)" * 60 + "b"]
)
def test_a_pattern_that_would_take_for_ever_is_stopped(
    pattern: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SECONDS_TO_SEARCH", 0.3)
    (root / "trap.txt").write_text("a" * 100 + "!\n")
    start = time.perf_counter()
    answer = Workspace(root).grep(pattern, "trap.txt")
    assert time.perf_counter() - start < 3.0
    assert answer.endswith("(stopped after 0.3 s: use a simpler pattern or a narrower glob)")


@pytest.mark.parametrize("pattern", ["word", "one|two", "def .*x", r"main\(", r"\(\*\*\)", "^import"])
def test_a_simple_pattern_needs_no_process(pattern: str, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(room, "_search_apart")
    assert space.grep(pattern)


def test_a_search_that_is_out_of_time_keeps_what_it_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_SECONDS_TO_SEARCH", 0.0)
    assert Workspace(root).grep("import").startswith("(no line matches)\n(stopped after 0 s")
    assert Workspace(root).grep("i+m+").startswith("(no line matches)\n(stopped after 0 s")


def test_long_lines_and_many_matches_are_cut_and_say_so(root: Path) -> None:
    (root / "long.txt").write_text("needle " + "x" * 400 + "\n")
    (root / "many.txt").write_text("needle\n" * 30)
    lines = Workspace(root).grep("needle", "*.txt").split("\n")
    assert lines[0] == "long.txt:1: needle " + "x" * 293 + " ..."
    assert lines[20] == "many.txt:20: needle"
    assert lines[21:] == ["(10 more matches in many.txt)"]
    for number in range(12):
        (root / f"more{number}.txt").write_text("needle\n" * 19)
    lines = Workspace(root).grep("needle", "*.txt").split("\n")
    assert sum(": needle" in line for line in lines) == 200
    assert lines[-1] == "(stopped at 200 matches: use a narrower pattern or glob)"


def test_binary_and_large_files_are_not_searched(root: Path) -> None:
    (root / "image.bin").write_bytes(b"needle\0")
    (root / "large.txt").write_bytes(b"needle\n" * 150_000)
    answer = Workspace(root).grep("needle")
    assert answer == "(no line matches)\n(1 files of more than 1 MB were not searched)"


# read


def test_read_shows_numbered_lines_and_which_they_are(space: Workspace) -> None:
    assert space.read("README.md") == "README.md (lines 1-3 of 3)\n1\t# Title\n2\t\n3\tIt folds fans."
    assert space.read("src/app.py", offset=4, limit=1) == "src/app.py (lines 4-4 of 5)\n4\tdef main() -> None:"
    assert space.read("README.md", offset=9) == "README.md (no line 9: it has 3)"
    assert space.read("README.md", offset=-3, limit=-1) == "README.md (lines 1-1 of 3)\n1\t# Title"


def test_only_a_line_feed_ends_a_line(root: Path) -> None:
    (root / "odd.txt").write_bytes(b"\xef\xbb\xbfone\x0cstill\xe2\x80\xa8one\r\ntwo\xff")
    assert Workspace(root).read("odd.txt") == (
        "odd.txt (lines 1-2 of 2)\n1\tone\x0cstill\u2028one\n2\ttwo\N{REPLACEMENT CHARACTER}"
    )


def test_an_empty_a_binary_and_a_huge_file_are_called_that(root: Path) -> None:
    (root / "empty").touch()
    (root / "binary").write_bytes(b"\0\1")
    with open(root / "huge", "wb") as file:
        file.truncate(10_000_001)
    space = Workspace(root)
    assert space.read("empty") == "empty (empty)"
    with pytest.raises(WorkspaceError, match="'binary' is a binary file"):
        space.read("binary")
    with pytest.raises(WorkspaceError, match="'huge' is larger than 10 MB"):
        space.read("huge")


def test_a_missing_file_is_answered_with_the_closest_path(space: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"no file 'src/ap\.py' in the folder\n  did you mean 'src/app\.py'"):
        space.read("src/ap.py")


# The boundary.


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../outside/secret.txt", "src/../../outside/secret.txt", "src/..", "..", "."),
        *("a\0b", "\udcff\ud800", "x" * 5000, "x/" * 3000, "src", "src/", "README.md/", "README.md/x", "~root/x"),
        *(".git/config", ".fanfold/runs.db", "src/../.git/config", "./.git/config", ".git//config"),
    ],
)
def test_a_path_that_leaves_the_folder_or_is_no_file_is_refused(path: str, space: Workspace, outside: Path) -> None:
    try:
        text = space.read(path)
    except WorkspaceError:
        return
    assert path == "README.md/"
    assert text.startswith("README.md/ (lines")


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("out.txt", "../outside/secret.txt", "out.txt"),
        ("out", "../outside", "out/secret.txt"),
        ("src/deep/up", "../../..", "src/deep/up/outside/secret.txt"),
        ("etc", "/etc", "etc/passwd"),
        ("git.txt", ".git/config", "git.txt"),
        ("null", "/dev/null", "null"),
        ("loop", "loop", "loop"),
        ("dangling", "nowhere", "dangling"),
    ],
)
def test_a_link_that_leads_out_is_neither_read_nor_listed(
    link: str, target: str, path: str, root: Path, outside: Path
) -> None:
    (root / link).symlink_to(target)
    space = Workspace(root)
    with pytest.raises(WorkspaceError, match=re.escape(repr(path))):
        space.read(path)
    assert link not in space.glob("**/*")
    assert SECRET not in space.grep("secret")
    assert space.find_quote(path, 1, SECRET) is None


def test_a_link_that_stays_inside_is_the_file_it_leads_to(root: Path) -> None:
    (root / "link.md").symlink_to("README.md")
    (root / "abs.md").symlink_to(root / "README.md")
    (root / "dir").symlink_to("src")
    (root / "src" / "cycle").symlink_to("..")
    space = Workspace(root)
    assert space.read("link.md") == space.read("README.md").replace("README.md", "link.md")
    assert "It folds fans." in space.read("abs.md")
    assert "TIMEOUT" in space.read("dir/deep/er/util.py")
    assert "TIMEOUT" in space.read("src/cycle/src/deep/er/util.py")
    assert space.glob("*.md") == "README.md\nabs.md\nlink.md"
    assert "cycle" not in space.glob("**/*")


def test_a_pipe_a_socket_and_a_device_are_refused_and_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # relative: the path of a socket must be short
        space = Workspace(root)
        for name in ("pipe", "socket"):
            with pytest.raises(WorkspaceError, match=f"'{name}' is no plain file"):
                space.read(name)
            assert name not in space.glob("*")
    with pytest.raises(WorkspaceError, match="'null' is no plain file"):
        Workspace(Path("/dev")).read("null")


def test_a_file_whose_name_would_forge_lines_is_not_listed(root: Path) -> None:
    (root / "a\nsrc").mkdir()
    (root / "a\nsrc" / "app.py").touch()
    (root / "b\nREADME.md").touch()
    os.close(os.open(os.fsencode(root) + b"/\xff", os.O_CREAT))
    assert len(Workspace(root).glob("**/*").split("\n")) == 5


def test_a_worktrees_git_file_is_not_listed(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / ".git").write_text("gitdir: elsewhere\n")
    assert "sub" not in Workspace(root).glob("**/*")


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_swapped_in_after_the_check_is_found_out(
    swapped: str, root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src" / "secret.txt").write_text("harmless")
    real = os.open

    def swap_then_open(path: Path, flags: int) -> int:
        if swapped == "file":
            (root / "src" / "secret.txt").unlink()
            (root / "src" / "secret.txt").symlink_to(outside / "secret.txt")
        else:
            (root / "src").rename(root / "old")
            (root / "src").symlink_to(outside)
        return real(path, flags)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(WorkspaceError, match=r"'src/secret\.txt'"):
        Workspace(root).read("src/secret.txt")


@pytest.fixture
def flickering(root: Path, outside: Path) -> Iterator[None]:
    """A path that is a harmless file and a link out of the folder, by turns, as fast as can be."""
    done = threading.Event()
    path, spare = root / "flicker.txt", root / "spare.txt"
    path.write_text("harmless")

    def flicker() -> None:
        while not done.is_set():
            spare.symlink_to(outside / "secret.txt")
            spare.rename(path)
            spare.write_text("harmless")
            spare.rename(path)

    thread = threading.Thread(target=flicker)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("flickering")
def test_a_path_that_changes_all_the_time_never_shows_what_lies_outside(root: Path) -> None:
    space, seen = Workspace(root), 0
    for _ in range(300):
        try:
            text = space.read("flicker.txt")
        except WorkspaceError:
            continue
        assert SECRET not in text
        seen += 1
    assert seen


def test_the_second_look_without_proc_sees_a_swapped_file(root: Path, outside: Path) -> None:
    fd = os.open(outside / "secret.txt", os.O_RDONLY)
    try:
        place = Workspace(root).root / "README.md"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os.path, "islink", lambda path: False)
            assert room.place_of(fd, place) == Path("/")
            assert room.place_of(fd, outside / "secret.txt") == (outside / "secret.txt").resolve()
    finally:
        os.close(fd)


def test_reading_leaves_no_descriptor_open(root: Path) -> None:
    space = Workspace(root)
    (root / "binary").write_bytes(b"\0")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("README.md", "binary", "src", "missing", ".git/config") * 5:
        space.find_quote(path, 1, "x")
    assert len(os.listdir("/proc/self/fd")) == before


PART = st.sampled_from(
    ["..", ".", "", "src", "out", "up", "secret.txt", "README.md", "outside", "root", "~", ".git", "config", "\0"]
)
PATHS = st.lists(PART | st.text(st.characters(), max_size=4), max_size=8).map("/".join)


@given(PATHS | st.text(st.characters(), max_size=30))
def test_no_path_shows_anything_outside_the_folder(path: str) -> None:
    space = _trapped()
    for text in (_answer(space.read, path), _answer(space.grep, "secret|token", path), _answer(space.glob, path)):
        assert SECRET not in text
        assert "outside" not in text or "outside" in path
    assert space.find_quote(path, 1, SECRET) is None


def _answer(tool: object, *arguments: str) -> str:
    assert callable(tool)
    try:
        return str(tool(*arguments))
    except WorkspaceError:
        return ""


_TRAPPED: list[tempfile.TemporaryDirectory[str]] = []


def _trapped() -> Workspace:
    """One folder for all examples, with links that lead out of it; made once, since it is only read."""
    if not _TRAPPED:
        _TRAPPED.append(tempfile.TemporaryDirectory())
        base = Path(_TRAPPED[0].name)
        for path in ("outside/secret.txt", "root/src/README.md", "root/.git/config"):
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(SECRET if "src" not in path else "hello\n")
        (base / "root/out").symlink_to(base / "outside")
        (base / "root/src/up").symlink_to("../..")
        (base / "root/secret.txt").symlink_to("../outside/secret.txt")
    return Workspace(Path(_TRAPPED[0].name, "root"))


# Quotes.


def test_a_quote_is_found_at_the_line_nearest_to_the_claim(root: Path) -> None:
    (root / "q.txt").write_text("same\n\n  say   “hello”\tnow\nsame\n" + "x" * 400 + "\n")
    space = Workspace(root)
    assert space.find_quote("q.txt", 1, "same") == 1
    assert space.find_quote("q.txt", 99, "same") == 4
    assert space.find_quote("q.txt", 0, "say 'hello' now ") == 3
    assert space.find_quote("q.txt", 1, 'say "hello"') == 3
    assert space.find_quote("q.txt", 1, "x" * 300 + " ...") == 5
    assert space.find_quote("q.txt", 1, "Same") is None
    assert space.find_quote("q.txt", 1, "  ") is None


@pytest.mark.parametrize("path", ["missing", "../q.txt", "/etc/passwd", "", "src", "\0"])
def test_a_quote_from_a_path_that_cannot_be_read_is_found_nowhere(path: str, space: Workspace) -> None:
    assert space.find_quote(path, 1, "root") is None
