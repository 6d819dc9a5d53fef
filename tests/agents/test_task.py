"""`Task`: one agent asked from inside a node or from outside of any run, and what it must never do by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, AgentNotFoundError, StateGraph, Task, TaskResult, audit, python_agent
from fanfold.agents import asking
from fanfold.agents.scope import RehearsalWarning
from fanfold.errors import (
    AgentError,
    ModelKeyError,
    ModelUnavailableError,
    SyncInLoopError,
    UsageError,
    WorkspaceError,
)
from fanfold.events import Event, ModelAnswered, Noticed, TaskRemembered, ToolCalled
from fanfold.testing import Answer, ModelServer, ToolUse

CRITIC = AgentDefinition(name="critic", description="Finds faults.", prompt="You are the critic.")


def joined(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


class State(TypedDict, total=False):
    out: Annotated[list[Any], joined]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def house() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def asked(*tasks: Task, store: Path | None = None, **options: Any) -> list[TaskResult]:
    """What the tasks answer when one node awaits them side by side."""
    found: list[TaskResult] = []

    async def node(state: State) -> State:
        found.extend(await asyncio.gather(*tasks))
        return {"out": [result.output for result in found]}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(store)
    output = graph.invoke({"out": []}, **options)
    assert output["out"] == [result.output for result in found]
    return found


def agent_file(folder: Path, name: str, model: str = "", text: str = "You are helpful.") -> None:
    path = folder / ".claude" / "agents" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"model: {model}\n" if model else ""
    path.write_text(f"---\nname: {name}\ndescription: {name}\n{line}---\n{text}\n")


# What is asked


@pytest.mark.parametrize("values", [{"prompt": ""}, {"prompt": "  \n"}, {"subagent_type": ""}, {"prompt": 3}])
def test_a_task_without_an_agent_or_a_prompt_is_refused_at_once(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"Task: {next(iter(values))} must be a text"):
        Task(**{"subagent_type": "critic", "prompt": "x"} | values)


def test_a_description_that_is_no_text_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="description must be a text"):
        Task(subagent_type="critic", prompt="x", description=7)  # type: ignore[arg-type]  # on purpose


def test_an_unknown_agent_is_named_with_what_there_is() -> None:
    with pytest.raises(AgentNotFoundError, match='agent "critik" not found') as failure:
        asked(Task(subagent_type="critik", prompt="x"), agents=[CRITIC])
    assert 'did you mean "critic"?' in str(failure.value)
    assert "in node 'node', step 1" in "".join(failure.value.__notes__)


def test_what_is_no_agent_among_the_agents_is_named() -> None:
    with pytest.raises(UsageError, match="agents= holds 'critic', which is no agent"):
        asked(Task(subagent_type="critic", prompt="x"), agents=["critic"])


def test_two_agents_of_one_name_are_refused_since_one_would_be_ignored() -> None:
    one, other = (python_agent(name)(str.upper) for name in ("the critic", "The-Critic"))
    with pytest.raises(UsageError, match="agents= holds 2 agents named 'the critic'"):
        asked(Task(subagent_type="the critic", prompt="x"), agents=[one, other])


@pytest.mark.parametrize(
    ("backend", "error"),
    [("abacus", "asks for backend 'abacus', which this version does not"), ("python", "no function")],
)
def test_an_agent_that_nothing_here_can_run_is_an_error_that_says_so(backend: str, error: str) -> None:
    agent = dataclasses.replace(CRITIC, backend=backend)
    with pytest.raises(AgentError, match=error):
        asked(Task(subagent_type="critic", prompt="x"), agents=[agent])


# Agents that are functions


@python_agent("shout")
def shout(prompt: str) -> str:
    """Says it louder."""
    return prompt.upper()


@python_agent("whisper")
async def whisper(prompt: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"said": prompt.lower(), "parts": (1, 2)}


def test_functions_are_agents_whether_they_block_or_not() -> None:
    loud, quiet = asked(
        Task(subagent_type="shout", prompt="Hello"),
        Task(subagent_type="whisper", prompt="Hello"),
        agents=[shout, whisper],
    )
    assert (loud.output, str(loud), loud.agent_type, loud.status, loud.model) == (
        "HELLO",
        "HELLO",
        "shout",
        "completed",
        "",
    )
    assert quiet.output == {"said": "hello", "parts": (1, 2)}
    assert (loud.cost_usd, loud.total_tokens, loud.tool_uses) == (None, 0, 0)
    assert shout.definition.description == "Says it louder."


def test_a_blocking_node_asks_with_run() -> None:
    def node(state: State) -> State:
        return {"out": [Task(subagent_type=name, prompt="Hello").run().output for name in ("shout", "whisper")]}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile()
    assert graph.invoke({"out": []}, agents=[shout, whisper])["out"] == ["HELLO", {"said": "hello", "parts": (1, 2)}]


def test_run_is_refused_where_it_would_block_the_loop() -> None:
    async def node(state: State) -> State:
        return {"out": [Task(subagent_type="shout", prompt="x").run()]}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile()
    with pytest.raises(SyncInLoopError, match=r"use: await Task\(...\)"):
        graph.invoke({"out": []}, agents=[shout])


def test_agents_that_block_run_side_by_side() -> None:
    gate = threading.Barrier(3, timeout=10)
    meets = python_agent("meets")(lambda prompt: gate.wait() is not None)
    results = asked(*(Task(subagent_type="meets", prompt=f"{number}") for number in range(3)), agents=[meets])
    assert [result.output for result in results] == [True] * 3


def test_agents_side_by_side_are_held_to_the_run_s_limit_and_the_node_s_own_slot_is_free_meanwhile() -> None:
    running, most = 0, 0

    @python_agent("counts")
    async def counts(prompt: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return prompt

    asked(
        *(Task(subagent_type="counts", prompt=f"{number}") for number in range(9)), agents=[counts], max_concurrency=3
    )
    assert most == 3


def test_what_an_agent_raises_is_passed_on_and_a_node_may_catch_it() -> None:
    @python_agent("fails")
    async def fails(prompt: str) -> str:
        raise ZeroDivisionError(prompt)

    async def node(state: State) -> State:
        try:
            await Task(subagent_type="fails", prompt="no")
        except ZeroDivisionError as error:
            return {"out": [f"caught {error}"]}
        return {}

    with pytest.raises(ZeroDivisionError, match="no"):
        asked(Task(subagent_type="fails", prompt="no"), agents=[fails])
    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile()
    assert graph.invoke({"out": []}, agents=[fails])["out"] == ["caught no"]


def test_an_agent_may_ask_another_one() -> None:
    @python_agent("lead")
    async def lead(prompt: str) -> str:
        return f"they said {await Task(subagent_type='shout', prompt=prompt)}"

    (result,) = asked(Task(subagent_type="lead", prompt="hi"), agents=[lead, shout], max_concurrency=1)
    assert result.output == "they said HI"


# Outside of any run


def test_a_task_can_be_awaited_or_run_without_a_graph(house: ModelServer, folder: Path) -> None:
    agent_file(folder, "helper")
    house.script("helper", ["one", "two"])
    task = Task(subagent_type="helper", prompt="x", model=house)

    async def main() -> TaskResult:
        with pytest.raises(SyncInLoopError):
            task.run()
        return await task

    one, two = asyncio.run(main()), task.run()
    assert [one.output, two.output] == ["one", "two"]
    assert one.task_id != two.task_id


def test_an_unknown_agent_is_an_error_without_a_graph_too() -> None:
    with pytest.raises(AgentNotFoundError, match='agent "nobody" not found'):
        Task(subagent_type="nobody", prompt="x").run()


# The result


def test_a_result_is_frozen_plain_and_knows_what_it_took(house: ModelServer) -> None:
    house.script("critic", [[ToolUse("glob", {"pattern": "**"})], Answer("fine", usage=(70, 7))])
    events: list[Event] = []
    (result,) = asked(Task(subagent_type="critic", prompt="Look"), agents=[CRITIC], model=house, on_event=events.append)
    assert (result.output, result.tool_uses, result.usage["requests"]) == ("fine", 1, 2)
    assert result.total_tokens == result.usage["input_tokens"] + result.usage["output_tokens"] > 77
    assert (result.cost_usd, result.definition, result.duration > 0) == (0.0, CRITIC.digest, True)
    assert "Look" in json.dumps(result.transcript)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.output = "other"  # type: ignore[misc]  # on purpose
    assert [type(event) for event in events if isinstance(event, ModelAnswered | ToolCalled)] == [
        ModelAnswered,
        ToolCalled,
        ModelAnswered,
    ]
    assert {event.task for event in events if isinstance(event, ModelAnswered | ToolCalled)} == {result.task_id}


def test_a_repeated_run_asks_under_the_same_ids_and_not_again(folder: Path) -> None:
    ran: list[str] = []
    seen: list[str] = []
    events: list[Event] = []
    broken = True

    @python_agent("once")
    async def once(prompt: str) -> str:
        ran.append(prompt)
        return prompt * 2

    async def node(state: State) -> State:
        results = [await Task(subagent_type="once", prompt=prompt) for prompt in ("a", "b", "a")]
        seen.extend(result.task_id for result in results)
        if broken:
            raise ZeroDivisionError
        return {"out": [result.output for result in results]}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(folder / "runs.db")
    with pytest.raises(ZeroDivisionError):
        graph.invoke({"out": []}, thread_id="t", agents=[once])
    broken = False
    output = graph.invoke(None, thread_id="t", agents=[once], on_event=events.append)
    assert output["out"] == ["aa", "bb", "aa"]
    assert ran == ["a", "b", "a"]
    assert seen[:3] == seen[3:]
    assert len(set(seen)) == 3
    assert sum(isinstance(event, TaskRemembered) for event in events) == 3
    graph.invoke({"out": []}, thread_id="another", agents=[once])
    assert not set(seen[:3]) & set(seen[6:])
    assert audit(output).agents


def test_the_answer_to_another_prompt_or_of_another_agent_is_not_taken(folder: Path) -> None:
    question, agent, broken = "first", "shout", True

    async def node(state: State) -> State:
        result = await Task(subagent_type=agent, prompt=question)
        if broken:
            raise ZeroDivisionError
        return {"out": [result.output]}

    graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile(folder / "runs.db")
    agents = [shout, whisper]
    with pytest.raises(ZeroDivisionError):
        graph.invoke({"out": []}, thread_id="t", agents=agents)
    broken, question = False, "second"
    assert graph.invoke(None, thread_id="t", agents=agents)["out"] == ["SECOND"]

    broken = True
    with pytest.raises(ZeroDivisionError):
        graph.invoke({"out": []}, thread_id="u", agents=agents)
    broken, agent = False, "whisper"
    assert graph.invoke(None, thread_id="u", agents=agents)["out"] == [{"said": "second", "parts": (1, 2)}]


# Agents that are models


def test_an_agent_reads_in_the_run_s_folder_or_in_the_call_s(house: ModelServer, folder: Path) -> None:
    for name in ("run", "call"):
        (folder / name).mkdir()
        (folder / name / "note.txt").write_text(f"the note of the {name}")
    read = [ToolUse("read", {"path": "note.txt"})]

    def look(request: Any) -> Any:
        results = [result.text for turn in request.turns for result in turn.tool_results]
        return results[-1] if results else read

    house.script("reader", look)
    reader = dataclasses.replace(CRITIC, name="reader", prompt="You are the reader.")
    one, other = asked(
        Task(subagent_type="reader", prompt="Read"),
        Task(subagent_type="reader", prompt="Read", workspace=folder / "call"),
        agents=[reader],
        model=house,
        workspace=str(folder / "run"),
    )
    assert "the note of the run" in one.output
    assert "the note of the call" in other.output


def test_a_folder_that_is_missing_is_an_error_and_nothing_is_asked(server: ModelServer) -> None:
    with pytest.raises(WorkspaceError, match="missing' cannot be used"):
        asked(Task(subagent_type="critic", prompt="x", workspace="missing"), agents=[CRITIC], model=server)
    assert server.journal == []


def test_a_path_that_leads_out_is_told_to_the_model_which_may_go_on(house: ModelServer, folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "secret.txt").write_text("the secret")
    house.script("sly", [[ToolUse("read", {"path": "../secret.txt"})], "gave up"])
    sly = dataclasses.replace(CRITIC, name="sly", prompt="You are sly.")
    (result,) = asked(Task(subagent_type="sly", prompt="x"), agents=[sly], model=house, workspace=folder / "inside")
    assert result.output == "gave up"
    assert "the secret" not in json.dumps(result.transcript)


def test_an_agent_has_only_the_tools_that_its_file_names_and_is_told_which_it_cannot_have(server: ModelServer) -> None:
    server.script("critic", ["fine"])
    events: list[Event] = []
    agent = dataclasses.replace(CRITIC, tools=("Read", "WebSearch"))
    asked(Task(subagent_type="critic", prompt="x"), agents=[agent], model=server, on_event=events.append)
    assert server.journal[0].tools == ("read",)
    assert [event.message for event in events if isinstance(event, Noticed)] == [
        "agent 'critic' asks for tools that it cannot have here: WebSearch"
    ]


def test_what_an_agents_file_says_that_nobody_heeds_is_told_in_the_run_too(server: ModelServer) -> None:
    server.script("critic", ["fine"])
    events: list[Event] = []
    agent = dataclasses.replace(CRITIC, extra={"permissionMode": "plan", "isolation": "worktree", "color": "red"})
    asked(Task(subagent_type="critic", prompt="x"), agents=[agent], model=server, on_event=events.append)
    assert [event.message for event in events if isinstance(event, Noticed)] == [
        "the file of agent 'critic' says 'permissionMode', 'isolation', which backend 'model' does not heed"
    ]


def test_an_agent_that_does_not_come_to_an_end_is_stopped_after_its_turns(server: ModelServer) -> None:
    server.script("critic", lambda request: ToolUse("glob", {"pattern": "*"}))
    agent = dataclasses.replace(CRITIC, max_turns=3)
    with pytest.raises(AgentError, match=r"agent 'critic' asked model .* and was stopped: .*\n.*maxTurns"):
        asked(Task(subagent_type="critic", prompt="x"), agents=[agent], model=server)
    assert len(server.journal) == 3


def test_model_agents_are_in_flight_at_the_same_time(server: ModelServer) -> None:
    server.script("critic", lambda request: "fine")
    gate = server.rendezvous(4)
    asked(*(Task(subagent_type="critic", prompt=f"{number}") for number in range(4)), agents=[CRITIC], model=server)
    assert gate.met
    assert server.peak == 4


VENDORS = {"openai:gpt-x": "OPENAI", "anthropic:claude-x": "ANTHROPIC"}


@pytest.fixture
def vendor(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """A server that stands where both vendors are said to be, with a key for each."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy-of-openai")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-dummy-of-anthropic")
    return server


@pytest.mark.parametrize("model", VENDORS)
def test_a_server_that_is_not_there_is_named_by_its_variable(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer() as gone:
        url = gone.url
    monkeypatch.setenv(f"{VENDORS[model]}_BASE_URL", url)
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.0)
    with pytest.raises(ModelUnavailableError, match=r"'critic' asked .* cannot be reached") as failure:
        asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)
    assert f"{VENDORS[model]}_BASE_URL" in str(failure.value)


@pytest.mark.parametrize("model", VENDORS)
def test_without_any_key_nothing_is_asked(model: str) -> None:
    with pytest.raises(ModelKeyError, match=f"needs a key and there is none\n.*{VENDORS[model]}_API_KEY"):
        asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt-x", "'gpt-x' does not say whose it is"),
        ("openia:gpt-x", "'openia', which is not one of .*did you mean 'openai'"),
        ("openai:", "does not say whose"),
        (object(), "neither a name nor a server"),
        (3, "neither a name nor a server"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused(model: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)


# Which model: nobody pays who did not name one


def test_keys_and_addresses_in_the_environment_name_no_model(vendor: ModelServer) -> None:
    with pytest.warns(RehearsalWarning, match="no model was named") as warned:
        results = asked(*(Task(subagent_type="critic", prompt=f"Look {n}") for n in range(3)), agents=[CRITIC])
    assert len(warned) == 1
    assert {result.model for result in results} == {"rehearsal"}
    assert {result.cost_usd for result in results} == {0.0}
    assert vendor.journal == []


@pytest.mark.parametrize("own", ["opus", "sonnet", "inherit", "anthropic:claude-x", "openai:gpt-x", "claude-x"])
def test_an_agent_s_file_names_no_model_by_itself(vendor: ModelServer, folder: Path, own: str) -> None:
    agent_file(folder, "greedy", own)
    with pytest.warns(RehearsalWarning):
        (result,) = asked(Task(subagent_type="greedy", prompt="Look"))
    assert result.model == "rehearsal"
    assert vendor.journal == []


def test_outside_of_any_run_it_is_the_same(vendor: ModelServer, folder: Path) -> None:
    agent_file(folder, "greedy", "anthropic:claude-x")
    with pytest.warns(RehearsalWarning):
        assert Task(subagent_type="greedy", prompt="Look").run().model == "rehearsal"
    assert vendor.journal == []


def test_a_rehearsal_that_is_meant_is_no_reason_to_warn(vendor: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = asked(Task(subagent_type="critic", prompt="Look"), agents=[CRITIC], model="rehearsal")
    monkeypatch.setenv("FANFOLD_MODEL", "rehearsal")
    (other,) = asked(Task(subagent_type="critic", prompt="Look"), agents=[CRITIC])
    assert one.model == other.model == "rehearsal"
    assert vendor.journal == []


def test_an_empty_fanfold_model_names_none(vendor: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_MODEL", "")
    with pytest.warns(RehearsalWarning):
        asked(Task(subagent_type="critic", prompt="Look"), agents=[CRITIC])
    assert vendor.journal == []


def test_fanfold_model_names_one(vendor: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor.script("critic", ["paid for"])
    monkeypatch.setenv("FANFOLD_MODEL", "openai:gpt-x")
    (result,) = asked(Task(subagent_type="critic", prompt="Look"), agents=[CRITIC])
    assert (result.output, result.model, result.cost_usd) == ("paid for", "openai:gpt-x", None)
    assert [call.model for call in vendor.journal] == ["gpt-x"]


@pytest.mark.parametrize(
    ("call", "own", "run", "environment", "model"),
    [
        ("openai:of-call", "openai:of-file", "openai:of-run", "openai:of-env", "of-call"),
        (None, "openai:of-file", "openai:of-run", "openai:of-env", "of-run"),
        (None, "anthropic:of-file", None, "openai:of-env", "of-env"),
        (None, "claude-of-file", "openai:of-run", None, "of-run"),
        (None, "opus", "openai:of-run", "openai:of-env", "of-run"),
        (None, "inherit", "openai:of-run", None, "of-run"),
        (None, "", None, "openai:of-env", "of-env"),
        ("openai:of-call", "opus", None, None, "of-call"),
    ],
)
def test_the_call_s_model_counts_before_the_run_s_and_the_environment_s_and_never_the_file_s(
    vendor: ModelServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str | None,
    own: str,
    run: str | None,
    environment: str | None,
    model: str,
) -> None:
    agent_file(folder, "helper", own)
    vendor.script("helper", ["fine"])
    if environment:
        monkeypatch.setenv("FANFOLD_MODEL", environment)
    asked(Task(subagent_type="helper", prompt="x", model=call), model=run)
    assert [asked.model for asked in vendor.journal] == [model]


def test_a_server_that_the_run_names_is_asked_whatever_the_agents_files_say(vendor: ModelServer, folder: Path) -> None:
    agent_file(folder, "greedy", "anthropic:claude-x")
    with ModelServer() as meant:
        meant.script("greedy", ["fine"])
        (result,) = asked(Task(subagent_type="greedy", prompt="x"), model=meant)
        assert (result.output, len(meant.journal)) == ("fine", 1)
    assert vendor.journal == []


def test_a_file_that_asks_for_another_model_than_the_one_named_is_said(vendor: ModelServer, folder: Path) -> None:
    agent_file(folder, "dear", "anthropic:claude-dear")
    vendor.script("dear", ["fine"])
    events: list[Event] = []
    asked(Task(subagent_type="dear", prompt="x"), model="openai:gpt-x", on_event=events.append)
    notes = [event.message for event in events if isinstance(event, Noticed)]
    assert notes == ["the file of agent 'dear' asks for 'anthropic:claude-dear'; 'openai:gpt-x' was named and answers"]


# Who is told who asks


@pytest.mark.parametrize("model", VENDORS)
def test_a_server_on_this_machine_is_told_which_agent_asks(vendor: ModelServer, model: str) -> None:
    vendor.script("critic", ["fine"])
    (result,) = asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)
    assert [(call.agent, call.task) for call in vendor.journal] == [("critic", result.task_id)]


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A proxy that refuses everything, and what it was asked: URL and headers."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("model", VENDORS)
def test_a_server_elsewhere_is_not_told_which_agent_asks(
    proxy: tuple[str, list[tuple[str, dict[str, str]]]], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv(f"{VENDORS[model]}_BASE_URL", "http://models.example")
    monkeypatch.setenv(f"{VENDORS[model]}_API_KEY", "sk-dummy")
    with pytest.raises(ModelKeyError):
        asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)
    ((asked_for, headers),) = seen
    assert asked_for.startswith("http://models.example/")
    assert not [name for name in headers if name.startswith("x-fanfold")]


@pytest.mark.parametrize("model", VENDORS)
def test_a_proxy_is_not_asked_for_a_server_on_this_machine(
    vendor: ModelServer,
    proxy: tuple[str, list[tuple[str, dict[str, str]]]],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vendor.script("critic", ["fine"])
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy[0])
    asked(Task(subagent_type="critic", prompt="x"), agents=[CRITIC], model=model)
    assert (len(vendor.journal), proxy[1]) == (1, [])


def test_no_more_of_an_agent_are_at_work_at_once_than_its_definition_says_whoever_calls_them() -> None:
    most = busy = 0

    async def paints(prompt: str) -> str:
        nonlocal most, busy
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1
        return prompt

    made = python_agent("painter")(paints)
    painter = dataclasses.replace(made, definition=dataclasses.replace(made.definition, max_concurrent=2))

    @python_agent("other")
    async def other(prompt: str) -> str:
        return prompt

    async def calls(state: State) -> State:
        names = ["painter"] * 6 + ["other"]
        answers = await asyncio.gather(*(Task(subagent_type=name, prompt=str(n)) for n, name in enumerate(names)))
        return {"out": [str(answer) for answer in answers]}

    inner = StateGraph(State).add_node("c", calls).add_edge(START, "c").compile()
    graph = StateGraph(State).add_node("a", calls).add_node("b", calls).add_node("inner", inner)
    for name in ("a", "b", "inner"):
        graph.add_edge(START, name)
    done = graph.compile().invoke({"out": []}, agents=[painter, other])
    assert most == 2
    lives = audit(done).agents
    assert len(lives) == 21
    waited = {life.name for life in lives if life.waited_for}
    assert waited == {"painter"}
    assert {life.waited_for for life in lives if life.waited_for} == {"limit 2 of 'painter'"}


def test_agents_that_are_asked_the_same_at_once_are_asked_as_often_as_they_are_called() -> None:
    asked: list[str] = []

    @python_agent("voter")
    async def votes(prompt: str) -> int:
        asked.append(prompt)
        return len(asked)

    async def ask(state: State) -> State:
        tasks = [Task(subagent_type="voter", prompt="Yes or no?") for _ in range(3)]
        return {"out": [answer.output for answer in await asyncio.gather(*tasks)]}

    graph = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
    assert sorted(graph.invoke({"out": []}, agents=[votes])["out"]) == [1, 2, 3]
