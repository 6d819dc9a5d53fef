"""The store against a plain dictionary: whatever is asked of it, in whatever order and however it is grouped.

`FANFOLD_TEST_EXAMPLES=500` looks longer than the usual run does.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fanfold.errors import DuplicateResultError, LeaseLostError, StoreError, ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import (
    FINAL,
    Change,
    CheckpointKept,
    EventsKept,
    Lease,
    OnBusy,
    ResultKept,
    RunClosed,
    RunOpened,
)
from fanfold.store.batches import chained_on, unpacked
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import MEMORY
from tests.store.making import held, lapse, opened, store_at

EXAMPLES = int(os.environ.get("FANFOLD_TEST_EXAMPLES", "25"))
THREADS = ("t", "u")
Outcome = type[StoreError] | None


@dataclass(eq=False)
class Opened:
    """A store that is open, or was when its process crashed: then its owners are dead, and still it may write."""

    store: SqlStore
    owners: list[str] = field(default_factory=list)
    spoilt: set[Lease] = field(default_factory=set)
    lapsed: bool = False

    def crash(self) -> None:
        for owner in self.owners:
            owners.leave(owner)


@dataclass(eq=False)
class Held:
    """A lease and the store that it was claimed in."""

    by: Opened
    lease: Lease


@dataclass
class Model:
    """What is in the database."""

    epochs: dict[str, int] = field(default_factory=dict)
    holder: dict[str, Held] = field(default_factory=dict)
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)
    results: dict[tuple[str, ...], ResultKept] = field(default_factory=dict)
    checkpoints: dict[str, dict[str, CheckpointKept]] = field(default_factory=lambda: {name: {} for name in THREADS})
    events: dict[str, list[Any]] = field(default_factory=dict)

    def good(self, lease: Lease) -> bool:
        return self.epochs.get(lease.thread_id) == lease.epoch

    def claim(self, by: Opened, thread: str, owner: str, on_busy: OnBusy) -> Outcome:
        held = self.holder.get(thread)
        if held is not None and owners.alive(held.lease.owner) and not (held.by.lapsed and on_busy != "reject"):
            return ThreadBusyError
        self.epochs[thread] = self.epochs.get(thread, 0) + 1
        self.holder[thread] = Held(by, Lease(thread, owner, self.epochs[thread]))
        by.lapsed = False
        return None

    def release(self, held: Held) -> None:
        held.by.spoilt.discard(held.lease)
        current = self.holder.get(held.lease.thread_id)
        if current is not None and current.lease == held.lease:
            del self.holder[held.lease.thread_id]

    def delete(self, thread: str) -> None:
        if thread in self.epochs:
            self.epochs[thread] += 1
        self.holder.pop(thread, None)
        gone = [run for run, (of, _) in self.runs.items() if of == thread]
        for run in gone:
            del self.runs[run]
            self.events.pop(run, None)
        self.results = {key: kept for key, kept in self.results.items() if kept.thread_id != thread}
        self.checkpoints[thread] = {}

    def submit(self, change: Change, under: Held | None) -> Outcome:
        if under is not None and not self.good(under.lease):
            under.by.spoilt.add(under.lease)
            return LeaseLostError
        if under is not None and under.lease in under.by.spoilt and isinstance(change, ResultKept | CheckpointKept):
            return StoreError
        outcome = StoreError if under is not None and astray(change, under.lease) else self._keep(change)
        if outcome is not None and under is not None:
            under.by.spoilt.add(under.lease)
        return outcome

    def _keep(self, change: Change) -> Outcome:
        match change:
            case RunOpened(run):
                thread, _ = self.runs.get(run.run_id, (run.thread_id, ""))
                self.runs[run.run_id] = (thread, run.status)
            case RunClosed() if change.run_id in self.runs:
                self.runs[change.run_id] = (self.runs[change.run_id][0], change.status)
            case ResultKept():
                return self._keep_result(change)
            case CheckpointKept():
                there = self.checkpoints[change.thread_id]
                if change.checkpoint_id in there:
                    return None if there[change.checkpoint_id] == change else StoreError
                if not change.full and change.parent_id not in there:
                    return StoreError
                there[change.checkpoint_id] = change
            case EventsKept():
                return self._keep_events(change)
        return None

    def _keep_result(self, change: ResultKept) -> Outcome:
        key = (change.thread_id, change.checkpoint_id, change.branch, change.task_id, change.kind)
        there = self.results.get(key)
        if there is not None and change.kind in FINAL:
            return None if there.attempt == change.attempt else DuplicateResultError
        self.results[key] = change
        return None

    def _keep_events(self, change: EventsKept) -> Outcome:
        there = self.events.setdefault(change.run_id, [])
        first = len(there) if change.first is None else change.first
        if first > len(there):
            return StoreError
        new = list(change.events)
        if there[first : first + len(new)] != new[: len(there) - first]:
            return StoreError
        there += new[len(there) - first :]
        return None


def astray(change: Change, lease: Lease) -> bool:
    """Whether a change names another thread than its lease is of."""
    match change:
        case RunOpened(run):
            return run.thread_id != lease.thread_id
        case ResultKept() | CheckpointKept():
            return change.thread_id != lease.thread_id
    return False


threads = st.sampled_from(THREADS)
ids = st.sampled_from(["c0", "c1", "c2", "c3"])
results = st.builds(
    lambda thread, task, kind, attempt, at, branch: ResultKept(
        thread, "", at, "r1", task, kind, task, 1, f"{task}{attempt}".encode(), None, attempt, branch
    ),
    threads,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["result", "child", "interrupt", "error"]),
    st.sampled_from(["1", "2"]),
    ids,
    st.sampled_from(["", "", "fork"]),
)
checkpoints = st.builds(
    lambda thread, id, parent, full, data: CheckpointKept(thread, "", id, parent, "r1", 0, "loop", 1.5, full, data),
    threads,
    ids,
    st.none() | ids,
    st.booleans(),
    st.sampled_from([b"x", b"x", b"y"]),
)
events = st.builds(
    EventsKept,
    st.sampled_from(["r1", "r2"]),
    st.lists(st.sampled_from([{"n": 1}, {"n": 2}]), min_size=1, max_size=3),
    st.integers(0, 3),
)
runs = st.builds(lambda run, thread: opened(run, thread), st.sampled_from(["r1", "r2"]), threads) | st.builds(
    lambda run: RunClosed(run, "done", 2.0), st.sampled_from(["r1", "r2"])
)
changes = results | checkpoints | events | runs
under = st.none() | st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """Several stores over one database, each as a process of its own would be."""

    lasting = False
    fresh: Callable[[], str]
    """Where there is nothing yet."""

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.place = self.fresh()
        self.stack = ExitStack()
        self.live: list[Opened] = []
        self.held: list[Held] = []
        self.open()

    def open(self) -> Opened:
        opened = Opened(self.stack.enter_context(store_at(self.place, ttl=100_000.0)))
        self.live.append(opened)
        return opened

    @rule(thread=threads, on_busy=st.sampled_from(["reject", "wait", "take_over"]), which=st.integers(0, 1))
    def claim(self, thread: str, on_busy: OnBusy, which: int) -> None:
        by = self.live[which % len(self.live)]
        owner = owners.me()
        by.owners.append(owner)
        expected = self.model.claim(by, thread, owner, on_busy)
        self.check(by.store.claim(thread, owner, on_busy=on_busy), expected)
        if expected is None:
            self.held.append(self.model.holder[thread])
            assert by.store.holds(self.held[-1].lease)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 5))
    def release(self, which: int) -> None:
        held = self.held[which % len(self.held)]
        self.model.release(held)
        held.by.store.release(held.lease)
        held.by.store.write(lambda _: None).result(10)

    @precondition(lambda self: self.model.holder)
    @rule(thread=threads)
    def expire(self, thread: str) -> None:
        held = self.model.holder.get(thread)
        if held is not None:
            lapse(self.live[0].store, held.lease)
            held.by.lapsed = True

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 5))
    def confirm(self, which: int) -> None:
        held = self.held[which % len(self.held)]
        current = self.model.holder.get(held.lease.thread_id)
        dropped = current is None or current.lease != held.lease
        self.check(held.by.store.confirm(held.lease), None if self.model.good(held.lease) else LeaseLostError)
        held.by.lapsed = False
        assert held.by.store.holds(held.lease) == (not dropped)

    @rule(
        which=st.lists(st.tuples(changes, under), min_size=1, max_size=7), together=st.booleans(), by=st.integers(0, 1)
    )
    def submit(self, which: list[tuple[Change, int | None]], together: bool, by: int) -> None:
        store = self.live[by % len(self.live)]
        asked: list[tuple[Future[None], Outcome]] = []
        with held(store.store) if together else nullcontext():
            for change, number in which:
                lease = self.held[number % len(self.held)] if number is not None and self.held else None
                if together and lease is not None and lease.by is not store:
                    lease = None
                expected = self.model.submit(change, lease)
                asked.append(((lease.by if lease else store).store.submit(change, lease and lease.lease), expected))
                if not together:
                    self.check(*asked.pop())
        for ticket, expected in asked:
            self.check(ticket, expected)

    @rule(thread=threads)
    def go_on(self, thread: str) -> None:
        """Keep a checkpoint that follows from the last one, and what led to it, under the thread's lease."""
        under = next((held for held in self.held if held is self.model.holder.get(thread)), None)
        store = under.by if under is not None else self.live[0]
        line = list(self.model.checkpoints[thread].values())
        parent = line[-1].checkpoint_id if line else None
        new = CheckpointKept(
            thread, "", uuid.uuid4().hex, parent, "r1", len(line), "loop", 1.5, parent is None, uuid.uuid4().bytes
        )
        expected = self.model.submit(new, under)
        self.check(store.store.submit(new, under and under.lease), expected)

    @rule(thread=threads, which=st.integers(0, 1))
    def delete(self, thread: str, which: int) -> None:
        self.model.delete(thread)
        self.check(self.live[which % len(self.live)].store.delete_thread(thread), None)

    @precondition(lambda self: self.lasting and len(self.live) < 3)
    @rule()
    def reopen(self) -> None:
        self.open()

    @precondition(lambda self: self.lasting)
    @rule(which=st.integers(0, 2))
    def crash(self, which: int) -> None:
        """A process is gone for the others, and nothing was closed. That it still may write is what fences are for."""
        self.live.pop(which % len(self.live)).crash()
        if not self.live:
            self.open()

    @precondition(lambda self: self.lasting and self.live)
    @rule()
    def close(self) -> None:
        last = self.live.pop()
        last.store.close()
        last.crash()
        self.held = [held for held in self.held if held.by is not last]
        if not self.live:
            self.open()

    def check(self, ticket: Future[Any], expected: Outcome) -> None:
        found = ticket.exception(20)
        assert (type(found) if found else None) == expected, (found, expected)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        if not hasattr(self, "live") or not self.live:
            return
        store, model = self.live[-1].store, self.model
        assert store.results("r1") == list(model.results.values())
        for thread in THREADS:
            line = list(model.checkpoints[thread].values())
            assert store.history(thread) == line[::-1]
            holder = model.holder.get(thread)
            assert store.owner(thread) == (None if holder is None or holder.by.lapsed else holder.lease.owner)
            self.the_thread_stands(store, thread, line)
        assert {run.run_id: (run.thread_id, run.status) for run in store.runs()} == model.runs
        for run in ("r1", "r2"):
            assert store.events(run) == model.events.get(run, [])

    def the_thread_stands(self, store: SqlStore, thread: str, line: list[CheckpointKept]) -> None:
        record = store.thread(thread)
        if not line:
            assert record is None
            return
        assert record is not None
        chain = [line[-1]]
        while not chain[0].full:
            chain.insert(0, self.model.checkpoints[thread][str(chain[0].parent_id)])
        assert sorted(each.checkpoint_id for each in record.chain) == sorted(each.checkpoint_id for each in chain)
        for each in chain:
            hanging = [
                kept
                for kept in self.model.results.values()
                if (kept.thread_id, kept.checkpoint_id, kept.branch) == (thread, each.checkpoint_id, "")
            ]
            assert record.results[each.checkpoint_id] == hanging

    @invariant()
    def i5_seq_is_gapless_and_i9_the_chain_is_intact(self) -> None:
        if not hasattr(self, "live") or not self.live:
            return
        rows = self.live[-1].store.write(numbers_and_hashes).result(10)
        for thread in THREADS:
            assert [seq for name, seq in rows[0] if name == thread] == list(range(len(self.model.checkpoints[thread])))
        last: dict[str, tuple[int, bytes]] = {}
        for run, no, *kept, hash in rows[1]:
            number, before = last.get(run, (-1, b""))
            texts = unpacked(*kept, run)
            assert (no, bytes(hash)) == (number + 1, chained_on(before, texts))
            last[run] = (number + len(texts), bytes(hash))

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()
            for opened in self.live:
                opened.crash()


def numbers_and_hashes(session: Any) -> tuple[list[Any], list[Any]]:
    ask: Callable[[str], Any] = session._connection.execute
    return (
        ask("select thread_id, seq from checkpoint order by thread_id, seq").fetchall(),
        ask("select run_id, no, data, packed, hash from event order by run_id, no").fetchall(),
    )


@pytest.mark.parametrize("what", ["memory", "file", "postgres"])
@pytest.mark.timeout(600)
def test_the_store_does_what_a_dictionary_would(what: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres") if what == "postgres" else ""

    class Machine(StoreMachine):
        lasting = what != "memory"
        fresh = staticmethod(partial(fresh, what, tmp_path, url))

    usual = settings(
        max_examples=EXAMPLES if what != "postgres" else max(EXAMPLES // 3, 1),
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize="FANFOLD_TEST_EXAMPLES" not in os.environ,
        database=None,
    )
    run_state_machine_as_test(Machine, settings=usual)  # type: ignore[no-untyped-call]


def fresh(what: str, folder: Path, url: str) -> str:
    """Where there is nothing yet."""
    if what == "memory":
        return MEMORY
    if what == "file":
        return str(folder / f"{uuid.uuid4().hex}.db")
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("worker", "thread", "run", "checkpoint", "task_result", "event"):
            connection.execute(f"do $$ begin truncate {table}; exception when undefined_table then null; end $$")
    return url
