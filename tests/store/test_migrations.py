"""How a database gets its tables: from nothing, by many at once, killed midway, and never by who does not know them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanfold.errors import StoreError
from fanfold.store import migrations
from fanfold.store.migrations import Migration, known
from fanfold.store.postgres import PostgresStore
from fanfold.store.writer import Session
from tests.store.making import Open, Process, kept, opened, result, store_at
from tests.store.proxy import Proxy

COLUMNS = {
    "sqlite": """
        select m.name, c.name, lower(c.type), c."notnull", coalesce(c.dflt_value, '')
        from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table' order by m.name, c.cid
        """,
    "postgres": """
        select table_name, column_name, data_type, is_nullable = 'NO', coalesce(column_default, '')
        from information_schema.columns where table_schema = current_schema() order by table_name, ordinal_position
        """,
}
INDEXES = {
    "sqlite": """
        select m.name, i."unique", group_concat(k.name) over (
            partition by m.name, i.name order by k.seqno rows between unbounded preceding and unbounded following
        )
        from sqlite_schema m join pragma_index_list(m.name) i join pragma_index_xinfo(i.name) k
        where m.type = 'table' and k.key
        """,
    "postgres": """
        select t.relname, i.indisunique, (
            select string_agg(a.attname, ',' order by k.no)
            from unnest(i.indkey) with ordinality k(column_no, no)
            join pg_attribute a on a.attrelid = t.oid and a.attnum = k.column_no
        )
        from pg_index i join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
        where n.nspname = current_schema()
        """,
}


def dialect(place: str) -> str:
    return "postgres" if place.startswith("postgresql:") else "sqlite"


def asked(place: str, query: str) -> list[tuple[Any, ...]]:
    with store_at(place) as store:
        found: list[tuple[Any, ...]] = store.write(
            lambda session: session._connection.execute(query).fetchall()  # type: ignore[attr-defined]
        ).result(10)
    return found


def told(place: str, *orders: str) -> None:
    with store_at(place) as store:

        def work(session: Session) -> None:
            for order in orders:
                session._connection.execute(order)  # type: ignore[attr-defined]

        store.write(work).result(10)


def schema(place: str) -> dict[str, list[str]]:
    """The columns of every table, in their order."""
    tables: dict[str, list[str]] = {}
    for table, column, *_ in asked(place, COLUMNS[dialect(place)]):
        tables.setdefault(table, []).append(column)
    return tables


def numbers(place: str) -> list[int]:
    return [no for (no,) in asked(place, "select no from migration order by no")]


def all_numbers(place: str) -> list[int]:
    return [migration.no for migration in known(dialect(place))]


# What they make


def test_both_databases_have_the_same_tables_and_columns(tmp_path: Path, postgres: str) -> None:
    """Those of long-term items aside, where each searches as it can."""
    one, other = schema(str(tmp_path / "runs.db")), schema(postgres)
    same = ("worker", "thread", "run", "checkpoint", "task_result", "event", "migration")
    assert {name: sorted(one[name]) for name in same} == {name: sorted(other[name]) for name in same}


def test_the_schema_is_the_sum_of_the_migrations(place: str) -> None:
    """What is listed here is what is relied on: a migration that changes it changes this list."""
    kinds = {
        (table, column): (kind, bool(needed))
        for table, column, kind, needed, _ in asked(place, COLUMNS[dialect(place)])
    }
    text, number, real, data = (
        ("text", "integer", "real", "blob")
        if dialect(place) == "sqlite"
        else ("text", "bigint", "double precision", "bytea")
    )
    expected = {
        "worker": {"worker_id": text, "host": text, "pid": number, "expires_at": real},
        "thread": {"thread_id": text, "epoch": number, "owner?": text, "worker?": text, "claimed?": real},
        "run": {
            **dict.fromkeys(("run_id", "thread_id", "graph", "digest", "status", "error", "settings"), text),
            "created": real, "finished?": real,
        },
        "checkpoint": {
            **dict.fromkeys(("thread_id", "namespace", "checkpoint_id", "parent_id?", "run_id"), text),
            **dict.fromkeys(("source", "around?"), text),
            **dict.fromkeys(("seq", "step"), number), "created": real, "data": data,
            "full": number if dialect(place) == "sqlite" else "boolean",
        },
        "task_result": {
            **dict.fromkeys(
                ("thread_id", "namespace", "checkpoint_id", "run_id", "task_id", "kind", "name", "branch", "attempt",
                 "parent?"), text,
            ),
            **dict.fromkeys(("step", "epoch"), number), "data": data,
        },
        "event": {"run_id": text, "no": number, "number": number, "data": text, "packed?": data, "hash": data},
    }  # fmt: skip
    keys = {("run", "run_id"), ("worker", "worker_id"), ("thread", "thread_id")}  # SQLite says of these what it likes
    for table, columns in expected.items():
        for column, kind in columns.items():
            name, needed = column.removesuffix("?"), not column.endswith("?")
            assert kinds[table, name][0] == kind, (table, name)
            assert kinds[table, name][1] == needed or (table, name) in keys, (table, name)


UNIQUE = {
    ("worker", "worker_id"),
    ("thread", "thread_id"),
    ("run", "run_id"),
    ("checkpoint", "thread_id,namespace,seq"),
    ("checkpoint", "thread_id,namespace,checkpoint_id"),
    ("task_result", "thread_id,namespace,checkpoint_id,branch,task_id,kind"),
    ("event", "run_id,no"),
}


def test_the_database_itself_keeps_what_is_to_be_there_once(place: str) -> None:
    found = {(table, columns) for table, unique, columns in asked(place, INDEXES[dialect(place)]) if unique}
    assert found >= UNIQUE


def test_opening_a_database_that_is_ready_changes_nothing(place: str) -> None:
    before = (schema(place), numbers(place), asked(place, "select * from migration order by no"))
    assert (schema(place), numbers(place), asked(place, "select * from migration order by no")) == before
    assert numbers(place) == all_numbers(place)


# Many at once, and killed


def test_i11_eight_processes_that_open_a_new_database_at_once_all_find_it_ready(place: str) -> None:
    program = textwrap.dedent("""
        change = ResultKept("t", "", "c0", "r1", sys.argv[2], "result", "node", 1, b"", None, "1")
        store.submit(change).result(30)
        say("kept")
    """)
    crowd = [Process(place, program, f"{number}") for number in range(8)]
    assert [process.said() for process in crowd] == ["kept"] * 8
    assert [process.end() for process in crowd] == [0] * 8
    with store_at(place) as store:
        assert sorted(each.task_id for each in store.results("r1")) == [f"{number}" for number in range(8)]
    assert numbers(place) == all_numbers(place)


def test_i11_of_processes_that_open_a_database_without_a_schema_all_make_the_same(postgres_url: str) -> None:
    name = "fresh_for_fanfold"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    try:
        fresh = postgres_url.replace("/postgres?", f"/{name}?")
        crowd = [Process(fresh, "say(store.count_events('r'))") for _ in range(4)]
        assert [process.said() for process in crowd] == ["0"] * 4
        assert [process.end() for process in crowd] == [0] * 4
        with psycopg.connect(fresh) as connection:
            found = connection.execute("select distinct schemaname from pg_tables where tablename = 'run'").fetchall()
            assert found == [("fanfold",)]
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")


DYING = """
import os, sys
from fanfold.store import postgres, sqlite
from fanfold.store.sql import statements

class Dying:
    def __init__(self, real, left):
        self.real, self.left = real, left
    def __getattr__(self, name):
        return getattr(self.real, name)
    def execute(self, *said, **how):
        if self.left == 0:
            os._exit(9)
        self.left -= 1
        return self.real.execute(*said, **how)

module, name = (postgres, "_Session") if sys.argv[1].startswith("postgresql:") else (sqlite, "_Connection")
made = getattr(module, name).__init__
def init(self, *given):
    made(self, *given)
    self._connection = Dying(self._connection, int(sys.argv[2]))
getattr(module, name).__init__ = init

def script(self, text):
    for statement in text.split(";\\n"):
        self._connection.execute(statement)
getattr(module, name).script = script

(postgres.PostgresStore if module is postgres else sqlite.SqliteStore)(sys.argv[1]).close()
os._exit(0)
"""


def test_i11_a_migration_that_is_killed_between_any_two_statements_leaves_a_database_that_opens(
    place: str,
) -> None:
    def killed_after(statements: int) -> bool:
        return subprocess.run([sys.executable, "-c", DYING, place, f"{statements}"], check=False).returncode == 9

    killed = [number for number in range(1, 23, 5) if killed_after(number)]
    assert len(killed) >= 3
    with store_at(place) as store:
        kept(store, opened(), result("a"))
        assert store.results("r1") == [result("a")]
    assert numbers(place) == all_numbers(place)


# Who is not to touch it


def test_a_database_of_a_newer_fanfold_is_refused_and_left_as_it_is(again: Open, place: str) -> None:
    told(place, "insert into migration (no, checksum, applied) values (1000, 'of the future', 0)")
    with pytest.raises(StoreError, match="was written by a newer fanfold; upgrade this one to use it"):
        again()
    past_the_store(place, "delete from migration where no = 1000")
    assert numbers(place) == all_numbers(place)


def test_a_database_whose_migration_was_another_is_refused(again: Open, place: str) -> None:
    told(place, "update migration set checksum = 'another' where no = 1")
    with pytest.raises(StoreError, match="has had another migration 1 than this fanfold knows"):
        again()


def past_the_store(place: str, order: str) -> None:
    """Tell the database something that a store would not be opened for."""
    if dialect(place) == "postgres":
        with psycopg.connect(place) as connection:
            connection.execute(order)
        return
    with sqlite3.connect(place) as file:
        file.execute(order)
    file.close()


def test_a_database_that_holds_something_else_is_refused_and_left_as_it_is(again: Open, place: str) -> None:
    past_the_store(place, "create table customers (id int)")
    with pytest.raises(StoreError, match="holds tables that are not fanfold's: customers"):
        again()


# From one version to the next


@pytest.fixture
def next_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives both databases a migration more than they have."""
    real = known

    def give(text: str) -> None:
        def longer(dialect: str) -> tuple[Migration, ...]:
            had = real(dialect)
            return (*had, Migration(had[-1].no + 1, text))

        monkeypatch.setattr(migrations, "known", longer)

    return give


def test_i11_a_database_of_the_version_before_is_brought_up_with_what_it_holds(
    again: Open, place: str, next_one: Callable[[str], None]
) -> None:
    with again() as store:
        kept(store, opened(), result("a"))
    next_one("create table addition (id int);\nalter table run add column more text;\n")
    with again() as store:
        assert store.results("r1") == [result("a")]
        assert store.run("r1") == opened().run
    assert numbers(place)[-1] == all_numbers(place)[-1] + 1
    assert "addition" in schema(place)
    assert "more" in schema(place)["run"]


def test_i11_a_migration_that_fails_leaves_the_database_as_it_was(
    again: Open, place: str, next_one: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with again() as store:
        kept(store, result("a"))
    next_one("create table addition (id int);\ncreate table addition (id int);\n")
    with pytest.raises(StoreError, match=r"cannot open the store .*addition.* already exists"):
        again()
    monkeypatch.undo()
    assert "addition" not in schema(place)
    assert numbers(place) == all_numbers(place)


def test_old_code_goes_on_with_what_it_has_open_while_newer_code_changes_the_schema(
    again: Open, place: str, next_one: Callable[[str], None]
) -> None:
    with again() as old:
        kept(old, result("a"))
        next_one("alter table run add column more text;\n")
        with again() as new:
            kept(old, opened(), result("b"))
            assert new.results("r1") == old.results("r1") == [result("a"), result("b")]


def test_old_code_goes_on_over_a_new_connection_when_newer_code_has_changed_the_schema(
    postgres: str,
) -> None:
    with Proxy(postgres) as proxy, PostgresStore(proxy.url) as old:
        kept(old, result("a"))
        with pytest.MonkeyPatch.context() as patch:
            had = known("postgres")
            patch.setattr(
                migrations, "known", lambda _: (*had, Migration(had[-1].no + 1, "alter table run add column more text"))
            )
            PostgresStore(postgres).close()
        proxy.cut()
        kept(old, result("b"))
        assert old.results("r1") == [result("a"), result("b")]
