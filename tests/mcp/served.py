"""What the tests of the server share: an offer, clients of several makes, and graphs to run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import fanfold
from fanfold import END, START, StateGraph, interrupt
from fanfold.limits import Limits
from fanfold.mcp import http
from fanfold.mcp.door import Door
from fanfold.mcp.offer import Offer, Offered
from fanfold.mcp.server import serving
from fanfold.store.opening import open_store

PATIENCE = 30.0
SOURCE = str(Path(fanfold.__file__).parents[1])
TOKEN = "wet-ink-on-dry-paper"
ECHO = "---\nname: echo\ndescription: Says what it is told.\nbackend: process\ncommand: cat\n---\nYou repeat.\n"


class State(TypedDict, total=False):
    text: str
    answer: str


def asking() -> StateGraph:
    """A graph that asks a person, and hands over what they say."""

    def ask(state: State) -> State:
        return {"answer": interrupt(f"What about {state['text']}?")}

    return StateGraph(State).add_node(ask).add_edge(START, "ask").add_edge("ask", END)


def waiting(gate: asyncio.Event) -> StateGraph:
    """A graph that goes on when somebody opens the gate."""

    async def wait(state: State) -> State:
        await gate.wait()
        return {"answer": state["text"]}

    return StateGraph(State).add_node(wait).add_edge(START, "wait").add_edge("wait", END)


def offered(graph: StateGraph, name: str, agents: Any = ()) -> Offered:
    """A graph as an operator names it."""
    return Offered(f"tests:{name}", lambda store, run: graph.compile(store, name=run or name), agents)


@asynccontextmanager
async def server(folder: Path, graphs: Mapping[str, Offered] | None = None, **more: Any) -> AsyncIterator[Any]:
    """A server over a new store in the folder, which may write."""
    options = {"write": True, "workspace": folder, "graphs": graphs or {}, "limits": Limits(), **more}
    with open_store(f"sqlite:///{folder}/runs.db") as store:
        async with Door.open(f"sqlite:///{folder}/runs.db") as door, serving(Offer(store, door, **options)) as made:
            yield made


@asynccontextmanager
async def connected(folder: Path, graphs: Mapping[str, Offered] | None = None, **more: Any) -> AsyncIterator[Client]:
    """A client of such a server, in this process."""
    async with server(folder, graphs, **more) as made, Client(made, mode="legacy") as client:
        yield client


@asynccontextmanager
async def over_http(
    made: Any, *, hosts: Sequence[str] = (), origins: Sequence[str] = (), **options: Any
) -> AsyncIterator[str]:
    """The address at which a server answers."""
    listener = http.listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ready = asyncio.Event()
    application = http.app(made, TOKEN, http.names("127.0.0.1", port, hosts), origins, **options)
    serving = asyncio.create_task(http.serve(application, listener, ready.set))
    await asyncio.wait_for(ready.wait(), PATIENCE)
    try:
        yield f"http://127.0.0.1:{port}{http.PATH}"
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@asynccontextmanager
async def http_client(url: str, token: str = TOKEN, **options: Any) -> AsyncIterator[Client]:
    """A client that has the token."""
    async with AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {token}"}
        session = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=PATIENCE))
        yield await stack.enter_async_context(Client(streamable_http_client(url, http_client=session), **options))


def command(folder: Path, *words: str) -> StdioServerParameters:
    """How a client starts `fanfold mcp serve` in a folder. It gets this checkout, and little else."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", "fanfold", "mcp", "serve", *words], env=environment(folder), cwd=folder
    )


def environment(folder: Path) -> dict[str, str]:
    """What a server sees of the environment."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONPATH": SOURCE}


async def called(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool hands over."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """The error of a tool."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return str(result.content[0].text)


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """What it comes to, as soon as that is something."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await holds()):
            await asyncio.sleep(0.005)
    return found


def agents(folder: Path, **files: str) -> None:
    """Put agent files into a folder."""
    place = folder / ".claude" / "agents"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / f"{name}.md").write_text(text)
