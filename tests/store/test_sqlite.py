"""What is particular to a file: that others lock it, that disks are full, and that its log is copied back."""

from __future__ import annotations

import os
import signal
import sqlite3
import textwrap
import threading
from pathlib import Path

import pytest

from fanfold.errors import StoreError
from fanfold.store import sqlite
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.writer import Session
from tests.store.making import Open, Process, checkpoint, kept, opened, result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


# Others who have the file


LOCK = {
    "writing": """
        import sqlite3
        other = sqlite3.connect(sys.argv[1], isolation_level=None)
        other.execute("begin immediate")
        say("locked")
        input()
        other.execute("rollback")
        say("free")
        input()
        """,
    "having it for itself": """
        import sqlite3
        store.close()
        other = sqlite3.connect(sys.argv[1], isolation_level=None)
        other.execute("pragma locking_mode = exclusive")
        other.execute("begin exclusive")
        other.execute("create table mine (a)")
        say("locked")
        input()
        other.execute("rollback")
        other.close()
        say("free")
        input()
        """,
    "frozen in a commit": """
        import threading
        store.write(lambda _: (say("locked"), input(), None)[2]).result()
        say("free")
        input()
        """,
}


@pytest.mark.parametrize("how", ["writing", "frozen in a commit"])
def test_i12_a_file_that_another_process_keeps_locked_is_an_error_and_later_it_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(sqlite, "_LONGEST_WAIT", 0.05)
    with SqliteStore(path, patience=0.3) as store, Process(str(path), textwrap.dedent(LOCK[how])) as other:
        kept(store, result("before"))
        assert other.said() == "locked"
        with pytest.raises(StoreError, match=r"cannot write to .*(locked|another process has been writing)"):
            store.submit(result("a")).result(10)
        assert [each.task_id for each in store.results("r1")] == ["before"]  # reading is in nobody's way
        other.tell()
        assert other.said() == "free"
        kept(store, result("b"))
        assert [each.task_id for each in store.results("r1")] == ["before", "b"]


def test_a_file_that_somebody_has_for_themselves_cannot_be_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_LONGEST_WAIT", 0.05)
    with Process(str(path), textwrap.dedent(LOCK["having it for itself"])) as other:
        assert other.said() == "locked"
        with pytest.raises(StoreError, match=r"cannot open the store .*locked"):
            SqliteStore(path)
        other.tell()
        assert other.said() == "free"
        with SqliteStore(path) as store:
            kept(store, result("a"))


def test_a_file_that_is_locked_for_a_while_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_LONGEST_WAIT", 0.05)
    with SqliteStore(path) as store, Process(str(path), textwrap.dedent(LOCK["writing"])) as other:
        assert other.said() == "locked"
        tried, ticket = threading.Event(), store.submit(result("a"))
        real = store._place.passes
        monkeypatch.setattr(store._place, "passes", lambda error: tried.set() or real(error))
        assert tried.wait(10)
        other.tell()
        ticket.result(10)


def test_a_killed_process_leaves_no_lock_behind(path: Path) -> None:
    with SqliteStore(path) as store, Process(str(path), textwrap.dedent(LOCK["frozen in a commit"])) as other:
        assert other.said() == "locked"
        os.kill(other.pid, signal.SIGKILL)
        kept(store, result("a"))


# The end of the process, and of the disk


KEEP = """
    number = 0
    while True:
        change = ResultKept("t", "", "c0", "r1", f"{number:05}", "result", "node", 1, b"x" * 500, None, "1")
        store.submit(change).result(10)
        say(f"{number:05}")
        number += 1
"""


def test_i1_what_was_acknowledged_is_there_after_kill_9_and_the_file_is_whole(path: Path) -> None:
    acknowledged: list[str] = []
    for _ in range(2):
        path.unlink(missing_ok=True)
        with Process(str(path), textwrap.dedent(KEEP)) as process:
            acknowledged = [process.said() for _ in range(100)]
            os.kill(process.pid, signal.SIGKILL)
            assert process.popen.stdout is not None
            acknowledged += process.popen.stdout.read().split()
        with SqliteStore(path) as store:
            found = [each.task_id for each in store.results("r1")]
            kept(store, result("and on"))
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) - len(acknowledged) <= 1  # what was in flight
        with sqlite3.connect(path) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        connection.close()


FULL = """
    import resource
    from fanfold.store import sqlite
    sqlite._LONG_LOG, sqlite._COMMITS = {log}, 1
    lease = store.claim("t", me).result(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    kept = []
    try:
        for number in range(1000):
            change = ResultKept("t", "", "c0", "r1", f"{{number:05}}", "result", "node", 1, b"x" * 5000, None, "1")
            store.submit(change, lease).result(10)
            kept.append(change)
    except StoreError as error:
        say(type(error).__name__, error)
    say(len(kept), store.results("r1") == kept)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = CheckpointKept("t", "", "c1", None, "r1", 1, "loop", 1.0, True, b"")
    say(type(store.submit(after, lease).exception(10)).__name__)
    store.release(lease)
    lease = store.claim("t", me).result(10)
    store.submit(after, lease).result(10)
    say("and on")
"""


@pytest.mark.parametrize("log", [0, 10**9])
def test_i12_a_full_disk_is_an_error_and_what_was_acknowledged_is_there(path: Path, log: int) -> None:
    with Process(str(path), textwrap.dedent(FULL).format(log=log)) as process:
        assert process.said().startswith("StoreError cannot write to ")
        number, right = process.said().split()
        assert (int(number) > 10, right) == (True, "True")
        assert process.said() == "StoreError"  # nothing that follows from what was not stored
        assert process.said() == "and on"
        assert process.end() == 0
    with SqliteStore(path) as store:
        assert len(store.results("r1")) == int(number)
        assert [each.checkpoint_id for each in store.history("t")] == ["c1"]


# The log


def size_of_log(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_the_log_is_copied_back_and_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_LONG_LOG", 300_000)
    monkeypatch.setattr(sqlite, "_COMMITS", 8)
    with SqliteStore(path) as store, SqliteStore(path) as other:
        sizes = []
        for number in range(120):
            kept(store if number % 2 else other, result(f"{number}", data=b"x" * 20_000))
            if number % 10 == 0:
                assert len(store.results("r1")) == number + 1
            sizes.append(size_of_log(path))
        assert max(sizes) < 1_500_000 < 120 * 20_000
        assert path.stat().st_size > 1_000_000


def test_the_log_grows_while_somebody_reads_and_no_further_when_they_are_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LONG_LOG", 100_000)
    monkeypatch.setattr(sqlite, "_COMMITS", 4)
    with SqliteStore(path) as store:
        kept(store, result("first"))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("begin")
        assert reader.execute("select count(*) from task_result").fetchone() == (1,)
        for number in range(40):
            kept(store, result(f"a{number}", data=b"x" * 20_000))
        grown = size_of_log(path)
        assert grown > 700_000
        assert reader.execute("select count(*) from task_result").fetchone() == (1,)
        reader.execute("rollback")
        reader.close()
        for number in range(40):
            kept(store, result(f"b{number}", data=b"x" * 20_000))
        assert size_of_log(path) < 1.5 * grown


def test_of_processes_that_write_one_file_at_once_everything_is_there(path: Path) -> None:
    program = """
        from fanfold.store import sqlite
        sqlite._LONG_LOG, sqlite._COMMITS = 0, 3
        input()
        for number in range(60):
            task = f"{sys.argv[2]}-{number:02}"
            change = ResultKept("t", "", "c0", "r1", task, "result", "node", 1, b"x" * 3000, None, "1")
            store.submit(change).result(30)
        say("done")
    """
    with SqliteStore(path) as store:
        crowd = [Process(str(path), textwrap.dedent(program), name) for name in "abc"]
        for process in crowd:
            process.tell()
        assert [process.said() for process in crowd] == ["done"] * 3
        assert [process.end() for process in crowd] == [0] * 3
        found = [each.task_id for each in store.results("r1")]
        assert sorted(found) == [f"{name}-{number:02}" for name in "abc" for number in range(60)]
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


# What is not committed


def test_nobody_reads_what_is_not_committed(opens: Open) -> None:
    with opens() as store:
        seen: list[object] = []
        reading: list[threading.Thread] = []

        def undone(session: Session) -> None:
            session.rows("close_run", {"run": "r1", "status": "done", "finished": 1.0, "error": ""})
            reader = threading.Thread(target=lambda: seen.append(store.run("r1").status))
            reader.start()
            reader.join(0.2)  # in memory it waits for us
            reading.append(reader)
            raise ValueError("and so it is undone")

        kept(store, opened())
        with pytest.raises(StoreError, match="and so it is undone"):
            store.write(undone).result(10)
        reading[0].join(10)
        assert seen == ["running"]


def test_reading_and_writing_at_once_in_memory_is_in_nobody_s_way() -> None:
    with SqliteStore(":memory:") as store:
        _read_while_writing(store)


def _read_while_writing(store: SqlStore) -> None:
    errors: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                for record in (store.thread("t"), store.thread("t", "", "c0")):
                    assert record is None or record.chain[0].full
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    kept(store, checkpoint("c0"))
    for number in range(1, 150):
        kept(store, result("a", at=f"c{number - 1}"), checkpoint(f"c{number}", parent=f"c{number - 1}", full=False))
    done.set()
    for reader in readers:
        reader.join(10)
    assert errors == []
