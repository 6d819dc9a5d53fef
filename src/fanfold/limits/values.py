"""What a user asks for, and what a limiter reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fanfold.errors import UsageError

DEEPEST: Final = 5
"""How deep agents may call agents, when nobody says otherwise."""

_AMOUNTS: Final = ("tokens", "usd", "seconds", "memory_mb", "patience")
_COUNTS: Final = ("max_concurrency", "calls", "depth")
_TABLES: Final = ("agents", "models")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run and everything inside it may use together. None means no limit.

    At once: `max_concurrency` tasks, so many of each kind in `agents` (by name), so many requests to each of `models`
    (by name, such as "anthropic:claude-sonnet-4-5", or by provider), and `memory_mb` of agents that are processes.

    In all, over all sittings of the run: `calls` of models, `tokens` in and out, `usd`, and `seconds` that agents work,
    added up. What a call will take is reserved before it and settled after it. `calls` are never exceeded. `tokens` and
    `usd` are by at most as much as one call takes more than was reserved for it, as long as no other takes more than
    twice of that. Whoever would need more than is left waits until nobody could give anything back, and then gets a
    `BudgetError`; the run can be resumed with larger limits.

    Agents call agents no deeper than `depth`. One of which nothing was heard for `patience` seconds has stalled.
    """

    max_concurrency: int | None = None
    agents: Mapping[str, int] = field(default_factory=dict, hash=False)
    models: Mapping[str, int] = field(default_factory=dict, hash=False)
    calls: int | None = None
    tokens: float | None = None
    usd: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    depth: int | None = DEEPEST
    patience: float = 300.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._check(name, getattr(self, name), 0 if name == "calls" else 1)
        for name in _AMOUNTS:
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise UsageError(f"{name} is {value!r}; it must be a number that is not negative, or None for no limit")
        for name in _TABLES:
            for key, value in getattr(self, name).items():
                self._check(f"{name}[{key!r}]", value, 1)

    @property
    def spends(self) -> bool:
        """Whether anything is limited of which a run has so much in all, over all of its sittings."""
        return any(value is not None for value in (self.calls, self.tokens, self.usd, self.seconds))

    @property
    def governs(self) -> bool:
        """Whether anything is limited besides how many run at once."""
        return replace(self, max_concurrency=None) != Limits()

    def _check(self, name: str, value: Any, least: int) -> None:
        if value is None:
            return
        if not _is_number(value) or value != int(value):
            raise UsageError(f"{name} is {value!r}; it must be a whole number, or None for no limit")
        if value < least:
            raise UsageError(f"{name} is {value}; it must be at least {least}, or None for no limit")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def least(*limits: int | None) -> int | None:
    """The smallest of the limits; None when there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True, slots=True)
class Report:
    """How close a run came to one limit: the most that was in use, who waited for it, and how long in seconds.

    `limit` is None where nothing was asked for. `by` are the names of those who waited, each with its seconds, the
    longest first. `note` is what else is to be known.
    """

    name: str
    limit: float | None
    peak: float
    waits: int = 0
    waited: float = 0.0
    by: tuple[tuple[str, float], ...] = ()
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the limit was ever felt."""
        return self.waits > 0 or (self.limit is not None and self.peak >= self.limit)


def reported(
    name: str, limit: float | None, peak: float, waits: int, waited: Mapping[str, float], note: str = ""
) -> Report:
    """A report of who waited for how many seconds, the longest first; those without a name count in the sum."""
    longest = sorted((item for item in waited.items() if item[0]), key=lambda item: -item[1])
    return Report(name, limit, peak, waits, sum(waited.values()), tuple(longest), note)
