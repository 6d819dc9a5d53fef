"""Unequal branches: two branches that see nothing of each other, each fast where the other is slow.

::

    START ──▶ skim ───▶ study ──┐
      │                         ├──▶ compare ──▶ END      compare waits for both
      └─────▶ measure ▶ chart ──┘

With a barrier after each step `study` would wait for `measure`, which it does not need: 0.2 s and 0.2 s, one after the
other. Here each node says what it sees and what it returns, by the annotations of its parameter and of its return
value. So a branch goes on at its own pace, with the same result, the same steps and the same checkpoints.

    python examples/unequal_branches.py
"""

import asyncio
from typing import TypedDict

from fanfold import END, START, StateGraph, audit

QUICK, SLOW = 0.02, 0.2


class State(TypedDict, total=False):
    topic: str
    outline: str
    essay: str
    numbers: list[int]
    figure: str
    report: str


class Topic(TypedDict):
    topic: str


class Outline(TypedDict):
    outline: str


class Essay(TypedDict):
    essay: str


class Numbers(TypedDict):
    numbers: list[int]


class Figure(TypedDict):
    figure: str


async def skim(state: Topic) -> Outline:
    await asyncio.sleep(QUICK)
    return {"outline": f"three points about {state['topic']}"}


async def study(state: Outline) -> Essay:
    await asyncio.sleep(SLOW)
    return {"essay": f"an essay on {state['outline']}"}


async def measure(state: Topic) -> Numbers:
    await asyncio.sleep(SLOW)
    return {"numbers": [len(word) for word in state["topic"].split()]}


async def chart(state: Numbers) -> Figure:
    await asyncio.sleep(QUICK)
    return {"figure": " ".join("#" * number for number in state["numbers"])}


async def compare(state: State) -> dict:
    return {"report": f"{state['essay']}, with the figure {state['figure']}"}


graph = StateGraph(State)
for node in (skim, study, measure, chart, compare):
    graph.add_node(node)
graph.add_edge(START, "skim")
graph.add_edge(START, "measure")
graph.add_edge("skim", "study")
graph.add_edge("measure", "chart")
graph.add_edge(["study", "chart"], "compare")
graph.add_edge("compare", END)
app = graph.compile(name="unequal_branches")


def main() -> None:
    result = app.invoke({"topic": "ducks in winter"})
    print(result["report"])
    print(audit(result))
    by_steps = graph.compile(name="by_steps", schedule="superstep").invoke({"topic": "ducks in winter"})
    assert by_steps["report"] == result["report"]
    print("\nand with a barrier after each step:")
    print(audit(by_steps))


if __name__ == "__main__":
    main()
