"""Work in a store's database that may not be done twice.

A commit of which nobody has heard may have happened: the connection broke before the answer came. The writer then does
the same batch again, which is harmless for whatever says where it ends, and wrong for what says "if it is still as I
saw it": it would be refused because of what it did itself.

So such work is numbered, and the number of the last one is written with it, one row for each writer. As a writer does
everything in its order and one batch after the other, one number is enough: what is not above it has been done, and
came to what it came to then.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from fanfold.errors import StoreError
from fanfold.store.ticket import Ticket
from fanfold.store.writer import Session

T = TypeVar("T")
Place: TypeAlias = tuple[str, str]
"""The namespace and the key of an item, as they are kept."""


class Once:
    """Numbers the work of one writer; `queue` hands it on to that."""

    def __init__(self, queue: Callable[[Any], Ticket[Any]]) -> None:
        self._queue = queue
        self._writer = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def write(self, work: Callable[[Session], T], touches: Sequence[Place] = ()) -> Ticket[T]:
        """Queue `work` to be done in a transaction, and once only. `touches` are the items that it writes."""
        with self._lock:  # numbered in the order in which they are queued
            return self._queue(Turn(self._writer, next(self._numbers), work, touches))


@dataclass(slots=True)
class Turn(Generic[T]):
    """One piece of work, which remembers what it came to when it was done last."""

    writer: str
    no: int
    work: Callable[[Session], T]
    touches: Sequence[Place]
    outcome: Any = None

    def __call__(self, session: Session) -> T:
        if self.no == 1:
            session.rows("forget_turns")
        if session.rows("take_turn", {"writer": self.writer, "no": self.no}):
            self._do(session)
        if isinstance(self.outcome, StoreError):
            raise self.outcome
        result: T = self.outcome
        return result

    def _do(self, session: Session) -> None:
        try:
            self.outcome = self.work(session)
        except StoreError as refusal:  # of this work alone: the transaction goes on, and the turn is taken
            self.outcome = refusal
