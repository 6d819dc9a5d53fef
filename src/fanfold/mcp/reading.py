"""What a store knows of its runs, in the words that a server tells it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fanfold.claiming import status_of
from fanfold.errors import FanfoldError, UsageError
from fanfold.events import from_record
from fanfold.exports.timeline import Timeline, timeline
from fanfold.graph import CompiledGraph
from fanfold.limits import spent
from fanfold.mcp.offer import DEBATE, Offer
from fanfold.receipt import Receipt, receipt
from fanfold.store.base import RunRecord
from fanfold.types import Interrupt, StateSnapshot

_SHOWN: Final[Mapping[str, tuple[str, ...]]] = {DEBATE: ("verdict", "report")}
"""Of the output of these graphs of ours, the keys that are for people and models; the rest is for programs."""


class Reading:
    """Answers questions about runs. It blocks: ask it from a thread."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.store = offer.store

    def record(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one that begins so."""
        return self.store.run(run_id)

    def status(self, record: RunRecord) -> str:
        """How it stands: running, done, failed, cancelled, paused, or interrupted."""
        return status_of(self.store, record)

    def graph(self, record: RunRecord) -> CompiledGraph:
        """The run's graph. Raises `UsageError` for one that the operator has not named."""
        return self._offer.behind(record.settings).load(self.store, record.graph)

    def receipt(self, run_id: str) -> Receipt | None:
        """The run's receipt; None while nothing has happened in it."""
        events = [from_record(event) for event in self.store.events(run_id)]
        return receipt(events) if events else None

    def timeline(self, run_id: str) -> Timeline:
        """Each task's life, and what was done in it."""
        return timeline(from_record(event) for event in self.store.events(run_id))

    def spent(self, run_id: str) -> dict[str, float]:
        """What the run has spent in all its sittings, by the names of limits."""
        return spent(from_record(event) for event in self.store.events(run_id))

    def outcome(self, record: RunRecord) -> tuple[Any, list[dict[str, Any]], str]:
        """The output, or what there is of it, and the questions that are open; or in words why they cannot be shown."""
        try:
            graph = self.graph(record)
        except UsageError as error:
            return None, [], str(error)
        kept = (kept for kept in self.store.history(record.thread_id) if kept.run_id == record.run_id)
        newest = next(kept, None)
        if newest is None:
            return None, [], "nothing has been kept yet"
        place = {"thread_id": record.thread_id, "checkpoint_id": newest.checkpoint_id}
        try:
            state = graph.get_state({"configurable": place})
        except FanfoldError as error:
            return None, [], str(error)
        questions = [{"id": question.id, "value": question.value} for question in unanswered(state)]
        return _shown(graph, record, state.values), questions, ""


def unanswered(state: StateSnapshot) -> list[Interrupt]:
    """The questions of tasks that have not ended since: at a checkpoint that is named, all stand that were asked."""
    return [question for task in state.tasks if task.result is None for question in task.interrupts]


def _shown(graph: CompiledGraph, record: RunRecord, values: Any) -> Any:
    keys = _SHOWN.get(record.settings.get("graph", ""), graph.plan.answers)
    if isinstance(keys, str) or not isinstance(values, dict):
        return values
    return {key: values[key] for key in keys if key in values}
