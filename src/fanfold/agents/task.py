"""`Task`: run one agent and get its answer.

Inside a node, the agent is a child of that node's task: it takes its place in the run's concurrency limit (the node
gives its own back meanwhile), its answer is on disk before the node sees it, and a resumed run does not ask it again.
Outside of any run, it simply runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from fanfold import chat
from fanfold.agents import transcripts
from fanfold.agents.backends.base import PATIENCE, Answer, Call, Progress, Said
from fanfold.agents.definition import AgentDefinition, folded
from fanfold.agents.framing import framed
from fanfold.agents.heeded import unheeded
from fanfold.agents.scope import Scope, scope_of
from fanfold.agents.servers import servers_of
from fanfold.errors import (
    AgentError,
    AgentNotFoundError,
    AgentTimeoutError,
    BudgetError,
    ModelAnswerError,
    UsageError,
    did_you_mean,
)
from fanfold.events import Event, ModelAnswered
from fanfold.frame import Frame, current_frame, described, fitting
from fanfold.graph import blocking
from fanfold.limits import Ask, Desk, Governor, Limits, least, lent

_FOR_DISPLAY: Final = frozenset({"color"})
"""Keys of agent files that change nothing of what an agent does."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What an agent answered, and what it took.

    `usage` counts tokens and requests, `duration` is in seconds, `transcript` is the conversation as plain data.
    `cost_usd` is None when no price is known. `task_id` is the same again whenever the same run repeats the call.
    """

    output: Any
    status: str
    agent_type: str
    model: str
    task_id: str
    definition: str
    duration: float
    usage: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    tool_uses: int = 0
    transcript: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def total_tokens(self) -> int:
        """Tokens in and out."""
        return self.usage.get("input_tokens", 0) + self.usage.get("output_tokens", 0)

    def framed(self) -> str:
        """The output as it may stand in another agent's prompt: in a frame that says whose it is and where it ends."""
        return framed(self.output, source=self.agent_type, task=self.task_id)

    def __str__(self) -> str:
        return str(self.output)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One agent with a prompt: `result = await Task(subagent_type="sydney-research", prompt="...")`.

    Two that ask the same are two, and are asked twice: `asyncio.gather` runs what is equal only once.

    `subagent_type` names a definition (see `fanfold agents ls`). `description` is a short label for displays.
    `model` and `workspace` override the run's. `output` is what the answer has to be: a JSON Schema, or a class that
    pydantic knows, of which the result's `output` is one then; without it, what the agent's file says. In blocking
    code, `.run()` instead of `await`.

    Awaiting it raises `AgentNotFoundError` for an unknown name, and an `AgentError` when there is no answer.
    """

    subagent_type: str
    prompt: str
    description: str = ""
    model: Any = None
    workspace: str | Path | None = None
    output: Any = None

    def __post_init__(self) -> None:
        for name in ("subagent_type", "prompt"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"Task: {name} must be a text that is not empty, and it is {value!r:.80}")
        if not isinstance(self.description, str):
            raise UsageError(f"Task: description must be a text, and it is {self.description!r:.80}")

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self._asked().__await__()

    def run(self) -> TaskResult:
        """The result, waited for. For a blocking node, or for code outside of any event loop.

        Raises `SyncInLoopError` in a thread whose event loop is running: there, await the task.
        """
        frame = current_frame()
        if frame is not None and not _in_loop():
            result: TaskResult = frame.runner.from_thread(self._asked)
            return result
        return blocking(self._asked, instead="await Task(...)")

    async def _asked(self) -> TaskResult:
        frame = current_frame()
        if frame is not None and asyncio.get_running_loop() is not frame.runner.family.loop:
            return await asyncio.wrap_future(frame.runner.from_outside(frame, self._asked))
        scope = scope_of(None if frame is None else frame.runner)
        definition = scope.catalogue.get(self.subagent_type)
        await scope.backend(definition).prepare()
        if frame is None:
            return self._result(await self._work(scope, uuid.uuid4().hex, None, None))
        governor = frame.runner.family.governor
        above = _desk_above(frame, governor)
        _check_depth(definition.name, 1 if above is None else above.depth + 1, governor)

        async def work(task_id: str) -> Mapping[str, Any]:
            return await self._work(scope, task_id, frame, above)

        with nullcontext() if above is None else above.resting():
            async with lent():
                answer = await frame.runner.children.call(
                    frame,
                    definition.name,
                    work,
                    label=self.description,
                    fingerprint=self._fingerprint(definition.name),
                    limit=least(definition.max_concurrent, governor.kind(definition.name, folded)),
                )
        return self._result(answer)

    async def _work(self, scope: Scope, task_id: str, frame: Frame | None, above: Desk | None) -> dict[str, Any]:
        """Run the agent to its end; the result as plain data, which is how it is stored."""
        definition = scope.catalogue.get(self.subagent_type)
        began, bill = time.monotonic(), _Bill()
        try:
            with transcripts.witnessed(self.prompt, definition):
                answer = await self._answered(scope, definition, task_id, frame, above, bill)
            if not isinstance(self.output, Mapping | None):
                _check_fits(answer.output, self.output, definition.name)
        except AgentError as error:
            error.usage, error.cost_usd = bill.usage, bill.usd
            raise
        return {
            "output": answer.output,
            "status": "completed",
            "agent_type": definition.name,
            "model": answer.model,
            "task_id": task_id,
            "definition": definition.digest,
            "duration": time.monotonic() - began,
            "usage": dict(answer.usage),
            "cost_usd": answer.cost_usd,
            "tool_uses": answer.tool_uses,
            "transcript": transcripts.of(self.prompt, answer),
        }

    async def _answered(
        self,
        scope: Scope,
        definition: AgentDefinition,
        task_id: str,
        frame: Frame | None,
        above: Desk | None,
        bill: _Bill,
    ) -> Answer:
        """What the agent answers, within the time that its definition and the run's limits give it."""
        timer, late = asyncio.timeout(definition.timeout), _Late()

        def stop() -> None:
            if timer.expired():  # it is being ended already, which may take a moment
                return
            late.why = "seconds"
            timer.reschedule(asyncio.get_running_loop().time())

        governor = Governor(Limits()) if frame is None else frame.runner.family.governor
        tell = _unheard if frame is None else partial(_emitted, frame)

        def emit(event: Event) -> None:
            bill.add(event)
            tell(event)

        try:
            with governor.desk(
                task_id,
                definition.name,
                emit,
                stop=stop,
                ask=asker(scope, definition),
                above=above,
                holds=_holding(current_frame()),
            ) as desk:
                async with timer:
                    return await self._heard(scope, self._call(scope, definition, task_id, frame, desk), frame)
        except TimeoutError:
            if not timer.expired():
                raise
            raise late.error(definition, governor) from None

    def _call(self, scope: Scope, definition: AgentDefinition, task_id: str, frame: Frame | None, desk: Desk) -> Call:
        """The call with everything decided. Says so when the agent's file asks for what it does not get."""
        model = scope.model_for(definition, self.model) if scope.asks(definition) else None
        ignored = scope.ignored(definition, model)
        if ignored is not None:
            desk.notice(f"the file of agent {definition.name!r} asks for {ignored!r}; {model!r} was named and answers")
        if lost := [key for key in unheeded(definition) if key not in _FOR_DISPLAY]:
            keys, backend = ", ".join(map(repr, lost)), definition.backend
            desk.notice(f"the file of agent {definition.name!r} says {keys}, which backend {backend!r} does not heed")
        return Call(
            task=task_id,
            definition=definition,
            prompt=self.prompt,
            model=model,
            workspace=scope.folder(self.workspace),
            desk=desk,
            heard=frame is not None and frame.runner.hears() and chat.QUIET not in _tags(frame),
            schema=definition.output if self.output is None else described(self.output),
            peers=scope.peers(definition),
            servers=servers_of(definition, Path.cwd()) if scope.connects(definition) else {},
            patience=PATIENCE if frame is None else frame.runner.family.governor.limits.patience,
        )

    async def _heard(self, scope: Scope, call: Call, frame: Frame | None) -> Answer:
        said = False
        async with aclosing(scope.backend(call.definition).run(call)) as events:
            async for event in events:
                transcripts.saw(event)
                if isinstance(event, Answer):
                    if call.heard and not said and isinstance(event.output, str):
                        await _told(frame, call, Said(event.output, call.task))
                    return event
                said = said or isinstance(event, Said)
                await _told(frame, call, event)
        raise AgentError(f"agent {call.definition.name!r} ended without an answer")

    def _fingerprint(self, name: str) -> str:
        """Identifies what is asked of whom, and where: an answer to anything else must not be taken for this one's."""
        folder = None if self.workspace is None else str(Path(self.workspace).resolve())
        asked = [name, self.prompt, folder, self.model if isinstance(self.model, str) else None]
        if self.output is not None:
            asked.append(json.dumps(described(self.output), sort_keys=True))
        text = json.dumps(asked)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _result(self, data: Mapping[str, Any]) -> TaskResult:
        """The result of what is stored; its output as the class that was asked for."""
        output = fitting(data["output"], self.output)
        return TaskResult(**{**data, "output": output, "transcript": tuple(data["transcript"])})


async def _told(frame: Frame | None, call: Call, event: Progress | Said) -> None:
    """Show what an agent does to those who watch the run, or listen to it. It is a sign of life of its node, too."""
    if frame is None:
        return
    frame.progress()
    if isinstance(event, Said):
        metadata = {**frame.config()["metadata"], "agent": call.definition.name}
        if tags := _tags(frame):
            metadata["tags"] = tags
        await frame.runner.say(chat.piece(event.text, event.message, call.definition.name), metadata)
    else:
        frame.runner.emit(event)


def _emitted(frame: Frame, event: Event) -> None:
    """Show what is known at the agent's desk. That a model has answered is a sign of life of its node."""
    if isinstance(event, ModelAnswered):
        frame.progress()
    frame.runner.emit(event)


def _tags(frame: Frame) -> list[str]:
    """The tags of the run."""
    return list(frame.runner.family.config.get("tags") or ())


def _unheard(_: Event) -> None:
    """Outside of any run, nobody listens."""


@dataclass(slots=True)
class _Bill:
    """What the models have taken that an agent asked, whether it answers in the end or not."""

    usage: dict[str, int] = field(default_factory=dict)
    usd: float | None = None

    def add(self, event: Event) -> None:
        """Add what an answer of a model took; of other events, nothing."""
        if not isinstance(event, ModelAnswered):
            return
        took = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens, "requests": event.calls}
        self.usage = {name: self.usage.get(name, 0) + count for name, count in took.items()}
        if event.cost_usd is not None:
            self.usd = (self.usd or 0.0) + event.cost_usd


@dataclass(slots=True)
class _Late:
    """Why an agent was stopped before it had answered: its own time is up, unless the run's was."""

    why: str = ""

    def error(self, definition: AgentDefinition, governor: Governor) -> AgentError:
        """The error that says so."""
        if self.why:
            return governor.out_of_time(definition.name)
        return AgentTimeoutError(
            f"agent {definition.name!r} did not answer within {definition.timeout:g} s, and was ended",
            hint="give it a larger `timeout`",
        )


def agent_named(name: str) -> AgentDefinition:
    """What a name means where this is called: in a node, to that run; elsewhere, in the working directory.

    Raises `AgentNotFoundError` when it means nothing, and `AgentFileError` when its file cannot be used.
    """
    frame = current_frame()
    return scope_of(None if frame is None else frame.runner).catalogue.get(name)


def asker(scope: Scope, caller: AgentDefinition) -> Ask:
    """How an agent calls another one: one of those that its definition allows. Its answer comes framed."""

    async def ask(name: str, prompt: str, description: str) -> str:
        peers = [peer.name for peer in scope.peers(caller)]
        if folded(name) not in map(folded, peers):
            raise AgentNotFoundError(
                f"agent {caller.name!r} may not call {name!r}{did_you_mean(name, peers)}",
                hint=f"it may call: {', '.join(peers) or 'no agent'}",
            )
        return (await Task(subagent_type=name, prompt=prompt, description=description)).framed()

    return ask


def _desk_above(frame: Frame, governor: Governor) -> Desk | None:
    """The desk of the agent inside of which this code runs, through the graphs that it calls."""
    at: Frame | None = frame
    while at is not None:
        desk = governor.at(at.task.id)
        if desk is not None:
            return desk
        at = at.caller or at.runner.around
    return None


def _holding(frame: Frame | None) -> Callable[[], bool]:
    """Whether the task of this frame has a slot, whenever that is asked."""
    return lambda: frame is not None and frame.holding


def _check_depth(name: str, depth: int, governor: Governor) -> None:
    deepest = governor.depth()
    if deepest is not None and depth > deepest:
        raise BudgetError(
            f"agent {name!r} would be called {depth} deep by agents, and the run's limit is {deepest}",
            hint="allow more: limits=Limits(depth=...)",
        )


def _check_fits(output: Any, wanted: Any, name: str) -> None:
    try:
        fitting(output, wanted)
    except ValueError as error:  # pydantic's ValidationError is one
        raise ModelAnswerError(f"agent {name!r}: its answer does not fit {wanted!r:.80}: {error}") from error


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
