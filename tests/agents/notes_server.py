"""An MCP server for tests, written with the official SDK: `python notes_server.py stdio`, or `http PORT`.

Two of its tools can only end together: each waits at a barrier for the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from mcp.server import MCPServer

PATIENCE = 20.0
TAKES = 0.5
"""Seconds of a call, next to which it is little what a machine with other work adds to the first one."""

server = MCPServer("notes")
barrier = asyncio.Barrier(2)


@server.tool()
async def meet(name: str) -> str:
    """Wait until somebody else meets, too."""
    async with asyncio.timeout(PATIENCE), barrier:
        return f"{name} was not alone"


one_at_a_time = asyncio.Lock()


@server.tool()
async def queue(name: str) -> str:
    """Take one call at a time."""
    async with one_at_a_time:
        await asyncio.sleep(TAKES)
    return name


@server.tool()
async def beside(name: str) -> str:
    """Take any number of calls at a time."""
    await asyncio.sleep(TAKES)
    return name


@server.tool()
def environment() -> str:
    """What this server sees of the environment."""
    return json.dumps(dict(os.environ))


@server.tool()
def fail() -> str:
    """Does not work."""
    raise ValueError("the notes are wet")


@server.tool()
def leave() -> str:
    """End the server in the middle of the call."""
    print("I was given", os.environ["NOTES_TOKEN"], file=sys.stderr, flush=True)
    os._exit(5)


@server.tool()
async def meet_and_leave(name: str) -> str:
    """End the server while somebody else is in the middle of a call."""
    async with asyncio.timeout(PATIENCE):
        while not barrier.n_waiting:
            await asyncio.sleep(0.001)
    os._exit(5)


@server.tool()
def spawn() -> int:
    """Start something that would outlive the server."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
