"""Where the code that asks is running: inside which task of which run.

A frame is there while a task's code runs, and code finds it by a context variable. It hands the task's slot back while
children are awaited, counts the questions that the task asks, and owns the children that the task calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import hashlib
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fanfold import chat, interop
from fanfold.errors import GraphInterrupt, MissingExtraError, UsageError
from fanfold.events import TaskBlocked, TaskContinued, TaskPaused, ThreadUsed
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Task, Write
from fanfold.types import ExecutionInfo, Interrupt, Runtime, StreamWriter, TimeoutPolicy
from fanfold.work.threads import BUSY_FROM, metered

if TYPE_CHECKING:
    from fanfold.limits import Pair, Slots
    from fanfold.run import Runner

clock: Final = time.monotonic

T = TypeVar("T")
Stood: TypeAlias = Callable[[float, float], tuple[float, str]]

_frame: contextvars.ContextVar[Frame | None] = contextvars.ContextVar("fanfold_frame", default=None)


ANY: Final = ""
"""The key of an answer that is not meant for any question in particular: the first one that is asked has it."""


GRACE: Final = 1.0
"""Seconds that a task waits for attempts that it has cancelled; what ignores that is left to itself."""


_IDS: Final = ("run_id", "task_id", "assistant_id", "graph_id")


def told_metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that nodes and streams are told: the caller's, and the ids that the config names."""
    place = config.get("configurable") or {}
    return {**{key: place[key] for key in _IDS if key in place}, **(config.get("metadata") or {})}


def current_frame() -> Frame | None:
    """The frame of the node or agent that is running this code, or None outside of any run."""
    return _frame.get()


def frame_in(context: contextvars.Context) -> Frame | None:
    """The frame of the node or agent whose code runs in this context."""
    return context.get(_frame)


def enter(frame: Frame) -> None:
    """From here on, code in this context runs inside of `frame`."""
    _frame.set(frame)
    if chat.in_use() or (frame.runner.family.streams is not None and frame.listened()):
        chat.adopt(frame.config())


class Frame:
    """Where the code that asks is running: inside which task of which run.

    There is one for every task that runs, and most ask for nothing; so what a frame may need is made when it is asked
    for, and until then the class has it for all.
    """

    attempt: int = 1
    first_attempt: float | None = None
    holding: bool = False
    ended: bool = False
    late: bool = False
    sign: float = 0.0
    error: Any = None
    cached: bool = False
    written: tuple[Write, ...] = ()
    caller: Frame | None = None
    slots: Slots | Pair
    outside: Any = None  # its calls in pools of threads that are not the run's
    _questions: int = 0
    _graphs: int = 0
    _children: int = 0
    _calls: Collection[asyncio.Task[Any]] = ()
    _spawned: Collection[asyncio.Task[Any]] = ()
    _given_up: Collection[asyncio.Task[Any]] = ()

    def __init__(self, runner: Runner, task: Task, caller: Frame | None = None) -> None:
        self.runner = runner
        self.task = task
        self.slots = runner.slots
        if caller is not None:
            self.caller = caller

    @cached_property
    def _asked(self) -> Counter[str]:
        """How often each agent was asked each question."""
        return Counter()

    @cached_property
    def _regaining(self) -> asyncio.Lock:
        """Held by who asks for the task's slot back."""
        return asyncio.Lock()

    @cached_property
    def answers(self) -> dict[int, Any]:
        """The answers that the task was given, by the order of its questions."""
        return dict(self.runner.journal.recall(self.task.id, "answers") or {})

    def renew(self) -> None:
        """The task is tried again: its code asks and calls from the beginning."""
        self.attempt += 1
        self.ended = self.late = False
        self._asked.clear()
        self._questions = self._graphs = 0

    # What the task's code asks for

    def ask(self, value: Any, schema: Any = None) -> Any:
        """The answer to the task's next question, or `GraphInterrupt` when nobody has given it yet."""
        with self.runner.family.asking:  # nodes in threads ask at once, and only one of them may have an answer
            index, self._questions = self._questions, self._questions + 1
            if index in self.answers:
                return fitting(self.answers[index], schema)
            id = _digest(f"{self.namespace()}|{index}")
            waiting = self.runner.family.answers
            meant = self._meant(id, index, waiting)
            if meant is None:
                raise GraphInterrupt([Interrupt(value, id, described(schema))])
            answer = fitting(waiting[meant], schema)  # one that does not fit leaves the question open
            self.answers[index] = waiting.pop(meant)
            self.runner.journal.keep(self.task, "answers", dict(self.answers))
            return answer

    def _meant(self, id: str, index: int, waiting: Mapping[str, Any]) -> str | None:
        """The key of the answer to question `index`. One that names no question is for the first that is open."""
        if id in waiting or index > len(self.answers):
            return id if id in waiting else None
        return next((key for key in (self.top(), ANY) if key in waiting), None)

    def top(self) -> str:
        """The id of the task that this one belongs to in the graph which the run was started with."""
        if self.caller is not None:
            return self.caller.top()
        return self.runner.top or self.task.id

    @property
    def thread_id(self) -> str | None:
        """The thread, where that means something: it is kept, or the caller has named it."""
        family = self.runner.family
        named = (family.config.get("configurable") or {}).get("thread_id")
        return family.thread_id if family.record is not None or named is not None else None

    def config(self) -> dict[str, Any]:
        """The run's config as LangGraph's nodes know it."""
        family, task = self.runner.family, self.task
        node = self.runner.ledger.plan.nodes.get(task.node)  # an agent that a node called is no node
        thread = {} if self.thread_id is None else {"thread_id": self.thread_id}
        told = {
            **told_metadata(family.config),
            **(node.metadata if node else {}),
            **thread,
            "langgraph_step": task.step,
            "langgraph_node": task.node,
            "langgraph_path": self.path(),
            "langgraph_triggers": task.triggers,
            "langgraph_checkpoint_ns": self.namespace(),
        }
        configurable = {
            **(family.config.get("configurable") or {}),
            **thread,
            "checkpoint_ns": self.namespace(),
            "checkpoint_id": self.runner.journal.checkpoint_id,
            **interop.told(self.runtime(), self._unsent() if task.send is not None and node else None),
        }
        config = {
            **{key: value for key, value in family.config.items() if key != "run_name"},  # it is the whole run's
            "callbacks": family.config.get("callbacks"),
            "metadata": told,
            "configurable": configurable,
            "recursion_limit": family.recursion_limit,
        }
        if family.streams is not None and self.listened():
            config["callbacks"] = chat.listening(config, family.streams)
        timeout = self._timeout()
        if timeout is not None and timeout.idle_timeout is not None and chat.in_use():
            config["callbacks"] = chat.pulsing(config, self.progress)
        return config

    def _timeout(self) -> TimeoutPolicy | None:
        node = self.runner.ledger.plan.nodes.get(self.task.node)  # an agent that a node called is no node
        return self.task.timeout or (node.timeout if node else None)

    def _unsent(self) -> Callable[[], Any]:
        """What the node would see had an edge led to it, for code that looks beyond what a Send gave it."""
        return lambda: self.runner.ledger.view(replace(self.task, arg=MISSING))

    def listened(self) -> bool:
        """Whether what chat models say inside of the task is for a stream."""
        streams = self.runner.family.streams
        return streams is not None and streams.hears(self.runner.namespace) and chat.available()

    def runtime(self) -> Runtime:
        """What the node can ask for besides its state."""
        family = self.runner.family
        info = ExecutionInfo(
            checkpoint_id=self.runner.journal.checkpoint_id or "",
            checkpoint_ns=self.namespace(),
            task_id=self.task.id,
            thread_id=self.thread_id,
            run_id=family.run_id,
            node_attempt=self.attempt,
            node_first_attempt_time=self.first_attempt,
        )
        return Runtime(
            context=family.context,
            store=family.memory,
            stream_writer=self.writer(),
            heartbeat=self.heartbeat,
            previous=self.runner.previous(),
            execution_info=info,
            control=family.control,
        )

    def writer(self) -> StreamWriter:
        """Writes to the stream mode "custom"."""

        attempt = self.attempt

        def write(chunk: Any) -> None:
            if self.late or attempt != self.attempt:  # of an attempt that was given up
                return
            self.progress()
            self.runner.stream("custom", chunk)

        return write

    def heartbeat(self) -> None:
        """The task is alive: its idle time begins anew, and that of whoever waits for it."""
        self.sign = self.runner.family.now()
        if (around := self.caller or self.runner.around) is not None:
            around.heartbeat()

    def progress(self) -> None:
        """Something was seen of the task; unless only heartbeats are to count, its idle time begins anew.

        What a task or a graph does that it waits for, it does itself.
        """
        timeout = self._timeout()
        if timeout is None or timeout.refresh_on == "auto":
            self.sign = self.runner.family.now()
        if (around := self.caller or self.runner.around) is not None:
            around.progress()

    def metered(self, code: Callable[..., T], stood: Stood | None = None) -> Callable[..., T]:
        """Code for a thread, which tells the run what it used of a core there, and for how long it waited for one.

        `stood` says how much of what it has waited was the task's own waiting, and for what; else it is a thread of
        the run's.
        """
        emit, loop, task = self.runner.emit, self.runner.family.loop, self.task.id
        stood = stood or self._stood

        def say(event: ThreadUsed | TaskBlocked) -> None:
            with contextlib.suppress(RuntimeError):  # the run is over, and its loop closed
                if loop is not None:
                    loop.call_soon_threadsafe(emit, event)

        def tell(ended: float, seconds: float, cpu: float, ready: float) -> None:
            say(ThreadUsed(ended, task, seconds, cpu, ready))

        def late(began: float, seconds: float) -> None:
            seconds, pool = stood(began, seconds)
            if seconds >= BUSY_FROM:
                say(TaskBlocked(began, task, "thread", seconds, pool))

        def behind(until: float, seconds: float, kind: str, place: tuple[str, int, str]) -> None:
            say(TaskBlocked(until, task, kind, seconds, "", "", *place))

        return metered(code, tell, late, behind)

    def _stood(self, began: float, seconds: float) -> tuple[float, str]:
        threads = self.runner.family.places.threads
        return seconds if threads.full else 0.0, f"pool of {len(threads)} threads"

    def injected(self, asks: Mapping[str, str]) -> dict[str, Any]:
        """The values of the parameters that code asks for by name or type."""
        given: dict[str, Callable[[], Any]] = {
            "config": self.config,
            "runtime": self.runtime,
            "store": lambda: self.runner.family.memory,
            "writer": self.writer,
            "previous": self.runner.previous,
            "error": lambda: self.error,
        }
        return {parameter: given[what]() for parameter, what in asks.items()}

    def path(self) -> tuple[Any, ...]:
        """Where the task stands in its step: pulled by its edges, or pushed by a Send or by the code that calls it."""
        if self.caller is not None:
            return ("__pregel_push", self.caller.path(), self.task.id, True)
        return ("__pregel_pull", self.task.node) if self.task.send is None else ("__pregel_push", self.task.send)

    def namespace(self) -> str:
        """The namespace of the task: of its graph, and inside of that its node and id."""
        return "|".join((*self.runner.namespace, f"{self.task.node}:{self.task.id}"))

    def next_graph(self) -> int:
        """How many graphs the task's code has called before this one."""
        number, self._graphs = self._graphs, self._graphs + 1
        return number

    # Children

    def child_id(self, name: str, fingerprint: str) -> str:
        """The id of the next call that asks agent `name` just this: the same again when the task runs again.

        Calls are counted for each question by itself. Counted together, two chains of agents in one node would get
        each other's places whenever they are not as fast as they were the last time.
        """
        question = f"{self.task.id}|{name}|{fingerprint}"
        path = f"{question}|{self._asked[question]}"
        self._asked[question] += 1
        return _digest(path)

    async def own(self, call: Coroutine[Any, Any, T]) -> T:
        """Run the call of a child, which then cannot outlive this task."""
        running = asyncio.get_running_loop().create_task(call)
        self._calls = _with(self._calls, running)
        running.add_done_callback(self._calls.discard)
        return await running

    def spawn(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start the call of a task, which goes on until it ends, whether or not this one waits for it."""
        running = asyncio.get_running_loop().create_task(call)
        self._spawned = _with(self._spawned, running)
        running.add_done_callback(_seen)
        return running

    def give_up(self, attempt: asyncio.Task[Any]) -> None:
        """Cancel an attempt whose outcome nobody wants, without waiting for it; the task does so when it ends."""
        attempt.cancel()
        self._given_up = _with(self._given_up, attempt)
        attempt.add_done_callback(self._given_up.discard)
        attempt.add_done_callback(_seen)

    async def rest(self, *, stop: bool = False) -> None:
        """Wait until the tasks that the code has started have ended; with `stop`, cancel them first."""
        for call in self._spawned if stop else ():
            call.cancel()
        if self._spawned:
            await asyncio.wait(self._spawned)

    def pause(self) -> None:
        """A child is awaited: with the first, this task's slot is given back."""
        self._children += 1
        if self._children == 1 and self.holding:
            self.holding = False
            self.slots.give()
            self.runner.emit(TaskPaused(clock(), self.task.id))

    async def proceed(self) -> None:
        """A child has ended: with the last, this task needs a slot again before its code goes on."""
        self._children -= 1
        async with self._regaining:  # one asks for all: a second slot would be one that nobody gives back
            if not self._needs_slot():
                return
            began = clock()
            waited = await self.slots.take(self.task.node)
            if self._needs_slot():
                self.holding = True
                why = f"limit {self.slots.limit}" if waited is True else waited or ""
                now = clock()
                self.runner.emit(TaskContinued(now, self.task.id, why, now - began if why else 0.0))
            else:  # meanwhile another child was called, and may be waiting for just this one
                self.slots.give()

    @property
    def has_spawned(self) -> bool:
        """Whether the code has started tasks that go on by themselves."""
        return bool(self._spawned)

    def leave(self) -> bool:
        """End at once, if there is nothing to wait for; whether it did."""
        if self._calls or self._given_up:
            return False
        self.ended = True
        self._give_back()
        return True

    async def end(self) -> None:
        """The task's code has ended, one way or another; so do the children that it did not wait for."""
        self.ended = True
        for call in self._calls:
            call.cancel()
        try:
            if self._calls:
                await asyncio.wait(self._calls)
            if self._given_up:
                await asyncio.wait(self._given_up, timeout=GRACE)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """Give the task's slot back for good, if it has one."""
        if self.holding:
            self.holding = False
            self.slots.give()

    def check(self) -> None:
        """Raise `UsageError` when the task's code has ended: nobody would wait for a child of it."""
        if self.ended:
            raise UsageError(
                f"{self.task.node!r} has ended, so it can call no agent any more",
                hint="await every agent before returning",
            )

    def _needs_slot(self) -> bool:
        return not (self._children or self.holding or self.ended)


def _with(tasks: Collection[asyncio.Task[Any]], task: asyncio.Task[Any]) -> set[asyncio.Task[Any]]:
    """The tasks and one more, in the same set if it is one already."""
    several = tasks if isinstance(tasks, set) else set(tasks)
    several.add(task)
    return several


def _seen(call: asyncio.Task[Any]) -> None:
    """An error of a task is for whoever waits for it; if nobody does, it is not to be called forgotten."""
    if not call.cancelled():
        call.exception()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_schemas: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()
"""The JSON Schemas of classes that answers were asked for in."""


def described(schema: Any) -> dict[str, Any] | None:
    """What an answer has to look like, as JSON Schema. A class needs pydantic to tell."""
    if schema is None or isinstance(schema, dict):
        described: dict[str, Any] | None = schema
        return described
    if not isinstance(schema, type):
        return dict(_adapter(schema).json_schema())
    if schema not in _schemas:  # pydantic takes milliseconds over it, and a team asks for the same one again and again
        _schemas[schema] = _adapter(schema).json_schema()
    return copy.deepcopy(_schemas[schema])


def fitting(answer: Any, schema: Any) -> Any:
    """The answer as the class that was asked for. Raises pydantic's `ValidationError` when it does not fit."""
    return answer if schema is None or isinstance(schema, dict) else _adapter(schema).validate_python(answer)


def _adapter(schema: Any) -> Any:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise MissingExtraError(
            f"response_schema= is {schema!r:.80}, and pydantic, which reads it, is not installed",
            hint="give the JSON Schema itself, as a dictionary, or: pip install pydantic",
        ) from None
    return TypeAdapter(schema)
