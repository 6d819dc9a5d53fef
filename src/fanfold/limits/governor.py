"""What holds a run, and everything inside of it, to its limits.

There is one governor for a run, and one inside of it for each graph in it that has limits of its own: what is taken
from that is taken from those around it, too. Each agent at work has a `Desk`, at which it asks for what it needs. So it
is known of each whether it works, waits for a budget, or rests while agents work that it has called. When none works,
nobody will give anything back, so whoever waits for a budget then is told that it is spent.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, TypeAlias

from fanfold.errors import BudgetError, ModelCutError, ModelError, ModelOverloadedError, ModelRateError
from fanfold.events import (
    Event,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    ProgramSeen,
    TaskWaited,
    TaskWaiting,
    ToolAnswered,
)
from fanfold.limits.budget import Account, Budget, Parts, lacking
from fanfold.limits.gate import Gate, Ticket
from fanfold.limits.meter import Meter
from fanfold.limits.slots import Slots
from fanfold.limits.values import Limits, Report, least, reported

PAUSE: Final = 1.0
"""Seconds for which a model is left alone that says it is asked too often, and not for how long."""

EXPECTED: Final[Mapping[str, float]] = {"tokens": 1000.0, "usd": 0.01}
"""What a call is thought to take while nobody says, and none has ended yet."""

Ask: TypeAlias = Callable[[str, str, str], Awaitable[str]]
"""Calls an agent by its name, with a prompt and a description, and gives what it answers."""

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
        if slots is not None and limits.governs:
            slots.line.look = self.look
        self._waits: dict[str, dict[str, float]] = {}
        self._waited: dict[str, int] = {}

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
        desks = self._root._desks.values()
        return all(desk.idle for desk in desks) or self._root._stuck(desks)

    def _stuck(self, desks: Iterable[Desk]) -> bool:
        """Whether somebody waits for a slot, and whoever has one waits for a budget."""
        slots = self._slots
        return slots is not None and slots.line.length > 0 and slots.held == sum(desk.holds_up for desk in desks)

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

    def waited(self, name: str, who: str, seconds: float) -> None:
        """Somebody has waited for one of the budgets."""
        root = self._root
        waits = root._waits.setdefault(name, {})
        waits[who] = waits.get(who, 0.0) + seconds
        root._waited[name] = root._waited.get(name, 0) + 1

    def left(self, name: str) -> float | None:
        """How much of a budget could be reserved now; None when there is no such budget."""
        accounts = [governor._accounts[name] for governor in self.chain() if name in governor._accounts]
        return min((max(0.0, a.limit - a.spent - a.reserved) for a in accounts), default=None)

    def reports(self, place: str = "") -> list[Report]:
        """What this governor's limits were, and how close the run, or the graph of this `place`, came to them."""
        accounts = [*self._accounts.values(), *([] if self._meter is None else [self._meter.account])]
        accounts += [] if self._memory is None else [self._memory]
        mine = [
            reported(f"{a.name}{place}", a.limit, a.peak, self._waited.get(a.name, 0), self._waits.get(a.name, {}))
            for a in accounts
        ]
        return [*(gate.report() for gate in self.gates.values()), *mine]

    def close(self) -> None:
        """The run is over."""
        for gate in self.gates.values():
            gate.close()


class Desk:
    """Where one agent at work asks for what it needs of its run."""

    def __init__(
        self,
        governor: Governor,
        task: str,
        who: str,
        emit: Callable[[Event], None],
        *,
        stop: Callable[[], None],
        ask: Ask,
        above: Desk | None,
        holds: Callable[[], bool],
    ) -> None:
        self.depth: int = 1 if above is None else above.depth + 1
        self._ask = ask
        self._governor = governor
        self._task = task
        self._who = who
        self._emit = emit
        self._stop = stop
        self._above = above
        self._holds = holds
        self._waiting: set[object] = set()
        self._resting = 0
        self._seated = 0  # how many of the agents that it has called are at desks of their own

    @property
    def idle(self) -> bool:
        """Whether the agent waits for a budget, or for agents that it has called and that are at work.

        One that it has called and that is not at work yet, or not any more, does not wait: the agent will go on.
        """
        return bool(self._waiting) or 0 < self._resting == self._seated

    @property
    def holds_up(self) -> bool:
        """Whether the agent waits for a budget in a slot that somebody else could have."""
        return bool(self._waiting) and self._holds()

    def sit_down(self) -> None:
        """The agent begins; whoever has called it now waits for what it does here."""
        if self._above is not None:
            self._above._seated += 1
        self.work()

    def stand_up(self) -> None:
        """The agent has ended; whoever has called it will go on."""
        self.halt()
        if self._above is not None:
            self._above._seated -= 1

    def work(self) -> None:
        """The agent works from now on: its seconds count."""
        for meter in self._governor.meters():
            meter.start(self, self._stop)

    def halt(self) -> None:
        """The agent does not work from now on."""
        for meter in self._governor.meters():
            meter.end(self)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The agent waits for one that it has called."""
        self._resting += 1
        if self._resting == 1:
            self.halt()
        self._governor.look()
        try:
            yield
        finally:
            self._resting -= 1
            if not self._resting:
                self.work()

    async def task(self, name: str, prompt: str, description: str = "") -> str:
        """What the agent of that name answers, framed as what a model wrote."""
        return await self._ask(name, prompt, description)

    def retried(self, model: str, error: Exception, seconds: float) -> None:
        """Tell those who watch the run that a model is asked again in so many seconds, and why."""
        text = str(error).partition("\n")[0]
        self._emit(ModelRetried(time.monotonic(), self._task, model, text, seconds))

    def notice(self, text: str) -> None:
        """Tell those who watch the run what a person should know."""
        self._emit(Noticed(time.monotonic(), text, self._task))

    @contextmanager
    def using(self, tool: str) -> Iterator[None]:
        """Around one call of a tool: how long that took is told."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._emit(ToolAnswered(ended, self._task, tool, ended - began))

    def saw(self, processes: int, cpu: float) -> None:
        """Tell how many processes the operating system sees of the agent's program, and what they used of a core."""
        self._emit(ProgramSeen(time.monotonic(), self._task, processes, cpu))

    def calls_left(self) -> int | None:
        """How many calls of models could be reserved now; None when they are not limited."""
        left = self._governor.left("calls")
        return None if left is None else int(left)

    @asynccontextmanager
    async def asking(
        self, model: str, *, calls: int = 1, tokens: float = 0.0, usd: float = 0.0
    ) -> AsyncIterator[Asking]:
        """One request to a model, or a whole program that makes several; when it may begin.

        What it will take is reserved: `tokens` and `usd` are estimates, and where they are 0 they are made from the
        calls before. What is in flight when it ends by an error has been taken, unless the model's server refused it.
        Raises `BudgetError` when there is too little left.
        """
        governor = self._governor
        asked = governor.amounts(model, {"calls": float(calls), "tokens": tokens, "usd": usd})
        parts = governor.parts(asked)
        if parts:
            await self._reserved(governor._root.budget, parts, "the budget of")
        asking = Asking(governor.gate(model), asked)
        try:
            async with self._through(asking):
                self._emit(ModelAsked(time.monotonic(), self._task, model))
                yield asking
        finally:
            if asking.taken is not None:
                governor.learn(model, asking.taken)
            elif asking.in_flight:
                self._emit(ModelLost(time.monotonic(), self._task, model, calls, asked["tokens"], asked["usd"]))
            governor._root.budget.settle(parts, self._actual(parts, asking))

    @asynccontextmanager
    async def process(self, megabytes: float) -> AsyncIterator[None]:
        """Room for a process of that size in the run's memory. Raises `BudgetError` when there will be none."""
        parts = self._governor.rooms(megabytes)
        if not parts:
            yield
            return
        memory = self._governor._root.memory
        await self._reserved(memory, parts, "room in")
        try:
            yield
        finally:
            memory.settle(parts, None)

    @asynccontextmanager
    async def taking(self, slots: Slots, why: str) -> AsyncIterator[None]:
        """One of the slots, and the wait for it, which is told as one for `why`."""
        if not slots.take_nowait():
            with self._waits(why):
                await slots.take(self._who)
        try:
            yield
        finally:
            slots.give()

    async def _reserved(self, budget: Budget, parts: Parts, why: str) -> None:
        if budget.reserve_nowait(parts):
            return
        name, wait = lacking(parts)[0].name, object()
        self._waiting.add(wait)
        wake = partial(self._waiting.discard, wait)
        try:
            with self._waits(f"{why} {name}", partial(self._governor.waited, name, self._who)):
                self._governor.look()
                await budget.reserve(parts, wake)
        finally:
            wake()

    @asynccontextmanager
    async def _through(self, asking: Asking) -> AsyncIterator[None]:
        """Through the model's gate, and out again."""
        gate = asking.gate
        ticket = gate.enter_nowait()
        if ticket is None:
            with self._waits(gate.why, partial(gate.has_waited, self._who)):
                ticket = await gate.enter()
        asking.ticket, asking.in_flight, asking.inside = ticket, True, True
        try:
            yield
        except (ModelRateError, ModelOverloadedError) as error:
            asking.refused(error.retry_after)
            asking.in_flight = False
            raise
        except ModelCutError:
            raise
        except ModelError:
            asking.in_flight = False
            raise
        finally:
            if asking.inside:
                gate.leave()

    @contextmanager
    def _waits(self, why: str, tell: Callable[[float], None] | None = None) -> Iterator[None]:
        """While the agent waits for something; that is told when it begins, and when it ends, to the limiter, too."""
        began = time.monotonic()
        self._emit(TaskWaiting(began, self._task, why))
        try:
            yield
        finally:
            ended = time.monotonic()
            if tell is not None:
                tell(ended - began)
            self._emit(TaskWaited(ended, self._task, why, ended - began))

    def _actual(self, parts: Parts, asking: Asking) -> Sequence[float] | None:
        if asking.taken is not None:
            return [asking.taken[account.name] for account, _ in parts]
        return [amount for _, amount in parts] if asking.in_flight else None


class Asking:
    """One request to a model, or what a program asks of one. `taken` is what it took, once it is known."""

    def __init__(self, gate: Gate, asked: Mapping[str, float]) -> None:
        self.gate = gate
        self.ticket: Ticket | None = None
        self.taken: dict[str, float] | None = None
        self.input_tokens = self.output_tokens = 0
        self.usd: float | None = None
        self.in_flight = False
        self.inside = False
        self._lent = 0
        self._calls = asked["calls"]

    def answered(
        self, input_tokens: int, output_tokens: int, usd: float | None = None, calls: int | None = None
    ) -> None:
        """The model has answered, and that is what it took; `calls` where it was asked otherwise than expected."""
        self.input_tokens, self.output_tokens, self.usd = input_tokens, output_tokens, usd
        self.taken = {
            "calls": self._calls if calls is None else float(calls),
            "tokens": float(input_tokens + output_tokens),
            "usd": usd or 0.0,
        }

    def refused(self, retry_after: float | None) -> None:
        """The model's server said that it is asked too often: nobody asks it for so many seconds."""
        assert self.ticket is not None, "it has gone through the gate"
        self.gate.refused(self.ticket, PAUSE if retry_after is None else retry_after)
        self.ticket = self.gate.ticket()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """While a program that asks by itself waits for an agent that it has called: others may ask in its place.

        That agent may be one of them, and would wait for ever.
        """
        self._lent += 1
        if self.inside:
            self.inside = False
            self.gate.leave()
        try:
            yield
        finally:
            self._lent -= 1
            if not self._lent:
                await self._back()

    async def _back(self) -> None:
        """Through the gate again, unless the program calls somebody meanwhile, or is back already."""
        ticket = self.gate.enter_nowait() or await self.gate.enter()
        if self._lent or self.inside:
            self.gate.leave()
        else:
            self.ticket, self.inside = ticket, True
