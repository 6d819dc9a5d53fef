"""What is queued can be waited for from threads and from event loops."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import pytest

from fanfold.errors import StoreError
from fanfold.store.ticket import Ticket, settle

P = ParamSpec("P")


async def waiting(tickets: list[Ticket[str]]) -> list[asyncio.Task[str]]:
    """Tasks that wait for these tickets, each at its place."""

    async def wait(ticket: Ticket[str]) -> str:
        return await ticket

    tasks = [asyncio.create_task(wait(ticket)) for ticket in tickets]
    await asyncio.sleep(0)
    return tasks


def elsewhere(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@in_a_loop
async def test_all_who_wait_in_a_loop_are_woken_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    loop = asyncio.get_running_loop()
    plain = loop.call_soon_threadsafe
    tickets = [Ticket[str]() for _ in range(64)]
    tasks = await waiting(tickets)
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (calls.append(call), plain(*call)))

    elsewhere(lambda: settle(tickets, [f"{number}" for number in range(64)]))
    assert await asyncio.gather(*tasks) == [f"{number}" for number in range(64)]
    assert len(calls) == 1


@in_a_loop
async def test_who_waits_is_told_of_what_went_wrong() -> None:
    ticket = Ticket[str]()
    (task,) = await waiting([ticket])
    settle([ticket], [StoreError("no room")])
    with pytest.raises(StoreError, match="no room"):
        await task
    with pytest.raises(StoreError, match="no room"):
        await ticket  # also who comes late


@in_a_loop
async def test_a_ticket_that_is_settled_by_itself_wakes_who_waits_for_it() -> None:
    kept, lost = Ticket[str](), Ticket[str]()
    first, second = await waiting([kept, lost])
    elsewhere(lambda: (kept.set_result("kept"), lost.set_exception(StoreError("no room"))))
    assert await first == "kept"
    with pytest.raises(StoreError, match="no room"):
        await second


@in_a_loop
async def test_who_stops_waiting_takes_nothing_back() -> None:
    ticket = Ticket[str]()
    first, second = await waiting([ticket, ticket])
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert not ticket.cancelled()
    settle([ticket], ["kept"])
    assert await second == "kept"


def test_a_loop_that_is_closed_is_not_woken_and_the_others_are() -> None:
    ticket = Ticket[str]()

    async def leave() -> None:
        await waiting([ticket])

    with asyncio.Runner() as runner:
        runner.run(leave())

    async def stay() -> str:
        (task,) = await waiting([ticket])
        elsewhere(lambda: settle([ticket], ["kept"]))
        return await task

    assert asyncio.run(stay()) == "kept"
