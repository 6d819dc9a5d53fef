"""Agents that are run by Claude Code, through claude-agent-sdk (extra `claude`): one process for each task.

::

    Task ──> ClaudeBackend ──> SDK ──line──> launcher ──> claude ──> its shell, its MCP servers
                                  <── `task`: the agents that it may call are asked here, by the run

It costs half a second and a few hundred megabytes each, and brings the tools, the prompt caching and the context
handling of that program. Whom it may ask for answers is decided as for all agents: a named model of Anthropic's, with
the key from our environment, or a server that stands in for it.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from fanfold.agents import sizes
from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.backends.claude_command import KEY_DESCRIPTOR, handed, start
from fanfold.agents.backends.process import closely_watched
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.processes import Bounds, Program
from fanfold.agents.sizes import MEGABYTE
from fanfold.errors import AgentError, MissingExtraError
from fanfold.events import Noticed
from fanfold.frame import clock

MOST_CALLS: Final = 25
"""Calls of its model that are set aside for a program whose agent's file has no `maxTurns`, in a run that counts them.

What it does not use, it gives back."""

_importing = threading.Lock()
_loaded = threading.Event()


def load() -> None:
    """Import what claude agents need. Raises `MissingExtraError` when it is not installed."""
    with _importing:
        try:
            import fanfold.agents.backends.claude_session  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"agents that say `backend: claude` need a package that is missing: {error}",
                hint="install it with: pip install 'fanfold[claude]'",
            ) from error
        _loaded.set()


class ClaudeBackend:
    """Runs an agent as a conversation of the claude program with its model."""

    async def prepare(self) -> None:
        """Import the SDK, in a thread."""
        if not _loaded.is_set():
            await asyncio.to_thread(load)

    async def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """Each of the model's answers and each tool it calls, then what it said in the end."""
        await self.prepare()
        from fanfold.agents.backends.claude_session import session

        definition = call.definition
        with tempfile.TemporaryDirectory(prefix="fanfold-claude-", ignore_cleanup_errors=True) as home:
            calls = _calls(call)
            begin = start(call, _program(definition), Path(home), calls)
            for text in begin.notices:
                yield Noticed(clock(), f"agent {definition.name!r} {text}", call.task)
            with handed(begin.key) as key:
                environment = {**begin.environment, KEY_DESCRIPTOR: str(key)}
                program = Program(begin.command, call.workspace.root, environment, _bounds(definition), [key])
                async with (
                    call.desk.process(sizes.expected(definition, sizes.CLAUDE)),
                    call.desk.asking(begin.asks, calls=calls or 1, usd=definition.budget_usd or 0.0) as asking,
                ):
                    with closely_watched(call, program):
                        async with program, session(call, program, begin, asking) as talk:
                            async for event in talk.events():
                                yield event
                            answer = talk.answer()
        yield answer


def _bounds(definition: AgentDefinition) -> Bounds:
    """What the program and its children may hold together, and where it can live with that, what each may map."""
    megabytes = definition.memory_mb
    memory = None if megabytes is None else megabytes * MEGABYTE
    return Bounds(memory=memory, addresses=memory if megabytes and megabytes >= sizes.CLAUDE_MAPS else None)


def _calls(call: Call) -> int | None:
    """How often the program may ask its model, where the run limits that: all of it is set aside beforehand."""
    left = call.desk.calls_left()
    return None if left is None else max(1, min(left, call.definition.max_turns or MOST_CALLS))


def _program(definition: AgentDefinition) -> str:
    """The claude program: the one that the agent's file names, the SDK's own, or the one on the PATH."""
    from fanfold.agents.backends.claude_session import BUNDLED

    words = shlex.split(definition.command) if isinstance(definition.command, str) else list(definition.command)
    if len(words) > 1:
        raise AgentError(
            f"agent {definition.name!r}: `command` is the path of the claude program, and has more than that",
            hint="leave the arguments out: they follow from the rest of the agent's file",
        )
    found = words[0] if words else str(BUNDLED) if BUNDLED.exists() else shutil.which("claude")
    if not found:
        raise AgentError(
            f"agent {definition.name!r}: there is no claude program here",
            hint="install it, or name its path as `command` in the agent's file",
        )
    return found
