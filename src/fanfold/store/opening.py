"""From a URL to a store, and to the long-term memory in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanfold.errors import StoreError, UsageError

if TYPE_CHECKING:
    from fanfold.store.sql import SqlStore


def items_of(given: Any, checkpointer: Any) -> Any:
    """The long-term memory that `store=` names: that of a store or of a URL, with True that of the checkpointer.

    Anything else is the memory itself. Raises `UsageError` for True where the checkpointer has none.
    """
    if given is True and not hasattr(checkpointer, "items"):
        raise UsageError(
            f"store=True is the memory in the checkpointer's database, and checkpointer= is {checkpointer!r:.60}",
            hint="give a checkpointer, such as sqlite:///runs.db, or name a store",
        )
    if given is True:
        return checkpointer.items
    if isinstance(given, str | Path):
        return open_store(given).items
    return given.items if hasattr(given, "submit") and hasattr(given, "items") else given


def open_store(url: str | Path, *, make: bool = True) -> SqlStore:
    """The store that `url` names: `sqlite:///runs.db`, `postgresql://user@host/name`, a bare path, or `memory:`.

    A `sqlite:///` path is relative to the working directory, with a fourth slash absolute. A file that is not there is
    made, unless `make` is false. Raises `UsageError` for a scheme that is not known and `StoreError` when the store
    cannot be opened.
    """
    text = str(url)
    if text.startswith(("postgresql://", "postgres://")):
        from fanfold.store.postgres import PostgresStore

        return PostgresStore(text)
    from fanfold.store.sqlite import MEMORY, SqliteStore

    path = sqlite_path(text)
    if path != MEMORY and not make and not Path(path).exists():
        raise StoreError(
            f"there is no store at {path}", hint="name another with --store, or FANFOLD_STORE; a run makes one"
        )
    return SqliteStore(path)


def sqlite_path(text: str) -> str:
    """The file of a SQLite store that `text` names, or the word for memory."""
    if text in ("memory:", ":memory:"):
        return ":memory:"
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return text.removeprefix("sqlite:///")
    scheme, separator, _ = text.partition("://")
    if separator or text.startswith(("sqlite:", "postgresql:", "postgres:")) or not text:
        raise UsageError(
            f"cannot tell what store {scheme + separator or text!r} is",
            hint="a store is named as sqlite:///runs.db, sqlite:////absolute/runs.db, postgresql://user@host/name,"
            " memory:, or by a file's path",
        )
    return text
