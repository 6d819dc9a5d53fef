"""The example of the README: four agents look at the working directory at once, and the run proves it."""

import operator
from typing import Annotated, TypedDict

from fanfold import START, StateGraph, Task, audit


class State(TypedDict):
    question: str
    answers: Annotated[list[str], operator.add]  # what agents write at once is folded, in a fixed order


def asking(agent: str):
    async def node(state: State) -> dict:
        result = await Task(subagent_type=agent, prompt=state["question"], description="look around")
        return {"answers": [f"## {agent}\n{result}"]}

    return node


graph = StateGraph(State)
for agent in ("sydney-research", "sydney-coder", "sydney-validator", "sydney-monitor"):
    graph.add_node(agent, asking(agent)).add_edge(START, agent)

team = graph.compile("sqlite:///.fanfold/runs.db")
result = team.invoke({"question": "What is this project for?"}, model="rehearsal")
print(*result["answers"], sep="\n\n")
print(audit(result))
