"""The role that queries come as: what `setup-role` makes, in a store's database and in any other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import psycopg
import pytest

from fanfold.errors import QueryRefusedError, StoreError, UsageError
from fanfold.mcp import roles
from fanfold.mcp.assault import CAPS
from fanfold.mcp.attacks import POSTGRES, ROLE, WRITE
from fanfold.mcp.door import Door, Rows
from fanfold.mcp.doors.postgres import PostgresWalls
from fanfold.mcp.victims import PostgresVictim
from fanfold.store.postgres import PostgresStore
from tests.mcp.conftest import made
from tests.mcp.test_attacks import failed, outcomes

STRANGE = 'we "ird; \\ schema'


@pytest.fixture
def other(postgres_url: str) -> Iterator[str]:
    """A database of somebody else, as its owner."""
    name = f"other_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(f"create database {name}".encode())
    url = postgres_url.replace("/postgres?", f"/{name}?")
    assert name in url
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"create schema {roles.quoted(STRANGE)}".encode())
        owner.execute(f"create table {roles.quoted(STRANGE)}.shown as select 1 as x".encode())
        owner.execute("create table public.hidden as select 'secret' as x")
    yield url
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(f"drop database {name} with (force)".encode())


def answer(url: str, sql: str) -> Rows:
    async def run() -> Rows:
        async with Door.open(url) as door:
            return await door.query(sql)

    return asyncio.run(run())


def test_making_it_again_changes_nothing_and_brings_its_views_back(reader: str, postgres: str) -> None:
    url = roles.reader_url(postgres, reader)
    before = answer(url, "select * from memory").rows
    with psycopg.connect(postgres, autocommit=True) as owner:
        (schema,) = owner.execute("select current_schema()").fetchone() or ("",)
        owner.execute(f"drop view {schema}_door.memory".encode())
    roles.run(postgres, roles.planned(postgres, [], store=True, role=reader))
    assert answer(url, "select * from memory").rows == before


def test_a_role_that_was_too_strong_is_made_weak_again(reader: str, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as owner:
        owner.execute(f"alter role {reader} superuser createrole".encode())
    with pytest.raises(QueryRefusedError, match="superuser"):
        answer(roles.reader_url(postgres, reader), "select 1")
    roles.run(postgres, roles.planned(postgres, [], store=True, role=reader))
    assert answer(roles.reader_url(postgres, reader), "select 1").rows == ((1,),)


def test_in_another_database_it_reads_the_schemas_that_were_named_and_no_other(other: str) -> None:
    setup = roles.planned(other, [STRANGE], store=False, role=f"reader_{secrets.token_hex(4)}")
    for role in made(other, setup):
        url = roles.reader_url(other, role)
        assert answer(url, "select * from shown").rows == ((1,),)
        with psycopg.connect(other, autocommit=True) as owner:
            owner.execute(f"create table {roles.quoted(STRANGE)}.later as select 2 as x".encode())
        assert answer(url, "select * from later").rows == ((2,),)
        with pytest.raises(QueryRefusedError, match="permission denied") as caught:
            answer(url, "select * from public.hidden")
        assert caught.value.wall == "role"


def test_of_two_stores_in_a_database_each_is_asked_by_its_own_door(reader: str, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as owner:
        (schema,) = owner.execute("select current_schema()").fetchone() or ("",)
        owner.execute(f"create schema {schema}_other".encode())
    other = postgres.replace(schema, f"{schema}_other")
    with PostgresStore(other) as store:
        store.items.put(("users", "ada"), "hates", {"food": "plums"})
    roles.run(other, roles.planned(other, [], store=True, role=reader))  # its setting now names these views

    async def keys(url: str) -> Rows:
        walls = PostgresWalls(roles.reader_url(url, reader), CAPS, path=roles.door_at(url))
        async with Door(walls, CAPS) as door:
            return await door.query("select key from memory")

    try:
        assert [asyncio.run(keys(url)).rows for url in (postgres, other)] == [(("likes",),), (("hates",),)]
    finally:
        with psycopg.connect(postgres, autocommit=True) as owner:
            owner.execute(f"drop schema {schema}_other, {schema}_other_door cascade".encode())


def test_an_owner_who_is_no_superuser_can_make_it(postgres_url: str) -> None:
    mark = secrets.token_hex(4)
    with psycopg.connect(postgres_url, autocommit=True) as superuser:
        superuser.execute(f"create role owner_{mark} login createrole".encode())
        superuser.execute(f"create database owned_{mark} owner owner_{mark}".encode())
    url = postgres_url.replace("/postgres?", f"/owned_{mark}?").replace("//postgres@", f"//owner_{mark}@")
    try:
        with PostgresStore(url):
            pass
        for _ in range(2):
            roles.run(url, roles.planned(url, [], store=True, role=f"reader_{mark}"))
        victim = PostgresVictim(url, f"reader_{mark}")
        found = outcomes(victim, [attack for attack in POSTGRES if attack.walls in (ROLE, WRITE)])
        assert failed(found) == []
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as superuser:
            superuser.execute(f"drop database owned_{mark} with (force)".encode())
            superuser.execute(f"drop role if exists reader_{mark}; drop role owner_{mark}".encode())


def test_a_role_that_would_not_be_let_in_is_said_when_it_is_made(other: str) -> None:
    opens = "create function public.opens() returns int language sql security definer as 'select 1'"
    with psycopg.connect(other, autocommit=True) as owner:
        owner.execute(opens)
        setup = roles.planned(other, ["public"], store=False, role=f"reader_{secrets.token_hex(4)}")
        try:
            with pytest.raises(StoreError, match=r"too strong to be let in: it may call opens\(\)"):
                roles.run(other, setup)
            owner.execute("revoke execute on function public.opens() from public")
            roles.run(other, setup)
        finally:
            owner.execute(f"drop owned by {setup.role}; drop role {setup.role}".encode())


def test_a_name_is_never_read_as_sql() -> None:
    evil = "x\"; drop table y; --'\\"
    script = roles.Setup("d'b", schemas=(evil,), role=evil).script()
    assert 'to "x""; drop table y; --\'\\"' in script
    assert "E'x\"; drop table y; --''\\\\'" in script
    with pytest.raises(UsageError, match="cannot be a name"):
        roles.quoted("x" * 64)


def test_a_password_is_proved_and_never_said(postgres: str, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(roles.SECRET, "wet ink/@ on")
    script = roles.planned(postgres, [], store=True, role=reader).script()
    assert "wet ink" not in script
    assert "SCRAM-SHA-256$" in script
    assert psycopg.conninfo.conninfo_to_dict(roles.reader_url(postgres, reader))["password"] == "wet ink/@ on"


def test_the_owner_s_password_and_settings_are_not_the_reader_s() -> None:
    url = roles.reader_url("postgresql://owner:pass@db.example:6432/runs?sslmode=require&options=-csearch_path%3Dx")
    parts = psycopg.conninfo.conninfo_to_dict(url)
    assert parts == {
        "user": "fanfold_reader", "host": "db.example", "port": "6432", "dbname": "runs", "sslmode": "require"
    }  # fmt: skip


def test_what_cannot_be_set_up_is_said_before_anything_is_done(other: str) -> None:
    with pytest.raises(StoreError, match="no store of fanfold"):
        roles.planned(other, [], store=True)
    with pytest.raises(UsageError, match="nothing says what the role may read"):
        roles.planned(other, [], store=False)
    with pytest.raises(UsageError, match="you are postgres yourself"):
        roles.planned(other, ["public"], store=False, role="postgres")
    with pytest.raises(UsageError, match="only PostgreSQL has roles"):
        roles.planned("sqlite:///runs.db", [], store=True)
