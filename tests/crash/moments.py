"""A worker that ends at one moment after the other of a small run, and what the next one makes of what it left.

A moment is the one before or after a call to the database, and the end is `os._exit`: nothing is closed, flushed or
told. Or it is the one after a line of the log, and the end is `kill -9`.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanfold.store.base import FINAL
from fanfold.store.opening import open_store
from fanfold.store.sql import SqlStore
from tests.crash import log, small, worker
from tests.crash.nursery import Nursery
from tests.crash.watched import EXITED, who
from tests.crash.worker import Order

LANES = 3
TTL = 15.0  # nobody waits for it: a process that is known to be dead holds nothing


@dataclass(slots=True)
class Found:
    """At how many moments a worker ended, how often there were results by then, and what is wrong."""

    moments: int = 0
    stored: int = 0
    wrong: list[str] = field(default_factory=list)


def stored(store: SqlStore, thread: str) -> set[str]:
    """Whose results a store holds of a thread."""
    runs = [run.run_id for run in store.runs(limit=-1) if run.thread_id == thread]
    return {who(each) for run in runs for each in store.results(run) if each.kind in FINAL}


def seen(store: SqlStore, thread: str, inside: str) -> Any:
    """What can be seen of a thread, but for ids: every state that it has had, how it and a graph that pauses inside
    stand now, and every state of a graph inside that remembers."""
    graph, _ = small.team(store, inside)
    config = {"configurable": {"thread_id": thread}}
    remembered = {"configurable": {"thread_id": thread, "checkpoint_ns": "inner"}}
    places = [config, remembered] if inside == "remembers" else [config]
    return _standing(graph.get_state(config, subgraphs=True)), [
        [(each.metadata["step"], each.metadata["source"], each.values, sorted(each.next)) for each in history]
        for history in map(graph.get_state_history, places)
    ]


def _standing(state: Any) -> Any:
    tasks = [
        (task.name, [each.value for each in task.interrupts], task.state and _standing(task.state))
        for task in state.tasks
    ]
    return state.values, sorted(tasks, key=repr)


class Moments:
    """Runs with `durability` of a team with such a graph `inside` that end at every `stride`th moment.

    With "exit" it is the second run of its thread that ends: the first one is what is to be left as it was.
    """

    def __init__(
        self, place: str, folder: Path, durability: str, inside: str, stride: int, *, killed: bool = False
    ) -> None:
        self._place = place
        self._folder = folder
        self._durability = durability
        self._inside = inside
        self._stride = stride
        self._killed = killed
        self._second = durability == "exit"

    def found(self) -> Found:
        """End a worker at each of these moments, go on, and look; until one lives to the end."""
        found = Found()
        with open_store(self._place) as self._store, Nursery() as self._nursery, ThreadPoolExecutor(LANES) as pool:
            self._begin("undisturbed")
            self._run("undisturbed")
            self._undisturbed = self._seen("undisturbed")
            moments = range(1, 10_000, self._stride)
            for batch in (moments[at : at + LANES] for at in range(0, len(moments), LANES)):
                looked = [each for each in pool.map(self._at, batch) if each is not None]
                found.moments += len(looked)
                found.stored += sum(bool(stored) for stored, _ in looked)
                found.wrong += [text for _, wrong in looked for text in wrong]
                if len(looked) < len(batch):
                    return found
        raise AssertionError("no worker came to its end")

    def _at(self, moment: int) -> tuple[set[str], list[str]] | None:
        """What was stored, and what is wrong, when a worker ended at this moment; None when it came to its end."""
        thread = f"{self._durability} {moment}"
        self._begin(thread)
        before = self._seen(thread)
        if self._run(thread, moment) == worker.DONE:
            return None
        there = stored(self._store, thread)
        wrong = self._left(thread, before) if self._second else self._resumed(thread, there)
        return there, [f"moment {moment}: {each}" for each in wrong]

    def _resumed(self, thread: str, there: set[str]) -> list[str]:
        """What is wrong when the next worker goes on."""
        lines = len(log.read(self._log(thread)))
        self._run(thread)
        again = there & {line.name for line in log.read(self._log(thread))[lines:] if line.what == "start"}
        return [
            *([f"I4: {again} had results that could be seen, and began again"] if again else []),
            *self._end(thread),
        ]

    def _left(self, thread: str, before: Any) -> list[str]:
        """What is wrong when either nothing or all of a run was to be left, and the next worker runs it anew."""
        left = self._seen(thread)
        if left not in (before, self._undisturbed):
            return [f"I7: a part of the run can be seen: {before} has become {left}"]
        if left == before:
            self._run(thread)
        return self._end(thread)

    def _end(self, thread: str) -> list[str]:
        if (end := self._seen(thread)) == self._undisturbed:
            return []
        return [f"I7: it ends as {end}, and undisturbed as {self._undisturbed}"]

    def _seen(self, thread: str) -> Any:
        return seen(self._store, thread, self._inside)

    def _begin(self, thread: str) -> None:
        if self._second:
            self._run(thread, durability="sync")

    def _run(self, thread: str, moment: int = 0, *, durability: str = "") -> int:
        """Have a worker run the thread, to its end or to this moment; how it ended."""
        order = Order(
            self._place,
            str(self._log(thread)),
            thread,
            "seed",
            TTL,
            fuse=0 if self._killed else moment,
            small=durability or self._durability,
            inside=self._inside,
            anew=self._second,
        )
        one = self._nursery.start(order)
        if self._killed and moment and all(one.line() for _ in range(moment)):
            one.signal(signal.SIGKILL)
        code = one.wait()
        if code not in (worker.DONE, EXITED, -signal.SIGKILL):
            raise AssertionError(f"thread {thread!r}: a worker ended with {code}: {one.said}")
        return code

    def _log(self, thread: str) -> Path:
        return self._folder / f"{thread}.log"
