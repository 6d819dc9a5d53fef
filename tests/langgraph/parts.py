"""A state and nodes that the tests of this folder build graphs from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypedDict

from fanfold import START, CompiledGraph, StateGraph


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    number: int


def say(word: Any) -> Callable[[Any], dict[str, Any]]:
    """A node that logs a word."""
    return lambda _: {"log": [word]}


def lettered(letters: str, edges: Iterable[tuple[Any, str]] = (), *, deferred: str = "") -> StateGraph:
    """A graph with a node for each letter, which logs it."""
    graph = StateGraph(State)
    for letter in letters:
        graph.add_node(letter, say(letter), defer=letter in deferred)
    for start, end in edges:
        graph.add_edge(start, end)
    return graph


def alone(node: Any, schema: Any = State, **options: Any) -> CompiledGraph:
    """A graph of one node."""
    return StateGraph(schema, **options).add_node("node", node).add_edge(START, "node").compile()
