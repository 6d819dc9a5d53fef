"""The gate of a model: a refusal holds back all who ask it, and fewer ask at once afterwards; none is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanfold.limits.gate import Gate
from tests.limits.timeless import run


async def _asked(gate: Gate, seconds: float = 1.0, log: list[float] | None = None) -> None:
    await gate.enter()
    if log is not None:
        log.append(asyncio.get_running_loop().time())
    await asyncio.sleep(seconds)
    gate.leave()


def test_a_refusal_with_a_time_holds_back_everybody_for_that_time() -> None:
    async def main() -> list[float]:
        gate, log = Gate("m", None), list[float]()
        ticket = await gate.enter()
        gate.refused(ticket, 7.0)
        gate.leave()
        await asyncio.gather(*(_asked(gate, 0.0, log) for _ in range(5)))
        return log

    assert min(run(main())) >= 7.0


def test_after_a_refusal_half_of_those_that_were_in_flight_are_let_through_at_once() -> None:
    async def main() -> int:
        gate = Gate("m", None, quiet=1e6)
        tickets = [await gate.enter() for _ in range(8)]
        gate.refused(tickets[0], 1.0)
        for _ in tickets:
            gate.leave()
        gate.peak = 0
        await asyncio.gather(*(_asked(gate) for _ in range(20)))
        return gate.peak

    assert run(main()) == 4


def test_refusals_of_requests_that_were_in_flight_together_count_as_one() -> None:
    async def main() -> int | None:
        gate = Gate("m", None)
        tickets = [await gate.enter() for _ in range(8)]
        for ticket in tickets:
            gate.refused(ticket, 1.0)
        return gate.width

    assert run(main()) == 4


def test_with_each_quiet_window_one_more_is_let_through_until_all_are() -> None:
    async def main() -> tuple[list[int | None], int | None]:
        gate, seen = Gate("m", None, quiet=10.0), list[int | None]()
        tickets = [await gate.enter() for _ in range(4)]
        gate.refused(tickets[0], 5.0)
        for _ in tickets:
            gate.leave()
        for _ in range(3):
            await _asked(gate, 10.0)
            seen.append(gate.width)
        return seen, gate.narrowest

    seen, narrowest = run(main())
    assert seen == [2, 3, None]
    assert narrowest == 2


def test_a_users_limit_is_never_passed_and_is_seen_at_its_peak() -> None:
    async def main() -> Gate:
        gate = Gate("m", 3)
        await asyncio.gather(*(_asked(gate) for _ in range(20)))
        return gate

    gate = run(main())
    assert (gate.peak, gate.flying) == (3, 0)


@pytest.mark.parametrize("granted", [False, True])
def test_a_request_that_is_cancelled_while_it_waits_takes_no_place(granted: bool) -> None:
    async def main() -> int:
        gate = Gate("m", 1)
        await gate.enter()
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        if granted:
            gate.leave()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return gate.flying

    assert run(main()) == (0 if granted else 1)


@settings(max_examples=150, deadline=None)
@example([(0.0, 0.0, True), (0.0, 2.0, False), (1.0, 0.0, True), (2.0, 0.0, False), (1.0, 0.0, False)], None, 1.0)
@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.booleans()), min_size=1, max_size=12),
    st.none() | st.integers(1, 4),
    st.floats(0.0, 400.0),
)
def test_whoever_asks_is_let_through_and_never_while_the_gate_is_closed(
    requests: list[tuple[float, float, bool]], limit: int | None, pause: float
) -> None:
    async def one(gate: Gate, closed: list[float], begins: float, lasts: float, refused: bool) -> None:
        await asyncio.sleep(begins)
        ticket = await gate.enter()
        assert asyncio.get_running_loop().time() >= max(closed)
        await asyncio.sleep(lasts)
        if refused:
            gate.refused(ticket, pause)
            closed.append(asyncio.get_running_loop().time() + min(pause, 300.0) - 1e-6)
        gate.leave()

    async def main() -> Gate:
        gate, closed = Gate("m", limit), [0.0]
        await asyncio.gather(*(one(gate, closed, *request) for request in requests))
        return gate

    gate = run(main())
    assert gate.flying == 0
    assert limit is None or gate.peak <= limit
