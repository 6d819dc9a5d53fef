"""`--limit` and `--max-concurrency`: what a run of a command may use, at once and in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import click

from fanfold.cli.common import F
from fanfold.errors import UsageError, did_you_mean
from fanfold.limits import Limits

TABLES: Final = ("agents", "models")
"""Limits that are given for each of several, as in `agents.NAME=2`."""

NAMES: Final = tuple(field.name for field in fields(Limits) if field.name not in ("max_concurrency", *TABLES))

_TEXT = (
    "What the run may use: " + ", ".join(NAMES) + ", agents.NAME or models.NAME, such as calls=20 or"
    " models.anthropic=4. Can be given several times.  [default: no limit, and a depth of 5]"
)


def limit_options(function: F) -> F:
    """`--max-concurrency N` and `--limit NAME=VALUE`, as often as one likes."""
    text = "Most tasks that run at once.  [default: no limit]"
    function = click.option("--max-concurrency", type=click.IntRange(1), metavar="N", help=text)(function)
    return click.option("--limit", "limit", metavar="NAME=VALUE", multiple=True, help=_TEXT)(function)


def limited(
    named: Sequence[str], max_concurrency: int | None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The limits that were named, over those that a run had `before`, as plain data by the names in `Limits`.

    Raises `UsageError` for what is none.
    """
    limits: dict[str, Any] = {**(before or {})}
    if max_concurrency is not None:
        limits["max_concurrency"] = max_concurrency
    for text in named:
        name, value = _pair(text)
        table, _, key = name.partition(".")
        if key:
            limits[table] = {**limits.get(table, {}), key: value}
        else:
            limits[name] = value
    Limits(**limits)  # says what is wrong with a value
    return limits


def _pair(text: str) -> tuple[str, float]:
    name, mark, value = text.rpartition("=")
    table, _, key = name.partition(".")
    if not mark or not (name in NAMES or (table in TABLES and key)):
        known = [*NAMES, *(f"{table}.NAME" for table in TABLES)]
        raise UsageError(
            f"--limit {text!r} names no limit{did_you_mean(name, known)}", hint=f"there are: {', '.join(known)}"
        )
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"--limit {text!r}: {value!r} is no number", hint=f"give it as {name}=10") from None
    return name, int(number) if number == number and number.is_integer() else number
