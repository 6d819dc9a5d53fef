"""The seam between a task that asks for an agent and whatever runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from fanfold.agents.definition import AgentDefinition
from fanfold.agents.workspace import Workspace
from fanfold.events import ModelAnswered, Noticed, ToolCalled


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of what the model says, while it says it; `message` is the id of the answer that it belongs to.

    It is for those who listen and no event of the run: the answer itself is kept, and it has all the pieces.
    """

    text: str
    message: str


Progress: TypeAlias = ModelAnswered | ToolCalled | Noticed


@dataclass(frozen=True, slots=True)
class Call:
    """One agent to be run, with everything decided: which one, on what, with which model, in which folder.

    `model` is a name such as `anthropic:claude-sonnet-4-5` or a server to be asked in a provider's place, such as
    `fanfold.testing.ModelServer`; anything that has a `url` will do. `heard` is whether somebody listens to the pieces
    in which it answers.
    """

    task: str
    definition: AgentDefinition
    prompt: str
    model: Any
    workspace: Workspace
    heard: bool = False


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
