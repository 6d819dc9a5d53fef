"""The seam between a run and the database: what is kept, and what a store promises.

Everything that changes the store is a *change*, a plain value; `submit` queues it and hands back a ticket that is
resolved when the change is on disk. Changes are committed in the order in which they were submitted, as many at a
time as are waiting. So a prefix of what happened is always there, and never a later part without an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeAlias

from fanfold.store.serde import Codec

RUNNING, DONE, FAILED, CANCELLED, PAUSED = "running", "done", "failed", "cancelled", "paused"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as people list it. Times are seconds since 1970; `settings` is plain data that a resume needs again."""

    run_id: str
    thread_id: str
    graph: str
    digest: str
    status: str
    created: float
    finished: float | None = None
    error: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOpened:
    """Admit a run, before any of its work; a run that is there already is running again."""

    run: RunRecord


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A sitting of a run has ended."""

    run_id: str
    status: str
    finished: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class ResultKept:
    """Something that a task has come to, on the checkpoint that it started from.

    `kind` is "result" (what a node decided, whole), "child" (what an agent or task that it called answered; `parent`
    is set), "answers" (what people answered its questions), "interrupt", "error", "command", or "update" (what an
    update from outside said in its place). A later one of a task takes the place of an earlier one of the same kind,
    except that a result stays.
    """

    thread_id: str
    namespace: str
    checkpoint_id: str
    run_id: str
    task_id: str
    kind: str
    name: str
    step: int
    data: bytes
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointKept:
    """Where a thread stands after `step`. A `full` one holds all values; any other follows from its parent."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    run_id: str
    step: int
    source: str
    created: float
    full: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class EventsKept:
    """What happened, in order; it is numbered on from what the run has already."""

    run_id: str
    events: Sequence[Mapping[str, Any]]


Change: TypeAlias = RunOpened | RunClosed | ResultKept | CheckpointKept | EventsKept


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """What is needed to stand at a checkpoint: itself, back to the nearest full one, and what hangs on each of them.

    `chain` begins with the full one and ends with the checkpoint itself; `results` are by checkpoint id.
    """

    chain: tuple[CheckpointKept, ...]
    results: Mapping[str, Sequence[ResultKept]]

    @property
    def head(self) -> CheckpointKept:
        """The checkpoint itself."""
        return self.chain[-1]


class Store(Protocol):
    """Keeps threads, runs, results and events. Every method may be called from any thread.

    `learned` is where classes are registered as they are written, in a store that does not outlive the process.
    """

    learned: Codec | None

    def claim(self, thread_id: str, owner: str, *, take_over: bool = False) -> Future[None]:
        """Become the only runner of a thread.

        The future fails with `ThreadBusyError`, which names who runs the thread, if somebody alive does. `owner` is
        one of `store.owner.me()`; with `take_over` it is claimed whoever runs it.
        """

    def release(self, thread_id: str, owner: str) -> None:
        """Stop being the runner of a thread, if `owner` still is. Queued like a change; nobody needs to wait for it."""

    def owner(self, thread_id: str) -> str | None:
        """Who claimed the thread last and has not released it; whether it lives is the caller's question."""

    def submit(self, change: Change) -> Future[None]:
        """Queue a change. The future is resolved when it is on disk, or fails with `StoreError`."""

    def thread(self, thread_id: str, namespace: str = "", checkpoint_id: str | None = None) -> ThreadRecord | None:
        """What is needed to stand at a checkpoint, by default the newest; None when there is none."""

    def history(self, thread_id: str, namespace: str = "") -> list[CheckpointKept]:
        """All checkpoints of a thread, the newest first."""

    def delete_thread(self, thread_id: str) -> Future[None]:
        """Forget a thread with all that it holds."""

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so. Raises `RunNotFoundError`."""

    def runs(self, *, limit: int = 50) -> list[RunRecord]:
        """The newest runs first."""

    def results(self, run_id: str) -> list[ResultKept]:
        """Every result of a run that is still held, in the order in which they were kept."""

    def events(self, run_id: str) -> list[Mapping[str, Any]]:
        """Everything that happened in a run, in order."""

    def close(self) -> None:
        """Commit what is queued and let everything go."""

    def __enter__(self) -> Self:
        """The store itself, to be closed at the end of a `with` block."""

    def __exit__(self, *_: object) -> None:
        """Close it."""
