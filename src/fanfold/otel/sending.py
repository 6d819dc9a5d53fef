"""Spans of a stored run, on their way to a receiver."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from fanfold import __version__
from fanfold.errors import ExportError, MissingExtraError, UsageError
from fanfold.events import Event, RunStarted
from fanfold.otel.spans import export

BATCH: Final = 512
"""Spans that are sent at once."""
SECONDS_TO_SEND: Final = 5.0
"""How long it is tried to send a batch."""


def send(
    events: Iterable[Event], endpoint: str, *, content: bool = False, headers: Mapping[str, str] | None = None
) -> int:
    """Send spans of what has happened to an OTLP receiver over HTTP. How many there were.

    `endpoint` is its base, such as `http://localhost:4318`. Their ids follow from the run's, so that what is sent twice
    is the same spans again. Raises `ExportError` when the receiver cannot be reached, or refuses them.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import SpanExportResult
    except ImportError:
        raise MissingExtraError(
            "sending spans needs OpenTelemetry's exporter", hint="pip install 'fanfold[otel]'"
        ) from None
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"{endpoint!r} is no URL of an OTLP receiver", hint="such as http://localhost:4318")

    class Kept(SpanProcessor):
        """Keeps all spans: a queue that drops what it has no room for would lose those of a large run."""

        def __init__(self) -> None:
            self.spans: list[ReadableSpan] = []

        def on_end(self, span: ReadableSpan) -> None:
            self.spans.append(span)

    kept, told = Kept(), tuple(events)
    provider = TracerProvider(resource=_resource(), id_generator=_same_ids(told), shutdown_on_exit=False)
    provider.add_span_processor(kept)
    export(told, tracer_provider=provider, content=content)
    exporter = OTLPSpanExporter(_traces(endpoint), headers=headers, timeout=SECONDS_TO_SEND)
    try:
        with _quiet() as complaints:
            for first in range(0, len(kept.spans), BATCH):
                if exporter.export(kept.spans[first : first + BATCH]) is not SpanExportResult.SUCCESS:
                    raise ExportError(
                        f"cannot send to {endpoint}: {_cause(complaints)}", hint="is an OTLP receiver there?"
                    )
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]  # it is not annotated there
    return len(kept.spans)


def _cause(complaints: Sequence[str]) -> str:
    """What went wrong first, in few words."""
    if not complaints:
        return "it was refused"
    errno = re.search(r"\[Errno -?\d+\] ([^\"')]+)", complaints[0])
    return errno[1] if errno else complaints[0]


def _traces(endpoint: str) -> str:
    path = "/v1/traces"
    return endpoint if endpoint.endswith(path) else endpoint.rstrip("/") + path


def _resource() -> Any:
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    found = Resource.create()
    if not str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return found
    return found.merge(Resource({SERVICE_NAME: "fanfold", SERVICE_VERSION: __version__}))


def _same_ids(events: Sequence[Event]) -> Any:
    """Ids that follow from the run's, in the order in which spans begin."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    run = next((event.run_id for event in events if isinstance(event, RunStarted)), "")

    class SameIds(IdGenerator):
        def __init__(self) -> None:
            self.made = 0

        def generate_span_id(self) -> int:
            return self._next(8)

        def generate_trace_id(self) -> int:
            return self._next(16)

        def _next(self, size: int) -> int:
            self.made += 1
            digest = hashlib.blake2b(f"{run}:{self.made}".encode("utf-8", "surrogatepass"), digest_size=size).digest()
            return int.from_bytes(digest, "big") or 1

    return SameIds()


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """What OpenTelemetry logs meanwhile, instead of on the terminal: whoever asked is told in one line."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().partition("\n")[0][:300])

    logger, listener = logging.getLogger("opentelemetry"), Listener()
    spreads = logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.propagate = spreads
