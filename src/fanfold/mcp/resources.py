"""What a client can read by its address: a run's timeline and receipt, and which agents there are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from fanfold.agents.definition import Catalogue
from fanfold.errors import FanfoldError, RunNotFoundError, UsageError
from fanfold.exports.timeline import Line
from fanfold.mcp.offer import Asking, Offer
from fanfold.mcp.reading import Reading
from fanfold.mcp.tools.answers import bounded, in_words, plain

LARGEST: int = 512 * 1024
"""Bytes that a resource may have; of a longer one, lists lose their ends."""


def add_resources(server: MCPServer[Any], offer: Offer) -> None:
    """Give the server its resources."""
    reading = Reading(offer)

    @server.resource("run://{run_id}/timeline", title="Timeline of a run", mime_type="application/json")
    async def timeline(run_id: str) -> str:
        """Each task of a run, when it was at work and what it waited for, in seconds since the run began."""
        return await _read(lambda: _timeline(reading, run_id))

    @server.resource("run://{run_id}/audit", title="Receipt of a run", mime_type="application/json")
    async def audit(run_id: str) -> str:
        """Whether the tasks of a run really ran side by side, by how much, and what kept them from it."""
        return await _read(lambda: _receipt(reading, run_id))

    @server.resource("agents://all", title="Agents", mime_type="application/json")
    async def agents() -> str:
        """The agents that a name can mean here."""
        return await _read(_agents)

    if (door := offer.door) is not None:

        @server.resource("database://views", title="What can be queried", mime_type="application/json")
        async def views() -> str:
            """The views that the tool query can read, with the names and types of their columns."""
            return await _told(_views(door))


async def _read(what: Callable[[], Any]) -> str:
    """What a client reads, as JSON; found out in a thread."""
    return await _told(asyncio.to_thread(what))


async def _told(what: Awaitable[Any]) -> str:
    """The same for what does not block."""
    try:
        told, whole = bounded(await what, LARGEST)
    except RunNotFoundError as error:
        raise ResourceNotFoundError(in_words(error)) from error
    except FanfoldError as error:
        raise ResourceError(in_words(error)) from error
    return json.dumps(told if whole else {"whole": False, "beginning": told}, ensure_ascii=False)


def _timeline(reading: Reading, run_id: str) -> Any:
    told = reading.timeline(reading.record(run_id).run_id)
    names = told.names
    return {
        "wall": told.wall,
        "end": told.end,
        "error": told.error,
        "tasks": [_task(line, names) for line in told.lines],
        "steps": [{"step": step.step, "start": step.start, "end": step.end} for step in told.steps],
        "notes": [text for _, text in told.notices],
    }


def _task(line: Line, names: dict[str, str]) -> dict[str, Any]:
    life = line.life
    return {
        "task": life.task,
        "name": life.name,
        "parent": life.parent,
        "status": life.status,
        "start": line.start,
        "end": line.end,
        "account": life.account(names),
        "tools": [{"tool": use.tool, "start": use.start, "end": use.end} for use in line.tools],
    }


def _receipt(reading: Reading, run_id: str) -> Any:
    record = reading.record(run_id)
    told = reading.receipt(record.run_id)
    if told is None:
        raise UsageError(f"of run {record.run_id!r} no event is known")
    return {"lines": list(told.lines()), **plain(told.to_dict())}


async def _views(door: Asking) -> Any:
    return [{"name": view.name, "columns": dict(view.columns)} for view in await door.views()]


def _agents() -> Any:
    return [
        {"name": each.name, "description": each.description, "backend": each.backend}
        for each in sorted(Catalogue.load(Path.cwd()), key=lambda each: each.name)
    ]
