"""Map and reduce: find the subjects of a topic, have a joke written about each at the same time, choose the best.

::

                                 ┌── Send ──▶ joke ──┐
    START ──▶ subjects ──────────┼── Send ──▶ joke ──┼──▶ best ──▶ END
              how many there     └── Send ──▶ joke ──┘
              are, nobody knows
              before

Each `Send` is a task of its own with an input of its own. The jokes are folded in the order of the subjects, whoever
is faster, and the receipt at the end proves that they were written side by side.

    python examples/map_reduce_jokes.py
"""

import operator
import re
from typing import Annotated, TypedDict

from fanfold import END, START, AgentDefinition, Send, StateGraph, Task, audit
from fanfold.testing import ModelServer, Request


class State(TypedDict):
    topic: str
    subjects: list[str]
    jokes: Annotated[list[str], operator.add]
    best: str


class Subject(TypedDict):
    subject: str


AGENTS = [
    AgentDefinition(
        name="topic-splitter",
        description="Finds the subjects of a topic.",
        prompt="You are topic-splitter. Name 3 to 5 subjects that belong to the topic, one a line and nothing else.",
        tools=(),
    ),
    AgentDefinition(
        name="joke-writer",
        description="Writes a joke.",
        prompt="You are joke-writer. Write a joke of one sentence about what you are given.",
        tools=(),
    ),
    AgentDefinition(
        name="joke-judge",
        description="Chooses the best joke.",
        prompt="You are joke-judge. Answer with the number of the best joke and nothing else.",
        tools=(),
    ),
]


async def subjects(state: State) -> dict:
    answer = await Task(subagent_type="topic-splitter", prompt=state["topic"])
    return {"subjects": [line for line in str(answer).splitlines() if line.strip()]}


def each(state: State) -> list[Send]:
    return [Send("joke", {"subject": subject}) for subject in state["subjects"]]


async def joke(state: Subject) -> dict:
    answer = await Task(subagent_type="joke-writer", prompt=state["subject"], description=state["subject"])
    return {"jokes": [str(answer)]}


async def best(state: State) -> dict:
    numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(state["jokes"], 1))
    answer = await Task(subagent_type="joke-judge", prompt=numbered)
    number = re.search(r"\d+", str(answer))
    assert number is not None, f"the judge was to name a number, and said {answer}"
    return {"best": state["jokes"][int(number[0]) - 1]}


graph = StateGraph(State)
graph.add_node(subjects).add_node(joke).add_node(best)
graph.add_edge(START, "subjects")
graph.add_conditional_edges("subjects", each, ["joke"])
graph.add_edge("joke", "best")
graph.add_edge("best", END)
app = graph.compile(name="jokes")


# What the stand-in for a model says.

JOKES = {
    "ducks": "Why do ducks never ask for credit? They put it on their own bill.",
    "elephants": "Why do elephants never use computers? They are afraid of the mouse.",
    "owls": "Why do owls never finish a joke? They cannot get past who.",
}


def tell(request: Request) -> str:
    return JOKES[request.prompt]  # they are asked at once, so that only the prompt says whose turn it is


def main() -> None:
    with ModelServer(latency=0.1) as server:  # stands in for a model; to ask a real one, name it: model="openai:..."
        server.script("topic-splitter", "\n".join(JOKES))
        server.script("joke-writer", tell)
        server.script("joke-judge", "2")
        result = app.invoke({"topic": "animals"}, agents=AGENTS, model=server)
    for subject, text in zip(result["subjects"], result["jokes"], strict=True):
        print(f"{subject}: {text}")
    print(f"\nThe best one: {result['best']}\n")
    print(audit(result))


if __name__ == "__main__":
    main()
