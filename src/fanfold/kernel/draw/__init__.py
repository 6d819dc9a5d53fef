"""Drawings of a graph. All of them are made from one neutral picture, and those with boxes from one layout::

    Plan ── picture ──▶ Picture ─┬─ to_json, mermaid, dot
                                 └─ layout ──▶ Layout ─┬─ ascii
                                                       └─ svg

The modules are not named like the functions, since an attribute of a package can be only one of the two.
"""

from fanfold.kernel.draw.graphviz import dot
from fanfold.kernel.draw.mermaidjs import mermaid
from fanfold.kernel.draw.placing import Box, Caption, Layout, Line, layout
from fanfold.kernel.draw.scene import DrawnEdge, DrawnNode, Picture, picture, to_json
from fanfold.kernel.draw.textual import ascii
from fanfold.kernel.draw.vector import svg

__all__ = [
    "Box",
    "Caption",
    "DrawnEdge",
    "DrawnNode",
    "Layout",
    "Line",
    "Picture",
    "ascii",
    "dot",
    "layout",
    "mermaid",
    "picture",
    "svg",
    "to_json",
]
