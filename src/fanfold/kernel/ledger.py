"""The ledger of one run: which tasks may start, and what the state is.

The ledger is told what happened and says what may happen next; it never waits and never calls a node. Its states::

    begin(input)  ─▶  [ ready() ─▶ tasks run somewhere ─▶ finish(task, result) ] ─▶ ... ─▶ over
                        ▲                                        │ the last of a step
                        └──────────── next step ◀── fold ────────┘

Input is folded at step -1; START is the task of step 0; the nodes of the graph begin at step 1. All writes of a step
are folded together when its last task has finished: nodes by name, then the tasks of `Send`s by index, whatever the
order in which they ended. So the state depends on what tasks returned and never on when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fanfold.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from fanfold.kernel.channels import MISSING, ConflictError
from fanfold.kernel.own import own
from fanfold.kernel.plan import Node, Plan, Route
from fanfold.kernel.schema import Schema, updates_of
from fanfold.types import START, Send

Write = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one node. `send` is its place among the step's `Send`s; `after` are the tasks that led to it."""

    id: str
    node: str
    step: int
    send: int | None = None
    arg: Any = MISSING
    after: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, str, int]:
        """Where its writes come among those of its step: nodes by name, then Sends by index."""
        return (0, self.node, 0) if self.send is None else (1, "", self.send)


@dataclass(frozen=True, slots=True)
class Result:
    """What a task decided: the keys it writes, in order, and what its conditional edges trigger."""

    writes: tuple[Write, ...] = ()
    goto: tuple[str | Send, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands after `step`: its `tasks` are those of the next one.

    `values` holds no missing keys; `joins` holds, for each join, the task of every member it has seen.
    """

    step: int
    values: Mapping[str, Any]
    tasks: tuple[Task, ...]
    joins: tuple[Mapping[str, str], ...]


@dataclass(slots=True)
class _Next:
    """What the tasks of one step have triggered for the next."""

    nodes: dict[str, list[str]] = field(default_factory=dict)
    sends: list[tuple[Send, str]] = field(default_factory=list)

    def trigger(self, node: str, by: Iterable[str]) -> None:
        self.nodes.setdefault(node, []).extend(by)


class Ledger:
    """The rules of one run of `plan`. `seed` makes its task ids differ from those of every other run."""

    def __init__(self, plan: Plan, *, seed: str, step_limit: int) -> None:
        self.plan = plan
        self.step = -1
        self._seed = seed
        self._first = 0
        self._step_limit = step_limit
        self._values: dict[str, Any] = {key: channel.initial() for key, channel in plan.channels.items()}
        self._joins: tuple[dict[str, str], ...] = tuple({} for _ in plan.joins)
        self._tasks: dict[str, Task] = {}
        self._fresh: list[Task] = []
        self._results: dict[str, Result] = {}

    # What a driver asks

    @property
    def over(self) -> bool:
        """Whether no task is left to run or to finish."""
        return not self._tasks

    def ready(self) -> list[Task]:
        """The tasks that may start now, in the order to start them. Each task is handed out once.

        Raises `GraphRecursionError` when the run has taken all the steps that it may.
        """
        if self.step - self._first > self._step_limit:
            raise GraphRecursionError(
                f"graph {self.plan.name!r} took {self._step_limit} steps and did not end",
                hint="if the loop is meant to be that long, run it with a larger recursion_limit",
            )
        fresh, self._fresh = self._fresh, []
        return fresh

    def pending(self) -> list[Task]:
        """The tasks of the present step that have no result yet, in the order in which they start."""
        return [task for task in self._tasks.values() if task.id not in self._results]

    def view(self, task: Task) -> Any:
        """The input of a task, its own copy, in the shape that its node declares."""
        if task.arg is not MISSING:
            return own(task.arg)
        return self._shaped(self._node(task).schema, self._values)

    def preview(self, task: Task, writes: Sequence[Write], route: Route) -> Any:
        """The state as a conditional edge of the task's node sees it: with the task's own writes applied."""
        # A reducer may change the value in place, and this is only a look: it gets a value of its own.
        values = {**self._values, **{key: own(self._values[key]) for key, _ in writes if key in self._values}}
        return self._shaped(route.schema, self._folded([(task.node, writes)], values))

    def values(self, schema: Schema | None = None) -> Any:
        """The keys of `schema` (default: the graph's output) that have a value, as a copy; for a root, the value."""
        schema = schema or self.plan.output
        values = {key: own(self._values[key]) for key in schema.channels if self._values[key] is not MISSING}
        return schema.shape(values) if schema.is_root else values

    def snapshot(self) -> Snapshot:
        """Where the run stands; meaningful between steps."""
        values = {key: value for key, value in self._values.items() if value is not MISSING}
        joins = tuple(dict(seen) for seen in self._joins)
        return Snapshot(self.step - 1, values, tuple(self._tasks.values()), joins)

    # What a driver tells

    def begin(self, value: Any) -> None:
        """Fold the input and start at START. Raises `EmptyInputError` when it sets none of the graph's keys."""
        known = [(key, item) for key, item in updates_of(value, self.plan.input) if key in self.plan.input.channels]
        if not known:
            listed = ", ".join(sorted(self.plan.input.channels))
            raise EmptyInputError(
                f"the input {value!r:.100} sets no key of graph {self.plan.name!r}",
                hint=f"its keys are: {listed}",
            )
        self._values = self._folded([("the input", known)], self._values)
        self.step += 1
        self._first = self.step
        self._open([Task(self._id(self.step, START, None), START, self.step)])

    def restore(self, snapshot: Snapshot) -> None:
        """Stand where `snapshot` was taken: its unfinished tasks are ready again.

        Keys and tasks that the plan no longer knows are left out; the caller compares plans beforehand.
        """
        known = {key: value for key, value in snapshot.values.items() if key in self.plan.channels}
        self._values.update(known)
        self._joins = tuple(dict(seen) for seen in snapshot.joins)
        self._first = snapshot.step
        self.step = snapshot.step + 1
        self._open([task for task in snapshot.tasks if task.node in self.plan.nodes])

    def finish(self, task: Task, result: Result) -> bool:
        """Record a task's result; with the last of a step, fold the step. True when a step was folded.

        Raises `InvalidUpdateError` when writes of the step exclude each other; the state stays as before the step.
        """
        self._results[task.id] = result
        if len(self._results) < len(self._tasks):
            return False
        self._advance()
        return True

    # Between steps

    def _advance(self) -> None:
        done = sorted(self._tasks.values(), key=lambda task: task.order)
        self._values = self._folded([(task.node, self._results[task.id].writes) for task in done], self._values)
        following = _Next()
        for task in done:
            self._follow(task, self._results[task.id], following)
        self._fire_joins(following)
        self.step += 1
        self._results = {}
        self._tasks = {}
        self._open(self._made(following))

    def _follow(self, task: Task, result: Result, following: _Next) -> None:
        node = self._node(task)
        for target in node.targets:
            following.trigger(target, [task.id])
        for index in node.joins:
            self._joins[index][task.node] = task.id
        for goal in result.goto:
            if isinstance(goal, Send):
                following.sends.append((goal, task.id))
            else:
                following.trigger(goal, [task.id])

    def _fire_joins(self, following: _Next) -> None:
        for join, seen in zip(self.plan.joins, self._joins, strict=True):
            if len(seen) == len(join.members):
                following.trigger(join.target, seen.values())
                seen.clear()

    def _made(self, following: _Next) -> list[Task]:
        step = self.step
        sends = [
            Task(self._id(step, send.node, index), send.node, step, index, send.arg, (by,))
            for index, (send, by) in enumerate(following.sends)
        ]
        named = sorted(following.nodes, key=lambda name: self.plan.nodes[name].order)
        return sends + [
            Task(self._id(step, name, None), name, step, after=tuple(dict.fromkeys(following.nodes[name])))
            for name in named
        ]

    def _open(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._fresh = list(tasks)

    def _folded(self, batches: Sequence[tuple[str, Sequence[Write]]], values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with all writes of `batches` folded in; the mapping itself stays as it is."""
        updates: dict[str, list[Any]] = {}
        for _, writes in batches:
            for key, value in writes:
                if key in values:
                    updates.setdefault(key, []).append(value)
        folded = dict(values)
        for key, batch in updates.items():
            try:
                folded[key] = self.plan.channels[key].fold(folded[key], batch)
            except ConflictError as conflict:
                raise InvalidUpdateError(f"{_writers(key, batches)} wrote key {key!r}, which {conflict}") from None
            except Exception as error:
                error.add_note(f"while folding what {_writers(key, batches)} wrote into key {key!r}")
                raise
        return folded

    def _shaped(self, schema: Schema, values: Mapping[str, Any]) -> Any:
        return schema.shape({key: own(values[key]) for key in schema.channels if values[key] is not MISSING})

    def _node(self, task: Task) -> Node:
        return self.plan.nodes[task.node]

    def _id(self, step: int, node: str, send: int | None) -> str:
        path = f"{self._seed}|{step}|{node}|{'' if send is None else send}"
        return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _writers(key: str, batches: Sequence[tuple[str, Sequence[Write]]]) -> str:
    names = [name for name, writes in batches if any(written == key for written, _ in writes)]
    listed = " and ".join(repr(name) for name in dict.fromkeys(names))
    return f"nodes {listed}" if len(names) > 1 else f"node {listed}"
