"""Limits that several runs are held to together."""

from __future__ import annotations

from fanfold.limits.governor import Governor
from fanfold.limits.slots import Slots
from fanfold.limits.values import Limits


class Shared:
    """One budget for several runs: each is given it, `graph.ainvoke(..., shared=shared)`, besides limits of its own.

    What any of them takes is taken from it. The rates of models are shared with it: one run that was told to wait makes
    all of them wait. Used from one event loop, and it counts what runs spend while it exists, and nothing before.
    """

    __slots__ = ("governor", "slots")

    def __init__(self, limits: Limits) -> None:
        self.slots = Slots(limits.max_concurrency)
        self.governor = Governor(limits, slots=self.slots)

    @property
    def limits(self) -> Limits:
        """What was asked for."""
        return self.governor.limits

    def spent(self) -> dict[str, float]:
        """Of each budget that there is, how much is spent or set aside, by the names in `Limits`."""
        return self.governor.taken()
