"""Pictures to draw: written as text, or of any shape at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fanfold.kernel.draw import DrawnEdge, DrawnNode, Picture

ARROWS: Any = {"->": "plain", "=>": "join", "~>": "conditional"}
KINDS: Any = {"START": "start", "END": "end"}


def drawn(text: str, **inside: Picture) -> Picture:
    """A picture of lines such as `a ~> b label`; nodes come in the order in which they are named."""
    edges = [(*line.split(maxsplit=3), "")[:4] for line in text.strip().splitlines()]
    names = dict.fromkeys(name for source, _, target, _ in edges for name in (source, target))
    return Picture(
        "graph",
        tuple(DrawnNode(name, name, KINDS.get(name, "node"), inside.get(name)) for name in names),
        tuple(DrawnEdge(source, target, ARROWS[arrow], label) for source, arrow, target, label in edges),
    )


def rows(text: str) -> str:
    """A drawing as it stands in a test, without the indentation there."""
    lines = text.strip("\n").rstrip(" \n").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "".join(line[margin:].rstrip() + "\n" for line in lines)


HOSTILE = st.one_of(
    st.text(max_size=12),
    st.text("\"'`\\<>&;#|[](){}%-=.*_\n\r\t\0\x1b\u202e\ud800é日\U0001d11e a1", max_size=8),
    st.sampled_from(
        ["end", "graph", "subgraph", "]]>", "</svg>", '"];', "%%{init", "__start__", "1. x", "&lt;", "\\N"]
    ),
)


@st.composite
def pictures(draw: st.DrawFn, texts: st.SearchStrategy[str] = HOSTILE, *, depth: int = 1, most: int = 9) -> Picture:
    """Any picture: loops, cycles, parallel edges, nodes that nothing leads to, and pictures inside of nodes."""
    names = draw(st.lists(texts, max_size=most, unique=True))
    inside = st.one_of(st.none(), pictures(texts, depth=depth - 1, most=4)) if depth else st.none()
    kinds: Any = st.sampled_from(["node", "node", "start", "end"])
    nodes = [DrawnNode(name, draw(texts) if draw(st.booleans()) else name, draw(kinds), draw(inside)) for name in names]
    return Picture(draw(texts), tuple(nodes), tuple(draw(edges(names, texts)) if names else ()))


def edges(names: list[str], texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[DrawnEdge]]:
    """Any edges between nodes of these names."""
    ends = st.sampled_from(names)
    kinds: Any = st.sampled_from(["plain", "join", "conditional"])
    labels = st.one_of(st.just(""), texts)
    return st.lists(st.builds(DrawnEdge, ends, ends, kinds, labels, st.integers(0, 2)), max_size=2 * len(names))


@st.composite
def acyclic(draw: st.DrawFn) -> Picture:
    """A picture whose edges all lead from a node to a later one, though its nodes are listed in any order."""
    count = draw(st.integers(2, 10))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    labels = st.sampled_from(["", "", "yes"])
    made = [
        DrawnEdge(str(a), str(b), draw(st.sampled_from(list(ARROWS.values()))), draw(labels))
        for a, b in draw(st.lists(pairs, max_size=16))
    ]
    order = draw(st.permutations(range(count)))
    return Picture("acyclic", tuple(DrawnNode(str(n), str(n)) for n in order), tuple(made))
