"""Three witnesses of one run: the engine, the model's server, and the operating system.

The engine's word is the events. A server's is its journal, with which calls were in flight there and since when each
was served; the clock is the machine's, so its times are the run's. The operating system's is how many processes of
agents it saw, and how much of a core they and the threads of the run used. What one of them saw otherwise is said in
words and numbers, and where it shows that a task waited although the engine had it at work, that is taken off its work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fanfold.receipt.book import Book
from fanfold.receipt.lives import Life
from fanfold.receipt.values import (
    BLOCKING,
    GIL,
    PROVIDER,
    WORKING,
    Thresholds,
    Witness,
    mean_of,
    peak_of,
    union_of,
)

NOTICED = 0.02
"""Seconds from which on two witnesses are said to differ; a call's way to the server takes a part of that."""

FEWER = 0.8
"""The part of what one witness saw at once up to which another one is said to have seen fewer."""


TOGETHER = 1.5
"""How many threads must be at work at once on average for one to be said to have waited for another."""


class Served(Protocol):
    """A call in a server's journal, such as `fanfold.testing.ModelServer` keeps. Times are of the monotonic clock.

    A journal that knows since when a call was being served, and no longer waited there, has that as `served`.
    """

    @property
    def task(self) -> str: ...
    @property
    def started(self) -> float: ...
    @property
    def ended(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the witnesses say, where there are several: the engine first; and in words where they disagree."""

    witnesses: tuple[Witness, ...]
    disagreements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """One call as the server saw it, on the run's line of time."""

    life: Life
    came: float
    served: float
    ended: float


def testimony(book: Book, journal: Sequence[Served], thresholds: Thresholds) -> Testimony:
    """What all witnesses say. What they know better than the engine is written into the lives."""
    witnesses: list[Witness] = []
    disagreements: list[str] = []
    for said in (_server(book, journal), _programs(book), _threads(book, thresholds)):
        if said is not None:
            witnesses += said.witnesses
            disagreements += said.disagreements
    if witnesses:
        busy = [stretch for life in book.lives.values() for stretch in _at_work(life)]
        engine = Witness("the engine", "tasks at work", len({id(life) for life, _, _ in busy}), *_at_once(busy))
        witnesses.insert(0, engine)
    return Testimony(tuple(witnesses), tuple(disagreements))


def _at_work(life: Life) -> Iterable[tuple[Life, float, float]]:
    return [(life, stretch.start, stretch.end) for stretch in life.stretches if stretch.part in ("working", "blocking")]


def _at_once(stretches: Iterable[tuple[Any, float, float]]) -> tuple[int, float]:
    times = [(start, end) for _, start, end in stretches]
    return peak_of(times), mean_of(times)


# The model's server


def _server(book: Book, journal: Sequence[Served]) -> Testimony | None:
    """What a journal says of the calls of this run's agents."""
    if not journal:
        return None
    asked = [(life, start, end) for life in book.lives.values() for start, end in life.calls]
    seen = [call for entry in journal if (call := _call(book, entry)) is not None]
    served = [(call.served, call.ended) for call in seen]
    ours, theirs = peak_of((start, end) for _, start, end in asked), peak_of(served)
    means = mean_of((start, end) for _, start, end in asked), mean_of(served)
    witness = Witness("the model's server", "calls", len(seen), theirs, means[1])
    told: list[str] = []
    if asked and len(seen) < len({id(life) for life, _, _ in asked}):
        told.append(
            f"the engine saw agents ask models {len(asked)} times, and the server has {len(seen)} calls of them"
        )
    queued = sum(_queued(call, seen, ours, theirs) for call in seen)
    if theirs < ours and means[1] <= FEWER * means[0] and seen:
        told.append(
            f"the engine had up to {ours} requests to models in flight (mean {means[0]:.2f}), and the server never"
            f" served more than {theirs} at once (mean {means[1]:.2f}); its queue had them for {queued:.2f} s in all"
        )
    return Testimony((witness,), tuple(told))


def _call(book: Book, entry: Served) -> _Seen | None:
    """The call on the run's line of time, if it is one of this run's."""
    life = book.lives.get(entry.task)
    sitting = next((each for each in reversed(book.sittings) if each.knows(entry.started)), None)
    if life is None or sitting is None:
        return None
    ended = min(entry.ended if entry.ended is not None else sitting.end, sitting.end)
    served = getattr(entry, "served", None)
    since = min(ended, entry.started if served is None else served)
    return _Seen(life, sitting.moment(entry.started), sitting.moment(since), sitting.moment(ended))


def _queued(call: _Seen, seen: Sequence[_Seen], ours: int, theirs: int) -> float:
    """Take off an agent's work what it spent in the server's queue: as the server says itself, or, where it took up
    fewer at once than were asked, while it was busy with as many others as it ever was."""
    waits = [(call.came, call.served)]
    if call.served == call.came and theirs < ours:
        asked = max((start for start, end in call.life.calls if start <= call.came <= end), default=call.came)
        waits = [] if call.came - asked < NOTICED else _full(seen, theirs, asked, call.came)
    return sum(call.life.rename(start, end, PROVIDER, ever=True) for start, end in waits if end > start)


def _full(seen: Sequence[_Seen], most: int, start: float, end: float) -> list[tuple[float, float]]:
    """When, between two times, the server was busy with `most` calls."""
    edges = sorted(
        edge
        for call in seen
        if call.served < end and call.ended > start
        for edge in ((max(call.served, start), 1), (min(call.ended, end), -1))
    )
    found, count, since = [], 0, start
    for at, change in edges:
        if count == most and at > since:
            found.append((since, at))
        count += change
        since = at
    return found


# The operating system


def _programs(book: Book) -> Testimony | None:
    """What the operating system saw of agents that are programs."""
    if not book.programs:
        return None
    alive = []
    for task, samples in book.programs.items():
        there = [at for at, processes, _ in samples if processes]
        if there:  # the last look is at its end
            alive.append((book.lives[task], there[0], samples[-1][0]))
    working = [stretch for task in book.programs for stretch in _at_work(book.lives[task])]
    cpu = sum(book.lives[task].cpu for task in book.programs)
    (ours, mean), (theirs, seen_mean) = _at_once(working), _at_once(alive)
    length = _length((start, end) for _, start, end in alive)
    cores = f"{cpu / length:.2f} cores in use" if length else ""
    witness = Witness("the operating system", "programs of agents", len(alive), theirs, seen_mean, cores)
    told = []
    if theirs < ours and seen_mean <= FEWER * mean:
        told.append(
            f"the engine had up to {ours} programs at work at once (mean {mean:.2f}), and the operating system never"
            f" saw more than {theirs} (mean {seen_mean:.2f})"
        )
    return Testimony((witness,), tuple(told))


def _threads(book: Book, thresholds: Thresholds) -> Testimony | None:
    """Threads that were at work at once, and had one core between them: Python lets only one of them go on at a time.

    Threads that wait, for a server or a disk, use no core and are not told of; those whose code lets go of Python's
    lock use several cores. Where other programs keep the cores, a thread that could go on counts as if it did.
    """
    times = [(start, end) for start, end, _, _ in book.threads]
    length = _length(times)
    if len(times) < 2 or not length:
        return None
    told = []
    for start, end in union_of((start, end) for start, end, _, _ in book.threads):
        inside = [use for use in book.threads if start <= use[0] and use[1] <= end]
        text = _in_turns(inside, thresholds)
        if text:
            told.append(text)
            _excuse(book, start, end)
    cpu = sum(life.cpu for life in {id(life): life for _, _, _, life in book.threads}.values())
    note = f"{cpu / length:.2f} cores in use"
    witness = Witness("the operating system", "busy threads", len(times), peak_of(times), mean_of(times), note)
    return Testimony((witness,), tuple(told))


def _in_turns(uses: Sequence[tuple[float, float, float, Life]], thresholds: Thresholds) -> str:
    """Whether threads that were at work at once took turns, in words; what they waited for each other is no work."""
    most = peak_of((start, end) for start, end, _, _ in uses)
    keen = [use for use in uses if use[2] * most >= (use[1] - use[0]) / 2]
    times = [(start, end) for start, end, _, _ in keen]
    together, length = mean_of(times), _length(times)
    if len(keen) < 2 or together < TOGETHER:
        return ""
    could = sum(had for _, _, had, _ in keen)
    if not could:
        return ""
    # Whoever waits for its turn wants a core for a moment now and then, to ask for it; where others have the cores, it
    # waits for that, too. So those that take turns seem to be up to half the way from one to all of them.
    if not thresholds.turns <= could / length <= (1 + together) / 2:
        return ""
    part = min(1.0, length / could)  # they cannot have gone on for longer than there was time
    waited = 0.0
    for start, end, had, life in keen:
        first, last = _around(life, start, end)
        waited += life.rename(min(last, first + had * part), last, GIL, ever=True)
    return (
        f"the engine had {most} threads at work at once (mean {together:.2f}), and the operating system saw"
        f" {could / length:.2f} of them that could go on; they waited {waited:.2f} s for each other"
    )


def _excuse(book: Book, first: float, last: float) -> None:
    """The loop's thread takes turns with the others, too. Where that is all that is known of what held it, it is no
    code's doing: the watchdog finds the line of code that holds it."""
    excused = [hold for hold in book.holds if not hold.place and hold.start < last and hold.end > first]
    for hold in excused:
        book.lives[hold.task].rename(hold.start, hold.end, GIL, of=BLOCKING, ever=True)
    book.holds = [hold for hold in book.holds if hold not in excused]


def _around(life: Life, start: float, end: float) -> tuple[float, float]:
    """From when to when a task was at work around its code in a thread: the loop that starts it, and takes what it
    returns, waits for its turn, too."""
    for stretch in reversed(life.stretches):
        if stretch.part == WORKING and stretch.start < start <= stretch.end:
            start = stretch.start
    for stretch in life.stretches:
        if stretch.part == WORKING and stretch.start <= end < stretch.end:
            end = stretch.end
    return start, end


def _length(times: Iterable[tuple[float, float]]) -> float:
    return sum(end - start for start, end in union_of(times))
