"""What is known of the steps to come: which of their tasks may start before the steps below them have ended.

The ledger folds one step after the other. This looks further: a task that has ended leads to others in the next step,
whatever else is still running; each of those may start as soon as every key that it sees is *sealed* at its step, which
is to say that no task that is still outstanding can lead to a write of it in a step below (see `reach`). What it is
given then is what it would have been given at the barrier, and so is everything that follows.

Outstanding are, by step and node, tasks that have not ended, be they started or not, and nodes that were triggered and
wait for the end. A join may fire as soon as the last of its members can have run, and not before. When it does fire is
decided in the order of steps, with what is known of it after the step before.

What waits for something to be sealed watches one outstanding entry that is in its way, and looks for the next one when
that is gone. Nothing that is sealed is ever opened again: what comes to be outstanding is led to by what was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fanfold.kernel.channels import MISSING
from fanfold.kernel.plan import Join
from fanfold.kernel.reach import Distances, Reach
from fanfold.types import Send

if TYPE_CHECKING:
    from fanfold.kernel.ledger import Ledger, Result, Task

_Entry = tuple[int, str]
"""A step, and a node that is outstanding in it."""


@dataclass(slots=True)
class _Stage:
    """What is known of one step. `values` are those at its beginning, of the keys that somebody has asked for."""

    named: dict[str, Task] = field(default_factory=dict)
    goals: list[tuple[tuple[int, str, int], int, Send, str]] = field(default_factory=list)
    numbered: bool = False
    late: set[str] = field(default_factory=set)
    ended: dict[str, tuple[Task, Result]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Wait:
    """Something to be done when nothing outstanding reaches into a step below `step` any more, by any of `ways`."""

    step: int
    ways: tuple[Distances, ...]
    then: Callable[[], None]


@dataclass(slots=True)
class _Line:
    """A join as it stands before `step` is folded: the members it has seen, each with the task that was it."""

    step: int
    seen: dict[str, str]


class Ahead:
    """Looks ahead of a ledger. It is told what the ledger opens and what has ended, and says what else may start."""

    def __init__(self, ledger: Ledger, reach: Reach) -> None:
        self._ledger = ledger
        self._reach = reach
        self._plan = ledger.plan
        self._stages: dict[int, _Stage] = {}
        self._outstanding: dict[str, Counter[int]] = {}
        """By node and step, how many tasks."""
        self._watched: dict[_Entry, list[_Wait]] = {}
        self._again: list[_Wait] = []
        self._joined: list[_Wait] = []
        """What waits for a join, which can come to be no obstacle in many ways."""
        self._ready: list[Task] = []
        self._begun: dict[str, tuple[int, int]] = {}
        """By the id of a task that was handed out: its step, and the one at which the ledger stood."""
        self._lines: dict[int, _Line] = {}
        self._runs: dict[str, set[int]] = {}
        """The steps in which members of joins have run and ended."""
        self._missing: dict[int, set[str]] = {}

    # What the ledger asks

    def ready(self) -> list[Task]:
        """The tasks of later steps that may start now; each is handed out once."""
        self._look()
        ready, self._ready = self._ready, []
        found = [task for task in ready if task.step > self._ledger.step and task.id not in self._begun]
        self._begun.update({task.id: (task.step, self._ledger.step) for task in found})
        return found

    def begun(self, task: Task) -> bool:
        """Whether the task was handed out before its step was opened."""
        return task.id in self._begun

    def since(self) -> int | None:
        """The earliest step at which one was handed out that is of the ledger's step, or of a later one."""
        return min((at for step, at in self._begun.values() if step >= self._ledger.step), default=None)

    def known(self, step: int) -> dict[str, Result]:
        """The results of the tasks of a step that have ended, by their ids."""
        stage = self._stages.get(step)
        return {} if stage is None else {id: result for id, (_, result) in stage.ended.items()}

    def folded(self, step: int) -> Mapping[str, Any]:
        """The values at the beginning of a step, of the keys that are known there already."""
        stage = self._stages.get(step)
        return {} if stage is None else stage.values

    def values(self, keys: Iterable[str], step: int) -> dict[str, Any]:
        """The values of these keys at the beginning of a later step; of one that is not sealed there, what is known."""
        return {key: self._value(key, step) for key in keys}

    # What the ledger tells

    def opened(self, tasks: Sequence[Task], deferred: Collection[str]) -> None:
        """The ledger stands at a step with these tasks; those of its nodes that wait for the end are `deferred`."""
        step = self._ledger.step
        for gone in [earlier for earlier in self._stages if earlier < step]:
            for task, _ in self._stages.pop(gone).ended.values():
                self._begun.pop(task.id, None)
                if steps := self._runs.get(task.node):
                    steps.discard(gone)
        stage = self._stages.setdefault(step, _Stage())
        stage.named = {task.node: task for task in tasks if task.send is None}
        stage.goals, stage.numbered, stage.late = [], True, set()
        entries = ((at, name, count) for name, steps in self._outstanding.items() for at, count in steps.items())
        until_now = [((at, name), count) for at, name, count in entries if at <= step]
        for task in tasks:
            if task.id not in stage.ended:
                self._expect((step, task.node))
        for name in deferred:
            self._expect((step + 1, name))
        for entry, count in until_now:
            self._drop(entry, count)
        self._lines = {}
        for index in range(len(self._plan.joins)):
            self._count_missing(index)

    def ended(self, task: Task, result: Result) -> None:
        """A task has come to its result; what it leads to is outstanding from now on."""
        stage, following = self._stages[task.step], self._stages.setdefault(task.step + 1, _Stage())
        stage.ended[task.id] = (task, result)
        node = self._plan.nodes[task.node]
        goals = result.goto if result.handled else (*node.targets, *result.goto)
        for number, goal in enumerate(goals):
            if isinstance(goal, Send):
                self._send(task, number, goal, following)
            else:
                self._trigger(goal, task.step + 1, (task.id,))
        if node.joins and not result.handled:
            self._runs.setdefault(task.node, set()).add(task.step)
            for index in node.joins:
                self._missing[index].discard(task.node)
                if not self._missing[index]:
                    self._follow_line(index)
        self._drop((task.step, task.node))

    # Outstanding, and what waits for it

    def _expect(self, entry: _Entry) -> None:
        step, name = entry
        self._outstanding.setdefault(name, Counter())[step] += 1

    def _drop(self, entry: _Entry, count: int = 1) -> None:
        step, name = entry
        steps = self._outstanding[name]
        steps[step] -= count
        if not steps[step]:
            del steps[step]
            if not steps:
                del self._outstanding[name]
            self._again += self._watched.pop(entry, ())

    def _look(self) -> None:
        """Do everything that nothing is in the way of any more; that may let other things be done."""
        self._again += self._joined
        self._joined = []
        while self._again:
            again, self._again = self._again, []
            for wait in sorted(again, key=lambda wait: wait.step):  # earlier steps decide what is known of later ones
                self._await(wait)

    def _await(self, wait: _Wait) -> None:
        obstacle = self._obstacle(wait.step, wait.ways, frozenset())
        if obstacle is None:
            wait.then()
        elif isinstance(obstacle, tuple):
            self._watched.setdefault(obstacle, []).append(wait)
        else:
            self._joined.append(wait)

    def _obstacle(self, step: int, ways: Sequence[Distances], asked: frozenset[int]) -> _Entry | Join | None:
        """What reaches below the step by one of the ways: an outstanding entry, or else a join that may fire."""
        for way in ways:
            for name in way if len(way) < len(self._outstanding) else self._outstanding:
                if name in way and name in self._outstanding:
                    first = min(self._outstanding[name])
                    if first + way[name] < step:
                        return first, name
        for index, join in enumerate(self._plan.joins):
            nearest = min((way[join.target] for way in ways if join.target in way), default=None)
            if nearest is not None and not self._fires_from(index, step - nearest, asked):
                return join
        return None

    # What comes in later steps

    def _trigger(self, name: str, step: int, by: tuple[str, ...]) -> None:
        stage = self._stages.setdefault(step, _Stage())
        if name in stage.named or name in stage.late:
            return
        self._expect((step, name))
        if self._plan.nodes[name].defer:
            stage.late.add(name)
            return
        task = self._ledger.made(name, step, after=by)
        stage.named[name] = task
        self._start_when_sealed(task)

    def _send(self, task: Task, number: int, goal: Send, following: _Stage) -> None:
        self._expect((task.step + 1, goal.node))
        following.goals.append((task.order, number, goal, task.id))
        if len(following.goals) == 1:  # they are numbered together, when all who may send there have ended
            step = task.step + 1
            self._again.append(_Wait(step, (self._reach.sending,), lambda: self._number(step)))

    def _number(self, step: int) -> None:
        stage = self._stages.get(step)
        if stage is None or stage.numbered:
            return
        stage.numbered = True
        stage.goals.sort(key=lambda goal: goal[:2])
        for index, (_, _, goal, by) in enumerate(stage.goals):
            task = self._ledger.made(goal.node, step, send=index, goal=goal, after=(by,))
            self._start_when_sealed(task)

    def _start_when_sealed(self, task: Task) -> None:
        keys = self._reach.reads(task.node, given=task.arg is not MISSING)
        ways = tuple(self._reach.writing(key) for key in keys)
        self._again.append(_Wait(task.step, ways, lambda: self._start(task, keys)))

    def _start(self, task: Task, keys: Sequence[str]) -> None:
        if task.step <= self._ledger.step or not self._ledger.allows(task.step):
            return  # the ledger has opened the step, and hands it out itself
        try:
            for key in keys:
                self._value(key, task.step, sealed=True)
        except Exception:  # noqa: BLE001 - the ledger comes to the same when it folds that step, and raises it then
            return
        self._ready.append(task)

    def _value(self, key: str, step: int, *, sealed: bool = False) -> Any:
        """The value of a key at the beginning of a step. Only one that is sealed is for good."""
        if step <= self._ledger.step:
            return self._ledger.value(key)
        stage = self._stages[step]
        if key in stage.values:
            return stage.values[key]
        before = self._value(key, step - 1, sealed=sealed)
        ended = sorted(self._stages[step - 1].ended.values(), key=_place)
        value = self._ledger.next_value(key, before, ended)
        if sealed:
            stage.values[key] = value
        return value

    # Joins

    def _count_missing(self, index: int) -> None:
        """See which members of a join have not run by what is known; without any, find out when it was complete."""
        join, seen = self._plan.joins[index], self._ledger.seen(index)
        complete = len(seen) == len(join.members)
        self._missing[index] = {m for m in join.members if not self._runs.get(m) and (complete or m not in seen)}
        if not self._missing[index]:
            self._follow_line(index)

    def _line(self, index: int) -> _Line:
        line = self._lines.get(index)
        return _Line(self._ledger.step, dict(self._ledger.seen(index))) if line is None else line

    def _follow_line(self, index: int) -> None:
        """All members of a join have run; find out, step by step, when it was complete."""
        line = self._lines[index] = self._line(index)
        self._await_line(index, line)

    def _await_line(self, index: int, line: _Line) -> None:
        join = self._plan.joins[index]
        ways = tuple(self._reach.running(name) for name in (*sorted(join.members), join.target))
        step = line.step
        self._again.append(_Wait(step + 1, ways, lambda: self._go_along(index, line, step)))

    def _go_along(self, index: int, line: _Line, step: int) -> None:
        """All is known that a step has to do with the join."""
        if self._lines.get(index) is not line or line.step != step:
            return
        join, stage = self._plan.joins[index], self._stages[step]
        if len(line.seen) == len(join.members) and join.target in stage.named:
            line.seen.clear()
        for task, result in sorted(stage.ended.values(), key=_place):
            if task.node in join.members and not result.handled:
                line.seen[task.node] = task.id
        line.step += 1
        if len(line.seen) == len(join.members):
            self._trigger(join.target, line.step, tuple(line.seen.values()))
        if line.step in self._stages:
            self._await_line(index, line)

    def _fires_from(self, index: int, step: int, asked: frozenset[int]) -> bool:
        """Whether a join cannot fire for a step below this one: one member that comes late is enough for that.

        What is `asked` already counts as if it were so: the first time that a join fires follows from no other time.
        """
        if index in asked:
            return True
        join, line, asked = self._plan.joins[index], self._line(index), asked | {index}
        complete = len(line.seen) == len(join.members)  # then its target runs next, and it begins anew
        for member in join.members:
            if not complete and member in line.seen:
                late = line.step >= step
            else:  # neither has it run before the step below, nor can it
                late = all(not line.step <= at < step - 1 for at in self._runs.get(member, ()))
                late = late and self._obstacle(step - 1, (self._reach.running(member),), asked) is None
            if late:
                return True
        return False


def _place(ended: tuple[Task, Result]) -> tuple[int, str, int]:
    return ended[0].order
