"""Plan and execute: plan all steps, do the first, then plan anew with what it has shown, until there is an answer.

::

    START ──▶ planner ──▶ executor ──▶ replanner ──▶ END   there is an answer
                             ▲             │
                             └─────────────┘               there are steps left, perhaps others than before

The planner thinks once about the whole, so that the executor, which may be a cheaper model, sees one small step at a
time. What has been done is folded into `done`; `plan` is only what is still to do.

    python examples/plan_and_execute.py
"""

import operator
import re
from typing import Annotated, Literal, TypedDict

from fanfold import END, START, AgentDefinition, StateGraph, Task, framed
from fanfold.testing import ModelServer


class State(TypedDict):
    goal: str
    plan: list[str]
    done: Annotated[list[str], operator.add]
    answer: str


AGENTS = [
    AgentDefinition(
        name="planner",
        description="Makes a plan.",
        prompt="You are planner. Write the steps that lead to the goal, one a line, numbered, and nothing else.",
        tools=(),
    ),
    AgentDefinition(
        name="executor",
        description="Does one step.",
        prompt="You are executor. Do the one step that you are given and say in one line what came of it.",
        tools=(),
    ),
    AgentDefinition(
        name="replanner",
        description="Sees what was done and plans the rest.",
        prompt="""You are replanner. You see a goal, what was done for it, and what is still planned. When the goal is
reached, write `Answer: ` and the answer. Otherwise write the steps that are left, one a line, numbered.""",
        tools=(),
    ),
]


async def ask(agent: str, prompt: str) -> str:
    return str(await Task(subagent_type=agent, prompt=prompt))


def steps(text: str) -> list[str]:
    return re.findall(r"^\d+\.\s*(.+)$", text, re.MULTILINE)


def so_far(done: list[str]) -> str:
    """What was done, told apart from what is to be done: it is what an agent said, and no step of the plan."""
    return framed("\n".join(done), source="executor") if done else "nothing yet"


async def planner(state: State) -> dict:
    return {"plan": steps(await ask("planner", state["goal"]))}


async def executor(state: State) -> dict:
    step, *rest = state["plan"]
    known = so_far(state["done"])
    outcome = await ask("executor", f"Known:\n{known}\n\nStep: {step}")
    return {"plan": rest, "done": [f"{step}: {outcome}"]}


async def replanner(state: State) -> dict:
    done, plan = so_far(state["done"]), "\n".join(state["plan"])
    text = await ask("replanner", f"Goal: {state['goal']}\n\nDone:\n{done}\n\nPlanned:\n{plan or 'nothing more'}")
    if text.startswith("Answer: "):
        return {"answer": text.removeprefix("Answer: ")}
    return {"plan": steps(text)}


def next_step(state: State) -> Literal["executor", "__end__"]:
    return "executor" if "answer" not in state and state["plan"] else END


graph = StateGraph(State)
graph.add_node(planner).add_node(executor).add_node(replanner)
graph.add_edge(START, "planner")
graph.add_edge("planner", "executor")
graph.add_edge("executor", "replanner")
graph.add_conditional_edges("replanner", next_step)
app = graph.compile(name="plan-and-execute")


def main() -> None:
    with ModelServer() as server:  # stands in for a model; to ask a real one, name it: model="anthropic:..."
        server.script("planner", "1. Find who won the race\n2. Find where the winner was born\n3. Look up its mayor")
        server.script("executor", ["Ada Berg won it", "she was born in Tromsø", "it lies at 69.6 degrees north"])
        server.script(
            "replanner",
            [
                "1. Find where Ada Berg was born\n2. Look up its mayor",
                "1. Find how far north Tromsø lies",  # the mayor was never asked for: the plan is mended
                "Answer: 69.6 degrees north, in Tromsø",
            ],
        )
        goal = {"goal": "How far north was the winner of the race born?"}
        for update in app.stream(goal, agents=AGENTS, model=server, recursion_limit=25):
            for node, wrote in update.items():
                show(node, wrote)


def show(node: str, wrote: dict) -> None:
    if node == "executor":
        print(f"{node:>9}: {wrote['done'][0]}")
    elif "answer" in wrote:
        print(f"{node:>9}: the answer is {wrote['answer']}")
    else:
        print(f"{node:>9}: the plan is to " + ", ".join(step[0].lower() + step[1:] for step in wrote["plan"]))


if __name__ == "__main__":
    main()
