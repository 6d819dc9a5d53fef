"""The rules of steps: what runs when, what it sees, and how what it wrote becomes the state."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import pytest

from fanfold.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from fanfold.kernel.channels import UntrackedValue
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.schema import input_schema
from fanfold.types import END, START, Send
from tests.kernel.playing import act, begun, final, names, steps


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    number: int


class Other(TypedDict):
    other: Annotated[list[str], operator.add]


def say(word: str) -> Any:
    return lambda _: {"log": [word]}


def lettered(edges: str, *, letters: str = "") -> Builder:
    """A graph from edges such as "^a ab b$", with ^ for START and $ for END; each node logs its letter."""
    graph = Builder(State)
    for letter in dict.fromkeys(letters + "".join(edges.split())):
        if letter not in "^$":
            graph.add_node(letter, say(letter))
    for start, end in edges.split():
        graph.add_edge({"^": START}.get(start, start), {"$": END}.get(end, end))
    return graph


def walked(graph: Builder, *, limit: int = 25) -> list[str]:
    """The nodes of every step, as a word a step."""
    return ["".join(step) for step in names(graph.plan(), {"log": []}, limit=limit)]


def to(*answer: Any) -> Callable[[State], Any]:
    """A path that always answers this."""
    return lambda _: list(answer)


# When a node runs


def test_nodes_behind_one_node_run_in_the_same_step() -> None:
    assert walked(lettered("^a ab ac bd cd")) == ["a", "bc", "d"]


def test_many_triggers_of_one_node_in_one_step_are_one_run() -> None:
    graph = lettered("^a ^b ac bc").add_conditional_edges("a", to("c", "c"))
    assert walked(graph) == ["ab", "c"]


def test_edges_of_unequal_depth_run_the_target_once_for_each_step_that_hits_it() -> None:
    assert walked(lettered("^a ab bc ac cd")) == ["a", "bc", "cd", "d"]


def test_tasks_start_in_the_order_of_their_nodes_names() -> None:
    assert walked(lettered("^a ad ac ab", letters="cbda")) == ["a", "bcd"]


def test_tasks_are_listed_in_the_order_in_which_their_nodes_were_defined_after_those_of_sends() -> None:
    graph = lettered("^d ^c", letters="dcb").add_conditional_edges(START, to(Send("b", {})))
    ledger = begun(graph.plan(), {"log": []})
    ledger.finish(ledger.ready()[0], Result(goto=(Send("b", {}),)))
    assert [task.node for task in ledger.tasks] == [task.node for task in ledger.pending()] == ["b", "d", "c"]


def test_an_edge_to_end_ends_its_branch_and_not_the_graph() -> None:
    assert walked(lettered("^a ^b a$ bc")) == ["ab", "c"]


def test_a_graph_whose_only_edge_goes_from_start_to_end_runs_nothing() -> None:
    assert walked(lettered("^$ ab")) == []


def test_a_loop_runs_until_its_condition_ends_it() -> None:
    def enough(state: State) -> Literal["a", "__end__"]:
        return END if len(state["log"]) >= 5 else "a"

    assert walked(lettered("^a ab").add_conditional_edges("b", enough)) == ["a", "b", "a", "b", "a", "b"]


def test_a_join_waits_for_all_its_members_across_steps() -> None:
    assert walked(lettered("^a ^b bc", letters="d").add_edge(["a", "c"], "d")) == ["ab", "c", "d"]


def test_a_join_empties_when_it_fires() -> None:
    def again(state: State) -> Any:
        return "a" if state["log"].count("a") < 3 else END

    graph = lettered("^a ^b", letters="j").add_edge(["a", "b"], "j").add_conditional_edges("a", again)
    assert walked(graph) == ["ab", "aj", "a"]


def test_a_join_fires_again_when_all_its_members_have_run_again() -> None:
    def again(state: State) -> Any:
        return ["a", "b"] if state["log"].count("j") < 2 else END

    graph = lettered("^a ^b", letters="j").add_edge(["a", "b"], "j").add_conditional_edges("j", again)
    assert walked(graph) == ["ab", "j", "ab", "j"]


def test_a_member_that_runs_twice_counts_once() -> None:
    def again(state: State) -> Any:
        return "a" if state["log"].count("a") < 2 else END

    graph = lettered("^a", letters="bj").add_edge(["a", "b"], "j").add_conditional_edges("a", again)
    assert walked(graph) == ["a", "a"]


def test_a_join_of_one_is_an_edge() -> None:
    assert walked(lettered("^a", letters="b").add_edge(["a"], "b")) == ["a", "b"]


def test_a_graph_of_n_steps_needs_a_limit_of_n_plus_one() -> None:
    graph = lettered("^a ab bc")
    assert walked(graph, limit=4) == ["a", "b", "c"]


def test_with_a_limit_of_n_all_nodes_run_and_then_it_is_an_error() -> None:
    ledger = begun(lettered("^a ab bc").plan("looper"), {"log": []}, limit=3)
    with pytest.raises(GraphRecursionError, match="graph 'looper' took 3 steps and did not end"):
        list(steps(ledger))
    assert ledger.values() == {"log": ["a", "b", "c"]}


# Conditional edges


@pytest.mark.parametrize(
    ("path_map", "answer"),
    [
        ({"yes": "b", 7: "c"}, "yes"),
        ({"yes": "b", 7: "c"}, ["yes"]),
        (["b", "c"], "b"),
        (None, "b"),
        (None, ("b",)),
        ({True: "b", False: END}, True),
        ({None: "b"}, None),
    ],
)
def test_an_answer_is_looked_up_in_the_path_map(path_map: Any, answer: Any) -> None:
    graph = lettered("^a", letters="bc").add_conditional_edges("a", lambda _: answer, path_map)
    assert walked(graph) == ["a", "b"]


def test_a_path_may_answer_several_names_and_end_among_them_ends_nothing() -> None:
    assert walked(lettered("^a", letters="bc").add_conditional_edges("a", to("c", END, "b"))) == ["a", "bc"]


def test_a_path_sees_the_state_with_the_writes_of_its_own_node_alone() -> None:
    seen = []
    graph = lettered("^a ^b", letters="c").add_conditional_edges("a", lambda state: seen.append(state) or END)
    walked(graph)
    assert seen == [{"log": ["a"]}]


def test_a_reducer_that_works_in_place_does_not_count_a_write_twice_for_a_path() -> None:
    def extend(value: list[str], update: list[str]) -> list[str]:
        value.extend(update)
        return value

    graph = Builder(Annotated[list, extend]).add_node("a", lambda _: ["a"])
    graph.add_edge(START, "a").add_conditional_edges("a", lambda _: END)
    assert final(graph.plan(), ["in"]) == ["in", "a"]


def test_several_conditions_of_one_node_all_count() -> None:
    def one(state: State) -> Any:
        return "b"

    def two(state: State) -> Any:
        return Send("c", {})

    graph = lettered("^a ad", letters="bcd").add_conditional_edges("a", one).add_conditional_edges("a", two)
    assert walked(graph) == ["a", "cbd"]


@pytest.mark.parametrize(
    ("answer", "path_map", "message"),
    [
        ("z", ["b", "c"], r"answered 'z', which its path map lacks \('b', 'c'\)"),
        (["b", []], ["b"], r"answered \[\], which its path map lacks"),
        (None, None, "answered None; it must name a node, END, or be a Send"),
        (START, None, "leads to '__start__', which is no node that can run"),
        ("bb", None, "leads to 'bb', which is no node that can run; did you mean 'b'"),
        (Send(END, {}), None, "leads to '__end__', which is no node that can run"),
        (Send("zzz", {}), ["b"], "leads to 'zzz', which is no node"),
    ],
)
def test_an_answer_that_leads_nowhere_names_the_condition_and_the_answer(
    answer: Any, path_map: Any, message: str
) -> None:
    def choose(state: State) -> Any:
        return answer

    graph = lettered("^a", letters="bc").add_conditional_edges("a", choose, path_map)
    with pytest.raises(InvalidUpdateError, match=f"conditional edge 'choose' {message}"):
        walked(graph)


# Sends


def test_a_send_runs_its_node_with_its_argument_as_often_as_it_is_sent_beside_its_triggers() -> None:
    seen = []
    graph = lettered("^a ab").add_conditional_edges("a", to(Send("s", 1), Send("b", "x"), Send("s", 1)))
    graph.add_node("s", lambda arg: seen.append(arg))
    assert walked(graph) == ["a", "sbsb"]
    assert seen == [1, 1]


def test_sends_run_with_the_path_map_untouched() -> None:
    graph = lettered("^a", letters="bc").add_conditional_edges("a", to(Send("c", {}), "b"), ["b"])
    assert walked(graph) == ["a", "cb"]


def test_start_can_send() -> None:
    assert walked(lettered("", letters="b").add_conditional_edges(START, to(Send("b", {})))) == ["b"]


def test_the_argument_of_a_send_is_a_copy() -> None:
    given: list[int] = []

    def grow(state: Any) -> None:
        state.append(1)

    graph = lettered("^a").add_conditional_edges("a", to(Send("g", given), Send("g", given))).add_node("g", grow)
    walked(graph)
    assert given == []


# Writes


def test_writes_are_folded_nodes_by_name_and_then_sends_by_index() -> None:
    graph = lettered("^a ac ab az", letters="zbc").add_node("s", lambda arg: {"log": [str(arg)]})
    graph.add_conditional_edges("a", to(*(Send("s", index) for index in range(11))))
    written = final(graph.plan(), {"log": []})["log"]
    assert written == ["a", "b", "c", "z", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]


def test_none_writes_nothing() -> None:
    graph = Builder(State).add_node("a", lambda _: None).add_edge(START, "a")
    assert final(graph.plan(), {"number": 1}) == {"log": [], "number": 1}


def test_a_plain_key_that_two_nodes_write_in_one_step_names_nodes_and_key() -> None:
    graph = Builder(State)
    for name in ("two", "one"):
        graph.add_node(name, lambda _: {"number": 1}).add_edge(START, name)
    ledger = begun(graph.plan(), {"number": 0})
    with pytest.raises(InvalidUpdateError, match="nodes 'one' and 'two' wrote key 'number', which can take one value"):
        list(steps(ledger))
    assert ledger.values() == {"log": [], "number": 0}


def test_a_write_to_a_key_that_the_plan_does_not_have_is_passed_over() -> None:
    seen = []
    graph = lettered("^a").add_conditional_edges("a", lambda state: seen.append(state) or END)
    ledger = begun(graph.plan(), {"log": []})
    ledger.finish(ledger.ready()[0], Result())
    (task,) = ledger.ready()
    writes = (("gone", 1), ("log", ["a"]))
    (route,) = ledger.plan.nodes["a"].routes
    assert ledger.preview(task, writes, route) == {"log": ["a"]}
    ledger.finish(task, Result(writes))
    assert ledger.values() == {"log": ["a"]}


def test_a_plain_key_can_be_written_in_every_step() -> None:
    graph = Builder(State).add_sequence([("a", lambda _: {"number": 1}), ("b", lambda s: {"number": s["number"] + 1})])
    assert final(graph.add_edge(START, "a").plan(), {"number": 0})["number"] == 2


def test_an_error_in_a_reducer_names_the_writer_and_the_key() -> None:
    graph = Builder(State).add_node("a", lambda _: {"log": 7}).add_edge(START, "a")
    with pytest.raises(TypeError) as caught:
        final(graph.plan(), {"log": ["x"]})
    assert caught.value.__notes__ == ["while folding what node 'a' wrote into key 'log'"]


def test_a_node_that_changes_its_input_changes_nobody_elses() -> None:
    seen = []

    def spoil(state: State) -> None:
        state["log"].append("spoiled")
        seen.append(state["log"])

    graph = Builder(State).add_node("a", spoil).add_node("b", spoil).add_edge(START, "a").add_edge(START, "b")
    assert final(graph.plan(), {"log": ["x"]}) == {"log": ["x"]}
    assert seen == [["x", "spoiled"], ["x", "spoiled"]]


# Input


@pytest.mark.parametrize("value", [None, {"nonsense": 1}])
def test_input_that_sets_no_key_is_refused_with_the_keys_that_there_are(value: Any) -> None:
    with pytest.raises(EmptyInputError, match="sets no key of graph 'mine'\n  its keys are: log, number"):
        begun(lettered("^a").plan("mine"), value)


def test_an_empty_input_is_an_input() -> None:
    assert final(lettered("^a").plan(), {}) == {"log": ["a"]}


def test_input_is_step_minus_one_and_start_step_zero_and_nodes_begin_at_one() -> None:
    ledger = Ledger(lettered("^a").plan(), seed="t", step_limit=9)
    assert ledger.step == -1
    ledger.begin({"log": []})
    assert ledger.snapshot().step == -1
    assert [[(task.node, task.step) for task in tasks] for tasks in steps(ledger)] == [[(START, 0)], [("a", 1)]]
    assert ledger.over


def test_new_input_goes_on_with_the_state_and_with_the_steps() -> None:
    plan = lettered("^a").plan()
    done = begun(plan, {"log": ["1"]}, limit=2)
    list(steps(done))
    again = Ledger(plan, seed="thread", step_limit=2)
    again.restore(done.snapshot())
    again.begin({"log": ["2"]})
    assert [task.step for tasks in steps(again) for task in tasks] == [3, 4]
    assert again.values() == {"log": ["1", "a", "2", "a"]}


def test_new_input_drops_the_tasks_that_were_pending() -> None:
    plan = lettered("^a ab bc").plan()
    paused = begun(plan, {"log": []})
    next(steps(paused))
    paused.begin({"log": ["new"]})
    assert [task.node for tasks in steps(paused) for task in tasks] == [START, "a", "b", "c"]


# Tasks


def test_each_task_is_handed_out_once_and_pending_until_it_has_finished() -> None:
    ledger = begun(lettered("^a ^b").plan(), {"log": []})
    ledger.finish(ledger.ready()[0], Result())
    a, b = ledger.ready()
    assert ledger.ready() == []
    assert ledger.pending() == [a, b]
    assert not ledger.finish(b, act(ledger, b))
    assert ledger.pending() == [a]
    assert ledger.finish(a, act(ledger, a))
    assert ledger.over


def test_task_ids_are_the_same_in_every_run_of_a_thread_and_differ_within_it() -> None:
    def ids(seed: str) -> list[str]:
        graph = lettered("^a").add_conditional_edges("a", to("a", Send("a", {}), Send("a", {})))
        ledger = Ledger(graph.plan(), seed=seed, step_limit=2)
        ledger.begin({"log": []})
        tasks = [task for _, found in zip(range(3), steps(ledger), strict=False) for task in found]
        return [task.id for task in tasks]

    assert ids("one") == ids("one")
    assert len({*ids("one"), *ids("two")}) == 2 * len(ids("one")) == 2 * 5


def test_a_task_knows_the_tasks_that_led_to_it() -> None:
    graph = lettered("^a ^b ac bc", letters="dj").add_edge(["a", "b"], "j").add_conditional_edges("b", to(Send("d", 1)))
    start, first, second = list(steps(begun(graph.plan(), {"log": []})))[:3]
    a, b = (task.id for task in first)
    assert {task.node: set(task.after) for task in first} == {"a": {start[0].id}, "b": {start[0].id}}
    assert {task.node: set(task.after) for task in second} == {"c": {a, b}, "j": {a, b}, "d": {b}}


# Snapshots


def test_a_snapshot_holds_no_key_that_has_no_value() -> None:
    ledger = begun(lettered("^a").plan(), {"log": ["x"]})
    next(steps(ledger))
    assert ledger.snapshot().values == {"log": ["x"]}


def test_a_snapshot_holds_no_key_that_is_not_tracked() -> None:
    class Handles(State):
        handle: Annotated[Any, UntrackedValue]

    graph = Builder(Handles).add_node("a", lambda state: {"log": [f"{state['handle']}"]}).add_edge(START, "a")
    ledger = begun(graph.plan(), {"log": [], "handle": "h"})
    next(steps(ledger))
    assert ledger.snapshot().values == {"log": []}
    next(steps(ledger))
    assert ledger.values() == {"log": ["h"], "handle": "h"}


def test_a_snapshot_holds_nothing_that_a_send_gives_under_such_a_key() -> None:
    class Handles(State):
        handle: Annotated[Any, UntrackedValue]

    graph = Builder(Handles).add_node("a", lambda _: {}).add_node("b", lambda _: {}).add_edge(START, "a")
    ledger = begun(graph.plan(), {"log": []})
    for arg in ({"handle": 1, "log": [{"handle": 1}]}, {"log": []}, "handle"):
        ledger.add([Send("b", arg)])
    seen = [ledger.view(task) for task in ledger.tasks if task.send is not None]
    kept = [task.arg for task in ledger.snapshot().tasks if task.send is not None]
    assert seen == [{"handle": 1, "log": [{"handle": 1}]}, {"log": []}, "handle"]
    assert kept == [{"log": [{"handle": 1}]}, {"log": []}, "handle"]


def test_keys_and_tasks_that_the_plan_no_longer_has_are_left_out() -> None:
    plan = lettered("^a ab").plan()
    tasks = (Task("1", "gone", 1), Task("2", "b", 1))
    ledger = Ledger(plan, seed="thread", step_limit=9)
    ledger.restore(Snapshot(0, {"log": ["x"], "gone": 1}, tasks, ()))
    assert [task.node for tasks in steps(ledger) for task in tasks] == ["b"]
    assert ledger.values() == {"log": ["x", "b"]}


def test_values_can_be_asked_for_in_another_schema() -> None:
    def node(state: Other) -> dict[str, Any]:
        return {"other": ["o"]}

    graph = Builder(State).add_node(node).add_edge(START, "node")
    ledger = begun(graph.plan(), {"log": []})
    list(steps(ledger))
    assert ledger.values(input_schema(node)) == {"other": ["o"]}


def test_a_node_whose_name_is_no_unicode_text_has_ids_of_its_own() -> None:
    graph = Builder(State)
    for name in ("\ud800", "\ud801"):  # halves of characters, as they come out of broken JSON
        graph.add_node(name, say("odd")).add_edge(START, name)
    _, tasks = steps(begun(graph.plan(), {"log": []}))
    assert [task.node for task in tasks] == ["\ud800", "\ud801"]
    assert len({task.id for task in tasks}) == 2
