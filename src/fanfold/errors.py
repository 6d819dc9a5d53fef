"""Every error that fanfold raises on purpose.

::

    FanfoldError
    ├── UsageError                 a value that a person gave, where there is no narrower class
    │   ├── SyncInLoopError        a blocking call where an event loop is already running
    │   ├── OutsideError           something was asked of a run where no run is
    │   ├── UnsupportedError       something that is left out on purpose
    │   ├── InvalidNamespaceError  a label of long-term memory that cannot be one
    │   └── StateError             a call that does not fit how the thread or the graph stands
    ├── MissingExtraError          an optional package is not installed
    ├── ExportError                what was told of a run did not reach where it was to go
    ├── GraphError                 a graph that cannot be compiled; lists every problem
    ├── EmptyInputError            input that sets none of the graph's keys
    ├── InvalidUpdateError         what a node returned cannot be written
    │   ├── UnmappedAnswerError    a conditional edge's answer that its path map lacks
    │   └── StrayCommandError      a Command for the graph around one that has none around it
    ├── EmptyChannelError          a channel without a value was asked for it
    ├── GraphRecursionError        more steps than the run may take
    ├── StepTimeoutError           a step took too long
    ├── WorkerLostError            the process of a node's code ended before the code did
    ├── RemoteError                an error in another process that itself cannot be sent
    ├── NotPortableError           a function, input or result that cannot go to another process
    ├── KeptError                  the text of an error, for the handler that runs again
    ├── StoreError                 the store could not do what was asked
    │   ├── NotStorableError       a value that has no stored form
    │   ├── CorruptRecordError     stored bytes that cannot be read back
    │   ├── StoreKeyError          a record whose key is missing or another one
    │   ├── RunNotFoundError       no such run or thread
    │   ├── ItemConflictError      an item of long-term memory has changed since it was read
    │   ├── QueryError             a statement that an agent has written could not be answered
    │   │   └── QueryRefusedError  it was refused, and by which wall
    │   ├── ThreadBusyError        somebody else runs the thread
    │   ├── LeaseLostError         somebody else runs the thread now, or nobody can tell
    │   └── DuplicateResultError   another attempt has stored this task's result
    └── AgentError
        ├── AgentNotFoundError     no definition of that name
        ├── AgentFileError         a definition that cannot be used
        ├── AgentTimeoutError      it took longer than its definition allows
        ├── AgentStalledError      nothing was heard of it for too long
        ├── AgentLostError         its program ended before it had answered
        ├── AgentMemoryError       it used more memory than it may, and was ended
        ├── BudgetError            what the run may spend is spent
        ├── WorkspaceError         a path that an agent may not touch
        └── ModelError             the model behind an agent
            ├── ModelUnavailableError   not reachable, or it failed on its side
            │   ├── ModelOverloadedError    too many ask it
            │   └── ModelCutError           it broke off in the middle of an answer
            ├── ModelKeyError           no key, or a key that was refused
            ├── ModelRateError          it asked us to slow down
            ├── ModelRequestError       it does not accept what was asked
            └── ModelAnswerError        an answer that cannot be used

An exception that a node raises itself is passed on as it is, with a note that names node, step and task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any


class FanfoldError(Exception):
    """The root of the tree. `hint` is the way out, when there is one to name."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        return f"{message}\n  {self.hint}" if self.hint else message


class UsageError(FanfoldError, ValueError):
    """A value that a person gave cannot be used."""


class SyncInLoopError(UsageError):
    """A blocking call was made in a thread whose event loop is running; it would stop every agent."""


class InvalidNamespaceError(UsageError):
    """A namespace of long-term memory has a label that cannot be one, or may not be written to."""


class StateError(UsageError, RuntimeError):
    """A call does not fit how the thread or the graph stands, such as one answer where several questions are open."""


class OutsideError(UsageError, RuntimeError):
    """Code asked for what only code inside of a run has."""


class UnsupportedError(UsageError, NotImplementedError):
    """Something that cannot be done here on purpose; the message says what can."""


class MissingExtraError(FanfoldError, ImportError):
    """An optional package is needed and is not installed."""


class ExportError(FanfoldError):
    """What was told of a run did not reach where it was to go."""


class GraphError(FanfoldError, ValueError):
    """A graph that cannot be compiled. `problems` holds every one of them, in the order they were found."""

    def __init__(self, problems: str | Iterable[str], *, hint: str | None = None) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            text = f"the graph has {len(self.problems)} problems:\n  - " + "\n  - ".join(self.problems)
        super().__init__(text, hint=hint)


class EmptyInputError(FanfoldError, ValueError):
    """The input of a run sets none of the graph's keys."""


class InvalidUpdateError(FanfoldError, ValueError):
    """What a node returned, or what several returned together, cannot be written to the state."""


class UnmappedAnswerError(InvalidUpdateError, KeyError):
    """A conditional edge answered something that its path map does not have."""


class EmptyChannelError(FanfoldError):
    """A channel was asked for its value, and has none."""


class GraphRecursionError(FanfoldError, RecursionError):
    """The graph did not end within the steps that the run may take."""


class StoreError(FanfoldError):
    """The store could not do what was asked of it."""


class NotStorableError(StoreError, TypeError):
    """A value has no stored form; the message names its type and where it stands."""


class CorruptRecordError(StoreError):
    """Stored bytes cannot be read back; the message names the record."""


class StoreKeyError(StoreError):
    """A record is encrypted with a key that is not there, or does not open with it, or is not encrypted at all."""


class RunNotFoundError(StoreError, LookupError):
    """The store holds no run, or no thread, of that name."""


class ItemConflictError(StoreError):
    """An item of long-term memory was to be written if it had one version, and has another.

    `current` is the version that it has now, None when there is no such item; `expected` is what was asked for.
    """

    def __init__(self, namespace: tuple[str, ...], key: str, expected: int | None, current: int | None) -> None:
        self.namespace, self.key, self.expected, self.current = namespace, key, expected, current
        stands = "is not there" if current is None else f"has version {current}"
        wanted = "was not to be there" if expected is None else f"was to have version {expected}"
        super().__init__(
            f"item {key!r} of namespace {namespace} {stands} and {wanted}; nothing was written",
            hint="read it again and decide anew",
        )


class QueryError(StoreError):
    """A statement that somebody else has written could not be answered, as where it is wrong."""


class QueryRefusedError(QueryError):
    """A statement was refused. `wall` says by what: "role", "prepare", "transaction" or "cap"."""

    def __init__(self, message: str, *, wall: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wall = wall


class ThreadBusyError(StoreError):
    """Another process, or another call in this one, is running the thread: `owner`, as the store names it."""

    def __init__(self, message: str, *, hint: str | None = None, owner: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.owner = owner


class LeaseLostError(StoreError):
    """A run has lost its thread: somebody else has claimed it since, so nothing that it writes is taken any more."""


class DuplicateResultError(StoreError):
    """A task has a result of another attempt, which stays."""


class AgentError(FanfoldError):
    """An agent could not be found, started or finished.

    `usage` and `cost_usd` are what it has used all the same, as in a `TaskResult`; empty for one that asked no model.
    """

    usage: Mapping[str, int] = MappingProxyType({})
    cost_usd: float | None = None


class AgentTimeoutError(AgentError, TimeoutError):
    """An agent took longer than its definition allows."""


class AgentStalledError(AgentError, TimeoutError):
    """Nothing was heard of an agent for longer than is to be borne."""


class AgentLostError(AgentError):
    """The program of an agent ended before it had answered."""


class AgentMemoryError(AgentError):
    """An agent used more memory than it may, and was ended for that."""


class BudgetError(AgentError):
    """What the run may spend is spent. What has finished is kept, and the run can be resumed with larger limits."""


class AgentNotFoundError(AgentError, LookupError):
    """No definition has that name; the message lists where it was looked for and what exists."""


class AgentFileError(AgentError, ValueError):
    """A definition cannot be used; the message names the file and the line or key."""


class WorkspaceError(AgentError):
    """A path lies outside of the folder that the agent was given, or cannot be read."""


class ModelError(AgentError):
    """The model behind an agent did not give an answer."""


class ModelUnavailableError(ModelError):
    """The model's server cannot be reached, or failed on its own side."""


class ModelOverloadedError(ModelUnavailableError):
    """Too many ask the model's server. `retry_after` is for how many seconds it is to be left alone, if it said so."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelCutError(ModelUnavailableError):
    """The model's server broke off in the middle of an answer."""


class ModelRequestError(ModelError):
    """The model's server does not accept what was asked."""


class ModelKeyError(ModelError):
    """The model's server refused the key, or there is none."""


class ModelRateError(ModelError):
    """The model's server asked us to slow down. `retry_after` is for how many seconds, if it said so."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelAnswerError(ModelError):
    """The model answered with something that cannot be used."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'research'?` for the option closest to `name`, or nothing when none is close."""
    import difflib  # only on the way to an error, so that a plain import does not pay for it

    known = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.6)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


class GraphBubbleUp(BaseException):
    """What leaves a node without being an error: `except Exception` in user code must not catch it."""


class GraphInterrupt(GraphBubbleUp):
    """A node waits for a person. `interrupts` are its open questions."""

    def __init__(self, interrupts: Iterable[Any] = ()) -> None:
        self.interrupts = tuple(interrupts)
        super().__init__(self.interrupts)


class ParentCommand(GraphBubbleUp):
    """A Command that is meant for the graph around this one."""

    def __init__(self, command: Any) -> None:
        self.command = command
        super().__init__(command)


class StrayCommandError(InvalidUpdateError, ParentCommand):
    """A Command is meant for the graph around, and there is none. It is a `ParentCommand` that nobody takes."""

    def __init__(self, command: Any) -> None:
        FanfoldError.__init__(self, f"{command} is meant for a graph around this one, and there is none")
        self.command = command


class GraphDrained(GraphBubbleUp):
    """The run was asked to stop and did, between two steps. It can go on from there."""

    def __init__(self, reason: str = "shutdown") -> None:
        self.reason = reason
        super().__init__(f"Graph drained: {reason}")


class NodeCancelledError(FanfoldError):
    """A node raised `CancelledError`, by itself or as its task was cancelled by neither the run nor its caller."""

    def __init__(self, node: str) -> None:
        self.node = node
        super().__init__(f"node {node!r} raised asyncio.CancelledError, and nobody had cancelled it")


class NodeTimeoutError(FanfoldError):
    """A node took longer than its policy allows. `kind` is "run" or "idle"; times are seconds."""

    def __init__(
        self,
        node: str,
        elapsed: float,
        *,
        kind: str,
        idle_timeout: float | None = None,
        run_timeout: float | None = None,
    ) -> None:
        self.node = node
        self.elapsed = elapsed
        self.kind = kind
        self.idle_timeout = idle_timeout
        self.run_timeout = run_timeout
        timeout = idle_timeout if kind == "idle" else run_timeout
        if timeout is None:
            raise ValueError(f"{kind}_timeout is required when kind={kind!r}")
        self.timeout = timeout
        what = "made no progress for" if kind == "idle" else "did not end within"
        super().__init__(f"node {node!r} {what} {timeout:.3f} s (it ran for {elapsed:.3f} s)")


class StepTimeoutError(FanfoldError, TimeoutError):
    """A step took longer than the graph's `step_timeout` allows."""


class WorkerLostError(FanfoldError):
    """The process that ran a node's code ended before the code did."""


class RemoteError(FanfoldError):
    """A node's code raised, in a process of its own, an error that cannot be sent; the message has type and text."""


class NotPortableError(FanfoldError, TypeError):
    """A function, its input or its result cannot go from one process to another."""


class KeptError(FanfoldError):
    """An error of an earlier sitting, of which the text was kept: what an error handler is told when it runs again."""


class NodeError:
    """What an error handler is told: the node that failed, and what it raised."""

    __slots__ = ("error", "node")

    def __init__(self, node: str, error: BaseException) -> None:
        self.node = node
        self.error = error

    def __repr__(self) -> str:
        return f"NodeError(node={self.node!r}, error={self.error!r})"
