"""What a receipt says, as values: the lives of tasks in parts, causes with their remedies, witnesses, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fanfold.cells import GREEN, GREY, RED, YELLOW, Row, cell
from fanfold.errors import UsageError
from fanfold.facts import fact

PARALLEL: Final = "PARALLEL"
PARTLY_SERIAL: Final = "PARTLY SERIAL"
SEQUENTIAL: Final = "SEQUENTIAL"
NOTHING_TO_OVERLAP: Final = "NOTHING TO OVERLAP"

TASKS_AT_ONCE: Final = "tasks at once"
"""The name under which the run's own limit of concurrency is reported, which has a place of its own."""

# The parts of a life. Each moment of it is in just one of them.
BARRIER: Final = "barrier"
QUEUED: Final = "queued"
LIMIT: Final = "limit"
GATE: Final = "rate gate"
BUDGET: Final = "budget"
MEMORY: Final = "memory"
HELD_UP: Final = "held up"
LOCK: Final = "lock"
THREAD: Final = "thread"
PROVIDER: Final = "provider"
GIL: Final = "GIL"
CHILDREN: Final = "children"
WORKING: Final = "working"
BLOCKING: Final = "blocking"

PARTS: Final = (
    BARRIER,
    QUEUED,
    LIMIT,
    GATE,
    BUDGET,
    MEMORY,
    HELD_UP,
    LOCK,
    THREAD,
    PROVIDER,
    GIL,
    CHILDREN,
    WORKING,
    BLOCKING,
)
BUSY: Final = frozenset({WORKING, BLOCKING})
NO_WAIT: Final = frozenset({BARRIER, CHILDREN, *BUSY})
"""The parts that are not in what a task has `waited`."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the lines of a verdict are drawn.

    `parallel` is the gain from which on a run is PARALLEL, `sequential` the one up to which it is SEQUENTIAL, and
    `worthwhile` the part of all work that must be able to overlap, else there is NOTHING TO OVERLAP. What cost less
    than the part `telling` of the wall time is no cause. An agent that holds the loop for the part `holding` of its
    work is not said to have been awaited one after another. Threads that were at work at once may have taken turns on
    one core when they could have used the part `turns` of one all the time; below that, they waited for something else.
    """

    parallel: float = 0.75
    sequential: float = 0.10
    worthwhile: float = 0.05
    telling: float = 0.01
    holding: float = 0.5
    turns: float = 0.7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise UsageError(f"the threshold {name}={value} is no part of a whole", hint="it is from 0 to 1")
        if self.sequential >= self.parallel:
            raise UsageError(
                f"the thresholds sequential={self.sequential} and parallel={self.parallel} leave nothing between them",
                hint="the first is the smaller one",
            )


@fact
class Stretch:
    """A part of a task's life: what it did or waited for, and `on` which limit, budget, lock or task it waited."""

    start: float
    end: float
    part: str
    on: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@fact
class Hold:
    """The event loop was held by a task's code from `start` to `end`. `tool` is the agent's tool that it was, if so.

    In several `pieces`, these come to that long, and ended then.
    """

    start: float
    end: float
    task: str
    place: str = ""
    tool: str = ""
    pieces: int = 1


@fact
class TaskLife:
    """One task as the receipt sees it. Times are seconds since the run began; `busy` are the stretches with a slot.

    `stretches` are its life without a gap, from when it could have run to its end, sitting by sitting.
    `queued`: when it might run; `waited`: from there until its code began, and later for anything but its children;
    `waited_for`: the limit, if it was one; `waits`: for what it waited at work, and how long; `held`: for how long its
    own code held the loop; `held_up`: for how long, once begun, others that did kept it. `barrier`: for how long it was
    not ready although all that it follows had ended, and `held_back_by` which task that was for. `model_at` is when it
    first asked a model, `attempts` how often its code was begun.
    """

    task: str
    name: str
    role: str
    step: int
    status: str
    queued: float
    started: float | None
    ended: float | None
    busy: tuple[tuple[float, float], ...]
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
    model_at: float | None = None
    attempts: int = 0
    cpu: float = 0.0
    stretches: tuple[Stretch, ...] = ()

    @property
    def work(self) -> float:
        """Seconds at work with a slot, without all that it waited for."""
        if len(self.busy) == 1:  # as most have, of which there may be thousands
            start, end = self.busy[0]
            return end - start
        return sum(end - start for start, end in self.busy)

    @property
    def parts(self) -> dict[str, float]:
        """Its life in seconds by part, without those that it has none of. They add up to `lived`."""
        seconds: dict[str, float] = {}
        for stretch in self.stretches:
            seconds[stretch.part] = seconds.get(stretch.part, 0.0) + stretch.seconds
        return {part: seconds[part] for part in PARTS if seconds.get(part)}

    @property
    def lived(self) -> float:
        """Seconds from when it could have run to its end, over all sittings."""
        seconds, began, last = 0.0, 0.0, None
        for stretch in self.stretches:
            if stretch.start != last:  # another sitting
                seconds += 0.0 if last is None else last - began
                began = stretch.start
            last = stretch.end
        return seconds if last is None else seconds + last - began

    def account(self, names: Mapping[str, str]) -> str:
        """The parts in words, with those that it waited for by their `names`."""
        told: dict[tuple[str, str], float] = {}
        for stretch in self.stretches:
            key = stretch.part, names.get(stretch.on, stretch.on)
            told[key] = told.get(key, 0.0) + stretch.seconds
        order = sorted(told.items(), key=lambda item: PARTS.index(item[0][0]))
        return ", ".join(_said(part, on, seconds) for (part, on), seconds in order if seconds >= 0.0005)


def _said(part: str, on: str, seconds: float) -> str:
    ways = {
        BARRIER: "at a barrier",
        LIMIT: "waiting",
        GATE: "rate gate",
        HELD_UP: "held up",
        LOCK: "waiting for a lock",
        THREAD: "waiting for a thread",
        PROVIDER: "in the provider's queue",
        GIL: "waiting for its turn of the GIL",
        CHILDREN: "with its agents",
        BLOCKING: "blocking the loop",
    }
    joint = {BARRIER: " for ", HELD_UP: " by "}.get(part, " for " if part == LIMIT else ": ")
    return f"{ways.get(part, part)} {seconds:.3f} s" + (f"{joint}{on}" if on else "")


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
class Cause:
    """Something that kept tasks from running at once: its class, what happened, the seconds it cost, what to do.

    `place` is the file and line, where that is known.
    """

    kind: str
    seconds: float
    what: str
    remedy: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Witness:
    """How many things one witness saw at once: at most, and on average while there was any. `seen` is their number."""

    name: str
    what: str
    seen: int
    peak: int
    mean: float
    note: str = ""

    def __str__(self) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.name}: {self.seen} {self.what}, peak {self.peak}, mean {self.mean:.2f}{note}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run did with its time. Times are seconds; `causes` and `culprits`, which are the same in words, begin with
    the most expensive.

    `peak` is the most tasks at work at one moment, and `steady` the most for at least a hundredth of the wall time:
    those that follow each other may meet for a moment.

    `limits` are what the run was held to; what was limited nowhere is not among them, save the requests to models.
    `disagreements` are in words: where what one of the `witnesses` saw does not go with the others. `blocked` are the
    seconds for which code held the event loop. `jumped` are those in which the whole process stood still, or its clock
    jumped; they count nowhere.
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
    causes: tuple[Cause, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    disagreements: tuple[str, ...] = ()
    steady: int = 0
    jumped: float = 0.0
    blocked: float = 0.0
    thresholds: Thresholds = field(default_factory=Thresholds, repr=False)

    @property
    def saved(self) -> float:
        """Seconds that were saved against running the tasks one by one."""
        return self.work - self.wall

    @property
    def efficiency(self) -> float:
        """How near the wall time came to the longest chain, below which no schedule comes: 1 is all the way."""
        return self.span / self.wall if self.wall else 1.0

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
        told = {**asdict(self), "saved": self.saved, "barrier": self.barrier, "efficiency": self.efficiency}
        for task, life in zip(told["tasks"], self.tasks, strict=True):
            task["parts"] = life.parts
        return told

    def account(self) -> Iterator[str]:
        """A line a task: the parts of its life, in seconds."""
        names = {task.task: task.name for task in self.tasks}
        for task in self.tasks:
            yield f"{task.name}: {task.lived:.3f} s = {task.account(names)}"

    def lines(self) -> list[str]:
        """The receipt for a terminal, the verdict last."""
        faster = f"{self.speedup:.2f}x faster than one by one" if self.speedup > 1 else "no faster than one by one"
        limit = "no limit" if self.limit is None else f"limit {self.limit}" + self._limit_note()
        tokens = sum(task.input_tokens + task.output_tokens for task in self.tasks)
        spent = f" · {tokens:,} tokens" if tokens else ""
        cost = sum(task.cost_usd or 0.0 for task in self.tasks)
        spent += f" · ${cost:,.4f}" if cost else ""
        barrier = f" · {self.barrier:.3f} s at barriers" if self.barrier else ""
        blocked = f" · loop blocked {self.blocked:.3f} s" if self.blocked else ""
        return [
            f"wall {self.wall:.3f} s · agent time {self.work:.3f} s · longest chain {self.span:.3f} s{spent}",
            f"peak {self.peak} · mean {self.mean:.2f} · {limit} · waited {self.waited:.3f} s{barrier}{blocked}",
            *(str(use) for use in self.limits if use.name != TASKS_AT_ONCE),
            *(f"witness: {witness}" for witness in self.witnesses[1:]),
            *(f"witnesses disagree: {text}" for text in self.disagreements),
            *([f"the process stood still, or its clock jumped, for {self.jumped:.2f} s"] if self.jumped else []),
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
        """What a notebook shows of it: its last line, the tasks on a line of time, and the other lines."""
        return cell(self.lines(), self.rows(), self.wall)

    def rows(self) -> list[Row]:
        """A row of a picture for each task."""
        return [_drawn(task) for task in self.tasks]


_COLOURS: Final = {WORKING: GREEN, CHILDREN: GREY, BLOCKING: RED}


def _drawn(task: TaskLife) -> Row:
    words = f"{task.name} {task.label}: {task.status}, worked {task.work:.3f} s, waited {task.waited:.3f} s"
    marks = [(each.start, each.end, _COLOURS.get(each.part, YELLOW)) for each in task.stretches]
    return Row(task.name, words, marks)


def peak_of(stretches: Iterable[tuple[float, float]]) -> int:
    """The most at one moment; those that only touch do not overlap."""
    edges = sorted(edge for start, end in stretches for edge in ((start, 1), (end, -1)))
    count = peak = 0
    for _, change in edges:
        count += change
        peak = max(peak, count)
    return peak


def steady_of(stretches: Iterable[tuple[float, float]], least: float) -> int:
    """The most at once for at least so many seconds in all."""
    edges = sorted(edge for start, end in stretches for edge in ((start, 1), (end, -1)))
    seconds: list[float] = [0.0]
    count, since = 0, 0.0
    for at, change in edges:
        seconds[count] += at - since
        since, count = at, count + change
        if count == len(seconds):
            seconds.append(0.0)
    longer = 0.0
    for level in range(len(seconds) - 1, 0, -1):
        longer += seconds[level]
        if longer >= least and longer:
            return level
    return 0


def union_of(stretches: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The times at which there was any of them."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def mean_of(stretches: Iterable[tuple[float, float]]) -> float:
    """How many at once on average, while there was any."""
    given = list(stretches)
    length = sum(end - start for start, end in union_of(given))
    return sum(end - start for start, end in given) / length if length else 0.0
