"""What earlier sittings of a run have spent, as its events tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from fanfold.events import (
    Event,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
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

_ENDS: TypeAlias = TaskFinished | TaskFailed | TaskCancelled | TaskInterrupted


class _Sum:
    """What has been told so far of what a run spent."""

    def __init__(self) -> None:
        self.told = {"calls": 0.0, "tokens": 0.0, "usd": 0.0, "seconds": 0.0}
        self._agents: set[str] = set()
        self._since: dict[str, float] = {}
        self._asked: Counter[str] = Counter()  # by task, what its models have said nothing of yet
        self._now = 0.0

    def add(self, event: Event) -> None:
        """Count what the event tells."""
        if isinstance(event, RunStarted):
            self.end()
        self._now = event.at
        if isinstance(event, TaskQueued) and event.role == "agent":
            self._agents.add(event.task)
        elif isinstance(event, ModelAsked | ModelAnswered | ModelLost | ModelRetried):
            self._model(event)
        elif isinstance(event, TaskStarted | TaskContinued) and event.task in self._agents:
            self._since.setdefault(event.task, self._now)
        elif isinstance(event, TaskPaused | _ENDS):
            self.told["seconds"] += self._now - self._since.pop(event.task, self._now)
            if not isinstance(event, TaskPaused):
                self._asked.pop(event.task, None)

    def end(self) -> None:
        """That was all of one sitting: who was at work was killed, and so were requests of which nothing was heard."""
        self.told["seconds"] += sum(self._now - began for began in self._since.values())
        self.told["calls"] += sum(self._asked.values())
        self._since.clear()
        self._asked.clear()

    def _model(self, event: ModelAsked | ModelAnswered | ModelLost | ModelRetried) -> None:
        if isinstance(event, ModelAsked):
            self._asked[event.task] += 1
            return
        self._asked[event.task] = max(0, self._asked[event.task] - 1)
        if isinstance(event, ModelAnswered):
            self._take(event.calls, event.input_tokens + event.output_tokens, event.cost_usd or 0.0)
        elif isinstance(event, ModelLost):
            self._take(event.calls, event.tokens, event.cost_usd)

    def _take(self, calls: float, tokens: float, usd: float) -> None:
        self.told["calls"] += calls
        self.told["tokens"] += tokens
        self.told["usd"] += usd


def spent(events: Iterable[Event]) -> dict[str, float]:
    """Calls, tokens, usd, and the seconds that agents worked, by the names in `Limits`.

    An agent that was at work when its sitting was killed worked until the last that is known of that sitting, and a
    request that was in flight then is a call, of which nobody knows what else it took.
    """
    counted = _Sum()
    for event in events:
        counted.add(event)
    counted.end()
    return counted.told
