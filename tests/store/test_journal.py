"""What a run leaves behind, and how the next one goes on from there; all of it through the public API."""

from __future__ import annotations

import asyncio
import operator
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import END, START, Command, Overwrite, Send, StateGraph, Task, audit, interrupt, python_agent
from fanfold.errors import (
    CorruptRecordError,
    EmptyInputError,
    NotStorableError,
    StateError,
    StoreError,
    ThreadBusyError,
    UsageError,
)
from fanfold.graph import CompiledGraph
from fanfold.store import owner as owners
from fanfold.store.base import CANCELLED, DONE, FAILED, RUNNING
from fanfold.store.serde import Codec
from fanfold.store.sqlite import SqliteStore
from tests.store.making import lapse


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    count: int
    thing: Any


class Trouble(Exception):
    """What the nodes here raise."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def line(path: Path | None, *names: str, **nodes: Callable[[State], Any]) -> CompiledGraph:
    """A graph of nodes in a row; each of `names` that has no function writes its name."""
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, nodes.get(name) or (lambda state, name=name: {"log": [name]}))
    for start, end in zip((START, *names), (*names, END), strict=True):
        graph.add_edge(start, end)
    return graph.compile(path)


class Breaks:
    """A node that raises until it is mended, and counts how often it ran."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error: BaseException | None = error or Trouble("broken")
        self.runs = 0

    def __call__(self, state: State) -> State:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return {"log": ["mended"]}


# Going on


def test_new_input_goes_on_from_what_the_thread_holds(path: Path) -> None:
    graph = line(path, "a")
    assert graph.invoke({"log": ["one"], "count": 3}, thread_id="t") == {"log": ["one", "a"], "count": 3}
    assert graph.invoke({"log": ["two"]}, thread_id="t") == {"log": ["one", "a", "two", "a"], "count": 3}
    assert graph.invoke({"log": ["new"]}, thread_id="u") == {"log": ["new", "a"]}


def test_new_input_goes_on_also_in_another_process_s_store(path: Path) -> None:
    line(path, "a").invoke({"log": ["one"]}, thread_id="t")
    assert line(path, "a").invoke({"log": ["two"]}, thread_id="t") == {"log": ["one", "a", "two", "a"]}


def test_without_a_thread_s_name_each_run_has_its_own(path: Path) -> None:
    graph = line(path, "a")
    one, other = graph.invoke({"log": ["x"]}), graph.invoke({"log": ["x"]})
    assert one == other == {"log": ["x", "a"]}
    assert one.run.thread_id != other.run.thread_id


def test_none_on_a_finished_thread_returns_its_values_and_runs_nothing(path: Path) -> None:
    once = Breaks()
    once.error = None
    graph = line(path, "once", once=once)
    first = graph.invoke({"log": []}, thread_id="t")
    again = graph.invoke(None, thread_id="t")
    assert again == first == {"log": ["mended"]}
    assert again.run.run_id == first.run.run_id
    assert once.runs == 1


def test_none_on_an_unknown_thread_is_an_error_and_leaves_no_run(path: Path) -> None:
    graph = line(path, "a")
    with pytest.raises(EmptyInputError, match=r"nothing to go on with in thread 'nobody'\n  give an input"):
        graph.invoke(None, thread_id="nobody")
    graph.kept_in.close()
    with SqliteStore(path) as store:
        assert store.runs() == []
        assert store.owner("nobody") is None


def test_what_had_finished_beside_a_failure_is_not_run_again(path: Path) -> None:
    broken, ran = Breaks(), Counter[str]()

    def sibling(name: str) -> Callable[[State], State]:
        def run(state: State) -> State:
            ran[name] += 1
            return {"log": [name]}

        return run

    graph = StateGraph(State).add_node("broken", broken)
    for name in "abc":
        graph.add_node(name, sibling(name)).add_edge(START, name)
    compiled = (
        graph.add_edge(START, "broken")
        .add_edge(["a", "b", "c", "broken"], "end")
        .add_node("end", lambda state: {"count": len(state["log"])})
        .compile(path)
    )
    with pytest.raises(Trouble, match="broken") as failure:
        compiled.invoke({"log": []}, thread_id="t")
    assert "in node 'broken', step 1" in "".join(failure.value.__notes__)
    broken.error = None
    done = compiled.invoke(None, thread_id="t")
    assert done == {"log": ["a", "b", "mended", "c"], "count": 4}
    assert ran == {"a": 1, "b": 1, "c": 1}
    assert broken.runs == 2


def test_a_resume_goes_on_in_the_middle_and_stays_the_same_run(path: Path) -> None:
    broken, first = Breaks(), Breaks()
    first.error = None
    graph = line(path, "first", "broken", "last", first=first, broken=broken)
    with pytest.raises(Trouble):
        graph.invoke({"count": 1}, thread_id="t", run_id="the-run")
    with SqliteStore(path) as store:
        run = store.run("the-run")
        assert (run.status, run.error) == (FAILED, "Trouble: broken")
    broken.error = None
    done = graph.invoke(None, thread_id="t")
    assert done == {"log": ["mended", "mended", "last"], "count": 1}
    assert done.run.run_id == "the-run"
    assert first.runs == 1
    with SqliteStore(path) as store:
        assert [run.run_id for run in store.runs()] == ["the-run"]
        run = store.run("the-run")
        assert (run.status, run.error) == (DONE, "")
        assert audit("the-run", store=store).verdict


def test_new_input_after_a_failure_keeps_what_had_finished_and_leaves_what_had_not(path: Path) -> None:
    broken = Breaks()
    graph = line(path, "a", "broken", "last", broken=broken)
    with pytest.raises(Trouble):
        graph.invoke({"log": ["one"]}, thread_id="t")
    broken.error = None
    done = ["one", "a", "two", "a", "mended", "last"]
    assert graph.invoke({"log": ["two"]}, thread_id="t") == {"log": done}
    assert graph.invoke(None, thread_id="t") == {"log": done}


def test_new_input_after_a_failure_takes_no_result_of_before_for_one_of_its_own(path: Path) -> None:
    failing = True

    def turn(state: State) -> State:
        if failing and state["count"] == 3:
            raise Trouble
        return {"log": [f"turn {state['count']}"], "count": state["count"] + 1}

    graph = StateGraph(State).add_node("turn", turn).add_edge(START, "turn")
    graph.add_conditional_edges("turn", lambda state: "turn" if state["count"] % 10 < 5 else END)
    compiled = graph.compile(path)
    with pytest.raises(Trouble):
        compiled.invoke({"count": 0}, thread_id="t")
    failing = False
    before, after = ["turn 0", "turn 1", "turn 2"], [f"turn {number}" for number in range(10, 15)]
    assert compiled.invoke({"count": 10}, thread_id="t") == {"log": before + after, "count": 15}


def test_sends_and_their_arguments_survive(path: Path) -> None:
    broken = Breaks()
    graph = StateGraph(State)
    graph.add_node("part", lambda number: {"log": [f"part {number['thing']}"]} if number["thing"] < 3 else broken({}))
    graph.add_conditional_edges(START, lambda state: [Send("part", {"thing": number}) for number in range(5)])
    compiled = graph.compile(path)
    with pytest.raises(Trouble):
        compiled.invoke({"count": 0}, thread_id="t")
    broken.error = None
    assert compiled.invoke(None, thread_id="t")["log"] == ["part 0", "part 1", "part 2", "mended", "mended"]


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_every_task_s_result_is_kept_either_way(path: Path, durability: str) -> None:
    line(path, "a", "b").invoke({"log": []}, thread_id="t", run_id="r", durability=durability)
    with SqliteStore(path) as store:
        assert [one.name for one in store.results("r")] == ["a", "b"]


def test_sync_does_not_start_the_next_node_before_the_last_one_s_result_is_on_disk(path: Path) -> None:
    def look(state: State) -> State:
        with SqliteStore(path) as store:
            return {"log": [one.name for one in store.results("r")]}

    graph = line(path, "a", "look", look=look)
    assert graph.invoke({"log": []}, run_id="r", durability="sync") == {"log": ["a", "a"]}


def test_a_run_that_was_cancelled_is_called_so_and_goes_on(path: Path) -> None:
    waits = asyncio.Event

    async def main() -> Any:
        started, gate = waits(), waits()

        async def held(state: State) -> State:
            started.set()
            await gate.wait()
            return {"log": ["held"]}

        graph = line(path, "a", "held", held=held)
        running = asyncio.create_task(graph.ainvoke({"log": []}, thread_id="t", run_id="r"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with SqliteStore(path) as store:
            assert store.run("r").status == CANCELLED
        gate.set()
        return await graph.ainvoke(None, thread_id="t")

    assert asyncio.run(main()) == {"log": ["a", "held"]}


def test_a_run_may_be_cancelled_while_it_waits_for_the_disk(path: Path) -> None:
    """The write goes on, the writer lives, and the run's end is stored."""

    async def main(store: SqliteStore) -> None:
        agent = python_agent("quick")(lambda prompt: prompt)

        async def node(state: State) -> State:
            return {"log": [str(await Task(subagent_type="quick", prompt="x"))]}

        graph = StateGraph(State).add_node("n", node).add_edge(START, "n").compile(store)
        for number in range(20):
            running = asyncio.create_task(graph.ainvoke({"count": 1}, run_id=f"{number}", agents=[agent]))
            for _ in range(number):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])

    with SqliteStore(path) as store:
        asyncio.run(asyncio.wait_for(main(store), 20))
        assert all(run.status != RUNNING for run in store.runs())


# One at a time


def test_a_thread_cannot_be_run_twice_at_once(path: Path) -> None:
    graph = line(path, "inner", inner=lambda state: graph.invoke({"count": 2}, thread_id="t"))
    with pytest.raises(ThreadBusyError, match="waits for the code that wants to run it again"):
        graph.invoke({"count": 1}, thread_id="t")
    graph.kept_in.close()
    with SqliteStore(path) as store:
        assert store.owner("t") is None


def test_a_thread_of_another_machine_that_is_not_heard_of_any_more_can_be_taken_over(path: Path) -> None:
    me = owners.me()
    owners.leave(me)
    elsewhere = "/".join(("boot", "elsewhere", *me.split("/")[2:]))
    with SqliteStore(path) as store:
        lapse(store, store.claim("t", elsewhere).result(10))
    graph = line(path, "a")
    with pytest.raises(ThreadBusyError, match=r"on elsewhere, which has not been heard of.*\n.*take_over"):
        graph.invoke({"log": []}, thread_id="t", on_busy="reject")
    assert graph.invoke({"log": []}, thread_id="t", on_busy="take_over") == {"log": ["a"]}


# What is written


def stored_bytes(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (size,) = connection.execute(
            "select (select sum(length(data)) from task_result) + (select sum(length(data)) from checkpoint)"
        ).fetchone()
    connection.close()
    return int(size)


@pytest.mark.parametrize("steps", [60, 100])
def test_the_bytes_written_grow_with_what_was_returned_and_not_with_its_square(tmp_path: Path, steps: int) -> None:
    def written(count: int) -> int:
        path = tmp_path / f"{count}.db"
        graph = StateGraph(State).add_node("loop", lambda state: {"log": ["x" * 1000], "count": state["count"] - 1})
        graph.add_edge(START, "loop").add_conditional_edges("loop", lambda state: "loop" if state["count"] else END)
        assert len(graph.compile(path).invoke({"count": count})["log"]) == count
        return stored_bytes(path)

    once, twice = written(steps), written(2 * steps)
    assert twice / once < 2.6
    assert twice < 1.25 * 2 * steps * 1000  # what was returned, once as results, and what checkpoints say of themselves


def test_checkpoints_of_an_earlier_version_are_read_and_gone_on_from(path: Path) -> None:
    """It wrote names in full, and what is empty."""

    def state_at_each_checkpoint() -> list[Any]:
        return [kept._replace(tasks=()) for kept in graph.get_state_history({"configurable": {"thread_id": "t"}})]

    graph = line(path, "a", "b")
    for number in range(4):
        graph.invoke({"log": [f"{number}"]}, {"metadata": {"turn": number}}, thread_id="t")
    before = state_at_each_checkpoint()
    with sqlite3.connect(path) as file:
        for seq, source, data in file.execute("select seq, source, data from checkpoint").fetchall():
            old = Codec().encode(in_whole_names(Codec().decode(data), source))
            file.execute("update checkpoint set data = ? where seq = ?", (old, seq))
    file.close()
    assert state_at_each_checkpoint() == before
    assert graph.invoke({"log": ["new"]}, thread_id="t")["log"][-3:] == ["new", "a", "b"]
    assert state_at_each_checkpoint()[4:] == before


def in_whole_names(told: dict[str, Any], source: str) -> dict[str, Any]:
    names = {"i": "id", "n": "node", "a": "arg", "s": "send"}
    tasks = [
        {
            **{names[name]: value for name, value in task.items() if name in names},
            "id": task["i"].hex(),
            "step": told["s"] + 1,
            "after": [id.hex() for id in task.get("f", ())],
        }
        for task in told.get("t", ())
    ]
    values = {"values": told["v"]} if "v" in told else {}
    metadata = {"source": source, "step": told["s"], "parents": {}, **told.get("m", {})}
    facts = {"step": told["s"], "tasks": tasks, "joins": [], "deferred": {}, "ran": told.get("r", [])}
    return {**facts, **values, "metadata": metadata}


@pytest.mark.parametrize("steps", [150])
def test_a_history_that_is_read_in_one_go_is_that_which_is_read_one_by_one(path: Path, steps: int) -> None:
    def node(state: State) -> dict[str, Any]:
        return {"log": [str(state["count"])], "count": state["count"] - 1, "thing": "x" * 500}

    graph = StateGraph(State).add_node("n", node).add_edge(START, "n")
    app = graph.add_conditional_edges("n", lambda state: "n" if state["count"] else END).compile(path)
    config: dict[str, Any] = {"configurable": {"thread_id": "t"}, "recursion_limit": 1000}
    app.invoke({"count": steps // 2}, config)
    history = list(app.get_state_history(config))
    app.invoke(None, history[20].config)
    app.update_state(history[40].config, {"log": ["by hand"]})
    history = list(app.get_state_history(config))
    assert len(history) > steps // 2 + 20
    assert history == [app.get_state(each.config) for each in history]
    assert history[:3] == list(app.get_state_history(config, limit=3))
    assert history[-3:] == list(app.get_state_history(config, before=history[-4].config))


@pytest.mark.parametrize(
    ("thing", "named"),
    [(object(), "object"), ({"deep": [1, {1, 2}, print]}, r"\['deep'\]\[2\]"), (Trouble(), "Trouble")],
)
def test_a_value_that_cannot_be_stored_fails_the_run_and_node_and_key_are_named(
    path: Path, thing: object, named: str
) -> None:
    graph = line(path, "a", "odd", "never", odd=lambda state: {"log": ["odd"], "thing": thing})
    with pytest.raises(
        NotStorableError,
        match=rf"key 'thing', as node 'odd' wrote it.*{named}|{named}.*key 'thing', as node 'odd' wrote it",
    ) as failure:
        graph.invoke({"log": []}, thread_id="t", run_id="r")
    assert "in node 'odd', step 2" in "".join(failure.value.__notes__)
    with SqliteStore(path) as store:
        assert store.run("r").status == FAILED
        assert [one.name for one in store.results("r") if one.kind == "result"] == ["a"]


def test_a_question_that_cannot_be_stored_fails_the_run_and_its_node_is_named(path: Path) -> None:
    graph = line(path, "asks", asks=lambda state: interrupt(object()))
    with pytest.raises(NotStorableError, match="the question of 'asks'") as failure:
        graph.invoke({"log": []}, thread_id="t", run_id="r")
    assert "in node 'asks', step 1" in "".join(failure.value.__notes__)
    with SqliteStore(path) as store:
        assert store.run("r").status == FAILED


def test_an_argument_that_cannot_be_stored_fails_the_run_and_who_sent_it_is_named(path: Path) -> None:
    graph = StateGraph(State).add_node("part", lambda arg: None)
    graph.add_conditional_edges(START, lambda state: [Send("part", {"thing": object()})])
    with pytest.raises(NotStorableError, match=r"the result of node '__start__'.*object") as failure:
        graph.compile(path).invoke({"count": 0}, run_id="r")
    assert "in node '__start__', step 0" in "".join(failure.value.__notes__)


def test_an_input_that_cannot_be_stored_fails_the_run_before_any_node(path: Path) -> None:
    node = Breaks()
    with pytest.raises(NotStorableError, match=r"the input\['thing'\]: object has no stored form"):
        line(path, "node", node=node).invoke({"thing": object()}, run_id="r")
    assert node.runs == 0


def test_an_agent_s_answer_that_cannot_be_stored_names_the_agent(path: Path) -> None:
    agent = python_agent("odd")(lambda prompt: object())
    graph = line(path, "n", n=lambda state: {"log": [str(Task(subagent_type="odd", prompt="x").run())]})
    with pytest.raises(NotStorableError, match="the answer of 'odd'"):
        graph.invoke({"count": 1}, agents=[agent])


def test_an_error_s_text_is_stored_whatever_it_holds(path: Path) -> None:
    graph = line(path, "a", a=Breaks(Trouble("a file's name: caf\udce9")))
    with pytest.raises(Trouble):
        graph.invoke({"count": 1}, run_id="r")
    with SqliteStore(path) as store:
        assert store.run("r").error == "Trouble: a file's name: caf\\udce9"
        assert store.events("r")[-1]["error"] == "Trouble: a file's name: caf\udce9"


def test_a_thread_s_name_that_cannot_be_stored_is_an_error_and_not_a_hang(path: Path) -> None:
    with pytest.raises(StoreError, match=r"the thread 'half \\udce9' holds half a character"):
        line(path, "a").invoke({"count": 1}, thread_id="half \udce9")


# What cannot be gone on with


def damage(path: Path, table: str) -> None:
    with sqlite3.connect(path) as connection:
        name, _, which = table.partition(" ")
        connection.execute(f"update {name} set data = cast(substr(data, 1, length(data) - 1) || x'00' as blob) {which}")
    connection.close()


def test_a_damaged_result_is_named_with_its_node_and_thread(path: Path) -> None:
    broken = Breaks()
    graph = StateGraph(State).add_node("a", lambda state: {"log": ["a"]}).add_node("broken", broken)
    graph = graph.add_edge(START, "a").add_edge(START, "broken").compile(path)
    with pytest.raises(Trouble):
        graph.invoke({"log": []}, thread_id="t")
    damage(path, "task_result")
    with pytest.raises(CorruptRecordError, match="the result of node 'a', step 1, thread 't' is damaged"):
        graph.invoke(None, thread_id="t")


def long_line(path: Path, broken: Breaks) -> CompiledGraph:
    """A graph whose last checkpoint needs the results before it, since so little was written after the input."""
    graph = line(path, "a", "b", "broken", broken=broken)
    with pytest.raises(Trouble):
        graph.invoke({"log": ["x" * 10_000]}, thread_id="t")
    return graph


def test_a_damaged_result_of_a_step_before_is_named_too(path: Path) -> None:
    graph = long_line(path, Breaks())
    damage(path, "task_result where name = 'a'")
    with pytest.raises(CorruptRecordError, match="the result of node 'a', step 1, thread 't' is damaged"):
        graph.invoke(None, thread_id="t")


def test_a_result_that_is_missing_is_named(path: Path) -> None:
    graph = long_line(path, Breaks())
    with sqlite3.connect(path) as connection:
        connection.execute("delete from task_result where name = 'b'")
    connection.close()
    with pytest.raises(CorruptRecordError, match="the result of node 'b', step 2, thread 't' is missing"):
        graph.invoke(None, thread_id="t")


def test_a_damaged_checkpoint_is_named_with_its_thread(path: Path) -> None:
    graph = line(path, "a")
    graph.invoke({"log": []}, thread_id="t")
    damage(path, "checkpoint")
    with pytest.raises(CorruptRecordError, match=r"checkpoint [0-9a-f-]{36} \(step -?\d\) of thread 't' is damaged"):
        graph.invoke(None, thread_id="t")


def test_a_damaged_answer_of_an_agent_is_named(path: Path) -> None:
    broken = Breaks()
    agent = python_agent("quick")(lambda prompt: prompt)

    def node(state: State) -> State:
        Task(subagent_type="quick", prompt="x").run()
        return broken(state)

    graph = line(path, "n", n=node)
    with pytest.raises(Trouble):
        graph.invoke({"count": 1}, thread_id="t", agents=[agent])
    damage(path, "task_result")
    with pytest.raises(CorruptRecordError, match="the answer of 'quick', step 1, thread 't' is damaged"):
        graph.invoke(None, thread_id="t", agents=[agent])


def test_a_graph_that_was_mended_goes_on_by_its_new_edges(path: Path) -> None:
    first = Breaks()
    first.error = None
    with pytest.raises(Trouble):
        line(path, "first", "broken", first=first, broken=Breaks()).invoke({"log": []}, thread_id="t")
    done = line(path, "first", "broken", "more", first=first).invoke(None, thread_id="t")
    assert done == {"log": ["mended", "broken", "more"]}
    assert first.runs == 1


def test_a_graph_without_the_node_that_comes_next_is_refused_by_name(path: Path) -> None:
    with pytest.raises(Trouble):
        line(path, "a", "broken", broken=Breaks()).invoke({"log": []}, thread_id="t")
    with pytest.raises(
        UsageError, match=r"'t' goes on with node 'broken', which graph 'graph' does not have\n.*changed"
    ):
        line(path, "a", "other").invoke(None, thread_id="t")


def test_a_graph_without_a_node_that_a_finished_one_chose_is_refused_by_name(path: Path) -> None:
    def graph(target: str, node: Callable[[State], State]) -> CompiledGraph:
        built = StateGraph(State).add_node("chooses", lambda state: {"log": ["chosen"]}).add_node(target, node)
        built.add_node("beside", node)
        built.add_edge(START, "chooses").add_edge(START, "beside")
        return built.add_conditional_edges("chooses", lambda state: target).compile(path)

    with pytest.raises(Trouble):
        graph("choice", Breaks()).invoke({"log": []}, thread_id="t")
    mended = Breaks()
    mended.error = None
    with pytest.raises(UsageError, match="goes on with node 'choice', which graph 'graph' does not have; did you mean"):
        graph("choices", mended).invoke(None, thread_id="t")


def test_a_graph_without_a_node_that_waits_for_the_end_is_refused_by_name(path: Path) -> None:
    def graph(*late: str) -> CompiledGraph:
        built = StateGraph(State).add_node("first", lambda state: None).add_node("broken", Breaks())
        for name in late:
            built.add_node(name, lambda state: None, defer=True).add_edge("first", name)
        return built.add_edge(START, "first").add_edge("first", "broken").compile(path)

    with pytest.raises(Trouble):
        graph("late").invoke({"log": []}, thread_id="t")
    with pytest.raises(UsageError, match="goes on with node 'late', which graph 'graph' does not have"):
        graph().invoke(None, thread_id="t")


def test_a_graph_with_other_joins_is_refused(path: Path) -> None:
    def graph(*members: str) -> CompiledGraph:
        built = StateGraph(State).add_node("end", lambda state: {"count": 1})
        for name in "abc":
            built.add_node(name, Breaks() if name == "c" else lambda state: {"log": ["x"]}).add_edge(START, name)
        return (
            built.add_edge(list(members), "end").compile(path) if members else built.add_edge("a", "end").compile(path)
        )

    with pytest.raises(Trouble):
        graph("a", "b").invoke({"log": []}, thread_id="t")
    with pytest.raises(UsageError, match=r"thread 't' was run by a graph with other joins.*\n.*changed"):
        graph().invoke(None, thread_id="t")


# No room left


def test_a_run_of_which_something_is_not_on_disk_is_not_called_done(path: Path) -> None:
    graph = line(path, "a")
    with sqlite3.connect(path) as connection:
        refusal = "when new.step > 0 begin select raise(abort, 'no room for this one'); end"
        connection.execute(f"create trigger full before insert on checkpoint {refusal}")
    connection.close()
    with pytest.raises(StoreError, match="no room for this one"):
        graph.invoke({"log": []}, run_id="r")
    with SqliteStore(path) as store:
        run = store.run("r")
        assert (run.status, "no room for this one" in run.error) == (FAILED, True)


NO_ROOM = """
import resource, sys
from typing import Annotated, TypedDict
import operator
from fanfold import END, START, StateGraph
from fanfold.errors import StoreError

class State(TypedDict):
    log: Annotated[list, operator.add]

ran = []

def node(state):
    ran.append(1)
    return {"log": ["x" * 20_000]}

graph = StateGraph(State).add_node("fill", node).add_edge(START, "fill")
graph.add_conditional_edges("fill", lambda state: "fill" if len(state["log"]) < 500 else END)
compiled = graph.compile(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
try:
    compiled.invoke({"log": []}, thread_id="t", run_id="r", durability=sys.argv[2])
except StoreError as error:
    print(f"{error}\\nnotes: {error.__notes__}\\nran: {len(ran)}", file=sys.stderr)
    sys.exit(3)
"""


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_full_disk_fails_the_run_loudly_and_what_was_acknowledged_is_there(path: Path, durability: str) -> None:
    command = [sys.executable, "-c", NO_ROOM, path, durability]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 3, done.stderr
    assert f"cannot write to {path}: " in done.stderr
    assert int(done.stderr.rpartition("ran: ")[2]) < 500
    with SqliteStore(path) as store:
        assert store.run("r").status != DONE
        assert store.thread("t") is not None


@dataclass
class Unannounced:
    """A class that no annotation names."""

    number: int


class Loose(TypedDict):
    things: list[Any]


def loose(store: Any) -> Any:
    return (
        StateGraph(Loose)
        .add_node("make", lambda state: {"things": [Unannounced(7)]})
        .add_edge(START, "make")
        .compile(store)
    )


def test_a_store_in_memory_keeps_objects_of_classes_that_no_annotation_names() -> None:
    with SqliteStore(":memory:") as store:
        loose(store).invoke({"things": []}, thread_id="t")
        again = loose(store)  # another graph over the same store
        assert again.get_state({"configurable": {"thread_id": "t"}}).values == {"things": [Unannounced(7)]}


def test_a_store_on_disk_refuses_them_when_they_are_written_since_another_process_could_not_read_them(
    tmp_path: Path,
) -> None:
    with SqliteStore(tmp_path / "runs.db") as store, pytest.raises(NotStorableError, match="Unannounced"):
        loose(store).invoke({"things": []}, thread_id="t")


def test_a_slow_disk_holds_a_run_back_before_what_waits_for_it_fills_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fanfold.journal.MOST_WAITING", 20)
    ran: list[int] = []

    async def count(state: State) -> State:
        ran.append(state["count"])
        return {"count": state["count"] + 1}

    async def main(store: SqliteStore) -> tuple[int, int]:
        graph = StateGraph(State).add_node("count", count).add_edge(START, "count")
        graph.add_conditional_edges("count", lambda state: "count" if state["count"] < 200 else END)
        gate, held = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        running = asyncio.create_task(graph.compile(store).ainvoke({"count": 0}, thread_id="t"))
        while not ran:
            await asyncio.sleep(0)
        store.write(lambda _: loop.call_soon_threadsafe(held.set) and gate.wait(20))
        await held.wait()
        for _ in range(2000):
            await asyncio.sleep(0)
        before = len(ran)
        gate.set()
        await running
        return before, len(ran)

    with SqliteStore(path) as store:
        before, after = asyncio.run(main(store))
    assert before < 100 < after == 200


def test_a_value_that_takes_the_place_of_what_is_there_is_stored_as_that(path: Path) -> None:
    def replaces(state: State) -> Any:
        return Command(update={"log": Overwrite(["new"])}, goto=Send("sent", {"log": Overwrite(["sent"])}))

    graph = StateGraph(State).add_node("replaces", replaces).add_node("sent", lambda given: {"count": len(given)})
    app = graph.add_edge(START, "replaces").compile(path)
    assert app.invoke({"log": ["old"]}, thread_id="t") == {"log": ["new"], "count": 1}
    config = {"configurable": {"thread_id": "t"}}
    app.update_state(config, {"log": Overwrite(["changed"])}, as_node="sent")
    assert app.invoke({"log": Overwrite(["begun"])}, config)["log"] == ["new"]
    app.kept_in.close()


def grown(path: Path) -> CompiledGraph:
    """The graph `a`, and a node more."""
    return line(path, "a", "b")


def test_a_graph_that_was_changed_goes_on_fails_or_goes_on_in_a_copy(path: Path) -> None:
    line(path, "a").invoke({"log": []}, thread_id="t")
    with pytest.raises(StateError, match="thread 't' was last run by a graph of another shape"):
        grown(path).invoke({"log": []}, thread_id="t", on_change="fail")
    copy = grown(path).invoke({"log": []}, thread_id="t", on_change="fork")
    assert (copy["log"], copy.run.thread_id.startswith("t-")) == (["a", "a", "b"], True)
    again = grown(path).invoke({"log": []}, thread_id="t", on_change="fork")
    assert (again["log"], again.run.thread_id) == (["a", "a", "b", "a", "b"], copy.run.thread_id)
    config = {"configurable": {"thread_id": "t"}}
    assert line(path, "a").get_state(config).values["log"] == ["a"]
    assert grown(path).invoke({"log": []}, thread_id="t")["log"] == ["a", "a", "b"]
    assert grown(path).invoke({"log": []}, thread_id="t", on_change="fail")["log"] == ["a", "a", "b", "a", "b"]


def test_an_unknown_way_to_meet_a_change_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="on_change is 'ignore'; it is one of continue, fail, fork"):
        line(path, "a").invoke({"log": []}, thread_id="t", on_change="ignore")
