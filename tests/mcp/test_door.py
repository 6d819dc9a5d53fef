"""The read-only door: what it answers, and which wall holds what it does not."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanfold.errors import QueryError, QueryRefusedError, StoreError, UsageError
from fanfold.mcp.door import Caps, Door, Rows
from fanfold.mcp.doors.plain import LONGEST, Page, plain, shown
from fanfold.mcp.roles import reader_url
from fanfold.store.batches import packed
from fanfold.store.serde import Codec, Encryption, Keys
from fanfold.store.sqlite import SqliteStore

CAPS = Caps(rows=50, bytes=20_000, seconds=5.0, at_once=2)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A store in a file, with one item."""
    with SqliteStore(tmp_path / "runs.db") as store:
        store.items.put(("users", "ada"), "likes", {"food": "cherries"})
    return str(tmp_path / "runs.db")


@pytest.fixture(params=["sqlite", "postgres"])
def door(request: pytest.FixtureRequest) -> Callable[..., Door]:
    """What opens a door to a store with one item, in each database."""
    if request.param == "sqlite":
        file = request.getfixturevalue("path")
        return lambda caps=CAPS: Door.open(file, caps)
    role, url = request.getfixturevalue("reader"), request.getfixturevalue("postgres")
    return lambda caps=CAPS: Door.open(reader_url(url, role), caps)


def asked(door: Door, work: Callable[[Door], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with door:
            return await work(door)

    return asyncio.run(run())


def refused(door: Door, sql: str) -> str:
    """The wall that a statement ends at."""
    with pytest.raises(QueryRefusedError) as caught:
        asked(door, lambda opened: opened.query(sql))
    return caught.value.wall


def test_what_the_store_holds_is_shown_as_what_it_means(door: Callable[..., Door]) -> None:
    sql = "select namespace, key, value, version from memory where key = $1"
    told = asked(door(), lambda opened: opened.query(sql, ["likes"]))
    assert told.columns == ("namespace", "key", "value", "version")
    assert told.rows == (("users.ada", "likes", {"food": "cherries"}, 1),)
    assert told.truncated == ""


def test_the_same_views_with_the_same_columns_are_in_both_databases(path: str, reader: str, postgres: str) -> None:
    async def seen(door: Door) -> list[tuple[str, list[str]]]:
        return [(view.name, [name for name, _ in view.columns]) for view in await door.views()]

    there = asked(Door.open(path), seen)
    assert there == asked(Door.open(reader_url(postgres, reader)), seen)
    assert [name for name, _ in there] == ["events", "memory", "results", "runs", "steps", "threads"]


def test_parameters_are_values_and_never_part_of_the_statement(door: Callable[..., Door]) -> None:
    evil = "x'; drop table item; --"
    told = asked(door(), lambda opened: opened.query("select $1 as a, $2 as b", [evil, None]))
    assert told.rows == ((evil, None),)


def test_an_answer_is_cut_off_at_its_rows_and_at_its_bytes_and_says_so(door: Callable[..., Door]) -> None:
    many = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 1000) select x{} from n"

    async def work(opened: Door) -> tuple[Rows, Rows]:
        text = ", 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy'" * 8
        return await opened.query(many.format("")), await opened.query(many.format(text))

    rows, size = asked(door(), work)
    assert (len(rows.rows), rows.truncated) == (50, "rows")
    assert 0 < len(size.rows) < 50
    assert size.truncated == "bytes"


def test_a_wrong_statement_is_told_what_is_wrong_and_is_no_refusal(door: Callable[..., Door]) -> None:
    with pytest.raises(QueryError, match="no_such_column") as caught:
        asked(door(), lambda opened: opened.query("select no_such_column from runs"))
    assert not isinstance(caught.value, QueryRefusedError)


def test_statements_wait_for_their_turn_and_are_told_when_it_does_not_come(door: Callable[..., Door]) -> None:
    busy = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"

    async def work(opened: Door) -> list[object]:
        return await asyncio.gather(*(opened.query(busy) for _ in range(3)), return_exceptions=True)

    told = asked(door(Caps(seconds=0.5, at_once=2)), work)
    assert {(type(each), getattr(each, "wall", "")) for each in told} == {(QueryRefusedError, "cap")}
    assert sum("are being answered" in str(each) for each in told) == 1


def test_whoever_is_cancelled_leaves_a_door_that_answers(door: Callable[..., Door]) -> None:
    busy = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"

    async def work(opened: Door) -> Rows:
        await opened.query("select 1 as one")
        asking = asyncio.create_task(opened.query(busy))
        for _ in range(5):
            await asyncio.sleep(0)
        asking.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert time.monotonic() - begun < 3.0, "it waited for the statement that nobody waits for"
        return await opened.query("select 2 as two")

    assert asked(door(Caps(seconds=30.0, at_once=1)), work).rows == ((2,),)


def test_a_part_of_a_statement_that_is_named_like_a_view_may_not_read_tables(path: str) -> None:
    for name in ("memory", "runs", "item"):
        assert refused(Door.open(path), f"with {name} as (select * from main.item) select * from {name}") == "role"


def test_only_a_store_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    assert refused(Door.open(str(tmp_path / "empty.db")), "select 1") == "role"
    with pytest.raises(StoreError, match="there is no store"):
        asked(Door.open(str(tmp_path / "none.db")), lambda opened: opened.query("select 1"))
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(UsageError, match="in memory"):
        Door.open("memory:")


def test_a_search_that_cannot_be_interrupted_ends_with_its_process(path: str) -> None:
    hard = "select instr(printf('%.*c', 30000000, 'x'), printf('%.*c', 15000000, 'x') || 'y')"
    begun = time.monotonic()
    assert refused(Door.open(path, Caps(seconds=0.5)), hard) == "cap"
    assert time.monotonic() - begun < 15.0, "it was waited for"


def test_memory_is_a_cap_of_a_file(path: str) -> None:
    much = (
        "with recursive n(x, t) as (select 1, printf('%.*c', 20000000, 'x') union all"
        " select x + 1, t || '' from n where x < 60) select x from n order by t, x"
    )
    assert refused(Door.open(path, Caps(seconds=60.0)), much) == "cap"


def test_a_role_that_may_do_more_is_not_let_in(reader: str, postgres: str) -> None:
    with pytest.raises(QueryRefusedError, match="it is a superuser") as caught:
        asked(Door.open(postgres), lambda opened: opened.query("select 1"))
    assert caught.value.wall == "role"
    for grant, reason in (
        ("grant insert on item to {role}; grant usage on schema {schema} to {role}", "it may write to"),
        ("grant pg_read_all_data to {role}", "it is a member of pg_read_all_data"),
        ("alter role {role} createrole", "it may make roles"),
    ):
        with psycopg.connect(postgres, autocommit=True) as owner:
            (schema,) = owner.execute("select current_schema()").fetchone() or ("",)
            owner.execute(grant.format(role=reader, schema=schema).encode())
        with pytest.raises(QueryRefusedError, match=reason):
            asked(Door.open(reader_url(postgres, reader)), lambda opened: opened.query("select 1"))


def test_a_role_that_could_write_over_a_connection_of_its_own_is_not_let_in(reader: str, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as owner:
        (schema,) = owner.execute("select current_schema()").fetchone() or ("",)
        owner.execute(f"create extension dblink schema {schema}".encode())
        asked(Door.open(reader_url(postgres, reader)), lambda opened: opened.query("select 1"))  # it is out of reach
        owner.execute(f"grant usage on schema {schema} to {reader}".encode())
    with pytest.raises(QueryRefusedError, match=r"dblink.* which leaves this transaction"):
        asked(Door.open(reader_url(postgres, reader)), lambda opened: opened.query("select 1"))


def test_connections_that_were_cut_off_are_gone_and_others_used_again(reader: str, postgres: str) -> None:
    def connections() -> int:
        with psycopg.connect(postgres) as owner:
            found = owner.execute("select count(*) from pg_stat_activity where usename = %s", [reader]).fetchone()
        return int((found or (0,))[0])

    async def work(opened: Door) -> int:
        for _ in range(30):
            await opened.query("select 1 as one")
            await opened.query("select x from generate_series(1, 1000000) x")
            with pytest.raises(QueryError):
                await opened.query("select wrong")
        return connections()

    assert asked(Door.open(reader_url(postgres, reader), Caps(rows=10)), work) <= 3
    end = time.monotonic() + 10
    while connections() and time.monotonic() < end:
        pass
    assert connections() == 0


def test_a_connection_that_the_server_has_ended_is_replaced(reader: str, postgres: str) -> None:
    async def work(opened: Door) -> Rows:
        (pid,) = (await opened.query("select pg_backend_pid()")).rows[0]
        with psycopg.connect(postgres, autocommit=True) as owner:
            owner.execute("select pg_terminate_backend(%s, 5000)", [pid])
        return await opened.query("select 1 as one")

    assert asked(Door.open(reader_url(postgres, reader)), work).rows == ((1,),)


def test_a_cancelled_statement_ends_on_the_server(reader: str, postgres: str) -> None:
    def running() -> list[object]:
        with psycopg.connect(postgres) as owner:
            sql = "select pid from pg_stat_activity where usename = %s and query like '%%pg_sleep(3600)%%'"
            return owner.execute(sql, [reader]).fetchall()

    async def work(opened: Door) -> None:
        asking = asyncio.create_task(opened.query("select pg_sleep(3600)"))
        while not running():
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while running():
            await asyncio.sleep(0.01)

    asked(Door.open(reader_url(postgres, reader), Caps(seconds=3000.0)), work)


def test_one_row_of_half_a_gigabyte_is_not_taken_in(reader: str, postgres: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = "select repeat('x', 500000000)"
    assert refused(Door.open(reader_url(postgres, reader), Caps(bytes=1000, seconds=60.0)), huge) == "cap"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_an_answer_that_fits_is_whole_however_it_arrives(reader: str, postgres: str) -> None:
    async def main() -> list[tuple[int, str]]:
        answers = []
        for _ in range(5):
            async with Door.open(reader_url(postgres, reader)) as opened:
                told = await opened.query("select 'x' || g, repeat('y', 900) from generate_series(1, 1000) g")
                answers.append((len(told.rows), told.truncated))
        return answers

    assert asyncio.run(main()) == [(1000, "")] * 5


@pytest.mark.timed
def test_bytes_that_take_long_to_be_read_hold_nobody_else_up_and_end_at_the_cap(reader: str, postgres: str) -> None:
    value = packed(["1" + " " * (LONGEST - 2)]).hex()
    wide = f"select {', '.join(['bomb'] * 400)} from (select '\\x{value}'::bytea as bomb) made"

    async def work(opened: Door) -> tuple[str, float]:
        await opened.query("select 1 as one")
        asking, longest, last = asyncio.create_task(opened.query(wide)), 0.0, time.monotonic()
        while not asking.done():
            await asyncio.sleep(0)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        with pytest.raises(QueryRefusedError) as caught:
            await asking
        return caught.value.wall, longest

    wall, longest = asked(Door.open(reader_url(postgres, reader), Caps(seconds=2.0)), work)
    assert wall == "cap"
    assert longest < 1.5  # to read the whole row takes ten seconds


def test_what_a_value_means_counts_as_soon_as_it_is_read() -> None:
    read: list[int] = []

    def values() -> Iterator[bytes]:
        for number in range(1_000):
            read.append(number)
            yield packed([json.dumps("x" * 1_000)])

    assert Page(10, 5_000).add(values()) == "bytes"
    assert len(read) == 5


def test_values_are_shown_as_json_can_say_them() -> None:
    assert plain([float("nan"), 2**60, b"\xff", {1: {2, 3}}]) == ["nan", str(2**60), "ff", {"1": [2, 3]}]
    assert shown(Codec().encode({"a": (1, None)})) == {"a": [1, None]}
    assert shown(packed(['{"kind":"x"}', '{"kind":"y"}'])) == [{"kind": "x"}, {"kind": "y"}]


def test_what_cannot_be_read_is_shown_as_a_text_that_says_so() -> None:
    sealed = Codec(encryption=Encryption(Keys.parse("one:" + "ab" * 32))).encode("a secret")
    assert "encrypted" in str(shown(sealed))
    assert str(shown(packed(["[" + "0," * 4_000_000 + "0]"]))).startswith("<")
