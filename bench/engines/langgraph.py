"""LangGraph, on the same graphs as fanfold, with its own savers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench import saver
from fanfold.bench.graphs import Engine
from fanfold.bench.imports import imported
from fanfold.bench.timing import Workloads

API = SimpleNamespace(END=END, START=START, Send=Send, StateGraph=StateGraph, get_stream_writer=get_stream_writer)


@asynccontextmanager
async def sqlite(where: str | Path) -> AsyncIterator[Any]:
    """Its saver for SQLite, which like ours waits for the disk at each commit."""
    async with AsyncSqliteSaver.from_conn_string(str(where)) as saver:
        await saver.conn.execute("PRAGMA synchronous=FULL")
        await saver.setup()
        yield saver


@asynccontextmanager
async def postgres(where: str | Path) -> AsyncIterator[Any]:
    """Its saver for PostgreSQL, on a pool, so that runs at once do not wait for one connection."""
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(str(where), min_size=1, max_size=32, kwargs=settings) as pool:
        saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]  # its rows are dictionaries, by `row_factory`
        await saver.setup()
        yield saver


@asynccontextmanager
async def memory(where: str | Path) -> AsyncIterator[Any]:
    """Its saver in memory, which there is nothing to open of."""
    yield InMemorySaver()


WORKLOADS: Workloads = {
    **Engine(API, sqlite, postgres, memory).workloads(),
    "imports": lambda n: imported("from langgraph.graph import StateGraph", "langgraph"),
    **saver.workloads("results_64", saver.theirs),
    **saver.workloads("saver_64", saver.theirs),
}
