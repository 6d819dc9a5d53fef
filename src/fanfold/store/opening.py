"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path

from fanfold.errors import UsageError
from fanfold.store.base import Store


def open_store(url: str | Path) -> Store:
    """The store that `url` names: `sqlite:///runs.db`, `postgresql://user@host/name`, a bare path, or `memory:`.

    A `sqlite:///` path is relative to the working directory, with a fourth slash absolute. Raises `UsageError` for a
    scheme that is not known and `StoreError` when the store cannot be opened.
    """
    from fanfold.store.sqlite import SqliteStore

    text = str(url)
    if text.startswith(("postgresql://", "postgres://")):
        from fanfold.store.postgres import PostgresStore

        return PostgresStore(text)
    if text in ("memory:", ":memory:"):
        return SqliteStore(":memory:")
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return SqliteStore(text.removeprefix("sqlite:///"))
    scheme, separator, _ = text.partition("://")
    if separator or text.startswith("sqlite:") or not text:
        raise UsageError(
            f"cannot tell what store {scheme + separator or text!r} is",
            hint="a store is named as sqlite:///runs.db, sqlite:////absolute/runs.db, postgresql://user@host/name,"
            " memory:, or by a file's path",
        )
    return SqliteStore(text)
