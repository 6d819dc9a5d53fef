"""The graphs that are measured, written once for all engines that have LangGraph's names.

Each function takes the engine as `api` (a module or anything else with `StateGraph`, `Send`, `START` and `END`) and
gives a builder that the caller compiles. So two engines that are compared run the same code of ours, node for node.

Nodes do as little as a node can: what is left is what the engine costs.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypedDict

KILOBYTE: Final = "x" * 1000
WIDE_ROUNDS: Final = 20
BUMPS: Final = 10


class Items(TypedDict):
    """One list that every node appends to."""

    items: Annotated[list[Any], operator.add]


class Job(TypedDict):
    """What one task of a map is given."""

    number: int


class Count(TypedDict):
    """How far a loop is, and how far it goes."""

    number: int
    limit: int


async def work(state: Any) -> dict[str, list[int]]:
    """The least that a node which writes can do."""
    return {"items": [1]}


def blocking_work(state: Any) -> dict[str, list[int]]:
    """The same, without async."""
    return {"items": [1]}


async def nothing(state: Any) -> None:
    """The least that a node can do."""


def fanout(api: Any, n: int, node: Callable[[Any], Any] = work) -> Any:
    """START leads to `n` nodes."""
    graph = api.StateGraph(Items)
    for number in range(n):
        graph.add_node(f"n{number}", node)
        graph.add_edge(api.START, f"n{number}")
    return graph


def send(api: Any, n: int, node: Callable[[Any], Any] = work) -> Any:
    """START sends `n` tasks to one node."""

    def route(state: Any) -> list[Any]:
        return [api.Send("work", {"number": number}) for number in range(n)]

    graph = api.StateGraph(Items)
    graph.add_node("work", node)
    graph.add_conditional_edges(api.START, route, ["work"])
    return graph


def asleep(api: Any, n: int) -> Any:
    """`n` agents that sleep for a second, all of them sent to one node."""

    async def sleep(job: Job) -> dict[str, list[int]]:
        await asyncio.sleep(1.0)
        return {"items": [1]}

    return send(api, n, sleep)


def chain(api: Any, n: int) -> Any:
    """`n` nodes one after the other, none of which does anything."""
    graph = api.StateGraph(Items)
    before = api.START
    for number in range(n):
        graph.add_node(f"n{number}", nothing)
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    return graph


def loop(api: Any, n: int, more: Callable[[], object] | None = None) -> Any:
    """One node that leads to itself until it has counted to the limit; `more` is what else it does."""

    async def step(state: Count) -> dict[str, int]:
        if more is not None:
            more()
        return {"number": state["number"] + 1}

    def route(state: Count) -> Any:
        return "step" if state["number"] < state["limit"] else api.END

    graph = api.StateGraph(Count)
    graph.add_node("step", step)
    graph.add_edge(api.START, "step")
    graph.add_conditional_edges("step", route, ["step", api.END])
    return graph


def messages(api: Any, n: int) -> Any:
    """A loop that adds a message of a kilobyte each time, until there are `n`."""

    async def say(state: Items) -> dict[str, list[dict[str, str]]]:
        return {"items": [{"role": "assistant", "content": f"{len(state['items'])} {KILOBYTE}"}]}

    def route(state: Items) -> Any:
        return "say" if len(state["items"]) < n else api.END

    graph = api.StateGraph(Items)
    graph.add_node("say", say)
    graph.add_edge(api.START, "say")
    graph.add_conditional_edges("say", route, ["say", api.END])
    return graph


def wide(api: Any, n: int) -> Any:
    """A state of `n` keys, which two nodes at once and one after them see whole, twenty times; each writes three."""
    keys = [f"key{number}" for number in range(n)]
    fields: dict[str, Any] = {key: Annotated[list[Any], _newest] for key in keys}
    state = TypedDict("state", {"turn": int, **fields})  # type: ignore[misc]  # its keys are known when it runs

    def writer(first: int) -> Callable[[Any], Awaitable[dict[str, Any]]]:
        async def write(state: Any) -> dict[str, Any]:
            mine = [keys[(first + state["turn"] * 3 + number) % n] for number in range(3)]
            return {key: [{"turn": state["turn"], "text": "hello"}] * 5 for key in mine}

        return write

    async def turn(state: Any) -> dict[str, int]:
        return {"turn": state["turn"] + 1}

    def route(state: Any) -> Any:
        return ["left", "right"] if state["turn"] < WIDE_ROUNDS else api.END

    graph = api.StateGraph(state)
    graph.add_node("left", writer(0))
    graph.add_node("right", writer(n // 2))
    graph.add_node("turn", turn)
    graph.add_conditional_edges(api.START, route, ["left", "right", api.END])
    graph.add_edge(["left", "right"], "turn")
    graph.add_conditional_edges("turn", route, ["left", "right", api.END])
    return graph


def wide_input(n: int) -> dict[str, Any]:
    """What `wide` begins with."""
    return {"turn": 0, **{f"key{number}": [{"turn": -1, "text": "hello"}] * 5 for number in range(n)}}


def _newest(old: list[Any], new: list[Any]) -> list[Any]:
    return new or old


class Joke(TypedDict):
    """The state of the inner graph of `subgraphs`."""

    subject: str
    items: Annotated[list[str], operator.add]
    bumps: int


def subgraphs(api: Any, n: int) -> Any:
    """`n` graphs within the graph, sent to at once; each edits, writes, and goes ten times round a loop."""

    def route(state: Any) -> list[Any]:
        return [api.Send("joke", {"subject": f"subject {number}"}) for number in range(n)]

    graph = api.StateGraph(Items)
    graph.add_node("joke", joke(api).compile())
    graph.add_conditional_edges(api.START, route, ["joke"])
    return graph


def joke(api: Any) -> Any:
    """The inner graph."""

    async def edit(state: Joke) -> dict[str, Any]:
        return {"subject": f"{state['subject']}, edited", "bumps": 0}

    async def write(state: Joke) -> dict[str, list[str]]:
        return {"items": [f"a joke about {state['subject']}"]}

    async def bump(state: Joke) -> dict[str, int]:
        return {"bumps": state["bumps"] + 1}

    def again(state: Joke) -> Any:
        return "bump" if state["bumps"] < BUMPS else api.END

    graph = api.StateGraph(Joke)
    graph.add_node("edit", edit)
    graph.add_node("write", write)
    graph.add_node("bump", bump)
    graph.add_edge(api.START, "edit")
    graph.add_edge("edit", "write")
    graph.add_edge("write", "bump")
    graph.add_conditional_edges("bump", again, ["bump", api.END])
    return graph


def react(api: Any, n: int) -> Any:
    """A model that asks for a tool `n` times, and the tool; the model's answers are written down beforehand."""
    answers: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "call": {"id": f"c{turn}", "query": "q" * 200}} for turn in range(n)
    ]
    answers.append({"role": "assistant", "content": "answer " * 100, "call": None})

    async def model(state: Items) -> dict[str, list[Any]]:
        return {"items": [answers[len(state["items"]) // 2]]}

    async def tool(state: Items) -> dict[str, list[Any]]:
        asked = state["items"][-1]["call"]
        return {"items": [{"role": "tool", "content": f"found {asked['query']}", "call": None}]}

    def route(state: Items) -> Any:
        return "tool" if state["items"][-1]["call"] else api.END

    graph = api.StateGraph(Items)
    graph.add_node("model", model)
    graph.add_node("tool", tool)
    graph.add_edge(api.START, "model")
    graph.add_conditional_edges("model", route, ["tool", api.END])
    graph.add_edge("tool", "model")
    return graph


class Legs(TypedDict):
    """What the five nodes of `unequal` have written."""

    a: int
    b: int
    c: int
    d: int
    joined: int


class OfA(TypedDict):
    """What comes after the first leg's short node."""

    a: int


class OfC(TypedDict):
    """What comes after the second leg's long node."""

    c: int


class OfBoth(TypedDict):
    """What the join sees."""

    b: int
    d: int


def unequal(api: Any, n: int = 1, *, declared: bool = False) -> Any:
    """Two legs that are long at different ends, A 0.1 s then B 1 s, C 1 s then D 0.1 s, and a join.

    Who lets each node start when what it reads is there needs 1.1 s; who waits for every node of a step, 2 s.
    Nodes say what they read by their annotations, and with `declared` also what they write.
    """

    async def a(state: Any) -> dict[str, int]:
        await asyncio.sleep(0.1)
        return {"a": 1}

    async def b(state: OfA) -> dict[str, int]:
        await asyncio.sleep(1.0)
        return {"b": state["a"] + 1}

    async def c(state: Any) -> dict[str, int]:
        await asyncio.sleep(1.0)
        return {"c": 1}

    async def d(state: OfC) -> dict[str, int]:
        await asyncio.sleep(0.1)
        return {"d": state["c"] + 1}

    async def join(state: OfBoth) -> dict[str, int]:
        return {"joined": state["b"] + state["d"]}

    graph = api.StateGraph(Legs)
    for node, writes in ((a, "a"), (b, "b"), (c, "c"), (d, "d"), (join, "joined")):
        graph.add_node(node.__name__, node, **({"writes": [writes]} if declared else {}))
    for before, after in ((api.START, "a"), ("a", "b"), (api.START, "c"), ("c", "d")):
        graph.add_edge(before, after)
    graph.add_edge(["b", "d"], "join")
    return graph
