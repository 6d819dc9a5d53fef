"""Agents that are Python functions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from fanfold.agents.backends.base import Answer, Call, Progress
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import AgentError, UsageError, did_you_mean
from fanfold.frame import current_frame
from fanfold.work.base import Executor
from fanfold.work.places import Places

EXECUTORS: Final = ("loop", "thread", "process")
"""Where a function can run, by name."""


@dataclass(frozen=True, slots=True)
class PythonAgent:
    """A function that takes the prompt and returns the answer, which must be plain data, under an agent's name.

    It runs in `executor`; without one, an async function on the event loop and any other in a thread.
    """

    definition: AgentDefinition
    function: Callable[[str], Any]
    executor: str | Executor | None = None


def python_agent(
    name: str,
    description: str = "",
    *,
    executor: str | Executor | None = None,
    timeout: float | None = None,
    max_concurrent: int | None = None,
) -> Callable[[Callable[[str], Any]], PythonAgent]:
    """Make an agent of a function: `invoke(..., agents=[it])` lets `Task` find it under `name`.

    `executor` is "loop", "thread", "process" for one that keeps Python busy (which then has to be a function of a
    module), or an executor of your own. An agent whose `timeout` (seconds) is over is not waited for any more, but a
    function in a thread or a process cannot be stopped. No more than `max_concurrent` of it are at work at once.
    """
    if isinstance(executor, str) and executor not in EXECUTORS:
        raise UsageError(
            f"python_agent({name!r}): executor is {executor!r}{did_you_mean(executor, EXECUTORS)}",
            hint=f"it is one of {', '.join(EXECUTORS)}, or an executor",
        )

    def decorate(function: Callable[[str], Any]) -> PythonAgent:
        text = description or inspect.getdoc(function) or name
        limits = {"timeout": timeout, "max_concurrent": max_concurrent}
        definition = AgentDefinition(name=name, description=text, backend="python", **limits)  # type: ignore[arg-type]
        return PythonAgent(definition, function, executor)

    return decorate


class PythonBackend:
    """Runs the function that was registered for the agent."""

    def __init__(self, agent: PythonAgent | None) -> None:
        self._agent = agent

    async def prepare(self) -> None:
        """A function needs nothing."""

    async def run(self, call: Call) -> AsyncGenerator[Progress | Answer, None]:
        """The function's return value as the only item."""
        agent = self._agent
        if agent is None:
            raise AgentError(
                f"agent {call.definition.name!r} says `backend: python`, and no function was registered for it",
                hint="register one on the run: agents=[python_agent(name)(function)]",
            )
        async with _place(call, agent) as executor:
            output = await executor.call(_metered(agent.function, executor), call.prompt)
        yield Answer(output)


def _metered(function: Callable[[str], Any], executor: Executor) -> Callable[[str], Any]:
    """The function, which tells what it used of a core where it is in a thread of the run's."""
    frame = current_frame()
    if frame is None or executor is not frame.runner.family.places.threads:
        return function
    return frame.metered(function)


@asynccontextmanager
async def _place(call: Call, agent: PythonAgent) -> AsyncIterator[Executor]:
    """Where the function runs: in one of the run's places, or outside of any run in one of its own."""
    frame, is_async = current_frame(), inspect.iscoroutinefunction(agent.function)
    if frame is None:
        places = Places()
        try:
            yield places.of(agent.executor, is_async=is_async)
        finally:
            places.close(wait=False)
        return
    family = frame.runner.family
    executor = family.places.of(agent.executor, is_async=is_async)
    if agent.executor != "process":
        yield executor
        return
    async with call.desk.taking(family.processing, f"one of {family.processing.limit} processes"):
        yield executor
