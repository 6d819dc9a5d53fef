"""What may be spent in all: never more, save what one call takes more than its own estimate; and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.errors import BudgetError
from fanfold.limits.budget import Account, Budget
from fanfold.limits.meter import Meter
from tests.limits.timeless import run


class _House:
    """Agents that each make some calls; those that wait for the budget do not work."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = accounts
        self.working = 0
        self.budget = Budget(lambda: self.working == 0)
        self.refused = 0

    def wakes(self) -> None:
        self.working += 1

    async def agent(self, calls: list[tuple[float, float, float, bool]]) -> None:
        """Make calls, each with its estimate, what it takes, how long, and whether it is given back."""
        self.working += 1
        try:
            for estimate, taken, lasts, given_back in calls:
                parts = [(account, 1.0 if account.name == "calls" else estimate) for account in self.accounts]
                if not self.budget.reserve_nowait(parts):
                    self.working -= 1
                    await self.budget.reserve(parts, self.wakes)
                await asyncio.sleep(lasts)
                actual = [1.0 if account.name == "calls" else taken for account in self.accounts]
                self.budget.settle(parts, None if given_back else actual)
        except BudgetError:
            self.refused += 1
        finally:
            self.working -= 1
            self.budget.look()


call = st.tuples(st.floats(0.1, 50.0), st.floats(0.0, 1.0), st.floats(0.0, 3.0), st.booleans()).map(
    lambda drawn: (drawn[0], drawn[0] * 2 * drawn[1], drawn[2], drawn[3])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(call, max_size=5), max_size=8), st.floats(0.0, 300.0), st.integers(0, 12))
def test_tokens_are_exceeded_by_one_calls_error_at_most_and_calls_never(
    agents: list[list[tuple[float, float, float, bool]]], tokens: float, calls: int
) -> None:
    house = _House(Account("tokens", tokens), Account("calls", calls, exact=True))

    async def main() -> None:
        await asyncio.gather(*map(house.agent, agents))

    run(main())
    by_tokens, by_calls = house.accounts
    error = max((taken - estimate for each in agents for estimate, taken, _, _ in each), default=0.0)
    assert by_tokens.spent <= tokens + max(0.0, error) + 1e-6
    assert by_calls.spent <= calls
    assert by_tokens.holders == by_calls.holders == 0
    assert by_tokens.reserved == by_calls.reserved == 0
    if not house.refused:
        assert by_calls.spent == sum(not given_back for each in agents for _, _, _, given_back in each)


def test_who_needs_more_than_is_left_waits_for_what_others_may_give_back() -> None:
    house = _House(Account("tokens", 10.0))

    async def main() -> None:
        await asyncio.gather(house.agent([(9.0, 1.0, 1.0, False)]), house.agent([(9.0, 1.0, 1.0, False)]))

    run(main())
    assert (house.refused, house.accounts[0].spent) == (0, 2.0)


def test_who_needs_more_than_is_left_is_refused_only_when_nobody_works_any_more() -> None:
    house, ended = _House(Account("calls", 1.0, exact=True)), list[str]()

    async def worker() -> None:
        house.working += 1
        await house.agent([(1.0, 1.0, 1.0, False)])
        await asyncio.sleep(5.0)  # it makes something of the answer
        ended.append("worker")
        house.working -= 1
        house.budget.look()

    async def late() -> None:
        await house.agent([(1.0, 1.0, 1.0, False)])
        ended.append("late")

    async def main() -> None:
        await asyncio.gather(worker(), late())

    run(main())
    assert (house.refused, ended) == (1, ["worker", "late"])


def _nobody() -> None:
    """Nobody keeps count of who waits."""


def test_memory_that_cannot_be_had_even_alone_is_refused_at_once_and_other_memory_is_waited_for() -> None:
    async def main() -> list[str]:
        account, ended = Account("memory_mb", 100.0, lent=True), list[str]()
        budget = Budget(lambda: False)
        with pytest.raises(BudgetError, match="an agent of 101 memory_mb finds no room in the run's 100"):
            await budget.reserve([(account, 101.0)], _nobody)

        async def process(name: str) -> None:
            await budget.reserve([(account, 60.0)], _nobody)
            await asyncio.sleep(1.0)
            ended.append(name)
            budget.settle([(account, 60.0)], None)

        await asyncio.gather(*map(process, "abc"))
        assert (account.peak, account.spent, account.reserved) == (60.0, 0.0, 0.0)
        return ended

    assert run(main()) == ["a", "b", "c"]


def test_seconds_are_those_of_all_who_work_added_up() -> None:
    async def main() -> tuple[float, list[str]]:
        meter, stopped = Meter(Account("seconds", 10.0, exact=True)), list[str]()
        for who in ("a", "b"):
            meter.start(who, lambda who=who: stopped.append(who))  # type: ignore[misc]
        await asyncio.sleep(2.0)
        meter.end("b")  # 4 are gone
        await asyncio.sleep(5.9)
        assert not stopped
        await asyncio.sleep(0.2)
        return meter.account.spent, stopped

    spent, stopped = run(main())
    assert stopped == ["a"]
    assert spent == pytest.approx(10.0, abs=0.1)
