"""The stores that these tests run on. One that is new is added to `STORES` and has to pass all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fanfold.store import owner as owners
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import MEMORY
from tests.store.making import Open, store_at

LASTING = ("file", "postgres")
"""The stores that another process, or the same one later, can open again."""
STORES = ("memory", *LASTING)


def _place(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return str(folder / "runs.db") if request.param == "file" else MEMORY


@pytest.fixture(params=LASTING)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there is room for a store, for `store_at` in this process or in another one."""
    return _place(request, tmp_path)


@pytest.fixture
def again(place: str) -> Open:
    """Opens one and the same store as often as it is called."""
    return partial(store_at, place)


@pytest.fixture(params=STORES)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a store with the options that it is called with. In memory it is a new one each time."""
    return partial(store_at, _place(request, tmp_path))


@pytest.fixture
def store(opens: Open) -> Iterator[SqlStore]:
    with opens() as opened:
        yield opened


@pytest.fixture
def me() -> Iterator[str]:
    owner = owners.me()
    yield owner
    owners.leave(owner)
