"""Events by hand: a run told in a few lines, with times that add up exactly."""

from __future__ import annotations

from typing import Any

from fanfold.events import (
    Event,
    RunFinished,
    RunStarted,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)


def start(at: float = 0.0, limit: int | None = None, *, resumed: bool = False) -> RunStarted:
    return RunStarted(at, "r", "t", "g", 1e9, limit, resumed)


def over(at: float, status: str = "done") -> RunFinished:
    return RunFinished(at, status)


def queued(
    at: float, task: str, after: str = "", *, step: int = 1, by: str | None = None, released: str = ""
) -> TaskQueued:
    """A node, after the tasks in `after`, that `released` has let start; or an agent that the task `by` has called."""
    role = "node" if by is None else "agent"
    return TaskQueued(at, task, task, step, role, tuple(after.split()), by, "", released)


def begun(at: float, task: str, limit: str = "") -> TaskStarted:
    return TaskStarted(at, task, waited_for=limit)


def paused(at: float, task: str) -> TaskPaused:
    return TaskPaused(at, task)


def continued(at: float, task: str) -> TaskContinued:
    return TaskContinued(at, task)


def done(at: float, task: str) -> TaskFinished:
    return TaskFinished(at, task)


def failed(at: float, task: str, error: str = "KeyError") -> TaskFailed:
    return TaskFailed(at, task, error)


def cancelled(at: float, task: str) -> TaskCancelled:
    return TaskCancelled(at, task)


def remembered(at: float, task: str) -> TaskRemembered:
    return TaskRemembered(at, task)


def worked(task: str, since: float, until: float, **more: Any) -> list[Event]:
    """A task that ran from when it was queued until it finished."""
    return [queued(since, task, **more), begun(since, task), done(until, task)]


def in_order(*parts: Event | list[Event]) -> list[Event]:
    """One list, by time; what happens at one moment stays in the order in which it was told."""
    events = [event for part in parts for event in (part if isinstance(part, list) else [part])]
    return sorted(events, key=lambda event: event.at)
