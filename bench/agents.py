"""How long it takes agents that work side by side to begin and to end: `python -m bench.agents`.

A hundred agents that ask a model, each answered after a second; and eight that Claude Code runs, each answered after
two. Were nothing to be done before and after, they would take just that. The models' server, ours, is a process of its
own, as a provider's is. What Claude Code itself needs to start is most of what its agents take: about half a second of
a core each, and more beside others.

It fails when the middle of `--times` runs took longer than its bar, or when agents were not all at work at once. Where
other programs keep the cores busy, it takes as much longer as they take.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, TypedDict

from fanfold import START, AgentDefinition, StateGraph, Task, audit
from fanfold.testing import Answer, ModelServer

SERVES: Final = "--serves"


@dataclass(frozen=True, slots=True)
class Kind:
    """Agents of one kind: how many, how many seconds their model takes to answer, and how many all of it may take."""

    name: str
    backend: str
    number: int
    answers_after: float
    bar: float


KINDS: Final = (Kind("model", "model", 100, 1.0, 1.5), Kind("claude", "claude", 8, 2.0, 5.0))


class State(TypedDict, total=False):
    """How many have answered."""

    answered: int


@dataclass(frozen=True, slots=True)
class Served:
    """A model whose server runs elsewhere."""

    url: str


@contextmanager
def served(kind: Kind, times: int) -> Iterator[Served]:
    """The model of these agents, served by another process until the end of the block."""
    asked = [str(kind.answers_after), str(kind.number * times)]
    command = [sys.executable, "-m", "bench.agents", SERVES, *asked]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "it is a pipe"
        assert server.stdin is not None, "it is a pipe"
        try:
            yield Served(server.stdout.readline().strip())
        finally:
            server.stdin.close()


def serve(answers_after: float, number: int) -> None:
    """Serve a model until nobody needs it any more."""
    with ModelServer() as server:
        server.script("worker", [Answer("done", latency=answers_after)] * number)
        print(server.url, flush=True)
        sys.stdin.read()


def took(kind: Kind, model: Served) -> float:
    """The seconds of one run in which all agents are called at once."""
    worker = AgentDefinition("worker", "works", "Answer with one word.", tools=(), backend=kind.backend)

    async def fan_out(state: State) -> State:
        answers = await asyncio.gather(
            *(Task(subagent_type="worker", prompt=f"part {number}") for number in range(kind.number))
        )
        return {"answered": len(answers)}

    graph: Any = StateGraph(State).add_node("fan_out", fan_out).add_edge(START, "fan_out").compile()
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as folder:
        began = time.perf_counter()
        result = graph.invoke({}, agents=[worker], model=model, workspace=folder)
        seconds = time.perf_counter() - began
    peak = audit(result).peak
    if result["answered"] != kind.number or peak != kind.number:
        raise RuntimeError(f"{kind.name}: {result['answered']} answers, at most {peak} agents at once")
    return seconds


def measured(kind: Kind, times: int) -> bool:
    """Whether agents of a kind are as fast as they should be; prints how fast they are."""
    with served(kind, times + 1) as model:
        took(kind, model)  # what is imported then, and what Claude Code writes when it first runs
        seconds = sorted(took(kind, model) for _ in range(times))
    middle = statistics.median(seconds)
    print(
        f"{kind.name:<8} {kind.number:>4} agents of {kind.answers_after:g} s   best {seconds[0]:5.2f} s   "
        f"middle {middle:5.2f} s   worst {seconds[-1]:5.2f} s   bar {kind.bar:g} s"
    )
    return middle <= kind.bar


def main(words: Sequence[str]) -> int:
    """Measure; 1 when something took longer than it may."""
    if words[:1] == [SERVES]:
        serve(float(words[1]), int(words[2]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench.agents", description="Measure agents side by side.")
    parser.add_argument("--times", type=int, default=9, help="how often each kind is measured")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="only these")
    asked = parser.parse_args(words)
    met = True
    for kind in KINDS:
        if asked.kind not in (None, kind.name):
            continue
        if kind.backend == "claude" and find_spec("claude_agent_sdk") is None:
            print("claude: not measured, as the extra `claude` is not installed")
            continue
        met = measured(kind, asked.times) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
