"""Looking at threads and changing them: their state now and before, and updates from outside.

Each operation is written once, over the store's blocking questions; the async forms ask them in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fanfold.claiming import held
from fanfold.context import configurable, metadata_of
from fanfold.errors import CorruptRecordError, InvalidUpdateError, UsageError
from fanfold.family import Emitter, Family, namespace_in
from fanfold.frame import Frame, current_frame, enter
from fanfold.journal import Kept, Position, Reader, Record, Unkept, iso
from fanfold.kernel.ledger import Ledger, Result, Task
from fanfold.kernel.schema import updates_of
from fanfold.limits import Slots
from fanfold.run import Runner
from fanfold.store.base import DONE, Lease, RunRecord, Store
from fanfold.stream import written
from fanfold.types import END, START, Command, PregelTask, StateSnapshot, StateUpdate

if TYPE_CHECKING:
    from fanfold.graph import CompiledGraph
    from fanfold.kernel.plan import Node

T = TypeVar("T")

COPY: Final = "__copy__"
INPUT: Final = "__input__"
PREVIOUS: Final = "__previous__"
_SPECIAL: Final = frozenset({END, COPY, INPUT})

_AT_ONCE: Final = 64
"""Checkpoints of a history that are read in one go: as many states are in memory then."""


class States:
    """The part of a compiled graph that reads and writes the state of its threads."""

    if TYPE_CHECKING:

        @property
        def _graph(self) -> CompiledGraph: ...

    def get_state(self, config: Mapping[str, Any], *, subgraphs: bool = False) -> StateSnapshot:
        """Where a thread stands, or stood at the `checkpoint_id` of `config`.

        With `subgraphs`, tasks that are graphs hold a snapshot of their own. Raises `UsageError` without a
        checkpointer or a thread.
        """
        return _Thread(self, config).state(subgraphs)

    async def aget_state(self, config: Mapping[str, Any], *, subgraphs: bool = False) -> StateSnapshot:
        """`get_state`, awaited."""
        return await _apart(lambda: self.get_state(config, subgraphs=subgraphs))

    def get_state_history(
        self,
        config: Mapping[str, Any],
        *,
        filter: Mapping[str, Any] | None = None,
        before: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """Where a thread has stood, the newest first: those whose metadata match `filter`, older than `before`."""
        return iter(_Thread(self, config).history(filter or {}, before, limit))

    async def aget_state_history(self, config: Mapping[str, Any], **options: Any) -> AsyncIterator[StateSnapshot]:
        """`get_state_history`, awaited."""
        for snapshot in await _apart(lambda: list(self.get_state_history(config, **options))):
            yield snapshot

    def update_state(
        self, config: Mapping[str, Any], values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """Write `values` as if `as_node` had, and route from there; the config of the new checkpoint.

        Without `as_node` it is the node that ran last. Raises `InvalidUpdateError` when several did, and
        `ThreadBusyError` while a run of the thread goes on that this is not called in.
        """
        return self.bulk_update_state(config, [[StateUpdate(values, as_node, task_id)]])

    async def aupdate_state(
        self, config: Mapping[str, Any], values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """`update_state`, awaited."""
        return await _apart(lambda: self.update_state(config, values, as_node, task_id))

    def bulk_update_state(
        self, config: Mapping[str, Any], supersteps: Sequence[Sequence[StateUpdate]]
    ) -> dict[str, Any]:
        """Several updates, those of one inner sequence as one step; the config of the last checkpoint."""
        if not supersteps or not all(supersteps):
            raise ValueError("no updates were given: each step needs at least one")
        thread = _Thread(self, config)
        with held(thread.store, thread.thread_id) as lease:
            for updates in supersteps:
                thread.update([StateUpdate(*update) for update in updates], lease)
            return thread.place()

    async def abulk_update_state(
        self, config: Mapping[str, Any], supersteps: Sequence[Sequence[StateUpdate]]
    ) -> dict[str, Any]:
        """`bulk_update_state`, awaited."""
        return await _apart(lambda: self.bulk_update_state(config, supersteps))

    def get_subgraphs(
        self, *, namespace: str | None = None, recurse: bool = False
    ) -> Iterator[tuple[str, CompiledGraph]]:
        """The graphs that nodes of this one are or call, by node; with `recurse` also theirs, as `node|node`."""
        for node in self.plan.nodes.values():  # type: ignore[attr-defined]
            graph = _graph_of(node)
            if graph is None or (namespace is not None and namespace.split("|")[0] != node.name):
                continue
            rest = None if namespace is None or "|" not in namespace else namespace.split("|", 1)[1]
            if rest is None:
                yield node.name, graph
            if recurse:
                inner = graph.get_subgraphs(namespace=rest, recurse=recurse)
                yield from ((f"{node.name}|{name}", found) for name, found in inner)

    async def aget_subgraphs(
        self, *, namespace: str | None = None, recurse: bool = False
    ) -> AsyncIterator[tuple[str, CompiledGraph]]:
        """`get_subgraphs`, for code that iterates with `async for`."""
        for each in self.get_subgraphs(namespace=namespace, recurse=recurse):
            yield each


def _graph_of(node: Node) -> Any:
    """The graph that a node is, or the first that its function names, if it keeps a state; else None."""
    action = node.action
    if action is None:
        return None
    named = [action.graph] if action.graph is not None else _names_of(action.function)
    return next((graph for graph in named if isinstance(graph, States) and graph.checkpointer is not False), None)  # type: ignore[attr-defined]


def _names_of(function: Any) -> Iterator[Any]:
    """What the names in a function's code stand for: those of the functions around it, then the module's."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a name that has no value yet
            yield cell.cell_contents
    yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)


async def _apart(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


class _Thread:
    """One thread of one graph, or of the sub-graph whose namespace the config names, at one checkpoint."""

    def __init__(self, graph: Any, config: Mapping[str, Any]) -> None:
        bound = graph._bound(config)
        place = configurable(bound)
        self.config = bound
        self.namespace = str(place.get("checkpoint_ns") or "")
        self.graph = _within(graph, self.namespace)
        self.memory = graph.store if self.graph.store is None else self.graph.store
        self.store: Store = _store(graph)
        if place.get("thread_id") in (None, ""):
            raise UsageError("the config names no thread", hint='give {"configurable": {"thread_id": ...}}')
        self.thread_id = str(place["thread_id"])
        self.checkpoint_id: str | None = place.get("checkpoint_id")
        self.seed = f"{self.thread_id}|{self.namespace}" if self.namespace else self.thread_id
        self._reader = Reader(self.graph.plan, self.graph.codec, self.store, self.thread_id, self.seed)

    # Reading

    def state(self, subgraphs: bool) -> StateSnapshot:
        position = self.position(self.checkpoint_id)
        if position is None:
            return StateSnapshot({}, (), {"configurable": dict(configurable(self.config))}, None, None, None, (), ())
        return self._snapshot(position, subgraphs, live=self.checkpoint_id is None)

    def history(
        self, wanted: Mapping[str, Any], before: Mapping[str, Any] | None, limit: int | None
    ) -> Iterator[StateSnapshot]:
        bound = configurable(before).get("checkpoint_id") or ""
        ids = [kept.checkpoint_id for kept in self.store.history(self.thread_id, self.namespace)]
        ids = [id for id in ids if not (bound and id >= bound) and self.checkpoint_id in (None, "", id)]
        few = limit is not None and not wanted
        found = (
            position
            for position in self._positions(ids, min(limit or 0, _AT_ONCE) if few else _AT_ONCE)
            if all(position.metadata.get(key) == value for key, value in wanted.items())
        )
        for position in islice(found, limit):
            yield self._snapshot(position, False, live=False)

    def _positions(self, ids: Sequence[str], at_once: int) -> Iterator[Position]:
        """What is kept at these checkpoints, in their order; those that follow from one another are read in one go."""
        read: dict[str, Position] = {}
        for place, id in enumerate(ids):
            if id not in read and (record := self.store.thread(self.thread_id, self.namespace, id)) is not None:
                try:
                    positions = self._reader.positions(record, set(ids[place : place + at_once]))
                except (UsageError, CorruptRecordError):  # perhaps of an older one, which is not asked for yet
                    positions = [self._reader.position(record)]
                read = {position.checkpoint_id: position for position in positions}
            if id in read:
                yield read.pop(id)

    def position(self, checkpoint_id: str | None) -> Position | None:
        """What is kept at a checkpoint, by default the newest."""
        found = self.store.thread(self.thread_id, self.namespace, checkpoint_id)
        return None if found is None else self._reader.position(found)

    def place(self) -> dict[str, Any]:
        """The config of the newest checkpoint."""
        found = self.store.thread(self.thread_id, self.namespace)
        return self._config(None if found is None else found.head.checkpoint_id)

    def _config(self, checkpoint_id: str | None) -> dict[str, Any]:
        place: dict[str, Any] = {"thread_id": self.thread_id, "checkpoint_ns": self.namespace}
        if checkpoint_id is not None:
            place["checkpoint_id"] = checkpoint_id
        return {"configurable": place}

    def _snapshot(self, position: Position, subgraphs: bool, *, live: bool) -> StateSnapshot:
        """What is known of a position: as it stands now, if `live`, else as its step began."""
        ledger = self._ledger(position, live=live)
        tasks = tuple(self._task(ledger, position, task, subgraphs, live=live) for task in position.snapshot.tasks)
        return StateSnapshot(
            values=_read(ledger),
            next=tuple(task.node for task in position.snapshot.tasks if ledger.result(task) is None),
            config=self._config(position.checkpoint_id),
            metadata=dict(position.metadata),
            created_at=iso(position.created),
            parent_config=None if position.parent_id is None else self._config(position.parent_id),
            tasks=tasks,
            interrupts=tuple(interrupt for task in tasks for interrupt in task.interrupts),
        )

    def _ledger(self, position: Position | None, *, live: bool = False) -> Ledger:
        """A ledger at a position; if `live`, with what its tasks have returned so far."""
        ledger: Ledger = self.graph.ledger(self.seed)
        if position is None:
            ledger.clear()
            return ledger
        position.stand(ledger)
        for task in ledger.tasks if live else ():
            if (result := position.result(task)) is not None:
                ledger.note(task, result)
        return ledger

    def _task(self, ledger: Ledger, position: Position, task: Task, subgraphs: bool, *, live: bool) -> PregelTask:
        told = position.told(task)
        if told is None and task.node == START and not live:
            told = Result(ledger.input_writes(task.arg))
        path = ("__pregel_pull", task.node) if task.send is None else ("__pregel_push", task.send, False)
        return PregelTask(
            id=task.id,
            name=task.node,
            path=path,
            error=position.found.get((task.id, "error")),
            interrupts=position.interrupts(task) if live else position.asked(task),
            state=self._inner_state(task, subgraphs),
            result=None if told is None or told.handled else self._written(told),
        )

    def _written(self, result: Result) -> Any:
        single = self.graph.plan.state.single
        return written(result.writes) if single is None else dict(result.writes).get(single)

    def _inner_state(self, task: Task, subgraphs: bool) -> Any:
        graph = _graph_of(self.graph.plan.nodes[task.node])
        if graph is None:
            return None
        above = tuple(self.namespace.split("|")) if self.namespace else ()
        namespace = "|".join(namespace_in(above, task, remembers=graph.checkpointer is True))
        config = {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": namespace}}
        return _Thread(_Rooted(graph, self.store, namespace), config).state(True) if subgraphs else config

    # Writing

    def update(self, updates: Sequence[StateUpdate], lease: Lease) -> None:
        """Take one step in which these updates are what ran."""
        position = self.position(self.checkpoint_id)
        special = next((update.as_node for update in updates if update.as_node in _SPECIAL), None)
        if special is not None and len(updates) > 1:
            raise InvalidUpdateError(f"an update as {special!r} must be the only one of its step")
        ledger = self._ledger(position, live=special == END)
        if position is None and special == INPUT:
            ledger.step -= 1  # the input that a thread begins with comes before its first step
        if special is None:
            source = "update"
            ran = [self._ran(ledger, update, alone=len(updates) == 1) for update in updates]
            ledger.amend(ran)
        else:
            source, ran = self._special(ledger, position, updates[0]), []
        self._keep(ledger, position, source, ran, lease)
        self.checkpoint_id = None
        if special == COPY and isinstance(updates[0].values, list):  # what to change in the copy at once
            self.update([StateUpdate(*update[:2]) for update in updates[0].values], lease)

    def _special(self, ledger: Ledger, position: Position | None, update: StateUpdate) -> str:
        if update.as_node == END:
            if update.values is not None:
                raise InvalidUpdateError(f"an update as END takes no values, and was given {update.values!r:.80}")
            ledger.clear()
            return "update"
        if update.as_node == COPY:
            if position is None:
                raise InvalidUpdateError(f"thread {self.thread_id!r} holds nothing that could be copied")
            ledger.skip()
            return "fork"
        ledger.begin(update.values)
        return "input"

    def _ran(self, ledger: Ledger, update: StateUpdate, *, alone: bool) -> tuple[Task, Result]:
        if update.as_node is None and not alone:
            raise InvalidUpdateError("of several updates in one step each needs as_node=")
        node = self._as_node(ledger, update.as_node)
        task = next((t for t in ledger.tasks if t.node == node and t.send is None), None) or ledger.named(node)
        values = update.values
        told = _told(ledger, values, f"the update as {node!r}")
        if PREVIOUS in ledger.plan.channels:  # an entrypoint remembers what it is said to have returned
            told = replace(told, writes=(*told.writes, (PREVIOUS, values)))
        if not ledger.plan.nodes[node].routes:
            return task, told
        return task, _on_a_loop(lambda: self._routed(ledger, task, told, update.values))

    async def _routed(self, ledger: Ledger, task: Task, told: Result, returned: Any) -> Result:
        """What was told, with where the node's paths lead from there. They run like those of a task of a run."""
        family = Family(
            run_id=_run_id(self.thread_id),
            thread_id=self.thread_id,
            emit=Emitter(()),
            jot=lambda _: None,
            slots=Slots(None),
            config=self.config,
            memory=self.memory,
            loop=asyncio.get_running_loop(),
        )
        namespace = tuple(self.namespace.split("|")) if self.namespace else ()
        frame = Frame(Runner(family, ledger, Unkept(), namespace=namespace), task)
        enter(frame)
        node = ledger.plan.nodes[task.node]
        try:
            return await frame.runner.calls.routed(frame, node, told.writes, told.goto, returned=returned)
        finally:
            await frame.rest()
            await frame.end()
            family.places.close(wait=False)

    def _as_node(self, ledger: Ledger, named: str | None) -> str:
        nodes = ledger.plan.nodes
        if named is not None:
            if named not in nodes:
                raise InvalidUpdateError(f"there is no node {named!r} to update as; there are: {', '.join(nodes)}")
            return named
        if not ledger.ran:
            return START if START in nodes else next(iter(nodes))  # an entrypoint is its only node
        if len(ledger.ran) > 1:
            raise InvalidUpdateError(
                f"it is ambiguous which node the update is of: {', '.join(ledger.ran)} ran last",
                hint="name it with as_node=",
            )
        return ledger.ran[0]

    def _keep(
        self,
        ledger: Ledger,
        position: Position | None,
        source: str,
        results: Sequence[tuple[Task, Result]],
        lease: Lease,
    ) -> None:
        """Store the new checkpoint; the one before shows what its tasks are said to have come to."""
        run = RunRecord(
            run_id=position.run_id if position else _run_id(self.thread_id),
            thread_id=self.thread_id,
            graph=self.graph.name,
            digest=self.graph.plan.digest(),
            status=DONE,
            created=time.time(),
        )
        record = Record(self.store, run, lease)
        journal = Kept(record, self.graph.codec, self.graph.plan, self.namespace, position)
        if position is not None:
            _stand_in(journal, position, results)
        if source == "fork" and position is not None:  # a copy stands beside what it is a copy of
            journal.checkpoint_id = position.parent_id
        parents = position.metadata.get("parents", {}) if position else {}
        told = {"source": source, "step": ledger.step - 1, "parents": parents}
        journal.checkpoint(ledger, source, metadata_of(self.config, told), due=True)
        record.flush()


def _told(ledger: Ledger, values: Any, whose: str) -> Result:
    """What an update writes, and where its Commands lead."""
    many = isinstance(values, list | tuple) and any(isinstance(item, Command) for item in values)
    writes: list[Any] = []
    goto: list[Any] = []
    for item in values if many else [values]:
        if isinstance(item, Command):
            goto += ledger.plan.goals(item.goto, whose)
        writes += updates_of(item.update if isinstance(item, Command) else item, ledger.plan.state)
    return Result(tuple(write for write in writes if write[0] in ledger.plan.channels), tuple(goto))


def _stand_in(journal: Kept, position: Position, told: Sequence[tuple[Task, Result]]) -> None:
    """Keep what an update has said in the place of tasks that waited, for those who look back. The first one stays."""
    waiting = list(position.snapshot.tasks)
    for task, result in told:
        meant = next((one for one in waiting if one.node == task.node), None)
        if meant is not None:
            waiting.remove(meant)
            if position.told(meant) is None:
                journal.keep(meant, "update", result)


def _read(ledger: Ledger) -> Any:
    """The values with what the step has come to so far; as it began, where two of its results exclude each other."""
    try:
        return ledger.provisional(ledger.plan.keys)
    except InvalidUpdateError:
        return ledger.chosen(ledger.plan.keys)


def _run_id(thread_id: str) -> str:
    """The run of a thread that began with an update."""
    named = hashlib.blake2b(thread_id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return f"update-{named}"


def _on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a coroutine returns, run on a loop of its own; in another thread, where this one runs a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, lambda: asyncio.run(work())).result()


class _Rooted:
    """A sub-graph seen by itself: its plan, over the store of the graph around it."""

    def __init__(self, graph: Any, store: Store, namespace: str) -> None:
        self._inner = graph
        self.checkpointer = store
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _within(graph: Any, namespace: str) -> Any:
    """The graph that a namespace such as `node:id|inner:id` belongs to."""
    if isinstance(graph, _Rooted):
        return graph._inner
    for part in namespace.split("|") if namespace else ():
        name = part.partition(":")[0]
        node = graph.plan.nodes.get(name)
        inner = None if node is None else _graph_of(node)
        if inner is None:
            raise ValueError(f"there is no sub-graph {name!r} in namespace {namespace!r}")
        graph = inner
    return graph


def _store(graph: Any) -> Store:
    frame = current_frame()
    if isinstance(graph.checkpointer, bool) or graph.checkpointer is None:
        record = frame.runner.family.record if frame is not None else None
        if record is None:
            raise ValueError("no checkpointer is set, so there is no state to look at; compile(checkpointer=...)")
        return record.store
    store: Store = graph.checkpointer
    return store
