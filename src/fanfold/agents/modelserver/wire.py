"""What the three wire modules share: reading a vendor's JSON with care, and the form of an event stream.

Each of the modules `anthropic`, `chat` and `responses` is a `Wire`. A body that cannot be understood raises
`UsageError`, whose message names the field; the server makes a 400 of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fanfold.agents.modelserver.values import Fail, Message, Request, ToolResult, ToolUse, Turn
from fanfold.errors import UsageError

JSON = dict[str, Any]

_T = TypeVar("_T")
_PIECE = 24  # characters of one event of a stream; small, so that clients meet answers in pieces


class Wire(Protocol):
    """One vendor's protocol."""

    NAME: str

    def read(self, body: Mapping[str, Any]) -> Request:
        """The request, without agent and task: those are in headers."""
        ...

    def whole(self, request: Request, said: Message) -> JSON:
        """The answer in one piece."""
        ...

    def events(self, request: Request, said: Message) -> Iterator[bytes]:
        """The answer as server-sent events; up to the end of its text when it is not complete."""
        ...

    def error(self, fail: Fail, no: int) -> JSON:
        """The body of an error."""
        ...

    def broken(self, fail: Fail, no: int) -> bytes:
        """The event of an error in a stream that has begun."""
        ...


class Conversation:
    """Puts turns together: the vendors differ in how they cut one turn into messages."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self._turns: list[Turn] = []
        self._tools: dict[str, str] = {}

    def add(self, role: str, text: str = "", uses: Sequence[ToolUse] = (), results: Sequence[ToolResult] = ()) -> None:
        """Append to the last turn if it goes on, else begin a new one."""
        self._tools.update((use.id, use.name) for use in uses)
        named = tuple(ToolResult(each.id, each.text, self._tools.get(each.id, ""), each.is_error) for each in results)
        if self._goes_on(role, text, named):
            last = self._turns.pop()
            text = "\n".join(filter(None, (last.text, text)))
            uses, named = (*last.tool_uses, *uses), (*last.tool_results, *named)
        self._turns.append(Turn(role, text, tuple(uses), named))

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    def _goes_on(self, role: str, text: str, results: tuple[ToolResult, ...]) -> bool:
        if not self._turns or self._turns[-1].role != role:
            return False
        only_results = bool(results) and not text and bool(self._turns[-1].tool_results)
        return role == "assistant" or only_results


def need(where: Mapping[str, Any], key: str, kind: type[_T], place: str = "") -> _T:
    """The value of a required field."""
    if key not in where:
        raise UsageError(f"{place}{key}: this field is required")
    value = where[key]
    if not isinstance(value, kind):
        raise UsageError(f"{place}{key}: must be {_name(kind)}, not {_name(type(value))}")
    return value


def want(where: Mapping[str, Any], key: str, default: _T, place: str = "") -> _T:
    """The value of an optional field, of the default's type; null is the default."""
    return default if where.get(key) is None else need(where, key, type(default), place)


def inner(where: Mapping[str, Any], key: str, place: str = "") -> JSON:
    """The value of an optional field that is an object; empty when it is absent."""
    absent: JSON = {}
    return want(where, key, absent, place)


def objects(where: Mapping[str, Any], key: str, place: str = "") -> Iterator[tuple[str, JSON]]:
    """The members of a list of objects, each with its place as the vendors write it: `messages.0.`."""
    absent: list[Any] = []
    for index, member in enumerate(want(where, key, absent, place)):
        if not isinstance(member, dict):
            raise UsageError(f"{place}{key}.{index}: must be an object, not {_name(type(member))}")
        yield f"{place}{key}.{index}.", member


def text_of(where: Mapping[str, Any], key: str, place: str = "") -> str:
    """The text of a field that is a string, null, or a list of parts. A part without text is named by its type."""
    content = where.get(key)
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise UsageError(f"{place}{key}: must be a string or a list, not {_name(type(content))}")
    parts = (part.get("text") or f"[{part.get('type', 'part')}]" for _, part in objects(where, key, place))
    return "\n".join(map(str, parts))


def arguments(where: Mapping[str, Any], place: str) -> JSON:
    """The input of a tool call that the vendor sends as a string of JSON."""
    raw = want(where, "arguments", "", place) or "{}"
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise UsageError(f"{place}arguments: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{place}arguments: must be the JSON of an object")
    return value


def pieces(text: str) -> Iterator[str]:
    """The text in the pieces in which it is streamed."""
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def event(data: JSON, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _name(kind: type) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(kind, "a number" if kind in (int, float) else kind.__name__)
