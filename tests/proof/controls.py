"""What the tests of controls share: a row of the table each, and graphs of four nodes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypedDict

from fanfold import START, Receipt, StateGraph, audit

WORK: Final = 0.1


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


@dataclass(frozen=True, slots=True)
class Row:
    """One control: the verdict that is right, and the one that was given."""

    control: str
    expected: str
    given: str
    peak: int
    mean: float

    @property
    def right(self) -> bool:
        return self.expected == self.given


ROWS: Final[list[Row]] = []


def control(name: str, found: Receipt, expected: str, cause: str | None = None) -> None:
    """Put a control into the table, and fail when the verdict, or the class of its first cause, is another one."""
    first = found.causes[0].kind if found.causes else ""
    given = found.verdict if cause is None or cause == first else f"{found.verdict} by {first or 'nothing'}"
    ROWS.append(Row(name, expected, given, found.peak, found.mean))
    assert given == expected, f"{name}\n{found}\n" + "\n".join(found.account())


def beside(*actions: Any) -> StateGraph:
    """A graph whose nodes all begin at once."""
    graph = StateGraph(State)
    for number, action in enumerate(actions):
        graph.add_node(f"node{number}", action).add_edge(START, f"node{number}")
    return graph


def alone(action: Any) -> StateGraph:
    """A graph with one node."""
    return StateGraph(State).add_node("team", action).add_edge(START, "team")


def audited(graph: StateGraph, **options: Any) -> Receipt:
    """The receipt of a run of it."""
    return audit(graph.compile().invoke({"log": []}, **options))
