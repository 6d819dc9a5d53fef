"""What every store promises, whichever database it is."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from fanfold.errors import (
    CorruptRecordError,
    DuplicateResultError,
    RunNotFoundError,
    StoreError,
    ThreadBusyError,
)
from fanfold.store import owner as owners
from fanfold.store.base import (
    FAILED,
    RUNNING,
    CheckpointKept,
    EventsKept,
    Lease,
    OnBusy,
    ResultKept,
    RunClosed,
    Store,
)
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.writer import Session
from tests.store.making import Open, checkpoint, held, kept, opened, result

# Changes


def test_changes_can_be_seen_when_their_ticket_is_resolved(store: Store) -> None:
    kept(store, opened(), result("a"))
    assert store.run("r1").status == RUNNING
    assert store.results("r1") == [result("a")]


def test_changes_are_made_in_the_order_in_which_they_were_submitted(store: Store) -> None:
    tickets = [store.submit(result(f"task {number}")) for number in range(200)]
    tickets[-1].result(10)
    assert all(ticket.done() for ticket in tickets)
    assert [one.task_id for one in store.results("r1")] == [f"task {number}" for number in range(200)]


def test_changes_from_many_threads_are_all_made(store: Store) -> None:
    def work(name: str) -> None:
        for number in range(25):
            store.submit(result(f"{name}-{number:02}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept(store, opened())
    found = [one.task_id for one in store.results("r1")]
    assert len(found) == 200
    for name in "abcdefgh":
        assert [task for task in found if task.startswith(name)] == [f"{name}-{number:02}" for number in range(25)]


def test_a_change_that_cannot_be_written_fails_alone(store: Store) -> None:
    half = "half a character: \udce9"
    bad = [
        result(half),
        EventsKept("r1", [{"kind": "fine"}, {"kind": object()}]),
        checkpoint("c", "no step"),  # type: ignore[arg-type]  # on purpose
    ]
    with held(store):
        before = store.submit(result("before"))
        refused = [store.submit(change) for change in bad]
        after = store.submit(result("after"))
    before.result(10)
    after.result(10)
    for ticket in refused:
        with pytest.raises(StoreError, match=r"cannot write to|holds half a character"):
            ticket.result(10)
    assert [one.task_id for one in store.results("r1")] == ["before", "after"]
    assert store.events("r1") == []


def test_a_ticket_cannot_be_cancelled_and_giving_up_on_it_stops_nobody(store: Store) -> None:
    ticket = store.submit(result("a"))
    assert not ticket.cancel()
    kept(store, result("b"))
    assert [one.task_id for one in store.results("r1")] == ["a", "b"]


@pytest.mark.parametrize("parent", [None, "p"])
def test_a_result_is_of_one_attempt_for_good_and_another_is_refused(store: Store, parent: str | None) -> None:
    first = result("a", data=b"first", parent=parent, attempt="1")
    kept(store, first, first)
    with pytest.raises(DuplicateResultError, match="'node of a', step 1, thread 't' has a result of another attempt"):
        store.submit(result("a", data=b"second", parent=parent, attempt="2")).result(10)
    kept(store, first)
    assert store.results("r1") == [first]


def test_of_two_attempts_in_one_transaction_the_first_stays(store: Store) -> None:
    first, second = result("a", attempt="1"), result("a", attempt="2")
    with held(store):
        tickets = [store.submit(each) for each in (first, second, first)]
    assert [type(ticket.exception(10)) for ticket in tickets] == [type(None), DuplicateResultError, type(None)]
    assert store.results("r1") == [first]


@pytest.mark.parametrize("kind", ["answers", "interrupt", "error", "command"])
def test_what_is_no_result_gives_way_to_what_comes_later(store: Store, kind: str) -> None:
    early, late = (result("a", kind=kind, data=data, attempt=str(data)) for data in (b"early", b"late"))
    with held(store):
        tickets = [store.submit(each) for each in (early, late)]
    assert [ticket.result(10) for ticket in tickets] == [None, None]
    assert store.results("r1") == [late]


def test_what_is_of_a_branch_of_its_own_is_kept_beside_what_stands_there(store: Store) -> None:
    first, again = result("a", attempt="1"), result("a", attempt="2", branch="b")
    kept(store, checkpoint("c0"), first, again)
    record = store.thread("t")
    assert record is not None
    assert (record.results["c0"], store.results("r1")) == ([first], [first, again])


def test_any_bytes_and_any_text_come_back_as_they_were(store: Store) -> None:
    data = bytes(range(256)) * 3
    name = "naïve 'quoted' \"name\" %s ? \N{PANDA FACE} \n\t"
    odd = ResultKept(name, name, name, name, name, name, name, 3, data, name)
    kept(store, odd, CheckpointKept(name, name, name, None, name, 3, name, 0.1, True, data))
    assert store.results(name) == [odd]
    (found,) = store.history(name, name)
    assert (found.checkpoint_id, found.source, found.created, found.full, found.data) == (name, name, 0.1, True, data)


# Where a thread stands


def test_a_thread_that_holds_nothing_is_none(store: Store, me: str) -> None:
    assert store.thread("t") is None
    assert store.claim("t", me).result(10).epoch == 1
    assert store.thread("t") is None


def test_a_thread_stands_at_the_checkpoint_that_was_kept_last_and_what_hangs_on_it(store: Store) -> None:
    kept(store, checkpoint("z", 3), result("old", 3, at="z"), checkpoint("a", 1))
    hanging = [result("new", at="a"), result("child", parent="new", at="a"), result("new", at="a", kind="answers")]
    kept(store, *hanging)
    found = store.thread("t")
    assert found is not None
    assert found.head == checkpoint("a", 1)
    assert found.chain == (checkpoint("a", 1),)
    assert dict(found.results) == {"a": hanging}
    assert store.thread("another") is None


def test_a_checkpoint_that_is_not_full_comes_with_its_parents_back_to_one_that_is(store: Store) -> None:
    line = [
        checkpoint("1"),
        checkpoint("2", parent="1"),
        checkpoint("3", parent="2", full=False),
        checkpoint("beside", parent="2", full=False),
        checkpoint("4", parent="3", full=False),
    ]
    kept(store, *line, result("a", at="2"), result("b", at="3"), result("c", at="beside"))
    found = store.thread("t")
    assert found is not None
    assert found.chain == (line[1], line[2], line[4])
    assert found.results == {"2": [result("a", at="2")], "3": [result("b", at="3")], "4": []}


def test_a_thread_can_be_asked_for_as_it_stood_at_any_checkpoint(store: Store) -> None:
    first, second = checkpoint("1"), checkpoint("2", parent="1", full=False)
    kept(store, first, result("a", at="1"), second)
    found = store.thread("t", "", "1")
    assert found is not None
    assert (found.chain, found.results) == ((first,), {"1": [result("a", at="1")]})
    assert store.thread("t", "", "3") is None
    assert store.history("t") == [second, first]
    assert store.history("another") == []


def test_graphs_within_a_graph_have_checkpoints_and_results_of_their_own(store: Store) -> None:
    inner = checkpoint("1", 5, namespace="n:1")
    kept(store, checkpoint("1"), result("a", at="1"), inner, result("a", at="1", data=b"inner", namespace="n:1"))
    found = store.thread("t", "n:1")
    assert found is not None
    assert found.head == inner
    assert [one.data for one in found.results["1"]] == [b"inner"]
    assert store.thread("t").head == checkpoint("1")  # type: ignore[union-attr]
    assert store.history("t", "n:1") == [inner]


def test_a_checkpoint_is_never_replaced(store: Store) -> None:
    kept(store, checkpoint("1"), checkpoint("1"))
    with pytest.raises(StoreError, match="checkpoint '1' of thread 't' is there already, and another one"):
        store.submit(checkpoint("1", data=b"other")).result(10)
    assert store.history("t") == [checkpoint("1")]


def test_results_of_a_task_are_kept_by_kind_and_by_checkpoint(store: Store) -> None:
    several = [result("a"), result("a", kind="error"), result("a", kind="interrupt"), result("a", at="c1")]
    for each in several:  # of those that are kept together, what is final comes first
        kept(store, each)
    assert store.results("r1") == several


def test_whoever_has_claimed_a_thread_finds_everything_that_was_queued_before(store: Store, me: str) -> None:
    with held(store):
        store.submit(checkpoint("1"))
        store.submit(result("a", at="1"))
        claimed = store.claim("t", me)
    claimed.result(10)
    assert store.thread("t").results == {"1": [result("a", at="1")]}  # type: ignore[union-attr]


def test_a_thread_that_is_deleted_leaves_nothing_and_no_other_is_concerned(store: Store, me: str) -> None:
    other = CheckpointKept("u", "", "1", None, "r2", 0, "loop", 1.5, True, b"data")
    kept(store, opened(), opened("r2", "u"), checkpoint("1"), checkpoint("2", namespace="n"), other)
    kept(store, result("a"), EventsKept("r1", [{"kind": "k"}]), EventsKept("r2", [{"kind": "k"}]))
    store.claim("t", me).result(10)
    store.delete_thread("t").result(10)
    assert (store.thread("t"), store.history("t"), store.history("t", "n"), store.owner("t")) == (None, [], [], None)
    assert (store.results("r1"), store.events("r1")) == ([], [])
    assert [run.run_id for run in store.runs()] == ["r2"]
    assert (store.history("u"), store.events("r2")) == ([other], [{"kind": "k"}])


# Runs and events


def test_a_run_comes_back_whole(store: Store) -> None:
    kept(store, opened(created=1234.5))
    assert store.run("r1") == opened(created=1234.5).run
    kept(store, RunClosed("r1", FAILED, 1300.25, "ValueError: no"))
    run = store.run("r1")
    assert (run.status, run.finished, run.error, run.created) == (FAILED, 1300.25, "ValueError: no", 1234.5)


def test_a_run_that_is_opened_again_is_running_and_keeps_when_it_was_made(store: Store) -> None:
    kept(store, opened(created=1.0), RunClosed("r1", FAILED, 2.0, "error"), opened(created=3.0))
    run = store.run("r1")
    assert (run.status, run.finished, run.error, run.created) == (RUNNING, None, "", 1.0)


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    kept(store, opened("abcdef"), opened("abxyz"), opened("100%_"))
    assert store.run("abc").run_id == "abcdef"
    assert store.run("100%").run_id == "100%_"
    for pattern in ("%", "_bcdef", "bcdef", "*", "ABCDEF"):
        with pytest.raises(RunNotFoundError):
            store.run(pattern)


def test_a_beginning_that_fits_several_runs_is_refused(store: Store) -> None:
    kept(store, opened("abcdef"), opened("abxyz"))
    with pytest.raises(RunNotFoundError, match="more than one run begins with 'ab'"):
        store.run("ab")


def test_an_id_that_is_whole_is_found_among_longer_ones(store: Store) -> None:
    kept(store, opened("abc"), opened("abd"), opened("ab"))
    assert store.run("ab").run_id == "ab"


def test_a_run_that_is_missing_is_named(store: Store) -> None:
    for run in ("nope", ""):
        with pytest.raises(RunNotFoundError, match=f"no run '{run}'"):
            store.run(run)


def test_runs_are_listed_newest_first(store: Store) -> None:
    kept(store, *(opened(f"r{number}", created=float(number % 3)) for number in range(6)))
    assert [run.run_id for run in store.runs()] == ["r5", "r2", "r4", "r1", "r3", "r0"]
    assert [run.run_id for run in store.runs(limit=2)] == ["r5", "r2"]
    assert [run.run_id for run in store.runs(limit=3, until=1.0)] == ["r4", "r1", "r3"]
    assert store.runs(until=-1.0) == []


def test_events_are_numbered_on_from_what_the_run_has(store: Store) -> None:
    facts = [{"kind": "noticed", "n": number, "text": "ä\udce9"} for number in range(7)]
    kept(store, EventsKept("r1", facts[:3]), EventsKept("other", facts[:1]), EventsKept("r1", facts[3:]))
    kept(store, EventsKept("r1", []))
    assert store.events("r1") == facts
    assert store.events("nobody") == []
    for first in range(9):  # within a batch, between two, and beyond the last
        assert store.events("r1", first=first) == facts[first:]
    assert store.events("nobody", first=1) == []


# Who runs a thread


def test_a_thread_that_somebody_runs_is_refused_to_others(store: Store, me: str) -> None:
    other = owners.me()
    store.claim("t", me).result(10)
    with pytest.raises(ThreadBusyError, match="thread 't' is being run by another call in this process"):
        store.claim("t", other).result(10)
    assert store.owner("t") == me
    store.claim("another thread", other).result(10)
    owners.leave(other)


def test_an_owner_may_claim_again_what_is_its_own_and_is_in_a_new_epoch(store: Store, me: str) -> None:
    first, second = store.claim("t", me).result(10), store.claim("t", me).result(10)
    assert (store.owner("t"), second.epoch - first.epoch) == (me, 1)
    assert (store.holds(first), store.holds(second)) == (False, True)


def test_a_released_thread_is_free_for_whoever_is_queued_behind(store: Store, me: str) -> None:
    other = owners.me()
    lease = store.claim("t", me).result(10)
    store.release(lease)
    store.claim("t", other).result(10)
    assert (store.owner("t"), store.holds(lease)) == (other, False)
    owners.leave(other)


def test_nobody_releases_what_another_one_runs(store: Store, me: str) -> None:
    earlier = store.claim("t", me).result(10)
    store.claim("t", me).result(10)
    store.release(earlier)
    kept(store, opened())
    assert store.owner("t") == me


@pytest.mark.parametrize("on_busy", ["reject", "wait", "take_over"])
def test_nobody_takes_a_thread_over_from_somebody_who_is_heard_of(store: Store, me: str, on_busy: OnBusy) -> None:
    other = owners.me()
    store.claim("t", other).result(10)
    with pytest.raises(ThreadBusyError):
        store.claim("t", me, on_busy=on_busy).result(10)
    owners.leave(other)


def test_a_sitting_that_is_over_holds_no_thread(store: Store, me: str) -> None:
    other = owners.me()
    store.claim("t", other).result(10)
    owners.leave(other)
    store.claim("t", me).result(10)
    assert store.owner("t") == me


def test_an_owner_that_cannot_be_read_fails_the_claim_and_nothing_else(store: Store, me: str) -> None:
    store.claim("t", "no owner at all").result(10)
    with pytest.raises(StoreError, match="cannot write to"):
        store.claim("t", me).result(10)
    kept(store, result("a"))


CLAIM_AND_STAY = """
import sys
from fanfold.store import owner
from fanfold.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
store.claim("t", owner.me()).result(10)
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_thread_is_refused_while_its_process_lives_and_taken_when_it_was_killed(tmp_path: Path, me: str) -> None:
    path = tmp_path / "runs.db"
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_STAY, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process, SqliteStore(path) as store:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(ThreadBusyError, match=f"'t' is being run by process {process.pid} on ") as refusal:
            store.claim("t", me).result(10)
        assert 'on_busy="wait"' in str(refusal.value)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped: nobody may ever do that
        lease = store.claim("t", me).result(10)
        assert (store.owner("t"), lease.epoch) == (me, 2)


CLAIM_AT_ONCE = """
import sys
from fanfold.errors import ThreadBusyError
from fanfold.store import owner
from fanfold.store.sqlite import SqliteStore
with SqliteStore(sys.argv[1]) as store:
    me = owner.me()
    for line in sys.stdin:
        try:
            store.claim(line.strip(), me).result(10)
            print("won", flush=True)
        except ThreadBusyError:
            print("lost", flush=True)
"""


def test_of_processes_that_claim_at_once_exactly_one_wins(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLAIM_AT_ONCE, tmp_path / "runs.db"]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(3)
    ]
    for number in range(20):
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write(f"thread {number}\n")
        said = [process.stdout.readline().strip() for process in crowd if process.stdout is not None]
        assert sorted(said) == ["lost", "lost", "won"], f"round {number}"
    for process in crowd:
        process.communicate(timeout=20)
        assert process.returncode == 0


# The end


def test_what_was_kept_is_there_when_the_store_is_opened_again(again: Open) -> None:
    with again() as store:
        kept(store, opened(), result("a"), checkpoint("c"), EventsKept("r1", [{"kind": "k"}]))
    with again() as store:
        assert store.run("r1") == opened().run
        assert store.results("r1") == [result("a")]
        assert store.events("r1") == [{"kind": "k"}]
        assert store.thread("t").head == checkpoint("c")  # type: ignore[union-attr]


def test_two_that_have_the_same_store_open_see_each_other_s_changes(again: Open) -> None:
    with again() as one, again() as other:
        kept(one, result("a"))
        kept(other, result("b"))
        assert one.results("r1") == other.results("r1") == [result("a"), result("b")]


def test_closing_commits_what_is_queued(again: Open) -> None:
    store = again()
    tickets = [store.submit(result(f"{number}")) for number in range(300)]
    store.close()
    assert all(ticket.done() and ticket.exception() is None for ticket in tickets)
    with again() as reopened:
        assert len(reopened.results("r1")) == 300


def test_a_store_that_nobody_closed_commits_what_is_queued_when_it_is_collected(again: Open) -> None:
    store = again()
    for number in range(300):
        store.submit(result(f"{number}"))
    writer = store._writer._thread
    del store
    gc.collect()
    writer.join(20)
    with again() as reopened:
        assert len(reopened.results("r1")) == 300


def test_closing_twice_is_harmless_also_at_once_and_both_wait(store: Store) -> None:
    ticket = store.submit(result("a"))
    crowd = [threading.Thread(target=store.close) for _ in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(10)
        assert not thread.is_alive()
    assert ticket.done()
    store.close()


def test_a_closed_store_refuses_everything_and_says_why(store: Store, me: str) -> None:
    store.close()
    asked: list[Callable[[], object]] = [
        lambda: store.submit(result("a")),
        lambda: store.claim("t", me),
        lambda: store.release(Lease("t", me, 1)),
        lambda: store.owner("t"),
        lambda: store.thread("t"),
        lambda: store.history("t"),
        lambda: store.delete_thread("t"),
        lambda: store.run("r1"),
        lambda: store.runs(),
        lambda: store.results("r1"),
        lambda: store.events("r1"),
    ]
    for ask in asked:
        with pytest.raises(StoreError, match=r"the store .* is closed"):
            ask()


def test_a_ticket_s_callback_may_ask_the_store_while_it_is_being_closed(store: Store) -> None:
    heard: list[object] = []
    with held(store):
        store.submit(result("a")).add_done_callback(lambda _: heard.append(store.results("r1")))
        closing = threading.Thread(target=store.close)
        closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert heard == [[result("a")]]


# What is particular to SQLite


def test_what_is_waiting_is_committed_together(tmp_path: Path) -> None:
    commits: list[str] = []
    with SqliteStore(tmp_path / "runs.db") as store:
        with held(store):
            tickets = [store.submit(result(f"{number}")) for number in range(500)]
            store._writer._session._connection.set_trace_callback(commits.append)
        for ticket in tickets:
            ticket.result(10)
        assert commits.count("commit") == 2  # of what held the writer, and of what waited behind it


def test_what_the_database_refuses_fails_alone_and_leaves_nothing_half_done(store: Store) -> None:
    def half(session: Session) -> None:
        session.many("keep_final", [{**asdict(result("half")), "epoch": 0}])
        session.rows("close_run", {"no such": "value"})

    assert isinstance(store, SqlStore)
    with held(store):
        tickets = [store.submit(result("a")), store.write(half), store.submit(result("b"))]
    assert tickets[0].result(10) is tickets[2].result(10) is None
    with pytest.raises(StoreError, match="cannot write to "):
        tickets[1].result(10)
    assert store.results("r1") == [result("a"), result("b")]


def test_a_commit_returns_when_the_disk_has_it(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        connection = store._writer._session._connection
        full = 2
        assert connection.execute("pragma synchronous").fetchone() == (full,)
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("table", ["event", "run"])
def test_a_row_that_is_no_longer_what_was_written_is_named(tmp_path: Path, table: str) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        kept(store, opened(), EventsKept("r1", [{"kind": "k"}]))
        column, wrong = ("packed", "x'0100'") if table == "event" else ("settings", "'{'")
        store.write(
            lambda session: session._connection.execute(f"update {table} set {column} = {wrong}") and None
        ).result(10)
        with pytest.raises(
            CorruptRecordError, match="event 0 of run 'r1'" if table == "event" else "run 'r1', settings"
        ):
            store.events("r1") if table == "event" else store.run("r1")
