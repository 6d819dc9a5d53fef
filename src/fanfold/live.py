"""What people see of a run in a terminal, fed by its events alone.

`Board` folds events into rows; it has no clock and prints nothing. Two views draw it, and `view_for` chooses:

- `LiveView`, on a terminal: a frame four times a second. Running first, then failures, then what waits; what is
  finished is the first to make room.
- `PlainView`, in a pipe, in CI and where it is asked for: a line a transition, and one from time to time when there
  is none. A pause has no line: the lines of the children that it waits for say the same.

Views write to the stream that they are given (the command gives stderr, so that stdout stays free for results).
They read a run and cannot influence it: being told an event is putting it in a queue, and a thread of the view's own
folds, draws and writes. A view whose stream broke raises at the next event, and is then removed.

Names, errors and notes come from agents, which is to say from anybody. `clean` takes everything out of them that a
terminal would obey. A state is always a glyph *and* a word; colour only repeats it.
"""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TextIO

from fanfold.cleaning import clean as clean
from fanfold.events import (
    ClockJumped,
    Event,
    LimitReported,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    ProgramSeen,
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
    ThreadUsed,
    ToolAnswered,
    ToolCalled,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def _line(text: str) -> str:
    """`text`, clean and on one line."""
    return " ".join(clean(text).split())


# -- the board ---------------------------------------------------------------------------------------------------------

_BECOMES: Final[Mapping[type[Event], str]] = {
    TaskStarted: "running",
    TaskPaused: "paused",
    TaskContinued: "running",
    TaskFinished: "done",
    TaskRemembered: "remembered",
    TaskFailed: "failed",
    TaskInterrupted: "asks",
    TaskCancelled: "cancelled",
}
_UNSHOWN: Final = (
    ClockJumped,
    LimitReported,
    ModelAsked,
    ModelLost,
    ModelRetried,
    ProgramSeen,
    TaskBlocked,
    TaskHeldUp,
    ThreadUsed,
    ToolAnswered,
)
"""What changes nothing that is shown: the task goes on, and the rest is for the receipt to weigh."""

_OVER: Final = frozenset({"done", "remembered", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a task's time in which it was `running` or `paused`."""

    start: float
    end: float
    state: str


@dataclass(frozen=True, slots=True)
class Row:
    """One task as it is now. `waits_for` says why it does not run: a limit, earlier tasks, or its own children."""

    task: str
    name: str
    label: str
    state: str  # queued, running, paused, done, remembered, failed or cancelled
    depth: int
    elapsed: float  # seconds since its first start, until its end
    spans: tuple[Span, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    tools: int = 0
    waits_for: str = ""
    error: str = ""


@dataclass(slots=True)
class _Task:
    name: str
    label: str = ""
    role: str = "node"
    after: tuple[str, ...] = ()
    state: str = "queued"
    children: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)  # those that have ended
    since: float | None = None  # the start of the span that has not
    started: float | None = None
    ended: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tools: int = 0
    error: str = ""
    waits: str = ""  # what it waits for although it has a slot

    @property
    def over(self) -> bool:
        return self.state in _OVER

    def become(self, state: str, at: float) -> None:
        self.spans = list(self.spans_until(at))
        self.state = state
        self.since = at if state in ("running", "paused") else None
        self.ended = at if self.over else None
        if state == "running" and self.started is None:
            self.started = at

    def spans_until(self, now: float) -> tuple[Span, ...]:
        if self.since is None:
            return tuple(self.spans)
        return (*self.spans, Span(self.since, max(now, self.since), self.state))


class Board:
    """A run's events, folded into what is true now. Times are those of the events; the caller says what `now` is."""

    def __init__(self) -> None:
        self._clear(None)

    def _clear(self, run: RunStarted | None) -> None:
        self.run = run
        self.end: RunFinished | None = None
        self.step = 0
        self.peak = 0
        self.running = 0
        self.held = 0.0
        self.notices: list[str] = []
        self._tasks: dict[str, _Task] = {}
        self._roots: list[str] = []

    def apply(self, event: Event) -> None:
        """Take in one event. A new sitting clears the board, since its clock is another."""
        if isinstance(event, RunStarted):
            self._clear(event)
        elif isinstance(event, TaskQueued):
            self._queue(event)
        elif isinstance(event, ModelAnswered):
            task = self._task(event.task)
            task.input_tokens += event.input_tokens
            task.output_tokens += event.output_tokens
        elif isinstance(event, ToolCalled):
            self._task(event.task).tools += 1
        elif isinstance(event, LoopHeld):
            self.held += event.seconds if event.by_code else 0.0
        elif isinstance(event, StepFinished):
            self.step = event.step
        elif isinstance(event, _UNSHOWN):
            pass
        elif isinstance(event, TaskWaiting | TaskWaited):
            self._wait(self._task(event.task), event)
        elif isinstance(event, Noticed):
            self.notices.append(event.message)
        elif isinstance(event, RunFinished):
            self.end = event
            self.peak = event.peak or self.peak
        else:
            self._move(self._task(event.task), event)

    def _queue(self, event: TaskQueued) -> None:
        task = self._tasks.get(event.task)
        if task is None:
            self._add(event.task, event.parent)
            task = self._tasks[event.task]
        task.name, task.label, task.role, task.after = event.name, event.label, event.role, event.after
        self._count(task, "queued", event.at)

    def _add(self, task: str, parent: str | None = None) -> None:
        # Only a task that is known can be a parent: so there is no circle, whatever the events say.
        siblings = self._roots if parent is None or parent not in self._tasks else self._tasks[parent].children
        siblings.append(task)
        self._tasks[task] = _Task(name=task)

    def _task(self, task: str) -> _Task:
        """A task that was never queued is one all the same, for a view that came late."""
        if task not in self._tasks:
            self._add(task)
        return self._tasks[task]

    def _wait(self, task: _Task, event: TaskWaiting | TaskWaited) -> None:
        """A task at work waits for a limit, or goes on; one that waits for its children or has ended does neither."""
        begins = isinstance(event, TaskWaiting)
        if task.state == ("running" if begins else "paused") and bool(task.waits) != begins:
            task.waits = event.waits_for if begins else ""
            self._count(task, "paused" if begins else "running", event.at)

    def _move(self, task: _Task, event: Event) -> None:
        if isinstance(event, TaskFailed):
            task.error = event.error
        task.waits = ""
        self._count(task, _BECOMES[type(event)], event.at)

    def _count(self, task: _Task, state: str, at: float) -> None:
        self.running += (state == "running") - (task.state == "running")
        self.peak = max(self.peak, self.running)
        task.become(state, at)

    def row(self, task: str, now: float) -> Row:
        """The task's own row, also where `rows` shows it as one with another."""
        return self._row(task, self._task(task), 0, now)

    def rows(self, now: float) -> list[Row]:
        """All rows, children below their parent, otherwise in the order in which they came."""
        now = self.end.at if self.end else now
        rows: list[Row] = []
        todo = [(task, 0) for task in reversed(self._roots)]
        while todo:
            key, depth = todo.pop()
            agent = self._only_agent(key)
            if agent is None:
                rows.append(self._row(key, self._tasks[key], depth, now))
            else:
                rows.append(self._joint(key, agent, depth, now))
            children = self._tasks[key if agent is None else agent].children
            todo += ((child, depth + 1) for child in reversed(children))
        return rows

    def counts(self) -> Counter[str]:
        """How many tasks are in each state."""
        return Counter(task.state for task in self._tasks.values())

    def agents(self) -> int:
        """How many of the tasks are agents."""
        return sum(task.role == "agent" for task in self._tasks.values())

    def tokens(self) -> tuple[int, int]:
        """All tokens of the run, in and out."""
        tasks = self._tasks.values()
        return sum(task.input_tokens for task in tasks), sum(task.output_tokens for task in tasks)

    def work(self, now: float) -> float:
        """Seconds that all tasks together have run; those in which a task waited for its children do not count."""
        spans = (span for task in self._tasks.values() for span in task.spans_until(now))
        return sum(span.end - span.start for span in spans if span.state == "running")

    def _only_agent(self, key: str) -> str | None:
        """The agent that is all that a node calls: people know it by the agent's name."""
        task = self._tasks[key]
        if task.role != "node" or len(task.children) != 1:
            return None
        return task.children[0] if self._tasks[task.children[0]].role == "agent" else None

    def _joint(self, node_key: str, agent_key: str, depth: int, now: float) -> Row:
        """One row for a node and its only agent: the agent while that lives, before and after it the node."""
        node, agent = self._tasks[node_key], self._tasks[agent_key]
        leading, key = (node, node_key) if agent.over else (agent, agent_key)
        ran = [span for span in node.spans_until(now) if span.state == "running"]
        both = _Task(
            name=agent.name,
            label=agent.label,
            after=leading.after,
            state=leading.state,
            children=[] if leading is node else agent.children,
            spans=sorted([*ran, *agent.spans_until(now)], key=lambda span: span.start),
            started=node.started if node.started is not None else agent.started,
            ended=leading.ended,
            input_tokens=node.input_tokens + agent.input_tokens,
            output_tokens=node.output_tokens + agent.output_tokens,
            tools=node.tools + agent.tools,
            error=leading.error,
            waits=leading.waits,
        )
        return self._row(key, both, depth, now)

    def _row(self, key: str, task: _Task, depth: int, now: float) -> Row:
        end = now if task.ended is None else task.ended
        return Row(
            task=key,
            name=task.name,
            label=task.label,
            state=task.state,
            depth=depth,
            elapsed=0.0 if task.started is None else max(0.0, end - task.started),
            spans=task.spans_until(now),
            input_tokens=task.input_tokens,
            output_tokens=task.output_tokens,
            tools=task.tools,
            waits_for=self._waits_for(task),
            error=task.error,
        )

    def _waits_for(self, task: _Task) -> str:
        if task.state == "asks":
            return "a person"
        if task.state == "paused":
            return task.waits or ", ".join(self._unfinished(task.children))
        if task.state != "queued":
            return ""
        before = ", ".join(self._unfinished(task.after))
        limit = self.run.max_concurrency if self.run else None
        if before or limit is None or self.running < limit:
            return before
        return f"limit {limit}"

    def _unfinished(self, tasks: Iterable[str]) -> Iterator[str]:
        return (self._tasks[key].name for key in tasks if key in self._tasks and not self._tasks[key].over)


# -- words and figures -------------------------------------------------------------------------------------------------


def _clock(seconds: float) -> str:
    """`00:04.1`, and `1:02:03.4` above an hour."""
    tenths = max(0, int(seconds * 10 + 1e-6))  # 1.2 stays 1.2 after a subtraction
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:' if hours else ''}{minutes:02}:{tenths // 10:02}.{tenths % 10}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _amount(number: int) -> str:
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"


def _tokens(row: Row) -> str:
    """Tokens in and out: `812/110 tok`."""
    if not (row.input_tokens or row.output_tokens):
        return ""
    return f"{_amount(row.input_tokens)}/{_amount(row.output_tokens)} tok"


def _called(row: Row) -> str:
    """The task's name, and what its caller said about it."""
    return _line(f"{row.name} · {row.label}" if row.label else row.name)


def _tools(row: Row) -> str:
    return _plural(row.tools, "tool") if row.tools else ""


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _title(run: RunStarted) -> str:
    return _line(f"{run.graph} · run {run.run_id} · thread {run.thread_id}" + (" · resumed" if run.resumed else ""))


def _verdict(board: Board) -> str:
    """The last line: how many, how long, and how that compares with one after the other. The audit says it exactly."""
    if board.end is None or board.run is None:
        return ""
    wall, work = board.end.at - board.run.at, board.work(board.end.at)
    agents = board.agents()
    who = _plural(agents, "agent") if agents else _plural(board.counts().total(), "task")
    faster = f" · {work / wall:.2f}x faster than one by one" if wall > 0 and work > wall else ""
    error = f" · {_line(board.end.error)}" if board.end.error else ""
    return f"{who} in {wall:.2f} s · agent time {work:.2f} s{faster} · peak {board.peak}{error}"


# -- frames ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ink:
    """The signs that a terminal can show."""

    glyphs: Mapping[str, str]
    eighths: str  # a cell that is filled from the left: an eighth, two, ... all of it
    late: str  # a cell that is filled in its right half
    paused: str


_STATES: Final = ("running", "paused", "queued", "asks", "failed", "cancelled", "done", "remembered")
_UNICODE: Final = _Ink(dict(zip(_STATES, "●◐◌?✖⊘✔↺", strict=True)), "▏▎▍▌▋▊▉█", "▐", "░")
_ASCII: Final = _Ink(dict(zip(_STATES, "*%.?x-+=", strict=True)), "########", "#", ":")
_WORDS: Final = {state: state for state in _STATES} | {"queued": "waits"}
_STYLES: Final = dict(
    zip(_STATES, ("cyan", "cyan", "dim", "bold magenta", "bold red", "yellow", "green", "green"), strict=True)
)
_RANKS: Final = dict(zip(_STATES, (0, 0, 2, 1, 1, 3, 4, 4), strict=True))
# What makes room first, when the window is too low for all rows.
_MAKES_ROOM: Final = dict(zip(_STATES, (3, 3, 2, 4, 4, 1, 0, 0), strict=True))
_NAME_WIDTHS: Final = (8, 32)


def shown(rows: Sequence[Row], room: int) -> tuple[list[Row], str]:
    """The rows that fit, running first, with each parent's children below it; and what was left out: `+12 done`."""
    ranked = [row for group in sorted(_groups(rows), key=_rank) for row in group]
    if len(ranked) <= room:
        return ranked, ""
    room = max(0, room - 1)  # for the line that says what was left out
    order = sorted(range(len(ranked)), key=lambda at: (-_MAKES_ROOM[ranked[at].state], _age(ranked[at], at)))
    keep = set(order[:room])
    left_out = Counter(_WORDS[row.state] for at, row in enumerate(ranked) if at not in keep)
    fold = " · ".join(f"+{left_out[word]} {word}" for word in _WORDS.values() if left_out[word])
    return [row for at, row in enumerate(ranked) if at in keep], fold


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = []
    for row in rows:
        if row.depth == 0 or not groups:
            groups.append([])
        groups[-1].append(row)
    return groups


def _rank(group: list[Row]) -> int:
    return min(_RANKS[row.state] for row in group)


def _age(row: Row, at: int) -> float:
    """Of finished rows the last to end stay longest; of others the first in the list."""
    return -row.spans[-1].end if row.state in _OVER and row.spans else float(at)


def bar(spans: Sequence[Span], start: float, end: float, width: int, ink: _Ink = _UNICODE) -> str:
    """The spans on a time axis from `start` to `end` that is `width` cells wide, to an eighth of a cell."""
    cells = [" "] * width
    scale = width / (end - start) if end > start else 0.0
    for span in sorted(spans, key=lambda span: span.state == "running"):  # running is drawn last, and wins
        left, right = (span.start - start) * scale, (span.end - start) * scale
        first = max(0, min(int(left), width - 1))
        for cell in range(first, min(width, max(first + 1, math.ceil(right)))):
            cells[cell] = _sign(left - cell, right - cell, ink) if span.state == "running" else ink.paused
    return "".join(cells)


def _sign(left: float, right: float, ink: _Ink) -> str:
    """One cell of a bar that goes from `left` to `right`, where the cell goes from 0 to 1."""
    if left >= 0.5 and right > 0.5:
        return ink.late
    return ink.eighths[min(7, max(0, round(right * 8) - 1))]


def _ascii(text: str) -> str:
    return text.replace("·", "-").encode("ascii", "backslashreplace").decode("ascii")


class _Frame:
    """One picture of a board for a window of that size."""

    def __init__(self, board: Board, now: float, size: tuple[int, int], ink: _Ink) -> None:
        self._board, self._ink = board, ink
        self._width, self._height = size
        self._start = board.run.at if board.run else now
        self._now = max(self._start, board.end.at if board.end else now)

    def lines(self) -> list[Text]:
        rows, fold = shown(self._board.rows(self._now), max(1, self._height - 3))
        names = [f"{'  ' * row.depth}{_called(row)}" for row in rows]
        width = self._name_width(names)
        lines = [self._head(), *(self._row(row, name, width) for row, name in zip(rows, names, strict=True))]
        if fold:
            lines.append(self._text((f"   {fold}", "dim")))
        return [*lines, self._foot()]

    def _name_width(self, names: Sequence[str]) -> int:
        from rich.cells import cell_len

        least, most = _NAME_WIDTHS
        return max(least, min(most, self._width // 3, max(map(cell_len, names), default=least)))

    def _text(self, *parts: tuple[str, str]) -> Text:
        """Parts with their styles, cut to the window. What looks like markup in them stays as it is."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop", end="")
        for part, style in parts:
            text.append(part if self._ink is _UNICODE else _ascii(part), style)
        text.truncate(max(1, self._width - 1))  # a full line would make some terminals wrap
        return text

    def _head(self) -> Text:
        from rich.cells import cell_len, set_cell_size

        title = f" {_title(self._board.run)}" if self._board.run else " waiting for the run to start"
        right = f"step {self._board.step}   {_clock(self._now - self._start)}"
        room = max(10, self._width - cell_len(right) - 2)
        return self._text((set_cell_size(title, room), "bold"), (f" {right}", ""))

    def _row(self, row: Row, name: str, width: int) -> Text:
        from rich.cells import set_cell_size

        style = _STYLES[row.state]
        state = f" {self._ink.glyphs[row.state]} {_WORDS[row.state]:<10} "
        figures = f" {_seconds(row.elapsed) if row.spans else '':>8}"
        if self._width >= 72:
            figures += f"  {_tokens(row):<15}"
        if self._width >= 90:
            figures += f" {_tools(row):<8}"
        used = len(state) + width + len(figures) + 3
        return self._text(
            (state, style),
            (set_cell_size(name, width), ""),
            (figures, "dim" if row.state in _OVER else ""),
            (f"  {self._beside(row, self._width - used)}", style),
        )

    def _beside(self, row: Row, width: int) -> str:
        """What stands at the right: the error, what it waits for, or its bar."""
        if row.state == "failed":
            return _line(row.error)
        if row.state == "queued":
            return f"for {_line(row.waits_for)}" if row.waits_for else ""
        if width < 8:
            return ""
        drawn = bar(row.spans, self._start, self._now, width, self._ink)
        if row.waits_for and (blank := drawn.rstrip()) and len(blank) < width - 12:
            return f"{blank} for {_line(row.waits_for)}"
        return drawn

    def _foot(self) -> Text:
        board = self._board
        if board.end is not None:
            state = board.end.status if board.end.status in _STATES else "failed"
            return self._text(
                (f"{self._ink.glyphs[state]} {_line(board.end.status)} · {_verdict(board)}", _STYLES[state])
            )
        limit = board.run.max_concurrency if board.run else None
        waiting = board.counts()["queued"]
        facts = [f"running {board.running}", f"peak {board.peak}"]
        facts += [f"limit {limit}"] if limit is not None else []
        facts += [f"waiting {waiting}"] if waiting else []
        facts += [f"loop blocked {board.held * 1000:.0f} ms"] if board.held else []
        facts += [f"{_amount(sum(board.tokens()))} tok"] if any(board.tokens()) else []
        return self._text((f" {' · '.join(facts)}", "dim"))


# -- views -------------------------------------------------------------------------------------------------------------


class View(Protocol):
    """Something that is told every event of a run, from any thread, and does not keep who tells it waiting."""

    def __call__(self, event: Event, /) -> None: ...


class LiveView:
    """Draws a run on a terminal until it ends, and leaves its last frame there."""

    def __init__(
        self, console: Console, *, interval: float = 0.25, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.live import Live

        self._console = console
        console.on_broken_pipe = _reraise  # type: ignore[method-assign]  # rich's own ends the process, stdout first
        self._interval, self._clock = interval, clock
        self._board = Board()
        self._news: deque[Event] = deque()
        self._told = 0  # how many notices stand above the frame already
        self._ink = _UNICODE if console.encoding.lower().startswith("utf") else _ASCII
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=_is_terminal(sys.stdout),  # what nodes print stands above the frame, not in it;
            redirect_stderr=_is_terminal(sys.stderr),  # and what goes to a file stays there
            vertical_overflow="crop",
        )
        self._closing = threading.Event()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="fanfold-live", daemon=True)

    def __call__(self, event: Event, /) -> None:
        if self._broken is not None:
            raise self._broken
        self._news.append(event)

    def __enter__(self) -> Self:
        self._unless_broken(self._live.start)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()
        self._unless_broken(self._draw)
        self._unless_broken(self._live.stop)  # tried in any case: it also gives stdout back

    def _watch(self) -> None:
        while not self._closing.is_set() and self._broken is None:
            self._unless_broken(self._draw)
            self._closing.wait(self._interval)

    def _unless_broken(self, write: Callable[[], None]) -> None:
        """Write; a stream that went away is told to whoever calls next, and is no reason to fail a run that ends."""
        try:
            write()
        except (OSError, ValueError) as error:
            self._broken = error

    def _draw(self) -> None:
        from rich.text import Text

        while self._news:
            self._board.apply(self._news.popleft())
        for notice in self._board.notices[self._told :]:
            self._console.print(Text(f"note: {_line(notice)}"))
        self._told = len(self._board.notices)
        size = self._console.size
        lines = _Frame(self._board, self._clock(), (size.width, size.height), self._ink).lines()
        self._live.update(Text("\n", end="").join(lines), refresh=True)


def _reraise() -> None:
    """Called by rich while it handles the `BrokenPipeError`."""
    raise


_CLOSE: Final = object()


class PlainView:
    """Writes a line for each start and end, and one every `interval` seconds in which there was none."""

    def __init__(self, stream: TextIO, *, interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._interval, self._clock = interval, clock
        self._board = Board()
        self._news: queue.SimpleQueue[Event | object] = queue.SimpleQueue()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="fanfold-plain", daemon=True)

    def __call__(self, event: Event, /) -> None:
        if self._broken is not None:
            raise self._broken
        self._news.put(event)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._news.put(_CLOSE)
        self._thread.join()

    def _watch(self) -> None:
        try:
            while (event := self._next()) is not _CLOSE:
                if isinstance(event, Event):
                    self._board.apply(event)
                    self._write(event.at, _transition(self._board, event))
                elif self._board.run is not None and self._board.end is None:
                    self._write(self._clock(), ("still", _activity(self._board, self._clock())))
        except (OSError, ValueError) as error:  # the stream went away: whoever calls next is told
            self._broken = error

    def _next(self) -> Event | object | None:
        """The next event, or None after an interval without a line."""
        try:
            return self._news.get(timeout=self._interval)
        except queue.Empty:
            return None

    def _write(self, at: float, said: tuple[str, str] | None) -> None:
        if said is None:
            return
        word, rest = said
        since = at - self._board.run.at if self._board.run else 0.0
        line = f"{_clock(since)}  {word:<9} {rest}".rstrip()
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()


def _transition(board: Board, event: Event) -> tuple[str, str] | None:
    """The word and the rest of an event's line; None when it has no line."""
    if isinstance(event, RunStarted):
        return "run", _title(event)
    if isinstance(event, RunFinished):
        return _line(event.status), _verdict(board)
    if isinstance(event, Noticed):
        return "note", _line(event.message)
    if isinstance(event, TaskWaiting):
        return "waits", f"{_called(board.row(event.task, event.at))}  for {_line(event.waits_for)}"
    if isinstance(event, ModelRetried):
        return "retries", f"{_called(board.row(event.task, event.at))}  in {event.seconds:.1f} s: {_line(event.error)}"
    if isinstance(event, TaskStarted):
        return "started", _started(board.row(event.task, event.at), event)
    if isinstance(event, TaskFinished | TaskRemembered | TaskFailed | TaskInterrupted | TaskCancelled):
        return _BECOMES[type(event)], _ended(board.row(event.task, event.at))
    return None


def _started(row: Row, event: TaskStarted) -> str:
    again = f"attempt {event.attempt}" if event.attempt > 1 else ""
    waited = f"waited for {_line(event.waited_for)}" if event.waited_for else ""
    return "  ".join(filter(None, (_called(row), again, waited)))


def _ended(row: Row) -> str:
    took = _seconds(row.elapsed) if row.spans else ""
    return "  ".join(filter(None, (_called(row), took, _tokens(row), _tools(row), _line(row.error))))


def _activity(board: Board, now: float) -> str:
    """How many run and wait, and the first of those that run."""
    rows = [row for row in board.rows(now) if row.state == "running"]
    names = ", ".join(_called(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    waiting = board.counts()["queued"]
    facts = [f"running {board.running}" + (f" ({names})" if names else "")]
    return " · ".join(facts + ([f"waiting {waiting}"] if waiting else []))


class _Silence:
    """Shows nothing."""

    def __call__(self, event: Event, /) -> None:
        """Nobody wants to see it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing was begun."""


def view_for(stream: TextIO, *, plain: bool = False, quiet: bool = False) -> LiveView | PlainView | _Silence:
    """The view that suits the stream: a context manager that is called with each event.

    Live on a terminal that can move its cursor; plain elsewhere, in CI (`CI` is set) and when asked for; nothing
    when `quiet`. `NO_COLOR`, `FORCE_COLOR`, `COLUMNS` and `TERM` are honoured.
    """
    if quiet:
        return _Silence()
    if plain or not _can_draw(stream):
        return PlainView(stream)
    from rich.console import Console

    return LiveView(Console(file=stream, highlight=False, markup=False, emoji=False))


def _can_draw(stream: TextIO) -> bool:
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return _is_terminal(stream) and not in_ci and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _is_terminal(stream: TextIO | None) -> bool:
    """False also for a stream that is closed or missing, as under a service manager."""
    return stream is not None and not stream.closed and stream.isatty()
