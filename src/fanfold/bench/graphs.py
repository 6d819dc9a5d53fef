"""The workloads of an engine that has LangGraph's names, of which fanfold is one.

What is done to the two is the same to the letter; only where they keep what a durable run stores is named differently.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from fanfold.bench import places, shapes
from fanfold.bench.timing import Blocking, Figures, Prepared, Work, Workloads, slept

MODES: Final = ("values", "updates", "custom", "messages", "tasks", "checkpoints", "debug")

Opened: TypeAlias = Callable[[str | Path], AbstractAsyncContextManager[Any]]
Run: TypeAlias = Callable[[Mapping[str, Any]], Any]

_threads = itertools.count()


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine with LangGraph's names: `api` has its classes, the next three open what it stores in.

    `declared` says that its nodes can be told what they write.
    """

    api: Any
    sqlite: Opened
    postgres: Opened
    memory: Opened
    declared: bool = False

    def workloads(self) -> Workloads:
        """Everything that is measured of it."""
        made: dict[str, Callable[[int], Prepared]] = {
            "fanout": self.fanout,
            "send": self.send,
            "fanout_blocking": self.fanout_blocking,
            "chain": self.chain,
            "loop": self.loop,
            "one": self.one,
            "wide": self.wide,
            "messages": self.messages,
            "subgraphs": self.subgraphs,
            "react": self.react,
            "asleep": self.asleep,
            "unequal": self.unequal,
            "sqlite_bytes": self.stored_bytes,
            "sqlite_fanout": lambda n: self.kept_fanout(self.sqlite, places.file, n),
            "postgres_fanout": lambda n: self.kept_fanout(self.postgres, places.postgres, n),
            "postgres_32": lambda n: self.kept_loop(self.postgres, places.postgres, "sync", n, threads=32),
        }
        for durability in ("sync", "async", "exit"):
            made[f"sqlite_{durability}"] = partial(self.kept_loop, self.sqlite, places.file, durability)
            made[f"postgres_{durability}"] = partial(self.kept_loop, self.postgres, places.postgres, durability)
        made.update({f"stream_{mode}": partial(self.stream, mode) for mode in MODES})
        made["stream_checkpoints"] = self.checkpoints
        return made

    # In memory

    def fanout(self, n: int) -> Work:
        """`n` nodes at once."""
        app = shapes.fanout(self.api, n).compile()
        return _items(partial(app.ainvoke, {"items": []}))

    def send(self, n: int) -> Work:
        """`n` tasks of one node at once."""
        app = shapes.send(self.api, n).compile()
        return _items(partial(app.ainvoke, {"items": []}))

    def fanout_blocking(self, n: int) -> Blocking:
        """`n` blocking nodes at once, by the blocking call."""
        app = shapes.fanout(self.api, n, shapes.blocking_work).compile()
        return Blocking(lambda: len(app.invoke({"items": []})["items"]))

    def chain(self, n: int) -> Work:
        """`n` nodes in a row."""
        app = shapes.chain(self.api, n).compile()

        async def run() -> int:
            await app.ainvoke({"items": []}, _limit(n))
            return n

        return run

    def loop(self, n: int) -> Work:
        """One node `n` times."""
        app = shapes.loop(self.api, n).compile()
        return _counted(partial(app.ainvoke, {"number": 0, "limit": n}, _limit(n)))

    def one(self, n: int) -> Blocking:
        """A run of one node, with an event loop of its own."""
        app = shapes.fanout(self.api, 1).compile()
        return Blocking(lambda: len(asyncio.run(app.ainvoke({"items": []}))["items"]))

    def wide(self, n: int) -> Work:
        """Three nodes in turn over a state of `n` keys; a task is a node's run."""
        app = shapes.wide(self.api, n).compile()

        async def run() -> int:
            done = await app.ainvoke(shapes.wide_input(n), _limit(100))
            assert done["turn"] == shapes.WIDE_ROUNDS
            return 3 * shapes.WIDE_ROUNDS

        return run

    def messages(self, n: int) -> Work:
        """A list that grows by a kilobyte a step."""
        app = shapes.messages(self.api, n).compile()
        return _items(partial(app.ainvoke, {"items": []}, _limit(n)))

    def subgraphs(self, n: int) -> Work:
        """`n` graphs in a graph; a task is a node's run within one of them."""
        app = shapes.subgraphs(self.api, n).compile()

        async def run() -> int:
            done = await app.ainvoke({"items": []})
            assert len(done["items"]) == n
            return n * (2 + shapes.BUMPS)

        return run

    def react(self, n: int) -> Work:
        """A scripted model and its tool; a task is a node's run."""
        app = shapes.react(self.api, n).compile()
        return _items(partial(app.ainvoke, {"items": []}, _limit(2 * n)))

    def asleep(self, n: int) -> Figures:
        """`n` agents that sleep for a second."""
        return Figures(lambda: slept(n, self._sleeping(n)))

    def _sleeping(self, n: int) -> Work:
        app = shapes.asleep(self.api, n).compile()
        return _items(partial(app.ainvoke, {"items": []}))

    def unequal(self, n: int) -> Figures:
        """Legs that are long at different ends."""
        app = shapes.unequal(self.api, declared=self.declared).compile()

        async def run() -> int:
            assert (await app.ainvoke({"a": 0}))["joined"] == 4
            return 5

        return Figures(lambda: slept(5, run))

    @asynccontextmanager
    async def checkpoints(self, n: int) -> AsyncIterator[Work]:
        """The mode that shows what is stored, which takes a store: one in memory."""
        async with self.memory("memory:") as store:
            yield self.stream("checkpoints", n, store)

    def stream(self, mode: str, n: int, store: Any = None) -> Work:
        """A loop of `n` steps, of which each also says something, with one mode of streaming."""
        say = self.api.get_stream_writer
        app = shapes.loop(self.api, n, lambda: say()({"said": 1})).compile(checkpointer=store)

        async def run() -> int:
            seen = 0
            async for _ in app.astream({"number": 0, "limit": n}, _thread(n), stream_mode=mode):
                seen += 1
            assert mode == "messages" or seen >= n, f"{seen:,} chunks of {n:,} steps"
            return n

        return run

    # On disk

    @asynccontextmanager
    async def kept_loop(
        self, opened: Opened, where: Callable[[], str | Path], durability: str, n: int, *, threads: int = 1
    ) -> AsyncIterator[Work]:
        """A loop of `n` steps whose results are stored, `threads` of them at once."""
        async with opened(where()) as store:
            app = shapes.loop(self.api, n).compile(checkpointer=store)

            async def one() -> int:
                done = await app.ainvoke({"number": 0, "limit": n}, _thread(n), durability=durability)
                return int(done["number"])

            async def run() -> int:
                return sum(await asyncio.gather(*(one() for _ in range(threads))))

            yield run

    @asynccontextmanager
    async def kept_fanout(self, opened: Opened, where: Callable[[], str | Path], n: int) -> AsyncIterator[Work]:
        """`n` nodes at once, each of whose results is on disk before the run goes on."""
        async with opened(where()) as store:
            app = shapes.fanout(self.api, n).compile(checkpointer=store)

            async def run() -> int:
                done = await app.ainvoke({"items": []}, _thread(n), durability="sync")
                return len(done["items"])

            yield run

    def stored_bytes(self, n: int) -> Figures:
        """Bytes on disk a step, and its time, of a list that grows by a kilobyte a step."""

        async def find() -> Mapping[str, float]:
            database = places.file()
            began = time.perf_counter()
            async with self.sqlite(database) as store:
                app = shapes.messages(self.api, n).compile(checkpointer=store)
                done = await app.ainvoke({"items": []}, _thread(n), durability="sync")
                assert len(done["items"]) == n
                took = time.perf_counter() - began
            return {"tasks": n, "bytes": places.size(database) / n, "us": took / n * 1e6}

        return Figures(find)


def _items(invoke: Callable[[], Any]) -> Work:
    """Work whose number of tasks is that of the items in the output."""

    async def run() -> int:
        return len((await invoke())["items"])

    return run


def _counted(invoke: Callable[[], Any]) -> Work:
    """Work whose number of tasks is what the output says."""

    async def run() -> int:
        return int((await invoke())["number"])

    return run


def _limit(steps: int) -> dict[str, Any]:
    return {"recursion_limit": steps + 10}


def _thread(steps: int) -> dict[str, Any]:
    """A config that names a thread which nobody else has, so that no repetition goes on with an earlier one."""
    return {"configurable": {"thread_id": f"{os.getpid()} {next(_threads)}"}, **_limit(steps)}
