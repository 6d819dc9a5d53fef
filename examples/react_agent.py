"""A ReAct agent: a model reasons, acts with tools, sees what came of it, and goes on until it can answer.

::

                  ┌──────────────── observations ───────────────┐
                  ▼                                             │
    START ──▶   model   ──── one Send for each action ──▶     tool
                  │
                  └── no action: this is the answer ──▶ END

The conversation is the state. The model writes its actions as text, `Action: population[Oslo]`, as in the paper that
gave the pattern its name (Yao et al., 2022), so that any model will do. Actions of one message run side by side.

    python examples/react_agent.py
"""

import re
from dataclasses import dataclass
from typing import Annotated, TypedDict

from fanfold import END, START, AgentDefinition, Send, StateGraph, Task, add_messages
from fanfold.testing import ModelServer, Request


@dataclass(frozen=True)
class Message:
    role: str
    content: str
    id: str | None = None  # add_messages gives it one


class State(TypedDict):
    messages: Annotated[list[Message], add_messages]


class Action(TypedDict):
    tool: str
    argument: str


def population(city: str) -> int:
    return {"Oslo": 709_037, "Bergen": 289_330}[city]


def add(numbers: str) -> int:
    return sum(int(number) for number in numbers.split(","))


TOOLS = {"population": population, "add": add}

REASONER = AgentDefinition(
    name="reasoner",
    description="Answers questions with the help of tools.",
    prompt="""You are reasoner. The tools are population[city] and add[number, number, ...].
Either write a thought, and then one or several lines like `Action: population[Oslo]`; each is observed, and you are
asked again. Or, when you know enough, write your answer without any action.""",
    tools=(),  # none of the agent's own: in this graph, tools are a node
)


async def model(state: State) -> dict:
    conversation = "\n".join(f"{message.role}: {message.content}" for message in state["messages"])
    answer = await Task(subagent_type="reasoner", prompt=conversation)
    return {"messages": [Message("assistant", str(answer))]}


def tool(action: Action) -> dict:
    name, argument = action["tool"], action["argument"]
    try:
        seen = str(TOOLS[name](argument))
    except (KeyError, ValueError) as error:  # the model is told, so that it can try something else
        seen = f"failed with {error!r}"
    return {"messages": [Message("tool", f"{name}[{argument}] = {seen}")]}


def actions(state: State) -> list[Send] | str:
    wanted = re.findall(r"^Action: (\w+)\[(.*)\]$", state["messages"][-1].content, re.MULTILINE)
    return [Send("tool", {"tool": name, "argument": argument}) for name, argument in wanted] or END


graph = StateGraph(State)
graph.add_node(model).add_node(tool)
graph.add_edge(START, "model")
graph.add_conditional_edges("model", actions, ["tool", END])
graph.add_edge("tool", "model")
app = graph.compile(name="react")


# What the stand-in for a model says. It works with what the tools have found, as a model would.


def add_up(request: Request) -> str:
    found = re.findall(r"population\[\w+\] = (\d+)", request.prompt)
    return f"Thought: Now I have to add them.\nAction: add[{', '.join(found)}]"


def conclude(request: Request) -> str:
    (total,) = re.findall(r"add\[.*\] = (\d+)", request.prompt)
    return f"Oslo is the larger one; together they have {int(total):,} inhabitants."


LOOK_UP = "Thought: I need both numbers.\nAction: population[Oslo]\nAction: population[Bergen]"


def main() -> None:
    question = Message("user", "Which is larger, Oslo or Bergen, and how many people live in both?")
    with ModelServer() as server:  # stands in for a model; to ask a real one, name it: model="anthropic:..."
        server.script("reasoner", [LOOK_UP, add_up, conclude])
        result = app.invoke({"messages": [question]}, agents=[REASONER], model=server, recursion_limit=25)
    for message in result["messages"]:
        print(f"{message.role:>9}: " + message.content.replace("\n", "\n" + " " * 11))


if __name__ == "__main__":
    main()
