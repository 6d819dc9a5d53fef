"""`fanfold debate`: two sides argue a question with evidence from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

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
from fanfold.cli.outcome import DEBATE
from fanfold.cli.reports import check_files, report_options, show
from fanfold.cli.sitting import Sitting
from fanfold.errors import UsageError, did_you_mean
from fanfold.limits import Limits

_ROLES: Final = ("questioner", "advocate", "challenger", "judge", "synthesizer", "validator", "sample")


def _samples(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The number, or the word."""
    return value if value == "equal" else click.INT.convert(value, param, ctx)


@click.command()
@click.argument("question")
@click.option("--source", default=".", metavar="DIR", help="The folder to quote from.  [default: this one]")
@click.option("--advocates", default=2, show_default=True, metavar="N", help="How many speak for it.")
@click.option("--challengers", default=2, show_default=True, metavar="N", help="How many speak against it.")
@click.option("--rounds", default=2, show_default=True, metavar="N", help="Rounds of rebuttals, 0 to 4.")
@click.option("--topology", type=click.Choice(["full", "ring", "star"]), help="Who reads whom.")
@click.option("--protocol", type=click.Choice(["rounds", "cascade"]), default="rounds", show_default=True)
@click.option("--stop", metavar="RULE", help="When to end early, such as 'unanimity | stability | calls=40'.")
@click.option("--judge", type=click.Choice(["swapped", "once", "none"]), default="swapped", show_default=True)
@click.option("--vote", type=click.Choice(["majority", "weighted"]), default="majority", show_default=True)
@click.option(
    "--samples",
    callback=_samples,
    default="3",
    show_default=True,
    metavar="N|equal",
    help="Single answers, bought to compare with; 'equal': as many as cost what the debate does.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="By which names are hidden and orders drawn.")
@click.option("--role", "roles", multiple=True, metavar="ROLE=MODEL", help=f"The model of one of: {', '.join(_ROLES)}.")
@report_options
@model_options
@limit_options
@store_option
@display_options
@json_option
def debate(
    question: str,
    source: str,
    roles: tuple[str, ...],
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
    **how: Any,
) -> None:
    """Let two sides argue QUESTION, with quotes from a folder that are looked up, and decide.

    The verdict comes with dissent, with what is still open, and with what a plain vote would have said. What could not
    be relied on is said first. Without a named model the rehearsal model answers, which argues nothing: the quotes are
    real, and the report says what a language model would be needed for.
    """
    from fanfold.agents.backends.model import load

    load()  # says what has to be installed, if anything has
    from fanfold.teams.debate import Debate, Outcome

    folder = existing_folder(source, "--source")
    check_files(output, export)
    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    given = {**how, "models": _models(roles, answering.models)}
    team = Debate(question, sources=folder, **given)
    say(str(answering))
    with open_named_store(store_url) as store:
        settings = {"graph": DEBATE, "given": given, **answering.settings, "workspace": folder, "limits": held}
        compiled = team.graph.compile(store, name="debate")
        sitting = Sitting(compiled, settings, plain=plain, quiet=quiet or as_json)
        options = {**answering.settings, "workspace": folder, "limits": Limits(**held)}
        result = sitting.invoke(team.motion, **options)
    show(sitting, Outcome.of(result["transcript"], sitting.receipt), output, export, as_json)


def _models(roles: Sequence[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """The models of each role, of which members take turns. Raises `UsageError` for a role that there is not."""
    from fanfold.agents.models import meant

    models: dict[str, list[str]] = {}
    for text in roles:
        role, equals, name = text.partition("=")
        if role in _ROLES and not (equals and name.strip()):
            raise UsageError(f"--role {text!r} names no model", hint=f"say it as in: --role {role}=anthropic:NAME")
        if role not in _ROLES:
            close = did_you_mean(role, _ROLES)
            raise UsageError(f"--role {text!r} names no role{close}", hint=f"the roles are: {', '.join(_ROLES)}")
        models.setdefault(role, []).append(str(meant(name, aliases)))
    return models
