"""Scripts: what a test expects its agents to be told, in order.

A script belongs to one agent, or to any (`"*"`) that has none of its own. Each call takes the next step. A script
that has run out is a failed expectation: the call fails and says so, and no other answer is made up in its place.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import TypeAlias

from fanfold.agents.modelserver.values import Answer, CutStream, Fail, Reply, Request, Stall, ToolUse
from fanfold.errors import UsageError

ANY = "*"

Said: TypeAlias = Reply | str | ToolUse | list[str | ToolUse]
"""What a step may be: a bare string is text, a `ToolUse` a tool call, a list several of them in one message."""

Speaker: TypeAlias = Callable[[Request], Said | Awaitable[Said]]
"""Decides from the request, in the server's event loop: it may be async and must not block."""

Step: TypeAlias = Said | Speaker


class Scripts:
    """The scripts of one server. They are added from the test's thread and taken in the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[str, deque[Step]] = {}
        self._speakers: dict[str, Speaker] = {}
        self._taken: dict[str, int] = {}

    def add(self, agent: str, steps: Step | Iterable[Step]) -> None:
        """Put steps behind those that the agent's script already has; a callable alone answers every call."""
        if callable(steps):
            with self._lock:
                self._speakers[agent] = steps
            return
        alone = isinstance(steps, (str, ToolUse, Answer, Fail, Stall, CutStream))
        listed: list[Step] = [steps] if alone else list(steps)  # type: ignore[list-item, arg-type]  # `alone` decided
        for step in listed:
            _check(agent, step)
        with self._lock:
            self._steps.setdefault(agent, deque()).extend(listed)

    def named(self, system: str, model: str) -> str | None:
        """The agent whose script is meant by a call that does not say whose it is: the longest name that fits."""
        with self._lock:
            names = sorted({*self._steps, *self._speakers} - {ANY}, key=lambda name: (-len(name), name))
        return next((name for name in names if name == model or _occurs(name, system)), None)

    def take(self, agent: str) -> Step | None:
        """The next step for a call of the agent; None if nobody wrote a script for it."""
        with self._lock:
            owner = agent if agent in self._steps or agent in self._speakers else ANY
            if self._steps.get(owner):
                self._taken[owner] = self._taken.get(owner, 0) + 1
                return self._steps[owner].popleft()
            if owner in self._speakers:
                return self._speakers[owner]
            return self._run_out(owner, agent) if owner in self._steps else None

    def unused(self) -> dict[str, int]:
        """How many steps of each script nobody has asked for."""
        with self._lock:
            return {agent: len(steps) for agent, steps in self._steps.items() if steps}

    def _run_out(self, owner: str, agent: str) -> Fail:
        whose = f"agent {agent!r}" if owner == agent else f"any agent ({ANY!r}), asked by {agent!r},"
        had = self._taken.get(owner, 0)
        text = f"the script of {whose} has run out: it had {had} answer{'s' * (had != 1)}, and one more was asked for"
        return Fail(500, text, retry=False)


async def perform(step: Step, request: Request) -> Reply:
    """What the step comes to for this request. A callable that raises becomes an error that names it."""
    if not callable(step):
        return reply(step)
    try:
        said = step(request)
        return reply(await said if isawaitable(said) else said)
    except Exception as error:  # noqa: BLE001  # a test's own code; the client and the journal are told of it
        text = f"what answers for agent {request.agent!r} raised {type(error).__name__}: {error}"
        return Fail(500, text, retry=False)


def reply(said: Said) -> Reply:
    """The full form of a step's short forms."""
    if isinstance(said, str):
        return Answer(said)
    if isinstance(said, ToolUse):
        return Answer(tool_uses=(said,))
    if isinstance(said, (list, tuple)):
        text = "\n".join(part for part in said if isinstance(part, str))
        return Answer(text, tuple(part for part in said if isinstance(part, ToolUse)))
    if isinstance(said, (Answer, Fail, Stall, CutStream)):
        return said
    raise UsageError(f"a script cannot say {said!r}", hint="use text, ToolUse, Answer, Fail, Stall or CutStream")


def _check(agent: str, step: Step) -> None:
    if callable(step):
        return
    try:
        reply(step)
    except UsageError as error:
        raise UsageError(f"script of agent {agent!r}: {error.args[0]}", hint=error.hint) from None


def _occurs(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) is not None
