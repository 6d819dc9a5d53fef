"""Reflection: a writer and a critic take turns until the critic is content, or until there were enough rounds.

::

    START ──▶ writer ──▶ critic ──▶ END      good enough, or the last round
                ▲           │
                └───────────┘                the writer gets the critique, and its own draft back

The two are separate agents on purpose: a model that has just written something sees little wrong with it.

    python examples/reflection.py
"""

import re
from typing import Literal, TypedDict

from fanfold import END, START, AgentDefinition, StateGraph, Task, framed
from fanfold.testing import ModelServer

GOOD_ENOUGH = 8
MOST_ROUNDS = 4


class State(TypedDict, total=False):
    brief: str
    draft: str
    critique: str
    score: int
    rounds: int


AGENTS = [
    AgentDefinition(
        name="writer",
        description="Writes, and writes anew.",
        prompt="You are writer. Write what the brief asks for. If you get a draft and a critique, improve the draft.",
        tools=(),
    ),
    AgentDefinition(
        name="critic",
        description="Says what is wrong with a text.",
        prompt="You are critic. Begin with a score such as `7/10`, then say what would make the text better.",
        tools=(),
    ),
]


async def writer(state: State) -> dict:
    prompt = f"Brief: {state['brief']}"
    if "draft" in state:
        draft, critique = framed(state["draft"], source="writer"), framed(state["critique"], source="critic")
        prompt += f"\n\nYour draft:\n{draft}\n\nThe critique:\n{critique}"
    result = await Task(subagent_type="writer", prompt=prompt)
    return {"draft": str(result), "rounds": state.get("rounds", 0) + 1}


async def critic(state: State) -> dict:
    text = framed(state["draft"], source="writer")  # what is to be judged, and gives no orders
    critique = str(await Task(subagent_type="critic", prompt=f"Brief: {state['brief']}\n\nText:\n{text}"))
    score = re.search(r"(\d+)/10", critique)
    return {"critique": critique, "score": int(score[1]) if score else 0}


def verdict(state: State) -> Literal["writer", "__end__"]:
    return END if state["score"] >= GOOD_ENOUGH or state["rounds"] >= MOST_ROUNDS else "writer"


graph = StateGraph(State)
graph.add_node(writer).add_node(critic)
graph.add_edge(START, "writer")
graph.add_edge("writer", "critic")
graph.add_conditional_edges("critic", verdict)
app = graph.compile(name="reflection")


def main() -> None:
    with ModelServer() as server:  # stands in for a model; to ask a real one, name it: model="anthropic:..."
        server.script(
            "writer",
            [
                "Our new library has many nice features.",
                "Our new library runs agents side by side.",
                "Our new library runs agents side by side, and each run ends with a receipt that proves it.",
            ],
        )
        server.script(
            "critic",
            [
                "3/10. It could be about any library. Name the one thing that it does.",
                "6/10. Better. Why should a reader believe it?",
                "9/10. Short, and it can be checked.",
            ],
        )
        brief = {"brief": "One sentence that announces the new library."}
        for update in app.stream(brief, agents=AGENTS, model=server, stream_mode="updates"):
            for node, wrote in update.items():
                print(f"{node}: {wrote['draft'] if node == 'writer' else wrote['critique']}")
        print(f"\n{len(server.journal)} calls of the model")


if __name__ == "__main__":
    main()
