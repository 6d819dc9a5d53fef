"""Super-steps as plainly as they can be written: dictionaries, a loop, and nothing of the ledger's.

A `Drawing` is a random graph as plain data. `compiled` makes a plan of it; `walk` runs it here. What a node does
depends on everything it sees, so that a difference anywhere in the order of things ends up in the state.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from fanfold.kernel.channels import EphemeralValue
from fanfold.kernel.graph import Builder
from fanfold.kernel.plan import Plan
from fanfold.types import END, START, Send

MODULUS = 10_007


def mixed(value: int, update: int) -> int:
    """A reducer for which the order of updates matters."""
    return (value * 31 + update) % MODULUS


class State(TypedDict, total=False):
    mix: Annotated[int, mixed]
    trail: Annotated[tuple[str, ...], operator.add]
    last: int
    spark: Annotated[int, EphemeralValue(int, guard=False)]


@dataclass(frozen=True)
class Drawing:
    """A graph. A route answers one of its `choices`, each a list of targets; a target in brackets is a `Send`.

    `late` are the nodes that are deferred to the end.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    joins: tuple[tuple[tuple[str, ...], str], ...]
    routes: Mapping[str, tuple[tuple[str, ...], ...]]
    writers: frozenset[str]
    late: frozenset[str] = frozenset()


def digest(*parts: Any) -> int:
    """A number that tells values apart, the same in every process."""
    return zlib.crc32(repr(parts).encode()) % MODULUS


def worked(name: str, seen: Mapping[str, Any], *, writes_last: bool) -> dict[str, Any]:
    """What a node returns for what it sees."""
    number = digest(name, sorted(seen.items()))
    if number % 7 == 0:
        return {}
    written = {"mix": number, "trail": (f"{name}{number}",)}
    if number % 3 == 0:
        written["spark"] = number
    return {**written, "last": number} if writes_last else written


def routed(name: str, choices: Sequence[Sequence[str]], seen: Mapping[str, Any]) -> list[Any]:
    """What a route of a node answers for what it sees; a `Send` carries a number of its own.

    Late in a run there are no more Sends: in a loop, each of them would bring forth others without end.
    """
    number = digest("route", name, sorted(seen.items()))
    return [
        (target[1:-1], {"mix": number + index}) if target.startswith("[") else target
        for index, target in enumerate(choices[number % len(choices)])
        if not target.startswith("[") or len(seen["trail"]) < 10
    ]


def compiled(drawing: Drawing) -> Plan:
    """The drawing as a plan."""

    def node(name: str) -> Any:
        return lambda state: worked(name, state, writes_last=name in drawing.writers)

    def route(name: str, choices: Sequence[Sequence[str]]) -> Any:
        def path(state: Any) -> Any:
            return [Send(*goal) if isinstance(goal, tuple) else goal for goal in routed(name, choices, state)]

        return path

    graph = Builder(State)
    for name in drawing.nodes:
        graph.add_node(name, node(name), defer=name in drawing.late)
    for start, end in drawing.edges:
        graph.add_edge(start, end)
    for members, target in drawing.joins:
        graph.add_edge(list(members), target)
    for name, choices in drawing.routes.items():
        graph.add_conditional_edges(name, route(name, choices))
    return graph.plan()


@dataclass
class Waiting:
    """What is carried from step to step: the members that each join has seen, and the nodes that wait for the end."""

    joins: list[set[str]]
    late: set[str]


@dataclass
class Walk:
    """What happened: each step as (node, what it saw), in the order of writing; how it ended; the state then."""

    steps: list[list[tuple[str, dict[str, Any]]]]
    ending: str
    state: dict[str, Any]


def walk(drawing: Drawing, value: Mapping[str, Any], limit: int) -> Walk:
    """Run the drawing from an input; it has to end in less than `limit` steps."""
    done = Walk([], "done", {"mix": 0, "trail": ()})
    waiting = Waiting([set() for _ in drawing.joins], set())
    active: list[tuple[str, dict[str, Any] | None]] = [(START, dict(value))]
    while active and len(done.steps) <= limit:
        active.sort(key=lambda task: "" if task[1] is not None else task[0])
        active.sort(key=lambda task: task[1] is not None)
        inputs = [(name, dict(done.state) if arg is None else arg) for name, arg in active]
        outputs = [
            seen if name == START else worked(name, seen, writes_last=name in drawing.writers) for name, seen in inputs
        ]
        done.steps.append(inputs)
        if sum("last" in output for output in outputs) > 1:
            done.ending = "conflict"
            return done
        ran = {name for name, arg in active if arg is None}
        active = following(drawing, done.state, inputs, outputs, ran, waiting)
        done.state = put(done.state, outputs)
    if len(done.steps) > limit:  # also when nothing is left: a graph of n steps needs a limit of n + 1
        done.ending = "limit"
    return done


def put(state: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state with the updates put in, one after the other."""
    result = dict(state)
    result.pop("spark", None)  # gone, unless it is written again
    for update in updates:
        if "mix" in update:
            result["mix"] = (result["mix"] * 31 + update["mix"]) % MODULUS
        if "trail" in update:
            result["trail"] = result["trail"] + update["trail"]
        for key in ("last", "spark"):
            if key in update:
                result[key] = update[key]
    return result


def looked(state: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
    """The state as the route of a node sees it: with the node's own writes, before the step has ended."""
    return {**{key: state[key] for key in ("spark",) if key in state}, **put(state, [output])}


def following(
    drawing: Drawing,
    state: Mapping[str, Any],
    inputs: Sequence[tuple[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    ran: set[str],
    waiting: Waiting,
) -> list[tuple[str, dict[str, Any] | None]]:
    """The tasks of the next step: named ones once, sent ones as often as they were sent. `ran` were not sent."""
    for (members, target), seen in zip(drawing.joins, waiting.joins, strict=True):
        if target in ran and seen == set(members):
            seen.clear()
    named: set[str] = set()
    sent: list[tuple[str, dict[str, Any] | None]] = []
    for (name, _), output in zip(inputs, outputs, strict=True):
        named |= {end for start, end in drawing.edges if start == name}
        for (members, _), seen in zip(drawing.joins, waiting.joins, strict=True):
            seen |= {name} & set(members)
        if name in drawing.routes:
            for goal in routed(name, drawing.routes[name], looked(state, output)):
                if isinstance(goal, tuple):
                    sent.append(goal)
                else:
                    named.add(goal)
    for index, (members, target) in enumerate(drawing.joins):
        if waiting.joins[index] == set(members):
            named.add(target)
    named.discard(END)
    waiting.late |= named & drawing.late
    named -= drawing.late
    if not named and not sent:
        named, waiting.late = waiting.late, set()
    return [(name, None) for name in sorted(named)] + sent
