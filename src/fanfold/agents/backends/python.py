"""Agents that are Python functions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from fanfold.agents.backends.base import Answer, Call, Progress
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import AgentError
from fanfold.work.base import Executor
from fanfold.work.local import Inline
from fanfold.work.threads import Threads


@dataclass(frozen=True, slots=True)
class PythonAgent:
    """A function that takes the prompt and returns the answer, which must be plain data, under an agent's name.

    An async function runs on the event loop, any other in a thread.
    """

    definition: AgentDefinition
    function: Callable[[str], Any]


def python_agent(name: str, description: str = "") -> Callable[[Callable[[str], Any]], PythonAgent]:
    """Make an agent of a function: `invoke(..., agents=[it])` lets `Task` find it under `name`."""

    def decorate(function: Callable[[str], Any]) -> PythonAgent:
        text = description or inspect.getdoc(function) or name
        return PythonAgent(AgentDefinition(name=name, description=text, backend="python"), function)

    return decorate


class PythonBackend:
    """Runs the function that was registered for the agent."""

    def __init__(self, function: Callable[[str], Any] | None) -> None:
        self._function = function

    async def prepare(self) -> None:
        """A function needs nothing."""

    async def run(self, call: Call) -> AsyncGenerator[Progress | Answer, None]:
        """The function's return value as the only item."""
        if self._function is None:
            raise AgentError(
                f"agent {call.definition.name!r} says `backend: python`, and no function was registered for it",
                hint="register one on the run: agents=[python_agent(name)(function)]",
            )
        executor: Executor = Inline() if inspect.iscoroutinefunction(self._function) else Threads()
        try:
            output = await executor.call(self._function, call.prompt)
        finally:
            executor.close(wait=False)
        yield Answer(output)
