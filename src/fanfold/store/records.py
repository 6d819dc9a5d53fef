"""The kernel's values as plain data, and back. Only the names of fields are decided here, not their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanfold.errors import CorruptRecordError
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Result, Snapshot, Task
from fanfold.types import Send, TimeoutPolicy


def from_result(result: Result) -> dict[str, Any]:
    """A result as plain data."""
    data: dict[str, Any] = {
        "writes": [[key, value] for key, value in result.writes],
        "goto": [goal if isinstance(goal, str) else _from_send(goal) for goal in result.goto],
    }
    return {**data, "handled": result.handled} if result.handled else data


def to_result(data: Any, where: str) -> Result:
    """The result that `from_result` wrote. Raises `CorruptRecordError` naming `where`."""
    try:
        return Result(
            tuple((key, value) for key, value in data["writes"]),
            tuple(goal if isinstance(goal, str) else _to_send(goal) for goal in data["goto"]),
            data.get("handled", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(where, error) from error


def from_snapshot(snapshot: Snapshot, values: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot as plain data, with as many of its values as are given."""
    data: dict[str, Any] = {
        "step": snapshot.step,
        "tasks": [_from_task(task) for task in snapshot.tasks],
        "joins": [dict(seen) for seen in snapshot.joins],
        "deferred": {name: list(by) for name, by in snapshot.deferred.items()},
        "ran": list(snapshot.ran),
    }
    if values:
        data["values"] = dict(values)
    return data


def to_snapshot(data: Any, where: str) -> Snapshot:
    """The snapshot that `from_snapshot` wrote; without values where it was not full.

    Raises `CorruptRecordError` naming `where`.
    """
    try:
        return Snapshot(
            step=data["step"],
            values=dict(data.get("values", {})),
            tasks=tuple(_to_task(task) for task in data["tasks"]),
            joins=tuple(dict(seen) for seen in data["joins"]),
            deferred={name: tuple(by) for name, by in data["deferred"].items()},
            ran=tuple(data["ran"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(where, error) from error


def _from_task(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = {"id": task.id, "node": task.node, "step": task.step, "after": list(task.after)}
    if task.arg is not MISSING:
        data["arg"] = task.arg
    if task.send is not None:
        data["send"] = task.send
    if task.timeout is not None:
        data["timeout"] = _from_timeout(task.timeout)
    return data


def _to_task(data: Mapping[str, Any]) -> Task:
    return Task(
        id=data["id"],
        node=data["node"],
        step=data["step"],
        send=data.get("send"),
        arg=data.get("arg", MISSING),
        after=tuple(data["after"]),
        timeout=_to_timeout(data.get("timeout")),
    )


def _from_send(send: Send) -> list[Any]:
    return [send.node, send.arg, None if send.timeout is None else _from_timeout(send.timeout)]


def _to_send(data: Any) -> Send:
    node, arg, timeout = data
    return Send(node, arg, timeout=_to_timeout(timeout))


def _from_timeout(timeout: TimeoutPolicy) -> list[Any]:
    return [timeout.run_timeout, timeout.idle_timeout, timeout.refresh_on]


def _to_timeout(data: Any) -> TimeoutPolicy | None:
    return None if data is None else TimeoutPolicy(*data)


def _corrupt(where: str, error: Exception) -> CorruptRecordError:
    return CorruptRecordError(f"{where} is not what was written there: {type(error).__name__}: {error}")
