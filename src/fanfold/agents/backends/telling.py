"""Work that tells what happens while it goes on, as the events of a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeAlias

from fanfold.agents.backends.base import Answer, Progress, Said

Tell: TypeAlias = Callable[[Progress | Said], None]


async def telling(
    work: Callable[[Tell], Coroutine[Any, Any, Answer]],
) -> AsyncGenerator[Progress | Said | Answer, None]:
    """What the work tells, and last its answer. It is over when this is closed, and what it raises is raised here."""
    events: asyncio.Queue[Progress | Said | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        yield task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that nobody is told that it was not
