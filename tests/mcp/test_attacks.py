"""The attack matrix: every wall holds, and each holds alone; and the matrix finds a door that has none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanfold.errors import QueryError, QueryRefusedError
from fanfold.mcp.assault import CAPS, SETTLED, Outcome, assaulted
from fanfold.mcp.attacks import POSTGRES, SQLITE, TRANSACTION, UNDONE, WRITE, Attack
from fanfold.mcp.door import Answer, Caps, Door, Parameter, View
from fanfold.mcp.doors.postgres import PostgresWalls
from fanfold.mcp.roles import reader_url
from fanfold.mcp.victims import PostgresVictim, SqliteVictim, Victim
from fanfold.store.postgres import PostgresStore


def outcomes(victim: Victim, attacks: Sequence[Attack], settled: float = SETTLED) -> list[Outcome]:
    async def run() -> list[Outcome]:
        with victim:
            return [outcome async for outcome in assaulted(victim, attacks, settled=settled)]

    return asyncio.run(run())


def failed(found: Sequence[Outcome]) -> list[str]:
    return [f"{each.attack.name}: {each.held}, {each.said}, {each.harm}" for each in found if not each.passed]


def named(*names: str) -> list[Attack]:
    chosen = [attack for attack in POSTGRES if attack.name in names]
    assert len(chosen) == len(names)
    return chosen


class Alone(PostgresVictim):
    """A victim whose door is another one, and whose session is not looked at."""

    def __init__(self, url: str, role: str, walls: Any) -> None:
        super().__init__(url, role)
        self._walls = walls

    def door(self, caps: Caps) -> Door:
        return Door(self._walls, caps)

    async def session(self, door: Door) -> Any:
        return ()


class Bare:
    """What many servers do: whatever is said, is said to the database. With a role that may only read, or with none."""

    dialect = "postgres"
    label = "bare"

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, sql: str, parameters: Sequence[Parameter]) -> Answer:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only to off; set statement_timeout to 2000")
            try:
                cursor = connection.execute(sql.encode())
                rows = cursor.fetchall() if cursor.description else []
            except psycopg.errors.InsufficientPrivilege as error:
                raise QueryRefusedError(str(error), wall="role") from None
            except psycopg.Error as error:
                raise QueryError(str(error)) from None
        return Answer(("x",), tuple(tuple(map(str, row)) for row in rows[:1000]))

    async def views(self) -> list[View]:
        return []

    async def close(self) -> None: ...


def test_every_attack_on_postgresql_is_refused_or_harmless(reader: str, postgres: str) -> None:
    found = outcomes(PostgresVictim(postgres, reader), POSTGRES)
    assert failed(found) == []
    assert {each.held for each in found} == {"role", "prepare", "transaction", "cap", "harmless"}
    # The server has ended it; we would have, a little later.
    assert "statement timeout" in next(each.said for each in found if each.attack.name == "sleep")


def test_every_attack_on_sqlite_is_refused_or_harmless() -> None:
    found = outcomes(SqliteVictim(), SQLITE)
    assert failed(found) == []
    assert {each.held for each in found} == {"role", "prepare", "cap", "harmless"}


def test_the_page_about_the_door_counts_the_attacks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mcp-door.md").read_text(encoding="utf-8")
    assert f"{len(POSTGRES)} statements on PostgreSQL, {len(SQLITE)} on SQLite" in page


def test_the_transaction_holds_every_write_of_a_superuser(reader: str, postgres: str) -> None:
    attacks = [attack for attack in POSTGRES if attack.walls in (WRITE, TRANSACTION, UNDONE) and not attack.before]
    walls = PostgresWalls(postgres, CAPS, trusting=True)
    found = outcomes(Alone(postgres, reader, walls), attacks)
    assert [f"{each.attack.name}: {each.harm}" for each in found if each.harm] == []
    # This one may write nothing by itself, whatever the transaction may.
    held = {each.attack.name: each.held for each in found if each.attack.name != "query to xml delete"}
    undone = {attack.name for attack in POSTGRES if attack.walls == UNDONE}
    assert {name for name, wall in held.items() if wall != "transaction"} <= undone


def test_preparing_holds_every_stacked_statement_of_a_superuser(reader: str, postgres: str) -> None:
    stacked = [attack for attack in POSTGRES if attack.name.startswith("stacked")]
    found = outcomes(Alone(postgres, reader, PostgresWalls(postgres, CAPS, trusting=True)), stacked)
    assert len(found) == 4
    assert failed(found) == []


def test_the_role_alone_holds_every_write_and_every_other_table(reader: str, postgres: str) -> None:
    names = (
        *("stacked drop", "stacked commit and insert", "do block", "plain insert", "insert returning"),
        *(
            "writable cte",
            "delete through a view",
            "explain analyze insert",
            "nextval",
            "copy to program",
            "copy to file",
        ),
        *(
            "other table",
            "store s own table",
            "read file",
            "query to xml",
            "set role",
            "become the owner",
            "alter role",
        ),
    )
    found = outcomes(Alone(postgres, reader, Bare(reader_url(postgres, reader))), named(*names))
    assert [f"{each.attack.name}: {each.held}, {each.harm}" for each in found if each.held != "role" or each.harm] == []


@pytest.mark.parametrize(
    "name", ["stacked commit and insert", "insert returning", "writable cte", "nextval", "other table", "read file",
             "notify by function", "copy to program", "security definer", "large object made"]
)  # fmt: skip
def test_the_matrix_finds_a_door_without_walls(reader: str, postgres: str, name: str) -> None:
    with PostgresStore(postgres):
        found = outcomes(Alone(postgres, reader, Bare(postgres)), named(name), settled=0.2)
    assert not found[0].passed
    with psycopg.connect(postgres, autocommit=True) as owner:
        owner.execute("select lo_unlink(oid) from pg_largeobject_metadata")


def test_the_matrix_finds_a_session_that_is_used_again(reader: str, postgres: str) -> None:
    class Forgetful(PostgresVictim):
        async def session(self, door: Door) -> Any:
            return (await super().session(door), next(self.marks))

        marks = iter(range(100))

    found = outcomes(Forgetful(postgres, reader), named("advisory lock"), settled=0.2)
    assert "the session is another one" in found[0].harm[0]
