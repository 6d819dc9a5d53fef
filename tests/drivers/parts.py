"""What these tests build graphs from."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypedDict

from fanfold import START, StateGraph
from fanfold.events import Event, TaskQueued

PATIENCE = 20.0
"""Seconds after which a rendezvous that nobody keeps is given up, so that a failure is no hang."""


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    number: int


INPUT: State = {"log": []}


def beside(**nodes: Any) -> StateGraph:
    """A graph whose nodes all run in the first step."""
    graph = StateGraph(State)
    for name, action in nodes.items():
        graph.add_node(name, action).add_edge(START, name)
    return graph


def chain(**nodes: Any) -> StateGraph:
    """A graph whose nodes run one after the other."""
    return StateGraph(State).add_sequence(nodes.items()).set_entry_point(next(iter(nodes)))


def kinds(events: Iterable[Event], kind: type[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def names(events: Iterable[Event], kind: type[Event]) -> list[str]:
    """The names of the tasks of which the events of this kind tell."""
    heard = list(events)
    known = {event.task: event.name for event in heard if isinstance(event, TaskQueued)}
    return [known[event.task] for event in kinds(heard, kind)]


async def met(barrier: asyncio.Barrier) -> None:
    """Wait for the others of a rendezvous."""
    async with asyncio.timeout(PATIENCE):
        await barrier.wait()


async def happened(event: asyncio.Event) -> None:
    """Wait for something to happen."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


class Counted:
    """Nodes that count how often they were called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def node(self, name: str, body: Callable[[], Any] = lambda: None) -> Callable[[State], Mapping[str, Any]]:
        """A blocking node that logs its name."""

        def action(state: State) -> Mapping[str, Any]:
            self.calls[name] += 1
            body()
            return {"log": [name]}

        return action
