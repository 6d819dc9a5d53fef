"""Limits that bind: what agents ask for is reserved, waited for or refused, and the receipt says how close it came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, BudgetError, Limits, Receipt, StateGraph, Task, asking, python_agent
from fanfold.agents.backends.python import PythonAgent
from fanfold.errors import ModelRateError, OutsideError, UsageError
from fanfold.events import Event, LimitReported, ModelRetried, TaskRemembered, TaskWaited, TaskWaiting
from fanfold.receipt import LimitUse, receipt
from fanfold.sitting import RunOptions

PATIENCE = 20.0


def joined(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


class State(TypedDict, total=False):
    out: Annotated[list[Any], joined]


def asks(name: str, *prompts: str) -> Callable[[State], Awaitable[State]]:
    """A node that asks an agent of that name all the prompts, side by side."""

    async def node(state: State) -> State:
        answers = await asyncio.gather(*(Task(subagent_type=name, prompt=prompt) for prompt in prompts))
        return {"out": [answer.output for answer in answers]}

    return node


def one_node(node: Any, store: Path | None = None, **options: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(store, **options)


def ran(graph: Any, *agents: PythonAgent, thread: str = "t", input: Any = None, **options: Any) -> tuple[Any, Receipt]:
    """What a run returned or raised, and its receipt."""
    events: list[Event] = []

    async def main() -> Any:
        async with asyncio.timeout(PATIENCE):
            given = {"out": []} if input is None else None
            return await graph.ainvoke(given, thread_id=thread, agents=agents, on_event=events.append, **options)

    try:
        found: Any = asyncio.run(main())
    except BudgetError as error:
        found = error
    told = receipt(events)
    assert isinstance(told, Receipt)
    return found, told


def use(told: Receipt, name: str) -> LimitUse:
    return next(use for use in told.limits if use.name == name)


class _Model:
    """A model of our own: it counts who asks it, and how many at once."""

    def __init__(self, tokens: int = 10, usd: float | None = None) -> None:
        self.calls = self.flying = self.peak = 0
        self.tokens = tokens
        self.usd = usd

    async def answer(self, *, estimate: float = 0.0, model: str = "ours:model") -> None:
        async with asking(model, tokens=estimate) as request:
            self.calls += 1
            self.flying += 1
            self.peak = max(self.peak, self.flying)
            await asyncio.sleep(0.001)
            self.flying -= 1
            request.answered(self.tokens, 0, self.usd)

    def agent(self, often: int = 1, name: str = "worker", **how: Any) -> PythonAgent:
        """An agent that asks so often."""

        async def works(prompt: str) -> str:
            for _ in range(often):
                await self.answer(**how)
            return prompt

        return python_agent(name)(works)


PROMPTS = [f"part {number}" for number in range(8)]


def test_a_budget_of_nine_calls_with_eight_agents_at_once_is_nine_calls() -> None:
    model = _Model()
    found, told = ran(one_node(asks("worker", *PROMPTS)), model.agent(3), limits=Limits(calls=9))
    assert isinstance(found, BudgetError)
    assert "9 of 9 calls spent" in str(found)
    assert model.calls == 9
    assert (use(told, "calls").peak, use(told, "calls").limit) == (9, 9)
    assert any(str(line).startswith("calls: peak 9, limit 9 (reached), waited for") for line in told.lines())


def test_what_finished_under_a_budget_is_kept_and_the_run_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    model, store = _Model(), tmp_path / "runs.db"
    graph = one_node(asks("worker", *PROMPTS), store)
    found, _ = ran(graph, model.agent(2), limits=Limits(5, calls=9))
    assert isinstance(found, BudgetError)
    found, _ = ran(graph, model.agent(2), input=False, limits=Limits(calls=12))
    assert isinstance(found, BudgetError), "the nine of the first sitting count"
    assert model.calls == 12
    events: list[Event] = []

    async def resumed() -> Any:
        return await graph.ainvoke(
            None, thread_id="t", agents=[model.agent(2)], limits=Limits(calls=30), on_event=events.append
        )

    assert sorted(asyncio.run(resumed())["out"]) == PROMPTS
    assert any(isinstance(event, TaskRemembered) for event in events), "what had answered is not asked again"


@pytest.mark.parametrize("limit", ["tokens", "usd"])
def test_tokens_and_money_stop_a_run_within_the_error_of_one_call(limit: str) -> None:
    model = _Model(tokens=150, usd=1.5)
    most = {"tokens": 1000.0, "usd": 10.0}[limit]

    async def works(prompt: str) -> str:
        for _ in range(100):
            async with asking("ours:model", tokens=100, usd=1.0) as request:
                await asyncio.sleep(0)
                request.answered(model.tokens, 0, model.usd)
        return prompt

    found, told = ran(one_node(asks("worker", *PROMPTS)), python_agent("worker")(works), limits=Limits(**{limit: most}))
    assert isinstance(found, BudgetError)
    spent = sum(task.input_tokens if limit == "tokens" else task.cost_usd or 0.0 for task in told.tasks)
    assert most * 0.8 <= spent <= most * 1.05


def test_seconds_that_agents_work_are_added_up_and_stop_them_all() -> None:
    ended: list[str] = []

    async def works(prompt: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(prompt)
        return prompt

    found, told = ran(one_node(asks("worker", *PROMPTS)), python_agent("worker")(works), limits=Limits(seconds=0.4))
    assert isinstance(found, BudgetError)
    assert "seconds" in str(found)
    assert sorted(ended) == PROMPTS
    assert told.wall < 0.4, "eight of them need a twentieth of a second for that"


def test_an_agent_is_not_started_when_the_seconds_of_the_run_are_spent() -> None:
    begun: list[str] = []

    async def works(prompt: str) -> str:
        begun.append(prompt)
        await asyncio.Event().wait()
        return prompt

    async def node(state: State) -> State:
        for prompt in PROMPTS:
            with pytest.raises(BudgetError):
                await Task(subagent_type="worker", prompt=prompt)
        return {"out": []}

    ran(one_node(node), python_agent("worker")(works), limits=Limits(seconds=0.05))
    assert begun == PROMPTS[:1]


def test_no_more_than_a_models_own_limit_ask_it_at_once_whoever_they_are() -> None:
    model, other = _Model(), _Model()

    async def both(state: State) -> State:
        await asyncio.gather(
            *(Task(subagent_type=name, prompt=prompt) for name in ("worker", "clerk") for prompt in PROMPTS)
        )
        return {"out": []}

    limits = Limits(models={"ours:model": 3, "theirs": 5})
    _, told = ran(one_node(both), model.agent(2), other.agent(2, "clerk", model="theirs:small"), limits=limits)
    assert (model.peak, other.peak) == (3, 5)
    assert use(told, "requests to ours:model at once").peak == 3
    assert use(told, "requests to ours:model at once").by[0][0] == "worker"
    assert use(told, "requests to theirs:small at once").limit == 5


def test_no_more_than_a_kinds_limit_are_at_work_however_its_name_is_written() -> None:
    model = _Model()
    _, told = ran(
        one_node(asks("hard-worker", *PROMPTS)),
        model.agent(name="hard-worker"),
        limits=Limits(agents={"Hard Worker": 2}),
    )
    assert model.peak == 2
    assert use(told, "agents 'hard-worker' at once").waits == 6


def test_a_limit_that_was_never_reached_says_so() -> None:
    _, told = ran(one_node(asks("worker", "one")), _Model().agent(), limits=Limits(8, calls=5, models={"ours": 4}))
    lines = "\n".join(told.lines())
    assert "calls: peak 1, limit 5 (never reached)" in lines
    assert "requests to ours:model at once: peak 1, limit 4 (never reached)" in lines
    assert "limit 8 (never reached)" in lines


class _Leaves:
    """Nodes of graphs in graphs, which count how many of them are at work."""

    def __init__(self) -> None:
        self.busy = self.peak = self.ended = 0

    async def leaf(self, state: State) -> State:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(0.002)
        self.busy -= 1
        self.ended += 1
        return {"out": [1]}

    def graph(self, fan: Iterable[int]) -> StateGraph:
        """A graph that fans out into graphs that fan out, as far as the numbers go."""
        number, *rest = fan
        graph = StateGraph(State)
        for at in range(number):
            node = self.graph(rest).compile() if rest else self.leaf
            graph.add_node(f"n{at}", node).add_edge(START, f"n{at}")
        return graph


@pytest.mark.parametrize("given", ["limits", "max_concurrency"])
def test_a_limit_of_three_holds_forty_leaves_in_graphs_three_deep_to_three(given: str) -> None:
    leaves = _Leaves()
    options: dict[str, Any] = {given: Limits(3) if given == "limits" else 3}
    _, told = ran(leaves.graph([4, 2, 5]).compile(), **options)
    assert (leaves.peak, leaves.ended, told.peak) == (3, 40, 3)
    assert use(told, "tasks at once").limit == 3


def test_a_graph_in_a_run_has_a_budget_of_its_own_within_that_of_the_run() -> None:
    model = _Model()
    inner = one_node(asks("worker", *PROMPTS), limits=Limits(calls=3), name="inner")
    found, told = ran(one_node(inner), model.agent(), limits=Limits(calls=100))
    assert isinstance(found, BudgetError)
    assert model.calls == 3
    assert use(told, "calls of graph 'inner'").peak == 3
    assert use(told, "calls").limit == 100


@pytest.mark.parametrize(("of_run", "of_graph"), [(100, 3), (3, 100), (3, 3)])
def test_each_limit_tells_of_those_who_waited_for_it_and_no_other_does(of_run: int, of_graph: int) -> None:
    inner = one_node(asks("worker", *PROMPTS), limits=Limits(calls=of_graph), name="inner")
    found, told = ran(one_node(inner), _Model().agent(2), limits=Limits(calls=of_run))
    assert isinstance(found, BudgetError)
    for limit, name in ((of_run, "calls"), (of_graph, "calls of graph 'inner'")):
        limits = use(told, name)
        assert (limits.waits > 0, [who for who, _ in limits.by]) == ((True, ["worker"]) if limit == 3 else (False, []))
        line = next(str(line) for line in told.lines() if str(line).startswith(f"{name}: "))
        assert ("(never reached)" in line) is (limit == 100)


def test_a_graph_with_a_limit_of_tasks_does_not_repeat_the_other_limits_of_its_run() -> None:
    inner = one_node(asks("worker", *PROMPTS), limits=Limits(2), name="inner")
    _, told = ran(one_node(inner), _Model().agent(), limits=Limits(5, calls=100))
    names = [use.name for use in told.limits]
    assert sorted(names) == [
        "calls",
        "requests to ours:model at once",
        "tasks at once",
        "tasks of graph 'inner' at once",
    ]


def test_a_refusal_of_a_model_holds_back_all_who_ask_it_and_is_shown_as_waiting() -> None:
    answered: list[str] = []
    refused: list[float] = []

    async def works(prompt: str) -> str:
        while True:
            try:
                async with asking("ours:model") as request:
                    await asyncio.sleep(0)
                    if not refused:
                        refused.append(asyncio.get_running_loop().time())
                        raise ModelRateError("slow down", retry_after=0.2)
                    assert len(answered) < 7 or asyncio.get_running_loop().time() >= refused[0] + 0.2
                    request.answered(1, 1)
            except ModelRateError:
                continue
            answered.append(prompt)
            return prompt

    async def node(state: State) -> State:
        await Task(subagent_type="worker", prompt="first")
        await asyncio.gather(*(Task(subagent_type="worker", prompt=prompt) for prompt in PROMPTS))
        return {"out": []}

    found, told = ran(one_node(node), python_agent("worker")(works))
    waited = [task for task in told.tasks if ("ours:model to take requests again") in dict(task.waits)]
    assert len(waited) == 1
    assert waited[0].waited >= 0.15
    assert waited[0].work < waited[0].waited
    assert found["out"] == []
    assert (
        use(told, "requests to ours:model at once").note == "refused 1x, closed for 0.2 s in all, narrowed to 1 at once"
    )


def test_agents_call_agents_no_deeper_than_the_limit() -> None:
    async def works(prompt: str) -> str:
        return str((await Task(subagent_type="worker", prompt=prompt + "|")).output)

    agent = python_agent("worker")(works)
    found, told = ran(one_node(asks("worker", "|")), agent, limits=Limits(depth=3))
    assert isinstance(found, BudgetError)
    assert "would be called 4 deep by agents, and the run's limit is 3" in str(found)
    assert len(told.agents) == 3


def test_an_agent_that_waits_for_its_own_agents_does_not_keep_a_spent_budget_waiting() -> None:
    model = _Model()

    async def manages(prompt: str) -> str:
        await asyncio.gather(*(Task(subagent_type="worker", prompt=prompt + part) for part in PROMPTS))
        return prompt

    found, _ = ran(
        one_node(asks("manager", "a", "b")), python_agent("manager")(manages), model.agent(), limits=Limits(2, calls=5)
    )
    assert isinstance(found, BudgetError)
    assert model.calls == 5


def test_waiting_for_a_budget_is_told_when_it_begins_and_when_it_ends() -> None:
    events: list[Event] = []
    graph = one_node(asks("worker", *PROMPTS))

    async def main() -> None:
        with pytest.raises(BudgetError):
            await graph.ainvoke({"out": []}, agents=[_Model().agent(2)], limits=Limits(calls=9), on_event=events.append)

    asyncio.run(main())
    begun = [event.task for event in events if isinstance(event, TaskWaiting)]
    ended = [event.task for event in events if isinstance(event, TaskWaited)]
    assert begun
    assert sorted(begun) == sorted(ended)
    assert {event.waits_for for event in events if isinstance(event, TaskWaiting)} == {"the budget of calls"}
    assert not any(isinstance(event, ModelRetried) for event in events)
    assert [event.name for event in events if isinstance(event, LimitReported)][-1] == "calls"


def test_only_the_code_of_an_agent_asks_for_its_run() -> None:
    async def main() -> None:
        async with asking("ours:model"):
            raise AssertionError("nobody is to get here")

    with pytest.raises(OutsideError, match="for the code of an agent"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"calls": -1}, "calls is -1; it must be at least 0"),
        ({"calls": 1.5}, "calls is 1.5; it must be a whole number"),
        ({"usd": "10"}, "usd is '10'; it must be a number"),
        ({"tokens": float("nan")}, "tokens is nan"),
        ({"agents": {"a": 0}}, r"agents\['a'\] is 0; it must be at least 1"),
        ({"depth": 0}, "depth is 0; it must be at least 1"),
    ],
)
def test_limits_that_are_none_are_refused_by_name(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Limits(**limits)


def test_a_number_for_this_call_narrows_the_limits_of_the_graph_and_keeps_the_rest() -> None:
    limits = RunOptions(max_concurrency=2).limited(Limits(5, calls=3))
    assert limits == Limits(2, calls=3)
