"""Four agents look at one folder at the same time, each from its own side; a fifth makes one report of what they found.

::

    START ─┬─▶ sydney-research  ─┐
           ├─▶ sydney-coder     ─┤
           ├─▶ sydney-validator ─┼─▶ sydney-synthesizer ─▶ END
           └─▶ sydney-monitor   ─┘

The agents are the files in `.claude/agents` beside this one. What the four answer is framed before the fifth reads it:
an agent's output is made of files that other people wrote, and must not be taken for an order.
"""

import operator
from pathlib import Path
from typing import Annotated, TypedDict

from fanfold import END, START, StateGraph, Task, agents_in, audit

AGENTS = agents_in(Path(__file__).parent / ".claude" / "agents")
FOUR = ("sydney-research", "sydney-coder", "sydney-validator", "sydney-monitor")


class Question(TypedDict):
    question: str


class Report(TypedDict):
    report: str


class State(Question, Report):
    answers: Annotated[list[str], operator.add]  # framed, in the order of the agents' names


def asking(agent: str):
    async def ask(state: Question) -> dict:
        result = await Task(subagent_type=agent, prompt=state["question"], description="its own side")
        return {"answers": [result.framed()]}

    return ask


async def synthesize(state: State) -> dict:
    prompt = "\n\n".join([state["question"], "This is what four agents have answered:", *state["answers"]])
    result = await Task(subagent_type="sydney-synthesizer", prompt=prompt, description="one report")
    return {"report": str(result)}


graph = StateGraph(State, input_schema=Question, output_schema=Report)
for agent in FOUR:
    graph.add_node(agent, asking(agent)).add_edge(START, agent)
graph.add_node("sydney-synthesizer", synthesize)
graph.add_edge(list(FOUR), "sydney-synthesizer").add_edge("sydney-synthesizer", END)

if __name__ == "__main__":
    done = graph.compile().invoke(
        {"question": "What is this project for, and how is it tested?"}, agents=AGENTS, model="rehearsal"
    )
    print(done["report"])
    print(audit(done))
