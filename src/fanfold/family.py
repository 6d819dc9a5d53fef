"""What all graphs of one run share, and how they tell what happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fanfold.events import Event, Jotted, Log, Noticed, made
from fanfold.frame import clock
from fanfold.held import LoopWatch
from fanfold.journal import Record
from fanfold.kernel.ledger import Task
from fanfold.limits import Governor, Limits, Pair, Report, Slots, no_kind
from fanfold.stream import Streams
from fanfold.types import RunControl
from fanfold.work.places import Places, cores


class UnknownKeyWarning(UserWarning):
    """A node returned a key that the state does not have; it was ignored."""


class WaitingJoinWarning(UserWarning):
    """A run has ended while a join had seen some of its members and waited for the others."""


def namespace_in(above: tuple[str, ...], task: Task, number: int = 0, *, remembers: bool) -> tuple[str, ...]:
    """The namespace of a task's graph, the `number`th that it calls, in one whose namespace is `above`.

    One that `remembers` has the same at every call: that of its nodes' names alone.
    """
    if remembers:
        above = tuple(part.partition(":")[0] for part in above)
    last = task.node if remembers else f"{task.node}:{task.id}"
    return (*above, f"{last}:{number}" if number else last)


Emit: TypeAlias = Callable[[Event], None]
"""Where events go."""

Jot: TypeAlias = Callable[[Jotted], None]
"""Where those go that are made when somebody reads them: the class, and the fields in their order."""


ONLOOKERS: list[Callable[[], Callable[[Event], object]]] = []
"""Those who watch the whole process: each makes a subscriber for every run that begins."""


def emitter(log: Log, others: Sequence[Callable[[Event], object]]) -> tuple[Emit, Jot]:
    """Tells a log of each event, and then the others. What is jotted down is made at once only for those."""
    others = [*others, *(make() for make in ONLOOKERS)]
    if not others:
        return log.append, log.extend
    emit = Emitter((log.append, *others))
    return emit, lambda jotted: emit(made(jotted))


class Emitter:
    """Hands each event to every subscriber. One that raises is removed and named; the run goes on."""

    def __init__(self, subscribers: Sequence[Callable[[Event], object]]) -> None:
        self._subscribers = tuple(subscribers)

    def __call__(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001 - an onlooker must not be able to stop a run, whatever it raises
                if subscriber not in self._subscribers:  # it was removed while it was told of another's removal
                    continue
                self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)
                name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
                self(Noticed(clock(), f"subscriber {name} raised {brief(error)} and was removed"))


@dataclass(slots=True, eq=False)
class Family:
    """What all graphs of one run share: its limits, its records, its listeners, and what the caller gave.

    `settings` are the run's options that only the agents' floor understands, such as the model. `answers` are those
    that a resume brought and that no task has asked for yet: by the interrupt's id, by that of the task which is to
    ask, or for whoever asks first. `starts` are the checkpoints at which inner graphs begin, by the nodes that lead to
    them, as their place and id; one that remembers begins at its last checkpoint `before` that id. `slow` is the code
    that was called on the loop, as it can wait for nothing, and has been seen to take its time all the same. `kinds`
    are the slots of the kinds of agents that have a limit of their own.
    """

    run_id: str
    thread_id: str
    emit: Emit
    jot: Jot
    slots: Slots
    governor: Governor = field(default_factory=lambda: Governor(Limits()))
    kinds: dict[str, Slots] = field(default_factory=dict)
    record: Record | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Any = None
    memory: Any = None
    cache: Any = None
    control: RunControl | None = None
    streams: Streams | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    starts: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    before: str | None = None
    met: set[str] = field(default_factory=set)
    resumed: bool = False
    wait_for_disk: bool = False
    let_finish: bool = False
    recursion_limit: int = 10_007
    step_timeout: float | None = None
    loop: asyncio.AbstractEventLoop | None = None
    places: Places = field(default_factory=Places)
    processing: Slots = field(default_factory=lambda: Slots(cores()))
    warned: set[tuple[str, str]] = field(default_factory=set)
    slow: set[Callable[..., Any]] = field(default_factory=set)
    watch: LoopWatch = field(default_factory=LoopWatch)
    asking: threading.Lock = field(default_factory=threading.Lock)

    def pair(self, kind: str, limit: int | None, common: Slots) -> Pair:
        """The slots that a child of this kind takes, of which no more than `limit` are to run at once."""
        if limit is None:
            return no_kind(common)
        return Pair(kind, self.kinds.setdefault(kind, Slots(limit, line=self.slots.line)), common)

    def reports(self) -> list[Report]:
        """How close the run came to each of its limits."""
        kinds = [slots.report(f"agents {kind} at once") for kind, slots in self.kinds.items()]
        slots = [] if self.slots.limit is None else [self.slots.report("tasks at once")]
        return [*slots, *kinds, *self.governor.reports()]

    def own_reports(self, place: str, outer: Family) -> list[Report]:
        """How close the graph of this `place` came to the limits that it has besides those of the graph around it."""
        slots = [] if self.slots is outer.slots else [self.slots.report(f"tasks{place} at once")]
        return [*slots, *([] if self.governor is outer.governor else self.governor.reports(place))]

    def now(self) -> float:
        """Seconds of a clock that stops while the loop stands still for a consumer; time limits are measured by it."""
        return clock() - (0.0 if self.streams is None else self.streams.stood_still)


def brief(error: BaseException) -> str:
    """An error in one line: its type and what it says."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - an error that cannot say what it is is one all the same
        return f"{name}, whose message raises {type(second).__name__}"
    return f"{name}: {text}" if text else name


def named(error: BaseException) -> str:
    """An error as it would be written in code, without what no text can hold."""
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - as above
        text = brief(error)
    return text.encode("utf-8", "backslashreplace").decode()
