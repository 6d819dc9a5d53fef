"""The seam between a run and the database: what is kept, and what a store promises.

Everything that changes the store is a *change*, a plain value; `submit` queues it and hands back a ticket that is
resolved when the change is on disk. Changes are committed in the order in which they were submitted, as many at a
time as are waiting. So a prefix of what happened is always there, and never a later part without an earlier one.

A thread has one runner at a time, who holds a *lease*: it claims the thread and gets the number of an epoch, larger
than every one before. Each change says under which lease it is made, and is refused when the thread has a newer epoch.
So two who both believe that they run a thread cannot both be right about what is stored, whatever their clocks say and
however long one of them was frozen. A lease lasts while its process is heard of::

    claimed ─┬─▶ released                      its holder has ended
             ├─▶ lapsed ─▶ claimed by another  not heard of for `ttl` seconds, or known to be dead
             └─▶ beaten every quarter of `ttl`, by the thread that also writes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

from fanfold.facts import fact
from fanfold.store.serde import Codec, Encryption
from fanfold.store.ticket import Ticket

OnBusy: TypeAlias = Literal["wait", "reject", "take_over"]
"""What to do about a thread that another one runs: wait for it; give up at once; take it, if their lease has lapsed,
and else give up. Who waits takes over a lapsed lease as well."""

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
class Lease:
    """The right of `owner` to run a thread, which ends when the thread has a larger epoch."""

    thread_id: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class RunOpened:
    """Admit a run, before any of its work; a run that is there already is running again.

    `at` is the checkpoint that it begins at, if that is not the newest: it is not pruned while the run goes on.
    """

    run: RunRecord
    at: str = ""


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A sitting of a run has ended."""

    run_id: str
    status: str
    finished: float
    error: str = ""


@fact
class ResultKept:
    """Something that a task has come to, on the checkpoint that it started from.

    `kind` is "result" (what a node decided, whole), "child" (what an agent or task that it called answered; `parent`
    is set), "transcript" (what an agent that has no answer had said), "answers" (what people answered its questions),
    "interrupt", "error", "command", "update" (what an update from outside said in its place), or "given" (answers that
    no question has come up for yet). The first two are of one `attempt` for good: the same attempt may be submitted
    again and again, and another one is refused. Of the others, a later one of a task takes the place of an earlier one.

    A thread that has gone on from a checkpoint may be run from there once more. What tasks come to then is of a
    `branch` of its own; who stands at the checkpoint is shown what is of none.
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
    attempt: str = ""
    branch: str = ""


FINAL: Final = ("result", "child")
"""The kinds of results that stay as they are."""


@fact
class CheckpointKept:
    """Where a thread stands after `step`. A `full` one holds all values; any other follows from its parent.

    `around` is the checkpoint of the whole graph that a graph inside of it belonged to, None for the whole.
    """

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
    around: str | None = None


@fact
class EventsKept:
    """What happened, in order, beginning with number `first` of its run; by default it is numbered on."""

    run_id: str
    events: Sequence[Mapping[str, Any]]
    first: int | None = None


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

    `learned` is where classes are registered as they are written, in a store that does not outlive the process. What a
    graph stores is written with the store's `encryption`, if it has one, and compressed if it says so.
    """

    learned: Codec | None
    encryption: Encryption | None
    compress: bool

    def claim(self, thread_id: str, owner: str, *, on_busy: OnBusy = "reject") -> Ticket[Lease]:
        """Become the only runner of a thread.

        `owner` is one of `store.owner.me()`. The future fails with `ThreadBusyError`, which names who runs the thread,
        if somebody does whose lease has not lapsed; with "reject" also if it has, unless they are known to be dead.
        """

    def release(self, lease: Lease) -> None:
        """Stop being the runner of a thread. Queued like a change; nobody needs to wait for it."""

    def holds(self, lease: Lease) -> bool:
        """Whether the lease can be relied on without asking: its process was heard of lately enough."""

    def confirm(self, lease: Lease) -> Ticket[None]:
        """Ask the database. The future fails with `LeaseLostError`, which names who runs the thread now."""

    def freed(self, thread_id: str, waiter: Callable[[], object]) -> Callable[[], None]:
        """Call `waiter`, from any thread, when this process releases the thread; what is returned takes that back."""

    def owner(self, thread_id: str) -> str | None:
        """Who runs the thread, unless their lease has lapsed; whether they live is the caller's question."""

    def submit(self, change: Change, lease: Lease | None = None, *, patient: bool = False) -> Ticket[None]:
        """Queue a change, under a lease if a thread is concerned that others could run.

        One that is `patient`, as nobody waits for it, may be held back for a moment to be stored with the next.

        The future is resolved when it is on disk, or fails: with `LeaseLostError` when the lease is no longer good,
        with another `StoreError` when the change cannot be stored, or names another thread than the lease.
        """

    def submit_together(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Ticket[None]]:
        """Queue changes of which either all are to be on disk or none."""

    def backlog(self) -> int:
        """How many changes are queued that nobody has begun to write."""

    def thread(self, thread_id: str, namespace: str = "", checkpoint_id: str | None = None) -> ThreadRecord | None:
        """What is needed to stand at a checkpoint, by default the newest; None when there is none."""

    def history(self, thread_id: str, namespace: str = "") -> list[CheckpointKept]:
        """All checkpoints of a thread, the newest first."""

    def delete_thread(self, thread_id: str) -> Ticket[None]:
        """Forget a thread with all that it holds."""

    def copy_thread(self, source: str, target: str) -> Ticket[None]:
        """Keep everything that a thread holds once more, under another name; both go on independently.

        The future fails with `RunNotFoundError` when `source` holds nothing, with `StoreError` when `target` does.
        """

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so. Raises `RunNotFoundError`."""

    def runs(self, *, limit: int = 50, until: float | None = None) -> list[RunRecord]:
        """The newest runs first, of those that were created no later than `until`, in seconds since 1970."""

    def results(self, run_id: str) -> list[ResultKept]:
        """Every result of a run that is still held, in the order in which they were kept."""

    def events(self, run_id: str, *, first: int = 0) -> list[Mapping[str, Any]]:
        """What happened in a run, in order, from number `first` on."""

    def count_events(self, run_id: str) -> int:
        """How much has happened in a run: the number of its next event."""

    def close(self) -> None:
        """Commit what is queued and let everything go."""

    def __enter__(self) -> Self:
        """The store itself, to be closed at the end of a `with` block."""

    def __exit__(self, *_: object) -> None:
        """Close it."""
