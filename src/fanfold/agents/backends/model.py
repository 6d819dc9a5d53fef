"""Agents that are language models, through pydantic-ai (extra `llm`).

The vendor packages take a second or more to import, so they are imported when the first such agent runs, in a thread::

    model ──▶ conversation ──▶ requesting ──▶ refusals       one request: streamed, repeated, settled, explained
              its tools,   ├─▶ mcp, answers                  servers that it may use; the form of its answer
              its answer   └─▶ connections ──▶ providers     where a model is, and a connection to it; whose it is

pydantic-ai's loop runs in an asyncio task of its own. What it tells goes to whoever reads `run`, one by one, and the
loop waits when nobody does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncGenerator
from typing import Final

from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.backends.providers import PROVIDERS as PROVIDERS
from fanfold.agents.backends.providers import check_key as check_key
from fanfold.agents.backends.providers import check_name as check_name
from fanfold.errors import MissingExtraError

MOST_WAITING: Final = 4
"""Pieces of an answer that may wait for whoever listens."""

NEW_OBJECTS: Final = 10_000
"""Objects to be made before the newest are searched for garbage, while agents are in flight."""

_importing = threading.Lock()
_loaded = threading.Event()


def load() -> None:
    """Import what model agents need. Raises `MissingExtraError` when it is not installed."""
    with _importing:
        # pydantic-ai greets people on the terminal when its first agent runs, in the middle of our display.
        os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")
        try:
            import pydantic_ai.models.openai  # noqa: F401

            import fanfold.agents.backends.conversation  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"agents that are language models need a package that is missing: {error}",
                hint="install it with: pip install 'fanfold[llm]'",
            ) from error
        _loaded.set()


class Unsearched:
    """Around what makes much: what was there before is not searched for garbage meanwhile, and new objects less often.

    The vendors' packages hold a million objects. A hundred agents that start together make enough new ones for the
    collector to go through all of those several times, each time a tenth of a second in which nothing else is done.
    Where a process has frozen objects of its own, all is left as it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: tuple[int, int, int] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1 and not gc.get_freeze_count():
                self._before = gc.get_threshold()
                gc.freeze()
                gc.set_threshold(max(NEW_OBJECTS, self._before[0]) if self._before[0] else 0, *self._before[1:])

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._before is not None:
                gc.set_threshold(*self._before)
                gc.unfreeze()
                self._before = None


_unsearched: Final = Unsearched()


class ModelBackend:
    """Runs an agent as a conversation with its model, which may use the agent's tools."""

    async def prepare(self) -> None:
        """Import what it takes, in a thread."""
        if not _loaded.is_set():
            await asyncio.to_thread(load)

    async def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """Each of the model's answers and each tool it calls, then what it said in the end."""
        await self.prepare()
        from fanfold.agents.backends.conversation import converse

        told: asyncio.Queue[Progress | Said | asyncio.Task[Answer]] = asyncio.Queue()
        room = asyncio.Semaphore(MOST_WAITING)

        async def tell(event: Progress | Said) -> None:
            await room.acquire()
            told.put_nowait(event)

        with _unsearched:
            working = asyncio.create_task(converse(call, tell))
            working.add_done_callback(told.put_nowait)
            try:
                while not isinstance(event := await told.get(), asyncio.Task):
                    room.release()
                    yield event
                yield event.result()
            finally:
                working.cancel()
                await asyncio.wait([working])
                if not working.cancelled():
                    working.exception()  # it was raised above, or nobody wants to know of it any more
