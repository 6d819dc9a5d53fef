"""The receipt: whether the agents of a run really ran side by side, by how much, and what kept them from it.

Everything here is computed from events, so that a run that is long over can be judged like one that has just ended.

The words, with *busy* meaning that a task held a slot (a node that awaits an agent is not busy, the agent is) and was
not kept standing by others that held the event loop, nor waiting for a model's rate or a budget:

- **wall**: from the start of the run to its end.
- **work**: the busy time of all tasks added up; how long they would have taken one by one.
- **span**: the longest chain of tasks of which each had to wait for the one before, by the edges of the graph. No
  schedule can be shorter. Agents that one node calls count as if they had been called at once: nothing in the graph
  says that one needs the other.
- **speed-up**: work / wall. It is also the mean concurrency.
- **gain**: (work - wall) / (work - span), the part of the possible overlap that was reached. The span law and the
  work law of parallel computing bound it by 1 (R. P. Brent, "The parallel evaluation of general arithmetic
  expressions", J. ACM 21, 1974).

The verdict is PARALLEL when the gain is at least 0.75, SEQUENTIAL when it is at most 0.10 or never two tasks were
busy at once, PARTLY SERIAL between, and NOTHING TO OVERLAP when span is all but the whole of work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

from fanfold.cells import GREEN, Row, cell
from fanfold.errors import UsageError
from fanfold.events import (
    Event,
    LimitReported,
    LoopHeld,
    ModelAnswered,
    RunFinished,
    RunStarted,
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
    from_record,
)
from fanfold.facts import fact
from fanfold.store.base import Store

PARALLEL: Final = "PARALLEL"
PARTLY_SERIAL: Final = "PARTLY SERIAL"
SEQUENTIAL: Final = "SEQUENTIAL"
NOTHING_TO_OVERLAP: Final = "NOTHING TO OVERLAP"

PARALLEL_FROM: Final = 0.75
SEQUENTIAL_UP_TO: Final = 0.10
WORTH_OVERLAPPING: Final = 0.05
TASKS_AT_ONCE: Final = "tasks at once"
"""The name under which the run's own limit of concurrency is reported, which has a place of its own."""

HOLDS_FROM: Final = 0.5
"""The part of its time from which on an agent counts as one that blocks the event loop."""

Stretch = tuple[float, float]
Ended: TypeAlias = TaskFinished | TaskFailed | TaskInterrupted | TaskCancelled | TaskRemembered


@fact
class TaskLife:
    """One task as the receipt sees it. Times are seconds since the run began; `busy` are the stretches with a slot.

    `queued`: when it could have run; `waited`: from there until its code began, and later for others that held the
    event loop; `waited_for`: the limit, if it was one; `waits`: for what it waited at work, and how long, which is in
    `waited`, too; `held`: for how long its own code held the loop. `barrier`: for how long it was not ready although
    all that it follows had ended, and `held_back_by` which task that was for.
    """

    task: str
    name: str
    role: str
    step: int
    status: str
    queued: float
    started: float | None
    ended: float | None
    busy: tuple[Stretch, ...]
    waited: float
    waited_for: str
    held: float
    held_up: float
    label: str
    parent: str | None
    after: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    tools: int
    error: str
    barrier: float = 0.0
    held_back_by: str = ""
    cost_usd: float | None = None
    waits: tuple[tuple[str, float], ...] = ()

    @property
    def work(self) -> float:
        """Seconds with a slot, without those in which others held the event loop."""
        seconds = 0.0
        for start, end in self.busy:
            seconds += end - start
        return seconds

    @property
    def late(self) -> float:
        """Seconds that it waited before it had a slot, and for others that held the event loop."""
        return self.waited - sum(seconds for _, seconds in self.waits)

    @property
    def most(self) -> float:
        """The most it can have worked: it may not have been ready yet while others held the event loop."""
        return self.work + self.held_up


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How close a run came to one of its limits: the most that was in use, and who waited for it, longest first.

    `limit` is None where none was set. Times are seconds.
    """

    name: str
    limit: float | None
    peak: float
    waits: int
    waited: float
    by: tuple[tuple[str, float], ...] = ()
    note: str = ""

    def __str__(self) -> str:
        of = "no limit" if self.limit is None else f"limit {_number(self.limit)}"
        how = "" if self.limit is None else " (reached)" if self.peak >= self.limit else " (never reached)"
        text = f"{self.name}: peak {_number(self.peak)}, {of}{how}" + (f", {self.note}" if self.note else "")
        if not self.waits:
            return text
        often = "once" if self.waits == 1 else f"{self.waits} times"
        most = f", longest {self.by[0][0]} {self.by[0][1]:.2f} s" if self.by else ""
        return f"{text}, waited for {often}, {self.waited:.2f} s in all{most}"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run did with its time. Times are seconds; `culprits` are in words, the most expensive first.

    `limits` are what the run was held to; what was limited nowhere is not among them, save the requests to models.
    """

    run_id: str
    thread_id: str
    graph: str
    status: str
    verdict: str
    wall: float
    work: float
    span: float
    speedup: float
    gain: float
    peak: int
    mean: float
    limit: int | None
    waited: float
    culprits: tuple[str, ...]
    tasks: tuple[TaskLife, ...] = field(repr=False)
    limits: tuple[LimitUse, ...] = ()

    @property
    def saved(self) -> float:
        """Seconds that were saved against running the tasks one by one."""
        return self.work - self.wall

    @property
    def barrier(self) -> float:
        """Seconds that all tasks together were held back by others of the step below that they do not follow."""
        return sum(task.barrier for task in self.tasks)

    @property
    def agents(self) -> tuple[TaskLife, ...]:
        """The tasks that people mean: the agents, or where no node called one, the nodes."""
        return tuple(task for task in self.tasks if task.role == "agent") or self.tasks

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain data."""
        return {**asdict(self), "saved": self.saved, "barrier": self.barrier}

    def lines(self) -> list[str]:
        """The receipt for a terminal, the verdict last."""
        faster = f"{self.speedup:.2f}x faster than one by one" if self.speedup > 1 else "no faster than one by one"
        limit = "no limit" if self.limit is None else f"limit {self.limit}" + self._limit_note()
        tokens = sum(task.input_tokens + task.output_tokens for task in self.tasks)
        spent = f" · {tokens:,} tokens" if tokens else ""
        cost = sum(task.cost_usd or 0.0 for task in self.tasks)
        spent += f" · ${cost:,.4f}" if cost else ""
        barrier = f" · {self.barrier:.3f} s at barriers" if self.barrier else ""
        return [
            f"wall {self.wall:.3f} s · agent time {self.work:.3f} s · longest chain {self.span:.3f} s{spent}",
            f"peak {self.peak} · mean {self.mean:.2f} · {limit} · waited {self.waited:.3f} s{barrier}",
            *(str(use) for use in self.limits if use.name != TASKS_AT_ONCE),
            *(f"held back: {culprit}" for culprit in self.culprits),
            f"{self._count()} in {self.wall:.2f} s · {faster} · {self.verdict}",
        ]

    def _count(self) -> str:
        noun = "agent" if any(task.role == "agent" for task in self.tasks) else "task"
        number = len(self.agents)
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    def _limit_note(self) -> str:
        return " (reached)" if self.peak == self.limit else " (never reached)"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """What a notebook shows of it: its last line, a bar for each task, and the other lines."""
        return cell(self.lines(), [_drawn(task) for task in self.tasks], self.wall)


def _drawn(task: TaskLife) -> Row:
    words = f"{task.name}: {task.status}, worked {task.work:.3f} s, waited {task.waited:.3f} s"
    return Row(task.name, words, [(start, end, GREEN) for start, end in task.busy])


def audit(run: Any, *, store: Store | None = None) -> Receipt:
    """The receipt of a run: of what `invoke` returned, of a sequence of events, or of a run id and its `store`.

    Raises `UsageError` when `run` is none of these, `RunNotFoundError` when the store does not hold it.
    """
    if store is not None:
        record = store.run(str(run))
        return receipt(from_record(event) for event in store.events(record.run_id))
    finished = getattr(run, "run", None)
    if finished is not None:
        return receipt(finished.events)
    if isinstance(run, Sequence) and not isinstance(run, str):
        return receipt(run)
    raise UsageError(
        f"cannot audit {run!r:.80}", hint="give what invoke() returned, or a run id together with store=..."
    )


def receipt(events: Iterable[Event]) -> Receipt:
    """The receipt of what `events` tell: several sittings of one run, maybe, or a run that is not over."""
    book = _Book()
    for event in events:
        book.read(event)
    if book.first is None:
        raise UsageError("cannot audit a run of which no event is known")
    tasks = tuple(life.closed(book.now) for life in book.lives.values())
    return _judged(book, book.first, _barred(tasks, book.lives))


# Reading


@dataclass(slots=True)
class _Life:
    """A task while its events are being read."""

    queued: TaskQueued
    at: float
    status: str = "queued"
    started: float | None = None
    ended: float | None = None
    waited_for: str = ""
    waited: float = 0.0
    held: float = 0.0
    stood: float = 0.0
    busy: list[Stretch] = field(default_factory=list)
    open_since: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tools: int = 0
    error: str = ""
    cost_usd: float | None = None
    waits: dict[str, float] = field(default_factory=dict)
    waiting: int = 0

    def hold(self, at: float) -> None:
        self.open_since = at
        self.status = "running"

    def let_go(self, at: float, status: str) -> None:
        if self.open_since is not None:
            self.busy.append((self.open_since, at))
            self.open_since = None
        self.status = status

    def delay(self, event: LoopHeld | TaskHeldUp | TaskWaiting | TaskWaited, at: float) -> None:
        """It keeps others from going on, or is kept."""
        if isinstance(event, LoopHeld):
            self.held += event.seconds
        elif isinstance(event, TaskHeldUp):
            self.held_up(at, event.seconds)
        else:
            self.wait(event, at)

    def held_up(self, at: float, seconds: float) -> None:
        """Until now it stood still although nothing kept it but others: that was waiting and no work."""
        self.stood += seconds
        if self.open_since is not None and at - seconds > self.open_since:
            self.busy.append((self.open_since, at - seconds))
        self.open_since = at

    def wait(self, event: TaskWaiting | TaskWaited, at: float) -> None:
        """It waits at work, and does not work then, or no longer waits."""
        if isinstance(event, TaskWaiting):
            self.waiting += 1
            if self.status == "running":
                self.let_go(at, "waiting")
            return
        self.waiting -= 1
        self.waits[event.waits_for] = self.waits.get(event.waits_for, 0.0) + event.seconds
        if self.status == "waiting" and not self.waiting:
            self.hold(at)

    def again(self, event: TaskQueued, at: float) -> _Life:
        """The same task in a later sitting: what it has worked and waited so far counts on."""
        began = self.started if self.started is not None else at
        return _Life(
            event,
            at,
            waited_for=self.waited_for,
            waited=self.waited + (began - self.at),
            held=self.held,
            stood=self.stood,
            busy=self.busy,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            tools=self.tools,
            cost_usd=self.cost_usd,
            waits=self.waits,
        )

    def closed(self, now: float) -> TaskLife:
        busy = [*self.busy, (self.open_since, now)] if self.open_since is not None else self.busy
        begun = self.started if self.started is not None else self.ended if self.ended is not None else now
        told = self.queued
        return TaskLife(
            task=told.task,
            name=told.name,
            role=told.role,
            step=told.step,
            status=self.status,
            queued=self.at,
            started=self.started,
            ended=self.ended,
            busy=tuple(busy),
            waited=self.waited + begun - self.at + self.stood + sum(self.waits.values()),
            waited_for=self.waited_for,
            held=self.held,
            held_up=self.stood,
            label=told.label,
            parent=told.parent,
            after=told.after,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            tools=self.tools,
            error=self.error,
            cost_usd=self.cost_usd,
            waits=tuple(self.waits.items()),
        )


class _Book:
    """Reads events in order. The time between two sittings, when nobody ran the run, does not count."""

    def __init__(self) -> None:
        self.first: RunStarted | None = None
        self.limit: int | None = None
        self.status = "running"
        self.now = 0.0
        self.lives: dict[str, _Life] = {}
        self.limits: dict[str, LimitUse] = {}
        self._shift = 0.0

    def read(self, event: Event) -> None:
        if type(event) is RunStarted:
            self._begin(event)
        elif self.first is None:
            raise UsageError(f"the events begin with {event.kind}, not with the start of a run")
        at = event.at + self._shift
        if at > self.now:  # an agent's end is told when its answer is on disk, with the time it had ended
            self.now = at
        # What there is most of comes first.
        if isinstance(event, TaskQueued):
            before = self.lives.get(event.task)
            self.lives[event.task] = _Life(event, at) if before is None else before.again(event, at)
        elif isinstance(event, TaskStarted | TaskPaused | TaskContinued):
            self._hold(self.lives[event.task], event, at)
        elif isinstance(event, TaskFinished | TaskFailed | TaskInterrupted | TaskCancelled | TaskRemembered):
            self._end(self.lives[event.task], event, at)
        elif isinstance(event, LoopHeld | TaskHeldUp | TaskWaiting | TaskWaited):
            self.lives[event.task].delay(event, at)
        elif isinstance(event, ModelAnswered | ToolCalled):
            self._count(self.lives[event.task], event)
        elif isinstance(event, LimitReported):
            self._limit(event)
        elif isinstance(event, RunFinished):
            self.status = event.status

    def _begin(self, event: RunStarted) -> None:
        self.first = self.first or event
        self.limit = event.max_concurrency
        self.status = "running"
        self._shift = self.now - event.at
        for life in self.lives.values():  # what a killed sitting left open ended with it
            life.let_go(self.now, "lost" if life.open_since is not None else life.status)

    def _limit(self, event: LimitReported) -> None:
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

    def _count(self, life: _Life, event: ModelAnswered | ToolCalled) -> None:
        if isinstance(event, ToolCalled):
            life.tools += 1
        else:
            life.input_tokens += event.input_tokens
            life.output_tokens += event.output_tokens
            if event.cost_usd is not None:
                life.cost_usd = (life.cost_usd or 0.0) + event.cost_usd

    def _hold(self, life: _Life, event: TaskStarted | TaskPaused | TaskContinued, at: float) -> None:
        if isinstance(event, TaskPaused):
            life.let_go(at, "paused")
            return
        life.hold(at)
        if isinstance(event, TaskStarted):
            life.started = at
            life.waited_for = event.waited_for or life.waited_for

    def _end(self, life: _Life, event: Ended, at: float) -> None:
        life.let_go(at, event.kind.removeprefix("task_"))
        life.ended = at
        if isinstance(event, TaskFailed):
            life.error = event.error


def _barred(tasks: Sequence[TaskLife], lives: Mapping[str, _Life]) -> tuple[TaskLife, ...]:
    """The tasks, with what they waited for others that they do not follow."""
    ended = {task.task: task.ended for task in tasks}

    def seen(task: TaskLife) -> TaskLife:
        released = lives[task.task].queued.released
        ends = [end for id in task.after if (end := ended.get(id)) is not None]
        if released not in lives or not ends or task.queued <= max(ends):
            return task
        return replace(task, barrier=task.queued - max(ends), held_back_by=released)

    return tuple(map(seen, tasks))


# Judging


def _judged(book: _Book, first: RunStarted, tasks: tuple[TaskLife, ...]) -> Receipt:
    wall = book.now
    work = sum(task.work for task in tasks)
    span = _span(tasks)
    peak = _peak(tasks)
    gain = max(0.0, min(1.0, (work - wall) / (work - span))) if work > span else 0.0
    speedup = work / wall if wall else 0.0
    verdict = _verdict(tasks, gain, peak)
    return Receipt(
        run_id=first.run_id,
        thread_id=first.thread_id,
        graph=first.graph,
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
        culprits=tuple(_culprits(tasks, wall)) if verdict in (PARTLY_SERIAL, SEQUENTIAL) else (),
        tasks=tasks,
        limits=tuple(book.limits.values()),
    )


def _verdict(tasks: Sequence[TaskLife], gain: float, peak: int) -> str:
    # Whether there was anything to overlap is judged with the times that others held the loop counted as work: a task
    # that slept meanwhile may have had that to overlap, and one that was ready did.
    work, span = sum(task.most for task in tasks), _span(tasks, most=True)
    if work - span <= WORTH_OVERLAPPING * work:
        return NOTHING_TO_OVERLAP
    if peak <= 1 or gain <= SEQUENTIAL_UP_TO:
        return SEQUENTIAL
    return PARALLEL if gain >= PARALLEL_FROM else PARTLY_SERIAL


def _span(tasks: Sequence[TaskLife], *, most: bool = False) -> float:
    """The longest chain: a task is as long as its own busy time and the longest chain inside of it."""
    inside: dict[str | None, list[TaskLife]] = {}
    known = {task.task for task in tasks}
    for task in tasks:  # in the order in which they were queued, so a task comes after all that led to it
        inside.setdefault(task.parent if task.parent in known else None, []).append(task)

    def longest(parent: str | None) -> float:
        ends: dict[str, float] = {}
        for task in inside.get(parent, ()):
            before = max([ends.get(id, 0.0) for id in task.after], default=0.0)
            own = task.most if most else task.work
            ends[task.task] = before + own + (longest(task.task) if task.task in inside else 0.0)
        return max(ends.values(), default=0.0)

    return longest(None)


def _peak(tasks: Iterable[TaskLife]) -> int:
    """The most tasks that were busy at one moment; stretches that only touch do not overlap."""
    edges = sorted(edge for task in tasks for start, end in task.busy for edge in ((start, 1), (end, -1)))
    count = peak = 0
    for _, change in edges:
        count += change
        peak = max(peak, count)
    return peak


def _culprits(tasks: Sequence[TaskLife], wall: float) -> Iterator[str]:
    """What kept tasks from running at once, the most expensive first; what cost less than a hundredth is left out."""
    found = [*_limits(tasks), *_loops(tasks), *_holders(tasks), *_barriers(tasks)]
    yield from (text for cost, text in sorted(found, reverse=True) if cost > wall / 100)


def _limits(tasks: Iterable[TaskLife]) -> Iterator[tuple[float, str]]:
    waits: dict[str, list[float]] = {}
    for task in tasks:
        if task.waited_for:
            waits.setdefault(task.waited_for, []).append(task.late)
        for what, seconds in task.waits:
            waits.setdefault(what, []).append(seconds)
    for name, times in waits.items():
        who = "1 task waited" if len(times) == 1 else f"{len(times)} tasks waited"
        yield sum(times), f"{who} {sum(times):.2f} s in all for {name}"


def _barriers(tasks: Sequence[TaskLife]) -> Iterator[tuple[float, str]]:
    """Nodes that could have begun, had they not waited for the end of a step in which they have no part."""
    names = {task.task: task.name for task in tasks}
    waits: dict[tuple[str, str], float] = {}
    for task in tasks:
        if task.barrier:
            pair = task.name, names[task.held_back_by]
            waits[pair] = waits.get(pair, 0.0) + task.barrier
    for (name, other), seconds in waits.items():
        yield (
            seconds,
            f"node {name!r} waited {seconds:.2f} s for {other!r}, which it does not follow: where it sees nothing that"
            f" one writes, declare it (fanfold graph check says how)",
        )


def _loops(tasks: Sequence[TaskLife]) -> Iterator[tuple[float, str]]:
    """Nodes that awaited their agents one after another, or in several rounds.

    Agents that hold the event loop are left out: they run one after another however they are awaited.
    """
    names = {task.task: task.name for task in tasks}
    children: dict[str, list[TaskLife]] = {}
    for task in tasks:
        if task.role == "agent" and task.parent in names and task.busy and task.held < HOLDS_FROM * task.work:
            children.setdefault(task.parent, []).append(task)
    for parent, called in children.items():
        rounds = _rounds(sorted(called, key=lambda task: task.queued))
        if rounds > 1:
            cost = sum(task.work for task in called) - max(task.work for task in called)
            alone = rounds == len(called)
            how = "one after another; use asyncio.gather" if alone else f"in {rounds} rounds, each after the one before"
            yield cost, f"node {names[parent]!r} awaited its {len(called)} agents {how}"


def _rounds(called: Sequence[TaskLife]) -> int:
    """How often an agent was called only when all that were called before it had ended."""
    rounds, end = 0, 0.0
    for task in called:
        if not rounds or task.queued >= end:
            rounds += 1
        end = max(end, task.ended if task.ended is not None else task.queued)
    return rounds


def _holders(tasks: Sequence[TaskLife]) -> Iterator[tuple[float, str]]:
    """Tasks whose code held the event loop while others were there to use it."""
    seconds: dict[str, float] = {}
    for task in tasks:
        if task.held:
            seconds[task.name] = seconds.get(task.name, 0.0) + task.held
    late = sum(task.late for task in tasks if task.started is not None and not task.waited_for)
    if late and not seconds:  # what no task of the run has held, such as code between them
        yield late, f"tasks that were ready began {late:.2f} s late in all: something held the event loop"
    for name, held in seconds.items():
        yield held, f"{name!r} held the event loop for {held:.2f} s in all: code that blocks in an async function"
