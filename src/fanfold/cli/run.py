"""`fanfold run` and `fanfold resume`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fanfold.cli.common import (
    chosen_model,
    display_options,
    existing_folder,
    json_option,
    limit_option,
    model_options,
    open_named_store,
    print_json,
    say,
    short,
    store_option,
)
from fanfold.cli.loading import absolute, load_graph
from fanfold.cli.sitting import Sitting, whole_receipt
from fanfold.errors import UsageError, did_you_mean
from fanfold.events import Event, to_record
from fanfold.graph import CompiledGraph
from fanfold.store.base import DONE, Store


@click.command()
@click.argument("graph")
@click.option(
    "-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the input; VALUE may be JSON."
)
@click.option("-f", "--file", "input_file", type=click.Path(), metavar="FILE", help="The input as a JSON file.")
@click.option("--thread", metavar="ID", help="The thread to run in.  [default: a new one]")
@click.option("--workspace", metavar="DIR", help="The folder that agents see.  [default: this one]")
@model_options
@limit_option
@store_option
@display_options
@json_option
def run(
    graph: str,
    pairs: tuple[str, ...],
    input_file: str | None,
    thread: str | None,
    workspace: str | None,
    model: str | None,
    rehearse: bool,
    max_concurrency: int | None,
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run GRAPH, which is module:attr or file.py:attr.

    Its output is printed as JSON, then its receipt. With --json, each event is a line and the output is the last.
    """
    name = chosen_model(model, rehearse)
    folder = existing_folder(workspace) if workspace else None
    with open_named_store(store_url) as store:
        compiled = load_graph(graph, store)
        value = _input(compiled, pairs, input_file)
        settings = {
            "graph": absolute(graph),
            "model": name,
            "max_concurrency": max_concurrency,
            "workspace": folder,
        }
        sitting = Sitting(compiled, settings, plain=plain, quiet=quiet or as_json)
        sitting.on_event = _print_event if as_json else None
        options = {"model": name, "max_concurrency": max_concurrency, "workspace": folder}
        result = sitting.invoke(value, thread_id=thread, **options)
        _finish(store, sitting, result, as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--model", metavar="MODEL", help="Another model than the run began with.")
@click.option("--take-over", is_flag=True, help="Go on although another machine says that it runs this thread.")
@limit_option
@store_option
@display_options
@json_option
def resume(
    run_id: str,
    model: str | None,
    take_over: bool,
    max_concurrency: int | None,
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Go on with RUN, a run's id or the beginning of it. What had finished is not run again."""
    with open_named_store(store_url) as store:
        record = store.run(run_id)
        settings = dict(record.settings)
        if "graph" not in settings:
            raise UsageError(
                f"run {record.run_id!r} was not started by a command, so its graph is not known here",
                hint=f"from Python: graph.invoke(None, thread_id={record.thread_id!r})",
            )
        if record.status == DONE:
            say(f"run {short(record.run_id)} is done; there is nothing to go on with")
        settings["model"] = chosen_model(model or settings.get("model"), rehearse=False)
        settings["max_concurrency"] = max_concurrency or settings.get("max_concurrency")
        graph = load_graph(settings["graph"], store, name=record.graph)
        sitting = Sitting(graph, settings, plain, quiet or as_json, record.run_id)
        sitting.on_event = _print_event if as_json else None
        options = {key: settings.get(key) for key in ("model", "max_concurrency", "workspace")}
        result = sitting.invoke(None, thread_id=record.thread_id, take_over=take_over, **options)
        _finish(store, sitting, result, as_json)


def _finish(store: Store, sitting: Sitting, result: Any, as_json: bool) -> None:
    told = whole_receipt(store, sitting.run_id)
    if as_json:
        print_json({"kind": "result", "run_id": sitting.run_id, "output": result, "receipt": told.to_dict()})
        return
    for notice in sitting.notices:
        say(f"note: {notice}")
    print(json.dumps(result, default=str, ensure_ascii=False, indent=2))
    for line in told.lines():
        print(line)
    run = short(sitting.run_id)
    print(f"look further:  fanfold runs show {run}    fanfold audit {run}")


def _input(graph: CompiledGraph, pairs: tuple[str, ...], input_file: str | None) -> Any:
    value = _from_file(input_file) if input_file else {}
    if pairs and not isinstance(value, dict):
        raise UsageError(f"{input_file} holds no JSON object, so -i has nothing to add to")
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-i {pair!r} has no '='", hint="give it as -i key=value")
        value[key] = _parsed(text)
    keys = graph.plan.input.channels
    for key in value if isinstance(value, dict) and not graph.plan.input.is_root else ():
        if key not in keys:
            raise UsageError(
                f"graph {graph.name!r} has no input key {key!r}{did_you_mean(key, keys)}",
                hint=f"its keys are: {', '.join(keys)}",
            )
    return value


def _from_file(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the input file {path!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the input file {path!r} is not JSON: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # not JSON: then it is the text itself, as people type it
        return text


def _print_event(event: Event) -> None:
    print_json(to_record(event))
