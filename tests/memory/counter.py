"""A process that counts: `python -m tests.memory.counter URL TIMES THREADS KEY...` adds 1 to each item so often."""

from __future__ import annotations

import sys
import threading

from fanfold.errors import ItemConflictError
from fanfold.memory import BaseStore
from fanfold.store.opening import open_store

NS = ("counters",)


def add_one(store: BaseStore, key: str) -> None:
    """Add 1 to the number of an item, however often somebody else comes first."""
    while True:
        item = store.get(NS, key)
        try:
            if item is None:
                store.put(NS, key, {"n": 1}, if_version=None)
            else:
                store.put(NS, key, {"n": item.value["n"] + 1}, if_version=item.version)
        except ItemConflictError:
            continue
        return


def main(url: str, times: int, threads: int, keys: list[str]) -> None:
    with open_store(url) as store:

        def count(first: int) -> None:
            for number in range(times):
                for place in range(len(keys)):
                    add_one(store.items, keys[(first + number + place) % len(keys)])

        counting = [threading.Thread(target=count, args=(first,)) for first in range(threads)]
        for thread in counting:
            thread.start()
        for thread in counting:
            thread.join()


if __name__ == "__main__":
    _, url, times, threads, *keys = sys.argv
    main(url, int(times), int(threads), keys)
