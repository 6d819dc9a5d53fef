"""The team whose workers are killed: rounds of agents, side by side and one after another, and of plain nodes.

::

    START ─▶ plan ─┬─▶ study a: two agents at once, then a third ─┬─▶ fold ─▶ sort ─▶ plan, or END
                   ├─▶ study b: the same                          │
                   ├─▶ count                                      │
                   └─▶ hold: keeps the event loop to itself ──────┘   only where that is wanted
"""

from __future__ import annotations

import asyncio
import operator
import random
import time
from typing import Annotated, Any, TypedDict

from fanfold import END, START, Send, StateGraph, Task, python_agent

ROUNDS = 2
PARTS = "ab"
AGENTS = ("0", "1", "last")


class State(TypedDict, total=False):
    round: int
    part: str
    log: Annotated[list[str], operator.add]


START_INPUT: State = {"round": 0, "log": []}


def team(store: Any, *, blocks: bool) -> tuple[Any, list[Any]]:
    """The graph and its agents. With `blocks`, there is a node in each round that blocks the event loop.

    Only a store that is `Watched` can run it; any other can be asked how its threads stand.
    """

    async def work(prompt: str) -> str:
        store.started(prompt)
        await asyncio.sleep(random.random() * 0.004)  # a model takes its time as well, and not always the same
        store.ended(prompt)
        return prompt

    async def study(state: Any) -> State:
        where = f"{state['round']}.{state['part']}"
        store.started(f"study {where}")
        first = [Task(subagent_type="worker", prompt=f"agent {where}.{name}") for name in AGENTS[:-1]]
        answers = await asyncio.gather(*first)
        answers.append(await Task(subagent_type="worker", prompt=f"agent {where}.{AGENTS[-1]}"))
        return _told(f"study {where}", *map(str, answers))

    def plain(name: str, held: float = 0.0) -> Any:
        async def node(state: State) -> State:
            label = f"{name} {state['round']}"
            store.started(label)
            time.sleep(held)
            return _told(label)

        return node

    async def sort(state: State) -> State:
        label = f"sort {state['round']}"
        store.started(label)
        return {"round": state["round"] + 1, **_told(label)}

    def _told(label: str, *more: str) -> State:
        store.ended(label)
        return {"log": [label, *more]}

    def parts(state: State) -> Any:
        beside = ["count", "hold"] if blocks else ["count"]
        return [*(Send("study", {"round": state["round"], "part": part}) for part in PARTS), *beside]

    graph = StateGraph(State).add_node("study", study).add_node("sort", sort)
    for name, held in {"plan": 0.0, "count": 0.0, "hold": 0.01, "fold": 0.0}.items():
        graph.add_node(name, plain(name, held))
    graph.add_edge(START, "plan").add_conditional_edges("plan", parts)
    graph.add_edge("study", "fold").add_edge("count", "fold").add_edge("hold", "fold").add_edge("fold", "sort")
    graph.add_conditional_edges("sort", lambda state: "plan" if state["round"] < ROUNDS else END)
    return graph.compile(store), [python_agent("worker")(work)]


def needs(name: str, *, sync: bool) -> set[str]:
    """Whose results must be on disk before `name` may start."""
    kind, _, where = name.partition(" ")
    if kind == "agent" and where.endswith(AGENTS[-1]):
        return {f"agent {where.removesuffix(AGENTS[-1])}{other}" for other in AGENTS[:-1]}
    if kind == "fold":
        agents = {f"agent {where}.{part}.{other}" for part in PARTS for other in AGENTS}
        return agents | ({f"study {where}.{part}" for part in PARTS} | {f"count {where}"} if sync else set())
    if sync and kind in ("study", "count", "hold"):
        return {f"plan {where.partition('.')[0]}"}
    if sync and kind == "sort":
        return {f"fold {where}"}
    return {f"sort {int(where) - 1}"} if sync and kind == "plan" and where != "0" else set()


def undisturbed(*, blocks: bool) -> dict[str, Any]:
    """How a thread ends."""
    logged: list[str] = []
    for number in range(ROUNDS):
        logged += [f"plan {number}", f"count {number}", *([f"hold {number}"] if blocks else [])]
        for part in PARTS:
            logged += [f"study {number}.{part}", *(f"agent {number}.{part}.{name}" for name in AGENTS)]
        logged += [f"fold {number}", f"sort {number}"]
    return {"round": ROUNDS, "log": logged}
