"""OpenAI's Chat Completions protocol: `POST /v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.agents.modelserver.values import Fail, Message, Request, Tool, ToolResult, ToolUse
from fanfold.agents.modelserver.wire import (
    JSON,
    Conversation,
    arguments,
    event,
    inner,
    need,
    objects,
    pieces,
    text_of,
    want,
)
from fanfold.errors import UsageError

NAME = "openai-chat"

_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def read(body: Mapping[str, Any]) -> Request:
    talk = Conversation()
    need(body, "messages", list)
    for place, message in objects(body, "messages"):
        _message(talk, place, message)
    must_call, forced = choice(body, "function")
    shape = inner(inner(body, "response_format"), "json_schema", "response_format.")
    return Request(
        protocol=NAME,
        model=need(body, "model", str),
        system="\n".join(filter(None, talk.system)),
        turns=talk.turns,
        tools=() if body.get("tool_choice") == "none" else tuple(_tools(body)),
        stream=want(body, "stream", False),
        must_call=must_call,
        forced=forced,
        output_schema=shape.get("schema"),
        body=body,
    )


def whole(request: Request, said: Message) -> JSON:
    message: JSON = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.tool_uses:
        message["tool_calls"] = [_call(use, json.dumps(use.input)) for use in said.tool_uses]
    choices = [{"index": 0, "message": message, "finish_reason": _finish(said), "logprobs": None}]
    return {**_shell(request, said, "chat.completion"), "choices": choices, "usage": _usage(said)}


def events(request: Request, said: Message) -> Iterator[bytes]:
    yield _chunk(request, said, {"role": "assistant", "content": ""})
    for piece in pieces(said.text):
        yield _chunk(request, said, {"content": piece})
    if not said.complete:
        return
    for index, use in enumerate(said.tool_uses):
        yield _chunk(request, said, {"tool_calls": [{"index": index, **_call(use, "")}]})
        for piece in pieces(json.dumps(use.input)):
            yield _chunk(request, said, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk(request, said, {}, _finish(said))
    if inner(request.body, "stream_options").get("include_usage"):
        shell = _shell(request, said, "chat.completion.chunk")
        yield event({**shell, "choices": [], "usage": _usage(said)})
    yield b"data: [DONE]\n\n"


def error(fail: Fail, no: int) -> JSON:
    """OpenAI's error has no room for a number."""
    kind, code = _ERRORS.get(fail.status, ("server_error", None))
    return {"error": {"message": fail.message, "type": kind, "param": None, "code": code}}


def broken(fail: Fail, no: int) -> bytes:
    return event(error(fail, no))


def choice(body: Mapping[str, Any], inside: str = "") -> tuple[bool, str | None]:
    """Whether a tool must be called, and which; `inside` is the object that holds the name."""
    chosen = body.get("tool_choice")
    if not isinstance(chosen, dict):
        return chosen == "required", None
    if chosen.get("type") != "function":  # a list of tools that are allowed
        return chosen.get("mode") == "required", None
    holder = need(chosen, inside, dict, "tool_choice.") if inside else chosen
    return True, need(holder, "name", str, "tool_choice.")


def _message(talk: Conversation, place: str, message: JSON) -> None:
    role = need(message, "role", str, place)
    text = text_of(message, "content", place)
    if role in ("system", "developer"):
        talk.system.append(text)
    elif role == "tool":
        talk.add("user", results=[ToolResult(need(message, "tool_call_id", str, place), text)])
    elif role == "assistant":
        talk.add(role, text, [_use(at, each) for at, each in objects(message, "tool_calls", place)])
    elif role == "user":
        talk.add(role, text)
    else:
        raise UsageError(f"{place}role: must be system, developer, user, assistant or tool, not {role!r}")


def _use(place: str, call: JSON) -> ToolUse:
    function = need(call, "function", dict, place)
    name = need(function, "name", str, f"{place}function.")
    return ToolUse(name, arguments(function, f"{place}function."), need(call, "id", str, place))


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for place, tool in objects(body, "tools"):
        if tool.get("type") == "function":
            function, at = need(tool, "function", dict, place), f"{place}function."
            schema = inner(function, "parameters", at)
            yield Tool(need(function, "name", str, at), want(function, "description", "", at), schema)


def _call(use: ToolUse, text: str) -> JSON:
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": text}}


def _shell(request: Request, said: Message, kind: str) -> JSON:
    return {"id": f"chatcmpl-{said.no}", "object": kind, "created": said.at, "model": request.model}


def _usage(said: Message) -> JSON:
    taken, given = said.usage
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}


def _finish(said: Message) -> str:
    return "tool_calls" if said.tool_uses else "stop"


def _chunk(request: Request, said: Message, delta: JSON, finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    return event({**_shell(request, said, "chat.completion.chunk"), "choices": choices, "usage": None})
