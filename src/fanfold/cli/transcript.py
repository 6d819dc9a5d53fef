"""`fanfold runs show RUN --agent NAME`: what an agent of a run and its model said to each other."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.agents.definition import folded
from fanfold.agents.transcripts import stored
from fanfold.agents.turns import turns
from fanfold.cli.common import counted, print_json, short
from fanfold.cli.outcome import graph_again
from fanfold.errors import CorruptRecordError, UsageError, did_you_mean
from fanfold.live import clean
from fanfold.store.base import RunRecord, Store
from fanfold.store.serde import Codec


def show_transcripts(store: Store, record: RunRecord, who: str, as_json: bool) -> None:
    """Print the transcripts of the agents of that name, or of the one whose task's id begins so.

    Raises `UsageError`, which lists the run's agents, when there is none.
    """
    answers = _answers(store, record)
    meant = [answer for answer in answers if _is(answer, who)]
    if not meant:
        names = list(dict.fromkeys(answer["agent_type"] for answer in answers))
        raise UsageError(
            f"run {short(record.run_id)} has kept nothing of an agent {who!r}{did_you_mean(who, names)}",
            hint=f"its agents are: {', '.join(names)}" if names else "no agent has answered in it",
        )
    for number, answer in enumerate(meant):
        if as_json:
            print_json({"run_id": record.run_id, **answer})
        else:
            print("\n" * bool(number) + "\n".join(_lines(answer)))


def _answers(store: Store, record: RunRecord) -> list[Mapping[str, Any]]:
    try:
        return list(stored(store, record.run_id, Codec()))
    except CorruptRecordError:  # a class that only the graph's annotations name
        codec = graph_again(record, None).codec
        return list(stored(store, record.run_id, codec))


def _is(answer: Mapping[str, Any], who: str) -> bool:
    return folded(answer["agent_type"]) == folded(who) or str(answer["task_id"]).startswith(who)


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """One agent's transcript for people: a line about it, then who said what, one below the other."""
    yield clean(" · ".join(_about(answer)))
    if answer.get("error"):
        yield clean(f"error: {answer['error']}")
    said = ""
    for turn in turns(answer["transcript"]):
        said = turn.text
        yield f"\n{clean(turn.who)}"
        yield textwrap.indent(clean(turn.text), "    ")
    output = answer.get("output")
    if output is not None and not isinstance(output, str):
        output = json.dumps(output, ensure_ascii=False, default=str)
    if output and output.strip() != said.strip():
        yield f"\nanswer\n{textwrap.indent(clean(output), '    ')}"


def _about(answer: Mapping[str, Any]) -> Iterator[str]:
    yield answer["agent_type"]
    yield f"task {answer['task_id']}"
    if answer.get("model"):
        yield answer["model"]
    yield answer["status"]
    if answer.get("tool_uses"):
        yield counted(answer["tool_uses"], "tool call")
    if usage := answer.get("usage"):
        yield counted(usage.get("input_tokens", 0) + usage.get("output_tokens", 0), "token")
    if "duration" in answer:
        yield f"{answer['duration']:.3f} s"
