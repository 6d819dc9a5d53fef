"""Fan out the agents, fold in the results, and prove that they really ran side by side.

Every public name is here, and each is imported when it is first used, so that `import fanfold` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanfold.agents.backends.python import python_agent as python_agent
    from fanfold.agents.definition import AgentDefinition as AgentDefinition
    from fanfold.agents.definition import agents_in as agents_in
    from fanfold.agents.framing import framed as framed
    from fanfold.agents.spending import asking as asking
    from fanfold.agents.task import Task as Task
    from fanfold.agents.task import TaskResult as TaskResult
    from fanfold.agents.task import agent_named as agent_named
    from fanfold.agents.workspace import Workspace as Workspace
    from fanfold.chat import MessageChunk as MessageChunk
    from fanfold.context import get_config as get_config
    from fanfold.context import get_runtime as get_runtime
    from fanfold.context import get_store as get_store
    from fanfold.context import get_stream_writer as get_stream_writer
    from fanfold.context import interrupt as interrupt
    from fanfold.errors import AgentError as AgentError
    from fanfold.errors import AgentFileError as AgentFileError
    from fanfold.errors import AgentNotFoundError as AgentNotFoundError
    from fanfold.errors import AgentTimeoutError as AgentTimeoutError
    from fanfold.errors import BudgetError as BudgetError
    from fanfold.errors import EmptyChannelError as EmptyChannelError
    from fanfold.errors import EmptyInputError as EmptyInputError
    from fanfold.errors import FanfoldError as FanfoldError
    from fanfold.errors import GraphBubbleUp as GraphBubbleUp
    from fanfold.errors import GraphDrained as GraphDrained
    from fanfold.errors import GraphError as GraphError
    from fanfold.errors import GraphInterrupt as GraphInterrupt
    from fanfold.errors import GraphRecursionError as GraphRecursionError
    from fanfold.errors import InvalidUpdateError as InvalidUpdateError
    from fanfold.errors import ItemConflictError as ItemConflictError
    from fanfold.errors import KeptError as KeptError
    from fanfold.errors import ModelAnswerError as ModelAnswerError
    from fanfold.errors import ModelKeyError as ModelKeyError
    from fanfold.errors import NodeCancelledError as NodeCancelledError
    from fanfold.errors import NodeError as NodeError
    from fanfold.errors import NodeTimeoutError as NodeTimeoutError
    from fanfold.errors import ParentCommand as ParentCommand
    from fanfold.errors import UsageError as UsageError
    from fanfold.functional import entrypoint as entrypoint
    from fanfold.functional import task as task
    from fanfold.graph import CompiledGraph as CompiledGraph
    from fanfold.graph import StateGraph as StateGraph
    from fanfold.kernel.channels import AnyValue as AnyValue
    from fanfold.kernel.channels import BinaryOperatorAggregate as BinaryOperatorAggregate
    from fanfold.kernel.channels import DeltaChannel as DeltaChannel
    from fanfold.kernel.channels import EphemeralValue as EphemeralValue
    from fanfold.kernel.channels import LastValue as LastValue
    from fanfold.kernel.channels import NamedBarrierValue as NamedBarrierValue
    from fanfold.kernel.channels import Topic as Topic
    from fanfold.kernel.channels import UntrackedValue as UntrackedValue
    from fanfold.kernel.schema import IsLastStep as IsLastStep
    from fanfold.kernel.schema import RemainingSteps as RemainingSteps
    from fanfold.limits import Limits as Limits
    from fanfold.memory import BaseStore as BaseStore
    from fanfold.memory import InMemoryStore as InMemoryStore
    from fanfold.messages import REMOVE_ALL_MESSAGES as REMOVE_ALL_MESSAGES
    from fanfold.messages import MessagesState as MessagesState
    from fanfold.messages import RemoveMessage as RemoveMessage
    from fanfold.messages import add_messages as add_messages
    from fanfold.receipt import Receipt as Receipt
    from fanfold.receipt import audit as audit
    from fanfold.store.cache import InMemoryCache as InMemoryCache
    from fanfold.store.cache import SqliteCache as SqliteCache
    from fanfold.store.items import Items as Items
    from fanfold.store.savers import InMemorySaver as InMemorySaver
    from fanfold.store.savers import MemorySaver as MemorySaver
    from fanfold.store.savers import PostgresSaver as PostgresSaver
    from fanfold.store.savers import SqliteSaver as SqliteSaver
    from fanfold.store.serde import Encryption as Encryption
    from fanfold.store.serde import Keys as Keys
    from fanfold.store.serde import register_type as register_type
    from fanfold.store.upkeep import Retention as Retention
    from fanfold.teams.debate import Debate as Debate
    from fanfold.teams.research import Research as Research
    from fanfold.teams.supervisor import Supervisor as Supervisor
    from fanfold.types import END as END
    from fanfold.types import START as START
    from fanfold.types import CachePolicy as CachePolicy
    from fanfold.types import Command as Command
    from fanfold.types import GraphOutput as GraphOutput
    from fanfold.types import Interrupt as Interrupt
    from fanfold.types import Overwrite as Overwrite
    from fanfold.types import PregelTask as PregelTask
    from fanfold.types import RetryPolicy as RetryPolicy
    from fanfold.types import RunControl as RunControl
    from fanfold.types import Runtime as Runtime
    from fanfold.types import Send as Send
    from fanfold.types import StateSnapshot as StateSnapshot
    from fanfold.types import StateUpdate as StateUpdate
    from fanfold.types import StreamWriter as StreamWriter
    from fanfold.types import TimeoutPolicy as TimeoutPolicy

__version__ = "0.1.0"

_HOMES = {
    "AgentDefinition": "fanfold.agents.definition",
    "AgentError": "fanfold.errors",
    "AgentFileError": "fanfold.errors",
    "AgentNotFoundError": "fanfold.errors",
    "AgentTimeoutError": "fanfold.errors",
    "AnyValue": "fanfold.kernel.channels",
    "BaseStore": "fanfold.memory",
    "BinaryOperatorAggregate": "fanfold.kernel.channels",
    "CachePolicy": "fanfold.types",
    "Command": "fanfold.types",
    "CompiledGraph": "fanfold.graph",
    "Debate": "fanfold.teams.debate",
    "DeltaChannel": "fanfold.kernel.channels",
    "END": "fanfold.types",
    "EmptyChannelError": "fanfold.errors",
    "EmptyInputError": "fanfold.errors",
    "Encryption": "fanfold.store.serde",
    "EphemeralValue": "fanfold.kernel.channels",
    "FanfoldError": "fanfold.errors",
    "GraphBubbleUp": "fanfold.errors",
    "GraphDrained": "fanfold.errors",
    "GraphError": "fanfold.errors",
    "GraphInterrupt": "fanfold.errors",
    "GraphOutput": "fanfold.types",
    "GraphRecursionError": "fanfold.errors",
    "InMemoryCache": "fanfold.store.cache",
    "InMemorySaver": "fanfold.store.savers",
    "InMemoryStore": "fanfold.memory",
    "Interrupt": "fanfold.types",
    "InvalidUpdateError": "fanfold.errors",
    "IsLastStep": "fanfold.kernel.schema",
    "BudgetError": "fanfold.errors",
    "ItemConflictError": "fanfold.errors",
    "Items": "fanfold.store.items",
    "KeptError": "fanfold.errors",
    "Keys": "fanfold.store.serde",
    "LastValue": "fanfold.kernel.channels",
    "Limits": "fanfold.limits",
    "MemorySaver": "fanfold.store.savers",
    "MessageChunk": "fanfold.chat",
    "MessagesState": "fanfold.messages",
    "ModelAnswerError": "fanfold.errors",
    "ModelKeyError": "fanfold.errors",
    "NamedBarrierValue": "fanfold.kernel.channels",
    "NodeCancelledError": "fanfold.errors",
    "NodeError": "fanfold.errors",
    "NodeTimeoutError": "fanfold.errors",
    "Overwrite": "fanfold.types",
    "ParentCommand": "fanfold.errors",
    "PregelTask": "fanfold.types",
    "REMOVE_ALL_MESSAGES": "fanfold.messages",
    "Receipt": "fanfold.receipt",
    "RemainingSteps": "fanfold.kernel.schema",
    "RemoveMessage": "fanfold.messages",
    "Research": "fanfold.teams.research",
    "Retention": "fanfold.store.upkeep",
    "RetryPolicy": "fanfold.types",
    "RunControl": "fanfold.types",
    "Runtime": "fanfold.types",
    "START": "fanfold.types",
    "Send": "fanfold.types",
    "SqliteCache": "fanfold.store.cache",
    "PostgresSaver": "fanfold.store.savers",
    "SqliteSaver": "fanfold.store.savers",
    "StateGraph": "fanfold.graph",
    "StateSnapshot": "fanfold.types",
    "StateUpdate": "fanfold.types",
    "StreamWriter": "fanfold.types",
    "Supervisor": "fanfold.teams.supervisor",
    "Task": "fanfold.agents.task",
    "TaskResult": "fanfold.agents.task",
    "TimeoutPolicy": "fanfold.types",
    "Topic": "fanfold.kernel.channels",
    "UsageError": "fanfold.errors",
    "UntrackedValue": "fanfold.kernel.channels",
    "Workspace": "fanfold.agents.workspace",
    "add_messages": "fanfold.messages",
    "asking": "fanfold.agents.spending",
    "agent_named": "fanfold.agents.task",
    "agents_in": "fanfold.agents.definition",
    "audit": "fanfold.receipt",
    "entrypoint": "fanfold.functional",
    "framed": "fanfold.agents.framing",
    "get_config": "fanfold.context",
    "get_runtime": "fanfold.context",
    "get_store": "fanfold.context",
    "get_stream_writer": "fanfold.context",
    "interrupt": "fanfold.context",
    "python_agent": "fanfold.agents.backends.python",
    "register_type": "fanfold.store.serde",
    "task": "fanfold.functional",
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
