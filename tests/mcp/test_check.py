"""`fanfold mcp check` and `setup-role`, as commands: a healthy server passes whole, and what is missing is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanfold.mcp.attacks import POSTGRES, SQLITE
from fanfold.store.postgres import PostgresStore

PATIENCE = 110.0


def fanfold(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fanfold", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def findings(told: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.stdout.splitlines()]


def wrong(found: list[dict[str, Any]]) -> list[str]:
    return [f"{each['part']} {each['what']}: {each['said']}" for each in found if not each["passed"]]


def test_a_server_over_a_file_passes_every_check(tmp_path: Path) -> None:
    told = fanfold("mcp", "check", "--json", "--store", f"sqlite:///{tmp_path}/runs.db")
    found = findings(told)
    assert (wrong(found), told.returncode) == ([], 0)
    assert sum(each["part"] == "attack" for each in found) == len(SQLITE)
    assert {each["part"] for each in found} == {"stdio", "http", "store", "door", "attack"}
    upserts = [each["said"] for each in found if "parallel upserts" in each["what"]]
    assert len(upserts) == 2
    assert all("nothing lost" in said for said in upserts)


@pytest.fixture
def usual_role(postgres: str) -> Any:
    """The role with the usual name is of the whole server: it is dropped when the test ends."""
    yield postgres
    with psycopg.connect(postgres, autocommit=True) as owner:
        (schema,) = owner.execute("select current_schema()").fetchone() or ("",)
        owner.execute(f"drop schema if exists {schema}_door cascade".encode())
        owner.execute("drop owned by fanfold_reader; drop role fanfold_reader")


def test_a_server_over_postgresql_passes_every_check_when_the_role_is_there(usual_role: str) -> None:
    url = usual_role
    with PostgresStore(url):
        pass
    printed = fanfold("mcp", "setup-role", "--store", url)
    assert 'create role "fanfold_reader"' in printed.stdout
    without = fanfold("mcp", "check", "--json", "--store", url)
    assert without.returncode == 6
    assert "attack all of them" in " ".join(wrong(findings(without)))
    assert "setup-role" in " ".join(wrong(findings(without)))

    assert fanfold("mcp", "setup-role", "--store", url, "--run").returncode == 0
    told = fanfold("mcp", "check", "--json", "--store", url)
    found = findings(told)
    assert (wrong(found), told.returncode) == ([], 0)
    assert sum(each["part"] == "attack" for each in found) == len(POSTGRES)
    with psycopg.connect(url) as owner:
        left = owner.execute("select count(*) from pg_tables where tablename like 'attacked%'").fetchone()
    assert left == (0,)


def test_a_store_that_nobody_can_serve_is_refused_at_once() -> None:
    told = fanfold("mcp", "check", "--store", "memory:")
    assert told.returncode == 2
    assert "in memory" in told.stderr
