"""What the tests of the store have in common: changes made in one line, and other processes that open a store."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeAlias

from fanfold.store.base import RUNNING, Change, CheckpointKept, Lease, ResultKept, RunOpened, RunRecord, Store
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from fanfold.store.writer import Session

Open: TypeAlias = Callable[..., SqlStore]
"""Opens one and the same store as often as it is called, with whatever options."""


def store_at(place: str, **options: Any) -> SqlStore:
    """The store at a path or a URL."""
    return PostgresStore(place, **options) if place.startswith("postgresql:") else SqliteStore(place, **options)


class Process:
    """Another Python, which runs `program` with `store` open at a place and `me` an owner, and is spoken to in lines.

    It dies with this one: its input ends.
    """

    def __init__(self, place: str, program: str, *arguments: str, options: str = "") -> None:
        lines = program.strip().splitlines()
        text = PROLOGUE.format(options=options) + "\n".join(f"    {line}" for line in lines)
        self.popen = subprocess.Popen(
            [sys.executable, "-c", text, place, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()

    def tell(self, line: str = "") -> None:
        """Give it a line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{line}\n")
        self.popen.stdin.flush()

    def said(self) -> str:
        """The next line that it says."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def end(self) -> int:
        """Its exit code, when it has ended by itself."""
        self.popen.communicate()
        return self.popen.returncode


PROLOGUE = """
import os, sys, threading, time
from fanfold.errors import *
from fanfold.store import owner as owners
from fanfold.store.base import *
from fanfold.store.postgres import PostgresStore
from fanfold.store.sqlite import SqliteStore

me = owners.me()
def say(*words):
    print(*words, flush=True)

with (PostgresStore if sys.argv[1].startswith("postgresql:") else SqliteStore)(sys.argv[1], {options}) as store:
"""


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
    try:
        assert reached.wait(10)
        yield
    finally:
        gate.set()


def lapse(store: SqlStore, lease: Lease) -> None:
    """Let the database believe that it has not heard of the lease's process for long; its next beat is far off."""

    def work(session: Session) -> None:
        thread = lease.thread_id.replace("'", "''")
        worker = f"(select worker from thread where thread_id = '{thread}')"
        session._connection.execute(f"update worker set expires_at = 0 where worker_id = {worker}")  # type: ignore[attr-defined]

    store.write(work).result(10)
