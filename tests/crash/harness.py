"""Workers that are killed, frozen and ended in the middle of a call, over and over, and what that must not cost.

Several lanes work at once, each on threads of its own, one after the other. What befalls the workers of a thread is
drawn from the seed: the kinds of events, and after how many lines of the log. The moment itself is up to the machine,
so a failure that is repeated with its seed meets the same events at about the same places.

A thread is over when a worker has told its end, and is then examined (see `checks`).
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fanfold import audit
from fanfold.store.base import DONE as RUN_DONE
from fanfold.store.base import Store
from fanfold.store.opening import open_store
from tests.crash import checks, log, mutants, team, worker
from tests.crash.checks import Verdict
from tests.crash.log import Line
from tests.crash.nursery import Nursery, Worker
from tests.crash.watched import EXITED
from tests.crash.worker import Order

TTL = 0.4
"""Seconds that a lease lasts: whoever takes over from a frozen worker waits so long."""
LONGEST_FREEZE = 2.5
"""Seconds for which a frozen worker is left so. One that was frozen within a commit can keep the others out: with
SQLite until it comes back, with PostgreSQL until the server has ended its transaction."""
FUSES = 400
"""Moments before and after calls to the database in a whole run, about."""
STRIDE = 97
"""From one thread's moment to the next one's: so few threads try moments from all over a run, and many try each."""

EVENTS = ("kill", "kill", "kill", "freeze", "stall", "fuse", "repeat")
"""What befalls a worker: it is killed; it is frozen at any time, or within a call; it ends within a call; it hands in
again what is stored already, and is killed."""

FREEZES = ("freeze", "freeze", "freeze", "stall", "kill")
"""The same for what only a worker that was frozen can show, and not each one."""

REPEATS = ("repeat", "repeat", "kill")
"""The same for what a second attempt shows."""

SIGNS = {"stale": FREEZES, "repeated": FREEZES, "replaced": REPEATS, "lost": EVENTS}
"""What befalls the workers of a mutant, by what is to be found wrong."""

MOST_FOR_A_MUTANT = 200
"""Kills within which one must be caught."""
LANES = 3
"""At a time, for a mutant: when one has been caught, the others are waited for."""

KINDS: Sequence[dict[str, Any]] = (
    {"sync": False},
    {"sync": True},
    {"sync": False, "limit": 4},
    {"sync": False, "blocks": True},
    {"sync": False, "limit": 1},
    {"sync": False, "limit": 2, "ttl": 0.06},  # so short that it has to be confirmed now and then
    {"sync": True, "limit": 4, "blocks": True},
)
"""How threads are run, in turn."""


@dataclass(slots=True)
class Tally(Verdict):
    """What a campaign came to."""

    threads: int = 0
    kills: int = 0
    frozen: int = 0
    taken: int = 0
    fenced: int = 0

    def add(self, found: Verdict) -> None:
        """Count what was found in one thread, too."""
        for each in fields(Verdict):
            mine, its = getattr(self, each.name), getattr(found, each.name)
            setattr(self, each.name, max(mine, its) if each.name == "most" else mine + its)


@dataclass
class Campaign:
    """So many `kills`, at least, and a frozen worker for about every four; in the database at `place`.

    `place` is the URL of a PostgreSQL database, or else a folder for a SQLite file a lane: a worker that is frozen with
    such a file's lock keeps all others from writing to it. What befalls workers is drawn from
    `events`. With `until`, it ends when that is found to be wrong: "lost", "repeated", "stale", "replaced".
    """

    place: str
    folder: Path
    seed: str
    kills: int
    lanes: int = 6
    mutant: str = ""
    events: Sequence[str] = EVENTS
    until: str = ""
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._over = False

    def run(self) -> Tally:
        """Do it all; what came of it."""
        with Nursery(self.mutant) as nursery, ThreadPoolExecutor(self.lanes) as pool:
            for lane in [pool.submit(self._lane, nursery, number) for number in range(self.lanes)]:
                lane.result()
        return self.tally

    def _lane(self, nursery: Nursery, lane: int) -> None:
        served = self.place.startswith("postgresql:")
        place = self.place if served else str(Path(self.place) / f"{lane}.db")
        try:
            with open_store(place) as store:
                while (number := self._next()) is not None:
                    found = Life(self, nursery, place, f"{self.seed}-{number}", number).lived(store)
                    with self._lock:
                        self.tally.add(found)
                        self.tally.threads += 1
        except BaseException:
            self._over = True
            raise

    def _next(self) -> int | None:
        """The number of the next thread, unless there were enough."""
        with self._lock:
            caught = self.until and any(f": {self.until}: " in each for each in self.tally.wrong)
            if self._over or caught or self.tally.kills >= self.kills:
                return None
            self._threads += 1
            return self._threads - 1

    def count(self, what: str) -> None:
        """One more of `what`."""
        with self._lock:
            setattr(self.tally, what, getattr(self.tally, what) + 1)


def caught(place: str, folder: Path, seed: str, mutant: str) -> Tally:
    """A campaign against a mutant, which ends when what the mutant breaks has been found to be wrong."""
    _, sign = mutants.MUTANTS[mutant]
    return Campaign(place, folder, seed, MOST_FOR_A_MUTANT, LANES, mutant, SIGNS[sign], sign).run()


class WorkerFailedError(Exception):
    """A worker has ended in a way in which nobody made it end."""


class Life:
    """One thread, from its first worker to its last."""

    def __init__(self, campaign: Campaign, nursery: Nursery, place: str, name: str, number: int) -> None:
        self._campaign = campaign
        self._nursery = nursery
        self._chance = random.Random(name)
        self._log = campaign.folder / f"{name}.log"
        self._order = Order(place, str(self._log), name, name, **{"ttl": TTL, **KINDS[number % len(KINDS)]})
        self._number = number
        self._met = False
        self._begun = False

    def lived(self, store: Store) -> Verdict:
        """Let everything befall it until it is done; what there is to say then."""
        try:
            while not self._sat():
                pass
            held = checks.rows(self._order.place, self._order.thread)
            found = checks.verdict(log.read(self._log), held, sync=self._order.sync)
            found.wrong += self._state(store)
        except (TimeoutError, WorkerFailedError) as error:
            found = Verdict(wrong=[f"{type(error).__name__}: {error}"])
        found.wrong = [f"thread {self._order.thread} ({self._log}): {each}" for each in found.wrong]
        return found

    def _sat(self) -> bool:
        """Have a worker, or two, work on the thread. True when it is done."""
        event = self._chance.choice(self._campaign.events) if self._met else "fuse"
        self._met = True
        if event == "fuse":
            return self._blown()
        if event in ("freeze", "stall"):
            return self._frozen(itself=event == "stall")
        worker = self._start(repeats=event == "repeat")
        return self._killed(worker, self._chance.randint(1, 45))

    def _start(self, **more: Any) -> Worker:
        seed = str(self._chance.random())
        order = {each.name: getattr(self._order, each.name) for each in fields(Order)}
        return self._nursery.start(Order(**{**order, "seed": seed, **more}))

    def _killed(self, worker: Worker, after: int) -> bool:
        if self._lines(worker, after):
            self._moment()
            worker.signal(signal.SIGKILL)
        return self._ended(worker)

    def _blown(self) -> bool:
        """End a worker before or after its n-th call to the database; the first worker of each thread at another n."""
        fuse = 1 + self._number * STRIDE % FUSES if not self._begun else self._chance.randint(1, FUSES // 4)
        return self._ended(self._start(fuse=fuse))

    def _frozen(self, *, itself: bool) -> bool:
        """Freeze a worker, let another one take its thread, and have the first come back, at once or much later.

        One that freezes `itself` does so before or after a call to the database.
        """
        first = self._start(fuse=self._chance.randint(1, FUSES // 4), freezes=True) if itself else self._start()
        if not (self._until(first, "", "frozen") if itself else self._reached(first)):
            return self._ended(first)
        first.stands_still()
        self._campaign.count("frozen")
        second, done = None, False
        try:
            if self._begun:  # one that finds no checkpoint begins the thread, so the second worker has to find one
                second = self._start()
                done = self._took_over(second)
        finally:
            first.signal(signal.SIGCONT)
        if second is not None and second.alive:
            done = self._killed(second, self._chance.randint(1, 60))
        ended = self._ended(first)
        return ended if second is None else done

    def _reached(self, worker: Worker) -> bool:
        if not (self._begun or self._until(worker, "checkpoint")):
            return False
        if not self._lines(worker, self._chance.randint(1, 60)):
            return False
        self._moment()
        worker.signal(signal.SIGSTOP)
        return True

    def _took_over(self, second: Worker) -> bool:
        """Let the second worker have the thread, to its end or for some lines; whether the thread is done."""
        if not self._until(second, "", "claim", LONGEST_FREEZE):
            return False
        self._campaign.count("taken")
        if self._chance.random() < 0.5:
            return self._ended(second)
        self._lines(second, self._chance.randint(1, 60))
        return False

    def _lines(self, worker: Worker, number: int) -> bool:
        """Wait for so many lines; whether they came."""
        return all(self._seen(worker.line()) for _ in range(number))

    def _until(self, worker: Worker, kind: str, what: str = "ack", within: float = 60.0) -> bool:
        """Wait for a line that says `what` of that kind; whether it came in time."""
        end = time.monotonic() + within
        try:
            while self._seen(line := worker.line(max(0.0, end - time.monotonic()))):
                if line is not None and (line.what, line.kind) == (what, kind):
                    return True
        except TimeoutError:
            if within < 60.0:
                return False
            raise
        return False

    def _seen(self, line: Line | None) -> bool:
        if line is not None and line.kind == "checkpoint" and line.what == "ack":
            self._begun = True
        return line is not None

    def _moment(self) -> None:
        """Not just when a line was written, but at any time until the next."""
        time.sleep(self._chance.random() * 0.003)

    def _ended(self, one: Worker) -> bool:
        """Wait for the end of a worker; whether the thread is done."""
        while self._seen(one.line()):
            pass
        code = one.wait()
        if code in (-signal.SIGKILL, EXITED):
            self._campaign.count("kills")
        elif code == worker.FENCED:
            self._campaign.count("fenced")
        elif code != worker.DONE:
            raise WorkerFailedError(f"it ended with {code}: {one.said}")
        return code == worker.DONE

    def _state(self, store: Store) -> list[str]:
        """I7: it ends as it would have ended undisturbed."""
        wrong = []
        graph, _ = team.team(store, blocks=self._order.blocks)
        state = graph.get_state({"configurable": {"thread_id": self._order.thread}})
        told = audit(self._order.thread, store=store)
        run = store.run(self._order.thread)
        if state.values != team.undisturbed(blocks=self._order.blocks) or state.next:
            wrong.append(f"state: it ends as {state.values}, next {state.next}")
        if (run.status, told.status, told.limit) != (RUN_DONE, RUN_DONE, self._order.limit or None):
            wrong.append(f"state: the run is {run.status}; by its events {told.status}, with limit {told.limit}")
        return wrong
