"""What surrounds an agent's call: which definitions it may name, which model answers, which folder it sees.

Without a model that a user has named (`models`), agents are answered by the rehearsal model, and that is said once.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanfold.agents.backends.acp import AcpBackend, speaks_acp
from fanfold.agents.backends.base import Backend
from fanfold.agents.backends.claude import ClaudeBackend
from fanfold.agents.backends.model import ModelBackend
from fanfold.agents.backends.process import ProcessBackend, asks_a_model
from fanfold.agents.backends.python import PythonAgent, PythonBackend
from fanfold.agents.definition import AgentDefinition, Catalogue, folded
from fanfold.agents.models import REHEARSAL, Models
from fanfold.agents.workspace import Workspace
from fanfold.errors import AgentError, MissingExtraError, UsageError
from fanfold.run import Runner


class RehearsalWarning(UserWarning):
    """No model was named, so agents are answered by the rehearsal model, which is not a language model."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The surroundings of every agent of one run."""

    catalogue: Catalogue
    python: Mapping[str, PythonAgent]
    models: Models
    workspace: str | Path | None
    _said: list[str] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Scope:
        """The scope that a run's settings ask for. Raises `UsageError` for an agent that is none."""
        agents: Sequence[Any] = settings.get("agents") or ()
        for agent in agents:
            if not isinstance(agent, AgentDefinition | PythonAgent):
                raise UsageError(
                    f"agents= holds {agent!r:.80}, which is no agent", hint="use python_agent() or AgentDefinition"
                )
        python = [agent for agent in agents if isinstance(agent, PythonAgent)]
        registered = tuple(agent.definition if isinstance(agent, PythonAgent) else agent for agent in agents)
        _check_apart(registered)
        return cls(
            catalogue=Catalogue.load(Path.cwd(), _home(), registered),
            python={agent.definition.name: agent for agent in python},
            models=Models.of(settings.get("model"), settings.get("models")),
            workspace=settings.get("workspace"),
        )

    def backend(self, definition: AgentDefinition) -> Backend:
        """What runs agents of this definition. Raises `AgentError` when nothing here does."""
        if definition.backend == "model":
            return ModelBackend()
        if definition.backend == "python":
            return PythonBackend(self.python.get(definition.name))
        if definition.backend == "process":
            return AcpBackend() if speaks_acp(definition) else ProcessBackend()
        if definition.backend == "claude":
            return ClaudeBackend()
        raise AgentError(
            f"agent {definition.name!r} asks for backend {definition.backend!r}, which this version does not have",
            hint="the backends are: model, claude, process, python",
        )

    def asks(self, definition: AgentDefinition) -> bool:
        """Whether the agent asks a model that the run has to name."""
        return definition.backend in ("model", "claude") or asks_a_model(definition)

    def connects(self, definition: AgentDefinition) -> bool:
        """Whether the agent can use MCP servers."""
        return self.asks(definition) or speaks_acp(definition)

    def model_for(self, definition: AgentDefinition, named: Any) -> Any:
        """The model that answers, as a name or a server; `named` is the call's own. Without any, the rehearsal."""
        model = self.models.named(definition, named)
        if model is None:
            self._say_rehearsal()
        return rehearsal() if model in (None, REHEARSAL) else model

    def ignored(self, definition: AgentDefinition, model: Any) -> str | None:
        """The model that an agent's file asks for in vain, when a real one was named and it is another."""
        return self.models.ignored(definition, model)

    def peers(self, definition: AgentDefinition) -> tuple[AgentDefinition, ...]:
        """The agents that this one may call, as its tools name them, and never itself."""
        names = definition.peers()
        found = list(self.catalogue) if names is None else [self.catalogue.get(name) for name in names]
        return tuple({peer.name: peer for peer in found if peer.name != definition.name}.values())

    def folder(self, named: str | Path | None) -> Workspace:
        """The folder that the agent may look at: of the call, else of the run, else the working directory."""
        return Workspace(Path(named or self.workspace or Path.cwd()))

    def _say_rehearsal(self) -> None:
        if self._said:
            return
        self._said.append(REHEARSAL)
        warnings.warn(
            "no model was named, so the rehearsal model answers: it quotes what the agent's tools find and asks no "
            "language model. Name one with model='anthropic:...', model='openai:...' or FANFOLD_MODEL; "
            "model='rehearsal' says that this is meant.",
            RehearsalWarning,
            stacklevel=4,
        )


def _check_apart(definitions: Sequence[AgentDefinition]) -> None:
    often = Counter(folded(definition.name) for definition in definitions)
    for definition in definitions:
        if (count := often[folded(definition.name)]) > 1:
            raise UsageError(f"agents= holds {count} agents named {definition.name!r}", hint="give each its own name")


_rehearsing = threading.Lock()
_server: list[Any] = []


def rehearsal() -> Any:
    """The server of the rehearsal model: one for the process, started when it is first needed."""
    with _rehearsing:
        if not _server:
            try:
                from fanfold.agents.modelserver import ModelServer
            except ImportError as error:
                raise MissingExtraError(
                    f"the rehearsal model needs a package that is missing: {error}",
                    hint="install it with: pip install 'fanfold[llm]'",
                ) from error
            server = ModelServer()
            server.start()
            _server.append(server)
        return _server[0]


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no home at all: then it holds no agents
        return None


_scopes: weakref.WeakKeyDictionary[Runner, Scope] = weakref.WeakKeyDictionary()


def scope_of(runner: Runner | None) -> Scope:
    """The scope of a run, made when its first agent is called; without a run, a new one."""
    if runner is None:
        return Scope.of({})
    scope = _scopes.get(runner)
    # Of two threads that make one at the same time both use the same.
    return scope if scope is not None else _scopes.setdefault(runner, Scope.of(runner.settings))
