"""Everything that happens in a run, as one typed stream of facts.

The driver emits events; the store keeps them; the live view, the command line and the audit read them. Nobody who
reads them can influence the run. `at` is in seconds of the monotonic clock of the process that ran: only
differences within one *sitting* (from one `RunStarted` to the next) mean something.

The life of a task, whether it is a node of the graph or an agent called from inside a node::

    TaskQueued ─ waits for a slot ─▶ TaskStarted ─┬─▶ TaskFinished
                                       ▲          ├─▶ TaskFailed / TaskInterrupted / TaskCancelled
                         TaskContinued └─ waits ◀─┘ TaskPaused: its slot goes to the children it awaits

An agent that waits while it has a slot, such as for its model's rate, has `TaskWaiting` before and `TaskWaited` after.
A task whose stored result is used again has `TaskQueued`, then `TaskRemembered`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeAlias

from fanfold.facts import fact


@fact
class _Event:
    at: float


@fact
class RunStarted(_Event):
    """A sitting of a run begins: the first one, or a resume. `wall` is seconds since 1970, for display."""

    kind: ClassVar[str] = "run_started"
    run_id: str
    thread_id: str
    graph: str
    wall: float
    max_concurrency: int | None = None
    resumed: bool = False


@fact
class TaskQueued(_Event):
    """A task may run. `name` is the node's or the agent's; `after` are the tasks whose end made it possible.

    `parent` is the task that awaits this one, for an agent called inside a node; such a task is no step of its own
    and `label` is the description that the caller gave. `released` is the task whose end let this one start, where that
    is none of those before: it waited for that one although it does not follow from it.
    """

    kind: ClassVar[str] = "task_queued"
    task: str
    name: str
    step: int
    role: str  # "node" or "agent"
    after: tuple[str, ...] = ()
    parent: str | None = None
    label: str = ""
    released: str = ""


@fact
class TaskStarted(_Event):
    """The task holds a slot and its code runs. `waited_for` names the limit that it had to wait for, if any."""

    kind: ClassVar[str] = "task_started"
    task: str
    attempt: int = 1
    waited_for: str = ""


@fact
class TaskPaused(_Event):
    """The task waits for children of its own and has given its slot back."""

    kind: ClassVar[str] = "task_paused"
    task: str


@fact
class TaskContinued(_Event):
    """The task holds a slot again. `waited_for` names the limit that it had to wait `seconds` for, if any."""

    kind: ClassVar[str] = "task_continued"
    task: str
    waited_for: str = ""
    seconds: float = 0.0


@fact
class TaskFinished(_Event):
    """The task's code has returned. `wrote` are the keys it writes, in the order it named them."""

    kind: ClassVar[str] = "task_finished"
    task: str
    wrote: tuple[str, ...] = ()


@fact
class TaskRemembered(_Event):
    """The task had finished in an earlier sitting; its stored result is used and its code does not run."""

    kind: ClassVar[str] = "task_remembered"
    task: str


@fact
class TaskFailed(_Event):
    """The task raised. `error` is the exception's type and message."""

    kind: ClassVar[str] = "task_failed"
    task: str
    error: str


@fact
class TaskInterrupted(_Event):
    """The task has asked a person something and ended; when it is answered, it begins again."""

    kind: ClassVar[str] = "task_interrupted"
    task: str
    questions: int = 1


@fact
class TaskCancelled(_Event):
    """The task was stopped because the run ends without it; it runs again on resume."""

    kind: ClassVar[str] = "task_cancelled"
    task: str


COLLECTING: Final = "garbage collection"
WITHOUT_A_CORE: Final = "waiting for a core"


@fact
class LoopHeld(_Event):
    """The task's code held the event loop for `seconds`, up to now, without an await: nobody else could go on.

    `file`, `line` and `function` are where it was seen most of that time: the innermost line that is neither Python's
    nor ours. `callers` are the functions that had called that one, innermost first, such as an agent's tool; they too
    are the user's. All of them are empty when nobody looked in time. With `pieces` above 1, it did so time and again
    while others waited for their turn, and `seconds` are what these moments come to.

    Where `function` is `COLLECTING` or `WITHOUT_A_CORE`, that is no code of the task's; it fell into it.
    """

    kind: ClassVar[str] = "loop_held"
    task: str
    seconds: float
    file: str = ""
    line: int = 0
    function: str = ""
    callers: tuple[str, ...] = ()
    pieces: int = 1

    @property
    def by_code(self) -> bool:
        """Whether something of this process held the loop, while its thread had a core."""
        return self.function != WITHOUT_A_CORE


@fact
class TaskHeldUp(_Event):
    """The task goes on, and could have done so `seconds` ago, had others not held the event loop."""

    kind: ClassVar[str] = "task_held_up"
    task: str
    seconds: float


@fact
class TaskBlocked(_Event):
    """The task goes on, and has stood still for the last `seconds`, as other code of the process had what it needed.

    `on` is the kind of thing: `"lock"`, `"semaphore"`, or `"thread"`, of a pool that had none free. `place` tells one
    such thing from another in words: where it was made, or what the pool is called and how many it has. `holder` is the
    task that had it, if that is known; `file`, `line` and `function` are where this one stood.
    """

    kind: ClassVar[str] = "task_blocked"
    task: str
    on: str
    seconds: float
    place: str = ""
    holder: str = ""
    file: str = ""
    line: int = 0
    function: str = ""


@fact
class ThreadUsed(_Event):
    """Blocking code of the task was in a thread for `seconds`, up to now, and used `cpu` seconds of a core there.

    For `ready` seconds it could have gone on and other programs had the cores. Told only of code that keeps one busy.
    """

    kind: ClassVar[str] = "thread_used"
    task: str
    seconds: float
    cpu: float
    ready: float = 0.0


@fact
class TaskWaiting(_Event):
    """An agent at work waits for something that the run's limits or its model's server keep from it: `waits_for`."""

    kind: ClassVar[str] = "task_waiting"
    task: str
    waits_for: str


@fact
class TaskWaited(_Event):
    """It has waited for that for `seconds`, and goes on or ends."""

    kind: ClassVar[str] = "task_waited"
    task: str
    waits_for: str
    seconds: float


@fact
class ModelAsked(_Event):
    """An agent asks a model, or starts a program that asks one."""

    kind: ClassVar[str] = "model_asked"
    task: str
    model: str


@fact
class ModelAnswered(_Event):
    """A model answered an agent. Tokens are the provider's counts; None is a cost that is not known.

    `calls` are more than one where a program tells of several answers together.
    """

    kind: ClassVar[str] = "model_answered"
    task: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    calls: int = 1


@fact
class ModelLost(_Event):
    """A model was asked and has not answered; what was set aside for that counts as taken, as nobody knows better."""

    kind: ClassVar[str] = "model_lost"
    task: str
    model: str
    calls: int = 1
    tokens: float = 0.0
    cost_usd: float = 0.0


@fact
class ModelRetried(_Event):
    """A model did not answer, for the reason that `error` says, and is asked again after `seconds`."""

    kind: ClassVar[str] = "model_retried"
    task: str
    model: str
    error: str
    seconds: float


@fact
class ToolCalled(_Event):
    """An agent called one of its tools. `detail` is a short, bounded rendering of the arguments."""

    kind: ClassVar[str] = "tool_called"
    task: str
    tool: str
    detail: str = ""


@fact
class ToolAnswered(_Event):
    """A tool has answered its agent, `seconds` after it was called."""

    kind: ClassVar[str] = "tool_answered"
    task: str
    tool: str
    seconds: float


@fact
class ProgramSeen(_Event):
    """What the operating system says of an agent that is a program: how many of its processes are there, and the
    seconds of a core that they have used so far."""

    kind: ClassVar[str] = "program_seen"
    task: str
    processes: int
    cpu: float


@fact
class ClockJumped(_Event):
    """For the last `seconds` nothing of this process ran: it or the machine was stopped, or the clock was moved."""

    kind: ClassVar[str] = "clock_jumped"
    seconds: float


@fact
class StepFinished(_Event):
    """All tasks of a step have finished and their writes are in the state."""

    kind: ClassVar[str] = "step_finished"
    step: int


@fact
class Noticed(_Event):
    """Something a person should know that is no error: an unknown key, a subscriber that was removed."""

    kind: ClassVar[str] = "noticed"
    message: str
    task: str | None = None


@fact
class LimitReported(_Event):
    """How close the sitting came to one of its limits: the most that was in use, and who waited for it, how long.

    `limit` is None where there was none. `by` are those who waited longest, and `each` how many seconds they did.
    """

    kind: ClassVar[str] = "limit_reported"
    name: str
    limit: float | None
    peak: float
    waits: int = 0
    waited: float = 0.0
    by: tuple[str, ...] = ()
    each: tuple[float, ...] = ()
    note: str = ""


@fact
class RunFinished(_Event):
    """The sitting is over. `status` is done, failed or cancelled; `peak` is the limiter's high-water mark."""

    kind: ClassVar[str] = "run_finished"
    status: str
    error: str = ""
    peak: int = 0


Event: TypeAlias = (
    RunStarted
    | TaskQueued
    | TaskStarted
    | TaskPaused
    | TaskContinued
    | TaskFinished
    | TaskRemembered
    | TaskFailed
    | TaskInterrupted
    | TaskCancelled
    | LoopHeld
    | TaskHeldUp
    | TaskBlocked
    | ThreadUsed
    | TaskWaiting
    | TaskWaited
    | ModelAsked
    | ModelAnswered
    | ModelLost
    | ModelRetried
    | ToolCalled
    | ToolAnswered
    | ProgramSeen
    | ClockJumped
    | StepFinished
    | Noticed
    | LimitReported
    | RunFinished
)

Jotted: TypeAlias = tuple[Any, ...]
"""An event that is still to be made, as its class and all its fields."""

Log: TypeAlias = list[Any]
"""Events in order, and in between, of those that are still to be made, their class and each of their fields: a run has
three such of each task, and most run unread. A list that only grows costs less than an object for each."""


def made(jotted: Jotted) -> Event:
    """The event that was jotted down."""
    event: Event = jotted[0](*jotted[1:])
    return event


def events_of(log: Log) -> Iterator[Event]:
    """All events of a log, made where need be."""
    place = 0
    while place < len(log):
        told = log[place]
        if type(told) is type:
            end = place + len(_FIELDS[told][0])  # its kind stands for the class
            yield made(tuple(log[place:end]))
        else:
            end = place + 1
            yield told
        place = end


KINDS: Mapping[str, type[Event]] = {cls.kind: cls for cls in Event.__args__}

_LISTS: Final = ("after", "wrote", "by", "each", "callers")
"""The fields that hold tuples."""


def _read(cls: type[Event]) -> tuple[tuple[str, ...], Callable[[Event], tuple[Any, ...]]]:
    """What a record of such an event is made of: the names in it, and how to get what they stand for."""
    names = tuple(field.name for field in fields(cls))
    return ("kind", *names), attrgetter(*names)


_FIELDS: Final = {cls: _read(cls) for cls in Event.__args__}


def to_record(event: Event) -> dict[str, Any]:
    """The event as plain data, with its `kind` first; tuples become lists."""
    names, values_of = _FIELDS[type(event)]
    record = dict(zip(names, (event.kind, *values_of(event)), strict=True))
    for name in _LISTS:
        if name in record:
            record[name] = list(record[name])
    return record


def from_record(record: Mapping[str, Any]) -> Event:
    """The event that `to_record` wrote. Raises `ValueError` for a kind or a field that this version does not know."""
    cls: Any = KINDS.get(record.get("kind", ""))
    if cls is None:
        raise ValueError(f"unknown kind of event: {record.get('kind')!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    del values["kind"]
    try:
        event: Event = cls(**values)
    except TypeError as error:
        raise ValueError(f"cannot read the {record['kind']} event: {error}") from None
    return event
