"""`fanfold runs export`: a run as a page, as a trace, as its events, or as spans that are sent to a receiver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from fanfold.cli.common import check_writable, counted, open_named_store, say, short, store_option
from fanfold.errors import UsageError
from fanfold.events import Event, from_record

Records = Sequence[Mapping[str, Any]]

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTLP: Final = "otlp"


def _html(records: Records) -> str:
    from fanfold.exports.report import report
    from fanfold.exports.timeline import timeline

    return report(timeline(_events(records)))


def _trace(records: Records) -> str:
    from fanfold.exports.timeline import timeline
    from fanfold.exports.trace import trace

    return trace(timeline(_events(records)))


def _ndjson(records: Records) -> str:
    from fanfold.exports.ndjson import lines

    return "".join(lines(records))


TEXTS: Final[Mapping[str, Callable[[Records], str]]] = {"html": _html, "trace": _trace, "ndjson": _ndjson}


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--format", "form", type=click.Choice([*TEXTS, OTLP]), default="html", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file.")
@click.option("--to", metavar="URL", help=f"Where the OTLP receiver is, for {OTLP}.  [env: {ENDPOINT}]")
@click.option("--content", is_flag=True, help=f"With {OTLP}, also send labels, tools' arguments and errors' messages.")
@store_option
def export(run_id: str, form: str, output: str | None, to: str | None, content: bool, store_url: str | None) -> None:
    """Write RUN as a page (html), a trace for Perfetto (trace), or its events (ndjson); or send it as spans (otlp)."""
    _check(form, output, to, content)
    with open_named_store(store_url, make=False) as store:
        record = store.run(run_id)
        records = list(store.events(record.run_id))
    if not records:
        raise UsageError(f"run {short(record.run_id)} has kept no event yet")
    if form == OTLP:
        _send(records, to or os.environ.get(ENDPOINT) or "", content)
        return
    text = TEXTS[form](records)
    if output:
        Path(output).write_text(text, encoding="utf-8")
        say(f"{form} written to {output}")
    else:
        click.echo(text.removesuffix("\n"))


def _check(form: str, output: str | None, to: str | None, content: bool) -> None:
    """Raise `UsageError` for options that do not go together, before anything is read."""
    if form == OTLP and output:
        raise UsageError("--format otlp is sent, and not written to a file", hint="name a receiver with --to URL")
    if form == OTLP and not (to or os.environ.get(ENDPOINT)):
        raise UsageError("--format otlp needs a receiver", hint="name one: --to http://localhost:4318")
    if form != OTLP and (to or content):
        given = "--to" if to else "--content"
        raise UsageError(f"{given} is for --format {OTLP}, and the format is {form}")
    if output:
        check_writable(output)


def _send(records: Records, endpoint: str, content: bool) -> None:
    from fanfold.otel import send

    say(f"{counted(send(_events(records), endpoint, content=content), 'span')} sent to {endpoint}")


def _events(records: Records) -> Iterator[Event]:
    return map(from_record, records)
