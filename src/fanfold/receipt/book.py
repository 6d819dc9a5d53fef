"""All lives of a run, from its events: in order, sitting by sitting, on one line of time that has no gaps.

The time between two sittings, when nobody ran the run, does not count; nor does the time in which the whole process
stood still, such as while the machine slept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, TypeAlias

from fanfold.errors import UsageError
from fanfold.events import (
    ClockJumped,
    Event,
    LimitReported,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    ProgramSeen,
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskHeldUp,
    TaskInterrupted,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
    TaskWaited,
    TaskWaiting,
    ThreadUsed,
    ToolAnswered,
    ToolCalled,
)
from fanfold.receipt.lives import Life
from fanfold.receipt.values import BLOCKING, HELD_UP, LOCK, QUEUED, THREAD, Hold, LimitUse, Stretch

SAME_SPELL: Final = 0.02
"""Seconds between two slices that hold the loop as one, and behind one: less is not worth telling by itself."""

NEARBY: Final = 0.1
"""Seconds by which what was done in pieces may be told off the place where it was done."""


Spell: TypeAlias = tuple[float, float, dict[str, float]]
"""From when to when the loop was held without a pause, and the longest that each of those who did held it at once."""


class Sitting:
    """What one process did: when, by its clock, and where that is on the run's line of time."""

    def __init__(self, start: float, now: float, jumps: Sequence[ClockJumped]) -> None:
        self.start = self.end = start
        self.shift = now - start
        self.jumps = [(jump.at - jump.seconds, jump.seconds) for jump in jumps]

    def moment(self, at: float) -> float:
        """Where a time of its clock is on the run's line."""
        passed = sum(min(seconds, max(0.0, at - start)) for start, seconds in self.jumps) if self.jumps else 0.0
        return at + self.shift - passed

    def knows(self, at: float) -> bool:
        """Whether that was while it ran."""
        return self.start <= at <= self.end


class Book:
    """Reads events in order. `now` is the newest moment; lives that have not ended are told until then."""

    def __init__(self) -> None:
        self.first: RunStarted | None = None
        self.limit: int | None = None
        self.status = "running"
        self.now = 0.0
        self.lives: dict[str, Life] = {}
        self.limits: dict[str, LimitUse] = {}
        self.sittings: list[Sitting] = []
        self.holds: list[Hold] = []
        self.blocks: list[TaskBlocked] = []
        self.threads: list[tuple[float, float, float, Life]] = []
        """From when to when a thread was busy, and for how long of that it had a core, or could have had one."""
        self.programs: dict[str, list[tuple[float, int, float]]] = {}
        self.jumped = 0.0
        self._sitting = Sitting(0.0, 0.0, ())

    def read(self, events: Iterable[Event]) -> None:
        """Take in all events of a run."""
        told = events if isinstance(events, Sequence) else list(events)
        for start, end in _sittings(told):
            self._begin(told[start], [told[i] for i in range(start, end) if type(told[i]) is ClockJumped])
            self._read(told[start:end])
        for life in self.lives.values():
            if life.open:
                life.close(self.now)
        if self.holds:
            self._blame()

    def _begin(self, event: Event, jumps: Any) -> None:
        if type(event) is not RunStarted:
            raise UsageError(f"the events begin with {event.kind}, not with the start of a run")
        self.first = self.first or event
        self.limit = event.max_concurrency
        self.status = "running"
        for life in self.lives.values():  # what a killed sitting left open ended with it
            life.lose(self.now)
        self._sitting = Sitting(event.at, self.now, jumps)
        self.sittings.append(self._sitting)
        self.jumped += sum(jump.seconds for jump in jumps)

    def _read(self, events: Sequence[Event]) -> None:
        sitting, about = self._sitting, _ABOUT
        shift, jumps = sitting.shift, bool(sitting.jumps)
        last, now = sitting.end, self.now
        for event in events:
            raw = event.at
            at = sitting.moment(raw) if jumps else raw + shift
            if at > now:  # an agent's end is told when its answer is on disk, with the time it had ended
                last, now = raw, at
            kind = type(event)
            if kind is TaskQueued:
                self._queue(event, at)  # type: ignore[arg-type]  # it is one
            elif kind is TaskStarted:
                self._start(event, at)
            elif kind is TaskFinished:
                self._end(event, at, "finished")
            elif kind in about:
                about[kind](self, event, at)
        sitting.end, self.now = last, now

    def _queue(self, event: TaskQueued, at: float) -> None:
        life = self.lives.get(event.task)
        if life is None:
            life = self.lives[event.task] = Life(event, at)
        else:
            life.lose(at)
            life.again(event, at)
        if event.released and event.released in self.lives:
            ends = [end for id in event.after if id in self.lives and (end := self.lives[id].ended) is not None]
            if ends:
                began = self._sitting.start + self._sitting.shift
                life.barred(max(*ends, began), event.released)

    def _start(self, event: Any, at: float) -> None:
        self.lives[event.task].start(event, at)

    def _end(self, event: Any, at: float, status: str) -> None:
        life = self.lives[event.task]
        life.end(at, status, event.error if type(event) is TaskFailed else "")

    def _since(self, event: LoopHeld | TaskHeldUp | TaskBlocked | ThreadUsed) -> float:
        """When that began of which an event tells the end."""
        return self._sitting.moment(event.at - event.seconds)

    def _hold(self, event: LoopHeld, at: float) -> None:
        life, since = self.lives[event.task], self._since(event)
        if event.pieces == 1:  # else it worked between them, or waited for others that did the same
            life.rename(since, at, BLOCKING)
        where = f"{event.file}:{event.line} in {event.function}" if event.file else event.function
        self.holds.append(Hold(since, at, event.task, where, life.tooling, event.pieces))

    def _held_up(self, event: TaskHeldUp, at: float) -> None:
        self.lives[event.task].rename(self._since(event), at, HELD_UP)

    def _block(self, event: TaskBlocked, at: float) -> None:
        part = THREAD if event.on == "thread" else LOCK
        on = event.place or event.on
        if self.lives[event.task].rename(self._since(event), at, part, on):
            self.blocks.append(event)

    def _thread(self, event: ThreadUsed, at: float) -> None:
        life = self.lives[event.task]
        life.cut(at)
        life.cpu += event.cpu
        self.threads.append((self._since(event), at, event.cpu + event.ready, life))

    def _answer(self, event: ModelAnswered, at: float) -> None:
        life = self.lives[event.task]
        life.answered(at)
        life.spend(event)

    def _program(self, event: ProgramSeen, at: float) -> None:
        seen = self.programs.setdefault(event.task, [])
        life = self.lives[event.task]
        before = seen[-1][2] if seen else 0.0
        life.cpu += event.cpu - before if event.cpu >= before else event.cpu
        seen.append((at, event.processes, event.cpu))

    def _limit(self, event: LimitReported, _: float) -> None:
        """What an earlier sitting, or another call of the same graph, has told of the limit counts on."""
        each = dict(zip(event.by, event.each, strict=True))
        peak, waits, waited = event.peak, event.waits, event.waited
        before = self.limits.get(event.name)
        if before is not None:
            peak, waits, waited = max(before.peak, peak), before.waits + waits, before.waited + waited
            for who, seconds in before.by:
                each[who] = each.get(who, 0.0) + seconds
        by = tuple(sorted(each.items(), key=lambda item: -item[1]))
        self.limits[event.name] = LimitUse(event.name, event.limit, peak, waits, waited, by, event.note)

    def _over(self, event: RunFinished, _: float) -> None:
        self.status = event.status

    # Who held the loop while others waited for it

    def _blame(self) -> None:
        spells, pieces = _spells(self.holds), _spells([hold for hold in self.holds if hold.pieces > 1])

        def holder(life: Life, stretch: Stretch) -> str:
            start, end = stretch.start, stretch.end
            met = _over(spells, start, end) or _over(pieces, start - NEARBY, end + NEARBY)
            if not met:
                return ""
            _, _, by = max(met, key=lambda spell: min(spell[1], stretch.end) - max(spell[0], stretch.start))
            return max(by, key=lambda task: (task != life.told.task, by[task]))

        for life in self.lives.values():
            for stretch in [each for each in life.stretches if each.part == QUEUED]:
                for start, end, by in _over(spells, stretch.start, stretch.end):
                    who = max(by, key=by.__getitem__)
                    end = stretch.end if 0.0 < stretch.end - end <= SAME_SPELL else end
                    life.queue_held += life.rename(start, end, HELD_UP, who, of=QUEUED, ever=True)
            life.blame(partial(holder, life))


_ABOUT: Final[dict[type[Event], Callable[[Book, Any, float], None]]] = {
    TaskPaused: lambda book, event, at: book.lives[event.task].pause(at),
    TaskContinued: lambda book, event, at: book.lives[event.task].go_on(event, at),
    TaskFailed: lambda book, event, at: book._end(event, at, "failed"),
    TaskInterrupted: lambda book, event, at: book._end(event, at, "interrupted"),
    TaskCancelled: lambda book, event, at: book._end(event, at, "cancelled"),
    TaskRemembered: lambda book, event, at: book._end(event, at, "remembered"),
    TaskWaiting: lambda book, event, at: book.lives[event.task].wait(event, at),
    TaskWaited: lambda book, event, at: book.lives[event.task].waited(event, at),
    LoopHeld: Book._hold,
    TaskHeldUp: Book._held_up,
    TaskBlocked: Book._block,
    ThreadUsed: Book._thread,
    ModelAsked: lambda book, event, at: book.lives[event.task].ask(event, at),
    ModelAnswered: Book._answer,
    ModelLost: lambda book, event, at: book.lives[event.task].answered(at),
    ModelRetried: lambda book, event, at: book.lives[event.task].answered(at),
    ToolCalled: lambda book, event, at: book.lives[event.task].call(event),
    ToolAnswered: lambda book, event, at: book.lives[event.task].used(event, at),
    ProgramSeen: Book._program,
    LimitReported: Book._limit,
    RunFinished: Book._over,
}
"""What each kind of event is to the book. The others change nothing in it."""


def _sittings(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Where each sitting begins and ends."""
    starts = [index for index, event in enumerate(events) if not index or type(event) is RunStarted]
    return list(pairwise([*starts, len(events)]))


def _over(spells: Sequence[Spell], first: float, last: float) -> list[Spell]:
    """Those that are at least partly between two times."""
    found = []
    for place in range(max(0, bisect_right(spells, first, key=itemgetter(0)) - 1), len(spells)):
        start, end, _ = spells[place]
        if start >= last:
            break
        if end > first:
            found.append(spells[place])
    return found


def _spells(holds: Sequence[Hold]) -> list[Spell]:
    """The times at which the loop was held."""
    found: list[Spell] = []
    for hold in sorted(holds, key=lambda hold: hold.start):
        seconds = hold.end - hold.start
        if found and hold.start - found[-1][1] <= SAME_SPELL:
            start, end, by = found[-1]
            by[hold.task] = max(by.get(hold.task, 0.0), seconds)
            found[-1] = start, max(end, hold.end), by
        else:
            found.append((hold.start, hold.end, {hold.task: seconds}))
    return found
