"""Who runs a thread: what one process knows of the leases it holds, and what it asks the database about them.

A process is heard of as long as its writer beats. It relies on a lease for a little less than the lease's time, counted
from before the beat was sent: so it stops before anybody else may begin, whatever the clock of either says. A process
that was frozen finds out at its next look, or at the latest when the database refuses what it writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from fanfold.errors import LeaseLostError, StoreError, ThreadBusyError
from fanfold.store import owner as owners
from fanfold.store.base import Lease, OnBusy
from fanfold.store.writer import Session

TTL: Final = 15.0
"""Seconds that a lease lasts without a sign of life."""
SAFE: Final = 0.9
"""The part of a lease's time for which its holder relies on it."""


class Leases:
    """The leases of one store in this process. What takes a session is called by the store's writer."""

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self._held: dict[str, Lease] = {}
        self._safe_until = 0.0
        self._said: float | None = None
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Callable[[], object]]] = {}

    @property
    def every(self) -> float:
        """Seconds between two beats."""
        return self.ttl / 4

    @property
    def needed(self) -> bool:
        """Whether there is anything to beat for."""
        return bool(self._held)

    def good(self, lease: Lease) -> bool:
        """Whether the lease can be relied on without asking."""
        return owners.awake() < self._safe_until and self._held.get(lease.thread_id) == lease

    def claim(self, session: Session, thread_id: str, owner: str, on_busy: OnBusy) -> Lease:
        """The lease of `owner`, in a new epoch of the thread. Raises `ThreadBusyError` when another's goes on."""
        session.rows("touch_thread", {"thread": thread_id})
        ((holder, lapsed),) = session.rows("hold_thread", {"thread": thread_id})
        if holder and holder != owner:
            _refuse_busy(thread_id, holder, lapsed=bool(lapsed), on_busy=on_busy)
        self.beat(session)
        values = {"thread": thread_id, "owner": owner, "worker": owners.worker_of(owner)}
        ((epoch,),) = session.rows("claim", values)
        lease = Lease(thread_id, owner, epoch)
        with self._lock:
            self._held[thread_id] = lease
        return lease

    def drop(self, lease: Lease) -> None:
        """The lease is not relied on any more."""
        with self._lock:
            if self._held.get(lease.thread_id) == lease:
                del self._held[lease.thread_id]

    def beat(self, session: Session) -> None:
        """Say that this process lives, and see which of its leases are still good."""
        worker, host, pid = owners.here()
        before = owners.awake()
        session.rows("beat", {"worker": worker, "host": host, "pid": pid, "ttl": self.ttl})
        good = set(session.rows("leases", {"worker": worker}))
        with self._lock:
            self._held = {name: held for name, held in self._held.items() if (name, held.epoch) in good}
            self._said = before

    def ended(self, *, committed: bool) -> None:
        """A beat counts once the database has it for good."""
        if committed and self._said is not None:
            self._safe_until = self._said + SAFE * self.ttl
        self._said = None

    def confirm(self, session: Session, lease: Lease) -> None:
        """Raise `LeaseLostError` when the lease is no longer good."""
        self.beat(session)
        for refusal in self.fence(session, [lease]).values():
            raise refusal

    def fence(self, session: Session, leases: Iterable[Lease]) -> dict[Lease, StoreError]:
        """Of these leases, those that are no longer good, with the errors that say so.

        The threads of the others stay as they are until the session's transaction ends.
        """
        held = list(leases)
        rows = session.rows("fence", {"threads": sorted({lease.thread_id for lease in held})})
        now = {thread: (epoch, owner) for thread, epoch, owner in rows}
        lost: dict[Lease, StoreError] = {
            lease: _lost(lease, now) for lease in held if now.get(lease.thread_id, (None,))[0] != lease.epoch
        }
        for lease in lost:
            self.drop(lease)
        return lost

    # Those who wait in this process

    def freed(self, thread_id: str, waiter: Callable[[], object]) -> Callable[[], None]:
        """Call `waiter` when this process releases the thread; what is returned takes that back."""
        with self._lock:
            self._waiters.setdefault(thread_id, []).append(waiter)

        def forget() -> None:
            with self._lock:
                waiting = self._waiters.get(thread_id, [])
                if waiter in waiting:
                    waiting.remove(waiter)
                if not waiting:
                    self._waiters.pop(thread_id, None)

        return forget

    def tell(self, thread_id: str) -> None:
        """The thread was released."""
        with self._lock:
            waiting = tuple(self._waiters.get(thread_id, ()))
        for waiter in waiting:
            waiter()


def _refuse_busy(thread_id: str, holder: str, *, lapsed: bool, on_busy: OnBusy) -> None:
    """Raise `ThreadBusyError` unless the thread of `holder` may be claimed."""
    if not owners.alive(holder) or (lapsed and on_busy != "reject"):
        return
    who = owners.describe(holder)
    if lapsed:
        raise ThreadBusyError(
            f"thread {thread_id!r} was being run by {who}, which has not been heard of since its lease lapsed",
            hint='on_busy="take_over" takes the thread',
        )
    raise ThreadBusyError(
        f"thread {thread_id!r} is being run by {who}",
        hint='wait for it to end, with on_busy="wait", or stop it',
    )


def _lost(lease: Lease, now: Mapping[str, tuple[int, str | None]]) -> LeaseLostError:
    _, owner = now.get(lease.thread_id, (0, None))
    who = f"{owners.describe(owner)} runs it now" if owner else "somebody else has run or deleted it since"
    return LeaseLostError(f"this run has lost its thread {lease.thread_id!r}: {who}, so it may write no more")
