"""`fanfold store`: the upkeep of what is kept."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Final

import click

from fanfold.cli import ENVIRONMENT
from fanfold.cli.common import ago, counted, json_option, open_named_store, print_json, say, store_option
from fanfold.errors import UsageError
from fanfold.live import clean
from fanfold.store import owner as owners
from fanfold.store.checking import Amount, Stats
from fanfold.store.upkeep import Pruned, Retention

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def age(text: str) -> timedelta:
    """An age as people type it: `90s`, `30m`, `12h`, `30d`, `2w`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no age; it is a number with a unit, such as 90s, 30m, 12h, 30d or 2w")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise click.BadParameter(f"{text!r} is longer than anything is kept") from None


@click.group()
def store() -> None:
    """Keep what is kept in order: prune it, check it, see how much it is."""


@store.command()
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Keep the last N checkpoints of each thread.")
@click.option("--older-than", type=age, metavar="AGE", help="Delete only what is older: 90s, 30m, 12h, 30d, 2w.")
@click.option("--thread", metavar="ID", help="Only this thread.  [default: all]")
@click.option("--dry-run", is_flag=True, help="Delete nothing, say what would be.")
@store_option
@json_option
def prune(
    keep_last: int | None,
    older_than: timedelta | None,
    thread: str | None,
    dry_run: bool,
    store_url: str | None,
    as_json: bool,
) -> None:
    """Delete old checkpoints, and what only they need. What a thread needs to go on stays, and what is pinned."""
    if keep_last is None and older_than is None:
        raise UsageError("nothing says what to delete", hint="give --keep-last N, --older-than AGE, or both")
    with open_named_store(store_url, make=False) as opened:
        told = opened.prune(Retention(keep_last, older_than), thread_id=thread, dry_run=dry_run)
    for each in told:
        if as_json:
            print_json({**asdict(each), "dry_run": dry_run})
        else:
            print(_pruned_line(each))
    verb = "would be deleted" if dry_run else "deleted"
    say(f"{verb}: {_size(sum(each.bytes for each in told))} of {counted(len(told), 'thread')}")


@store.command()
@store_option
@json_option
def migrate(store_url: str | None, as_json: bool) -> None:
    """Bring the store to the schema of this version; make it, if there is none. Every command does so by itself."""
    with open_named_store(store_url) as opened:
        schema, done, label = opened.stats(largest=0).schema, list(opened.migrated), opened.label
    if as_json:
        print_json({"store": label, "schema": schema, "migrations": done})
    else:
        print(f"{label}: schema {schema}; {'migrations done: ' + ', '.join(map(str, done)) if done else 'up to date'}")


@store.command()
@click.option("--thread", metavar="ID", help="Only this thread.  [default: all, and the database itself]")
@store_option
@json_option
def check(thread: str | None, store_url: str | None, as_json: bool) -> None:
    """Look for damage: bits that have flipped, rows that are missing. Exits with 6 when there is any."""
    with open_named_store(store_url, make=False) as opened:
        found = opened.check(thread)
    for finding in found:
        if as_json:
            print_json(asdict(finding))
        else:
            print(clean(str(finding)))
    say(f"{opened.label}: {counted(len(found), 'finding') if found else 'nothing is wrong'}")
    if found:
        click.get_current_context().exit(ENVIRONMENT)


@store.command()
@click.option("--largest", type=click.IntRange(0), default=10, show_default=True, help="How many threads to name.")
@store_option
@json_option
def stats(largest: int, store_url: str | None, as_json: bool) -> None:
    """Show how much is kept, who runs threads, and in which database."""
    with open_named_store(store_url, make=False) as opened:
        told = opened.stats(largest=largest)
    if as_json:
        print_json({**asdict(told), "may_damage_its_log": told.may_damage_its_log})
        return
    for line in _stats_lines(told):
        print(line)
    if told.may_damage_its_log:
        say(
            f"note: {told.version} is one of those (3.7.0 to 3.51.2) that can damage a file when several connections "
            "write to it; fanfold's take turns, other programs should not write to it"
        )


def _pruned_line(each: Pruned) -> str:
    parts = [counted(each.checkpoints, "checkpoint"), counted(each.results, "result")]
    parts += [f"{counted(each.runs, 'run')} with {counted(each.events, 'event')}"]
    return f"{clean(each.thread_id)}: {', '.join(parts)}, {_size(each.bytes)}"


def _stats_lines(told: Stats) -> list[str]:
    lines = [f"{told.store} · {told.version} · schema {told.schema} · {_size(told.bytes)} on disk"]
    lines += [_amount_line(table, amount) for table, amount in told.tables.items()]
    states = ", ".join(f"{number} {status}" for status, number in told.threads.items())
    lines.append(f"threads: {states or 'none'}")
    if told.largest:
        lines.append("largest threads:")
        lines += [_amount_line(clean(thread), amount) for thread, amount in told.largest.items()]
    lease = told.oldest_lease
    if lease is not None:
        since = f"for what began {ago(lease.claimed, time.time())}" + (", not heard of since" if lease.lapsed else "")
        lines.append(f"oldest lease: {clean(lease.thread_id)}, of {owners.describe(lease.owner)}, {since}")
    return lines


def _amount_line(name: str, amount: Amount) -> str:
    return f"  {name:<36} {amount.rows:>10,} rows  {_size(amount.bytes):>10}"


def _size(number: int) -> str:
    """Bytes, in the largest unit that fits."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
