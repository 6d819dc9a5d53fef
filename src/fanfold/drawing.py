"""A compiled graph as a picture: Mermaid, DOT, text, SVG and JSON, all drawn offline from one layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanfold.errors import UnsupportedError
from fanfold.kernel.draw import Picture, dot, layout, mermaid, picture, svg, to_json
from fanfold.kernel.draw import ascii as drawn
from fanfold.kernel.plan import Plan

if TYPE_CHECKING:
    from fanfold.kernel.draw import DrawnEdge, DrawnNode


class Drawing:
    """A picture of a graph; notebooks show it as SVG."""

    def __init__(self, pictured: Picture) -> None:
        self.picture = pictured

    @property
    def nodes(self) -> dict[str, DrawnNode]:
        """The nodes by name, START and END among them."""
        return {node.name: node for node in self.picture.nodes}

    @property
    def edges(self) -> list[DrawnEdge]:
        """The edges, in the order in which they are drawn."""
        return list(self.picture.edges)

    def draw_mermaid(self, **_: Any) -> str:
        """A Mermaid flowchart. LangGraph's styling options are accepted and have no effect."""
        return mermaid(self.picture)

    def draw_ascii(self, *, unicode: bool = True) -> str:
        """Boxes and lines, for a terminal."""
        return drawn(layout(self.picture), unicode=unicode)

    def draw_svg(self) -> str:
        """One self-contained SVG."""
        return svg(layout(self.picture))

    def draw_dot(self) -> str:
        """Graphviz' language."""
        return dot(self.picture)

    def print_ascii(self) -> None:
        """Print the boxes and lines."""
        print(self.draw_ascii())

    def draw_png(self, *_: Any, **__: Any) -> bytes:
        """Raises `UnsupportedError`: pictures are drawn here, without a program or a server that would make pixels."""
        raise UnsupportedError(
            "a graph is not drawn as PNG",
            hint="draw_svg() draws it offline, draw_mermaid() and draw_dot() are for programs that make a PNG",
        )

    draw_mermaid_png = draw_png

    def to_json(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return to_json(self.picture)

    def _repr_svg_(self) -> str:
        return self.draw_svg()

    def __str__(self) -> str:
        return self.draw_ascii()


def pictured(plan: Plan, depth: int) -> Picture:
    """The picture of a plan, with the graphs that are its nodes drawn inside of them, `depth` levels down."""
    inner = {
        node.name: pictured(node.action.graph.plan, depth - 1)
        for node in plan.nodes.values()
        if depth > 0 and node.action is not None and hasattr(node.action.graph, "plan")
    }
    return picture(plan, inner)
