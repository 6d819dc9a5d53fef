"""A team that argues a question with evidence, and decides: `Debate("...").invoke()`, or `fanfold debate "..."`.

::

    rounds    START ─┬─▶ questioner ──────────┐
                     ├─▶ pro-1 ─▶ pro-1.r1 ─▶ … ├─▶ judge-pro-first ─┬─▶ synthesizer ⇄ validator ─▶ verdict ─▶ END
                     └─▶ con-1 ─▶ con-1.r1 ─▶ … ┘  judge-con-first ─┘

    cascade   START ─▶ questioner ─▶ pro-1 ─▶ con-1.r1 ─▶ synthesizer ⇄ validator ─▶ verdict ─▶ END

Openings are blind: who gives one has read nobody, not the questions either, so that the votes of round 0 are as many
independent answers. Every statement has a key of the state to itself, and a rebuttal declares which ones it reads. In
a ring that is what one opponent has said, so it begins when that is there, whoever else is still at work. A rule that
may stop the debate early looks at everybody, so with one each round waits for the whole of the one before.

An agent that fails is counted out, and its node says so: a node fails only with what is no agent's fault. Every node
writes a `Record`, and `verdict` makes of all of them what `replay` makes of a transcript, without asking anybody.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict

from fanfold import END, START, Overwrite, StateGraph, StateSnapshot, Task, UsageError, audit
from fanfold.teams.asked import ATTEMPTS, Asked, asked
from fanfold.teams.debating import prompts
from fanfold.teams.debating.deciding import REHEARSED, standing
from fanfold.teams.debating.evidence import Folder, existing, verify
from fanfold.teams.debating.exchange import TOPOLOGIES, Exchange, Table, Topology, stance_of, usual_topology
from fanfold.teams.debating.objects import (
    FairRebuttal,
    Form,
    Judgement,
    Mark,
    Opening,
    Questions,
    Rebuttal,
    Stance,
    Statement,
    Validation,
    Verdict,
    recorded,
)
from fanfold.teams.debating.outcome import Outcome as Outcome
from fanfold.teams.debating.outcome import replay as replay
from fanfold.teams.debating.ruling import rule_of
from fanfold.teams.debating.stopping import HARD_CAP, Stopped, StopRule, progress, reasons
from fanfold.teams.debating.transcript import ORDERS, Call, Protocol, Record, Role, Transcript, VoteRule
from fanfold.teams.debating.votes import RULES

AGENTS: Final[Mapping[Role, str]] = {
    "questioner": "serm-questioner",
    "advocate": "serm-advocate",
    "challenger": "serm-challenger",
    "judge": "serm-judge",
    "synthesizer": "serm-synthesizer",
    "validator": "serm-validator",
    "sample": "serm-single",
}
"""The agents' names. A file or an agent of yours with such a name is asked instead of the one that comes with us."""

MOST_SEATS: Final = 32
"""Members of both sides together: a verdict holds the claims of so many."""

REVISIONS: Final = 1
"""How often a verdict may be sent back."""

State: TypeAlias = dict[str, Any]
Node: TypeAlias = Callable[[State], Awaitable[State]]
Judging: TypeAlias = Literal["swapped", "once", "none"]

JUDGES: Final[Mapping[Judging, tuple[str, ...]]] = {"swapped": ORDERS, "once": ORDERS[:1], "none": ()}


class Motion(TypedDict):
    """What a debate is given: what to argue about, and the folder in which quotes have to stand."""

    question: str
    folder: str


class Debated(TypedDict):
    """What a debate hands over: all of it as plain data, its verdict, and a report for people in Markdown."""

    transcript: dict[str, Any]
    verdict: dict[str, Any]
    report: str


@dataclass(frozen=True)
class Debate:
    """A question, and how it is debated: `await Debate("Should we pin?", sources="docs").run()`.

    - `sources`: the folder that agents look into, and in which a quote has to stand to be verified.
    - `advocates`, `challengers`: how many on each side. `rounds` of rebuttals, 4 at most.
    - `topology`: who reads whom: "full", "ring", "star"; ring above two a side unless you say otherwise.
    - `protocol`: "rounds", or "cascade", in which one agent after another reads what the former ones said.
    - `stop`: a rule that may end the debate before all rounds were held, such as `Unanimity() | Calls(40)`, or the same
      in words, `"unanimity | calls=40"`.
    - `judge`: "swapped" for two judges who read the sides the other way round, "once" for one, "none" for the vote.
    - `validator`: whether the verdict is checked, and may be sent back once.
    - `questions`: "beside" the openings, which are blind to them, or "first", when the openings read them, too.
    - `samples`: so many single answers are bought besides, at the same time, for a vote that nobody has debated; with
      "equal", in the end as many as cost together what the debate did, up to 64; not
      in a cascade.
    - `vote`: "majority", or "weighted" by confidence. `quorum`: how many members have to vote; more than half.
    - `models`: what each role is asked by, such as `{"judge": "anthropic:..."}`; of several, members take turns.
    - `seed`: by which letters and orders are drawn. `attempts`: how often one is asked whose answer does not fit.

    Raises `UsageError` for what cannot be held.
    """

    question: str
    _: KW_ONLY
    sources: str | Path = "."
    advocates: int = 2
    challengers: int = 2
    rounds: int = 2
    topology: Topology | None = None
    protocol: Protocol = "rounds"
    stop: StopRule | str | None = None
    judge: Judging = "swapped"
    validator: bool = True
    questions: Literal["beside", "first"] = "beside"
    samples: int | Literal["equal"] = 3
    vote: VoteRule = "majority"
    quorum: int | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        check(self)

    @property
    def motion(self) -> Motion:
        """The graph's input."""
        return {"question": self.question, "folder": str(Path(self.sources).resolve())}

    @property
    def graph(self) -> StateGraph:
        """The debate as a graph, to be drawn, changed, compiled and run; it is made anew each time."""
        return Team(self).graph()

    async def run(self, store: Any = None, **options: Any) -> Outcome:
        """Hold the debate, and hand over what came of it. `store` and `options` are those of a graph: `model`,
        `limits`, `agents`, `thread_id` and so on. With a thread that began before, it goes on where that one stands.
        """
        compiled, thread = self.graph.compile(store, name="debate"), _thread(store, options)
        state = await compiled.aget_state(thread) if thread else None
        return _outcome(await compiled.ainvoke(self._input(state), **options))

    def invoke(self, store: Any = None, **options: Any) -> Outcome:
        """The same, for code outside of any event loop."""
        compiled, thread = self.graph.compile(store, name="debate"), _thread(store, options)
        state = compiled.get_state(thread) if thread else None
        return _outcome(compiled.invoke(self._input(state), **options))

    def _input(self, state: StateSnapshot | None) -> Motion | None:
        """Nothing, to go on with a thread in the middle of its debate."""
        return None if state is not None and state.next else self.motion


def _thread(store: Any, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the debate may have begun before."""
    kept = store is not None and options.get("thread_id") is not None
    return {"configurable": {"thread_id": options["thread_id"]}} if kept else None


def _outcome(done: Any) -> Outcome:
    return Outcome.of(done["transcript"], audit(done) if hasattr(done, "run") else None)


def graph(**how: Any) -> StateGraph:
    """The graph of a debate whose question is yet to be given: `fanfold run fanfold.teams.debate:graph -i ...`."""
    return Debate("?", **how).graph


def check(debate: Debate) -> None:
    """Raise `UsageError` for what cannot be held."""
    seats = 2 if debate.protocol == "cascade" else debate.advocates + debate.challengers
    wrong = [
        (not debate.question.strip(), "the question is empty"),
        (debate.advocates < 1 or debate.challengers < 1, "a debate needs an advocate and a challenger at least"),
        (not 0 <= debate.rounds <= HARD_CAP, f"rounds is {debate.rounds}; it must be from 0 to {HARD_CAP}"),
        (not _counts(debate.samples), f"samples is {debate.samples!r}; it must be 0 or more, or 'equal'"),
        (debate.attempts < 1, f"attempts is {debate.attempts}; it must be 1 or more"),
        (seats > MOST_SEATS, f"it has {seats} members; {MOST_SEATS} at most can be heard"),
        (
            debate.quorum is not None and not 1 <= debate.quorum <= seats,
            f"a quorum of {debate.quorum} among {seats} never decides, or always does",
        ),
        (
            not isinstance(debate.stop, str | None) and not hasattr(debate.stop, "stops"),
            f"stop is {debate.stop!r:.80}; it must be a rule, such as Unanimity() | Calls(40), or words that mean one",
        ),
        *(
            (getattr(debate, name) not in known, f"{name} is {getattr(debate, name)!r}; it must be one of {known}")
            for name, known in _KNOWN.items()
        ),
        *(
            (role not in AGENTS, f"models= names the role {role!r}; the roles are {', '.join(AGENTS)}")
            for role in debate.models
        ),
    ]
    for is_wrong, text in wrong:
        if is_wrong:
            raise UsageError(f"Debate: {text}")
    if isinstance(debate.stop, str):
        rule_of(debate.stop)


def _counts(samples: Any) -> bool:
    return samples >= 0 if isinstance(samples, int) else samples == "equal"


_SEVERAL: Final = ("synthesizer", "validator", "more-samples")
"""Whose answers are a list: of those who may be asked again, and of single answers that are bought in the end."""

FIRST_SAMPLES: Final = 3
"""Single answers from which it is known what one costs, where as many are bought as cost what the debate did."""

MOST_SAMPLES: Final = 64

_KNOWN: Final[Mapping[str, Sequence[Any]]] = {
    "topology": (None, *TOPOLOGIES),
    "protocol": ("rounds", "cascade"),
    "judge": tuple(JUDGES),
    "questions": ("beside", "first"),
    "vote": tuple(RULES),
}


class Team:
    """The graph of one debate: its nodes, what each of them reads, and when it begins."""

    def __init__(self, debate: Debate) -> None:
        cascade = debate.protocol == "cascade"
        self.debate = debate
        self.table = Table(1, 1) if cascade else Table(debate.advocates, debate.challengers, self._topology())
        self.exchange = Exchange(self.table, debate.seed, _names(debate, self.table))
        self.rounds = 1 if cascade else debate.rounds
        self.judges = () if cascade else JUDGES[debate.judge]
        self.stop = rule_of(debate.stop) if isinstance(debate.stop, str) else debate.stop
        self.equal = debate.samples == "equal" and not cascade
        first = FIRST_SAMPLES if debate.samples == "equal" else debate.samples
        self.samples = () if cascade else tuple(f"sample-{number}" for number in range(1, int(first) + 1))

    def _topology(self) -> Topology:
        return self.debate.topology or usual_topology(max(self.debate.advocates, self.debate.challengers))

    # The graph.

    def graph(self) -> StateGraph:
        """All nodes and edges."""
        team = StateGraph(self._state(), input_schema=Motion, output_schema=Debated)
        self._add(team, "questioner", self._question, writes=["questioner", *self._later(), *_SEVERAL])
        team.add_edge(START, "questioner")
        (self._cascade if self.debate.protocol == "cascade" else self._in_rounds)(team)
        self._conclude(team)
        for sample in self.samples:
            self._add(team, sample, self._sample(sample), writes=[sample])
            team.add_edge(START, sample)
        return team

    def _state(self) -> Any:
        """A key for what each node says, so that whoever reads one of them waits for that one only."""
        said = ["questioner", "ended", *self._all_said(), *self.judges, *self.samples]
        form: Any = TypedDict  # its keys depend on how many take part
        several = dict.fromkeys(_SEVERAL, Annotated[list[Any], operator.add])
        keys = {**dict.fromkeys(("question", "folder"), str), **dict.fromkeys(said, dict[str, Any]), **several}
        return form("DebateState", {**keys, **Debated.__annotations__}, total=False)

    def _all_said(self) -> list[str]:
        if self.debate.protocol == "cascade":
            return [key("pro-1", 0), key("con-1", 1)]
        return [key(seat, round) for round in range(self.rounds + 1) for seat in self.table.seats]

    def _add(self, team: StateGraph, name: str, node: Node, reads: Iterable[str] = (), writes: Any = ()) -> None:
        team.add_node(name, node, reads=["question", "folder", *reads], writes=list(writes))

    def _cascade(self, team: StateGraph) -> None:
        advocate, challenger = self._all_said()
        self._add(team, advocate, self._open("pro-1", asked_first=True), ["questioner"], [advocate])
        self._add(team, challenger, self._rebut("con-1", 1, [], [advocate]), ["questioner", advocate], [challenger])
        team.add_edge("questioner", advocate).add_edge(advocate, challenger).add_edge(challenger, "synthesizer")

    def _in_rounds(self, team: StateGraph) -> None:
        first = self.debate.questions == "first"
        for seat in self.table.seats:
            at = key(seat, 0)
            self._add(team, at, self._open(seat, asked_first=first), ["questioner"] if first else [], [at])
            team.add_edge("questioner" if first else START, at)
        for round in range(1, self.rounds + 1):
            for seat in self.table.seats:
                self._add_rebuttal(team, seat, round)
            if self.stop is not None:
                self._add_rule(team, round - 1)
        last = [key(seat, self.rounds) for seat in self.table.seats]
        for judge in self.judges:
            self._add(team, judge, self._judge(judge), self._all_said(), [judge])
        for after in self._after_rounds():
            team.add_edge([*last, "questioner"] if self.rounds == 0 and not first else last, after)
        if self.judges:
            team.add_edge(list(self.judges), "synthesizer")

    def _after_rounds(self) -> tuple[str, ...]:
        return self.judges or ("synthesizer",)

    def _add_rebuttal(self, team: StateGraph, seat: str, round: int) -> None:
        others = self.table.reads(seat, round)
        # In a ring, waiting for a later statement of its own would be the longest wait of all.
        until = 1 if self.table.topology == "ring" else round
        own = [key(seat, earlier) for earlier in range(until)]
        theirs = [key(other, earlier) for other in others for earlier in range(round)]
        at = key(seat, round)
        self._add(team, at, self._rebut(seat, round, own, theirs), ["questioner", *own, *theirs], [at])
        if self.stop is None:
            last = {*own[-1:], *(key(other, round - 1) for other in others)}
            before = [*sorted(last), *(["questioner"] if round == 1 and self.debate.questions == "beside" else [])]
            team.add_edge(before, at)

    def _add_rule(self, team: StateGraph, round: int) -> None:
        """What decides after a round whether there is another one."""
        name, last = f"stop-{round}", [key(seat, round) for seat in self.table.seats]
        before = [*last, "questioner"] if round == 0 and self.debate.questions == "beside" else last
        reads = ["questioner", *(key(seat, each) for each in range(round + 1) for seat in self.table.seats)]
        self._add(team, name, self._decide(round), reads, ["ended"])
        team.add_edge(before, name)
        nexts = {"on": [key(seat, round + 1) for seat in self.table.seats], "over": list(self._after_rounds())}
        team.add_conditional_edges(
            name,
            lambda state: nexts["over" if (state.get("ended") or {}).get("round") == round else "on"],
            [*nexts["on"], *nexts["over"]],
        )

    def _conclude(self, team: StateGraph) -> None:
        said = ["questioner", "ended", *self._all_said(), *self.judges, "synthesizer", "validator"]
        self._add(team, "synthesizer", self._synthesize, said, ["synthesizer"])
        everything, last = [*said, *self.samples, *(["more-samples"] if self.equal else [])], "verdict"
        self._add(team, "verdict", self._verdict, everything, Debated.__annotations__)
        if self.equal:
            last = "more-samples"
            self._add(team, last, self._buy_more, everything, [last])
            team.add_edge(last, "verdict")
        if self.debate.validator:
            self._add(team, "validator", self._validate, said, ["validator"])
            team.add_edge("synthesizer", "validator")
            nexts = {True: "synthesizer", False: last}
            team.add_conditional_edges("validator", lambda state: nexts[_sent_back(state)], list(nexts.values()))
        else:
            team.add_edge("synthesizer", last)
        team.add_edge("verdict", END)

    # The nodes.

    async def _question(self, state: State) -> State:
        """Ask what has to be asked. Everything but openings comes later, so what a thread has kept of another debate
        is put away here.
        """
        got = await self._ask(state, "questioner", "questioner", Questions, prompts.questioning(state["question"]))
        return {"questioner": _kept(got.record(got.output)), **self._afresh()}

    def _later(self) -> list[str]:
        """The keys of all that is said after the openings, once each."""
        openings = {key(seat, 0) for seat in self.table.seats}
        return ["ended", *(name for name in self._all_said() if name not in openings), *self.judges]

    def _afresh(self) -> State:
        return {**{name: {} for name in self._later()}, **{name: Overwrite([]) for name in _SEVERAL}}

    def _open(self, seat: str, *, asked_first: bool) -> Node:
        async def give_opening(state: State) -> State:
            number = self.table.seats.index(seat)
            questions = _questions(state) if asked_first else None
            prompt = prompts.opening(state["question"], stance_of(seat), prompts.angle(number), questions)
            got = await self._ask(state, seat, role_of(seat), Opening, prompt, number=number)
            return {key(seat, 0): _kept(await self._stated(state, got, seat, 0, _on_side(got.output, seat)))}

        return give_opening

    def _rebut(self, seat: str, round: int, own: Sequence[str], theirs: Sequence[str]) -> Node:
        form = FairRebuttal if stance_of(seat) == "con" else Rebuttal

        async def give_rebuttal(state: State) -> State:
            at, shown = key(seat, round), self.exchange.shown(seat, round, _statements(state, theirs))
            if own and not _statements(state, own[:1]):
                return {at: _kept(Record(who=seat, role=role_of(seat), round=round))}  # it has no opening: counted out
            said = _statements(state, own)
            exchange = self._hiding(state, [*own, *theirs])
            prompt = prompts.rebuttal(state["question"], exchange, seat, shown, said, _questions(state))
            got = await self._ask(
                state, seat, role_of(seat), form, prompt, round=round, number=self.table.seats.index(seat)
            )
            return {at: _kept(await self._stated(state, got, seat, round, got.output, shown))}

        return give_rebuttal

    def _decide(self, round: int) -> Node:
        async def decide(state: State) -> State:
            assert self.stop is not None, "the node is there for its sake"
            transcript = self._transcript(state)
            spent, last = transcript.spent(), transcript.spent(round)
            why = reasons(self.stop, progress(transcript.statements, round, spent, last))
            return {"ended": {"round": round, "why": [each.model_dump() for each in why]}} if why else {}

        return decide

    def _judge(self, judge: str) -> Node:
        first: Stance = "pro" if judge == ORDERS[0] else "con"

        async def judge_sides(state: State) -> State:
            said = _statements(state, self._all_said())
            prompt = prompts.judging(state["question"], self._hiding(state, self._all_said()), said, first)
            got = await self._ask(state, judge, "judge", Judgement, prompt, number=ORDERS.index(judge))
            return {judge: _kept(got.record(got.output))}

        return judge_sides

    async def _synthesize(self, state: State) -> State:
        feedback = _feedback(state)
        transcript = self._transcript(state)
        prompt = prompts.synthesizing(
            state["question"],
            self._hiding(state, self._all_said()),
            transcript.statements,
            _questions(state),
            standing(transcript),
            feedback,
        )
        got = await self._ask(state, "synthesizer", "synthesizer", Verdict, prompt, round=len(state["validator"]))
        return {"synthesizer": [_kept(got.record(got.output))]}

    async def _validate(self, state: State) -> State:
        last = recorded(Record, state["synthesizer"][-1])
        if last.said is None:  # there is nothing to check
            return {"validator": [_kept(Record(who="validator", role="validator"))]}
        said = _statements(state, self._all_said())
        prompt = prompts.validating(state["question"], self._hiding(state, self._all_said()), said, last.said)
        got = await self._ask(state, "validator", "validator", Validation, prompt, round=len(state["synthesizer"]) - 1)
        return {"validator": [_kept(got.record(got.output))]}

    def _sample(self, sample: str) -> Node:
        async def answer_alone(state: State) -> State:
            return {sample: await self._alone(state, self.samples.index(sample))}

        return answer_alone

    async def _alone(self, state: State, number: int) -> dict[str, Any]:
        """A single answer, of somebody who knows of no debate."""
        prompt = prompts.opening(state["question"], None, prompts.angle(number))
        got = await self._ask(state, f"sample-{number + 1}", "sample", Opening, prompt, number=number)
        return _kept(got.record(got.output))

    async def _buy_more(self, state: State) -> State:
        """Buy single answers, side by side, until they have cost what the debate did."""
        bought: list[dict[str, Any]] = []
        while missing := self._missing({**state, "more-samples": bought}):
            there = len(self.samples) + len(bought)
            bought += await asyncio.gather(*(self._alone(state, there + number) for number in range(missing)))
        return {"more-samples": bought}

    def _missing(self, state: State) -> int:
        """How many single answers are missing for a vote at equal cost; those that failed have had their turn."""
        there = len(self.samples) + len(state["more-samples"])
        return max(0, min(self._outcome(state).decided.baselines.affordable, MOST_SAMPLES) - there)

    async def _verdict(self, state: State) -> State:
        outcome = self._outcome(state)
        return {
            "transcript": outcome.transcript.model_dump(mode="json"),
            "verdict": outcome.verdict.model_dump(mode="json"),
            "report": outcome.markdown(),
        }

    # What they share.

    def _outcome(self, state: State) -> Outcome:
        """What the debate has come to by now, made as `replay` makes it: of plain data."""
        return Outcome.of(self._transcript(state).model_dump(mode="json"))

    def _hiding(self, state: State, keys: Iterable[str]) -> Exchange:
        """The exchange, which also hides the names of the models that have answered under these keys: which ones those
        are, the run and the agents' files say, and not the debate.
        """
        kept = [state[name] for name in keys if state.get(name)]
        models = {(call["model"], record["who"]) for record in kept for call in record["calls"]}
        names = {name: set(seats) for name, seats in self.exchange.names.items()}
        for model, seat in models:
            for name in _spelt(model):
                names.setdefault(name, set()).add(seat)
        hidden = {name: sorted(seats) for name, seats in names.items()}
        return self.exchange if hidden == self.exchange.names else replace(self.exchange, names=hidden)

    async def _ask(
        self,
        state: State,
        who: str,
        role: Role,
        form: type[Form],
        prompt: str,
        *,
        round: int = 0,
        number: int = 0,
    ) -> _Answer:
        model = _model(self.debate.models.get(role), number)
        folder = existing(state["folder"])

        def task(text: str) -> Task:
            what = f"round {round}" if round else role
            return Task(
                subagent_type=AGENTS[role],
                prompt=text,
                description=what,
                model=model,
                workspace=folder,
                output=form,
            )

        got = await asked(task, prompt, attempts=self.debate.attempts)
        return _Answer(who, role, round, got)

    async def _stated(
        self,
        state: State,
        got: _Answer,
        seat: str,
        round: int,
        said: Opening | Rebuttal | None,
        shown: Sequence[Statement] = (),
    ) -> Record:
        """What a member said, with ids that are its own and with every quote looked up."""
        if said is None:
            return got.record(None)
        statement, odd = self.exchange.admitted(seat, round, said, shown)
        checked = await asyncio.to_thread(verify, statement, Folder(state["folder"]))
        return got.record(checked, odd)

    def _records(self, state: State) -> list[Record]:
        """What all nodes have come to by now, in the order of the debate."""
        keys = ["questioner", *self._all_said(), *self.judges]
        kept = [state[name] for name in keys if state.get(name)]
        kept += [*state.get("synthesizer", ()), *state.get("validator", ())]
        kept += [*(state[name] for name in self.samples if state.get(name)), *state.get("more-samples", ())]
        return [recorded(Record, each) for each in kept]

    def _transcript(self, state: State) -> Transcript:
        return Transcript(
            question=state["question"],
            folder=state["folder"],
            protocol=self.debate.protocol,
            advocates=self.table.advocates,
            challengers=self.table.challengers,
            topology=self.table.topology,
            rounds=self.rounds,
            vote=self.debate.vote,
            quorum=self.debate.quorum,
            judges=len(self.judges),
            seed=self.debate.seed,
            ended=tuple(Stopped(**each) for each in (state.get("ended") or {}).get("why", ())),
            records=tuple(self._records(state)),
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking one agent, on its way to a record."""

    who: str
    role: Role
    round: int
    got: Asked

    @property
    def output(self) -> Any:
        return self.got.output

    def record(self, said: Any, marks: Iterable[Mark] = ()) -> Record:
        """What is kept of it."""
        troubles = tuple(
            Mark(kind=trouble.kind, who=self.who, text=_told(trouble.text, again=self.got.result is not None))
            for trouble in self.got.troubles
        )
        return Record(
            who=self.who, role=self.role, round=self.round, said=said, calls=self._calls(), marks=(*troubles, *marks)
        )

    def _calls(self) -> tuple[Call, ...]:
        agent = AGENTS[self.role]
        failed = [
            Call(
                who=self.who,
                role=self.role,
                round=self.round,
                agent=agent,
                input_tokens=trouble.usage.get("input_tokens", 0),
                output_tokens=trouble.usage.get("output_tokens", 0),
                requests=trouble.usage.get("requests", 0),
                cost_usd=trouble.cost_usd,
                seconds=trouble.seconds,
                status="failed",
            )
            for trouble in self.got.troubles
        ]
        result = self.got.result
        if result is None:
            return tuple(failed)
        usage = result.usage
        answered = Call(
            who=self.who,
            role=self.role,
            round=self.round,
            agent=result.agent_type,
            model=result.model,
            task=result.task_id,
            input_tokens=usage.get("input_tokens", 0),
            output_tokens=usage.get("output_tokens", 0),
            requests=usage.get("requests", 0),
            tool_uses=result.tool_uses,
            cost_usd=result.cost_usd,
            seconds=result.duration,
        )
        return (*failed, answered)


def key(seat: str, round: int) -> str:
    """The node in which a seat speaks in a round, which is also the key of the state that holds what it said."""
    return f"{seat}.r{round}" if round else seat


def role_of(seat: str) -> Role:
    """What a seat is played by."""
    return "advocate" if stance_of(seat) == "pro" else "challenger"


def _names(debate: Debate, table: Table) -> dict[str, list[str]]:
    """What no member may read of another: the names of agents and models, with the seats that each stands for."""
    names: dict[str, list[str]] = {}
    for number, seat in sorted(enumerate(table.seats), key=lambda pair: pair[1]):
        model = _model(debate.models.get(role_of(seat)), number)
        for name in (AGENTS[role_of(seat)], *(_spelt(model) if isinstance(model, str) else ())):
            names.setdefault(name, []).append(seat)
    return names


def _spelt(model: str) -> tuple[str, ...]:
    """The ways in which a model may be named; none for the rehearsal, which is a word like others."""
    return () if model in ("", REHEARSED) else (model, model.rpartition(":")[2])


def _model(named: Any, number: int) -> Any:
    """The model of the member of that number: one for all, or of several each in turn."""
    return named[number % len(named)] if isinstance(named, list | tuple) and named else named


def _on_side(said: Opening | None, seat: str) -> Opening | None:
    """The opening with the side that the seat has, whatever the agent thinks that it is."""
    return None if said is None else said.model_copy(update={"stance": stance_of(seat)})


def _told(text: str, *, again: bool) -> str:
    return f"{'asked again' if again else 'counted out'}: {text}"


def _kept(record: Record) -> dict[str, Any]:
    return record.model_dump(mode="json")


def _statements(state: State, keys: Iterable[str]) -> list[Statement]:
    """What was said under these keys, by those who have said anything."""
    records = (recorded(Record, state[name]) for name in keys if state.get(name))
    return [record.said for record in records if isinstance(record.said, Statement)]


def _questions(state: State) -> Questions | None:
    said = recorded(Record, state["questioner"]).said if state.get("questioner") else None
    return said if isinstance(said, Questions) else None


def _feedback(state: State) -> str:
    """What the validator wants to have changed; nothing the first time."""
    said = [recorded(Record, each).said for each in state.get("validator", ())]
    return said[-1].feedback if said and isinstance(said[-1], Validation) else ""


def _sent_back(state: State) -> bool:
    said = recorded(Record, state["validator"][-1]).said
    return isinstance(said, Validation) and said.result == "revision" and len(state["synthesizer"]) <= REVISIONS
