"""What a driver can do to a run besides letting it go on: pause it, look ahead, change it from outside, end it."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Annotated, Any, TypedDict

import pytest

from fanfold.errors import InvalidUpdateError
from fanfold.kernel.channels import EphemeralValue, LastValue
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.plan import Action, Node, Plan
from fanfold.kernel.schema import single_schema
from fanfold.types import END, START, Send
from tests.kernel.playing import act, begun, steps
from tests.kernel.test_steps import State, lettered, to, walked


def word(ledger: Ledger) -> str:
    """The nodes of the tasks that are ready, as a word."""
    return "".join(task.node for task in ledger.ready())


def rest(ledger: Ledger) -> list[str]:
    """The nodes of every step from here on, as a word a step."""
    return ["".join(task.node for task in tasks) for tasks in steps(ledger)]


def late(*names: str, edges: str, letters: str = "") -> Builder:
    """A lettered graph of which these nodes are deferred."""
    graph = Builder(State)
    for letter in dict.fromkeys(letters + "".join(edges.split())):
        if letter not in "^$":
            graph.add_node(letter, lambda _, letter=letter: {"log": [letter]}, defer=letter in names)
    for start, end in edges.split():
        graph.add_edge({"^": START}.get(start, start), {"$": END}.get(end, end))
    return graph


def pausing(graph: Builder, *, before: Collection[str] = (), after: Collection[str] = ()) -> Ledger:
    ledger = Ledger(graph.plan(), seed="thread", step_limit=25, pause_before=before, pause_after=after)
    ledger.begin({"log": []})
    return ledger


# Deferred nodes


def test_a_deferred_node_runs_when_the_graph_would_otherwise_end() -> None:
    assert walked(late("z", edges="^a ^b az bc cd")) == ["ab", "c", "d", "z"]


def test_a_deferred_node_that_was_triggered_often_runs_once_and_knows_by_whom() -> None:
    ledger = begun(late("z", edges="^a az ab bz").plan(), {"log": []})
    _, (a,), (b,), (z,) = steps(ledger)
    assert z.after == (a.id, b.id)


def test_deferred_nodes_run_together_and_what_comes_after_them_is_a_matter_of_course() -> None:
    assert walked(late("y", "z", edges="^y ^a az zb")) == ["a", "yz", "b"]


def test_a_deferred_target_of_a_join_runs_once_though_the_join_stays_complete_meanwhile() -> None:
    assert walked(late("z", edges="^a ^b bc cd", letters="z").add_edge(["a", "b"], "z")) == ["ab", "c", "d", "z"]


def test_a_send_does_not_wait_for_the_end() -> None:
    assert walked(late("z", edges="^a ab", letters="z").add_conditional_edges("a", to(Send("z", {})))) == ["a", "zb"]


def test_new_input_forgets_what_was_deferred() -> None:
    ledger = begun(late("z", edges="^a az ab").plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    assert ledger.snapshot().deferred.keys() == {"z"}
    ledger.begin({"log": []})
    assert ledger.snapshot().deferred == {}
    assert rest(ledger) == [START, "a", "b", "z"]


# Joins that have not fired


def test_joins_that_wait_name_their_target_and_who_is_missing() -> None:
    graph = lettered("^a ^b", letters="cj").add_edge(["a", "c"], "j").add_edge(["c"], "j").add_edge(["a", "b"], "j")
    ledger = begun(graph.plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    assert ledger.waiting_joins() == [("j", ["c"])]


def test_a_join_that_was_complete_when_new_input_came_waits_for_its_members_again() -> None:
    graph = lettered("^a ^b", letters="j").add_edge(["a", "b"], "j")
    ledger = begun(graph.plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    assert word(ledger) == "j"
    ledger.begin({"log": []})
    assert rest(ledger) == [START, "ab", "j"]


# Pauses


def test_a_pause_before_a_node_stands_still_until_it_proceeds() -> None:
    ledger = pausing(lettered("^a ab bc"), before=["b"])
    assert rest(ledger) == [START, "a"]
    assert ledger.paused
    assert not ledger.over
    assert rest(ledger) == []
    ledger.proceed()
    assert rest(ledger) == ["b", "c"]
    assert not ledger.paused


def test_a_pause_after_a_node_comes_also_after_the_last() -> None:
    ledger = pausing(lettered("^a ab"), after=["a", "b"])
    for expected in ([START, "a"], ["b"]):
        assert rest(ledger) == expected
        assert ledger.paused
        ledger.proceed()
    assert ledger.over


@pytest.mark.parametrize("stops", [{"before": "*"}, {"after": ["*"]}])
def test_a_star_pauses_at_every_node_and_not_at_start(stops: dict[str, Any]) -> None:
    ledger = pausing(lettered("^a ab"), **stops)
    sittings = []
    while not ledger.over:
        sittings.append(rest(ledger))
        ledger.proceed()
    assert [len(each) for each in sittings] == ([1, 1, 1] if "before" in stops else [2, 1])


def test_a_run_that_is_restored_where_it_paused_goes_on() -> None:
    ledger = pausing(lettered("^a ab"), before=["b"])
    rest(ledger)
    again = Ledger(ledger.plan, seed="thread", step_limit=25, pause_before=["b"])
    again.restore(ledger.snapshot())
    assert rest(again) == ["b"]


# Looking ahead


def half_done() -> tuple[Ledger, Task, Task]:
    """A run in a step of which `a` has ended and `b` has not."""
    ledger = begun(lettered("^a ^b").plan(), {"log": ["x"]})
    next(steps(ledger))
    a, b = ledger.ready()
    ledger.finish(a, act(ledger, a))
    return ledger, a, b


def test_what_has_been_returned_so_far_can_be_seen_and_is_not_folded() -> None:
    ledger, a, b = half_done()
    assert ledger.chosen("log") == ledger.chosen(["log"])["log"] == ["x"]
    assert ledger.provisional("log") == ["x", "a"]
    assert ledger.provisional(["log", "number"]) == {"log": ["x", "a"]}
    assert ledger.chosen("number") is None
    assert (ledger.result(a), ledger.result(b)) == (Result((("log", ["a"]),)), None)
    ledger.finish(b, act(ledger, b))
    assert ledger.values() == {"log": ["x", "a", "b"]}


def test_what_is_foreseen_of_a_task_is_seen_beside_what_has_been_returned_and_counts_for_nothing() -> None:
    ledger, _, b = half_done()
    ledger.foresee(b, (("log", ["perhaps"]),))
    assert (ledger.provisional("log"), ledger.pending()) == (["x", "a", "perhaps"], [b])
    ledger.finish(b, act(ledger, b))
    assert ledger.provisional("log") == ["x", "a", "b"]


def test_what_a_state_that_is_one_value_would_be_is_that_value() -> None:
    graph = Builder(Annotated[list, operator.add]).add_node("a", lambda _: ["a"]).add_edge(START, "a")
    ledger = begun(graph.plan(), ["x"])
    next(steps(ledger))
    (task,) = ledger.ready()
    ledger.note(task, Result((("__root__", ["a"]),)))
    assert ledger.provisional(ledger.plan.answers) == ["x", "a"]
    assert ledger.values() == ["x"]


def test_what_is_seen_is_a_copy() -> None:
    ledger, _, _ = half_done()
    for seen in (ledger.chosen("log"), ledger.provisional("log"), ledger.provisional(["log"])["log"]):
        seen.append("spoiled")
    assert ledger.provisional(["log"]) == {"log": ["x", "a"]}


# Changes from outside


def test_a_command_from_outside_writes_and_adds_tasks_beside_those_that_wait() -> None:
    graph = lettered("^a ab", letters="cd").add_conditional_edges("a", to(Send("c", 0)))
    ledger = begun(graph.plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    ledger.change(Result((("log", ["told"]),), ("d", "b", Send("c", 1), Send("c", 2))))
    tasks = ledger.ready()
    assert [(task.node, task.send) for task in tasks] == [("c", 0), ("c", 1), ("c", 2), ("b", None), ("d", None)]
    assert len({task.id for task in tasks}) == 5
    assert ledger.values() == {"log": ["a", "told"]}


def test_a_command_that_leads_nowhere_leaves_the_tasks_as_they_are() -> None:
    ledger = begun(lettered("^a").plan(), {"log": []})
    ledger.change(Result())
    assert word(ledger) == START


def test_a_command_that_excludes_itself_is_named() -> None:
    ledger = begun(lettered("^a").plan(), {"log": []})
    with pytest.raises(InvalidUpdateError, match="'the Command' wrote key 'number', which can take one value"):
        ledger.change(Result((("number", 1), ("number", 2))))


def test_an_update_as_a_node_takes_a_step_in_which_only_that_has_run() -> None:
    ledger = begun(lettered("^a ab bc xz", letters="xz").plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    before, ran = ledger.step, ledger.ran
    ledger.amend([(ledger.named("x"), Result((("log", ["by hand"]),)))])
    assert (ledger.step, ledger.ran) == (before + 1, ran)
    assert rest(ledger) == ["z"]
    assert ledger.values() == {"log": ["a", "by hand", "z"]}


def test_updates_of_one_step_are_folded_in_the_order_in_which_they_are_given() -> None:
    ledger = begun(lettered("^a").plan(), {"log": []})
    ledger.amend([(ledger.named("a"), Result((("log", [mark]),))) for mark in "31"])
    assert ledger.values() == {"log": ["3", "1"]}


def test_a_step_that_is_skipped_leaves_the_same_tasks_under_other_ids() -> None:
    ledger = begun(lettered("^a ab").add_conditional_edges("a", to(Send("b", 1))).plan(), {"log": []})
    for _, _ in zip(range(2), steps(ledger), strict=False):
        pass
    before = ledger.tasks
    ledger.skip()
    after = ledger.tasks
    assert [(t.node, t.send, t.arg, t.step) for t in after] == [(t.node, t.send, t.arg, t.step + 1) for t in before]
    assert not {task.id for task in before} & {task.id for task in after}
    assert rest(ledger) == ["bb"]


def test_a_run_that_is_cleared_is_over_with_what_had_ended_in_it() -> None:
    ledger, _, _ = half_done()
    step = ledger.step
    ledger.clear()
    assert ledger.over
    assert (ledger.step, ledger.values()) == (step + 1, {"log": ["x", "a"]})


def test_a_result_that_is_noted_takes_no_step() -> None:
    ledger = begun(lettered("^a").plan(), {"log": []})
    next(steps(ledger))
    (task,) = ledger.ready()
    ledger.note(task, Result((("log", ["noted"]),)))
    assert (ledger.pending(), ledger.tasks, ledger.values()) == ([], (task,), {"log": []})


# Results of another kind


def test_what_an_error_handler_decided_counts_and_the_edges_of_its_node_do_not() -> None:
    graph = lettered("^a ab", letters="cj").add_edge(["a", "c"], "j")
    ledger = begun(graph.plan(), {"log": []})
    next(steps(ledger))
    (task,) = ledger.ready()
    ledger.finish(task, Result((("log", ["handled"]),), ("c",), handled="handler"))
    assert rest(ledger) == ["c"]
    assert ledger.values() == {"log": ["handled", "c"]}


class Rounds:
    def settle(self, update: float) -> int:
        return round(update)

    def __call__(self, value: float, update: float) -> float:
        return value + update


class Rounded(TypedDict):
    total: Annotated[float, Rounds()]


def test_what_a_reducer_would_decide_is_decided_before_it_is_stored_also_of_an_input() -> None:
    ledger = begun(Builder(Rounded).add_node("a", lambda _: None).add_edge(START, "a").plan(), {"total": 1.6})
    (start,) = ledger.tasks
    assert start.arg == {"total": 2}
    assert ledger.settled(Result((("total", 2.7),), ("a",))) == Result((("total", 3),), ("a",))


# Tasks


def test_a_task_says_what_let_it_start_in_the_words_of_langgraph() -> None:
    ledger = begun(lettered("^a").add_conditional_edges(START, to(Send("a", 1))).plan(), {"log": []})
    ((start,), (sent, named)) = steps(ledger)
    assert (start.triggers, sent.triggers, named.triggers) == ((START,), ("__pregel_push",), ("branch:to:a",))


def test_a_path_from_start_sees_all_of_an_input_and_the_state_takes_what_it_knows() -> None:
    seen: list[Any] = []
    graph = lettered("^a").add_conditional_edges(START, lambda state: seen.append(state) or END)
    ledger = begun(graph.plan(), {"log": ["x"], "more": 1})
    (start,) = ledger.tasks
    assert start.arg == {"log": ["x"], "more": 1}
    rest(ledger)
    assert ledger.values() == {"log": ["x", "a"]}


# Plans that are made by other hands


def entrypoint(*, before: Collection[str] = ()) -> Ledger:
    """The plan of a function with a name: one node, and no START."""
    given, answer = single_schema(START, EphemeralValue()), single_schema("answer", LastValue())
    node = Node("double", Action(lambda value: value * 2, False, given, {}), (), (), (), 0)
    channels = {**given.channels, **answer.channels}
    plan = Plan("double", answer, given, answer, channels, {"double": node}, ())
    return Ledger(plan, seed="thread", step_limit=9, pause_before=before)


def test_a_plan_without_start_begins_with_its_only_node_which_is_given_the_input() -> None:
    ledger = entrypoint()
    ledger.begin(21)
    (task,) = ledger.ready()
    assert (task.node, ledger.view(task), task.arg) == ("double", 21, 21)
    ledger.finish(task, Result((("answer", 42),)))
    assert ledger.over
    assert ledger.values() == ledger.chosen(ledger.plan.answers) == 42
    assert ledger.plan.keys == "answer"


def test_a_plan_without_start_can_pause_before_it_begins() -> None:
    ledger = entrypoint(before=["double"])
    ledger.begin(21)
    assert ledger.paused
    assert ledger.ready() == []


def test_the_keys_of_a_plan_are_all_of_the_state_s_and_answers_those_of_its_output() -> None:
    class Out(TypedDict):
        number: int

    plan = Builder(State, output_schema=Out).add_node("a", lambda _: None).add_edge(START, "a").plan()
    assert (plan.keys, plan.answers) == (("log", "number"), ("number",))


def test_joins_of_another_graph_are_not_taken_over() -> None:
    ledger = Ledger(lettered("^a").plan(), seed="thread", step_limit=9)
    ledger.restore(Snapshot(0, {}, (Task("1", "a", 1),), ({"a": "1"},)))
    assert ledger.waiting_joins() == []
    assert ledger.snapshot().joins == ()


def test_the_input_of_a_state_that_is_one_value_is_what_start_holds() -> None:
    graph = Builder(Annotated[list, operator.add]).add_node("a", lambda _: ["a"]).add_edge(START, "a")
    assert begun(graph.plan(), ["x"]).tasks[0].arg == ["x"]
