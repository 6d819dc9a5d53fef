"""Who is asked what, and in which order: the verdict's queue, filled up with kinds that it does not name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fanfold.teams.debating.objects import KINDS, Mark, ResearchItem
from fanfold.teams.researching.objects import Plan

LAST: Final = 3
"""The priority of what nobody asked for."""

LONGEST_TOPIC: Final = 300


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be asked, the most urgent first, and what a reader has to know about it."""

    items: tuple[ResearchItem, ...]
    marks: tuple[Mark, ...] = ()


def queued(asked: Sequence[ResearchItem], topic: str, plan: Plan) -> Queue:
    """The specialists of a run: what was `asked` for by priority, then, unless only that, the other kinds."""
    wanted = _distinct(sorted(asked, key=lambda item: item.priority))  # which keeps the order of equals
    others = () if plan.only else _others(wanted, topic)
    items = [*wanted, *others][: plan.specialists]
    dropped = len(wanted) - min(len(wanted), plan.specialists)
    marks = []
    if dropped:
        text = f"{dropped} of {len(wanted)} questions of the verdict were left out: {plan.specialists} may be asked"
        marks.append(Mark(kind="stopped", who="the queue", text=text))
    return Queue(tuple(items), tuple(marks))


def _distinct(items: Iterable[ResearchItem]) -> list[ResearchItem]:
    """Without what is asked of the same kind a second time, in the same words."""
    first: dict[tuple[str, str], ResearchItem] = {}
    for item in items:
        first.setdefault((item.kind, " ".join(item.question.casefold().split())), item)
    return list(first.values())


def _others(wanted: Iterable[ResearchItem], topic: str) -> list[ResearchItem]:
    named = {item.kind for item in wanted}
    question = f"What is there to find about this: {topic[:LONGEST_TOPIC]}"
    return [ResearchItem(kind=kind, question=question, priority=LAST) for kind in KINDS if kind not in named]
