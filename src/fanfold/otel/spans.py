"""Spans of events: the one place where it is said what each event means to OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from fanfold import __version__
from fanfold.cleaning import clean
from fanfold.events import (
    ClockJumped,
    Event,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskBlocked,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskHeldUp,
    TaskInterrupted,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
    TaskWaited,
    TaskWaiting,
    ThreadUsed,
    ToolAnswered,
    ToolCalled,
)
from fanfold.exports import conventions as names
from fanfold.otel.meters import Instruments, instruments
from fanfold.receipt import receipt

LONGEST: Final = 4_096
"""Characters of a text that one attribute holds."""

_Ending: TypeAlias = TaskFinished | TaskFailed | TaskInterrupted | TaskCancelled | TaskRemembered
_ENDINGS: Final = (TaskFinished, TaskFailed, TaskInterrupted, TaskCancelled, TaskRemembered)
_Attributes: TypeAlias = Mapping[str, Any]


def export(
    events: Iterable[Event],
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    content: bool = False,
) -> None:
    """Spans of what has happened, with the times at which it did. What is not over ends where the events do.

    Metrics are counted only where a `meter_provider` is given: they bear the time of now.
    """
    meters = instruments(metrics.NoOpMeterProvider() if meter_provider is None else meter_provider)
    spans = Spans(tracer_provider, meters, content=content)
    for event in events:
        spans.read(event)
    spans.close()


@dataclass(slots=True)
class _Task:
    """A task whose span is open, with those of the requests and tools in it."""

    span: Span
    told: TaskQueued
    queued: int
    busy: bool = False
    began: bool = False
    waited: float = 0.0
    blocked: float = 0.0
    model: str = ""
    tokens: tuple[int, int] = (0, 0)
    asked: list[_Asked] = field(default_factory=list)
    tools: list[tuple[str, Span, int]] = field(default_factory=list)
    cpu: float = 0.0
    answered: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    model: str
    span: Span
    at: int


class Spans:
    """Makes spans of events, in the order in which they are told: one sitting after the other."""

    def __init__(self, provider: trace.TracerProvider | None, meters: Instruments, *, content: bool) -> None:
        self._tracer = trace.get_tracer("fanfold", __version__, provider, names.SCHEMA)
        self._meters = meters
        self._content = content
        self._run: Span | None = None
        self._started: RunStarted | None = None
        self._now = 0
        self._tasks: dict[str, _Task] = {}
        self._known: dict[str, trace.SpanContext] = {}
        self._log: list[Event] = []

    @property
    def open(self) -> bool:
        """Whether a run has begun and is not over."""
        return self._run is not None

    def read(self, event: Event, around: Context | None = None) -> None:
        """Take in one event; `around` is where the run began, if it begins with this one and anybody knows."""
        if isinstance(event, RunStarted):
            self._begin(event, Context() if around is None else around)
            return
        if self._run is None:
            return  # what is told after the end of a run is no part of it
        at = self._at(event)
        self._now = max(self._now, at)
        self._log.append(event)
        if isinstance(event, TaskQueued):
            self._queue(event, at)
        elif isinstance(event, RunFinished):
            self._finish(event, at)
        elif isinstance(event, StepFinished):
            self._run.add_event("step finished", {names.STEP: event.step}, at)
        elif isinstance(event, ClockJumped):
            self._run.add_event("clock jumped", {names.SECONDS: event.seconds}, at)
        elif isinstance(event, Noticed):
            self._run.add_event("noticed", {names.MESSAGE: _text(event.message)} if self._content else {}, at)
        else:
            task = self._tasks.get(getattr(event, "task", ""))
            if task is not None:
                self._happen(task, event, at)

    def close(self) -> None:
        """There are no more events: what is open ends here."""
        if self._run is not None:
            self._end_run(self._now, "running")

    def _at(self, event: Event) -> int:
        """When it was, in nanoseconds since 1970: by the one reading of the wall clock, and from there monotonic."""
        assert self._started is not None
        return round(self._started.wall * 1e9) + round((event.at - self._started.at) * 1e9)

    # The run

    def _begin(self, event: RunStarted, around: Context) -> None:
        before = None
        if self._run is not None:  # it was killed, and is resumed
            before = self._run.get_span_context()
            self._end_run(self._now, "lost")
        self._started, self._log = event, [event]
        self._now = self._at(event)
        attributes: dict[str, Any] = {
            names.OPERATION: names.INVOKE_WORKFLOW,
            names.WORKFLOW_NAME: _text(event.graph),
            names.CONVERSATION: _text(event.thread_id),
            names.RUN_ID: _text(event.run_id),
            names.RESUMED: event.resumed,
            **({} if event.max_concurrency is None else {names.LIMIT: event.max_concurrency}),
        }
        self._run = self._tracer.start_span(
            f"{names.INVOKE_WORKFLOW} {_text(event.graph)}",
            around,
            SpanKind.INTERNAL,
            attributes,
            [Link(before)] if before is not None else [],
            self._now,
        )

    def _finish(self, event: RunFinished, at: int) -> None:
        assert self._run is not None
        assert self._started is not None
        told = receipt(self._log)
        self._run.set_attributes(
            {
                names.PEAK: event.peak,
                names.VERDICT: told.verdict,
                names.SPEEDUP: told.speedup,
                names.WORK: told.work * 1000,
                names.SPAN: told.span * 1000,
                names.WAITED: told.waited * 1000,
            }
        )
        if event.status == "failed":
            self._fail(self._run, event.error)
        graph = {names.GRAPH: _text(self._started.graph)}
        self._meters.runs.record(told.wall, {**graph, names.STATUS: event.status})
        self._meters.peaks.record(told.peak, graph)
        self._meters.speedups.record(told.speedup, graph)
        self._end_run(at, event.status)

    def _end_run(self, at: int, status: str) -> None:
        for task in self._tasks.values():
            self._end_task(task, at, status)
        self._tasks = {}
        if self._run is not None:
            self._run.set_attribute(names.STATUS, status)
            self._run.end(at)
        self._run = None

    # Tasks

    def _queue(self, event: TaskQueued, at: int) -> None:
        assert self._run is not None
        parent = self._tasks.get(event.parent or "")
        around = trace.set_span_in_context(self._run if parent is None else parent.span, Context())
        name, attributes = _about(event, self._started)
        if self._content and event.label:
            attributes[names.LABEL] = _text(event.label)
        links = [Link(self._known[id]) for id in event.after if id in self._known]
        span = self._tracer.start_span(name, around, SpanKind.INTERNAL, attributes, links, at)
        self._known[event.task] = span.get_span_context()
        self._tasks[event.task] = _Task(span, event, at)

    def _happen(self, task: _Task, event: Event, at: int) -> None:
        if isinstance(event, TaskStarted | TaskContinued):
            self._hold(task, event, at)
        elif isinstance(event, TaskPaused):
            task.span.add_event("paused", {}, at)
            self._busy(task, False)
        elif isinstance(event, _ENDINGS):
            self._end(task, event, at)
        elif isinstance(event, ModelAsked | ModelAnswered | ModelRetried | ModelLost):
            self._talk(task, event, at)
        elif isinstance(event, ToolCalled):
            self._tool(task, event, at)
        elif isinstance(event, ToolAnswered):
            self._tool_answered(task, event, at)
        elif isinstance(event, ThreadUsed):
            task.cpu += event.cpu
        elif isinstance(event, TaskHeldUp | TaskBlocked | TaskWaited | LoopHeld):
            self._delay(task, event, at)
        elif isinstance(event, TaskWaiting):
            task.span.add_event("waiting", {names.WAITED_FOR: _text(event.waits_for)}, at)

    def _hold(self, task: _Task, event: TaskStarted | TaskContinued, at: int) -> None:
        if isinstance(event, TaskContinued):
            task.waited += event.seconds
            waits: dict[str, Any] = {names.WAITED_FOR: _text(event.waited_for), names.SECONDS: event.seconds}
            task.span.add_event("continued", waits if event.waited_for else {}, at)
        else:
            waited = max(0.0, (at - task.queued) / 1e9) if not task.began else 0.0
            about: dict[str, Any] = {names.WAITED_FOR: _text(event.waited_for)} if event.waited_for else {}
            task.span.add_event("started", {names.ATTEMPT: event.attempt, **about}, at)
            task.span.set_attribute(names.ATTEMPT, event.attempt)
            task.waited += waited
            if not task.began:
                self._meters.waits.record(waited, about)
            task.began = True
        self._busy(task, True)

    def _busy(self, task: _Task, busy: bool) -> None:
        if task.busy is not busy and self._started is not None:
            task.busy = busy
            self._meters.busy.add(1 if busy else -1, {names.GRAPH: _text(self._started.graph)})

    def _delay(self, task: _Task, event: TaskHeldUp | TaskBlocked | TaskWaited | LoopHeld, at: int) -> None:
        about: dict[str, Any] = {names.SECONDS: event.seconds}
        if isinstance(event, LoopHeld) and not event.by_code:
            name = "waited for a core"
        elif isinstance(event, LoopHeld):
            task.blocked += event.seconds
            self._meters.held.record(event.seconds, {names.NODE: _text(task.told.name)})
            name = "held the event loop"
        else:
            task.waited += event.seconds
            name = "held up by the event loop"
        if isinstance(event, TaskWaited):
            name, about[names.WAITED_FOR] = "waited", _text(event.waits_for)
        if isinstance(event, TaskBlocked):
            name, about[names.WAITED_FOR] = "stood still", _text(f"{event.on} {event.place}".rstrip())
        if isinstance(event, LoopHeld | TaskBlocked) and event.file:
            about |= {names.CODE_FILE: event.file, names.CODE_LINE: event.line, names.CODE_FUNCTION: event.function}
        task.span.add_event(name, about, at)

    def _end(self, task: _Task, event: _Ending, at: int) -> None:
        if isinstance(event, TaskFailed):
            self._fail(task.span, event.error)
        del self._tasks[event.task]
        self._end_task(task, at, event.kind.removeprefix("task_"))

    def _end_task(self, task: _Task, at: int, status: str) -> None:
        self._tools_end(task, None)
        for asked in task.asked:
            asked.span.end(max(at, asked.at))
        self._busy(task, False)
        attributes: dict[str, Any] = {
            names.STATUS: status,
            names.WAITED: task.waited * 1000,
            names.BLOCKED: task.blocked * 1000,
            **({names.CPU: task.cpu * 1000} if task.cpu else {}),
        }
        if task.model:
            taken, given = task.tokens
            provider, model = names.model_parts(task.model)
            attributes |= {names.PROVIDER: provider, names.REQUEST_MODEL: model}
            attributes |= {names.INPUT_TOKENS: taken, names.OUTPUT_TOKENS: given}
        if task.told.role != "node" and task.began:
            seconds = max(0.0, (at - task.queued) / 1e9)
            self._meters.operations.record(seconds, {names.OPERATION: names.INVOKE_AGENT})
        task.span.set_attributes(attributes)
        task.span.end(at)

    def _fail(self, span: Span, error: str) -> None:
        """An error's class is its type; what it says may be what somebody said."""
        kind = error.partition(":")[0].strip()
        kind = kind if kind.isidentifier() else names.OTHER
        span.set_attribute(names.ERROR_TYPE, kind)
        if self._content:
            span.set_attribute(names.ERROR, _text(error))
        span.set_status(Status(StatusCode.ERROR, _text(error) if self._content else kind))

    # Models and tools

    def _talk(self, task: _Task, event: ModelAsked | ModelAnswered | ModelRetried | ModelLost, at: int) -> None:
        if isinstance(event, ModelAsked):
            self._tools_end(task, at)
            task.model = event.model
            task.asked.append(self._asked(task, event.model, at))
            task.lost = False
            return
        if isinstance(event, ModelRetried) and task.lost:
            return  # the span of the request that was lost has ended
        task.lost = isinstance(event, ModelLost)
        asked = self._request(task, event.model, at)
        provider, model = names.model_parts(asked.model)
        about = {names.OPERATION: names.CHAT, names.PROVIDER: provider, names.REQUEST_MODEL: model}
        if isinstance(event, ModelAnswered):
            self._answer(task, event, asked, about)
        else:
            said = event.error if isinstance(event, ModelRetried) else "no answer"
            self._fail(asked.span, f"{names.OTHER}: {said}")
            about[names.ERROR_TYPE] = names.OTHER
        self._meters.operations.record(max(0.0, (at - asked.at) / 1e9), about)
        asked.span.end(max(at, asked.at))
        task.answered = at

    def _asked(self, task: _Task, model: str, at: int) -> _Asked:
        provider, name = names.model_parts(_text(model))
        attributes = {names.OPERATION: names.CHAT, names.PROVIDER: provider, names.REQUEST_MODEL: name}
        return _Asked(model, self._inside(task, f"{names.CHAT} {name}", SpanKind.CLIENT, attributes, at), at)

    def _request(self, task: _Task, model: str, at: int) -> _Asked:
        """The oldest request that waits for this answer; for a program's further answers, one since the last."""
        for asked in [*(asked for asked in task.asked if asked.model == model), *task.asked]:
            task.asked.remove(asked)
            return asked
        return self._asked(task, model, min(task.answered or at, at))

    def _answer(self, task: _Task, event: ModelAnswered, asked: _Asked, about: _Attributes) -> None:
        attributes: dict[str, Any] = {
            names.INPUT_TOKENS: event.input_tokens,
            names.OUTPUT_TOKENS: event.output_tokens,
            names.RESPONSE_MODEL: names.model_parts(_text(event.model))[1],
        }
        if event.cost_usd is not None:
            attributes[names.COST] = event.cost_usd
        asked.span.set_attributes(attributes)
        task.model = task.model or event.model
        task.tokens = task.tokens[0] + event.input_tokens, task.tokens[1] + event.output_tokens
        for kind, number in ((names.INPUT, event.input_tokens), (names.OUTPUT, event.output_tokens)):
            self._meters.tokens.record(number, {**about, names.TOKEN_TYPE: kind})

    def _tool(self, task: _Task, event: ToolCalled, at: int) -> None:
        attributes = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: _text(event.tool)}
        if self._content and event.detail:
            attributes[names.TOOL_ARGUMENTS] = _text(event.detail)
        name = f"{names.EXECUTE_TOOL} {_text(event.tool)}"
        task.tools.append((event.tool, self._inside(task, name, SpanKind.INTERNAL, attributes, at), at))

    def _tool_answered(self, task: _Task, event: ToolAnswered, at: int) -> None:
        for called in task.tools:
            tool, span, began = called
            if tool == event.tool:
                task.tools.remove(called)
                span.set_attribute(names.UNTIL, "answer")
                span.end(max(at, began))
                return

    def _tools_end(self, task: _Task, at: int | None) -> None:
        """The agent asks a model again, so its tools have ended. Where it does not, nobody told when they had."""
        for _, span, began in task.tools:
            span.set_attribute(names.UNTIL, "unknown" if at is None else "next_request")
            span.end(began if at is None else max(at, began))
        task.tools.clear()

    def _inside(self, task: _Task, name: str, kind: SpanKind, attributes: _Attributes, at: int) -> Span:
        around = trace.set_span_in_context(task.span, Context())
        return self._tracer.start_span(name, around, kind, attributes, [], at)


def _about(event: TaskQueued, run: RunStarted | None) -> tuple[str, dict[str, Any]]:
    """What a task's span is called, and what is known of it from the start."""
    name = _text(event.name)
    attributes: dict[str, Any] = {names.TASK_ID: _text(event.task), names.STEP: event.step}
    if event.role == "agent":
        attributes |= {names.OPERATION: names.INVOKE_AGENT, names.AGENT_NAME: name}
        attributes |= {names.CONVERSATION: _text(run.thread_id)} if run is not None else {}
        return f"{names.INVOKE_AGENT} {name}", attributes
    return f"{event.role} {name}", attributes | {names.NODE: name}


def _text(text: str) -> str:
    return clean(text)[:LONGEST]
