"""`fanfold graph`: what a graph looks like and where its nodes would wait, without running it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from fanfold.cli.common import check_writable, counted, json_option, print_json, say
from fanfold.cli.loading import load_graph
from fanfold.drawing import Drawing
from fanfold.kernel.waiting import Waiting, waits

FORMATS: Final[Mapping[str, Callable[[Drawing], str]]] = {
    "ascii": lambda drawing: drawing.draw_ascii(),
    "mermaid": lambda drawing: drawing.draw_mermaid(),
    "svg": lambda drawing: drawing.draw_svg(),
    "dot": lambda drawing: drawing.draw_dot(),
    "json": lambda drawing: json.dumps(drawing.to_json(), ensure_ascii=False, indent=2),
}


@click.group()
def graph() -> None:
    """See what a graph looks like."""


@graph.command()
@click.argument("graph", metavar="GRAPH")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="ascii", show_default=True)
@click.option("--xray", is_flag=True, help="Draw what is inside of nodes that are graphs, too.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file.")
def show(graph: str, form: str, xray: bool, output: str | None) -> None:
    """Draw GRAPH, which is module:attr or file.py:attr. Nothing of it runs."""
    if output:
        check_writable(output)
    drawn = FORMATS[form](load_graph(graph, None).get_graph(xray=xray)).rstrip("\n")
    if output:
        Path(output).write_text(drawn + "\n", encoding="utf-8")
        say(f"{form} written to {output}")
    else:
        print(drawn)


@graph.command()
@click.argument("graph", metavar="GRAPH")
@json_option
def check(graph: str, as_json: bool) -> None:
    """Say which nodes of GRAPH wait for which at a barrier, and which declarations would end that."""
    plan = load_graph(graph, None).plan
    found = list(waits(plan))
    nodes = [node for node in plan.nodes.values() if node.action is not None]
    declared = sum(node.writes is not None for node in nodes)
    if as_json:
        rows = [{**asdict(each), "needed": each.needed} for each in found]
        print_json({"graph": plan.name, "nodes": len(nodes), "declared": declared, "waits": rows})
        return
    print(f"graph {plan.name!r}: {counted(len(nodes), 'node')}, {declared} of them declare what they write")
    for each in found:
        print(f"{each.node} waits for {each.other}: {_why(each)}")
    if not found:
        print("no node waits for another one that it does not follow")


def _why(waiting: Waiting) -> str:
    """Why it waits, and what would end that."""
    if waiting.keys:
        seen = f"it sees {', '.join(map(repr, waiting.keys))}, written by {waiting.other} or by what that leads to"
        return f"{seen}; if it does not need that, give it reads=" if waiting.reads else seen
    ways = [f"writes= (or a return annotation) for {', '.join(waiting.writers)}"]
    if waiting.reads:
        ways.append(f"reads= (or an annotation of its input) for {waiting.node}")
    return "it would not with " + " and ".join(ways)
