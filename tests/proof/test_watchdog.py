"""Who held the event loop, and at which line. What is blocked here is what is to be found out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import operator
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Annotated, Any, TypedDict

import pytest
import uvloop

from fanfold import START, StateGraph, Task, audit, python_agent, watchdog
from fanfold.events import COLLECTING, WITHOUT_A_CORE, Event, LoopHeld, TaskBlocked, TaskHeldUp
from fanfold.held import HELD_FROM, LoopWatch, tell
from fanfold.receipt import causes, receipt
from fanfold.rounds import ROUNDS
from fanfold.watchdog import IDLE, RIGHT_AFTER, WATCHDOG, Post
from fanfold.whose import NOWHERE, OURS, PYTHON, USERS, Place, ends_at, owner, place_of
from tests.proof.telling import begun, done, in_order, over, queued, start

BLOCKS = 0.08


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


@pytest.fixture(autouse=True)
def _without_the_garbage_of_others() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on a loop of each kind."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


def beside(*actions: Any, state: type = State) -> Any:
    graph = StateGraph(state)
    for number, action in enumerate(actions):
        graph.add_node(f"{action.__name__}-{number}", action).add_edge(START, f"{action.__name__}-{number}")
    return graph.compile()


def told(result: Any, kind: Any = LoopHeld) -> list[Any]:
    """All that is told of that kind; of what held the loop, what was no want of a core."""
    events = [event for event in result.run.events if isinstance(event, kind)]
    return [event for event in events if getattr(event, "function", "") != WITHOUT_A_CORE]


def line_of(text: str, path: str = __file__) -> int:
    """The line of a file that ends with a comment of this text."""
    with open(path) as file:
        return next(number for number, line in enumerate(file, 1) if line.rstrip().endswith(f"# {text}"))


took: list[float] = []


def waits_for_a_server() -> None:
    began = time.monotonic()
    time.sleep(BLOCKS)  # the culprit
    took.append(time.monotonic() - began)


async def blocks(state: State) -> None:
    await asyncio.sleep(0)
    waits_for_a_server()


def test_the_line_that_blocks_is_named_and_so_is_who_called_it_and_for_how_long(on: Any) -> None:
    took.clear()
    held = told(on(beside(blocks, blocks).ainvoke({"log": []})))
    assert len(held) == 2
    for event, seconds in zip(held, took, strict=True):
        assert (event.file, event.line) == (__file__, line_of("the culprit"))
        assert (event.function, event.callers) == ("waits_for_a_server", ("blocks",))
        assert event.seconds == pytest.approx(seconds, rel=0.05)


async def blocks_twice(state: State) -> None:
    time.sleep(BLOCKS / 2)
    time.sleep(2 * BLOCKS)  # the longer one
    time.sleep(BLOCKS / 2)


def test_of_several_lines_in_one_hold_the_one_that_took_longest_is_named() -> None:
    (held,) = told(beside(blocks_twice).invoke({"log": []}))
    assert held.line == line_of("the longer one")


async def keeps_the_interpreter(state: State) -> None:
    sum(range(15_000_000))  # no other thread runs meanwhile


def test_code_that_lets_no_other_thread_run_is_named_all_the_same() -> None:
    # The watchdog asks for the interpreter while that goes on, and has it next, if the machine lets it ask in time.
    runs = (told(beside(keeps_the_interpreter).invoke({"log": []})) for _ in range(3))
    assert any(held.line == line_of("no other thread runs meanwhile") for (held,) in runs)


async def tool() -> None:
    time.sleep(2 * BLOCKS)  # in a task of its own


async def calls_a_tool(state: State) -> None:
    await asyncio.gather(tool(), asyncio.sleep(0))


def test_code_in_an_asyncio_task_that_a_node_has_started_is_its(on: Any) -> None:
    result = on(beside(calls_a_tool).ainvoke({"log": []}))
    (held,) = told(result)
    assert (held.line, held.function) == (line_of("in a task of its own"), "tool")
    assert held.task == told(result, TaskHeldUp | LoopHeld)[0].task
    assert 1.2 * BLOCKS < held.seconds < 3 * BLOCKS
    assert not told(result, TaskHeldUp), "nobody is held up by code of its own"


@python_agent("asker")
async def asker(prompt: str) -> str:
    reads_a_page()
    return prompt


def reads_a_page() -> None:
    time.sleep(BLOCKS)  # below an agent


async def asks(state: State) -> None:
    await asyncio.gather(*(Task(subagent_type="asker", prompt=word) for word in "ab"))


def test_a_blocking_tool_of_an_agent_is_found_below_the_agent() -> None:
    held = told(beside(asks).invoke({"log": []}, agents=[asker]))
    assert [(event.function, event.callers, event.line) for event in held] == [
        ("reads_a_page", ("asker",), line_of("below an agent"))
    ] * 2


def slowly(old: list[str], new: list[str]) -> list[str]:
    time.sleep(BLOCKS)  # folds
    return old + new


class Slow(TypedDict, total=False):
    log: Annotated[list[str], slowly]


def writes(state: Any) -> Any:
    return {"log": ["a"]}


def test_a_reducer_that_blocks_is_named() -> None:
    held = told(beside(writes, state=Slow).invoke({"log": []}))
    assert {(event.function, event.line) for event in held} == {("slowly", line_of("folds"))}


def test_a_path_that_blocks_is_named() -> None:
    async def route(state: State) -> str:
        time.sleep(BLOCKS)  # decides
        return "__end__"

    graph = StateGraph(State).add_node("a", writes).add_edge(START, "a").add_conditional_edges("a", route)
    (held,) = told(graph.compile().invoke({"log": []}))
    assert held.line == line_of("decides")


def test_quick_code_that_takes_its_time_is_named() -> None:
    def heavy(state: Any) -> Any:
        return {"log": [a for a in state["log"] for b in state["log"] if a == b == "x"]}  # quick it seems

    (held,) = told(beside(heavy).invoke({"log": list(map(str, range(2500)))}))
    assert held.line == line_of("quick it seems")


def test_each_loop_of_a_process_has_culprits_of_its_own() -> None:
    async def one(state: State) -> None:
        time.sleep(BLOCKS)  # of the one loop

    async def other(state: State) -> None:
        time.sleep(BLOCKS)  # of the other loop

    found: dict[str, int] = {}

    def run(name: str, action: Any) -> None:
        (held,) = told(beside(action).invoke({"log": []}))
        found[name] = held.line

    threads = [threading.Thread(target=run, args=args) for args in (("one", one), ("other", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": line_of("of the one loop"), "other": line_of("of the other loop")}


# One post, by a clock that goes where it is told to


class Looked:
    """A post whose thread is at the places that it is told, at the times that it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.post, self.now, self.at = Post(), 0.0, NOWHERE
        self.when_seen: Callable[[], None] = lambda: None
        monkeypatch.setattr(watchdog, "clock", lambda: self.now)
        monkeypatch.setattr(watchdog, "lines_of", self._lines)
        monkeypatch.setattr(watchdog, "place_at", lambda at: at)

    def _lines(self, frame: Any) -> Place:
        self.when_seen()
        return self.at

    def look(self, now: float, line: int) -> None:
        self.now, self.at = now, Place("app.py", line, "works")
        self.post.look()


def test_of_what_a_look_has_seen_the_time_since_the_look_before_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Looked(monkeypatch)
    seen.post.since = 1.0
    for now, line in ((1.01, 1), (1.02, 1), (1.03, 1), (1.07, 2), (1.08, 1)):
        seen.look(now, line)
    assert seen.post.place(1.0).line == 1, "40 ms at that line, in four looks"
    seen.look(1.1, 2)
    assert seen.post.place(1.0).line == 2, "60 ms at this one, in two"


def test_a_slice_that_nobody_has_looked_at_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Looked(monkeypatch)
    seen.post.since = 1.0
    seen.look(1.02, 1)
    assert seen.post.place(2.0) == NOWHERE
    seen.post.since = 2.0
    seen.look(2.001, 2)
    assert seen.post.place(2.0) == NOWHERE, "it is too short to be worth a look"
    seen.look(2.02, 2)
    assert seen.post.place(2.0).line == 2
    assert seen.post.place(1.0) == NOWHERE


def test_what_is_seen_when_the_slice_is_over_is_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Looked(monkeypatch)
    seen.post.since = 1.0
    seen.when_seen = lambda: setattr(seen.post, "since", 1.015)
    seen.look(1.02, 1)
    assert seen.post.place(1.0) == NOWHERE


def test_what_was_seen_is_known_as_soon_as_the_code_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, asked = Looked(monkeypatch), list[Place]()

    def place_at(at: Place) -> Place:
        if not asked:  # the loop's thread is faster
            asked.append(at)
            asked.append(seen.post.place(1.0))
        return at

    monkeypatch.setattr(watchdog, "place_at", place_at)
    seen.post.since = 1.0
    seen.look(1.02, 7)
    assert [at.line for at in asked] == [7, 7]


def test_what_a_slice_has_waited_for_a_core_counts_from_the_first_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, waited = Looked(monkeypatch), iter([5.0, 5.5])
    monkeypatch.setattr(watchdog, "waited_for_one", lambda thread: next(waited))
    seen.post.since = 1.0
    seen.look(1.01, 1)
    seen.look(1.02, 1)
    assert seen.post.waited(1.0) == 0.5
    assert seen.post.waited(2.0) == 0.0, "nobody has looked at that one"


def test_holds_that_follow_each_other_are_told_together_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Looked(monkeypatch).post
    post.held(1.0, 2.0, "a")
    post.held(2.0 + RIGHT_AFTER / 2, 3.0, "b")
    now = 3.0 + RIGHT_AFTER / 2
    assert post.follows(now)
    assert post.kept("c", 0.5, now) == pytest.approx(2.0 + RIGHT_AFTER / 2), "nobody got on between them"
    assert post.kept("c", 1.5, now) == pytest.approx(1.5 + RIGHT_AFTER / 2)
    assert post.kept("a", 2.0, now) == pytest.approx(1.0 + RIGHT_AFTER / 2), "nor behind its own"
    assert post.kept("c", 0.5, 3.0 + 2 * RIGHT_AFTER) == post.kept("c", 3.0, now) == 0.0
    post.held(4.0, 5.0, "c")
    assert post.kept("b", 0.5, 5.0) == 1.0


def test_a_slice_that_two_watch_has_held_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Looked(monkeypatch).post
    post.held(1.0, 2.0, "a", "watched a")
    post.held(0.75, 2.25, "as well")
    assert post.kept("b", 0.0, 2.25) == 1.25
    assert post.kept("a", 0.0, 2.25) == 1.5


def test_what_follows_a_hold_and_a_collection_follows_the_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Looked(monkeypatch).post
    post.held(1.0, 2.0, "a")
    monkeypatch.setattr(WATCHDOG, "_pauses", deque([(2.0, 2.5)]))
    assert post.follows(2.5 + RIGHT_AFTER / 2)
    assert not post.follows(2.5 + 2 * RIGHT_AFTER)


class Asked(asyncio.SelectorEventLoop):
    """A loop that is said to be busy with a task that nobody of ours has started."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def call_soon_threadsafe(self, callback: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        self.calls.append(callback)


@pytest.mark.parametrize(
    ("held_before", "file", "told"), [(0.0, "app.py", 0.05), (1.02, "app.py", 0.03), (0.0, asyncio.__file__, 0.0)]
)
def test_a_strangers_hold_is_told_from_when_the_loop_was_asked_but_not_what_was_told_already(
    monkeypatch: pytest.MonkeyPatch, held_before: float, file: str, told: float
) -> None:
    heard: list[tuple[str, float, float, Place]] = []
    seen = Looked(monkeypatch)
    loop = seen.post.loop = Asked()

    async def stranger() -> None: ...

    task = loop.create_task(stranger())
    monkeypatch.setattr(watchdog, "FINDERS", [lambda context: ("t", lambda *what: heard.append(what))])
    monkeypatch.setattr(asyncio, "current_task", lambda of=None: task)
    try:
        seen.look(1.0, 1)
        assert len(loop.calls) == 1
        if held_before:
            seen.post.held(1.0, held_before, "x")
        seen.now, seen.at = 1.02, Place(file, 7, "works")
        seen.post.look()
        assert len(loop.calls) == 1, "it is asked once"
        seen.now = 1.05
        loop.calls[0]()
    finally:
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
    assert [(until - since, place.line) for _, since, until, place in heard] == (
        [(pytest.approx(told), 7)] if told else []
    )
    assert [by for _, _, by in seen.post.holds][bool(held_before) :] == ([("t",)] if told else [])


def test_a_loop_on_which_code_of_ours_has_begun_meanwhile_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Looked(monkeypatch)
    loop = seen.post.loop = Asked()
    monkeypatch.setattr(asyncio, "current_task", lambda of=None: None if of is not loop else stranger)
    monkeypatch.setattr(watchdog, "context_of", lambda task: None)

    def find(context: Any) -> Any:
        seen.post.since = 1.0
        return "t", lambda *_: None

    stranger = object()
    monkeypatch.setattr(watchdog, "FINDERS", [find])
    seen.look(1.0, 1)
    assert loop.calls == []
    loop.close()


def held_by(watch: LoopWatch, monkeypatch: pytest.MonkeyPatch, file: str) -> list[LoopHeld]:
    """What is told of code that has settled after 50 ms, most of which it was in that file."""
    heard: list[Any] = []
    monkeypatch.setattr("fanfold.held.clock", lambda: 1.05)
    post = watch.post = Looked(monkeypatch).post
    monkeypatch.setattr(post, "_seen", {Place(file, 7, "folds"): 0.04} if file else {})
    monkeypatch.setattr(post, "_slice", 1.0)
    watch.settled(heard.append, "t", 1.0)
    return heard


@pytest.mark.parametrize(("file", "line"), [("app.py", 7), ("", 0), (watchdog.__file__, 0)])
def test_what_our_own_code_takes_is_nobodys_hold(monkeypatch: pytest.MonkeyPatch, file: str, line: int) -> None:
    assert [event.line for event in held_by(LoopWatch(), monkeypatch, file)] == ([line] if line else [])


@pytest.mark.parametrize(
    ("collected", "told"),
    [
        (0.0, [("f", 0.05)]),
        (0.025, [("garbage collection", 0.025), ("f", 0.025)]),
        (0.01, [("f", 0.04)]),
        (0.04, [("garbage collection", 0.04)]),
    ],
)
def test_what_was_collected_within_a_hold_is_taken_off_it(
    monkeypatch: pytest.MonkeyPatch, collected: float, told: list[tuple[str, float]]
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(WATCHDOG, "_pauses", deque([(1.005, 1.005 + collected), (2.0, 3.0)]))
    tell(heard.append, "t", 1.0, 1.05, Place("app.py", 7, "f"))
    assert [(event.function, event.seconds) for event in heard] == [(name, pytest.approx(each)) for name, each in told]


def test_what_a_hold_is_made_of_follows_each_other_so_that_all_of_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(WATCHDOG, "_pauses", deque([(1.1, 1.4)]))
    monkeypatch.setattr(WATCHDOG, "waited", lambda since: 0.2)
    tell(heard.append, "t", 1.0, 2.0, Place("app.py", 7, "f"))
    told = [(event.function, pytest.approx(event.at - event.seconds), pytest.approx(event.at)) for event in heard]
    assert told == [(WITHOUT_A_CORE, 1.0, 1.2), (COLLECTING, 1.2, 1.5), ("f", 1.5, 2.0)]
    events = [queued(1, "t"), begun(1, "t"), *heard, queued(1, "u"), begun(2, "u"), done(3, "t"), done(3, "u")]
    found = receipt(in_order(start(), events, over(3)))
    assert [task.parts for task in found.tasks] == [
        {"blocking": pytest.approx(1), "working": pytest.approx(1)},
        {"held up": pytest.approx(1), "working": pytest.approx(1)},
    ]


async def awaits(work: Awaitable[Any]) -> Any:
    return await work


def test_what_is_thrown_into_code_that_is_timed_arrives_in_it() -> None:
    async def code() -> str:
        try:
            await asyncio.sleep(0)
        except KeyError:
            return "caught"
        return "missed"

    timed = awaits(LoopWatch().timed(lambda _: None, "t", code())).__await__()
    next(timed)
    with pytest.raises(StopIteration) as end:
        timed.throw(KeyError())
    assert end.value.value == "caught"


def test_what_comes_behind_a_hold_belongs_to_it_only_until_the_loop_has_rested() -> None:
    async def main() -> list[float]:
        post = Post()
        post.held(1.0, 2.0, "a")
        found = [post.held_within(0.0, 2.015)]
        for _ in range(10):  # rounds
            await asyncio.sleep(0)
        return [*found, post.held_within(0.0, 2.015)]

    assert asyncio.run(main()) == pytest.approx([1.015, 1.0])


# Whose code it is


def _called(file: str, body: str, **known: Any) -> Any:
    exec(compile(f"def library():\n    {body}", file, "exec"), known)
    return known["library"]


def test_of_a_library_that_blocks_the_line_that_called_it_is_named() -> None:
    fetch = _called("/env/lib/python3.11/site-packages/http/client.py", "return place_of(frame())", **_FRAMES)
    assert fetch().function.endswith("test_of_a_library_that_blocks_the_line_that_called_it_is_named")


def test_where_nothing_is_the_users_the_package_that_was_called_first_is_named() -> None:
    def end() -> Any:
        return library()

    fetch = _called("/env/lib/site-packages/http/client.py", "return place_of(frame())", **_FRAMES)
    library = _called("/env/lib/site-packages/team/nodes.py", "return fetch()", fetch=fetch)
    ends_at(end.__code__)
    assert end().file == "/env/lib/site-packages/team/nodes.py"


def test_a_library_that_only_waits_for_a_thread_to_begin_is_at_no_line() -> None:
    def end() -> None:
        library()

    seen: list[Place] = []
    thread: Any = threading.Thread(target=int)
    look = _called("/env/lib/site-packages/team/nodes.py", "seen.append(place_of(frame()))", seen=seen, **_FRAMES)
    library = _called("/env/lib/site-packages/team/nodes.py", "thread.start()", thread=thread)
    thread._started.wait = look
    ends_at(end.__code__)
    end()
    assert threading.Event.wait(thread._started, 30)
    thread.join()
    assert seen == [NOWHERE]


def _frame() -> Any:
    return sys._getframe(1)


_FRAMES: dict[str, Any] = {"place_of": place_of, "frame": _frame}


def test_files_are_pythons_ours_or_the_users() -> None:
    import fanfold.run

    assert [owner(file) for file in (asyncio.__file__, fanfold.run.__file__, __file__)] == [PYTHON, OURS, USERS]
    assert owner("/env/site-packages/requests/api.py") == "package requests"
    assert owner("<stdin>") == USERS
    assert owner("<frozen importlib._bootstrap>") == PYTHON
    assert owner("uvloop/loop.pyx") == "package uvloop"


# Cores that others have


@pytest.fixture
def one_core_for_three() -> Iterator[None]:
    """This thread has to share a core with two programs that never rest."""
    mine = os.sched_getaffinity(0)
    core = min(mine)
    busy = f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            one = stack.enter_context(subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE))
            stack.callback(one.kill)
            assert one.stdout is not None
            one.stdout.readline()
        stack.callback(os.sched_setaffinity, 0, mine)
        os.sched_setaffinity(0, {core})
        yield


async def computes(state: State) -> None:
    began = time.thread_time()
    any(time.thread_time() - began > 2 * BLOCKS for _ in itertools.repeat(0))  # on a third of a core


@pytest.mark.usefixtures("one_core_for_three")
def test_code_that_has_to_wait_for_a_core_is_told_with_what_it_took_itself_and_with_that() -> None:
    result = beside(computes, computes).invoke({"log": []})
    own = told(result)
    others = [event for event in result.run.events if isinstance(event, LoopHeld) and event not in own]
    assert line_of("on a third of a core") in {event.line for event in own}
    assert sum(event.seconds for event in own) == pytest.approx(4 * BLOCKS, rel=0.25)
    assert sum(event.seconds for event in others) > 4 * BLOCKS
    found = audit(result)
    assert found.blocked == pytest.approx(sum(event.seconds for event in own))
    assert {cause.kind for cause in found.causes} >= {causes.BLOCKS, causes.CORES}
    assert f"the event loop waited {sum(event.seconds for event in others):.2f} s in all for a core" in str(found)


# Garbage


def _garbage() -> list[Any]:
    return [{"number": [number]} for number in range(250_000)]


def test_a_collection_right_after_a_hold_does_not_hide_who_was_held_up() -> None:
    kept = _garbage()

    async def first(state: State) -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(gc.collect)
        time.sleep(BLOCKS)

    async def second(state: State) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # so that its turn comes after the collection's
        await asyncio.sleep(0)

    async def both() -> Any:
        return await beside(first, second).ainvoke({"log": []})

    result = asyncio.run(both())
    assert len(kept) == 250_000
    assert len(told(result)) == 1
    held_up = told(result, TaskHeldUp)
    assert len(held_up) == 1
    assert -0.001 < held_up[0].seconds - told(result)[0].seconds < HELD_FROM


async def is_behind_a_loop_that_loses_its_core(state: State) -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 4 * RIGHT_AFTER)  # nobody's slice, as when others have the core
    await asyncio.sleep(0)


async def comes_when_the_loop_has_rested(state: State) -> None:
    await asyncio.sleep(BLOCKS + 4 * RIGHT_AFTER)


def test_who_is_ready_when_the_loop_was_held_is_held_up_however_long_the_loop_takes_to_come_to_him(on: Any) -> None:
    result = on(beside(blocks, is_behind_a_loop_that_loses_its_core).ainvoke({"log": []}))
    (late,), (by,) = told(result, TaskHeldUp), told(result)
    assert late.task != by.task
    assert late.seconds == pytest.approx(BLOCKS, rel=0.1)


def test_who_becomes_ready_when_the_loop_has_rested_since_is_not_held_up(on: Any) -> None:
    assert told(on(beside(blocks, comes_when_the_loop_has_rested).ainvoke({"log": []})), TaskHeldUp) == []


async def sleeps_until_others_than_tasks_have_the_loop(state: State) -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 8 * RIGHT_AFTER)
    await asyncio.sleep(BLOCKS + 4 * RIGHT_AFTER)


async def sleeps_for_half_of_a_hold(state: State) -> None:
    await asyncio.sleep(BLOCKS / 2)


def test_who_still_slept_when_the_loop_was_held_is_not_held_up(on: Any) -> None:
    result = on(beside(sleeps_until_others_than_tasks_have_the_loop, blocks).ainvoke({"log": []}))
    (by,) = told(result)
    assert {event.task for event in told(result, TaskHeldUp)} <= {by.task}, "who may have waited for his first turn"


def test_who_slept_while_the_loop_was_held_is_held_up_from_when_he_was_to_wake_up(on: Any) -> None:
    (late,) = told(on(beside(sleeps_for_half_of_a_hold, blocks).ainvoke({"log": []})), TaskHeldUp)
    assert 0.8 * BLOCKS / 2 < late.seconds < BLOCKS / 2 + HELD_FROM


def test_who_sleeps_beside_a_task_that_never_lets_the_loop_rest_is_held_up_by_its_last_slices_alone(on: Any) -> None:
    async def holds_again_and_again(state: State) -> None:
        for _ in range(10):
            time.sleep(2 * HELD_FROM)
            await asyncio.sleep(0)

    async def sleeps(state: State) -> None:
        await asyncio.sleep(13 * HELD_FROM)

    result = on(beside(sleeps, holds_again_and_again).ainvoke({"log": []}))
    assert len(told(result)) == 10
    assert sum(event.seconds for event in told(result, TaskHeldUp)) < 8 * HELD_FROM  # and not all its 13


async def sleeps_for_next_to_nothing(state: State) -> None:
    await asyncio.sleep(0.0002)


def test_who_slept_for_next_to_nothing_while_the_loop_was_held_is_held_up_for_all_of_it(on: Any) -> None:
    (late,) = told(on(beside(sleeps_for_next_to_nothing, blocks).ainvoke({"log": []})), TaskHeldUp)
    assert 0.9 * BLOCKS < late.seconds < BLOCKS + HELD_FROM


def test_what_others_than_tasks_do_between_two_holds_is_not_told_as_held(on: Any) -> None:
    async def holds_and_holds(state: State) -> None:
        await asyncio.sleep(0)
        time.sleep(BLOCKS)
        asyncio.get_running_loop().call_soon(time.sleep, 3 * BLOCKS)
        await asyncio.sleep(0)
        time.sleep(BLOCKS)

    async def waits(state: State) -> None:
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(BLOCKS / 2, ready.set_result, None)
        await ready

    result = on(beside(waits, holds_and_holds).ainvoke({"log": []}))
    held, late = (sum(event.seconds for event in told(result, kind)) for kind in (LoopHeld, TaskHeldUp))
    assert 0.9 * BLOCKS < late < 1.1 * held


def test_who_still_sleeps_when_the_loop_has_ended_is_given_up_in_peace() -> None:
    watch, ended = LoopWatch(), []

    async def sleeps() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            ended.append("closed")

    work = awaits(watch.timed(lambda _: None, "a", sleeps()))

    async def begins() -> None:
        work.send(None)

    asyncio.run(begins())
    now = time.monotonic()
    watch.held(lambda _: None, "b", now, now + BLOCKS)
    work.close()
    assert ended == ["closed"]


def test_a_loop_that_ends_while_its_rounds_are_counted_leaves_the_next_one_alone(monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("fanfold.watchdog.clock", lambda: now[0])
    post = Post()

    async def holds() -> None:
        post.held(now[0], now[0] + BLOCKS, "a")
        assert post.follows(now[0] + 10.0)

    async def comes_later() -> None:
        assert not post.follows(now[0] + 10.0)
        post.held(now[0] + 20.0, now[0] + 20.0 + BLOCKS, "b")
        assert post.follows(now[0] + 30.0)
        for _ in range(ROUNDS + 1):
            await asyncio.sleep(0)
        assert not post.follows(now[0] + 30.0)

    ended = asyncio.new_event_loop()
    try:
        ended.run_until_complete(holds())
        asyncio.run(comes_later())
    finally:
        ended.close()


def test_a_collection_within_a_slice_is_told_apart_from_its_code() -> None:
    kept = _garbage()

    async def collects(state: State) -> None:
        time.sleep(BLOCKS)  # besides
        gc.collect()

    held = told(beside(collects).invoke({"log": []}))
    assert len(kept) == 250_000
    assert [event.function.rpartition(".")[2] for event in held] == ["garbage collection", "collects"]
    assert held[1].seconds == pytest.approx(BLOCKS, rel=0.25)
    assert held[0].file == ""


# Locks


def test_who_stands_behind_a_lock_is_told_for_as_long_as_it_did(on: Any) -> None:
    async def run() -> Any:
        lock, few = asyncio.Lock(), asyncio.Semaphore(1)

        async def locks(state: State) -> None:
            async with lock:  # all of them
                await asyncio.sleep(0.04)

        async def counts(state: State) -> None:
            async with few:
                await asyncio.sleep(0.04)

        return await beside(locks, locks, locks, counts, counts).ainvoke({"log": []})

    blocked = told(on(run()), TaskBlocked)
    assert sorted(event.on for event in blocked) == ["lock", "lock", "semaphore"]
    waited = sorted(event.seconds for event in blocked if event.on == "lock")
    assert 0.03 < waited[0] < waited[1]
    assert waited[1] > 0.07
    assert {event.line for event in blocked if event.on == "lock"} == {line_of("all of them")}


def test_nothing_is_told_of_a_lock_that_was_free() -> None:
    async def locks(state: State) -> None:
        async with asyncio.Lock():
            await asyncio.sleep(0.04)

    assert told(beside(locks, locks).invoke({"log": []}), TaskBlocked) == []


# The thread


FORKS = """
import os, sys, time
from typing import TypedDict
from fanfold import START, StateGraph
from fanfold.events import LoopHeld
from fanfold.watchdog import WATCHDOG

class State(TypedDict, total=False):
    log: list

async def blocks(state):
    time.sleep(0.1)

graph = StateGraph(State).add_node("n", blocks).add_edge(START, "n").compile()
graph.invoke({"log": []})
WATCHDOG._lock.acquire()  # as its own thread may have just then
child = os.fork()
if child == 0:
    result = graph.invoke({"log": []})
    print([event.function for event in result.run.events if isinstance(event, LoopHeld)], flush=True)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_was_forked_has_a_watchdog_of_its_own() -> None:
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "['blocks']", said.stderr


def test_runs_share_one_thread_which_ends_when_there_are_none_and_leave_no_callback_behind() -> None:
    def thread() -> threading.Thread | None:
        return next((one for one in threading.enumerate() if one.name == "fanfold-watchdog"), None)

    before = list(gc.callbacks)
    beside(writes).invoke({"log": []})
    first = thread()
    beside(writes).invoke({"log": []})
    assert first is not None
    assert thread() is first
    assert gc.callbacks == before
    assert WATCHDOG._posts == {}
    first.join(IDLE + 5)
    assert not first.is_alive()
    heard: list[Event] = []
    beside(blocks).invoke({"log": []}, on_event=heard.append)
    assert [event.line for event in heard if isinstance(event, LoopHeld)] == [line_of("the culprit")]
