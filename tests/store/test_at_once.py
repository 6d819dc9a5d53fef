"""Results that end together are one statement on PostgreSQL; whatever is to be refused is found out as ever."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.errors import DuplicateResultError, LeaseLostError, StoreError
from fanfold.store.arrays import column, understand
from fanfold.store.base import Lease
from fanfold.store.postgres import PostgresStore, _Session
from tests.store.making import held, lapse, result

Steps = list[str]


@pytest.fixture
def store(postgres: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres) as store:
        yield store


@pytest.fixture
def lease(store: PostgresStore, me: str) -> Lease:
    return store.claim("t", me).result(10)


@pytest.fixture
def steps(store: PostgresStore, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """What the writer says to the server from now on."""
    said: Steps = []
    for name in ("begin", "commit", "rollback", "rows", "many", "at_once"):
        plain = getattr(_Session, name)

        def noted(self: _Session, *args: Any, name: str = name, plain: Any = plain) -> Any:
            if threading.current_thread() is store._writer._thread:
                said.append(" ".join([name, *args[:1]]))
            return plain(self, *args)

        monkeypatch.setattr(_Session, name, noted)
    return said


def test_results_that_end_together_are_one_trip_to_the_server(store: PostgresStore, lease: Lease, steps: Steps) -> None:
    with held(store):
        tickets = [store.submit(result(f"{number}"), lease) for number in range(64)]
        steps.clear()
    for ticket in tickets:
        ticket.result(10)
    assert [step for step in steps if step != "commit"] == ["at_once keep_final_at_once"]  # that of `held` is before it
    assert store.results("r1") == [result(f"{number}") for number in range(64)]


def test_a_result_of_another_attempt_among_many_is_refused(store: PostgresStore, lease: Lease) -> None:
    store.submit(result("b"), lease).result(10)
    with held(store):
        tickets = [store.submit(result(task, attempt=attempt), lease) for task, attempt in ("a1", "b2")]
    assert tickets[0].result(10) is None
    with pytest.raises(DuplicateResultError, match="has a result of another attempt already"):
        tickets[1].result(10)
    assert store.results("r1") == [result("b"), result("a")]


def test_results_that_are_there_already_are_acknowledged_again(store: PostgresStore, lease: Lease) -> None:
    for _ in range(2):
        with held(store):
            tickets = [store.submit(result(task), lease) for task in "abc"]
        assert [ticket.result(10) for ticket in tickets] == [None, None, None]
    assert store.results("r1") == [result(task) for task in "abc"]


def test_a_result_that_comes_twice_in_one_batch_is_kept_once(store: PostgresStore, lease: Lease) -> None:
    with held(store):
        tickets = [store.submit(result(task), lease) for task in "aab"]
    assert [ticket.result(10) for ticket in tickets] == [None, None, None]
    assert store.results("r1") == [result("a"), result("b")]


def test_a_lost_lease_is_refused_and_the_results_beside_it_are_kept(
    store: PostgresStore, lease: Lease, postgres: str, me: str
) -> None:
    other = store.claim("other", me).result(10)
    others = [replace(result(task), thread_id="other") for task in "bc"]
    lapse(store, lease)
    with PostgresStore(postgres) as second:
        second.claim("t", f"{me}-2", on_busy="take_over").result(10)
        with held(store):
            lost = store.submit(result("a"), lease)
            mine = [store.submit(kept, other) for kept in others]
    assert [ticket.result(10) for ticket in mine] == [None, None]
    with pytest.raises(LeaseLostError):
        lost.result(10)
    assert store.results("r1") == others


def test_text_that_postgres_does_not_have_is_refused_alone(store: PostgresStore, lease: Lease) -> None:
    other = store.claim("other", lease.owner).result(10)
    with held(store):
        bad = store.submit(replace(result("nu\0l"), thread_id="other"), other)
        good = store.submit(result("grün"), lease)
    good.result(10)
    with pytest.raises(StoreError, match="NUL"):
        bad.result(10)
    assert store.results("r1") == [result("grün")]


def test_what_fails_as_it_is_committed_is_not_acknowledged(store: PostgresStore, lease: Lease) -> None:
    """A commit that fails comes after the statement's own answer, which says that all went well."""
    store.write(lambda session: session.script(_REFUSES_AT_COMMIT)).result(10)  # type: ignore[attr-defined]
    with held(store):
        tickets = [store.submit(result(task), lease) for task in "ab"]
    for ticket in tickets:
        with pytest.raises(StoreError, match="not today"):
            ticket.result(10)
    assert store.results("r1") == []


_REFUSES_AT_COMMIT = """
create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end $$;
create constraint trigger refused after insert on task_result deferrable initially deferred
    for each row execute function refuse();
"""


def test_texts_arrive_as_they_were_whatever_encoding_the_database_or_the_url_has(postgres_url: str, me: str) -> None:
    name = f"latin_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0")
        here = psycopg.conninfo.make_conninfo(postgres_url, dbname=name, client_encoding="latin1")
        try:
            with PostgresStore(here) as store:
                lease = store.claim("grün", me).result(10)
                kept = replace(result("Käse"), thread_id="grün")
                store.submit(kept, lease).result(10)
                store.submit(replace(kept, task_id="für", kind="answers"), lease).result(10)
                assert [(each.thread_id, each.task_id) for each in store.results("r1")] == [
                    ("grün", "Käse"),
                    ("grün", "für"),
                ]
        finally:
            admin.execute(f"drop database {name} with (force)")


def test_a_question_leaves_nothing_behind(store: PostgresStore) -> None:
    store.owner("t")
    before = len(psycopg.adapters._optimised)
    for _ in range(20):
        store.owner("t")
    assert len(psycopg.adapters._optimised) == before


def test_a_commit_waits_for_the_disk_also_where_the_user_is_set_not_to(postgres: str) -> None:
    careless = psycopg.conninfo.make_conninfo(postgres)
    options = psycopg.conninfo.conninfo_to_dict(careless).get("options", "")
    with PostgresStore(
        psycopg.conninfo.make_conninfo(careless, options=f"{options} -c synchronous_commit=off")
    ) as store:
        asked = store.write(lambda session: session._connection.execute("show synchronous_commit").fetchone())  # type: ignore[attr-defined]
        assert asked.result(10) == ("on",)


def test_a_result_whose_answer_was_lost_is_kept_once_and_acknowledged(
    store: PostgresStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement was committed, and the connection broke before anybody heard of it."""
    plain, lost = _Session.at_once, threading.Event()

    def deaf(session: _Session, *args: Any) -> bool:
        done = plain(session, *args)
        if not lost.is_set():
            lost.set()
            raise psycopg.OperationalError("the connection is gone")
        return done

    monkeypatch.setattr(_Session, "at_once", deaf)
    with held(store):
        tickets = [store.submit(result(task), lease) for task in "abc"]
    assert [ticket.result(10) for ticket in tickets] == [None, None, None]
    assert lost.is_set()
    assert store.results("r1") == [result(task) for task in "abc"]


ISOLATION = ("read committed", "repeatable read", "serializable")


@pytest.mark.parametrize("isolation", ISOLATION)
@pytest.mark.parametrize("taken", [True, False], ids=["taken over", "given up"])
def test_i3_results_that_wait_for_one_who_is_about_to_take_the_thread_are_refused_when_he_has_it(
    postgres: str, me: str, isolation: str, taken: bool
) -> None:
    """He began first: the statement that fences and stores sees the thread as it was, and has to look again."""
    gate, claimed = threading.Event(), threading.Event()
    url = psycopg.conninfo.make_conninfo(postgres, options=_and(postgres, default_transaction_isolation=isolation))
    with PostgresStore(url, ttl=1000.0) as writer, PostgresStore(url, ttl=1000.0) as thief:
        old = writer.claim("t", me).result(10)
        lapse(thief, old)

        def claim(session: Any) -> Lease | None:
            lease = thief._leases.claim(session, "t", f"{me}-2", "take_over")
            claimed.set()
            assert gate.wait(10)
            if not taken:
                raise ValueError("it is given up")
            return lease

        new = thief.write(claim)
        assert claimed.wait(10)
        with held(writer):
            tickets = [writer.submit(result(task, attempt="old"), old) for task in "ab"]
        while not waiting(postgres) and not any(ticket.done() for ticket in tickets):
            pass
        assert [text.count("as materialized") for text in waiting(postgres)] == [1]
        assert thief.results("r1") == []
        gate.set()
        if taken:
            for ticket in tickets:
                with pytest.raises(LeaseLostError, match="'t'"):
                    ticket.result(10)
            assert thief.results("r1") == []
            thief.submit(result("a", attempt="new"), new.result(10)).result(10)
            assert [each.attempt for each in thief.results("r1")] == ["new"]
        else:
            assert [ticket.result(10) for ticket in tickets] == [None, None]
            assert isinstance(new.exception(10), StoreError)
            assert [each.attempt for each in thief.results("r1")] == ["old", "old"]


@pytest.mark.parametrize("patience", [30.0, 0.5])
def test_results_that_wait_longer_than_anybody_waits_for_them_leave_nothing_waiting_on_the_server(
    postgres: str, me: str, patience: float
) -> None:
    """Somebody holds the thread's row. What was given up is not carried out when it is free at last."""
    pids: set[int] = set()
    with PostgresStore(postgres, longest_answer=1.0, patience=patience, ttl=1000.0) as store:
        lease = store.claim("t", me).result(10)
        with psycopg.connect(postgres) as holder:
            holder.execute("select from thread for update")
            ticket = store.submit(result("a"), lease)
            while len(pids) < 3 and not ticket.done():
                now = _waiting_pids(postgres)
                assert len(now) <= 1, "one that was given up waits beside the one that was tried after it"
                pids |= now
            if patience < 1.0:
                with pytest.raises(StoreError, match=r"cannot write to .*lock timeout"):
                    ticket.result(10)
                assert _waiting_pids(postgres) == set()
        if patience < 1.0:
            assert store.results("r1") == []
        else:
            assert ticket.result(10) is None
            assert store.results("r1") == [result("a")]


def _waiting_pids(url: str) -> set[int]:
    with psycopg.connect(url) as connection:
        found = connection.execute("select pid from pg_stat_activity where wait_event_type = 'Lock'")
        return {pid for (pid,) in found}


def test_a_result_that_was_given_up_and_carried_out_all_the_same_is_the_one_that_was_asked_for_again(
    postgres: str, me: str
) -> None:
    """Of one who has gone on waiting, and one who has asked again, whoever comes first: both are of one attempt."""
    with PostgresStore(postgres, ttl=1000.0) as store, PostgresStore(postgres) as twin:
        lease = store.claim("t", me).result(10)
        with psycopg.connect(postgres) as holder:
            holder.execute("select from thread for update")
            tickets = [each.submit(result("a"), lease) for each in (store, twin)]
            while len(_waiting_pids(postgres)) < 2:
                pass
        assert [ticket.result(10) for ticket in tickets] == [None, None]
        assert store.results("r1") == [result("a")]


def _and(url: str, **settings: str) -> str:
    """The options of a URL, and these."""
    plain = psycopg.conninfo.conninfo_to_dict(url).get("options", "")
    more = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    return f"{plain} {more}"


def waiting(url: str) -> list[str]:
    """What the statements say that wait for a lock, of those of stores in this schema's database."""
    with psycopg.connect(url) as connection:
        return [
            text
            for (text,) in connection.execute(
                "select query from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'fanfold'"
            )
        ]


@pytest.fixture(scope="module")
def connection(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        understand(connection)
        yield connection


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_COLUMNS = {
    "text": _TEXT,
    "bytea": st.binary(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "float8": st.floats(allow_nan=False),
    "numeric": st.integers(2**63, 2**80),
}


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(_COLUMNS)))
def test_a_column_arrives_as_it_was(connection: psycopg.Connection[Any], data: st.DataObject, kind: str) -> None:
    values = data.draw(st.lists(_COLUMNS[kind] | st.none(), max_size=8))
    row = connection.execute(f"select %s::{kind}[]", [column(values)], binary=True).fetchone()
    assert row == (values,)
