"""Twenty clients that call a server over HTTP as fast as they get answers: `python -m bench.clients`.

The server is a process of its own, as `fanfold mcp serve --http` starts it. The clients are in this one and cost next
to nothing: they share the machine with the server, and it is the server that is measured. Each has one connection and
one session. Of four calls three read an item and one writes one. Beside them, the store's own time: as many tasks that
do the same to a store in this process, with nothing between.

It fails when a call does, when the server has more open files after all clients have gone than before, or when 1 % of
the calls took more than `MOST` longer than 1 % of the store's own did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from fanfold.store.opening import open_store

MOST: Final = 50.0
"""Milliseconds."""
TOKEN: Final = "a-token-for-this-benchmark"
PATIENCE: Final = 30.0

Step: TypeAlias = Callable[[int, int], Awaitable[None]]


class Client:
    """One connection with one session on it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._session = ""

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        await self._sent("POST", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about})
        await self._sent("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sent("DELETE")
        self._writer.close()
        await self._writer.wait_closed()

    async def call(self, tool: str, arguments: dict[str, Any]) -> None:
        """Call a tool, which has to succeed."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = await self._sent("POST", asked)
        if b'"isError":false' not in answer:
            raise RuntimeError(f"{tool} failed: {answer.decode()}")

    async def _sent(self, method: str, message: dict[str, Any] | None = None) -> bytes:
        body = b"" if message is None else json.dumps(message).encode()
        lines = [
            f"{method} /mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            f"Authorization: Bearer {TOKEN}",
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if self._session:
            lines += [f"Mcp-Session-Id: {self._session}", "Mcp-Protocol-Version: 2025-06-18"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self._answer()

    async def _answer(self) -> bytes:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        fields = dict(re.findall(r"^([\w-]+): *(.*?)\r$", head.lower(), re.MULTILINE))
        self._session = fields.get("mcp-session-id", self._session)
        if "chunked" in fields.get("transfer-encoding", ""):
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        else:
            body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        if status >= 300:
            raise RuntimeError(f"status {status}: {body.decode()}")
        return body


async def measured(step: Step, clients: int, calls: int) -> list[float]:
    """The milliseconds of each step of so many clients at once, sorted."""
    took: list[float] = []

    async def one(client: int) -> None:
        for number in range(calls):
            began = time.perf_counter()
            await step(client, number)
            took.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(one(client) for client in range(clients)))
    return sorted(took)


def place(client: int, number: int) -> tuple[list[str], str]:
    """The item that a call is about."""
    return ["bench", str(client)], str(number % 10)


async def through(port: int, clients: int, calls: int) -> list[float]:
    """What calls over HTTP take."""
    opened = [Client(port) for _ in range(clients)]
    await asyncio.gather(*(client.__aenter__() for client in opened))

    async def step(client: int, number: int) -> None:
        namespace, key = place(client, number)
        given: dict[str, Any] = {"namespace": namespace, "key": key}
        if number % 4:
            await opened[client].call("memory_get", given)
        else:
            await opened[client].call("memory_put", {**given, "value": {"number": number}, "overwrite": True})

    try:
        return await measured(step, clients, calls)
    finally:
        await asyncio.gather(*(client.__aexit__() for client in opened))


async def beside(url: str, clients: int, calls: int) -> list[float]:
    """What the same takes in the store."""
    with open_store(url) as store:

        async def step(client: int, number: int) -> None:
            namespace, key = place(client, number)
            if number % 4:
                await store.items.aget(tuple(namespace), key)
            else:
                await store.items.aput(tuple(namespace), key, {"number": number})

        return await measured(step, clients, calls)


def files(pid: int) -> int:
    """How many open files a process has, sockets among them."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def left(pid: int, before: int) -> int:
    """How many more open files it has than before, when it has had a moment to close them."""
    end = time.monotonic() + 5.0
    while (more := files(pid) - before) > 0 and time.monotonic() < end:
        time.sleep(0.05)
    return more


def at(took: Sequence[float], part: float) -> float:
    """What that part of the calls took at most."""
    return took[min(len(took) - 1, int(len(took) * part))]


def shown(name: str, took: Sequence[float], seconds: float) -> None:
    """A line of the table."""
    parts = "  ".join(f"{at(took, part):9.2f}" for part in (0.5, 0.9, 0.99, 1.0))
    print(f"{name:<24} {len(took):>7} {len(took) / seconds:>9.0f} {parts}")


def main(words: Sequence[str]) -> int:
    """Measure; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description="Measure the server over HTTP.")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--calls", type=int, default=1000, help="of each client")
    parser.add_argument("--no-progress", action="store_true", help="of a server that answers with bodies, not streams")
    parser.add_argument("--store", help="a store that may be written to; by default a new file")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as folder:
        words = ["--store", asked.store or f"sqlite:///{folder}/runs.db", *(["--no-progress"] * asked.no_progress)]
        return _measured(words, folder, asked.clients, asked.calls)


def _measured(words: Sequence[str], folder: str, clients: int, calls: int) -> int:
    command = [sys.executable, "-m", "fanfold", "mcp", "serve", "--http", "--port", "0", "--allow-write"]
    environment = {**os.environ, "FANFOLD_MCP_TOKEN": TOKEN, "PYTHONPATH": os.pathsep.join(map(_whole, sys.path))}
    server = subprocess.Popen([*command, *words], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None, "it is a pipe"
    try:
        said = server.stderr.readline()
        found = re.search(r":(\d+)/mcp$", said.strip())
        if found is None:
            print(f"it does not serve: {said}{server.stderr.read()}", file=sys.stderr)
            return 1
        port = int(found[1])
        asyncio.run(through(port, clients, 20))  # what a server has open then, it keeps
        before = files(server.pid)
        began = time.perf_counter()
        took = asyncio.run(through(port, clients, calls))
        seconds, more = time.perf_counter() - began, left(server.pid, before)
        began = time.perf_counter()
        alone = asyncio.run(beside(words[1], clients, calls))
        alone_seconds = time.perf_counter() - began
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)
    print(f"{clients} clients at once on {os.cpu_count()} cores")
    heads = "  ".join(f"{head:>9}" for head in ("p50 ms", "p90 ms", "p99 ms", "most ms"))
    print(f"{'':<24} {'calls':>7} {'a second':>9} {heads}")
    shown("over HTTP", took, seconds)
    shown("the store's own", alone, alone_seconds)
    beyond = at(took, 0.99) - at(alone, 0.99)
    print(f"p99 beside the store's own: {beyond:.1f} ms, of {MOST:.0f}; open files left: {more}; errors: 0")
    return 0 if beyond < MOST and more <= 0 else 1


def _whole(path: str) -> str:
    return str(Path(path).resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
