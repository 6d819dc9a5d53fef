"""How many at once: slots hold a run to its limit, in turn, and lose none on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.limits import Limits, Pair, Slots


async def _settled() -> None:
    """Let everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def takers(slots: Slots, number: int) -> list[asyncio.Task[bool]]:
    return [asyncio.create_task(slots.take()) for _ in range(number)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match=f"max_concurrency is {limit}; it must be at least 1"):
        Limits(limit)


def test_without_a_limit_nobody_waits_and_the_peak_is_known() -> None:
    async def main() -> None:
        slots = Slots(None)
        assert [await slots.take() for _ in range(100)] == [False] * 100
        for _ in range(100):
            slots.give()
        assert (slots.held, slots.peak, slots.waits) == (0, 100, 0)

    asyncio.run(main())


def test_slots_go_to_whoever_has_waited_longest() -> None:
    async def main() -> None:
        slots = Slots(1)
        first, *others = takers(slots, 5)
        await _settled()
        assert first.result() is False
        for other in others:
            assert not other.done()
            slots.give()
            await _settled()
            assert other.result() is True
        assert (slots.held, slots.peak, slots.waits) == (1, 1, 4)

    asyncio.run(main())


def test_nobody_passes_those_who_wait() -> None:
    async def main() -> None:
        slots = Slots(1)
        assert slots.take_nowait()
        waiting = asyncio.create_task(slots.take())
        await _settled()
        slots.give()  # it is the waiting one's from here on, although that has not heard of it yet
        assert not slots.take_nowait()
        assert await waiting

    asyncio.run(main())


def test_a_waiter_that_is_cancelled_is_passed_over() -> None:
    async def main() -> None:
        slots = Slots(1)
        _, second, third = takers(slots, 3)
        await _settled()
        second.cancel()
        await _settled()
        slots.give()
        assert await third
        slots.give()
        assert slots.held == 0

    asyncio.run(main())


def test_a_waiter_that_is_cancelled_after_its_turn_came_gives_its_turn_on() -> None:
    async def main() -> None:
        slots = Slots(1)
        _, second, third = takers(slots, 3)
        await _settled()
        slots.give()
        second.cancel()
        await _settled()
        assert second.cancelled()
        assert await third
        assert slots.held == 1

    asyncio.run(main())


def test_a_slot_that_is_given_back_while_a_waiter_is_being_cancelled_is_not_lost() -> None:
    async def main() -> None:
        slots = Slots(1)
        _, second, third = takers(slots, 3)
        await _settled()
        second.cancel()
        slots.give()
        await _settled()
        assert second.cancelled()
        assert third.done()
        assert slots.held == 1

    asyncio.run(main())


class Line:
    """People who take slots, wait, give up and give back, in any order; and what must hold all along."""

    def __init__(self, limit: int) -> None:
        self.slots = Slots(limit)
        self.limit = limit
        self.takers: list[asyncio.Task[bool]] = []
        self.holding: list[int] = []
        self.waited: list[int] = []

    async def _taken(self, number: int) -> bool:
        waited = await self.slots.take()
        self.holding.append(number)
        if waited:
            self.waited.append(number)
        return waited

    def take(self) -> None:
        self.takers.append(asyncio.create_task(self._taken(len(self.takers))))

    def give(self) -> None:
        if self.holding:
            self.holding.pop(0)
            self.slots.give()

    def cancel(self, number: int) -> None:
        if self.takers:
            self.takers[number % len(self.takers)].cancel()

    def check(self) -> None:
        assert len(self.holding) <= self.slots.held <= self.slots.peak <= self.limit
        assert self.waited == sorted(self.waited)

    async def drained(self) -> None:
        await _settled()
        while self.holding:
            self.give()
            await _settled()
            self.check()


deeds = st.one_of(st.just("take"), st.just("take"), st.just("give"), st.just("tick"), st.integers(0, 30))


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 4), st.lists(deeds, max_size=40))
def test_slots_are_never_more_than_the_limit_and_everybody_who_stays_gets_one_in_turn(
    limit: int, script: list[Any]
) -> None:
    async def main() -> None:
        line = Line(limit)
        for deed in script:
            if deed == "tick":
                await asyncio.sleep(0)
            elif isinstance(deed, int):
                line.cancel(deed)
            else:
                getattr(line, deed)()
            line.check()
        await line.drained()
        assert line.slots.held == 0
        assert all(taker.cancelled() or taker.result() in (True, False) for taker in line.takers)

    asyncio.run(main())


def test_who_waits_for_one_of_its_kind_holds_back_nobody_else() -> None:
    async def main() -> None:
        common, own = Slots(2), Slots(1)
        pair = Pair("'painter'", own, common)
        assert await pair.take() == ""
        second = asyncio.create_task(pair.take())
        await _settled()
        assert not second.done()
        assert common.take_nowait()  # nobody of the kind that is full stands in the way
        pair.give()
        await _settled()
        assert second.result() == "limit 1 of 'painter'"
        third = asyncio.create_task(pair.take())
        await _settled()
        pair.give()
        assert common.take_nowait()
        await _settled()
        assert not third.done()
        third.cancel()  # it has a slot of its kind, and waits for a common one
        await _settled()
        assert (own.held, common.held) == (0, 2)

    asyncio.run(main())
