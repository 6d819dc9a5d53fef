"""What holds of every run that is stored, however its changes came and in whatever groups they were committed.

The others of the twelve are where they are made: I3 in `test_leases` and `test_at_once`, I4 in `test_outages` and, with
I7, in `tests/crash`, I5 and I9 once more in `test_machine`, the law of I10 in `test_upkeep`, I11 in `test_migrations`,
I1 and I12 also in `test_outages` and `test_sqlite`.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold import END, START, Command, Send, StateGraph, interrupt
from fanfold.errors import DuplicateResultError, LeaseLostError, StoreError
from fanfold.graph import CompiledGraph
from fanfold.store import writer
from fanfold.store.base import EventsKept
from fanfold.store.batches import chained_on, unpacked
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.upkeep import Retention
from tests.store.making import Open, Process, checkpoint, held, kept, lapse, opened, result, store_at


def latest(old: Any, new: Any) -> Any:
    """A reducer that is not the same in another order."""
    return [new, old] if len(json.dumps(old)) < 200 else new


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    nested: Annotated[Any, latest]
    last: str
    left: int


def team(store: SqlStore | None, rounds: int = 4, waits: Callable[[str], None] = lambda name: None) -> CompiledGraph:
    """Rounds of workers side by side, some of them sent, with reducers of ours and of the user's."""

    def plan(state: State) -> State:
        return {"left": state.get("left", rounds) - 1, "last": f"plan {state.get('left')}"}

    def worker(name: str, weight: int) -> Callable[[State], State]:
        def work(state: State) -> State:
            waits(name)
            return {"log": [f"{name}{state['left']}"], "total": weight, "nested": [name, state["left"]]}

        return work

    def sent(number: int) -> State:
        waits(f"sent {number}")
        return {"log": [f"sent {number}"], "nested": number}

    def route(state: State) -> Any:
        return "plan" if state["left"] > 0 else END

    graph = StateGraph(State).add_node("plan", plan).add_node("sent", sent).add_node("fold", lambda state: {"total": 1})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("sent", number) for number in range(3)], ["sent"])
    for weight, name in enumerate("abc"):
        graph.add_node(name, worker(name, weight)).add_edge("plan", name)
    graph.add_edge(["a", "b", "c", "sent"], "fold").add_conditional_edges("fold", route)
    return graph.compile(checkpointer=store)


def digest(values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()


def rows(store: SqlStore, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = store.write(
        lambda session: session._connection.execute(query).fetchall()  # type: ignore[attr-defined]
    ).result(10)
    return found


# I1, I2


def test_i1_an_acknowledged_result_is_there_with_its_attempt_whatever_comes_later(again: Open, me: str) -> None:
    with again() as store:
        lease = store.claim("t", me).result(10)
        for number in range(20):
            store.submit(result(f"{number}", attempt=f"first of {number}"), lease).result(10)
    with again() as store:
        newer = store.claim("t", me).result(10)
        for number in range(20):
            with pytest.raises((DuplicateResultError, LeaseLostError)):
                store.submit(result(f"{number}", data=b"late", attempt="late"), lease).result(10)
            with pytest.raises(StoreError):
                store.submit(result(f"{number}", data=b"other", attempt="other"), newer).result(10)
    with again() as store:
        found = [(each.task_id, each.data, each.attempt) for each in store.results("r1")]
        assert found == [(f"{number}", b"data", f"first of {number}") for number in range(20)]


def test_i2_of_many_attempts_at_once_each_task_has_one_result_and_it_is_whole(place: str) -> None:
    program = """
        input()
        won = []
        for number in range(40):
            attempt = sys.argv[2]
            task = f"{number:02}"
            change = ResultKept("t", "", "c0", "r1", task, "result", "node", 1, attempt.encode(), None, attempt)
            error = store.submit(change).exception(30)
            if error is None:
                won.append(number)
            elif not isinstance(error, DuplicateResultError):
                say(repr(error))
        say(*won)
    """
    crowd = [Process(place, textwrap.dedent(program), name) for name in "abc"]
    for process in crowd:
        process.tell()
    won = {name: {int(word) for word in process.said().split()} for name, process in zip("abc", crowd, strict=True)}
    assert [process.end() for process in crowd] == [0] * 3
    with store_at(place) as store:
        found = store.results("r1")
    assert sorted(each.task_id for each in found) == [f"{number:02}" for number in range(40)]
    assert all(each.data == each.attempt.encode() for each in found)
    for each in found:
        assert [name for name in "abc" if int(each.task_id) in won[name]] == [each.attempt]


# I5


def test_i5_checkpoints_are_numbered_without_a_gap_have_parents_and_the_newest_is_the_head(store: SqlStore) -> None:
    graph = team(store)
    for number in range(3):
        graph.invoke({"left": 3}, thread_id=f"t{number}")
    history = store.history("t1")
    earlier = {"configurable": {"thread_id": "t1", "checkpoint_id": history[4].checkpoint_id}}
    graph.invoke(None, earlier)
    graph.update_state({"configurable": {"thread_id": "t1"}}, {"last": "said"}, as_node="plan")
    found = rows(store, "select thread_id, namespace, seq, checkpoint_id, parent_id from checkpoint order by seq")
    lines: dict[Any, list[Any]] = {}
    for thread, namespace, seq, id, parent in found:
        line = lines.setdefault((thread, namespace), [])
        assert seq == len(line)
        assert parent is None or parent in line
        line.append(id)
    for (thread, namespace), line in lines.items():
        record = store.thread(thread, namespace)
        assert record is not None
        assert record.head.checkpoint_id == line[-1]
        assert record.chain[0].full


def test_i5_a_checkpoint_that_would_stand_on_air_is_refused(store: SqlStore) -> None:
    for wrong in (checkpoint("c1", parent="c0", full=False), checkpoint("c1", full=False)):
        with pytest.raises(StoreError, match=r"checkpoint 'c1' of thread 't' follows from .*, which is not there"):
            store.submit(wrong).result(10)
    kept(store, checkpoint("c0"))
    with pytest.raises(StoreError, match="which is not there"):
        store.submit(checkpoint("c1", parent="c0", full=False, namespace="inner")).result(10)
    kept(store, checkpoint("c1", parent="c0", full=False), checkpoint("c2", parent="pruned", full=True))


# I6


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_i6_the_state_that_the_rows_add_up_to_is_the_state_that_the_engine_had(
    store: SqlStore, durability: str
) -> None:
    graph = team(store, rounds=6)
    config = {"configurable": {"thread_id": "t"}}
    running = graph.stream({"log": ["begin"]}, config, stream_mode="values", durability=durability)
    seen = [digest(values) for values in running]
    stored = [digest(each.values) for each in graph.get_state_history(config)][::-1]
    assert stored[-len(seen) :] == seen
    assert len(set(seen)) > 12
    full = rows(store, 'select count(*) from checkpoint where "full"')[0][0]
    assert 1 <= full < len(seen)  # most of them follow from others


def test_i6_it_is_so_for_any_rounds_and_any_beginning() -> None:
    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, 5), st.lists(st.text(max_size=300), max_size=4), st.integers(-5, 5))
    def law(rounds: int, log: list[str], total: int) -> None:
        with SqliteStore(":memory:") as store:
            graph = team(store, rounds)
            config = {"configurable": {"thread_id": "t"}}
            begin = {"log": log, "total": total}
            seen = [digest(values) for values in graph.stream(begin, config, stream_mode="values")]
            stored = [digest(each.values) for each in graph.get_state_history(config)][::-1]
            assert stored[-len(seen) :] == seen

    law()


# I8


def test_i8_what_is_stored_does_not_depend_on_who_ends_first(opens: Open) -> None:
    def came_to(order: list[str]) -> tuple[str, list[str]]:
        turn, lock = list(order), threading.Condition()

        def waits(name: str) -> None:
            with lock:
                lock.wait_for(lambda: turn[0] == name, 10)
                turn.append(turn.pop(0))
                lock.notify_all()

        with opens() as store:
            thread = f"t {order}"
            values = team(store, 3, waits).invoke({}, thread_id=thread)
            record = team(store, 3).get_state({"configurable": {"thread_id": thread}})
            assert digest(record.values) == digest(values)
            return digest(values), [each.source for each in store.history(thread)]

    names = ["a", "b", "c", "sent 0", "sent 1", "sent 2"]
    assert came_to(names) == came_to(names[::-1]) == came_to(names[3:] + names[:3])


def test_i8_what_is_stored_does_not_depend_on_how_commits_were_grouped(opens: Open) -> None:
    changes = [
        opened(),
        checkpoint("c0"),
        result("a", kind="interrupt"),
        result("a"),
        result("b", kind="error"),
        result("b", data=b"again", kind="error"),
        result("a", attempt="2"),
        result("b"),
        checkpoint("c1", parent="c0", full=False),
        EventsKept("r1", [{"n": 0}], 0),
        result("c", parent="b"),
        EventsKept("r1", [{"n": 1}, {"n": 2}], 1),
        EventsKept("r1", [{"n": 9}], 7),
    ]

    def came_to(groups: int) -> Any:
        with opens() as store:
            store.delete_thread("t").result(10)
            tickets = []
            for begin in range(0, len(changes), groups):
                with held(store):
                    tickets += [store.submit(change) for change in changes[begin : begin + groups]]
            outcomes = [type(ticket.exception(10)) for ticket in tickets]
            return outcomes, store.results("r1"), store.history("t"), store.events("r1"), store.runs()

    one_by_one = came_to(1)
    assert one_by_one[0].count(type(None)) == len(changes) - 2
    assert all(came_to(groups) == one_by_one for groups in (2, 3, 5, 13))


# I9


def test_i9_events_are_numbered_without_a_gap_and_their_chain_is_intact(store: SqlStore) -> None:
    for number in range(3):
        team(store).invoke({}, thread_id=f"t{number}")
    team(store).invoke({"left": 2}, thread_id="t1")
    last: dict[str, tuple[int, bytes]] = {}
    for run, no, *row, hash in rows(store, "select run_id, no, data, packed, hash from event order by run_id, no"):
        number, before = last.get(run, (-1, b""))
        texts = unpacked(*row, run)
        assert (no, bytes(hash)) == (number + 1, chained_on(before, texts)), run
        last[run] = (number + len(texts), bytes(hash))
    assert len(last) == 4
    for run, (number, _) in last.items():
        assert store.count_events(run) == number + 1


def test_i9_events_under_numbers_that_are_taken_are_the_same_or_refused(store: SqlStore) -> None:
    facts = [{"n": number} for number in range(6)]
    kept(store, EventsKept("r1", facts[:3], 0), EventsKept("r1", facts[:3], 0), EventsKept("r1", facts[1:5], 1))
    kept(store, EventsKept("r1", facts[3:4], 3), EventsKept("r1", [], 99))
    kept(store, EventsKept("r1", [{"n": 4}, {"n": 7}], 4))
    refused = {
        "event 2 of run 'r1' or one after it is there already, and another one": EventsKept("r1", [{"n": 7}], 2),
        "event 4 of run 'r1' or one after it is there already": EventsKept("r1", [{"n": 4}, {"n": 8}, {"n": 9}], 4),
        "event 7 of run 'r1' cannot follow one that is not there": EventsKept("r1", [{"n": 9}], 7),
    }
    for says, wrong in refused.items():
        with pytest.raises(StoreError, match=says):
            store.submit(wrong).result(10)
    assert store.events("r1") == [*facts[:5], {"n": 7}]


# I10


class Asked(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def asking(store: SqlStore, waits: Callable[[str], None]) -> CompiledGraph:
    """Three nodes in a row, and one that asks a person."""

    def node(name: str) -> Callable[[Asked], Asked]:
        def work(state: Asked) -> Asked:
            waits(name)
            return {"log": [name if name != "ask" else interrupt("go on?")]}

        return work

    graph = StateGraph(Asked)
    for source, target in pairwise((START, "a", "b", "c", "ask", END)):
        graph.add_edge(source, target)
        if target != END:
            graph.add_node(target, node(target))
    return graph.compile(checkpointer=store)


@pytest.mark.parametrize("keep_last", [1, 2, 3, 100])
def test_i10_pruning_changes_neither_a_run_that_goes_on_nor_a_question_that_is_open_nor_what_is_pinned(
    opens: Open, keep_last: int
) -> None:
    goes_on, reached, gate = threading.Event(), threading.Event(), threading.Event()

    def waits(name: str) -> None:
        if goes_on.is_set() and name == "c":
            reached.set()
            assert gate.wait(10)

    def place(thread: str, checkpoint: str = "") -> Any:
        return {"configurable": {"thread_id": thread, **({"checkpoint_id": checkpoint} if checkpoint else {})}}

    with opens() as store:
        graph = asking(store, waits)
        for thread in ("live", "asked"):
            graph.invoke({"log": ["first"]}, place(thread), on_busy="reject")
            graph.invoke(Command(resume="yes"), place(thread))
            graph.invoke({"log": ["second"]}, place(thread))
        line = store.history("live")
        pinned = line[len(line) // 2].checkpoint_id
        store.pin("live", pinned).result(10)
        at_pin, open_question = graph.get_state(place("live", pinned)), graph.get_state(place("asked"))
        found: list[Any] = []
        live = threading.Thread(target=lambda: found.append(graph.invoke({"log": ["third"]}, place("live"))))
        goes_on.set()
        live.start()
        assert reached.wait(10)
        store.write(lambda _: None).result(10)  # behind all that was stored on the way there
        head = store.history("live")[0]

        store.prune(Retention(keep_last=keep_last))

        assert store.history("live")[0] == head
        assert graph.get_state(place("live", pinned)) == at_pin
        assert graph.get_state(place("asked")) == open_question
        assert (len(store.history("asked")) < len(line)) == (keep_last < 100)
        gate.set()
        live.join(10)
        two = ["first", "a", "b", "c", "yes", "second", "a", "b", "c"]
        three = [*two, "third", "a", "b", "c"]
        assert [each["log"] for each in found] == [three]
        assert graph.invoke(Command(resume="well"), place("asked"))["log"] == [*two, "well"]
        assert graph.invoke(Command(resume="well"), place("live"))["log"] == [*three, "well"]
        assert graph.get_state(place("live", pinned)) == at_pin
        assert store.check() == []


# I12, and what no text may hold


@pytest.mark.parametrize("text", ["nul \0 in it", "half \udce9 of one"])
def test_i12_text_that_not_every_database_has_is_refused_by_all_and_named(store: SqlStore, me: str, text: str) -> None:
    for change in (
        result(text),
        result("a", namespace=text),
        result("a", at=text),
        checkpoint(text),
        opened(text),
        opened(thread=text),
        EventsKept(text, [{"n": 1}], 0),
    ):
        with pytest.raises(StoreError, match=r"the \w+ '(nul|half).* holds (a NUL|half a) character"):
            store.submit(change).result(10)
    with pytest.raises(StoreError, match=r"the thread '(nul|half)"):
        store.claim(text, me).result(10)
    kept(store, EventsKept("r1", [{"text": text}], 0), result("a", data=text.encode("utf-8", "surrogatepass")))
    assert store.events("r1") == [{"text": text}]


def test_a_run_that_fails_with_any_message_is_closed_with_it(store: SqlStore) -> None:
    def fail(state: State) -> State:
        raise ValueError("a NUL \0 and half \udce9")

    graph = StateGraph(State).add_node("n", fail).add_edge(START, "n").compile(checkpointer=store)
    with pytest.raises(ValueError, match="a NUL"):
        graph.invoke({"left": 1}, thread_id="t")
    (run,) = store.runs()
    assert (run.status, run.error) == ("failed", "ValueError: a NUL \\x00 and half \\udce9")


def test_large_payloads_and_many_of_them_at_once_are_stored(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LARGEST_BATCH", 3_000_000)
    large = [bytes([number]) * 2_000_000 for number in range(5)]
    with held(store):
        tickets = [store.submit(result(f"{number}", data=data)) for number, data in enumerate(large)]
        tickets.append(store.submit(checkpoint("c0", data=large[0])))
    assert [ticket.exception(60) for ticket in tickets] == [None] * 6
    assert [each.data for each in store.results("r1")] == large


def test_many_threads_of_the_store_are_run_by_many_at_once(store: SqlStore, me: str) -> None:
    def run(name: str) -> None:
        lease = store.claim(name, me).result(20)
        for number in range(5):
            store.submit(replace(result(f"{name}-{number}"), thread_id=name), lease)
        store.release(lease)

    crowd = [threading.Thread(target=run, args=(f"thread {number}",)) for number in range(60)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(30)
    store.write(lambda _: None).result(10)
    assert len(store.results("r1")) == 300
    assert rows(store, "select count(*), min(epoch), max(epoch), count(owner) from thread") == [(60, 1, 1, 0)]


# Clocks


def test_a_process_whose_clock_is_wrong_by_a_day_neither_loses_its_thread_nor_takes_one(place: str, me: str) -> None:
    program = """
        real = time.time
        time.time = lambda: real() + float(sys.argv[2])
        time.time_ns = lambda: int(time.time() * 1e9)
        lease = store.claim("theirs", me).result(10)
        for on_busy in ("reject", "wait", "take_over"):
            try:
                store.claim("ours", me, on_busy=on_busy).result(10)
            except ThreadBusyError as error:
                say("busy")
        say(store.holds(lease))
        input()
        store.confirm(lease).result(10)
        say("confirmed")
    """
    with store_at(place) as store:
        ours = store.claim("ours", me).result(10)
        for wrong in ("86400", "-86400"):
            with Process(place, textwrap.dedent(program), wrong) as other:
                assert [other.said() for _ in range(4)] == ["busy", "busy", "busy", "True"]
                with pytest.raises(StoreError, match=f"'theirs' is being run by process {other.pid}"):
                    store.claim("theirs", me, on_busy="take_over").result(10)
                other.tell()
                assert other.said() == "confirmed"
        store.submit(replace(result("a"), thread_id="ours"), ours).result(10)
        lapse(store, ours)
        assert store.owner("ours") is None


# All of them


def test_each_of_the_twelve_has_a_test_with_its_number() -> None:
    tests = Path(__file__).parents[1]
    names = " ".join(re.findall(r"def test_(\w+)", "".join(each.read_text() for each in tests.rglob("test_*.py"))))
    assert [number for number in range(1, 13) if not re.search(rf"(\b|_)i{number}_", names)] == []
