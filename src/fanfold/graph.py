"""`StateGraph` and what it compiles to: the face of the engine, for blocking and for async code.

There is one way to run a graph, `ainvoke`; `invoke` is the same in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from fanfold.errors import SyncInLoopError, UsageError, did_you_mean
from fanfold.events import Event, RunFinished, RunStarted
from fanfold.journal import Journal, Stored, Unkept, replay
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger
from fanfold.kernel.plan import Plan
from fanfold.limits import Limits, Slots
from fanfold.run import Emitter, Runner, clock
from fanfold.store import owner as owners
from fanfold.store.base import CANCELLED, DONE, FAILED, RUNNING, RunRecord, Store, ThreadRecord
from fanfold.store.opening import open_store
from fanfold.store.serde import Codec

Durability = Literal["sync", "async"]

DEFAULT_RECURSION_LIMIT: Final = 10_007

T = TypeVar("T")


class RunOutput(dict[str, Any]):
    """The last values of a run: a plain dictionary that also knows the run it came from."""

    run: FinishedRun

    def __init__(self, values: Mapping[str, Any], run: FinishedRun) -> None:
        super().__init__(values)
        self.run = run


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A sitting that has ended: who it was, and everything that happened in it."""

    run_id: str
    thread_id: str
    events: Sequence[Event] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one sitting is to run. Everything has a default; `of` fills it from LangGraph's `config` and keywords."""

    thread_id: str | None = None
    run_id: str | None = None
    max_concurrency: int | None = None
    recursion_limit: int = DEFAULT_RECURSION_LIMIT
    durability: Durability = "async"
    on_event: Callable[[Event], object] | None = None
    take_over: bool = False
    model: str | None = None
    workspace: str | Path | None = None
    agents: Sequence[Any] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.durability not in get_args(Durability):
            raise UsageError(f"durability is {self.durability!r}; it is one of {', '.join(get_args(Durability))}")
        if self.recursion_limit < 1:
            raise UsageError(f"recursion_limit is {self.recursion_limit}; it must be at least 1")

    @classmethod
    def of(cls, config: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> RunOptions:
        """Options from `config`, where `keywords` win. Raises `UsageError` for an unknown keyword."""
        config = config or {}
        values: dict[str, Any] = {key: config[key] for key in ("max_concurrency", "recursion_limit") if key in config}
        if "thread_id" in config.get("configurable", {}):
            values["thread_id"] = str(config["configurable"]["thread_id"])
        values.update(keywords)
        for name in values:
            if name not in cls.__slots__:
                raise UsageError(f"invoke() has no option {name!r}{did_you_mean(name, cls.__slots__)}")
        return cls(**values)


class StateGraph(Builder):
    """A graph of nodes over a shared state; `compile()` makes it runnable.

    >>> from typing import TypedDict
    >>> class State(TypedDict):
    ...     number: int
    >>> graph = StateGraph(State).add_node("double", lambda state: {"number": state["number"] * 2})
    >>> graph.add_edge("__start__", "double").compile().invoke({"number": 21})
    {'number': 42}
    """

    __slots__ = ()

    def compile(
        self,
        checkpointer: Store | str | Path | None = None,
        *,
        limits: Limits | None = None,
        name: str = "graph",
    ) -> CompiledGraph:
        """Validate the graph and freeze it.

        `checkpointer` is a store or the URL of one, such as `sqlite:///runs.db`; without it nothing is kept. Raises
        `GraphError` with every problem of the graph, `StoreError` when the store cannot be opened.
        """
        plan = self.plan(name)
        store = open_store(checkpointer) if isinstance(checkpointer, str | Path) else checkpointer
        return CompiledGraph(plan, store, limits or Limits())


class CompiledGraph:
    """A graph that can run, any number of times and at the same time."""

    def __init__(self, plan: Plan, store: Store | None, limits: Limits) -> None:
        self.plan = plan
        self.store = store
        self.limits = limits
        self._codec = _codec_for(plan)

    @property
    def name(self) -> str:
        """What the graph calls itself in listings."""
        return self.plan.name

    def invoke(self, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The last values of a run from `input` to its end; see `ainvoke`.

        Raises `SyncInLoopError` in a thread whose event loop is running: there, await `ainvoke`.
        """
        return blocking(lambda: self.ainvoke(input, config, **options), instead="await graph.ainvoke(...)")

    async def ainvoke(self, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The last values of a run from `input` to its end, as a dictionary that has the run as `.run`.

        `None` as input goes on with the thread where it stands. The options are LangGraph's in `config`, or the
        keywords `thread_id`, `run_id`, `max_concurrency`, `recursion_limit`, `durability` ("async": a plain node's
        result may still be on its way to the disk when the next starts, an agent's never is; "sync": none is),
        `on_event`, and for agents `model`, `workspace`, `agents`.

        Raises what a node raised, with a note that names it. What had finished by then is kept.
        """
        sitting = _Sitting(self, RunOptions.of(config, options))
        return await sitting.run(input)


class _Sitting:
    """One call of `ainvoke`: claims the thread, finds where it stands, runs, and closes the record."""

    def __init__(self, graph: CompiledGraph, options: RunOptions) -> None:
        self.graph = graph
        self.options = options
        self.thread_id = options.thread_id or uuid.uuid4().hex
        self.run_id = options.run_id or uuid.uuid4().hex[:12]
        self.events: list[Event] = []
        limits = Limits(options.max_concurrency) if options.max_concurrency is not None else graph.limits
        self.slots = Slots(limits.max_concurrency)
        self.ledger = Ledger(graph.plan, seed=self.thread_id, step_limit=options.recursion_limit)

    async def run(self, input: Any) -> Any:
        """The output of the run."""
        store = self.graph.store
        if store is None:
            return await self._recorded(input, Unkept(), None)
        owner = owners.me()
        try:
            claim = store.claim(self.thread_id, owner, take_over=self.options.take_over)
            found = await asyncio.wrap_future(claim)
            return await self._recorded(input, self._journal(store, found, input is None), found)
        finally:
            owners.leave(owner)
            store.release(self.thread_id, owner)

    def _journal(self, store: Store, found: ThreadRecord | None, resumed: bool) -> Journal:
        if found is not None and resumed and self.options.run_id is None:
            self.run_id = found.run_id
        record = RunRecord(
            run_id=self.run_id,
            thread_id=self.thread_id,
            graph=self.graph.name,
            digest=self.graph.plan.digest(),
            status=RUNNING,
            created=time.time(),
            settings=self.options.settings,
        )
        return Stored(store, self.graph._codec, record, found)

    async def _recorded(self, input: Any, journal: Journal, found: ThreadRecord | None) -> Any:
        subscribers: list[Callable[[Event], object]] = [self.events.append, journal.event]
        if self.options.on_event is not None:
            subscribers.append(self.options.on_event)
        emit = Emitter(subscribers)
        self._stand(input, journal, found)  # input that cannot be used begins no run
        journal.open()
        emit(self._started(found is not None and input is None))
        try:
            journal.checkpoint(self.ledger, due=input is not None)
            await self._runner(journal, emit).drive()
        except BaseException as error:
            status = FAILED if isinstance(error, Exception) else CANCELLED
            text = "" if status == CANCELLED else f"{type(error).__name__}: {error}"
            emit(RunFinished(clock(), status, text, self.slots.peak))
            await self._closed(journal, status, text, error)
            raise
        emit(RunFinished(clock(), DONE, peak=self.slots.peak))
        await journal.close(DONE, "")
        return self._output()

    async def _closed(self, journal: Journal, status: str, text: str, error: BaseException) -> None:
        try:
            await journal.close(status, text)
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise; this one goes with it
            error.add_note(f"and the end of the run could not be stored: {second}")

    def _stand(self, input: Any, journal: Journal, found: ThreadRecord | None) -> None:
        """Bring the ledger to where the run begins: where the thread stands, or there with new input."""
        if found is not None:
            replay(self.ledger, journal, self.graph._codec, found, self.thread_id)
        elif input is None:
            raise UsageError(
                f"there is nothing to go on with in thread {self.thread_id!r}",
                hint="give an input; None as input goes on with a thread that a checkpointer has kept",
            )
        if input is not None:
            self.ledger.begin(input)

    def _runner(self, journal: Journal, emit: Emitter) -> Runner:
        options = self.options
        settings = {"model": options.model, "workspace": options.workspace, "agents": tuple(options.agents)}
        wait_for_disk = options.durability == "sync"
        return Runner(self.ledger, journal, emit, self.slots, wait_for_disk=wait_for_disk, settings=settings)

    def _started(self, resumed: bool) -> RunStarted:
        limit = self.slots.limit
        return RunStarted(clock(), self.run_id, self.thread_id, self.graph.name, time.time(), limit, resumed)

    def _output(self) -> Any:
        values = self.ledger.values()
        if self.graph.plan.output.is_root:
            return values
        return RunOutput(values, FinishedRun(self.run_id, self.thread_id, tuple(self.events)))


def blocking(coroutine: Callable[[], Coroutine[Any, Any, T]], *, instead: str) -> T:
    """Run a coroutine to its end in an event loop of its own.

    Raises `SyncInLoopError` where a loop is running in this thread: blocking it would stop every agent on it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    raise SyncInLoopError("this call blocks, and an event loop is running in this thread", hint=f"use: {instead}")


def _codec_for(plan: Plan) -> Codec:
    """A codec that knows every class which the state's annotations name."""
    codec = Codec()
    for schema in (plan.state, plan.input, plan.output, *(node.schema for node in plan.nodes.values())):
        for annotation in schema.annotations.values():
            codec.register_from(annotation)
    return codec
