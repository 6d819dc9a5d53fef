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
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import field, replace
from typing import Any, Final, Literal, TypeAlias

from fanfold.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from fanfold.facts import fact
from fanfold.kernel.ahead import Ahead
from fanfold.kernel.channels import MISSING, ConflictError
from fanfold.kernel.own import own
from fanfold.kernel.plan import Action, Plan, Route
from fanfold.kernel.schema import Schema, updates_of
from fanfold.types import START, Send, TimeoutPolicy

Write = tuple[str, Any]

Schedule: TypeAlias = Literal["watermark", "superstep"]
"""When a task may start: as soon as all that it sees is decided, or when the step below it has ended."""


@fact
class Task:
    """One run of one node. `send` is its place among the step's `Send`s; `after` are the tasks that led to it."""

    id: str
    node: str
    step: int
    send: int | None = None
    arg: Any = MISSING
    after: tuple[str, ...] = ()
    timeout: TimeoutPolicy | None = None

    @property
    def order(self) -> tuple[int, str, int]:
        """Where its writes come among those of its step: nodes by name, then Sends by index."""
        return (0, self.node, 0) if self.send is None else (1, "", self.send)

    @property
    def triggers(self) -> tuple[str, ...]:
        """What let it start, as LangGraph's users see it: a Send or a call, the input of the run, or an edge."""
        if self.send is not None:
            return ("__pregel_push",)
        return (f"branch:to:{self.node}",) if self.arg is MISSING else (START,)


@fact
class Result:
    """What a task decided: the keys it writes, in order, and what its conditional edges trigger.

    `handled` names the error handler that decided it in place of the node. Then the node's edges do not count.
    """

    writes: tuple[Write, ...] = ()
    goto: tuple[str | Send, ...] = ()
    handled: str = ""


@fact
class Snapshot:
    """Where a run stands after `step`: its `tasks` are those of the next one.

    `values` holds no missing keys; `joins` holds, for each join, the task of every member it has seen; `deferred` the
    nodes that wait for the end, with the tasks that led to them; `ran` are the nodes of the step.
    """

    step: int
    values: Mapping[str, Any]
    tasks: tuple[Task, ...]
    joins: tuple[Mapping[str, str], ...]
    deferred: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ran: tuple[str, ...] = ()


class _Next:
    """What the tasks of one step have triggered for the next."""

    __slots__ = ("nodes", "sends")

    def __init__(self) -> None:
        self.nodes: dict[str, list[str]] = {}
        self.sends: list[tuple[Send, str]] = []

    def trigger(self, node: str, *by: str) -> None:
        """A node is to run; `by` are the tasks that say so."""
        if node in self.nodes:
            self.nodes[node] += by
        else:
            self.nodes[node] = [*by]


class Ledger:
    """The rules of one run of `plan`. `seed` makes its task ids differ from those of every other run.

    Before a node in `pause_before` and after one in `pause_after` ("*" is any) the run stands still until `proceed`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        seed: str,
        step_limit: int,
        pause_before: Collection[str] = (),
        pause_after: Collection[str] = (),
        schedule: Schedule = "watermark",
    ) -> None:
        self.plan = plan
        self.step = -1
        self.paused = False
        self.ran: tuple[str, ...] = ()
        self._seed = seed
        self._first = 0
        self._step_limit = step_limit
        self._pause_before = pause_before
        self._pause_after = pause_after
        self._values: dict[str, Any] = {key: channel.initial() for key, channel in plan.channels.items()}
        self._joins: tuple[dict[str, str], ...] = tuple({} for _ in plan.joins)
        self._deferred: dict[str, list[str]] = {}
        self._tasks: dict[str, Task] = {}
        self._fresh: list[Task] = []
        self._written: set[str] = set()
        self._results: dict[str, Result] = {}
        self._unsettled: dict[str, Result] = {}
        self._defers = any(node.defer for node in plan.nodes.values())
        self._lapsing = [key for key, channel in plan.channels.items() if channel.lapse(_PROBE) is not _PROBE]
        self._replaying = {key for key, channel in plan.channels.items() if channel.replays}
        self._early: Mapping[str, Result] = {}
        self._absorbed = 0
        self._changed = False  # what has run ahead of such a change may have seen other values
        watched = schedule == "watermark" and plan.reach is not None and not (pause_before or pause_after)
        self._reach = plan.reach if watched else None
        self._ahead: Ahead | None = None

    # What a driver asks

    @property
    def over(self) -> bool:
        """Whether no task is left to run or to finish."""
        return not self._tasks

    @property
    def lapses(self) -> bool:
        """Whether there are keys whose values are gone after a step that does not write them."""
        return bool(self._lapsing)

    @property
    def written(self) -> Set[str]:
        """The keys that the last step has written."""
        return self._written

    def writing(self) -> Set[str]:
        """The keys that what has ended of the present step writes."""
        return {key for result in self._results.values() for key, _ in result.writes}

    def ahead_since(self) -> int | None:
        """The earliest step, of those that were present, at which a task of a later one was handed out that is not of
        the past; None without one."""
        return None if self._ahead is None else self._ahead.since()

    def ready(self) -> list[Task]:
        """The tasks that may start now, in the order to start them, some of later steps. Each is handed out once.

        Raises `GraphRecursionError` when the run has taken all the steps that it may.
        """
        if self.paused or (self._tasks and not self._fresh and self._ahead is None):
            return []
        if self.step - self._first > self._step_limit:
            raise GraphRecursionError(
                f"graph {self.plan.name!r} took {self._step_limit} steps and did not end",
                hint="if the loop is meant to be that long, run it with a larger recursion_limit",
            )
        fresh, self._fresh = self._fresh, []
        if self._ahead is None:
            return sorted(fresh, key=turn) if len(fresh) > 1 else fresh
        present = sorted((task for task in fresh if not self._ahead.begun(task)), key=turn)
        further = [] if self._changed else self._ahead.ready()
        return present + sorted(further, key=lambda task: (task.step, turn(task)))

    @property
    def looks_ahead(self) -> bool:
        """Whether a task may be ready as soon as any other has ended, and not only when a step has."""
        return self._ahead is not None

    @property
    def fresh(self) -> bool:
        """Whether nothing has ended in the present step since it was opened."""
        return len(self._results) == self._absorbed

    def keep_to_steps(self) -> None:
        """From now on hand out no task before the step below it has ended."""
        self._reach = self._ahead = None

    def pending(self) -> list[Task]:
        """The tasks of the present step that have no result yet, those of Sends first, then as nodes were defined."""
        return [task for task in self._tasks.values() if task.id not in self._results]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks of the present step, those of Sends first, then as nodes were defined."""
        return tuple(self._tasks.values())

    def result(self, task: Task) -> Result | None:
        """What a task of the present step has returned, if it has."""
        return self._results.get(task.id)

    def view(self, task: Task, schema: Schema | None = None, *, look: bool = False) -> Any:
        """The input of a task, its own copy, in the shape that its node (or `schema`) declares.

        For who only has a `look` and changes nothing, it is no copy.
        """
        if task.arg is not MISSING:
            return task.arg if look else own(task.arg)
        schema = schema or self._action(task).schema
        return self._shaped(schema, self._values_at(task.step, schema), task.step, look=look)

    def preview(self, task: Task, writes: Sequence[Write], route: Route) -> Any:
        """The state as a conditional edge of the task's node sees it: with the task's own writes applied."""
        schema, channels = route.path.schema, self.plan.channels
        before = self._values_at(task.step, schema)
        values = {key: before[key] for key in schema.channels}
        for key, _ in writes:  # a reducer may change the value in place, and this is a preview: it gets one of its own
            if key in values and not channels[key].replays:
                values[key] = own(values[key])
        folded = self._folded([(task.node, writes)], values)
        return self._shaped(schema, folded, task.step, look=route.path.only_looks)

    def values(self, schema: Schema | None = None) -> Any:
        """The keys of `schema` (default: the graph's output) that have a value, as a copy; for a root, the value."""
        schema = schema or self.plan.output
        values = self._read(schema, self._values)
        return values if schema.single is None else schema.shape(values)

    def chosen(self, keys: str | Collection[str]) -> Any:
        """The values of these keys, as a copy: a dictionary of those that have one; of a key by itself its value."""
        return self._chosen(keys, self._values)

    def provisional(self, keys: str | Collection[str]) -> Any:
        """The same, if the step ended with what has been returned so far; nothing is folded for good."""
        return self._chosen(keys, self._so_far({**self._unsettled, **self._results}))

    def waiting_joins(self) -> list[tuple[str, list[str]]]:
        """The joins of which some members have run and others have not: each one's target, and who is missing."""
        pairs = zip(self.plan.joins, self._joins, strict=True)
        return [
            (join.target, sorted(join.members - seen.keys()))
            for join, seen in pairs
            if 0 < len(seen) < len(join.members)
        ]

    def snapshot(self) -> Snapshot:
        """Where the run stands; meaningful between steps."""
        channels = self.plan.channels
        values = {key: v for key, v in self._values.items() if v is not MISSING and channels[key].tracked}
        joins = tuple(dict(seen) for seen in self._joins)
        deferred = {name: tuple(by) for name, by in self._deferred.items()}
        tasks = tuple(
            task if task.send is None else replace(task, arg=self.plan.kept(task.arg)) for task in self._tasks.values()
        )
        return Snapshot(self.step - 1, values, tasks, joins, deferred, self.ran)

    # What a driver tells

    def begin(self, value: Any) -> None:
        """Take an input: START will write it, in the step that is next. Tasks that had not finished are dropped.

        An empty input is an input, too, be it a dictionary or a model that sets nothing. Raises `EmptyInputError` for
        None, and for one that only sets what the graph has no keys for.
        """
        if value is None or (updates_of(value, self.plan.input) and not self.input_writes(value)):
            listed = ", ".join(sorted(self.plan.input.channels))
            raise EmptyInputError(
                f"the input {value!r:.100} sets no key of graph {self.plan.name!r}",
                hint=f"its keys are: {listed}",
            )
        dropped = tuple(dict.fromkeys(task.node for task in self._tasks.values() if task.send is None))
        self._empty_joins(dropped)
        self.ran = dropped or self.ran  # until START has run, these were the last whose turn it was
        self._written = set()
        self.step += 1
        self._first = self.step
        self._deferred = {}
        entry = START if START in self.plan.nodes else next(iter(self.plan.nodes))  # an entrypoint has no START
        self._open([Task(self._id(self.step, entry, None), entry, self.step, arg=self._taken(value))])
        self.paused = _hit([entry], self._pause_before) and entry != START

    def settled(self, result: Result) -> Result:
        """A result as it is to be stored and folded; what a node changes in it afterwards is no part of it."""
        channels = self.plan.channels
        writes = tuple([(key, channels[key].settle(own(value))) for key, value in result.writes])
        goto = result.goto
        if goto:
            goto = tuple([replace(goal, arg=own(goal.arg)) if isinstance(goal, Send) else goal for goal in goto])
        return Result(writes, goto, result.handled)

    def _taken(self, value: Any) -> Any:
        """The input as START holds it: what it sets, settled."""
        if START not in self.plan.nodes:
            return value
        writes = dict(self.settled(Result(self.input_writes(value))).writes)
        single = self.plan.input.single
        if single is not None:
            return writes.get(single, value)
        seen = value if self.plan.nodes[START].routes and isinstance(value, Mapping) else {}
        return {**seen, **writes}  # the paths from START see all of an input, as those of a node see all it returned

    def add(self, goals: Sequence[str | Send]) -> None:
        """Put tasks for `goals` beside those that wait."""
        if not goals:
            return
        following = _Next()
        for goal in goals:
            if isinstance(goal, Send):
                following.sends.append((goal, ""))
            else:
                following.trigger(goal)
        known = [task for task in self._tasks.values() if task.node not in following.nodes or task.send is not None]
        self._open([*known, *self._made(following, beside=known)])

    def note(self, task: Task, result: Result) -> None:
        """Remember a task's result without taking the step, for `provisional` and `clear`."""
        self._results[task.id] = result

    def foresee(self, task: Task, writes: tuple[Write, ...]) -> None:
        """Show in `provisional` what a task has written that is not at its end: a path after its node asks a person."""
        self._unsettled[task.id] = Result(writes)

    def input_writes(self, value: Any) -> tuple[Write, ...]:
        """What START writes for an input: the keys of the input's schema that it sets."""
        return tuple((key, item) for key, item in updates_of(value, self.plan.input) if key in self.plan.input.channels)

    def restore(self, snapshot: Snapshot) -> None:
        """Stand where `snapshot` was taken: its unfinished tasks are ready again.

        Keys and tasks that the plan no longer knows are left out; the caller compares plans beforehand.
        """
        known = {key: value for key, value in snapshot.values.items() if key in self.plan.channels}
        self._values.update(known)
        if len(snapshot.joins) == len(self._joins):
            self._joins = tuple(dict(seen) for seen in snapshot.joins)
        self._deferred = {name: list(by) for name, by in snapshot.deferred.items() if name in self.plan.nodes}
        self._first = snapshot.step
        self.step = snapshot.step + 1
        self.ran = snapshot.ran
        self._open([task for task in snapshot.tasks if task.node in self.plan.nodes])

    def proceed(self) -> None:
        """Go on after a pause."""
        self.paused = False

    def finish(self, task: Task, result: Result) -> bool:
        """Record a task's result, and fold the step when it was the last: whether it did.

        With tasks that ran ahead, that may have been the last of later steps, too: `fold` folds those.
        """
        if self._ahead is not None:
            self._ahead.ended(task, result)
        if task.step == self.step:
            self._results[task.id] = result
        return self.fold()

    def fold(self) -> bool:
        """Fold the present step, if all of its tasks have ended: whether they had.

        Raises `InvalidUpdateError` when writes of the step exclude each other; the state stays as before the step.
        """
        if self._early:
            self._results.update(self._early)
            self._absorbed, self._early = len(self._early), {}
        if not self._tasks or len(self._results) < len(self._tasks):
            return False
        results = self._results
        done = [(task, results[id]) for id, task in self._tasks.items()]
        self._advance(sorted(done, key=_place) if len(done) > 1 else done)
        return True

    def refold(self, ended: Sequence[tuple[Task, Result]], given: Mapping[str, Any]) -> None:
        """Fold a step that was folded before, where `given` are the values that cannot be had by folding again."""
        replaying = self._replaying
        written = {key for _, result in ended for key, _ in result.writes} if self._lapsing else ()
        batches = [
            (task.node, [write for write in result.writes if write[0] in replaying])
            for task, result in (sorted(ended, key=_place) if len(ended) > 1 else ended)
        ]
        self._values = {**self._folded(batches, self._lapsed(written)), **given}

    def changed(self) -> dict[str, Any]:
        """The values that the last step has changed and that cannot be had by folding its results again."""
        channels = self.plan.channels
        keys = (key for key in self._written if not channels[key].replays and channels[key].tracked)
        return {key: self._values[key] for key in keys}

    def amend(self, updates: Sequence[tuple[Task, Result]]) -> None:
        """Take a step in which just these tasks have run, in this order; what they lead to is ready next.

        What was waiting is dropped. `ran` stays: nothing has run.
        """
        ran = self.ran
        self._advance(updates)
        self.ran = ran

    def change(self, change: Result) -> None:
        """Fold what a Command from outside writes into the state, and put its goals beside the tasks that wait."""
        self._values = self._folded([("the Command", change.writes)], self._values)
        self.add(change.goto)
        self._changed = self._changed or change != Result()

    def clear(self) -> None:
        """Drop every task that waits; the run is over, with what those that had ended have written."""
        self._values = self._so_far(self._results)
        self._deferred = {}
        self.step += 1
        self._open([])

    def skip(self) -> None:
        """Count a step in which nothing ran; the tasks stay the same, under the ids of that step."""
        self.step += 1
        self._open([replace(t, id=self._id(self.step, t.node, t.send), step=self.step) for t in self._tasks.values()])

    def named(self, node: str) -> Task:
        """A task of `node` in the present step that nothing has led to, for `amend`."""
        return Task(self._id(self.step, node, None), node, self.step)

    # Between steps

    def _advance(self, done: Sequence[tuple[Task, Result]]) -> None:
        batches = [(task.node, result.writes) for task, result in done]
        values = self._lapsed({key for _, writes in batches for key, _ in writes}) if self._lapsing else self._values
        known = {} if self._ahead is None else self._ahead.folded(self.step + 1)
        if known:
            left = [(name, [write for write in writes if write[0] not in known]) for name, writes in batches]
            self._values = {**self._folded(left, values), **known}
        else:
            self._values = self._folded(batches, values)
        self._written = {key for _, writes in batches for key, _ in writes if key in values}
        following = _Next()
        if self._joins:
            self._empty_joins({task.node for task, _ in done if task.send is None})
        for task, result in done:
            self._follow(task, result, following)
        if self._joins:
            self._fire_joins(following)
        self.step += 1
        self.ran = tuple({task.node: None for task, _ in done})
        tasks = self._made(following)
        self._open(tasks, on=True)
        self.paused = self._pauses(tasks)

    def _pauses(self, tasks: Sequence[Task]) -> bool:
        if not (self._pause_after or self._pause_before):
            return False
        after = (name for name in self.ran if name != START)
        return _hit(after, self._pause_after) or _hit((task.node for task in tasks), self._pause_before)

    def _follow(self, task: Task, result: Result, following: _Next) -> None:
        if not result.handled:
            node = self.plan.nodes[task.node]
            for target in node.targets:
                following.trigger(target, task.id)
            for index in node.joins:
                self._joins[index][task.node] = task.id
        for goal in result.goto:
            if isinstance(goal, Send):
                following.sends.append((goal, task.id))
            else:
                following.trigger(goal, task.id)

    def _empty_joins(self, ran: Collection[str]) -> None:
        """A join that was complete has done its work once its target has run; until then it stays complete."""
        for join, seen in zip(self.plan.joins, self._joins, strict=True):
            if join.target in ran and len(seen) == len(join.members):
                seen.clear()

    def _fire_joins(self, following: _Next) -> None:
        for join, seen in zip(self.plan.joins, self._joins, strict=True):
            if len(seen) == len(join.members):
                following.trigger(join.target, *seen.values())

    def _made(self, following: _Next, beside: Sequence[Task] = ()) -> list[Task]:
        """The tasks that come `beside` others; when there would be none at all, those that were deferred until then."""
        nodes = self.plan.nodes
        if self._defers:
            for name in [name for name in following.nodes if nodes[name].defer]:
                self._deferred[name] = _distinct([*self._deferred.get(name, ()), *following.nodes.pop(name)])
            if not (following.nodes or following.sends or beside):
                following.nodes, self._deferred = self._deferred, {}
        made = []
        if following.sends:
            first = sum([task.send is not None for task in beside])
            for index, (goal, by) in enumerate(following.sends, first):
                made.append(self.made(goal.node, self.step, send=index, goal=goal, after=(by,)))
        named = following.nodes
        for name in sorted(named, key=lambda name: nodes[name].order) if len(named) > 1 else named:
            made.append(self.made(name, self.step, after=tuple(_distinct(named[name]))))
        return made

    def _open(self, tasks: Sequence[Task], *, on: bool = False) -> None:
        """Stand at a step with these tasks; what was known of later ones counts only when the run goes `on`."""
        self._tasks = {task.id: task for task in tasks}
        self._fresh = list(tasks)
        self._results = {}
        self._absorbed = 0
        self._unsettled = {}
        self._changed = self._changed and not on
        if self._reach is not None:
            if self._ahead is None or not on:
                self._ahead = Ahead(self, self._reach)
            self._early = self._ahead.known(self.step)
            self._ahead.opened(tasks, self._deferred)

    # What looking ahead asks

    def made(self, node: str, step: int, *, send: int | None = None, goal: Send | None = None, after: Any = ()) -> Task:
        """The task of a node in a step; that of a Send is given what the Send says."""
        id = self._id(step, node, send)
        if goal is None:
            return Task(id, node, step, after=after)
        return Task(id, node, step, send, goal.arg, after, goal.timeout)

    def seen(self, join: int) -> Mapping[str, str]:
        """The members that a join has seen, with their tasks, as the present step begins."""
        return self._joins[join]

    def value(self, key: str) -> Any:
        """The value of a key as the present step begins; not a copy."""
        return self._values[key]

    def allows(self, step: int) -> bool:
        """Whether the run may take so many steps."""
        return step - self._first <= self._step_limit

    def next_value(self, key: str, before: Any, ended: Sequence[tuple[Task, Result]]) -> Any:
        """The value of a key after a step in which these tasks have ended and no others write it; `before` stays."""
        batches = [(task.node, [write for write in result.writes if write[0] == key]) for task, result in ended]
        if not any(writes for _, writes in batches):
            return self.plan.channels[key].lapse(before)
        return self._folded(batches, {key: own(before)})[key]

    def _values_at(self, step: int, schema: Schema) -> Mapping[str, Any]:
        """The values as a step begins, those of the schema at the least."""
        if self._ahead is None or step <= self.step:
            return self._values
        return self._ahead.values(schema.channels, step)

    def _lapsed(self, keys: Collection[str]) -> Mapping[str, Any]:
        """The values without those that are gone unless the step writes these keys."""
        if not self._lapsing:
            return self._values
        gone = {key: self.plan.channels[key].lapse(self._values[key]) for key in self._lapsing if key not in keys}
        return {**self._values, **gone} if gone else self._values

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

    def _shaped(self, schema: Schema, values: Mapping[str, Any], step: int, *, look: bool = False) -> Any:
        seen = self._read(schema, values, look=look)
        for key, managed in schema.managed.items() if schema.managed else ():
            left = self._step_limit - (step - self._first)
            seen[key] = left if managed.name == "remaining_steps" else left <= 1
        return schema.shape(seen)

    def _read(self, schema: Schema, values: Mapping[str, Any], *, look: bool = False) -> dict[str, Any]:
        channels, seen = self.plan.channels, {}
        for key in schema.channels:
            value = channels[key].read(values[key])
            if value is not MISSING:
                seen[key] = value if look else own(value)
        return seen

    def _so_far(self, results: Mapping[str, Result]) -> dict[str, Any]:
        """The values with all that tasks of the present step have returned; the ledger's own stay as they are."""
        done = sorted(((t, results[t.id]) for t in self._tasks.values() if t.id in results), key=_place)
        batches = [(task.node, result.writes) for task, result in done]
        touched = {key for _, writes in batches for key, _ in writes if key in self._values}
        return self._folded(batches, {**self._values, **{key: own(self._values[key]) for key in touched}})

    def _chosen(self, keys: str | Collection[str], values: Mapping[str, Any]) -> Any:
        channels = self.plan.channels
        named = [keys] if isinstance(keys, str) else keys
        seen = {key: value for key in named if (value := channels[key].read(values[key])) is not MISSING}
        return own(seen.get(keys) if isinstance(keys, str) else seen)

    def _action(self, task: Task) -> Action:
        action = self.plan.nodes[task.node].action
        assert action is not None, "only START has no action, and nobody asks for its input"
        return action

    def _id(self, step: int, node: str, send: int | None) -> str:
        path = f"{self._seed}|{step}|{node}|{'' if send is None else send}"
        try:
            path_bytes = path.encode()
        except UnicodeEncodeError:
            path_bytes = path.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(path_bytes, digest_size=16).hexdigest()


_PROBE: Final = object()


def turn(task: Task) -> tuple[int, str, int]:
    """When a task starts among those of its step: Sends by index, then nodes by name."""
    return (1, task.node, 0) if task.send is None else (0, "", task.send)


def _place(ended: tuple[Task, Result]) -> tuple[int, str, int]:
    return ended[0].order


def _distinct(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids)) if len(ids) > 1 else ids


def _hit(names: Iterable[str], wanted: Collection[str]) -> bool:
    return any(name in wanted or "*" in wanted for name in names) if wanted else False


def _writers(key: str, batches: Sequence[tuple[str, Sequence[Write]]]) -> str:
    names = [name for name, writes in batches if any(written == key for written, _ in writes)]
    listed = " and ".join(repr(name) for name in dict.fromkeys(names))
    return f"nodes {listed}" if len(names) > 1 else f"node {listed}"
