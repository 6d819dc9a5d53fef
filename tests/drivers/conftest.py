"""One body of tests for both faces: `run` is `invoke`, and it is `ainvoke` in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fanfold.store.sqlite import SqliteStore

Run = Callable[..., Any]


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a compiled graph to its end."""

    def blocking(graph: Any, value: Any, *args: Any, **options: Any) -> Any:
        return graph.invoke(value, *args, **options)

    def awaited(graph: Any, value: Any, *args: Any, **options: Any) -> Any:
        return asyncio.run(graph.ainvoke(value, *args, **options))

    return blocking if request.param == "invoke" else awaited


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store in a file of its own."""
    with SqliteStore(tmp_path / "runs.db") as opened:
        yield opened
