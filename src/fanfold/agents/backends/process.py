"""Agents that are programs: any command that takes a prompt and writes an answer.

The definition's `command` says which, as one line or as a list of words. In **text** mode the prompt is what the
program reads, and the answer what it writes. A program whose output begins with a JSON object that has a `type` speaks
**JSON lines**: each line is one object, and the last of type `result` is the answer::

    {"type": "tool", "name": "search", "detail": "ducks"}
    {"type": "usage", "model": "m", "input_tokens": 10, "output_tokens": 5}
    {"type": "result", "output": "Ducks swim."}

The program's folder is the workspace. In its environment stand `FANFOLD_TASK`, an id that is the same again when a run
that was cut off asks for the same answer again, and `FANFOLD_AGENT`, the agent's name.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from fanfold.agents.backends.base import Answer, Call, Progress
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.processes import Bounds, Program
from fanfold.errors import AgentError
from fanfold.events import ModelAnswered, ProgramSeen, ToolCalled
from fanfold.frame import clock

MEGABYTE = 1024 * 1024

SHORTEST_SILENCE: Final = 0.25
LONGEST_SILENCE: Final = 8.0
"""Seconds between two looks at what the operating system says of a program that is silent: each twice the one before.
"""


class ProcessBackend:
    """Runs the program that the agent's definition names."""

    async def prepare(self) -> None:
        """A program needs nothing from us."""

    async def run(self, call: Call) -> AsyncGenerator[Progress | Answer, None]:
        """What the program tells, and last its answer."""
        definition, clerk = call.definition, _Clerk(call)
        bounds = Bounds(memory=definition.memory_mb * MEGABYTE if definition.memory_mb else None)
        extra = {"FANFOLD_TASK": call.task, "FANFOLD_AGENT": definition.name}
        async with Program(_command(definition), call.workspace.root, extra, bounds) as program:
            program.tell(_prompt(call))
            async with aclosing(_watched(program)) as written:
                looked = 0.0
                async for lines in written:
                    for event in clerk.take(lines) if lines else ():
                        yield event
                    if not lines or clock() - looked >= SHORTEST_SILENCE:  # who writes without end is read first
                        looked = clock()
                        yield ProgramSeen(looked, call.task, *program.seen())
            code, complaints = await program.ended(), await program.complaints()
        if code:
            raise AgentError(f"agent {definition.name!r}: {_ending(code, definition)}{_quoted(complaints)}")
        yield clerk.answer()


async def _watched(program: Program) -> AsyncGenerator[str, None]:
    """What the program writes, and nothing whenever it has been silent for a while, and at its end."""
    silence = SHORTEST_SILENCE
    yield ""
    lines = asyncio.ensure_future(program.lines())
    try:
        while True:
            await asyncio.wait([lines], timeout=silence)
            if not lines.done():
                silence = min(LONGEST_SILENCE, 2 * silence)
                yield ""
            elif written := lines.result():
                lines = asyncio.ensure_future(program.lines())
                yield written
            else:
                break
        yield ""
    finally:
        lines.cancel()


def _prompt(call: Call) -> str:
    own = call.definition.prompt
    return f"{own}\n\n{call.prompt}" if own else call.prompt


def _command(definition: AgentDefinition) -> Sequence[str]:
    command = definition.command
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise AgentError(f"agent {definition.name!r}: its `command` cannot be cut into words: {error}") from None
    if not words:
        raise AgentError(
            f"agent {definition.name!r} says `backend: process` and has no `command`",
            hint="add the line `command: program argument ...` to its file",
        )
    return words


def _ending(code: int, definition: AgentDefinition) -> str:
    """How a program ended that did not end well."""
    if code == 127:
        return f"its program {_command(definition)[0]!r} could not be run"
    if code > 128:
        return f"its program was ended by signal {code - 128}"
    return f"its program ended with code {code}"


def _quoted(complaints: str) -> str:
    lines = [line for line in complaints.strip().splitlines() if line.strip()]
    return f"; it said: {lines[-1][:500]}" if lines else ""


class _Clerk:
    """Takes down what one program writes, and knows in which form that is from its first line."""

    def __init__(self, call: Call) -> None:
        self._task = call.task
        self._name = call.definition.name
        self._text: list[str] = []
        self._told: list[dict[str, Any]] = []
        self._usage = {"input_tokens": 0, "output_tokens": 0}
        self._model = ""

    def take(self, lines: str) -> Iterator[Progress]:
        """What lines tell of the agent's progress."""
        if not self._told and (self._text or _object(lines.partition("\n")[0]) is None):
            self._text.append(lines)
            return
        for line in filter(str.strip, lines.splitlines()):
            said = _object(line)
            if said is None:
                raise AgentError(f"agent {self._name!r}: its program wrote JSON lines, and then {line.strip()[:100]!r}")
            self._told.append(said)
            yield from self._told_by(said)

    def _told_by(self, said: Mapping[str, Any]) -> Iterator[Progress]:
        match said["type"]:
            case "tool":
                yield ToolCalled(clock(), self._task, str(said.get("name")), str(said.get("detail", ""))[:200])
            case "usage":
                counts = {key: _count(said, key) for key in self._usage}
                self._usage = {key: number + counts[key] for key, number in self._usage.items()}
                self._model = str(said.get("model", self._model))
                yield ModelAnswered(clock(), self._task, self._model, *counts.values())

    def answer(self) -> Answer:
        """The program's answer. Raises `AgentError` where it speaks JSON lines and names no result."""
        if not self._told:
            return Answer("".join(self._text).strip())
        results = [said for said in self._told if said["type"] == "result"]
        if not results:
            raise AgentError(f"agent {self._name!r}: its program wrote JSON lines, and none of type 'result'")
        usage = self._usage if any(self._usage.values()) else {}
        tools = sum(said["type"] == "tool" for said in self._told)
        return Answer(results[-1].get("output"), self._model, usage, tool_uses=tools, transcript=tuple(self._told))


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("type"), str) else None


def _count(line: Mapping[str, Any], key: str) -> int:
    value = line.get(key, 0)
    return value if isinstance(value, int) and value >= 0 else 0
