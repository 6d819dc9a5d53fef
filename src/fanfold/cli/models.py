"""`--model` and `--rehearse`: who answers the agents of a command, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fanfold.agents.models import MODEL, REHEARSAL, checked, from_environment, meant, pair
from fanfold.cli.common import F
from fanfold.errors import UsageError

_TEXT = (
    "Model of the agents, as anthropic:NAME or openai:NAME. As ALIAS=MODEL what that word means in agents' files; can"
    " be given several times.  [env: FANFOLD_MODEL, FANFOLD_MODELS; default: rehearsal]"
)


def model_option(function: F) -> F:
    """`--model`, as often as one likes."""
    return click.option("--model", "model", metavar="MODEL", multiple=True, help=_TEXT)(function)


def model_options(function: F) -> F:
    """`--model` and `--rehearse`."""
    function = model_option(function)
    return click.option("--rehearse", is_flag=True, help="Ask no language model; quote what the tools find.")(function)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who answers: the run's model by its name, and what aliases in agents' files mean."""

    model: str
    models: Mapping[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """As a run is given it, and as it is stored for a resume."""
        return {"model": self.model, "models": dict(self.models)}

    def __str__(self) -> str:
        """For people; that the rehearsal is no language model is never left out."""
        aliases = "".join(f"; {alias}: {model}" for alias, model in self.models.items())
        return f"{which_model(self.model)}{aliases}"


def chosen(named: Sequence[str], *, rehearse: bool = False, before: Mapping[str, Any] | None = None) -> Chosen:
    """Who is to answer: what was named, else what a run had `before`, else the environment's, else the rehearsal.

    Raises `UsageError` for a name that can mean nothing, and `ModelKeyError` for a model without a key.
    """
    if named and rehearse:
        raise UsageError("--model and --rehearse exclude each other", hint="leave one of them out")
    if rehearse:
        return Chosen(REHEARSAL, {})
    before = before or {}
    bare = [name for name in named if "=" not in name]
    if len(bare) > 1:
        raise UsageError(
            f"--model names {len(bare)} models for one run: {', '.join(bare)}",
            hint="name one, and others for a word in agents' files: --model haiku=anthropic:NAME",
        )
    given = checked((pair(name, "--model") for name in named if "=" in name), "--model")
    models = given if bare == [REHEARSAL] else {**_before(before), **given}
    model = meant([*bare, before.get("model") or os.environ.get(MODEL) or REHEARSAL][0], models)
    for name in (model, *models.values()):
        _check_key(name)
    return Chosen(model, models)


def _before(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The aliases that a run has begun with, else those of the environment."""
    kept: Mapping[str, Any] | None = settings.get("models")
    return from_environment() if kept is None else kept


def _check_key(name: str) -> None:
    from fanfold.agents.backends.model import check_key

    if name != REHEARSAL:
        check_key(name)


def which_model(name: str) -> str:
    """Who answers, for people."""
    if name != REHEARSAL:
        return f"model: {name}"
    return (
        "model: rehearsal, which quotes what the agents' tools find and asks no language model; "
        "name a real one with --model anthropic:... or --model openai:..."
    )
