"""One agent, as its file says or as an object that was registered on the run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fanfold.errors import UsageError

BACKENDS: Final = ("model", "claude", "process", "python")


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """One agent, as its file says or as an object that was registered on the run.

    `tools` is None for all tools and empty for none. `model` is None when the run's own is meant (also `inherit`).
    `command` is the program of a `process`, as one line or as its words, and `memory_mb` what each of its processes may
    have. `timeout` is in seconds, and `budget_usd` is what one call of the agent may cost. `max_concurrent` is how many
    of this agent a run may have at work at once. `extra` holds the recognised keys that have no field here, by their
    names in the file. `notices` are what a person should know about the file. `digest` changes with everything that the
    agent is made of, and not with the place where it was found.
    """

    name: str
    description: str
    prompt: str = ""
    tools: tuple[str, ...] | None = None
    disallowed_tools: tuple[str, ...] = ()
    model: str | None = None
    max_turns: int | None = None
    backend: str = "model"
    output: Mapping[str, Any] | None = field(default=None, hash=False)
    command: str | tuple[str, ...] = ()
    timeout: float | None = None
    budget_usd: float | None = None
    memory_mb: int | None = None
    max_concurrent: int | None = None
    source: Path | None = None
    origin: str = "run"  # "run", "project", "user" or "packaged"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    notices: tuple[str, ...] = field(default=(), compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if not folded(self.name):
            raise UsageError(f"agent name {self.name!r} has no letter or digit in it")
        for key in ("tools", "disallowed_tools"):
            if isinstance(getattr(self, key), str):
                raise UsageError(f"agent {self.name!r}: {key} must be a tuple of names, not one text")
        object.__setattr__(self, "digest", _digest(self))

    def peers(self) -> tuple[str, ...] | None:
        """The names of the agents that it may call: those of `Agent(a, b)` among its tools; None for all there are.

        `Task` is the older word for it. One that inherits its tools calls nobody: who may start others is said aloud.
        """
        named: list[str] = []
        for tool in self.tools or ():
            word, _, inside = tool.partition("(")
            if word.strip().casefold() in ("agent", "task"):
                names = [name.strip() for name in inside.removesuffix(")").split(",") if name.strip()]
                if not names:
                    return None
                named += names
        return tuple(dict.fromkeys(named))

    def program(self) -> str:
        """What it runs if it is a program: the first word of its `command`, such as `preset:codex`; else nothing."""
        words = self.command.split(maxsplit=1) if isinstance(self.command, str) else self.command
        return words[0] if self.backend == "process" and words else ""


def _digest(definition: AgentDefinition) -> str:
    d = definition
    content = [d.name, d.description, d.prompt, d.tools, d.disallowed_tools, d.model, d.max_turns, d.backend]
    bounds = [d.command, d.timeout, d.budget_usd, d.memory_mb, d.max_concurrent]
    text = json.dumps([*content, d.output, bounds, d.extra], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def folded(name: str) -> str:
    """The name as names are compared: without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())
