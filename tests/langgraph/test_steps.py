"""What runs in which step, where it leads, and what comes out."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, Literal, TypedDict

import pytest

from fanfold import (
    END,
    START,
    Command,
    GraphRecursionError,
    InvalidUpdateError,
    RemainingSteps,
    Send,
    StateGraph,
    task,
)
from fanfold.family import UnknownKeyWarning, WaitingJoinWarning
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State, alone, lettered, say


class Part(TypedDict):
    number: int


def logged(run: Run, graph: StateGraph, **options: Any) -> list[Any]:
    log: list[Any] = run(graph.compile(), {"log": []}, **options)["log"]
    return log


# Edges and joins


def test_a_join_into_end_waits_for_nothing(run: Run) -> None:
    assert logged(run, lettered("ab", [(START, "a"), (START, "b"), (["a", "b"], END)])) == ["a", "b"]


def test_a_join_and_an_edge_into_one_node_run_it_for_each_step_that_hits_it(run: Run) -> None:
    edges = [(START, "a"), (START, "b"), ("b", "c"), (["a", "c"], "d"), ("a", "d")]
    assert logged(run, lettered("abcd", edges)) == ["a", "b", "c", "d", "d"]


def test_a_conditional_entry_point_is_conditional_edges_from_start(run: Run) -> None:
    graph = lettered("ab").set_conditional_entry_point(lambda state: state["number"] > 3, {True: "a", False: "b"})
    assert run(graph.compile(), {"log": [], "number": 1})["log"] == ["b"]


@pytest.mark.parametrize(
    ("edges", "deferred", "order"),
    [
        ([(START, "a"), (START, "e"), ("a", "b"), ("b", "c")], "e", "abce"),
        ([(START, "a"), ("a", "d"), ("d", "e"), ("a", "b"), ("b", "c")], "de", "abcde"),
        ([(START, "a"), (START, "b"), (["a", "b"], "e"), ("a", "c"), ("c", "d")], "e", "abcde"),
        ([(START, "a"), (["a", "b"], "e"), ("a", "c")], "e", "ac"),
        ([(START, "a"), (START, "d"), ("a", "b"), (["b", "d"], "e")], "d", "abde"),
    ],
)
@pytest.mark.filterwarnings("ignore::fanfold.family.WaitingJoinWarning")
def test_a_deferred_node_runs_when_nothing_else_would(run: Run, edges: Any, deferred: str, order: str) -> None:
    assert logged(run, lettered("abcde", edges, deferred=deferred)) == list(order)


# Conditional edges


@pytest.mark.parametrize("answer", ["b", ["b", END], ("b",), Send("b", {})])
def test_a_path_answers_a_name_a_send_or_several(run: Run, answer: Any) -> None:
    graph = lettered("ab", [(START, "a")]).add_conditional_edges("a", lambda state: answer)
    assert logged(run, graph) == ["a", "b"]


@pytest.mark.parametrize("answer", [END, [], [END]])
def test_a_path_that_answers_end_or_nothing_ends_the_branch(run: Run, answer: Any) -> None:
    graph = lettered("ab", [(START, "a")]).add_conditional_edges("a", lambda state: answer)
    assert logged(run, graph) == ["a"]


def test_a_path_may_be_async_and_sees_what_its_node_wrote(run: Run) -> None:
    async def path(state: State) -> str:
        return "b" if state["log"] == ["a"] else "c"

    graph = lettered("abc", [(START, "a")]).add_conditional_edges("a", path)
    assert logged(run, graph) == ["a", "b"]


def test_an_answer_that_the_path_map_lacks_is_a_key_error_and_an_invalid_update(run: Run) -> None:
    def path(state: State) -> Literal["b"]:
        return "c"  # type: ignore[return-value]

    graph = lettered("abc", [(START, "a")]).add_conditional_edges("a", path)
    for error in (KeyError, InvalidUpdateError):
        with pytest.raises(error, match="answered 'c', which its path map lacks"):
            logged(run, graph)


def test_an_empty_path_map_limits_nothing(run: Run) -> None:
    graph = lettered("ab", [(START, "a")]).add_conditional_edges("a", lambda state: "b", {})
    assert logged(run, graph) == ["a", "b"]


def test_a_path_that_declares_nothing_sees_what_its_node_sees(run: Run) -> None:
    def node(state: Part) -> dict[str, Any]:
        return {"number": 2}

    seen = []

    def path(state):  # type: ignore[no-untyped-def]
        seen.append(state)
        return END

    graph = StateGraph(State).add_node(node).add_edge(START, "node").add_conditional_edges("node", path).compile()
    run(graph, {"log": [], "number": 1})
    assert seen == [{"number": 2}]


@pytest.mark.filterwarnings("ignore::fanfold.family.UnknownKeyWarning")
def test_a_path_sees_what_the_state_lacks_of_a_nodes_answer_and_of_the_input(run: Run) -> None:
    graph = StateGraph(State).add_node("a", lambda state: {"log": ["a"], "next": "b"}).add_node("b", say("b"))
    graph.add_conditional_edges(START, lambda state: state["first"]).add_conditional_edges("a", lambda s: s["next"])
    assert run(graph.compile(), {"log": [], "first": "a"}) == {"log": ["a", "b"]}


# Sends and Commands


def test_a_node_may_return_a_send(run: Run) -> None:
    graph = StateGraph(State).add_node("a", lambda state: Send("b", 4)).add_node("b", lambda arg: {"log": [arg]})
    assert logged(run, graph.add_edge(START, "a")) == [4]


def test_sends_to_a_joins_member_count_once_for_the_join(run: Run) -> None:
    graph = StateGraph(State).add_node("w", lambda arg: {"log": [arg]}).add_node("v", say("v")).add_node("e", say("e"))
    graph.add_edge(START, "v").add_edge(["w", "v"], "e").add_conditional_edges(
        START, lambda s: [Send("w", 1), Send("w", 2)]
    )
    assert logged(run, graph) == ["v", 1, 2, "e"]


@pytest.mark.parametrize(
    ("goto", "log"),
    [
        ("b", ["b"]),
        (["b", "c"], ["b", "c"]),
        (("b", END), ["b"]),
        (END, []),
        ([], []),
        (Send("w", 1), [1]),
        ([Send("w", 1), "b"], ["b", 1]),
    ],
)
def test_a_command_leads_to_names_and_sends(run: Run, goto: Any, log: list[Any]) -> None:
    graph = lettered("bc").add_node("a", lambda state: Command(goto=goto)).add_node("w", lambda arg: {"log": [arg]})
    assert logged(run, graph.add_edge(START, "a")) == log


@pytest.mark.parametrize(
    "update",
    [
        {"log": ["u"], "number": 2},
        [("log", ["u"]), ("number", 2)],
        (("log", ["u"]), ("number", 2)),
    ],
)
def test_a_command_updates_by_a_dictionary_or_by_pairs(run: Run, update: Any) -> None:
    assert run(alone(lambda state: Command(update=update)), {"log": []}) == {"log": ["u"], "number": 2}


def test_a_list_of_commands_and_updates_is_all_of_them(run: Run) -> None:
    graph = lettered("b").add_node("a", lambda s: [Command(update={"log": ["1"]}), {"log": ["2"]}, Command(goto="b")])
    assert logged(run, graph.add_edge(START, "a")) == ["1", "2", "b"]


def test_a_command_adds_to_edges_and_one_target_runs_once(run: Run) -> None:
    graph = lettered("bc").add_node("a", lambda state: Command(goto="b")).add_edge(START, "a")
    assert logged(run, graph.add_edge("a", "b").add_edge("a", "c")) == ["b", "c"]


# Limits, values and outputs


def test_the_steps_that_remain_are_counted_down(run: Run) -> None:
    class Counted(TypedDict):
        log: Annotated[list[int], operator.add]
        left: RemainingSteps

    graph = StateGraph(Counted).add_node("a", lambda state: {"log": [state["left"]]}).add_edge(START, "a")
    graph.add_conditional_edges("a", lambda state: END if state["left"] <= 2 else "a")
    assert run(graph.compile(), {"log": []}, {"recursion_limit": 5}) == {"log": [4, 3, 2]}


def test_a_loop_that_does_not_end_is_a_recursion_error(run: Run) -> None:
    with pytest.raises(GraphRecursionError):
        logged(run, lettered("a", [(START, "a"), ("a", "a")]), config={"recursion_limit": 5})


def test_values_are_shown_after_the_steps_that_wrote_some() -> None:
    graph = lettered("b").add_node("a", lambda state: None).add_edge(START, "a").add_edge("a", "b").compile()
    assert list(graph.stream({"log": []}, stream_mode="values")) == [{"log": []}, {"log": ["b"]}]


@pytest.mark.parametrize("answer", [5, "text", [1], False])
def test_an_answer_that_is_no_update_is_refused(run: Run, answer: Any) -> None:
    with pytest.raises(InvalidUpdateError):
        run(alone(lambda state: answer), {"log": []})


def test_an_unknown_key_is_ignored_with_a_warning(run: Run) -> None:
    with pytest.warns(UnknownKeyWarning, match="'lgo'"):
        assert run(alone(lambda state: {"lgo": 1}), {"log": []}) == {"log": []}


def test_output_keys_choose_from_the_output(run: Run) -> None:
    graph = lettered("a", [(START, "a")]).compile()
    assert run(graph, {"log": [], "number": 1}, output_keys=["number"]) == {"number": 1}
    assert run(graph, {"log": [], "number": 1}, output_keys="number") == 1


def test_a_batch_is_in_the_order_of_its_inputs_and_may_hold_what_was_raised() -> None:
    def node(state: State) -> dict[str, Any]:
        if state["number"] == 2:
            raise ValueError("two")
        return {"log": [state["number"]]}

    graph, inputs = alone(node), [{"number": 3}, {"number": 2}]
    for outputs in (
        graph.batch(inputs, return_exceptions=True),
        asyncio.run(graph.abatch(inputs, return_exceptions=True)),
    ):
        assert outputs[0] == {"log": [3], "number": 3}
        assert isinstance(outputs[1], ValueError)
    with pytest.raises(ValueError, match="two"):
        graph.batch(inputs)


# Paths: the code of conditional edges


def forked(path: Any, *, start: bool = False) -> StateGraph:
    """A graph in which `path` decides, after `a` or at the start, whether `b` runs."""
    graph = lettered("ab") if start else lettered("ab", [(START, "a")])
    return graph.add_conditional_edges(START if start else "a", path, ["b", END])


@pytest.mark.parametrize("start", [False, True])
def test_a_blocking_path_can_call_a_graph(run: Run, start: bool) -> None:
    inner = alone(lambda _: {"number": 2})
    path = lambda _: "b" if inner.invoke({"log": []})["number"] == 2 else END  # noqa: E731
    assert logged(run, forked(path, start=start)) == (["b"] if start else ["a", "b"])


def test_a_blocking_path_can_run_a_loop_of_its_own(run: Run) -> None:
    async def answer() -> str:
        return "b"

    assert logged(run, forked(lambda _: asyncio.run(answer()))) == ["a", "b"]


def test_a_blocking_path_can_wait_for_a_task(run: Run) -> None:
    @task
    def classify(word: str) -> str:
        return word

    assert logged(run, forked(lambda _: classify("b").result(timeout=20))) == ["a", "b"]


def test_a_blocking_path_may_answer_with_an_awaitable(run: Run) -> None:
    async def answer() -> str:
        return "b"

    assert logged(run, forked(lambda _: answer())) == ["a", "b"]


def test_blocking_paths_of_one_step_are_in_flight_together(run: Run) -> None:
    barrier = threading.Barrier(3)
    graph = lettered("abc", [(START, letter) for letter in "abc"])
    for letter in "abc":
        graph.add_conditional_edges(letter, lambda _: (barrier.wait(20), END)[1], [END])
    assert logged(run, graph) == ["a", "b", "c"]


def test_a_path_in_a_thread_is_let_finish_when_a_sibling_fails(run: Run) -> None:
    begun, failed, ended = threading.Event(), threading.Event(), []

    def path(_: State) -> str:
        begun.set()
        ended.append(failed.wait(20))
        return END

    async def node(_: State) -> None:
        return None

    async def failing(_: State) -> None:
        await asyncio.to_thread(begun.wait, 20)
        asyncio.get_running_loop().call_later(0.01, failed.set)
        raise LookupError

    graph = StateGraph(State).add_node("a", node).add_node("b", failing).add_edge(START, "a").add_edge(START, "b")
    with pytest.raises(LookupError):
        run(graph.add_conditional_edges("a", path, [END]).compile(), {"log": []})
    assert ended == [True]


def test_a_join_that_never_fired_is_warned_of(run: Run) -> None:
    graph = lettered("abc", [(START, "a"), (("a", "b"), "c")])
    with pytest.warns(WaitingJoinWarning, match="the join to 'c' never fired: 'b' did not run"):
        assert run(graph.compile(), {"log": []}) == {"log": ["a"]}
