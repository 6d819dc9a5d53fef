"""The receipt: whether the agents of a run really ran side by side, by how much, and what kept them from it.

Everything here is computed from events, so that a run that is long over can be judged like one that has just ended, and
one that goes on until the newest thing that happened.

::

    events ─▶ book, lives     each task's life as a line of named stretches without a gap
                  │
    journal ─▶ witnesses      what a model's server and the operating system saw otherwise
                  │
              judging ─▶ causes       the verdict, and what each class of cause has cost

The words, with *busy* meaning that a task held a slot (a node that awaits an agent is not busy, the agent is) and
waited for nothing that the run, its limits, other tasks or its model's server kept from it:

- **wall**: from the start of the run to its end, without the time between two sittings.
- **work**: the busy time of all tasks added up; how long they would have taken one by one.
- **span**: the longest chain of tasks of which each had to wait for the one before, by the edges of the graph. No
  schedule can be shorter. Agents that one node calls count as if they had been called at once: nothing in the graph
  says that one needs the other.
- **speed-up**: work / wall. It is also the mean concurrency.
- **gain**: (work - wall) / (work - span), the part of the possible overlap that was reached. The span law and the
  work law of parallel computing bound it by 1 (R. P. Brent, "The parallel evaluation of general arithmetic
  expressions", J. ACM 21, 1974).

The verdict is PARALLEL when the gain is at least 0.75, SEQUENTIAL when it is at most 0.10 or never two tasks were
busy at once, PARTLY SERIAL between, and NOTHING TO OVERLAP when span is all but the whole of work. `Thresholds` has
these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, cast

from fanfold.errors import UsageError
from fanfold.events import Event, from_record
from fanfold.receipt.book import Book
from fanfold.receipt.judging import judged
from fanfold.receipt.values import NOTHING_TO_OVERLAP as NOTHING_TO_OVERLAP
from fanfold.receipt.values import PARALLEL as PARALLEL
from fanfold.receipt.values import PARTLY_SERIAL as PARTLY_SERIAL
from fanfold.receipt.values import SEQUENTIAL as SEQUENTIAL
from fanfold.receipt.values import TASKS_AT_ONCE as TASKS_AT_ONCE
from fanfold.receipt.values import Cause as Cause
from fanfold.receipt.values import LimitUse as LimitUse
from fanfold.receipt.values import Receipt as Receipt
from fanfold.receipt.values import Stretch as Stretch
from fanfold.receipt.values import TaskLife as TaskLife
from fanfold.receipt.values import Thresholds as Thresholds
from fanfold.receipt.values import Witness as Witness
from fanfold.receipt.witnesses import Served as Served
from fanfold.store.base import Store

if TYPE_CHECKING:
    from fanfold.watch import Watch

P = ParamSpec("P")

_USUAL: Final = Thresholds()


class _Audit(Protocol[P]):
    """A function that has a part of its own, since that is how users call it: `audit(run)`, `audit.watch()`."""

    def __call__(self, *args: P.args, **options: P.kwargs) -> Receipt: ...

    def watch(self, name: str = "watched", *, thresholds: Thresholds = _USUAL) -> Watch: ...


def _watching(function: Callable[P, Receipt]) -> _Audit[P]:
    @wraps(function)
    def audit(*args: P.args, **options: P.kwargs) -> Receipt:
        return function(*args, **options)

    def watch(name: str = "watched", *, thresholds: Thresholds = _USUAL) -> Watch:
        """Watch what runs on asyncio within the block, whosever it is, and have a receipt of it.

        ::

            with audit.watch() as watched:
                asyncio.run(main())
            assert watched.receipt.verdict == "PARALLEL", watched.receipt
        """
        from fanfold.watch import Watch  # most processes watch nothing

        return Watch(name, lambda events: receipt(events, thresholds=thresholds))

    audit.watch = watch  # type: ignore[attr-defined]  # below, it is what it is said to be
    return cast(_Audit[P], audit)


@_watching
def audit(
    run: Any, *, store: Store | None = None, thresholds: Thresholds | None = None, journal: Iterable[Served] = ()
) -> Receipt:
    """The receipt of a run: of what `invoke` returned, of a sequence of events, or of a run id and its `store`.

    `journal` is a model server's, such as `ModelServer.journal`: a second witness. Raises `UsageError` when `run` is
    none of these, `RunNotFoundError` when the store does not hold it.
    """
    lines = thresholds or _USUAL
    if store is not None:
        record = store.run(str(run))
        return receipt([from_record(event) for event in store.events(record.run_id)], thresholds=lines, journal=journal)
    finished = getattr(run, "run", None)
    if finished is not None:
        return receipt(finished.events, thresholds=lines, journal=journal)
    if isinstance(run, Sequence) and not isinstance(run, str):
        return receipt(run, thresholds=lines, journal=journal)
    raise UsageError(
        f"cannot audit {run!r:.80}", hint="give what invoke() returned, or a run id together with store=..."
    )


def receipt(events: Iterable[Event], *, thresholds: Thresholds = _USUAL, journal: Iterable[Served] = ()) -> Receipt:
    """The receipt of what `events` tell: several sittings of one run, maybe, or a run that is not over."""
    book = Book()
    book.read(events)
    if book.first is None:
        raise UsageError("cannot audit a run of which no event is known")
    return judged(book, thresholds, journal)
