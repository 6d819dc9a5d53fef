"""The library with one of its promises broken, in a worker process only: what the harness must catch.

A harness that has never found anything has shown nothing. Each mutant changes one line of what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from fanfold.journal import Record
from fanfold.store import changes, sql, writer
from fanfold.store.leases import Leases
from fanfold.store.writer import Item, Writer

VARIABLE = "FANFOLD_CRASH_MUTANT"


def without_fence() -> None:
    """What is of an old epoch is written all the same."""

    class Unfenced(changes.Changes):
        def __init__(self, leases: Leases) -> None:
            super().__init__(cast("Leases", Unasked(leases)))

    vars(sql)["Changes"] = Unfenced
    known: Any = sql.statements("postgres")
    fenced = known["keep_final_at_once"]
    known["keep_final_at_once"] = fenced.replace(" and held.epoch = given.epoch", "")
    assert known["keep_final_at_once"] != fenced, "the fence of the statement is worded otherwise now"


class Unasked:
    """Leases that nobody asks whether they are good, when something is to be written."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    def fence(self, session: Any, leases: Any) -> dict[Any, Any]:
        return {}


def without_self_fence() -> None:
    """Nobody looks at the lease before an agent starts."""

    async def check(self: Record) -> None:
        self.raise_failure()

    Record.check = check  # type: ignore[method-assign]


def without_idempotency() -> None:
    """A result takes the place of another attempt's."""
    for dialect in ("sqlite", "postgres"):
        known: Any = sql.statements(dialect)
        known["keep_final"] = known["keep_latest"]
    changes.Changes.at_once = lambda *_: False  # type: ignore[method-assign]


def before_commit() -> None:
    """Changes are acknowledged when they are about to be written."""
    settle: Callable[[Writer, list[Item]], None] = Writer._settle

    def early(self: Writer, batch: list[Item]) -> None:
        for number, item in enumerate(batch):
            if isinstance(item.work, changes.Kept):
                item.done.set_result(None)
                batch[number] = writer.Item(item.work)
        settle(self, batch)

    Writer._settle = early  # type: ignore[method-assign]


MUTANTS = {
    "fence removed": (without_fence, "stale"),
    "self-fence removed": (without_self_fence, "repeated"),
    "idempotency removed": (without_idempotency, "replaced"),
    "acknowledged before commit": (before_commit, "lost"),
}
"""Each with what the harness says of it, whatever else it may say."""
