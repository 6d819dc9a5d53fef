"""A picture as a Mermaid flowchart.

Names become ids of our own, and labels keep only what Mermaid cannot take for something else (quotes, entities,
markdown, comments, lists): the rest is written as `#code;`. So a node may be called `end`, or `"]; click me`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from fanfold.kernel.draw.scene import DrawnEdge, EdgeKind, Named, NodeKind, Picture, named, shown

_ARROWS: Final[dict[EdgeKind, str]] = {"plain": "-->", "join": "==>", "conditional": "-.->"}
_CLASSES: Final[dict[NodeKind, str]] = {"node": "", "start": ":::first", "end": ":::last"}
_STYLE: Final = (
    "classDef first fill:#dcfce7,stroke:#16a34a,color:#14532d",
    "classDef last fill:#e2e8f0,stroke:#64748b,color:#1e293b",
)
# Letters and digits, a blank, and a single - or _ inside of a word mean nothing to Mermaid; group 1 is all else.
_MARK: Final = re.compile(r"[^\W_]|[ ]|(?<=[^\W_])[-_](?=[^\W_])|(.)")


def mermaid(picture: Picture) -> str:
    """The source of a flowchart: dotted arrows are conditional, thick ones a join, titled boxes are sub-graphs."""
    lines = (*_lines(named(picture), picture.edges), *_STYLE)
    return "\n".join(("flowchart TD", *(f"    {line}" for line in lines))) + "\n"


def _lines(nodes: Mapping[str, Named], edges: Iterable[DrawnEdge]) -> Iterable[str]:
    for node in nodes.values():
        yield from _node(node)
    yield from (_edge(edge, nodes[edge.source], nodes[edge.target]) for edge in edges)


def _node(named: Named) -> Iterable[str]:
    label, kind = _quoted(named.node.label), named.node.kind
    if named.node.inside and named.inside:
        yield f"subgraph {named.id}[{label}]"
        yield from (f"    {line}" for line in _lines(named.inside, named.node.inside.edges))
        yield "end"
    else:
        yield f"{named.id}[{label}]" if kind == "node" else f"{named.id}([{label}]){_CLASSES[kind]}"


def _edge(edge: DrawnEdge, source: Named, target: Named) -> str:
    label = f"|{_quoted(edge.label)}|" if edge.label else ""
    start, end = source.id, target.id
    if source is target:  # not every Mermaid can draw a loop at a sub-graph; its last and first node stand in
        start, end = source.anchor(-1), target.anchor(0)
    return f"{start} {_ARROWS[edge.kind]}{label} {end}"


def _quoted(text: str) -> str:
    return '"' + (_MARK.sub(_coded, shown(text)) or " ") + '"'


def _coded(mark: re.Match[str]) -> str:
    return f"#{ord(mark[1])};" if mark[1] else mark[0]
