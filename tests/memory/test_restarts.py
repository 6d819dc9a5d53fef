"""A server that crashes while several count: a commit of which nobody heard is found out about, and not done again."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack

from fanfold.errors import ItemConflictError
from fanfold.memory import GetOp, PutOp
from fanfold.store.cluster import Cluster
from fanfold.store.items import Items
from fanfold.store.postgres import PostgresStore
from tests.memory.places import NS

CRASHES, BETWEEN, WRITERS = 3, 10, 3


class Counting:
    """Adds 1 again and again, and tells how often it was told that this is done."""

    def __init__(self) -> None:
        self.done = 0
        self.stop = False
        self.more = threading.Condition()

    def count(self, items: Items) -> None:
        while not self.stop:
            # Read by the writer, who tries again while the server is down, since the batch writes as well.
            item, _ = items.batch([GetOp(NS, "k"), PutOp(("looked",), "at", {})])
            number, version = (item.value["n"], item.version) if item else (0, None)
            try:
                items.put(NS, "k", {"n": number + 1}, if_version=version)
            except ItemConflictError:
                continue
            with self.more:
                self.done += 1
                self.more.notify_all()

    def wait_for(self, number: int) -> None:
        """Until so many more are done."""
        with self.more:
            end = self.done + number
            assert self.more.wait_for(lambda: self.done >= end, 60)


def test_a_count_is_exact_over_crashes_of_the_server() -> None:
    counting = Counting()
    with ExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="fanfold-tests-"))
        cluster = closing.enter_context(Cluster(folder))
        stores = [closing.enter_context(PostgresStore(cluster.url())) for _ in range(WRITERS)]
        threads = [threading.Thread(target=counting.count, args=(store.items,)) for store in stores * 2]
        for thread in threads:
            thread.start()
        try:
            for _ in range(CRASHES):
                counting.wait_for(BETWEEN)
                cluster.restart("immediate")
            counting.wait_for(BETWEEN)
        finally:
            counting.stop = True
            for thread in threads:
                thread.join(60)
        item = stores[0].items.get(NS, "k")
    assert item is not None
    assert item.value == {"n": counting.done}
