"""An OTLP receiver: HTTP and protobuf, as collectors speak it, in this process."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Sent:
    """A span as it arrived, with its attributes as plain data."""

    name: str
    id: bytes
    parent: bytes
    trace: bytes
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, int, dict[str, Any]]]
    links: list[bytes]
    failed: bool
    message: str


@dataclass
class Receiver:
    """What has arrived. `refuses` is the status with which it answers instead of taking anything, if not 200."""

    url: str = ""
    refuses: int = 200
    spans: list[Sent] = field(default_factory=list)
    points: dict[str, list[Any]] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    schemas: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def named(self, name: str) -> Sent:
        """The only span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, body: bytes) -> bytes:
        self.bodies.append(body)
        if path == "/v1/traces":
            return self._traces(ExportTraceServiceRequest.FromString(body))
        if path == "/v1/metrics":
            return self._metrics(ExportMetricsServiceRequest.FromString(body))
        raise LookupError(path)

    def _traces(self, request: ExportTraceServiceRequest) -> bytes:
        for resource in request.resource_spans:
            self.resources.append(_plain(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.schemas.add(scope.schema_url)
                self.spans += map(_sent, scope.spans)
        return ExportTraceServiceResponse().SerializeToString()

    def _metrics(self, request: ExportMetricsServiceRequest) -> bytes:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    self.points.setdefault(metric.name, []).extend(data.data_points)
        return ExportMetricsServiceResponse().SerializeToString()


def _sent(span: Any) -> Sent:
    return Sent(
        name=span.name,
        id=span.span_id,
        parent=span.parent_span_id,
        trace=span.trace_id,
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_plain(span.attributes),
        events=[(event.name, event.time_unix_nano, _plain(event.attributes)) for event in span.events],
        links=[link.span_id for link in span.links],
        failed=span.status.code == 2,
        message=span.status.message,
    )


def _plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens on a port of its own."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.keys.append(self.headers.get("x-key"))
            answer = receiver.take(self.path, body) if receiver.refuses == 200 else b""
            self.send_response(receiver.refuses)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """A test says what it has to say by failing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
