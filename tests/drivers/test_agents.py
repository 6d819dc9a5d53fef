"""Agents that nodes call: children with a slot and a stored answer of their own, which no node outlives."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from typing import Any

import pytest

from fanfold import START, StateGraph, Task, audit, python_agent
from fanfold.errors import SyncInLoopError, UsageError
from fanfold.events import (
    RunFinished,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)
from fanfold.store.sqlite import SqliteStore
from tests.drivers.conftest import Run
from tests.drivers.parts import INPUT, PATIENCE, State, beside, happened, kinds, met, names

pytestmark = pytest.mark.timeout(60)


class Crew:
    """Agents by name, and how often each prompt reached them."""

    def __init__(self, **functions: Any) -> None:
        self.asked: Counter[str] = Counter()
        self.agents = [python_agent(name)(self._counting(function)) for name, function in functions.items()]

    def _counting(self, function: Any) -> Any:
        if asyncio.iscoroutinefunction(function):

            async def counted(prompt: str) -> Any:
                self.asked[prompt] += 1
                return await function(prompt)

            return counted

        def counted_too(prompt: str) -> Any:
            self.asked[prompt] += 1
            return function(prompt)

        return counted_too


def ask(agent: str, prompt: str = "p") -> Task:
    return Task(subagent_type=agent, prompt=prompt)


async def echo(prompt: str) -> str:
    return prompt


async def forever(prompt: str) -> None:
    await asyncio.Event().wait()


# At once, within the limit


def test_agents_that_a_node_gathers_are_in_flight_together(run: Run) -> None:
    barrier = asyncio.Barrier(3)

    async def meet(prompt: str) -> str:
        await met(barrier)
        return prompt

    async def node(state: State) -> Any:
        answers = await asyncio.gather(*(ask("meet", word) for word in "abc"))
        return {"log": [answer.output for answer in answers]}

    graph = beside(n=node).compile()
    assert run(graph, INPUT, agents=Crew(meet=meet).agents) == {"log": ["a", "b", "c"]}


def test_agents_of_two_nodes_are_in_flight_together_though_the_limit_is_two(run: Run) -> None:
    barrier = threading.Barrier(2)

    def meet(prompt: str) -> str:
        barrier.wait(PATIENCE)
        return prompt

    async def awaiting(state: State) -> Any:
        return {"log": [(await ask("meet", "a")).output]}

    def blocking(state: State) -> Any:
        return {"log": [ask("meet", "b").run().output]}

    graph = beside(a=awaiting, b=blocking).compile()
    assert run(graph, INPUT, max_concurrency=2, agents=Crew(meet=meet).agents) == {"log": ["a", "b"]}


class Nest:
    """Agents that call agents that call agents, blocking and async by turns, and how many of them computed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def crew(self) -> Crew:
        return Crew(leaf=self.leaf, twig=self.twig, branch=self.branch, trunk=self.trunk)

    def work(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        with self._lock:
            self._inside -= 1

    def leaf(self, prompt: str) -> str:
        self.work()
        return prompt

    async def twig(self, prompt: str) -> str:
        self.work()
        return prompt

    async def branch(self, prompt: str) -> str:
        self.work()
        answers = await asyncio.gather(ask("leaf", f"{prompt}l"), ask("twig", f"{prompt}t"), ask("leaf", f"{prompt}m"))
        self.work()
        return "".join(str(answer) for answer in answers)

    def trunk(self, prompt: str) -> str:
        self.work()
        return "".join(str(ask("branch", f"{prompt}{word}").run()) for word in "xy")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, None])
def test_agents_within_agents_within_nodes_come_to_an_end_at_any_limit(run: Run, limit: int | None) -> None:
    nest = Nest()

    def blocking(state: State) -> Any:
        return {"log": [ask("trunk", "1").run().output, ask("leaf", "2").run().output]}

    async def awaiting(state: State) -> Any:
        answers = await asyncio.gather(ask("trunk", "3"), ask("branch", "4"), ask("twig", "5"))
        return {"log": [answer.output for answer in answers]}

    graph = beside(a=blocking, b=awaiting, c=blocking, d=awaiting).compile("memory:")
    result = run(graph, INPUT, max_concurrency=limit, agents=nest.crew().agents)
    blocked, awaited = ["1xl1xt1xm1yl1yt1ym", "2"], ["3xl3xt3xm3yl3yt3ym", "4l4t4m", "5"]
    assert result == {"log": blocked + awaited + blocked + awaited}
    if limit is not None:
        assert nest.most <= limit
        assert audit(result).peak <= kinds(result.run.events, RunFinished)[0].peak <= limit


def test_an_agent_gives_its_slot_to_the_agent_that_it_calls_and_is_its_parent(run: Run) -> None:
    async def outer(prompt: str) -> str:
        return str(await ask("inner", prompt))

    async def node(state: State) -> None:
        await ask("outer")

    events = run(
        beside(n=node).compile(), INPUT, max_concurrency=1, agents=Crew(outer=outer, inner=echo).agents
    ).run.events
    ids = {event.name: event.task for event in kinds(events, TaskQueued)}
    assert {event.name: event.parent for event in kinds(events, TaskQueued)} == {
        "n": None,
        "outer": ids["n"],
        "inner": ids["outer"],
    }
    life = [
        (type(event), event.task)
        for event in events
        if isinstance(event, TaskStarted | TaskPaused | TaskContinued | TaskFinished)
    ]
    assert life == [
        (TaskStarted, ids["n"]),
        (TaskPaused, ids["n"]),
        (TaskStarted, ids["outer"]),
        (TaskPaused, ids["outer"]),
        (TaskStarted, ids["inner"]),
        (TaskFinished, ids["inner"]),
        (TaskContinued, ids["outer"]),
        (TaskFinished, ids["outer"]),
        (TaskContinued, ids["n"]),
        (TaskFinished, ids["n"]),
    ]


def test_a_node_that_is_about_to_go_on_leaves_its_slot_to_an_agent_that_it_calls_meanwhile(run: Run) -> None:
    """The moment at which a node could take the only slot and then wait, holding it, for an agent that needs it.

    Node `one` runs two chains of agents. Both rest: its last agent, `b`, has ended, and its turn to go on is behind
    that of agent `c`. While `c` runs, the other chain calls another agent, which comes behind both.
    """
    go_on, called = asyncio.Event(), asyncio.Event()

    async def last(prompt: str) -> None:
        go_on.set()
        await happened(called)

    async def one(state: State) -> None:
        async def chain() -> None:
            await ask("echo", "a")
            await happened(go_on)
            await ask("echo", "again")

        await asyncio.gather(chain(), ask("echo", "b"))

    async def two(state: State) -> None:
        await ask("last", "c")

    def told(event: Any) -> None:
        if isinstance(event, TaskQueued) and event.name == "echo" and go_on.is_set():
            called.set()

    crew = Crew(echo=echo, last=last)
    run(beside(one=one, two=two).compile(), INPUT, max_concurrency=1, agents=crew.agents, on_event=told)
    assert crew.asked == {"a": 1, "b": 1, "c": 1, "again": 1}


def test_a_blocking_node_may_await_agents_in_an_event_loop_of_its_own(run: Run) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*(ask("echo", word) for word in "abc"))

    def node(state: State) -> Any:
        return {"log": [answer.output for answer in asyncio.run(main())]}

    crew = Crew(echo=echo)
    result = run(beside(m=node, n=node).compile(), INPUT, max_concurrency=1, agents=crew.agents)
    assert result == {"log": ["a", "b", "c"] * 2}


def test_an_async_node_that_blocks_on_an_agent_is_told_to_await_it(run: Run) -> None:
    async def node(state: State) -> None:
        ask("echo").run()

    with pytest.raises(SyncInLoopError, match=r"use: await Task\(...\)"):
        run(beside(n=node).compile(), INPUT, agents=Crew(echo=echo).agents)


# Ends


def test_when_one_of_several_agents_fails_the_others_end_with_the_node(run: Run) -> None:
    begun = asyncio.Event()
    heard: list[Any] = []
    ended = []

    async def waits(prompt: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(prompt)

    async def fails(prompt: str) -> None:
        await happened(begun)
        raise LookupError("no answer")

    async def node(state: State) -> None:
        await asyncio.gather(ask("waits"), ask("fails"))

    with pytest.raises(LookupError):
        run(beside(n=node).compile(), INPUT, agents=Crew(waits=waits, fails=fails).agents, on_event=heard.append)
    assert ended == ["p"]
    assert names(heard, TaskFailed) == ["fails", "n"]
    assert names(heard, TaskCancelled) == ["waits"]
    assert isinstance(heard[-1], RunFinished)
    assert heard[-1].peak == 2


def test_an_agent_that_nobody_awaits_ends_with_its_node(run: Run) -> None:
    left = []

    async def node(state: State) -> Any:
        left.append(asyncio.ensure_future(ask("forever")))
        await ask("echo")
        return {"log": ["n"]}

    async def after(state: State) -> Any:
        answers = await asyncio.gather(ask("echo", "a"), ask("echo", "b"))
        return {"log": [answer.output for answer in answers]}

    graph = StateGraph(State).add_sequence([("n", node), ("after", after)]).add_edge(START, "n").compile()
    result = run(graph, INPUT, max_concurrency=2, agents=Crew(forever=forever, echo=echo).agents)
    assert result == {"log": ["n", "a", "b"]}
    assert names(result.run.events, TaskCancelled) == ["forever"]
    assert names(result.run.events, TaskFinished) == ["echo", "n", "echo", "echo", "after"]


def test_an_agent_that_is_called_after_its_node_has_ended_is_refused(run: Run) -> None:
    over = asyncio.Event()
    late: list[asyncio.Task[Any]] = []

    async def asks_late() -> Any:
        await happened(over)
        return await ask("echo")

    async def node(state: State) -> None:
        late.append(asyncio.create_task(asks_late()))

    async def after(state: State) -> None:
        over.set()
        with pytest.raises(UsageError, match="'n' has ended, so it can call no agent any more"):
            await late[0]

    graph = StateGraph(State).add_sequence([("n", node), ("after", after)]).add_edge(START, "n").compile()
    crew = Crew(echo=echo)
    run(graph, INPUT, agents=crew.agents)
    assert not crew.asked


def test_a_thread_that_outlives_its_cancelled_run_can_call_no_agent() -> None:
    crew = Crew(echo=echo)
    over, told = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def node(state: State) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert over.wait(PATIENCE)
            try:
                ask("echo").run()
            except UsageError as error:
                refused.append(error)
            told.set()

        call = asyncio.create_task(beside(n=node).compile().ainvoke(INPUT, agents=crew.agents))
        await happened(begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    over.set()
    assert told.wait(PATIENCE)
    assert "has ended" in str(refused[0])
    assert not crew.asked


def test_an_agent_that_takes_too_long_can_be_given_up(run: Run) -> None:
    patience: dict[str, asyncio.Timeout] = {}

    async def ignore(prompt: str) -> None:
        patience[prompt].reschedule(asyncio.get_running_loop().time())  # from now on it takes too long
        await forever(prompt)

    async def node(state: State) -> Any:
        try:
            async with asyncio.timeout(None) as timer:
                patience[f"{id(timer)}"] = timer
                await ask("forever", f"{id(timer)}")
        except TimeoutError:
            return {"log": [(await ask("echo", "instead")).output]}

    heard: list[Any] = []
    graph = beside(m=node, n=node).compile()
    result = run(graph, INPUT, max_concurrency=1, agents=Crew(forever=ignore, echo=echo).agents, on_event=heard.append)
    assert result == {"log": ["instead"] * 2}
    assert names(heard, TaskCancelled) == ["forever"] * 2


# Answers that are kept


def test_answers_are_not_asked_for_again_whatever_the_pace_of_the_chains(run: Run, store: SqliteStore) -> None:
    """Two chains in one node call one agent twice each, and the second calls come in another order on resume."""
    crew = Crew(echo=echo)
    sitting = 0

    async def node(state: State) -> Any:
        turns = [asyncio.Event(), asyncio.Event()]
        first = sitting % 2

        async def chain(number: int) -> None:
            await ask("echo", f"draft {number}")
            if number != first:
                await happened(turns[first])
            await ask("echo", f"review {number}")
            turns[number].set()

        await asyncio.gather(chain(0), chain(1))
        if sitting == 0:
            raise LookupError("late")
        return {"log": ["done"]}

    graph = beside(n=node).compile(store)
    with pytest.raises(LookupError):
        run(graph, INPUT, thread_id="t", agents=crew.agents)
    sitting = 1
    result = run(graph, None, thread_id="t", agents=crew.agents)
    assert result == {"log": ["done"]}
    assert crew.asked == {"draft 0": 1, "draft 1": 1, "review 0": 1, "review 1": 1}
    assert len(kinds(result.run.events, TaskRemembered)) == 4


def test_the_same_question_asked_twice_has_two_answers_and_both_are_kept(run: Run, store: SqliteStore) -> None:
    count = 0
    fails = True

    async def dice(prompt: str) -> int:
        nonlocal count
        count += 1
        return count

    async def node(state: State) -> Any:
        answers = [await ask("dice"), await ask("dice")]
        if fails:
            raise LookupError
        return {"log": [answer.output for answer in answers]}

    graph = beside(n=node).compile(store)
    crew = Crew(dice=dice)
    with pytest.raises(LookupError):
        run(graph, INPUT, thread_id="t", agents=crew.agents)
    fails = False
    assert run(graph, None, thread_id="t", agents=crew.agents) == {"log": [1, 2]}


def test_another_question_is_asked_anew(run: Run, store: SqliteStore) -> None:
    prompt = "one"
    crew = Crew(echo=echo)

    async def node(state: State) -> Any:
        answer = await ask("echo", prompt)
        if prompt == "one":
            raise LookupError
        return {"log": [answer.output]}

    graph = beside(n=node).compile(store)
    with pytest.raises(LookupError):
        run(graph, INPUT, thread_id="t", agents=crew.agents)
    prompt = "two"
    assert run(graph, None, thread_id="t", agents=crew.agents) == {"log": ["two"]}
    assert crew.asked == {"one": 1, "two": 1}


def test_agents_within_agents_are_remembered_by_who_called_them(run: Run, store: SqliteStore) -> None:
    fails = True

    async def outer(prompt: str) -> str:
        answer = str(await ask("inner", "same"))
        if fails and prompt == "second":
            raise LookupError
        return answer + prompt

    crew = Crew(outer=outer, inner=echo)

    async def node(state: State) -> Any:
        return {"log": [(await ask("outer", "first")).output, (await ask("outer", "second")).output]}

    graph = beside(n=node).compile(store)
    with pytest.raises(LookupError):
        run(graph, INPUT, thread_id="t", agents=crew.agents)
    fails = False
    assert run(graph, None, thread_id="t", agents=crew.agents) == {"log": ["samefirst", "samesecond"]}
    assert crew.asked == {"first": 1, "second": 2, "same": 2}


def test_an_answer_that_is_on_its_way_to_the_disk_when_its_node_is_cancelled_is_kept(store: SqliteStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)

    async def answers(prompt: str) -> str:
        other.execute("begin immediate")  # from here on nothing gets to the disk
        return prompt

    crew = Crew(answers=answers)

    async def main() -> Any:
        patient = True

        async def node(state: State) -> Any:
            answer = await ask("answers")
            if patient:
                await asyncio.Event().wait()
            return {"log": [answer.output]}

        graph = beside(n=node).compile(store)
        call = asyncio.create_task(graph.ainvoke(INPUT, thread_id="t", agents=crew.agents))
        while not other.in_transaction:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        call.cancel()
        other.execute("rollback")
        with pytest.raises(asyncio.CancelledError):
            await call
        patient = False
        return await graph.ainvoke(None, thread_id="t", agents=crew.agents)

    assert asyncio.run(main()) == {"log": ["p"]}
    assert crew.asked == {"p": 1}
    other.close()
