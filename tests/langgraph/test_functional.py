"""Workflows as plain functions: entrypoints, tasks, and what is not done twice."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from fanfold import (
    START,
    CachePolicy,
    Command,
    InMemoryCache,
    InMemorySaver,
    InMemoryStore,
    NodeTimeoutError,
    RetryPolicy,
    Runtime,
    StateGraph,
    entrypoint,
    get_config,
    get_stream_writer,
    interrupt,
    task,
)
from fanfold.errors import OutsideError, UnsupportedError, UsageError
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State

THREAD = {"configurable": {"thread_id": "1"}}
AT_ONCE = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=LookupError)


@task
def more(number: int) -> int:
    """One more."""
    return number + 1


@task
async def amore(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


# Calling tasks


def test_a_task_is_called_like_a_function_and_hands_back_a_future(run: Run) -> None:
    @entrypoint()
    def flow(number: int) -> tuple[int, bool]:
        future = more(number)
        return future.result(), isinstance(future, concurrent.futures.Future)

    assert run(flow, 1) == (2, True)


def test_an_async_task_is_awaited_alone_or_with_others(run: Run) -> None:
    @entrypoint()
    async def flow(number: int) -> list[int]:
        done, _ = await asyncio.wait([amore(7), more(7)])
        return [await amore(number), *await asyncio.gather(amore(2), more(3)), *(each.result() for each in done)]

    assert run(flow, 1) == [2, 3, 4, 8, 8]


def test_tasks_that_are_called_together_run_together(run: Run) -> None:
    meeting = threading.Barrier(3, timeout=10)

    @task
    def meet(number: int) -> int:
        meeting.wait()
        return number

    @entrypoint()
    def flow(count: int) -> list[int]:
        futures = [meet(n) for n in range(count)]
        concurrent.futures.wait(futures)
        return [future.result() for future in futures]

    assert run(flow, 3) == [0, 1, 2]


def test_tasks_can_call_tasks(run: Run) -> None:
    @task
    def factorial(n: int) -> int:
        return 1 if n <= 1 else n * factorial(n - 1).result()

    @entrypoint()
    def flow(n: int) -> int:
        result: int = factorial(n).result()
        return result

    assert run(flow, 5) == 120


def test_a_task_has_the_name_and_the_words_of_its_function() -> None:
    assert (more.__name__, more.__doc__) == ("more", "One more.")
    assert task(name="other")(lambda x: x).__name__ == "other"


def test_a_task_outside_of_a_run_says_so() -> None:
    with pytest.raises(OutsideError, match="task 'more' was called outside"):
        more(1)


def test_an_error_of_a_task_is_raised_where_it_is_waited_for(run: Run) -> None:
    @task
    def bad() -> None:
        raise LookupError("lost")

    @entrypoint()
    def flow(_: Any) -> str:
        try:
            bad().result()
        except LookupError as error:
            return str(error)
        return "no error"

    assert run(flow, 1) == "lost"


def test_a_task_that_nobody_waits_for_is_let_finish(run: Run, stream: Run) -> None:
    @task
    async def slow() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return "slow"

    @entrypoint()
    async def flow(_: Any) -> str:
        slow()
        return "fast"

    assert run(flow, 1) == "fast"
    assert stream(flow, 1) == [{"flow": "fast"}, {"slow": "slow"}]


# What is handed in


def test_entrypoints_and_tasks_are_handed_what_they_name(stream: Run) -> None:
    @dataclass
    class User:
        name: str

    @task
    def helper(given: int, *, runtime: Runtime, writer: Any, config: Any) -> list[Any]:
        writer("from the task")
        return [given, runtime.context.name, config["configurable"]["thread_id"]]

    @entrypoint(checkpointer=InMemorySaver(), store=InMemoryStore(), context_schema=User)
    def flow(given: int, *, store: Any, writer: Any, previous: Any, config: Any) -> Any:
        writer("from the flow")
        store.put(("seen",), "x", {"given": given})
        return [*helper(given).result(), store.get(("seen",), "x").value, previous, config["metadata"]["thread_id"]]

    chunks = stream(flow, 3, THREAD, context={"name": "Ada"}, stream_mode=["custom", "values"])
    assert chunks == [
        ("custom", "from the flow"),
        ("custom", "from the task"),
        ("values", [3, "Ada", "1", {"given": 3}, None, "1"]),
    ]


def test_a_task_knows_its_name_and_step(run: Run) -> None:
    @task
    def where() -> Any:
        told = get_config()["metadata"]
        return told["langgraph_node"], told["langgraph_step"], told["langgraph_path"][0]

    @entrypoint()
    def flow(_: Any) -> Any:
        return where().result()

    assert run(flow, 1) == ("where", 0, "__pregel_push")


# What streams show


def test_updates_show_tasks_and_then_the_entrypoint(stream: Run) -> None:
    @entrypoint()
    def flow(number: int) -> int:
        get_stream_writer()("begun")
        result: int = more(number).result()
        return result

    assert stream(flow, 1) == [{"more": 2}, {"flow": 2}]
    assert stream(flow, 1, stream_mode="values") == [2]
    assert stream(flow, 1, stream_mode="custom") == ["begun"]


def test_tasks_show_what_they_were_given_and_what_they_returned(stream: Run) -> None:
    @entrypoint()
    def flow(number: int) -> int:
        result: int = more(number).result()
        return result

    chunks = stream(flow, 1, stream_mode="tasks")
    assert [chunk["name"] for chunk in chunks] == ["flow", "more", "more", "flow"]
    assert (chunks[1]["input"], chunks[2]["result"]) == (((1,), {}), {"__return__": 2})
    assert (chunks[0]["triggers"], chunks[1]["triggers"]) == (("__start__",), ("__pregel_push",))


# Memory of a thread


def test_an_entrypoint_knows_what_it_returned_before(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int, *, previous: int | None = None) -> int:
        return (previous or 0) + number

    assert [run(flow, number, THREAD) for number in (1, 2, 3)] == [1, 3, 6]
    assert run(flow, 1, {"configurable": {"thread_id": "another"}}) == 1


def test_final_returns_one_value_and_saves_another(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int, *, previous: int | None = None) -> entrypoint.final[int, int]:
        return entrypoint.final(value=previous or 0, save=2 * number)

    assert [run(flow, number, THREAD) for number in (3, 1, 0)] == [0, 6, 2]


def test_the_input_waits_for_the_entrypoint_itself(run: Run) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(number: int) -> int:
        return number

    run(flow, 1, THREAD)
    history = list(flow.get_state_history(THREAD))
    assert [(state.metadata["step"], state.next) for state in history if state.metadata] == [(0, ()), (-1, ("flow",))]


# Pausing and failing


def test_a_resumed_entrypoint_does_not_repeat_its_tasks(run: Run) -> None:
    calls: list[str] = []

    @task
    def step(name: str) -> str:
        calls.append(name)
        return name

    @entrypoint(checkpointer=InMemorySaver())
    def flow(_: Any) -> list[str]:
        first = step("a").result()
        answer = interrupt(first)
        return [first, answer, step("b").result()]

    assert run(flow, 0, THREAD)["__interrupt__"][0].value == "a"
    assert run(flow, Command(resume="yes"), THREAD) == ["a", "yes", "b"]
    assert calls == ["a", "b"]


def test_a_task_can_ask_too(run: Run) -> None:
    @task
    def ask(question: str) -> str:
        return f"{question} {interrupt(question)}"

    @entrypoint(checkpointer=InMemorySaver())
    def flow(_: Any) -> list[str]:
        return [ask("one?").result(), ask("two?").result()]

    run(flow, 0, THREAD)
    assert run(flow, Command(resume="1"), THREAD)["__interrupt__"][0].value == "two?"
    assert run(flow, Command(resume="2"), THREAD) == ["one? 1", "two? 2"]


def test_after_a_failure_only_what_had_failed_runs_again(run: Run) -> None:
    calls: list[str] = []

    @task
    def good() -> str:
        calls.append("good")
        return "good"

    @task
    def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") == 1:
            raise LookupError("lost")
        return "flaky"

    @entrypoint(checkpointer=InMemorySaver())
    def flow(_: Any) -> list[str]:
        return [good().result(), flaky().result()]

    with pytest.raises(LookupError):
        run(flow, 0, THREAD)
    assert run(flow, None, THREAD) == ["good", "flaky"]
    assert calls == ["good", "flaky", "flaky"]


# Policies of tasks


def test_a_task_is_tried_again(run: Run) -> None:
    tries: list[int] = []

    @task(retry_policy=AT_ONCE)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise LookupError("lost")
        return len(tries)

    @entrypoint()
    def flow(_: Any) -> int:
        result: int = flaky().result()
        return result

    assert run(flow, 0) == 3


def test_a_cached_task_is_not_run_again_until_its_cache_is_cleared(stream: Run) -> None:
    calls: list[int] = []
    cache = InMemoryCache()

    @task(cache_policy=CachePolicy())
    def twice(number: int) -> int:
        calls.append(number)
        return number * 2

    @entrypoint(cache=cache)
    def flow(number: int) -> int:
        result: int = twice(number).result()
        return result

    assert stream(flow, 1) == [{"twice": 2}, {"flow": 2}]
    assert stream(flow, 1) == [{"twice": 2, "__metadata__": {"cached": True}}, {"flow": 2}]
    asyncio.run(twice.aclear_cache(cache))
    stream(flow, 1)
    assert calls == [1, 1]


def test_an_async_task_has_a_time_limit(run: Run) -> None:
    @task(timeout=0.01)
    async def stuck() -> None:
        await asyncio.Event().wait()

    @entrypoint()
    async def flow(_: Any) -> Any:
        try:
            await stuck()
        except NodeTimeoutError as late:
            return late.node, late.kind, late.run_timeout

    assert run(flow, 0) == ("stuck", "run", 0.01)


def test_a_time_limit_for_blocking_code_is_refused() -> None:
    with pytest.raises(UsageError, match="task 'more' has a timeout and is a blocking function"):
        task(name="more", timeout=1)(lambda x: x)
    with pytest.raises(UsageError, match="entrypoint '<lambda>' has a timeout"):
        entrypoint(timeout=1)(lambda x: x)


@pytest.mark.parametrize("declared", [task, entrypoint])
def test_a_time_limit_that_is_none_is_refused_where_it_is_given(declared: Any) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        declared(timeout=0)


# What cannot be an entrypoint; what it can be part of


def test_a_function_without_an_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        entrypoint()(lambda: None)


def test_a_generator_is_refused() -> None:
    def parts(_: Any) -> Any:
        yield 1

    async def aparts(_: Any) -> Any:
        yield 1

    for code in (parts, aparts):
        with pytest.raises(UnsupportedError, match="is a generator"):
            entrypoint()(code)
    assert issubclass(UnsupportedError, NotImplementedError)


def test_a_node_of_a_graph_can_call_tasks(run: Run) -> None:
    async def node(_: State) -> dict[str, Any]:
        return {"log": list(await asyncio.gather(amore(1), more(2)))}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    assert run(graph, {"log": []}) == {"log": [2, 3]}


def test_an_entrypoint_can_call_another_and_ask_through_it(run: Run) -> None:
    @entrypoint()
    def inner(word: str) -> str:
        return word + str(interrupt("inner?"))

    @entrypoint(checkpointer=InMemorySaver())
    def outer(word: str) -> list[Any]:
        return [more(1).result(), inner.invoke(word)]

    assert run(outer, "z", THREAD)["__interrupt__"][0].value == "inner?"
    assert run(outer, Command(resume="!"), THREAD) == [2, "z!"]
