"""Streams: what a consumer sees of a run while it goes on, as LangGraph's modes.

A run tells its streams what happened; each mode is a view of that. Chunks wait in a bounded queue: when the consumer
is slow, the run waits before it starts the next step, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, get_args

from fanfold.errors import UsageError, did_you_mean
from fanfold.kernel.ledger import Task, turn
from fanfold.types import INTERRUPT, START, Interrupt, StreamMode

if TYPE_CHECKING:
    from fanfold.run import Runner

MODES: Final = get_args(StreamMode)
VERSIONS: Final = ("v1", "v2")
MOST_WAITING: Final = 1024
"""Chunks that wait for the consumer before the run waits, too."""
LONGEST_WAIT: Final = 0.1
"""Seconds after which a thread that waits looks whether anybody is there to wait for."""

T = TypeVar("T")

Namespace: TypeAlias = tuple[str, ...]
Chunk: TypeAlias = tuple[Namespace, str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """What a consumer asked for: which modes, and how each chunk is handed over.

    `several` puts the mode before a chunk, `subgraphs` its namespace before that; in version 2 a chunk is a dictionary
    that says both. Chunks of the modes in `printed` are written to the terminal as well.
    """

    modes: tuple[str, ...]
    several: bool = False
    subgraphs: bool = False
    version: str = "v1"
    printed: tuple[str, ...] = ()

    @classmethod
    def of(cls, modes: Any, *, printed: Any, subgraphs: bool, version: str) -> Form:
        """The form that these options of `stream` mean. Raises `UsageError` for a mode that there is none of."""
        form = cls(_listed(modes), not isinstance(modes, str), subgraphs, version, _listed(printed))
        for mode in (*form.modes, *form.printed):
            if mode not in MODES:
                raise UsageError(f"there is no stream mode {mode!r}{did_you_mean(str(mode), MODES)}")
        if version not in VERSIONS:
            raise UsageError(f"there is no stream version {version!r}; it is one of {', '.join(VERSIONS)}")
        return form

    def handed(self, chunk: Chunk, shapes: Shapes) -> list[Any]:
        """The chunk as its consumer gets it; nothing when it was only to be printed."""
        namespace, mode, told = chunk
        if mode in self.printed:
            graph = f"[graph={namespace}] " if self.subgraphs and namespace else ""
            print(f"[{mode}] {graph}{told!r}")
        if mode not in self.modes:
            return []
        if self.version == "v2":
            return [_part(namespace, mode, told, shapes)]
        parts = ((namespace,) if self.subgraphs else ()) + ((mode,) if self.several else ()) + (told,)
        return [parts if len(parts) > 1 else told]


def _listed(modes: Any) -> tuple[str, ...]:
    return (modes,) if isinstance(modes, str) else tuple(modes)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The types in which version 2 hands over values: those that the graph declares for its output and its state."""

    output: Callable[[Any], Any]
    state: Callable[[Any], Any]


def _part(namespace: Namespace, mode: str, told: Any, shapes: Shapes) -> dict[str, Any]:
    part = {"type": mode, "ns": namespace, "data": told}
    if mode == "values":
        part["interrupts"] = told.pop(INTERRUPT, ()) if isinstance(told, dict) else ()
        part["data"] = shapes.output(told)
    elif mode == "checkpoints":
        part["data"] = _shaped_values(told, shapes)
    elif mode == "debug" and told["type"] == "checkpoint":
        part["data"] = {**told, "payload": _shaped_values(told["payload"], shapes)}
    return part


def _shaped_values(told: Mapping[str, Any], shapes: Shapes) -> Mapping[str, Any]:
    """A checkpoint with its values in their type, unless it is of an input: that need not be complete yet."""
    return told if START in told["next"] else {**told, "values": shapes.state(told["values"])}


@dataclass(slots=True)
class Consumer:
    """Blocking code that takes chunks. The event loop stands still while it works on one: `away` counts the seconds.

    Time limits must not count those: nobody could have kept them. `still` is entered meanwhile, to let others know.
    """

    away: float = 0.0
    still: Callable[[], AbstractContextManager[None]] = nullcontext

    def timed(self, chunks: Generator[T]) -> Generator[T]:
        """The same chunks, with the time between them counted."""
        with closing(chunks):
            for chunk in chunks:
                handed = time.monotonic()
                with self.still():
                    yield chunk
                self.away += time.monotonic() - handed


class Streams:
    """The chunks of one consumer, of the modes it asked for; those of sub-graphs if it wants them.

    The consumer may itself be a node of a run: then `root` is the namespace of the graph that it listens to, and
    `outer` are the streams of the run around it, which see the same chunks.
    """

    def __init__(self, form: Form, *, outer: Streams | None = None, consumer: Consumer | None = None) -> None:
        self.root: Namespace = ()
        self.seen: set[Any] = set() if outer is None else outer.seen
        self._outer = outer
        self._consumer = consumer
        self._modes = frozenset((*form.modes, *form.printed))
        self._subgraphs = form.subgraphs
        self._chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._free = threading.Event()  # the same for those who wait in a thread
        self._free.set()
        self._counting = threading.Lock()
        self._waiting = 0  # also those that the loop has not been told of yet: it may stand still meanwhile
        self._left = False
        self._loop = asyncio.get_running_loop()

    def stands_still(self, still: Callable[[], AbstractContextManager[None]]) -> None:
        """What to enter while the consumer keeps the loop from going on, if it ever does."""
        if self._consumer is not None:
            self._consumer.still = still

    @property
    def stood_still(self) -> float:
        """Seconds for which the loop stood still, because a consumer in blocking code was at work."""
        outside = 0.0 if self._outer is None else self._outer.stood_still
        return outside + (0.0 if self._consumer is None else self._consumer.away)

    def wants(self, mode: str, namespace: Namespace) -> bool:
        """Whether a chunk of this mode would be seen; if not, nobody needs to make it."""
        outside = self._outer is not None and self._outer.wants(mode, namespace)
        return outside or self._wants(mode, namespace)

    def hears(self, namespace: Namespace) -> bool:
        """Whether messages of a graph, or of one inside of it, can be for somebody here."""
        outside = self._outer is not None and self._outer.hears(namespace)
        return outside or ("messages" in self._modes and (self._subgraphs or namespace == self.root))

    def _wants(self, mode: str, namespace: Namespace) -> bool:
        return mode in self._modes and (self._subgraphs or namespace == self.root)

    def put(self, namespace: Namespace, mode: str, chunk: Any) -> None:
        """A chunk for the consumer, if it wants it.

        May be called from any thread; on another one than the loop's it waits while too much is waiting. Code on the
        loop cannot be made to wait here: it waits in `room`, when its task has ended.
        """
        if self._outer is not None:
            self._outer.put(namespace, mode, chunk)
        if self._left or not self._wants(mode, namespace):
            return
        try:
            inside = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            inside = False
        if inside:
            self._count(1)
            self._chunks.put_nowait((namespace, mode, chunk))
        else:
            if not self._had_room():
                return
            self._count(1)
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, (namespace, mode, chunk))

    def _had_room(self) -> bool:
        """Wait, in a thread, until there is room. False when the consumer has gone for good, who makes none."""
        while not self._free.wait(LONGEST_WAIT):
            if self._loop.is_closed():
                return False
        return not self._left

    def end(self) -> None:
        """There is no more."""
        self._chunks.put_nowait(None)

    def leave(self) -> None:
        """The consumer has gone; nobody is to wait for it."""
        with self._counting:
            self._left = True
            self._free.set()
        self._room.set()

    async def get(self) -> Chunk | None:
        """The next chunk; None at the end."""
        chunk = await self._chunks.get()
        if chunk is not None:
            self._count(-1)
        return chunk

    async def room(self) -> None:
        """Wait until the consumer has taken enough of what is there."""
        while self._waiting >= MOST_WAITING and not self._left:
            self._room.clear()
            await self._room.wait()
        if self._outer is not None:
            await self._outer.room()

    def _count(self, change: int) -> None:
        with self._counting:  # all of it: who found it full must not say so when it is no longer
            self._waiting += change
            full = self._waiting >= MOST_WAITING and not self._left
            if full:
                self._free.clear()
            elif change < 0:
                self._free.set()
        if change < 0 and not full:  # taken by the consumer, which is on the loop
            self._room.set()


def update_chunk(node: str, writes: Sequence[tuple[str, Any]], keys: str | Collection[str]) -> dict[str, Any]:
    """What the "updates" mode shows of a task: None for no write, a list when one key is written twice."""
    if isinstance(keys, str):
        told = [value for key, value in writes if key == keys]
    else:
        seen = [(key, value) for key, value in writes if key in keys]
        twice = len({key for key, _ in seen}) < len(seen)
        told = [{key: value} for key, value in seen] if twice else [dict(seen)] if seen else []
    return {node: None if not told else told[0] if len(told) == 1 else told}


def task_start(task: Task, value: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the "tasks" mode shows of a task that begins."""
    told = {"id": task.id, "name": task.node, "input": value, "triggers": task.triggers}
    return {**told, "metadata": dict(metadata)} if metadata else told


def task_end(
    task: Task,
    writes: Sequence[tuple[str, Any]] = (),
    *,
    error: BaseException | None = None,
    interrupts: Iterable[Interrupt] = (),
) -> dict[str, Any]:
    """What the "tasks" mode shows of a task that has ended, failed or paused."""
    return {
        "id": task.id,
        "name": task.node,
        "error": error,
        "result": written(writes),
        "interrupts": [asdict(interrupt) for interrupt in interrupts],
    }


def written(writes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Writes as a dictionary, where a key that was written more than once has all of them under `$writes`."""
    found: dict[str, list[Any]] = {}
    for key, value in writes:
        found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else {"$writes": values} for key, values in found.items()}


def checkpoint_told(runner: Runner, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the "checkpoints" mode shows of the checkpoint at which a run stands."""
    ledger, journal = runner.ledger, runner.journal
    place = {"thread_id": runner.family.thread_id, "checkpoint_ns": "|".join(runner.namespace)}
    tasks = sorted(ledger.tasks, key=turn)
    parent = journal.parent_id

    def at(checkpoint_id: str | None) -> dict[str, Any]:
        return {"configurable": {**place, "checkpoint_id": checkpoint_id}}

    return {
        "config": at(journal.checkpoint_id),
        "parent_config": None if parent is None else at(parent),
        "values": ledger.chosen(ledger.plan.keys),
        "metadata": dict(metadata),
        "next": [task.node for task in tasks],
        "tasks": [_task_told(runner, task) for task in tasks],
    }


def _task_told(runner: Runner, task: Task) -> dict[str, Any]:
    """A task of a checkpoint, with what an earlier sitting may have left of it."""
    recall = runner.journal.recall
    told: dict[str, Any] = {"id": task.id, "name": task.node}
    result, error = recall(task.id, "result"), recall(task.id, "error")
    if error is not None and result is None:
        return {**told, "error": error, "state": _inner_place(runner, task)}
    if result is not None and result.writes:
        told["result"] = written(result.writes)
    interrupts = recall(task.id, "interrupt") or ()
    return {**told, "interrupts": tuple(map(asdict, interrupts)), "state": _inner_place(runner, task)}


def _inner_place(runner: Runner, task: Task) -> dict[str, Any] | None:
    """Where the state of a sub-graph is to be found, for a task that runs one which keeps it."""
    action = runner.ledger.plan.nodes[task.node].action
    if action is None or action.graph is None or action.graph.checkpointer is False:
        return None
    namespace = "|".join((*runner.namespace, f"{task.node}:{task.id}"))
    return {"configurable": {"thread_id": runner.family.thread_id, "checkpoint_ns": namespace}}


def debugged(kind: str, step: int, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What the "debug" mode shows: a task or a checkpoint, with its step and time."""
    return {"step": step, "timestamp": datetime.now(UTC).isoformat(), "type": kind, "payload": payload}
