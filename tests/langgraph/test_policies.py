"""What is done about nodes that fail, take long, or were asked the same before; and how a run is stopped."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic_core import core_schema

from fanfold import (
    END,
    START,
    CachePolicy,
    Command,
    GraphDrained,
    GraphError,
    InMemoryCache,
    InMemorySaver,
    NodeCancelledError,
    NodeError,
    NodeTimeoutError,
    RetryPolicy,
    RunControl,
    Runtime,
    Send,
    StateGraph,
    Task,
    TimeoutPolicy,
    interrupt,
    python_agent,
    task,
)
from fanfold.errors import StepTimeoutError
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State, say

THREAD = {"configurable": {"thread_id": "1"}}
NOTHING: dict[str, Any] = {"log": []}


def one(node: Any, *, checkpointer: Any = None, cache: Any = None, **options: Any) -> Any:
    graph = StateGraph(State).add_node("f", node, **options).add_edge(START, "f")
    return graph.compile(checkpointer, cache=cache)


def again(*errors: type[Exception], times: int = 3) -> RetryPolicy:
    return RetryPolicy(initial_interval=0.001, jitter=False, retry_on=errors, max_attempts=times)


class Flaky:
    """A node that raises each of these, and then logs how often it was called."""

    def __init__(self, *errors: BaseException | type[BaseException]) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, _: State) -> dict[str, Any]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"log": [self.calls]}


async def stuck(_: State) -> None:
    await asyncio.Event().wait()


# Retries


def test_by_default_trouble_of_others_is_tried_again_and_mistakes_are_not(run: Run) -> None:
    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    for error in (ConnectionError, EOFError, AssertionError, Exception):
        assert run(one(Flaky(error, error), retry_policy=policy), NOTHING) == {"log": [3]}
    for error in (ValueError, TypeError, RuntimeError, OSError, KeyError, ImportError):
        node = Flaky(error)
        with pytest.raises(error):
            run(one(node, retry_policy=policy), NOTHING)
        assert node.calls == 1


def test_the_first_policy_that_covers_the_error_counts(run: Run) -> None:
    policies = [again(KeyError, times=2), again(KeyError, ValueError, times=9)]
    assert run(one(Flaky(ValueError, ValueError, ValueError), retry_policy=policies), NOTHING) == {"log": [4]}
    with pytest.raises(KeyError):
        run(one(Flaky(KeyError, KeyError), retry_policy=policies), NOTHING)


def test_a_node_can_see_which_attempt_it_is(run: Run) -> None:
    seen: list[Any] = []

    def node(_: State, runtime: Runtime) -> None:
        info = runtime.execution_info
        assert info is not None
        seen.append((info.node_attempt, info.node_first_attempt_time))
        if len(seen) < 3:
            raise KeyError

    run(one(node, retry_policy=again(KeyError)), NOTHING)
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert len({first for _, first in seen}) == 1


def test_each_attempt_gets_the_input_as_it_was(run: Run) -> None:
    seen: list[Any] = []

    def node(state: State) -> None:
        seen.append(list(state["log"]))
        state["log"].append("dirty")
        if len(seen) == 1:
            raise KeyError

    run(one(node, retry_policy=again(KeyError)), {"log": ["clean"]})
    assert seen == [["clean"], ["clean"]]


def test_defaults_are_for_nodes_that_say_nothing_themselves(run: Run) -> None:
    graph = StateGraph(State).set_node_defaults(retry_policy=again(KeyError))
    graph.add_node("f", Flaky(KeyError)).add_node("g", Flaky(KeyError), retry_policy=again(ValueError))
    graph.add_edge(START, "f")
    assert run(graph.compile(), NOTHING) == {"log": [2]}
    with pytest.raises(KeyError):
        run(graph.add_edge("f", "g").compile(), NOTHING)


# Time limits


@pytest.mark.parametrize("limit", [0.01, timedelta(milliseconds=10), TimeoutPolicy(run_timeout=0.01)])
def test_a_node_may_take_so_long_and_no_longer(run: Run, limit: Any) -> None:
    with pytest.raises(NodeTimeoutError, match="node 'f' did not end within") as late:
        run(one(stuck, timeout=limit), NOTHING)
    error = late.value
    assert (error.node, error.kind, error.timeout, error.run_timeout, error.idle_timeout) == (
        "f",
        "run",
        0.01,
        0.01,
        None,
    )


def test_a_node_that_shows_no_sign_of_life_is_stopped(run: Run) -> None:
    with pytest.raises(NodeTimeoutError, match="made no progress") as late:
        run(one(stuck, timeout=TimeoutPolicy(idle_timeout=0.01)), NOTHING)
    assert (late.value.kind, late.value.idle_timeout) == ("idle", 0.01)


def test_signs_of_life_put_the_idle_limit_off(run: Run) -> None:
    async def node(_: State, runtime: Runtime) -> dict[str, Any]:
        for _ in range(6):
            await asyncio.sleep(0.02)
            runtime.heartbeat()
        return {"log": ["done"]}

    assert run(one(node, timeout=TimeoutPolicy(idle_timeout=0.1)), NOTHING) == {"log": ["done"]}


def slowly(word: str) -> Any:
    async def node(_: Any) -> dict[str, Any]:
        await asyncio.sleep(0.06)
        return {"log": [word]}

    return node


async def called_graph(_: State) -> dict[str, Any]:
    words = dict.fromkeys("abcdef")
    inner = StateGraph(State).add_sequence([(word, slowly(word)) for word in words]).add_edge(START, "a").compile()
    return {"log": [len((await inner.ainvoke({"log": []}))["log"])]}


async def called_tasks(_: State) -> dict[str, Any]:
    @task
    async def step(number: int) -> int:
        await asyncio.sleep(0.06)
        return number

    return {"log": [len([await step(number) for number in range(6)])]}


async def called_agents(_: State) -> dict[str, Any]:
    answers = [await Task(subagent_type="slow", prompt=f"{number}") for number in range(6)]
    return {"log": [len(answers)]}


@python_agent("slow")
async def slow(prompt: str) -> str:
    await asyncio.sleep(0.06)
    return prompt


@pytest.mark.parametrize("node", [called_graph, called_tasks, called_agents])
def test_what_a_node_waits_for_is_a_sign_of_its_life_when_it_begins_and_ends(run: Run, node: Any) -> None:
    graph = one(node, timeout=TimeoutPolicy(idle_timeout=0.25))
    assert run(graph, NOTHING, agents=[slow]) == {"log": [6]}


def test_where_only_heartbeats_count_writing_is_no_sign_of_life(run: Run) -> None:
    async def node(_: State, writer: Any) -> None:
        while True:
            await asyncio.sleep(0)
            writer("still here")

    with pytest.raises(NodeTimeoutError):
        run(one(node, timeout=TimeoutPolicy(idle_timeout=0.02, refresh_on="heartbeat")), NOTHING)


def test_a_send_brings_its_own_limit(run: Run) -> None:
    graph = StateGraph(State).add_node("f", stuck)
    graph.add_conditional_edges(START, lambda state: [Send("f", state, timeout=0.01)])
    with pytest.raises(NodeTimeoutError):
        run(graph.compile(), NOTHING)


def test_what_a_late_node_still_writes_reaches_nobody() -> None:
    async def node(_: State, writer: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer("late")

    seen: list[Any] = []

    async def go() -> None:
        async for chunk in one(node, timeout=0.01).astream(NOTHING, stream_mode="custom"):
            seen.append(chunk)

    with pytest.raises(NodeTimeoutError):
        asyncio.run(go())
    assert seen == []


def test_a_limit_on_blocking_code_is_a_problem_of_the_graph() -> None:
    with pytest.raises(GraphError, match="node 'f' has a timeout and is a blocking function"):
        one(say("x"), timeout=1)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        one(stuck, timeout=0)


def test_a_step_may_take_so_long_and_no_longer(run: Run) -> None:
    graph = one(stuck)
    graph.step_timeout = 0.01
    with pytest.raises(TimeoutError, match="step 1 did not end") as late:
        run(graph, NOTHING)
    assert isinstance(late.value, StepTimeoutError)


@pytest.mark.parametrize("limit", ["of the step", "of the node"])
def test_what_a_blocking_consumer_takes_for_a_chunk_is_not_the_time_of_the_step_or_the_node(limit: str) -> None:
    async def says(_: State, writer: Any) -> dict[str, Any]:
        writer("said")
        await asyncio.sleep(0)
        return {"log": ["x"]}

    graph = one(says, timeout=0.3 if limit == "of the node" else None)
    graph.step_timeout = 0.3 if limit == "of the step" else None
    seen = []
    for chunk in graph.stream(NOTHING, stream_mode=["custom", "updates"]):
        seen.append(chunk)
        time.sleep(0.4)
    assert seen == [("custom", "said"), ("updates", {"f": {"log": ["x"]}})]


# Error handlers


def handle(_: State, error: NodeError) -> dict[str, Any]:
    return {"log": [f"{error.node}: {error.error}"]}


def test_a_handler_is_told_the_node_and_its_error_once_no_retry_is_left(run: Run) -> None:
    node = Flaky(KeyError(1), KeyError(2))
    assert run(one(node, retry_policy=again(KeyError, times=2), error_handler=handle), NOTHING) == {"log": ["f: 2"]}


def test_a_handler_says_where_to_go_on_and_the_edges_of_the_node_do_not(run: Run) -> None:
    def elsewhere(_: State, error: NodeError) -> Command:
        return Command(update={"log": ["handled"]}, goto="other")

    graph = StateGraph(State).add_node("next", say("next")).add_node("other", say("other"))
    graph.add_node("f", Flaky(KeyError), error_handler=elsewhere)
    graph.add_edge(START, "f").add_edge("f", "next").add_conditional_edges("f", lambda _: "next")
    assert run(graph.compile(), NOTHING) == {"log": ["handled", "other"]}


def test_a_handler_that_only_writes_ends_the_branch(run: Run) -> None:
    graph = StateGraph(State).add_node("f", Flaky(KeyError(1)), error_handler=handle).add_node("next", say("next"))
    assert run(graph.add_edge(START, "f").add_edge("f", "next").compile(), NOTHING) == {"log": ["f: 1"]}


def test_a_default_handler_is_for_every_node(run: Run) -> None:
    graph = StateGraph(State).set_node_defaults(error_handler=handle).add_node("f", Flaky(KeyError(1)))
    assert run(graph.add_edge(START, "f").compile(), NOTHING) == {"log": ["f: 1"]}


def test_a_resumed_run_goes_on_with_the_handler_and_not_with_the_node(run: Run) -> None:
    node, tries = Flaky(KeyError("gone")), []

    def handler(_: State, error: NodeError) -> dict[str, Any]:
        tries.append(str(error.error))
        if len(tries) == 1:
            raise LookupError("the handler, too")
        return {"log": [error.node]}

    graph = one(node, checkpointer=InMemorySaver(), error_handler=handler)
    with pytest.raises(LookupError, match="the handler, too"):
        run(graph, NOTHING, THREAD)
    assert graph.get_state(THREAD).tasks[0].error == "KeyError('gone')"
    assert run(graph, None, THREAD) == {"log": ["f"]}
    assert (node.calls, tries) == (1, ["'gone'", "KeyError('gone')"])


def test_a_handler_can_ask_a_person(run: Run) -> None:
    def handler(_: State, error: NodeError) -> dict[str, Any]:
        return {"log": [interrupt("what now?")]}

    graph = one(Flaky(KeyError), checkpointer=InMemorySaver(), error_handler=handler)
    assert run(graph, NOTHING, THREAD)["__interrupt__"][0].value == "what now?"
    assert run(graph, Command(resume="go on"), THREAD) == {"log": ["go on"]}


def test_a_question_is_no_error(run: Run) -> None:
    graph = one(lambda _: {"log": [interrupt("?")]}, checkpointer=InMemorySaver(), error_handler=handle)
    assert "__interrupt__" in run(graph, NOTHING, THREAD)


# Caches


def test_what_is_cached_is_not_run_again(run: Run) -> None:
    node = Flaky()
    graph = one(node, cache=InMemoryCache(), cache_policy=CachePolicy())
    assert [run(graph, NOTHING), run(graph, NOTHING)] == [{"log": [1]}, {"log": [1]}]
    assert run(graph, {"log": ["other"]}) == {"log": ["other", 2]}


def test_a_key_function_says_what_is_the_same(run: Run) -> None:
    graph = one(Flaky(), cache=InMemoryCache(), cache_policy=CachePolicy(key_func=lambda _: b"all"))
    assert [run(graph, NOTHING), run(graph, {"log": ["x"]})] == [{"log": [1]}, {"log": ["x", 1]}]


def test_a_graph_can_forget_what_it_cached(run: Run) -> None:
    node = Flaky()
    graph = one(node, cache=InMemoryCache(), cache_policy=CachePolicy())
    run(graph, NOTHING)
    graph.clear_cache(["another"])
    run(graph, NOTHING)
    assert node.calls == 1
    asyncio.run(graph.aclear_cache())
    run(graph, NOTHING)
    assert node.calls == 2


def test_a_cached_command_leads_where_it_led(run: Run) -> None:
    graph = StateGraph(State).add_node("f", lambda _: Command(goto="g"), cache_policy=CachePolicy())
    compiled = graph.add_node("g", say("g")).add_edge(START, "f").compile(cache=InMemoryCache())
    assert [run(compiled, NOTHING), run(compiled, NOTHING)] == [{"log": ["g"]}, {"log": ["g"]}]


# Cancelling and draining


def test_a_node_that_cancels_itself_has_failed(run: Run) -> None:
    async def node(_: State) -> None:
        raise asyncio.CancelledError

    with pytest.raises(NodeCancelledError, match="node 'f'") as failure:
        run(one(node, retry_policy=again(Exception)), NOTHING)
    assert isinstance(failure.value.__cause__, asyncio.CancelledError)


def test_the_first_error_cancels_async_siblings(run: Run) -> None:
    ended: list[str] = []

    async def waiting(_: State) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def failing(_: State) -> None:
        await asyncio.sleep(0)
        raise LookupError

    graph = StateGraph(State).add_node("a", waiting).add_node("b", failing)
    with pytest.raises(LookupError):
        run(graph.add_edge(START, "a").add_edge(START, "b").compile(), NOTHING)
    assert ended == ["cancelled"]


def test_a_drained_run_stops_between_two_steps_and_goes_on_later(run: Run) -> None:
    control = RunControl()

    def first(_: State) -> dict[str, Any]:
        control.request_drain("deploy")
        return {"log": ["a"]}

    graph = StateGraph(State).add_node("a", first).add_node("b", say("b")).add_edge(START, "a").add_edge("a", "b")
    compiled = graph.compile(checkpointer=InMemorySaver())
    with pytest.raises(GraphDrained) as drained:
        run(compiled, NOTHING, THREAD, control=control)
    assert (drained.value.reason, compiled.get_state(THREAD).next) == ("deploy", ("b",))
    assert run(compiled, None, THREAD) == {"log": ["a", "b"]}


def test_a_node_can_ask_for_the_drain_itself(run: Run) -> None:
    def first(_: State, runtime: Runtime) -> None:
        assert runtime.control is not None
        runtime.control.request_drain()
        assert (runtime.drain_requested, runtime.drain_reason) == (True, "shutdown")

    graph = StateGraph(State).add_node("a", first).add_node("b", say("b")).add_edge(START, "a").add_edge("a", "b")
    with pytest.raises(GraphDrained):
        run(graph.compile(), NOTHING)


@pytest.mark.parametrize("stop", [{"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}])
@pytest.mark.parametrize("inside", [False, True])
def test_a_run_that_stands_still_anyway_is_not_drained(run: Run, stop: Any, inside: bool) -> None:
    control = RunControl()
    graph = StateGraph(State).add_node("a", lambda _: control.request_drain()).add_node("b", say("b"))
    graph.add_edge(START, "a").add_edge("a", "b")
    saver = InMemorySaver()
    app = graph.compile(**stop) if inside else graph.compile(saver, **stop)
    if inside:
        app = StateGraph(State).add_node("sub", app).add_edge(START, "sub").compile(saver)
    assert run(app, NOTHING, THREAD, control=control) == NOTHING
    assert app.get_state(THREAD).next == ("sub" if inside else "b",)
    assert run(app, None, THREAD) == {"log": ["b"]}


def test_a_run_that_is_over_anyway_is_not_drained(run: Run) -> None:
    control = RunControl()
    graph = StateGraph(State).add_node("a", lambda _: control.request_drain()).add_edge(START, "a").add_edge("a", END)
    assert run(graph.compile(), NOTHING, control=control) == NOTHING


# What is left of work that was cancelled


def test_work_under_a_time_limit_has_ended_when_its_run_is_cancelled() -> None:
    begun, ended = asyncio.Event(), []

    async def node(_: State) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("node")

    async def main() -> None:
        running = asyncio.create_task(one(node, timeout=20).ainvoke(NOTHING))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (ended, asyncio.all_tasks()) == (["node"], {asyncio.current_task()})

    asyncio.run(main())


def test_work_that_took_too_long_has_ended_when_its_run_has() -> None:
    ended: list[str] = []
    complaints: list[Any] = []

    async def node(_: State) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("node")
            raise LookupError("too late to be told") from None

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        with pytest.raises(NodeTimeoutError):
            await one(node, timeout=0.01).ainvoke(NOTHING)
        assert (ended, asyncio.all_tasks()) == (["node"], {asyncio.current_task()})
        gc.collect()

    asyncio.run(main())
    assert complaints == []


def test_a_question_in_a_task_group_pauses_the_run(run: Run) -> None:
    async def ask(question: str) -> Any:
        return interrupt(question)

    async def node(_: State) -> dict[str, Any]:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(inside())
        return {"log": answers}

    async def inside() -> None:
        async with asyncio.TaskGroup() as inner:
            asked = [inner.create_task(ask(question)) for question in ("one?", "two?")]
        answers[:] = [each.result() for each in asked]

    answers: list[Any] = []
    graph = one(node, checkpointer=InMemorySaver())
    one_asks, two_asks = run(graph, NOTHING, THREAD)["__interrupt__"]
    assert (one_asks.value, two_asks.value) == ("one?", "two?")
    assert run(graph, Command(resume={two_asks.id: 2}), THREAD)["__interrupt__"] == [one_asks]
    assert run(graph, Command(resume=1), THREAD)["log"] == [1, 2]


def test_a_task_group_in_which_something_failed_besides_a_question_has_failed(run: Run) -> None:
    async def node(_: State) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(ask())

    async def fail() -> None:
        raise LookupError

    async def ask() -> None:
        interrupt("?")

    with pytest.raises(BaseExceptionGroup):
        run(one(node, checkpointer=InMemorySaver()), NOTHING, THREAD)


def test_one_answer_goes_to_one_of_the_threads_that_ask_at_once(run: Run) -> None:
    class Slow:
        """Reads an answer so slowly that whoever asks meanwhile would find it still lying there."""

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.no_info_plain_validator_function(cls.read)

        @staticmethod
        def read(answer: Any) -> Any:
            threading.Event().wait(0.02)
            return answer

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
            return {}

    async def node(_: State) -> dict[str, Any]:
        asking = [asyncio.to_thread(interrupt, "?", response_schema=Slow) for _ in range(2)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for left in answers:
            if isinstance(left, BaseException):
                raise left
        return {"log": answers}

    compiled = one(node, checkpointer=InMemorySaver())
    run(compiled, NOTHING, THREAD)
    assert len(run(compiled, Command(resume="x"), THREAD)["__interrupt__"]) == 1
    assert run(compiled, Command(resume="y"), THREAD) == {"log": ["x", "y"]}
