"""Agents that are language models, over both protocols: what goes wrong, what is tried again, and what it takes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, Limits, StateGraph, Task, TaskResult, python_agent
from fanfold.agents import asking
from fanfold.errors import (
    AgentError,
    AgentStalledError,
    BudgetError,
    ModelAnswerError,
    ModelCutError,
    ModelError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
)
from fanfold.events import Event, ModelAnswered, ModelAsked, ModelRetried, Noticed, TaskWaiting, ToolCalled
from fanfold.limits import desk
from fanfold.testing import Answer, CutStream, Fail, ModelServer, Request, Stall, ToolUse

CRITIC = AgentDefinition(name="critic", description="Finds faults.", prompt="You are the critic.", tools=())
VENDORS = {"openai:gpt-x": "OPENAI", "anthropic:claude-x": "ANTHROPIC"}
ATTEMPTS = 3
EITHER = pytest.mark.parametrize("model", VENDORS)


class State(TypedDict, total=False):
    out: list[Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, a folder without agents of its own; and no wait is longer than it has to be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(asking, "MOST_ATTEMPTS", ATTEMPTS)
    monkeypatch.setattr(desk, "PAUSE", 0.0)
    return tmp_path


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that stands where both vendors are said to be, with a key for each."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy-of-openai")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-dummy-of-anthropic")
        yield server


def asked(*tasks: Task, **options: Any) -> list[TaskResult]:
    """What the tasks answer when one node awaits them side by side."""
    found: list[TaskResult] = []

    async def node(state: State) -> State:
        found.extend(await asyncio.gather(*tasks))
        return {"out": []}

    StateGraph(State).add_node("node", node).add_edge(START, "node").compile().invoke({"out": []}, **options)
    return found


def ask(model: Any, agent: AgentDefinition = CRITIC, events: list[Event] | None = None, **options: Any) -> TaskResult:
    output = options.pop("output", None)
    heard: list[Event] = [] if events is None else events
    agents = [agent, *options.pop("others", ())]
    task = Task(subagent_type=agent.name, prompt="Judge this.", output=output)
    (result,) = asked(task, agents=agents, model=model, on_event=heard.append, **options)
    return result


# What goes wrong, and what to do


TROUBLES: list[tuple[Any, type[ModelError], str, str]] = [
    (Fail(401, "bad key"), ModelKeyError, r"the key was refused \(401\)", "{vendor}_API_KEY"),
    (Fail(403, "no"), ModelKeyError, r"the key was refused \(403\)", "{vendor}_API_KEY"),
    (Fail(429, "slow down"), ModelRateError, r"too often \(429\): slow down", "--max-concurrency"),
    (Fail(500, "it broke"), ModelUnavailableError, r"failed on its own side \(500\): it broke", "try again later"),
    (Fail(503, "down"), ModelUnavailableError, r"failed on its own side \(503\): down", "try again later"),
    (Fail(529, "too much"), ModelOverloadedError, r"is overloaded \(529\): too much", "try again later"),
    (Fail(400, "too long"), ModelRequestError, r"refused the request \(400\): too long", "a model of that name"),
    (Fail(404, "no such model"), ModelRequestError, r"refused the request \(404\): no such model", "of that name"),
    (Fail(429, "slow down", after="Well"), ModelRateError, "too often", "--max-concurrency"),
    (Fail(500, "it broke", after="Well"), ModelUnavailableError, "failed on its own side", "try again later"),
    (CutStream("hal"), ModelCutError, "cut off before its end", "try again"),
    (CutStream("hal", politely=True), ModelCutError, "cut off before its end", "try again"),
    (Answer(""), ModelAnswerError, "the answer cannot be used", ""),
]


@EITHER
@pytest.mark.parametrize(("said", "kind", "message", "hint"), TROUBLES)
def test_each_trouble_of_a_model_has_its_error_which_names_agent_model_and_way_out(
    vendor: ModelServer, model: str, said: Any, kind: type[ModelError], message: str, hint: str
) -> None:
    vendor.script("critic", lambda request: said)
    with pytest.raises(ModelError, match=message) as failure:
        ask(model)
    assert type(failure.value) is kind
    assert f"agent 'critic' asked model {model!r}" in str(failure.value)
    assert hint.format(vendor=VENDORS[model]) in (failure.value.hint or "")
    assert "sk-dummy" not in str(failure.value)


@EITHER
@pytest.mark.parametrize("status", [400, 500])
def test_a_key_that_a_server_repeats_is_nowhere_in_what_is_printed_of_an_error(
    vendor: ModelServer, model: str, status: int
) -> None:
    keys = [os.environ[f"{name}_API_KEY"] for name in ("OPENAI", "ANTHROPIC")]
    vendor.script("critic", lambda request: Fail(status, " ".join(["no account has", *keys])))
    with pytest.raises(ModelError, match=r"no account has \*\*\*") as failure:
        ask(model)
    printed = "".join(traceback.format_exception(failure.value))
    assert [key for key in keys if key in printed] == []


@EITHER
@pytest.mark.parametrize(
    ("said", "attempts"),
    [
        (Fail(429), ATTEMPTS),
        (Fail(529), ATTEMPTS),
        (Fail(500), ATTEMPTS),
        (CutStream("hal"), ATTEMPTS),
        (Fail(429, retry_after=3600), 1),
        (Fail(500, retry=False), 1),
        (Fail(400), 1),
        (Fail(401), 1),
        (Fail(404), 1),
    ],
)
def test_only_what_may_go_better_is_tried_again_and_not_for_ever(
    vendor: ModelServer, model: str, said: Any, attempts: int
) -> None:
    vendor.script("critic", lambda request: said)
    with pytest.raises(ModelError):
        ask(model)
    assert len(vendor.journal) == attempts


@EITHER
@pytest.mark.parametrize("said", [Fail(429), Fail(529), Fail(503), Fail(500, after="Half"), CutStream("Half an ans")])
def test_what_goes_better_the_next_time_is_an_answer_and_each_attempt_is_told(
    vendor: ModelServer, model: str, said: Any
) -> None:
    vendor.script("critic", [said, said, Answer("Fine.", usage=(7, 3))])
    events: list[Event] = []
    result = ask(model, events=events)
    assert (result.output, result.usage) == ("Fine.", {"input_tokens": 7, "output_tokens": 3, "requests": 1})
    assert [type(e) for e in events if isinstance(e, ModelAsked | ModelRetried | ModelAnswered)] == [
        *(ModelAsked, ModelRetried, ModelAsked, ModelRetried),
        *(ModelAsked, ModelAnswered),
    ]
    assert {e.task for e in events if isinstance(e, ModelRetried)} == {result.task_id}


def test_a_server_that_says_for_how_long_is_left_alone_for_as_long_by_all(vendor: ModelServer) -> None:
    vendor.script("critic", [Fail(429, retry_after=0.2), "Fine."])
    events: list[Event] = []
    ask("openai:gpt-x", events=events)
    (retried,) = (event for event in events if isinstance(event, ModelRetried))
    assert retried.seconds == 0.2
    assert [event.waits_for for event in events if isinstance(event, TaskWaiting)] == [
        "openai:gpt-x to take requests again"
    ]
    first, second = vendor.journal
    assert first.ended is not None
    assert second.started - first.ended >= 0.19


@pytest.mark.parametrize("attempt", range(1, 12))
def test_each_wait_is_twice_as_long_up_to_a_bound_and_its_upper_half_is_by_lot(
    attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.5)
    longest = min(asking.LONGEST_WAIT, 0.5 * 2 ** (attempt - 1))
    waits = [asking.wait_after(attempt) for _ in range(50)]
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(set(waits)) > 1


async def nothing(request: Request) -> str:
    await asyncio.Event().wait()
    return "never"


@EITHER
@pytest.mark.parametrize("said", [nothing, Stall(), Stall("Half an answer")])
def test_a_model_that_falls_silent_is_noticed(vendor: ModelServer, model: str, said: Any) -> None:
    vendor.script("critic", said)
    with pytest.raises(AgentStalledError, match=r"'critic' asked .* and heard nothing for 0\.3 s"):
        ask(model, limits=Limits(patience=0.3))
    while vendor.in_flight:  # the server is to notice that, too
        threading.Event().wait(0.005)
    assert [call.status for call in vendor.journal] == ["left"]


def test_a_model_that_goes_on_is_not_silent_however_long_it_takes(vendor: ModelServer) -> None:
    words = [f"word{number} " for number in range(14)]
    with _dripping(words, 0.1) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", url)
        result = ask("openai:gpt-x", limits=Limits(patience=1.0))
    assert result.output == "".join(words)
    assert result.duration > 1.0


def _dripping(words: list[str], pause: float) -> Any:
    from contextlib import contextmanager
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return f"data: {json.dumps(body)}\n\n".encode()

    class Drips(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for word in words:
                self.wfile.write(chunk({"content": word}))
                self.wfile.flush()
                threading.Event().wait(pause)
            self.wfile.write(chunk({}, "stop") + b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    @contextmanager
    def serve() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Drips) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/v1"
            finally:
                server.shutdown()
                thread.join()

    return serve()


# What it takes


@EITHER
def test_tokens_are_counted_over_all_requests_and_an_unknown_price_is_not_free(
    vendor: ModelServer, model: str, folder: Path
) -> None:
    (folder / "a.txt").write_text("ducks\n")
    reader = dataclasses.replace(CRITIC, tools=("read",))
    vendor.script(
        "critic", [Answer("", [ToolUse("read", {"path": "a.txt"})], usage=(10, 2)), Answer("Ok", usage=(30, 4))]
    )
    events: list[Event] = []
    result = ask(model, reader, events)
    assert result.usage == {"input_tokens": 40, "output_tokens": 6, "requests": 2}
    assert (result.cost_usd, result.tool_uses, result.total_tokens) == (None, 1, 46)
    answers = [(e.input_tokens, e.output_tokens, e.cost_usd) for e in events if isinstance(e, ModelAnswered)]
    assert answers == [(10, 2, None), (30, 4, None)]
    assert [(e.tool, e.detail) for e in events if isinstance(e, ToolCalled)] == [("read", '{"path":"a.txt"}')]


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")  # one day, the vendor will say so
@pytest.mark.parametrize("model", ["openai:gpt-4o", "anthropic:claude-sonnet-5-5"])
def test_a_known_price_is_told_with_each_answer_and_in_the_result(vendor: ModelServer, model: str) -> None:
    vendor.script("critic", Answer("Fine.", usage=(1_000_000, 0)))
    events: list[Event] = []
    result = ask(model, events=events)
    assert result.cost_usd is not None
    assert result.cost_usd > 0.1
    assert [event.cost_usd for event in events if isinstance(event, ModelAnswered)] == [result.cost_usd]


def test_a_server_that_stands_in_for_a_provider_costs_nothing(vendor: ModelServer) -> None:
    vendor.script("critic", "Fine.")
    assert ask(vendor).cost_usd == 0.0


def test_what_a_request_is_expected_to_take_is_reserved_before_it_is_sent(vendor: ModelServer) -> None:
    vendor.script("critic", lambda request: "Fine.")
    assert ask(vendor, limits=Limits(tokens=2_000)).output == "Fine."
    wordy = dataclasses.replace(CRITIC, prompt="Be brief. " * 1_000)
    with pytest.raises(AgentError, match="tokens"):
        ask(vendor, wordy, limits=Limits(tokens=2_000))
    assert len(vendor.journal) == 1


@pytest.mark.parametrize("model", ["openai:gpt-4o"])
def test_an_agent_asks_no_further_than_its_own_budget(vendor: ModelServer, model: str) -> None:
    vendor.script("critic", lambda request: Answer("", [ToolUse("glob", {"pattern": "*"})], usage=(10_000, 0)))
    agent = dataclasses.replace(CRITIC, tools=("glob",), budget_usd=0.1)
    with pytest.raises(BudgetError, match=r"'critic' has spent 0\.1000 of 0\.1 USD"):
        ask(model, agent)  # 0.025 each
    assert len(vendor.journal) == 4


@pytest.mark.parametrize("model", ["openai:gpt-5", "anthropic:claude-opus-5-5"])
@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
def test_the_effort_of_a_definition_is_asked_for(vendor: ModelServer, model: str) -> None:
    bodies: list[str] = []
    vendor.script("critic", lambda request: bodies.append(json.dumps(request.body)) or "Fine.")
    ask(model, dataclasses.replace(CRITIC, extra={"effort": "low"}))
    ask(model)
    assert ['"low"' in body for body in bodies] == [True, False]


def test_an_effort_that_nobody_knows_is_told(vendor: ModelServer) -> None:
    vendor.script("critic", "Fine.")
    events: list[Event] = []
    ask(vendor, dataclasses.replace(CRITIC, extra={"effort": 7}), events)
    assert any("asks for effort 7" in event.message for event in events if isinstance(event, Noticed))


@pytest.mark.parametrize(("model", "named"), [("openai:gpt-x", True), ("anthropic:claude-x", False)])
def test_each_request_has_a_key_of_its_own_where_the_protocol_knows_one_and_keeps_it_when_it_is_sent_again(
    vendor: ModelServer, model: str, named: bool, folder: Path
) -> None:
    keys: list[str | None] = []
    replies = iter([Fail(500), ToolUse("glob", {"pattern": "*"}), "Fine."])

    def said(request: Request) -> Any:
        keys.append(request.headers.get("idempotency-key"))
        return next(replies)

    vendor.script("critic", said)
    result = ask(model, dataclasses.replace(CRITIC, tools=("glob",)))
    id_ = result.task_id
    assert keys == ([f"{id_}-1", f"{id_}-1", f"{id_}-2"] if named else [None] * 3)


# Structured answers

DUCK = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
NAMES = {"type": "array", "items": {"$ref": "#/$defs/name"}, "minItems": 1, "$defs": {"name": {"type": "string"}}}


def final(value: Any) -> ToolUse:
    return ToolUse("final_result", value)


@EITHER
@pytest.mark.parametrize(
    ("schema", "said", "answer"),
    [
        (DUCK, {"name": "Mo", "age": 3}, {"name": "Mo", "age": 3}),
        (NAMES, {"answer": ["Mo", "Bo"]}, ["Mo", "Bo"]),
        ({"type": "integer"}, {"answer": 3}, 3),
        ({"enum": ["yes", "no"]}, {"answer": "no"}, "no"),
    ],
)
def test_an_answer_has_the_form_of_its_schema(
    vendor: ModelServer, model: str, schema: Any, said: Any, answer: Any
) -> None:
    vendor.script("critic", [final(said)])
    events: list[Event] = []
    result = ask(model, dataclasses.replace(CRITIC, output=schema), events)
    assert result.output == answer
    assert (result.tool_uses, [e for e in events if isinstance(e, ToolCalled)]) == (0, [])


@EITHER
def test_an_answer_that_does_not_fit_is_given_back_with_its_faults_and_may_be_corrected(
    vendor: ModelServer, model: str
) -> None:
    vendor.script("critic", [final({"name": "Mo", "age": -1}), final({"name": "Mo", "age": 1})])
    assert ask(model, output=DUCK).output == {"name": "Mo", "age": 1}
    told = json.dumps([dataclasses.asdict(turn) for turn in vendor.journal[1].messages])
    assert "$.age: -1 is less than the minimum of 0" in told


@EITHER
@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (final({"name": "Mo"}), r"\$: 'age' is a required property"),
        (final({"name": 3, "age": 3, "beak": 1}), r"'beak' was unexpected.*; \$\.name: 3 is not of type 'string'"),
        ("Mo is three.", "cannot be used"),
    ],
)
def test_an_answer_that_never_fits_is_an_error_that_says_what_did_not(
    vendor: ModelServer, model: str, said: Any, fault: str
) -> None:
    vendor.script("critic", lambda request: said)
    with pytest.raises(ModelAnswerError, match=fault):
        ask(model, output=DUCK)
    assert len(vendor.journal) == 3


@pytest.mark.parametrize("schema", [{"type": "duck"}, {"type": "object", "properties": 3}])
def test_a_schema_that_is_none_is_refused_before_anybody_is_asked(vendor: ModelServer, schema: Any) -> None:
    with pytest.raises(AgentError, match="the schema of the answer is none"):
        ask(vendor, output=schema)
    assert vendor.journal == []


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/duck", "#/defs/duck"])
def test_a_schema_that_refers_to_what_it_does_not_hold_is_refused_and_nothing_is_fetched(
    vendor: ModelServer, ref: str
) -> None:
    with pytest.raises(AgentError, match=f"the schema of the answer refers to '{ref}', which is not in it"):
        ask(vendor, output={"type": "object", "properties": {"duck": {"$ref": ref}}})
    assert vendor.journal == []


def test_the_rehearsal_fills_in_the_form(vendor: ModelServer, folder: Path) -> None:
    (folder / "README.md").write_text("Ducks swim here.\n")
    form = {"type": "object", "properties": {"found": {"type": "string"}}, "required": ["found"]}
    answer = ask(vendor, dataclasses.replace(CRITIC, tools=("grep", "read")), output=form).output
    assert answer["found"].startswith("Rehearsal:")


# Agents that call agents

BOSS = AgentDefinition(name="boss", description="Decides.", prompt="You are the boss.", tools=("Agent(critic, poet)",))
POET = AgentDefinition(name="poet", description="Writes\nverse.", prompt="You are a poet.", tools=())


def calls(*names: str) -> list[str | ToolUse]:
    return [ToolUse("task", {"subagent_type": name, "prompt": f"For {name}.", "description": name}) for name in names]


@EITHER
def test_agents_that_one_message_calls_work_at_the_same_time_and_their_answers_come_framed(
    vendor: ModelServer, model: str
) -> None:
    gate: list[Any] = []

    def boss(request: Request) -> Any:
        if len(request.turns) > 1:
            return "Decided."
        gate.append(vendor.rendezvous(2))  # nobody is answered until both of them have asked
        return calls("critic", "Poet")

    vendor.script("boss", boss)
    vendor.script("critic", "Bad.")
    vendor.script("poet", "Good.")
    result = ask(model, BOSS, others=[CRITIC, POET])
    assert (result.output, result.tool_uses, gate[0].met) == ("Decided.", 2, True)
    first = next(call for call in vendor.journal if call.agent == "boss")
    last = [call for call in vendor.journal if call.agent == "boss"][-1]
    assert first.tools == ("task",)
    answers = {result.text for turn in last.messages for result in turn.tool_results}
    assert any("critic" in text and "Bad." in text.splitlines() for text in answers)
    prompts = {call.agent: call.messages[0].text for call in vendor.journal}
    assert (prompts["critic"], prompts["poet"]) == ("For critic.", "For Poet.")


def test_the_tool_says_who_can_be_called(vendor: ModelServer) -> None:
    seen: list[str] = []
    vendor.script("boss", lambda request: seen.append(request.tools[0].description) or "Decided.")
    ask(vendor, BOSS, others=[CRITIC, POET])
    assert "- critic: Finds faults.\n- poet: Writes verse." in seen[0]


def test_an_agent_that_may_call_nobody_has_no_such_tool(vendor: ModelServer) -> None:
    vendor.script("boss", lambda request: "Decided.")
    ask(vendor, dataclasses.replace(BOSS, tools=None), others=[CRITIC])
    ask(vendor, dataclasses.replace(BOSS, tools=("read",)), others=[CRITIC])
    assert all("task" not in call.tools for call in vendor.journal)


def test_an_agent_that_may_not_be_called_or_has_no_answer_is_told_to_the_one_who_calls(vendor: ModelServer) -> None:
    @python_agent("poet")
    def poet(prompt: str) -> str:
        raise AgentError("no verse today")

    vendor.script("boss", [calls("coder"), calls("poet"), "Decided."])
    assert ask(vendor, BOSS, others=[CRITIC, poet]).output == "Decided."
    told = [result.text for call in vendor.journal for turn in call.messages for result in turn.tool_results]
    assert any("there is no agent 'coder'; there are: critic, poet" in text for text in told)
    assert any("agent 'poet' has no answer" in text and "no verse today" in text for text in told)


def test_a_budget_that_is_spent_ends_the_one_who_calls_too(vendor: ModelServer) -> None:
    vendor.script("boss", [calls("critic"), "Decided without."])
    wordy = dataclasses.replace(CRITIC, prompt="Be brief. " * 2_000)
    with pytest.raises(BudgetError, match="tokens"):
        ask(vendor, BOSS, others=[wordy, POET], limits=Limits(tokens=4_000))
    assert [call.agent for call in vendor.journal] == ["boss"]


# Many at once


def test_a_hundred_agents_are_in_flight_at_once(vendor: ModelServer) -> None:
    vendor.script("critic", lambda request: Answer("Fine."))
    gate = vendor.rendezvous(100, timeout=30.0)
    tasks = [Task(subagent_type="critic", prompt=f"Number {number}.") for number in range(100)]
    results = asked(*tasks, agents=[CRITIC], model=vendor)
    assert {result.output for result in results} == {"Fine."}
    assert (gate.met, vendor.peak) == (True, 100)


def test_a_cancelled_agent_leaves_its_server_at_once(vendor: ModelServer) -> None:
    vendor.script("critic", Stall("Half"))

    async def cancelled() -> float:
        working = asyncio.ensure_future(_alone(vendor))
        while vendor.in_flight == 0:
            await asyncio.sleep(0.005)
        began = asyncio.get_running_loop().time()
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(cancelled()) < 0.5
    while vendor.in_flight:
        threading.Event().wait(0.005)
    assert [call.status for call in vendor.journal] == ["left"]


async def _alone(model: Any) -> TaskResult:
    async def node(state: State) -> State:
        await Task(subagent_type="critic", prompt="x")
        return {"out": []}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    return await graph.ainvoke({"out": []}, agents=[CRITIC], model=model)  # type: ignore[return-value]


def test_a_tool_that_is_not_there_is_told_once(vendor: ModelServer) -> None:
    vendor.script("critic", "Fine.")
    events: list[Event] = []
    ask(vendor, dataclasses.replace(CRITIC, tools=("WebFetch", "mcp__notes__search")), events)
    assert [event.message for event in events if isinstance(event, Noticed)] == [
        "agent 'critic' asks for tools that it cannot have here: WebFetch, mcp__notes__search "
        "(there is no MCP server 'notes')"
    ]
