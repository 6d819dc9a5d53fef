"""Where a layout puts things, whatever the picture is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Final

import pytest
from hypothesis import given

from fanfold.kernel.draw import Box, Caption, DrawnEdge, DrawnNode, Layout, Line, Picture, layers, layout
from fanfold.kernel.draw.placing import Point, text_width
from fanfold.kernel.draw.scene import EdgeKind, shown
from tests.kernel.drawing import acyclic, drawn, pictures

KINDS: Final[tuple[EdgeKind, ...]] = ("plain", "join", "conditional")

Area = tuple[int, int, int, int]


def area(box: Box) -> Area:
    return box.x, box.y, box.x + box.width - 1, box.y + box.height - 1


def written(caption: Caption) -> Area:
    return caption.x, caption.y, caption.x + max(1, text_width(caption.text)) - 1, caption.y


def overlap(one: Area, other: Area) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def on_border(point: Point, box: Box) -> bool:
    left, top, right, bottom = area(box)
    x, y = point
    return left <= x <= right and top <= y <= bottom and (x in (left, right) or y in (top, bottom))


def pieces(line: Line) -> Iterator[Area]:
    """The stretches of a line, without the cells of its ends."""
    (sx, sy), (ex, ey) = line.points[0], line.points[-1]
    for (ax, ay), (bx, by) in pairwise(line.points):
        left, top, right, bottom = min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)
        for x, y in ((sx, sy), (ex, ey)):
            left, right = left + (ay == by and x == left and y == ay), right - (ay == by and x == right and y == ay)
            top, bottom = top + (ax == bx and y == top and x == ax), bottom - (ax == bx and y == bottom and x == ax)
        yield left, top, right, bottom


def levels(laid: Layout) -> Iterator[Layout]:
    """The layout and all layouts inside of it."""
    yield laid
    for box in laid.boxes:
        if box.inside:
            yield from levels(box.inside)


def check(laid: Layout) -> None:
    """What is true of every layout."""
    boxes = {box.node.name: box for box in laid.boxes}
    for one, other in combinations([*map(area, laid.boxes), *map(written, laid.captions)], 2):
        assert not overlap(one, other)
    for line in laid.lines:
        check_line(line, boxes)
    for left, top, right, bottom in (*map(area, laid.boxes), *map(written, laid.captions)):
        assert min(left, top) >= 0
        assert right <= laid.width
        assert bottom < laid.height
    assert all(0 <= x < laid.width and 0 <= y < laid.height for line in laid.lines for x, y in line.points)


def check_line(line: Line, boxes: dict[str, Box]) -> None:
    assert on_border(line.points[0], boxes[line.edge.source])
    assert on_border(line.points[-1], boxes[line.edge.target])
    assert all((ax == bx) != (ay == by) for (ax, ay), (bx, by) in pairwise(line.points))
    for piece in pieces(line):
        assert not any(overlap(piece, area(box)) for box in boxes.values())


@given(pictures())
def test_boxes_and_labels_never_overlap_and_lines_run_between_their_boxes_and_through_none(picture: Picture) -> None:
    for laid in levels(layout(picture)):
        check(laid)


@given(pictures())
def test_every_node_has_one_box_and_every_edge_one_line(picture: Picture) -> None:
    laid = layout(picture)
    assert [box.node for box in laid.boxes] == list(picture.nodes)
    assert [line.edge for line in laid.lines] == list(picture.edges)


@given(pictures())
def test_every_label_stands_beside_the_line_that_it_belongs_to(picture: Picture) -> None:
    laid = layout(picture)
    labelled = [line for line in laid.lines if line.edge.label]
    assert Counter(shown(line.edge.label) for line in labelled) == Counter(caption.text for caption in laid.captions)
    for caption in laid.captions:
        beside = (caption.x - 2, caption.y, caption.x - 2, caption.y)
        assert any(
            shown(line.edge.label) == caption.text and any(overlap(beside, piece) for piece in pieces(line))
            for line in labelled
        )


def stretches(line: Line) -> set[tuple[Point, Point]]:
    """The line in pieces of one cell."""
    return {
        ((x, y), (x + (ay == by), y + (ax == bx)))
        for (ax, ay), (bx, by) in pairwise(line.points)
        for x in range(min(ax, bx), max(ax, bx) + (ax == bx))
        for y in range(min(ay, by), max(ay, by) + (ay == by))
    }


def may_share(one: DrawnEdge, other: DrawnEdge, picture: Picture) -> bool:
    """Whether edges may be drawn as one line for a while: if they part, each way on is one that each may go."""
    alike = (one.kind, one.join) == (other.kind, other.join)
    if one.source == other.source or one.target == other.target:
        return alike
    swapped = {(one.source, other.target), (other.source, one.target)}
    there = {(e.source, e.target) for e in picture.edges if (e.kind, e.join) == (one.kind, one.join)}
    return alike and one.kind != "conditional" and swapped <= there


def check_sharing(laid: Layout, picture: Picture) -> None:
    lines = [(line.edge, stretches(line)) for line in laid.lines]
    for (one, way), (other, along) in combinations(lines, 2):
        assert may_share(one, other, picture) or way.isdisjoint(along)


@given(pictures(depth=0))
def test_lines_share_a_way_only_where_all_that_can_be_read_from_it_is_true(picture: Picture) -> None:
    check_sharing(layout(picture), picture)


def test_two_lines_that_swap_their_columns_pass_each_other_in_a_third() -> None:
    ways = {
        line.edge: line for line in layout(drawn("a -> c\na ~> d\nb ~> c\nb -> d")).lines if line.edge.kind != "plain"
    }
    (one, other) = ways.values()
    assert stretches(one).isdisjoint(stretches(other))
    assert (one.points[0][0], one.points[-1][0]) == (other.points[-1][0], other.points[0][0])


@given(pictures())
def test_a_graph_inside_of_a_node_lies_within_its_box(picture: Picture) -> None:
    for box in layout(picture).boxes:
        if box.inside:
            x, y = box.origin
            assert x + box.inside.width < box.x + box.width
            assert box.y + 1 < y
            assert y + box.inside.height <= box.y + box.height - 1


@given(acyclic())
def test_every_edge_of_a_graph_without_cycles_leads_down(picture: Picture) -> None:
    laid = layout(picture)
    boxes = {box.node.name: box for box in laid.boxes}
    for edge in picture.edges:
        assert boxes[edge.source].y + boxes[edge.source].height < boxes[edge.target].y
    assert all(ay <= by for line in laid.lines for (_, ay), (_, by) in pairwise(line.points))


@given(pictures())
def test_the_same_picture_always_gets_the_same_layout(picture: Picture) -> None:
    assert layout(picture) == layout(Picture(picture.name, picture.nodes, picture.edges))


def test_a_chain_is_straight() -> None:
    laid = layout(drawn("START -> draft\ndraft -> review_everything\nreview_everything -> END"))
    assert len({x for line in laid.lines for x, _ in line.points}) == 1


def test_a_node_stands_over_the_middle_of_what_it_leads_to() -> None:
    laid = layout(drawn("a -> b\na -> c\na -> d\na -> e"))
    middles = [box.x + box.width // 2 for box in laid.boxes]
    assert middles[0] == sum(middles[1:]) // 4


def test_a_tree_is_drawn_without_a_crossing_even_when_its_nodes_are_declared_crosswise() -> None:
    laid = layout(drawn("r -> a\nr -> b\nb -> b1\na -> a1\nb -> b2\na -> a2"))
    places = {box.node.name: box.x for box in laid.boxes}
    below = sorted(("a1", "a2", "b1", "b2"), key=places.__getitem__)
    assert [name[0] for name in below] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
    assert (places["a"] < places["b"]) == (below[0][0] == "a")


def test_a_node_with_many_lines_is_wide_enough_for_a_port_each() -> None:
    laid = layout(drawn("\n".join(f"s{n} ~> hub" for n in range(9))))
    check(laid)
    assert len({line.points[-1] for line in laid.lines}) == 9


def test_the_side_of_a_node_with_fewer_but_wider_ports_decides_its_width_too() -> None:
    into = [f"s{n} ~> x" for n in range(5)]
    out = ["x -> a", "x => a", "x ~> a", "a -> x"]
    check(layout(drawn("\n".join((*into, *out)))))


def test_a_node_that_only_feeds_a_late_one_stands_near_it() -> None:
    laid = layout(drawn("START -> a\na -> b\nb -> c\nnotes -> c\nnotes -> d\nc -> d"))
    rows = {box.node.name: box.y for box in laid.boxes}
    assert rows["notes"] == rows["b"]


def long_edges(count: int) -> Picture:
    """A chain with so many edges across it that the longest of them take lanes at the side."""
    nodes = tuple(DrawnNode(str(n), str(n)) for n in range(count))
    steps = [DrawnEdge(str(n), str(n + 1)) for n in range(count - 1)]
    across = [
        edge
        for n in range(0, count - 40, 2)
        for edge in (
            DrawnEdge(str(n), str(n + 30)),
            DrawnEdge(str(n), str(n + 36)),
            DrawnEdge(str(n + 1), str(n + 31), "conditional", "far"),
            DrawnEdge(str(n + 33), str(n), "conditional", "back"),
        )
    ]
    return Picture("long", nodes, (*steps, *across))


def test_the_longest_of_many_long_edges_run_beside_the_layers_and_still_reach_their_boxes() -> None:
    scene = long_edges(120)
    laid = layout(scene)
    check(laid)
    check_sharing(laid, scene)
    lanes = {x for line in laid.lines for x, _ in line.points if x > max(box.x + box.width for box in laid.boxes)}
    assert len(lanes) < sum(1 for line in laid.lines if not lanes.isdisjoint(x for x, _ in line.points))


@pytest.mark.parametrize("seed", range(8))
def test_lanes_lead_where_they_should_when_every_long_edge_takes_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_PASSED", 0)
    scene = any_graph(seed, 20, 30)
    laid = layout(scene)
    check(laid)
    check_sharing(laid, scene)


def test_a_short_edge_never_takes_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = drawn("a -> b\nb -> c\nc -> d\na ~> c\na ~> d far\nd ~> a back")
    between_the_layers = layout(scene)
    monkeypatch.setattr(layers, "_PASSED", 0)
    assert layout(scene) == between_the_layers


def test_of_orders_that_were_seen_the_one_with_the_fewest_crossings_is_kept() -> None:
    ways = {line.edge: line for line in layout(drawn("a -> e\nb -> d\nc -> e\nb -> e")).lines}
    for (one, way), (other, along) in combinations(ways.items(), 2):
        if one.source != other.source and one.target != other.target:
            assert not any(overlap(piece, stretch) for piece in pieces(way) for stretch in pieces(along))


def test_a_long_edge_bends_no_more_than_at_its_ends() -> None:
    steps = [f"n{n} -> {'wide' * (n % 3)}n{n + 1}\n{'wide' * (n % 3)}n{n + 1} -> n{n + 1}" for n in range(8)]
    laid = layout(drawn("\n".join((*(step for step in steps if "wide" in step), "n1 ~> n3", "n1 => n6"))))
    check(laid)
    assert all(len(line.points) <= 6 for line in laid.lines)


def any_graph(seed: int, nodes: int, edges: int) -> Picture:
    """Denser than what is worth shrinking."""
    chance = random.Random(seed)
    names = [f"{n}-" + "n" * chance.randrange(9) for n in range(nodes)]
    made = (
        DrawnEdge(chance.choice(names), chance.choice(names), chance.choice(KINDS), chance.choice(("", "", "label")))
        for _ in range(edges)
    )
    return Picture("dense", tuple(DrawnNode(name, name) for name in names), tuple(made))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_true_of_small_pictures_is_true_of_dense_ones(seed: int) -> None:
    scene = any_graph(seed, 20, 55)
    laid = layout(scene)
    check(laid)
    check_sharing(laid, scene)


def test_a_picture_of_five_hundred_nodes_keeps_every_box_apart() -> None:
    laid = layout(any_graph(7, 500, 900))
    assert not any(overlap(area(a), area(b)) for a, b in combinations(laid.boxes, 2))


def test_a_chain_of_thousands_of_nodes_needs_no_recursion() -> None:
    count = 3000
    edges = tuple(DrawnEdge(str(n), str((n + 1) % count)) for n in range(count))
    laid = layout(Picture("ring", tuple(DrawnNode(str(n), "") for n in range(count)), edges))
    assert len({box.y for box in laid.boxes}) == count
