"""What happened in a run as pictures show it: each task's life, as the receipt tells it, and what was done in it.

The receipt has the lives: stretches without a gap, on one line of seconds since the run began, on which neither the
time between two sittings counts nor any in which the whole process stood still. What a picture needs besides is read
from the same events, and laid on the same line: requests to models, calls of tools, where in the code the event loop
was held, and steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from fanfold.errors import UsageError
from fanfold.events import (
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskQueued,
    ToolAnswered,
    ToolCalled,
)
from fanfold.facts import fact
from fanfold.receipt import Receipt, TaskLife, Thresholds
from fanfold.receipt.book import Book, Sitting
from fanfold.receipt.judging import judged
from fanfold.receipt.values import BUSY, CHILDREN, Stretch

LOST: Final = "no answer"
"""The error of a request that nobody has answered."""
ENDS: Final = (TaskFinished, TaskFailed, TaskInterrupted, TaskCancelled)


@fact
class Held:
    """From when until when a task's code held the event loop, and where it was seen then, if it was."""

    start: float
    end: float
    where: str = ""


@fact
class Request:
    """One request to a model. `end` is None while no answer is known; `error` says why it has to be made again."""

    model: str
    start: float
    end: float | None
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


@fact
class ToolUse:
    """A tool that an agent called. `end` is None where nobody told when it had answered."""

    tool: str
    start: float
    end: float | None = None
    detail: str = ""


@fact
class Line:
    """One task: its life, and what was done in it. `start` and `end` are where what is known of it begins and ends."""

    life: TaskLife
    start: float
    end: float
    held: tuple[Held, ...] = ()
    requests: tuple[Request, ...] = ()
    tools: tuple[ToolUse, ...] = ()


@fact
class Step:
    """From when the first task of a step could run, until all of it was in the state; `end` is None before that."""

    step: int
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole run. `wall` is when it began, in seconds since 1970, and `end` how many seconds it took."""

    receipt: Receipt
    error: str
    wall: float
    end: float
    lines: tuple[Line, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    notices: tuple[tuple[float, str], ...] = field(repr=False)

    @property
    def names(self) -> dict[str, str]:
        """What each task is called."""
        return {life.task: life.name for life in self.receipt.tasks}

    def count(self, parts: Collection[str], *, without: Collection[str] = ()) -> list[tuple[float, int]]:
        """How many tasks were in one of these parts of their lives, or in any but those `without`, at each change."""
        edges: dict[float, int] = {}
        for line in self.lines:
            for stretch in line.life.stretches:
                if stretch.part in parts or (without and stretch.part not in without):
                    edges[stretch.start] = edges.get(stretch.start, 0) + 1
                    edges[stretch.end] = edges.get(stretch.end, 0) - 1
        now, counts = 0, [(0.0, 0)]
        for at, change in sorted(edges.items()):
            now += change
            if counts[-1][0] == at:
                counts[-1] = at, now
            elif change:
                counts.append((at, now))
        return counts

    @property
    def at_work(self) -> list[tuple[float, int]]:
        """How many tasks were at work, from each moment at which that changed."""
        return self.count(BUSY)

    @property
    def waiting(self) -> list[tuple[float, int]]:
        """How many waited for anything but their children."""
        return self.count((), without={CHILDREN, *BUSY})


def timeline(events: Iterable[Event], *, thresholds: Thresholds | None = None) -> Timeline:
    """The timeline of what `events` tell. Raises `UsageError` when they do not begin with the start of a run."""
    told, book = tuple(events), Book()
    book.read(told)
    if book.first is None:
        raise UsageError("there is nothing to show of a run of which no event is known")
    reader = _Reader(book.sittings)
    for event in told:
        reader.read(event)
    receipt = judged(book, thresholds or Thresholds(), ())
    return Timeline(
        receipt=receipt,
        error=reader.error,
        wall=book.first.wall,
        end=book.now,
        lines=tuple(reader.line(life, book.now) for life in receipt.tasks),
        steps=tuple(Step(step, start, reader.ends.get(step)) for step, start in sorted(reader.starts.items())),
        notices=tuple(reader.notices),
    )


def words(stretch: Stretch, names: Mapping[str, str]) -> str:
    """What a task did or waited for in a stretch, where `names` are those of tasks."""
    on = names.get(stretch.on, stretch.on)
    text, joint = _SAID.get(stretch.part, (stretch.part, ": "))
    return f"{text}{joint}{on}" if on else text


_SAID: Final = {
    "barrier": ("held back at a barrier", " by "),
    "queued": ("waits for its turn", " "),
    "limit": ("waits", " for "),
    "rate gate": ("waits at a rate gate", ": "),
    "budget": ("waits", " for "),
    "memory": ("waits", " for "),
    "held up": ("held up: the event loop is held", " by "),
    "lock": ("waits for a lock", ": "),
    "thread": ("waits for a thread", ": "),
    "provider": ("waits in the provider's queue", ": "),
    "GIL": ("waits for its turn of the GIL", ": "),
    "children": ("paused: its agents work", ": "),
    "working": ("works", ": "),
    "blocking": ("blocks the event loop", ": "),
}


def critical_path(receipt: Receipt) -> tuple[str, ...]:
    """The tasks of the longest chain, in order: each had to wait for the one before, or was called by it.

    It is the chain whose busy time the receipt calls span. No schedule is shorter than that.
    """
    inside: dict[str | None, list[TaskLife]] = {}
    known = {life.task for life in receipt.tasks}
    for life in receipt.tasks:
        inside.setdefault(life.parent if life.parent in known else None, []).append(life)

    def longest(parent: str | None) -> tuple[float, tuple[str, ...]]:
        best: tuple[float, str] = 0.0, ""
        ends: dict[str, float] = {}
        led: dict[str, tuple[str, tuple[str, ...]]] = {}
        for life in inside.get(parent, ()):  # a task comes after all that led to it
            before = max(life.after, key=lambda id: ends.get(id, 0.0), default="")
            within, through = longest(life.task) if life.task in inside else (0.0, ())
            ends[life.task] = ends.get(before, 0.0) + life.work + within
            led[life.task] = before, (life.task, *through)
            best = max(best, (ends[life.task], life.task), key=lambda pair: pair[0])
        return best[0], _walked(best[1], led)

    return longest(None)[1]


def _walked(last: str, led: Mapping[str, tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The chain that ends with this task, from its beginning."""
    parts: list[tuple[str, ...]] = []
    while last in led:
        last, part = led[last]
        parts.append(part)
    return tuple(task for part in reversed(parts) for task in part)


# Reading


@dataclass(slots=True)
class _Open:
    """What a task did, while its events are being read. `asked` and `called` are what has no answer yet."""

    held: list[Held] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    called: list[ToolUse] = field(default_factory=list)
    tools: list[ToolUse] = field(default_factory=list)

    def hold(self, since: float, at: float, where: str) -> None:
        """Its code held the loop; a slice within a slice tells the same time again."""
        if self.held and since <= self.held[-1].end:
            last = self.held.pop()
            since, at, where = min(since, last.start), max(at, last.end), where or last.where
        self.held.append(Held(since, at, where))

    def answer(self, event: ModelAnswered | ModelRetried | ModelLost, at: float) -> None:
        """The model has answered, or refused, or nobody waits for it any more."""
        if isinstance(event, ModelRetried) and not self.asked and self.requests and self.requests[-1].error == LOST:
            last = self.requests.pop()  # it was told before that this one has no answer, and now why
            self.requests.append(Request(last.model, last.start, last.end, error=event.error))
            return
        start = self._began(event.model, at)
        if isinstance(event, ModelAnswered):
            self.requests.append(Request(event.model, start, at, event.input_tokens, event.output_tokens))
        else:
            error = event.error if isinstance(event, ModelRetried) else LOST
            self.requests.append(Request(event.model, start, at, error=error))

    def _began(self, model: str, at: float) -> float:
        """When the request was made that is answered now: the oldest one that waits, of the same model if there is one.

        A program may answer under another name than it was asked by, and more often than we saw it ask.
        """
        for one in [*(one for one in self.asked if one.model == model), *self.asked]:
            self.asked.remove(one)
            return one.start
        return max((one.end for one in self.requests if one.end is not None), default=at)

    def use(self, event: ToolAnswered, at: float) -> None:
        """A tool has answered: the oldest one of that name which has not."""
        for one in self.called:
            if one.tool == event.tool:
                self.called.remove(one)
                self.tools.append(ToolUse(one.tool, one.start, at, one.detail))
                return

    def close(self, at: float) -> None:
        """Nothing more is heard of what was asked."""
        self.requests += [Request(one.model, one.start, max(at, one.start)) for one in self.asked]
        self.tools += self.called
        self.asked.clear()
        self.called.clear()


class _Reader:
    """Reads what the receipt does not tell, sitting by sitting."""

    def __init__(self, sittings: Iterable[Sitting]) -> None:
        self.error = ""
        self.starts: dict[int, float] = {}
        self.ends: dict[int, float] = {}
        self.notices: list[tuple[float, str]] = []
        self._tasks: dict[str, _Open] = {}
        self._sittings = iter(sittings)
        self._sitting = next(self._sittings)
        self._now = 0.0
        self._began = False

    def read(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, RunStarted):
            self._begin()
        at = self._sitting.moment(event.at)
        self._now = max(self._now, at)
        read = _ABOUT.get(type(event))
        if read is not None:
            read(self, event, at)

    def _begin(self) -> None:
        if self._began:
            self._sitting = next(self._sittings)
            for task in self._tasks.values():  # what a killed sitting asked, nobody has answered
                task.close(self._now)
        self._began, self.error = True, ""

    def line(self, life: TaskLife, now: float) -> Line:
        """All that is known of a task, which must have been told of."""
        task = self._task(life.task)
        start = life.stretches[0].start if life.stretches else life.queued
        end = max(life.stretches[-1].end if life.stretches else start, life.ended or 0.0)
        requests, tools = (*task.requests, *task.asked), (*task.tools, *task.called)
        return Line(life, start, end, tuple(task.held), requests, tools)

    def _task(self, id: str) -> _Open:
        task = self._tasks.get(id)
        if task is None:
            task = self._tasks[id] = _Open()
        return task

    def _queue(self, event: TaskQueued, at: float) -> None:
        if event.role == "node" and event.parent is None:
            self.starts.setdefault(event.step, at)

    def _step(self, event: StepFinished, at: float) -> None:
        self.ends[event.step] = at

    def _notice(self, event: Noticed, at: float) -> None:
        self.notices.append((at, event.message))

    def _over(self, event: RunFinished, at: float) -> None:
        self.error = event.error

    def _hold(self, event: LoopHeld, at: float) -> None:
        self._task(event.task).hold(self._sitting.moment(event.at - event.seconds), at, place(event))

    def _ask(self, event: ModelAsked, at: float) -> None:
        self._task(event.task).asked.append(Request(event.model, at, None))

    def _answer(self, event: ModelAnswered | ModelRetried | ModelLost, at: float) -> None:
        self._task(event.task).answer(event, at)

    def _call(self, event: ToolCalled, at: float) -> None:
        self._task(event.task).called.append(ToolUse(event.tool, at, None, event.detail))

    def _use(self, event: ToolAnswered, at: float) -> None:
        self._task(event.task).use(event, at)

    def _end(self, event: Any, at: float) -> None:
        self._task(event.task).close(at)


_Read: TypeAlias = Callable[[_Reader, Any, float], None]
_ABOUT: Final[Mapping[type[Event], _Read]] = {
    TaskQueued: _Reader._queue,
    StepFinished: _Reader._step,
    Noticed: _Reader._notice,
    RunFinished: _Reader._over,
    LoopHeld: _Reader._hold,
    ModelAsked: _Reader._ask,
    ModelAnswered: _Reader._answer,
    ModelRetried: _Reader._answer,
    ModelLost: _Reader._answer,
    ToolCalled: _Reader._call,
    ToolAnswered: _Reader._use,
    **dict.fromkeys(ENDS, _Reader._end),
}


def place(event: LoopHeld) -> str:
    """Where the code was that held the loop, as `function (file:line)`; nothing where that was not seen."""
    if not event.file:
        return event.function
    spot = f"{event.file}:{event.line}"
    return f"{event.function} ({spot})" if event.function else spot
