"""`StateGraph` and what it compiles to: the face of the engine, for blocking and for async code.

There is one way to run a graph, a *sitting*: it finds where the thread stands, takes the input, drives the ledger, and
hands over what came of it. `ainvoke` awaits one, `astream` listens to one, and the blocking forms do the same in an
event loop of their own. A graph that is called inside a node of another one joins that one's run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, get_args

from fanfold import interop, loops
from fanfold.context import configurable
from fanfold.description import Described
from fanfold.errors import (
    SyncInLoopError,
    UsageError,
    did_you_mean,
)
from fanfold.frame import Frame, current_frame
from fanfold.inner import Inner
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Schedule
from fanfold.kernel.plan import Node, Plan
from fanfold.kernel.schema import Schema
from fanfold.limits import Limits
from fanfold.messages import holds_messages, message_types
from fanfold.sitting import DEFAULT_RECURSION_LIMIT, RunOptions, Sitting
from fanfold.state import States
from fanfold.store.base import Store
from fanfold.store.opening import items_of, open_store
from fanfold.store.serde import Codec
from fanfold.stream import Chunk, Consumer, Form, Shapes, Streams
from fanfold.types import END, INTERRUPT, GraphOutput, Overwrite

if TYPE_CHECKING:
    from fanfold.drawing import Drawing


_EVERY_LEVEL: Final = 64

T = TypeVar("T")


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
        schedule: Schedule = "watermark",
        debug: bool = False,
        name: str | None = None,
    ) -> CompiledGraph:
        """Validate the graph and freeze it.

        `checkpointer` is a store or the URL of one, such as `sqlite:///runs.db`; without it nothing is kept. For a
        graph that runs inside another one None means the other's, True a memory of its own there, False none.
        `store` is long-term memory: an `InMemoryStore`, the `items` of a store, a store or its URL, or True for what
        the checkpointer's database holds. `interrupt_before` and `interrupt_after` name nodes, or are "*". With
        `on_error="finish"` siblings of a failed node are let finish. With `schedule="superstep"` a task starts when the
        step below it has ended; by default, as soon as all that it sees is decided, by what the nodes declare. The
        results are the same.

        Raises `GraphError` with every problem of the graph, `StoreError` when the store cannot be opened, `TypeError`
        for a checkpointer that is none.
        """
        before, after = interrupt_before or [], interrupt_after or []
        plan = self.plan(name or "graph", stops=(*_names(before), *_names(after)))
        kept_in = checkpointer_of(checkpointer)
        return CompiledGraph(
            plan,
            kept_in,
            limits or Limits(),
            memory=items_of(store, kept_in),
            cache=cache,
            pause_before=before,
            pause_after=after,
            let_finish=_finish(on_error),
            schedule=_schedule(schedule),
            debug=debug,
            builder=self,
        )

    def validate(self) -> Self:
        """The builder itself. Raises `GraphError` with every problem of the graph."""
        self.plan()
        return self


def _names(stops: Collection[str]) -> Collection[str]:
    return () if stops == "*" else [name for name in stops if name != "*"]


def _finish(on_error: str) -> bool:
    if on_error not in ("cancel", "finish"):
        raise UsageError(f"on_error is {on_error!r}; it is 'cancel' or 'finish'")
    return on_error == "finish"


def _schedule(schedule: Schedule) -> Schedule:
    if schedule not in get_args(Schedule):
        raise UsageError(f"schedule is {schedule!r}; it is one of {', '.join(map(repr, get_args(Schedule)))}")
    return schedule


def checkpointer_of(given: Any) -> Any:
    """The store that `checkpointer=` names; None, True and False as they are. Raises `TypeError` for anything else."""
    if isinstance(given, str | Path):
        return open_store(given)
    if given is None or isinstance(given, bool) or hasattr(given, "submit"):
        return given
    raise TypeError(f"checkpointer= is {given!r:.80}; give a store, the URL of one, None, True or False")


class CompiledGraph(States, Described):
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
        schedule: Schedule = "watermark",
        debug: bool = False,
        builder: StateGraph | None = None,
    ) -> None:
        self.plan = plan
        self.builder = builder
        self.checkpointer = checkpointer
        self.limits = limits
        self.store = memory
        self.cache = cache
        self.step_timeout: float | None = None
        self.config: Mapping[str, Any] = {}
        self.codec = _codec_for(plan)
        self.slow: set[Callable[..., Any]] = set()  # quick code that was seen to take its time
        if hasattr(checkpointer, "read_by"):
            checkpointer.read_by(self, plan.digest())
        self.interrupt_before_nodes = pause_before
        self.interrupt_after_nodes = pause_after
        self._let_finish = let_finish
        self.schedule = schedule
        self.debug = debug
        self.stream_mode: Any = "updates"

    @property
    def name(self) -> str:
        """What the graph calls itself in listings."""
        return self.plan.name

    @name.setter
    def name(self, name: str) -> None:
        self.plan = replace(self.plan, name=name)

    def get_name(self) -> str:
        """The same as `name`."""
        return self.plan.name

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by name, `__start__` among them."""
        return self.plan.nodes

    @property
    def kept_in(self) -> Store | None:
        """Where its threads are kept, when it runs on its own."""
        return None if isinstance(self.checkpointer, bool) else self.checkpointer

    def with_config(self, config: Mapping[str, Any] | None = None, **more: Any) -> CompiledGraph:
        """The same graph with a config that each call begins from."""
        bound = CompiledGraph.__new__(CompiledGraph)
        bound.__dict__.update(self.__dict__)
        bound.config = {**self.config, **(config or {}), **more}
        return bound

    # Running

    def __call__(self, input: Any, config: Mapping[str, Any] | None = None) -> Any:
        """The same as `invoke`, for what takes a function: LangChain makes any function a part of a chain."""
        return self.invoke(input, config)

    def __or__(self, other: Any) -> Any:
        """A chain of LangChain's that gives this graph's output to `other`."""
        return interop.chained(self) | other

    def __ror__(self, other: Any) -> Any:
        """A chain of LangChain's that gives the output of `other` to this graph."""
        return other | interop.chained(self)

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
        subgraphs: bool = False,
        version: str = "v1",
        debug: bool | None = None,
        **options: Any,
    ) -> Any:
        """The last values of a run from `input` to its end, as a dictionary that has the run as `.run`.

        `None` as input goes on with the thread where it stands; a `Command` answers its questions. When the run waits
        for a person, the questions are under `__interrupt__`. The options are LangGraph's in `config`, or the
        keywords `thread_id`, `run_id`, `max_concurrency`, `recursion_limit`, `durability` ("async": a plain node's
        result may still be on its way to the disk when the next starts, an agent's never is; "sync": none is; "exit":
        everything is stored at the end), `on_busy` and `on_change` (what to do when somebody else runs the thread, and
        when a graph of another shape did: see `fanfold.store.base.OnBusy` and `fanfold.sitting.OnChange`), `context`,
        `control`, `interrupt_before`, `interrupt_after`, `on_event`, and for agents `model`, `models` (what a word
        such as `sonnet` in their files means), `workspace`, `agents`. With another `stream_mode` than "values", the
        list of its chunks. With `version="v2"` a `GraphOutput`.

        Raises what a node raised, with a note that names it. What had finished by then is kept.
        """
        modes = stream_mode or "values"
        form = Form.of(modes, printed=self._printed(print_mode, debug), subgraphs=subgraphs, version=version)
        keys = self.plan.answers if output_keys is None else self._checked(output_keys)
        if form.modes != ("values",) or form.several:
            chunks = self._chunks(input, config, form, keys, options)
            return [chunk async for chunk in chunks]
        frame = self._around(config, options)
        if frame is not None:
            output = await Inner(self, frame, self._bound(config), options, keys=keys).run(input)
        elif form.printed:
            output = await self._printing(input, config, form, keys, options)
        else:
            output = await Sitting(self, RunOptions.of(self._bound(config), options), keys=keys).run(input)
        return output if version == "v1" else self._typed(output)

    async def _printing(self, input: Any, config: Any, form: Form, keys: Any, options: Mapping[str, Any]) -> Any:
        """The output of a run whose chunks are printed as they come."""
        streams = Streams(form)
        sitting = Sitting(self, RunOptions.of(self._bound(config), options), streams, keys=keys)
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
        return ("updates", "values") if (self.debug if debug is None else debug) else modes

    def stream(self, input: Any, config: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Any]:
        """The chunks of a run as they come; see `astream`. Leaving the loop early stops the run."""
        _no_loop("async for chunk in graph.astream(...)")
        frame = current_frame()
        if frame is not None and not frame.ended:
            yield from _drained(self.astream(input, config, **options), frame.runner.from_thread)
            return
        consumer = Consumer()
        with loops.runner() as runner:
            chunks = self._streamed_to(consumer, input, config, **options)
            yield from consumer.timed(_drained(chunks, lambda call: runner.run(_awaited(call))))

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
        asked = {"stream_mode": stream_mode, "print_mode": print_mode, "output_keys": output_keys, "debug": debug}
        chunks = self._streamed_to(None, input, config, **asked, subgraphs=subgraphs, version=version, **options)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _streamed_to(
        self,
        consumer: Consumer | None,
        input: Any,
        config: Mapping[str, Any] | None,
        *,
        stream_mode: Any = None,
        print_mode: Any = (),
        output_keys: Any = None,
        subgraphs: bool = False,
        version: str = "v1",
        debug: bool | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """The chunks of a run for a consumer, who may be one that keeps the loop from going on while it works."""
        inside = "checkpoint_ns" in configurable(config) and self._around(config, options) is not None
        default = "values" if inside else self.stream_mode
        modes = default if stream_mode is None else stream_mode
        form = Form.of(modes, printed=self._printed(print_mode, debug), subgraphs=subgraphs, version=version)
        keys = None if output_keys is None else self._checked(output_keys)
        async with aclosing(self._chunks(input, config, form, keys, options, consumer)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _chunks(
        self,
        input: Any,
        config: Any,
        form: Form,
        keys: Any,
        options: Mapping[str, Any],
        consumer: Consumer | None = None,
    ) -> AsyncGenerator[Any, None]:
        """The chunks of a run, or of a part of the run that this is called in."""
        shapes = self._shapes()
        frame = self._around(config, options)
        streams = Streams(form, outer=frame.runner.family.streams if frame is not None else None, consumer=consumer)
        sitting: Sitting | Inner
        if frame is not None:
            sitting = Inner(self, frame, self._bound(config), options, streams, keys=keys)
        else:
            sitting = Sitting(self, RunOptions.of(self._bound(config), options), streams, keys=keys)
        running = asyncio.ensure_future(self._streamed(sitting, input, streams))
        async with aclosing(_taken(running, streams)) as chunks:
            async for chunk in chunks:
                for handed in form.handed(chunk, shapes):
                    yield handed

    async def _streamed(self, sitting: Sitting | Inner, input: Any, streams: Streams) -> Any:
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

        `max_concurrency` is how many run at once, and the limit of each. With `return_exceptions`, what a run raised
        is in the place of its output.
        """
        configs = config if isinstance(config, list | tuple) else [config] * len(inputs)
        asked = options.get("max_concurrency") or self._bound(next(iter(configs), None)).get("max_concurrency")
        turns = asyncio.Semaphore(Limits(asked).max_concurrency or max(len(inputs), 1))

        async def one(value: Any, each: Any) -> Any:
            async with turns:
                return await self.ainvoke(value, each, **options)

        runs = (one(value, each) for value, each in zip(inputs, configs, strict=True))
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
        return await Inner(self, frame, self._bound(config or _said_around(frame)), options).run(input)

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
        """A ledger of this graph that stands at the beginning. Raises `UsageError` for a stop at an unknown node."""
        before = (options and options.interrupt_before) or self.interrupt_before_nodes
        after = (options and options.interrupt_after) or self.interrupt_after_nodes
        for stop in (*_names(before), *_names(after)):
            if stop not in self.plan.nodes and stop != END:
                hint = did_you_mean(stop, self.plan.nodes)
                raise UsageError(f"interrupt at {stop!r}: graph {self.name!r} has no such node{hint}")
        return Ledger(
            self.plan, seed=seed, step_limit=limit, pause_before=before, pause_after=after, schedule=self.schedule
        )

    @property
    def lets_finish(self) -> bool:
        """Whether siblings of a failed node go on to their end."""
        return self._let_finish


def _said_around(frame: Frame) -> Mapping[str, Any]:
    """What the run's config says to a graph that is a node, more than the one it is bound to. Limits hold anyway."""
    family = frame.runner.family
    said = {key: value for key, value in family.config.items() if key != "max_concurrency"}
    return {**said, "recursion_limit": family.recursion_limit}


async def _taken(running: asyncio.Future[Any], streams: Streams) -> AsyncGenerator[Chunk, None]:
    """The chunks of a run as they come, and then what it raised. Left early, it stops the run."""
    try:
        while (chunk := await streams.get()) is not None:
            yield chunk
        await running
    finally:
        streams.leave()
        if not running.done():
            running.cancel()
            await asyncio.wait([running])


def _drained(chunks: AsyncIterator[T], wait: Callable[[Callable[[], Awaitable[Any]]], Any]) -> Generator[T]:
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


def blocking(coroutine: Callable[[], Coroutine[Any, Any, T]], *, instead: str) -> T:
    """Run a coroutine to its end: on the run's loop for the thread of a blocking node, else in a loop of its own.

    Raises `SyncInLoopError` where a loop is running in this thread: blocking it would stop every agent on it.
    """
    _no_loop(instead)
    frame = current_frame()
    if frame is not None and not frame.ended:
        return frame.runner.from_thread(coroutine)
    return loops.run(coroutine())


def _no_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInLoopError("this call blocks, and an event loop is running in this thread", hint=f"use: {instead}")


def _codec_for(plan: Plan) -> Codec:
    """A codec that knows every class which the state's annotations name, and messages where there may be some."""
    codec = Codec()
    codec.register(Overwrite)
    schemas = [plan.state, plan.input, plan.output]
    schemas += [node.action.schema for node in plan.nodes.values() if node.action is not None]
    for schema in schemas:
        for annotation in schema.annotations.values():
            codec.register_from(annotation)
    if "langchain_core.messages" in sys.modules or any(map(holds_messages, plan.channels.values())):
        for cls in message_types():
            codec.register(cls)
    return codec
