"""How well the fan-out of a run did, against targets, by the run's receipt and by nothing that the team says of itself.

- **completion**: the part of the specialists that has answered.
- **parallel efficiency**: the least time in which so many slots could have done this work, in parts of the time that it
  took. The least is the longest work of one agent, or all work divided by the slots, whichever is more.
  The time runs from when the first specialist could have begun until the last one has ended. Fifteen that are asked one
  after another, with eight slots, come to 2 / 15, however long they take.
- **recovery**: the longest time from the first failure of a specialist until it had answered or was given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

SPECIALIST: Final = "specialist"
"""The node in which each specialist is asked."""

FINISHED: Final = "finished"
"""The status of an agent that has answered in this sitting; in an earlier one, it is remembered."""


class Part(Protocol):
    """A stretch of a task's life."""

    @property
    def end(self) -> float: ...
    @property
    def part(self) -> str: ...


class Life(Protocol):
    """What is needed of a task in a receipt; times are seconds."""

    @property
    def task(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def queued(self) -> float: ...
    @property
    def ended(self) -> float | None: ...
    @property
    def status(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def stretches(self) -> Sequence[Part]: ...
    @property
    def work(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Chain:
    """One specialist: the node in which it is asked, and the agents that this calls."""

    node: Life
    calls: tuple[Life, ...]

    @property
    def queued(self) -> float:
        """When it could have begun."""
        return self.node.queued

    @property
    def ended(self) -> float:
        """When it had answered, or was given up."""
        ends = [life.ended for life in (self.node, *self.calls) if life.ended is not None]
        return max(ends, default=self.node.queued)

    @property
    def recovery(self) -> float | None:
        """From its first failure to its end; None when it has not failed."""
        failures = [at for call in self.calls if (at := first_failure(call)) is not None]
        return self.ended - min(failures) if failures else None


def first_failure(life: Life) -> float | None:
    """When an agent has failed first: where it is in line once more, or where it ends as failed."""
    for before, after in zip(life.stretches, life.stretches[1:], strict=False):
        if after.part == "queued":
            return before.end
    if life.attempts > 1 and life.stretches:  # it was tried again with no time between
        return life.stretches[0].end
    return life.ended if life.status == "failed" else None


@dataclass(frozen=True, slots=True)
class Targets:
    """What a run has to reach: more than these parts, and less than so many seconds."""

    completion: float = 0.85
    efficiency: float = 0.70
    recovery: float = 120.0


_WORDS: Final = {True: "met", False: "MISSED", None: "not measured"}


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a run has reached. Times are seconds; `recovery` is None when no specialist has failed, and `efficiency`
    when none has worked. Of a run that was gone on with, only its last sitting has times: with `earlier` answers of
    another one, they are of no whole fan-out, and efficiency is not known.
    """

    asked: int
    answered: int
    slots: int
    work: float = 0.0
    least: float = 0.0
    took: float = 0.0
    recovery: float | None = None
    targets: Targets = Targets()
    earlier: int = 0

    @property
    def completion(self) -> float:
        """The part of the specialists that has answered."""
        return self.answered / self.asked if self.asked else 0.0

    @property
    def efficiency(self) -> float | None:
        """How near the fan-out came to the least time."""
        return min(1.0, self.least / self.took) if self.took and not self.earlier else None

    @property
    def met(self) -> dict[str, bool]:
        """Of each metric that is known, whether it has reached its target."""
        reached = {
            "completion": self.completion > self.targets.completion,
            "parallel efficiency": self.efficiency is not None and self.efficiency > self.targets.efficiency,
            "recovery": self.recovery is None or self.recovery < self.targets.recovery,
        }
        return {name: met for name, met in reached.items() if not (self.earlier and name == "parallel efficiency")}

    def to_dict(self) -> dict[str, Any]:
        """The metrics as plain data."""
        return {**asdict(self), "completion": self.completion, "efficiency": self.efficiency, "met": self.met}

    def lines(self) -> list[str]:
        """The metrics for a terminal, each with its target."""
        efficiency, recovery, targets = self.efficiency, self.recovery, self.targets
        told = {
            "completion": (f"{self.answered} of {self.asked} ({self.completion:.0%})", f"> {targets.completion:.0%}"),
            "parallel efficiency": (
                (f"not known, {self.earlier} answered in an earlier sitting" if self.earlier else "nobody has worked")
                if efficiency is None
                else f"{efficiency:.0%} ({self.least:.2f} of {self.took:.2f} s, {self.slots} at once)",
                f"> {targets.efficiency:.0%}",
            ),
            "recovery": (
                "nothing has failed" if recovery is None else f"{recovery:.2f} s",
                f"< {targets.recovery:.0f} s",
            ),
        }
        return [
            f"{name}: {value}, target {target}: {_WORDS[self.met.get(name)]}" for name, (value, target) in told.items()
        ]


def measured(
    lives: Sequence[Life], *, asked: int, answered: int, slots: int, targets: Targets | None = None
) -> Metrics:
    """The metrics of a run, by the lives of its tasks: the nodes of specialists, and the agents that they called."""
    chains = [Chain(life, _called(life, lives)) for life in lives if life.name == SPECIALIST]
    at_work = sum(call.status == FINISHED for chain in chains for call in chain.calls)
    known = Metrics(asked, answered, slots, targets=targets or Targets(), earlier=max(0, answered - at_work))
    work = [call.work for chain in chains for call in chain.calls]
    if not work:
        return known
    took = max(chain.ended for chain in chains) - min(chain.queued for chain in chains)
    least = max(max(work), sum(work) / slots)
    recoveries = [chain.recovery for chain in chains if chain.recovery is not None]
    return replace(known, work=sum(work), least=least, took=took, recovery=max(recoveries, default=None))


def _called(node: Life, lives: Iterable[Life]) -> tuple[Life, ...]:
    return tuple(life for life in lives if life.parent == node.task)
