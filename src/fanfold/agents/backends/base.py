"""The seam between a task that asks for an agent and whatever runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from fanfold.agents.definition import AgentDefinition
from fanfold.agents.workspace import Workspace
from fanfold.events import ModelRetried, Noticed, ToolCalled
from fanfold.limits.desk import Asking
from fanfold.limits.slots import Slots

PATIENCE: Final = 300.0
"""Seconds without any sign of an agent after which it counts as stalled, when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of what the model says, while it says it; `message` is the id of the answer that it belongs to.

    It is for those who listen and no event of the run: the answer itself is kept, and it has all the pieces.
    """

    text: str
    message: str


Progress: TypeAlias = ModelRetried | ToolCalled | Noticed


class Desk(Protocol):
    """What a run does for an agent while it works."""

    def asking(
        self, model: str, *, calls: int = 1, tokens: float = 0.0, usd: float = 0.0
    ) -> AbstractAsyncContextManager[Asking]:
        """One request to a model, or a whole program that asks by itself; it waits until the run's limits allow it.

        What it will take is an estimate, and `Asking.answered` says what it took. Raises `BudgetError` when too little
        is left. An error that the model's server answers with is given back, and one that says that it is asked too
        often holds back all who ask that model.
        """

    def calls_left(self) -> int | None:
        """How many calls of models could be reserved now; None when they are not limited."""

    def process(self, megabytes: float) -> AbstractAsyncContextManager[None]:
        """Room for a process of that size; it waits until the run's memory budget has it."""

    def spare(self, megabytes: float) -> AbstractContextManager[bool]:
        """Room for a process of that size, if there is any just now: whether there is."""

    def taking(self, slots: Slots, why: str) -> AbstractAsyncContextManager[None]:
        """One of the slots, and the wait for it, which is told as one for `why`."""

    async def task(self, name: str, prompt: str, description: str = "") -> str:
        """What the agent of that name answers, framed as what a model wrote."""

    def retried(self, model: str, error: Exception, seconds: float) -> None:
        """Tell those who watch the run that a model is asked again in so many seconds, and why."""

    def notice(self, text: str) -> None:
        """Tell them something that a person should know."""

    def using(self, tool: str) -> AbstractContextManager[None]:
        """Around one call of a tool: how long that took is told."""

    def saw(self, processes: int, cpu: float) -> None:
        """Tell how many processes the operating system sees of the agent's program, and what they used of a core."""


@dataclass(frozen=True, slots=True)
class Call:
    """One agent to be run, with everything decided: which one, on what, with which model, in which folder.

    `task` is an id that is the same again when a run that was cut off asks for the same answer again. `model` is a name
    such as `anthropic:claude-sonnet-4-5` or a server to be asked in a provider's place, such as
    `fanfold.testing.ModelServer`; anything that has a `url` will do. `heard` is whether somebody listens to the pieces
    in which it answers. The answer has to fit `schema`, a JSON Schema, if there is one. `peers` are the agents that it
    may call itself, and `servers` the MCP servers that it may use, by name, as `.mcp.json` describes them. It has
    stalled when nothing was heard of it for `patience` seconds.
    """

    task: str
    definition: AgentDefinition
    prompt: str
    model: Any
    workspace: Workspace
    desk: Desk
    heard: bool = False
    schema: Mapping[str, Any] | None = None
    peers: tuple[AgentDefinition, ...] = ()
    servers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent answered. `output` and `transcript` are plain data, so that they can be stored.

    `cost_usd` is None when no price is known, which is not the same as free.
    """

    output: Any
    model: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    tool_uses: int = 0
    transcript: tuple[Mapping[str, Any], ...] = ()


class Backend(Protocol):
    """Runs agents of one kind."""

    async def prepare(self) -> None:
        """Load what the first agent of this kind needs, so that it is not counted as that agent's time."""

    def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """What happens while the agent works, and last its answer. Raises an `AgentError` when there is none.

        A backend that has no pieces says none: then the answer is told as a whole.
        """
