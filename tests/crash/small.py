"""A small team whose worker ends at each moment in turn: a fan-out, an agent, a graph inside, and a join.

::

    START ─▶ plan ─┬─▶ a ───────────────────┬─▶ join ─▶ END
                   ├─▶ b: asks an agent ────┤
                   └─▶ inner: c ─▶ d ───────┘

The graph inside is `plain`, or it `remembers` where it came to in the run before, or it `pauses` in every run.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from fanfold import END, START, StateGraph, Task, interrupt, python_agent


class State(TypedDict, total=False):
    turn: int
    log: Annotated[list[str], operator.add]


class Inner(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    notes: Annotated[list[str], operator.add]


def team(store: Any, inside: str) -> tuple[Any, list[Any]]:
    """The graph and its agents. Only a store that is `Watched` can run it; any other can be asked how it stands."""

    def node(name: str) -> Any:
        async def work(state: State) -> State:
            store.started(name)
            store.ended(name)
            return {"log": [name]}

        return work

    async def asks(state: State) -> State:
        store.started("b")
        answer = await Task(subagent_type="worker", prompt="agent")
        store.ended("b")
        return {"log": ["b", str(answer)]}

    async def answers(prompt: str) -> str:
        store.started(prompt)
        store.ended(prompt)
        return prompt

    async def last(state: Inner) -> Inner:
        """What the graph inside remembers shows in its state, not in that of the graph around it."""
        store.started("d")
        if inside == "pauses":
            interrupt("go on?")
        store.ended("d")
        return {"log": ["d"], "notes": [f"before it there were {len(state.get('notes', []))}"]}

    inner = StateGraph(Inner).add_node("c", node("c")).add_node("d", last)
    inner.add_edge(START, "c").add_edge("c", "d").add_edge("d", END)
    graph = StateGraph(State).add_node("b", asks)
    graph.add_node("inner", inner.compile(checkpointer=True if inside == "remembers" else None))
    for name in ("plan", "a", "join"):
        graph.add_node(name, node(name))
    graph.add_edge(START, "plan").add_edge("join", END)
    for name in ("a", "b", "inner"):
        graph.add_edge("plan", name)
    graph.add_edge(["a", "b", "inner"], "join")
    return graph.compile(store), [python_agent("worker")(answers)]


def run(store: Any, thread: str, durability: str, inside: str, *, anew: bool = False) -> Any:
    """Run the thread to its end: from where it stands, or `anew` and where it has no checkpoint from a new input."""
    graph, agents = team(store, inside)
    input = {"turn": 1, "log": []} if anew or store.thread(thread) is None else None
    return graph.invoke(input, thread_id=thread, agents=agents, durability=durability)
