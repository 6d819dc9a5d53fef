"""A team with a router: it assigns work to one agent, to some or to all, reads what they answer, and goes on or ends.

::

              ┌───────────── all that was assigned has been answered ◀───────┐
              ▼                                                              │
    START ─▶ route ─┬─ assigns: a Send for each agent ─▶ work ─▶ hands off? ─┤
                    │                                     ▲          │       │
                    │                                     └── yes ───┘── no ─┘
                    └─ ends with an answer ─▶ END

An agent may hand its work on to another one, which is told what was found so far; the chain of those who had it in
their hands is one task of `work`, so that nobody waits for the others of the round. Everything is bounded: how often
the router decides, how much it assigns at once, how often work is handed on. What goes wrong is marked in the result.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypedDict

from pydantic import Field, create_model, model_validator

from fanfold import (
    END,
    START,
    AgentDefinition,
    Command,
    GraphError,
    Overwrite,
    Receipt,
    Send,
    StateGraph,
    Task,
    UsageError,
    agent_named,
    audit,
    framed,
)
from fanfold.teams.asked import Asked, asked
from fanfold.teams.debating.objects import Form, Mark

ALL: Final = "all"
"""Whoever is assigned to it means every agent of the team."""

ROUTER: Final = "team-router"
"""The packaged agent that decides, when no other one is named."""

MOST_AT_ONCE: Final = 15
"""Most pieces of work that one decision of the router can give out."""

NOBODY: Final = "No agent has answered."
"""The answer of a team that has come to none; the marks say why."""

LONGEST: Final = 20_000
"""Characters of an answer that others are shown."""


class Assignment(Form):
    """What some agents are to do. `agents` are their names; "all" means every one."""

    agents: list[str] = Field(min_length=1)
    task: str = Field(min_length=1)


class Route(Form):
    """A decision of the router: work to give out, or without any, the answer with which the team ends."""

    assignments: list[Assignment] = Field(default=[], max_length=MOST_AT_ONCE)
    answer: str = ""

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if not self.assignments and not self.answer.strip():
            raise ValueError("it neither assigns work nor answers")
        return self


class HandOff(Form):
    """Work that goes on to another agent."""

    to: str
    task: str = Field(min_length=1)


class Reply(Form):
    """An agent's answer, and to whom it hands the rest of the work, if to anybody. A text alone is an answer."""

    answer: str
    hand_off: HandOff | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: Any) -> Any:
        return {"answer": given} if isinstance(given, str) else given


class Answer(TypedDict):
    """What one agent came to: its text, and that text in a frame for other agents to read; or why it failed.

    `came_from` is the agent that handed the work on to this one.
    """

    round: int
    agent: str
    task: str
    text: str
    framed: str
    failed: str
    came_from: str


class Board(TypedDict):
    """The team's state: its job, how often the router has decided, what was answered, and at the end the answer."""

    task: str
    round: int
    answers: Annotated[list[Answer], operator.add]
    answer: str
    marks: Annotated[list[Mark], operator.add]


class Work(TypedDict):
    """What is sent to one agent."""

    round: int
    agent: str
    task: str
    job: str


Policy: TypeAlias = Callable[[Board], Route]
"""A router that is code: from what is known to the next decision."""


def everyone(board: Board) -> Route:
    """The router that needs no model: it asks all agents once, and ends with what they have answered."""
    if not board.get("answers"):
        return Route(assignments=[Assignment(agents=[ALL], task=board["task"])])
    return Route(answer=_gathered(board))


@dataclass(frozen=True, slots=True)
class Supervised:
    """What a team came to. `marks` are empty when nothing went wrong."""

    answer: str
    answers: tuple[Answer, ...]
    rounds: int
    marks: tuple[Mark, ...]
    receipt: Receipt

    def __str__(self) -> str:
        return self.answer


class Supervisor:
    """A router and its agents, as a graph.

    `agents` are names of agents, objects that define them, or names with what each is good for. The router is told
    that, or else what an agent's definition says of it. `router` is an agent too, else a function from the state to a
    `Route`, such as `everyone`. It decides at most `rounds` times, the last time only to answer. With `hand_offs=0`
    agents answer as their files say; otherwise they answer with a `Reply`, and so often can one piece of work be handed
    on.

    >>> from fanfold import python_agent
    >>> @python_agent("shouter", "Says it louder.")
    ... async def shouter(prompt: str) -> str:
    ...     return prompt.splitlines()[0].upper()
    >>> Supervisor([shouter], router=everyone).invoke("hello").answer
    '[shouter] HELLO'
    """

    def __init__(
        self,
        agents: Sequence[Any] | Mapping[str, str],
        *,
        router: Any = ROUTER,
        rounds: int = 6,
        hand_offs: int = 2,
    ) -> None:
        given = [*agents, *([] if _is_policy(router) else [router])]
        self.objects = tuple(agent for agent in given if not isinstance(agent, str))
        self.agents = _purposes(agents)
        self.router: str | Policy = router if _is_policy(router) else _name(router)
        self.rounds = rounds
        self.hand_offs = hand_offs
        self._check()
        self._route_form = _route_form(self.agents)

    def _check(self) -> None:
        problems = [] if self.agents else ["it has no agents"]
        problems += [f"{what} is {n}; it must be at least {least}" for what, n, least in self._numbers() if n < least]
        problems += [f"an agent is named {ALL!r}, which means all of them"] if ALL in self.agents else []
        if problems:
            raise GraphError([f"the team of a Supervisor: {problem}" for problem in problems])

    def _numbers(self) -> Iterable[tuple[str, int, int]]:
        return ("rounds", self.rounds, 2), ("hand_offs", self.hand_offs, 0)

    @cached_property
    def graph(self) -> StateGraph:
        """The graph, which can be drawn, changed and compiled like any other."""
        team = StateGraph(Board)
        team.add_node("route", self._route, destinations=["work", END])
        team.add_node("work", self._work)
        team.add_edge(START, "route")
        team.add_edge("work", "route")
        return team

    async def run(self, task: str | None, *, store: Any = None, **settings: Any) -> Supervised:
        """What the team comes to. `settings` are those of `ainvoke`: a model, limits, a thread, a folder.

        Without a task, it goes on with the thread where that stands.
        """
        return _supervised(await self._compiled(store).ainvoke(_job(task), **self._with_agents(settings)))

    def invoke(self, task: str | None, *, store: Any = None, **settings: Any) -> Supervised:
        """The same, for blocking code."""
        return _supervised(self._compiled(store).invoke(_job(task), **self._with_agents(settings)))

    def _compiled(self, store: Any) -> Any:
        return self.graph.compile(store, name="supervisor")

    def _with_agents(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "agents": [*self.objects, *(settings.get("agents") or ())]}

    # The router's side

    async def _route(self, state: Board) -> Command:
        """Decide: give work out, or end."""
        made = state.get("round", 0) + 1
        route, marks = await self._decided(state, made)
        if not route.assignments:
            return Command(update={"round": made, "answer": route.answer, "marks": marks}, goto=END)
        sends, dropped = self._sends(state, route, made)
        return Command(update={"round": made, "marks": [*marks, *dropped]}, goto=sends)

    async def _decided(self, state: Board, made: int) -> tuple[Route, list[Mark]]:
        """The router's decision. Of one that can make none, the end of the team, with what there is."""
        if not isinstance(self.router, str):
            route = self._allowed(self.router(state))
            if made < self.rounds or not route.assignments:
                return route, []
            return Route(answer=route.answer or _gathered(state)), [self._spent()]
        last = made >= self.rounds
        form = _LastRoute if last else self._route_form
        said = await _asked(self.router, self._prompt(state, made), form, f"round {made}")
        if said.result is None:
            return Route(answer=_gathered(state)), _marks(said, "the router")
        return Route(**said.output.model_dump()), [self._spent()] if last else []

    def _allowed(self, route: Route) -> Route:
        """What a policy has decided. Raises `UsageError` where it names an agent that is not of the team."""
        named = {name for assignment in route.assignments for name in assignment.agents}
        if unknown := sorted(named - {*self.agents, ALL}):
            raise UsageError(f"the router of the team assigns work to {unknown[0]!r}, which is none of its agents")
        return route

    def _spent(self) -> Mark:
        text = f"decision {self.rounds} was the last one, in which it had to end"
        return Mark(kind="stopped", who="the router", text=text)

    def _prompt(self, state: Board, made: int) -> str:
        known = {name: purpose or agent_named(name).description for name, purpose in self.agents.items()}
        there = [
            f"- {name}: {' '.join(purpose.split())}" if purpose else f"- {name}" for name, purpose in known.items()
        ]
        said = [_report(answer) for answer in state.get("answers", [])]
        last = " It is the last one: answer now, and assign nothing." if made >= self.rounds else ""
        parts = [
            f"The job:\n{state['task']}",
            "The agents:\n" + "\n".join(there),
            "\n\n".join(["What they have answered so far:", *said]) if said else "Nobody has been asked yet.",
            f"This is decision {made} of {self.rounds}.{last}",
        ]
        return "\n\n".join(parts)

    def _sends(self, state: Board, route: Route, made: int) -> tuple[list[Send], list[Mark]]:
        """A Send for each agent that was assigned to something, as many as may go out at once."""
        work: list[Work] = [
            {"round": made, "agent": name, "task": assignment.task, "job": state["task"]}
            for assignment in route.assignments
            for name in (self.agents if ALL in assignment.agents else dict.fromkeys(assignment.agents))
        ]
        late = work[MOST_AT_ONCE:]
        text = f"{len(late)} of its assignments were not given out: {MOST_AT_ONCE} go out at once at most"
        marks = [Mark(kind="stopped", who="the router", text=text)] if late else []
        return [Send("work", piece) for piece in work[:MOST_AT_ONCE]], marks

    # The agents' side

    async def _work(self, state: Work) -> dict[str, Any]:
        """Have the work done by the agent that it was assigned to, and by whomever that one hands it on to."""
        answers: list[Answer] = []
        name, task = state["agent"], state["task"]
        while True:
            said = await self._said(state, name, task, answers)
            answers.append(_answer(state, name, task, answers, said))
            if said.result is None:
                return {"answers": answers, "marks": _marks(said, name)}
            handed = said.output.hand_off if isinstance(said.output, Reply) else None
            if handed is None:
                return {"answers": answers}
            name, task = handed.to, handed.task

    async def _said(self, work: Work, name: str, task: str, before: Sequence[Answer]) -> Asked:
        """What one agent says. Work that was handed on as often as it may be, it cannot hand on."""
        found = [f"What {answer['agent']} found, who hands this on to you:\n{answer['framed']}" for answer in before]
        prompt = "\n\n".join([task, f"It is a part of this job:\n{work['job']}", *found])
        form = self._reply_form(name) if self.hand_offs > len(before) else None
        return await _asked(name, prompt, form, f"round {work['round']}")

    def _reply_form(self, name: str) -> Any:
        others = [other for other in self.agents if other != name]
        if not others:
            return None
        to = _narrowed(HandOff, to=(_one_of(others), ...))
        return _narrowed(Reply, hand_off=(to | None, None))


class _LastRoute(Form):
    """The router's last decision: the team's answer."""

    answer: str = Field(min_length=1)


async def _asked(agent: str, prompt: str, form: Any, label: str) -> Asked:
    """What comes of asking for an answer in that form, if there is one."""
    return await asked(lambda text: Task(subagent_type=agent, prompt=text, description=label, output=form), prompt)


def _marks(said: Asked, who: str) -> list[Mark]:
    """Why there is no answer."""
    return [Mark(kind=trouble.kind, who=who, text=trouble.text) for trouble in said.troubles[-1:]]


def _route_form(agents: Iterable[str]) -> Any:
    """The form of a decision in which only agents can be named that there are, and the answer cannot be forgotten."""
    names: Any = list[_one_of([*agents, ALL])]  # type: ignore[misc]  # made of values, so only known when it runs
    assignment: Any = _narrowed(Assignment, agents=(names, Field(min_length=1)))
    several: Any = Field(default=[], max_length=MOST_AT_ONCE)
    said = Field(description="The answer to the job; empty as long as work is assigned.")
    return _narrowed(Route, assignments=(list[assignment], several), answer=(str, said))


def _narrowed(form: type[Form], **fields: Any) -> Any:
    """The form under its own name, with fields that take fewer values."""
    return create_model(form.__name__, __base__=form, **fields)


def _one_of(names: Iterable[str]) -> Any:
    return Literal[tuple(names)]


def _is_policy(router: Any) -> bool:
    return callable(router) and not isinstance(router, str)


def _name(agent: Any) -> str:
    definition = getattr(agent, "definition", agent)
    if isinstance(definition, AgentDefinition):
        return definition.name
    if isinstance(agent, str) and agent.strip():
        return agent
    raise GraphError(f"the team of a Supervisor: {agent!r:.80} is no agent; name one, or give an object that is one")


def _purposes(agents: Sequence[Any] | Mapping[str, str]) -> dict[str, str]:
    """What each agent is good for, as far as that is known, by its name."""
    if isinstance(agents, Mapping):
        return dict(agents)
    found: dict[str, str] = {}
    for agent in agents:
        name = _name(agent)
        if name in found:
            raise GraphError(f"the team of a Supervisor: two agents are named {name!r}")
        found[name] = getattr(getattr(agent, "definition", agent), "description", "")
    return found


def _answer(work: Work, name: str, task: str, before: Sequence[Answer], said: Asked) -> Answer:
    """What is kept of an agent's answer."""
    given = said.output.answer if isinstance(said.output, Reply) else said.output
    text = _cut(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str))
    failed = said.troubles[-1].text if said.result is None else ""
    return {
        "round": work["round"],
        "agent": name,
        "task": task,
        "text": "" if failed else text,
        "framed": "" if failed else framed(text, source=name),
        "failed": failed,
        "came_from": before[-1]["agent"] if before else "",
    }


def _report(answer: Answer) -> str:
    """An answer as the router reads it."""
    who = f"{answer['agent']}, round {answer['round']}" + (
        f", from {answer['came_from']}" if answer["came_from"] else ""
    )
    if answer["failed"]:  # which may have what the agent wrote in it
        return f"{who} has failed:\n{framed(answer['failed'], source=answer['agent'])}"
    return f"{who}:\n{answer['framed']}"


def _gathered(board: Board) -> str:
    """The answers themselves, where nobody has made one of them."""
    given = (answer for answer in board.get("answers", []) if not answer["failed"])
    return "\n\n".join(f"[{answer['agent']}] {answer['text']}" for answer in given) or NOBODY


def _cut(text: str) -> str:
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:LONGEST]}\n({left:,} more characters were left out)"


def _job(task: str | None) -> dict[str, Any] | None:
    """The input of a job, which begins anew also where the thread has had others before."""
    if task is not None and not task.strip():
        raise UsageError("the job of a Supervisor is empty")
    return None if task is None else {"task": task, "round": 0, "answers": Overwrite([]), "marks": Overwrite([])}


def _supervised(done: Any) -> Supervised:
    return Supervised(
        answer=done["answer"],
        answers=tuple(done["answers"]),
        rounds=done["round"],
        marks=tuple(done["marks"]),
        receipt=audit(done),
    )
