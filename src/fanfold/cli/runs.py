"""`fanfold runs`: what has been run, each task of it, and its receipt."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from fanfold.claiming import status_of
from fanfold.cli.common import (
    ago,
    json_option,
    open_named_store,
    print_json,
    say,
    short,
    store_option,
    suggested,
)
from fanfold.cli.export import export
from fanfold.cli.outcome import kept, readable
from fanfold.cli.sitting import whole_receipt
from fanfold.cli.transcript import show_transcripts
from fanfold.live import clean
from fanfold.receipt import TaskLife
from fanfold.receipt.values import WORKING
from fanfold.store.base import DONE, PAUSED, RUNNING, RunRecord


@click.group()
def runs() -> None:
    """See what has been run."""


runs.add_command(export)


@runs.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@store_option
@json_option
def ls(limit: int, store_url: str | None, as_json: bool) -> None:
    """List the newest runs."""
    with open_named_store(store_url) as store:
        records = store.runs(limit=limit)
        for record in records:
            status = status_of(store, record)
            if as_json:
                print_json({**asdict(record), "status": status})
            else:
                took = "" if record.finished is None else f"{record.finished - record.created:8.2f} s"
                when = ago(record.created, time.time())
                print(f"{short(record.run_id)}  {status:<12} {clean(record.graph):<16} {took:>10}  {when}")
        if not records:
            say(f"no runs yet; begin with: {suggested('demo')}")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--result", is_flag=True, help="Print only what it came to: a study's report, else the output as JSON.")
@click.option("--agent", metavar="NAME", help="Print only what that agent, or the one with that task's id, said.")
@store_option
@json_option
def show(run_id: str, result: bool, agent: str | None, store_url: str | None, as_json: bool) -> None:
    """Show one run: each task, when it ran and what became of it, and the receipt."""
    with open_named_store(store_url) as store:
        record = store.run(run_id)
        if agent:
            show_transcripts(store, record, agent, as_json)
            return
        if result:
            _print_result(record, kept(store, record), as_json)
            return
        told = whole_receipt(store, record.run_id)
        status = status_of(store, record)
    if as_json:
        print_json({**asdict(record), "status": status, "receipt": told.to_dict()})
        return
    print(f"run {record.run_id} · graph {clean(record.graph)} · thread {record.thread_id} · {status}")
    if record.error:
        print(clean(f"error: {record.error}"))
    names = {life.task: clean(life.name) for life in told.tasks}
    for life in told.tasks:
        print(_task_line(life, names.get(life.held_back_by, "")))
        if life.parts.keys() - {WORKING}:
            print(f"{'        ' if life.parent else '      '}{clean(life.account(names))}")
    for line in told.lines():
        print(line)
    if status not in (DONE, RUNNING):
        answer = "    (--respond ANSWER, if it has asked something)" if status == PAUSED else ""
        print(f"go on with:  {suggested('resume', short(record.run_id))}{answer}")


def _print_result(record: RunRecord, output: object, as_json: bool) -> None:
    if as_json:
        print_json({"run_id": record.run_id, "output": output})
    else:
        print(readable(record.settings, output).removesuffix("\n"))


def _task_line(life: TaskLife, held_back_by: str) -> str:
    indent = "    " if life.parent else "  "
    begun = f"{life.started:7.3f}" if life.started is not None else "      -"
    ended = f"{life.ended:7.3f}" if life.ended is not None else "      -"
    waited = f"  waited {life.waited:.3f} s" + (f" for {life.waited_for}" if life.waited_for else "")
    error = f"  {clean(life.error)}" if life.error else ""
    what = f"{indent}step {life.step}  {clean(life.name):<20} {life.status:<10}"
    barrier = f"  held back {life.barrier:.3f} s by {clean(held_back_by)}" if life.barrier else ""
    return f"{what} {begun} - {ended} s  busy {life.work:.3f} s{waited}{barrier}{error}"
