"""A process that owns a thread, says so, and writes once it is told to: `python -m tests.saver.frozen STORE`."""

from __future__ import annotations

import sys
from typing import Any

from fanfold.errors import LeaseLostError
from fanfold.langgraph import Saver
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from tests.saver.graphs import State, counting

CONFIG: Any = {"configurable": {"thread_id": "t"}}
TTL = 2.0


def opened(place: str) -> SqlStore:
    return PostgresStore(place, ttl=TTL) if place.startswith("postgres") else SqliteStore(place, ttl=TTL)


def main(place: str) -> None:
    with opened(place) as store:
        saver = Saver(store)
        with saver.owning("t"):
            print("owns", flush=True)
            sys.stdin.readline()
            try:
                counting(saver, State).invoke({"notes": ["stale"]}, CONFIG)
            except LeaseLostError as error:
                print(error, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
