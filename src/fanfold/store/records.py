"""The kernel's values as plain data, and back. Only the names of fields are decided here, not their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanfold.errors import CorruptRecordError
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Result, Snapshot, Task
from fanfold.types import Send


def from_result(result: Result) -> dict[str, Any]:
    """A result as plain data."""
    return {
        "writes": [[key, value] for key, value in result.writes],
        "goto": [[goal.node, goal.arg] if isinstance(goal, Send) else goal for goal in result.goto],
    }


def to_result(data: Any, where: str) -> Result:
    """The result that `from_result` wrote. Raises `CorruptRecordError` naming `where`."""
    try:
        return Result(
            tuple((key, value) for key, value in data["writes"]),
            tuple(goal if isinstance(goal, str) else Send(*goal) for goal in data["goto"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(where, error) from error


def from_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as plain data."""
    return {
        "step": snapshot.step,
        "values": dict(snapshot.values),
        "tasks": [_from_task(task) for task in snapshot.tasks],
        "joins": [dict(seen) for seen in snapshot.joins],
    }


def to_snapshot(data: Any, where: str) -> Snapshot:
    """The snapshot that `from_snapshot` wrote. Raises `CorruptRecordError` naming `where`."""
    try:
        tasks = tuple(_to_task(task) for task in data["tasks"])
        return Snapshot(data["step"], data["values"], tasks, tuple(data["joins"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(where, error) from error


def _from_task(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = {"id": task.id, "node": task.node, "step": task.step, "after": list(task.after)}
    if task.send is not None:
        data["send"], data["arg"] = task.send, task.arg
    return data


def _to_task(data: Mapping[str, Any]) -> Task:
    return Task(
        data["id"], data["node"], data["step"], data.get("send"), data.get("arg", MISSING), tuple(data["after"])
    )


def _corrupt(where: str, error: Exception) -> CorruptRecordError:
    return CorruptRecordError(f"{where} is not what was written there: {type(error).__name__}: {error}")
