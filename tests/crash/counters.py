"""Eight processes that add to fifty counters, each of which is a thread: none may lose what it was told it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fanfold.store.opening import open_store
from tests.crash import log, worker
from tests.crash.log import Line
from tests.crash.nursery import Nursery
from tests.crash.worker import Order

PROCESSES = 8
THREADS = 50
TTL = 15.0


@dataclass(slots=True)
class Counted:
    """What came of it: how many runs, what they added to all counters together, and what is wrong."""

    runs: int = 0
    added: int = 0
    wrong: list[str] = field(default_factory=list)


def counted(place: str, folder: Path, seed: str, seconds: float) -> Counted:
    """Have all of them add for so many seconds, in the database at `place`."""
    path = folder / f"{seed}.log"
    with Nursery() as nursery:
        orders = [
            Order(place, str(path), "counter", f"{seed}-{number}", TTL, threads=THREADS, seconds=seconds)
            for number in range(PROCESSES)
        ]
        workers = [nursery.start(order) for order in orders]
        found = Counted()
        for each in workers:
            if each.wait(within=seconds + 60) != worker.DONE:
                found.wrong.append(f"a worker has failed: {each.said}")
    lines = log.read(path)
    told = [line for line in lines if line.what == "told"]
    found.runs, found.added = len(told), sum(int(line.id) for line in told)
    found.wrong += [*_shared(lines), *_miscounted(place, told)]
    return found


def _shared(lines: Sequence[Line]) -> Iterator[str]:
    """I3: one owner at a time, in an epoch later than that of every owner before."""
    owners: dict[str, Line] = {}
    epochs: Counter[str] = Counter()
    for line in lines:
        if line.what == "claim":
            if line.name in owners:
                yield f"owners: {line.name} was claimed at {line.at} and had an owner since {owners[line.name].at}"
            if line.epoch <= epochs[line.name]:
                yield f"owners: {line.name} had epoch {epochs[line.name]}, and then {line.epoch}"
            owners[line.name], epochs[line.name] = line, line.epoch
        elif line.what == "release":
            owner = owners.pop(line.name, None)
            if owner is None or owner.pid != line.pid:
                yield f"owners: {line.name} was released at {line.at} by one who was not its owner"


def _miscounted(place: str, told: Sequence[Line]) -> Iterator[str]:
    sums: Counter[str] = Counter()
    for line in told:
        sums[line.name] += int(line.id)
    with open_store(place) as store:
        graph = worker.counter(store)
        for thread, added in sorted(sums.items()):
            number = graph.get_state({"configurable": {"thread_id": thread}}).values["number"]
            if number != added:
                yield f"counters: {thread} stands at {number}, and {added} was acknowledged"
