"""What the tests of agents that are programs share: how one is asked, and which of its processes are alive."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

from fanfold import START, StateGraph, Task, TaskResult
from fanfold.agents.backends.python import PythonAgent
from fanfold.agents.definition import AgentDefinition

PATIENCE = 20.0
SOON = 0.5
"""Seconds within which a process tree is gone that is to be gone."""


class State(TypedDict, total=False):
    number: int


def graph(prompt: str, results: list[TaskResult], **options: Any) -> Any:
    """A graph whose one node asks the agent `worker`."""

    async def ask(state: State) -> None:
        results.append(await Task(subagent_type="worker", prompt=prompt, **options))

    return StateGraph(State).add_node(ask).add_edge(START, "ask").compile()


def asked(agent: AgentDefinition | PythonAgent, prompt: str = "go", output: Any = None, **options: Any) -> TaskResult:
    """What an agent answers that a node asks."""
    results: list[TaskResult] = []
    graph(prompt, results, output=output).invoke({"number": 1}, agents=[agent], **options)
    return results[0]


def agent(command: str | list[str], **extra: Any) -> AgentDefinition:
    words = command if isinstance(command, str) else tuple(command)
    return AgentDefinition("worker", "Works.", backend="process", command=words, **extra)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def answer(command: str | list[str], prompt: str = "go", **extra: Any) -> Any:
    return asked(agent(command, **extra), prompt).output


def alive(mark: str) -> list[int]:
    """The processes with the mark, but for ours."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in (entry / "environ").read_text():
                found.append(int(entry.name))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def until(holds: Any, seconds: float = PATIENCE) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds, "it did not come to that"
        time.sleep(0.005)
    return time.monotonic() - began
