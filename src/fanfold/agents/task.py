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
from collections.abc import Generator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanfold import chat
from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.framing import framed
from fanfold.agents.scope import Scope, scope_of
from fanfold.errors import AgentError, AgentTimeoutError, UsageError
from fanfold.events import Noticed
from fanfold.frame import Frame, clock, current_frame
from fanfold.graph import blocking


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
    `model` and `workspace` override the run's. In blocking code, `.run()` instead of `await`.

    Awaiting it raises `AgentNotFoundError` for an unknown name, and an `AgentError` when there is no answer.
    """

    subagent_type: str
    prompt: str
    description: str = ""
    model: Any = None
    workspace: str | Path | None = None

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
        if frame is None:
            scope = scope_of(None)
            await scope.backend(scope.catalogue.get(self.subagent_type)).prepare()
            return _result(await self._work(scope, uuid.uuid4().hex, None))
        scope = scope_of(frame.runner)
        definition = scope.catalogue.get(self.subagent_type)
        name = definition.name
        await scope.backend(definition).prepare()

        async def work(task_id: str) -> Mapping[str, Any]:
            return await self._work(scope, task_id, frame)

        return _result(
            await frame.runner.children.call(
                frame,
                name,
                work,
                label=self.description,
                fingerprint=self._fingerprint(name),
                limit=definition.max_concurrent,
            )
        )

    async def _work(self, scope: Scope, task_id: str, frame: Frame | None) -> dict[str, Any]:
        """Run the agent to its end; the result as plain data, which is how it is stored."""
        definition = scope.catalogue.get(self.subagent_type)
        call = Call(
            task=task_id,
            definition=definition,
            prompt=self.prompt,
            model=scope.model_for(definition, self.model) if definition.backend == "model" else None,
            workspace=scope.folder(self.workspace),
            heard=frame is not None and frame.runner.hears() and chat.QUIET not in _tags(frame),
        )
        ignored = scope.ignored(definition, call.model)
        if ignored is not None and frame is not None:
            text = f"the file of agent {definition.name!r} asks for {ignored!r}; {call.model!r} was named and answers"
            frame.runner.emit(Noticed(clock(), text, task_id))
        began = time.monotonic()
        answer = await self._answered(scope, call, frame)
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
            "transcript": [dict(message) for message in answer.transcript],
        }

    async def _answered(self, scope: Scope, call: Call, frame: Frame | None) -> Answer:
        """What the agent answers, within the time that its definition gives it."""
        seconds = call.definition.timeout
        try:
            async with asyncio.timeout(seconds) as timer:
                return await self._heard(scope, call, frame)
        except TimeoutError:
            if not timer.expired():
                raise
            raise AgentTimeoutError(
                f"agent {call.definition.name!r} did not answer within {seconds:g} s, and was ended",
                hint="give it a larger `timeout`",
            ) from None

    async def _heard(self, scope: Scope, call: Call, frame: Frame | None) -> Answer:
        said = False
        async with aclosing(scope.backend(call.definition).run(call)) as events:
            async for event in events:
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
        asked = json.dumps([name, self.prompt, folder, self.model if isinstance(self.model, str) else None])
        return hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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


def _tags(frame: Frame) -> list[str]:
    """The tags of the run."""
    return list(frame.runner.family.config.get("tags") or ())


def _result(data: Mapping[str, Any]) -> TaskResult:
    return TaskResult(**{**data, "transcript": tuple(data["transcript"])})


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
