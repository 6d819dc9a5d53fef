"""The runs that a server has at work.

A run belongs to the server, not to the call that began it: when that call has waited long enough, the run goes on, and
can be followed, cancelled and read by its id. A call that is cancelled while it waits stops its run. When the server
ends, what is still at work is stopped; what had finished is kept, so it can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from fanfold.errors import UsageError
from fanfold.events import (
    Event,
    ModelRetried,
    Noticed,
    RunStarted,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskQueued,
    TaskStarted,
    ToolCalled,
)
from fanfold.graph import CompiledGraph
from fanfold.limits import Limits, Shared
from fanfold.mcp.offer import Offer, Offered

Tell: TypeAlias = Callable[[int, str], Awaitable[None]]
"""Told of how much has happened, and of the last thing in words."""

BETWEEN: Final = 0.1
"""Seconds between two things that are told to who waits."""


@dataclass(eq=False)
class AtWork:
    """A run that is at work in this process, or was when its holder asked."""

    run_id: str
    task: asyncio.Task[Any] = field(init=False, repr=False)
    happened: int = 0
    last: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the next thing that happens, when there is a new one: so several can wait, and none has to clear it."""
    _names: dict[str, str] = field(default_factory=dict)

    def heard(self, event: Event) -> None:
        """Something has happened in it."""
        if isinstance(event, TaskQueued):
            self._names[event.task] = event.name
        self.happened += 1
        if text := _in_words(event, self._names):
            self.last = text
        self.wake()

    def wake(self) -> None:
        """Let go on whoever waits for something to happen."""
        happened, self.changed = self.changed, asyncio.Event()
        happened.set()


class Work:
    """The runs of one server, within its limits. Used from one event loop."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.shared = Shared(offer.limits)
        self._at_work: dict[str, AtWork] = {}

    def find(self, run_id: str) -> AtWork | None:
        """The run of that id, if it is at work here."""
        return self._at_work.get(run_id)

    async def start(
        self, offered: Offered, given: Any, *, settings: Mapping[str, Any], limits: Mapping[str, Any]
    ) -> AtWork:
        """Begin a run of a graph, within `limits` of its own besides those of the server."""
        offer = self.offer
        kept = {
            "graph": offered.reference,
            **settings,
            "model": offer.model,
            "models": dict(offer.models),
            "workspace": str(offer.workspace),
            "limits": dict(limits),
        }
        graph = await asyncio.to_thread(offered.load, offer.store, None)
        return await self._begin(graph, given, uuid.uuid4().hex[:12], kept, agents=offered.agents)

    async def go_on(
        self, offered: Offered, run_id: str, thread_id: str, given: Any, settings: Mapping[str, Any], name: str
    ) -> AtWork:
        """Go on with a run that has begun before, here or elsewhere, which sees the folder that it saw then."""
        graph = await asyncio.to_thread(offered.load, self.offer.store, name)
        options: dict[str, Any] = {"agents": offered.agents, "thread_id": thread_id, "on_busy": "reject"}
        return await self._begin(graph, given, run_id, settings, **options)

    async def _begin(
        self, graph: CompiledGraph, given: Any, run_id: str, settings: Mapping[str, Any], **options: Any
    ) -> AtWork:
        """The run, as soon as something has happened in it. Raises what kept it from beginning."""
        if run_id in self._at_work:
            raise UsageError(f"run {run_id!r} is at work", hint="follow it with run_follow")
        at = AtWork(run_id)
        limits = settings.get("limits")
        options |= {name: settings.get(name) for name in ("model", "models", "workspace")}
        running = graph.ainvoke(
            given,
            run_id=run_id,
            settings=settings,
            on_event=at.heard,
            shared=self.shared,
            limits=Limits(**limits) if limits else None,
            **options,
        )
        at.task = asyncio.create_task(running, name=f"run {run_id}")
        self._at_work[run_id] = at
        at.task.add_done_callback(lambda _: self._ended(at))
        try:
            await at.changed.wait()
        except asyncio.CancelledError:
            at.task.cancel()
            raise
        if at.happened == 0:
            at.task.result()
        return at

    def _ended(self, at: AtWork) -> None:
        del self._at_work[at.run_id]
        if not at.task.cancelled():
            at.task.exception()  # it is stored with the run; nobody need be there to take it
        at.wake()

    async def wait(self, at: AtWork, seconds: float, tell: Tell) -> None:
        """Wait for the end of a run, for so many seconds at most. A call that is cancelled meanwhile stops it."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._told(at, tell)
        except asyncio.CancelledError:
            at.task.cancel()  # nothing can be awaited here: anyio cancels every wait of a call that is cancelled
            raise

    async def _told(self, at: AtWork, tell: Tell) -> None:
        said = 0
        while not at.task.done():
            if at.happened == said:
                await at.changed.wait()
                continue
            said = at.happened
            await tell(said, at.last)
            await asyncio.wait([at.task], timeout=BETWEEN)

    async def stop(self, at: AtWork) -> None:
        """Stop a run, and wait for it to have ended."""
        at.task.cancel()
        await asyncio.wait([at.task])

    async def close(self) -> None:
        """Stop whatever is at work."""
        tasks = [at.task for at in self._at_work.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def working(offer: Offer) -> AsyncIterator[Work]:
    """The runs of a server that offers this, stopped at the end of the block."""
    work = Work(offer)
    try:
        yield work
    finally:
        with contextlib.suppress(asyncio.CancelledError):  # the server was: its runs are to end all the same
            await asyncio.shield(work.close())


def _in_words(event: Event, names: Mapping[str, str]) -> str:
    """What is told of an event to who waits for the run; nothing of most."""
    match event:
        case RunStarted():
            return f"run {event.run_id} has begun"
        case TaskStarted():
            return f"{names.get(event.task, 'a task')} is at work"
        case ToolCalled():
            return f"{names.get(event.task, 'a task')} uses {event.tool}"
        case TaskFinished():
            return f"{names.get(event.task, 'a task')} has finished"
        case TaskFailed():
            return f"{names.get(event.task, 'a task')} has failed: {event.error:.200}"
        case TaskInterrupted():
            return f"{names.get(event.task, 'a task')} waits for an answer"
        case ModelRetried():
            return f"{event.model} is asked again in {event.seconds:.0f} s"
        case Noticed():
            return f"note: {event.message:.200}"
        case _:
            return ""
