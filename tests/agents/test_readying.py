"""Many agents at once: they get ready a few at a time, and the collector does not search all there is for each."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import START, AgentDefinition, StateGraph, Task
from fanfold.agents.backends.conversation import READYING, preparing
from fanfold.testing import ModelServer

WORKER = AgentDefinition("worker", "Works.", "Be one.", tools=())


class State(TypedDict, total=False):
    out: list[Any]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.chdir(tmp_path)
    with ModelServer() as server:
        yield server


def test_a_few_get_ready_at_a_time_and_the_next_as_soon_as_one_asks() -> None:
    asyncio.run(_few())


async def _few() -> None:
    inside: list[int] = []
    ready: dict[int, Any] = {}
    end = asyncio.Event()

    async def agent(number: int) -> None:
        async with preparing() as asks:
            inside.append(number)
            ready[number] = asks
            await end.wait()

    agents = [asyncio.create_task(agent(number)) for number in range(READYING + 2)]
    await _settle()
    assert inside == list(range(READYING))
    ready[0]()
    ready[0]()  # a second request of the same agent
    await _settle()
    assert inside == list(range(READYING + 1))
    end.set()
    await asyncio.gather(*agents)
    assert inside == list(range(READYING + 2))


def test_whoever_ends_before_it_asked_lets_the_next_get_ready() -> None:
    asyncio.run(_ending())


async def _ending() -> None:
    async def fails() -> None:
        async with preparing():
            raise LookupError

    async def waits() -> None:
        async with preparing():
            await asyncio.Event().wait()

    for _ in range(READYING):
        with pytest.raises(LookupError):
            await fails()
    cancelled = [asyncio.create_task(waits()) for _ in range(READYING + 2)]  # two of them in the line
    await _settle()
    for each in cancelled:
        each.cancel()
    await asyncio.wait(cancelled)
    async with asyncio.timeout(10), preparing(), preparing():
        pass


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _seen(server: ModelServer) -> list[tuple[int, int]]:
    """How many objects are frozen, and the threshold, whenever a piece of an answer is heard."""
    server.script("worker", ["one two three"])
    seen: list[tuple[int, int]] = []

    async def node(state: State) -> State:
        return {"out": [str(await Task(subagent_type="worker", prompt="Go."))]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    for _ in graph.stream({}, agents=[WORKER], model=server, stream_mode="messages"):
        seen.append((gc.get_freeze_count(), gc.get_threshold()[0]))
    return seen


def test_what_was_there_before_is_searched_again_when_the_last_agent_has_ended(server: ModelServer) -> None:
    _seen(server)  # imports
    before = gc.get_threshold()
    while_asking = _seen(server)
    assert while_asking
    assert while_asking[0][0] > 0
    assert while_asking[0][1] > before[0]
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


def test_a_process_that_froze_objects_of_its_own_keeps_them_frozen(server: ModelServer) -> None:
    before = gc.get_threshold()
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        assert {threshold for _, threshold in _seen(server)} == {before[0]}
        assert gc.get_freeze_count() >= frozen // 2  # some have been let go of
    finally:
        gc.unfreeze()


def test_a_collector_that_is_switched_off_stays_off(server: ModelServer) -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        assert {threshold for _, threshold in _seen(server)} == {0}
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
