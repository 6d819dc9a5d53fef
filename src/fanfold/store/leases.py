"""Who runs a thread: what one process knows of the leases it holds, and what it asks the database about them.

A process is heard of as long as its writer beats. It relies on a lease for a little less than the lease's time, counted
from before the beat was sent: so it stops before anybody else may begin, whatever the clock of either says. A process
that was frozen finds out at its next look, or at the latest when the database refuses what it writes.

A beat and a claim of the same thread that come at once exclude each other: whoever claims holds the thread's row while
he looks when its holder was last heard of, and a beat counts for the threads whose rows it could look at after that.
A beat counts when it is committed, not when it is said.
"""

from __future__ import annotations

import threading
import uuid
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
        # Of each store its own: one writer's beats say nothing of the leases of another in the same process.
        self._name = uuid.uuid4().hex[:12]
        self._held: dict[str, Lease] = {}
        self._spoilt: dict[Lease, StoreError] = {}
        self._spoilt_now: dict[Lease, StoreError] = {}
        """By the present transaction, which may be undone and done again."""
        self._safe_until = 0.0
        self._said: float | None = None
        """Until when the beat of the present transaction is good, if it is committed."""
        self._tidied = False
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
        if (problem := unfit("thread", thread_id)) is not None:
            raise problem
        session.rows("touch_thread", {"thread": thread_id})
        # First without a lock, so that whoever asks in vain, again and again, is in nobody's way.
        for look in ("holder", "hold_thread"):
            ((holder, worker),) = session.rows(look, {"thread": thread_id})
            if holder and holder != owner:
                lapsed = session.rows("lapsed", {"worker": worker}) in ([], [(True,)])
                _refuse_busy(thread_id, holder, lapsed=lapsed, on_busy=on_busy)
        self.beat(session)
        ((epoch,),) = session.rows("claim", {"thread": thread_id, "owner": owner, "worker": self._worker()})
        lease = Lease(thread_id, owner, epoch)
        with self._lock:
            self._held[thread_id] = lease
        return lease

    def unclaimed(self, thread_id: str, owner: str) -> None:
        """Nobody has got to know that `owner` has claimed the thread, if he has; the next beat releases it."""
        with self._lock:
            held = self._held.get(thread_id)
            if held is not None and held.owner == owner:
                del self._held[thread_id]

    def release(self, session: Session, lease: Lease) -> None:
        """Say that nobody runs the thread any more, if it has not got a newer epoch."""
        session.rows("release", {"thread": lease.thread_id, "epoch": lease.epoch})
        self._spoilt.pop(lease, None)  # whoever releases submits nothing more

    def spoil(self, lease: Lease, failure: StoreError, *, for_good: bool = False) -> None:
        """Something under this lease is refused, in the present transaction or for good."""
        (self._spoilt if for_good else self._spoilt_now).setdefault(lease, failure)

    def spoilt(self, lease: Lease | None) -> StoreError | None:
        """What refuses all that would follow from something that was not stored."""
        cause = self._spoilt.get(lease) or self._spoilt_now.get(lease) if lease is not None else None
        if cause is None:
            return None
        refusal = StoreError(f"something earlier of this run was not stored, so nothing later is: {cause}")
        refusal.__cause__ = cause
        return refusal

    def drop(self, lease: Lease) -> None:
        """The lease is not relied on any more."""
        with self._lock:
            if self._held.get(lease.thread_id) == lease:
                del self._held[lease.thread_id]

    def beat(self, session: Session) -> None:
        """Say that this process lives, and see which of its leases are still good."""
        worker = self._worker()
        _, host, pid = owners.here()
        before = owners.awake()
        session.rows("beat", {"worker": worker, "host": host, "pid": pid, "ttl": self.ttl})
        good = set(session.rows("leases", {"worker": worker}))
        with self._lock:
            self._held = {name: held for name, held in self._held.items() if (name, held.epoch) in good}
            held = {(name, lease.epoch) for name, lease in self._held.items()}
        for thread_id, epoch in good - held:  # nobody here runs it: its release, or its claim, has come to nothing
            session.rows("release", {"thread": thread_id, "epoch": epoch})
        if not self._tidied:
            session.rows("forget_workers")
            self._tidied = True
        self._said = before + SAFE * self.ttl

    def ended(self, *, committed: bool) -> None:
        """What was said and refused in the present transaction counts, or does not."""
        if committed and self._said is not None:
            self._safe_until = self._said
        if committed:
            self._spoilt = {**self._spoilt_now, **self._spoilt}
        self._said, self._spoilt_now = None, {}

    def _worker(self) -> str:
        return f"{owners.here()[0]}/{self._name}"

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


def unfit(name: str, text: object) -> StoreError | None:
    """What keeps a text from being stored, in any database, if anything does."""
    if not isinstance(text, str) or (text.isascii() and "\0" not in text):
        return None
    if "\0" in text:
        return StoreError(f"the {name} {text!r:.80} holds a NUL character, and PostgreSQL has no such text")
    try:
        text.encode()
    except UnicodeEncodeError:
        return StoreError(f"the {name} {text!r:.80} holds half a character, and no database has such text")
    return None


def _refuse_busy(thread_id: str, holder: str, *, lapsed: bool, on_busy: OnBusy) -> None:
    """Raise `ThreadBusyError` unless the thread of `holder` may be claimed."""
    if not owners.alive(holder) or (lapsed and on_busy != "reject"):
        return
    who = owners.describe(holder)
    if lapsed:
        raise ThreadBusyError(
            f"thread {thread_id!r} was being run by {who}, which has not been heard of since its lease lapsed",
            hint='on_busy="take_over" takes the thread',
            owner=holder,
        )
    raise ThreadBusyError(
        f"thread {thread_id!r} is being run by {who}",
        hint='wait for it to end, with on_busy="wait", or stop it',
        owner=holder,
    )


def _lost(lease: Lease, now: Mapping[str, tuple[int, str | None]]) -> LeaseLostError:
    _, owner = now.get(lease.thread_id, (0, None))
    who = f"{owners.describe(owner)} runs it now" if owner else "somebody else has run or deleted it since"
    return LeaseLostError(f"this run has lost its thread {lease.thread_id!r}: {who}, so it may write no more")
