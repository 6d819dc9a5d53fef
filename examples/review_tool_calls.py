"""A person reviews what an agent is about to do: accepts it, edits it, or rejects it with a reason.

::

    START ──▶ propose ──▶ review ──▶ pay ──▶ END
                 ▲           │ │
                 └───────────┘ └──▶ END       the agent has thought better of it: there is nothing to pay
                  the reason

`interrupt` stops the run in the middle of `review`, and the thread is kept: hours later, in another process if the
checkpointer is a file, `Command(resume=answer)` goes on from there. The agent is not asked again.

    python examples/review_tool_calls.py          # plays all three answers
    python examples/review_tool_calls.py --ask    # asks you
"""

import json
import sys
from typing import Any, Literal, TypedDict

from fanfold import END, START, AgentDefinition, Command, StateGraph, Task, interrupt
from fanfold.testing import ModelServer, Request


class State(TypedDict, total=False):
    complaint: str
    objection: str
    amount: int
    outcome: str


CLERK = AgentDefinition(
    name="clerk",
    description="Decides how much money a customer gets back.",
    prompt="""You are clerk. Decide on the complaint, and answer with JSON alone, such as {"amount": 20, "reply": ""}.
`amount` is what the customer gets back, 0 for nothing; then `reply` says why.""",
    tools=(),
)


async def propose(state: State) -> dict:
    prompt = state["complaint"]
    if "objection" in state:
        prompt += f"\n\nYour proposal was rejected: {state['objection']}"
    proposal = json.loads(str(await Task(subagent_type="clerk", prompt=prompt)))
    return {"amount": proposal["amount"], "outcome": proposal["reply"]}


def review(state: State) -> Command[Literal["pay", "propose", "__end__"]]:
    if state["amount"] == 0:
        return Command(goto=END)
    answer = interrupt({"question": "May I call this tool?", "tool": "pay", "amount": state["amount"]})
    if answer["type"] == "accept":
        return Command(goto="pay")
    if answer["type"] == "edit":
        return Command(goto="pay", update={"amount": answer["amount"]})
    return Command(goto="propose", update={"objection": answer["reason"]})


def pay(state: State) -> dict:
    return {"outcome": f"{state['amount']} euros are on their way."}  # here, money would move


graph = StateGraph(State)
graph.add_node(propose).add_node(review).add_node(pay)
graph.add_edge(START, "propose")
graph.add_edge("propose", "review")
graph.add_edge("pay", END)
app = graph.compile("memory:", name="review")  # "sqlite:///runs.db" outlives the process


def played(answer: dict[str, Any] | None, thread: str, server: ModelServer) -> None:
    """One thread, from the complaint to the outcome. Every question gets that answer; without one, you are asked."""
    run = {"thread_id": thread, "agents": [CLERK], "model": server}
    result = app.invoke({"complaint": "The kettle leaks. I want my 120 euros back!"}, **run)
    while "__interrupt__" in result:
        (question,) = result["__interrupt__"]
        print(f"{thread}: {question.value}")
        given = asked() if answer is None else answer
        print(f"{thread}: the answer is {given}")
        result = app.invoke(Command(resume=given), **run)
    print(f"{thread}: {result['outcome']}\n")


def asked() -> dict[str, Any]:
    match input("accept, edit or reject? ").strip().lower()[:1]:
        case "a":
            return {"type": "accept"}
        case "e":
            return {"type": "edit", "amount": int(input("how much? "))}
        case _:
            return {"type": "reject", "reason": input("why not? ")}


def decide(request: Request) -> str:
    """What the stand-in for a model says."""
    if "rejected" in request.prompt:
        return json.dumps({"amount": 0, "reply": "We will send you a new kettle instead."})
    return json.dumps({"amount": 120, "reply": ""})


def main() -> None:
    with ModelServer() as server:  # stands in for a model; to ask a real one, name it: model="anthropic:..."
        server.script("clerk", decide)
        if "--ask" in sys.argv:
            played(None, "yours", server)
            return
        played({"type": "accept"}, "accepted", server)
        played({"type": "edit", "amount": 20}, "edited", server)
        played({"type": "reject", "reason": "repair or replace before you pay"}, "rejected", server)
        print(f"{len(server.journal)} calls of the model: one for each thread, and one more after the rejection")


if __name__ == "__main__":
    main()
