"""`fanfold demo`: the main job on a real folder, then the measurement that fanfold began with."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from fanfold.agents.models import REHEARSAL
from fanfold.cli.common import (
    check_writable,
    counted,
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
from fanfold.cli.outcome import STUDY
from fanfold.cli.sitting import Sitting
from fanfold.errors import UsageError
from fanfold.limits import Limits
from fanfold.receipt import Receipt
from fanfold.store.base import Store
from fanfold.store.sql import SqlStore
from fanfold.teams import seed, study

SEED: Final = {"graph": "fanfold.teams.seed:graph", "agents": "fanfold.teams.seed:agents"}
REHEARSAL_LATENCY: Final = 0.25
"""Seconds that the rehearsal model takes for each answer, so that there is something to see and to overlap."""
RENDEZVOUS_SECONDS: Final = 3.0
PRIVATE: Final = "postgres:"
"""The store that is a PostgreSQL of the demo's own. It is started for the demo, and gone with it."""


@click.command()
@click.option("--path", default=".", metavar="DIR", help="The folder to study.  [default: this one]")
@click.option("--question", default=study.DEFAULT_QUESTION, help="What to find out.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write the report to a file.")
@click.option("--no-seed", is_flag=True, help="Leave out the measurement after the study.")
@model_options
@limit_options
@store_option
@display_options
@json_option
def demo(
    path: str,
    question: str,
    output: str | None,
    no_seed: bool,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Let four agents study a folder in parallel, and prove that they did.

    Without a named model the rehearsal model answers: it calls the agents' tools on the real files and quotes what
    they return. A key that lies in the environment is not used unless a model is named. With --store postgres: it runs
    on a PostgreSQL that it starts for itself, and that is gone when it ends.
    """
    folder = existing_folder(path)
    if not question.strip():
        raise UsageError("the question is empty", hint="leave --question out, and the agents look around")
    if output:
        check_writable(output)
    named, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    name = named.model
    say(str(named))
    url = store_url or os.environ.get("FANFOLD_STORE")
    with _store(url) as store, _model(name) as (answering, gate):
        sitting = Sitting(
            study.graph.compile(store, name="study"),
            settings={"graph": STUDY, **named.settings, "limits": held},
            plain=plain,
            quiet=quiet or as_json,
            lasting=url != PRIVATE,
        )
        options = {"model": answering, "models": named.models, "limits": Limits(**held)}
        result = sitting.invoke({"question": question, "folder": folder}, **options)
        _tell(sitting, result["report"], output, as_json)
        measured = None
        try:
            if not no_seed:
                if not quiet:
                    say(f"measuring the seed, which takes {seed.LEAST:.0f} seconds")
                measured = measure(store, max_concurrency)
        finally:  # whoever does not wait for the measurement has the rest all the same
            if as_json:
                document = _document(sitting, name, result, gate, measured)
                print_json(document if sitting.lasting else {**document, "store": _inventory(store)})
            else:
                _close(sitting, gate, measured)
                print(further(sitting.run_id) if sitting.lasting else _inventory_line(store))


def _tell(sitting: Sitting, report: str, output: str | None, as_json: bool) -> None:
    """Hand the report over, as soon as there is one."""
    if output:
        Path(output).write_text(report, encoding="utf-8")
        say(f"report written to {output}")
    elif not as_json:
        print(report, flush=True)
    for notice in sitting.notices:
        say(f"note: {notice}")


def measure(store: Store, max_concurrency: int | None = None) -> tuple[float, Receipt]:
    """Run the seed's measurement: its receipt, and the seconds that the call took with all that surrounds the run."""
    settings = {**SEED, "limits": {} if max_concurrency is None else {"max_concurrency": max_concurrency}}
    sitting = Sitting(seed.graph.compile(store, name="seed"), settings, quiet=True)
    began = time.perf_counter()
    sitting.invoke({"answers": []}, agents=seed.agents, max_concurrency=max_concurrency)
    return time.perf_counter() - began, sitting.receipt


@contextlib.contextmanager
def _store(url: str | None) -> Iterator[SqlStore]:
    """The store that was named, or one in a PostgreSQL of our own."""
    if url != PRIVATE:
        with open_named_store(url) as store:
            yield store
        return
    from fanfold.store.cluster import Cluster
    from fanfold.store.opening import open_store

    with tempfile.TemporaryDirectory(prefix="fanfold-demo-") as folder, Cluster(folder) as cluster:
        say(f"store: a PostgreSQL of its own, in {folder} until the demo ends")
        with open_store(cluster.url()) as store:
            yield store


def _inventory(store: SqlStore) -> dict[str, Any]:
    """What a store that is about to go has kept, and whether it is whole."""
    told = store.stats(largest=0)
    rows = {table: told.tables[table].rows for table in ("run", "checkpoint", "task_result", "event")}
    return {"version": told.version, "rows": rows, "findings": [str(finding) for finding in store.check()]}


def _inventory_line(store: SqlStore) -> str:
    kept = _inventory(store)
    rows = ", ".join(counted(number, table.removeprefix("task_")) for table, number in kept["rows"].items())
    wrong = "; ".join(kept["findings"]) or "nothing is wrong with them"
    return f"store: {kept['version']}, which was started for this demo and ends with it, has kept {rows}; {wrong}"


@contextlib.contextmanager
def _model(name: str) -> Iterator[tuple[Any, Any]]:
    """What answers, and for the rehearsal the gate at which its server waits until all agents are there."""
    from fanfold.agents.backends.model import load

    load()
    if name != REHEARSAL:
        yield name, None
        return
    from fanfold.agents.modelserver import ModelServer

    with ModelServer(latency=REHEARSAL_LATENCY) as server:
        yield server, server.rendezvous(len(study.AGENTS), timeout=RENDEZVOUS_SECONDS)


def _close(sitting: Sitting, gate: Any, measured: Any) -> None:
    if gate is not None:
        print(_rendezvous(gate))
    if measured is not None:
        print(seed_line(measured[1]))
    for line in sitting.receipt.lines():
        print(line)


def _rendezvous(gate: Any) -> str:
    wanted = len(study.AGENTS)
    if gate.met:
        return f"rendezvous: all {wanted} agents were in flight at the model's server at once, whatever a clock says"
    return (
        f"rendezvous: not met; at most {gate.most} of {wanted} agents were at the model's server at once, others waited"
    )


def seed_line(receipt: Receipt) -> str:
    """What the seed's measurement shows, against its agents one by one."""
    wall = receipt.wall
    saved = seed.ONE_BY_ONE - wall
    return (
        f"seed: four agents of 1.0, 1.0, 1.0 and 1.5 s, then 0.5 s to compile: {wall:.3f} s instead of "
        f"{seed.ONE_BY_ONE:.1f} s one by one; {saved:.3f} s saved ({saved / seed.ONE_BY_ONE:.0%}), "
        f"{seed.ONE_BY_ONE / wall:.2f}x as fast; {(wall - seed.LEAST) * 1000:.1f} ms over the least possible · "
        f"{receipt.verdict}"
    )


def _document(sitting: Sitting, name: str, result: Any, gate: Any, measured: Any) -> dict[str, Any]:
    told = sitting.receipt
    document: dict[str, Any] = {
        "run_id": sitting.run_id,
        "thread_id": told.thread_id,
        "model": name,
        "question": result["question"],
        "folder": result["folder"],
        "verdict": told.verdict,
        "peak": told.peak,
        "agents": [
            {
                "name": life.name,
                "started": life.started,
                "ended": life.ended,
                "waited": life.waited,
                "tools": life.tools,
            }
            for life in told.tasks
            if life.role == "agent"
        ],
        "report": result["report"],
        "quotes": result["findings"],
        "unverified": result["unverified"],
        "notices": sitting.notices,
        "receipt": told.to_dict(),
    }
    if gate is not None:
        document["rendezvous"] = {"wanted": len(study.AGENTS), "met": gate.met, "most": gate.most}
    if measured is not None:
        call, receipt = measured
        wall = receipt.wall
        document["seed"] = {
            "wall": wall,
            "call": call,
            "one_by_one": seed.ONE_BY_ONE,
            "saved": seed.ONE_BY_ONE - wall,
            "speedup": seed.ONE_BY_ONE / wall,
            "over_least_ms": (wall - seed.LEAST) * 1000,
            "verdict": receipt.verdict,
        }
    return document
