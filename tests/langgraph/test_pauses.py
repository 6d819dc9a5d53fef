"""Questions to people, and stops that were asked for: where a run stands still, and how it goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from fanfold import (
    END,
    START,
    Command,
    InMemorySaver,
    InvalidUpdateError,
    Send,
    StateGraph,
    entrypoint,
    interrupt,
    task,
)
from fanfold.errors import EmptyInputError, NotStorableError, StateError, UsageError
from tests.langgraph.asking import State, add, ask, thread
from tests.langgraph.conftest import Run


def line(*named: tuple[str, Any], **options: Any) -> Any:
    graph = StateGraph(State).add_sequence(named).add_edge(START, named[0][0])
    return graph.compile(InMemorySaver(), **options)


def beside(**nodes: Any) -> Any:
    graph = StateGraph(State)
    for name, node in nodes.items():
        graph.add_node(name, node).add_edge(START, name)
    return graph.compile(InMemorySaver())


def questions(graph: Any) -> dict[Any, str]:
    return {each.value: each.id for each in graph.get_state(thread()).interrupts}


def test_an_empty_map_of_answers_answers_nothing(run: Run) -> None:
    graph = beside(asks=lambda _: {"xs": [interrupt("sure?")]})
    run(graph, {"xs": []}, thread())
    assert [each.value for each in run(graph, Command(resume={}), thread())["__interrupt__"]] == ["sure?"]
    assert run(graph, Command(resume="yes"), thread())["xs"] == ["yes"]


@pytest.mark.parametrize("answer", [0, "", False, [], {"ok": True}, (1, 2)])
def test_any_answer_but_none_is_handed_over_as_it_is(run: Run, answer: Any) -> None:
    graph = line(("f", ask("?")))
    run(graph, {"xs": []}, thread())
    assert run(graph, Command(resume=answer), thread())["xs"] == [answer]


def test_questions_of_a_node_are_answered_in_their_order(run: Run) -> None:
    graph = line(("f", lambda _: {"xs": [interrupt(1), interrupt(2)]}))
    assert run(graph, {"xs": []}, thread())["__interrupt__"][0].value == 1
    assert run(graph, Command(resume="a"), thread())["__interrupt__"][0].value == 2
    assert run(graph, Command(resume="b"), thread()) == {"xs": ["a", "b"]}


def test_answers_go_by_id_where_several_questions_are_open(run: Run) -> None:
    graph = beside(a=ask("a?"), b=ask("b?"))
    run(graph, {"xs": []}, thread())
    with pytest.raises(StateError, match="2 interrupts are open") as refused:
        run(graph, Command(resume="x"), thread())
    assert isinstance(refused.value, RuntimeError)
    ids = questions(graph)
    assert run(graph, Command(resume={ids["b?"]: 2, ids["a?"]: 1}), thread()) == {"xs": [1, 2]}


def test_a_part_of_the_answers_shows_what_they_came_to_and_keeps_the_step_open(run: Run) -> None:
    graph = beside(a=ask("a?"), b=ask("b?"))
    run(graph, {"xs": []}, thread())
    partly = run(graph, Command(resume={questions(graph)["a?"]: 1}), thread())
    assert (partly["xs"], [each.value for each in partly["__interrupt__"]]) == ([1], ["b?"])
    state = graph.get_state(thread())
    assert (state.values, state.next) == ({"xs": [1]}, ("b",))
    assert run(graph, Command(resume=2), thread()) == {"xs": [1, 2]}


def test_an_answer_to_the_later_of_two_open_questions_of_one_node_is_remembered(run: Run) -> None:
    async def both(_: State) -> State:
        answers: dict[str, Any] = {}

        async def one(question: str) -> None:
            answers[question] = interrupt(question)

        async with asyncio.TaskGroup() as group:
            group.create_task(one("first"))
            group.create_task(one("second"))
        return {"xs": [answers["first"], answers["second"]]}

    graph = line(("both", both))
    run(graph, {"xs": []}, thread())
    ids = questions(graph)
    left = run(graph, Command(resume={ids["second"]: 2}), thread())["__interrupt__"]
    assert [each.value for each in left] == ["first"]
    assert run(graph, Command(resume={ids["first"]: 1}), thread())["xs"] == [1, 2]


def test_a_question_on_the_way_out_of_a_node_shows_what_the_node_wrote(run: Run) -> None:
    graph = StateGraph(State).add_node("draft", add("draft")).add_node("send", add("sent")).add_edge(START, "draft")
    graph.add_conditional_edges("draft", lambda _: interrupt("send it?"), {"yes": "send", "no": END})
    app = graph.compile(InMemorySaver())
    asked = run(app, {"xs": []}, thread())
    assert (asked["xs"], asked["__interrupt__"][0].value) == (["draft"], "send it?")
    assert app.get_state(thread()).values == {"xs": []}
    assert run(app, Command(resume="yes"), thread()) == {"xs": ["draft", "sent"]}


def test_an_answer_that_was_given_before_may_come_again_among_others(run: Run) -> None:
    graph = beside(a=ask("a?"), b=ask("b?"))
    run(graph, {"xs": []}, thread())
    ids = questions(graph)
    run(graph, Command(resume={ids["a?"]: 1}), thread())
    assert run(graph, Command(resume={ids["a?"]: 9, ids["b?"]: 2}), thread()) == {"xs": [1, 2]}


def test_an_id_that_is_not_open_is_refused(run: Run) -> None:
    graph = line(("f", ask("?")))
    run(graph, {"xs": []}, thread())
    with pytest.raises(StateError, match=r"no interrupt '0+' is open"):
        run(graph, Command(resume={"0" * 32: 1}), thread())


def test_a_sibling_that_had_finished_is_not_run_again(run: Run) -> None:
    ran: list[str] = []
    graph = beside(f=ask("?"), p=lambda _: ran.append("p") or {"xs": ["p"]})
    assert run(graph, {"xs": []}, thread())["xs"] == ["p"]
    assert run(graph, Command(resume="a"), thread()) == {"xs": ["a", "p"]}
    assert ran == ["p"]


def test_a_sibling_that_had_finished_is_shown_again_as_cached(stream: Run) -> None:
    graph = beside(f=ask("?"), p=add("p"))
    stream(graph, {"xs": []}, thread())
    shown = stream(graph, Command(resume="a"), thread())
    assert shown == [{"p": {"xs": ["p"]}, "__metadata__": {"cached": True}}, {"f": {"xs": ["a"]}}]


def test_each_send_asks_for_itself(run: Run) -> None:
    graph = (
        StateGraph(State)
        .add_node("w", lambda s: {"xs": [f"{s['n']}{interrupt(s['n'])}"]})
        .add_conditional_edges(START, lambda _: [Send("w", {"n": n}) for n in range(3)])
        .compile(InMemorySaver())
    )
    run(graph, {"xs": []}, thread())
    ids = questions(graph)
    run(graph, Command(resume={ids[1]: "b"}), thread())
    assert run(graph, Command(resume={ids[0]: "a", ids[2]: "c"}), thread()) == {"xs": ["0a", "1b", "2c"]}


def test_an_answer_may_come_with_a_change_of_the_state(run: Run) -> None:
    ran: list[str] = []
    graph = beside(f=lambda s: {"xs": [interrupt("?"), s["n"]]}, p=lambda _: ran.append("p"))
    run(graph, {"xs": [], "n": 1}, thread())
    assert run(graph, Command(resume="a", update={"n": 7}), thread()) == {"xs": ["a", 7], "n": 7}
    assert ran == ["p"]


def test_a_change_that_came_with_a_command_is_there_after_another_pause(run: Run) -> None:
    graph = line(("f", lambda s: {"xs": [interrupt("?"), s["n"]]}))
    run(graph, {"xs": [], "n": 1}, thread())
    run(graph, Command(update={"n": 7}), thread())
    assert graph.get_state(thread()).values == {"xs": [], "n": 7}
    assert run(graph, Command(resume="a"), thread()) == {"xs": ["a", 7], "n": 7}
    assert [state.metadata["step"] for state in graph.get_state_history(thread())] == [1, 0, -1]


def test_a_command_may_lead_elsewhere_besides(run: Run) -> None:
    graph = StateGraph(State).add_node("f", ask("?")).add_node("z", add("z")).add_edge(START, "f")
    app = graph.compile(InMemorySaver())
    run(app, {"xs": []}, thread())
    assert run(app, Command(resume="a", goto="z"), thread()) == {"xs": ["a", "z"]}
    assert run(app, Command(goto=["z", Send("z", {})]), thread()) == {"xs": ["a", "z", "z", "z"]}
    with pytest.raises(InvalidUpdateError, match="'y', which is no node"):
        run(app, Command(goto="y"), thread())


def test_a_thread_may_begin_with_a_command(run: Run) -> None:
    graph = StateGraph(State).add_node("f", add("f")).add_node("z", add("z")).add_edge(START, "f")
    assert run(graph.compile(), Command(update={"xs": ["u"]}, goto="z")) == {"xs": ["u", "f", "z"]}


@pytest.mark.parametrize("input", [None, Command(), Command(resume=1)])
def test_a_thread_does_not_begin_with_nothing(run: Run, input: Any) -> None:
    with pytest.raises(EmptyInputError, match="nothing to go on with"):
        run(line(("f", add("f"))), input, thread())


def test_an_empty_command_is_refused(run: Run) -> None:
    graph = line(("f", ask("?")))
    run(graph, {"xs": []}, thread())
    with pytest.raises(EmptyInputError, match="the Command says nothing"):
        run(graph, Command(), thread())


def test_there_is_nothing_to_resume_without_a_checkpointer(run: Run) -> None:
    with pytest.raises(StateError, match="keeps no state"):
        run(StateGraph(State).add_node("f", add("f")).add_edge(START, "f").compile(), Command(resume=1))


def test_a_saver_wants_to_know_the_thread(run: Run) -> None:
    with pytest.raises(UsageError, match="names no thread"):
        run(line(("f", add("f"))), {"xs": []})


def test_new_input_drops_the_question(run: Run) -> None:
    graph = line(("f", lambda s: {"xs": [interrupt("?"), len(s["xs"])]}))
    run(graph, {"xs": ["1"]}, thread())
    run(graph, {"xs": ["2"]}, thread())
    assert run(graph, Command(resume="a"), thread()) == {"xs": ["1", "2", "a", 2]}


def test_an_answer_outlives_a_failure_after_it(run: Run) -> None:
    failures = [ValueError("once")]

    def node(_: State) -> State:
        answer = interrupt("?")
        if failures:
            raise failures.pop()
        return {"xs": [answer]}

    graph = line(("f", node))
    run(graph, {"xs": []}, thread())
    with pytest.raises(ValueError, match="once"):
        run(graph, Command(resume="a"), thread())
    assert run(graph, None, thread()) == {"xs": ["a"]}


def test_a_question_after_an_update_takes_the_answer_all_the_same(run: Run) -> None:
    graph = line(("a", add("a")), ("f", lambda s: {"xs": [interrupt(len(s["xs"]))]}))
    run(graph, {"xs": []}, thread())
    graph.update_state(thread(), {"xs": ["u"]})
    assert run(graph, Command(resume="yes"), thread()) == {"xs": ["a", "u", "yes"]}


def test_an_answer_without_a_question_is_for_the_step_that_goes_on(run: Run) -> None:
    graph = line(("f", ask(1)), ("g", ask(2)), interrupt_before=["f"])
    run(graph, {"xs": []}, thread())
    paused = run(graph, Command(resume="a"), thread())
    assert (paused["xs"], paused["__interrupt__"][0].value) == (["a"], 2)


@dataclass
class Form:
    title: str


def test_a_question_that_cannot_be_kept_fails_its_node(run: Run) -> None:
    with pytest.raises(NotStorableError, match="the question of 'f'"):
        run(line(("f", ask(object()))), {"xs": []}, thread())


def test_an_answer_is_made_to_fit_the_class_that_was_asked_for(run: Run) -> None:
    def node(_: State) -> State:
        form = interrupt("?", response_schema=Form)
        return {"xs": [form.title]}

    graph = line(("f", node))
    asked = run(graph, {"xs": []}, thread())["__interrupt__"][0]
    assert asked.response_schema["required"] == ["title"]
    with pytest.raises(ValueError, match="title"):
        run(graph, Command(resume={"name": "x"}), thread())
    assert run(graph, Command(resume={"title": "x"}), thread()) == {"xs": ["x"]}


def test_a_task_may_ask(run: Run) -> None:
    ran: list[str] = []

    @task
    def step(name: str) -> str:
        ran.append(name)
        return f"{name}:{interrupt(name)}"

    @entrypoint(checkpointer=InMemorySaver())
    def flow(_: int) -> list[str]:
        return [step("a").result(), step("b").result()]

    run(flow, 1, thread())
    run(flow, Command(resume=1), thread())
    assert run(flow, Command(resume=2), thread()) == ["a:1", "b:2"]
    assert ran == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("stops", "seen"),
    [
        ({"interrupt_before": ["b"]}, [["a"], ["a", "b", "c"]]),
        ({"interrupt_after": ["b"]}, [["a", "b"], ["a", "b", "c"]]),
        ({"interrupt_before": "*"}, [[], ["a"], ["a", "b"], ["a", "b", "c"]]),
        ({"interrupt_after": ["c"]}, [["a", "b", "c"]]),
        ({"interrupt_before": ["b"], "interrupt_after": ["a"]}, [["a"], ["a", "b", "c"]]),
    ],
)
@pytest.mark.parametrize("at_the_call", [False, True])
def test_a_run_stops_where_it_was_asked_to(
    run: Run, stops: dict[str, Any], seen: list[list[str]], at_the_call: bool
) -> None:
    nodes = [(name, add(name)) for name in "abc"]
    graph = line(*nodes) if at_the_call else line(*nodes, **stops)
    outputs = [run(graph, {"xs": []}, thread(), **(stops if at_the_call else {}))["xs"]]
    while graph.get_state(thread()).next:
        outputs.append(run(graph, None, thread(), **(stops if at_the_call else {}))["xs"])
    assert outputs == seen


def test_a_run_stops_before_a_send(run: Run) -> None:
    graph = (
        StateGraph(State)
        .add_node("w", lambda s: {"xs": [s["n"]]})
        .add_conditional_edges(START, lambda _: [Send("w", {"n": n}) for n in range(2)])
        .compile(InMemorySaver(), interrupt_before=["w"])
    )
    assert run(graph, {"xs": []}, thread()) == {"xs": []}
    assert graph.get_state(thread()).next == ("w", "w")
    assert run(graph, None, thread()) == {"xs": [0, 1]}


def test_a_stop_is_shown_as_an_interrupt_without_a_question(stream: Run) -> None:
    graph = line(("a", add("a")), ("b", add("b")), interrupt_before=["b"])
    assert stream(graph, {"xs": []}, thread()) == [{"a": {"xs": ["a"]}}, {"__interrupt__": ()}]
    assert stream(graph, None, thread()) == [{"b": {"xs": ["b"]}}]


def test_an_entrypoint_stops_before_it_begins(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int) -> int:
        return number + 1

    assert run(flow, 1, thread(), interrupt_before="*") is None
    assert flow.get_state(thread()).next == ("flow",)
    assert run(flow, None, thread()) == 2


def test_a_loop_asks_at_each_turn(run: Run) -> None:
    graph = (
        StateGraph(State)
        .add_node("f", lambda s: {"xs": [interrupt(len(s["xs"]))]})
        .add_edge(START, "f")
        .add_conditional_edges("f", lambda s: END if len(s["xs"]) == 2 else "f")
        .compile(InMemorySaver())
    )
    assert run(graph, {"xs": []}, thread())["__interrupt__"][0].value == 0
    assert run(graph, Command(resume="a"), thread())["__interrupt__"][0].value == 1
    assert run(graph, Command(resume="b"), thread()) == {"xs": ["a", "b"]}


def test_an_answer_to_a_question_that_does_not_come_up_at_once_is_kept_until_it_does(run: Run) -> None:
    asking = {1}
    inner = StateGraph(State).add_node("s", lambda s: {"xs": [interrupt(s["n"]) if s["n"] in asking else "not asked"]})
    app = inner.add_edge(START, "s").compile(checkpointer=False)
    graph = line(("node", lambda _: {"xs": [app.invoke({"xs": [], "n": number})["xs"] for number in range(2)]}))
    (second,) = run(graph, {"xs": []}, thread())["__interrupt__"]
    asking.add(0)  # from now on there is a question before that one
    (first,) = run(graph, Command(resume={second.id: "two"}), thread())["__interrupt__"]
    assert (first.value, second.value) == (0, 1)
    assert run(graph, Command(resume={first.id: "one"}), thread())["xs"] == [["one"], ["two"]]
