"""Fan out the agents, fold in the results, and prove that they really ran side by side.

Every public name is here, and each is imported when it is first used, so that `import fanfold` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanfold.agents.backends.python import python_agent as python_agent
    from fanfold.agents.definition import AgentDefinition as AgentDefinition
    from fanfold.agents.task import Task as Task
    from fanfold.agents.task import TaskResult as TaskResult
    from fanfold.agents.workspace import Workspace as Workspace
    from fanfold.errors import AgentError as AgentError
    from fanfold.errors import AgentNotFoundError as AgentNotFoundError
    from fanfold.errors import EmptyInputError as EmptyInputError
    from fanfold.errors import FanfoldError as FanfoldError
    from fanfold.errors import GraphError as GraphError
    from fanfold.errors import GraphRecursionError as GraphRecursionError
    from fanfold.errors import InvalidUpdateError as InvalidUpdateError
    from fanfold.graph import StateGraph as StateGraph
    from fanfold.limits import Limits as Limits
    from fanfold.receipt import Receipt as Receipt
    from fanfold.receipt import audit as audit
    from fanfold.types import END as END
    from fanfold.types import START as START
    from fanfold.types import Send as Send

__version__ = "0.1.0"

_HOMES = {
    "AgentDefinition": "fanfold.agents.definition",
    "AgentError": "fanfold.errors",
    "AgentNotFoundError": "fanfold.errors",
    "END": "fanfold.types",
    "EmptyInputError": "fanfold.errors",
    "FanfoldError": "fanfold.errors",
    "GraphError": "fanfold.errors",
    "GraphRecursionError": "fanfold.errors",
    "InvalidUpdateError": "fanfold.errors",
    "Limits": "fanfold.limits",
    "Receipt": "fanfold.receipt",
    "START": "fanfold.types",
    "Send": "fanfold.types",
    "StateGraph": "fanfold.graph",
    "Task": "fanfold.agents.task",
    "TaskResult": "fanfold.agents.task",
    "Workspace": "fanfold.agents.workspace",
    "audit": "fanfold.receipt",
    "python_agent": "fanfold.agents.backends.python",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fanfold' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
