"""Values that users and the engine hand each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

START: Final = "__start__"
"""The virtual node before the first: edges from it say where a run begins."""

END: Final = "__end__"
"""The virtual node after the last: an edge to it ends that branch."""

INTERRUPT: Final = "__interrupt__"
"""The key under which `invoke` and streams hand over what a run was interrupted for."""

OVERWRITE: Final = "__overwrite__"

Durability: TypeAlias = Literal["sync", "async", "exit"]
StreamMode: TypeAlias = Literal["values", "updates", "custom", "messages", "tasks", "checkpoints", "debug"]
StreamWriter: TypeAlias = Callable[[Any], None]
All: TypeAlias = Literal["*"]


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """How long one attempt of a node may take: in all, and without a sign of progress. Seconds or timedeltas.

    With `refresh_on="auto"` whatever the node streams or calls is a sign of progress; with "heartbeat" only
    `runtime.heartbeat()` is.
    """

    run_timeout: float | timedelta | None = None
    idle_timeout: float | timedelta | None = None
    refresh_on: Literal["auto", "heartbeat"] = "auto"

    def __post_init__(self) -> None:
        if self.refresh_on not in ("auto", "heartbeat"):
            raise ValueError(f"refresh_on must be 'auto' or 'heartbeat', not {self.refresh_on!r}")

    @classmethod
    def coerce(cls, value: float | timedelta | TimeoutPolicy | None) -> TimeoutPolicy | None:
        """The policy with its times in seconds; None when it limits nothing. Raises `ValueError` for 0 or less."""
        if value is None:
            return None
        policy = value if isinstance(value, TimeoutPolicy) else cls(run_timeout=value)
        run = _seconds(policy.run_timeout, "run_timeout")
        idle = _seconds(policy.idle_timeout, "idle_timeout")
        return None if run is None and idle is None else cls(run, idle, policy.refresh_on)


def _seconds(value: float | timedelta | None, name: str) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds <= 0:
        raise ValueError(f"{name} must be greater than 0, and it is {value!r}")
    return seconds


@dataclass(frozen=True, slots=True, init=False)
class Send:
    """Run `node` in the next step with `arg` as its input, beside whatever else triggers that node.

    Returned by a conditional edge or in `Command(goto=...)`, as often as wanted; each one is a task of its own.
    `timeout` replaces that of the node.
    """

    node: str
    arg: Any
    timeout: TimeoutPolicy | None = None

    def __init__(self, /, node: str, arg: Any, *, timeout: float | timedelta | TimeoutPolicy | None = None) -> None:
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "arg", arg)
        object.__setattr__(self, "timeout", TimeoutPolicy.coerce(timeout))

    def __repr__(self) -> str:
        timeout = "" if self.timeout is None else f", timeout={self.timeout!r}"
        return f"Send(node={self.node!r}, arg={self.arg!r}{timeout})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a node may return besides an update: where to go next, and for which graph it is meant.

    As the input of a run it resumes an interrupted one: `resume` is the answer, or a dict of interrupt ids to answers.
    """

    graph: str | None = None
    update: Any = None
    resume: Any = None
    goto: Send | Sequence[Send | str] | str = ()

    PARENT: ClassVar[Literal["__parent__"]] = "__parent__"

    def __class_getitem__(cls, item: Any) -> Any:
        """`Command[Literal["a", "b"]]` says where a node may go; it is read from the return annotation."""
        from types import GenericAlias

        return GenericAlias(cls, item)

    def __repr__(self) -> str:
        parts = {name: getattr(self, name) for name in ("graph", "update", "resume", "goto")}
        return f"Command({', '.join(f'{name}={value!r}' for name, value in parts.items() if value)})"


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A question that a node asks of a person. Its `id` names it when several are open.

    `response_schema` says what an answer has to look like, as JSON Schema, if the node told.
    """

    value: Any
    id: str = ""
    response_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Overwrite:
    """As the value of a key that has a reducer: take this value instead of folding it in."""

    value: Any
    type: Literal["__overwrite__"] = field(default=OVERWRITE, init=False)


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """What `invoke(version="v2")` returns: the output, in the type that the graph declares for it, and what it asks.

    `output["key"]` and `"key" in output` look into the value, and for `__interrupt__` into the questions.
    """

    value: Any
    interrupts: tuple[Interrupt, ...] = ()

    def __getitem__(self, key: str) -> Any:
        if key == INTERRUPT:
            return self.interrupts
        if isinstance(self.value, dict):
            return self.value[key]
        try:
            return getattr(self.value, key)
        except AttributeError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        if key == INTERRUPT:
            return bool(self.interrupts)
        return key in self.value if isinstance(self.value, dict) else hasattr(self.value, str(key))

    def __class_getitem__(cls, item: Any) -> Any:
        """`GraphOutput[State]` is for type checkers and readers."""
        from types import GenericAlias

        return GenericAlias(cls, item)


class StateUpdate(NamedTuple):
    """One of the updates of `bulk_update_state`."""

    values: Mapping[str, Any] | Any | None
    as_node: str | None = None
    task_id: str | None = None


class PregelTask(NamedTuple):
    """A task as `get_state` shows it: what it was, and what it has come to so far."""

    id: str
    name: str
    path: tuple[Any, ...]
    error: Any = None
    interrupts: tuple[Interrupt, ...] = ()
    state: Any = None
    result: Any = None


class StateSnapshot(NamedTuple):
    """Where a thread stood after a step. `created_at` is in ISO 8601."""

    values: Any
    next: tuple[str, ...]
    config: dict[str, Any]
    metadata: dict[str, Any] | None
    created_at: str | None
    parent_config: dict[str, Any] | None
    tasks: tuple[PregelTask, ...]
    interrupts: tuple[Interrupt, ...]


def default_retry_on(error: Exception) -> bool:
    """Whether trying again may help: not after mistakes in code or input, but after trouble of a server or network."""
    if isinstance(error, ConnectionError):
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return bool(500 <= status < 600)
    mistakes = (
        ValueError,
        TypeError,
        ArithmeticError,
        ImportError,
        LookupError,
        NameError,
        SyntaxError,
        RuntimeError,
        ReferenceError,
        StopIteration,
        StopAsyncIteration,
        OSError,
    )
    return not isinstance(error, mistakes)


class RetryPolicy(NamedTuple):
    """When and how often a node is tried again. Intervals are in seconds; `max_attempts` counts the first one."""

    initial_interval: float = 0.5
    backoff_factor: float = 2.0
    max_interval: float = 128.0
    max_attempts: int = 3
    jitter: bool = True
    retry_on: type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool] = default_retry_on

    def covers(self, error: Exception) -> bool:
        """Whether this policy is the one for `error`."""
        if isinstance(self.retry_on, type):
            return isinstance(error, self.retry_on)
        if isinstance(self.retry_on, Sequence):
            return isinstance(error, tuple(self.retry_on))
        return self.retry_on(error)

    def interval(self, attempt: int, chance: float) -> float:
        """Seconds to wait after the `attempt`-th attempt has failed; `chance` is from 0 to 1."""
        wait = min(self.max_interval, self.initial_interval * self.backoff_factor ** (attempt - 1))
        return wait + chance if self.jitter else wait


def default_cache_key(*args: Any, **kwargs: Any) -> str:
    """A key for the input of a node: its representation with the keys of dicts in order."""
    return hashlib.blake2b(_frozen((args, kwargs)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _frozen(value: Any) -> str:
    if isinstance(value, Mapping):
        items = sorted((_frozen(key), _frozen(item)) for key, item in value.items())
        return "{" + ",".join(f"{key}:{item}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}(" + ",".join(_frozen(item) for item in value) + ")"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_frozen(item) for item in value)) + "}"
    return f"{type(value).__name__}:{value!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Use a node's stored writes again for the same key, for `ttl` seconds or for ever."""

    key_func: Callable[..., str | bytes] = default_cache_key
    ttl: int | None = None


class RunControl:
    """Lets other code ask a run to stop at the next boundary between steps. May be used from any thread."""

    __slots__ = ("_reason",)

    def __init__(self) -> None:
        self._reason: str | None = None

    def request_drain(self, reason: str = "shutdown") -> None:
        """Ask the run to stop where it can go on later; it then raises `GraphDrained` with `reason`."""
        self._reason = reason

    @property
    def drain_requested(self) -> bool:
        """Whether somebody has asked."""
        return self._reason is not None

    @property
    def drain_reason(self) -> str | None:
        """What they gave as the reason."""
        return self._reason


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """Which attempt of which task this is."""

    checkpoint_id: str
    checkpoint_ns: str
    task_id: str
    thread_id: str | None = None
    run_id: str | None = None
    node_attempt: int = 1
    node_first_attempt_time: float | None = None

    def patch(self, **changes: Any) -> ExecutionInfo:
        """The same with other values."""
        return replace(self, **changes)


def _nothing(*_: Any) -> None:
    """A writer or heartbeat that nobody listens to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a node can ask for besides its state, by a parameter named `runtime` or annotated so."""

    context: Any = None
    store: Any = None
    stream_writer: StreamWriter = _nothing
    heartbeat: Callable[[], None] = _nothing
    previous: Any = None
    execution_info: ExecutionInfo | None = None
    control: RunControl | None = None
    server_info: Any = None

    def __class_getitem__(cls, item: Any) -> Any:
        """`Runtime[Context]` is for type checkers and readers."""
        from types import GenericAlias

        return GenericAlias(cls, item)

    def __deepcopy__(self, memo: Any) -> Runtime:
        """Itself: it belongs to a run, whose like there is not twice. A node may return the config that holds it."""
        return self

    def override(self, **changes: Any) -> Runtime:
        """The same runtime with other values."""
        return replace(self, **changes)

    def patch_execution_info(self, **changes: Any) -> Runtime:
        """The same runtime with other values of `execution_info`. Raises `RuntimeError` where there is none."""
        if self.execution_info is None:
            raise RuntimeError("this runtime belongs to no task, so it has no execution_info to change")
        return replace(self, execution_info=self.execution_info.patch(**changes))

    def merge(self, other: Runtime) -> Runtime:
        """This runtime with whatever `other` has."""
        kept = {name: value for name in self.__slots__ if (value := getattr(other, name)) not in (None, _nothing)}
        return replace(self, **kept)

    @property
    def drain_requested(self) -> bool:
        """Whether the run was asked to stop at the next boundary."""
        return self.control is not None and self.control.drain_requested

    @property
    def drain_reason(self) -> str | None:
        """Why it was asked to."""
        return self.control.drain_reason if self.control is not None else None
