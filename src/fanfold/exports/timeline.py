"""What happened in a run as pictures show it: for each task, the stretches of its life, and what it did in each.

The receipt says what a run's time came to; a picture needs to know when each thing was. Both read the same events, and
place them on the same line: seconds since the run began, where the time between two sittings does not count.

A task's life is cut into stretches of one state each, which follow each other without a gap from where it could have
run until its end. Over them lie the moments in which its code held the event loop, its requests to models, and the
calls of its tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fanfold.errors import UsageError
from fanfold.events import (
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelRetried,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
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
    ToolCalled,
)
from fanfold.facts import fact
from fanfold.receipt import Receipt, TaskLife

WAITING: Final = "waiting"
"""It could run, and does not yet: for a slot, or for the event loop."""
WORKING: Final = "working"
"""It has a slot, and its code runs, or awaits what is its own."""
PAUSED: Final = "paused"
"""It waits for children, who have slots of their own."""
LIMITED: Final = "limited"
"""It is at work, and waits for its model's rate or a budget."""
STOOD: Final = "held up"
"""It could go on, and others hold the event loop."""
LOCKED: Final = "locked"
"""It needs a lock, a semaphore or a thread that other code of the process has; `why` says which."""

STATES: Final = (WAITING, WORKING, PAUSED, LIMITED, STOOD, LOCKED)
WAITS: Final = (WAITING, LIMITED, STOOD, LOCKED)
"""The states in which a task could do something, were it let."""

_Ending: TypeAlias = TaskFinished | TaskFailed | TaskInterrupted | TaskCancelled | TaskRemembered
_ENDINGS: Final = (TaskFinished, TaskFailed, TaskInterrupted, TaskCancelled, TaskRemembered)
_Delay: TypeAlias = LoopHeld | TaskHeldUp | TaskBlocked | TaskWaiting | TaskWaited
_DELAYS: Final = (LoopHeld, TaskHeldUp, TaskBlocked, TaskWaiting, TaskWaited)
_MODELS: Final = (ModelAsked, ModelAnswered, ModelRetried)


@fact
class Stretch:
    """From when until when a task was in one state; `why` names the limit that it waited for."""

    start: float
    end: float
    state: str
    why: str = ""


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
    """A tool that an agent called, and when."""

    at: float
    tool: str
    detail: str = ""


@fact
class Line:
    """One task's life. `ended` is None of one that is not over; `end` is where what is known of it ends."""

    task: str
    name: str
    role: str
    step: int
    label: str
    parent: str | None
    after: tuple[str, ...]
    status: str
    error: str
    queued: float
    started: float | None
    ended: float | None
    end: float
    stretches: tuple[Stretch, ...]
    held: tuple[Held, ...]
    requests: tuple[Request, ...]
    tools: tuple[ToolUse, ...]


@fact
class Step:
    """From when the first task of a step could run, until all of it was in the state; `end` is None before that."""

    step: int
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole run. `wall` is when it began, in seconds since 1970, and `end` how many seconds it took."""

    run_id: str
    thread_id: str
    graph: str
    status: str
    error: str
    limit: int | None
    wall: float
    end: float
    lines: tuple[Line, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    notices: tuple[tuple[float, str], ...] = field(repr=False)
    sittings: tuple[float, ...] = field(repr=False)

    def count(self, *states: str) -> list[tuple[float, int]]:
        """How many tasks were in one of these states, from each moment at which that changed."""
        edges: dict[float, int] = {}
        for line in self.lines:
            for stretch in line.stretches:
                if stretch.state in states:
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


def timeline(events: Iterable[Event]) -> Timeline:
    """The timeline of what `events` tell. Raises `UsageError` when they do not begin with the start of a run."""
    reader = _Reader()
    for event in events:
        reader.read(event)
    return reader.close()


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
    """A task's life while its events are being read."""

    told: TaskQueued
    queued: float
    status: str = "queued"
    error: str = ""
    started: float | None = None
    ended: float | None = None
    state: str = WAITING
    why: str = ""
    since: float | None = None
    stretches: list[Stretch] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    tools: list[ToolUse] = field(default_factory=list)
    waits: int = 0

    def become(self, at: float, state: str, why: str = "") -> None:
        """It is in another state from now on."""
        self.stop(at)
        self.state, self.why, self.since = state, why, at

    def stop(self, at: float) -> None:
        """It is in no state any more."""
        if self.since is not None and at > self.since:
            self.stretches.append(Stretch(self.since, at, self.state, self.why))
        self.since = None

    def again(self, told: TaskQueued, at: float) -> None:
        """A later sitting begins it anew."""
        self.told, self.status, self.ended, self.waits = told, "queued", None, 0
        self.become(at, WAITING)

    def hold(self, event: TaskStarted | TaskPaused | TaskContinued, at: float) -> None:
        if isinstance(event, TaskPaused):
            self.become(at, PAUSED)
            self.status = "paused"
            return
        if isinstance(event, TaskStarted):
            self.started, self.why = at, event.waited_for
        self.become(at, WORKING)
        self.status = "running"

    def finish(self, event: _Ending, at: float) -> None:
        self.stop(at)
        self.ended, self.status = at, event.kind.removeprefix("task_")
        if isinstance(event, TaskFailed):
            self.error = event.error
        self.unanswered(at)

    def unanswered(self, at: float) -> None:
        """Nothing more is heard of what its models were asked."""
        self.requests += [Request(one.model, one.start, max(at, one.start)) for one in self.asked]
        self.asked.clear()

    def delay(self, event: _Delay, at: float) -> None:
        if isinstance(event, LoopHeld):
            self.holds(event, at)
        elif isinstance(event, TaskHeldUp):
            self.stood(at - event.seconds, at, STOOD)
        elif isinstance(event, TaskBlocked):
            self.stood(at - event.seconds, at, LOCKED, f"a {event.on} {event.place}".rstrip())
        elif isinstance(event, TaskWaiting):
            self.waits += 1
            if self.state == WORKING and self.since is not None:
                self.become(at, LIMITED, event.waits_for)
        else:
            self.waits -= 1
            if self.state == LIMITED and self.since is not None and self.waits <= 0:
                self.become(at, WORKING)

    def holds(self, event: LoopHeld, at: float) -> None:
        start = max(at - event.seconds, self.queued)
        if self.held and start <= self.held[-1].end:  # a slice within a slice tells the same time again
            last = self.held.pop()
            start, at = min(start, last.start), max(at, last.end)
        self.held.append(Held(start, at, place(event)))

    def stood(self, since: float, at: float, state: str, why: str = "") -> None:
        """It has stood still since then, as is known only now."""
        if self.state == WORKING and self.since is not None:
            self.become(max(since, self.since), state, why)
            self.become(at, WORKING)

    def talk(self, event: ModelAsked | ModelAnswered | ModelRetried, at: float) -> None:
        if isinstance(event, ModelAsked):
            self.asked.append(Request(event.model, at, None))
            return
        start = self.began(event.model, at)
        if isinstance(event, ModelAnswered):
            self.requests.append(Request(event.model, start, at, event.input_tokens, event.output_tokens))
        else:
            self.requests.append(Request(event.model, start, at, error=event.error))

    def began(self, model: str, at: float) -> float:
        """When the request was made that is answered now: the oldest one that waits, of the same model if there is one.

        A program may answer under another name than it was asked by, and more often than we saw it ask.
        """
        for one in [*(one for one in self.asked if one.model == model), *self.asked]:
            self.asked.remove(one)
            return one.start
        return max((one.end for one in self.requests if one.end is not None), default=at)

    def line(self, now: float) -> Line:
        stretches = list(self.stretches)
        if self.since is not None and now > self.since:
            stretches.append(Stretch(self.since, now, self.state, self.why))
        told = self.told
        end = now if self.since is not None else max([self.queued, *(stretch.end for stretch in stretches)])
        return Line(
            task=told.task,
            name=told.name,
            role=told.role,
            step=told.step,
            label=told.label,
            parent=told.parent,
            after=told.after,
            status=self.status,
            error=self.error,
            queued=self.queued,
            started=self.started,
            ended=self.ended,
            end=end,
            stretches=tuple(stretches),
            held=tuple(self.held),
            requests=tuple(self.requests + self.asked),
            tools=tuple(self.tools),
        )


def place(event: LoopHeld) -> str:
    """Where the code was that held the loop, as `function (file:line)`; nothing where that was not seen."""
    if not event.file:
        return event.function
    spot = f"{event.file}:{event.line}"
    return f"{event.function} ({spot})" if event.function else spot


class _Reader:
    """Reads events in order. The time between two sittings, when nobody ran the run, does not count."""

    def __init__(self) -> None:
        self.first: RunStarted | None = None
        self.now = 0.0
        self.status = "running"
        self.error = ""
        self.limit: int | None = None
        self.open: dict[str, _Open] = {}
        self.starts: dict[int, float] = {}
        self.ends: dict[int, float] = {}
        self.notices: list[tuple[float, str]] = []
        self.sittings: list[float] = []
        self._shift = 0.0

    def read(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif self.first is None:
            raise UsageError(f"the events begin with {event.kind}, not with the start of a run")
        at = event.at + self._shift
        self.now = max(self.now, at)
        if isinstance(event, TaskQueued):
            self._queue(event, at)
        elif isinstance(event, StepFinished):
            self.ends[event.step] = at
        elif isinstance(event, Noticed):
            self.notices.append((at, event.message))
        elif isinstance(event, RunFinished):
            self.status, self.error = event.status, event.error
        else:
            line = self.open.get(getattr(event, "task", ""))
            if line is not None:
                self._happen(line, event, at)

    def _begin(self, event: RunStarted) -> None:
        self.first = self.first or event
        self.status, self.error, self.limit = "running", "", event.max_concurrency
        self._shift = self.now - event.at
        self.sittings.append(self.now)
        for line in self.open.values():  # what a killed sitting left open ended with it
            if line.since is not None:
                line.stop(self.now)
                line.status = "lost"
            line.unanswered(self.now)

    def _queue(self, event: TaskQueued, at: float) -> None:
        before = self.open.get(event.task)
        if before is None:
            self.open[event.task] = _Open(event, at, since=at)
        else:
            before.again(event, at)
        if event.role == "node" and event.parent is None:
            self.starts.setdefault(event.step, at)

    def _happen(self, line: _Open, event: Event, at: float) -> None:
        if isinstance(event, TaskStarted | TaskPaused | TaskContinued):
            line.hold(event, at)
        elif isinstance(event, _ENDINGS):
            line.finish(event, at)
        elif isinstance(event, _DELAYS):
            line.delay(event, at)
        elif isinstance(event, _MODELS):
            line.talk(event, at)
        elif isinstance(event, ToolCalled):
            line.tools.append(ToolUse(at, event.tool, event.detail))

    def close(self) -> Timeline:
        if self.first is None:
            raise UsageError("there is nothing to show of a run of which no event is known")
        first = self.first
        return Timeline(
            run_id=first.run_id,
            thread_id=first.thread_id,
            graph=first.graph,
            status=self.status,
            error=self.error,
            limit=self.limit,
            wall=first.wall,
            end=self.now,
            lines=tuple(line.line(self.now) for line in self.open.values()),
            steps=tuple(Step(step, start, self.ends.get(step)) for step, start in sorted(self.starts.items())),
            notices=tuple(self.notices),
            sittings=tuple(self.sittings),
        )
