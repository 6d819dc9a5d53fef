"""What ends a run before its time: errors, cancellation, the keyboard; and what is kept of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import END, START, RetryPolicy, StateGraph
from fanfold.errors import NodeCancelledError
from fanfold.events import Noticed, TaskCancelled, TaskFailed, TaskFinished, TaskRemembered, TaskStarted
from fanfold.family import Emitter
from fanfold.store.sqlite import SqliteStore
from tests.drivers.conftest import Run
from tests.drivers.parts import INPUT, PATIENCE, Counted, State, beside, chain, happened, kinds, names


class Odd(BaseException):
    """No error and no cancellation, such as test frameworks raise."""


def raising(error: BaseException) -> Any:
    def node(state: State) -> None:
        raise error

    return node


def raising_async(error: BaseException) -> Any:
    async def node(state: State) -> None:
        raise error

    return node


@pytest.fixture(params=[raising, raising_async])
def broken(request: pytest.FixtureRequest) -> Any:
    """Makes a node that raises what it is given: a blocking one, and an async one."""
    return request.param


# The error


@pytest.mark.parametrize("error", [KeyError("k"), Odd("o"), RecursionError(), ExceptionGroup("g", [OSError()])])
def test_the_error_is_the_nodes_own_with_a_note_that_names_node_step_and_task(
    run: Run, broken: Any, error: BaseException
) -> None:
    heard: list[Any] = []
    graph = chain(fine=lambda _: None, bad=broken(error)).compile()
    with pytest.raises(type(error)) as caught:
        run(graph, INPUT, on_event=heard.append)
    assert caught.value is error
    (failed,) = kinds(heard, TaskFailed)
    assert caught.value.__notes__[-1] == f"in node 'bad', step 2, task {failed.task}"
    assert failed.error.startswith(type(error).__name__)


@pytest.mark.timeout(30)
def test_a_blocking_node_that_raises_stop_iteration_does_not_hang_the_run(run: Run) -> None:
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        run(beside(a=lambda _: next(iter([]))).compile(), INPUT)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_a_path_that_raises_is_a_failure_of_its_node(run: Run) -> None:
    def path(state: State) -> Any:
        raise LookupError("no way")

    graph = beside(a=lambda _: {"log": ["a"]}).add_conditional_edges("a", path).compile()
    with pytest.raises(LookupError) as caught:
        run(graph, INPUT)
    assert caught.value.__notes__[0].startswith("in node 'a', step 1")


def test_the_first_of_several_errors_is_raised(run: Run) -> None:
    order = asyncio.Event()

    async def first(state: State) -> None:
        order.set()
        raise KeyError("first")

    async def second(state: State) -> None:
        try:
            await order.wait()
            await asyncio.sleep(PATIENCE)
        finally:
            raise KeyError("second")

    with pytest.raises(KeyError, match="first"):
        run(beside(a=second, b=first).compile(), INPUT)


# The siblings


def test_async_siblings_are_cancelled_and_said_to_be(run: Run) -> None:
    begun = asyncio.Event()
    heard: list[Any] = []
    ended = []

    async def sibling(state: State) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def bad(state: State) -> None:
        await happened(begun)
        raise KeyError("bad")

    with pytest.raises(KeyError):
        run(beside(a=sibling, b=bad).compile(), INPUT, on_event=heard.append)
    assert ended == ["cancelled"]
    assert names(heard, TaskCancelled) == ["a"]
    assert names(heard, TaskFailed) == ["b"]


@pytest.mark.parametrize("limit", [None, 1])
def test_siblings_whose_code_has_not_begun_are_cancelled_too(run: Run, limit: int | None) -> None:
    heard: list[Any] = []
    counted = Counted()
    graph = beside(a=raising_async(KeyError("bad")), b=counted.node("b"), c=raising_async(ValueError()))
    with pytest.raises(KeyError):
        run(graph.compile(), INPUT, max_concurrency=limit, on_event=heard.append)
    assert not counted.calls
    assert names(heard, TaskStarted) == ["a"]
    assert sorted(names(heard, TaskCancelled)) == ["b", "c"]


def test_siblings_that_run_and_siblings_that_wait_for_a_slot_are_cancelled_alike(run: Run) -> None:
    heard: list[Any] = []
    begun = asyncio.Event()

    async def runs(state: State) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def bad(state: State) -> None:
        await happened(begun)
        raise KeyError("bad")

    graph = beside(a=runs, b=bad, c=runs, d=runs).compile()
    with pytest.raises(KeyError):
        run(graph, INPUT, max_concurrency=2, on_event=heard.append)
    assert names(heard, TaskFailed) == ["b"]
    assert sorted(names(heard, TaskCancelled)) == ["a", "c", "d"]


def test_a_blocking_sibling_is_let_finish_and_only_what_had_not_finished_runs_again(
    run: Run, store: SqliteStore
) -> None:
    counted = Counted()
    begun, failed = threading.Event(), threading.Event()
    healthy = False

    def told(event: Any) -> None:
        if isinstance(event, TaskFailed):
            failed.set()

    def slow() -> None:
        begun.set()
        assert failed.wait(PATIENCE)

    async def bad(state: State) -> Any:
        counted.calls["bad"] += 1
        if healthy:
            return {"log": ["bad"]}
        await asyncio.to_thread(begun.wait, PATIENCE)
        raise KeyError("bad")

    async def waits(state: State) -> Any:
        counted.calls["waits"] += 1
        if not healthy:
            await asyncio.Event().wait()
        return {"log": ["waits"]}

    graph = beside(quick=counted.node("quick"), slow=counted.node("slow", slow), bad=bad, waits=waits)
    graph.add_node("last", counted.node("last")).add_edge(["quick", "slow", "bad", "waits"], "last")
    compiled = graph.compile(store)
    with pytest.raises(KeyError):
        run(compiled, INPUT, thread_id="t", on_event=told)
    assert counted.calls == {"quick": 1, "slow": 1, "bad": 1, "waits": 1}
    healthy = True
    result = run(compiled, None, thread_id="t")
    assert result == {"log": ["bad", "quick", "slow", "waits", "last"]}
    assert counted.calls == {"quick": 1, "slow": 1, "bad": 2, "waits": 2, "last": 1}
    assert sorted(names(result.run.events, TaskRemembered)) == ["quick", "slow"]


def test_results_of_a_step_that_could_not_be_folded_stay_pending(run: Run) -> None:
    counted = Counted()

    def two(state: State) -> Any:
        counted.calls["two"] += 1
        return {"number": 2}

    graph = beside(one=lambda _: {"number": 1}, two=two).compile("memory:")
    for value in (INPUT, None):
        with pytest.raises(ValueError, match="nodes 'one' and 'two' wrote key 'number'"):
            run(graph, value, thread_id="t")
    assert counted.calls == {"two": 1}


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_either_durability_gives_the_same_result_and_resumes(run: Run, durability: str) -> None:
    counted = Counted()
    broken = True

    def last() -> None:
        if broken:
            raise KeyError("last")

    nodes = {name: counted.node(name) for name in "abc"}
    graph = chain(**nodes, last=counted.node("last", last)).compile("memory:")
    with pytest.raises(KeyError):
        run(graph, INPUT, thread_id="t", durability=durability)
    broken = False
    assert run(graph, None, thread_id="t", durability=durability) == {"log": ["a", "b", "c", "last"]}
    assert counted.calls == {"a": 1, "b": 1, "c": 1, "last": 2}


def test_a_result_that_cannot_be_stored_is_a_failure_of_its_node(run: Run) -> None:
    graph = beside(a=lambda _: {"number": threading.Lock()}).compile("memory:")
    with pytest.raises(TypeError) as caught:
        run(graph, INPUT)
    assert caught.value.__notes__[-1].startswith("in node 'a', step 1")


# Cancellation


@pytest.mark.timeout(30)
def test_a_cancelled_error_that_a_node_raises_itself_surfaces_and_names_the_node(run: Run, broken: Any) -> None:
    heard: list[Any] = []
    graph = beside(a=broken(asyncio.CancelledError("mine")), b=lambda _: None).compile()
    with pytest.raises(NodeCancelledError) as caught:
        run(graph, INPUT, on_event=heard.append)
    assert caught.value.node == "a"
    assert caught.value.__notes__[0].startswith("in node 'a', step 1")
    assert repr(caught.value.__cause__) == "CancelledError('mine')"
    assert names(heard, TaskFailed) == ["a"]


def test_a_run_in_which_a_node_raised_a_cancelled_error_has_failed_and_was_not_cancelled(
    run: Run, broken: Any, store: SqliteStore
) -> None:
    with pytest.raises(
        NodeCancelledError, match=r"node 'a' raised asyncio.CancelledError, and nobody had cancelled it"
    ):
        run(beside(a=broken(asyncio.CancelledError())).compile(store), INPUT, run_id="r")
    assert store.run("r").status == "failed"


def test_cancellation_from_outside_cancels_the_nodes_and_is_recorded(store: SqliteStore) -> None:
    heard: list[Any] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def node(state: State) -> None:
            begun.set()
            await asyncio.Event().wait()

        graph = beside(a=node, b=node, c=lambda _: None).compile(store)
        call = asyncio.create_task(
            graph.ainvoke(INPUT, run_id="r", thread_id="t", max_concurrency=1, on_event=heard.append)
        )
        await happened(begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()

    asyncio.run(main())
    assert store.run("r").status == "cancelled"
    assert sorted(names(heard, TaskCancelled)) == ["a", "b", "c"]
    assert kinds(heard, TaskFailed) == []


def test_a_run_that_was_cancelled_goes_on_with_what_had_not_finished(store: SqliteStore) -> None:
    counted = Counted()
    patient = True

    async def main() -> Any:
        kept = asyncio.Event()

        async def node(state: State) -> Any:
            if patient:
                await asyncio.Event().wait()
            return {"log": ["node"]}

        def told(event: Any) -> None:
            if isinstance(event, TaskFinished):
                kept.set()

        graph = beside(a=counted.node("a"), b=node).compile(store)
        call = asyncio.create_task(graph.ainvoke(INPUT, thread_id="t", on_event=told))
        await happened(kept)
        call.cancel()
        await asyncio.wait([call])
        nonlocal_patience(False)
        return await graph.ainvoke(None, thread_id="t")

    def nonlocal_patience(value: bool) -> None:
        nonlocal patient
        patient = value

    assert asyncio.run(main()) == {"log": ["a", "node"]}
    assert counted.calls == {"a": 1}


def test_a_node_that_will_not_be_cancelled_does_not_start_what_comes_after_it() -> None:
    counted = Counted()
    heard: list[Any] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def stubborn(state: State) -> Any:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"log": ["stubborn"]}

        graph = chain(a=stubborn, b=counted.node("b")).compile()
        call = asyncio.create_task(graph.ainvoke(INPUT, on_event=heard.append))
        await happened(begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert not counted.calls
    assert names(heard, TaskFinished) == ["a"]
    assert names(heard, TaskCancelled) == ["b"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_the_keyboard_and_an_exit_end_the_run_as_cancelled(
    run: Run, broken: Any, stop: type[BaseException], store: SqliteStore
) -> None:
    with pytest.raises(stop):
        run(beside(a=broken(stop())).compile(store), INPUT, run_id="r")
    assert store.run("r").status == "cancelled"


def test_a_failed_run_is_recorded_with_its_error(run: Run, store: SqliteStore) -> None:
    with pytest.raises(KeyError):
        run(beside(a=raising(KeyError("k"))).compile(store), INPUT, run_id="r")
    record = store.run("r")
    assert (record.status, record.error) == ("failed", "KeyError: 'k'")


# Onlookers


def test_a_subscriber_that_raises_is_removed_and_named_and_the_run_goes_on(run: Run) -> None:
    told = []

    def nosy(event: Any) -> None:
        told.append(event)
        raise OSError("no space")

    result = run(beside(a=lambda _: {"log": ["a"]}).compile(), INPUT, on_event=nosy)
    assert result == {"log": ["a"]}
    assert len(told) == 1
    (noticed,) = kinds(result.run.events, Noticed)
    assert noticed.message.startswith("subscriber test_a_subscriber_that_raises")
    assert noticed.message.endswith("nosy raised OSError: no space and was removed")


def test_two_subscribers_that_raise_are_both_removed() -> None:
    heard: list[Any] = []

    def one(event: Any) -> None:
        raise KeyError

    def two(event: Any) -> None:
        raise LookupError

    emit = Emitter([one, two, heard.append])
    emit(Noticed(0.0, "x"))
    assert sorted(event.message.split(".")[-1] for event in heard if "removed" in event.message) == [
        "one raised KeyError and was removed",
        "two raised LookupError and was removed",
    ]
    assert Noticed(0.0, "x") in heard


def test_a_loop_that_fails_late_resumes_in_the_step_in_which_it_failed(run: Run) -> None:
    counted = Counted()
    broken = True

    def node(state: State) -> Any:
        counted.calls[f"after {len(state['log'])}"] += 1
        if broken and len(state["log"]) == 3:
            raise KeyError("late")
        return {"log": ["n"]}

    graph = StateGraph(State).add_node("n", node).add_edge(START, "n")
    graph.add_conditional_edges("n", lambda state: "n" if len(state["log"]) < 5 else END)
    compiled = graph.compile("memory:")
    with pytest.raises(KeyError):
        run(compiled, INPUT, thread_id="t")
    broken = False
    assert run(compiled, None, thread_id="t") == {"log": ["n"] * 5}
    assert counted.calls == {f"after {n}": 2 if n == 3 else 1 for n in range(5)}


# Errors, cancellations and onlookers that do not behave


class MuteError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnNotesError(Exception):
    __notes__ = "nothing that could be added to"  # type: ignore[assignment]  # that is the point


@pytest.mark.parametrize("error", [MuteError(), OwnNotesError()])
def test_an_error_that_cannot_be_told_of_ends_the_run_all_the_same(
    run: Run, broken: Any, error: Exception, store: SqliteStore
) -> None:
    for checkpointer in (None, store):
        with pytest.raises(type(error)) as caught:
            run(chain(bad=broken(error)).compile(checkpointer), INPUT, thread_id="t")
        assert caught.value is error


def odd_reducer(value: Any, update: Any) -> Any:
    if update == "odd":
        raise Odd("o")
    return update


class Reduced(TypedDict, total=False):
    key: Annotated[str, odd_reducer]


def test_a_reducer_that_raises_what_is_no_error_ends_the_run(run: Run) -> None:
    graph = StateGraph(Reduced).add_node("a", lambda _: {"key": "odd"}).add_edge(START, "a").compile()
    with pytest.raises(Odd):
        run(graph, {"key": "fine"})


def test_an_onlooker_that_raises_what_is_no_error_ends_the_run(run: Run) -> None:
    def look(event: Any) -> None:
        if isinstance(event, TaskFinished):
            raise Odd("seen enough")

    with pytest.raises(Odd):
        run(chain(a=lambda _: None, b=lambda _: None).compile(), INPUT, on_event=look)


def test_a_node_that_somebody_else_cancels_is_an_error_and_no_end() -> None:
    async def main() -> None:
        task: asyncio.Task[Any] | None = None

        async def waits(state: State) -> None:
            nonlocal task
            task = asyncio.current_task()
            await asyncio.Event().wait()

        async def cancels(state: State) -> None:
            while task is None:
                await asyncio.sleep(0)
            task.cancel()

        with pytest.raises(NodeCancelledError, match="waits"):
            await beside(waits=waits, cancels=cancels).compile().ainvoke(INPUT)

    asyncio.run(main())


def test_a_node_that_somebody_else_cancels_before_it_has_begun_is_an_error_and_no_end() -> None:
    counted = Counted()

    async def cancels(state: State) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task(), main}
        assert len(running) == 1
        running.pop().cancel()

    async def drive() -> None:
        nonlocal main
        main = asyncio.current_task()
        with pytest.raises(NodeCancelledError, match="later"):
            await beside(cancels=cancels, later=counted.node("later")).compile().ainvoke(INPUT)

    main: asyncio.Task[Any] | None = None
    asyncio.run(drive())
    assert not counted.calls


def test_a_blocking_node_with_policies_is_let_finish_too_and_kept(run: Run, store: SqliteStore) -> None:
    begun, gate = threading.Event(), threading.Event()
    counted = Counted()

    def slow(state: State) -> Any:
        counted.calls["slow"] += 1
        begun.set()
        assert gate.wait(PATIENCE)
        return {"log": ["slow"]}

    async def bad(state: State) -> None:
        while not begun.is_set():
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, gate.set)
        raise KeyError("bad")

    graph = StateGraph(State).add_node("slow", slow, retry_policy=RetryPolicy()).add_node("bad", bad)
    app = graph.add_edge(START, "slow").add_edge(START, "bad").compile(store)
    with pytest.raises(KeyError):
        run(app, INPUT, thread_id="t")
    assert app.get_state({"configurable": {"thread_id": "t"}}).next == ("bad",)
    assert counted.calls == {"slow": 1}


def test_a_task_whose_result_is_waiting_for_the_disk_has_one_ending_when_the_run_is_cancelled(
    store: SqliteStore,
) -> None:
    heard: list[Any] = []

    async def main() -> None:
        call: asyncio.Task[Any] | None = None

        def look(event: Any) -> None:
            heard.append(event)
            if isinstance(event, TaskFinished) and call is not None:
                call.cancel()

        async def node(state: State) -> Any:
            await asyncio.sleep(0)
            return {"log": ["a"]}

        app = chain(a=node, b=node).compile(store)
        call = asyncio.ensure_future(app.ainvoke(INPUT, thread_id="t", durability="sync", on_event=look))
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert names(heard, TaskFinished) == ["a"]
    assert names(heard, TaskCancelled) == []
