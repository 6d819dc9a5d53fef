"""`fanfold run` and `fanfold resume`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from fanfold.agents.models import REHEARSAL
from fanfold.cli import FAILED, PAUSED
from fanfold.cli.common import (
    display_options,
    existing_folder,
    further,
    input_options,
    json_option,
    open_named_store,
    print_json,
    say,
    short,
    store_option,
    suggested,
)
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.loading import absolute, agents_beside, load, load_graph
from fanfold.cli.models import chosen, model_option, model_options, which_model
from fanfold.cli.outcome import graph_again, graph_of, kept, readable, researched
from fanfold.cli.sitting import Sitting, whole_receipt
from fanfold.errors import UsageError, did_you_mean
from fanfold.events import Event, to_record
from fanfold.graph import CompiledGraph
from fanfold.limits import Limits
from fanfold.live import clean
from fanfold.receipt import Receipt
from fanfold.store.base import DONE, RunRecord, Store
from fanfold.store.base import PAUSED as WAITING
from fanfold.types import INTERRUPT, Command, Interrupt


@click.command()
@click.argument("graph")
@input_options
@click.option("--thread", metavar="ID", help="The thread to run in.  [default: a new one]")
@click.option("--workspace", metavar="DIR", help="The folder that agents see.  [default: this one]")
@model_options
@limit_options
@store_option
@display_options
@json_option
def run(
    graph: str,
    pairs: tuple[str, ...],
    input_file: str | None,
    thread: str | None,
    workspace: str | None,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run GRAPH, which is module:attr or file.py:attr.

    Agent files in `.claude/agents` beside the graph's file come with it, and count before all others.

    Its output is printed as JSON, then its receipt. With --json, each event is a line and the output is the last.
    """
    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    folder = existing_folder(workspace, "--workspace") if workspace else None
    with open_named_store(store_url) as store:
        compiled = load_graph(graph, store)
        value = input_of(compiled, pairs, input_file)
        options = {**answering.settings, "workspace": folder}
        settings = {"graph": absolute(graph), **options, "limits": held}
        sitting = Sitting(compiled, settings, plain=plain, quiet=quiet or as_json)
        sitting.on_event = _print_event if as_json else None
        options["limits"] = Limits(**held) if held else None
        result = sitting.invoke(value, thread_id=thread, agents=agents_beside(graph), **options)
        _finish(store, sitting, result, as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@model_option
@click.option("--respond", metavar="ANSWER", help="The answer to what the run waits for; text or JSON.")
@click.option(
    "--on-busy",
    type=click.Choice(["wait", "reject", "take_over"]),
    default="reject",
    show_default=True,
    help="When another process runs this thread: wait for it, give up, or take over one that is not heard of any more.",
)
@limit_options
@store_option
@display_options
@json_option
def resume(
    run_id: str,
    model: tuple[str, ...],
    respond: str | None,
    on_busy: str,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    store_url: str | None,
    plain: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Go on with RUN, a run's id or the beginning of it. What had finished is not run again.

    When it waits for a person, --respond is the answer; for several questions a JSON object of ids to answers.
    """
    with open_named_store(store_url) as store:
        record = store.run(run_id)
        if record.status == DONE:
            _tell_done(store, record, respond, as_json)
            return
        graph = graph_again(record, store)
        settings = dict(record.settings)
        settings.update(chosen(model, before=settings).settings)
        settings["limits"] = limited(limit, max_concurrency, settings.get("limits"))
        sitting = Sitting(graph, settings, plain, quiet or as_json, record.run_id)
        sitting.on_event = _print_event if as_json else None
        options = {key: settings.get(key) for key in ("model", "models", "workspace")}
        options["limits"] = Limits(**settings["limits"]) if settings["limits"] else None
        options["agents"] = load(settings["agents"]) if "agents" in settings else agents_beside(graph_of(record))
        given = None if respond is None else Command(resume=_answer(graph, record, respond))
        result = sitting.invoke(given, thread_id=record.thread_id, on_busy=on_busy, **options)
        _finish(store, sitting, result, as_json)


def _tell_done(store: Store, record: RunRecord, respond: str | None, as_json: bool) -> None:
    if respond is not None:
        raise UsageError(f"run {short(record.run_id)} is done; it waits for no answer")
    say(f"run {short(record.run_id)} is done; there is nothing to go on with")
    told = whole_receipt(store, record.run_id)
    if as_json:
        output = kept(store, record) if "graph" in record.settings else None
        _print_result(record.run_id, output, (), told)
        return
    for line in (*told.lines(), further(record.run_id)):
        print(line)


def _finish(store: Store, sitting: Sitting, result: Any, as_json: bool) -> None:
    told = whole_receipt(store, sitting.run_id)
    questions = result.pop(INTERRUPT, []) if isinstance(result, dict) else []
    if sitting.asked_models and sitting.settings["model"] == REHEARSAL:
        say(f"note: {which_model(REHEARSAL)}")
    if as_json:
        _print_result(sitting.run_id, result, questions, told)
    else:
        _show(sitting, result, told)
    if questions:
        _ask(sitting, questions)
    if told.status == WAITING:
        say(f"it pauses where the graph says so; go on with: {suggested('resume', short(sitting.run_id))}")
        click.get_current_context().exit(PAUSED)
    came_to = researched(sitting.settings, result, told)
    if came_to and came_to.failure:
        say(f"the research has failed: {came_to.failure}")
        click.get_current_context().exit(FAILED)


def _print_result(run_id: str, output: Any, questions: Sequence[Interrupt], told: Receipt) -> None:
    asked = [{"id": question.id, "value": question.value} for question in questions]
    result = {"kind": "result", "run_id": run_id, "output": output, "interrupts": asked}
    print_json({**result, "receipt": told.to_dict()})


def _ask(sitting: Sitting, questions: Sequence[Interrupt]) -> NoReturn:
    for question in questions:
        say(_asked(question))
    say(f"answer with: {suggested('resume', short(sitting.run_id), '--respond', _form(questions))}")
    click.get_current_context().exit(PAUSED)


def _asked(question: Interrupt) -> str:
    value = question.value
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return f"waiting: {clean(text)}  [{question.id}]"


def _form(questions: Sequence[Interrupt]) -> str:
    """What an answer to the questions looks like; one that is alone needs no id."""
    if len(questions) == 1:
        return "ANSWER"
    return shlex.quote(json.dumps({question.id: "ANSWER" for question in questions}))


def _answer(graph: CompiledGraph, record: RunRecord, text: str) -> Any:
    """The answer that `text` is. Raises `UsageError` when the run asks nothing, or it is not clear what it answers."""
    questions = graph.get_state({"configurable": {"thread_id": record.thread_id}}).interrupts
    if not questions:
        raise UsageError(f"run {short(record.run_id)} has asked nothing", hint="leave --respond out, and it goes on")
    answer = _parsed(text)
    if len(questions) > 1 and not (isinstance(answer, dict) and answer.keys() & {each.id for each in questions}):
        asked = "\n  ".join(map(_asked, questions))
        raise UsageError(
            f"{len(questions)} questions are open, and one answer was given\n  {asked}",
            hint=f"give a JSON object of ids to answers: --respond {_form(questions)}",
        )
    return answer


def _show(sitting: Sitting, result: Any, told: Receipt) -> None:
    for notice in sitting.notices:
        say(f"note: {notice}")
    came_to = researched(sitting.settings, result, told)
    print(came_to.markdown() if came_to else readable(sitting.settings, result))
    for line in (*told.lines(), further(sitting.run_id)):
        print(line)


def input_of(graph: CompiledGraph, pairs: tuple[str, ...], input_file: str | None) -> Any:
    """The input that a person typed. Raises `UsageError` where it is none of the graph's."""
    value = _from_file(input_file) if input_file else {}
    if pairs and not isinstance(value, dict):
        raise UsageError(f"{input_file} holds no JSON object, so -i has nothing to add to")
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-i {pair!r} has no '='", hint="give it as -i key=value")
        value[key] = _parsed(text)
    keys = graph.plan.input.channels
    if not pairs and not input_file and keys:
        raise UsageError(
            f"the input sets no key of graph {graph.name!r}",
            hint=f"its keys are: {', '.join(keys)}; give them with -i key=value, or a JSON file with -f",
        )
    if graph.plan.input.single is None:
        _check_keys(value, graph.name, keys, input_file)
    return value


def _check_keys(value: Any, graph: str, keys: Mapping[str, Any], source: str | None) -> None:
    if not isinstance(value, dict):
        raise UsageError(
            f"{source} holds {_kind(value)}, and the input of graph {graph!r} is an object",
            hint=f"its keys are: {', '.join(keys)}",
        )
    for key in value:
        if key not in keys:
            raise UsageError(
                f"graph {graph!r} has no input key {key!r}{did_you_mean(key, keys)}",
                hint=f"its keys are: {', '.join(keys)}",
            )


def _kind(value: Any) -> str:
    """What JSON calls it."""
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


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
