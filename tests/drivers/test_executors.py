"""Where a node's code runs: one suite for every executor, and what only some of them are for."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fanfold import START, GraphError, InMemorySaver, RetryPolicy, StateGraph, audit
from fanfold.errors import NotPortableError, RemoteError, WorkerLostError
from fanfold.events import TaskStarted
from fanfold.work.places import cores
from tests.drivers import portable
from tests.drivers.conftest import Run
from tests.drivers.parts import INPUT, State, kinds


class Mine:
    """An executor of a user's."""

    def __init__(self) -> None:
        self.called = 0

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        self.called += 1
        value = action(*args)
        return await value if asyncio.iscoroutine(value) else value


@pytest.fixture(params=["loop", "thread", "process", "mine"])
def executor(request: pytest.FixtureRequest) -> Any:
    return Mine() if request.param == "mine" else request.param


def one(node: Any, executor: Any, **options: Any) -> StateGraph:
    return StateGraph(State).add_node("node", node, executor=executor, **options).add_edge(START, "node")


# Every executor


def test_a_result_is_the_same_wherever_the_code_runs(run: Run, executor: Any) -> None:
    assert run(one(portable.double, executor).compile(), {"log": [], "number": 21}) == {"log": [], "number": 42}


def test_code_may_be_async_anywhere(run: Run, executor: Any) -> None:
    assert len(run(one(portable.where_async, executor).compile(), INPUT)["log"]) == 1


def test_an_error_arrives_as_it_was_raised(run: Run, executor: Any) -> None:
    with pytest.raises(LookupError, match="no 7") as failed:
        run(one(portable.fail, executor).compile(), {"log": [], "number": 7})
    assert any("in node 'node', step 1" in note for note in failed.value.__notes__)


def test_a_node_that_changes_its_input_changes_nobody_elses(run: Run, executor: Any) -> None:
    graph = one(portable.spoil, executor).add_node("reads", lambda state: {"log": [len(state["log"])]})
    assert run(graph.add_edge(START, "reads").compile(), {"log": ["a"]}) == {"log": ["a", 1], "number": 2}


def test_a_result_is_kept_and_the_code_not_run_again(run: Run, executor: Any, tmp_path: Path) -> None:
    graph = one(portable.where, executor).add_node("fails", portable.fail).add_edge("node", "fails")
    app = graph.compile(InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for given in ({"log": [], "number": 1}, None):
        with pytest.raises(LookupError):
            run(app, given, config)
    assert len(app.get_state(config).values["log"]) == 1


def test_code_is_retried_where_it_ran(run: Run, executor: Any) -> None:
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False, retry_on=LookupError)
    with pytest.raises(LookupError):
        run(one(portable.fail, executor, retry_policy=policy).compile(), {"log": [], "number": 1})


# One or another


def here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def test_code_runs_where_it_was_said_to(executor: Any) -> None:
    async def go() -> None:
        process, thread = (await one(portable.where, executor).compile().ainvoke(INPUT))["log"][0]
        assert (process == os.getpid()) is (executor != "process")
        assert ((process, thread) == here()) is (executor not in ("process", "thread"))

    asyncio.run(go())


def test_async_code_in_a_thread_has_a_loop_of_its_own_and_blocks_nobody() -> None:
    met = threading.Barrier(2, timeout=20)

    async def blocks(_: State) -> None:
        met.wait()

    graph = StateGraph(State)
    for name in ("a", "b"):
        graph.add_node(name, blocks, executor="thread").add_edge(START, name)
    asyncio.run(graph.compile().ainvoke(INPUT))


def test_the_paths_of_a_node_on_the_loop_run_there_too() -> None:
    async def go() -> list[Any]:
        places: list[Any] = []

        def path(_: State) -> list[str]:
            places.append(here())
            return []

        graph = one(lambda _: {"number": 1}, "loop").add_conditional_edges("node", path)
        await graph.compile().ainvoke(INPUT)
        return places

    assert asyncio.run(go()) == [here()]


def test_an_executor_of_a_users_is_called_with_the_code_and_its_input(run: Run) -> None:
    mine = Mine()
    assert run(one(portable.double, mine).compile(), {"log": [], "number": 1})["number"] == 2
    assert mine.called == 1


def test_processes_run_side_by_side_up_to_the_number_of_cores(run: Run, tmp_path: Path) -> None:
    both = min(2, cores())
    graph = StateGraph(State)
    for name in ("a", "b"):
        graph.add_node(name, portable.meet, executor="process").add_edge(START, name)
    log = run(graph.compile(), {"log": [str(tmp_path)], "number": both})["log"]
    assert len(set(log[1:])) == both


def test_who_waits_for_a_process_is_seen_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanfold.family.cores", lambda: 1)
    graph = StateGraph(State)
    for name in ("a", "b"):
        graph.add_node(name, portable.where, executor="process").add_edge(START, name)
    output = graph.compile().invoke(INPUT)
    assert [event.waited_for for event in kinds(output.run.events, TaskStarted)] == ["", "1 processes"]
    assert audit(output).peak == 1


# Processes


def test_a_process_that_is_killed_is_told_of_and_may_be_tried_again(run: Run, tmp_path: Path) -> None:
    dies = {"log": [str(tmp_path / "died")]}
    with pytest.raises(WorkerLostError, match="the process in which 'die_once' ran has ended before it"):
        run(one(portable.die_once, "process").compile(), dies)
    (tmp_path / "died").unlink()
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
    assert run(one(portable.die_once, "process", retry_policy=policy).compile(), dies)["number"] == 1


def test_what_cannot_go_to_another_process_is_named(run: Run) -> None:
    with pytest.raises(NotPortableError, match="'where' cannot be sent to another process"):
        run(one(portable.where, "process").compile(), {"log": [threading.Lock()]})


def test_what_cannot_come_back_is_named(run: Run) -> None:
    with pytest.raises(NotPortableError, match="what 'secret' returned cannot be sent back"):
        run(one(portable.secret, "process").compile(), INPUT)


def test_an_error_that_cannot_be_sent_is_told_of_and_harms_nobody_else(run: Run) -> None:
    graph = one(portable.fail_demanding, "process").add_node("fine", portable.double, executor="process")
    app = graph.add_edge(START, "fine").compile(on_error="finish", checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with pytest.raises(RemoteError, match="Demanding: this and that") as failed:
        run(app, {"log": [], "number": 1}, config)
    assert any("in fail_demanding" in note for note in failed.value.__notes__)
    assert [task.name for task in app.get_state(config).tasks if task.result is not None] == ["fine"]


def test_an_error_comes_with_the_place_in_the_other_process(run: Run) -> None:
    with pytest.raises(LookupError) as failed:
        run(one(portable.fail, "process").compile(), {"log": [], "number": 7})
    assert any("portable.py" in note and "in fail" in note for note in failed.value.__notes__)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    program = (
        "from fanfold import StateGraph\n"
        "from tests.drivers import portable\n"
        "from tests.drivers.parts import State\n"
        "if __name__ == '__main__':\n"
        "    graph = StateGraph(State).add_node('node', portable.pause_for_ever, executor='process')\n"
        f"    graph.add_edge('__start__', 'node').compile().invoke({{'log': [{str(tmp_path)!r}]}})\n"
    )
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(program)
    running = subprocess.Popen([sys.executable, str(script)], env={"PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        (begun,) = seen(lambda: os.listdir(tmp_path))
    finally:
        running.kill()
        running.wait()
    assert seen(lambda: not alive(int(begun)))


def seen(look: Callable[[], Any]) -> Any:
    """What `look` finds, as soon as it finds something."""
    for _ in range(2000):
        if found := look():
            return found
        threading.Event().wait(0.01)
    raise TimeoutError


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


# Mistakes


def test_an_unknown_executor_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="one of 'loop', 'thread', 'process'; did you mean 'thread'"):
        one(portable.where, "threads")


def test_something_that_is_no_executor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"has no call\(function, \*args\)"):
        one(portable.where, 7)


def test_what_could_never_run_in_a_process_is_a_problem_of_the_graph() -> None:
    def asks(state: State, config: Any) -> None: ...

    graph = StateGraph(State).add_node("local", lambda _: None, executor="process").add_edge(START, "local")
    graph.add_node("part", functools.partial(portable.where), executor="process")
    graph.add_node("asks", asks, executor="process")
    graph.add_node("inner", one(portable.where, None).compile(), executor="process")
    graph.add_node("yields", portable.numbers, executor="process")
    graph.add_node("late", portable.where, executor="process", timeout=1)
    with pytest.raises(GraphError) as found:
        graph.compile()
    text = str(found.value)
    for problem in (
        "node 'local' runs in a process, where only a function of a module can be found by its name",
        "node 'asks' runs in a process and asks for 'config', which is not there",
        "node 'yields' is a generator function, which cannot run in a process",
        "node 'inner' is a graph and has an executor",
        "node 'late' has a timeout and executor='process', where what has begun cannot be stopped",
    ):
        assert problem in text
    assert "'part'" not in text
