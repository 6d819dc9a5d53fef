"""Super-steps as plainly as they can be written: dictionaries, a loop, and nothing of the ledger's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fanfold.types import END, START, Overwrite
from tests.laws.drawings import KEYS, LEFT, Drawing, answered, mended, mixed, picky, worked


class InvalidUpdateError(Exception):
    """Writes of one step exclude each other; the name is the one by which it is known."""


Place = tuple[int, str, int | None]
"""A task: its step, its node, and for one that was sent its place among the Sends of the step."""

FAILURES = (LookupError, ArithmeticError, InvalidUpdateError)
"""What nodes raise here, and the state, when writes exclude each other."""

CROWD = 120
"""As many tasks as a run may have to be worth a look."""


@dataclass(frozen=True)
class Stand:
    """Where a run stands after a step. `tasks` are those of the next one, Sends first, then as nodes were defined."""

    step: int
    values: Mapping[str, Any]
    tasks: tuple[tuple[str, int | None, Any], ...]
    joins: tuple[frozenset[str], ...]
    late: frozenset[str]
    ran: tuple[str, ...]


@dataclass
class Walk:
    """What happened: what each task saw; where the run stood after each step; how it ended, in which step."""

    seen: dict[Place, Any] = field(default_factory=dict)
    stands: list[Stand] = field(default_factory=list)
    ending: str = "done"
    step: int = 0
    state: dict[str, Any] = field(default_factory=lambda: {"mix": 0, "trail": (), "picky": 0})


@dataclass(frozen=True)
class _Active:
    """A task of the present step; one that was sent has an argument."""

    node: str
    send: int | None = None
    arg: Any = None


@dataclass
class _Did:
    """What a task decided."""

    task: _Active
    update: dict[str, Any]
    goals: list[Any] = field(default_factory=list)
    handled: bool = False


class Walker:
    """Walks through a drawing, step by step."""

    def __init__(self, drawing: Drawing, limit: int) -> None:
        self.drawing = drawing
        self.spots = {spot.name: spot for spot in drawing.spots}
        self.limit = limit
        self.walk = Walk()
        self.joined: list[set[str]] = [set() for _ in drawing.joins]
        self.late: set[str] = set()

    def go(self, value: Mapping[str, Any]) -> Walk:
        """The walk from an input. It is given up, as a crowd, when too many tasks come of it."""
        walk, active = self.walk, [_Active(START, arg=dict(value))]
        while active and walk.step <= self.limit:
            try:
                done = self.ran(active)
                state = put(walk.state, [did.update for did in done])
            except FAILURES as error:
                walk.ending = type(error).__name__
                return walk
            active = self.following(done)
            walk.state = state
            walk.stands.append(self.stand(active, done))
            walk.step += 1
            if len(walk.seen) + len(active) > CROWD:
                walk.ending = "crowd"
                return walk
        if walk.step > self.limit:  # also when nothing is left: a graph of n steps needs a limit of n + 1
            walk.ending = "GraphRecursionError"
        return walk

    def ran(self, active: Sequence[_Active]) -> list[_Did]:
        """What the tasks of a step decide, in the order of writing. Raises the first error, when all have had a go."""
        done, errors = [], []
        for task in active:
            try:
                done.append(self.did(task))
            except FAILURES as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return done

    def did(self, task: _Active) -> _Did:
        """What one task decides."""
        place = (self.walk.step, task.node, task.send)
        spot = self.spots.get(task.node)
        if spot is None:
            self.walk.seen[place] = task.arg
            return _Did(task, task.arg, self.routed(task, task.arg))
        seen = self.visible(self.walk.state, spot.reads) if task.arg is None else task.arg
        self.walk.seen[place] = seen
        try:
            update, goals = worked(spot, seen)
            return _Did(task, update, [*goals, *self.routed(task, update)])
        except FAILURES:
            if not spot.handled:
                raise
            return _Did(task, *mended(spot, seen), handled=True)

    def visible(self, state: Mapping[str, Any], reads: Iterable[str] | None) -> dict[str, Any]:
        """What who reads these keys sees of a state."""
        known = {**state, LEFT: self.limit - self.walk.step} if self.drawing.counted else state
        return {key: known[key] for key in (known if reads is None else reads) if key in known}

    def routed(self, task: _Active, update: Mapping[str, Any]) -> list[Any]:
        """What the conditional edges of a node answer. They see its own writes put in, and nothing has lapsed yet."""
        spot = self.spots.get(task.node)
        goals = []
        for index, (source, way) in enumerate(self.drawing.ways):
            if source == task.node:
                reads = way.reads if way.reads is not None or spot is None else spot.reads
                own = {key: value for key, value in update.items() if reads is None or key in reads}
                looked = put(self.walk.state, [own], lapsing=False)
                goals += answered(source, index, way, self.visible(looked, reads))
        return goals

    def following(self, done: Sequence[_Did]) -> list[_Active]:
        """The tasks of the next step, in the order of writing: named ones once, then as many as were sent."""
        ran = {did.task.node for did in done if did.task.send is None}
        for (members, target), seen in zip(self.drawing.joins, self.joined, strict=True):
            if target in ran and seen == set(members):
                seen.clear()
        named: set[str] = set()
        sent: list[_Active] = []
        for did in done:
            if not did.handled:
                named |= {end for start, end in self.drawing.edges if start == did.task.node}
                for (members, _), seen in zip(self.drawing.joins, self.joined, strict=True):
                    seen |= {did.task.node} & set(members)
            for goal in did.goals:
                if isinstance(goal, tuple):
                    sent.append(_Active(goal[0], len(sent), goal[1]))
                else:
                    named.add(goal)
        for (members, target), seen in zip(self.drawing.joins, self.joined, strict=True):
            if seen == set(members):
                named.add(target)
        return [*map(_Active, sorted(self.held_back(named - {END}, some=bool(sent)))), *sent]

    def held_back(self, named: set[str], *, some: bool) -> set[str]:
        """The nodes without those that wait for the end; or, if that has come, just those."""
        late = {name for name in named if self.spots[name].late}
        self.late |= late
        if named - late or some:
            return named - late
        late, self.late = self.late, set()
        return late

    def stand(self, active: Sequence[_Active], done: Sequence[_Did]) -> Stand:
        """Where the run stands, with the tasks that come next."""
        order = {name: place for place, name in enumerate(self.spots)}
        tasks = sorted(
            active, key=lambda task: (task.send is None, task.send if task.send is not None else order[task.node])
        )
        return Stand(
            self.walk.step,
            {key: value for key, value in self.walk.state.items() if key != "loose"},
            tuple((task.node, task.send, task.arg) for task in tasks),
            tuple(map(frozenset, self.joined)),
            frozenset(self.late),
            tuple(dict.fromkeys(did.task.node for did in done)),
        )


def walk(drawing: Drawing, value: Mapping[str, Any], limit: int) -> Walk:
    """Run the drawing from an input; it has to end in less than `limit` steps."""
    return Walker(drawing, limit).go(value)


# The state


def put(state: Mapping[str, Any], updates: Sequence[Mapping[str, Any]], *, lapsing: bool = True) -> dict[str, Any]:
    """The state with the updates of one step put in, one after the other."""
    given: dict[str, list[Any]] = {}
    for update in updates:
        for key, value in update.items():
            given.setdefault(key, []).append(value)
    gone = {"spark", "flash", "notes"} if lapsing else set()
    result = {key: value for key, value in state.items() if key not in gone}
    for key, values in given.items():
        result[key] = _folded(key, result.get(key), values)
    return {key: result[key] for key in KEYS if key in result}


def _folded(key: str, value: Any, updates: Sequence[Any]) -> Any:
    if key in ("last", "flash") and len(updates) > 1:
        raise InvalidUpdateError(key)
    if key == "notes":
        return [note for update in updates for note in (update if isinstance(update, list) else [update])]
    if key in ("mix", "picky"):
        return _reduced(mixed if key == "mix" else picky, value, updates)
    return sum(updates, value) if key == "trail" else updates[-1]


def _reduced(reducer: Any, value: int, updates: Sequence[Any]) -> int:
    resets = [update.value for update in updates if isinstance(update, Overwrite)]
    if len(resets) > 1:
        raise InvalidUpdateError(str(resets))
    if resets:
        return int(resets[0])
    for update in updates:
        value = reducer(value, update)
    return value
