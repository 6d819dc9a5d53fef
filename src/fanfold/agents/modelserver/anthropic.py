"""Anthropic's Messages protocol: `POST /v1/messages`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.agents.modelserver.values import Fail, Message, Request, Tool, ToolResult, ToolUse
from fanfold.agents.modelserver.wire import JSON, Conversation, event, inner, need, objects, pieces, text_of, want
from fanfold.errors import UsageError

NAME = "anthropic"

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def read(body: Mapping[str, Any]) -> Request:
    need(body, "max_tokens", int)
    talk = Conversation()
    talk.system.append(text_of(body, "system"))
    need(body, "messages", list)
    for place, message in objects(body, "messages"):
        _message(talk, place, message)
    choice = inner(body, "tool_choice")
    kind = choice.get("type", "auto")
    output = inner(inner(body, "output_config"), "format", "output_config.")
    return Request(
        protocol=NAME,
        model=need(body, "model", str),
        system="\n".join(filter(None, talk.system)),
        turns=talk.turns,
        tools=() if kind == "none" else tuple(_tools(body)),
        stream=want(body, "stream", False),
        must_call=kind in ("any", "tool"),
        forced=need(choice, "name", str, "tool_choice.") if kind == "tool" else None,
        output_schema=output.get("schema"),
        body=body,
    )


def whole(request: Request, said: Message) -> JSON:
    blocks: list[JSON] = [{"type": "text", "text": said.text}] if said.text else []
    blocks += [{"type": "tool_use", "id": use.id, "name": use.name, "input": use.input} for use in said.tool_uses]
    return {**_shell(request, said), "content": blocks, "stop_reason": _stop(said), "usage": _usage(said)}


def events(request: Request, said: Message) -> Iterator[bytes]:
    yield _event("message_start", message=_shell(request, said))
    if said.text:
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for piece in pieces(said.text):
            yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    if not said.complete:
        return
    if said.text:
        yield _event("content_block_stop", index=0)
    for index, use in enumerate(said.tool_uses, start=1 if said.text else 0):
        yield from _tool_events(index, use)
    yield _event("message_delta", delta={"stop_reason": _stop(said), "stop_sequence": None}, usage=_usage(said))
    yield _event("message_stop")


def error(fail: Fail, no: int) -> JSON:
    kind = _ERRORS.get(fail.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": fail.message}, "request_id": f"req_{no}"}


def broken(fail: Fail, no: int) -> bytes:
    return event(error(fail, no), "error")


def _message(talk: Conversation, place: str, message: JSON) -> None:
    role = need(message, "role", str, place)
    if role == "system":  # what a program tells of its surroundings: no part of the agent's own prompt, nor a turn
        text_of(message, "content", place)
    elif role not in ("user", "assistant"):
        raise UsageError(f"{place}role: must be 'user' or 'assistant', not {role!r}")
    elif isinstance(need(message, "content", object, place), str):
        talk.add(role, message["content"])
    else:
        blocks = list(objects(message, "content", place))
        spoken = (_spoken(block) for _, block in blocks)
        uses = [_use(at, block) for at, block in blocks if block.get("type") == "tool_use"]
        results = [_result(at, block) for at, block in blocks if block.get("type") == "tool_result"]
        talk.add(role, "\n".join(filter(None, spoken)), uses, results)


def _spoken(block: JSON) -> str:
    kind = block.get("type")
    if kind in ("tool_use", "tool_result", "thinking", "redacted_thinking"):
        return ""
    return str(block.get("text") or f"[{kind}]")


def _use(place: str, block: JSON) -> ToolUse:
    return ToolUse(need(block, "name", str, place), inner(block, "input", place), need(block, "id", str, place))


def _result(place: str, block: JSON) -> ToolResult:
    wrong = want(block, "is_error", False, place)
    return ToolResult(need(block, "tool_use_id", str, place), text_of(block, "content", place), is_error=wrong)


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for place, tool in objects(body, "tools"):
        if "input_schema" in tool:  # the others run on the vendor's side
            yield Tool(need(tool, "name", str, place), want(tool, "description", "", place), tool["input_schema"])


def _shell(request: Request, said: Message) -> JSON:
    return {
        "id": f"msg_{said.no}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_usage(said), "output_tokens": 1},
    }


def _usage(said: Message) -> JSON:
    taken, given = said.usage
    return {
        "input_tokens": taken,
        "output_tokens": given,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _stop(said: Message) -> str:
    return "tool_use" if said.tool_uses else "end_turn"


def _tool_events(index: int, use: ToolUse) -> Iterator[bytes]:
    block = {"type": "tool_use", "id": use.id, "name": use.name, "input": {}}
    yield _event("content_block_start", index=index, content_block=block)
    for piece in pieces(json.dumps(use.input)):
        yield _event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
    yield _event("content_block_stop", index=index)


def _event(kind: str, **facts: Any) -> bytes:
    return event({"type": kind, **facts}, kind)
