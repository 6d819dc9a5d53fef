"""What the pictures of a graph show, and that no name gets out of its place in any of their forms."""

from __future__ import annotations

import json
import operator
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import GraphError
from fanfold.kernel.draw import (
    DrawnEdge,
    DrawnNode,
    Layout,
    Picture,
    ascii,
    dot,
    layout,
    mermaid,
    picture,
    svg,
    to_json,
)
from fanfold.kernel.draw.scene import named, shown
from fanfold.kernel.graph import Builder
from fanfold.kernel.plan import Plan
from fanfold.types import END, START
from tests.kernel.drawing import drawn, pictures, rows

SVG = "{http://www.w3.org/2000/svg}"


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def built(*nodes: str) -> Builder:
    """A graph of these nodes with an edge from START to the first."""
    graph = Builder(State)
    for node in nodes:
        graph.add_node(node, lambda _: None)
    return graph.add_edge(START, nodes[0])


def edges(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [(edge.source, edge.target, edge.kind, edge.label) for edge in picture(plan).edges]


def everywhere(scene: Picture) -> Iterator[DrawnNode]:
    """All nodes, also those inside of others."""
    for node in scene.nodes:
        yield node
        if node.inside:
            yield from everywhere(node.inside)


# The picture


def test_nodes_come_in_the_order_of_their_definition_between_start_and_end() -> None:
    scene = picture(built("b", "a").add_edge("b", "a").plan("alphabet"))
    assert scene.name == "alphabet"
    assert [(node.name, node.label, node.kind) for node in scene.nodes] == [
        (START, "START", "start"),
        ("b", "b", "node"),
        ("a", "a", "node"),
        (END, "END", "end"),
    ]


def test_a_node_without_a_way_out_leads_to_the_end() -> None:
    assert edges(built("a", "b").add_edge("a", "b").plan()) == [
        (START, "a", "plain", ""),
        ("a", "b", "plain", ""),
        ("b", END, "plain", ""),
    ]


def test_a_graph_that_never_ends_has_no_end() -> None:
    scene = picture(built("a", "b").add_edge("a", "b").add_edge("b", "a").plan())
    assert [node.kind for node in scene.nodes] == ["start", "node", "node"]


def test_a_conditional_edge_leads_to_each_target_and_says_what_answer_leads_there() -> None:
    graph = built("a", "b").add_conditional_edges("a", lambda _: True, {True: "b", "b": "b", "stop": END})
    assert edges(graph.plan())[1:4] == [
        ("a", "b", "conditional", "True"),
        ("a", "b", "conditional", ""),
        ("a", END, "conditional", "stop"),
    ]


def test_the_targets_of_a_conditional_edge_may_come_from_its_annotation() -> None:
    def choose(_: Any) -> Literal["b", "__end__"]:
        return "b"

    graph = built("a", "b").add_conditional_edges("a", choose)
    assert edges(graph.plan())[1:3] == [("a", "b", "conditional", ""), ("a", END, "conditional", "")]


def test_where_the_commands_of_a_node_lead_is_drawn_with_what_is_said_of_it() -> None:
    graph = Builder(State).add_node("b", lambda _: None).add_edge(START, "a")
    graph.add_node("a", lambda _: None, destinations={"b": "on success"})
    assert edges(graph.plan())[1:] == [("a", "b", "conditional", "on success"), ("b", END, "plain", "")]


def test_a_conditional_edge_that_may_answer_anything_leads_to_every_node_and_the_end_once() -> None:
    graph = built("a", "b").add_conditional_edges("a", lambda _: "b")

    def other(_: Any) -> str:
        return "b"

    assert edges(graph.add_conditional_edges("a", other).plan())[1:4] == [
        ("a", "a", "conditional", ""),
        ("a", "b", "conditional", ""),
        ("a", END, "conditional", ""),
    ]


def test_the_edges_of_one_join_share_a_number() -> None:
    graph = built("a", "b", "c", "d").add_edge(["b", "a"], "d").add_edge(["c", "a"], "d")
    joined = [(edge.source, edge.join) for edge in picture(graph.plan()).edges if edge.kind == "join"]
    assert joined == [("a", 1), ("b", 1), ("a", 2), ("c", 2)]


def test_graphs_are_drawn_inside_the_nodes_that_hold_them_as_deep_as_they_are_nested() -> None:
    deep = picture(built("team").plan(), {"team": built("writer").plan("deepest")})
    scene = picture(built("a", "b").plan(), {"a": deep, "b": built("only").plan("flat")})
    assert [node.inside.name if node.inside else None for node in everywhere(scene)] == [
        None, "graph", None, "deepest", None, None, None, None, "flat", None, None, None, None,
    ]  # fmt: skip


def test_a_subgraph_of_a_node_that_is_not_there_is_refused_with_a_suggestion() -> None:
    with pytest.raises(GraphError, match=r"subgraph of 'tema': .* did you mean 'team'\?"):
        picture(built("team").plan(), {"tema": built("x").plan()})


def test_a_picture_names_every_doubled_node_and_every_edge_that_leads_nowhere() -> None:
    with pytest.raises(GraphError) as caught:
        Picture("torn", (DrawnNode("a", "a"), DrawnNode("a", "b")), (DrawnEdge("a", "x"), DrawnEdge("y", "a")))
    assert caught.value.problems == (
        "picture 'torn' has several nodes named 'a'",
        "picture 'torn' has an edge of 'x', which is none of its nodes",
        "picture 'torn' has an edge of 'y', which is none of its nodes",
    )


def test_the_picture_as_data_leaves_out_what_does_not_apply() -> None:
    scene = drawn("a ~> team yes\nteam => b", team=drawn("x -> y"))
    numbered = Picture("graph", scene.nodes, (*scene.edges[:1], DrawnEdge("team", "b", "join", join=2)))
    assert to_json(numbered) == {
        "name": "graph",
        "nodes": [
            {"name": "a", "label": "a", "kind": "node"},
            {
                "name": "team",
                "label": "team",
                "kind": "node",
                "inside": {
                    "name": "graph",
                    "nodes": [
                        {"name": "x", "label": "x", "kind": "node"},
                        {"name": "y", "label": "y", "kind": "node"},
                    ],
                    "edges": [{"source": "x", "target": "y", "kind": "plain"}],
                },
            },
            {"name": "b", "label": "b", "kind": "node"},
        ],
        "edges": [
            {"source": "a", "target": "team", "kind": "conditional", "label": "yes"},
            {"source": "team", "target": "b", "kind": "join", "join": 2},
        ],
    }


@given(pictures())
def test_the_data_holds_every_node_and_edge_and_can_be_written_as_json(scene: Picture) -> None:
    data = json.loads(json.dumps(to_json(scene)))
    assert [node["name"] for node in data["nodes"]] == [node.name for node in scene.nodes]
    assert [(edge["source"], edge["target"]) for edge in data["edges"]] == [(e.source, e.target) for e in scene.edges]


@given(pictures(depth=2))
def test_ids_are_unique_and_of_letters_digits_and_underscores(scene: Picture) -> None:
    def ids(nodes: Any) -> Iterator[str]:
        for node in nodes.values():
            yield node.id
            yield from ids(node.inside)

    found = list(ids(named(scene)))
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"n[A-Za-z0-9_]+", name) for name in found)


def test_ids_of_nested_nodes_differ_from_those_of_nodes_named_like_them() -> None:
    scene = Picture("g", (DrawnNode("0_x", "0_x", inside=drawn("x -> y")),), ())
    assert named(scene)["0_x"].id != named(scene)["0_x"].inside["x"].id


@given(st.text())
def test_what_is_shown_can_be_printed_and_shown_again_without_a_change(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(shown(text)) == shown(text)


# Mermaid

MERMAID_NODE = re.compile(r'^ *(?:subgraph )?(n[A-Za-z0-9_]*)(?:\["([^"]*)"\]|\(\["([^"]*)"\]\)(?::::(?:first|last)))$')
MERMAID_EDGE = re.compile(r'^ *(n[A-Za-z0-9_]*) (?:-->|==>|-\.->)(?:\|"([^"]*)"\|)? (n[A-Za-z0-9_]*)$')
MERMAID_REST = re.compile(r"^(flowchart TD| *end| *classDef (first|last) [a-z0-9:,#]+)$")


def decoded(text: str) -> str:
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text)


@given(pictures(depth=2))
def test_mermaid_has_nothing_but_one_line_for_every_node_and_edge_whatever_their_names(scene: Picture) -> None:
    lines = mermaid(scene).splitlines()
    nodes = [match for line in lines if (match := MERMAID_NODE.match(line))]
    ways = [match for line in lines if (match := MERMAID_EDGE.match(line))]
    assert len(nodes) + len(ways) + sum(1 for line in lines if MERMAID_REST.match(line)) == len(lines)
    labels = Counter(decoded(match[2] or match[3]) for match in nodes)
    assert labels == Counter(shown(node.label) or " " for node in everywhere(scene))
    assert {end for way in ways for end in (way[1], way[3])} <= {node[1] for node in nodes}


@given(pictures())
def test_mermaid_keeps_of_a_label_only_what_it_cannot_take_for_something_else(scene: Picture) -> None:
    for text in re.findall(r'"([^"]*)"', mermaid(scene)):
        assert re.fullmatch(r"(?:[^\W_]|[ ]|(?<=[^\W_])[-_](?=[^\W_])|#\d+;)+", text)


def test_mermaid_tells_conditional_edges_joins_and_subgraphs_apart() -> None:
    scene = drawn("START -> plan-b\nplan-b ~> team go on\nteam => END", team=drawn("x -> y"))
    assert mermaid(scene) == rows("""
        flowchart TD
            n0_START(["START"]):::first
            n1_plan_b["plan-b"]
            subgraph n2_team["team"]
                n2n0_x["x"]
                n2n1_y["y"]
                n2n0_x --> n2n1_y
            end
            n3_END(["END"]):::last
            n0_START --> n1_plan_b
            n1_plan_b -.->|"go on"| n2_team
            n2_team ==> n3_END
            classDef first fill:#dcfce7,stroke:#16a34a,color:#14532d
            classDef last fill:#e2e8f0,stroke:#64748b,color:#1e293b
    """)


def test_a_loop_at_a_subgraph_runs_from_its_last_to_its_first_node() -> None:
    scene = drawn("team -> team", team=drawn("x -> inner", inner=drawn("y -> z")))
    assert "n0n1n1_z --> n0n0_x" in mermaid(scene)
    assert "n0n1n1_z -> n0n0_x;" in dot(scene)


# Graphviz

DOT_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|->|[A-Za-z0-9_.]+|[{}\[\];,=]|\s+')


def dot_tokens(text: str) -> list[str]:
    tokens = DOT_TOKEN.findall(text)
    assert "".join(tokens) == text
    return [token for token in tokens if not token.isspace()]


def dot_text(token: str) -> str:
    assert not re.search(r"&(?!amp;)", token)
    return re.sub(r"\\(.)", r"\1", token[1:-1]).replace("&amp;", "&")


@given(pictures(depth=2))
def test_dot_labels_every_node_once_and_quotes_whatever_is_in_their_names(scene: Picture) -> None:
    tokens = dot_tokens(dot(scene))
    assert tokens[:3] == ["digraph", tokens[1], "{"]
    assert dot_text(tokens[1]) == shown(scene.name)
    labels = [dot_text(tokens[index + 2]) for index, token in enumerate(tokens) if token == "label"]
    expected = [*(shown(node.label) for node in everywhere(scene)), *(shown(text) for text in edge_labels(scene))]
    assert Counter(labels) == Counter(expected)
    assert tokens.count("{") == tokens.count("}")


def edge_labels(scene: Picture) -> list[str]:
    inner = [text for node in scene.nodes if node.inside for text in edge_labels(node.inside)]
    return [*(edge.label for edge in scene.edges if edge.label), *inner]


def test_dot_cuts_edges_off_at_the_border_of_a_cluster() -> None:
    source = dot(drawn("a ~> team go\nteam => b", team=drawn("x -> y")))
    assert "subgraph cluster_n1_team {" in source
    assert 'n0_a -> n1n0_x [label="go", style=dashed, lhead=cluster_n1_team];' in source
    assert "n1n1_y -> n2_b [penwidth=2.5, ltail=cluster_n1_team];" in source


def test_a_node_that_holds_an_empty_graph_is_an_ordinary_node_of_a_source_text() -> None:
    scene = drawn("a -> b", b=Picture("nothing", (), ()))
    assert 'n1_b["b"]' in mermaid(scene)
    assert 'n1_b [label="b"];' in dot(scene)


# SVG


def texts(root: ElementTree.Element) -> Counter[str]:
    return Counter(element.text or "" for element in root.iter(f"{SVG}text"))


def written(laid: Layout) -> Counter[str]:
    own = Counter([*(box.label for box in laid.boxes), *(caption.text for caption in laid.captions)])
    return sum((written(box.inside) for box in laid.boxes if box.inside), own)


@given(pictures(depth=2))
def test_svg_is_well_formed_and_writes_every_label_once(scene: Picture) -> None:
    laid = layout(scene)
    root = ElementTree.fromstring(svg(laid))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert [(title.text or "") for title in root.iter(f"{SVG}title")] == [shown(scene.name)]
    assert texts(root) == written(laid)
    assert len(list(root.iter(f"{SVG}rect"))) == 1 + sum(1 for _ in everywhere(scene))


@given(pictures())
def test_svg_has_no_script_link_id_or_inline_style_whatever_the_names(scene: Picture) -> None:
    for element in ElementTree.fromstring(svg(layout(scene))).iter():
        assert element.tag.removeprefix(SVG) in {"svg", "title", "style", "rect", "g", "path", "text"}
        assert not {name for name in element.attrib if name in ("id", "style", "href") or name.startswith("on")}
    assert "url(" not in svg(layout(scene))


@given(pictures())
def test_svg_draws_inside_of_its_frame(scene: Picture) -> None:
    root = ElementTree.fromstring(svg(layout(scene)))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    numbers = [
        float(number) for path in root.iter(f"{SVG}path") for number in re.findall(r"-?[\d.]+", path.get("d", ""))
    ]
    assert all(-16 < number < max(width, height) for number in numbers)


def test_svg_draws_every_edge_and_dashes_what_is_conditional() -> None:
    root = ElementTree.fromstring(svg(layout(drawn("a ~> b\na -> c\nb => d\nc => d\nd ~> a\nd ~> d"))))
    lines = [path for path in root.iter(f"{SVG}path") if path.get("stroke-width")]
    assert len(lines) == 6
    assert [path.get("stroke-dasharray") is not None for path in lines] == [True, False, False, False, True, True]


def test_dashed_lines_that_share_a_way_begin_at_the_same_spot_so_that_their_dashes_agree() -> None:
    root = ElementTree.fromstring(svg(layout(drawn("a -> b\na -> c\nb ~> a\nc ~> a"))))
    dashed = [path.attrib["d"] for path in root.iter(f"{SVG}path") if path.get("stroke-dasharray")]
    assert len(dashed) == 2
    assert len({way.partition("L")[0] for way in dashed}) == 1


def test_svg_follows_the_colour_scheme_of_the_reader_and_works_where_styles_are_blocked() -> None:
    root = ElementTree.fromstring(svg(layout(drawn("a -> b"))))
    assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")
    assert {text.get("fill") for text in root.iter(f"{SVG}text")} == {"currentColor"}


# Text

PLAIN_NAMES = st.text("abcdefgh", min_size=3, max_size=7)


@given(pictures(PLAIN_NAMES.map(lambda name: f"<{name}>"), depth=2))
def test_text_writes_every_label_once(scene: Picture) -> None:
    laid = layout(scene)
    assert Counter(re.findall(r"<[a-h]+>", ascii(laid))) == written(laid)


@given(pictures())
def test_text_is_as_large_as_its_layout_and_steers_no_terminal(scene: Picture) -> None:
    laid = layout(scene)
    text = ascii(laid)
    assert text.count("\n") == laid.height
    assert all(line.isprintable() for line in text.split("\n"))


@given(pictures(PLAIN_NAMES))
def test_plain_text_is_ascii_and_has_the_shape_of_the_other(scene: Picture) -> None:
    laid = layout(scene)
    plain, fine = ascii(laid, unicode=False), ascii(laid)
    assert plain.isascii()
    assert [[mark == " " for mark in line] for line in plain.splitlines()] == [
        [mark == " " for mark in line] for line in fine.splitlines()
    ]


def test_text_of_no_nodes_is_empty() -> None:
    assert ascii(layout(Picture("nothing", (), ()))) == ""


def test_agents_that_fan_out_and_are_joined_look_like_it() -> None:
    team = "START -> ask\nask -> pro\nask -> con\nask -> law\npro => sum\ncon => sum\nlaw => sum\nsum -> END"
    assert ascii(layout(drawn(team))) == rows("""
                 ╭───────╮
                 │ START │
                 ╰───┬───╯
                     ▼
                  ┌─────┐
                  │ ask │
                  └──┬──┘
           ┌─────────┼─────────┐
           ▼         ▼         ▼
        ┌─────┐   ┌─────┐   ┌─────┐
        │ pro │   │ con │   │ law │
        └──┬──┘   └──┬──┘   └──┬──┘
           ┗━━━━━━━━━╋━━━━━━━━━┛
                     ▼
                  ┌─────┐
                  │ sum │
                  └──┬──┘
                     ▼
                  ╭─────╮
                  │ END │
                  ╰─────╯
    """)


def test_a_node_with_its_tools_and_a_loop_looks_like_it() -> None:
    loop = "START -> agent\nagent ~> tools call\nagent ~> END done\ntools -> agent\nagent ~> agent again"
    assert ascii(layout(drawn(loop)), unicode=False) == rows("""
        .-------.
        | START |
        '---+---'
            v
        +-------+
        | agent +..+ again
        |       |<.+
        +-----+-+
          ^   :
          |   +.......+
          |   :       :
          |   : call  : done
          |   :       ++
          |   v        v
        +-+-----+   .-----.
        | tools |   | END |
        +-------+   '-----'
    """)


def test_lines_that_only_cross_are_not_joined() -> None:
    assert ascii(layout(drawn("a -> c\na ~> d\nb ~> c\nb -> d"))) == rows("""
        ┌─────┐   ┌─────┐
        │ a   │   │ b   │
        └┬───┬┘   └┬───┬┘
         │   └┄┄┐  ┆   │
         │   ┌┄┄┆┄┄┘   │
         │   ┆  └┄┄┐   │
         ▼   ▼     ▼   ▼
        ┌─────┐   ┌─────┐
        │ c   │   │ d   │
        └─────┘   └─────┘
    """)


def test_a_graph_inside_of_a_node_is_drawn_in_its_box_and_wide_letters_keep_it_straight() -> None:
    assert ascii(layout(drawn("a -> 班\n班 -> b", 班=drawn("x -> y")))) == rows("""
          ┌───┐
          │ a │
          └─┬─┘
            ▼
        ┌───────┐
        │ 班    │
        │ ┌───┐ │
        │ │ x │ │
        │ └─┬─┘ │
        │   ▼   │
        │ ┌───┐ │
        │ │ y │ │
        │ └───┘ │
        └───┬───┘
            ▼
          ┌───┐
          │ b │
          └───┘
    """)


def test_a_mark_without_a_width_of_its_own_stays_with_its_letter() -> None:
    assert ascii(layout(Picture("g", (DrawnNode("e", "e\u0301a"),), ()))) == rows("""
        ┌─────┐
        │ e\u0301a  │
        └─────┘
    """)


def test_the_drawing_of_a_nested_graph_names_it_in_its_frame() -> None:
    laid = layout(drawn("a -> team", team=drawn("x ~> y maybe")))
    frame, *_ = [box for box in laid.boxes if box.inside]
    assert ascii(laid).splitlines()[frame.y + 1].startswith("│ team")
    assert texts(ElementTree.fromstring(svg(laid))) == written(laid)


def test_a_drawn_edge_says_whether_it_may_not_be_taken() -> None:
    drawn = picture(built("a", "b").add_conditional_edges("a", lambda _: "b", ["b"]).plan()).edges
    assert [(edge.target, edge.conditional) for edge in drawn] == [("a", False), ("b", True), (END, False)]
