"""The laws of budgets: nobody waits for ever, and nobody is refused who only had to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold import START, BudgetError, Limits, StateGraph, Task, asking, python_agent
from fanfold.agents.backends.python import PythonAgent
from fanfold.agents.rooms import Rooms
from fanfold.limits import Governor
from tests.limits.timeless import run

CALLS = 10


class State(TypedDict, total=False):
    out: list[Any]


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def came_of(agent: PythonAgent, prompts: list[Any], limits: Limits) -> list[Any]:
    """What the agent answers to each of the prompts, side by side. A run that waits for ever fails."""

    async def node(state: State) -> State:
        asked = (Task(subagent_type=agent.definition.name, prompt=json.dumps(prompt)) for prompt in prompts)
        return {"out": [answer.output for answer in await asyncio.gather(*asked)]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    found: list[Any] = run(graph.ainvoke({}, agents=[agent], limits=limits))["out"]
    return found


# Nobody is refused who only had to wait


def rows_of(rows: list[list[int]], limit: int | None) -> Any:
    """A graph of rows of nodes, each of which takes so many turns, and waits for the whole row before its own."""
    graph, before = StateGraph(State), [START]
    for step, row in enumerate(rows):
        names = [f"n{step}-{number}" for number in range(len(row))]
        for name, number in zip(names, row, strict=True):

            async def node(state: State, number: int = number) -> None:
                await turns(number)

            graph.add_node(name, node).add_edge(before[0] if len(before) == 1 else before, name)
        before = names
    return graph.compile(limits=Limits(limit))


rows = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=1, max_size=3)
graphs = st.none() | st.tuples(rows, st.sampled_from([None, 1, 2]))
holders = st.tuples(st.integers(1, CALLS), st.integers(0, 4), graphs)


@settings(max_examples=150, deadline=None)
@given(st.lists(holders, min_size=2, max_size=5))
def test_who_asks_for_no_more_than_there_is_gets_it_when_all_give_it_back(agents: list[Any]) -> None:
    """An agent holds what it has while a graph runs that has no other limit than its own."""

    @python_agent("holder")
    async def holder(prompt: str) -> str:
        calls, number, graph = json.loads(prompt)
        for _ in range(2):
            async with asking("m:x", calls=calls) as request:
                await turns(number)
                if graph is not None:
                    await rows_of(*graph).ainvoke({})
                request.answered(0, 0, 0.0, calls=0)
        return "had it"

    assert came_of(holder, agents, Limits(calls=CALLS)) == ["had it"] * len(agents)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, CALLS), st.integers(0, 4)), min_size=1, max_size=4), max_size=4))
def test_requests_side_by_side_in_an_agent_are_all_had_when_all_give_back(agents: list[Any]) -> None:
    async def request(calls: int, number: int) -> None:
        async with asking("m:x", calls=calls) as request:
            await turns(number)
            request.answered(0, 0, 0.0, calls=0)

    @python_agent("asker")
    async def asker(prompt: str) -> str:
        await asyncio.gather(*(request(*each) for each in json.loads(prompt)))
        return "had them"

    assert came_of(asker, agents, Limits(calls=CALLS)) == ["had them"] * len(agents)


# Nobody waits for ever


work = st.recursive(
    st.tuples(st.just("turns"), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.tuples(st.just("ask"), st.integers(1, CALLS + 1), inner),
        st.tuples(st.just("call"), inner),
        st.tuples(st.just("side"), st.lists(inner, max_size=3)),
        st.tuples(st.just("then"), st.lists(inner, max_size=3)),
        st.tuples(st.just("graph"), st.sampled_from([None, 1, 2]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)
"""What an agent does: it asks and does more inside of that, calls another one, does several things, runs a graph."""


async def done(what: Any, depth: int = 0) -> None:
    """Do it. A request that is refused is left out. One inside of so many others asks a model of its own."""
    kind, *more = what
    parts: list[Awaitable[Any]] = []
    if kind == "turns":
        await turns(more[0])
    elif kind == "call":
        await Task(subagent_type="worker", prompt=json.dumps(more[0]))
    elif kind == "side":
        parts = [done(part, depth) for part in more[0]]
        await asyncio.gather(*parts)
    elif kind == "then":
        for part in more[0]:
            await done(part, depth)
    elif kind == "graph":
        await called(more[1], more[0]).ainvoke({})
    else:
        try:
            async with asking(f"m:{depth}", calls=more[0]) as request:
                await done(more[1], depth + 1)
                request.answered(0, 0, 0.0, calls=0)
        except BudgetError:
            await turns(1)


def called(parts: list[Any], limit: int | None) -> Any:
    """A graph whose nodes each have an agent do a part, side by side."""
    graph = StateGraph(State)
    for number, part in enumerate(parts):

        async def node(state: State, part: Any = part) -> None:
            await Task(subagent_type="worker", prompt=json.dumps(part))

        graph.add_node(f"n{number}", node).add_edge(START, f"n{number}")
    return graph.compile(limits=Limits(limit))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(work, min_size=1, max_size=4),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1]),
    st.sampled_from([{}, {"m": 1}]),
)
def test_whatever_agents_do_inside_of_what_they_hold_nobody_waits_for_ever(
    prompts: list[Any], limit: int | None, kind: int | None, models: dict[str, int]
) -> None:
    @python_agent("worker", max_concurrent=kind)
    async def worker(prompt: str) -> str:
        await done(json.loads(prompt))
        return "done"

    assert came_of(worker, prompts, Limits(limit, calls=CALLS, models=models, depth=None)) == ["done"] * len(prompts)


# Memory for what agents start


class Machine:
    """The memory that is really in use."""

    def __init__(self) -> None:
        self.used = self.peak = 0

    @contextmanager
    def taken(self, megabytes: int) -> Iterator[None]:
        self.used += megabytes
        self.peak = max(self.peak, self.used)
        try:
            yield
        finally:
            self.used -= megabytes


tooled = st.tuples(
    st.integers(0, 20), st.integers(1, 20), st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), max_size=3)
)
"""Megabytes of an agent's servers, those of each of its commands, and the commands of each message of its model."""


@settings(max_examples=200, deadline=None)
@given(st.lists(tooled, min_size=1, max_size=5), st.integers(0, 20))
def test_agents_with_servers_and_commands_all_end_within_the_memory_that_the_largest_of_them_needs(
    agents: list[tuple[int, int, list[list[int]]]], more: int
) -> None:
    most = more + max(servers + command for servers, command, _ in agents)
    governor, machine = Governor(Limits(memory_mb=most)), Machine()

    async def command(rooms: Rooms, megabytes: int, number: int) -> None:
        async with rooms.command():
            with machine.taken(megabytes):
                await turns(number)

    async def works(name: str, servers: int, megabytes: int, messages: list[list[int]]) -> None:
        with governor.desk(name, name, stop=unwanted, ask=nobody) as desk:
            rooms = Rooms(desk, megabytes)
            async with rooms.beside(servers, commands=True):
                with machine.taken(servers):
                    for message in messages:
                        await turns(1)
                        await asyncio.gather(*(command(rooms, megabytes, number) for number in message))

    async def main() -> None:
        await asyncio.gather(*(works(f"agent {number}", *each) for number, each in enumerate(agents)))

    run(main())
    assert machine.peak <= most
    (report,) = governor.reports()
    assert machine.peak <= report.peak <= most


def unwanted() -> None:
    raise AssertionError("no time of theirs is limited")


async def nobody(name: str, prompt: str, description: str) -> str:
    raise AssertionError("they call nobody")
