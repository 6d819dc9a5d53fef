"""How models are asked: what leaves here over the OpenAI protocol."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, NotGiven, Omit, PermissionDeniedError
from openai.resources.chat.completions import AsyncCompletions

from fanfold.agents.backends.connections import as_given

IMAGE = {"url": "data:image/png;base64,AAAA", "detail": "low"}
CALL = {"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}}
FILE = {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

MESSAGES = [
    {"role": "system", "content": "be one"},
    {"role": "developer", "content": "be two"},
    {"role": "user", "content": "what?", "name": "ann"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": IMAGE},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": FILE},
        ],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "not in their types"},
    {"role": "tool", "tool_call_id": "1", "content": "done"},
    {"role": "assistant", "content": [{"type": "text", "text": "that"}], "refusal": None},
]
ASKED: list[dict[str, Any]] = [
    {"messages": MESSAGES},
    {"messages": MESSAGES[:1], "stream": True, "stream_options": {"include_usage": True}},
    {
        "messages": MESSAGES[:3],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "read"}},
        "parallel_tool_calls": True,
    },
    {
        "messages": MESSAGES[:1],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
    },
    {
        "messages": MESSAGES[:1],
        "temperature": 0.0,
        "max_completion_tokens": 7,
        "reasoning_effort": "low",
        "stop": ["a", "b"],
        "seed": Omit(),
        "user": Omit(),
        "timeout": NotGiven(),
        "logit_bias": {"50256": -100},
        "prediction": {"type": "content", "content": "x"},
        "extra_headers": {"x-mine": "1"},
        "extra_query": {"version": "2"},
        "extra_body": {"thinking": False},
    },
    {"messages": MESSAGES[:1], "timeout": None, "extra_headers": None, "extra_body": None, "extra_query": None},
    {"messages": MESSAGES[:1], "timeout": 3.0},
]


def sent(completions: Any, asked: dict[str, Any]) -> tuple[str, dict[str, str], Any, Any]:
    """What a request comes to: where it goes, its headers, its body, and its time limits."""
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(403, json={})

    async def ask() -> None:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        async with AsyncOpenAI(api_key="k", base_url="http://m/v1", max_retries=0, http_client=http) as client:
            with pytest.raises(PermissionDeniedError):
                await completions(client).create(model="m", **asked)

    asyncio.run(ask())
    (request,) = requests
    return str(request.url), dict(request.headers), json.loads(request.content), request.extensions.get("timeout")


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_sent_as_it_is_given_is_what_the_vendors_client_sends(asked: dict[str, Any]) -> None:
    url, headers, body, timeout = sent(AsyncCompletions, asked)
    assert body["messages"] == asked["messages"]
    ours = sent(as_given(), asked)
    assert (ours[0], ours[2], ours[3]) == (url, {"stream": False, **body}, timeout)
    assert {**ours[1], "content-length": ""} == {**headers, "content-length": ""}
