"""`StateGraph` and what it compiles to: the face of the engine, for blocking and for async code.

There is one way to run a graph, a *sitting*: it finds where the thread stands, takes the input, drives the ledger, and
hands over what came of it. `ainvoke` awaits one, `astream` listens to one, and the blocking forms do the same in an
event loop of their own. A graph that is called inside a node of another one joins that one's run.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from fanfold.context import configurable
from fanfold.errors import (
    EmptyInputError,
    GraphInterrupt,
    InvalidUpdateError,
    ParentCommand,
    StateError,
    SyncInLoopError,
    UsageError,
    did_you_mean,
)
from fanfold.events import Event, Noticed, RunFinished, RunStarted
from fanfold.frame import ANY, Frame, clock, current_frame
from fanfold.journal import Kept, Position, Reader, Record, Unkept
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Result
from fanfold.kernel.plan import Node, Plan
from fanfold.kernel.schema import Schema, updates_of
from fanfold.limits import Limits, Slots
from fanfold.messages import holds_messages, message_types
from fanfold.run import Emitter, Family, Runner
from fanfold.state import States
from fanfold.store import owner as owners
from fanfold.store.base import CANCELLED, DONE, FAILED, PAUSED, RUNNING, RunRecord, Store, ThreadRecord
from fanfold.store.opening import open_store
from fanfold.store.serde import Codec
from fanfold.stream import Chunk, Form, Shapes, Streams
from fanfold.types import INTERRUPT, Command, Durability, GraphOutput, RunControl

if TYPE_CHECKING:
    from fanfold.drawing import Drawing

DEFAULT_RECURSION_LIMIT: Final = 10_007

_EVERY_LEVEL: Final = 64

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
    checkpoint_id: str | None = None
    run_id: str | None = None
    max_concurrency: int | None = None
    recursion_limit: int = DEFAULT_RECURSION_LIMIT
    durability: Durability = "async"
    context: Any = None
    control: RunControl | None = None
    interrupt_before: Collection[str] | None = None
    interrupt_after: Collection[str] | None = None
    on_event: Callable[[Event], object] | None = None
    take_over: bool = False
    model: Any = None
    workspace: str | Path | None = None
    agents: Sequence[Any] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

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
        place = configurable(config)
        values.update(
            {key: str(place[key]) for key in ("thread_id", "checkpoint_id") if place.get(key) not in (None, "")}
        )
        values.update({key: value for key, value in keywords.items() if value is not None})
        for name in values:
            if name not in cls.__slots__:
                raise UsageError(f"invoke() has no option {name!r}{did_you_mean(name, cls.__slots__)}")
        return cls(**values, config=config)


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
        checkpointer: Any = None,
        *,
        store: Any = None,
        cache: Any = None,
        interrupt_before: Collection[str] | None = None,
        interrupt_after: Collection[str] | None = None,
        limits: Limits | None = None,
        on_error: str = "cancel",
        debug: bool = False,
        name: str | None = None,
    ) -> CompiledGraph:
        """Validate the graph and freeze it.

        `checkpointer` is a store or the URL of one, such as `sqlite:///runs.db`; without it nothing is kept. For a
        graph that runs inside another one None means the other's, True a memory of its own there, False none.
        `store` is long-term memory. `interrupt_before` and `interrupt_after` name nodes, or are "*". With
        `on_error="finish"` siblings of a failed node are let finish.

        Raises `GraphError` with every problem of the graph, `StoreError` when the store cannot be opened, `TypeError`
        for a checkpointer that is none.
        """
        before, after = interrupt_before or [], interrupt_after or []
        plan = self.plan(name or "graph", stops=(*_names(before), *_names(after)))
        return CompiledGraph(
            plan,
            checkpointer_of(checkpointer),
            limits or Limits(),
            memory=store,
            cache=cache,
            pause_before=before,
            pause_after=after,
            let_finish=_finish(on_error),
            debug=debug,
        )


def _names(stops: Collection[str]) -> Collection[str]:
    return () if stops == "*" else [name for name in stops if name != "*"]


def _finish(on_error: str) -> bool:
    if on_error not in ("cancel", "finish"):
        raise UsageError(f"on_error is {on_error!r}; it is 'cancel' or 'finish'")
    return on_error == "finish"


def checkpointer_of(given: Any) -> Any:
    """The store that `checkpointer=` names; None, True and False as they are. Raises `TypeError` for anything else."""
    if isinstance(given, str | Path):
        return open_store(given)
    if given is None or isinstance(given, bool) or hasattr(given, "submit"):
        return given
    raise TypeError(f"checkpointer= is {given!r:.80}; give a store, the URL of one, None, True or False")


class CompiledGraph(States):
    """A graph that can run, any number of times and at the same time."""

    def __init__(
        self,
        plan: Plan,
        checkpointer: Any,
        limits: Limits,
        *,
        memory: Any = None,
        cache: Any = None,
        pause_before: Collection[str] = (),
        pause_after: Collection[str] = (),
        let_finish: bool = False,
        debug: bool = False,
    ) -> None:
        self.plan = plan
        self.checkpointer = checkpointer
        self.limits = limits
        self.memory = memory
        self.cache = cache
        self.step_timeout: float | None = None
        self.config: Mapping[str, Any] = {}
        self.codec = _codec_for(plan)
        if hasattr(checkpointer, "read_by"):
            checkpointer.read_by(self, plan.digest())
        self.interrupt_before_nodes = pause_before
        self.interrupt_after_nodes = pause_after
        self._let_finish = let_finish
        self._debug = debug

    @property
    def name(self) -> str:
        """What the graph calls itself in listings."""
        return self.plan.name

    def get_name(self) -> str:
        """The same as `name`."""
        return self.plan.name

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by name, `__start__` among them."""
        return self.plan.nodes

    @property
    def store(self) -> Store | None:
        """Where its threads are kept, when it runs on its own."""
        return None if isinstance(self.checkpointer, bool) else self.checkpointer

    def with_config(self, config: Mapping[str, Any] | None = None, **more: Any) -> CompiledGraph:
        """The same graph with a config that each call begins from."""
        bound = CompiledGraph.__new__(CompiledGraph)
        bound.__dict__.update(self.__dict__)
        bound.config = {**self.config, **(config or {}), **more}
        return bound

    # Running

    def invoke(self, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The last values of a run from `input` to its end; see `ainvoke`.

        Raises `SyncInLoopError` in a thread whose event loop is running: there, await `ainvoke`.
        """
        return blocking(lambda: self.ainvoke(input, config, **options), instead="await graph.ainvoke(...)")

    async def ainvoke(
        self,
        input: Any,
        config: Mapping[str, Any] | None = None,
        *,
        stream_mode: Any = None,
        print_mode: Any = (),
        output_keys: Any = None,
        version: str = "v1",
        debug: bool | None = None,
        **options: Any,
    ) -> Any:
        """The last values of a run from `input` to its end, as a dictionary that has the run as `.run`.

        `None` as input goes on with the thread where it stands; a `Command` answers its questions. When the run waits
        for a person, the questions are under `__interrupt__`. The options are LangGraph's in `config`, or the
        keywords `thread_id`, `run_id`, `max_concurrency`, `recursion_limit`, `durability` ("async": a plain node's
        result may still be on its way to the disk when the next starts, an agent's never is; "sync": none is; "exit":
        everything is stored at the end), `context`, `control`, `interrupt_before`, `interrupt_after`, `on_event`, and
        for agents `model`, `workspace`, `agents`. With another `stream_mode` than "values", the list of its chunks.
        With `version="v2"` a `GraphOutput`.

        Raises what a node raised, with a note that names it. What had finished by then is kept.
        """
        form = Form.of(
            stream_mode or "values", printed=self._printed(print_mode, debug), subgraphs=False, version=version
        )
        keys = self.plan.answers if output_keys is None else self._checked(output_keys)
        if form.modes != ("values",) or form.several:
            chunks = self._chunks(input, config, form, keys, options)
            return [chunk async for chunk in chunks]
        frame = self._around(config, options)
        if frame is not None:
            output = await _Inner(self, frame, options, keys=keys).run(input)
        elif form.printed:
            output = await self._printing(input, config, form, keys, options)
        else:
            output = await _Sitting(self, RunOptions.of(self._bound(config), options), keys=keys).run(input)
        return output if version == "v1" else self._typed(output)

    async def _printing(self, input: Any, config: Any, form: Form, keys: Any, options: Mapping[str, Any]) -> Any:
        """The output of a run whose chunks are printed as they come."""
        streams = Streams(form)
        sitting = _Sitting(self, RunOptions.of(self._bound(config), options), streams, keys=keys)
        running = asyncio.ensure_future(self._streamed(sitting, input, streams))
        async for chunk in _taken(running, streams):
            form.handed(chunk, self._shapes())
        return running.result()

    def _typed(self, output: Any) -> GraphOutput:
        asked = tuple(output.pop(INTERRUPT, ())) if isinstance(output, dict) else ()
        return GraphOutput(self._shapes().output(output), asked)

    def _shapes(self) -> Shapes:
        return Shapes(*(_typing(schema) for schema in (self.plan.output, self.plan.state)))

    def _checked(self, keys: Any) -> Any:
        """The keys to be shown. Raises `UsageError` for one that the state does not have."""
        for key in [keys] if isinstance(keys, str) else keys:
            if key not in self.plan.channels:
                raise UsageError(
                    f"output_keys names {key!r}, which is no key of graph {self.name!r}"
                    + did_you_mean(str(key), self.plan.channels)
                )
        return keys

    def _printed(self, modes: Any, debug: bool | None) -> Any:
        return ("updates", "values") if (self._debug if debug is None else debug) else modes

    def stream(self, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Any]:
        """The chunks of a run as they come; see `astream`. Leaving the loop early stops the run."""
        _no_loop("async for chunk in graph.astream(...)")
        chunks = self.astream(input, config, **options)
        frame = current_frame()
        if frame is not None and not frame.ended:
            yield from _drained(chunks, frame.runner.from_thread)
            return
        with asyncio.Runner() as runner:
            yield from _drained(chunks, lambda call: runner.run(_awaited(call)))

    async def astream(
        self,
        input: Any,
        config: Mapping[str, Any] | None = None,
        *,
        stream_mode: str | Sequence[str] | None = None,
        print_mode: Any = (),
        output_keys: Any = None,
        subgraphs: bool = False,
        version: str = "v1",
        debug: bool | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """The chunks of a run as they come, by default its updates.

        `stream_mode` is one of "values", "updates", "custom", "messages", "tasks", "checkpoints", "debug", or a list
        of them, which gives `(mode, chunk)`. With `subgraphs` each chunk is preceded by its namespace. With
        `version="v2"` each chunk is a dictionary of its type, namespace and data. Chunks of `print_mode` are printed.
        Leaving the loop early stops the run.
        """
        default = "values" if "checkpoint_ns" in configurable(config) and self._around(config, options) else "updates"
        modes = default if stream_mode is None else stream_mode
        form = Form.of(modes, printed=self._printed(print_mode, debug), subgraphs=subgraphs, version=version)
        keys = None if output_keys is None else self._checked(output_keys)
        async with aclosing(self._chunks(input, config, form, keys, options)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _chunks(
        self, input: Any, config: Any, form: Form, keys: Any, options: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """The chunks of a run, or of a part of the run that this is called in."""
        shapes = self._shapes()
        frame = self._around(config, options)
        streams = Streams(form, outer=frame.runner.family.streams if frame is not None else None)
        sitting: _Sitting | _Inner
        if frame is not None:
            sitting = _Inner(self, frame, options, streams, keys=keys)
        else:
            sitting = _Sitting(self, RunOptions.of(self._bound(config), options), streams, keys=keys)
        running = asyncio.ensure_future(self._streamed(sitting, input, streams))
        async with aclosing(_taken(running, streams)) as chunks:
            async for chunk in chunks:
                for handed in form.handed(chunk, shapes):
                    yield handed

    async def _streamed(self, sitting: _Sitting | _Inner, input: Any, streams: Streams) -> Any:
        try:
            return await sitting.run(input)
        finally:
            streams.end()

    def batch(self, inputs: Sequence[Any], config: Any = None, **options: Any) -> list[Any]:
        """The outputs of several runs at once, in the order of the inputs; see `abatch`."""
        return blocking(lambda: self.abatch(inputs, config, **options), instead="await graph.abatch(...)")

    async def abatch(
        self, inputs: Sequence[Any], config: Any = None, *, return_exceptions: bool = False, **options: Any
    ) -> list[Any]:
        """The outputs of several runs at once, in the order of the inputs; `config` may be a list of as many.

        With `return_exceptions`, what a run raised is in the place of its output.
        """
        configs = config if isinstance(config, list | tuple) else [config] * len(inputs)
        runs = (self.ainvoke(value, each, **options) for value, each in zip(inputs, configs, strict=True))
        return list(await asyncio.gather(*runs, return_exceptions=return_exceptions))

    # Drawing

    def get_graph(self, config: Any = None, *, xray: bool | int = False) -> Drawing:
        """A picture of the graph; with `xray`, graphs that are nodes are drawn inside, as deep as it says."""
        from fanfold.drawing import Drawing, pictured  # only who draws pays for it

        return Drawing(pictured(self.plan, _EVERY_LEVEL if xray is True else int(xray)))

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        return self.get_graph().draw_mermaid()

    def _repr_svg_(self) -> str:
        return self.get_graph().draw_svg()

    def clear_cache(self, nodes: Sequence[str] | None = None) -> None:
        """Forget what was cached of these nodes, by default of all."""
        if self.cache is not None:
            self.cache.clear([(self.plan.name, name) for name in (self.plan.nodes if nodes is None else nodes)])

    async def aclear_cache(self, nodes: Sequence[str] | None = None) -> None:
        """The same, without blocking the event loop."""
        await asyncio.to_thread(self.clear_cache, nodes)

    # Inside of another graph

    async def nested(self, frame: Frame, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The output of this graph as a part of the run that `frame` belongs to.

        It shares that run's limits and records. Raises `GraphInterrupt` with its questions when it waits for a person,
        and `ParentCommand` for a Command that is meant for the graph around it.
        """
        known = self.plan.input
        if isinstance(input, Mapping) and known.single is None and not input.keys() & known.channels.keys():
            input = {}  # the state of the graph around need not have a key in common with this one's
        return await _Inner(self, frame, options).run(input)

    def _around(self, config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Frame | None:
        """The frame that a call belongs to: that of the node it is made in, unless it names a thread of its own.

        A keyword is the caller's own word. A config may be that of the run around, handed on.
        """
        frame = current_frame()
        if frame is None or frame.ended or options.get("thread_id") is not None:
            return None
        thread = configurable(config).get("thread_id")
        return frame if thread in (None, frame.runner.family.thread_id) else None

    def _bound(self, config: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if not self.config:
            return config or {}
        merged = {**self.config, **(config or {})}
        merged["configurable"] = {**configurable(self.config), **configurable(config)}
        if "metadata" in self.config:
            merged["metadata"] = {**self.config["metadata"], **((config or {}).get("metadata") or {})}
        if "tags" in self.config:
            merged["tags"] = sorted({*self.config["tags"], *((config or {}).get("tags") or ())})
        return merged

    def ledger(self, seed: str, options: RunOptions | None = None, *, limit: int = DEFAULT_RECURSION_LIMIT) -> Ledger:
        """A ledger of this graph that stands at the beginning."""
        before = (options and options.interrupt_before) or self.interrupt_before_nodes
        after = (options and options.interrupt_after) or self.interrupt_after_nodes
        return Ledger(self.plan, seed=seed, step_limit=limit, pause_before=before, pause_after=after)

    @property
    def lets_finish(self) -> bool:
        """Whether siblings of a failed node go on to their end."""
        return self._let_finish


async def _taken(running: asyncio.Future[Any], streams: Streams) -> AsyncGenerator[Chunk, None]:
    """The chunks of a run as they come, and then what it raised. Left early, it stops the run."""
    try:
        while (chunk := await streams.get()) is not None:
            yield chunk
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])


def _drained(chunks: AsyncIterator[T], wait: Callable[[Callable[[], Awaitable[Any]]], Any]) -> Iterator[T]:
    """The chunks of an async generator for blocking code, which waits for each with `wait`."""
    try:
        while True:
            try:
                yield wait(chunks.__anext__)
            except StopAsyncIteration:
                return
    finally:
        wait(chunks.aclose)  # type: ignore[attr-defined]  # it is a generator


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


def _typing(schema: Schema) -> Callable[[Any], Any]:
    """How values become what `schema` declares; nothing to do for a type without keys."""
    return schema.shape if schema.single is None else lambda value: value


class _Sitting:
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
        self.events: list[Event] = []
        self.forked = False
        self._starts: dict[tuple[str, ...], tuple[str, str]] = {}
        limits = Limits(options.max_concurrency) if options.max_concurrency is not None else graph.limits
        self.slots = Slots(limits.max_concurrency)
        self.ledger = graph.ledger(self.thread_id, options, limit=options.recursion_limit)

    async def run(self, input: Any) -> Any:
        """The output of the run."""
        store = self.graph.store
        if self.graph.checkpointer is True:
            raise StateError(
                "checkpointer=True is for a graph inside of another one, whose store it uses",
                hint="compile(checkpointer=InMemorySaver()) keeps the state of one that runs by itself",
            )
        if self.options.thread_id is None and getattr(store, "needs_thread", False):
            raise UsageError("the run names no thread", hint='give {"configurable": {"thread_id": ...}}')
        if store is None:
            return await self._recorded(input, None, None)
        owner = owners.me()
        try:
            await asyncio.wrap_future(store.claim(self.thread_id, owner, take_over=self.options.take_over))
            position = await asyncio.to_thread(self._position, store)
            return await self._recorded(input, self._record(store, position, input), position)
        finally:
            owners.leave(owner)
            store.release(self.thread_id, owner)

    def _position(self, store: Store) -> Position | None:
        checkpoint_id = self._outermost()
        found = store.thread(self.thread_id, "", checkpoint_id)
        if found is None:
            if checkpoint_id is not None:
                raise UsageError(f"thread {self.thread_id!r} has no checkpoint {checkpoint_id!r}")
            return None
        self.forked = checkpoint_id is not None and self._branches(store, found)
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

    def _branches(self, store: Store, found: ThreadRecord) -> bool:
        """Whether running from a checkpoint that was named begins a branch: unless a change of state just has."""
        newest = store.thread(self.thread_id)
        moved_on = newest is None or newest.head.checkpoint_id != found.head.checkpoint_id
        return moved_on or found.head.source not in ("update", "fork")

    def _record(self, store: Store, position: Position | None, input: Any) -> Record:
        if position is not None and _goes_on(input) and self.options.run_id is None:
            self.run_id = position.run_id
        run = RunRecord(
            run_id=self.run_id,
            thread_id=self.thread_id,
            graph=self.graph.name,
            digest=self.graph.plan.digest(),
            status=RUNNING,
            created=time.time(),
            settings=self.options.settings,
        )
        return Record(store, run, at_end=self.options.durability == "exit")

    def _family(self, record: Record | None, resumed: bool) -> Family:
        options = self.options
        subscribers: list[Callable[[Event], object]] = [self.events.append]
        if record is not None:
            subscribers.append(record.event)
        if options.on_event is not None:
            subscribers.append(options.on_event)
        return Family(
            run_id=self.run_id,
            thread_id=self.thread_id,
            emit=Emitter(subscribers),
            slots=self.slots,
            record=record,
            config=options.config,
            context=_context(self.graph.plan, options.context),
            memory=self.graph.memory,
            cache=self.graph.cache,
            control=options.control or RunControl(),
            streams=self.streams,
            settings={"model": options.model, "workspace": options.workspace, "agents": tuple(options.agents)},
            starts=self._starts,
            resumed=resumed,
            wait_for_disk=options.durability == "sync",
            let_finish=self.graph.lets_finish,
            recursion_limit=options.recursion_limit,
            step_timeout=self.graph.step_timeout,
            loop=asyncio.get_running_loop(),
        )

    async def _recorded(self, input: Any, record: Record | None, position: Position | None) -> Any:
        family = self._family(record, position is not None and _goes_on(input))
        journal = Unkept() if record is None else Kept(record, self.graph.codec, self.graph.plan, "", position)
        runner = Runner(family, self.ledger, journal, previous=_previous(position), keys=self.keys)
        if position is not None and (self.forked or self.options.checkpoint_id is not None) and _replays(input):
            changed = position.source in ("update", "fork")
            family.before = position.parent_id if changed else position.checkpoint_id
        source = _stand(runner, input, position, forked=self.forked)
        if record is not None:  # input that cannot be used has begun no run
            record.open()
        family.emit(self._started(family.resumed))
        try:
            _first_mark(runner, source, position)
            await _driven(family, runner)
            if runner.interrupted:
                runner.pending()
        except BaseException as error:
            await self._failed(family, error)
            raise
        status = PAUSED if runner.interrupted else DONE
        if status == DONE:
            _tell_joins(family, self.ledger)
        family.emit(RunFinished(clock(), status, peak=self.slots.peak))
        if record is not None:
            await record.close(status, "")
        return self._output(runner)

    async def _failed(self, family: Family, error: BaseException) -> None:
        status = FAILED if isinstance(error, Exception) else CANCELLED
        text = "" if status == CANCELLED else f"{type(error).__name__}: {error}"
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
        whole = self.ledger.provisional if runner.interrupted else self.ledger.chosen
        values = whole(self.keys) if runner.moved else None
        if not runner.interrupts and (isinstance(self.keys, str) or not runner.moved):
            return values
        values = values if isinstance(values, dict) else {}
        if runner.interrupts:
            values[INTERRUPT] = list(runner.interrupts)
        return RunOutput(values, FinishedRun(self.run_id, self.thread_id, tuple(self.events)))


class _Inner:
    """One call of a graph from inside a node of another one."""

    def __init__(
        self,
        graph: CompiledGraph,
        frame: Frame,
        options: Mapping[str, Any],
        streams: Streams | None = None,
        *,
        keys: Any = None,
    ) -> None:
        self.graph = graph
        self.frame = frame
        self.outer = frame.runner
        self.streams = streams or frame.runner.family.streams
        self.keys = graph.plan.answers if keys is None and streams is None else keys
        self.options = RunOptions.of(None, {key: value for key, value in options.items() if key in _INNER_OPTIONS})
        self.keeps = graph.checkpointer is not False and self.outer.family.record is not None
        self.namespace = self._namespace(frame.next_graph())

    def _namespace(self, number: int) -> tuple[str, ...]:
        task = self.frame.task
        if self.graph.checkpointer is True:  # the same place at every call, so that it remembers
            last = task.node if not number else f"{task.node}:{number}"
        else:
            last = f"{task.node}:{task.id}" if not number else f"{task.node}:{task.id}:{number}"
        return (*self.outer.namespace, last)

    async def run(self, input: Any) -> Any:
        """The output of the graph. Its tasks take slots of their own, so the one that calls it gives its slot back."""
        self.frame.pause()
        try:
            return await self._driven(input)
        finally:
            await self.frame.proceed()

    async def _driven(self, input: Any) -> Any:
        family, place = self.outer.family, "|".join(self.namespace)
        start = family.starts.pop(tuple(part.partition(":")[0] for part in self.namespace), None)
        position = await asyncio.to_thread(self._position, place, start) if self.keeps else None
        parents = {**self.outer.parents, "|".join(self.outer.namespace): self.outer.journal.checkpoint_id or ""}
        ours = position is not None and position.metadata.get("parents") == parents
        ledger = self.graph.ledger(f"{family.thread_id}|{place}", self.options, limit=family.recursion_limit)
        record = family.record if self.keeps else None
        journal = Unkept() if record is None else Kept(record, self.graph.codec, self.graph.plan, place, position)
        if self.streams is not None and self.streams is not family.streams:
            self.streams.root = self.namespace
        own = replace(family, context=self._context(), memory=self.graph.memory or family.memory, streams=self.streams)
        runner = Runner(
            own,
            ledger,
            journal,
            namespace=self.namespace,
            top=self.frame.top(),
            parents=parents,
            previous=_previous(position),
            keys=self.keys,
            inside=self.frame.task.id,
        )
        source = _stand(runner, None if ours or start else input, position, forked=start is not None)
        _first_mark(runner, source, position)
        await runner.drive()
        if runner.interrupted:
            raise GraphInterrupt(runner.interrupts)
        return ledger.chosen(runner.keys) if runner.moved else None

    def _context(self) -> Any:
        if self.options.context is None:
            return self.outer.family.context
        return _context(self.graph.plan, self.options.context)

    def _position(self, place: str, start: tuple[str, str] | None) -> Position | None:
        record = self.outer.family.record
        assert record is not None, "only a graph that keeps its state asks where it stands"
        thread_id, store = record.run.thread_id, record.store
        place, checkpoint_id = start or (place, None)
        if start is None and self._begins_earlier(place):
            before = self.outer.family.before or ""
            older = (kept.checkpoint_id for kept in store.history(thread_id, place) if kept.checkpoint_id < before)
            checkpoint_id = next(older, None)
            if checkpoint_id is None:
                return None
        found = store.thread(thread_id, place, checkpoint_id)
        if found is None:
            return None
        return Reader(self.graph.plan, self.graph.codec, store, thread_id, f"{thread_id}|{place}").position(found)

    def _begins_earlier(self, place: str) -> bool:
        """Whether the graph remembers, and the run began at an earlier time: then it knows what it knew then."""
        met, before = self.outer.family.met, self.outer.family.before
        if self.graph.checkpointer is not True or before is None or place in met:
            return False
        met.add(place)
        return True


_INNER_OPTIONS: Final = frozenset({"context", "interrupt_before", "interrupt_after"})


def _replays(input: Any) -> bool:
    """Whether a run with this input, from a checkpoint that was named, is one of that time."""
    return not (isinstance(input, Command) and input.resume is not None)


def _goes_on(input: Any) -> bool:
    return input is None or isinstance(input, Command)


def _stand(runner: Runner, input: Any, position: Position | None, *, forked: bool) -> str | None:
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
    change = Result(_writes(ledger, command), ledger.plan.goals(command.goto, "the Command"))
    if command.resume is not None:
        runner.family.answers.update(_answers(command.resume, position))
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
    ledger.begin(command.update if ledger.plan.input.single is not None else dict(_writes(ledger, command)))
    return "input"


def _writes(ledger: Ledger, command: Command) -> tuple[tuple[str, Any], ...]:
    update = command.update
    if isinstance(update, list | tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in update):
        return tuple((key, value) for key, value in update)
    return updates_of(update, ledger.plan.state)


def _answers(resume: Any, position: Position) -> dict[str, Any]:
    """The answers, each by what it is meant for. Raises `StateError` when that is not clear."""
    asked = {i.id: task for task in position.snapshot.tasks for i in position.interrupts(task)}
    if isinstance(resume, Mapping) and resume and all(_is_id(key) for key in resume):
        if not resume.keys() & asked.keys():  # one that was answered meanwhile may be among others
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


def _first_mark(runner: Runner, source: str | None, position: Position | None) -> None:
    if source == "input" or position is None:
        left = position is not None and bool(position.snapshot.tasks)  # tasks whose results are not of this branch
        runner.mark(source or "input", due=left)
    elif source is None:
        runner.resume(position.metadata)
    else:
        runner.mark(source, due=True, resumed=True)


def _tell_joins(family: Family, ledger: Ledger) -> None:
    """Say which joins the run has ended without: a branch that was meant to come together did not."""
    for target, missing in ledger.waiting_joins():
        text = f"the join to {target!r} never fired: {', '.join(map(repr, missing))} did not run"
        family.emit(Noticed(clock(), text))


async def _driven(family: Family, runner: Runner) -> None:
    try:
        await runner.drive()
    except ParentCommand as command:
        raise InvalidUpdateError(f"{command.command} is meant for a graph around this one, and there is none") from None
    except BaseException:
        family.threads.close(wait=False)
        raise
    family.threads.close(wait=True)


def _previous(position: Position | None) -> Any:
    return None if position is None else position.snapshot.values.get("__previous__")


def _context(plan: Plan, given: Any) -> Any:
    """The context in the type that the graph declares for it."""
    schema = plan.context
    if schema is None or not isinstance(given, Mapping) or not isinstance(schema, type) or issubclass(schema, dict):
        return given
    return schema(**given)


def blocking(coroutine: Callable[[], Coroutine[Any, Any, T]], *, instead: str) -> T:
    """Run a coroutine to its end: on the run's loop for the thread of a blocking node, else in a loop of its own.

    Raises `SyncInLoopError` where a loop is running in this thread: blocking it would stop every agent on it.
    """
    _no_loop(instead)
    frame = current_frame()
    if frame is not None and not frame.ended:
        return frame.runner.from_thread(coroutine)
    return asyncio.run(coroutine())


def _no_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInLoopError("this call blocks, and an event loop is running in this thread", hint=f"use: {instead}")


def _codec_for(plan: Plan) -> Codec:
    """A codec that knows every class which the state's annotations name, and messages where there may be some."""
    codec = Codec()
    schemas = [plan.state, plan.input, plan.output]
    schemas += [node.action.schema for node in plan.nodes.values() if node.action is not None]
    for schema in schemas:
        for annotation in schema.annotations.values():
            codec.register_from(annotation)
    if "langchain_core.messages" in sys.modules or any(map(holds_messages, plan.channels.values())):
        for cls in message_types():
            codec.register(cls)
    return codec
