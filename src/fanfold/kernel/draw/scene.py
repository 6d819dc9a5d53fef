"""The neutral picture of a graph: its nodes and edges as facts, before anybody decides how they look.

A conditional edge is an edge to each of its targets, with the answer that leads there as its label. One without
targets may lead anywhere, so it is drawn to every node and to END. A node that holds a graph has that graph's picture
`inside`, as deep as graphs are nested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fanfold.errors import GraphError, did_you_mean
from fanfold.kernel.plan import Plan
from fanfold.types import END, START

NodeKind: TypeAlias = Literal["start", "end", "node"]
EdgeKind: TypeAlias = Literal["plain", "join", "conditional"]


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A node as it is drawn. `label` is what people read, `name` what edges refer to."""

    name: str
    label: str
    kind: NodeKind = "node"
    inside: Picture | None = None


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """An edge as it is drawn. The edges of one join share a number in `join`."""

    source: str
    target: str
    kind: EdgeKind = "plain"
    label: str = ""
    join: int = 0

    @property
    def conditional(self) -> bool:
        """Whether it may also not be taken."""
        return self.kind == "conditional"


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph as it is drawn. Raises `GraphError` for a name used twice, and for an edge of a node it does not have."""

    name: str
    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]

    def __post_init__(self) -> None:
        known = Counter(node.name for node in self.nodes)
        missing = dict.fromkeys(end for edge in self.edges for end in (edge.source, edge.target) if end not in known)
        problems = [
            *(f"picture {self.name!r} has several nodes named {name!r}" for name, times in known.items() if times > 1),
            *(f"picture {self.name!r} has an edge of {end!r}, which is none of its nodes" for end in missing),
        ]
        if problems:
            raise GraphError(problems)


def picture(plan: Plan, subgraphs: Mapping[str, Plan | Picture] | None = None) -> Picture:
    """The picture of `plan`, with the graphs that its nodes hold drawn inside of them.

    For deeper nesting give the picture of a sub-graph, made with its own `subgraphs`. Raises `GraphError` when
    `subgraphs` names a node that the plan lacks.
    """
    edges = tuple(dict.fromkeys(_edges(plan)))
    leaving = {edge.source for edge in edges}
    names = [name for name in plan.nodes if name != START]
    edges += tuple(DrawnEdge(name, END) for name in names if name not in leaving)
    inside = {
        name: graph if isinstance(graph, Picture) else picture(graph) for name, graph in (subgraphs or {}).items()
    }
    if unknown := [name for name in inside if name not in names]:
        raise GraphError(
            f"subgraph of {name!r}: graph {plan.name!r} has no such node{did_you_mean(name, names)}" for name in unknown
        )
    ends = (DrawnNode(END, "END", "end"),) if any(edge.target == END for edge in edges) else ()
    nodes = (DrawnNode(name, name, "node", inside.get(name)) for name in names)
    return Picture(plan.name, (DrawnNode(START, "START", "start"), *nodes, *ends), edges)


def _edges(plan: Plan) -> Iterable[DrawnEdge]:
    """The only reader of a plan's edges in here."""
    everything = [*(name for name in plan.nodes if name != START), END]
    for node in plan.nodes.values():
        yield from (DrawnEdge(node.name, target) for target in (*node.targets, *([END] if node.ends else [])))
        for target, label in node.destinations.items():
            yield DrawnEdge(node.name, target, "conditional", label)
        for route in node.routes:
            for key, target in (
                ((name, name) for name in everything) if route.targets is None else route.targets.items()
            ):
                yield DrawnEdge(node.name, target, "conditional", "" if key == target else str(key))
    for number, join in enumerate(plan.joins, start=1):
        members = sorted(join.members, key=lambda name: plan.nodes[name].order)
        yield from (DrawnEdge(member, join.target, "join", join=number) for member in members)


def to_json(picture: Picture) -> dict[str, Any]:
    """The picture as plain data: `name`, `nodes` and `edges`; what does not apply to one is left out of it."""
    return {
        "name": picture.name,
        "nodes": [_node_data(node) for node in picture.nodes],
        "edges": [_edge_data(edge) for edge in picture.edges],
    }


def _node_data(node: DrawnNode) -> dict[str, Any]:
    data: dict[str, Any] = {"name": node.name, "label": node.label, "kind": node.kind}
    return data if node.inside is None else data | {"inside": to_json(node.inside)}


def _edge_data(edge: DrawnEdge) -> dict[str, Any]:
    data: dict[str, Any] = {"source": edge.source, "target": edge.target, "kind": edge.kind}
    return data | ({"label": edge.label} if edge.label else {}) | ({"join": edge.join} if edge.join else {})


def shown(text: str) -> str:
    """`text` with whatever cannot be seen, or would steer a terminal or a parser, written as its escape code."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


@dataclass(frozen=True, slots=True)
class Named:
    """A node with an id that any language takes: ASCII letters, digits and `_`, and never a word of that language."""

    id: str
    node: DrawnNode
    inside: Mapping[str, Named]

    def anchor(self, place: Literal[0, -1]) -> str:
        """The id of the first or last node inside that holds none itself; its own where nothing is inside."""
        return list(self.inside.values())[place].anchor(place) if self.inside else self.id


def named(picture: Picture, prefix: str = "n") -> dict[str, Named]:
    """An id for each node of the picture, by name: unique by its number, readable by what follows it."""
    return {
        node.name: Named(
            f"{prefix}{index}{_slug(node.name)}",
            node,
            named(node.inside, f"{prefix}{index}n") if node.inside else {},
        )
        for index, node in enumerate(picture.nodes)
    }


def _slug(name: str) -> str:
    plain = "".join(mark if mark.isascii() and mark.isalnum() else "_" for mark in name[:40]).strip("_")
    return f"_{plain}" if plain else ""
