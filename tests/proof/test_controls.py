"""Controls: runs that are known to be serial, whatever they say of themselves, and runs that are known to be parallel.

Each is a row of the table that is printed after the tests. What blocks here is what is to be found out.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import http.server
import importlib.util
import json
import random
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fanfold import (
    START,
    AgentDefinition,
    CompiledGraph,
    Limits,
    Receipt,
    StateGraph,
    Task,
    asking,
    audit,
    get_runtime,
    python_agent,
)
from fanfold.agents.backends import claude
from fanfold.events import (
    LoopHeld,
    ModelAsked,
    TaskHeldUp,
    TaskWaited,
    TaskWaiting,
    ToolAnswered,
    ToolCalled,
)
from fanfold.receipt import NOTHING_TO_OVERLAP, PARALLEL, PARTLY_SERIAL, SEQUENTIAL, receipt
from fanfold.receipt.causes import BLOCKS, FEW_THREADS, GIL_BOUND, LOCKED, MCP, ONE_BY_ONE, QUEUES, SYNC_TOOL
from fanfold.testing import ModelServer
from fanfold.work import threads
from tests.proof.controls import ROWS, WORK, Row, State, alone, audited, beside, control
from tests.proof.portable import burns_here, sleeps
from tests.proof.telling import begun, continued, done, in_order, over, paused, queued, start, worked

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _without_the_garbage_of_others() -> Iterator[None]:
    """Thousands of tests leave much to collect behind, and that would hold the event loop for longer than it may."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: a folder without agents of its own."""
    monkeypatch.chdir(tmp_path)


def line_of(text: str, path: str = __file__) -> str:
    """Where in this file a line ends with a comment of this text."""
    with open(path) as file:
        return f"{path}:{next(n for n, line in enumerate(file, 1) if line.rstrip().endswith(f'# {text}'))}"


@python_agent("worker")
async def worker(prompt: str) -> str:
    await asyncio.sleep(WORK)
    return prompt


def ask(prompt: str, agent: str = "worker") -> Task:
    return Task(subagent_type=agent, prompt=prompt)


# Serial, whatever they say


def test_a_for_loop_over_15_agents_is_sequential_whatever_its_own_report_claims() -> None:
    async def team(state: State) -> Any:
        for number in range(15):
            await ask(f"part {number}")
        return {"log": ["15 agents ran in parallel; concurrency 15.0, efficiency 100 %"]}

    found = audited(alone(team), agents=[worker])
    control("a for loop over 15 agents, whose report claims 100 %", found, f"{SEQUENTIAL} by {ONE_BY_ONE}", "")
    assert (found.peak, len(found.agents)) == (1, 15)
    assert 0.9 < found.mean <= 1.0
    assert found.lines()[-1].startswith("15 agents in")


took: list[float] = []


async def sleeps_on_the_loop(state: State) -> None:
    await asyncio.sleep(0)
    began = time.monotonic()
    time.sleep(WORK)  # sleeps here
    took.append(time.monotonic() - began)


def check_the_place(found: Receipt, mark: str) -> None:
    """The line is named, and the seconds are those that it took."""
    cause = found.causes[0]
    assert cause.place.split(" in ")[0] == line_of(mark)
    assert line_of(mark) in found.culprits[0]
    assert cause.seconds == pytest.approx(sum(took), rel=0.05)


def test_async_nodes_that_sleep_on_the_loop_are_named_with_file_and_line() -> None:
    took.clear()
    found = audited(beside(*[sleeps_on_the_loop] * 4))
    control("time.sleep in four async nodes", found, f"{SEQUENTIAL} by {BLOCKS}", "")
    check_the_place(found, "sleeps here")


@pytest.fixture
def slow_server() -> Iterator[str]:
    """A server that takes its time, whose clients wait for it side by side."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(WORK)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_async_nodes_that_make_blocking_requests_are_named_with_file_and_line(slow_server: str) -> None:
    async def fetch(state: State) -> None:
        began = time.monotonic()
        with urllib.request.urlopen(slow_server) as answer:  # asks here
            answer.read()
        took.append(time.monotonic() - began)

    took.clear()
    found = audited(beside(*[fetch] * 4))
    control("a blocking HTTP request in four async nodes", found, f"{SEQUENTIAL} by {BLOCKS}", "")
    check_the_place(found, "asks here")


@pytest.mark.parametrize("kind", [asyncio.Lock, lambda: asyncio.Semaphore(1)], ids=["lock", "semaphore of 1"])
def test_tasks_that_hold_a_lock_across_their_awaits_are_sequential(kind: Any, request: pytest.FixtureRequest) -> None:
    lock = kind()

    async def node(state: State) -> None:
        async with lock:  # waits here
            await asyncio.sleep(WORK)

    found = audited(beside(*[node] * 4))
    name = request.node.callspec.id
    control(f"a {name}, held across the awaits of four nodes", found, f"{SEQUENTIAL} by {LOCKED}", "")
    assert found.causes[0].place == line_of("waits here")
    assert found.steady == 1


@pytest.mark.parametrize("kind", [anyio.Lock, lambda: anyio.Semaphore(1), lambda: anyio.CapacityLimiter(1)])
def test_tasks_that_hold_one_of_anyios_locks_are_sequential(kind: Any) -> None:
    async def team() -> Receipt:
        lock = kind()

        async def node(state: State) -> None:
            async with lock:  # stands here
                await asyncio.sleep(WORK)

        return audit(await beside(*[node] * 4).compile().ainvoke({"log": []}))

    found = asyncio.run(team())
    control(f"anyio's {type(kind()).__name__}, held by four nodes", found, f"{SEQUENTIAL} by {LOCKED}", "")
    assert found.causes[0].place == line_of("stands here")


def test_a_lock_that_is_waited_for_with_a_time_limit_is_found_too() -> None:
    lock = asyncio.Lock()

    async def node(state: State) -> None:
        await asyncio.wait_for(lock.acquire(), 30)  # stands there
        try:
            await asyncio.sleep(WORK)
        finally:
            lock.release()

    found = audited(beside(*[node] * 4))
    control("a lock that is taken by wait_for", found, f"{SEQUENTIAL} by {LOCKED}", "")
    assert found.causes[0].place == line_of("stands there")


def test_a_loop_over_agents_is_not_parallel_because_something_else_ran_beside_it() -> None:
    async def loops(state: State) -> None:
        for number in range(5):
            await ask(str(number))

    async def monitors(state: State) -> None:
        await asyncio.sleep(5 * WORK)

    found = audited(beside(loops, monitors), agents=[worker])
    control("a for loop over 5 agents, beside a node that takes as long", found, f"{PARTLY_SERIAL} by {ONE_BY_ONE}", "")


def test_agents_of_several_nodes_that_are_called_in_turn_are_parallel_where_they_overlap() -> None:
    async def loops(state: State) -> None:
        for number in range(2):
            await ask(str(number))

    found = audited(beside(*[loops] * 5), agents=[worker])
    control("five nodes of two agents each, one after the other", found, PARALLEL)
    assert found.causes == ()


def keeps_the_interpreter_and_uses_no_core(state: State) -> Any:
    ctypes.PyDLL(None).usleep(700_000)  # keeps the interpreter


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says how often a thread has waited")
def test_code_that_waits_and_keeps_the_interpreter_is_not_taken_for_a_process_that_stood_still() -> None:
    async def node(state: State) -> None:
        keeps_the_interpreter_and_uses_no_core(state)

    found = audited(beside(*[node] * 3))
    control("a C function that waits and keeps the interpreter", found, f"{SEQUENTIAL} by {BLOCKS}", "")
    assert found.jumped == 0
    # The watchdog cannot look meanwhile, only as soon as it is over; so it may miss the line of one.
    assert sum(cause.seconds for cause in found.causes if cause.kind == BLOCKS) > 2
    assert line_of("keeps the interpreter") in {cause.place.split(" in ")[0] for cause in found.causes}


def test_a_run_s_limit_of_one_is_named() -> None:
    async def team(state: State) -> None:
        await asyncio.gather(*(ask(word) for word in "abc"))

    found = audited(alone(team), agents=[worker], max_concurrency=1)
    control("a limit of 1 for three agents", found, f"{SEQUENTIAL} by limit", "")


def test_a_limit_does_not_multiply_in_graphs_inside() -> None:
    flying, most = 0, 0

    async def node(state: State) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(WORK)
        flying -= 1

    inner = beside(*[node] * 4).compile(limits=Limits(max_concurrency=2))
    found = audited(beside(inner, inner, inner), limits=Limits(max_concurrency=2))
    control("a limit of 2 in each of three graphs inside, and of 2 for all", found, f"{PARTLY_SERIAL} by limit", "")
    assert (found.peak, most, found.disagreements) == (2, 2, ())


def test_a_limit_that_multiplies_is_told() -> None:
    found = receipt(in_order(start(limit=2), *(worked(name, 0, 2) for name in "abcdef"), over(2)))
    control("a limit of 2 that each of three graphs has for itself", found, PARALLEL)
    assert found.disagreements == (
        "the run's limit is 2, and 6 tasks were at work at once: it does not hold for the whole run",
    )
    assert f"witnesses disagree: {found.disagreements[0]}" in found.lines()


LIES = """
import json, time
print(json.dumps({"type": "started", "at": 0.0, "started": 0.0, "ended": 9e9, "concurrency": 15}), flush=True)
time.sleep(0.1)
print(json.dumps({"type": "usage", "model": "m", "input_tokens": 1, "at": -5.0, "seconds": 3600}))
print(json.dumps({"type": "result", "output": "all ran at once, from 0 to 9e9", "at": 1.0, "ended": 2.0}))
"""


def liar() -> AgentDefinition:
    return AgentDefinition("liar", "Lies.", backend="process", command=(sys.executable, "-I", "-c", LIES))


def test_what_agents_say_of_the_time_counts_for_nothing() -> None:
    async def one_by_one(state: State) -> None:
        for number in range(3):
            await ask(str(number), "liar")

    async def at_once(state: State) -> None:
        await asyncio.gather(*(ask(str(number), "liar") for number in range(3)))

    found = audited(alone(one_by_one), agents=[liar()])
    control("programs that claim to overlap, one after the other", found, f"{SEQUENTIAL} by {ONE_BY_ONE}", "")
    assert [witness.peak for witness in found.witnesses] == [1, 1]
    assert found.wall < 30
    found = audited(alone(at_once), agents=[liar()])
    control("programs that claim to have taken ages, side by side", found, PARALLEL)
    assert [(witness.name, witness.seen, witness.peak) for witness in found.witnesses] == [
        ("the engine", 4, 3),
        ("the operating system", 3, 3),
    ]
    assert found.disagreements == ()


def models(names: str) -> list[AgentDefinition]:
    return [AgentDefinition(name, f"Agent {name}.", backend="model", prompt=f"You are {name}.") for name in names]


async def gathers_models(state: State) -> None:
    await asyncio.gather(*(ask("go", name) for name in "abcd"))


def test_a_model_server_that_serves_one_at_a_time_is_found_out_by_its_journal() -> None:
    @python_agent("client")
    async def client(prompt: str) -> str:
        info = get_runtime().execution_info
        assert info is not None
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}).encode()
        headers = {"content-type": "application/json", "x-fanfold-agent": "client", "x-fanfold-task": info.task_id}
        request = urllib.request.Request(f"{server.url}/v1/messages", body, headers)
        async with asking("m") as asked:
            await asyncio.to_thread(lambda: urllib.request.urlopen(request).read())
            asked.answered(1, 1)
        return "done"

    async def team(state: State) -> None:
        await asyncio.gather(*(ask(str(number), "client") for number in range(4)))

    with ModelServer(latency=4 * WORK, at_once=1) as server:
        server.script("*", lambda request: "done")
        result = alone(team).compile().invoke({"log": []}, agents=[client])
        found = audit(result, journal=server.journal)
    control("a model server that serves one call at a time", found, f"{SEQUENTIAL} by {QUEUES}", "")
    assert [(witness.name, witness.peak) for witness in found.witnesses] == [
        ("the engine", found.peak),
        ("the model's server", 1),
    ]
    (text,) = found.disagreements
    assert text.startswith("the engine had up to 4 requests to models in flight")
    assert "never served more than 1 at once" in text
    assert audit(result).causes == (), "without its journal it cannot be told, and is not guessed"


def test_an_answer_that_something_was_launched_is_no_work() -> None:
    launched: list[asyncio.Task[None]] = []

    @python_agent("launcher")
    async def launcher(prompt: str) -> str:
        launched.append(asyncio.create_task(asyncio.sleep(WORK)))
        return "launched 1 agent in the background; it runs in parallel"

    async def team(state: State) -> Any:
        answers = await asyncio.gather(*(ask(str(number), "launcher") for number in range(4)))
        for task in launched:  # what they have launched is waited for one by one
            await task
        await asyncio.sleep(2 * WORK)
        return {"log": [answer.output for answer in answers]}

    found = audited(alone(team), agents=[launcher])
    control("agents that answer 'launched' at once", found, NOTHING_TO_OVERLAP)
    assert sum(agent.work for agent in found.agents) < 0.2 * found.wall


def test_threads_that_keep_one_core_busy_are_not_parallel() -> None:
    found = audited(beside(*[burns_here] * 3))
    control("three threads that compute in Python", found, f"{SEQUENTIAL} by {GIL_BOUND}", "")
    assert found.mean < 1.2
    (text,) = found.disagreements
    assert text.startswith("the engine had 3 threads at work at once")
    assert found.mean > 0.8
    assert all(0.35 < task.cpu < 0.5 for task in found.tasks)


def test_a_pool_with_too_few_threads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MOST_THREADS", 1)
    monkeypatch.setattr(threads, "AT_ONCE", 1)
    found = audited(beside(*[in_a_thread] * 3))
    control("a pool of one thread for three tasks", found, f"{SEQUENTIAL} by {FEW_THREADS}", "")
    assert "for the thread pool of 1 threads" in found.culprits[0]


def test_a_branch_that_waits_at_a_barrier_is_named() -> None:
    def after(seconds: float) -> Any:
        async def node(state: State) -> None:
            await asyncio.sleep(seconds)

        return node

    graph = StateGraph(State)
    for name, seconds in {"a": WORK, "b": 4 * WORK, "c": 4 * WORK, "d": WORK}.items():
        graph.add_node(name, after(seconds))
    graph.add_edge(START, "a").add_edge("a", "b").add_edge(START, "c").add_edge("c", "d")
    found = audited(graph)
    control("two branches of unequal steps", found, f"{PARTLY_SERIAL} by barrier", "")


# Told by hand: what cannot be had here without a second program, or would take too long


def test_a_tool_that_blocks_is_named_as_one() -> None:
    def agent(name: str, since: float) -> list[Any]:
        return [
            [queued(0, name, by="n"), begun(0, name), ModelAsked(0, name, "m")],
            [
                TaskHeldUp(since, name, since),
                ToolCalled(since, name, "search"),
                LoopHeld(since + 2, name, 2, "app.py", 7, "search"),
            ],
            [done(since + 2, name)],
        ]

    team = [queued(0, "n"), begun(0, "n"), paused(0, "n"), continued(4, "n"), done(4, "n")]
    found = receipt(in_order(start(), team, *agent("x", 0), *agent("y", 2), over(4)))
    control("a blocking tool in two async agents", found, f"{SEQUENTIAL} by {SYNC_TOOL}", "")
    assert "tool 'search' of 'x', 'y' held the event loop for 4.00 s in all, at app.py:7 in search" in found.culprits[0]


def test_tools_of_a_server_that_the_client_calls_one_by_one_are_named() -> None:
    uses = [ToolAnswered(2, "a", "mcp__s__t", 2), ToolAnswered(4, "a", "mcp__s__t", 2)]
    found = receipt(in_order(start(), worked("a", 0, 4), uses, worked("b", 4, 6), over(6)))
    control("two tools of an MCP server, one call after the other", found, f"{SEQUENTIAL} by {MCP}", "")
    overlapping = [ToolAnswered(4, "a", "mcp__s__t", 4), ToolAnswered(4, "a", "mcp__s__t", 4)]
    found = receipt(in_order(start(), worked("a", 0, 4), overlapping, worked("b", 4, 6), over(6)))
    assert MCP not in {cause.kind for cause in found.causes}


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        ("m to take requests again", "rate gate"),
        ("the budget of calls", "budget"),
        ("room in memory_mb", "memory"),
        ("limit 1 of requests to m", "limit"),
        ("one of 1 processes", "limit"),
    ],
)
def test_whatever_an_agent_waits_for_at_work_has_its_class(why: str, kind: str) -> None:
    waits = [TaskWaiting(0, "b", why), TaskWaited(2, "b", why, 2)]
    found = receipt(
        in_order(start(), worked("a", 0, 2), [queued(0, "b"), begun(0, "b"), *waits, done(4, "b")], over(4))
    )
    control(f"an agent that waits for {why}", found, f"{SEQUENTIAL} by {kind}", "")
    assert found.tasks[1].parts == {kind: 2, "working": 2}


# Clocks


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def moves_the_clock(state: State) -> None:
        await asyncio.sleep(WORK / 2)
        monkeypatch.setattr(time, "time", lambda: 4e9)
        await asyncio.sleep(WORK / 2)

    found = audited(beside(moves_the_clock, *[moves_the_clock] * 3))
    control("a wall clock that jumps by decades", found, PARALLEL)
    assert found.wall < 100 * WORK


JUMPS = """
import asyncio, json, sys, time
real, moved = time.monotonic, 0.0
time.monotonic = lambda: real() + moved
from typing import TypedDict
from fanfold import START, StateGraph, Task, audit, python_agent

class State(TypedDict, total=False):
    log: list

@python_agent("worker")
async def worker(prompt):
    global moved
    await asyncio.sleep(0.1)
    if prompt == "1":
        STOP
    await asyncio.sleep(0.1)
    return prompt

async def team(state):
    if sys.argv[1] == "loop":
        for number in range(4):
            await Task(subagent_type="worker", prompt=str(number))
    else:
        await asyncio.gather(*(Task(subagent_type="worker", prompt=str(number)) for number in range(4)))

graph = StateGraph(State).add_node("team", team).add_edge(START, "team").compile()
from fanfold.events import to_record
heard, early = [], []
def hear(event):
    heard.append(event)
    if event.kind == "task_finished" and not early and any(e.kind == "clock_jumped" for e in heard):
        early.append(len(heard))
result = graph.invoke({"log": []}, agents=[worker], on_event=hear)
told = [to_record(event) for event in result.run.events]
print(json.dumps({"events": told, "early": early[0] if early else 0}))
"""


def jumped(how: str, stop: str) -> Receipt:
    """The receipt of four agents, while one of which something happens to the clock or to the whole process."""
    from fanfold.events import from_record

    program = textwrap.dedent(JUMPS).replace("STOP", stop)
    said = subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True)
    told = json.loads(said.stdout)
    events = [from_record(record) for record in told["events"]]
    early = receipt(events[: told["early"]])
    assert (early.status, early.wall < 30) == ("running", True), "who reads it while it goes on sees it, too"
    return receipt(events)


@pytest.mark.parametrize(("how", "expected"), [("loop", f"{SEQUENTIAL} by {ONE_BY_ONE}"), ("gather", PARALLEL)])
def test_a_monotonic_clock_that_jumps_ahead_does_not_count_as_time(how: str, expected: str) -> None:
    found = jumped(how, "moved += 3600")
    control(f"a monotonic clock that jumps by an hour, {how}", found, expected, "" if how == "loop" else None)
    assert found.jumped == pytest.approx(3600, abs=2)
    assert found.wall < 30
    assert any(line.startswith("the process stood still, or its clock jumped") for line in found.lines())


STOPS = """import os, subprocess
        subprocess.run(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 0.8; kill -CONT {os.getpid()}"])"""


def test_a_process_that_is_stopped_for_a_while_is_not_said_to_have_worked() -> None:
    found = jumped("loop", STOPS)
    control("a process that is stopped for a while", found, f"{SEQUENTIAL} by {ONE_BY_ONE}", "")
    assert found.jumped > 0.6
    assert found.wall < 4


# Parallel


async def waits(state: State) -> None:
    await asyncio.sleep(4 * WORK)


def in_a_thread(state: State) -> None:
    time.sleep(4 * WORK)


@pytest.mark.parametrize("node", [waits, in_a_thread], ids=["coroutines", "threads"])
def test_nodes_that_wait_side_by_side_are_parallel(node: Any, request: pytest.FixtureRequest) -> None:
    found = audited(beside(*[node] * 4))
    control(f"four {request.node.callspec.id} that wait", found, PARALLEL)
    assert (found.peak, found.causes, found.disagreements) == (4, (), ())


def test_nodes_in_processes_are_parallel() -> None:
    graph = StateGraph(State)
    for name in "ab":
        graph.add_node(name, sleeps, executor="process").add_edge(START, name)
    control("two processes that wait", audited(graph), PARALLEL)


def test_agents_that_are_functions_are_parallel() -> None:
    async def team(state: State) -> None:
        await asyncio.gather(*(ask(word) for word in "abcd"))

    found = audited(alone(team), agents=[worker])
    control("four agents that are functions", found, PARALLEL)
    assert found.peak == 4


def test_agents_that_are_models_are_parallel_and_a_rendezvous_agrees() -> None:
    with ModelServer(latency=2 * WORK) as server:
        server.script("*", lambda request: "done")
        warm = alone(gathers_models).compile()
        warm.invoke({"log": []}, agents=models("abcd"), model=server)  # imports take longer than the answers
        gate = server.rendezvous(4, timeout=20)
        result = warm.invoke({"log": []}, agents=models("abcd"), model=server)
        found = audit(result, journal=server.journal)
    control("four agents that are models", found, PARALLEL)
    assert gate.met
    assert [(witness.name, witness.seen, witness.peak) for witness in found.witnesses] == [
        ("the engine", 5, 4),
        ("the model's server", 4, 4),
    ]
    assert found.disagreements == ()
    assert all(agent.model_at is not None for agent in found.agents)


@pytest.mark.skipif(importlib.util.find_spec("claude_agent_sdk") is None, reason="the extra `claude` is not installed")
def test_agents_that_claude_runs_are_parallel_and_a_rendezvous_agrees() -> None:
    agents = [
        AgentDefinition(name, f"The {name}.", prompt=f"You are the {name}.", backend="claude")
        for name in ("duck", "owl")
    ]

    async def team(state: State) -> None:
        await asyncio.gather(*(ask("go", agent.name) for agent in agents))

    claude.load()  # what is imported when the first such agent runs is none of what they do
    with ModelServer(latency=2 * WORK) as server:
        server.script("*", lambda request: "done")
        gate = server.rendezvous(2, timeout=30)
        result = alone(team).compile().invoke({"log": []}, agents=agents, model=server)
        found = audit(result, journal=server.journal)
    control("two agents that claude runs", found, PARALLEL)
    assert gate.met
    assert found.disagreements == ()
    assert {witness.name: witness.peak for witness in found.witnesses} == {
        "the engine": 2,
        "the model's server": 2,
        "the operating system": 2,
    }


# No false alarm


def honest(chance: random.Random) -> tuple[StateGraph, bool]:
    """A graph whose tasks only wait, in a random shape, and whether any of them can overlap."""
    shape = chance.choice(["fan", "agents", "layers", "chain"])
    seconds = [chance.uniform(0.15, 0.25) for _ in range(chance.randint(2, 8))]

    def node(seconds: float) -> Any:
        async def wait(state: State) -> None:
            await asyncio.sleep(seconds)

        return wait

    if shape == "agents":

        async def team(state: State) -> None:
            await asyncio.gather(*(ask(str(number)) for number, _ in enumerate(seconds)))

        return alone(team), True
    if shape == "chain":
        graph = StateGraph(State).add_sequence([(f"node{n}", node(each / 2)) for n, each in enumerate(seconds[:3])])
        return graph.add_edge(START, "node0"), False
    graph = beside(*map(node, seconds))
    if shape == "layers":
        graph.add_node("last", node(0.03)).add_edge([f"node{n}" for n in range(len(seconds))], "last")
    return graph, True


def alarms(found: Receipt, overlaps: bool) -> bool:
    """Whether the receipt of an honest run says that anything is wrong with it."""
    expected = PARALLEL if overlaps else NOTHING_TO_OVERLAP
    return found.verdict != expected or bool(found.causes or found.disagreements)


def test_no_honest_run_of_200_is_called_serial_or_blamed_for_anything() -> None:
    chance = random.Random(7)
    runs = [(graph.compile(), overlaps) for graph, overlaps in (honest(chance) for _ in range(200))]

    async def judged(graph: CompiledGraph) -> Receipt:
        return audit(await graph.ainvoke({"log": []}, agents=[worker]))

    async def main() -> list[Receipt]:
        found: list[Receipt] = []
        for first in range(0, len(runs), 25):  # some at a time, on one loop
            found += await asyncio.gather(*(judged(graph) for graph, _ in runs[first : first + 25]))
        # What kept a run waiting may have been the machine, which is shared. It does not do so to the same one twice.
        for at, (graph, overlaps) in enumerate(runs):
            if alarms(found[at], overlaps):
                found[at] = await judged(graph)
        return found

    receipts = asyncio.run(main())
    wrong = [
        f"{found}\n" + "\n".join(found.account())
        for found, (_, overlaps) in zip(receipts, runs, strict=True)
        if alarms(found, overlaps)
    ]
    peaks, means = [found.peak for found in receipts], [found.mean for found in receipts]
    said = f"{len(wrong)} false alarms"
    ROWS.append(Row("200 random honest runs", "0 false alarms", said, max(peaks), sum(means) / len(means)))
    assert not wrong, f"{said}\n" + "\n\n".join(wrong)
