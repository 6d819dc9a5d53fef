"""A transcript as people read it: who said what, whichever backend wrote it down.

The forms are told apart message by message, by what is in them: pydantic-ai's requests and responses, the messages of
model APIs (`role` and `content`) and of programs that wrap one in a line, the lines of Codex and of opencode, the JSON
lines of other programs, and the updates of agents that speak ACP. What is in none of these forms is shown as the data
that it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said. `who` is "system", "user", "agent", "thinks", "calls ...", "... returns" or "note"."""

    who: str
    text: str


def turns(messages: Iterable[Mapping[str, Any]]) -> Iterator[Turn]:
    """What was said in a transcript, in order. Instructions that a request only repeats are told once."""
    told = ""
    for message in messages:
        for turn in _turns(message):
            if turn.who == "system" and turn.text == told:
                continue
            told = turn.text if turn.who == "system" else told
            yield turn


def _turns(message: Mapping[str, Any]) -> Iterator[Turn]:
    if "left_out" in message:
        yield Turn("note", f"{message['left_out']} left out")
    elif isinstance(message.get("parts"), list):
        yield from _pydantic_ai(message)
    elif isinstance(message.get("message"), Mapping):
        yield from _turns({"role": message.get("type", "agent"), **message["message"]})
    elif "role" in message or ("content" in message and message.get("type") in ("assistant", "user")):
        role = str(message.get("role", message.get("type")))
        yield from _spoken(_WHO.get(role, role), message)
    elif isinstance(message.get("item"), Mapping):
        yield from _codex(str(message.get("type")), message["item"])
    elif isinstance(message.get("part"), Mapping):
        yield from _opencode(str(message.get("type")), message["part"])
    elif update := message.get("sessionUpdate") or message.get("session_update"):
        yield from _acp(str(update), message)
    else:
        yield _line(message)


_WHO: Final = {"assistant": "agent", "model": "agent", "developer": "system", "human": "user"}


# pydantic-ai: requests and responses of parts.


def _pydantic_ai(message: Mapping[str, Any]) -> Iterator[Turn]:
    if message.get("instructions"):
        yield Turn("system", _text(message["instructions"]))
    for part in _tables(message["parts"]):
        kind = str(part.get("part_kind", ""))
        name = part.get("tool_name")
        if kind.endswith("tool-call"):
            yield _call(name, part.get("args"))
        elif kind.endswith("tool-return") or (kind == "retry-prompt" and name):
            yield Turn(f"{name} returns", _text(part.get("content")))
        elif text := _text(part.get("content")):
            yield Turn(_PARTS.get(kind, kind or "note"), text)


_PARTS: Final = {
    "system-prompt": "system",
    "user-prompt": "user",
    "retry-prompt": "user",
    "text": "agent",
    "thinking": "thinks",
}


# The APIs of models: a role, and a text or blocks.


def _spoken(who: str, message: Mapping[str, Any]) -> Iterator[Turn]:
    content = message.get("content")
    for block in content if isinstance(content, list) else [content]:
        yield from _block("tool returns" if who == "tool" else who, block)
    for call in _tables(message.get("tool_calls")):
        (function,) = _tables([call.get("function")]) or [call]
        yield _call(function.get("name"), function.get("arguments"))


def _block(who: str, block: Any) -> Iterator[Turn]:
    if not isinstance(block, Mapping):
        if block:
            yield Turn(who, _text(block))
    elif "thinking" in block:
        yield Turn("thinks", _text(block["thinking"]))
    elif "input" in block and "name" in block:
        yield _call(block["name"], block["input"])
    elif "tool_use_id" in block:
        yield Turn("tool returns", _text(block.get("content")))
    else:
        yield Turn(who, _text(block))


# Programs: Codex, opencode, JSON lines, and the updates of ACP.


def _codex(event: str, item: Mapping[str, Any]) -> Iterator[Turn]:
    """One item of Codex; what has only begun is told when it is done."""
    kind = item.get("type")
    if event != "item.completed":
        return
    if kind in ("agent_message", "reasoning"):
        yield Turn("agent" if kind == "agent_message" else "thinks", _text(item.get("text")))
    elif kind == "command_execution":
        yield _call("shell", item.get("command"))
        yield Turn("shell returns", _text(item.get("aggregated_output")))
    elif kind == "mcp_tool_call":
        yield _call(f"mcp__{item.get('server')}__{item.get('tool')}", item.get("arguments"))
        yield Turn("tool returns", _text(item.get("result")))
    else:
        yield Turn(str(kind), _data({key: value for key, value in item.items() if key not in ("type", "id")}))


def _opencode(event: str, part: Mapping[str, Any]) -> Iterator[Turn]:
    """One part of opencode's answer; where its steps begin and end says nothing."""
    if event in ("text", "reasoning"):
        yield Turn("agent" if event == "text" else "thinks", _text(part.get("text")))
    elif event == "tool_use":
        (state,) = _tables([part.get("state")]) or [{}]
        yield _call(part.get("tool"), state.get("input"))
        yield Turn(f"{part.get('tool')} returns", _text(state.get("output", state.get("error"))))
    elif not event.startswith("step_"):
        yield Turn(event, _data(part))


def _line(message: Mapping[str, Any]) -> Turn:
    kind = message.get("type")
    if kind == "tool":
        return _call(message.get("name", message.get("kind")), message.get("detail", message.get("title")))
    if kind == "result":
        return Turn("agent", _text(message.get("output", message.get("result"))))
    if kind == "message":
        return Turn("agent", _text(message.get("text")))
    rest = {key: value for key, value in message.items() if key != "type"}
    return Turn(str(kind or "note"), _data(rest))


def _acp(update: str, message: Mapping[str, Any]) -> Iterator[Turn]:
    if update.endswith("_chunk"):
        yield Turn(_CHUNKS.get(update, update), _text(message.get("content")))
    elif update == "tool_call":
        yield _call(message.get("title") or message.get("kind"), message.get("rawInput", message.get("raw_input")))
    elif update == "tool_call_update":
        if message.get("content"):
            yield Turn("tool returns", _text(message["content"]))
    else:
        yield Turn(update, _data({key: value for key, value in message.items() if key.casefold() != "sessionupdate"}))


_CHUNKS: Final = {
    "agent_message_chunk": "agent",
    "agent_thought_chunk": "thinks",
    "user_message_chunk": "user",
}


# What they share.


def _tables(value: Any) -> list[Mapping[str, Any]]:
    """What of a list are mappings, as all of it should be."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _call(name: Any, arguments: Any) -> Turn:
    if arguments in (None, "", {}):
        text = ""
    elif isinstance(arguments, str):
        text = arguments
    else:
        text = _data(arguments)
    return Turn(f"calls {name}", text)


def _text(value: Any) -> str:
    """The text of a content: itself, that of its blocks, or the data that it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        for key in ("text", "content"):
            if isinstance(value.get(key), str | list | Mapping):
                return _text(value[key])
    return "" if value is None else _data(value)


def _data(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
