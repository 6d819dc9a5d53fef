"""What earlier sittings of a run have spent, as its events tell."""

from __future__ import annotations

from collections.abc import Iterable

from fanfold.events import (
    Event,
    ModelAnswered,
    RunStarted,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskPaused,
    TaskQueued,
    TaskStarted,
)


def spent(events: Iterable[Event]) -> dict[str, float]:
    """Calls, tokens, usd, and the seconds that agents worked, by the names in `Limits`.

    An agent that was at work when its sitting was killed worked until the last that is known of that sitting.
    """
    told = {"calls": 0.0, "tokens": 0.0, "usd": 0.0, "seconds": 0.0}
    agents: set[str] = set()
    since: dict[str, float] = {}
    now = 0.0
    for event in events:
        if isinstance(event, RunStarted):
            told["seconds"] += sum(now - began for began in since.values())
            since.clear()
        now = event.at
        if isinstance(event, TaskQueued) and event.role == "agent":
            agents.add(event.task)
        elif isinstance(event, ModelAnswered):
            told["calls"] += 1
            told["tokens"] += event.input_tokens + event.output_tokens
            told["usd"] += event.cost_usd or 0.0
        elif isinstance(event, TaskStarted | TaskContinued) and event.task in agents:
            since.setdefault(event.task, now)
        elif isinstance(event, TaskPaused | TaskFinished | TaskFailed | TaskCancelled | TaskInterrupted):
            began = since.pop(event.task, now)
            told["seconds"] += max(0.0, now - began)
    told["seconds"] += sum(now - began for began in since.values())
    return told
