"""Who waits for whom at a barrier, by what a graph declares: `waits`, and what a node reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest

from fanfold.errors import InvalidUpdateError
from fanfold.kernel.graph import Builder
from fanfold.kernel.reach import Reach
from fanfold.kernel.waiting import Waiting, waits
from fanfold.types import START, Command, Send


class State(TypedDict, total=False):
    a: int
    b: int
    c: int


class A(TypedDict):
    a: int


class B(TypedDict):
    b: int


@dataclass
class C:
    c: int


def nothing(state: Any) -> Any:
    return {}


def graph(edges: str, **declared: dict[str, Any]) -> Builder:
    """Edges such as "^a ab bc" between nodes of one letter, "^" for START, and what nodes declare."""
    built = Builder(State)
    for name in sorted(set(edges) - set("^ ")):
        built.add_node(name, nothing, **declared.get(name, {}))
    for start, end in edges.split():
        built.add_edge(START if start == "^" else start, end)
    return built


def waiting(edges: str, **declared: dict[str, Any]) -> dict[str, Waiting]:
    return {each.node + each.other: each for each in waits(graph(edges, **declared).plan())}


def test_nodes_that_declare_nothing_wait_for_all_of_the_step_below() -> None:
    found = waiting("^a ^c ab cd")
    assert found == {
        "bc": Waiting("b", "c", (), ("c",), True),
        "da": Waiting("d", "a", (), ("a",), True),
    }
    assert not found["bc"].needed


def test_nodes_of_one_step_do_not_wait_for_each_other_and_nobody_for_what_comes_later() -> None:
    assert waiting("^a ^b ^c") == {}
    assert waiting("^a ab bc") == {}


def test_a_declaration_ends_the_waiting_for_the_node_that_makes_it() -> None:
    assert set(waiting("^a ^c ab cd", c={"writes": ["c"]}, b={"reads": ["a"]})) == {"da"}
    assert (
        waiting("^a ^c ab cd", c={"writes": ["c"]}, b={"reads": ["a"]}, a={"writes": ["a"]}, d={"reads": ["c"]}) == {}
    )


def test_who_sees_what_the_other_writes_has_to_wait() -> None:
    found = waiting("^a ^c ab cd", c={"writes": ["c", "b"]}, b={"reads": ["b"]}, a={"writes": ["a"]}, d={"reads": []})
    assert found == {"bc": Waiting("b", "c", ("b",), (), False)}
    assert found["bc"].needed


def test_what_the_other_leads_to_counts_where_it_would_come_before() -> None:
    declared: dict[str, dict[str, Any]] = {name: {"writes": [], "reads": []} for name in "abcefg"}
    long = waiting("^a ab bc ^e ef", **{**declared, "c": {"reads": ["c"], "writes": []}, "f": {"writes": ["c"]}})
    assert set(long) == {"ce", "cf"}
    short = waiting("^a ab ^e ef", **{**declared, "b": {"reads": ["c"], "writes": []}, "f": {"writes": ["c"]}})
    assert short == {}


def test_joins_routes_and_destinations_lead_on() -> None:
    built = graph("^a ^c", a={"destinations": ["b"]}).add_node("b", nothing).add_node("e", nothing)
    built.add_conditional_edges("c", nothing, ["d"]).add_node("d", nothing).add_edge(["b", "d"], "e")
    assert {each.node + each.other for each in waits(built.plan())} == {"bc", "da"}
    anywhere = graph("^a ^c").add_node("b", nothing).add_conditional_edges("a", nothing).add_edge("c", "b")
    assert {each.node + each.other for each in waits(anywhere.plan())} == set()  # each may follow from a


def test_a_graph_that_declares_nothing_has_no_reach() -> None:
    assert graph("^a").plan().reach is None
    assert graph("^a", a={"writes": ["a"]}).plan().reach is not None
    assert graph("^a", a={"writes": ["a", "b", "c"]}).plan().reach is None


def reach(edges: str, **declared: dict[str, Any]) -> Reach:
    found = graph(edges, **declared).plan().reach
    assert found is not None
    return found


def test_a_key_may_be_written_as_many_steps_later_as_it_is_edges_away() -> None:
    found = reach("^a ab bc", a={"writes": []}, b={"writes": ["b"]}, c={"writes": ["c"]})
    assert found.writing("c") == {"c": 0, "b": 1, "a": 2, START: 0}
    assert found.writing("b") == {"b": 0, "a": 1, START: 0}
    assert found.writing("a") == {START: 0}
    assert found.running("b") == {"b": 0, "a": 1, START: 1}


def test_a_node_that_declares_no_writes_may_write_everything_and_lead_anywhere() -> None:
    found = reach("^a ab bc", b={"writes": ["b"]})
    assert found.writing("b") == {"a": 0, "b": 0, "c": 0, START: 0}
    assert found.running("a") == {"a": 0, "c": 1, START: 1, "b": 2}


def test_only_what_may_lead_to_sends_is_counted_for_them() -> None:
    declared = {name: {"writes": ["a"]} for name in "abc"}
    found = graph("^a ab bc", **declared).add_conditional_edges("c", nothing, ["a"]).plan().reach
    assert found is not None
    assert found.sending == {START: 0, "c": 0, "b": 1, "a": 2}


def test_a_node_with_declared_writes_leads_along_its_edges_path_maps_and_destinations_only() -> None:
    built = graph("^a ab bc cd", a={"writes": ["a"], "destinations": ["c"]}, b={"writes": ["b"]})
    built.add_conditional_edges("a", nothing, ["d"])
    found = built.plan().reach
    assert found is not None
    found.check("a", ["b", "c", "d", Send("d", {}), Send("c", {})])
    found.check("c", ["a", "b"])
    with pytest.raises(InvalidUpdateError, match="node 'a' sends to 'b', and what it declares sends to: 'c', 'd'"):
        found.check("a", [Send("b", {})])  # an edge leads there, and no Send is to be expected
    for goal in ("a", Send("a", {})):
        with pytest.raises(InvalidUpdateError, match=r"node 'a' (leads|sends) to 'a', and what it declares"):
            found.check("a", [goal])
    anywhere = graph("^a ab", a={"writes": ["a"]}).add_conditional_edges("a", nothing).plan().reach
    assert anywhere is not None
    anywhere.check("a", ["a", "b"])


def annotated(returned: Any, **more: Any) -> Any:
    def node(state: State) -> Any:
        return {}

    node.__annotations__["return"] = returned
    plan = Builder(State).add_node("node", node, **more).add_edge(START, "node").plan()
    return plan.nodes["node"].writes


def test_a_return_annotation_with_some_of_the_keys_declares_them() -> None:
    assert annotated(A) == ("a",)
    assert annotated(A | None) == ("a",)
    assert annotated(A | C) == ("a", "c")
    assert annotated(A, writes=["b"]) == ("b",)


@pytest.mark.parametrize(
    "said", [None, State, dict, dict[str, Any], Any, Command, Send, A | Command[Literal["node"]], int]
)
def test_other_return_annotations_declare_nothing(said: Any) -> None:
    assert annotated(said) is None


def test_an_error_handler_has_its_part_in_what_is_declared() -> None:
    def node(state: State) -> A:
        return {"a": 1}

    def telling(state: State) -> B:
        return {"b": 1}

    def vague(state: State) -> Any:
        return {}

    def written(handler: Any) -> Any:
        built = Builder(State).add_node("node", node, error_handler=handler).add_edge(START, "node")
        return built.plan().nodes["node"].writes

    assert written(telling) == ("a", "b")
    assert written(vague) is None


def test_what_the_paths_of_a_node_see_is_what_it_reads() -> None:
    def path(state: A) -> str:
        return "a"

    built = graph("^a ab", a={"reads": ["b"], "writes": ["b"]}, b={"reads": ["c"], "writes": []})
    found = built.add_conditional_edges("a", path, ["b"]).plan().reach
    assert found is not None
    assert set(found.reads("a", given=False)) == {"a", "b"}
    assert found.reads("a", given=True) == ("a",)
    assert found.reads("b", given=True) == ()
