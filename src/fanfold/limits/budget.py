"""What may be spent in all, or held at once: reserved before, settled after, and what was not used given back.

::

    reserve ──▶ reserved ──┬─▶ settle(actual)   spent
                           └─▶ settle(None)     as if it had not been
    waits, while others hold what it lacks and may give some of it back; when nobody can, it is refused

An estimate may be wrong, so a call that starts beside others leaves room for each of those to take twice what was
reserved for it. As long as none takes more than that, all that is spent exceeds the budget by no more than one call
takes more than its own estimate: the one that started last.

Memory is the same, but for its end: it is never spent, and all of it comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from fanfold.errors import BudgetError
from fanfold.limits.values import Report, reported

ROUNDING: Final = 1e-9
"""Amounts of money are sums of fractions."""


class Account:
    """One thing that may be spent, such as tokens, or that is `lent`, such as memory.

    `exact` is for what nobody takes more of than was reserved. `name` is that in `Limits`. `waits` counts how often
    somebody had to wait for it, and `waited` for how many seconds each of them.
    """

    __slots__ = ("exact", "holders", "lent", "limit", "name", "peak", "reserved", "spent", "waited", "waits")

    def __init__(self, name: str, limit: float, *, exact: bool = False, lent: bool = False, spent: float = 0.0) -> None:
        self.name = name
        self.limit = limit
        self.exact = exact or lent
        self.lent = lent
        self.spent = spent
        self.peak = spent
        self.reserved = 0.0
        self.holders = 0
        self.waits = 0
        self.waited: dict[str, float] = {}

    def fits(self, amount: float) -> bool:
        """Whether so much can be reserved now."""
        margin = 0.0 if self.exact else self.reserved
        return self.spent + self.reserved + margin + amount <= self.limit * (1 + ROUNDING)

    def reserve(self, amount: float) -> None:
        """Set so much aside."""
        self.reserved += amount
        self.holders += 1
        self.peak = max(self.peak, self.spent + self.reserved)

    def settle(self, reserved: float, actual: float | None) -> None:
        """A call has ended and has taken so much; None when it took nothing."""
        self.holders -= 1
        self.reserved = self.reserved - reserved if self.holders else 0.0
        if actual is not None:
            self.spent += actual
            self.peak = max(self.peak, self.spent + self.reserved)

    def has_waited(self, who: str, seconds: float) -> None:
        """Somebody has waited for it, for so long."""
        self.waits += 1
        self.waited[who] = self.waited.get(who, 0.0) + seconds

    def report(self, place: str = "") -> Report:
        """How close it came to its limit, which is that of a run, or of the graph of this `place`."""
        return reported(f"{self.name}{place}", self.limit, self.peak, self.waits, self.waited)

    def __str__(self) -> str:
        held = f", {amount(self.reserved)} reserved" if self.reserved else ""
        return f"{amount(self.spent)} of {amount(self.limit)} {self.name} spent{held}"

    def refusal(self, part: float) -> BudgetError:
        """The error for who cannot have so much any more."""
        if self.lent:
            return BudgetError(
                f"an agent of {amount(part)} {self.name} finds no room in the run's {amount(self.limit)}, of which"
                f" {amount(self.reserved)} are held by agents that wait themselves",
                hint=f"allow the run more: limits=Limits({self.name}=...), or declare how much this agent needs",
            )
        needed = "" if self.exact else f", and one more call may take {amount(part)}"
        return BudgetError(
            f"the run's budget is spent: {self}{needed}",
            hint=f"what has finished is kept; resume with more: invoke(None, ..., limits=Limits({self.name}=...))",
        )


Parts: TypeAlias = Sequence[tuple[Account, float]]
"""What one call sets aside of each account."""


class Budget:
    """Hands out what may be spent, in the order in which it was asked for. Used from one event loop.

    `idle` says whether all agents that are at work wait: then none of them will give anything back.
    """

    def __init__(self, idle: Callable[[], bool]) -> None:
        self._idle = idle
        self._line: deque[tuple[Parts, asyncio.Future[None], Callable[[], None]]] = deque()

    def reserve_nowait(self, parts: Parts) -> bool:
        """Set the parts aside, all or none, if they are there and nobody waits."""
        if self._line or not all(account.fits(amount) for account, amount in parts):
            return False
        _take(parts)
        return True

    def short(self, parts: Parts) -> list[Account]:
        """For which accounts whoever asks for the parts now has to wait: those that do not have theirs.

        Where all have, it waits for its turn: for those that whoever is first in line lacks.
        """
        first = self._line[0][0] if self._line else ()
        lacks = _short(parts) or [account for account in _short(first) if account in dict(parts)]
        return lacks or [parts[0][0]]

    async def reserve(self, parts: Parts, wake: Callable[[], None]) -> None:
        """Set the parts aside when it is their turn. Raises `BudgetError` when they cannot be had any more.

        `wake` is called as soon as the wait is over: before its code goes on, others may ask whether all agents wait.
        """
        for account, part in parts:
            if account.lent and part > account.limit:  # however long it waits
                raise account.refusal(part)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((parts, turn, wake))
        self.look()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(parts, None)  # they were ours already when the wait was cancelled
            else:
                wake()
                self.look()
            raise

    def settle(self, parts: Parts, actual: Sequence[float] | None) -> None:
        """The call has ended and has taken so much of each account; None when it took nothing."""
        for at, (account, amount) in enumerate(parts):
            account.settle(amount, None if actual is None else actual[at])
        self.look()

    def look(self) -> None:
        """Something has changed: let those go on who can, and refuse the first if nobody will give anything back."""
        while self._line:
            parts, turn, wake = self._line[0]
            if turn.done():  # its wait was cancelled
                self._line.popleft()
            elif all(account.fits(amount) for account, amount in parts):
                self._line.popleft()
                _take(parts)
                wake()
                turn.set_result(None)
            elif self._idle():
                self._line.popleft()
                account = _short(parts)[0]
                wake()
                turn.set_exception(account.refusal(dict(parts)[account]))
            else:
                return


def amount(number: float) -> str:
    """A number of something, as people write it."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4f}".rstrip("0")


def _short(parts: Parts) -> list[Account]:
    return [account for account, part in parts if not account.fits(part)]


def _take(parts: Parts) -> None:
    for account, part in parts:
        account.reserve(part)
