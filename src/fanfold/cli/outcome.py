"""What a run came to: its output as the store has kept it, and how a person wants to read that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fanfold.cli.loading import load_graph
from fanfold.errors import UsageError
from fanfold.graph import CompiledGraph
from fanfold.receipt import Receipt
from fanfold.store.base import RunRecord, Store

if TYPE_CHECKING:
    from fanfold.teams.research import Researched

STUDY: Final = "fanfold.teams.study:graph"
DEBATE: Final = "fanfold.teams.debate:graph"
RESEARCH: Final = "fanfold.teams.research:graph"
SINGLE: Final = "fanfold.teams.single:graph"

_READ: Final = {STUDY: "report", DEBATE: "report", RESEARCH: "report", SINGLE: "output"}
"""The key that holds all that a person wants of our own teams; the others are for programs."""


def graph_of(record: RunRecord) -> str:
    """What the run's graph is called on the command line. Raises `UsageError` for one that Python code started."""
    if "graph" not in record.settings:
        raise UsageError(
            f"run {record.run_id!r} was not started by a command, so its graph is not known here",
            hint=f"from Python: graph.invoke(None, thread_id={record.thread_id!r}) goes on with it",
        )
    return str(record.settings["graph"])


def graph_again(record: RunRecord, store: Store | None) -> CompiledGraph:
    """The run's graph, made as it was for the run. Raises `UsageError` for one that Python code started."""
    return load_graph(graph_of(record), store, name=record.graph, given=record.settings.get("given"))


def kept(store: Store, record: RunRecord) -> Any:
    """The run's output, or what there is of it by now. Raises `UsageError` when there is nothing yet."""
    graph = graph_again(record, store)
    places = [kept.checkpoint_id for kept in store.history(record.thread_id) if kept.run_id == record.run_id]
    if not places:
        raise UsageError(f"run {record.run_id!r} has kept nothing that could be shown")
    place = {"thread_id": record.thread_id, "checkpoint_id": places[0]}  # the thread may have gone on since
    values = graph.get_state({"configurable": place}).values
    answers = graph.plan.answers
    if isinstance(answers, str) or not isinstance(values, dict):
        return values
    return {key: values[key] for key in answers if key in values}


def researched(settings: Mapping[str, Any], output: Any, told: Receipt) -> Researched | None:
    """What a run of the packaged research came to, with what was measured of it; None for any other run."""
    if settings.get("graph") != RESEARCH or not isinstance(output, dict) or not output.get("phase"):
        return None
    from fanfold.teams.research import AT_ONCE, Researched

    given = settings.get("given") or {}
    return Researched.of(output, told, at_once=given.get("at_once", AT_ONCE))


def readable(settings: Mapping[str, Any], output: Any) -> str:
    """The report of a team, the answer of an agent, else the output as JSON."""
    text = output.get(_READ.get(settings.get("graph", ""))) if isinstance(output, dict) else None
    return text if isinstance(text, str) else json.dumps(output, default=str, ensure_ascii=False, indent=2)
