"""From a URL, or a file as it lies there, to a store; or to an error that says what is wrong with it."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fanfold.errors import StoreError, UsageError
from fanfold.store.base import ResultKept, Store
from fanfold.store.opening import open_store
from fanfold.store.sqlite import SqliteStore

RESULT = ResultKept("t", "", "c", "r", "task", "result", "node", 1, b"data")


def works(store: Store) -> bool:
    store.submit(RESULT).result(10)
    return store.results("r") == [RESULT]


# What a URL means


@pytest.mark.parametrize("url", ["memory:", ":memory:"])
def test_memory_is_a_store_of_its_own_each_time(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(url) as one, open_store(url) as other:
        assert works(one)
        assert other.results("r") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "runs.db", Path("runs.db"), "./runs.db"])
def test_a_path_is_relative_to_the_working_directory(
    url: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(url) as store:
        assert works(store)
    assert (tmp_path / "runs.db").is_file()


def test_a_fourth_slash_makes_it_absolute(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/deep/er/runs.db") as store:
        assert works(store)
    assert (tmp_path / "deep/er/runs.db").is_file()


def test_a_path_with_unusual_characters_is_one_file_of_that_name(tmp_path: Path) -> None:
    name = "a b?mode=memory#%20 ä.db"
    with open_store(tmp_path / name) as store:
        assert works(store)
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    "url",
    ["", "mysql://host/db", "sqlite:runs.db", "sqlite:///", "sqlite://runs.db", "x://", "postgres:", "postgresql:n"],
)
def test_a_url_that_names_no_store_is_refused_with_what_would(url: str) -> None:
    with pytest.raises(UsageError, match=r"cannot tell what store .* is\n.*sqlite:///runs\.db"):
        open_store(url)


def test_a_file_that_is_not_there_is_made_unless_that_is_not_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*runs\.db"):
        open_store(tmp_path / "runs.db", make=False)
    assert list(tmp_path.iterdir()) == []
    open_store(tmp_path / "runs.db").close()
    open_store(tmp_path / "runs.db", make=False).close()
    open_store("memory:", make=False).close()


# What lies there


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and they are no database. " * 50)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"cannot open the store .*notes\.txt: file is not a database"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open the store"):
        open_store(tmp_path)


def test_a_place_where_no_file_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot open the store .*file/runs\.db: .*\n.*--store"):
        open_store(tmp_path / "file" / "runs.db")
    with pytest.raises(StoreError, match="cannot open the store"):
        open_store(tmp_path / "file" / "deep" / "runs.db")


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("insert into migration (no, checksum, applied) values (9999, 'of the future', 0)")
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="written by a newer fanfold; upgrade"):
            open_store(path)


def test_a_store_that_was_damaged_says_so_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        for number in range(200):
            store.submit(ResultKept("t", "", "c", "r", f"{number}", "result", "node", 1, bytes(500)))
    damaged = bytearray(path.read_bytes())
    half = len(damaged) // 2  # the tables that say what there is come first
    damaged[half:] = b"\xff" * (len(damaged) - half)
    path.write_bytes(damaged)
    with open_store(path) as store, pytest.raises(StoreError, match=r"cannot read .*runs\.db: .*malformed"):
        store.results("r")


OPEN_AT_ONCE = """
import sys
from fanfold.store.sqlite import SqliteStore
print("here", flush=True)
for line in sys.stdin:
    with SqliteStore(line.strip()):
        print("opened", flush=True)
"""


def test_a_new_file_may_be_opened_by_eight_processes_at_once(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AT_ONCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(8)
    ]
    pipes = [(process.stdin, process.stdout) for process in crowd if process.stdin and process.stdout]
    assert {out.readline() for _, out in pipes} == {"here\n"}
    for number in range(25):
        for into, _ in pipes:
            into.write(f"{tmp_path}/{number}.db\n")
        assert [out.readline() for _, out in pipes] == ["opened\n"] * 8, f"round {number}"
    for process in crowd:
        process.communicate(timeout=20)
        assert process.returncode == 0


# Letting go


def test_a_store_that_could_not_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 100)
    with pytest.raises(StoreError):
        open_store(tmp_path / "notes.txt")
    gc.collect()  # with warnings as errors, an open connection that is collected would fail here


NEVER_CLOSED = """
import sys
from fanfold.store.base import ResultKept
from fanfold.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for number in range(500):
    store.submit(ResultKept("t", "", "c", "r", str(number), "result", "node", 1, b"data"))
if sys.argv[2] == "collected":
    del store
"""


@pytest.mark.parametrize("end", ["collected", "at the end"])
def test_a_process_that_ends_without_closing_commits_what_is_queued_and_warns_of_nothing(
    tmp_path: Path, end: str
) -> None:
    path = tmp_path / "runs.db"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", NEVER_CLOSED, path, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with open_store(path) as store:
        assert len(store.results("r")) == 500


COLLECTED_BY_THE_WRITER = """
import gc, sys, threading
from fanfold.store.base import ResultKept
from fanfold.store.sqlite import SqliteStore
gc.disable()
store = SqliteStore(sys.argv[1])
store.itself = store
let_go = threading.Event()
ticket = store.submit(ResultKept("t", "", "c", "r", "1", "result", "node", 1, b"data"))
store.write(lambda _: let_go.wait(10) and gc.collect())
store.submit(ResultKept("t", "", "c", "r", "2", "result", "node", 1, b"data"))
writer = store._writer._thread
del store
let_go.set()
writer.join(10)
print(writer.is_alive())
"""


def test_a_store_may_be_collected_in_the_thread_of_its_own_writer(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", COLLECTED_BY_THE_WRITER, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    with open_store(path) as store:
        assert len(store.results("r")) == 2
