"""What parts of LangChain and LangGraph that work inside of our graphs expect of the engine around them.

Neither is a dependency, and nothing of them is imported unless a program asks for it. LangGraph's ready-made nodes,
such as its `ToolNode`, look up the runtime and the state in the config that they are called with, and answer with
LangGraph's own Commands and Sends. LangChain builds chains of what it can call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from fanfold.errors import MissingExtraError
from fanfold.types import Command, Runtime, Send, TimeoutPolicy


class Invokable(Protocol):
    """What can be a part of a chain."""

    @property
    def name(self) -> str:
        """What it is called."""

    def invoke(self, input: Any, config: Any = None) -> Any:
        """The output for `input`."""

    async def ainvoke(self, input: Any, config: Any = None) -> Any:
        """The same, awaited."""


def told(runtime: Runtime, state: Callable[[], Any] | None) -> dict[str, Any]:
    """What a node's config says under LangGraph's keys.

    `state` is for a node that was sent its input: what it would have seen otherwise. It is None for other nodes, so
    that none of them takes the state of a graph around it for its own.
    """
    return {"__pregel_runtime": runtime, "__pregel_read_state": state}


def ours(value: Any) -> Any:
    """What code has returned, with LangGraph's Commands and Sends in it as ours."""
    if type(value) in (list, tuple):
        return [_translated(item) for item in value] if any(map(_is_theirs, value)) else value
    return _translated(value)


def chained(graph: Invokable) -> Any:
    """A graph as a runnable of LangChain's, which can be joined with others by `|`.

    Raises `MissingExtraError` where LangChain is not installed.
    """
    try:
        made = import_module("langchain_core.runnables").RunnableLambda
    except ImportError:
        raise MissingExtraError("a chain of graphs needs LangChain", hint="pip install langchain-core") from None
    return made(graph.invoke, graph.ainvoke, name=graph.name)


def _is_theirs(value: Any) -> bool:
    return type(value).__module__ == "langgraph.types"


def _translated(value: Any) -> Any:
    if not _is_theirs(value):
        return value
    match type(value).__name__:
        case "Send":
            return Send(value.node, value.arg, timeout=_translated(value.timeout))
        case "TimeoutPolicy":
            return TimeoutPolicy(value.run_timeout, value.idle_timeout, value.refresh_on)
        case "Command":
            return Command(graph=value.graph, update=value.update, resume=value.resume, goto=ours(value.goto))
    return value
