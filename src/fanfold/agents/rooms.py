"""Room in the run's memory for what an agent starts besides itself: its MCP servers, and its commands.

Two that each hold some room and wait for more could wait for each other for ever. So nobody here does. A command of an
agent that holds nothing waits for its room, and gives it back when it ends. An agent with servers holds the room of
those for as long as it works; so it takes that of one command along with it, all or none. Its commands then share that
one: those that find no more room just now run one after the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fanfold.agents.backends.base import Desk
from fanfold.limits.slots import Slots

WHY: Final = "room in memory_mb"


class Rooms:
    """The rooms of one agent, each of whose commands takes so many `megabytes`."""

    def __init__(self, desk: Desk, megabytes: float) -> None:
        self._desk = desk
        self._megabytes = megabytes
        self._own: Slots | None = None

    @asynccontextmanager
    async def beside(self, servers: float, *, commands: bool) -> AsyncIterator[None]:
        """Room for servers of so many megabytes, and for one of the agent's `commands`, if it has any."""
        if not servers:
            yield
            return
        async with self._desk.process(servers + (self._megabytes if commands else 0.0)):
            self._own = Slots(1)
            yield

    @asynccontextmanager
    async def command(self) -> AsyncIterator[None]:
        """Room for one command."""
        async with AsyncExitStack() as stack:
            if self._own is None:
                await stack.enter_async_context(self._desk.process(self._megabytes))
            elif self._own.take_nowait():
                stack.callback(self._own.give)
            elif not stack.enter_context(self._desk.spare(self._megabytes)):
                await stack.enter_async_context(self._desk.taking(self._own, WHY))
            yield
