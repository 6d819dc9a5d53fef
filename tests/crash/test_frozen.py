"""A worker that is frozen at the worst moments: within a transaction, and between an answer and what it allows."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from fanfold import END, START, StateGraph
from fanfold.errors import LeaseLostError, ThreadBusyError
from fanfold.store import owner
from fanfold.store.base import Lease
from fanfold.store.postgres import PostgresStore
from tests.crash import log, worker
from tests.crash.harness import TTL
from tests.crash.nursery import Nursery
from tests.crash.worker import Order

LONGEST = 30.0
WITHIN_A_RESULT = 60
"""The moment in the calls of a run at which a result has been written and not committed."""


def test_a_worker_frozen_within_a_transaction_keeps_its_thread_from_nobody(postgres: str, tmp_path: Path) -> None:
    order = Order(postgres, str(tmp_path / "log"), "t", "seed", TTL)
    with Nursery() as nursery:
        first = nursery.start(Order(order.place, order.log, "t", "s", TTL, fuse=WITHIN_A_RESULT, freezes=True))
        while (line := first.line()) is not None and line.what != "frozen":
            pass
        first.stands_still()
        second = nursery.start(order)
        assert second.wait() == worker.DONE, second.said
        first.signal(signal.SIGCONT)
        assert first.wait() == worker.FENCED, first.said
    assert sum(line.what == "told" for line in log.read(tmp_path / "log")) == 1


class Interrupted(PostgresStore):
    """A store whose process, when it has been told that its lease is good, is frozen for longer than that lasts."""

    answered = False

    def holds(self, lease: Lease) -> bool:
        return self.answered and super().holds(lease)

    def confirm(self, lease: Lease) -> Future[None]:
        ticket = super().confirm(lease)
        ticket.result()
        if not self.answered:
            self.answered = True
            awake = threading.Event()
            self.write(lambda session: awake.wait(LONGEST))  # whoever is frozen does not beat
            take_over(self.url, lease.thread_id)
            awake.set()
        return ticket

    url = ""


def take_over(url: str, thread: str) -> None:
    """Become the owner of a thread as soon as its lease has lapsed."""
    with PostgresStore(url) as other:
        while True:
            try:
                other.claim(thread, owner.me(), on_busy="take_over").result()
                return
            except ThreadBusyError:
                continue


def test_a_lease_that_lapsed_while_its_holder_heard_that_it_was_good_allows_nothing(postgres: str) -> None:
    started: list[str] = []

    def node(state: Any) -> dict[str, int]:
        started.append("node")
        return {"x": 1}

    with Interrupted(postgres, ttl=0.2) as store:
        store.url = postgres
        graph = StateGraph(dict).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile(store)
        with pytest.raises(LeaseLostError):
            graph.invoke({"x": 0}, thread_id="t")
        assert store.answered
    assert started == []
