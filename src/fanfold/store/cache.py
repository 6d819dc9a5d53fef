"""Caches for what nodes and tasks have written: in memory, or in a SQLite file that several processes share."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from fanfold.store.serde import Codec

Namespace: TypeAlias = tuple[str, ...]


class Cache(Protocol):
    """Keeps values by namespace and key, each for some seconds or for ever."""

    def get(self, namespace: Namespace, key: str) -> Any:
        """The value, or None when there is none or its time is over."""

    def set(self, namespace: Namespace, key: str, value: Any, ttl: float | None) -> None:
        """Keep a value for `ttl` seconds, or for ever."""

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget the values of these namespaces, or all."""


class InMemoryCache:
    """A cache that lives as long as the process."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[Namespace, dict[str, tuple[Any, float | None]]] = {}

    def get(self, namespace: Namespace, key: str) -> Any:
        """The value, or None."""
        with self._lock:
            value, ends = self._values.get(namespace, {}).get(key, (None, None))
        return None if ends is not None and ends <= self._clock() else value

    def set(self, namespace: Namespace, key: str, value: Any, ttl: float | None) -> None:
        """Keep a value."""
        with self._lock:
            self._values.setdefault(namespace, {})[key] = (value, None if ttl is None else self._clock() + ttl)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget the values of these namespaces, or all."""
        with self._lock:
            for namespace in list(self._values) if namespaces is None else namespaces:
                self._values.pop(namespace, None)


class SqliteCache:
    """A cache in a SQLite file. What cannot be stored is an error that names its type."""

    def __init__(self, path: str | Path, *, codec: Codec | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._codec = codec or Codec()
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(
            "create table if not exists cache (namespace text, key text, value blob not null, ends real, "
            "primary key (namespace, key))"
        )

    def get(self, namespace: Namespace, key: str) -> Any:
        """The value, or None."""
        with self._lock:
            row = self._connection.execute(
                "select value, ends from cache where namespace = ? and key = ?", (_joined(namespace), key)
            ).fetchone()
        if row is None or (row[1] is not None and row[1] <= self._clock()):
            return None
        return self._codec.decode(row[0], f"the cached value {key!r}")

    def set(self, namespace: Namespace, key: str, value: Any, ttl: float | None) -> None:
        """Keep a value."""
        data = self._codec.encode(value, f"the cached value {key!r}")
        ends = None if ttl is None else self._clock() + ttl
        with self._lock:
            self._connection.execute(
                "insert or replace into cache values (?, ?, ?, ?)", (_joined(namespace), key, data, ends)
            )

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget the values of these namespaces, or all."""
        with self._lock:
            if namespaces is None:
                self._connection.execute("delete from cache")
            for namespace in namespaces or ():
                self._connection.execute("delete from cache where namespace = ?", (_joined(namespace),))

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._connection.close()


def _joined(namespace: Namespace) -> str:
    return "\x1f".join(namespace)
