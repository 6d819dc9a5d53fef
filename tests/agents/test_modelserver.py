"""The model server as the vendors' own SDKs see it, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import anthropic
import httpx2
import openai
import pytest

from fanfold.agents.modelserver import (
    Answer,
    CutStream,
    Fail,
    ModelServer,
    Request,
    Stall,
    ToolUse,
    read_journal,
    rehearse,
)
from fanfold.errors import CorruptRecordError, UsageError

PROMPT = [{"role": "user", "content": "What is in a.py?"}]
READ = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if re.match(r"ANTHROPIC_|OPENAI_|CLAUDE_|(?:HTTPS?|ALL|NO)_PROXY$", name, re.IGNORECASE):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def claude(server: ModelServer, agent: str = "reader", **options: Any) -> anthropic.Anthropic:
    headers = {"x-fanfold-agent": agent, **options.pop("headers", {})}
    options = {"api_key": "made-up", "max_retries": 0, **options}
    return anthropic.Anthropic(base_url=server.url, default_headers=headers, **options)


def gpt(server: ModelServer, agent: str = "reader", **options: Any) -> openai.OpenAI:
    headers = {"x-fanfold-agent": agent, **options.pop("headers", {})}
    options = {"api_key": "made-up", "max_retries": 0, **options}
    return openai.OpenAI(base_url=server.openai_url, default_headers=headers, **options)


# Each protocol, as a function that asks and one that streams; both return the text.
Ask: TypeAlias = Callable[..., str]


def ask_claude(server: ModelServer, **options: Any) -> str:
    with claude(server, **options) as client:
        said = client.messages.create(model="m", max_tokens=100, messages=PROMPT)
    return "".join(block.text for block in said.content if block.type == "text")


def ask_chat(server: ModelServer, **options: Any) -> str:
    with gpt(server, **options) as client:
        return client.chat.completions.create(model="m", messages=PROMPT).choices[0].message.content or ""


def ask_responses(server: ModelServer, **options: Any) -> str:
    with gpt(server, **options) as client:
        return client.responses.create(model="m", input=PROMPT).output_text


def stream_claude(server: ModelServer, **options: Any) -> str:
    with claude(server, **options) as client, client.messages.stream(**CLAUDE_CALL) as stream:
        return "".join(stream.text_stream)


def stream_chat(server: ModelServer, **options: Any) -> str:
    with gpt(server, **options) as client:
        chunks = client.chat.completions.create(model="m", messages=PROMPT, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def stream_responses(server: ModelServer, **options: Any) -> str:
    with gpt(server, **options) as client:
        events = client.responses.create(model="m", input=PROMPT, stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")


CLAUDE_CALL: Any = {"model": "m", "max_tokens": 100, "messages": PROMPT}
WHOLE = pytest.mark.parametrize("ask", [ask_claude, ask_chat, ask_responses])
STREAMED = pytest.mark.parametrize("ask", [stream_claude, stream_chat, stream_responses])
EITHER = pytest.mark.parametrize(
    "ask", [ask_claude, ask_chat, ask_responses, stream_claude, stream_chat, stream_responses]
)
BROKEN = (anthropic.APIConnectionError, openai.APIConnectionError, httpx2.RemoteProtocolError)


# What is said.


@EITHER
def test_a_scripted_text_arrives_as_it_was_written(server: ModelServer, ask: Ask) -> None:
    text = "It holds one function, and a line with ünïcode: — “quoted”, and\nanother line."
    server.script("reader", [text])
    assert ask(server) == text


def test_anthropic_streams_text_tools_and_usage(server: ModelServer) -> None:
    uses = [ToolUse("read", {"path": "ä.py"}), ToolUse("read", {"path": "b.py", "limit": 20})]
    server.script("reader", [Answer("Let me look at both of these files.", uses, usage=(321, 45))])
    with claude(server) as client, client.messages.stream(**CLAUDE_CALL) as stream:
        said = stream.get_final_message()
    assert [block.type for block in said.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in said.content if block.type == "tool_use"] == [use.input for use in uses]
    assert (said.stop_reason, said.usage.input_tokens, said.usage.output_tokens) == ("tool_use", 321, 45)


def test_chat_streams_text_tools_and_usage(server: ModelServer) -> None:
    uses = [ToolUse("read", {"path": "ä.py"}), ToolUse("read", {"path": "b.py", "limit": 20})]
    server.script("reader", [Answer("Let me look.", uses, usage=(321, 45))])
    call: Any = {"model": "m", "messages": PROMPT, "stream_options": {"include_usage": True}}
    with gpt(server) as client, client.chat.completions.stream(**call) as stream:
        said = stream.get_final_completion()
    calls = said.choices[0].message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [use.input for use in uses]
    assert (said.choices[0].finish_reason, said.choices[0].message.content) == ("tool_calls", "Let me look.")
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (321, 45)


def test_responses_streams_text_tools_and_usage(server: ModelServer) -> None:
    uses = [ToolUse("read", {"path": "ä.py"}), ToolUse("read", {"path": "b.py", "limit": 20})]
    server.script("reader", [Answer("Let me look.", uses, usage=(321, 45))])
    with gpt(server) as client, client.responses.stream(model="m", input="hi") as stream:
        said = stream.get_final_response()
    calls = [item for item in said.output if item.type == "function_call"]
    assert said.output_text == "Let me look."
    assert [json.loads(call.arguments) for call in calls] == [use.input for use in uses]
    assert said.usage is not None
    assert (said.usage.input_tokens, said.usage.output_tokens, said.status) == (321, 45, "completed")


# A tool call and its result, there and back.


def test_anthropic_tool_results_come_back_with_the_name_of_their_tool(server: ModelServer) -> None:
    server.script("reader", [ToolUse("read", {"path": "a.py"}), "done"])
    tools: Any = [{"name": "read", "description": "Reads.", "input_schema": READ}]
    with claude(server) as client:
        first = client.messages.create(**CLAUDE_CALL, system="You read.", tools=tools)
        use = first.content[0]
        assert use.type == "tool_use"
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "1\tx = 1", "is_error": True}
        turns: Any = [*PROMPT, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        client.beta.messages.create(model="m", max_tokens=9, messages=turns, tools=tools)
    _assert_round_trip(server, is_error=True)


def test_chat_tool_results_come_back_with_the_name_of_their_tool(server: ModelServer) -> None:
    server.script("reader", [ToolUse("read", {"path": "a.py"}), "done"])
    tools: Any = [{"type": "function", "function": {"name": "read", "parameters": READ}}]
    with gpt(server) as client:
        first = client.chat.completions.create(model="m", messages=PROMPT, tools=tools).choices[0].message
        assert first.tool_calls
        result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "1\tx = 1"}
        turns: Any = [*PROMPT, first.model_dump(exclude_none=True), result]
        client.chat.completions.create(model="m", messages=turns, tools=tools)
    _assert_round_trip(server)


def test_responses_tool_results_come_back_with_the_name_of_their_tool(server: ModelServer) -> None:
    server.script("reader", [ToolUse("read", {"path": "a.py"}), "done"])
    tools: Any = [{"type": "function", "name": "read", "parameters": READ, "strict": False}]
    with gpt(server) as client:
        use = client.responses.create(model="m", input=PROMPT, tools=tools).output[0]
        assert use.type == "function_call"
        result = {"type": "function_call_output", "call_id": use.call_id, "output": "1\tx = 1"}
        items: Any = [*PROMPT, use.model_dump(exclude_none=True), result]
        client.responses.create(model="m", input=items, tools=tools)
    _assert_round_trip(server)


def _assert_round_trip(server: ModelServer, *, is_error: bool = False) -> None:
    first, second = server.journal
    assert (first.tools, first.tool_uses[0].name, first.text) == (("read",), "read", "")
    user, assistant, results = second.messages
    assert user.text == "What is in a.py?"
    assert assistant.tool_uses == first.tool_uses
    (result,) = results.tool_results
    assert (result.name, result.text, result.is_error) == ("read", "1\tx = 1", is_error)
    assert second.text == "done"


# Errors.


@WHOLE
@pytest.mark.parametrize(
    ("status", "name"),
    [(400, "BadRequestError"), (401, "AuthenticationError"), (429, "RateLimitError"), (500, "InternalServerError")],
)
def test_an_error_is_the_sdks_own_exception(server: ModelServer, ask: Ask, status: int, name: str) -> None:
    server.script("reader", [Fail(status, "because the script says so")])
    with pytest.raises((anthropic.APIStatusError, openai.APIStatusError), match="because the script") as caught:
        ask(server)
    assert type(caught.value).__name__ == name
    assert [(call.status, call.code) for call in server.journal] == [("failed", status)]


@EITHER
def test_a_429_carries_its_retry_after(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [Fail(429, retry_after=2)])
    with pytest.raises((anthropic.RateLimitError, openai.RateLimitError)) as caught:
        ask(server)
    assert caught.value.response.headers["retry-after"] == "2"


def test_an_overloaded_anthropic_answers_with_529(server: ModelServer) -> None:
    server.script("reader", [Fail(529)])
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask_claude(server)
    assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")


@EITHER
def test_a_script_that_has_run_out_says_so_and_is_not_asked_again(server: ModelServer, ask: Ask) -> None:
    server.script("reader", ["one", "two"])
    assert [ask(server), ask(server)] == ["one", "two"]
    with pytest.raises(
        (anthropic.InternalServerError, openai.InternalServerError),
        match="script of agent 'reader' has run out: it had 2 answers",
    ):
        ask(server, max_retries=2)
    assert len(server.journal) == 3


@STREAMED
def test_a_cut_stream_raises_in_the_client_after_its_text(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [CutStream(after="half of the te")])
    with pytest.raises(BROKEN):
        ask(server)
    assert [(call.status, call.text) for call in server.journal] == [("cut", "half of the te")]


@WHOLE
def test_an_answer_that_is_cut_raises_in_the_client(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [CutStream(after="half of the te")])
    with pytest.raises(BROKEN):
        ask(server)


@EITHER
def test_a_stall_ends_with_the_patience_of_the_client(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [Stall()])
    timeouts = (anthropic.APITimeoutError, openai.APITimeoutError, httpx2.ReadTimeout)
    with pytest.raises(timeouts):
        ask(server, timeout=0.1)
    _wait_until(lambda: server.in_flight == 0)
    assert [call.status for call in server.journal] == ["left"]


def test_a_stalled_stream_says_its_text_first(server: ModelServer) -> None:
    server.script("reader", [Stall(after="so far")])
    with claude(server) as client, client.messages.stream(**CLAUDE_CALL) as stream:
        assert next(iter(stream.text_stream)) == "so far"
        assert server.in_flight == 1
    _wait_until(lambda: server.in_flight == 0)
    assert [call.status for call in server.journal] == ["left"]


def test_what_a_call_lacks_is_named_with_its_place(server: ModelServer) -> None:
    bodies: list[tuple[str, Any, str]] = [
        ("/v1/messages", {"model": "m", "messages": PROMPT}, "max_tokens: this field is required"),
        ("/v1/messages", {"model": "m", "max_tokens": 1, "messages": [3]}, "messages.0: must be an object"),
        ("/v1/chat/completions", {"messages": [{"role": "elf"}], "model": "m"}, "messages.0.role: must be system"),
        ("/v1/chat/completions", {"model": "m", "messages": {}}, "messages: must be a list, not an object"),
        ("/v1/chat/completions", {"messages": PROMPT}, "model: this field is required"),
        ("/v1/responses", {"model": "m"}, "input: this field is required"),
        ("/v1/responses", {"model": "m", "input": "x", "previous_response_id": "r"}, "keeps no responses"),
        ("/v1/responses", [], "the body must be a JSON object"),
    ]
    for path, body, cause in bodies:
        answer = httpx2.post(server.url + path, json=body)
        assert (answer.status_code, cause in answer.json()["error"]["message"]) == (400, True), answer.text
    answer = httpx2.post(server.url + "/v1/messages", content=b"{")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert [call.code for call in server.journal] == [400] * (len(bodies) + 1)


def test_a_path_that_does_not_exist_is_an_error_in_the_vendors_shape(server: ModelServer) -> None:
    answer = httpx2.get(server.url + "/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = httpx2.get(server.url + "/v1/nothing", headers={"anthropic-version": "2023-06-01"})
    assert answer.json()["error"]["type"] == "not_found_error"


@WHOLE
def test_another_key_than_the_required_one_is_refused(ask: Ask) -> None:
    with ModelServer(required_key="right") as server:
        server.script("reader", ["come in"])
        with pytest.raises((anthropic.AuthenticationError, openai.AuthenticationError)):
            ask(server, api_key="wrong")
        assert ask(server, api_key="right") == "come in"
        assert "right" not in repr(server)


def test_both_vendors_find_a_model(server: ModelServer) -> None:
    with claude(server) as one, gpt(server) as other:
        assert [model.id for model in one.models.list()] == ["rehearsal"]
        assert [model.id for model in other.models.list()] == ["rehearsal"]
        assert other.models.retrieve("some/model").id == "some/model"
        assert one.messages.count_tokens(model="m", messages=[{"role": "user", "content": "x" * 40}]).input_tokens == 10


# Scripts.


def test_agents_have_scripts_of_their_own_and_a_star_serves_the_others(server: ModelServer) -> None:
    server.script("one", ["I am one"])
    server.script("*", ["I am any", "and any again"])
    assert ask_claude(server, agent="one") == "I am one"
    assert ask_chat(server, agent="two") == "I am any"
    assert server.unused == {"*": 1}


def test_without_the_header_an_agent_is_known_by_its_name_in_the_system_prompt(server: ModelServer) -> None:
    server.script("sydney", ["short"])
    server.script("sydney-research", ["long"])
    with anthropic.Anthropic(base_url=server.url, api_key="made-up", max_retries=0) as client:
        for system in ("You are Sydney-Research.", "You are Sydney.", "You are sydney2.", "You are sydney2.", "Other"):
            client.messages.create(**CLAUDE_CALL, system=system)
    agents = [call.agent for call in server.journal]
    assert agents == ["sydney-research", "sydney", "unknown-1", "unknown-1", "unknown-2"]


def test_a_callable_decides_from_the_request(server: ModelServer) -> None:
    async def later(request: Request) -> Answer:
        return Answer(f"{request.agent} of {request.task} asked: {request.prompt}", latency=0.01)

    server.script("reader", later)
    asked = ask_responses(server, headers={"x-fanfold-task": "t-1"})
    assert asked == ask_claude(server, headers={"x-fanfold-task": "t-1"}) == "reader of t-1 asked: What is in a.py?"


def test_a_callable_that_raises_is_named_in_the_error(server: ModelServer) -> None:
    server.script("reader", [lambda request: {}["absent"]])
    with pytest.raises(anthropic.InternalServerError, match="agent 'reader' raised KeyError: 'absent'"):
        ask_claude(server)


def test_an_answer_without_a_json_form_is_an_error_that_says_so(server: ModelServer) -> None:
    server.script("reader", [ToolUse("read", {"path": Path("a")})])
    with pytest.raises(openai.InternalServerError, match="no JSON form"):
        ask_chat(server)


def test_the_rehearsal_can_stand_in_a_script(server: ModelServer) -> None:
    server.script("reader", [Fail(429, retry_after=0.01), rehearse])
    assert ask_claude(server, max_retries=1).startswith("Rehearsal:")


def test_what_a_script_cannot_say_is_refused_where_it_is_written(server: ModelServer) -> None:
    with pytest.raises(UsageError, match="script of agent 'reader': a script cannot say 3"):
        server.script("reader", ["fine", 3])  # type: ignore[list-item]


# Who is in flight.


def test_four_concurrent_agents_meet(server: ModelServer) -> None:
    gate = server.rendezvous(4)
    _all_at_once(server, ["a", "b", "c", "d"])
    assert (gate.met, gate.most, gate.agents) == (True, 4, ("a", "b", "c", "d"))
    assert server.peak == 4
    assert server.in_flight == 0


def test_one_agent_alone_meets_nobody_and_the_gate_then_stays_open(server: ModelServer) -> None:
    gate = server.rendezvous(2, timeout=0.1)
    for agent in ("a", "b", "c"):
        ask_claude(server, agent=agent)
    assert (gate.met, gate.most, gate.agents) == (False, 1, ("a",))
    assert server.peak == 1
    assert _seconds(server.journal[0]) >= 0.1  # and the others were let through: nothing would open it again


def test_calls_of_one_agent_are_one_and_tasks_of_one_agent_are_several(server: ModelServer) -> None:
    gate = server.rendezvous(2, timeout=0.1)
    _all_at_once(server, ["a", "a", "a"])
    assert (gate.met, gate.most, server.peak) == (False, 1, 1)
    gate = server.rendezvous(2)
    _all_at_once(server, ["a", "a"], tasks=["t-1", "t-2"])
    assert (gate.met, gate.most, server.peak) == (True, 2, 2)


def test_a_new_rendezvous_opens_the_earlier_one(server: ModelServer) -> None:
    server.rendezvous(2, timeout=60)
    server.script("a", ["free"])
    asking = threading.Thread(target=ask_claude, args=(server,), kwargs={"agent": "a"})
    asking.start()
    _wait_until(lambda: server.in_flight == 1)
    server.rendezvous(1)
    asking.join(5)
    assert [call.text for call in server.journal] == ["free"]


@pytest.mark.parametrize(("agents", "timeout"), [(0, 1.0), (2, 0.0)])
def test_a_rendezvous_that_could_not_be_held_is_refused(server: ModelServer, agents: int, timeout: float) -> None:
    with pytest.raises(UsageError, match="a rendezvous"):
        server.rendezvous(agents, timeout)


def test_latency_is_added_to_each_call_and_holds_up_no_other() -> None:
    with ModelServer(latency=0.05) as server:
        server.script("slow", [Answer("too late", latency=600)])
        asking = threading.Thread(target=_ask_and_be_cut, args=(server, "slow"))
        asking.start()
        _wait_until(lambda: server.in_flight == 1)
        ask_claude(server, agent="quick")
        assert server.in_flight == 1
    asking.join(5)
    assert [call.status for call in server.journal] == ["left", "answered"]
    assert _seconds(server.journal[1]) >= 0.05


# The journal.


def test_a_call_is_in_the_journal_before_its_answer_is_whole(server: ModelServer) -> None:
    server.script("reader", ["yes"])
    ask_claude(server, headers={"x-fanfold-task": "t-7"})
    (call,) = server.journal
    assert (call.no, call.protocol, call.agent, call.task, call.model) == (1, "anthropic", "reader", "t-7", "m")
    assert (call.status, call.code, call.text, call.messages[0].text) == ("answered", 200, "yes", "What is in a.py?")
    assert call.ended is not None
    assert call.started <= call.ended
    assert call.usage == (4, 1)  # 16 characters in, 3 out: a quarter, and at least one


def test_another_process_can_read_the_journal_while_a_call_is_open(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    program = "import sys, pathlib; from fanfold.agents.modelserver import read_journal\n"
    program += "print([(c.agent, c.status, c.text) for c in read_journal(pathlib.Path(sys.argv[1]))])"
    with ModelServer(journal_path=path) as server:
        server.script("a", [ToolUse("read", {"path": "ü"}), Stall()])
        with claude(server, "a") as client:
            client.messages.create(**CLAUDE_CALL)
        asking = threading.Thread(target=_ask_and_be_cut, args=(server, "a"))
        asking.start()
        _wait_until(lambda: len(server.journal) == 2)
        seen = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        assert seen.stdout.strip() == "[('a', 'answered', ''), ('a', 'open', '')]"
    asking.join(5)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4
    assert read_journal(path) == server.journal
    assert [call.status for call in server.journal] == ["answered", "left"]


def test_a_journal_that_cannot_be_written_stops_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: Is a directory"), ModelServer(journal_path=tmp_path):
        pass


def test_a_line_that_is_being_written_is_not_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"no": 1, "pro')
    assert read_journal(path) == []
    path.write_text('{"no": 1}\n')
    with pytest.raises(CorruptRecordError, match=r"calls\.jsonl:1: not a line of a model server's journal"):
        read_journal(path)


# The server itself.


def test_several_servers_run_side_by_side_and_start_fast() -> None:
    began = time.monotonic()
    with ModelServer() as one, ModelServer() as two:
        assert time.monotonic() - began < 0.6
        one.script("*", ["one"])
        two.script("*", ["two"])
        assert (ask_chat(one), ask_chat(two)) == ("one", "two")
        assert one.url != two.url


def test_a_server_that_is_closed_is_gone_and_keeps_its_journal() -> None:
    with ModelServer() as server:
        server.script("*", ["bye", Stall()])
        ask_claude(server)
        asking = threading.Thread(target=_ask_and_be_cut, args=(server, "b"))
        asking.start()
        _wait_until(lambda: server.in_flight == 1)
    asking.join(5)
    assert not asking.is_alive()
    assert [call.status for call in server.journal] == ["answered", "left"]
    assert server.in_flight == 0
    server.close()
    with pytest.raises(anthropic.APIConnectionError):
        ask_claude(server)


def test_a_server_is_silent_and_leaves_signals_and_logging_as_they_were() -> None:
    program = """
import logging, os, signal, warnings
warnings.simplefilter("error")
os.environ.update(WEB_CONCURRENCY="no number", FORWARDED_ALLOW_IPS="*")
logging.basicConfig(level=logging.DEBUG)
before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
import http.client
from fanfold.agents.modelserver import CutStream, ModelServer
with ModelServer() as server:
    server.script("*", [CutStream(), "fine"])
    for _ in range(2):
        door = http.client.HTTPConnection(server.url.removeprefix("http://"))
        door.request("POST", "/v1/responses", '{"model": "m", "input": "x"}')
        try:
            door.getresponse().read()
        except http.client.IncompleteRead:
            pass
        door.close()
assert [call.status for call in server.journal] == ["cut", "answered"], server.journal
assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    noise = [line for line in ran.stderr.splitlines() if "asyncio:Using selector" not in line]
    assert (ran.returncode, ran.stdout, noise) == (0, "", [])


def test_importing_the_server_does_not_import_its_extra() -> None:
    program = "import sys, fanfold.agents.modelserver; print({'starlette', 'uvicorn'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_a_server_says_what_it_was_used_wrongly_for() -> None:
    server = ModelServer()
    with pytest.raises(UsageError, match="no address yet"):
        _ = server.url
    with pytest.raises(UsageError, match="needs a server that runs"):
        server.rendezvous(2)
    with pytest.raises(UsageError, match="a latency of -1"):
        ModelServer(latency=-1)
    with server, pytest.raises(UsageError, match="started before"):
        server.start()


def test_it_serves_async_clients_of_the_loop_that_started_it() -> None:
    async def talk() -> list[str]:
        with ModelServer() as server:
            server.script("*", lambda request: request.agent)
            gate = server.rendezvous(3)
            async with anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as client:
                calls = [
                    client.messages.create(**CLAUDE_CALL, extra_headers={"x-fanfold-agent": name}) for name in "abc"
                ]
                said = await asyncio.gather(*calls)
            assert gate.met
        return [message.content[0].text for message in said]

    assert asyncio.run(talk()) == ["a", "b", "c"]


def _ask_and_be_cut(server: ModelServer, agent: str) -> None:
    with pytest.raises(BROKEN):
        ask_claude(server, agent=agent)


def _all_at_once(server: ModelServer, agents: list[str], tasks: list[str] | None = None) -> None:
    async def one(client: anthropic.AsyncAnthropic, agent: str, task: str) -> None:
        headers = {"x-fanfold-agent": agent, "x-fanfold-task": task}
        await client.messages.create(**CLAUDE_CALL, extra_headers=headers)

    async def together() -> None:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as client:
            named = zip(agents, tasks or [""] * len(agents), strict=True)
            await asyncio.gather(*(one(client, agent, task) for agent, task in named))

    asyncio.run(together())


def _seconds(call: Any) -> float:
    return float(call.ended - call.started)


def _wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do; without a sleep, as a condition of ours has no event to wait for."""
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end
        os.sched_yield()


@pytest.mark.parametrize("ask", [stream_claude, stream_chat])
def test_an_error_in_the_middle_of_a_stream_is_raised_in_the_client(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [Fail(529, "too much", after="half of the te")])
    with pytest.raises((anthropic.APIStatusError, openai.APIError), match="too much"):
        ask(server)
    assert [(call.status, call.code) for call in server.journal] == [("failed", 529)]


@STREAMED
def test_a_stream_that_ends_politely_has_all_of_its_text_and_no_end(server: ModelServer, ask: Ask) -> None:
    server.script("reader", [CutStream("half of the te", politely=True)])
    with contextlib.suppress(RuntimeError):  # the responses' client asks for the end
        assert ask(server) == "half of the te"
    assert [call.status for call in server.journal] == ["cut"]


def test_a_script_sees_the_headers_of_a_call_without_its_key(server: ModelServer) -> None:
    seen: list[Any] = []
    server.script("reader", lambda request: seen.append(request.headers) or "fine")
    ask_claude(server)
    assert seen[0]["anthropic-version"]
    assert not {"x-api-key", "authorization"} & set(seen[0])
