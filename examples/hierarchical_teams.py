"""Teams of teams: a supervisor hands work to two teams, each a graph with a lead and workers of its own.

::

    START ──▶ supervisor ◀─────────────────────────────────────────────────┐
                │   │  │                                                   │
                │   │  └──▶ END                                            │
                │   └─────▶ writing  { lead ◀──▶ outliner, author }    ────┤ Command(graph=Command.PARENT,
                └─────────▶ research { lead ◀──▶ searcher, reader }    ────┘         goto="supervisor")

Who is next is decided by agents, not by edges: the supervisor and the leads answer with names, and each name becomes
the `goto` of a Command. A lead that names several workers has them work side by side. One that names nobody hands
what its team has made up to the supervisor, out of its own graph.

    python examples/hierarchical_teams.py
"""

import operator
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypedDict

from fanfold import END, START, AgentDefinition, Command, CompiledGraph, StateGraph, Task, audit, framed
from fanfold.testing import ModelServer, Request


class State(TypedDict):
    task: str
    results: Annotated[list[str], operator.add]  # what the teams have handed up


class TeamState(State):
    work: Annotated[list[str], operator.add]  # of this team alone: the graph around it has no such key


TEAMS = {"research": ("searcher", "reader"), "writing": ("outliner", "author")}


def manager(name: str, reports: Sequence[str]) -> AgentDefinition:
    prompt = (
        f"You are {name}. See what is there, and answer with who should work next, of {', '.join(reports)}, or `done`."
    )
    return AgentDefinition(name=name, description=f"Leads {', '.join(reports)}.", prompt=prompt, tools=())


def worker(name: str) -> AgentDefinition:
    prompt = f"You are {name}. Do your part of the task, with what others have found, in one line."
    return AgentDefinition(name=name, description=f"Works as {name}.", prompt=prompt, tools=())


AGENTS = [
    manager("supervisor", tuple(TEAMS)),
    *(manager(f"{team}-lead", members) for team, members in TEAMS.items()),
    *(worker(name) for members in TEAMS.values() for name in members),
]


async def ask(agent: str, state: dict[str, Any]) -> str:
    so_far = "\n".join([*state["results"], *state.get("work", [])])
    known = framed(so_far, source="colleagues") if so_far else "nothing"
    return str(await Task(subagent_type=agent, prompt=f"Task: {state['task']}\n\nSo far:\n{known}"))


def named(answer: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if re.search(rf"\b{name}\b", answer)]


def working(agent: str) -> Callable[[TeamState], Awaitable[Command]]:
    async def node(state: TeamState) -> Command:
        return Command(goto="lead", update={"work": [f"{agent}: {await ask(agent, state)}"]})

    return node


def team(name: str, members: Sequence[str]) -> CompiledGraph:
    async def lead(state: TeamState) -> Command:
        chosen = named(await ask(f"{name}-lead", state), members)
        if chosen:
            return Command(goto=chosen)
        return Command(graph=Command.PARENT, goto="supervisor", update={"results": state["work"]})

    graph = StateGraph(TeamState).add_node(lead, destinations=members).add_edge(START, "lead")
    for member in members:
        graph.add_node(member, working(member), destinations=["lead"])
    return graph.compile(name=name)


async def supervisor(state: State) -> Command:
    return Command(goto=named(await ask("supervisor", state), list(TEAMS)) or END)


graph = StateGraph(State)
graph.add_node(supervisor, destinations=[*TEAMS, END]).add_edge(START, "supervisor")
for name, members in TEAMS.items():
    graph.add_node(name, team(name, members), destinations=["supervisor"])
app = graph.compile(name="teams")


def conclude(request: Request) -> str:
    """What the stand-in for a model makes of the work of the others, whose names it finds in its prompt."""
    sources = re.findall(r"^(searcher|reader|outliner): ", request.prompt, re.MULTILINE)
    return f"Ducks float because their feathers keep water out and air in. (From {', '.join(sources)}.)"


def main() -> None:
    with ModelServer(latency=0.05) as server:  # stands in for a model; to ask a real one, name it: model="openai:..."
        server.script("supervisor", ["research", "writing", "done"])
        server.script("research-lead", ["searcher, reader", "done"])
        server.script("searcher", "three articles about feathers")
        server.script("reader", "feathers keep water out and hold air")
        server.script("writing-lead", ["outliner", "author", "done"])
        server.script("outliner", "first what floats, then why")
        server.script("author", conclude)
        result = app.invoke({"task": "Say why ducks float."}, agents=AGENTS, model=server, recursion_limit=25)
    print("\n".join(result["results"]) + "\n")
    print(audit(result))


if __name__ == "__main__":
    main()
