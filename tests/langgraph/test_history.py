"""Where a thread stands and stood, and how it is changed and taken up again from there."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import (
    END,
    START,
    BaseStore,
    Command,
    InMemorySaver,
    InMemoryStore,
    InvalidUpdateError,
    Overwrite,
    Send,
    SqliteSaver,
    StateGraph,
    StateUpdate,
    UntrackedValue,
    entrypoint,
    get_config,
    interrupt,
    task,
)
from fanfold.errors import UsageError
from tests.langgraph.asking import State, add, ask, thread
from tests.langgraph.conftest import Run


def line(*named: tuple[str, Any], saver: Any = None, **options: Any) -> Any:
    graph = StateGraph(State).add_sequence(named).add_edge(START, named[0][0])
    return graph.compile(saver or InMemorySaver(), **options)


def abc(**options: Any) -> Any:
    return line(*((name, add(name)) for name in "abc"), **options)


def diamond(**options: Any) -> Any:
    graph = StateGraph(State)
    for name in "abcd":
        graph.add_node(name, add(name))
    graph.add_edge(START, "a").add_edge("a", "b").add_edge("a", "c").add_edge(["b", "c"], "d")
    return graph.compile(InMemorySaver(), **options)


def before(graph: Any, *nodes: str) -> dict[str, Any]:
    """The config of the newest checkpoint from which just these nodes are next."""
    found: dict[str, Any] = next(state.config for state in graph.get_state_history(thread()) if state.next == nodes)
    return found


def told(graph: Any, **options: Any) -> list[tuple[Any, ...]]:
    states = graph.get_state_history(thread(), **options)
    return [(state.metadata["source"], state.metadata["step"], state.next, state.values["xs"]) for state in states]


WHOLE = [
    ("loop", 3, (), ["i", "a", "b", "c"]),
    ("loop", 2, ("c",), ["i", "a", "b"]),
    ("loop", 1, ("b",), ["i", "a"]),
    ("loop", 0, ("a",), ["i"]),
    ("input", -1, ("__start__",), []),
]


def test_each_step_of_a_run_can_be_looked_at_the_newest_first(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": ["i"]}, thread())
    assert told(graph) == WHOLE
    assert told(graph, limit=2) == WHOLE[:2]
    assert told(graph, filter={"source": "input"}) == WHOLE[-1:]
    assert told(graph, filter={"source": "loop", "step": 1}) == WHOLE[2:3]
    assert told(graph, before=before(graph, "b"), limit=1) == WHOLE[3:4]


def test_a_step_is_told_with_what_its_tasks_came_to_and_asked(run: Run) -> None:
    graph = line(("a", add("a")), ("f", ask("?")))
    run(graph, {"xs": []}, thread())
    run(graph, Command(resume="yes"), thread())
    state = graph.get_state(before(graph, "f"))
    assert [(t.name, t.result, [i.value for i in t.interrupts]) for t in state.tasks] == [("f", {"xs": ["yes"]}, ["?"])]
    assert graph.get_state(thread()).tasks == ()


def test_the_present_state_has_what_the_tasks_of_an_open_step_have_come_to(run: Run) -> None:
    graph = StateGraph(State).add_node("f", ask("?")).add_node("p", add("p")).add_edge(START, "f").add_edge(START, "p")
    app = graph.compile(InMemorySaver())
    run(app, {"xs": []}, thread())
    now = app.get_state(thread())
    then = app.get_state(now.config)
    assert (now.values, now.next) == ({"xs": ["p"]}, ("f",))
    assert (then.values, then.next) == ({"xs": []}, ("f", "p"))


def test_a_thread_that_nobody_has_run_is_empty() -> None:
    state = abc().get_state(thread("nobody"))
    assert (state.values, state.next, state.metadata, state.config) == ({}, (), None, thread("nobody"))


@pytest.mark.parametrize("name", [1, 0, uuid.UUID(int=7)])
def test_a_thread_may_be_named_by_a_number_or_uuid(run: Run, name: Any) -> None:
    graph = abc()
    run(graph, {"xs": []}, thread(name))
    assert graph.get_state(thread(str(name))).values == {"xs": ["a", "b", "c"]}


def test_the_config_s_plain_values_are_in_the_metadata_of_each_step(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": []}, {**thread(tenant="x", __hidden="y"), "metadata": {"user": "u", "tags": ["no"]}})
    assert graph.get_state(thread()).metadata == {
        "source": "loop",
        "step": 3,
        "parents": {},
        "tenant": "x",
        "user": "u",
    }
    assert len(list(graph.get_state_history(thread(), filter={"user": "u"}))) == 5


def test_a_run_from_an_earlier_step_is_a_branch(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": ["i"]}, thread())
    there = before(graph, "b")
    assert run(graph, None, there) == {"xs": ["i", "a", "b", "c"]}
    branch = [("loop", 4, (), ["i", "a", "b", "c"]), ("loop", 3, ("c",), ["i", "a", "b"])]
    assert told(graph) == [*branch, ("fork", 2, ("b",), ["i", "a"]), *WHOLE]
    (fork,) = graph.get_state_history(thread(), filter={"source": "fork"})
    assert fork.parent_config == there


def test_a_branch_asks_anew(run: Run) -> None:
    graph = line(("a", add("a")), ("f", ask("?")))
    run(graph, {"xs": []}, thread())
    run(graph, Command(resume="first"), thread())
    assert "__interrupt__" in run(graph, None, before(graph, "f"))
    assert run(graph, Command(resume="second"), thread()) == {"xs": ["a", "second"]}


def counting(ran: list[Any]) -> Any:
    """Asks after a node that says each time it runs how often it has."""

    def asks(_: State) -> State:
        ran.append("f")
        return {"xs": [f"{interrupt('?')}, at {len(ran)}"]}

    return line(("a", add("a")), ("f", asks), ("z", add("z")))


@pytest.mark.parametrize("by_id", [False, True])
def test_an_answer_to_a_step_that_the_thread_has_left_runs_it_again(run: Run, by_id: bool) -> None:
    graph = counting([])
    run(graph, {"xs": []}, thread())
    question = graph.get_state(thread())
    assert run(graph, Command(resume="yes"), thread())["xs"] == ["a", "yes, at 2", "z"]
    answer = {question.interrupts[0].id: "no"} if by_id else "no"
    # It was answered, and the node is given what it was told then.
    assert run(graph, Command(resume=answer), question.config)["xs"] == ["a", "yes, at 3", "z"]
    assert [state.values.get("xs") for state in graph.get_state_history(thread())] == [
        ["a", "yes, at 3", "z"],
        ["a", "yes, at 3"],
        ["a", "yes, at 2", "z"],
        ["a", "yes, at 2"],
        ["a"],
        [],
        [],
    ]


def test_an_answer_to_a_step_that_is_open_lets_its_finished_tasks_be(run: Run) -> None:
    ran: list[str] = []
    graph = StateGraph(State).add_node("f", ask("?")).add_node("p", lambda _: ran.append("p"))
    app = graph.add_edge(START, "f").add_edge(START, "p").compile(InMemorySaver())
    run(app, {"xs": []}, thread())
    assert run(app, Command(resume="yes"), app.get_state(thread()).config) == {"xs": ["yes"]}
    assert ran == ["p"]


def test_an_answer_to_an_earlier_step_of_an_entrypoint_calls_its_tasks_again(run: Run) -> None:
    ran: list[int] = []

    @task
    def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int) -> int:
        first = double(number).result()
        return first + double(interrupt("?")).result()

    run(flow, 1, thread())
    question = flow.get_state(thread()).config
    assert run(flow, Command(resume=5), thread()) == 12
    assert run(flow, Command(resume=7), question) == 12
    assert ran == [1, 5, 1, 5]


def test_an_update_is_shown_as_what_its_task_came_to(run: Run) -> None:
    graph = line(("a", add("a")), ("f", ask("?")), ("z", add("z")))
    run(graph, {"xs": []}, thread())
    graph.update_state(thread(), {"xs": ["u"]}, as_node="f")
    (shown,) = next(state for state in graph.get_state_history(thread()) if state.next == ("f",)).tasks
    assert (shown.name, shown.result, [i.value for i in shown.interrupts]) == ("f", {"xs": ["u"]}, ["?"])
    assert run(graph, None, thread()) == {"xs": ["a", "u", "z"]}


@pytest.mark.parametrize("count", [1, 3])
def test_updates_as_a_sent_node_are_shown_in_the_order_of_its_tasks(run: Run, count: int) -> None:
    graph = StateGraph(State).add_node("a", add("a")).add_node("w", add("w")).add_edge(START, "a")
    graph.add_conditional_edges("a", lambda _: [Send("w", {})] * 3)
    app = graph.compile(InMemorySaver(), interrupt_before=["w"])
    run(app, {"xs": []}, thread())
    told = [{"xs": [number]} for number in range(count)]
    app.bulk_update_state(thread(), [[StateUpdate(each, "w") for each in told]])
    shown = next(state for state in app.get_state_history(thread()) if state.next == ("w",) * 3)
    assert [task.result for task in shown.tasks] == [*told, *[None] * (3 - count)]


def test_an_error_is_shown_after_the_task_has_gone_on(run: Run) -> None:
    failures = [ValueError("once")]

    def node(_: State) -> State:
        if failures:
            raise failures.pop()
        return {"xs": ["done"]}

    graph = line(("f", node))
    with pytest.raises(ValueError, match="once"):
        run(graph, {"xs": []}, thread())
    run(graph, None, thread())
    (shown,) = next(state for state in graph.get_state_history(thread()) if state.next == ("f",)).tasks
    assert (shown.error, shown.result) == ("ValueError('once')", {"xs": ["done"]})


def test_an_update_may_be_a_list_with_commands(run: Run) -> None:
    graph = abc(interrupt_before=["b"])
    run(graph, {"xs": []}, thread())
    graph.update_state(thread(), [{"xs": ["u"]}, Command(goto="c", update={"xs": ["v"]})], as_node="a")
    assert (graph.get_state(thread()).next, graph.get_state(thread()).values["xs"]) == (("b", "c"), ["a", "u", "v"])


def test_a_change_of_an_earlier_step_is_a_branch_by_itself(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": ["i"]}, thread())
    there = graph.update_state(before(graph, "b"), {"xs": ["u"]})
    assert run(graph, None, there) == {"xs": ["i", "a", "u", "b", "c"]}
    assert [source for source, *_ in told(graph)][:3] == ["loop", "loop", "update"]


def test_new_input_may_be_given_to_an_earlier_step_and_to_one_that_is_open(run: Run) -> None:
    graph = abc(interrupt_before=["c"])
    run(graph, {"xs": ["i"]}, thread())
    assert run(graph, {"xs": ["j"]}, before(graph, "b")) == {"xs": ["i", "a", "j", "a", "b"]}
    assert run(graph, {"xs": ["k"]}, thread()) == {"xs": ["i", "a", "j", "a", "b", "k", "a", "b"]}
    assert told(graph)[0][3] == ["i", "a", "j", "a", "b", "k", "a", "b"]


def test_a_checkpoint_that_is_not_there_is_refused(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": []}, thread())
    with pytest.raises(UsageError, match="no checkpoint 'x'"):
        run(graph, None, thread(checkpoint_id="x"))


def test_an_update_is_of_the_node_that_ran_last(run: Run) -> None:
    graph = abc(interrupt_before=["b"])
    run(graph, {"xs": []}, thread())
    graph.update_state(thread(), {"xs": ["u"]})
    assert graph.get_state(thread()).next == ("b",)
    graph.update_state(thread(), {"xs": ["v"]}, as_node="b")
    assert graph.get_state(thread()).next == ("c",)
    assert run(graph, None, thread()) == {"xs": ["a", "u", "v", "c"]}


def test_an_update_before_new_input_is_taken_is_of_the_node_that_ran_before_it(run: Run) -> None:
    graph = abc(interrupt_before=["b"])
    run(graph, {"xs": ["i"]}, thread())
    run(graph, {"xs": ["j"]}, thread())
    run(graph, None, thread())
    run(graph, {"xs": ["k"]}, thread())
    after_drop, after_all = (
        state.config
        for state in reversed(list(graph.get_state_history(thread(), filter={"source": "input"})))
        if state.metadata["step"] > 0
    )
    assert graph.get_state(graph.update_state(after_drop, {"xs": []})).next == ("c",)
    assert graph.get_state(graph.update_state(after_all, {"xs": []})).next == ()


def test_an_update_takes_the_node_s_route(run: Run) -> None:
    graph = StateGraph(State).add_node("a", add("a")).add_node("y", add("y")).add_node("n", add("n"))
    graph.add_edge(START, "a").add_conditional_edges("a", lambda s: "y" if "yes" in s["xs"] else "n")
    app = graph.compile(InMemorySaver(), interrupt_after=["a"])
    run(app, {"xs": []}, thread())
    app.update_state(thread(), {"xs": ["yes"]})
    assert run(app, None, thread()) == {"xs": ["a", "yes", "y"]}


def test_an_update_may_be_a_command_or_overwrite(run: Run) -> None:
    graph = StateGraph(State).add_node("a", add("a")).add_node("w", lambda s: {"xs": [s["n"]]}).add_edge(START, "a")
    app = graph.compile(InMemorySaver())
    run(app, {"xs": ["i"]}, thread())
    app.update_state(thread(), Command(update={"xs": Overwrite([])}, goto=[Send("w", {"n": n}) for n in (1, 2)]), "a")
    assert run(app, None, thread()) == {"xs": [1, 2]}


def test_an_update_of_a_new_thread_is_its_input(run: Run) -> None:
    graph = abc()
    graph.update_state(thread(), {"xs": ["u"]})
    assert told(graph) == [("update", 0, ("a",), ["u"])]
    assert run(graph, None, thread()) == {"xs": ["u", "a", "b", "c"]}


@pytest.mark.parametrize(("as_node", "step"), [("__input__", -1), (START, 0)])
def test_an_update_may_stand_for_the_input(run: Run, as_node: str, step: int) -> None:
    graph = abc()
    graph.update_state(thread(), {"xs": ["u"]}, as_node=as_node)
    assert graph.get_state(thread()).metadata["step"] == step
    assert run(graph, None, thread()) == {"xs": ["u", "a", "b", "c"]}


def test_an_update_as_the_end_keeps_what_had_finished_and_drops_the_rest(run: Run) -> None:
    graph = StateGraph(State).add_node("f", ask("?")).add_node("p", add("p")).add_edge(START, "f").add_edge(START, "p")
    app = graph.compile(InMemorySaver())
    run(app, {"xs": []}, thread())
    app.update_state(thread(), None, as_node=END)
    state = app.get_state(thread())
    assert (state.values, state.next) == ({"xs": ["p"]}, ())


def test_a_copy_stands_beside_what_it_is_a_copy_of(run: Run) -> None:
    graph = abc()
    run(graph, {"xs": []}, thread())
    there = graph.get_state(before(graph, "b"))
    copy = graph.get_state(graph.update_state(there.config, None, as_node="__copy__"))
    assert (copy.next, copy.metadata["source"], copy.parent_config) == (("b",), "fork", there.parent_config)
    graph.update_state(there.config, [({"xs": ["B"]}, "b")], as_node="__copy__")
    assert run(graph, None, thread()) == {"xs": ["a", "B", "c"]}


@pytest.mark.parametrize(
    ("values", "as_node", "why"),
    [
        ({"xs": ["u"]}, None, "ambiguous"),
        (None, None, "ambiguous"),
        ({"xs": ["u"]}, "z", "no node 'z'"),
        ({"xs": ["u"]}, END, "takes no values"),
        (5, "b", "expected a dictionary"),
    ],
)
def test_an_update_that_cannot_be_made_says_why(run: Run, values: Any, as_node: str | None, why: str) -> None:
    graph = diamond(interrupt_before=["d"])
    run(graph, {"xs": []}, thread())
    with pytest.raises(InvalidUpdateError, match=why):
        graph.update_state(thread(), values, as_node=as_node)


def test_updates_in_bulk_are_steps_and_keep_their_order(run: Run) -> None:
    graph = diamond()
    steps = [[StateUpdate({"xs": ["1"]}, "a")], [StateUpdate({"xs": ["2"]}, "c"), StateUpdate({"xs": ["3"]}, "b")]]
    graph.bulk_update_state(thread(), steps)
    assert run(graph, None, thread()) == {"xs": ["1", "2", "3", "d"]}
    with pytest.raises(InvalidUpdateError, match="each needs as_node="):
        graph.bulk_update_state(thread(), [[StateUpdate({"xs": []}), StateUpdate({"xs": []}, "a")]])
    with pytest.raises(InvalidUpdateError, match="must be the only one"):
        graph.bulk_update_state(thread(), [[StateUpdate(None, END), StateUpdate({"xs": []}, "a")]])


def test_an_update_of_an_entrypoint_is_what_it_remembers(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int, *, previous: int | None = None) -> int:
        return (previous or 0) + number

    run(flow, 1, thread())
    flow.update_state(thread(), 10)
    assert run(flow, 1, thread()) == 11


def test_the_async_forms_do_the_same() -> None:
    async def looked() -> Any:
        graph = abc(interrupt_before=["b"])
        await graph.ainvoke({"xs": []}, thread())
        place = await graph.aupdate_state(thread(), {"xs": ["u"]}, as_node="a")
        await graph.abulk_update_state(place, [[StateUpdate({"xs": ["b!"]}, "b")]])
        steps = [state.metadata["step"] async for state in graph.aget_state_history(thread(), limit=2)]
        return (await graph.aget_state(thread())).next, steps

    assert asyncio.run(looked()) == (("c",), [3, 2])


def test_a_failed_step_goes_on_with_what_had_finished(run: Run) -> None:
    failures, ran = [ValueError("once")], []

    def bad(_: State) -> State:
        if failures:
            raise failures.pop()
        return {"xs": ["bad"]}

    graph = StateGraph(State).add_node("ok", lambda _: ran.append("ok") or {"xs": ["ok"]}).add_node("bad", bad)
    app = graph.add_edge(START, "ok").add_edge(START, "bad").compile(InMemorySaver())
    with pytest.raises(ValueError, match="once"):
        run(app, {"xs": []}, thread())
    assert (app.get_state(thread()).values, app.get_state(thread()).next) == ({"xs": ["ok"]}, ("bad",))
    assert run(app, None, thread()) == {"xs": ["bad", "ok"]}
    assert ran == ["ok"]


def test_a_run_that_stores_at_its_end_keeps_where_it_came_to(run: Run) -> None:
    graph = line(("a", add("a")), ("f", ask("?")))
    run(graph, {"xs": []}, thread(), durability="exit")
    assert told(graph) == [("loop", 1, ("f",), ["a"])]
    assert run(graph, Command(resume="x"), thread(), durability="exit") == {"xs": ["a", "x"]}
    assert told(graph) == [("loop", 2, (), ["a", "x"]), ("loop", 1, ("f",), ["a"])]
    newest, oldest = graph.get_state_history(thread())
    assert (newest.parent_config, oldest.parent_config) == (oldest.config, None)


def test_a_saver_hands_out_checkpoints() -> None:
    saver = InMemorySaver()
    graph = abc(saver=saver)
    graph.invoke({"xs": ["i"]}, thread())
    newest = saver.get_tuple(thread())
    assert newest is not None
    assert (newest.checkpoint["channel_values"], newest.metadata["step"]) == ({"xs": ["i", "a", "b", "c"]}, 3)
    assert newest.config == graph.get_state(thread()).config
    assert saver.get(before(graph, "b"))["channel_values"] == {"xs": ["i", "a"]}  # type: ignore[index]
    assert [each.metadata["step"] for each in saver.list(thread(), filter={"source": "loop"}, limit=2)] == [3, 2]
    graph.invoke({"xs": []}, thread("other"))
    assert len(list(saver.list(None))) == 10


def test_a_saver_s_async_forms_do_the_same() -> None:
    async def looked() -> Any:
        saver = InMemorySaver()
        await abc(saver=saver).ainvoke({"xs": []}, thread())
        found, listed = await saver.aget(thread()), [each.metadata["step"] async for each in saver.alist(thread())]
        await saver.adelete_thread("t")
        return found, listed, await saver.aget_tuple(thread())

    found, listed, gone = asyncio.run(looked())
    assert (found["channel_values"], listed, gone) == ({"xs": ["a", "b", "c"]}, [3, 2, 1, 0, -1], None)


def test_a_deleted_thread_is_gone_at_once_and_may_begin_again(run: Run) -> None:
    saver = InMemorySaver()
    graph = abc(saver=saver)
    run(graph, {"xs": ["i"]}, thread())
    saver.delete_thread("t")
    assert (graph.get_state(thread()).values, list(saver.list(thread()))) == ({}, [])
    assert run(graph, {"xs": []}, thread()) == {"xs": ["a", "b", "c"]}


def test_a_copied_thread_is_there_at_once_and_goes_on_by_itself(run: Run) -> None:
    saver = InMemorySaver()
    graph = abc(saver=saver)
    run(graph, {"xs": ["i"]}, thread())
    saver.copy_thread("t", "u")
    assert run(graph, {"xs": []}, thread("u"))["xs"] == ["i", "a", "b", "c", "a", "b", "c"]
    assert graph.get_state(thread()).values == {"xs": ["i", "a", "b", "c"]}
    asyncio.run(saver.acopy_thread("t", "v"))
    assert graph.get_state(thread("v")).values == {"xs": ["i", "a", "b", "c"]}


def test_a_saver_of_a_file_goes_on_in_another_process_s_stead(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with SqliteSaver.from_conn_string(path) as saver:
        run(line(("f", ask("?")), saver=saver), {"xs": ["i"]}, thread())
    with SqliteSaver.from_conn_string(path) as saver:
        assert run(line(("f", ask("?")), saver=saver), Command(resume="x"), thread()) == {"xs": ["i", "x"]}


@pytest.mark.parametrize("name", [":memory:", "runs.db"])
def test_a_saver_may_be_given_a_connection(run: Run, tmp_path: Path, name: str) -> None:
    connection = sqlite3.connect(name if name == ":memory:" else tmp_path / name, check_same_thread=False)
    with SqliteSaver(connection) as saver:
        saver.setup()
        assert run(abc(saver=saver), {"xs": []}, thread()) == {"xs": ["a", "b", "c"]}
    connection.close()


def test_graphs_that_share_a_saver_each_read_their_own_threads() -> None:
    saver = InMemorySaver()
    first, second = abc(saver=saver), line(("z", add("z")), saver=saver)
    first.invoke({"xs": []}, thread("1"))
    second.invoke({"xs": []}, thread("2"))
    held = [each.checkpoint["channel_values"] for name in ("1", "2") for each in saver.list(thread(name), limit=1)]
    assert held == [{"xs": ["a", "b", "c"]}, {"xs": ["z"]}]


# Paths after an update


def updated(run: Run, path: Any, values: Any = None, *, store: Any = None) -> tuple[str, ...]:
    """What is next after an update as `a`, from which `path` leads to `b` or to the end."""
    graph = StateGraph(State).add_node("a", add("a")).add_node("b", add("b")).add_edge(START, "a")
    compiled = graph.add_conditional_edges("a", path, ["b", END]).compile(
        InMemorySaver(), store=store, interrupt_after=["a"]
    )
    run(compiled, {"xs": []}, thread(word="b"))
    compiled.update_state(thread(word="b"), values or {"xs": ["u"]}, as_node="a")
    following: tuple[str, ...] = compiled.get_state(thread()).next
    return following


def test_a_path_after_an_update_is_given_what_it_asks_for(run: Run) -> None:
    def asks(state: State, config: Any, *, store: BaseStore) -> str:
        assert store is memory
        return str(config["configurable"]["word"])

    memory = InMemoryStore()
    assert updated(run, asks, store=memory) == ("b",)
    assert updated(run, lambda _: get_config()["configurable"]["word"]) == ("b",)


def test_a_path_after_an_update_can_call_a_graph(run: Run) -> None:
    inner = StateGraph(State).add_node("i", lambda _: {"n": 2}).add_edge(START, "i").compile()
    assert updated(run, lambda _: "b" if inner.invoke({"xs": []})["n"] == 2 else END) == ("b",)


def test_a_path_after_an_update_sees_keys_that_the_state_lacks(run: Run) -> None:
    assert updated(run, lambda state: state.get("goal", END), {"xs": ["u"], "goal": "b"}) == ("b",)


def test_an_async_path_can_be_taken_by_a_blocking_update_inside_of_a_loop() -> None:
    async def path(state: State) -> str:
        return "b" if "u" in state["xs"] else END

    async def main() -> tuple[str, ...]:
        return updated(lambda *_: None, path)

    assert asyncio.run(main()) == ("b",)


def test_threads_with_names_that_begin_alike_are_updated_each_by_itself(run: Run) -> None:
    graph = abc()
    names = [f"customer-session-of-the-first-of-january-{letter}" for letter in "xy"]
    for name in names:
        graph.update_state(thread(name), {"xs": [name]}, as_node="b")
    assert [run(graph, None, thread(name)) for name in names] == [{"xs": [name, "c"]} for name in names]


def results(graph: Any) -> list[list[tuple[str, Any]]]:
    return [[(task.name, task.result) for task in state.tasks] for state in graph.get_state_history(thread())]


def test_history_shows_all_that_a_task_wrote_to_one_key(run: Run) -> None:
    graph = line(("a", lambda _: Command(update=[("xs", ["1"]), ("xs", ["2"])])))
    run(graph, {"xs": []}, thread())
    assert results(graph)[1] == [("a", {"xs": {"$writes": [["1"], ["2"]]}})]


def test_history_shows_an_update_as_the_result_of_the_task_in_whose_place_it_came(run: Run) -> None:
    graph = abc(interrupt_before=["b"])
    run(graph, {"xs": []}, thread())
    paused = graph.get_state(thread()).config
    graph.update_state(paused, {"xs": ["u"]}, as_node="b")
    graph.update_state(paused, {"xs": ["v"]}, as_node="b")
    shown = [("b", {"xs": ["u"]})]  # the first one stays
    assert results(graph)[2] == shown
    assert graph.get_state(paused).next == ("b",)
    assert run(graph, None, paused) == {"xs": ["a", "b", "c"]}, "and the node runs all the same"


def test_updates_as_one_node_stand_for_its_tasks_one_by_one(run: Run) -> None:
    sends = Command(goto=[Send("b", {}), Send("b", {})])
    graph = StateGraph(State).add_node("a", lambda _: sends).add_node("b", add("b")).add_edge(START, "a")
    app = graph.compile(InMemorySaver(), interrupt_before=["b"])
    run(app, {"xs": []}, thread())
    app.bulk_update_state(thread(), [[StateUpdate({"xs": [word]}, "b") for word in ("1", "2", "3")]])
    assert results(app)[1] == [("b", {"xs": ["1"]}), ("b", {"xs": ["2"]})]


def test_history_shows_what_an_update_put_in_the_place_of_the_input() -> None:
    graph = abc()
    steps = [[StateUpdate({}, "__input__")], [StateUpdate({"xs": ["i"]}, START)]]
    graph.bulk_update_state(thread(), steps)
    assert results(graph)[1] == [(START, {"xs": ["i"]})]


class Held(TypedDict, total=False):
    xs: Annotated[list[Any], operator.add]
    handle: Annotated[Any, UntrackedValue]


@pytest.mark.parametrize("saver", [InMemorySaver, lambda: SqliteSaver(sqlite3.connect(":memory:"))])
@pytest.mark.parametrize("by_command", [True, False])
def test_what_a_send_gives_under_an_untracked_key_is_seen_and_not_stored(
    run: Run, saver: Any, by_command: bool
) -> None:
    asked: list[Any] = []

    def use(state: Held) -> Held:
        asked.append("handle" in state)
        return {"xs": [interrupt("?"), state["xs"]]}

    def sends(_: Held) -> Send:
        return Send("use", {"xs": [{"handle": 1}], "handle": threading.Lock()})

    graph = StateGraph(Held).add_node("use", use)
    if by_command:
        graph.add_node("open", lambda state: Command(goto=sends(state)))
    else:
        graph.add_node("open", lambda _: None).add_conditional_edges("open", sends)
    app = graph.add_edge(START, "open").compile(saver())
    run(app, {"xs": []}, thread())
    assert run(app, Command(resume="x"), thread()) == {"xs": ["x", [{"handle": 1}]]}
    assert asked == [True, False]
