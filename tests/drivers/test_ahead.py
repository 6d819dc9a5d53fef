"""Tasks that start before the step below them has ended, in real runs: what is kept, shown and resumed."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import END, START, StateGraph, Task, audit, interrupt, python_agent
from fanfold.errors import InvalidUpdateError, UsageError
from fanfold.graph import CompiledGraph
from fanfold.store.opening import open_store
from fanfold.store.sql import SqlStore
from fanfold.types import Command


class State(TypedDict, total=False):
    left: Annotated[list[str], operator.add]
    right: Annotated[list[str], operator.add]
    fold: str


class Left(TypedDict):
    left: list[str]


class Right(TypedDict):
    right: list[str]


class Stage:
    """A slow node on the right, beside a chain of nodes on the left. It ends when the test says so."""

    def __init__(self, chain: int = 3, *, last: Any = None) -> None:
        self.slow = asyncio.Event()
        self.ran: list[str] = []
        self.seen: dict[str, list[str]] = {}
        self.arrived = asyncio.Event()
        self.last = f"l{chain}"
        self.graph = StateGraph(State)
        for number in range(1, chain + 1):
            name = f"l{number}"
            self.graph.add_node(name, last if last is not None and number == chain else self._left(name))
            self.graph.add_edge(f"l{number - 1}" if number > 1 else START, name)
        self.graph.add_node("slow", self._slow).add_edge(START, "slow")
        self.graph.add_node("next", self._next).add_edge("slow", "next")
        self.graph.add_node("fold", self._fold).add_edge([self.last, "next"], "fold")

    def _left(self, name: str) -> Callable[[Left], Awaitable[Left]]:
        async def left(state: Left) -> Left:
            self.ran.append(name)
            self.seen[name] = state["left"]
            if name == self.last:
                self.arrived.set()
            return {"left": [name]}

        return left

    async def _slow(self, state: Right) -> Right:
        self.ran.append("slow")
        await self.slow.wait()
        return {"right": ["slow"]}

    async def _next(self, state: Right) -> Right:
        self.ran.append("next")
        return {"right": ["next"]}

    async def _fold(self, state: State) -> dict[str, Any]:
        return {"fold": " ".join([*state["left"], *state["right"]])}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    with open_store(tmp_path / "runs.db") as store:
        yield store


BEGINNING: State = {"left": [], "right": [], "fold": ""}
THREAD = {"configurable": {"thread_id": "t"}}


async def stopped_ahead(stage: Stage, app: CompiledGraph, input: Any = BEGINNING, **options: Any) -> None:
    """Run until the chain on the left is through while the slow node still runs, and stop there, as if killed."""
    run = asyncio.create_task(app.ainvoke(input, THREAD, **options))
    await stage.arrived.wait()
    while len(stage.ran) < len(stage.graph.nodes) - 2:
        await asyncio.sleep(0)
    for _ in range(20):  # the last of them is to be settled, too
        await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()


def test_a_branch_does_not_wait_for_one_that_it_sees_nothing_of() -> None:
    async def main() -> None:
        stage = Stage(chain=5)
        run = asyncio.create_task(stage.graph.compile().ainvoke(BEGINNING))
        await stage.arrived.wait()
        assert stage.ran == ["l1", "slow", "l2", "l3", "l4", "l5"]
        assert stage.seen["l5"] == ["l1", "l2", "l3", "l4"]
        stage.slow.set()
        output = await run
        assert output["fold"] == "l1 l2 l3 l4 l5 slow next"
        assert audit(output).barrier == 0

    asyncio.run(main())


def test_with_supersteps_it_waits_and_the_receipt_says_for_whom() -> None:
    async def main() -> None:
        stage = Stage(chain=2)
        run = asyncio.create_task(stage.graph.compile(schedule="superstep").ainvoke(BEGINNING))
        while "l1" not in stage.ran:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert stage.ran == ["l1", "slow"]
        stage.slow.set()
        receipt = audit(await run)
        waited = {task.name: task.held_back_by for task in receipt.tasks if task.barrier}
        names = {task.task: task.name for task in receipt.tasks}
        assert {name: names[other] for name, other in waited.items()} == {"l2": "slow"}
        assert 0 < receipt.barrier < receipt.wall
        assert "at barriers" in str(receipt)

    asyncio.run(main())


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UsageError, match="schedule is 'eager'; it is one of 'watermark', 'superstep'"):
        Stage().graph.compile(schedule="eager")  # type: ignore[arg-type]


def history(app: CompiledGraph) -> list[Any]:
    return [
        (state.metadata["step"], state.next, state.values, [(task.name, task.result) for task in state.tasks])
        for state in app.get_state_history(THREAD)
    ]


def test_history_is_by_step_whatever_ran_first(store: SqlStore) -> None:
    async def main(schedule: Any) -> list[Any]:
        stage = Stage()
        app = stage.graph.compile(store, schedule=schedule)
        run = asyncio.create_task(app.ainvoke(BEGINNING, THREAD))
        if schedule == "watermark":
            await stage.arrived.wait()
        stage.slow.set()
        await run
        told = await asyncio.to_thread(history, app)
        await asyncio.to_thread(lambda: store.delete_thread("t").result())
        return told

    ahead, by_step = asyncio.run(main("watermark")), asyncio.run(main("superstep"))
    assert ahead == by_step
    assert [step for step, *_ in ahead] == [4, 3, 2, 1, 0, -1]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_what_ran_ahead_of_a_run_that_was_cut_off_is_not_repeated(store: SqlStore, durability: Any) -> None:
    async def main() -> None:
        stage = Stage(chain=4)
        app = stage.graph.compile(store)
        await stopped_ahead(stage, app, durability=durability)
        assert stage.ran == ["l1", "slow", "l2", "l3", "l4"]
        state = await app.aget_state(THREAD)
        assert state.next == ("slow",)  # by step, l1 of the same step has ended
        stage.slow.set()
        output = await app.ainvoke(None, THREAD, durability=durability)
        assert output["fold"] == "l1 l2 l3 l4 slow next"
        assert stage.ran == ["l1", "slow", "l2", "l3", "l4", "slow", "next"]

    asyncio.run(main())


def test_it_is_not_repeated_when_checkpoints_have_been_taken_since_and_the_run_is_cut_off_again(
    store: SqlStore,
) -> None:
    async def main() -> None:
        stage = Stage(chain=6)
        second = asyncio.Event()

        async def stuck(state: Right) -> Right:
            stage.ran.append("stuck")
            await second.wait()
            return {"right": ["stuck" + "." * 500]}

        stage.graph.add_node("stuck", stuck).add_edge("next", "stuck")
        app = stage.graph.compile(store)
        run = asyncio.create_task(app.ainvoke({**BEGINNING, "fold": "." * 10}, THREAD))
        await stage.arrived.wait()
        stage.slow.set()
        while "stuck" not in stage.ran:
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        first = list(stage.ran)
        assert sorted(first) == sorted([*(f"l{n}" for n in range(1, 7)), "slow", "next", "stuck"])
        second.set()
        output = await app.ainvoke(None, THREAD)
        assert output["fold"].startswith("l1 l2 l3 l4 l5 l6 slow next")
        assert stage.ran == [*first, "stuck"]

    asyncio.run(main())


def test_an_agent_that_a_task_ahead_has_called_is_not_called_again(store: SqlStore) -> None:
    async def main() -> None:
        calls: list[str] = []
        ready, go = asyncio.Event(), asyncio.Event()

        async def scout(prompt: str) -> str:
            calls.append(prompt)
            return prompt.upper()

        async def calling(state: Left) -> Left:
            answer = await Task(subagent_type="scout", prompt="look", description="look")
            ready.set()
            await go.wait()
            return {"left": [str(answer)]}

        stage = Stage(chain=2, last=calling)
        app = stage.graph.compile(store)
        run = asyncio.create_task(app.ainvoke(BEGINNING, THREAD, agents=[python_agent("scout")(scout)]))
        await ready.wait()
        run.cancel()
        await asyncio.wait([run])
        go.set()
        stage.slow.set()
        output = await app.ainvoke(None, THREAD, agents=[python_agent("scout")(scout)])
        assert output["left"] == ["l1", "LOOK"]
        assert calls == ["look"]

    asyncio.run(main())


def test_a_question_of_a_task_ahead_is_asked_when_its_step_has_come(store: SqlStore) -> None:
    async def main() -> None:
        async def asking(state: Left) -> Left:
            stage.arrived.set()
            return {"left": [interrupt("left or right?")]}

        stage = Stage(chain=2, last=asking)
        app = stage.graph.compile(store)
        chunks: list[Any] = []

        async def run() -> None:
            async for chunk in app.astream(BEGINNING, THREAD, stream_mode="updates"):
                chunks.append(chunk)

        running = asyncio.create_task(run())
        await stage.arrived.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert [list(chunk) for chunk in chunks] == [["l1"]]
        stage.slow.set()
        await running
        # The sibling of its step, "next", goes on; then the run stands at the question.
        assert [list(chunk) for chunk in chunks] == [["l1"], ["slow"], ["__interrupt__"], ["next"]]
        output = await app.ainvoke(Command(resume="left"), THREAD)
        assert output["fold"] == "l1 left slow next"

    asyncio.run(main())


class Asking:
    """A node on the right that asks, beside a chain on the left that counts what it sees of `fold`."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.graph = StateGraph(State).add_node("ask", self._ask).add_edge(START, "ask")
        for name, before in (("one", START), ("two", "one"), ("three", "two")):
            self.graph.add_node(name, self._counting(name), reads=["fold", "left"], writes=["left"])
            self.graph.add_edge(before, name)

    async def _ask(self, state: Right) -> Right:
        return {"right": [interrupt("well?")]}

    def _counting(self, name: str) -> Any:
        async def counting(state: dict[str, Any]) -> dict[str, Any]:
            self.ran.append(name)
            return {"left": [f"{name} saw {state['fold']}"]}

        return counting


def test_what_ran_ahead_counts_when_the_question_is_answered(store: SqlStore) -> None:
    asking = Asking()
    app = asking.graph.compile(store)
    app.invoke({**BEGINNING, "fold": "old"}, THREAD)
    assert asking.ran == ["one", "two", "three"]
    output = app.invoke(Command(resume="yes"), THREAD)
    assert asking.ran == ["one", "two", "three"]
    assert output["left"] == ["one saw old", "two saw old", "three saw old"]


def test_what_ran_ahead_does_not_count_when_the_state_is_changed_before_its_step(store: SqlStore) -> None:
    asking = Asking()
    app = asking.graph.compile(store)
    app.invoke({**BEGINNING, "fold": "old"}, THREAD)
    output = app.invoke(Command(update={"fold": "new"}), THREAD)  # answers nothing: the run stands where it stood
    assert output["__interrupt__"]
    output = app.invoke(Command(resume="yes"), THREAD)
    assert asking.ran == ["one", "two", "three", "two", "three"]
    assert output["left"] == ["one saw old", "two saw new", "three saw new"]


def test_what_ran_ahead_does_not_count_after_an_update_from_outside(store: SqlStore) -> None:
    asking = Asking()
    app = asking.graph.compile(store)
    app.invoke({**BEGINNING, "fold": "old"}, THREAD)
    app.update_state(THREAD, {"fold": "new"}, as_node="one")
    output = app.invoke(None, THREAD)
    assert asking.ran == ["one", "two", "three", "two", "three"]
    assert output["left"][-2:] == ["two saw new", "three saw new"]


def test_what_ran_ahead_counts_once_more_for_who_begins_at_an_earlier_checkpoint(store: SqlStore) -> None:
    asking = Asking()
    app = asking.graph.compile(store)
    app.invoke({**BEGINNING, "fold": "old"}, THREAD)
    app.invoke(Command(resume="yes"), THREAD)
    first = [state for state in app.get_state_history(THREAD) if set(state.next) == {"ask", "one"}]
    app.invoke(None, first[-1].config)
    assert asking.ran == ["one", "two", "three"] * 2
    assert app.invoke(Command(resume="no"), THREAD)["right"] == ["no"]
    assert asking.ran == ["one", "two", "three"] * 2


def test_an_error_ahead_is_raised_when_its_step_has_come(store: SqlStore) -> None:
    async def main() -> None:
        async def failing(state: Left) -> Left:
            stage.arrived.set()
            raise ValueError("no way")

        stage = Stage(chain=2, last=failing)
        app = stage.graph.compile(store)
        run = asyncio.create_task(app.ainvoke(BEGINNING, THREAD))
        await stage.arrived.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not run.done()
        stage.slow.set()
        with pytest.raises(ValueError, match="no way"):
            await run
        state = await app.aget_state(THREAD)
        assert (state.metadata["step"], set(state.next) >= {"l2"}) == (1, True)

    asyncio.run(main())


def test_what_has_run_ahead_of_a_failure_is_let_finish_and_kept(store: SqlStore) -> None:
    async def main() -> None:
        fail, go, reached = asyncio.Event(), asyncio.Event(), asyncio.Event()
        ran: list[str] = []

        async def failing(state: Right) -> Right:
            await fail.wait()
            if len(ran) == 2:
                raise ValueError("no way")
            return {"right": ["failing"]}

        async def first(state: Left) -> Left:
            ran.append("first")
            return {"left": ["first"]}

        async def second(state: Left) -> Left:
            ran.append("second")
            reached.set()
            await go.wait()
            return {"left": ["second"]}

        graph = StateGraph(State).add_node("failing", failing).add_node("first", first).add_node("second", second)
        graph.add_edge(START, "failing").add_edge(START, "first").add_edge("first", "second")
        app = graph.compile(store)
        run = asyncio.create_task(app.ainvoke(BEGINNING, THREAD))
        await reached.wait()
        fail.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not run.done()  # it lets `second` finish
        go.set()
        with pytest.raises(ValueError, match="no way"):
            await run
        ran.append("again")
        output = await app.ainvoke(None, THREAD)
        assert output["left"] == ["first", "second"]
        assert ran == ["first", "second", "again"]

    asyncio.run(main())


def test_a_graph_inside_a_task_ahead_goes_on_where_it_was(store: SqlStore) -> None:
    async def main() -> None:
        ran: list[str] = []
        go = asyncio.Event()

        async def one(state: State) -> dict[str, Any]:
            ran.append("one")
            return {"fold": "one"}

        async def two(state: State) -> dict[str, Any]:
            ran.append("two")
            stage.arrived.set()
            await go.wait()
            return {"fold": "two"}

        inner = StateGraph(State).add_sequence([one, two]).add_edge(START, "one").compile()

        async def calling(state: Left) -> Left:
            inside = await inner.ainvoke({"left": [], "right": [], "fold": ""})
            return {"left": [inside["fold"]]}

        stage = Stage(chain=2, last=calling)
        app = stage.graph.compile(store)
        run = asyncio.create_task(app.ainvoke(BEGINNING, THREAD))
        await stage.arrived.wait()
        stage.slow.set()
        while "next" not in stage.ran:  # a checkpoint has been taken since the inner graph began
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        assert ran == ["one", "two"]
        go.set()
        output = await app.ainvoke(None, THREAD)
        assert output["left"] == ["l1", "two"]
        assert ran == ["one", "two", "two"]

    asyncio.run(main())


def test_a_step_timeout_keeps_a_run_to_steps() -> None:
    async def main() -> None:
        stage = Stage(chain=2)
        app = stage.graph.compile()
        app.step_timeout = 30.0
        run = asyncio.create_task(app.ainvoke(BEGINNING))
        while "slow" not in stage.ran:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert "l2" not in stage.ran
        stage.slow.set()
        assert (await run)["fold"] == "l1 l2 slow next"

    asyncio.run(main())


def test_a_return_annotation_is_a_declaration_and_another_key_is_an_error() -> None:
    def lying(state: State) -> Left:
        return {"fold": "no"}  # type: ignore[typeddict-unknown-key,typeddict-item]

    app = StateGraph(State).add_node("lying", lying).add_edge(START, "lying").compile()
    match = "node 'lying' wrote key 'fold', and its return annotation declares 'left'"
    with pytest.raises(InvalidUpdateError, match=match):
        app.invoke(BEGINNING)


def test_a_node_that_declares_its_writes_leads_only_where_it_says() -> None:
    def leading(state: State) -> Any:
        return Command(update={"left": ["x"]}, goto="aside")

    def aside(state: State) -> dict[str, Any]:
        return {"fold": "aside"}

    graph = StateGraph(State).add_node("leading", leading, writes=["left"]).add_node("aside", aside)
    graph.add_edge(START, "leading").add_edge("leading", END)
    with pytest.raises(InvalidUpdateError, match="node 'leading' leads to 'aside', and what it declares leads to"):
        graph.compile().invoke(BEGINNING)
    told = StateGraph(State).add_node("leading", leading, writes=["left"], destinations=["aside"])
    told.add_node("aside", aside).add_edge(START, "leading")
    assert told.compile().invoke(BEGINNING)["fold"] == "aside"
