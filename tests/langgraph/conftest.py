"""What the tests of LangGraph's behaviour share: both drivers, so that each claim is made of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def _blocking(graph: Any, *args: Any, **options: Any) -> Any:
    return graph.invoke(*args, **options)


def _async(graph: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(graph.ainvoke(*args, **options))


@pytest.fixture(params=[_blocking, _async], ids=["blocking", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a graph to its end: `run(graph, input, ...)`."""
    drive: Run = request.param
    return drive


def _listed(graph: Any, *args: Any, **options: Any) -> list[Any]:
    return list(graph.stream(*args, **options))


def _alisted(graph: Any, *args: Any, **options: Any) -> list[Any]:
    async def listed() -> list[Any]:
        return [chunk async for chunk in graph.astream(*args, **options)]

    return asyncio.run(listed())


@pytest.fixture(params=[_listed, _alisted], ids=["blocking", "async"])
def stream(request: pytest.FixtureRequest) -> Run:
    """The chunks of a run: `stream(graph, input, ...)`."""
    drive: Run = request.param
    return drive
