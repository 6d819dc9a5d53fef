"""`fanfold agents`: which agents there are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fanfold.agents.definition import AgentDefinition, Catalogue
from fanfold.agents.heeded import keys_of, unheeded
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


@agents.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what a name means here: the definition, and what of it nobody heeds."""
    definition = Catalogue.load(Path.cwd()).get(name)
    if as_json:
        print_json({**_plain(definition), **keys_of(definition), "prompt": definition.prompt})
    else:
        print(f"name: {definition.name}")
        print(f"description: {' '.join(clean(definition.description).split())}")
        print(f"source: {definition.source or definition.origin}")
        print(f"backend: {definition.backend}")
        for key, value in keys_of(definition).items():
            print(f"{key}: {clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")
        if definition.prompt:
            print(f"\n{clean(definition.prompt)}")
    for key in unheeded(definition):
        say(f"note: {_unheeded(definition, key)}")


@agents.command()
@json_option
def check(as_json: bool) -> None:
    """Say what is odd about the agent files that count here; exits with 2 when one cannot be used."""
    catalogue = Catalogue.load(Path.cwd())
    odd = [(problem.path, problem.message) for problem in catalogue.problems]
    for definition in catalogue:
        odd += [(definition.source, _unheeded(definition, key)) for key in unheeded(definition)]
    for path, message in odd:
        if as_json:
            print_json({"path": None if path is None else str(path), "message": message})
        else:
            print(f"{path or 'this run'}: {message}")
    broken, names = catalogue.broken(), len(list(catalogue))
    say(f"agents that can be asked: {names}; files that cannot be used: {len(broken)}; odd things: {len(odd)}")
    if broken:
        raise click.exceptions.Exit(2)


def _unheeded(definition: AgentDefinition, key: str) -> str:
    return f"key {key!r} is not heeded by backend {definition.backend!r}"


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
