"""The stores under the names that LangGraph's users know, with what these let them look up.

A saver hands out checkpoints as plain dictionaries. What a checkpoint holds is read by the graph that wrote it, so a
saver knows the graphs that were compiled with it and asks the latest one that can read it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Unpack

from fanfold.errors import UsageError
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import Place, SqlStore, StoreOptions
from fanfold.store.sqlite import MEMORY, SqliteStore
from fanfold.store.ticket import Ticket
from fanfold.types import StateSnapshot


class CheckpointTuple(NamedTuple):
    """A checkpoint with its place, and what its tasks have written since, as (task id, key, value)."""

    config: dict[str, Any]
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    parent_config: dict[str, Any] | None = None
    pending_writes: list[tuple[str, str, Any]] | None = None


class Graph(Protocol):
    """What a saver asks of a graph that was compiled with it."""

    def get_state_history(
        self,
        config: Mapping[str, Any],
        *,
        filter: Mapping[str, Any] | None = None,
        before: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """Where a thread has stood, the newest first."""


class Saver(SqlStore):
    """A store that LangGraph's users know: a run names its thread, and its checkpoints can be looked up."""

    needs_thread = True

    def __init__(self, place: Place, **options: Unpack[StoreOptions]) -> None:
        super().__init__(place, **options)
        self._graphs: dict[str, Graph] = {}

    def read_by(self, graph: Graph, shape: str) -> None:
        """A graph was compiled with this saver and can read what it keeps; the latest of one shape is asked."""
        self._graphs.pop(shape, None)
        self._graphs[shape] = graph

    def setup(self) -> None:
        """Nothing is left to do: the tables are there since the saver was made."""

    def get(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """The checkpoint that `config` names, by default the newest of its thread; None when there is none."""
        found = self.get_tuple(config)
        return None if found is None else found.checkpoint

    def get_tuple(self, config: Mapping[str, Any]) -> CheckpointTuple | None:
        """The same, with its place and metadata."""
        return next(self.list(config, limit=1), None)

    def list(
        self,
        config: Mapping[str, Any] | None,
        *,
        filter: Mapping[str, Any] | None = None,
        before: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints of a thread, or of all threads, the newest of each first."""
        places = [config] if config is not None else [{"configurable": {"thread_id": name}} for name in self._threads()]
        found = (each for place in places for each in self._history(place, filter, before))
        return islice(map(_told, found), limit)

    def delete_thread(self, thread_id: str) -> Ticket[None]:
        """Forget a thread with all that it holds; it is gone when this returns."""
        done = super().delete_thread(str(thread_id))
        done.result()
        return done

    def copy_thread(self, source: str, target: str) -> Ticket[None]:
        """Keep a thread once more under another name; it is there when this returns."""
        done = super().copy_thread(str(source), str(target))
        done.result()
        return done

    async def aget(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """`get`, awaited."""
        return await asyncio.to_thread(self.get, config)

    async def aget_tuple(self, config: Mapping[str, Any]) -> CheckpointTuple | None:
        """`get_tuple`, awaited."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config: Mapping[str, Any] | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """`list`, awaited."""
        for each in await asyncio.to_thread(lambda: tuple(self.list(config, **options))):
            yield each

    async def acopy_thread(self, source: str, target: str) -> None:
        """`copy_thread`, awaited."""
        await asyncio.to_thread(self.copy_thread, source, target)

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread`, awaited."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    def _threads(self) -> Sequence[str]:
        return tuple(dict.fromkeys(run.thread_id for run in self.runs(limit=-1)))

    def _history(
        self, place: Mapping[str, Any], filter: Mapping[str, Any] | None, before: Mapping[str, Any] | None
    ) -> Iterator[StateSnapshot]:
        graphs = tuple(reversed(self._graphs.values()))
        for graph in graphs[:-1]:
            try:
                yield from tuple(graph.get_state_history(place, filter=filter, before=before))
            except UsageError:  # the thread is another graph's
                continue
            return
        if graphs:
            yield from graphs[-1].get_state_history(place, filter=filter, before=before)


def _told(snapshot: StateSnapshot) -> CheckpointTuple:
    values = snapshot.values if isinstance(snapshot.values, dict) else {"__root__": snapshot.values}
    checkpoint = {
        "v": 1,
        "id": snapshot.config["configurable"]["checkpoint_id"],
        "ts": snapshot.created_at,
        "channel_values": values,
        "channel_versions": {},
        "versions_seen": {},
        "updated_channels": None,
    }
    writes: list[tuple[str, str, Any]] = []
    for task in snapshot.tasks:
        result = task.result if isinstance(task.result, dict) else {"__root__": task.result}
        writes += [(task.id, key, value) for key, value in result.items()] if task.result is not None else []
        writes += [(task.id, "__interrupt__", task.interrupts)] if task.interrupts else []
        writes += [(task.id, "__error__", task.error)] if task.error is not None else []
    return CheckpointTuple(snapshot.config, checkpoint, snapshot.metadata or {}, snapshot.parent_config, writes)


class InMemorySaver(SqliteStore, Saver):
    """Keeps threads until it is let go: SQLite without a file, so that what works here works on disk."""

    def __init__(self) -> None:
        super().__init__(MEMORY)


MemorySaver = InMemorySaver
"""LangGraph's older name for it."""


class SqliteSaver(SqliteStore, Saver):
    """Keeps threads in a SQLite file, given as its path or as a connection to it, which itself is left alone."""

    def __init__(self, file: str | Path | sqlite3.Connection, **options: Unpack[StoreOptions]) -> None:
        super().__init__(_path_of(file) if isinstance(file, sqlite3.Connection) else file, **options)

    @classmethod
    @contextmanager
    def from_conn_string(cls, path: str) -> Iterator[SqliteSaver]:
        """The saver of the file at `path`, closed at the end of the `with` block."""
        with cls(path) as saver:
            yield saver


class PostgresSaver(PostgresStore, Saver):
    """Keeps threads in the PostgreSQL database that a URL names."""

    def __init__(self, url: str, **options: Unpack[StoreOptions]) -> None:
        super().__init__(url, **options)

    @classmethod
    @contextmanager
    def from_conn_string(cls, url: str) -> Iterator[PostgresSaver]:
        """The saver of the database that `url` names, closed at the end of the `with` block."""
        with cls(url) as saver:
            yield saver


def _path_of(connection: sqlite3.Connection) -> str:
    return next((row[2] for row in connection.execute("pragma database_list") if row[1] == "main"), "") or MEMORY
