"""Where an agent at work asks for what it needs of its run: a request to a model, room for a program, another agent.

An agent may do several things side by side. So a desk knows what of the run's budgets the agent **holds**, each of
which it may give back, and inside of which of them it waits, for a budget or for an agent that it has called. It works
as long as it holds something inside of which it does not wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeAlias

from fanfold.errors import ModelCutError, ModelError, ModelOverloadedError, ModelRateError
from fanfold.events import (
    Event,
    ModelAnswered,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    ProgramSeen,
    TaskWaited,
    TaskWaiting,
    ToolAnswered,
)
from fanfold.limits.budget import Budget, Parts
from fanfold.limits.gate import Gate, Ticket
from fanfold.limits.holding import Around, around, inside
from fanfold.limits.slots import Slots

if TYPE_CHECKING:
    from fanfold.limits.governor import Governor

PAUSE: Final = 1.0
"""Seconds for which a model is left alone that says it is asked too often, and not for how long."""

Ask: TypeAlias = Callable[[str, str, str], Awaitable[str]]
"""Calls an agent by its name, with a prompt and a description, and gives what it answers."""


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
        self._holding: set[object] = set()
        self._waiting: dict[object, Around] = {}  # each wait for a budget
        self._resting: dict[object, Around] = {}
        self._seated = 0  # how many of the agents that it has called are at desks of their own

    @property
    def idle(self) -> bool:
        """Whether all the agent does is to wait for a budget, or for agents that it has called and that are at work.

        One that it has called and that is not at work yet, or not any more, does not wait: the agent will go on.
        """
        waits = bool(self._waiting or self._resting)
        return waits and len(self._resting) == self._seated and self.keeps()

    @property
    def holds_up(self) -> bool:
        """Whether the agent waits for a budget in a slot that somebody else could have."""
        return bool(self._waiting) and self.keeps() and self._holds()

    def keeps(self, waits: Iterable[object] = ()) -> bool:
        """Whether the agent gives nothing back of what it holds before a wait ends inside of that.

        `waits` is what those are inside of that wait for slots.
        """
        own = chain.from_iterable((*self._waiting.values(), *self._resting.values()))
        return self._holding.issubset(chain(own, waits))

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
        rest = object()
        if not self._resting:
            self.halt()
        self._resting[rest] = around()
        self._governor.look()
        try:
            yield
        finally:
            del self._resting[rest]
            if not self._resting:
                self.work()
            if self._resting or self._waiting:
                # Unless it calls another one right away, what is left of its work may wait in vain.
                asyncio.get_running_loop().call_soon(self._governor.look)

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
        asking = Asking(governor.gate(model), asked, self._answered)
        await self._hold(asking, governor._root.budget, parts, "the budget of")
        try:
            with inside(asking):
                async with self._through(asking):
                    self._emit(ModelAsked(time.monotonic(), self._task, model))
                    yield asking
        finally:
            self._holding.discard(asking)
            # Nothing is awaited from here on: what is settled is told, whatever ends the request.
            if asking.taken is not None:
                asking.tell()
                governor.learn(model, asking.taken)
            elif asking.in_flight:
                self._emit(ModelLost(time.monotonic(), self._task, model, calls, asked["tokens"], asked["usd"]))
            governor._root.budget.settle(parts, self._actual(parts, asking))

    @asynccontextmanager
    async def process(self, megabytes: float) -> AsyncIterator[None]:
        """Room for a process of that size in the run's memory. Raises `BudgetError` when there will be none."""
        parts, memory, room = self._governor.rooms(megabytes), self._governor._root.memory, object()
        await self._hold(room, memory, parts, "room in")
        with self._room(room, parts):
            yield

    @contextmanager
    def spare(self, megabytes: float) -> Iterator[bool]:
        """Room for a process of that size, if there is any just now: whether there is."""
        parts, memory, room = self._governor.rooms(megabytes), self._governor._root.memory, object()
        if parts and not memory.reserve_nowait(parts):
            yield False
            return
        self._holding.add(room)
        with self._room(room, parts):
            yield True

    @contextmanager
    def _room(self, room: object, parts: Parts) -> Iterator[None]:
        """Around what is done in room that is set aside."""
        try:
            with inside(room):
                yield
        finally:
            self._holding.discard(room)
            self._governor._root.memory.settle(parts, None)

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

    async def _hold(self, hold: object, budget: Budget, parts: Parts, why: str) -> None:
        """Set the parts aside, waiting for them if need be; `hold` stands for them."""
        if not parts or budget.reserve_nowait(parts):
            self._holding.add(hold)
            return
        short = budget.short(parts)

        def tell(seconds: float) -> None:
            for account in short:
                account.has_waited(self._who, seconds)

        def wake() -> None:
            if self._waiting.pop(hold, None) is not None:
                self._holding.add(hold)

        self._waiting[hold] = around()
        try:
            with self._waits(f"{why} {short[0].name}", tell):
                async with lent():
                    self._governor.look()
                    await budget.reserve(parts, wake)
        except BaseException:
            wake()
            self._holding.discard(hold)  # only now: until this went on, the agent counted as at work
            self._governor.look()
            raise

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
            asking.leave()

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

    def _answered(self, model: str, input_tokens: int, output_tokens: int, usd: float | None, calls: int) -> None:
        self._emit(ModelAnswered(time.monotonic(), self._task, model, input_tokens, output_tokens, usd, calls))

    def _actual(self, parts: Parts, asking: Asking) -> Sequence[float] | None:
        if asking.taken is not None:
            return [asking.taken[account.name] for account, _ in parts]
        return [amount for _, amount in parts] if asking.in_flight else None


@asynccontextmanager
async def lent() -> AsyncIterator[None]:
    """While code waits inside of requests of its own: others may ask those models in its place.

    Whoever it waits for may be one of them.
    """
    async with AsyncExitStack() as stack:
        for held in around():
            if isinstance(held, Asking):
                await stack.enter_async_context(held.lent())
        yield


class Asking:
    """One request to a model, or what a program asks of one. `taken` is what it took, once it is known.

    `model` is what the one that answers is called. `heard` tells those who watch the run of one answer.
    """

    def __init__(
        self, gate: Gate, asked: Mapping[str, float], heard: Callable[[str, int, int, float | None, int], None]
    ) -> None:
        self.gate = gate
        self.model = gate.model
        self.heard = heard
        self.ticket: Ticket | None = None
        self.taken: dict[str, float] | None = None
        self.in_flight = False
        self.inside = False
        self._lent = 0
        self._ended = False
        self._calls = int(asked["calls"])
        self._untold: Callable[[], None] | None = None

    def answered(
        self, input_tokens: int, output_tokens: int, usd: float | None = None, calls: int | None = None
    ) -> None:
        """The model has answered, and that is what it took; `calls` where it was asked otherwise than expected."""
        calls = self._calls if calls is None else calls
        self.took(input_tokens, output_tokens, usd, calls)
        self._untold = partial(self.heard, self.model, input_tokens, output_tokens, usd, calls)

    def took(self, input_tokens: int, output_tokens: int, usd: float | None, calls: int) -> None:
        """That is what a program took in all, which of which each answer was `heard`."""
        self.taken = {"calls": float(calls), "tokens": float(input_tokens + output_tokens), "usd": usd or 0.0}

    def tell(self) -> None:
        """Tell of the answer, if that is still to be done."""
        if self._untold is not None:
            self._untold()

    def refused(self, retry_after: float | None) -> None:
        """The model's server said that it is asked too often: nobody asks it for so many seconds."""
        assert self.ticket is not None, "it has gone through the gate"
        self.gate.refused(self.ticket, PAUSE if retry_after is None else retry_after)
        self.ticket = self.gate.ticket()

    def leave(self) -> None:
        """It has ended. What was started inside of it may go on, and has no place at the model to lend any more."""
        self._ended = True
        if self.inside:
            self.inside = False
            self.gate.leave()

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
            if not (self._lent or self._ended):
                await self._back()

    async def _back(self) -> None:
        """Through the gate again, unless the program calls somebody meanwhile, or is back already."""
        ticket = self.gate.enter_nowait() or await self.gate.enter()
        if self._lent or self._ended or self.inside:
            self.gate.leave()
        else:
            self.ticket, self.inside = ticket, True
