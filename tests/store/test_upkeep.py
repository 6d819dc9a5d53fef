"""What may be forgotten of a store, a thread under another name, and what a check finds; the same on every store."""

from __future__ import annotations

import operator
import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold import START, Command, CompiledGraph, StateGraph, audit, interrupt
from fanfold.errors import RunNotFoundError, StoreError, UsageError
from fanfold.langgraph import Saver
from fanfold.store import owner as owners
from fanfold.store.base import (
    DONE,
    FAILED,
    RUNNING,
    Change,
    CheckpointKept,
    EventsKept,
    ResultKept,
    RunClosed,
    RunOpened,
    RunRecord,
)
from fanfold.store.batches import chained, packed
from fanfold.store.checking import Finding, Stats
from fanfold.store.items import Items
from fanfold.store.migrations import known
from fanfold.store.once import Turn
from fanfold.store.postgres import PostgresStore
from fanfold.store.serde import Codec, Encryption, Keys
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.upkeep import Copy, Retention, prune_thread
from fanfold.store.writer import Session
from tests.store.making import Open, store_at

# What is kept, written down by hand

DATA = Codec().encode({"some": "data"})
OLD = 1000.0


def at(id: str, parent: str | None = None, *, full: bool = True, **rest: Any) -> CheckpointKept:
    """A checkpoint of thread `t`, made long ago."""
    facts = {
        "thread_id": "t",
        "namespace": "",
        "run_id": "r",
        "step": 0,
        "source": "loop",
        "created": OLD,
        "data": DATA,
    }
    return CheckpointKept(checkpoint_id=id, parent_id=parent, full=full, **{**facts, **rest})


def hangs(on: str, task: str = "a", **rest: Any) -> ResultKept:
    facts = {"thread_id": "t", "namespace": "", "run_id": "r", "kind": "result", "name": "a", "step": 1, "data": DATA}
    return ResultKept(checkpoint_id=on, task_id=task, **{**facts, **rest})


def ran(run: str, *, thread: str = "t", status: str = DONE, ended: float = OLD, events: int = 3) -> list[Change]:
    told = [{"kind": "noticed", "n": number} for number in range(events - 1)] + [{"kind": "run_finished"}]
    opened = RunOpened(RunRecord(run, thread, "graph", "digest", RUNNING, ended - 1))
    closed = [RunClosed(run, status, ended)] if status != RUNNING else []
    return [opened, EventsKept(run, told), *closed]


def keep(store: SqlStore, *changes: Change) -> None:
    for ticket in [store.submit(change) for change in changes]:
        ticket.result(10)


def ids(store: SqlStore, namespace: str = "", thread: str = "t") -> list[str]:
    return [kept.checkpoint_id for kept in reversed(store.history(thread, namespace))]


def line(count: int, every: int = 1, **rest: Any) -> list[Change]:
    """A line of checkpoints `00`, `01` ... each with a result, of which each `every`th is full."""
    changes: list[Change] = []
    for number in range(count):
        parent = f"{number - 1:02}" if number else None
        changes.append(at(f"{number:02}", parent, full=number % every == 0, run_id=f"r{number:02}", **rest))
        changes.append(hangs(f"{number:02}", run_id=f"r{number:02}"))
    return changes


# Pruning


def test_the_last_checkpoints_stay_and_what_hangs_on_the_others_goes_with_them(store: SqlStore) -> None:
    keep(store, *line(6), *(change for number in range(6) for change in ran(f"r{number:02}")))
    told = store.prune(Retention(keep_last=2))
    assert [(each.thread_id, each.checkpoints, each.results, each.runs, each.events) for each in told] == [
        ("t", 4, 4, 4, 12)
    ]
    assert ids(store) == ["04", "05"]
    assert [each.checkpoint_id for run in ("r03", "r04", "r05") for each in store.results(run)] == ["04", "05"]
    assert sorted(run.run_id for run in store.runs()) == ["r04", "r05"]
    assert (store.events("r03"), len(store.events("r04"))) == ([], 3)
    assert store.check() == []
    assert store.prune(Retention(keep_last=2)) == []


def test_a_checkpoint_that_stays_keeps_what_it_is_read_from(store: SqlStore) -> None:
    keep(store, *line(9, every=4))  # 00, 04 and 08 are full
    before = store.thread("t", "", "06")
    store.prune(Retention(keep_last=3))
    assert ids(store) == ["04", "05", "06", "07", "08"]
    assert store.thread("t", "", "06") == before
    assert store.check() == []


def test_of_a_branch_the_chain_stays_though_others_between_go(store: SqlStore) -> None:
    keep(store, *line(4, every=9), at("side", "01", full=False))
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["00", "01", "side"]
    assert store.check() == []
    keep(store, at("next", "side"))
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["next"]
    assert store.check() == []


def test_what_is_young_enough_stays_and_a_dry_run_deletes_nothing(store: SqlStore) -> None:
    young = at("06", "05", created=OLD + 10_000_000_000)
    keep(store, *line(6), young, at("07", "06"), *ran("r00"), *ran("r01", ended=OLD + 10_000_000_000))
    for retention in (Retention(older_than=3600), Retention(older_than=timedelta(hours=1))):
        (told,) = store.prune(retention, dry_run=True)
        assert (told.checkpoints, told.results, told.runs, told.events) == (6, 6, 1, 3)
    assert len(ids(store)) == 8
    assert store.prune(Retention(older_than=3600)) == [told]
    assert ids(store) == ["06", "07"]
    assert [run.run_id for run in store.runs()] == ["r01"]


def test_bytes_are_those_of_what_was_deleted(store: SqlStore) -> None:
    keep(store, *line(3), *ran("r00", events=1))
    before = sum(amount.bytes for amount in store.stats().tables.values())
    runs = store.stats().tables["run"].bytes
    (told,) = store.prune(Retention(keep_last=1))
    after = sum(amount.bytes for amount in store.stats().tables.values())
    assert told.bytes == before - after - runs


def test_graphs_inside_go_with_the_checkpoint_around_them_and_memories_keep_their_own(store: SqlStore) -> None:
    task = "0" * 32
    keep(store, *line(4))
    for number in range(4):
        here = {"around": f"{number:02}", "run_id": "r"}
        keep(store, at(f"{number:02}i", namespace=f"node:{task[:-1]}{number}", **here))
        keep(store, at(f"{number:02}d", namespace=f"node:{task[:-1]}{number}|deep:{task}:1", **here))
        keep(store, at(f"{number:02}m", namespace="memo", **here), at(f"{number:02}n", namespace="memo:1", **here))
        # An update from outside, which knows nothing of what is around.
        keep(store, at(f"{number:02}u", f"{number:02}i", namespace=f"node:{task[:-1]}{number}"))
    store.prune(Retention(keep_last=2))
    assert [ids(store, f"node:{task[:-1]}{number}") for number in range(4)] == [[], [], ["02i", "02u"], ["03i", "03u"]]
    assert [len(ids(store, f"node:{task[:-1]}{number}|deep:{task}:1")) for number in range(4)] == [0, 0, 1, 1]
    assert ids(store, "memo") == ["00m", "01m", "02m", "03m"]  # 02 began with 01m in mind, and may be an update of 01
    assert store.check() == []


@pytest.mark.parametrize("status", [RUNNING, FAILED])
def test_a_run_that_has_kept_nothing_yet_stays_while_somebody_runs_its_thread(store: SqlStore, status: str) -> None:
    me = owners.me()
    lease = store.claim("t", me).result(10)
    keep(store, *line(3), *ran("new", status=status))
    store.prune(Retention(keep_last=1))
    assert [run.run_id for run in store.runs()] == (["new"] if status == RUNNING else [])
    store.release(lease)
    store.prune(Retention(keep_last=1))
    assert store.runs() == []
    owners.leave(me)


def test_where_a_run_began_stays_while_it_goes_on(store: SqlStore) -> None:
    me = owners.me()
    lease = store.claim("t", me).result(10)
    record = RunRecord("again", "t", "graph", "digest", RUNNING, OLD)
    keep(store, *line(5, every=3), RunOpened(record, "01"))
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["00", "01", "03", "04"]
    store.submit(hangs("01", run_id="again", branch="b"), lease).result(10)
    keep(store, RunClosed("again", DONE, OLD))
    store.release(lease)
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["03", "04"]
    assert store.check() == []
    with pytest.raises(StoreError, match="checkpoint '01' of thread 't' was pruned before a run could begin there"):
        keep(store, RunOpened(record, "01"))
    owners.leave(me)


def test_an_inner_checkpoint_that_is_pinned_keeps_that_around_it_and_one_without_any_stays(store: SqlStore) -> None:
    inner, stray = "node:" + "0" * 32, "node:" + "1" * 32
    keep(store, *line(4), at("i", namespace=inner, around="01"), at("s", namespace=stray))
    store.pin("t", "i").result(10)
    store.prune(Retention(keep_last=1))
    assert (ids(store), ids(store, inner), ids(store, stray)) == (["01", "03"], ["i"], ["s"])


def test_nobody_writes_to_a_thread_while_it_is_pruned(postgres: str) -> None:
    with PostgresStore(postgres) as store, psycopg.connect(postgres, autocommit=True) as other:
        keep(store, *line(3))
        lease = store.claim("t", owner := owners.me()).result(10)

        def work(session: Session) -> None:
            prune_thread(session, "t", Retention(keep_last=1))
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("select epoch from thread where thread_id = 't' for share nowait")

        store.write(work).result(10)
        store.release(lease)
        owners.leave(owner)


def test_only_the_thread_that_is_named_is_pruned(store: SqlStore) -> None:
    keep(store, *line(3), *(at(name, thread_id="u") for name in ("x", "y")))
    store.prune(Retention(keep_last=1), thread_id="u")
    assert (len(ids(store)), ids(store, thread="u")) == (3, ["y"])
    assert [each.thread_id for each in store.prune(Retention(keep_last=1))] == ["t"]
    assert store.prune(Retention(keep_last=1), thread_id="nobody") == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "says nothing"),
        ({"keep_last": 0}, "keep_last is 0.*\n.*delete_thread"),
        ({"older_than": -1}, "older_than is -1"),
        ({"older_than": float("nan")}, "older_than is nan"),
    ],
)
def test_a_retention_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Retention(**values)


# Pins


def test_what_is_pinned_stays_and_can_be_stood_at_and_goes_when_the_pin_is_taken_back(store: SqlStore) -> None:
    keep(store, *line(8, every=3), *ran("r04"))
    before = store.thread("t", "", "04")
    store.pin("t", "04").result(10)
    store.pin("t", "04").result(10)
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["03", "04", "06", "07"]
    assert (store.thread("t", "", "04"), store.run("r04").run_id) == (before, "r04")
    store.unpin("t", "04").result(10)
    store.prune(Retention(keep_last=1))
    assert ids(store) == ["06", "07"]


def test_a_thread_that_is_pinned_is_left_alone(store: SqlStore) -> None:
    keep(store, *line(4), *ran("r00"), *ran("nothing kept"))
    store.pin("t").result(10)
    assert store.prune(Retention(keep_last=1)) == []
    store.delete_thread("t").result(10)
    assert (ids(store), store.stats().tables["pin"].rows) == ([], 0)


def test_a_checkpoint_that_is_not_there_cannot_be_pinned(store: SqlStore) -> None:
    with pytest.raises(RunNotFoundError, match="thread 't' has no checkpoint 'x'"):
        store.pin("t", "x").result(10)


# Whole threads, run by graphs


class State(TypedDict, total=False):
    xs: Annotated[list[Any], operator.add]
    turns: int
    ask: bool
    said: str


class Inside(TypedDict, total=False):
    own: Annotated[list[str], operator.add]
    ask: bool
    said: str


class Counted(TypedDict, total=False):
    xs: Annotated[list[int], operator.add]


def _asked(state: Inside) -> Inside:
    return {"said": interrupt("?") if state.get("ask") else f"said after {state['own']}"}


def _turned(state: State) -> State:
    return {"xs": ["turn"], "turns": state.get("turns", 0) - 1}


def team(store: SqlStore) -> CompiledGraph:
    """A loop around a graph that may ask, and a call of one that remembers how often it was called."""
    inner = StateGraph(Inside).add_sequence([("first", lambda state: {"own": ["first"]}), ("asked", _asked)])
    memory = StateGraph(Counted).add_node("count", lambda state: {"xs": [len(state["xs"])]}).add_edge(START, "count")
    remembers = memory.compile(checkpointer=True)
    graph = StateGraph(State).add_node("turn", _turned)
    graph.add_node("inner", inner.add_edge(START, "first").compile())
    graph.add_node("remembers", lambda state: {"xs": [state["said"], len(remembers.invoke({"xs": []})["xs"])]})
    graph.add_edge(START, "turn").add_edge("turn", "inner").add_edge("inner", "remembers")
    graph.add_conditional_edges("remembers", lambda state: "turn" if state["turns"] > 0 else "__end__")
    return graph.compile(store)


def named(thread: str, checkpoint: str | None = None) -> dict[str, Any]:
    place = {"thread_id": thread} if checkpoint is None else {"thread_id": thread, "checkpoint_id": checkpoint}
    return {"configurable": place}


def place_of(snapshot: Any) -> str:
    return str(snapshot.config["configurable"]["checkpoint_id"])


def goes_on(graph: CompiledGraph, thread: str, checkpoint: str | None = None) -> Any:
    """What comes of a thread when it goes on from a checkpoint: answered, or from where it is, or with more input."""
    config = named(thread, checkpoint)
    if graph.get_state(config).interrupts:
        return plain(graph.invoke(Command(resume="answer"), config))
    if checkpoint is not None:
        return plain(graph.invoke(None, config))
    return plain(graph.invoke({"xs": ["more"], "turns": 1, "ask": False}, config))


def plain(output: Any) -> Any:
    """Without the ids of questions, which differ from thread to thread."""
    return {key: value for key, value in output.items() if key != "__interrupt__"}


STEPS = st.one_of(
    st.tuples(st.just("input"), st.integers(1, 2), st.booleans()),
    st.tuples(st.just("large"), st.integers(1, 2), st.booleans()),
    st.tuples(st.just("answer"), st.just(0), st.just(False)),
    st.tuples(st.just("update"), st.just(0), st.just(False)),
    st.tuples(st.just("again"), st.integers(0, 20), st.just(False)),
)


def step(graph: CompiledGraph, thread: str, what: str, number: int, ask: bool) -> None:
    """One thing that is done with a thread."""
    config = named(thread)
    if what in ("input", "large"):
        xs = ["x" * (1 if what == "input" else 3000)]
        graph.invoke({"xs": xs, "turns": number, "ask": ask}, config)
    elif what == "answer" and graph.get_state(config).interrupts:
        graph.invoke(Command(resume="answer"), config)
    elif what == "update":
        graph.update_state(config, {"xs": ["update"]}, as_node="turn")
    elif what == "again":
        history = list(graph.get_state_history(config))
        if history:
            goes_on(graph, thread, place_of(history[number % len(history)]))


def law(store: SqlStore, script: list[tuple[str, int, bool]], last: int, pins: list[int], other: int) -> None:
    graph, thread = team(store), uuid.uuid4().hex
    for each in script:
        step(graph, thread, *each)
    twin = f"{thread} unpruned"
    store.copy_thread(thread, twin).result(10)
    history = list(graph.get_state_history(named(thread)))
    pinned = {place_of(history[number % len(history)]) for number in pins}
    for checkpoint in pinned:
        store.pin(thread, checkpoint).result(10)
    whole = graph.get_state(named(thread), subgraphs=True)

    store.prune(Retention(keep_last=last), thread_id=thread)

    assert graph.get_state(named(thread), subgraphs=True) == whole  # values, next, interrupts, those inside as well
    left = list(graph.get_state_history(named(thread)))
    stays = {place_of(snapshot) for snapshot in left}
    assert stays >= pinned | {place_of(snapshot) for snapshot in history[:last]}
    assert left == [snapshot for snapshot in history if place_of(snapshot) in stays]
    assert store.check(thread) == store.check(twin) == []
    sometime = place_of(left[other % len(left)])
    assert goes_on(graph, thread, sometime) == goes_on(graph, twin, sometime)
    assert goes_on(graph, thread) == goes_on(graph, twin)
    assert store.check(thread) == store.check(twin) == []


def test_i10_pruning_never_changes_the_head_nor_what_is_pinned(store: SqlStore) -> None:
    pinned, elsewhere = st.lists(st.integers(0, 40), max_size=2), st.integers(0, 9)

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STEPS, min_size=1, max_size=4), st.integers(1, 4), pinned, elsewhere)
    def holds(script: list[tuple[str, int, bool]], last: int, pins: list[int], other: int) -> None:
        step_zero = ("input", 1, False)
        law(store, [step_zero, *script], last, pins, other)

    holds()


# Retention


def test_a_retention_is_applied_to_a_thread_when_its_run_has_ended(opens: Open) -> None:
    with opens(retention=Retention(keep_last=2)) as store:
        graph = team(store)
        for _ in range(4):
            graph.invoke({"xs": [], "turns": 2}, named("t"))
            store.write(lambda _: None).result(10)  # what was queued at the end of the run
            assert 2 <= len(store.history("t")) < 7  # two, and what they are read from
        assert len(store.runs()) == 1
        assert store.check() == []
        assert [each.result for each in graph.get_state(named("t")).tasks] == []


def test_a_retention_by_age_leaves_what_is_young(opens: Open) -> None:
    with opens(retention=Retention(keep_last=1, older_than=3600)) as store:
        team(store).invoke({"xs": [], "turns": 2}, named("t"))
        team(store).invoke({"xs": [], "turns": 2}, named("t"))
        store.write(lambda _: None).result(10)
        assert (len(store.history("t")), len(store.runs())) == (16, 2)


def test_a_retention_that_cannot_be_applied_is_a_warning_and_no_run_fails(opens: Open) -> None:
    heard: list[str] = []
    with opens(retention=Retention(keep_last=1)) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanfold.store.sql.warnings.warn", lambda text, **_: heard.append(text))
        lease = store.claim("t", owner := owners.me()).result(10)
        keep(store, *line(3))
        break_table(store, "pruned")
        store.release(lease)
        owners.leave(owner)
        keep(store, *ran("after"))
    (text,) = heard
    assert text.startswith("the retention could not be applied to thread 't': cannot write to ")


def break_table(store: SqlStore, table: str) -> None:
    sql(store, f"alter table {table} rename to no_longer_{table}")


def sql(store: SqlStore, statement: str) -> list[Any]:
    """Say something to the database behind the store's back."""

    def work(session: Any) -> list[Any]:
        found = session._connection.execute(statement)
        return found.fetchall() if found.description else []

    return store.write(work).result(10)


# While somebody runs the thread

RUN_AND_STAY = """
import sys
from tests.store.test_upkeep import named, team
from fanfold.store.opening import open_store
with open_store(sys.argv[1]) as store:
    graph = team(store)
    for line in sys.stdin:
        graph.invoke({"xs": ["x" * 500], "turns": 3}, named("t"))
        print(len(store.history("t")), flush=True)
"""


def test_a_thread_is_pruned_while_another_process_runs_it_and_nothing_that_it_needs_goes(
    place: str,
) -> None:
    command = [sys.executable, "-W", "error", "-c", RUN_AND_STAY, place]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([f"{root}/src", root])}
    with (
        store_at(place) as store,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(4):
            process.stdin.write("\n")
        process.stdin.close()
        gone = 0
        while process.poll() is None:
            gone += sum(each.checkpoints for each in store.prune(Retention(keep_last=1)))
        assert process.returncode == 0
        assert gone > 20
        assert store.check() == []
        store.prune(Retention(keep_last=1))
        graph = team(store)
        values = graph.get_state(named("t")).values
        assert (values["turns"], values["xs"][-1]) == (0, 12)  # the graph that remembers was called at each turn


def test_who_reads_while_a_thread_is_pruned_finds_where_it_stands(again: Open) -> None:
    with again() as store, again() as other:
        keep(store, *line(3, every=9))
        whole = store.thread("t")
        number, seen = 3, []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                found = other.thread("t")
                seen.append(found is not None and all(found.results[kept.checkpoint_id] for kept in found.chain[:-1]))

        reading = threading.Thread(target=read)
        reading.start()
        for number in range(3, 60):
            keep(store, hangs(f"{number - 1:02}", task="b"))
            keep(store, at(f"{number:02}", f"{number - 1:02}", full=number % 3 == 0))
            store.prune(Retention(keep_last=1))
        stop.set()
        reading.join(20)
        assert whole is not None
        assert seen
        assert all(seen)


# Copies


def test_a_copy_of_an_interrupted_thread_goes_on_like_it_and_both_independently(store: SqlStore) -> None:
    graph = team(store)
    graph.invoke({"xs": ["one"], "turns": 1}, named("t"))
    graph.invoke({"xs": ["two"], "turns": 2, "ask": True}, named("t"))
    store.copy_thread("t", "u").result(10)
    one, other = (graph.get_state(named(name), subgraphs=True) for name in "tu")
    shared = [place_of(snapshot) for snapshot in graph.get_state_history(named("t"))]
    assert (one.values, one.next, one.interrupts) == (other.values, other.next, other.interrupts)
    assert one.tasks[0].state.values == other.tasks[0].state.values
    first = graph.invoke(Command(resume="of u"), named("u"))["xs"]
    assert graph.get_state(named("t"), subgraphs=True) == one
    assert graph.invoke(Command(resume="of t"), named("t"))["xs"] == ["of t" if x == "of u" else x for x in first]
    for name in "tu":
        while graph.get_state(named(name)).interrupts:
            graph.invoke(Command(resume="!"), named(name))
    histories = [[place_of(snapshot) for snapshot in graph.get_state_history(named(name))] for name in "tu"]
    assert all(history[-len(shared) :] == shared for history in histories)
    assert store.check() == []


def test_a_copy_has_runs_of_its_own_with_the_receipts_of_those_that_it_copies(store: SqlStore) -> None:
    graph = team(store)
    paused = graph.invoke({"xs": [], "turns": 1, "ask": True}, named("t"), run_id="first")
    assert paused["__interrupt__"]
    store.copy_thread("t", "u").result(10)
    (mine,) = (run for run in store.runs() if run.thread_id == "u")
    assert (mine.settings, mine.status, mine.run_id != "first") == ({"copied_from": "first"}, "paused", True)
    told, theirs = audit(mine.run_id, store=store), audit("first", store=store)
    assert (told.run_id, told.thread_id, told.wall) == (mine.run_id, "u", theirs.wall)
    assert graph.invoke(Command(resume="x"), named("u")).run.run_id == mine.run_id
    assert [(run.thread_id, run.status) for run in sorted(store.runs(), key=lambda run: run.thread_id)] == [
        ("t", "paused"),
        ("u", "done"),
    ]
    assert store.check() == []


def test_a_copy_outlives_its_original_and_may_be_pruned_and_copied(store: SqlStore) -> None:
    keep(store, *line(6, every=2), *ran("r05"))
    store.prune(Retention(keep_last=3))
    store.copy_thread("t", "u").result(10)
    store.delete_thread("t").result(10)
    assert ids(store, thread="u") == ["02", "03", "04", "05"]
    assert [len(store.events(run.run_id)) for run in store.runs()] == [3]
    store.copy_thread("u", "t").result(10)
    store.prune(Retention(keep_last=1), thread_id="u")
    assert (ids(store), ids(store, thread="u")) == (["02", "03", "04", "05"], ["04", "05"])
    assert store.check() == []


def test_a_thread_that_holds_something_is_not_copied_over_and_nothing_cannot_be_copied(store: SqlStore) -> None:
    keep(store, *line(2), at("x", thread_id="u"))
    with pytest.raises(StoreError, match="thread 'u' holds something already"):
        store.copy_thread("t", "u").result(10)
    assert ids(store, thread="u") == ["x"]
    with pytest.raises(RunNotFoundError, match="thread 'nobody' holds nothing"):
        store.copy_thread("nobody", "v").result(10)
    with pytest.raises(UsageError, match="'t' cannot be copied onto itself"):
        store.copy_thread("t", "t")


def test_a_copy_whose_commit_was_not_heard_of_is_made_once(store: SqlStore) -> None:
    keep(store, *line(3), *ran("r00"))
    turn = Turn("this writer", 1, Copy("t", "u", store.label), ())
    for _ in range(2):
        store.write(turn).result(10)
    assert (ids(store, thread="u"), len(store.runs()), store.check()) == (["00", "01", "02"], 2, [])


def test_a_copy_is_none_of_the_original_s_epochs(store: SqlStore) -> None:
    me = owners.me()
    for _ in range(3):
        lease = store.claim("t", me).result(10)
    store.submit(at("00"), lease).result(10)
    store.submit(hangs("00"), lease).result(10)
    store.copy_thread("t", "u").result(10)
    assert store.check() == []
    owners.leave(me)


# Checks


def test_a_store_in_which_nothing_is_wrong_is_called_so(store: SqlStore) -> None:
    graph = team(store)
    for durability in ("sync", "async", "exit"):
        graph.invoke({"xs": [], "turns": 2, "ask": durability == "exit"}, named("t"), durability=durability)
        graph.invoke({"xs": [], "turns": 2, "ask": True}, named(durability), durability=durability)
    goes_on(graph, "t", place_of(list(graph.get_state_history(named("t")))[3]))
    store.delete_thread("sync").result(10)
    assert store.check() == []
    assert store.check("t") == []


def test_a_check_needs_no_key(again: Open) -> None:
    keys = Encryption(Keys.parse(f"one:{'ab' * 32}"))
    with again(encryption=keys) as store:
        team(store).invoke({"xs": [], "turns": 1, "ask": True}, named("t"))
    with again() as store:
        assert store.check() == []
        flip(store, "checkpoint", "data", "seq = 1 and namespace = ''")
        assert [(each.table, each.sequence) for each in store.check()] == [("checkpoint", 1)]


def flip(store: SqlStore, table: str, column: str, where: str, bit: int = 3) -> None:
    """Flip one bit in the middle of a value."""
    ((data,),) = sql(store, f"select {column} from {table} where {where}")
    raw = bytearray(data.encode() if isinstance(data, str) else bytes(data))
    raw[len(raw) // 2] ^= 1 << bit
    value = f"'{raw.decode()}'" if isinstance(data, str) else blob(store, raw)
    sql(store, f"update {table} set {column} = {value} where {where}")


def blob(store: SqlStore, raw: bytes) -> str:
    return f"x'{raw.hex()}'" if isinstance(store, SqliteStore) else f"'\\x{raw.hex()}'::bytea"


def found(store: SqlStore) -> list[tuple[str, str, int | None]]:
    return [(each.table, each.thread_id, each.sequence) for each in store.check()]


def one_by_one(changes: list[Change]) -> list[Change]:
    """The same changes, where each event comes by itself."""
    return [
        part
        for change in changes
        for part in (
            [EventsKept(change.run_id, [event]) for event in change.events]
            if isinstance(change, EventsKept)
            else [change]
        )
    ]


@pytest.fixture
def whole(store: SqlStore) -> SqlStore:
    """A store with a thread that has six checkpoints, pruned and unpruned results, and a run with seven events."""
    keep(store, *line(6, every=2), *one_by_one(ran("r00", events=7)), at("x", thread_id="other"))
    assert store.check() == []
    return store


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("table", ["checkpoint", "task_result"])
def test_a_flipped_bit_in_a_payload_is_found(whole: SqlStore, table: str, bit: int) -> None:
    column = "seq" if table == "checkpoint" else "no"
    ((number,),) = sql(whole, f"select {column} from {table} where checkpoint_id = '03'")
    flip(whole, table, "data", "checkpoint_id = '03'", bit)
    assert found(whole) == [(table, "t", number)]


@pytest.mark.parametrize("bit", range(8))
def test_an_event_that_was_changed_is_found(whole: SqlStore, bit: int) -> None:
    flip(whole, "event", "packed", "no = 3", bit)
    assert found(whole) == [("event", "t", 3)]


def test_an_event_that_is_no_text_any_more_is_found(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "runs.db") as store:
        keep(store, *line(2), *one_by_one(ran("r00", events=5)))
        sql(store, "update event set packed = null, data = cast(x'ff00' as text) where no = 1")
        assert found(store) == [("event", "t", 1)]


def test_what_cannot_be_read_at_all_is_a_finding_and_no_other_is_lost(whole: SqlStore) -> None:
    flip(whole, "checkpoint", "data", "thread_id = 'other'")
    assert found(whole) == [("checkpoint", "other", 0)]
    break_table(whole, "event")
    told = whole.check()
    assert [(each.table, each.thread_id) for each in told] == [
        ("database", ""),
        ("checkpoint", "other"),
        ("thread", "t"),
    ]
    assert all("cannot read " in each.message for each in told if each.table != "checkpoint")
    break_table(whole, "pin")
    assert [each.table for each in whole.check()] == ["database", "thread"]


def test_a_hash_that_was_changed_is_found(whole: SqlStore) -> None:
    flip(whole, "event", "hash", "no = 3")
    assert found(whole) == [("event", "t", 3), ("event", "t", 4)]


@pytest.mark.parametrize("no", range(7))
def test_an_event_that_is_missing_is_found_be_it_the_last_one(whole: SqlStore, no: int) -> None:
    sql(whole, f"delete from event where no = {no}")
    assert found(whole) == [("event", "t", no)]


def test_an_event_that_was_changed_with_its_hash_is_found_by_the_next_one(whole: SqlStore) -> None:
    ((before,),) = sql(whole, "select hash from event where no = 2")
    text = '{"kind": "noticed", "n": "forged"}'
    forged = blob(whole, chained(bytes(before), text))
    sql(whole, f"update event set packed = {blob(whole, packed([text]))}, hash = {forged} where no = 3")
    assert found(whole) == [("event", "t", 4)]


@pytest.mark.parametrize("seq", [0, 1, 2, 3, 4])
def test_a_checkpoint_that_is_missing_is_found_by_its_number_its_child_and_what_hung_on_it(
    whole: SqlStore, seq: int
) -> None:
    sql(whole, f"delete from checkpoint where thread_id = 't' and seq = {seq}")
    result = sql(whole, f"select no from task_result where checkpoint_id = '{seq:02}'")[0][0]
    assert found(whole) == [("checkpoint", "t", seq), ("checkpoint", "t", seq + 1), ("task_result", "t", result)]
    assert f"checkpoint number {seq} is missing" in str(whole.check()[0])


@pytest.mark.parametrize("seq", [2, 3, 4])
def test_a_checkpoint_that_is_missing_is_found_also_in_a_thread_that_was_pruned(whole: SqlStore, seq: int) -> None:
    whole.prune(Retention(keep_last=4))
    assert whole.check() == []
    sql(whole, f"delete from checkpoint where thread_id = 't' and seq = {seq}")
    assert ("checkpoint", "t", seq) in found(whole)


def test_a_result_on_a_checkpoint_that_is_missing_is_found(whole: SqlStore) -> None:
    keep(whole, hangs("nowhere", task="z"))
    ((number,),) = sql(whole, "select max(no) from task_result")
    (finding,) = whole.check()
    message = "the result of 'a', step 1 hangs on checkpoint nowhere, which is missing"
    assert finding == Finding("task_result", "t", number, message)
    assert str(finding).startswith(f"task_result, thread 't', number {number}: ")


def test_a_result_of_an_epoch_that_the_thread_has_not_had_is_found(whole: SqlStore) -> None:
    sql(whole, "update task_result set epoch = 7 where checkpoint_id = '03'")
    (finding,) = whole.check("t")
    assert finding.message == "the result of 'a', step 1 is of epoch 7, and the thread has had 0"


def test_a_run_that_is_missing_and_settings_that_cannot_be_read_are_found(whole: SqlStore) -> None:
    sql(whole, "update run set settings = '{' where run_id = 'r00'")
    assert found(whole) == [("run", "t", None)]
    sql(whole, "delete from run where run_id = 'r00'")
    assert found(whole) == [("event", "", 0)]


def test_a_pin_on_a_checkpoint_that_is_missing_is_found(whole: SqlStore) -> None:
    whole.pin("other", "x").result(10)
    sql(whole, "delete from checkpoint where thread_id = 'other'")
    assert found(whole) == [("pin", "other", None)]


@pytest.mark.parametrize("encrypted", [False, True])
def test_damage_to_long_term_items_is_found(opens: Open, encrypted: bool) -> None:
    keys = Encryption(Keys.parse(f"one:{'ab' * 32}")) if encrypted else None
    with opens(encryption=keys) as store:
        items = Items(store, index={"dims": 2, "embed": lambda texts: [[1.0, 2.0] for _ in texts]})
        for number in range(3):
            items.put(("users",), f"{number}", {"likes": "cherries"})
        assert store.check() == []
        assert store.stats().tables["item"].rows == 3
        ((number,),) = sql(store, "select no from item where key = '1'")
        damaged = [("item", "data", "key = '1'"), ("item_vector", "data", f"item = {number}")]
        damaged += [("item", "sealed", "key = '1'")] if encrypted else []
        for each in damaged:
            flip(store, *each)
        assert found(store) == [("item", "", number)] * len(damaged)
        assert "item '1' of '.users.' is damaged" in str(store.check()[0])


def test_damage_to_what_langgraph_s_own_graphs_keep_is_found(store: SqlStore) -> None:
    saver = Saver(store)
    parent = None
    for name, values in (("1", ["x" * 300]), ("2", ["x" * 300, "y" * 300])):
        place = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": parent}
        kept: Any = {
            "id": name,
            "channel_values": {"xs": values},
            "channel_versions": {"xs": name},
            "versions_seen": {},
        }
        saver.put({"configurable": place}, kept, {}, {"xs": name})
        parent = name
    saver.put_writes({"configurable": {**place, "checkpoint_id": "2"}}, [("xs", "written")], "task")
    assert store.check() == []
    assert store.stats().tables["saver_checkpoint"].rows == 2
    for table in ("saver_write", "saver_piece", "saver_checkpoint"):
        ((damaged,),) = sql(store, f"select data from {table} order by data limit 1")
        raw = bytearray(damaged)
        raw[-1] ^= 1
        sql(store, f"update {table} set data = {blob(store, raw)} where data = {blob(store, damaged)}")
        assert (table, "t", None) in found(store)
    sql(store, "delete from saver_checkpoint where parent_id is null")
    assert "from which" in str([each for each in store.check() if each.table == "saver_checkpoint"])


def test_a_long_gap_is_told_of_by_its_beginning(store: SqlStore) -> None:
    keep(store, *(at(f"{number:02}") for number in range(20)))
    sql(store, "delete from checkpoint where seq between 5 and 15")
    assert found(store) == [("checkpoint", "t", 5), ("checkpoint", "t", 6), ("checkpoint", "t", 7)]


def test_a_file_that_sqlite_itself_finds_damaged_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with SqliteStore(path) as store:
        keep(store, *line(40))
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        (page,) = connection.execute("select rootpage from sqlite_schema where name = 'task_result_by_run'").fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size + size - 40)
        file.write(b"\xff" * 20)
    with SqliteStore(path) as store:
        assert "database" in {each.table for each in store.check()}


# Counts


def test_what_is_in_a_store_is_counted(store: SqlStore) -> None:
    me = owners.me()
    keep(
        store,
        *line(3),
        *ran("done"),
        *ran("failed", thread="u", status=FAILED),
        *ran("gone", thread="v", status=RUNNING),
    )
    store.claim("w", me).result(10)
    keep(store, *ran("running", thread="w", status=RUNNING), at("x", thread_id="no run"))
    told = store.stats()
    rows = {table: told.tables[table].rows for table in ("checkpoint", "task_result", "event", "run", "thread", "pin")}
    assert rows == {"checkpoint": 4, "task_result": 3, "event": 12, "run": 4, "thread": 1, "pin": 0}
    assert (told.tables["checkpoint"].bytes, told.tables["task_result"].bytes) == (4 * len(DATA), 3 * len(DATA))
    assert told.threads == {"done": 1, "failed": 1, "interrupted": 1, "running": 1, "without a run": 1}
    assert next(iter(told.largest)) == "t"
    assert told.oldest_lease is not None
    assert (told.oldest_lease.thread_id, told.oldest_lease.owner, told.oldest_lease.lapsed) == ("w", me, False)
    assert (told.schema, told.bytes > 0, told.store) == (known(store._place.dialect)[-1].no, True, store.label)
    assert told.version.partition(" ")[0] == ("PostgreSQL" if isinstance(store, PostgresStore) else "SQLite")
    assert len(store.stats(largest=1).largest) == 1
    owners.leave(me)


@pytest.mark.parametrize(
    ("version", "at_risk"),
    [
        ("SQLite 3.6.23.1", False),
        ("SQLite 3.7.0", True),
        ("SQLite 3.40.1", True),
        ("SQLite 3.51.2", True),
        ("SQLite 3.51.3", False),
        ("SQLite 4.0.0", False),
        ("PostgreSQL 15.2", False),
    ],
)
def test_a_sqlite_that_can_damage_its_log_is_known(version: str, at_risk: bool) -> None:
    assert Stats("", version, 1, 0, {}, {}, {}, None).may_damage_its_log is at_risk
