"""Who may write to a thread: the right to run it, how it ends, and that nothing of an old epoch is stored again."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace

import psycopg
import pytest

from fanfold import claiming
from fanfold.claiming import claimed
from fanfold.errors import DuplicateResultError, LeaseLostError, StoreError, ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import Change, EventsKept, Lease, OnBusy, RunClosed
from fanfold.store.leases import SAFE
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.writer import Session
from tests.store.making import Open, Process, checkpoint, held, kept, lapse, opened, result, store_at


@pytest.fixture
def other() -> Iterator[str]:
    owner = owners.me()
    yield owner
    owners.leave(owner)


class Clock:
    """The clock by which a process knows how long it has not been heard of."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        real, self.ahead = owners.awake, 0.0
        patch.setattr(owners, "awake", lambda: real() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


CHANGES: dict[str, Change] = {
    "run opened": opened(),
    "run closed": RunClosed("r1", "done", 2.0),
    "result": result("a"),
    "child": result("a", parent="p"),
    "answers": result("a", kind="answers"),
    "update": result("a", kind="update"),
    "checkpoint": checkpoint("c1"),
    "events": EventsKept("r1", [{"kind": "k"}], 0),
}


def stolen(store: SqlStore, lease: Lease, by: str) -> Lease:
    lapse(store, lease)
    return store.claim(lease.thread_id, by, on_busy="take_over").result(10)


def holdings(store: SqlStore) -> list[object]:
    """All that the store has of what `CHANGES` would change."""
    return [
        [(run.run_id, run.status) for run in store.runs()],
        store.results("r1"),
        store.history("t"),
        store.events("r1"),
    ]


# How a lease ends


@pytest.mark.parametrize("on_busy", ["take_over", "wait"])
def test_a_lease_that_has_lapsed_is_taken_over_by_those_who_say_so(
    store: SqlStore, me: str, other: str, on_busy: OnBusy
) -> None:
    first = store.claim("t", me).result(10)
    lapse(store, first)
    assert store.owner("t") is None
    with pytest.raises(ThreadBusyError, match="has not been heard of since its lease lapsed") as refusal:
        store.claim("t", other, on_busy="reject").result(10)
    assert 'on_busy="take_over"' in str(refusal.value)
    second = store.claim("t", other, on_busy=on_busy).result(10)
    assert (second.epoch, store.owner("t"), store.holds(second)) == (2, other, True)


def test_a_lease_is_not_relied_on_a_moment_before_it_can_lapse(opens: Open, me: str, clock: Clock) -> None:
    with opens(ttl=1000.0) as store:
        lease = store.claim("t", me).result(10)
        assert store.holds(lease)
        clock.ahead = SAFE * 1000.0 - 100.0
        assert store.holds(lease)
        clock.ahead = SAFE * 1000.0
        assert not store.holds(lease)
        store.confirm(lease).result(10)  # nobody has taken it, and now it is heard of again
        assert store.holds(lease)


def test_a_beat_that_was_not_committed_prolongs_nothing(opens: Open, me: str, clock: Clock) -> None:
    with opens(ttl=1000.0) as store:
        lease = store.claim("t", me).result(10)
        clock.ahead = 1000.0

        def undone(session: Session) -> None:
            store._leases.beat(session)
            raise ValueError("and this is why it is not committed")

        with pytest.raises(StoreError, match="this is why"):
            store.write(undone).result(10)
        assert not store.holds(lease)


def test_a_store_with_short_leases_does_not_end_those_of_another_store_of_its_process(
    again: Open, me: str, other: str
) -> None:
    with again(ttl=1000.0) as lasting, again(ttl=0.001) as brief:
        lease = lasting.claim("t", me).result(10)
        brief.claim("u", me).result(10)
        with pytest.raises(ThreadBusyError, match="is being run by another call in this process"):
            brief.claim("t", other, on_busy="take_over").result(10)
        assert lasting.holds(lease)


def test_a_store_that_is_gone_does_not_hold_its_threads_because_another_of_its_process_lives(
    again: Open, me: str, other: str
) -> None:
    with again(ttl=0.05) as gone:
        gone.claim("t", me).result(10)
    with again(ttl=0.05) as store:
        store.claim("u", me).result(10)
        lease = until_free(store, "t", other, "take_over")
        assert (lease.epoch, store.owner("t")) == (2, other)


def until_free(store: SqlStore, thread: str, owner: str, on_busy: OnBusy) -> Lease:
    """Claim a thread again and again until it is free."""
    while True:
        try:
            return store.claim(thread, owner, on_busy=on_busy).result(10)
        except ThreadBusyError:
            continue


# What is refused


@pytest.mark.parametrize("what", CHANGES)
def test_i3_writes_of_an_old_epoch_are_refused_and_the_owner_is_named(
    store: SqlStore, me: str, other: str, what: str
) -> None:
    old = store.claim("t", me).result(10)
    kept(store, opened())
    before = holdings(store)
    stolen(store, old, other)
    with pytest.raises(LeaseLostError, match="has lost its thread 't': another call in this process runs it now"):
        store.submit(CHANGES[what], old).result(10)
    assert holdings(store) == before
    assert not store.holds(old)
    with pytest.raises(LeaseLostError, match="'t'"):
        store.confirm(old).result(10)


def test_i3_an_old_epoch_never_writes_again_whatever_becomes_of_the_new_one(
    store: SqlStore, me: str, other: str
) -> None:
    leases = [store.claim("t", me).result(10)]
    leases.append(stolen(store, leases[-1], other))
    store.release(leases[-1])
    with pytest.raises(LeaseLostError, match="somebody else has run or deleted it since"):
        store.submit(result("a"), leases[0]).result(10)
    leases.append(store.claim("t", me).result(10))
    store.delete_thread("t").result(10)
    leases.append(store.claim("t", me).result(10))
    for old in leases[:-1]:
        with pytest.raises(LeaseLostError):
            store.submit(result("a"), old).result(10)
    store.submit(result("a"), leases[-1]).result(10)
    assert [lease.epoch for lease in leases] == [1, 2, 3, 5]
    assert store.results("r1") == [result("a")]


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("by", ["claim", "delete"])
def test_i3_what_follows_a_claim_or_an_end_in_the_same_transaction_is_refused_as_well(
    store: SqlStore, me: str, what: str, by: str
) -> None:
    old = store.claim("t", me).result(10)
    ending: dict[str, Callable[[], Future[object]]] = {
        "claim": lambda: store.claim("t", me),  # type: ignore[dict-item, return-value]
        "delete": lambda: store.delete_thread("t"),  # type: ignore[dict-item, return-value]
    }
    with held(store):
        early = store.submit(result("early"), old)
        ending[by]()
        late = store.submit(CHANGES[what], old)
    assert early.exception(10) is None
    assert isinstance(late.exception(10), LeaseLostError)
    assert [each.task_id for each in store.results("r1")] == (["early"] if by == "claim" else [])
    assert (store.runs(), store.history("t"), store.events("r1")) == ([], [], [])


def test_what_is_of_another_thread_in_the_same_transaction_is_not_concerned(
    store: SqlStore, me: str, other: str
) -> None:
    old, good = store.claim("t", me).result(10), store.claim("u", me).result(10)
    stolen(store, old, other)
    with held(store):
        tickets = [
            store.submit(replace(change, thread_id=lease.thread_id if lease else "v"), lease)
            for change in (result("a"), checkpoint("c"), result("b"))
            for lease in (old, good, None)
        ]
    assert [type(ticket.exception(10)) for ticket in tickets] == [LeaseLostError, type(None), type(None)] * 3
    assert [(each.thread_id, each.task_id) for each in store.results("r1")] == [(t, n) for n in "ab" for t in "uv"]


NAMING = [what for what in CHANGES if what not in ("run closed", "events")]
"""The changes that name their thread."""


@pytest.mark.parametrize("what", NAMING)
@pytest.mark.parametrize("own", [True, False])
def test_a_change_under_the_lease_of_another_thread_is_refused_and_both_are_named(
    store: SqlStore, me: str, what: str, own: bool
) -> None:
    """Whether or not this process runs the other thread, too: also with the epoch that the right lease would have."""
    wrong = store.claim("u", me).result(10)
    right = store.claim("t", me).result(10) if own else None
    assert right is None or right.epoch == wrong.epoch
    before = holdings(store)
    with held(store):
        tickets = [store.submit(CHANGES[what], wrong)]
        if right is not None:  # beside one that is good, which has the thread's row held
            tickets.append(store.submit(result("good"), right))
        following = store.submit(replace(result("b"), thread_id="u"), wrong)
    with pytest.raises(
        StoreError, match=r"change of thread 't' was submitted under the lease of thread 'u'"
    ) as refusal:
        tickets[0].result(10)
    assert "claiming 't'" in str(refusal.value)
    with pytest.raises(StoreError, match="something earlier of this run was not stored"):
        following.result(10)
    if right is not None:
        tickets[1].result(10)
        assert [each.task_id for each in store.results("r1")] == ["good"]
        store.delete_thread("t").result(10)
    assert holdings(store) == before


def test_a_thread_that_was_deleted_is_lost_to_whoever_ran_it(store: SqlStore, me: str) -> None:
    lease = store.claim("t", me).result(10)
    store.submit(result("a"), lease).result(10)
    store.delete_thread("t").result(10)
    with pytest.raises(LeaseLostError, match="somebody else has run or deleted it since"):
        store.submit(result("b"), lease).result(10)
    with pytest.raises(LeaseLostError):
        store.confirm(lease).result(10)
    assert (store.results("r1"), store.owner("t"), store.holds(lease)) == ([], None, False)


def test_a_lease_of_a_thread_that_never_was_is_refused(store: SqlStore, me: str) -> None:
    with pytest.raises(LeaseLostError, match="'nowhere'"):
        store.submit(result("a"), Lease("nowhere", me, 1)).result(10)


# Waiting
# A beat and a claim at once


def test_a_beat_that_comes_while_another_claims_the_thread_does_not_prolong_the_lease(
    postgres: str, me: str, other: str
) -> None:
    gate, claimed = threading.Event(), threading.Event()
    with PostgresStore(postgres, ttl=1000.0) as frozen, PostgresStore(postgres, ttl=1000.0) as thief:
        old = frozen.claim("t", me).result(10)
        lapse(frozen, old)

        def claim(session: Session) -> None:
            thief._leases.claim(session, "t", other, "take_over")
            claimed.set()
            gate.wait(10)

        new = thief.write(claim)
        assert claimed.wait(10)
        beat = frozen.write(frozen._leases.beat)
        while not beat.done() and not waits_for_a_lock(postgres):
            pass
        gate.set()
        new.result(10)
        beat.result(10)
        assert (frozen.holds(old), thief.owner("t")) == (False, other)


def waits_for_a_lock(postgres: str) -> bool:
    with psycopg.connect(postgres) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'fanfold'"
        ).fetchone()
    return row is not None and row[0] > 0


def test_who_claims_while_a_beat_is_on_its_way_waits_for_it_and_is_refused(again: Open, me: str, other: str) -> None:
    gate, beaten = threading.Event(), threading.Event()
    with again(ttl=1000.0) as late, again(ttl=1000.0) as thief:
        lapse(late, late.claim("t", me).result(10))

        def beat(session: Session) -> None:
            late._leases.beat(session)
            beaten.set()
            gate.wait(10)

        late.write(beat)
        assert beaten.wait(10)
        claim = thief.claim("t", other, on_busy="take_over")
        while isinstance(thief, PostgresStore) and not claim.done() and not waits_for_a_lock(thief._place._url):  # type: ignore[attr-defined]
            pass
        gate.set()
        with pytest.raises(ThreadBusyError, match="is being run by"):
            claim.result(10)


# What follows from something that was not stored


BAD = result("half a character: \udce9")


@pytest.mark.parametrize("together", [True, False])
def test_i12_nothing_is_stored_that_follows_from_what_was_not(store: SqlStore, me: str, together: bool) -> None:
    lease = store.claim("t", me).result(10)
    with held(store) if together else nullcontext():
        good = store.submit(result("good"), lease)
        bad = store.submit(BAD, lease)
        following = [store.submit(change, lease) for change in (checkpoint("c1"), result("b"))]
        others = [store.submit(checkpoint("c2"), None), store.submit(RunClosed("r1", "failed", 2.0), lease)]
    good.result(10)
    with pytest.raises(StoreError, match="holds half a character"):
        bad.result(10)
    for ticket in following:
        with pytest.raises(StoreError, match=r"earlier of this run was not stored, so nothing later is: .*half"):
            ticket.result(10)
    assert [ticket.exception(10) for ticket in others] == [None, None]
    assert [each.task_id for each in store.results("r1")] == ["good"]
    assert [each.checkpoint_id for each in store.history("t")] == ["c2"]
    store.release(lease)
    again = store.claim("t", me).result(10)
    store.submit(checkpoint("c1"), again).result(10)


def test_i12_that_is_so_of_what_the_database_refuses_as_well(store: SqlStore, me: str) -> None:
    lease = store.claim("t", me).result(10)
    with held(store):
        tickets = [
            store.submit(change, lease)
            for change in (
                checkpoint("c1", parent="missing", full=False),
                checkpoint("c1"),
                EventsKept("r1", [{"n": 0}], 0),
                result("a"),
            )
        ]
    assert [type(ticket.exception(10)) for ticket in tickets] == [StoreError, StoreError, type(None), StoreError]
    assert (store.history("t"), store.results("r1")) == ([], [])


def test_a_refusal_is_the_same_when_its_transaction_is_undone_and_done_again(store: SqlStore, me: str) -> None:
    lease = store.claim("t", me).result(10)
    kept(store, result("a", attempt="another"))
    with held(store):
        before = store.submit(result("before"), lease)
        duplicate = store.submit(result("a"), lease)
        undoing = store.submit(EventsKept("r1", [{"kind": object()}]))
    assert before.exception(10) is None
    assert isinstance(duplicate.exception(10), DuplicateResultError)
    assert isinstance(undoing.exception(10), StoreError)


# Waiting


def test_who_waits_in_this_process_is_woken_by_the_release(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "LOOK_AGAIN", 1000.0)
    order: list[int] = []

    async def run(number: int) -> None:
        async with claimed(store, "t", on_busy="wait") as lease:
            await store.submit(result(f"{number}"), lease)
            order.append(lease.epoch)

    async def crowd() -> None:
        await asyncio.gather(*(asyncio.create_task(run(number)) for number in range(8)))

    asyncio.run(crowd())
    assert order == list(range(1, 9))
    store.write(lambda _: None).result(10)  # behind the last release
    assert store.owner("t") is None


def test_who_waits_for_another_process_goes_on_when_it_releases_the_thread(place: str) -> None:
    program = """
    lease = store.claim("t", me).result(10)
    say("claimed")
    input()
    store.release(lease)
    input()
    """
    heard: list[str] = []

    async def wait(store: SqlStore, other: Process) -> None:
        with pytest.raises(ThreadBusyError, match=f"'t' is being run by process {other.pid} on "):
            async with claimed(store, "t", on_busy="reject"):
                pass
        waiting = asyncio.create_task(run(store))
        await store.write(lambda _: None)  # its first try is behind it
        heard.append("told")
        other.tell()
        await waiting

    async def run(store: SqlStore) -> None:
        async with claimed(store, "t", on_busy="wait") as lease:
            heard.append(f"epoch {lease.epoch}")

    with Process(place, textwrap.dedent(program)) as other:
        assert other.said() == "claimed"
        with store_at(place) as store:
            asyncio.run(wait(store, other))
    assert heard == ["told", "epoch 2"]


def test_a_frozen_process_loses_its_thread_and_finds_out_when_it_goes_on(place: str, me: str) -> None:
    program = """
    lease = store.claim("t", me).result(10)
    say("claimed", store.holds(lease))
    input()
    say("holds", store.holds(lease))
    try:
        store.submit(RunClosed("r", "done", 1.0), lease).result(10)
    except LeaseLostError as error:
        say(error)
    """
    with Process(place, textwrap.dedent(program), options="ttl=0.5") as frozen, store_at(place) as store:
        assert frozen.said() == "claimed True"
        os.kill(frozen.pid, signal.SIGSTOP)
        lease = until_free(store, "t", me, "take_over")
        assert (lease.epoch, store.owner("t")) == (2, me)
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.tell()
        assert frozen.said() == "holds False"
        assert f"this run has lost its thread 't': process {os.getpid()} on " in frozen.said()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("on_busy", ["wait", "take_over", "reject"])
def test_a_call_inside_of_a_run_that_wants_its_own_thread_is_refused_and_does_not_wait_for_ever(
    again: Open, on_busy: OnBusy, same: bool
) -> None:
    async def run(store: SqlStore, inner: SqlStore) -> None:
        async with claimed(store, "t", on_busy="wait"), claimed(inner, "another", on_busy=on_busy):
            with pytest.raises(ThreadBusyError, match="'t' is being run"):
                async with claimed(inner, "t", on_busy=on_busy):
                    pass

    with again() as store, again() as second:
        asyncio.run(run(store, store if same else second))


def test_a_call_inside_of_a_run_waits_for_other_threads_as_any_other(store: SqlStore) -> None:
    async def run() -> list[int]:
        epochs: list[int] = []
        holding, release = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with claimed(store, "u", on_busy="reject"):
                holding.set()
                await release.wait()

        held_by = asyncio.create_task(hold())
        await holding.wait()
        async with claimed(store, "t", on_busy="wait"):
            asyncio.get_running_loop().call_soon(release.set)
            async with claimed(store, "u", on_busy="wait") as lease:
                epochs.append(lease.epoch)
        await held_by
        return epochs

    assert asyncio.run(run()) == [2]


def test_who_stops_waiting_for_a_claim_leaves_none_behind(store: SqlStore, other: str) -> None:
    async def give_up() -> None:
        with held(store):

            async def claim() -> None:
                async with claimed(store, "t", on_busy="wait"):
                    raise AssertionError("this was cancelled before")

            task = asyncio.create_task(claim())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(give_up())
    store.write(lambda _: None).result(10)  # the claim, and with it the order to release it
    store.write(lambda _: None).result(10)
    assert (store.owner("t"), store._leases.needed) == (None, False)
    assert store.claim("t", other).result(10).epoch == 2


def test_a_claim_of_which_nobody_could_be_told_is_released_by_the_next_beat(store: SqlStore, me: str) -> None:
    store.claim("u", me).result(10)

    def unheard(session: Session) -> None:
        store._leases.claim(session, "t", me, "reject")

    store.write(unheard).result(10)
    store._leases.unclaimed("t", me)
    store.write(store._leases.beat).result(10)
    assert (store.owner("t"), store.owner("u")) == (None, me)
