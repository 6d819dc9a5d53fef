"""A driver that runs on a clock of its own: each task takes a time that is known, and no time passes.

Like every driver it starts what the ledger hands out, at once, and says when it has ended. A task that fails never
ends; what does not depend on it goes on, and when nothing is left that can, its error ends the run.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fanfold.errors import GraphRecursionError, InvalidUpdateError
from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.plan import Node, Plan
from fanfold.kernel.schema import updates_of
from fanfold.types import Command
from tests.laws.reference import Place

FAILURES: Final = (LookupError, ValueError, ArithmeticError, InvalidUpdateError)
"""What nodes raise here, and reducers that a path of theirs makes fold."""


def place(task: Task) -> Place:
    """Where a task stands."""
    return task.step, task.node, task.send


def decided(plan: Plan, node: Node, value: Any) -> Result:
    """What a node's return value writes, and where its Command leads."""
    if isinstance(value, Command):
        return Result(updates_of(value.update, plan.state), plan.goals(value.goto, node.name))
    return Result(updates_of(value, plan.state))


@dataclass
class Played:
    """What happened, and when: what each task saw, where the run stood after each step, how it ended."""

    seen: dict[Place, Any] = field(default_factory=dict)
    starts: dict[Place, int] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    remembered: set[Place] = field(default_factory=set)
    ending: str = "done"
    step: int = 0
    span: int = 0
    state: Any = None


class Times(Protocol):
    """How long tasks take."""

    def time(self, place: Place) -> int:
        """How long this one takes."""

    def tie(self, place: Place) -> int:
        """Which of two that end at the same time is first: the one with the smaller number."""


class Clock:
    """Plays a ledger that has begun. `known` are results of an earlier sitting, by the ids of their tasks.

    Tasks in `held` never end. After `most` endings the process is gone.
    """

    def __init__(
        self,
        ledger: Ledger,
        times: Times,
        *,
        known: Mapping[str, Result] | None = None,
        held: Collection[Place] = (),
        most: int = 10_000,
    ) -> None:
        self.ledger = ledger
        self.times = times
        self.known = known or {}
        self.held = held
        self.left = most
        self.now = 0
        self.played = Played()
        self._heap: list[tuple[int, int, int, Task, Result | Exception]] = []
        self._failed: dict[Place, Exception] = {}

    def play(self) -> Played:
        """Everything that there is to play."""
        try:
            self._launch()
            while self._heap and self.left:
                self.left -= 1
                self.now, _, _, task, began = heapq.heappop(self._heap)
                self._end(task, began)
                self._launch()
        except (ArithmeticError, GraphRecursionError, InvalidUpdateError) as error:
            self._ended(error, self.ledger.step)
        else:
            if self._failed:
                first = min(self._failed, key=_order)
                self._ended(self._failed[first], first[0])
            elif not self.ledger.over:
                self._ended(Stopped(), self.ledger.step)
        self.played.span = self.now
        self.played.state = self.ledger.values()
        return self.played

    def _ended(self, error: Exception, step: int) -> None:
        self.played.ending, self.played.step = type(error).__name__, step

    def _launch(self) -> None:
        while ready := self.ledger.ready():
            for task in ready:
                self._begin(task)

    def _begin(self, task: Task) -> None:
        at = place(task)
        assert at not in self.played.starts, f"{at} is handed out twice"
        self.played.starts[at] = self.now
        if task.id in self.known:
            self.played.remembered.add(at)
            self._finish(task, self.known[task.id])
            return
        self.played.seen[at], began = self._began(task)
        if at not in self.held:
            when = self.now + self.times.time(at)
            heapq.heappush(self._heap, (when, self.times.tie(at), len(self.played.starts), task, began))

    def _began(self, task: Task) -> tuple[Any, Result | Exception]:
        """What a task sees, and what it comes to but for its conditional edges, which are asked at its end."""
        plan = self.ledger.plan
        node = plan.nodes[task.node]
        if node.action is None:
            return task.arg, Result(self.ledger.input_writes(task.arg))
        seen = self.ledger.view(task)
        try:
            return seen, decided(plan, node, node.action.function(seen))
        except FAILURES as error:
            return seen, error

    def _end(self, task: Task, began: Result | Exception) -> None:
        node = self.ledger.plan.nodes[task.node]
        try:
            if isinstance(began, Exception):
                raise began
            result = Result(began.writes, (*began.goto, *self._routed(task, node, began)))
        except FAILURES as error:
            if node.handler is None:
                self._failed[place(task)] = error
                return
            value = node.handler.action.function(self.played.seen[place(task)])
            made = decided(self.ledger.plan, node, value)
            result = Result(made.writes, made.goto, node.handler.name)
        self.played.ends[place(task)] = self.now
        self.played.results[task.id] = result
        self._finish(task, result)

    def _routed(self, task: Task, node: Node, began: Result) -> Iterator[Any]:
        plan = self.ledger.plan
        for route in node.routes:
            yield from plan.destinations(route, route.path.function(self.ledger.preview(task, began.writes, route)))

    def _finish(self, task: Task, result: Result) -> None:
        for _ in folded(self.ledger, task, result):
            self.played.snapshots.append(self.ledger.snapshot())


def _order(at: Place) -> tuple[int, int, str, int]:
    """Steps in order; in a step nodes by name, then Sends by index."""
    step, node, send = at
    return (step, 0, node, 0) if send is None else (step, 1, "", send)


class Stopped(Exception):
    """Nothing can go on, and nothing has failed: a task is held, or the process is gone."""


def folded(ledger: Ledger, task: Task, result: Result) -> Iterable[None]:
    """Tell the ledger of a result; yields after each step that it folds."""
    if ledger.finish(task, result):
        yield
    while ledger.fold():
        yield
