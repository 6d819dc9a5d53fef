"""The program that `test_kill` kills: two rounds of three nodes that call agents, side by side and one after another.

Every start and every end of an agent or of a node is a line in a file, on disk before the work goes on, and then a
line on stdout for whoever wants to kill this process just there.
"""

from __future__ import annotations

import asyncio
import operator
import os
import random
import sys
from typing import Annotated, Any, TypedDict

from fanfold import END, START, Send, StateGraph, Task, python_agent
from fanfold.store.sqlite import SqliteStore

ROUNDS = 2


class State(TypedDict, total=False):
    round: int
    log: Annotated[list[str], operator.add]


class Note:
    """Appends lines to the file at `path`, each with one write and one sync."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())
        os.fsync(self._file)
        print(line, flush=True)


def team(path: str, note: Note) -> tuple[Any, list[Any]]:
    """The graph and its agents."""

    async def work(prompt: str) -> str:
        note(f"start {prompt}")
        await asyncio.sleep(random.random() * 0.004)  # a model takes its time as well, and not always the same
        note(f"end {prompt}")
        return prompt

    async def study(state: Any) -> State:
        where = f"{state['round']}.{state['part']}"
        note(f"start node {where}")
        ask = [Task(subagent_type="worker", prompt=f"agent {where}.{number}") for number in range(2)]
        side_by_side = await asyncio.gather(*ask)
        last = await Task(subagent_type="worker", prompt=f"agent {where}.last of {len(side_by_side)}")
        return {"log": [f"node {where}", *(str(result) for result in (*side_by_side, last))]}

    def fold(state: State) -> State:
        note(f"start node fold {state['round']}")
        return {"round": state["round"] + 1, "log": [f"node fold {state['round']}"]}

    def parts(state: State) -> Any:
        return [Send("study", {"round": state["round"], "part": part}) for part in "abc"]

    graph = StateGraph(State).add_node("plan", lambda state: {}).add_node("study", study).add_node("fold", fold)
    graph.add_edge(START, "plan").add_conditional_edges("plan", parts).add_edge("study", "fold")
    graph.add_conditional_edges("fold", lambda state: "plan" if state["round"] < ROUNDS else END)
    return graph.compile(SqliteStore(path)), [python_agent("worker")(work)]


def main(path: str, log: str, thread: str, limit: str) -> None:
    """Begin the thread, or go on with it, and run it to its end."""
    graph, agents = team(path, Note(log))
    input = None if graph.kept_in.thread(thread) else {"round": 0, "log": []}
    graph.invoke(input, thread_id=thread, run_id=thread, max_concurrency=int(limit) or None, agents=agents)
    graph.kept_in.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
