"""`fanfold agents`: which agents there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from fanfold.agents import sizes
from fanfold.agents.backends.process import asks_a_model
from fanfold.agents.definition import AgentDefinition, Catalogue, Problem
from fanfold.agents.heeded import keys_of, unheeded
from fanfold.agents.models import from_environment
from fanfold.agents.processes import lacks
from fanfold.cli.common import json_option, print_json, say
from fanfold.errors import AgentFileError, AgentNotFoundError, did_you_mean
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
        said = {**_plain(definition), **keys_of(definition), "prompt": definition.prompt}
        print_json({**said, "answered_by": _answered_by(definition), "unheeded": unheeded(definition)})
    else:
        print(f"name: {definition.name}")
        print(f"description: {' '.join(clean(definition.description).split())}")
        print(f"source: {definition.source or definition.origin}")
        print(f"backend: {definition.backend}")
        print(f"answered by: {_answered_by(definition)}")
        for key, value in keys_of(definition).items():
            print(f"{key}: {clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")
        if definition.prompt:
            print(f"\n{clean(definition.prompt)}")
    for message, _ in _doubts(definition):
        say(f"note: {message}")


@agents.command()
@click.argument("folder", required=False)
@json_option
def check(folder: str | None, as_json: bool) -> None:
    """Say what is odd about the agent files that count here, or those of FOLDER; exits with 2 when one cannot be used.

    That is: files that cannot be used, unknown keys, wrong values, duplicates, files whose name means another, keys
    that what runs the agent does not heed, and less memory than it takes.
    """
    catalogue = Catalogue.load(Path.cwd()) if folder is None else Catalogue.below(Path(folder))
    odd = _odd(catalogue)
    for problem in odd:
        if as_json:
            path = None if problem.path is None else str(problem.path)
            print_json({"path": path, "kind": problem.kind, "message": problem.message})
        else:
            print(clean(str(problem)))
    unusable = sum(problem.kind == "unusable" for problem in odd)
    names = len(list(catalogue))
    say(f"agents that can be asked: {names}; files that cannot be used: {unusable}; odd things: {len(odd)}")
    if any(definition.backend in ("process", "claude") for definition in catalogue):
        for text in lacks():
            say(f"note: {text}")
    if unusable:
        raise click.exceptions.Exit(2)


def _doubts(definition: AgentDefinition) -> Iterator[tuple[str, str]]:
    """What an agent's file says in vain or to its harm, and of which kind that is."""
    for key in unheeded(definition):
        yield f"key {key!r} is not heeded by backend {definition.backend!r}", "unheeded"
    if said := sizes.doubt(definition):
        yield said, "odd"


def _odd(catalogue: Catalogue) -> list[Problem]:
    """What is odd about the files, and about the agents that they define."""
    odd = list(catalogue.problems)
    for definition in catalogue:
        said = list(_doubts(definition))
        said += [(f"may call {name!r}, and {why}", "odd") for name, why in _missing(catalogue, definition)]
        odd += [Problem(definition.source, message, kind) for message, kind in said]
    return odd


def _missing(catalogue: Catalogue, definition: AgentDefinition) -> Iterator[tuple[str, str]]:
    """The agents that it may call and that cannot be called."""
    for name in definition.peers() or ():
        try:
            catalogue.get(name)
        except AgentNotFoundError:
            yield name, f"there is no such agent{did_you_mean(name, [each.name for each in catalogue])}"
        except AgentFileError:
            yield name, "its file cannot be used"


def _answered_by(definition: AgentDefinition) -> str:
    """What answers an agent of this definition: the model that is configured for it here, or what it is instead."""
    if definition.backend not in ("model", "claude") and not asks_a_model(definition):
        return "its program" if definition.backend == "process" else "its function"
    meant = definition.model and from_environment().get(definition.model.casefold())
    return f"{meant}, by FANFOLD_MODELS" if meant else "the run's model"


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
