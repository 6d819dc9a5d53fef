"""One task's life, from its events: a line of stretches without a gap, each for one thing that it did or waited for.

::

    barrier ─▶ queued ─▶ working ─┬─▶ rate gate, budget, memory, limit: it says when that begins and ends
               │                  ├─▶ children: its slot is theirs until they have ended
               ▼                  └─▶ end
               limit, when its start says that it waited for one; held up, where others held the event loop

What is told afterwards, such as that the loop was held for the last second, renames a piece of the line. It renames
only pieces of the kind that it can be a part of, and never makes the line longer; so the parts add up, whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fanfold.events import (
    ModelAnswered,
    ModelAsked,
    TaskContinued,
    TaskQueued,
    TaskStarted,
    TaskWaited,
    TaskWaiting,
    ToolAnswered,
    ToolCalled,
)
from fanfold.receipt.values import (
    BARRIER,
    BLOCKING,
    BUDGET,
    BUSY,
    CHILDREN,
    GATE,
    HELD_UP,
    LIMIT,
    MEMORY,
    NO_WAIT,
    QUEUED,
    WORKING,
    Stretch,
    TaskLife,
)

WHY: Final[Mapping[str, str]] = {
    "the budget of ": BUDGET,
    "room in ": MEMORY,
    "limit ": LIMIT,
    "one of ": LIMIT,
}
"""How the reasons of a wait begin, and which part of a life it is. What begins otherwise is the rate gate's."""


QUICK: Final = frozenset({QUEUED, WORKING})
"""What all tasks have, and nothing is to be summed of."""

ASKED: Final = frozenset({GATE, BUDGET, MEMORY, LIMIT})
"""What a task can wait for while it is at work."""


def part_of(why: str) -> str:
    """The part of a life in which a task waits for that."""
    return next((part for beginning, part in WHY.items() if why.startswith(beginning)), GATE)


class Life:
    """A task while its events are being read. Most have little to tell, and share what the class has."""

    part = QUEUED
    on = ""
    status = "queued"
    open = True
    begun = paused = False
    started: float | None = None
    ended: float | None = None
    attempts = tools = input_tokens = output_tokens = messages = 0
    cpu = queue_held = 0.0
    cost_usd: float | None = None
    model_at: float | None = None
    waited_for = held_back_by = tooling = error = ""
    waiting: tuple[str, ...] = ()
    asked: tuple[float, ...] = ()
    calls: tuple[tuple[float, float], ...] = ()
    uses: tuple[tuple[float, float, str, int], ...] = ()

    def __init__(self, told: TaskQueued, at: float) -> None:
        self.told = told
        self.stretches: list[Stretch] = []
        self.queued = self.began = self.since = at

    def again(self, told: TaskQueued, at: float) -> None:
        """It may run in a later sitting: what it has worked and waited so far counts on."""
        self.told = told
        self.queued = self.began = self.since = max(at, self.since)
        self.part, self.on, self.status = QUEUED, "", "queued"
        self.open, self.begun, self.paused = True, False, False
        self.started = self.ended = None
        self.waiting, self.asked = (), ()
        self.tooling = self.error = ""

    def barred(self, since: float, task: str) -> None:
        """It could have run since then, and waited for a task that it does not follow."""
        last = self.stretches[-1].end if self.stretches else since
        if (since := max(since, last)) < self.queued:
            self.stretches.append(Stretch(since, self.queued, BARRIER, task))
            self.held_back_by = task

    # What happens to it

    def start(self, event: TaskStarted, at: float) -> None:
        """It has a slot, and its code begins; or begins again, after an error."""
        if not self.begun and event.waited_for:
            self.part, self.on, self.waited_for = LIMIT, event.waited_for, event.waited_for
        self.attempts = max(self.attempts + 1, event.attempt)
        self.begun, self.status = True, "running"
        self.turn(at)
        if self.started is None:
            self.started = at

    def pause(self, at: float) -> None:
        """It waits for children."""
        self.paused, self.status = True, "paused"
        self.turn(at)

    def go_on(self, event: TaskContinued, at: float) -> None:
        """Its children have ended, and it has a slot again, for which it may have waited."""
        self.paused, self.status = False, "running"
        if event.waited_for and self.part == CHILDREN:
            self.turn(max(at - event.seconds, self.since))
            self.part, self.on = LIMIT, event.waited_for
        self.turn(at)

    def wait(self, event: TaskWaiting, at: float) -> None:
        """It waits at work, and does not work then."""
        self.waiting = (*self.waiting, event.waits_for)
        self.turn(at)

    def waited(self, event: TaskWaited, at: float) -> None:
        """It no longer waits for that."""
        if event.waits_for in self.waiting:
            place = self.waiting.index(event.waits_for)
            self.waiting = self.waiting[:place] + self.waiting[place + 1 :]
        self.turn(at)

    def end(self, at: float, status: str, error: str = "") -> None:
        """It has ended at a time that may be told late."""
        at = max(at, self.began)
        if self.open:
            self.close(at)
            while self.stretches and self.stretches[-1].end > at:
                last = self.stretches.pop()
                if last.start < at:
                    self.stretches.append(Stretch(last.start, at, last.part, last.on))
        self.status, self.ended, self.error = status, at, error

    def lose(self, now: float) -> None:
        """Its sitting was killed."""
        if self.open:
            if self.begun and not self.paused:
                self.status = "lost"
            self.close(now)

    def close(self, at: float) -> None:
        """Nothing of it goes on after that."""
        self.cut(at)
        self.open = False
        if self.asked:
            self.calls += tuple((asked, max(asked, at)) for asked in self.asked)
            self.asked = ()

    def ask(self, event: ModelAsked, at: float) -> None:
        """It asks a model."""
        if self.model_at is None:
            self.model_at = at
        self.asked = (*self.asked, at)
        self.tooling = ""

    def answered(self, at: float) -> None:
        """The model has answered, or refused."""
        if self.asked:
            self.calls += ((self.asked[0], max(self.asked[0], at)),)
            self.asked = self.asked[1:]

    def spend(self, event: ModelAnswered) -> None:
        """What an answer took."""
        self.messages += 1
        self.input_tokens += event.input_tokens
        self.output_tokens += event.output_tokens
        if event.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + event.cost_usd

    def call(self, event: ToolCalled) -> None:
        """It calls a tool."""
        self.tools += 1
        self.tooling = event.tool

    def used(self, event: ToolAnswered, at: float) -> None:
        """A tool has answered."""
        self.uses += ((at - event.seconds, at, event.tool, self.messages),)

    # The line

    def turn(self, at: float) -> None:
        """From now on it does, or waits for, what it now does."""
        if not self.open:
            return
        self.cut(at)
        if not self.begun:
            self.part, self.on = QUEUED, ""
        elif self.paused:
            self.part, self.on = CHILDREN, ""
        elif self.waiting:
            self.part, self.on = part_of(self.waiting[0]), self.waiting[0]
        else:
            self.part, self.on = WORKING, ""

    def cut(self, at: float) -> None:
        """What it has done until now is on the line."""
        if self.open and at > self.since:
            self.stretches.append(Stretch(self.since, at, self.part, self.on))
            self.since = at

    def rename(
        self, start: float, end: float, part: str, on: str = "", *, of: str = WORKING, ever: bool = False
    ) -> float:
        """Say of what was done between two times what it was; only what is `of` a part. The seconds that were.

        Of this sitting, unless of what was `ever`.
        """
        self.cut(end)
        start = start if ever else max(start, self.began)
        later: list[Stretch] = []
        while self.stretches and self.stretches[-1].end > start:
            later.append(self.stretches.pop())
        seconds = 0.0
        for old in reversed(later):
            first, last = max(old.start, start), min(old.end, end)
            if old.part != of or first >= last:
                self.stretches.append(old)
                continue
            if old.start < first:
                self.stretches.append(Stretch(old.start, first, old.part, old.on))
            self.stretches.append(Stretch(first, last, part, on))
            if last < old.end:
                self.stretches.append(Stretch(last, old.end, old.part, old.on))
            seconds += last - first
        return seconds

    def blame(self, name: Callable[[Stretch], str]) -> None:
        """Say of each stretch in which others held the loop who did, where that is not known."""
        for place, old in enumerate(self.stretches):
            if old.part == HELD_UP and not old.on:
                self.stretches[place] = Stretch(old.start, old.end, old.part, name(old))

    def closed(self) -> TaskLife:
        """The life as the receipt tells it."""
        told = self.told
        sums: dict[str, float] = {}
        waits: dict[str, float] = {}
        busy: list[tuple[float, float]] = []
        waited = 0.0
        for stretch in self.stretches:
            part, start, end = stretch.part, stretch.start, stretch.end
            if part in BUSY:
                if busy and busy[-1][1] == start:
                    busy[-1] = busy[-1][0], end
                else:
                    busy.append((start, end))
            elif part not in NO_WAIT:
                waited += end - start
            if part not in QUICK:
                sums[part] = sums.get(part, 0.0) + end - start
                if part in ASKED and not (part == LIMIT and stretch.on == self.waited_for):
                    waits[stretch.on] = waits.get(stretch.on, 0.0) + end - start
        return TaskLife(
            task=told.task,
            name=told.name,
            role=told.role,
            step=told.step,
            status=self.status,
            queued=self.queued,
            started=self.started,
            ended=self.ended,
            busy=tuple(busy),
            waited=waited,
            waited_for=self.waited_for,
            held=sums.get(BLOCKING, 0.0),
            held_up=sums.get(HELD_UP, 0.0) - self.queue_held,
            label=told.label,
            parent=told.parent,
            after=told.after,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            tools=self.tools,
            error=self.error,
            barrier=sums.get(BARRIER, 0.0),
            held_back_by=self.held_back_by,
            cost_usd=self.cost_usd,
            waits=tuple(waits.items()),
            model_at=self.model_at,
            attempts=self.attempts,
            cpu=self.cpu,
            stretches=tuple(self.stretches),
        )
