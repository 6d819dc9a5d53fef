"""`fanfold graph`: what a graph looks like, without running it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from fanfold.cli.common import check_writable, say
from fanfold.cli.loading import load_graph
from fanfold.drawing import Drawing

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
