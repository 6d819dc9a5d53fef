"""`fanfold agents`: which agents there are."""

from __future__ import annotations

from pathlib import Path

import click

from fanfold.agents.definition import AgentDefinition, Catalogue
from fanfold.cli.common import json_option, print_json, say
from fanfold.live import clean


@click.group()
def agents() -> None:
    """See which agents there are."""


@agents.command()
@json_option
def ls(as_json: bool) -> None:
    """List the agents that a name can mean here, and what is wrong with files that cannot be used."""
    catalogue = Catalogue.load(Path.cwd())
    for definition in catalogue:
        if as_json:
            print_json(_plain(definition))
        else:
            summary = " ".join(clean(definition.description).split())
            print(f"{definition.name:<24} {definition.origin:<9} {summary[:100]}")
    for problem in catalogue.problems:
        say(f"note: {problem.path}: {problem.message}")


def _plain(definition: AgentDefinition) -> dict[str, object]:
    return {
        "name": definition.name,
        "description": definition.description,
        "origin": definition.origin,
        "source": None if definition.source is None else str(definition.source),
        "backend": definition.backend,
        "model": definition.model,
        "tools": None if definition.tools is None else list(definition.tools),
    }
