"""Agents that are programs: any command that takes a prompt and writes an answer.

The definition's `command` says which, as one line or as a list of words. In **text** mode the prompt is what the
program reads, and the answer what it writes. A program whose output begins with a JSON object that has a `type` speaks
**JSON lines**: each line is one object, and the last of type `result` is the answer::

    {"type": "tool", "name": "search", "detail": "ducks"}
    {"type": "usage", "model": "m", "input_tokens": 10, "output_tokens": 5, "cost_usd": 0.01}
    {"type": "retry", "status": 429, "seconds": 2}
    {"type": "error", "status": 429, "message": "slow down", "retry_after": 2}
    {"type": "result", "output": "Ducks swim."}

An `error` that no `result` follows is what the agent fails with; its `status` is that of a model's server, and says of
which kind it is. `preset:claude` and its like are command line tools of vendors (see `presets`), and `acp:PROGRAM` is a
program that speaks the Agent Client Protocol (see `acp`).

The program's folder is the workspace. In its environment stand `FANFOLD_TASK`, an id that is the same again when a run
that was cut off asks for the same answer again, `FANFOLD_AGENT`, the agent's name, and where its answer has to fit a
JSON Schema, that as `FANFOLD_SCHEMA`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from fanfold.agents import sizes
from fanfold.agents.asking import persist
from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.backends.dialects import object_of, ours
from fanfold.agents.backends.minutes import Minutes
from fanfold.agents.backends.presets import Plan, Preset, named, planned
from fanfold.agents.backends.providers import name_of
from fanfold.agents.backends.telling import Tell, telling
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.processes import Bounds, Program, lacks
from fanfold.agents.sizes import MEGABYTE
from fanfold.errors import AgentError, AgentLostError, AgentMemoryError, AgentStalledError
from fanfold.limits.desk import Asking

LARGEST_ANSWER: Final = 16 * MEGABYTE
"""Characters that a program may write."""

_OUT_OF_MEMORY: Final = ("MemoryError", "Cannot allocate memory", "out of memory", "bad_alloc", "ENOMEM")


class ProcessBackend:
    """Runs the program that the agent's definition names."""

    async def prepare(self) -> None:
        """A program needs nothing from us."""

    def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """What the program tells, and last its answer."""

        async def work(tell: Tell) -> Answer:
            words = words_of(call.definition)
            preset = named(words)
            if preset is None:
                plain = Plan(words, prompt_of(call))
                return await attempted(call, tell, own_name(call), sizes.UNKNOWN, partial(_done, call, plain, None))
            return await attempted(call, tell, name_of(call.model), preset.megabytes, partial(_by, call, words, preset))

        return telling(work)


def words_of(definition: AgentDefinition) -> list[str]:
    """The words of a definition's command. Raises `AgentError` where it has none, or they cannot be told apart."""
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


def asks_a_model(definition: AgentDefinition) -> bool:
    """Whether what a definition runs asks a model that the run has to name. Other programs ask whom they like."""
    return definition.program().startswith("preset:")


def identity(call: Call) -> dict[str, str]:
    """What a program sees in its environment of who it is and what is wanted of it."""
    wanted = {} if call.schema is None else {"FANFOLD_SCHEMA": json.dumps(call.schema)}
    return {"FANFOLD_TASK": call.task, "FANFOLD_AGENT": call.definition.name, **wanted}


async def attempted(
    call: Call, tell: Tell, model: str, megabytes: int, work: Callable[[Minutes], Awaitable[None]]
) -> Answer:
    """The answer that comes of work with one program, which is repeated while its model is asked too often.

    `model` is what the desk knows it by, and `megabytes` what it is thought to hold while nobody knows.
    """

    async def attempt(asking: Asking) -> Answer:
        minutes = Minutes(call, tell, asking, "" if call.model is None else model)
        try:
            await work(minutes)
            return minutes.answer()
        except BaseException as error:
            minutes.settle()
            if isinstance(error, AgentError) and (minutes.tools or minutes.retries):
                # It must not do things twice, nor has it to try as often again.
                error.final = True  # type: ignore[attr-defined]  # read by `asking.persist`
            raise

    # Memory first, as all programs: one that waits for memory must not hold a place that one with memory waits for.
    async with call.desk.process(sizes.expected(call.definition, megabytes)):
        return await persist(call, model, attempt, tokens=0)


def prompt_of(call: Call) -> str:
    """The definition's own prompt, and behind it the call's."""
    own = call.definition.prompt
    return f"{own}\n\n{call.prompt}" if own else call.prompt


def bounds_of(definition: AgentDefinition, *, mapped: bool) -> Bounds:
    """What a definition's program may use. `mapped` is whether it can live with a limit of what it maps, too."""
    memory = definition.memory_mb * MEGABYTE if definition.memory_mb else None
    return Bounds(memory=memory, addresses=memory if mapped else None)


def own_name(call: Call) -> str:
    """What a program is called at the desk of which nobody knows whom it asks."""
    return f"process:{call.definition.name}"


async def _by(call: Call, words: Sequence[str], preset: Preset, minutes: Minutes) -> None:
    with planned(preset, call, words[1:]) as plan:
        await _done(call, plan, preset, minutes)


async def _done(call: Call, plan: Plan, preset: Preset | None, minutes: Minutes) -> None:
    """Run the program to its end and take down what it tells. Raises when it does not end well."""
    for text in (*plan.notices, *lacks()):
        call.desk.notice(f"agent {call.definition.name!r}: {text}")
    pages = _Pages(minutes, plan)
    bounds = bounds_of(call.definition, mapped=preset is None)
    program = Program(plan.words, call.workspace.root, {**identity(call), **plan.extra}, bounds, plan.descriptors)
    with closely_watched(call, program):
        async with program:
            program.tell(plan.prompt)
            while lines := await program.patiently(call.patience, program.lines()):
                pages.take(lines)
            code = await program.patiently(call.patience, program.ended())
            complaints = await program.complaints()
    pages.end()
    if code and minutes.failure is None:
        raise ended_badly(call, program, code, complaints, "" if preset is None else preset.get)


@contextmanager
def closely_watched(call: Call, program: Program) -> Iterator[None]:
    """Around a program's whole life: what it held is remembered, and what has become of it is said."""
    definition = call.definition
    program.looked = call.desk.saw
    try:
        yield
    except TimeoutError as error:
        if not program.stalled:
            raise
        raise AgentStalledError(
            f"agent {definition.name!r}: nothing was heard of its program for {call.patience:g} s, and it was ended",
            hint="have more patience: limits=Limits(patience=...)",
        ) from error
    except AgentError as error:
        raise (_too_large(definition, program) if program.over else error) from error.__cause__
    finally:
        sizes.seen(definition, program.peak)
    if program.over:
        raise _too_large(definition, program)


def _too_large(definition: AgentDefinition, program: Program) -> AgentMemoryError:
    return AgentMemoryError(
        f"agent {definition.name!r}: its program held {program.peak // MEGABYTE} MB, more than the "
        f"{definition.memory_mb} MB that it may, and was killed",
        hint="raise its `memory_mb`",
    )


def ended_badly(call: Call, program: Program, code: int, complaints: str, get: str = "") -> AgentError:
    """The error of a program that ended with a code that is not 0, and said in `complaints` why."""
    name, told = call.definition.name, _quoted(complaints)
    if code == 127:
        hint = f"install it: {get}" if get else "is it installed, and on the PATH?"
        return AgentError(f"agent {name!r}: its program {program.name!r} could not be run{told}", hint=hint)
    how = f"was ended by signal {code - 128}" if code > 128 else f"ended with code {code}"
    text = f"agent {name!r}: its program {how}{told}"
    if call.definition.memory_mb and any(sign in complaints for sign in _OUT_OF_MEMORY):
        hint = f"it may have {call.definition.memory_mb} MB: raise its `memory_mb`"
        return AgentMemoryError(text, hint=hint)
    return AgentLostError(text)


def _quoted(complaints: str) -> str:
    lines = [line for line in complaints.strip().splitlines() if line.strip()]
    return f"; it said: {lines[-1][:500]}" if lines else ""


class _Pages:
    """What a program writes: lines of its dialect, or of ours, or a text, which the first line tells."""

    def __init__(self, minutes: Minutes, plan: Plan) -> None:
        self._minutes = minutes
        self._dialect = plan.dialect
        self._text: list[str] | None = None
        self._lines = False
        self._read = 0

    def take(self, lines: str) -> None:
        """Take down some lines."""
        self._read += len(lines)
        if self._read > LARGEST_ANSWER:
            raise AgentError(f"{self._minutes.who} answers with more than {LARGEST_ANSWER:,} characters")
        if self._dialect is ours and not self._lines and self._text is None and _is_text(lines):
            self._text = []
        if self._text is not None:
            self._text.append(lines)
            return
        self._lines = True
        for line in filter(str.strip, lines.split("\n")):  # other ends of a line may stand inside of JSON's texts
            self._line(line)

    def _line(self, line: str) -> None:
        said = object_of(line)
        if said is not None:
            self._dialect(self._minutes, said)
        elif self._dialect is ours:
            raise AgentError(f"{self._minutes.who}: its program wrote JSON lines, and then {line.strip()[:100]!r}")

    def end(self) -> None:
        """There is no more: a text is the answer."""
        if not self._lines:
            self._minutes.result("".join(self._text or ()).strip())


def _is_text(lines: str) -> bool:
    return object_of(lines.partition("\n")[0]) is None
