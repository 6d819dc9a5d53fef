"""What holds a run, and everything inside of it, to its limits.

There is one governor for a run, and one inside of it for each graph in it that has limits of its own: what is taken
from that is taken from those around it, too. Each agent at work has a `Desk`, at which it asks for what it needs. So it
is known of each whether it works, waits for a budget, or rests while agents work that it has called. When none works,
nobody will give anything back, so whoever waits for a budget then is told that it is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Final

from fanfold.errors import BudgetError
from fanfold.events import Event
from fanfold.limits.budget import Account, Budget
from fanfold.limits.desk import Ask, Desk
from fanfold.limits.gate import Gate
from fanfold.limits.holding import inside
from fanfold.limits.meter import Meter
from fanfold.limits.slots import Slots
from fanfold.limits.values import Limits, Report, least

EXPECTED: Final[Mapping[str, float]] = {"tokens": 1000.0, "usd": 0.01}
"""What a call is thought to take while nobody says, and none has ended yet."""

_SPENT: Final = ("calls", "tokens", "usd")


def _unheard(_: Event) -> None:
    """Outside of any run, nobody listens."""


class Governor:
    """Holds one run to `limits`, `within` those of the run around it. Used from one event loop.

    `spent` is what earlier sittings of the run have spent, by the names in `Limits`, and `slots` are those that all of
    its tasks take.
    """

    def __init__(
        self,
        limits: Limits,
        spent: Mapping[str, float] | None = None,
        within: Governor | None = None,
        slots: Slots | None = None,
    ) -> None:
        spent = spent or {}
        self.limits = limits
        self.within = within
        self._root: Governor = self if within is None else within._root
        self._accounts: dict[str, Account] = {
            name: Account(name, limit, exact=name == "calls", spent=spent.get(name, 0.0))
            for name in _SPENT
            if (limit := getattr(limits, name)) is not None
        }
        self._memory = None if limits.memory_mb is None else Account("memory_mb", limits.memory_mb, lent=True)
        self._meter = (
            None
            if limits.seconds is None
            else Meter(Account("seconds", limits.seconds, exact=True, spent=spent.get("seconds", 0.0)))
        )
        # What follows is the whole run's, and is used at the root only.
        self.budget = Budget(self.idle)
        self.memory = Budget(self.idle)
        self.gates: dict[str, Gate] = {}
        self._desks: dict[str, Desk] = {}
        self._largest: dict[tuple[str, str], float] = {}
        self._slots = slots
        if self._root._slots is not None and limits.governs:
            self._root._slots.line.look = self.look

    @contextmanager
    def desk(
        self,
        task: str,
        who: str,
        emit: Callable[[Event], None] = _unheard,
        *,
        stop: Callable[[], None],
        ask: Ask,
        above: Desk | None = None,
        holds: Callable[[], bool] = lambda: False,
    ) -> Iterator[Desk]:
        """The desk of one agent, from its beginning to its end.

        `stop` ends it when its time is up, `ask` calls another agent for it, `above` is the desk of the agent that has
        called it, and `holds` tells whether it has a slot just now.

        Raises `BudgetError` when there is no time left for it.
        """
        for governor in self.chain():
            if governor._meter is not None and governor._meter.spent:
                raise governor._meter.account.refusal(0.0)
        desk = Desk(self, task, who, emit, stop=stop, ask=ask, above=above, holds=holds)
        self._root._desks[task] = desk
        desk.sit_down()
        try:
            with inside(desk):
                yield desk
        finally:
            desk.stand_up()
            del self._root._desks[task]
            self._root.look()

    def at(self, task: str) -> Desk | None:
        """The desk of the agent that is this task, while it is at work."""
        return self._root._desks.get(task)

    def idle(self) -> bool:
        """Whether every agent that is at work waits for a budget, or for who does, or for slots of those who do."""
        root = self._root
        desks = root._desks.values()
        return all(desk.idle for desk in desks) or root._stuck(desks, root._slots)

    def _stuck(self, desks: Collection[Desk], slots: Slots | None) -> bool:
        """Whether whoever has a slot waits for a budget, and each of the other agents for a slot.

        An agent waits for one when something waits inside of it, such as a task of a graph that it has called. A graph
        that is between two steps has no task in any slot and none that waits: it goes on. So does who has got the slot
        of a graph, or of a kind, and is about to ask for the run's.
        """
        if slots is None or not slots.line.waiting or slots.line.called:
            return False
        if slots.held != sum(desk.holds_up for desk in desks):
            return False
        waits = set(chain.from_iterable(slots.line.waiting.values()))
        return all(desk.idle or (desk in waits and desk.keeps(waits)) for desk in desks)

    def look(self) -> None:
        """Fewer agents work than before: whoever waits for them to give something back may wait in vain."""
        self._root.budget.look()
        self._root.memory.look()

    def chain(self) -> Iterator[Governor]:
        """This governor and those around it."""
        governor: Governor | None = self
        while governor is not None:
            yield governor
            governor = governor.within

    def meters(self) -> list[Meter]:
        """What counts the seconds of agents here."""
        return [governor._meter for governor in self.chain() if governor._meter is not None]

    def depth(self) -> int | None:
        """How deep agents may call agents."""
        return least(*(governor.limits.depth for governor in self.chain()))

    def kind(self, name: str, same: Callable[[str], str]) -> int | None:
        """How many agents of that name may be at work at once; names are compared as `same` makes them."""
        limits = [
            limit
            for governor in self.chain()
            for named, limit in governor.limits.agents.items()
            if same(named) == same(name)
        ]
        return least(*limits)

    def out_of_time(self, name: str) -> BudgetError:
        """The error of an agent that was stopped because the run's seconds are spent."""
        account = next(meter.account for meter in self.meters() if meter.spent)
        return account.refusal(0.0)

    def gate(self, model: str) -> Gate:
        """The gate of a model, of which users name it, or its provider."""
        gates = self._root.gates
        if model not in gates:
            named = [governor.limits.models for governor in self._root.chain()]
            limits = [table.get(model, table.get(model.partition(":")[0])) for table in named]
            gates[model] = Gate(model, least(*limits))
        return gates[model]

    def parts(self, amounts: Mapping[str, float]) -> list[tuple[Account, float]]:
        """What a call sets aside of each account."""
        return [(account, amounts[name]) for governor in self.chain() for name, account in governor._accounts.items()]

    def amounts(self, model: str, asked: Mapping[str, float]) -> dict[str, float]:
        """What a call takes: what is asked for, or where that is 0, as much as the largest so far has taken."""
        largest = self._root._largest
        return {name: asked[name] or largest.get((model, name), EXPECTED.get(name, 0.0)) for name in _SPENT}

    def rooms(self, megabytes: float) -> list[tuple[Account, float]]:
        """What a process of that size takes of each memory budget that holds here."""
        return [(governor._memory, megabytes) for governor in self.chain() if governor._memory is not None]

    def learn(self, model: str, taken: Mapping[str, float]) -> None:
        """A call has taken so much."""
        largest = self._root._largest
        for name in EXPECTED:
            largest[model, name] = max(largest.get((model, name), 0.0), taken[name])

    def left(self, name: str) -> float | None:
        """How much of a budget could be reserved now; None when there is no such budget."""
        accounts = [governor._accounts[name] for governor in self.chain() if name in governor._accounts]
        return min((max(0.0, a.limit - a.spent - a.reserved) for a in accounts), default=None)

    def taken(self) -> dict[str, float]:
        """What is spent of each budget here, or set aside."""
        accounts = [*self._accounts.values(), *([] if self._meter is None else [self._meter.account])]
        return {account.name: account.spent + account.reserved for account in accounts}

    def reports(self, place: str = "") -> list[Report]:
        """What this governor's limits were, and how close the run, or the graph of this `place`, came to them."""
        accounts = [*self._accounts.values(), *([] if self._meter is None else [self._meter.account])]
        accounts += [] if self._memory is None else [self._memory]
        return [*(gate.report() for gate in self.gates.values()), *(account.report(place) for account in accounts)]
