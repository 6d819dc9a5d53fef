"""Changes to be kept in a store, made in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from fanfold.store.base import RUNNING, Change, CheckpointKept, ResultKept, RunOpened, RunRecord, Store
from fanfold.store.sql import SqlStore

Open: TypeAlias = Callable[..., SqlStore]
"""Opens one and the same store as often as it is called, with whatever options."""


def opened(run: str = "r1", thread: str = "t", created: float = 1.0, status: str = RUNNING) -> RunOpened:
    return RunOpened(RunRecord(run, thread, "graph", "digest", status, created, settings={"model": "m", "n": [1, 2]}))


def result(
    task: str,
    step: int = 1,
    data: bytes = b"data",
    parent: str | None = None,
    run: str = "r1",
    at: str = "c0",
    kind: str = "",
    namespace: str = "",
    attempt: str = "1",
    branch: str = "",
) -> ResultKept:
    kind = kind or ("child" if parent else "result")
    return ResultKept("t", namespace, at, run, task, kind, f"node of {task}", step, data, parent, attempt, branch)


def checkpoint(
    id: str,
    step: int = 0,
    data: bytes = b"data",
    *,
    parent: str | None = None,
    full: bool = True,
    namespace: str = "",
    run: str = "r1",
) -> CheckpointKept:
    return CheckpointKept("t", namespace, id, parent, run, step, "loop", 1.5, full, data)


def kept(store: Store, *changes: Change) -> None:
    for ticket in [store.submit(change) for change in changes]:
        ticket.result(10)


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Everything that is submitted inside goes into one transaction, if the store is one that gathers."""
    if not isinstance(store, SqlStore):
        yield
        return
    gate, reached = threading.Event(), threading.Event()
    store.write(lambda _: reached.set() or gate.wait(10))
    assert reached.wait(10)
    yield
    gate.set()
