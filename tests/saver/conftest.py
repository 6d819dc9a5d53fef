"""A saver on each database, and ways to open the same one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fanfold.langgraph import Saver
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore

Open = Callable[..., Saver]

STORES: dict[str, Callable[..., SqlStore]] = {"sqlite": SqliteStore, "postgres": PostgresStore}


@pytest.fixture(params=STORES)
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a saver of its own on one database, as another process would; its options are those of the store."""
    kind = request.param
    place = tmp_path / "runs.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    with ExitStack() as stack:

        def opened(*, serde: Any = None, **options: Any) -> Saver:
            return Saver(stack.enter_context(STORES[kind](place, **options)), serde=serde)

        yield opened


@pytest.fixture
def saver(opening: Open) -> Saver:
    return opening()
