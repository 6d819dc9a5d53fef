"""Where blocking code is called: in a thread, or, if it can wait for nothing, where its task is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any, TypedDict

import pytest

from fanfold import END, START, StateGraph
from fanfold.events import Event, LoopHeld
from fanfold.held import HELD_FROM
from fanfold.types import Send


class State(TypedDict, total=False):
    number: int
    items: list[int]


@pytest.fixture
def threads() -> Iterator[dict[CodeType, set[str]]]:
    """The names of the threads that code was called in."""
    seen: dict[CodeType, set[str]] = {}

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            seen.setdefault(frame.f_code, set()).add(threading.current_thread().name)

    threading.setprofile(look)
    sys.setprofile(look)
    yield seen
    sys.setprofile(None)
    threading.setprofile(None)


def adds(state: State) -> Any:
    return {"number": state["number"] + 1}


def calls(state: State) -> Any:
    threading.get_ident()
    return {"number": state["number"] + 1}


def again(state: State) -> Any:
    return "adds" if state["number"] < 4 else END


def test_a_node_and_a_path_that_can_wait_for_nothing_take_no_thread(threads: dict[CodeType, set[str]]) -> None:
    graph = StateGraph(State).add_node("adds", adds).add_node("calls", calls).add_edge(START, "adds")
    graph.add_edge("adds", "calls").add_conditional_edges("calls", again)
    assert graph.compile().invoke({"number": 0}) == {"number": 4}
    here = {threading.current_thread().name}
    assert threads[adds.__code__] == threads[again.__code__] == here
    assert all(name.startswith("fanfold-node") for name in threads[calls.__code__])


def test_code_that_turns_out_to_take_its_time_is_named_and_gets_a_thread_from_then_on(
    threads: dict[CodeType, set[str]],
) -> None:
    def heavy(state: State) -> Any:
        return {"number": len([a for a in state["items"] for b in state["items"] if a == b])}

    heard: list[Event] = []
    graph = StateGraph(State).add_node("first", heavy).add_node("second", heavy).add_edge(START, "first")
    app = graph.add_edge("first", "second").compile()
    app.invoke({"items": list(range(2000))}, on_event=heard.append)
    app.invoke({"items": list(range(2000))}, on_event=heard.append)  # it is remembered from run to run
    held = [event for event in heard if isinstance(event, LoopHeld) and event.by_code]
    assert len(held) == 1
    assert held[0].seconds >= HELD_FROM
    here = {threading.current_thread().name}
    assert here < threads[heavy.__code__]


def test_code_whose_executor_is_named_runs_there_however_quick_it_is(threads: dict[CodeType, set[str]]) -> None:
    graph = StateGraph(State).add_node("adds", adds, executor="thread").add_edge(START, "adds")
    assert graph.compile().invoke({"number": 0}) == {"number": 1}
    assert all(name.startswith("fanfold-node") for name in threads[adds.__code__])


def test_code_that_is_sent_work_with_a_time_limit_takes_a_thread_however_quick_it_is(
    threads: dict[CodeType, set[str]],
) -> None:
    graph = StateGraph(State).add_node("adds", adds)
    graph.add_conditional_edges(START, lambda _: [Send("adds", {"number": 0}, timeout=60.0)], ["adds"])
    assert graph.compile().invoke({}) == {"number": 1}
    assert all(name.startswith("fanfold-node") for name in threads[adds.__code__])


def test_quick_code_that_changes_its_input_changes_nobody_elses() -> None:
    def spoils(state: State) -> Any:
        items = state["items"]
        items += [0]

    def looks(state: State) -> Any:
        return {"items": state["items"]}

    def route(state: State) -> Any:
        state["items"][0] = 9
        return END

    graph = StateGraph(State).add_node("spoils", spoils).add_node("looks", looks).add_edge(START, "spoils")
    graph.add_edge("spoils", "looks").add_conditional_edges("looks", route)
    assert graph.compile().invoke({"items": [1, 2]}) == {"items": [1, 2]}
