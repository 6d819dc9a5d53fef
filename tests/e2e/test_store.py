"""The upkeep of a store by command, and everything on a real PostgreSQL: kill -9, resume, audit, the demo."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanfold.store.batches import unpacked
from tests.e2e.conftest import PATIENCE, Command, kill, until
from tests.e2e.test_commands import app

ROOT = Path(__file__).parents[2]

__all__ = ["app"]


@pytest.fixture
def fanfold(fanfold: Command) -> Command:
    """The command, which finds the PostgreSQL that the tests were told to use."""
    if "FANFOLD_POSTGRES_BIN" in os.environ:
        fanfold.env["FANFOLD_POSTGRES_BIN"] = os.environ["FANFOLD_POSTGRES_BIN"]
    return fanfold


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request: pytest.FixtureRequest, fanfold: Command, app: Path) -> Command:
    """The command with a store of either kind, named by the environment."""
    if request.param == "postgres":
        fanfold.env["FANFOLD_STORE"] = request.getfixturevalue("postgres")
    return fanfold


def lines(command: Command, *words: str, code: int = 0) -> list[Any]:
    done = command(*words, "--json")
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def damage(command: Command, statement: str) -> None:
    """Change a row of the command's store behind its back."""
    if "FANFOLD_STORE" in command.env:
        with psycopg.connect(command.env["FANFOLD_STORE"]) as server:
            server.execute(statement)
        return
    with sqlite3.connect(command.folder / ".fanfold" / "runs.db") as file:
        file.execute(statement)
    file.close()


# On PostgreSQL


@pytest.mark.parametrize("named", ["option", "environment"])
def test_on_postgres_a_run_that_was_killed_is_listed_resumed_shown_and_audited(
    fanfold: Command, app: Path, postgres: str, named: str
) -> None:
    store = ["--store", postgres] if named == "option" else []
    if named == "environment":
        fanfold.env["FANFOLD_STORE"] = postgres
    (fanfold.folder / "hold").touch()
    process = fanfold.start("run", "app.py:graph", "-i", "names=[]", "--quiet", *store)
    with psycopg.connect(postgres, autocommit=True) as server:
        # What has happened is on disk a little later than what came of it, and the receipt is to tell of it.
        rows = "select r.name, e.data, e.packed from task_result r join event e using (run_id)"
        ran = fanfold.folder / "slow.ran"

        def ended() -> list[str]:
            told = [(name, "".join(unpacked(*row, name))) for name, *row in server.execute(rows).fetchall()]
            return [name for name, text in told if "task_finished" in text]

        until(lambda: ran.exists() and ended() == ["quick"], process)
    kill(process)
    (fanfold.folder / "hold").unlink()
    (run,) = lines(fanfold, "runs", "ls", *store)
    assert run["status"] == "interrupted"
    *_, told = lines(fanfold, "resume", run["run_id"], "--quiet", *store)
    assert told["output"] == {"names": ["quick", "slow", "last"]}
    assert [(fanfold.folder / f"{name}.ran").read_text() for name in ("quick", "slow", "last")] == ["x", "xx", "x"]
    (shown,) = lines(fanfold, "runs", "show", run["run_id"], "--result", *store)
    assert shown["output"] == told["output"]
    assert fanfold("audit", run["run_id"], "--min-concurrency", "2", *store).returncode == 0
    assert fanfold("audit", run["run_id"], "--min-concurrency", "3", *store).returncode == 4
    assert not (fanfold.folder / ".fanfold").exists()


def test_a_server_that_cannot_be_reached_is_named_without_its_password(fanfold: Command, app: Path) -> None:
    url = f"postgresql://me:hunter2@/name?host={fanfold.folder}&port=5432"
    for words in (["runs", "ls"], ["run", "app.py:graph", "-i", "names=[]"], ["store", "check"], ["audit", "r"]):
        done = fanfold(*words, "--store", url)
        assert done.returncode == 6
        assert "cannot open the store postgresql://" in done.stderr
        assert "hunter2" not in done.stderr


@pytest.mark.parametrize("words", [["runs", "ls"], ["store", "stats"]])
def test_a_postgresql_of_its_own_is_for_the_demo_alone(fanfold: Command, words: list[str]) -> None:
    done = fanfold(*words, "--store", "postgres:")
    assert done.returncode == 2
    assert "cannot tell what store 'postgres:' is" in done.stderr
    assert list(fanfold.folder.iterdir()) == []


def left_over() -> set[Path]:
    return set(Path("/tmp").glob("fanfold-demo-*"))


def test_the_demo_runs_on_a_postgresql_that_it_starts_and_that_is_gone_with_it(fanfold: Command, project: Path) -> None:
    before = left_over()
    told = fanfold.json("demo", "--store", "postgres:", "--no-seed", "--json")
    assert (told["verdict"], told["peak"], told["rendezvous"]["met"]) == ("PARALLEL", 4, True)
    assert told["store"]["version"].startswith("PostgreSQL ")
    assert told["store"]["findings"] == []
    assert told["store"]["rows"]["run"] == 1
    assert told["store"]["rows"]["task_result"] >= 8  # of four agents, and of their nodes
    assert left_over() <= before
    assert not (fanfold.folder / ".fanfold").exists()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """What `make` takes for a virtual environment that has everything, so that it installs nothing."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    script = folder / "bin" / "fanfold"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fanfold "$@"\n')
    script.chmod(0o755)
    for extra in ("llm", "demo-postgres"):
        (folder / f".{extra}").touch()
    return folder


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_demo_store_postgres_does_the_main_job_on_a_real_postgresql(
    fanfold: Command, project: Path, environment: Path
) -> None:
    given = {"PATH": os.environ["PATH"], "HOME": str(fanfold.home), "LANG": "C.UTF-8", **fanfold.env}
    done = subprocess.run(
        ["make", "demo", "STORE=postgres", f"VENV={environment}", f"ARGS=--path {project} --no-seed --quiet"],
        cwd=ROOT,
        env={**given, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    *_, verdict, store = done.stdout.splitlines()
    assert verdict.endswith("PARALLEL")
    assert store.startswith("store: PostgreSQL ")
    assert store.endswith("nothing is wrong with them")


# Upkeep


def test_a_store_is_pruned_by_command_and_its_runs_go_on(anywhere: Command) -> None:
    for _ in range(3):
        anywhere("run", "app.py:graph", "-i", "names=[]", "--thread", "t", "--quiet")
    planned = lines(anywhere, "store", "prune", "--keep-last", "1", "--older-than", "0s", "--dry-run")
    assert [(each["thread_id"], each["runs"], each["dry_run"]) for each in planned] == [("t", 2, True)]
    assert lines(anywhere, "store", "prune", "--keep-last", "1", "--older-than", "30d") == []
    assert lines(anywhere, "store", "prune", "--keep-last", "1", "--thread", "another") == []
    done = anywhere("store", "prune", "--keep-last", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("t: ")
    assert "2 runs with " in done.stdout
    assert done.stderr.startswith("deleted: ")
    assert len(lines(anywhere, "runs", "ls")) == 1
    assert lines(anywhere, "store", "check") == []
    *_, told = lines(anywhere, "run", "app.py:graph", "-i", "names=[]", "--thread", "t")
    assert len(told["output"]["names"]) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing says what to delete"),
        (["--keep-last", "0"], "--keep-last"),
        (["--older-than", "30"], "'30' is no age"),
        (["--older-than", "9" * 40 + "w"], "longer than anything is kept"),
    ],
)
def test_what_cannot_be_meant_by_pruning_is_a_usage_error(fanfold: Command, words: list[str], said: str) -> None:
    done = fanfold("store", "prune", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_damage_is_found_by_command_and_ends_it_with_6(anywhere: Command) -> None:
    anywhere("run", "app.py:graph", "-i", "names=[]", "--thread", "t", "--quiet")
    whole = anywhere("store", "check")
    assert (whole.returncode, whole.stdout) == (0, "")
    assert whole.stderr.endswith(": nothing is wrong\n")
    damage(anywhere, "delete from event where no = 0")
    damage(anywhere, "delete from checkpoint where seq = 1")
    done = anywhere("store", "check")
    assert done.returncode == 6
    assert "event, thread 't', number 0: event 0 of run " in done.stdout
    assert "checkpoint, thread 't', number 1: checkpoint number 1 is missing" in done.stdout
    found = lines(anywhere, "store", "check", "--thread", "t", code=6)
    assert {(each["table"], each["thread_id"], each["sequence"]) for each in found} >= {
        ("event", "t", 0),
        ("checkpoint", "t", 1),
    }
    assert lines(anywhere, "store", "check", "--thread", "another") == []


def test_a_store_is_migrated_once_and_counted(anywhere: Command) -> None:
    first, second = (lines(anywhere, "store", "migrate")[0] for _ in range(2))
    assert first["migrations"][-1] == first["schema"] == second["schema"]
    assert second["migrations"] == []
    assert "up to date" in anywhere("store", "migrate").stdout
    anywhere("run", "app.py:graph", "-i", "names=[]", "--thread", "t", "--quiet")
    (told,) = lines(anywhere, "store", "stats")
    assert (told["threads"], told["schema"], told["tables"]["run"]["rows"]) == ({"done": 1}, first["schema"], 1)
    shown = anywhere("store", "stats").stdout
    assert told["version"] in shown
    assert "threads: 1 done\nlargest threads:\n  t " in shown


def test_who_runs_a_thread_is_told_with_the_counts(anywhere: Command) -> None:
    (anywhere.folder / "hold").touch()
    process = anywhere.start("run", "app.py:graph", "-i", "names=[]", "--thread", "t", "--quiet")
    until(lambda: (anywhere.folder / "slow.ran").exists(), process)
    assert f"oldest lease: t, of process {process.pid} on " in anywhere("store", "stats").stdout
    (told,) = lines(anywhere, "store", "stats")
    assert told["threads"] == {"running": 1}
    (anywhere.folder / "hold").unlink()
    process.communicate(timeout=PATIENCE)
    assert lines(anywhere, "store", "stats")[0]["oldest_lease"] is None


@pytest.mark.parametrize("words", [["check"], ["stats"], ["prune", "--keep-last", "1"]])
def test_a_command_that_looks_at_a_store_makes_none(fanfold: Command, words: list[str]) -> None:
    done = fanfold("store", *words)
    assert done.returncode == 6
    assert "there is no store at .fanfold/runs.db" in done.stderr
    assert list(fanfold.folder.iterdir()) == []


def test_a_file_that_is_no_store_is_found_to_be_none(fanfold: Command) -> None:
    (fanfold.folder / "notes.txt").write_text("no database at all " * 100)
    done = fanfold("store", "check", "--store", "notes.txt")
    assert done.returncode == 6
    assert "file is not a database" in done.stderr
