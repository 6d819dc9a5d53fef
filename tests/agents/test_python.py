"""Agents that are functions: where they run, and what they know of their run."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, Task, get_runtime, python_agent
from fanfold.errors import AgentTimeoutError, UsageError
from fanfold.events import TaskWaiting
from fanfold.work.places import cores


class State(TypedDict, total=False):
    out: list[Any]


def asked(agent: Any, *prompts: str, **options: Any) -> list[Any]:
    """What the agent answers to the prompts, side by side."""

    async def node(state: State) -> State:
        tasks = (Task(subagent_type=agent.definition.name, prompt=prompt) for prompt in prompts)
        return {"out": [answer.output for answer in await asyncio.gather(*tasks)]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    found: list[Any] = graph.invoke({"out": []}, agents=[agent], **options)["out"]
    return found


def who(prompt: str) -> list[Any]:
    """Where this runs."""
    return [os.getpid(), threading.current_thread() is threading.main_thread(), prompt]


async def awho(prompt: str) -> list[Any]:
    return who(prompt)


@pytest.mark.parametrize("function", [who, awho])
def test_a_function_runs_in_a_process_of_its_own_when_it_is_to(function: Any) -> None:
    pid, _, prompt = asked(python_agent("a", executor="process")(function), "x")[0]
    assert pid != os.getpid()
    assert prompt == "x"


def test_a_function_runs_in_a_thread_and_an_async_one_where_the_run_does() -> None:
    assert asked(python_agent("a")(who), "x") == [[os.getpid(), False, "x"]]
    assert asked(python_agent("a", executor="thread")(awho), "x") == [[os.getpid(), False, "x"]]


def test_functions_in_processes_wait_for_one_and_that_is_told() -> None:
    events: list[Any] = []
    prompts = [str(number) for number in range(2 * cores() + 1)]
    found = asked(python_agent("a", executor="process")(who), *prompts, on_event=events.append)
    assert [answer[2] for answer in found] == prompts
    waits = [event.waits_for for event in events if isinstance(event, TaskWaiting)]
    assert set(waits) == {f"one of {cores()} processes"}
    assert len(waits) == len(prompts) - cores()


def test_an_agent_knows_the_id_of_its_task_which_is_the_same_when_the_call_is_repeated() -> None:
    ids: list[str] = []

    async def tells(prompt: str) -> str:
        info = get_runtime().execution_info
        assert info is not None
        ids.append(info.task_id)
        return info.task_id

    agent = python_agent("a")(tells)
    found = [asked(agent, "x", "x", thread_id="t") for _ in range(2)]
    assert found[0] == found[1]
    assert sorted(ids[:2]) == sorted(found[0])
    assert len(set(ids)) == 2


def test_the_limits_of_a_function_are_given_with_it() -> None:
    async def stays(prompt: str) -> str:
        await asyncio.Event().wait()
        return prompt

    agent = python_agent("a", timeout=0.01, max_concurrent=3)(stays)
    assert agent.definition.max_concurrent == 3
    with pytest.raises(AgentTimeoutError, match="did not answer within"):
        asked(agent, "x")


def test_a_place_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'process'"):
        python_agent("a", executor="proces")
