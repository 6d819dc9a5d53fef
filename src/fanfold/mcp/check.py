"""Whether a server over a store does what it should, as a client finds it: everything is tried, and told line by line.

The server is the one that `fanfold mcp serve` starts, in a process of its own, once over standard input and output and
once over HTTP. What is written into the store is one item, and it is deleted again.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from fanfold.errors import FanfoldError, QueryRefusedError
from fanfold.mcp.assault import assaulted
from fanfold.mcp.attacks import POSTGRES, SQLITE
from fanfold.mcp.door import Door
from fanfold.mcp.victims import PostgresVictim, SqliteVictim, Victim
from fanfold.memory import BaseStore

WRITERS: Final = 20
"""Who count up one item at once."""
CALLS: Final = 100
"""Calls of each tool whose time is taken."""
START: Final = 60.0
"""Seconds that a server may need to start on a busy machine."""
NEEDED: Final = frozenset({"query", "memory_get", "memory_put", "memory_search", "memory_delete", "runs_list"})

Ask = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: where, what, whether it is as it should be, which wall held, what was said, and ms."""

    part: str
    what: str
    passed: bool
    held: str = ""
    said: str = ""
    ms: float | None = None


class _WrongError(Exception):
    """Something is not as it should be."""


async def checked(url: str, items: BaseStore) -> AsyncIterator[Finding]:
    """What is found about a server over the store at `url`, whose long-term memory is `items`."""
    for part, way in (("stdio", _over_stdio), ("http", _over_http)):
        try:
            async with way(url) as (client, refusals):
                async for finding in _client(part, client):
                    yield finding
                for what, refusal in refusals.items():
                    yield await _found(part, what, refusal)
        except Exception as error:  # noqa: BLE001 - whatever keeps a server from being asked is what is to be found
            yield Finding(part, "a server", passed=False, said=_line(error))
    yield await _found("store", f"{CALLS} reads, by itself", lambda: _timed(lambda: _read(items)))
    yield await _found("door", f"{CALLS} queries, by themselves", lambda: _door(url))
    async for finding in _attacks(url):
        yield finding


async def _client(part: str, client: Client) -> AsyncIterator[Finding]:
    """What a client finds."""
    namespace = ["fanfold-check", secrets.token_hex(8)]

    async def ask(tool: str, **arguments: Any) -> Any:
        told = await client.call_tool(tool, arguments)
        if told.is_error:
            raise _WrongError(" ".join(getattr(each, "text", "") for each in told.content))
        return told.structured_content

    async def upserts() -> str:
        conflicts = sum(await asyncio.gather(*(_count_up(ask, namespace) for _ in range(WRITERS))))
        item = (await ask("memory_get", namespace=namespace, key="count"))["item"]
        _expect(item["value"] == {"n": WRITERS}, f"{WRITERS} writers counted to {item['value']}")
        return f"nothing lost, {conflicts} conflicts"

    yield await _found(part, "handshake", lambda: _handshake(client))
    yield await _found(part, "list of tools", lambda: _listed(client))
    yield await _found(part, "resources and prompts", lambda: _offered(client))
    yield await _found(part, f"{WRITERS} parallel upserts on one key", upserts)
    yield await _found(part, "memory: put, get, search", lambda: _round_trip(ask, namespace))
    yield await _found(part, "query: the item that was put", lambda: _queried(ask, namespace))
    yield await _found(part, "query: a write is refused", lambda: _refused(ask))
    yield await _found(part, "runs: listed, page by page", lambda: _paged(ask))
    get = lambda: ask("memory_get", namespace=namespace, key="count")  # noqa: E731 - it is asked twice
    yield await _found(part, f"{CALLS} calls of memory_get", lambda: _timed(get))
    yield await _found(part, f"{CALLS} calls of query", lambda: _timed(lambda: ask("query", sql="select 1 as one")))
    yield await _found(part, "memory: deleted", lambda: _deleted(ask, namespace))


async def _handshake(client: Client) -> str:
    info = client.server_info
    _expect(info is not None and info.name == "fanfold", f"the server says that it is {info}")
    return f"protocol {client.protocol_version}"


async def _listed(client: Client) -> str:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    missing = NEEDED - tools.keys()
    _expect(not missing, f"there is no {', '.join(sorted(missing))}")
    loose = [name for name, tool in tools.items() if tool.annotations is None or tool.output_schema is None]
    _expect(not loose, f"without annotations or schema: {', '.join(loose)}")
    hints = tools["query"].annotations
    _expect(hints is not None and bool(hints.read_only_hint), "query does not say that it only reads")
    return f"{len(tools)} tools"


async def _offered(client: Client) -> str:
    templates = (await client.list_resource_templates()).resource_templates
    prompts = (await client.list_prompts()).prompts
    _expect(bool(templates) and bool(prompts), "there are none")
    return f"{len(templates)} kinds of resources, {len(prompts)} prompts"


async def _round_trip(ask: Ask, namespace: list[str]) -> str:
    value = {"text": "kirschbaum \u2603", "list": [1, 2.5, None, {"deep": True}]}
    await ask("memory_put", namespace=namespace, key="item", value=value)
    item = (await ask("memory_get", namespace=namespace, key="item"))["item"]
    _expect(item["value"] == value, f"it came back as {item['value']}")
    found = await ask("memory_search", namespace=namespace, query="kirschbaum")
    _expect([each["key"] for each in found["items"][:1]] == ["item"], f"a search found {found['items']}")
    return f"version {item['version']}"


async def _queried(ask: Ask, namespace: list[str]) -> str:
    sql = "select key, value from memory where namespace = $1 order by key"
    told = await ask("query", sql=sql, parameters=[".".join(namespace)])
    _expect([row[0] for row in told["rows"]] == ["count", "item"], f"it told {told['rows']}")
    _expect(told["rows"][0][1] == {"n": WRITERS}, f"the value is {told['rows'][0][1]}")
    return f"{told['ms']:.1f} ms in the door"


async def _refused(ask: Ask) -> str:
    try:
        await ask("query", sql="delete from memory returning 1")
    except _WrongError as error:
        if "QueryRefusedError" in str(error):
            return "refused"
        raise
    raise _WrongError("a write was answered")


async def _paged(ask: Ask) -> str:
    told = await ask("runs_list", limit=2)
    _expect(len(told["runs"]) <= 2, f"a page of 2 has {len(told['runs'])}")
    return f"{len(told['runs'])} runs" + (", and more" if told["next"] else "")


async def _count_up(ask: Ask, namespace: list[str]) -> int:
    """Count an item up by one, and how often somebody else was quicker."""
    for conflicts in range(100 * WRITERS):
        item = (await ask("memory_get", namespace=namespace, key="count"))["item"]
        number, version = (item["value"]["n"], item["version"]) if item else (0, None)
        try:
            await ask("memory_put", namespace=namespace, key="count", value={"n": number + 1}, if_version=version)
            return conflicts
        except _WrongError as error:
            if "ItemConflictError" not in str(error):
                raise
    raise _WrongError("it was never its turn")


async def _deleted(ask: Ask, namespace: list[str]) -> str:
    for key in ("count", "item"):
        item = (await ask("memory_get", namespace=namespace, key=key))["item"]
        await ask("memory_delete", namespace=namespace, key=key, if_version=item["version"])
    return "the store is as it was"


async def _timed(call: Callable[[], Awaitable[Any]]) -> str:
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1000)
    return f"p50 {statistics.median(times):.1f} ms, p99 {statistics.quantiles(times, n=100)[98]:.1f} ms"


async def _read(items: BaseStore) -> None:
    await items.aget(("fanfold-check",), "none")


async def _door(url: str) -> str:
    async with Door.beside(url) as door:
        return await _timed(lambda: door.query("select 1 as one"))


async def _attacks(url: str) -> AsyncIterator[Finding]:
    postgres = url.startswith(("postgresql://", "postgres://"))
    try:
        victim: Victim = PostgresVictim(url) if postgres else SqliteVictim()
        with victim:
            async for each in assaulted(victim, POSTGRES if postgres else SQLITE):
                said = "; ".join(each.harm) or each.said
                yield Finding("attack", each.attack.name, each.passed, each.held, said, each.ms)
    except FanfoldError as error:
        wall = error.wall if isinstance(error, QueryRefusedError) else ""
        yield Finding("attack", "all of them", passed=False, held=wall, said=str(error).replace("\n ", ";"))


@asynccontextmanager
async def _over_stdio(url: str) -> AsyncIterator[tuple[Client, Mapping[str, Ask]]]:
    """A client of a server that it has started."""
    command, *arguments = _command(url)
    parameters = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: ASYNC230 - it is no file that one waits for
        async with Client(stdio_client(parameters, errlog=nowhere)) as client:
            yield client, {}


@asynccontextmanager
async def _over_http(url: str) -> AsyncIterator[tuple[Client, Mapping[str, Ask]]]:
    """A client of a server that runs already; and what such a server has to refuse."""
    token = secrets.token_urlsafe(32)
    async with _running([*_command(url), "--http", "--port", "0"], token) as address:
        key = {"Authorization": f"Bearer {token}"}
        async with _web(key) as web, Client(streamable_http_client(address, http_client=web)) as client:
            yield client, _refusals(address, key)


@asynccontextmanager
async def _running(command: Sequence[str], token: str) -> AsyncIterator[str]:
    """The address of a server in a process of its own, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "FANFOLD_MCP_TOKEN": token},
    )
    try:
        yield await asyncio.wait_for(_address(process), START)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    """What the server says on standard error: where it is."""
    assert process.stderr is not None, "it is a pipe"
    said = b""
    while line := await process.stderr.readline():
        said += line
        if b" at http://" in line:
            return line.decode().rpartition(" at ")[2].strip()
    raise FanfoldError(f"the server ended at its start: {said.decode(errors='replace').strip()[-300:]}")


def _refusals(address: str, key: Mapping[str, str]) -> Mapping[str, Ask]:
    """What may not be let in, by its name."""
    cases = {
        "a request without a token": ({}, 401),
        "a request with another token": ({"Authorization": "Bearer another"}, 401),
        "a request by another name of ours": ({**key, "Host": "attacker.example"}, 421),
        "a request of somebody's page": ({**key, "Origin": "https://attacker.example"}, 403),
    }

    def refusal(headers: Mapping[str, str], status: int) -> Ask:
        async def ask() -> str:
            async with _web(headers) as web:
                told = await web.post(address, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
            _expect(told.status_code == status, f"it was answered with {told.status_code}")
            return f"status {status}"

        return ask

    return {what: refusal(headers, status) for what, (headers, status) in cases.items()}


def _web(headers: Mapping[str, str]) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    # Not by a proxy of the environment: it is a server of our own.
    return httpx2.AsyncClient(headers=dict(headers), timeout=60.0, trust_env=False)


def _command(url: str) -> list[str]:
    return [sys.executable, "-m", "fanfold", "mcp", "serve", "--store", url, "--allow-write"]


async def _found(part: str, what: str, ask: Ask) -> Finding:
    """What came of one try."""
    begun = time.perf_counter()
    try:
        said, passed = str(await ask()), True
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        said, passed = _line(error), False
    return Finding(part, what, passed, said=said, ms=round((time.perf_counter() - begun) * 1000, 1))


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise _WrongError(otherwise)


def _line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):  # of the SDK's own tasks
        error = error.exceptions[0]
    text = str(error).replace("\n ", ";") or type(error).__name__
    return json.dumps(text)[1:301].rstrip('"')
