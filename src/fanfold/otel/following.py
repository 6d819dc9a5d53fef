"""Spans and metrics of a run while it goes on."""

from __future__ import annotations

import atexit
import queue
import threading
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from opentelemetry import metrics, trace
from opentelemetry.context import Context, get_current

from fanfold.events import Event, RunStarted
from fanfold.otel.meters import instruments
from fanfold.otel.spans import Spans

PATIENCE: Final = 5.0
"""Seconds that the end of a process waits for what is still to be told."""


class Telemetry:
    """A subscriber of one run at a time: spans and metrics of it, while it goes on.

    The providers are those given, else the process's. A run's span is a child of the one that is current where the run
    begins. `flush` waits until all that was told is in spans; leaving a `with` block does, and the end of the process.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        content: bool = False,
    ) -> None:
        self._spans = Spans(tracer_provider, instruments(meter_provider), content=content)
        self._told: queue.SimpleQueue[tuple[Event, Context | None] | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._telling = threading.Lock()
        self._broken: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Take an event. Raises what went wrong with one before, so that the run removes and names this subscriber."""
        if self._broken is not None:
            raise self._broken
        self._tell((event, get_current() if isinstance(event, RunStarted) else None))

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until everything that was told so far is in spans. Whether it is."""
        reached = threading.Event()
        self._tell(reached)
        return reached.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.flush()

    def _tell(self, told: tuple[Event, Context | None] | threading.Event) -> None:
        with self._telling:  # nodes in threads tell events, too
            self._told.put(told)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fanfold-telemetry", daemon=True)
                _at_exit(self)
                self._thread.start()

    def _work(self) -> None:
        """Make spans of what is told, until the run is over: a thread is not kept for a run that may never come."""
        while True:
            told = self._told.get()
            if isinstance(told, threading.Event):
                told.set()
            elif self._broken is None:
                try:
                    self._spans.read(*told)
                except Exception as error:  # noqa: BLE001 - whatever it is, the run names it at the next event
                    self._broken = error
            with self._telling:
                if self._told.empty() and not self._spans.open:
                    self._thread = None
                    return


_following: Final[WeakSet[Telemetry]] = WeakSet()


def _at_exit(telemetry: Telemetry) -> None:
    """See to it that the end of the process waits for what is still to be told, before providers shut down."""
    if not _following:
        atexit.unregister(_flush_all)
        atexit.register(_flush_all)
    _following.add(telemetry)


def _flush_all() -> None:
    for telemetry in tuple(_following):
        telemetry.flush(PATIENCE)
