"""Coroutines around those of others: what a task of asyncio's runs while somebody watches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from fanfold.frame import clock
from fanfold.held import due
from fanfold.watch.units import Call, Unit
from fanfold.watchdog import HELD_FROM
from fanfold.whose import USERS, ends_at, owner

if TYPE_CHECKING:
    from fanfold.watch import Watch

Units: TypeAlias = "list[tuple[Watch, Unit]]"
"""A task, for each of those who watch it."""


class Around(Coroutine[Any, Any, Any]):
    """A coroutine around another one, which passes on whatever goes in and out, and is taken for that one."""

    __slots__ = ("__weakref__", "_inner")

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Any = partial(self.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            try:
                step = partial(self.send, (yield waits_for))
            except GeneratorExit:
                self.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is meant for the work inside, whatever it is
                step = partial(self.throw, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        return step(*given)


class Sliced(Around):
    """What a task of asyncio's runs: each of its slices is timed."""

    __slots__ = ("_suspended", "_watches")

    def __init__(self, inner: Any, watches: Sequence[Watch]) -> None:
        super().__init__(inner)
        self._watches = watches
        self._suspended = clock()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        now = clock()  # the same for all of them: the watchdog knows a slice by its beginning
        suspended = self._suspended
        if now - suspended >= HELD_FROM:
            suspended = max(suspended, due(self._inner, now))
        open = [(watch, *watch.begin_slice(suspended, now)) for watch in self._watches if not watch.over]
        try:
            return step(*given)
        finally:
            self._suspended = now = clock()
            for watch, segment, around in open:
                watch.end_slice(segment, around, now)


class Lived(Around):
    """A coroutine that is a task, from its first slice to its end."""

    __slots__ = ("_before", "_calls", "_since", "_units", "_waited_for")

    def __init__(self, inner: Any, units: Units, waited_for: str = "") -> None:
        super().__init__(inner)
        self._units = units
        self._waited_for = waited_for
        self._before: Units | None = None
        self._calls: list[Call] = []
        self._since = 0.0

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        if self._before is None:
            self._before = entered(self._units, self._waited_for)
        self._since = clock()
        try:
            waits_for = step(*given)
        except BaseException as end:
            self._told_calls()
            left(self._units, self._before, None if isinstance(end, StopIteration) else end)
            raise
        self._look()
        return waits_for

    def close(self) -> None:
        self._inner.close()
        if self._before is None:
            for watch, unit in self._units:
                watch.end(unit, GeneratorExit())

    def _told_calls(self) -> None:
        if self._calls and self._calls[-1].of is not None:
            self._calls[-1].ended = self._since
        for watch, unit in self._units:
            watch.called(unit, [call for call in self._calls if call.ended - call.began >= HELD_FROM])

    def _look(self) -> None:
        """See which coroutine of the user's is awaited now: the same as before, or one that has been called since."""
        awaits = getattr(self._inner, "cr_await", None)
        code = getattr(awaits, "cr_code", None)
        if self._calls and self._calls[-1].of is not None:
            self._calls[-1].ended = self._since
            if self._calls[-1].of is awaits:
                return
            self._calls[-1].of = None
        if code is not None and owner(code.co_filename) == USERS:
            self._calls.append(Call(code, self._since, self._since, awaits))


def entered(units: Units, waited_for: str = "", pool: str = "") -> Units:
    """The code of these tasks begins here; whose code it was that runs here."""
    for watch, unit in units:
        watch.start(unit, waited_for, pool)
    now = clock()
    return [(watch, watch.enter(unit, now)) for watch, unit in units]


def left(units: Units, before: Units, error: BaseException | None = None) -> None:
    """It has ended, and the code that goes on is of those before."""
    now = clock()
    for watch, unit in before:
        watch.enter(unit, now)
    for watch, unit in units:
        watch.end(unit, error)


@contextlib.contextmanager
def lived(units: Units, pool: str = "") -> Iterator[None]:
    """Within this, the code that runs is that of these tasks, in a thread of a pool if one is named."""
    before = entered(units, pool=pool)
    try:
        yield
    except BaseException as error:
        left(units, before, error)
        raise
    left(units, before)


ends_at(Sliced._step.__code__)
