"""`fanfold research`: a debate, and specialists who look into what it leaves open."""

from __future__ import annotations

import click

from fanfold.cli import FAILED
from fanfold.cli.common import (
    display_options,
    existing_folder,
    json_option,
    open_named_store,
    say,
    store_option,
)
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.models import chosen, model_options
from fanfold.cli.outcome import RESEARCH
from fanfold.cli.reports import check_files, report_options, show
from fanfold.cli.sitting import Sitting
from fanfold.limits import Limits


@click.command()
@click.argument("topic")
@click.option("--source", default=".", metavar="DIR", help="The folder to look into.  [default: this one]")
@click.option("--specialists", default=15, show_default=True, type=click.IntRange(1, 15), help="Most that are asked.")
@click.option("--only", is_flag=True, help="Ask only what the verdict asks for, and no further kinds.")
@click.option("--at-once", default=8, show_default=True, type=click.IntRange(1), help="Most that work at once.")
@click.option("--quorum", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Part that has to answer.")
@click.option("--revisions", default=1, show_default=True, type=click.IntRange(0, 5), help="New debates, if sent back.")
@report_options
@model_options
@limit_options
@store_option
@display_options
@json_option
def research(
    topic: str,
    source: str,
    specialists: int,
    only: bool,
    at_once: int,
    quorum: float,
    revisions: int,
    output: str | None,
    export: str | None,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Debate TOPIC, and have up to 15 specialists look into what that leaves open, 8 of them at once.

    A validator stands between: it can stop the research, or send the verdict back. Two synthesizers make a report of
    what was found, with its sources. Without a named model the rehearsal model answers: quotes are real, and the
    report says what a language model would be needed for.
    """
    from fanfold.teams.research import Research, Researched

    folder = existing_folder(source, "--source")
    check_files(output, export)
    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    plan = {"specialists": specialists, "only": only, "quorum": quorum, "revisions": revisions}
    team = Research(topic, sources=folder, at_once=at_once, **plan)  # type: ignore[arg-type]  # of several types
    say(str(answering))
    with open_named_store(store_url) as store:
        settings = {"graph": RESEARCH, "given": {"at_once": at_once}, **answering.settings}
        settings |= {"workspace": folder, "limits": held}
        compiled = team.graph.compile(store, name="research")
        sitting = Sitting(compiled, settings, plain=plain, quiet=quiet or as_json)
        options = {**answering.settings, "workspace": folder, "limits": Limits(**held)}
        result = sitting.invoke(team.input, **options)
    came_to = Researched.of(result, sitting.receipt, at_once=at_once)
    show(sitting, came_to, output, export, as_json)
    if came_to.phase == "failed":
        say(f"the research has failed: {came_to.failure}")
        click.get_current_context().exit(FAILED)
