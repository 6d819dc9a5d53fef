"""A sitting: one call of a graph, from where its thread stands to what came of it.

A call from outside claims the thread, finds where it stands, takes the input, drives the ledger, and closes the record.
A call from inside a node joins the run of that node, and is in `inner`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import warnings
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from fanfold.cells import cell
from fanfold.claiming import claimed, standing_still
from fanfold.context import configurable
from fanfold.errors import (
    EmptyInputError,
    InvalidUpdateError,
    ParentCommand,
    StateError,
    StrayCommandError,
    UsageError,
    did_you_mean,
)
from fanfold.events import (
    ClockJumped,
    Event,
    LimitReported,
    Log,
    Noticed,
    RunFinished,
    RunStarted,
    events_of,
    from_record,
)
from fanfold.family import Family, WaitingJoinWarning, brief, emitter
from fanfold.frame import ANY, clock
from fanfold.journal import GIVEN, Kept, Position, Reader, Record, Unkept
from fanfold.kernel.ledger import Ledger, Result
from fanfold.kernel.plan import Plan
from fanfold.kernel.schema import commanded
from fanfold.limits import Governor, Limits, Report, Shared, Slots, spent
from fanfold.run import Runner
from fanfold.store.base import CANCELLED, DONE, FAILED, PAUSED, RUNNING, Lease, OnBusy, RunRecord, Store
from fanfold.stream import Streams
from fanfold.types import INTERRUPT, Command, Durability, RunControl
from fanfold.watchdog import WATCHDOG

if TYPE_CHECKING:
    from fanfold.graph import CompiledGraph

OnChange: TypeAlias = Literal["continue", "fail", "fork"]
"""What to do when a thread was last run by a graph of another shape: go on with it, where its nodes are still there;
raise `StateError`; or leave it as it is, and go on in a copy of it that is named after it and the new shape."""

DEFAULT_RECURSION_LIMIT: Final = 10_007


class RunOutput(dict[str, Any]):
    """The last values of a run: a plain dictionary that also knows the run it came from."""

    run: FinishedRun
    plain_in_state = True

    def __init__(self, values: Mapping[str, Any], run: FinishedRun) -> None:
        super().__init__(values)
        self.run = run

    def _repr_html_(self) -> str:
        """What a notebook shows of it: the receipt, the tasks on a line of time, and the values."""
        from fanfold.receipt import receipt  # most runs are shown to nobody

        told = receipt(self.run.events)
        return cell(told.lines(), told.rows(), told.wall, self)


class FinishedRun:
    """A sitting that has ended: who it was, and everything that happened in it."""

    __slots__ = ("_told", "run_id", "thread_id")

    def __init__(self, run_id: str, thread_id: str, told: Log) -> None:
        self.run_id = run_id
        self.thread_id = thread_id
        self._told: Any = [*told]  # until somebody asks, then a tuple of events

    def __repr__(self) -> str:
        return f"FinishedRun(run_id={self.run_id!r}, thread_id={self.thread_id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FinishedRun):
            return NotImplemented
        mine, others = (self.run_id, self.thread_id), (other.run_id, other.thread_id)
        return mine == others and self.events == other.events

    def __hash__(self) -> int:
        return hash((self.run_id, self.thread_id))

    @property
    def events(self) -> Sequence[Event]:
        """What happened, in order."""
        if type(self._told) is list:
            self._told = tuple(events_of(self._told))
        told: tuple[Event, ...] = self._told
        return told


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one sitting is to run. Everything has a default; `of` fills it from LangGraph's `config` and keywords."""

    thread_id: str | None = None
    checkpoint_id: str | None = None
    run_id: str | None = None
    max_concurrency: int | None = None
    limits: Limits | None = None
    shared: Shared | None = None
    recursion_limit: int = DEFAULT_RECURSION_LIMIT
    durability: Durability = "async"
    context: Any = None
    control: RunControl | None = None
    interrupt_before: Collection[str] | None = None
    interrupt_after: Collection[str] | None = None
    on_event: Callable[[Event], object] | None = None
    on_busy: OnBusy = "wait"
    on_change: OnChange = "continue"
    model: Any = None
    models: Mapping[str, Any] | None = None
    workspace: str | Path | None = None
    agents: Sequence[Any] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.durability not in get_args(Durability):
            raise UsageError(f"durability is {self.durability!r}; it is one of {', '.join(get_args(Durability))}")
        if self.on_busy not in get_args(OnBusy):
            raise UsageError(f"on_busy is {self.on_busy!r}; it is one of {', '.join(get_args(OnBusy))}")
        if self.on_change not in get_args(OnChange):
            raise UsageError(f"on_change is {self.on_change!r}; it is one of {', '.join(get_args(OnChange))}")
        if self.recursion_limit < 1:
            raise UsageError(f"recursion_limit is {self.recursion_limit}; it must be at least 1")

    @classmethod
    def of(cls, config: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> RunOptions:
        """Options from `config`, where `keywords` win. Raises `UsageError` for an unknown keyword."""
        config = config or {}
        values: dict[str, Any] = {key: config[key] for key in ("max_concurrency", "recursion_limit") if key in config}
        place = configurable(config)
        values.update(
            {key: str(place[key]) for key in ("thread_id", "checkpoint_id") if place.get(key) not in (None, "")}
        )
        values.update({key: value for key, value in keywords.items() if value is not None})
        for name in values:
            if name not in cls.__slots__:
                raise UsageError(f"invoke() has no option {name!r}{did_you_mean(name, cls.__slots__)}")
        return cls(**values, config=config)

    def limited(self, limits: Limits) -> Limits:
        """The limits that hold: those of this call, else a graph's own."""
        limits = limits if self.limits is None else self.limits
        return limits if self.max_concurrency is None else replace(limits, max_concurrency=self.max_concurrency)


class Sitting:
    """One call from outside: claims the thread, finds where it stands, runs, and closes the record."""

    def __init__(
        self, graph: CompiledGraph, options: RunOptions, streams: Streams | None = None, *, keys: Any = None
    ) -> None:
        self.graph = graph
        self.options = options
        self.keys = graph.plan.keys if keys is None else keys
        self.streams = streams
        self.thread_id = options.thread_id or uuid.uuid4().hex
        self.run_id = options.run_id or uuid.uuid4().hex[:12]
        self.told: Log = []
        self.forked = False
        self.left = False
        self._starts: dict[tuple[str, ...], tuple[str, str]] = {}
        self._spent: Mapping[str, float] = {}
        self.limits = options.limited(graph.limits)
        self.slots = Slots(self.limits.max_concurrency, within=None if options.shared is None else options.shared.slots)
        self.ledger = graph.ledger(self.thread_id, options, limit=options.recursion_limit)

    @property
    def _around(self) -> Governor | None:
        """What the run is held to together with others."""
        return None if self.options.shared is None else self.options.shared.governor

    async def run(self, input: Any) -> Any:
        """The output of the run."""
        store = self.graph.kept_in
        if self.graph.checkpointer is True:
            raise StateError(
                "checkpointer=True is for a graph inside of another one, whose store it uses",
                hint="compile(checkpointer=InMemorySaver()) keeps the state of one that runs by itself",
            )
        if self.options.thread_id is None and getattr(store, "needs_thread", False):
            raise UsageError("the run names no thread", hint='give {"configurable": {"thread_id": ...}}')
        if store is None:
            return await self._recorded(input, None, None)
        if self.options.on_change != "continue":
            await asyncio.to_thread(self._meet_change, store)
        async with claimed(store, self.thread_id, on_busy=self.options.on_busy) as lease:
            if self.streams is not None:
                self.streams.stands_still(partial(standing_still, store, lease))
            position, next_event = await asyncio.to_thread(self._found, store, input)
            return await self._recorded(input, self._record(store, lease, next_event), position)

    def _meet_change(self, store: Store) -> None:
        """Do what `on_change` says, if the thread was last run by a graph of another shape."""
        found, digest = store.thread(self.thread_id), self.graph.plan.digest()
        if found is None or store.run(found.head.run_id).digest == digest:
            return
        if self.options.on_change == "fail":
            raise StateError(
                f"thread {self.thread_id!r} was last run by a graph of another shape than {self.graph.name!r} has",
                hint='on_change="continue" goes on with it, on_change="fork" in a copy',
            )
        copy = f"{self.thread_id}-{digest[:8]}"
        if store.thread(copy) is None:
            store.copy_thread(self.thread_id, copy).result()
        self.thread_id = copy
        self.ledger = self.graph.ledger(copy, self.options, limit=self.options.recursion_limit)

    def _found(self, store: Store, input: Any) -> tuple[Position | None, int]:
        """Where the thread stands, and how much has happened in the run that is to go on."""
        position = self._position(store)
        if position is not None and _goes_on(input) and self.options.run_id is None:
            self.run_id = position.run_id
        known = position is not None or self.options.run_id is not None  # else the run's id is new
        happened = store.count_events(self.run_id) if known else 0
        if happened and self.limits.spends:
            self._spent = spent(from_record(event) for event in store.events(self.run_id))
        return position, happened

    def _position(self, store: Store) -> Position | None:
        checkpoint_id = self._outermost()
        found = store.thread(self.thread_id, "", checkpoint_id)
        if found is None:
            if checkpoint_id is not None:
                raise UsageError(f"thread {self.thread_id!r} has no checkpoint {checkpoint_id!r}")
            return None
        if checkpoint_id is not None:
            newest = store.thread(self.thread_id)
            self.left = newest is None or newest.head.checkpoint_id != found.head.checkpoint_id
            # A run from a checkpoint that was named begins a branch, unless a change of state just has.
            self.forked = self.left or found.head.source not in ("update", "fork")
        return Reader(self.graph.plan, self.graph.codec, store, self.thread_id, self.thread_id).position(found)

    def _outermost(self) -> str | None:
        """The checkpoint that was named, or, when it is an inner graph's, the one around it of the whole graph."""
        place = str(configurable(self.options.config).get("checkpoint_ns") or "")
        named = self.options.checkpoint_id
        if not place or named is None:
            return named
        metadata = self.graph.get_state(self.options.config).metadata or {}
        around = {**metadata.get("parents", {}), place: named}
        outermost: str | None = around.pop("", None)
        self._starts = {
            tuple(part.partition(":")[0] for part in inner.split("|")): (inner, checkpoint_id)
            for inner, checkpoint_id in around.items()
        }
        return outermost

    def _record(self, store: Store, lease: Lease, next_event: int) -> Record:
        run = RunRecord(
            run_id=self.run_id,
            thread_id=self.thread_id,
            graph=self.graph.name,
            digest=self.graph.plan.digest(),
            status=RUNNING,
            created=time.time(),
            settings=self.options.settings,
        )
        return Record(store, run, lease, at_end=self.options.durability == "exit", next_event=next_event)

    def _family(self, record: Record | None, resumed: bool) -> Family:
        options = self.options
        subscribers: list[Callable[[Event], object]] = []
        if record is not None:
            subscribers.append(record.event)
        if options.on_event is not None:
            subscribers.append(options.on_event)
        emit, jot = emitter(self.told, subscribers)
        return Family(
            run_id=self.run_id,
            thread_id=self.thread_id,
            emit=emit,
            jot=jot,
            slots=self.slots,
            governor=Governor(self.limits, self._spent, within=self._around, slots=self.slots),
            record=record,
            config=options.config,
            context=context_of(self.graph.plan, options.context),
            memory=self.graph.store,
            cache=self.graph.cache,
            control=options.control or RunControl(),
            streams=self.streams,
            settings={
                "model": options.model,
                "models": options.models,
                "workspace": options.workspace,
                "agents": tuple(options.agents),
            },
            starts=self._starts,
            resumed=resumed,
            wait_for_disk=options.durability == "sync",
            let_finish=self.graph.lets_finish,
            slow=self.graph.slow,
            recursion_limit=options.recursion_limit,
            step_timeout=self.graph.step_timeout,
            loop=asyncio.get_running_loop(),
        )

    def _journal(self, record: Record | None, position: Position | None) -> Kept | Unkept:
        if record is None:
            return Unkept()
        return Kept(record, self.graph.codec, self.graph.plan, "", position, again=self.left)

    async def _recorded(self, input: Any, record: Record | None, position: Position | None) -> Any:
        family = self._family(record, position is not None and _goes_on(input))
        journal = self._journal(record, position)
        runner = Runner(family, self.ledger, journal, previous=previous_of(position), keys=self.keys)
        if position is not None and (self.forked or self.options.checkpoint_id is not None) and _replays(input):
            changed = position.source in ("update", "fork")
            family.before = position.parent_id if changed else position.checkpoint_id
        source = stand(runner, input, position, forked=self.forked)
        if record is not None:  # input that cannot be used has begun no run
            record.open(position.checkpoint_id if self.left and position is not None else "")
        family.emit(self._started(family.resumed))
        try:
            first_mark(runner, source, position)
            await _driven(family, runner)
            if runner.interrupted:
                runner.show.pending()
        except BaseException as error:
            await self._failed(family, error)
            raise
        status = PAUSED if runner.interrupted else DONE
        if status == DONE:
            _tell_joins(family, self.ledger)
        tell_limits(family, family.reports())
        family.emit(RunFinished(clock(), status, peak=self.slots.peak))
        if record is not None:
            await record.close(status, "")
        return self._output(runner)

    async def _failed(self, family: Family, error: BaseException) -> None:
        status = FAILED if isinstance(error, Exception) else CANCELLED
        text = "" if status == CANCELLED else brief(error)
        tell_limits(family, family.reports())
        family.emit(RunFinished(clock(), status, text, self.slots.peak))
        try:
            if family.record is not None:
                await family.record.close(status, text)
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise; this one goes with it
            if second is not error:
                error.add_note(f"and the end of the run could not be stored: {second}")

    def _started(self, resumed: bool) -> RunStarted:
        limit = self.slots.limit
        return RunStarted(clock(), self.run_id, self.thread_id, self.graph.name, time.time(), limit, resumed)

    def _output(self, runner: Runner) -> Any:
        values = self.ledger.provisional(self.keys) if runner.interrupted else runner.show.output()
        if not runner.interrupts and (isinstance(self.keys, str) or values is None):
            return values
        values = values if isinstance(values, dict) else {}
        if runner.interrupts:
            values[INTERRUPT] = list(runner.interrupts)
        return RunOutput(values, FinishedRun(self.run_id, self.thread_id, self.told))


LONGEST_WAITS: Final = 3
"""Of how many of those who waited longest for a limit the names are told."""


def _replays(input: Any) -> bool:
    """Whether a run with this input, from a checkpoint that was named, is one of that time."""
    return not (isinstance(input, Command) and input.resume is not None)


def _goes_on(input: Any) -> bool:
    return input is None or isinstance(input, Command)


def stand(runner: Runner, input: Any, position: Position | None, *, forked: bool) -> str | None:
    """Bring the ledger to where the sitting begins. The source of the checkpoint that is due there, or None."""
    ledger = runner.ledger
    if position is not None:
        position.stand(ledger)
    if not _goes_on(input):
        ledger.begin(input)
        return "input"
    command = Command() if input is None else input
    if command.graph is not None:
        raise InvalidUpdateError("a Command as input cannot name another graph: there is none around this one")
    if position is None:
        return _opened(runner, command)
    if input is not None and command == Command():
        raise EmptyInputError("the Command says nothing", hint="give it resume=, update= or goto=; None goes on")
    change = Result(commanded(command.update, ledger.plan.state), ledger.plan.goals(command.goto, "the Command"))
    if command.resume is not None:
        answers = _answers(command.resume, position, earlier=forked)
        if isinstance(command.resume, Mapping) and answers.keys() == command.resume.keys():  # they are by id
            runner.journal.give(ledger.step, answers)
        runner.family.answers.update(answers)
    for key, answer in (runner.journal.recall(*GIVEN) or {}).items():
        runner.family.answers.setdefault(key, answer)
    if forked and (command.resume is None or change != Result()):
        ledger.skip()
        ledger.change(change)
        return "fork"
    ledger.change(change)
    runner.journal.change(ledger.step, change)
    return None


def _opened(runner: Runner, command: Command) -> str:
    """A thread begins with a Command: START takes its update as the input, and leads to its goals besides."""
    ledger = runner.ledger
    if command.resume is not None and isinstance(runner.journal, Unkept):
        raise StateError(
            "there is nothing to resume: the graph keeps no state", hint="compile(checkpointer=...) keeps it"
        )
    if command.update is None and not command.goto:
        raise EmptyInputError(
            f"there is nothing to go on with in thread {runner.family.thread_id!r}",
            hint="give an input; None as input goes on with a thread that a checkpointer has kept",
        )
    runner.detour = ledger.plan.goals(command.goto, "the Command")
    ledger.begin(
        command.update if ledger.plan.input.single is not None else dict(commanded(command.update, ledger.plan.state))
    )
    return "input"


def _answers(resume: Any, position: Position, *, earlier: bool) -> dict[str, Any]:
    """The answers, each by what it is meant for. Raises `StateError` when that is not clear.

    At an `earlier` checkpoint, a question that was answered since may be answered again: its task runs once more.
    """
    if isinstance(resume, Mapping) and not resume:  # a map of no answers
        return {}
    asked = {i.id: task for task in position.snapshot.tasks for i in position.interrupts(task)}
    if isinstance(resume, Mapping) and resume and all(_is_id(key) for key in resume):
        known = {i.id for task in position.snapshot.tasks for i in position.asked(task)} if earlier else asked.keys()
        if not resume.keys() & known:  # one that was answered meanwhile may be among others
            unknown = next(iter(resume))
            raise StateError(f"no interrupt {unknown!r} is open", hint=f"open are: {', '.join(asked) or 'none'}")
        return dict(resume)
    if len(asked) > 1:
        questions = "; ".join(f"{i.id}: {i.value!r:.60}" for i in position.open_interrupts)
        raise StateError(
            f"{len(asked)} interrupts are open, and one answer was given",
            hint=f"give Command(resume={{id: answer, ...}}); open are: {questions}",
        )
    # By its task: the state around the question may have been changed since, and then it has another id.
    return {next((task.id for task in asked.values()), ANY): resume}


def _is_id(key: Any) -> bool:
    return isinstance(key, str) and len(key) == 32 and all(mark in "0123456789abcdef" for mark in key)


def first_mark(runner: Runner, source: str | None, position: Position | None) -> None:
    if source == "input" or position is None:
        left = position is not None and bool(position.snapshot.tasks)  # tasks whose results are not of this branch
        runner.mark(source or "input", due=left)
    elif source is None:
        runner.resume(position.metadata)
    else:
        runner.mark(source, due=True, resumed=True)


def _tell_joins(family: Family, ledger: Ledger) -> None:
    """Say which joins the run has ended without: branches that were meant to come together did not."""
    for target, missing in ledger.waiting_joins():
        text = f"the join to {target!r} never fired: {', '.join(map(repr, missing))} did not run"
        family.emit(Noticed(clock(), text))
        warnings.warn(text, WaitingJoinWarning, stacklevel=2)


def tell_limits(family: Family, reports: Iterable[Report]) -> None:
    """Tell how close a run, or a graph inside of one, came to its limits."""
    for report in reports:
        longest = report.by[:LONGEST_WAITS]
        family.emit(
            LimitReported(
                *(clock(), report.name, report.limit, report.peak, report.waits, report.waited),
                by=tuple(who for who, _ in longest),
                each=tuple(seconds for _, seconds in longest),
                note=report.note,
            )
        )


async def _driven(family: Family, runner: Runner) -> None:
    began, told = clock(), set()

    def jumped(since: float, until: float) -> None:
        if until not in told:
            told.add(until)
            since = max(since, began)
            family.emit(ClockJumped(until, until - since))

    family.watch.begin()
    WATCHDOG.tell_stops(jumped)
    try:
        await runner.drive()
    except BaseException as error:
        family.places.close(wait=False)
        if not isinstance(error, ParentCommand):
            raise
        raise StrayCommandError(error.command) from None
    finally:
        WATCHDOG.keep_stops(jumped)
        family.watch.end()
        for stop in WATCHDOG.stops(began):
            jumped(*stop)
    family.places.close(wait=True)


def previous_of(position: Position | None) -> Any:
    return None if position is None else position.snapshot.values.get("__previous__")


def context_of(plan: Plan, given: Any) -> Any:
    """The context in the type that the graph declares for it."""
    schema = plan.context
    if schema is None or not isinstance(given, Mapping) or not isinstance(schema, type) or issubclass(schema, dict):
        return given
    return schema(**given)
