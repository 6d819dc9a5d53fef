"""What is watched: tasks, the slices of event loops, and calls that one coroutine awaits in turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final

from fanfold.turns import Turns
from fanfold.watchdog import Post

BLOCK: Final = "block"
TASK: Final = "task"
NODE: Final = "node"
AGENT: Final = "agent"


@dataclass(slots=True, eq=False)
class Unit:
    """One task as it is watched. `live` of its own tasks have not ended; while there are any, it waits for them.

    `free` is when it was last at work or had waited for the last of them, on whatever asyncio task.
    """

    id: str
    name: str
    role: str
    parent: Unit | None
    queued: float
    live: int = 0
    free: float = 0.0
    started: bool = False
    ended: bool = False


@dataclass(slots=True)
class Segment:
    """What a thread's event loop does now, and since when; `since` is 0.0 while it does nothing of what is watched."""

    post: Post
    unit: Unit
    since: float = 0.0
    turns: Turns = field(default_factory=Turns)


@dataclass(slots=True)
class Call:
    """A call that a coroutine awaits by itself. `of` is what is awaited, as long as it is."""

    code: CodeType
    began: float
    ended: float
    of: Any = field(repr=False, default=None)


def named_here() -> str:
    """How somebody has named the asyncio task that runs here; "" where it is only numbered."""
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    name = "" if task is None else task.get_name()
    return "" if name.startswith("Task-") else name
