"""One conversation with a claude program, through the vendor's SDK. Imported when the first such agent runs.

The SDK would start the program itself, with all of our environment and nobody to end its children. So it is given a
line of ours to a program that runs under our launcher. What it cannot say by that it raises out of the line's end:
that the program is gone, or silent for too long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import claude_agent_sdk as sdk
from mcp.types import ToolAnnotations

from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.backends.claude_command import TASK_TOOL, TEAM, Start, tool_names
from fanfold.agents.backends.providers import LONGEST_REASON, detailed, key_variable, masked, shortened
from fanfold.agents.causes import raise_from
from fanfold.agents.processes import Program
from fanfold.agents.transcripts import tell_from
from fanfold.errors import (
    AgentError,
    AgentLostError,
    AgentMemoryError,
    AgentStalledError,
    BudgetError,
    FanfoldError,
    ModelAnswerError,
    ModelCutError,
    ModelError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
)
from fanfold.events import Noticed, ToolCalled
from fanfold.frame import clock
from fanfold.limits.desk import Asking

BUNDLED: Final = Path(sdk.__file__).parent / "_bundled" / "claude"

PARTING: Final = 0.15
"""Seconds that the program has to let go of what it does, before it is killed."""

_BLOCKS: Final = {
    sdk.TextBlock: "text",
    sdk.ThinkingBlock: "thinking",
    sdk.ToolUseBlock: "tool_use",
    sdk.ToolResultBlock: "tool_result",
}
_SLOW: Final = frozenset({429, 529})
_NO_USE: Final = frozenset({400, 401, 403, 404, 413})

# What the SDK logs as an error it raises, too; on the terminal it would stand twice.
logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)


class Line(sdk.Transport):
    """What the SDK and a program write to each other. It ends when the program does, and when nothing is heard.

    `failure` is why it has ended, or is to end: the SDK does not always pass on what is raised here.
    """

    def __init__(self, program: Program, call: Call) -> None:
        self._program = program
        self._call = call
        self._heard = self._now()
        self._asked = 0
        self.failure: AgentError | None = None

    async def connect(self) -> None:
        """It is connected from the beginning."""

    async def write(self, data: str) -> None:
        """A program that does not read any more has ended, and why that is, the reading end says."""
        await self._program.write(data)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the program writes. Never just ends: raises what became of the program."""
        try:
            while lines := await self._next():
                if self.failure is not None:
                    raise self.failure
                for line in lines.split("\n"):  # and at no other character: it may stand in a text
                    if line.startswith("{"):
                        yield json.loads(line)
            raise await self._lost()
        except AgentError as error:
            self.failure = error
            raise

    async def close(self) -> None:
        """The program is ended by who started it."""
        await self.end_input()

    def is_ready(self) -> bool:
        return self._program.process.returncode is None

    async def end_input(self) -> None:
        self._program.finish()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """While the program waits for us, its silence says nothing about it."""
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1
            self._heard = self._now()

    def wait(self, seconds: float) -> None:
        """Take it that the program has told when it will be heard of again."""
        self._heard = self._now() + seconds

    async def _next(self) -> str:
        """Lines that the program has written; nothing at its end."""
        self._heard = max(self._heard, self._now())  # it was not silent while we did not listen
        while True:
            try:
                async with asyncio.timeout_at(self._heard + self._call.patience):
                    return await self._program.lines()
            except TimeoutError:
                if self._asked:
                    self._heard = self._now()
                elif self._now() >= self._heard + self._call.patience:
                    raise self._stalled() from None

    def _stalled(self) -> AgentStalledError:
        return AgentStalledError(
            f"agent {self._call.definition.name!r}: nothing was heard of claude for {self._call.patience:g} s,"
            " and it was ended",
        )

    async def _lost(self) -> AgentError:
        """What became of the program, whose output has ended."""
        code, complaints = await self._program.ended(), await self._program.complaints()
        lines = [line for line in complaints.splitlines() if line.strip() and not line.startswith("[claude-code:")]
        name, limit = self._call.definition.name, self._call.definition.memory_mb
        if limit and code and (self._program.over or _is_out_of_memory(code, complaints)):
            return AgentMemoryError(
                f"agent {name!r}: claude wanted more than the {limit} MB that the agent may have",
                hint="give it a larger `memory_mb`",
            )
        how = f"signal {code - 128}" if code > 128 else f"code {code}"
        said = f"; it said: {shortened(lines[-1].strip(), LONGEST_REASON)}" if lines else ""
        return AgentLostError(f"agent {name!r}: claude ended with {how} before it had answered{said}")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class Session:
    """A claude program that has been told its task: what it does, and what it answers."""

    def __init__(self, client: sdk.ClaudeSDKClient, line: Line, call: Call, start: Start, asking: Asking) -> None:
        self._client = client
        self._line = line
        self._call = call
        self._start = start
        self._asking = asking
        self._result: sdk.ResultMessage | None = None
        self._stream: dict[str, Any] = {}
        self._counted: set[str] = set()
        self._used: Counter[str] = Counter()
        self._tools = 0
        self._delay: float | None = None
        self._told: list[dict[str, Any]] = [{"role": "user", "content": call.prompt}]
        tell_from(lambda: self._told)

    async def events(self) -> AsyncGenerator[Progress | Said, None]:
        """What happens until there is a result. Raises what the program was refused for good."""
        async for message in self._client.receive_messages():
            for event in self._take(message):
                yield event
            if self._result is not None:
                return

    def settle(self) -> None:
        """Tell what was used, also by a conversation that came to nothing."""
        if self._used["requests"]:
            used = self._usage()
            self._asking.took(used["input_tokens"], used["output_tokens"], self._cost(), used["requests"])

    def answer(self) -> Answer:
        """The answer. Raises a typed error where the result is none."""
        result, call = self._result, self._call
        if result is None:
            raise AgentLostError(f"agent {call.definition.name!r}: claude ended without a result")
        if result.is_error or result.subtype != "success":
            raise self._failure(result)
        if call.schema is not None and result.structured_output is None:
            raise ModelAnswerError(
                f"{self._who()}, and the answer does not have the form that was asked for",
                hint="ask again, or make the agent's `output` simpler",
            )
        return Answer(
            output=result.result or "" if call.schema is None else result.structured_output,
            model=self._start.asks,
            usage=self._usage(),
            cost_usd=self._cost(),
            tool_uses=self._tools,
            transcript=tuple(self._told),
        )

    def _take(self, message: sdk.Message) -> Iterator[Progress | Said]:
        if isinstance(message, sdk.StreamEvent):
            yield from self._piece(message.event)
        elif isinstance(message, sdk.AssistantMessage):
            yield from self._answered(message)
        elif isinstance(message, sdk.UserMessage):
            self._tell("user", message.content)
        elif isinstance(message, sdk.ResultMessage):
            self._result = message
        elif isinstance(message, sdk.SystemMessage):
            yield from self._of_system(message)

    def _piece(self, event: Mapping[str, Any]) -> Iterator[Progress | Said]:
        """One event of an answer that is being streamed: its text, and at its end what it took."""
        match event.get("type"):
            case "message_start":
                self._stream = dict(event["message"])
            case "content_block_delta" if self._call.heard and event["delta"].get("type") == "text_delta":
                yield Said(event["delta"]["text"], str(self._stream.get("id", "")))
            case "message_delta":
                self._stream["usage"] = {**self._stream.get("usage", {}), **_known(event.get("usage") or {})}
            case "message_stop":
                self._count(self._stream.get("id"), self._stream.get("model"), self._stream.get("usage"))
                self._stream = {}

    def _answered(self, message: sdk.AssistantMessage) -> Iterator[Progress]:
        """A whole block of an answer; several of them belong to one answer. One without a model is the program's."""
        if message.model == "<synthetic>":
            return
        if message.message_id != self._stream.get("id"):  # it was not streamed
            self._count(message.message_id, message.model, message.usage)
        self._tell("assistant", message.content)
        for block in message.content:
            if isinstance(block, sdk.ToolUseBlock):
                self._tools += 1
                name = "task" if block.name == TASK_TOOL else block.name
                yield ToolCalled(clock(), self._call.task, name, detailed(json.dumps(block.input)))

    def _count(self, message: Any, model: Any, usage: Mapping[str, Any] | None) -> None:
        """What one answer took, once."""
        if not message or message in self._counted:
            return
        self._counted.add(message)
        numbers = usage or {}
        taken = sum(numbers.get(f"{kind}input_tokens") or 0 for kind in ("", "cache_creation_", "cache_read_"))
        given = numbers.get("output_tokens") or 0
        self._used.update(input_tokens=taken, output_tokens=given, requests=1)
        self._asking.heard(str(model or ""), taken, given, None if self._start.real else 0.0, 1)

    def _of_system(self, message: sdk.SystemMessage) -> Iterator[Progress]:
        if message.subtype == "api_retry":
            self._retried(message.data)
        elif message.subtype == "init":
            absent = sorted(set(tool_names(self._call)).difference(message.data.get("tools", [])))
            if absent and self._call.definition.tools is not None:
                text = f"agent {self._call.definition.name!r} asks for tools that claude does not have here: "
                yield Noticed(clock(), text + ", ".join(absent), self._call.task)
            for server in message.data.get("mcp_servers", []):
                if server.get("status") not in ("connected", "pending"):
                    who = f"agent {self._call.definition.name!r}: MCP server {server.get('name')!r}"
                    raise AgentError(f"{who} cannot be used: {server.get('status')}")

    def _retried(self, data: Mapping[str, Any]) -> None:
        """The program was refused an answer and is about to ask again. Raises where that is no use."""
        status, seconds = data.get("error_status"), float(data.get("retry_delay_ms") or 0) / 1000
        if status in _NO_USE:
            raise self._refusal(status, "")
        self._line.wait(seconds)
        if status in _SLOW:
            self._delay = seconds
            self._asking.refused(seconds)
        self._call.desk.retried(self._start.asks, self._refusal(status, ""), seconds)

    def _tell(self, role: str, content: Any) -> None:
        """Keep what was said. Blocks of one answer come one by one."""
        if isinstance(content, list):
            content = [{"type": _BLOCKS[type(block)], **asdict(block)} for block in content if type(block) in _BLOCKS]
        if self._told[-1]["role"] == role and isinstance(self._told[-1]["content"], list) and isinstance(content, list):
            self._told[-1]["content"] += content
        else:
            self._told.append({"role": role, "content": content})

    def _usage(self) -> dict[str, int]:
        """All tokens, also those of side tasks, which are in the result only."""
        counted = dict.fromkeys(("input_tokens", "output_tokens", "requests"), 0) | dict(self._used)
        models = self._models()
        kinds = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        taken = sum(model.get(kind) or 0 for model in models for kind in kinds)
        given = sum(model.get("outputTokens") or 0 for model in models)
        counted["input_tokens"] = max(counted["input_tokens"], taken)
        counted["output_tokens"] = max(counted["output_tokens"], given)
        return counted

    def _models(self) -> list[Mapping[str, Any]]:
        """What the result says of each model that was asked."""
        used: Mapping[str, Any] = (None if self._result is None else self._result.model_usage) or {}
        return list(used.values())

    def _cost(self) -> float | None:
        """Dollars by the program's own price list; nothing at a server that stands in, None where there is no price."""
        if not self._start.real:
            return 0.0
        result = self._result
        if result is None or any(model.get("costBasis") == "unknown" for model in self._models()):
            return None
        return result.total_cost_usd

    def _who(self) -> str:
        return f"agent {self._call.definition.name!r} asked model {self._start.asks!r}"

    def _failure(self, result: sdk.ResultMessage) -> FanfoldError:
        """The error for a result that is no answer."""
        reason = "; ".join(result.errors or []) or result.result or result.subtype
        said = shortened(masked(reason), LONGEST_REASON)
        name = self._call.definition.name
        match result.subtype:
            case "error_max_turns" if self._start.turns != self._call.definition.max_turns:
                return BudgetError(f"agent {name!r} was stopped: {said}, as there were no calls left for more")
            case "error_max_turns":
                return AgentError(f"agent {name!r} was stopped: {said}", hint="raise maxTurns in the agent's file")
            case "error_max_budget_usd":
                return BudgetError(f"agent {name!r} was stopped: {said}", hint="raise budget_usd in the agent's file")
            case "error_max_structured_output_retries":
                return ModelAnswerError(f"{self._who()}, and the answer cannot be used: {said}")
            case "success":
                return self._refusal(result.api_error_status, f": {said}")
        return AgentError(f"agent {name!r}: claude failed: {said}")

    def _refusal(self, status: int | None, said: str) -> ModelError:
        """The error for what the model's server answered; without a status it answered nothing, or not to its end."""
        who = self._who()
        if status in (401, 403):
            return ModelKeyError(
                f"{who}, and the key was refused ({status})", hint=f"check {key_variable(self._call.model)}"
            )
        if status == 429:
            return ModelRateError(f"{who} too often (429){said}", retry_after=self._delay)
        if status == 529:
            return ModelOverloadedError(f"{who}, which is overloaded (529){said}", retry_after=self._delay)
        if status is None and "/login" in said:
            return ModelKeyError(f"{who} without a key{said}", hint=f"check {key_variable(self._call.model)}")
        if status is None and (self._stream or "ECONNRESET" in said):
            return ModelCutError(f"{who}, which broke off in the middle of its answer{said}", hint="try again later")
        if status is None or status >= 500:
            how = f"failed on its own side ({status})" if status else "cannot be reached"
            return ModelUnavailableError(f"{who}, which {how}{said}", hint="try again later")
        return ModelRequestError(
            f"{who}, which refused the request ({status}){said}",
            hint="does the provider have a model of that name, and may this key use it?",
        )


@asynccontextmanager
async def session(call: Call, program: Program, start: Start, asking: Asking) -> AsyncIterator[Session]:
    """Tell a program its task. At the end it is told to let go of what it does, and not waited for."""
    line = Line(program, call)
    servers: Any = {TEAM: _team(call, line, asking)} if call.peers else {}
    options = sdk.ClaudeAgentOptions(mcp_servers=servers, verbatim_prompts=True)
    client = sdk.ClaudeSDKClient(options, transport=line)
    talk = Session(client, line, call, start, asking)
    try:
        await client.connect()
        await client.query(call.prompt)
        yield talk
    except FanfoldError:
        raise
    except Exception as error:  # noqa: BLE001 - the SDK raises that class itself, too; ours is raised below
        said = f"agent {call.definition.name!r}: claude cannot be talked to: {masked(str(error))}"
        raise_from(line.failure or AgentError(said), error, masked)
    finally:
        talk.settle()
        await _part(client, program)


async def _part(client: sdk.ClaudeSDKClient, program: Program) -> None:
    """Have the program let go of what it does: it ends its own requests and tools better than a signal does."""
    with suppress(Exception):
        if program.process.returncode is None:
            await asyncio.wait_for(client.interrupt(), PARTING)
    with suppress(Exception):
        await client.disconnect()


def _team(call: Call, line: Line, asking: Asking) -> sdk.McpSdkServerConfig:
    """The MCP server with the tool that asks other agents. It runs here, not in a process of its own."""
    names = [peer.name for peer in call.peers]
    texts = {"prompt": "What the agent is to do. It sees nothing else.", "description": "A few words for displays."}
    schema = {
        "type": "object",
        "properties": {
            "subagent_type": {"type": "string", "enum": names},
            **{name: {"type": "string", "description": text} for name, text in texts.items()},
        },
        "required": ["subagent_type", "prompt"],
    }
    whom = "\n".join(f"- {peer.name}: {peer.description}" for peer in call.peers)

    # The program runs tools one after the other unless they say that they change nothing.
    @sdk.tool(
        "task",
        f"Have another agent do something, and get its answer. Several in one message run at once.\n{whom}",
        schema,
        annotations=ToolAnnotations.model_validate({"readOnlyHint": True}),  # its name differs between versions
    )
    async def task(given: dict[str, Any]) -> dict[str, Any]:
        try:
            async with line.asked(), asking.lent():
                text = await call.desk.task(given["subagent_type"], given["prompt"], given.get("description", ""))
        except BudgetError as error:  # other errors are told to the model, but this one is the run's
            line.failure = error
            raise
        return {"content": [{"type": "text", "text": text}]}

    return sdk.create_sdk_mcp_server(TEAM, tools=[task])


def _is_out_of_memory(code: int, complaints: str) -> bool:
    """Whether a program that may not have more memory ended as such programs do: it says so, or it breaks down."""
    said = any(word in complaints.casefold() for word in ("memory", "limit may have been reached"))
    return said or code - 128 in (signal.SIGABRT, signal.SIGILL, signal.SIGTRAP, signal.SIGSEGV, signal.SIGBUS)


def _known(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if value is not None}
