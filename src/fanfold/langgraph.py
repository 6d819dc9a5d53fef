"""A store of ours for graphs of LangGraph's own: `compile(checkpointer=Saver("sqlite:///runs.db"))`.

It is a `BaseCheckpointSaver` like any other, for sync and async graphs alike, and may be used from any thread and any
event loop. What it adds to the contract of LangGraph's:

- Everything that a call was given is on the disk when the call returns, and what many tasks write at once is written
  together: sixty-four results that end at the same time cost one sync of the disk.
- What stays the same is stored once: a checkpoint as what differs from its parent, a list of messages as the messages.
- `with saver.owning(thread_id):` makes this saver the only writer of a thread, among those that ask. One that has lost
  the thread meanwhile, because it was frozen and another has taken over, is refused with `LeaseLostError`.

Values are encoded and decoded by LangGraph's own serializer, `serde`. What decoding may do is therefore LangGraph's to
say: by default its serializer imports and calls what a stored value names. `LANGGRAPH_STRICT_MSGPACK=true`, or a
`JsonPlusSerializer` with a list of your own, limits that to known types. No pickle is written or read, whatever the
serializer would do. With keys (`fanfold.Encryption`) everything but names, ids and versions of channels is encrypted,
and nobody without a key can have put a value there.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

from fanfold.claiming import LOOK_AGAIN, claimed
from fanfold.errors import CorruptRecordError, MissingExtraError, ThreadBusyError, UsageError
from fanfold.store import owner as owners
from fanfold.store.base import Lease, OnBusy
from fanfold.store.leases import unfit
from fanfold.store.lines import TRIES, Line, Lines, Row, Written
from fanfold.store.opening import open_store
from fanfold.store.pieces import Leaf, Taking, put_together
from fanfold.store.sql import SqlStore
from fanfold.store.standing import ABOUT, Held, Standing
from fanfold.store.ticket import Ticket

try:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
        get_checkpoint_id,
        get_checkpoint_metadata,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
except ImportError as error:
    raise MissingExtraError(
        f"a saver for LangGraph's graphs needs a package that is missing: {error}",
        hint="install it with: pip install 'fanfold[langgraph]'",
    ) from error

P = ParamSpec("P")
T = TypeVar("T")

KEEP_LATEST, DELETE = "keep_latest", "delete"
COUNTERS: Final = "counters_since_delta_snapshot"
"""Where a checkpoint's metadata says which channels have to be rebuilt from what tasks have written."""
THREADS: Final = 4
"""Threads in which async calls read, and prepare what they write."""
PAGE: Final = 16
"""Checkpoints that an async listing fetches at a time."""


class Saver(BaseCheckpointSaver[Any]):
    """Keeps the checkpoints of LangGraph's graphs in `store`: one of ours, or the URL of one, which it then closes.

    `serde` encodes values, by default as LangGraph does. Raises `UsageError` for one that pickles, and for a store
    that keeps nothing in a database.
    """

    def __init__(self, store: SqlStore | str | Path, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        _refuse_pickle(self.serde)
        opened = open_store(store) if isinstance(store, str | Path) else store
        if not isinstance(opened, SqlStore):
            raise UsageError(
                f"a saver cannot keep anything in {type(opened).__qualname__!r}",
                hint="give it a SqliteStore, a PostgresStore, or a URL such as sqlite:///runs.db",
            )
        self.store = opened
        self._own = opened is not store
        # All of this is shared by the clones that LangGraph makes with another serializer.
        self._lines = Lines(opened)
        self._leases: dict[str, Lease] = {}
        # Not the loop's own threads, which blocking nodes may all be in.
        self._threads = ThreadPoolExecutor(THREADS, "fanfold-saver")

    def close(self) -> None:
        """Close the store, if the saver has opened it."""
        if self._own:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # Owning a thread

    @contextmanager
    def owning(self, thread_id: str, *, on_busy: OnBusy = "reject") -> Iterator[Lease]:
        """Be the only writer of a thread, among the savers and runs of ours that ask for it.

        Within the `with` block, and from whatever task or thread, all that this saver and its clones write to the
        thread is refused with `LeaseLostError` once somebody else owns it. Savers that do not ask are not kept out.
        Raises `ThreadBusyError` when another one owns the thread; see `OnBusy` for what can be done about that.
        """
        owner = owners.me()
        try:
            lease = _claim(self.store, thread_id, owner, on_busy)
            try:
                with self._holding(lease):
                    yield lease
            finally:
                self.store.release(lease)
        finally:
            owners.leave(owner)

    @asynccontextmanager
    async def aowning(self, thread_id: str, *, on_busy: OnBusy = "reject") -> AsyncIterator[Lease]:
        """The same, for `async with`."""
        async with claimed(self.store, thread_id, on_busy=on_busy) as lease:
            with self._holding(lease):
                yield lease

    @contextmanager
    def _holding(self, lease: Lease) -> Iterator[None]:
        self._leases[lease.thread_id] = lease
        try:
            yield
        finally:
            if self._leases.get(lease.thread_id) == lease:
                del self._leases[lease.thread_id]

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint, by default the newest of its thread and namespace; None when there is none."""
        line, checkpoint_id = _line(config), get_checkpoint_id(config)
        for _ in range(TRIES):
            wanted = checkpoint_id or self._lines.newest(line)
            held = None if wanted is None else self._lines.held(line, wanted)
            if held is None:
                return None
            if (found := self._tuple(line, held, {})) is not None:
                return found
        raise _incomplete(line, wanted)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The same, without blocking the loop."""
        return await self._aside(self.get_tuple, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest first; those whose metadata has all that `filter` says."""
        asked = config["configurable"] if config else {}
        most = limit if limit is None else max(limit, 0)
        keys = self._lines.keys(
            str(asked["thread_id"]) if asked else None,
            asked.get("checkpoint_ns"),
            get_checkpoint_id(config) if config else None,
            before=get_checkpoint_id(before) if before else None,
            limit=None if filter else most,
        )
        return islice(self._listed(keys, filter or {}), most)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The same, without blocking the loop."""
        found = await self._aside(self.list, config, filter=filter, before=before, limit=limit)
        while page := await self._aside(_page, found):
            for each in page:
                yield each

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What each channel is rebuilt from: its last stored value before the checkpoint, and the writes since."""
        line = _line(config)
        wanted = get_checkpoint_id(config) or self._lines.newest(line)
        if not channels or wanted is None:
            return {channel: DeltaChannelHistory(writes=[]) for channel in channels}
        for _ in range(TRIES):
            found = self._history(line, wanted, channels)
            if found is not None:
                return found
        raise _incomplete(line, wanted)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """The same, without blocking the loop."""
        return await self._aside(self.get_delta_channel_history, config=config, channels=channels)

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, whose parent is the one that `config` names; it is on the disk afterwards."""
        line = _line(config)
        for trial in range(TRIES):
            if self._put(line, config, checkpoint, metadata, new_versions, alone=trial == TRIES - 1).result():
                break
        return _config(line, checkpoint["id"])

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """The same, without blocking the loop."""
        line = _line(config)
        for trial in range(TRIES):
            alone = trial == TRIES - 1
            put = await self._aside(self._put, line, config, checkpoint, metadata, new_versions, alone=alone)
            if await put:
                break
        return _config(line, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task has written since a checkpoint; it is on the disk afterwards."""
        self._put_writes(config, writes, task_id, task_path).result()

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """The same, without blocking the loop."""
        await self._put_writes(config, writes, task_id, task_path)

    # Deleting and copying

    def delete_thread(self, thread_id: str) -> None:
        """Delete all that LangGraph's graphs have kept of a thread."""
        self._lines.forget(thread_id, self._leases.get(thread_id)).result()

    async def adelete_thread(self, thread_id: str) -> None:
        """The same, without blocking the loop."""
        await self._aside(self.delete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these as its `run_id`, and what was written since them.

        What is left can be read as before, but for a `DeltaChannel` whose writes were among it.
        """
        runs = {str(each) for each in run_ids}
        for thread in self._lines.threads_of_runs(sorted(runs)) if runs else ():
            self._lines.cut(thread, lambda _, rows: _of_runs(rows, runs), self._leases.get(thread)).result()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """The same, without blocking the loop."""
        await self._aside(self.delete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread to one that has none. Raises `StoreError` if that has some."""
        lease = self._leases.get(target_thread_id)
        self._lines.copy(source_thread_id, target_thread_id, lease).result()

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """The same, without blocking the loop."""
        await self._aside(self.copy_thread, source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = KEEP_LATEST) -> None:
        """Delete all but the newest checkpoint of each namespace, or with "delete" that one, too.

        Of the others, those stay that the newest one needs: a `DeltaChannel` is rebuilt from what was written since
        its last snapshot.
        """
        if strategy not in (KEEP_LATEST, DELETE):
            raise UsageError(f"there is no strategy {strategy!r} to prune by; there are {KEEP_LATEST!r}, {DELETE!r}")
        for thread in thread_ids:
            if strategy == DELETE:
                self.delete_thread(thread)
            else:
                self._lines.cut(thread, self._older, self._leases.get(thread)).result()

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = KEEP_LATEST) -> None:
        """The same, without blocking the loop."""
        await self._aside(self.prune, thread_ids, strategy=strategy)

    # Versions

    def get_next_version(self, current: Any, channel: None) -> Any:
        """A number one higher. A version that another saver has written as text goes on as text."""
        if not isinstance(current, str):
            return 1 if current is None else int(current) + 1
        number, _, rest = current.partition(".")
        return f"{int(number) + 1:0{len(number)}}.{rest}"

    async def _aside(self, function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """What a blocking function returns, in a thread of the saver's."""
        called = partial(contextvars.copy_context().run, function, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, called)

    # What is stored of a checkpoint

    def _put(
        self,
        line: Line,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        *,
        alone: bool,
    ) -> Ticket[bool]:
        """Begin to keep a checkpoint; `alone`, whatever has become of its parent."""
        parent_id = get_checkpoint_id(config)
        if parent_id == checkpoint["id"]:
            parent_id = None
        parent = None if parent_id is None or alone else self._lines.known(line, parent_id)
        taking = self._taking()
        about = get_checkpoint_metadata(config, metadata)
        standing = _standing(taking, checkpoint, about, new_versions, parent)
        run_id = about.get("run_id")
        return self._lines.keep(
            line,
            checkpoint["id"],
            parent or parent_id,
            standing,
            taking.pieces,
            run_id=None if run_id is None else str(run_id),
            lease=self._leases.get(line.thread),
        )

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Ticket[None]:
        line, checkpoint_id = _line(config), config["configurable"]["checkpoint_id"]
        _check_text(*line, checkpoint_id, task_id, task_path, *(channel for channel, _ in writes))
        taking = self._taking()
        written = [
            Written(checkpoint_id, task_id, WRITES_IDX_MAP.get(channel, place), task_path, channel, taking.node(value))
            for place, (channel, value) in enumerate(writes)
        ]
        return self._lines.write(line, written, taking.pieces, self._leases.get(line.thread))

    def _taking(self) -> Taking:
        # Any other serializer may do something else with a list than with its elements, one after the other.
        return Taking(self.serde.dumps_typed, self._lines.digest, apart=type(self.serde) is JsonPlusSerializer)

    # What is read of it

    def _listed(self, keys: Iterable[tuple[Line, str, bytes]], filter: Mapping[str, Any]) -> Iterator[CheckpointTuple]:
        pieces: dict[str, dict[bytes, Leaf]] = {}  # of each thread, for as long as the listing goes on
        for line, checkpoint_id, data in keys:
            if filter and not filter.items() <= self._about(line, checkpoint_id, data).items():
                continue
            for _ in range(TRIES):
                held = self._lines.held(line, checkpoint_id)
                found = None if held is None else self._tuple(line, held, pieces.setdefault(line.thread, {}))
                if held is None or found is not None:
                    break
            else:
                raise _incomplete(line, checkpoint_id)
            if found is not None:  # else it was deleted meanwhile
                yield found

    def _about(self, line: Line, checkpoint_id: str, data: bytes) -> Mapping[str, Any]:
        """A checkpoint's metadata, from its record alone."""
        record = self._lines.record(line, checkpoint_id, data)
        about: Mapping[str, Any] = put_together(self.serde.loads_typed, record[ABOUT], {})
        return about

    def _tuple(self, line: Line, held: Held, pieces: dict[bytes, Leaf]) -> CheckpointTuple | None:
        """What LangGraph is given of a checkpoint; None when pieces have gone, and it has to be read again."""
        standing = held.standing
        written = self._lines.writes(line, [held.checkpoint_id])[held.checkpoint_id]
        nodes = [standing.rest, standing.about, *standing.values.values(), *(each.node for each in written)]
        if not self._lines.pieces(line, nodes, pieces):
            return None
        loads = self.serde.loads_typed
        checkpoint = {
            **put_together(loads, standing.rest, pieces),
            "id": held.checkpoint_id,
            "channel_values": {name: put_together(loads, each, pieces) for name, each in standing.values.items()},
            "channel_versions": dict(standing.versions),
            "versions_seen": {name: dict(each) for name, each in standing.seen.items()},
        }
        return CheckpointTuple(
            config=_config(line, held.checkpoint_id),
            checkpoint=checkpoint,  # type: ignore[arg-type]  # whatever it had when it was put
            metadata=put_together(loads, standing.about, pieces),
            parent_config=None if held.parent_id is None else _config(line, held.parent_id),
            pending_writes=self._pending(written, pieces),
        )

    def _pending(self, written: Iterable[Written], pieces: Mapping[bytes, Leaf]) -> Any:
        loads = self.serde.loads_typed
        return [(each.task_id, each.channel, put_together(loads, each.node, pieces)) for each in written]

    def _history(
        self, line: Line, checkpoint_id: str, channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory] | None:
        """See `get_delta_channel_history`; None when pieces have gone, and it has to be read again."""
        ways = self._lines.ways(line, self._lines.rows(line), checkpoint_id, channels)
        longest = max((way.path for way in ways.values()), key=len)
        written = self._lines.writes(line, longest)
        pieces: dict[bytes, Leaf] = {}
        nodes = [way.seed for way in ways.values() if way.seed is not None]
        nodes += [each.node for them in written.values() for each in them if each.channel in ways]
        if not self._lines.pieces(line, nodes, pieces):
            return None
        found: dict[str, DeltaChannelHistory] = {}
        for name, way in ways.items():
            since = [each for at in way.path for each in written[at] if each.channel == name]
            found[name] = DeltaChannelHistory(writes=self._pending(since, pieces))
            if way.seed is not None:
                found[name]["seed"] = put_together(self.serde.loads_typed, way.seed, pieces)
        return found

    def _older(self, line: Line, rows: Sequence[Row]) -> set[str]:
        """All but the newest of these checkpoints, and those that it needs."""
        head = max(rows, key=lambda row: row.checkpoint_id)
        counters = self._about(line, head.checkpoint_id, head.data).get(COUNTERS, {})
        ways = self._lines.ways(line, rows, head.checkpoint_id, counters)
        needed = {each for way in ways.values() if not way.there for each in way.path}
        return {row.checkpoint_id for row in rows} - needed - {head.checkpoint_id}


def _standing(
    taking: Taking,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    parent: Held | None,
) -> Standing:
    """What a checkpoint says. A channel whose version is its parent's has the value that it has there."""
    rest: dict[str, Any] = dict(checkpoint)
    del rest["id"]
    values, versions, seen = (rest.pop(name) for name in ("channel_values", "channel_versions", "versions_seen"))
    before = None if parent is None else parent.standing
    same = {
        name
        for name, version in versions.items()
        if before is not None and name not in new_versions and before.versions.get(name) == version
    }
    kept = {} if before is None else {name: node for name, node in before.values.items() if name in same}
    new = {name: taking.node(value) for name, value in values.items() if name not in same}
    return Standing(
        taking.whole(rest),
        taking.whole(metadata),
        dict(versions),
        {name: dict(each) for name, each in seen.items()},
        {**kept, **new},
    )


def _of_runs(rows: Iterable[Row], run_ids: set[str]) -> set[str]:
    return {row.checkpoint_id for row in rows if row.run_id in run_ids}


def _line(config: RunnableConfig) -> Line:
    asked = config["configurable"]
    return Line(str(asked["thread_id"]), asked.get("checkpoint_ns", ""))


def _config(line: Line, checkpoint_id: str) -> RunnableConfig:
    place = {"thread_id": line.thread, "checkpoint_ns": line.namespace, "checkpoint_id": checkpoint_id}
    return {"configurable": place}


def _page(found: Iterator[T]) -> list[T]:
    return list(islice(found, PAGE))


def _claim(store: SqlStore, thread_id: str, owner: str, on_busy: OnBusy) -> Lease:
    """Claim a thread, and wait for it if that is what is wanted: see `claiming`, for code that may block."""
    freed = threading.Event()
    forget = store.freed(thread_id, freed.set)
    try:
        while True:
            freed.clear()
            try:
                return store.claim(thread_id, owner, on_busy=on_busy).result()
            except ThreadBusyError:
                if on_busy != "wait":
                    raise
            freed.wait(LOOK_AGAIN)
    finally:
        forget()


def _refuse_pickle(serde: Any) -> None:
    inner: Any = serde
    while inner is not None:
        if getattr(inner, "pickle_fallback", False):
            raise UsageError(
                f"{type(inner).__qualname__} falls back to pickle, and no pickle is stored: reading one runs its code",
                hint="leave pickle_fallback out, and make such values plain data, dataclasses or pydantic models",
            )
        inner = getattr(inner, "serde", None)


def _check_text(*texts: str) -> None:
    """Refuse what a database cannot hold, before it is written together with what others have written."""
    for text in texts:
        if (problem := unfit("id or name", text)) is not None:
            raise problem


def _incomplete(line: Line, checkpoint_id: str | None) -> CorruptRecordError:
    return CorruptRecordError(
        f"checkpoint {checkpoint_id!r} of thread {line.thread!r}, namespace {line.namespace!r} has lost pieces"
    )
