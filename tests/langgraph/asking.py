"""A state, and nodes that add to it or ask a person, for tests of what a thread keeps."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from fanfold import interrupt


class State(TypedDict, total=False):
    xs: Annotated[list[Any], operator.add]
    n: int


def add(value: str) -> Callable[[State], State]:
    """A node that adds a value."""
    return lambda _: {"xs": [value]}


def ask(question: Any) -> Callable[[State], State]:
    """A node that asks, and adds the answer."""
    return lambda _: {"xs": [interrupt(question)]}


def thread(name: Any = "t", **more: Any) -> dict[str, Any]:
    """The config of a thread, or of a place in it."""
    return {"configurable": {"thread_id": name, **more}}
