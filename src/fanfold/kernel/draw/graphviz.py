"""A picture in Graphviz's DOT language.

An edge in DOT cannot end at a cluster: it ends at a node in it and is cut off at the cluster's border. So an edge to
a node that holds a graph goes to the first node inside, and one from it starts at the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fanfold.kernel.draw.scene import DrawnEdge, EdgeKind, Named, NodeKind, Picture, named, shown

_HEAD: Final = (
    'graph [compound=true, fontname="monospace", color="#64748b", style=rounded];',
    'node [shape=box, style="rounded,filled", fillcolor="#eef2ff", color="#6366f1", fontname="monospace"];',
    'edge [color="#64748b", fontname="monospace", fontsize=11];',
)
_FILLS: Final[dict[NodeKind, tuple[str, ...]]] = {
    "node": (),
    "start": ('fillcolor="#dcfce7"', 'color="#16a34a"'),
    "end": ('fillcolor="#e2e8f0"', 'color="#64748b"'),
}
_STROKES: Final[dict[EdgeKind, tuple[str, ...]]] = {
    "plain": (),
    "join": ("penwidth=2.5",),
    "conditional": ("style=dashed",),
}


def dot(picture: Picture) -> str:
    """The source of a digraph: dashed edges are conditional, thick ones a join, clusters are sub-graphs."""
    lines = (*_HEAD, *_lines(named(picture), picture.edges))
    return "\n".join((f"digraph {_quoted(picture.name)} {{", *(f"    {line}" for line in lines), "}")) + "\n"


def _lines(nodes: Mapping[str, Named], edges: Iterable[DrawnEdge]) -> Iterable[str]:
    for node in nodes.values():
        yield from _node(node)
    yield from (_edge(edge, nodes[edge.source], nodes[edge.target]) for edge in edges)


def _node(named: Named) -> Iterable[str]:
    label = f"label={_quoted(named.node.label)}"
    if named.node.inside and named.inside:
        yield f"subgraph cluster_{named.id} {{"
        yield f"    {label};"
        yield from (f"    {line}" for line in _lines(named.inside, named.node.inside.edges))
        yield "}"
    else:
        yield f"{named.id} [{', '.join((label, *_FILLS[named.node.kind]))}];"


def _edge(edge: DrawnEdge, source: Named, target: Named) -> str:
    marks = (
        *((f"label={_quoted(edge.label)}",) if edge.label else ()),
        *_STROKES[edge.kind],
        *((f"ltail=cluster_{source.id}",) if source.inside and source is not target else ()),
        *((f"lhead=cluster_{target.id}",) if target.inside and source is not target else ()),
    )
    return f"{source.anchor(-1)} -> {target.anchor(0)}" + (f" [{', '.join(marks)}]" if marks else "") + ";"


def _quoted(text: str) -> str:
    # DOT reads \N and \l in a label, and HTML entities as well: neither may come out of a name.
    return '"' + shown(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') + '"'
