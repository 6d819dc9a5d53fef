"""The kernel's values as plain data, and back. Only the names of fields are decided here, not their bytes.

A snapshot is written after every step, so what is empty is left out, names are one letter long, and the ids of tasks
are the 16 bytes that they are::

    s  step                    t  tasks, each: i  id, n  node, p  step unless it is the next one, f  after,
    v  values                                  s  send, a  arg, o  timeout
    r  ran, j  joins, d  deferred

Snapshots with whole names are of earlier versions, and can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fanfold.errors import CorruptRecordError
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Result, Snapshot, Task
from fanfold.types import Send, TimeoutPolicy


def from_result(result: Result) -> dict[str, Any]:
    """A result as plain data."""
    data: dict[str, Any] = {"writes": [[key, value] for key, value in result.writes]}
    if result.goto:
        data["goto"] = [goal if isinstance(goal, str) else _from_send(goal) for goal in result.goto]
    if result.handled:
        data["handled"] = result.handled
    return data


def to_result(data: Any, where: str) -> Result:
    """The result that `from_result` wrote. Raises `CorruptRecordError` naming `where`."""
    try:
        return Result(
            tuple((key, value) for key, value in data["writes"]),
            tuple(goal if isinstance(goal, str) else _to_send(goal) for goal in data.get("goto", ())),
            data.get("handled", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(where, error) from error


def from_snapshot(snapshot: Snapshot, values: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot as plain data, with as many of its values as are given."""
    data = {
        "s": snapshot.step,
        "t": [_from_task(task, snapshot.step + 1) for task in snapshot.tasks],
        "j": [{name: _short(id) for name, id in seen.items()} for seen in snapshot.joins],
        "d": {name: _packed(by) for name, by in snapshot.deferred.items()},
        "r": list(snapshot.ran),
        "v": dict(values),
    }
    return {name: value for name, value in data.items() if value or name == "s"}


def to_snapshot(data: Any, where: str) -> Snapshot:
    """The snapshot that `from_snapshot` wrote; without values where it was not full.

    Raises `CorruptRecordError` naming `where`.
    """
    try:
        if "step" in data:
            return _with_whole_names(data)
        step: int = data["s"]
        return Snapshot(
            step=step,
            values=dict(data.get("v", _EMPTY)),
            tasks=tuple([_to_task(task, step + 1) for task in data.get("t", ())]),
            joins=tuple([{name: _long(id) for name, id in seen.items()} for seen in data.get("j", ())]),
            deferred={name: _unpacked(by) for name, by in data.get("d", _EMPTY).items()},
            ran=tuple(data.get("r", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(where, error) from error


def to_step(data: Any, where: str) -> tuple[list[Task], Mapping[str, Any]]:
    """Of a snapshot that `from_snapshot` wrote, what it takes to fold the step that it begins: tasks and values.

    Raises `CorruptRecordError` naming `where`.
    """
    try:
        if "step" in data:
            return [_task_with_whole_names(task) for task in data["tasks"]], data.get("values", _EMPTY)
        step = data["s"] + 1
        return [_to_task(task, step) for task in data.get("t", ())], data.get("v", _EMPTY)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(where, error) from error


_EMPTY: Final[Mapping[str, Any]] = {}


def _from_task(task: Task, step: int) -> dict[str, Any]:
    data: dict[str, Any] = {"i": _short(task.id), "n": task.node}
    if task.step != step:
        data["p"] = task.step
    if task.after:
        data["f"] = _packed(task.after)
    if task.arg is not MISSING:
        data["a"] = task.arg
    if task.send is not None:
        data["s"] = task.send
    if task.timeout is not None:
        data["o"] = _from_timeout(task.timeout)
    return data


def _to_task(data: Mapping[str, Any], step: int) -> Task:
    return Task(
        id=_long(data["i"]),
        node=data["n"],
        step=data.get("p", step),
        send=data.get("s"),
        arg=data.get("a", MISSING),
        after=_unpacked(data.get("f", ())),
        timeout=_to_timeout(data.get("o")),
    )


def _packed(ids: Iterable[str]) -> list[str | bytes]:
    return [_short(id) for id in ids]


def _unpacked(ids: Iterable[str | bytes]) -> tuple[str, ...]:
    return tuple([_long(id) for id in ids])


def _short(id: str) -> str | bytes:
    """An id as the bytes that it is the hexadecimal form of, if it is."""
    return bytes.fromhex(id) if _HEX.fullmatch(id) else id


def _long(id: str | bytes) -> str:
    return id.hex() if isinstance(id, bytes) else id


_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){16}")


def _with_whole_names(data: Mapping[str, Any]) -> Snapshot:
    """A snapshot as earlier versions have written it."""
    return Snapshot(
        step=data["step"],
        values=dict(data.get("values", {})),
        tasks=tuple(_task_with_whole_names(task) for task in data["tasks"]),
        joins=tuple(dict(seen) for seen in data["joins"]),
        deferred={name: tuple(by) for name, by in data["deferred"].items()},
        ran=tuple(data["ran"]),
    )


def _task_with_whole_names(data: Mapping[str, Any]) -> Task:
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
