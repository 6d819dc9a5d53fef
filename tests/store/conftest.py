"""The stores that these tests run on. One that is new is added to `STORES` and has to pass all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fanfold.store import owner as owners
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from tests.store.making import Open

STORES: dict[str, Callable[..., SqlStore]] = {
    "file": lambda folder, **options: SqliteStore(folder / "runs.db", **options),
    "memory": lambda folder, **options: SqliteStore(":memory:", **options),
    "postgres": PostgresStore,
}
LASTING = ("file", "postgres")
"""The stores that another process, or the same one later, can open again."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    with _opening(request, tmp_path)() as opened:
        yield opened


@pytest.fixture(params=STORES)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a store with the options that it is called with. In memory it is a new one each time."""
    return _opening(request, tmp_path)


@pytest.fixture(params=LASTING)
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one and the same store as often as it is called."""
    return _opening(request, tmp_path)


def _opening(request: pytest.FixtureRequest, folder: Path) -> Open:
    place = request.getfixturevalue("postgres") if request.param == "postgres" else folder
    return partial(STORES[request.param], place)


@pytest.fixture
def me() -> Iterator[str]:
    owner = owners.me()
    yield owner
    owners.leave(owner)
