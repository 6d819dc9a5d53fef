"""The instruments in which the numbers of runs are counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics

from fanfold import __version__
from fanfold.exports import conventions as names


@dataclass(frozen=True, slots=True)
class Instruments:
    tokens: metrics.Histogram
    operations: metrics.Histogram
    runs: metrics.Histogram
    peaks: metrics.Histogram
    speedups: metrics.Histogram
    waits: metrics.Histogram
    held: metrics.Histogram
    busy: metrics.UpDownCounter


_made: Final[WeakKeyDictionary[metrics.MeterProvider, Instruments]] = WeakKeyDictionary()


def instruments(provider: metrics.MeterProvider | None) -> Instruments:
    """The instruments of a provider, made once: it complains of a second one of the same name."""
    provider = metrics.get_meter_provider() if provider is None else provider
    if provider not in _made:
        _made[provider] = _new_instruments(provider.get_meter("fanfold", __version__, names.SCHEMA))
    return _made[provider]


def _new_instruments(meter: metrics.Meter) -> Instruments:
    seconds = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS)
    number = partial(meter.create_histogram, unit="{task}")
    return Instruments(
        tokens=meter.create_histogram(
            names.TOKEN_USAGE,
            "{token}",
            "Number of input and output tokens used",
            explicit_bucket_boundaries_advisory=names.TOKEN_BUCKETS,
        ),
        operations=seconds(names.OPERATION_DURATION, description="GenAI operation duration"),
        runs=seconds(names.RUN_DURATION, description="From the start of a sitting of a run to its end"),
        peaks=number(names.RUN_PEAK, description="The most tasks of a run that were at work at once"),
        speedups=meter.create_histogram(names.RUN_SPEEDUP, "1", "Work of a run over its wall time"),
        waits=seconds(names.TASK_WAIT, description="From when a task could run until it began"),
        held=seconds(names.LOOP_HELD, description="How long a task's code held the event loop at a time"),
        busy=meter.create_up_down_counter(names.RUN_CONCURRENCY, "{task}", "Tasks of runs that are at work now"),
    )
