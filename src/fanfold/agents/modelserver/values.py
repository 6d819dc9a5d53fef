"""What a model is asked and what it answers, in one form for all vendors.

The wire modules (`anthropic`, `chat`, `responses`) turn a vendor's JSON into a `Request` and an answer back into the
vendor's JSON. Scripts, the rehearsal and the journal know only the values of this page.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model asks for one call of a tool. The server gives it an `id` when the script did not."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What one call of a tool returned. Only Anthropic's protocol can say `is_error`."""

    id: str
    text: str
    name: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation; `role` is "user" or "assistant". Tool results are the user's."""

    role: str
    text: str = ""
    tool_uses: tuple[ToolUse, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call; `schema` is the JSON schema of its input."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the model. `body` is the vendor's own JSON, for what the neutral form leaves out.

    `headers` are those of the call, in lower case, without the ones that hold a key.
    """

    protocol: str  # "anthropic", "openai-chat" or "openai-responses"
    model: str = ""
    agent: str = ""
    task: str = ""
    system: str = ""
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    stream: bool = False
    must_call: bool = False  # text alone is not accepted as an answer
    forced: str | None = None  # the one tool that must be called now
    output_schema: Mapping[str, Any] | None = None  # the text must be JSON of this schema
    body: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def prompt(self) -> str:
        """What the user said last, apart from tool results."""
        said = (turn.text for turn in reversed(self.turns) if turn.role == "user" and not turn.tool_results)
        return next(said, "")


@dataclass(frozen=True, slots=True)
class Answer:
    """Text, tool calls or both, after `latency` seconds. `usage` is tokens (in, out); None is an estimate."""

    text: str = ""
    tool_uses: Iterable[ToolUse] = ()
    latency: float = 0.0
    usage: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tool_uses", tuple(self.tool_uses))


@dataclass(frozen=True, slots=True)
class Fail:
    """An error in the vendor's shape. `retry=False` tells the vendor's SDK that trying again is no use.

    With `after`, and when the call is streamed, it comes inside of an answer that has begun well, after that text.
    """

    status: int = 500
    message: str = ""
    retry_after: float | None = None
    retry: bool | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Says nothing more, after `after` when the call is streamed, until the client or the server goes."""

    after: str = ""


@dataclass(frozen=True, slots=True)
class CutStream:
    """Breaks the connection in the middle of an answer: after `after` when the call is streamed.

    With `politely` a stream ends there as if that were all of it.
    """

    after: str = ""
    politely: bool = False


Reply: TypeAlias = Answer | Fail | Stall | CutStream
"""What may be the fate of one call."""


@dataclass(frozen=True, slots=True)
class Message:
    """An answer as it goes over the wire: numbered, its tool calls named, its tokens counted.

    One that is not `complete` ends after its text, as if the server had died there.
    """

    no: int
    text: str
    tool_uses: tuple[ToolUse, ...]
    usage: tuple[int, int]
    at: int  # seconds since 1970
    complete: bool = True


def message(request: Request, answer: Answer, no: int, *, complete: bool = True) -> Message:
    """The answer with what the wire needs besides. An id is unique in its server and in its conversation."""
    turn = len(request.turns)
    uses = tuple(
        ToolUse(use.name, use.input, use.id or f"call_{no}_{turn}_{place}")
        for place, use in enumerate(answer.tool_uses)
    )
    return Message(no, answer.text, uses, answer.usage or estimate(request, answer), int(time.time()), complete)


def estimate(request: Request, answer: Answer) -> tuple[int, int]:
    """Tokens in and out: a quarter of the characters. An estimate, so that displays have something to show."""
    asked = len(request.system) + sum(map(_size, request.turns))
    asked += sum(len(tool.name) + len(tool.description) + len(str(tool.schema)) for tool in request.tools)
    answered = _size(Turn("assistant", answer.text, tuple(answer.tool_uses)))
    return max(1, asked // 4), max(1, answered // 4)


def _size(turn: Turn) -> int:
    uses = sum(len(use.name) + len(str(use.input)) for use in turn.tool_uses)
    return len(turn.text) + uses + sum(len(result.text) for result in turn.tool_results)
