"""What holds for every graph when it is run for real: with an event loop, a store, people who answer, and restarts.

Nothing that can be looked at tells whether tasks waited for the step below: not what a run returns or raises, not what
it asks, not where its thread stands and stood.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fanfold import START, Command, InMemorySaver, Send, StateGraph, interrupt
from fanfold.errors import InvalidUpdateError
from fanfold.graph import CompiledGraph
from fanfold.types import Durability, Interrupt, StateSnapshot
from tests.laws.cases import Case, cases
from tests.laws.drawings import Spot, built, digest
from tests.laws.reference import walk
from tests.laws.test_watermarks import LONG, laws

pytestmark = [
    pytest.mark.filterwarnings("ignore::fanfold.family.WaitingJoinWarning"),
    pytest.mark.timeout(3600 if LONG else 120),
]

Schedule = Literal["watermark", "superstep"]

TURNS = (0, 1, 2, 4, 9, 25)
LIMIT = 9
SITTINGS = 8
THREAD: dict[str, Any] = {"configurable": {"thread_id": "thread"}, "recursion_limit": LIMIT}


def runs(examples: int) -> settings:
    """So many random graphs. One that fails is not made smaller: with real runs, that takes longer than a test may."""
    return settings(laws(examples, 10 * examples), phases=(Phase.explicit, Phase.reuse, Phase.generate))


@dataclass
class Stage:
    """A case, run for real. Nodes give way to others as often as chance has it; those in `asking` ask a person.

    `inner` is the graph that runs in place of the first node.
    """

    case: Case
    schedule: Schedule
    asking: frozenset[str] = frozenset()
    inner: Case | None = None
    durabilities: tuple[Durability, ...] = get_args(Durability)
    told: list[Any] = field(default_factory=list)

    def compiled(self, case: Case, store: Any) -> CompiledGraph:
        """The graph. Of an inner one, its own nodes may ask too."""
        graph = built(case.drawing, StateGraph, lambda spot, code: self.node(case, spot, code))
        return graph.compile(store, schedule=self.schedule, on_error="finish")

    def node(self, case: Case, spot: Spot, code: Callable[[Any], Any]) -> Any:
        """What is run for a node of the drawing."""
        if self.inner is not None and case is self.case and spot == case.drawing.spots[0]:
            return self.compiled(self.inner, None)

        async def node(state: Any) -> Any:
            for _ in range(TURNS[self.case.chance(self.schedule, spot.name, sorted(state)) % len(TURNS)]):
                await asyncio.sleep(0)
            if spot.name in self.asking and digest("asks", spot.name, sorted(state.items())) % 3 < 2:
                state = {**state, "answer": interrupt(f"what of {spot.name}?")}
            return code(state)

        node.__annotations__ = code.__annotations__
        return node

    def tell(self, story: Callable[[Stage, CompiledGraph], Awaitable[None]]) -> list[Any]:
        """What is to be seen of the story."""
        with InMemorySaver() as store:
            asyncio.run(story(self, self.compiled(self.case, store)))
        return self.told

    async def sit(self, app: CompiledGraph, value: Any, config: Mapping[str, Any] = THREAD) -> Any:
        """One sitting; what it asked."""
        outcome, asked = await outcome_of(app.ainvoke(value, config, durability=self.durability))
        self.told.append((outcome, asked, await history(app)))
        return asked

    @property
    def durability(self) -> Durability:
        """When what is stored of a run is stored: any time, as far as `durabilities` go."""
        chosen: Durability = self.durabilities[self.case.chance("durability") % len(self.durabilities)]
        return chosen

    def chance(self, *what: Any) -> int:
        """A number for something that people do by chance."""
        return self.case.chance("people", *what)


async def outcome_of(run: Awaitable[Any]) -> tuple[Any, Any]:
    """What a run returns, or what it raises and in which step; and what it asks, in whichever order it did."""
    try:
        output = dict(await run)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
        steps = [word for note in getattr(error, "__notes__", ()) for word in re.findall(r"step \d+", note)]
        return (type(error).__name__, steps), ()
    return output, in_order(output.pop("__interrupt__", ()))


def seen(snapshot: StateSnapshot) -> Any:
    """What is to be seen of where a thread stood, but for when that was and by which name it is known."""
    told = {key: (snapshot.metadata or {}).get(key) for key in ("source", "step")}
    tasks = [
        (task.id, task.name, task.path, task.error, in_order(task.interrupts), task.result) for task in snapshot.tasks
    ]
    return snapshot.values, snapshot.next, told, tasks, in_order(snapshot.interrupts)


def in_order(asked: Iterable[Interrupt]) -> list[Interrupt]:
    """Questions in an order that does not tell which was asked first."""
    return sorted(asked, key=lambda question: question.id)


async def history(app: CompiledGraph) -> list[Any]:
    """Where the thread stands and stood."""
    return [seen(snapshot) async for snapshot in app.aget_state_history(THREAD)]


Story = Callable[[Stage, CompiledGraph], Awaitable[None]]


def same(story: Story, case: Case, **more: Any) -> None:
    """A story is the same with and without the barrier."""
    if walk(case.drawing, case.value, LIMIT).ending != "crowd":
        barrier, ahead = (Stage(case, schedule, **more).tell(story) for schedule in ("superstep", "watermark"))
        assert ahead == barrier


async def once(stage: Stage, app: CompiledGraph) -> None:
    await stage.sit(app, stage.case.value)


@runs(60)
@given(cases(plain=True))
def test_a_run_returns_or_raises_and_leaves_behind_the_same(case: Case) -> None:
    same(once, case)


asking = st.frozensets(st.sampled_from("abcdefg"), min_size=1, max_size=4)


async def answered(stage: Stage, app: CompiledGraph) -> None:
    """All questions are answered, or some of them first."""
    asked = await stage.sit(app, stage.case.value)
    for sitting in range(SITTINGS):
        if not asked:
            break
        some = asked[: 1 + stage.chance("answers", sitting) % len(asked)]
        asked = await stage.sit(app, Command(resume={question.id: digest(question.id) for question in some}))


@runs(20)
@given(cases(plain=True), asking)
def test_a_run_asks_the_same_and_goes_on_with_the_answers_in_the_same_way(case: Case, asking: frozenset[str]) -> None:
    same(answered, case, asking=asking)


async def meddled_with(stage: Stage, app: CompiledGraph) -> None:
    """Where it pauses, a person changes the state, or begins anew, or answers and changes it in one."""
    asked = await stage.sit(app, stage.case.value)
    for sitting in range(SITTINGS):
        if not asked:
            break
        change = {"mix": stage.chance("change", sitting) % 100, "trail": (f"person{sitting}",)}
        answers = {question.id: digest(question.id) for question in asked}
        match stage.chance("deed", sitting) % 5:
            case 0:
                asked = await stage.sit(app, Command(resume=answers))
            case 1:
                asked = await stage.sit(app, Command(resume=answers, update=change))
            case 2:
                asked = await stage.sit(app, change)
            case 3:
                goto = sorted(app.plan.nodes)[-1]
                asked = await stage.sit(app, Command(resume=answers, goto=goto))
            case _:
                at = await app.aget_state(THREAD)
                if not at.next:
                    return
                done, _ = await outcome_of(_as_dict(app.aupdate_state(THREAD, change, as_node=at.next[0])))
                stage.told.append((sorted(done), await history(app)))
                asked = await stage.sit(app, None)


async def _as_dict(update: Awaitable[Any]) -> dict[str, Any]:
    await update
    return {}


@runs(20)
@given(cases(plain=True), asking)
def test_what_a_person_changes_where_a_run_pauses_counts_for_what_had_run_ahead(
    case: Case, asking: frozenset[str]
) -> None:
    same(meddled_with, case, asking=asking)


async def forked(stage: Stage, app: CompiledGraph) -> None:
    """The thread goes on from where it stood some time ago, once as it was and once changed."""
    await answered(stage, app)
    stood = [snapshot async for snapshot in app.aget_state_history(THREAD) if snapshot.next]
    for number in range(2):
        if not stood:
            return
        at = stood[stage.chance("from", number) % len(stood)]
        config = {**THREAD, **at.config}
        if number and at.next != ("__start__",):
            change = {"mix": 3, "notes": "changed"}
            config = {**THREAD, **await app.aupdate_state(config, change, as_node=at.next[0])}
        asked = await stage.sit(app, None, config)
        for _ in range(SITTINGS):
            if not asked:
                break
            asked = await stage.sit(app, Command(resume={question.id: digest(question.id) for question in asked}))


@runs(20)
@given(cases(plain=True), st.one_of(st.just(frozenset()), asking))
def test_a_thread_goes_on_in_the_same_way_from_wherever_it_stood(case: Case, asking: frozenset[str]) -> None:
    same(forked, case, asking=asking)


@runs(20)
@given(cases(plain=True), cases(plain=True), st.one_of(st.just(frozenset()), asking))
def test_a_graph_inside_a_graph_runs_in_the_same_way(case: Case, inner: Case, asking: frozenset[str]) -> None:
    if walk(inner.drawing, inner.value, LIMIT).ending == "done":
        same(answered, case, asking=asking, inner=inner)


async def broken_off(stage: Stage, app: CompiledGraph) -> None:
    """It is stopped again and again, as if the process were gone, and then goes on to its end."""
    value: Any = stage.case.value
    for sitting in range(3):
        run = asyncio.ensure_future(app.ainvoke(value, THREAD, durability=stage.durability))
        while not (await app.aget_state(THREAD)).metadata:  # else nobody knows whether it has begun
            await asyncio.sleep(0)
        for _ in range(stage.chance("turns", sitting) % 60):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        value = None
    await stage.sit(app, None)


@runs(20)
@given(cases(plain=True))
def test_a_run_that_is_broken_off_anywhere_goes_on_to_the_same_end(case: Case) -> None:
    if walk(case.drawing, case.value, LIMIT).ending == "crowd":
        return
    told: tuple[Durability, ...] = ("async", "sync")  # with the third, nothing is to be seen of a run before its end
    ((outcome, _, whole),) = Stage(case, "superstep", durabilities=told).tell(once)
    if isinstance(outcome, dict):  # what it returns is what its last sitting has seen change, so that is not compared
        ((_, _, broken),) = Stage(case, "watermark", durabilities=told).tell(broken_off)
        assert broken == whole


# Some graphs, most of which random ones have found


class Sum(TypedDict, total=False):
    number: int
    seen: int
    other: int


class Seen(TypedDict):
    seen: int


def ahead_of_a_question(schedule: Schedule, store: Any) -> CompiledGraph:
    """`ask` waits for a person, while `look` sees the number in the step after it, or ahead of it."""
    graph = StateGraph(Sum).add_node("ask", lambda _: interrupt("well?") and None, writes=[])
    graph.add_node("first", lambda _: None, writes=[])
    graph.add_node("look", lambda state: {"seen": state["number"]}, reads=["number"], writes=["seen"])
    graph.add_node("set", lambda _: {"number": 3}, writes=["number"])
    graph.add_edge(START, "ask").add_edge(START, "first").add_edge("first", "look")
    return graph.compile(store, schedule=schedule)


@pytest.fixture(params=["watermark", "superstep"])
def schedule(request: pytest.FixtureRequest) -> Schedule:
    chosen: Schedule = request.param
    return chosen


@pytest.mark.parametrize(
    ("change", "number"),
    [({}, 1), ({"update": {"number": 2}}, 2), ({"goto": "set"}, 3), ({"goto": Send("set", {})}, 3)],
)
def test_what_comes_with_an_answer_is_seen_by_what_had_run_ahead_of_the_question(
    schedule: Schedule, change: dict[str, Any], number: int
) -> None:
    with InMemorySaver() as store:
        app = ahead_of_a_question(schedule, store)
        assert app.invoke({"number": 1}, THREAD)["__interrupt__"]
        assert app.invoke(Command(resume="yes", **change), THREAD) == {"number": number, "seen": number}


def test_siblings_of_what_failed_ahead_of_them_are_run_and_kept_where_they_are_to_finish(schedule: Schedule) -> None:
    gate = asyncio.Event()

    async def slow(state: Sum) -> None:
        await gate.wait()

    async def bad(state: Sum) -> None:
        gate.set()
        raise KeyError("bad")

    async def first(state: Sum) -> None:
        if schedule == "superstep":
            gate.set()

    graph = StateGraph(Sum).add_node("slow", slow, writes=["other"]).add_node("first", first, writes=[])
    graph.add_node("bad", bad, reads=["number"], writes=[]).add_node("beside", lambda _: {"seen": 1})
    graph.add_edge(START, "slow").add_edge(START, "first").add_edge("first", "bad").add_edge("slow", "beside")
    with InMemorySaver() as store:
        app = graph.compile(store, schedule=schedule, on_error="finish")
        with pytest.raises(KeyError):
            app.invoke({"number": 1}, THREAD)
        assert {task.name: task.result for task in app.get_state(THREAD).tasks} == {"bad": None, "beside": {"seen": 1}}


def test_an_error_of_a_step_names_that_step_whoever_was_the_last_to_end(schedule: Schedule) -> None:
    gate = asyncio.Event()

    async def slow(state: Sum) -> None:
        await gate.wait()

    async def one(state: Sum) -> dict[str, int]:
        return {"other": 1}

    async def two(state: Sum) -> dict[str, int]:
        gate.set()
        return {"other": 2}

    async def first(state: Sum) -> None:
        if schedule == "superstep":
            gate.set()

    graph = StateGraph(Sum).add_node("slow", slow, writes=["seen"]).add_node("first", first, writes=[])
    graph.add_node("one", one, reads=[], writes=["other"]).add_node("two", two, reads=[], writes=["other"])
    graph.add_edge(START, "slow").add_edge(START, "first").add_edge("first", "one").add_edge("first", "two")
    with pytest.raises(InvalidUpdateError) as caught:
        graph.compile(schedule=schedule).invoke({"number": 1})
    assert caught.value.__notes__ == ["at the end of step 2"]


@pytest.mark.parametrize("annotated", [True, False])
def test_a_write_that_is_not_declared_is_an_error_that_names_node_and_key(annotated: bool, schedule: Schedule) -> None:
    def sneaky(state: Sum) -> Seen:
        return {"seen": 1, "other": 2}  # type: ignore[typeddict-unknown-key]  # that is the point

    graph = StateGraph(Sum)
    if annotated:
        graph.add_node("sneaky", sneaky)
    else:
        graph.add_node("sneaky", lambda state: sneaky(state), writes=["seen"])
    with pytest.raises(InvalidUpdateError, match="node 'sneaky' wrote key 'other'"):
        graph.add_edge(START, "sneaky").compile(schedule=schedule).invoke({"number": 1})


def test_a_step_that_is_not_declared_is_an_error_that_names_both_nodes(schedule: Schedule) -> None:
    graph = StateGraph(Sum).add_node("sneaky", lambda _: Command(goto="there"), writes=["seen"])
    graph.add_node("there", lambda _: None, writes=[])
    with pytest.raises(InvalidUpdateError, match="node 'sneaky' leads to 'there'"):
        graph.add_edge(START, "sneaky").compile(schedule=schedule).invoke({"number": 1})
