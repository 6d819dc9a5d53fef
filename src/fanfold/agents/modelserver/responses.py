"""OpenAI's Responses protocol: `POST /v1/responses`. Nothing is stored: each call brings its whole conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from fanfold.agents.modelserver.chat import choice, error
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

__all__ = ["NAME", "broken", "error", "events", "read", "whole"]

NAME = "openai-responses"


def read(body: Mapping[str, Any]) -> Request:
    if body.get("previous_response_id") or body.get("conversation"):
        raise UsageError("previous_response_id: this server keeps no responses; send the whole input")
    talk = Conversation()
    talk.system.append(text_of(body, "instructions"))
    if isinstance(need(body, "input", object), str):
        talk.add("user", body["input"])
    else:
        for place, item in objects(body, "input"):
            _item(talk, place, item)
    must_call, forced = choice(body)
    shape = inner(inner(body, "text"), "format", "text.")
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
    output = [_text_item(said, said.text)] if said.text else []
    output += [_call_item(use, json.dumps(use.input)) for use in said.tool_uses]
    return {**_shell(request, said), "status": "completed", "output": output, "usage": _usage(said)}


def events(request: Request, said: Message) -> Iterator[bytes]:
    numbers = count()
    for kind, facts in _events(request, said):
        yield event({"type": kind, "sequence_number": next(numbers), **facts}, kind)


def broken(fail: Fail, no: int) -> bytes:
    said = error(fail, no)["error"]
    facts = {"code": said["code"] or said["type"], "message": fail.message, "param": None, "sequence_number": 0}
    return event({"type": "error", **facts}, "error")


def _events(request: Request, said: Message) -> Iterator[tuple[str, JSON]]:
    yield "response.created", {"response": _shell(request, said)}
    yield "response.in_progress", {"response": _shell(request, said)}
    if said.text:
        yield from _text_events(said)
    if not said.complete:
        return
    for index, use in enumerate(said.tool_uses, start=1 if said.text else 0):
        yield from _call_events(index, use)
    yield "response.completed", {"response": whole(request, said)}


def _text_events(said: Message) -> Iterator[tuple[str, JSON]]:
    item = _text_item(said, said.text)
    part: JSON = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    yield "response.output_item.added", {"output_index": 0, "item": begun}
    yield "response.content_part.added", {**part, "part": {**item["content"][0], "text": ""}}
    for piece in pieces(said.text):
        yield "response.output_text.delta", {**part, "delta": piece, "logprobs": []}
    if said.complete:
        yield "response.output_text.done", {**part, "text": said.text, "logprobs": []}
        yield "response.content_part.done", {**part, "part": item["content"][0]}
        yield "response.output_item.done", {"output_index": 0, "item": item}


def _call_events(index: int, use: ToolUse) -> Iterator[tuple[str, JSON]]:
    text = json.dumps(use.input)
    item = _call_item(use, text)
    part = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"output_index": index, "item": begun}
    for piece in pieces(text):
        yield "response.function_call_arguments.delta", {**part, "delta": piece}
    yield "response.function_call_arguments.done", {**part, "name": use.name, "arguments": text}
    yield "response.output_item.done", {"output_index": index, "item": item}


def _item(talk: Conversation, place: str, item: JSON) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role, text = need(item, "role", str, place), text_of(item, "content", place)
        if role in ("system", "developer"):
            talk.system.append(text)
        elif role in ("user", "assistant"):
            talk.add(role, text)
        else:
            raise UsageError(f"{place}role: must be system, developer, user or assistant, not {role!r}")
    elif kind == "function_call":
        ident, name = need(item, "call_id", str, place), need(item, "name", str, place)
        talk.add("assistant", uses=[ToolUse(name, arguments(item, place), ident)])
    elif kind == "function_call_output":
        ident = need(item, "call_id", str, place)
        talk.add("user", results=[ToolResult(ident, text_of(item, "output", place))])
    elif kind != "reasoning":
        talk.add("assistant", f"[{kind}]")


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for place, tool in objects(body, "tools"):
        if tool.get("type") == "function":
            schema = inner(tool, "parameters", place)
            yield Tool(need(tool, "name", str, place), want(tool, "description", "", place), schema)


def _shell(request: Request, said: Message) -> JSON:
    return {
        "id": f"resp_{said.no}",
        "object": "response",
        "created_at": said.at,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": request.body.get("instructions"),
        "max_output_tokens": request.body.get("max_output_tokens"),
        "metadata": {},
        "model": request.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": request.body.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.body.get("tool_choice") or "auto",
        "tools": request.body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _text_item(said: Message, text: str) -> JSON:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "id": f"item_{said.no}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def _call_item(use: ToolUse, text: str) -> JSON:
    return {
        "id": f"fc_{use.id}",
        "type": "function_call",
        "status": "completed",
        "call_id": use.id,
        "name": use.name,
        "arguments": text,
    }


def _usage(said: Message) -> JSON:
    taken, given = said.usage
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }
