"""A PostgreSQL that goes away: nothing that was acknowledged is lost, and nobody is left waiting."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypedDict

import psycopg
import pytest

from fanfold import END, START, StateGraph
from fanfold.errors import DuplicateResultError, LeaseLostError, StoreError
from fanfold.store.base import DONE, Change, EventsKept, Lease, RunClosed
from fanfold.store.cluster import Cluster
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.writer import Session
from tests.store.making import checkpoint, held, kept, lapse, opened, result
from tests.store.proxy import Proxy


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that may be stopped, and that waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="fanfold-tests-") as folder, Cluster(folder) as cluster:
        yield cluster


@pytest.fixture
def proxy(postgres: str) -> Iterator[Proxy]:
    with Proxy(postgres) as proxy:
        yield proxy


class Load:
    """Threads that keep results, each as soon as its last one was acknowledged, until they are told to stop."""

    def __init__(self, store: SqlStore, threads: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.errors: list[Exception] = []
        self._store = store
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(f"{number}",)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        """Return when so many more have been acknowledged, or somebody was told of an error."""
        wanted = len(self.acknowledged) + more
        while len(self.acknowledged) < wanted and not self.errors:
            time.sleep(0.001)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _work(self, name: str) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                task = f"{name}-{number:05}"
                self._store.submit(result(task)).result(60)
                self.acknowledged.append(task)
                number += 1
        except Exception as error:  # noqa: BLE001 - told to the test
            self.errors.append(error)


def test_i1_what_was_acknowledged_is_there_for_ever_however_often_the_server_dies(cluster: Cluster) -> None:
    with PostgresStore(cluster.url()) as store:
        load = Load(store)
        for _ in range(3):
            load.wait_for(40)
            cluster.restart("immediate")
        load.wait_for(40)
        load.stop()
        assert load.errors == []
        found = [each.task_id for each in store.results("r1")]
    assert sorted(found) == sorted(load.acknowledged)
    assert {each.attempt for each in _all_results(cluster.url())} == {"1"}


def _all_results(url: str) -> list[Any]:
    with PostgresStore(url) as store:
        return store.results("r1")


@pytest.mark.parametrize("failing", ["cut", "reset", "stall"])
def test_i1_what_was_acknowledged_is_there_however_the_network_fails(proxy: Proxy, postgres: str, failing: str) -> None:
    with PostgresStore(proxy.url, longest_answer=0.2) as store:
        load = Load(store)
        for _ in range(4):
            load.wait_for(30)
            getattr(proxy, failing)()
        load.wait_for(30)
        load.stop()
    assert load.errors == []
    assert sorted(each.task_id for each in _all_results(postgres)) == sorted(load.acknowledged)


def test_a_server_that_stops_answering_is_noticed_and_left(proxy: Proxy) -> None:
    with PostgresStore(proxy.url, longest_answer=0.2) as store:
        kept(store, result("a"))
        assert len(store.results("r1")) == 1
        proxy.stall()  # for good: only new connections get through
        kept(store, result("b"))
        assert [each.task_id for each in store.results("r1")] == ["a", "b"]


def test_reading_connections_that_have_broken_are_replaced(proxy: Proxy) -> None:
    with PostgresStore(proxy.url) as store:
        kept(store, result("a"))
        for end in (proxy.cut, proxy.reset, proxy.cut):
            assert [each.task_id for each in store.results("r1")] == ["a"]
            end()


# A commit of which nobody has heard


def _keeping(*changes: Change) -> Callable[[SqlStore, Any], list[Any]]:
    return lambda store, lease: [store.submit(change, lease) for change in changes]


UNHEARD: dict[str, Callable[[SqlStore, Any], list[Any]]] = {
    "changes": _keeping(
        opened(), result("a"), checkpoint("c1"), result("b", parent="a"), result("a", kind="answers"), checkpoint("c2")
    ),
    "events": _keeping(EventsKept("r1", [{"n": 0}, {"n": 1}], 0), EventsKept("r1", [{"n": 2}], 2)),
    "events that are numbered on": _keeping(EventsKept("r1", [{"n": 0}]), EventsKept("r1", [{"n": 1}, {"n": 2}])),
    "an end": _keeping(opened(), RunClosed("r1", DONE, 2.0)),
    "a deletion": lambda store, lease: [store.submit(result("a")), store.delete_thread("t")],
    "a confirmation": lambda store, lease: [store.confirm(lease)],
}


@pytest.mark.parametrize("what", UNHEARD)
def test_i1_a_commit_of_which_nobody_has_heard_is_harmless_to_do_again(proxy: Proxy, me: str, what: str) -> None:
    PostgresStore(proxy.url).close()  # a connection that has migrated has said "commit" so often that it has a number
    with PostgresStore(proxy.url) as store:
        lease = store.claim("t", me).result(10)
        gate, reached = threading.Event(), threading.Event()
        store.write(lambda _: (reached.set(), gate.wait(10)))
        assert reached.wait(10)
        tickets = UNHEARD[what](store, lease)
        once = iter([b"commit"])
        store.write(lambda _: setattr(proxy, "losing", next(once, b"")))
        gate.set()
        assert [ticket.exception(10) for ticket in tickets] == [None] * len(tickets)
        assert proxy.lost.is_set()
        assert [each.task_id for each in store.results("r1")] == (["a", "b", "a"] if what == "changes" else [])
        assert [each.checkpoint_id for each in store.history("t")] == (["c2", "c1"] if what == "changes" else [])
        assert store.events("r1") == ([{"n": n} for n in range(3)] if "events" in what else [])


def test_a_claim_of_which_nobody_has_heard_is_made_once_more_by_the_same_owner(proxy: Proxy, me: str) -> None:
    with PostgresStore(proxy.url) as store:
        proxy.losing = b"commit"
        lease = store.claim("t", me).result(10)
        assert proxy.lost.is_set()
        assert (lease.epoch, store.owner("t"), store.holds(lease)) == (2, me, True)
        store.submit(result("a"), lease).result(10)


# ... and a take-over before it is tried again


def lose(proxy: Proxy, what: bytes, *, stored: bool) -> None:
    """Lose the message that says `what`, or else the answer that it is committed; and all ways to the server."""
    setattr(proxy, "losing" if stored else "swallowing", what)
    proxy.closing = True


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in a transaction"])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_i2_a_result_of_which_nobody_has_heard_and_a_take_over_leave_one_result_and_no_false_acknowledgement(
    proxy: Proxy, postgres: str, me: str, at_once: bool, stored: bool
) -> None:
    with PostgresStore(proxy.url) as first, PostgresStore(postgres) as second:
        old = first.claim("t", me).result(10)
        lose(proxy, b"the first data", stored=stored)
        with held(first):
            if not at_once:
                first.submit(EventsKept("r1", [{"n": 0}], 0), old)
            told = first.submit(result("a", data=b"the first data", attempt="first"), old)
        assert proxy.lost.wait(10)
        lapse(second, old)
        new = second.claim("t", f"{me}-2", on_busy="take_over").result(10)
        found = [each.attempt for each in second.results("r1")]
        assert found == (["first"] if stored else [])
        other = second.submit(result("a", data=b"second", attempt="second"), new)
        assert type(other.exception(10)) is (DuplicateResultError if stored else type(None))
        proxy.accept()
        with pytest.raises(LeaseLostError, match="'t'"):
            told.result(10)
        assert [(each.attempt, each.data) for each in second.results("r1")] == (
            [("first", b"the first data")] if stored else [("second", b"second")]
        )
        assert _epochs(postgres) == [1 if stored else 2]
        if stored:  # whoever has read it may say so
            newest = second.claim("t", f"{me}-2").result(10)
            second.submit(result("a", data=b"the first data", attempt="first"), newest).result(10)


def _epochs(url: str) -> list[int]:
    with psycopg.connect(url) as server:
        return [epoch for (epoch,) in server.execute("select epoch from task_result order by no")]


class Noted(TypedDict, total=False):
    n: int
    note: str


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_i4_who_takes_a_thread_over_does_not_run_what_was_stored_and_its_first_runner_is_told_that_it_lost_it(
    proxy: Proxy, postgres: str, stored: bool
) -> None:
    ran: list[str] = []

    def graph(store: PostgresStore, worker: str) -> Any:
        def a(state: Noted) -> Noted:
            ran.append(f"a of the {worker}")
            return {"n": state["n"] + 1, "note": f"said by the {worker}"}

        def b(state: Noted) -> Noted:
            ran.append(f"b of the {worker}")
            return {"n": 10 * state["n"]}

        builder = StateGraph(Noted).add_node("begin", lambda state: {"n": 1}).add_node("a", a).add_node("b", b)
        builder.add_edge(START, "begin").add_edge("begin", "a").add_edge("a", "b").add_edge("b", END)
        return builder.compile(checkpointer=store)

    told: list[BaseException] = []

    def run(store: PostgresStore) -> None:
        try:
            graph(store, "first").invoke({"n": 0}, thread_id="t", durability="sync")
        except BaseException as error:  # noqa: BLE001 - told to the test
            told.append(error)

    with PostgresStore(proxy.url) as first, PostgresStore(postgres) as second:
        lose(proxy, b"said by the first", stored=stored)
        runner = threading.Thread(target=run, args=(first,))
        runner.start()
        assert proxy.lost.wait(10)
        lapse(second, Lease("t", "", 0))
        assert graph(second, "second").invoke(None, thread_id="t", on_busy="take_over")["n"] == 20
        proxy.accept()
        runner.join(10)
    assert [type(error) for error in told] == [LeaseLostError]
    again = [] if stored else ["a of the second"]
    assert ran == ["a of the first", *again, "b of the second"]


def test_two_who_number_on_at_once_do_not_lose_anything(postgres: str) -> None:
    with PostgresStore(postgres) as one, PostgresStore(postgres) as other:
        tickets = [
            ticket
            for number in range(60)
            for store in (one, other)
            for ticket in (
                store.submit(EventsKept("r1", [{"n": number, "by": id(store)}])),
                store.submit(checkpoint(f"{id(store)} {number}")),
            )
        ]
        assert [ticket.exception(20) for ticket in tickets] == [None] * len(tickets)
        assert sorted(event["n"] for event in one.events("r1")) == sorted([*range(60)] * 2)
        assert len(one.history("t")) == 120


# Longer than anybody waits


def test_i12_a_database_that_stays_away_is_an_error_and_what_is_told_durable_is(
    proxy: Proxy, postgres: str, me: str
) -> None:
    with PostgresStore(proxy.url, patience=0.3) as store:
        lease = store.claim("t", me).result(10)
        store.submit(result("a"), lease).result(10)
        proxy.refuse()
        ticket = store.submit(result("b"), lease)
        with pytest.raises(StoreError, match=r"cannot write to postgresql://127\.0\.0\.1.*: cannot open the store"):
            ticket.result(10)
        with pytest.raises(StoreError, match="cannot read postgresql://"):
            store.results("r1")
        proxy.accept()
        with pytest.raises(StoreError, match="something earlier of this run was not stored, so nothing later is"):
            store.submit(checkpoint("c1"), lease).result(10)
        store.submit(RunClosed("r1", "failed", 2.0), lease).result(10)
        kept(store, result("c"))
    assert [each.task_id for each in _all_results(postgres)] == ["a", "c"]


class State(TypedDict, total=False):
    n: int


def test_i12_a_run_that_cannot_store_says_so_and_stops_and_goes_on_from_what_is_stored(
    proxy: Proxy, postgres: str
) -> None:
    ran: list[str] = []
    away = [True]

    def node(name: str) -> Callable[[State], State]:
        def work(state: State) -> State:
            ran.append(name)
            if name == "b" and away:
                away.clear()
                proxy.refuse()
            return {"n": state["n"] + 1}

        return work

    def graph(store: PostgresStore) -> Any:
        builder = StateGraph(State)
        for name in "abcd":
            builder.add_node(name, node(name))
        for source, target in zip((START, *"abcd"), (*"abcd", END), strict=True):
            builder.add_edge(source, target)
        return builder.compile(checkpointer=store)

    with PostgresStore(proxy.url, patience=0.3) as store, pytest.raises(StoreError, match="cannot write to"):
        graph(store).invoke({"n": 0}, thread_id="t", durability="sync")
    assert ran == ["a", "b"]
    with PostgresStore(postgres) as store:
        assert graph(store).invoke(None, thread_id="t") == {"n": 4}
    assert ran == ["a", "b", "b", "c", "d"]


def test_who_is_not_heard_of_while_the_database_is_away_does_not_rely_on_its_lease(proxy: Proxy, me: str) -> None:
    with PostgresStore(proxy.url, ttl=0.4, patience=0.2) as store:
        lease = store.claim("t", me).result(10)
        proxy.refuse()
        while store.holds(lease):
            pass
        with pytest.raises(StoreError, match="cannot write to"):
            store.confirm(lease).result(10)
        proxy.accept()
        store.confirm(lease).result(10)
        assert store.holds(lease)


def test_a_store_is_closed_within_its_patience_when_its_database_is_away(proxy: Proxy) -> None:
    store = PostgresStore(proxy.url, patience=0.3)
    proxy.refuse()
    ticket = store.submit(result("a"))
    store.close()
    with pytest.raises(StoreError, match="cannot write to"):
        ticket.result(0)


def test_what_cannot_be_written_fails_at_once_and_not_after_all_patience(postgres: str) -> None:
    with PostgresStore(postgres, patience=1000.0) as store:
        for wrong in ("select 1/0", "select 'x'::bytea || repeat('x', 1100000000)::bytea", "select no_such_column"):

            def work(session: Session, wrong: str = wrong) -> None:
                session._connection.execute(wrong)  # type: ignore[attr-defined]

            with pytest.raises(StoreError, match="cannot write to"):
                store.write(work).result(30)
        kept(store, result("a"))


def test_a_process_that_is_frozen_in_a_transaction_does_not_keep_its_threads_from_others(
    postgres: str, me: str
) -> None:
    gate, reached = threading.Event(), threading.Event()
    with PostgresStore(postgres, longest_answer=0.3) as frozen, PostgresStore(postgres) as store:
        old = frozen.claim("t", me).result(10)

        def freeze(session: Session) -> None:
            frozen._leases.fence(session, [old])  # holds the thread's row
            if not reached.is_set():
                reached.set()
                gate.wait(20)

        stuck = frozen.write(freeze)
        assert reached.wait(10)
        new = store.claim("t", me).result(10)
        gate.set()
        stuck.result(10)  # it was ended in the middle, and done again
        with pytest.raises(LeaseLostError):
            frozen.submit(result("a"), old).result(10)
        store.submit(result("a"), new).result(10)


def test_deleting_a_thread_leaves_nothing_of_what_its_runner_was_about_to_write(postgres: str, me: str) -> None:
    gate, reached = threading.Event(), threading.Event()
    with PostgresStore(postgres) as runner, PostgresStore(postgres) as store:
        lease = runner.claim("t", me).result(10)

        def write(session: Session) -> None:
            runner._leases.fence(session, [lease])
            reached.set()
            gate.wait(10)
            session.many("keep_final", [{**asdict(result("a")), "epoch": lease.epoch}])

        runner.write(write)
        assert reached.wait(10)
        deleted = store.delete_thread("t")
        while not _waits_for_a_lock(postgres):
            pass
        gate.set()
        deleted.result(10)
        with pytest.raises(LeaseLostError):
            runner.submit(result("b"), lease).result(10)
        assert store.results("r1") == []


def _waits_for_a_lock(postgres: str) -> bool:
    with psycopg.connect(postgres) as connection:
        row = connection.execute("select count(*) from pg_stat_activity where wait_event_type = 'Lock'").fetchone()
    return row is not None and row[0] > 0


# Opening


def test_a_database_that_cannot_be_opened_is_an_error_of_ours_that_says_why(postgres: str, postgres_url: str) -> None:
    with pytest.raises(StoreError, match=r"cannot open the store postgresql://127\.0\.0\.1:1/x: .*refused"):
        PostgresStore("postgresql://127.0.0.1:1/x")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("do $$ begin create role powerless login; exception when duplicate_object then null; end $$")
    powerless = postgres.replace("//postgres@", "//powerless@")
    with pytest.raises(StoreError, match=r"cannot open the store .*permission denied"):
        PostgresStore(powerless)
