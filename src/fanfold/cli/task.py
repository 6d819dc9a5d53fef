"""`fanfold task`: ask one agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fanfold.agents.definition import Catalogue
from fanfold.cli.common import (
    display_options,
    existing_folder,
    further,
    json_option,
    open_named_store,
    print_json,
    say,
    store_option,
)
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.models import chosen, model_options
from fanfold.cli.sitting import Sitting
from fanfold.errors import UsageError
from fanfold.limits import Limits
from fanfold.teams import single


@click.command()
@click.argument("agent")
@click.argument("prompt")
@click.option("--path", metavar="DIR", default=".", help="The folder that the agent sees.  [default: this one]")
@model_options
@limit_options
@store_option
@display_options
@json_option
def task(
    agent: str,
    prompt: str,
    path: str,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ask AGENT to do what PROMPT says; a PROMPT of - is read from standard input."""
    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    folder = existing_folder(path)
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise UsageError("the prompt is empty")
    Catalogue.load(Path.cwd()).get(agent)  # an agent that does not exist is no reason to begin a run
    say(str(answering))
    with open_named_store(store_url) as store:
        settings = {"graph": "fanfold.teams.single:graph", **answering.settings, "workspace": folder, "limits": held}
        sitting = Sitting(single.graph.compile(store, name="task"), settings, plain, quiet or as_json)
        options = {"workspace": folder, "limits": Limits(**held), **answering.settings}
        result = sitting.invoke({"agent": agent, "prompt": text}, **options)
    _show(sitting, result, as_json)


def _show(sitting: Sitting, result: Any, as_json: bool) -> None:
    if as_json:
        print_json({"run_id": sitting.run_id, **result})
        return
    for notice in sitting.notices:
        say(f"note: {notice}")
    print(result["output"])
    say(f"{result['model']} · {result['tool_uses']} tool calls · {result['total_tokens']:,} tokens")
    say(f"run {sitting.run_id} · {further(sitting.run_id)}")
