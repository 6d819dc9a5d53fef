"""Where long-term items may be kept: in memory, in a SQLite database with a file and without, in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from fanfold.memory import BaseStore, InMemoryStore, Item
from fanfold.store.items import Items
from fanfold.store.sql import SqlStore

NS = ("notes",)


class Place(Protocol):
    """Somewhere to keep items, where time can be let pass."""

    def store(self, **settings: Any) -> BaseStore:
        """The store there. The settings are `index` and `ttl`."""

    def advance(self, minutes: float) -> None:
        """Let that many minutes pass for everything that is there."""

    def close(self) -> None:
        """Let go of it."""


class InMemory:
    """The store that ends with the process, with a clock of our own."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def store(self, **settings: Any) -> BaseStore:
        return InMemoryStore(clock=lambda: self.now, **settings)

    def advance(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    def close(self) -> None:
        pass


class InDatabase:
    """Items in a database. Its clock cannot be set, so what is there is made older."""

    def __init__(self, kept_in: SqlStore) -> None:
        self.kept_in = kept_in

    def store(self, **settings: Any) -> BaseStore:
        return Items(self.kept_in, **settings)

    def advance(self, minutes: float) -> None:
        columns = ("created", "updated", "expires_at")
        self.say(f"update item set {', '.join(f'{name} = {name} - {minutes * 60}' for name in columns)}")

    def empty(self) -> None:
        """Leave nothing there."""
        self.say("delete from item")

    def say(self, statement: str) -> None:
        """Have the database do something that no statement of ours does."""
        self.kept_in.write(lambda session: session.script(statement)).result(10)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.kept_in.close()


class Awaited:
    """Another place, whose stores are used by their async methods."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.advance = place.advance
        self.close = place.close

    def store(self, **settings: Any) -> BaseStore:
        return _Awaited(self.place.store(**settings))  # type: ignore[return-value]


class _Awaited:
    """A store whose blocking methods wait for the async ones."""

    def __init__(self, store: BaseStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        twin = getattr(self._store, f"a{name}", None)
        if twin is None:
            return getattr(self._store, name)
        return lambda *args, **settings: asyncio.run(twin(*args, **settings))


PLACES = ("dict", "dict awaited", "memory", "file awaited", "postgres", "postgres awaited")
DIRECT = ("dict", "file", "postgres")
DATABASES = ("memory", "file", "postgres")


def letters(texts: list[str]) -> list[list[float]]:
    """How often each letter from a to d is in the text."""
    return [[float(text.count(letter)) for letter in "abcd"] for text in texts]


def filled(store: BaseStore, **values: Any) -> BaseStore:
    for key, value in values.items():
        store.put(NS, key, value)
    return store


def keys(items: Iterable[Item]) -> list[str]:
    return [item.key for item in items]
