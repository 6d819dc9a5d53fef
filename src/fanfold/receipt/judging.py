"""From lives to a verdict: work, the longest chain, the gain, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fanfold.events import WITHOUT_A_CORE
from fanfold.receipt.book import Book
from fanfold.receipt.causes import causes, rounds, within_tasks
from fanfold.receipt.values import (
    NOTHING_TO_OVERLAP,
    PARALLEL,
    PARTLY_SERIAL,
    SEQUENTIAL,
    Hold,
    Receipt,
    TaskLife,
    Thresholds,
    peak_of,
    steady_of,
    union_of,
)
from fanfold.receipt.witnesses import Served, testimony

LASTING: Final = 0.01
"""The part of the wall time for which tasks have to be at work at once: those that follow each other may meet."""


def judged(book: Book, thresholds: Thresholds, journal: Iterable[Served]) -> Receipt:
    """The receipt of what a book holds. What other witnesses say is weighed before anything is added up."""
    assert book.first is not None, "a book without a sitting is refused before"
    said = testimony(book, list(journal), thresholds)
    tasks = tuple(life.closed() for life in book.lives.values())
    wall = book.now
    works = [task.work for task in tasks]
    work = sum(works)
    span = longest_chain(tasks, works)
    busy = [stretch for task in tasks for stretch in task.busy]
    peak, steady = peak_of(busy), steady_of(busy, LASTING * wall)
    gain = max(0.0, min(1.0, (work - wall) / (work - span))) if work > span else 0.0
    speedup = work / wall if wall else 0.0
    verdict = _verdict(tasks, works, gain, steady, thresholds)
    if verdict == PARALLEL and _agents_in_turn(tasks, thresholds, wall):
        verdict = PARTLY_SERIAL
    kept = verdict in (PARTLY_SERIAL, SEQUENTIAL)
    found = (causes if kept else within_tasks)(tasks, book, thresholds, wall)
    return Receipt(
        run_id=book.first.run_id,
        thread_id=book.first.thread_id,
        graph=book.first.graph,
        status=book.status,
        verdict=verdict,
        wall=wall,
        work=work,
        span=span,
        speedup=speedup,
        gain=gain,
        peak=peak,
        mean=speedup,
        limit=book.limit,
        waited=sum(task.waited for task in tasks),
        culprits=tuple(map(str, found)),
        tasks=tasks,
        limits=tuple(book.limits.values()),
        causes=found,
        witnesses=said.witnesses,
        disagreements=(*_over_limit(peak, book.limit), *said.disagreements),
        steady=steady,
        jumped=book.jumped,
        blocked=min(wall, _blocked(book.holds)),
        thresholds=thresholds,
    )


def _blocked(holds: Sequence[Hold]) -> float:
    """How long code held the event loop. What was done in pieces did not overlap, though it is told as if it had; what
    others had the cores for is none of the code's doing."""
    at_once = union_of((hold.start, hold.end) for hold in holds if hold.pieces == 1 and hold.place != WITHOUT_A_CORE)
    return sum(end - start for start, end in at_once) + sum(hold.end - hold.start for hold in holds if hold.pieces > 1)


def _over_limit(peak: int, limit: int | None) -> Iterable[str]:
    """A limit that does not hold: one that each graph inside has for itself, for instance."""
    if limit is not None and peak > limit:
        yield f"the run's limit is {limit}, and {peak} tasks were at work at once: it does not hold for the whole run"


def _verdict(tasks: Sequence[TaskLife], works: Sequence[float], gain: float, steady: int, lines: Thresholds) -> str:
    # Whether there was anything to overlap is judged with the times that others held the loop counted as work: a task
    # that slept meanwhile may have had that to overlap, and one that was ready did.
    most = [work + task.held_up for task, work in zip(tasks, works, strict=True)]
    work, span = sum(most), longest_chain(tasks, most)
    if work - span <= lines.worthwhile * work:
        return NOTHING_TO_OVERLAP
    if steady <= 1 or gain <= lines.sequential:
        return SEQUENTIAL
    return PARALLEL if gain >= lines.parallel else PARTLY_SERIAL


def _agents_in_turn(tasks: Sequence[TaskLife], lines: Thresholds, wall: float) -> bool:
    """Whether a node has awaited its agents one after another, and no two agents ever overlapped. What else ran beside
    them may have taken as long, so that nothing was lost by it; side by side they were not."""
    agents = [stretch for task in tasks if task.role == "agent" for stretch in task.busy]
    if steady_of(agents, LASTING * wall) > 1:
        return False
    return any(cause.seconds > lines.telling * wall for cause in rounds(tasks, lines))


def longest_chain(tasks: Sequence[TaskLife], own: Sequence[float]) -> float:
    """The longest chain: a task is as long as what is its own, and the longest chain inside of it.

    A task follows what its edges say. What it was released by is not among that: for that it waited, at a barrier.
    """
    inside: dict[str | None, list[tuple[TaskLife, float]]] = {}
    known = {task.task for task in tasks}
    for task, seconds in zip(tasks, own, strict=True):  # in the order in which they were queued: after all before it
        inside.setdefault(task.parent if task.parent in known else None, []).append((task, seconds))

    def longest(parent: str | None) -> float:
        ends: dict[str, float] = {}
        most = 0.0
        for task, seconds in inside.get(parent, ()):
            before = 0.0
            for id in task.after:
                if (end := ends.get(id, 0.0)) > before:
                    before = end
            end = before + seconds + (longest(task.task) if task.task in inside else 0.0)
            ends[task.task] = end
            if end > most:
                most = end
        return most

    return longest(None)
