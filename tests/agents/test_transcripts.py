"""What an agent said is kept, within bounds, also of one that has no answer; and people can read it."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold import AgentDefinition, AgentError, StateGraph, Task, TaskResult, python_agent
from fanfold.agents import transcripts
from fanfold.agents.backends.base import Answer
from fanfold.agents.transcripts import bounded, stored, tell_from
from fanfold.agents.turns import Turn, turns
from fanfold.errors import AgentTimeoutError, NodeCancelledError
from fanfold.store.opening import open_store
from fanfold.store.serde import Codec
from fanfold.testing import Answer as Said
from fanfold.testing import Fail, ModelServer, Request, Stall, ToolUse


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Bounds


def size(messages: Any) -> int:
    return len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "surrogatepass"))


PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=100)


def messages_of(leaves: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    inner = st.recursive(
        leaves,
        lambda more: st.lists(more, max_size=4) | st.dictionaries(st.text(max_size=5), more, max_size=4),
        max_leaves=8,
    )
    return st.lists(st.dictionaries(st.text(max_size=5), inner, max_size=4), max_size=most)


laws = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@laws
@given(messages_of(PLAIN | st.builds(lambda n: "long " * n, st.integers(100, 3_000)), 30), st.integers(1_000, 40_000))
def test_no_transcript_is_kept_that_is_larger_than_its_bound(messages: list[dict[str, Any]], most: int) -> None:
    kept = bounded(messages, most)
    assert size(kept) <= most + 2
    if size(messages) <= most:
        assert kept == messages


def test_long_texts_lose_their_middle_first_and_say_how_much() -> None:
    messages = [{"role": "user", "content": "short"}, {"role": "assistant", "content": "a" * 30_000 + "z" * 30_000}]
    short, long = bounded(messages, 20_000)
    assert short == messages[0]
    assert long["content"].startswith("a" * 1_000)
    assert long["content"].endswith("z" * 1_000)
    assert " [... 43,617 characters left out ...] " in long["content"]


def test_messages_in_the_middle_go_next_and_their_number_is_said() -> None:
    messages = [{"no": number, "text": "x" * 80} for number in range(1_000)]
    kept = bounded(messages, 10_000)
    notes = [message for message in kept if "left_out" in message]
    (at,) = [at for at, message in enumerate(kept) if "left_out" in message]
    assert kept[:at] == messages[:at]
    assert kept[at + 1 :] == messages[-(len(kept) - at - 1) :]
    assert at > 10
    assert len(kept) - at - 1 > 2 * at
    assert notes[0]["left_out"].startswith(f"{1_000 - len(kept) + 1:,} messages of ")


def test_what_is_no_plain_data_is_kept_as_its_text() -> None:
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    (kept,) = bounded([{"path": Path("x"), "pair": (1, 2.5), 3: None, "deep": deep}])
    assert (kept["path"], kept["pair"], kept["3"]) == ("x", [1, 2.5], None)
    assert "nested deeper than is kept" in json.dumps(kept["deep"])


# Of agents with an answer, and without one


class State(TypedDict, total=False):
    said: str


def asked(store: Path, task: Task, **options: Any) -> TaskResult:
    """What the task answers in a node of a stored run, which is called `r`."""
    found: list[TaskResult] = []

    async def node(state: State) -> State:
        found.append(await task)
        return {"said": "done"}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(store)
    graph.invoke({"said": ""}, run_id="r", **options)
    return found[0]


def kept(store: Path) -> list[Any]:
    with open_store(store) as opened:
        return list(stored(opened, "r", Codec()))


@python_agent("echo")
def echo(prompt: str) -> str:
    return prompt.upper()


def test_an_agent_that_keeps_no_transcript_is_kept_with_its_question_and_its_answer(tmp_path: Path) -> None:
    asked(tmp_path / "r.db", Task(subagent_type="echo", prompt="quack"), agents=[echo])
    (answer,) = kept(tmp_path / "r.db")
    assert (answer["agent_type"], answer["status"], answer["output"]) == ("echo", "completed", "QUACK")
    assert answer["transcript"] == [{"role": "user", "content": "quack"}, {"role": "assistant", "content": "QUACK"}]


def test_a_long_answer_is_whole_in_the_result_and_bounded_in_the_transcript(tmp_path: Path) -> None:
    result = asked(tmp_path / "r.db", Task(subagent_type="echo", prompt="q" * 500_000), agents=[echo])
    assert len(result.output) == 500_000
    assert size(result.transcript) < transcripts.MOST


def program(script: str, **more: Any) -> AgentDefinition:
    return AgentDefinition("worker", "d", backend="process", command=("sh", "-c", script), **more)


TOLD = """echo '{"type": "tool", "name": "search", "detail": "ducks"}'; """


def test_an_agent_that_fails_leaves_what_was_seen_of_it(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="ended with code 3"):
        asked(
            tmp_path / "r.db", Task(subagent_type="worker", prompt="look"), agents=[program(TOLD + "sleep 0.2; exit 3")]
        )
    (record,) = kept(tmp_path / "r.db")
    assert (record["agent_type"], record["status"]) == ("worker", "failed")
    assert "ended with code 3" in record["error"]
    assert list(turns(record["transcript"]))[:2] == [Turn("user", "look"), Turn("calls search", "ducks")]


def test_an_agent_whose_time_is_up_leaves_what_was_seen_of_it(tmp_path: Path) -> None:
    late = program(TOLD + "sleep 60", timeout=1.5)
    with pytest.raises(AgentTimeoutError):
        asked(tmp_path / "r.db", Task(subagent_type="worker", prompt="look"), agents=[late])
    (record,) = kept(tmp_path / "r.db")
    assert record["status"] == "failed"
    assert "did not answer within 1.5 s" in record["error"]
    assert Turn("calls search", "ducks") in list(turns(record["transcript"]))


def test_an_agent_that_is_cancelled_leaves_what_was_seen_of_it(tmp_path: Path) -> None:
    begun = asyncio.Event()

    @python_agent("sleeper")
    async def sleeper(prompt: str) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def node(state: State) -> State:
        task = asyncio.ensure_future(_await(Task(subagent_type="sleeper", prompt="sleep")))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        return {"said": "stopped it"}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(tmp_path / "r.db")
    asyncio.run(graph.ainvoke({"said": ""}, run_id="r", agents=[sleeper]))
    (record,) = kept(tmp_path / "r.db")
    assert (record["agent_type"], record["status"]) == ("sleeper", "cancelled")
    assert record["transcript"] == [{"role": "user", "content": "sleep"}]


async def _await(task: Task) -> TaskResult:
    return await task


def test_what_a_failed_run_has_kept_of_an_agent_does_not_keep_it_from_going_on(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    wants = "test -e go || { echo not yet >&2; exit 1; }"
    task = Task(subagent_type="worker", prompt="look", workspace=tmp_path)

    async def node(state: State) -> State:
        return {"said": str(await task)}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(tmp_path / "r.db")
    with pytest.raises(AgentError, match="not yet"):
        graph.invoke({"said": ""}, thread_id="t", run_id="r", agents=[program(wants)])
    (tmp_path / "go").touch()
    graph.invoke(None, thread_id="t", run_id="r", agents=[program(wants)])
    assert [record["status"] for record in kept(tmp_path / "r.db")] == ["failed", "completed"]


@pytest.mark.parametrize("how", ["fails", "is cancelled", "tells nothing", "cannot tell"])
def test_a_backend_that_tells_more_is_believed_unless_it_cannot_tell(how: str, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []

    @python_agent("talker")
    async def talker(prompt: str) -> str:
        tell_from(lambda: [1 / 0] if how == "cannot tell" else said)  # type: ignore[list-item]
        await asyncio.create_task(talk())
        if how == "is cancelled":
            raise asyncio.CancelledError
        raise ValueError

    async def talk() -> None:
        said.extend([] if how == "tells nothing" else [{"role": "assistant", "content": "I begin."}])

    with pytest.raises((ValueError, NodeCancelledError)):
        asked(tmp_path / "r.db", Task(subagent_type="talker", prompt="talk"), agents=[talker])
    (record,) = kept(tmp_path / "r.db")
    told = said if how in ("fails", "is cancelled") else []
    assert record["transcript"] == [{"role": "user", "content": "talk"}, *told]
    assert bool(told) == (how in ("fails", "is cancelled"))


def test_outside_of_any_agent_nobody_is_told() -> None:
    tell_from(lambda: [])
    transcripts.saw("anything")


# As people read it

FORMS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "pydantic-ai": (
        [
            {
                "kind": "request",
                "instructions": "Be brief.",
                "parts": [
                    {"part_kind": "system-prompt", "content": "You help."},
                    {"part_kind": "user-prompt", "content": ["Look", {"kind": "image-url", "url": "u"}]},
                ],
            },
            {
                "kind": "response",
                "parts": [
                    {"part_kind": "thinking", "content": "Hm."},
                    {"part_kind": "text", "content": ""},
                    {"part_kind": "tool-call", "tool_name": "grep", "args": {"pattern": "x"}},
                    {"part_kind": "tool-call", "tool_name": "ls", "args": None},
                ],
            },
            {
                "kind": "request",
                "instructions": "Be brief.",
                "parts": [
                    {"part_kind": "tool-return", "tool_name": "grep", "content": {"hits": 1}},
                    {"part_kind": "retry-prompt", "tool_name": "ls", "content": "no such folder"},
                    {"part_kind": "retry-prompt", "content": "Answer, please."},
                ],
            },
            {"kind": "response", "parts": [{"part_kind": "text", "content": "Done."}]},
        ],
        [
            ("system", "Be brief."),
            ("system", "You help."),
            ("user", 'Look\n{"kind": "image-url", "url": "u"}'),
            ("thinks", "Hm."),
            ("calls grep", '{"pattern": "x"}'),
            ("calls ls", ""),
            ("system", "Be brief."),
            ("grep returns", '{"hits": 1}'),
            ("ls returns", "no such folder"),
            ("user", "Answer, please."),
            ("agent", "Done."),
        ],
    ),
    "roles": (
        [
            {"role": "developer", "content": "You help."},
            {"role": "user", "content": "Look"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "grep", "arguments": '{"p": 1}'}}]},
            {"role": "tool", "content": "a hit"},
            {"role": "assistant", "content": "Done."},
        ],
        [
            ("system", "You help."),
            ("user", "Look"),
            ("calls grep", '{"p": 1}'),
            ("tool returns", "a hit"),
            ("agent", "Done."),
        ],
    ),
    "claude": (
        [
            {"type": "system", "subtype": "init", "tools": ["Read"]},
            {
                "type": "assistant",
                "message": {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm."},
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "name": "Read", "id": "1", "input": {"file_path": "a"}},
                    ],
                },
            },
            {
                "type": "user",
                "message": {"content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"text": "a line"}]}]},
            },
            {"type": "result", "result": "Done."},
        ],
        [
            ("system", '{"subtype": "init", "tools": ["Read"]}'),
            ("thinks", "Hm."),
            ("agent", "I look."),
            ("calls Read", '{"file_path": "a"}'),
            ("tool returns", "a line"),
            ("agent", "Done."),
        ],
    ),
    "JSON lines": (
        [
            {"type": "tool", "name": "search", "detail": "ducks"},
            {"type": "progress", "done": 3},
            {"type": "tool", "kind": "read", "title": "a.md"},
            {"type": "message", "text": "I look."},
            {"type": "result", "output": {"birds": 1}},
        ],
        [
            ("calls search", "ducks"),
            ("progress", '{"done": 3}'),
            ("calls read", "a.md"),
            ("agent", "I look."),
            ("agent", '{"birds": 1}'),
        ],
    ),
    "claude as a program": (
        [
            {"type": "assistant", "content": [{"type": "text", "text": "I look."}]},
            {"type": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "a line"}]},
        ],
        [("agent", "I look."), ("tool returns", "a line")],
    ),
    "Codex": (
        [
            {"type": "item.started", "item": {"type": "command_execution", "command": "ls"}},
            {"type": "item.completed", "item": {"type": "reasoning", "text": "Hm."}},
            {
                "type": "item.completed",
                "item": {"type": "command_execution", "command": "ls", "aggregated_output": "a.md\n"},
            },
            {
                "type": "item.completed",
                "item": {
                    "type": "mcp_tool_call",
                    "server": "docs",
                    "tool": "find",
                    "arguments": {"q": 1},
                    "result": "x",
                },
            },
            {"type": "item.completed", "item": {"id": "3", "type": "file_change", "changes": [{"path": "a.md"}]}},
            {"type": "item.completed", "item": {"type": "agent_message", "text": "Done."}},
            {"type": "turn.completed", "usage": {"input_tokens": 3}},
        ],
        [
            ("thinks", "Hm."),
            ("calls shell", "ls"),
            ("shell returns", "a.md\n"),
            ("calls mcp__docs__find", '{"q": 1}'),
            ("tool returns", "x"),
            ("file_change", '{"changes": [{"path": "a.md"}]}'),
            ("agent", "Done."),
            ("turn.completed", '{"usage": {"input_tokens": 3}}'),
        ],
    ),
    "opencode": (
        [
            {"type": "step_start", "part": {"id": "1"}},
            {"type": "tool_use", "part": {"tool": "read", "state": {"input": {"path": "a"}, "output": "a line"}}},
            {"type": "text", "part": {"text": "Done."}},
            {"type": "step_finish", "part": {"tokens": {}}},
            {"type": "other", "part": {"x": 1}},
        ],
        [("calls read", '{"path": "a"}'), ("read returns", "a line"), ("agent", "Done."), ("other", '{"x": 1}')],
    ),
    "ACP": (
        [
            {"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "Hm."}},
            {"sessionUpdate": "tool_call", "title": "Read a", "rawInput": {"path": "a"}},
            {"sessionUpdate": "tool_call_update", "status": "in_progress"},
            {"sessionUpdate": "tool_call_update", "content": [{"content": {"type": "text", "text": "a line"}}]},
            {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "Done."}},
            {"sessionUpdate": "plan", "entries": []},
        ],
        [
            ("thinks", "Hm."),
            ("calls Read a", '{"path": "a"}'),
            ("tool returns", "a line"),
            ("agent", "Done."),
            ("plan", '{"entries": []}'),
        ],
    ),
    "left out": ([{"left_out": "3 messages of 900 bytes"}], [("note", "3 messages of 900 bytes left out")]),
    "unknown": ([{"a": 1}, {}], [("note", '{"a": 1}'), ("note", "{}")]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_transcript_can_be_read(form: str) -> None:
    messages, expected = FORMS[form]
    assert [(turn.who, turn.text) for turn in turns(messages)] == expected


@laws
@given(messages_of(PLAIN, 3))
def test_nothing_that_is_kept_keeps_the_reader_from_reading_on(messages: list[dict[str, Any]]) -> None:
    for key in ("role", "parts", "message", "sessionUpdate", "content", "type", "tool_calls", "item", "part"):
        for message in messages:
            list(turns([{key: value} for value in message.values()]))
            list(turns([{**message, key: "assistant"}, {**message, key: [message]}, {**message, key: message}]))


def test_a_model_s_transcript_is_read_as_it_went(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A line about ducks.\n")
    with ModelServer() as server:
        server.script("critic", [Said(tool_uses=[ToolUse("grep", {"pattern": "ducks"})]), "There is one."])
        critic = AgentDefinition("critic", "d", "You find faults.", tools=("Grep",))
        asked(tmp_path / "r.db", Task(subagent_type="critic", prompt="Look"), agents=[critic], model=server)
    (answer,) = kept(tmp_path / "r.db")
    assert [(turn.who, turn.text) for turn in turns(answer["transcript"])][:5] == [
        ("system", "You find faults."),
        ("user", "Look"),
        ("calls grep", '{"pattern": "ducks"}'),
        ("grep returns", "a.md:1: A line about ducks."),
        ("agent", "There is one."),
    ]


def test_of_a_model_that_fails_there_is_what_it_had_done(tmp_path: Path) -> None:
    with ModelServer() as server:
        server.script("critic", [Said(tool_uses=[ToolUse("glob", {"pattern": "*"})]), Fail(400, "no")])
        critic = AgentDefinition("critic", "d", tools=("Glob",))
        with pytest.raises(AgentError):
            asked(tmp_path / "r.db", Task(subagent_type="critic", prompt="Look"), agents=[critic], model=server)
    (record,) = kept(tmp_path / "r.db")
    said = [turn.who for turn in turns(record["transcript"])]
    assert said == ["user", "calls glob", "glob returns"]


def test_of_a_model_that_is_cut_short_there_is_what_it_had_done(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A line.\n")
    stalled = threading.Event()

    def stall(request: Request) -> Stall:
        stalled.set()
        return Stall()

    async def node(state: State) -> State:
        task = asyncio.ensure_future(_await(Task(subagent_type="critic", prompt="Look")))
        assert await asyncio.to_thread(stalled.wait, 30)
        task.cancel()
        await asyncio.wait([task])
        return {"said": "stopped it"}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(tmp_path / "r.db")
    with ModelServer() as server:
        first = Said(tool_uses=[ToolUse("glob", {"pattern": "*.md"})])
        server.script("critic", lambda request: stall(request) if len(request.turns) > 1 else first)
        critic = AgentDefinition("critic", "d", "You find faults.", tools=("Glob",))
        asyncio.run(graph.ainvoke({"said": ""}, run_id="r", agents=[critic], model=server))
    (record,) = kept(tmp_path / "r.db")
    assert record["status"] == "cancelled"
    assert [(turn.who, turn.text) for turn in turns(record["transcript"])][:4] == [
        ("system", "You find faults."),
        ("user", "Look"),
        ("calls glob", '{"pattern": "*.md"}'),
        ("glob returns", "a.md"),
    ]


def test_of_claude_that_fails_there_is_what_it_had_done(tmp_path: Path) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra `claude` is not installed")
    (tmp_path / "a.md").write_text("A line about ducks.\n")
    with ModelServer() as server:
        server.script("worker", [Said(tool_uses=[ToolUse("Read", {"file_path": str(tmp_path / "a.md")})]), Fail(401)])
        worker = AgentDefinition("worker", "d", "You work.", backend="claude")
        with pytest.raises(AgentError):
            asked(tmp_path / "r.db", Task(subagent_type="worker", prompt="Look"), agents=[worker], model=server)
    (record,) = kept(tmp_path / "r.db")
    said = [(turn.who, turn.text) for turn in turns(record["transcript"])]
    assert said[0] == ("user", "Look")
    assert said[1][0] == "calls Read"
    assert said[2][0] == "tool returns"
    assert "A line about ducks." in said[2][1]


def test_an_answer_without_text_is_told_as_json() -> None:
    assert list(turns(transcripts.of("x", Answer({"a": 1})))) == [Turn("user", "x"), Turn("agent", '{"a": 1}')]
