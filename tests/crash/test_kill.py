"""What survives `kill -9`: every result that was on disk, and with it everything that was paid for."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fanfold import audit
from fanfold.store.base import DONE, ResultKept
from fanfold.store.serde import Codec
from fanfold.store.sqlite import SqliteStore
from tests.crash import team

KILLS = 15
"""At least so many, for each concurrency limit."""

AGENTS = team.ROUNDS * 3 * 3
NODES = team.ROUNDS * (3 + 1)


@dataclass(frozen=True)
class Thread:
    """One thread in a store, the file that its agents write to, and what is known of it."""

    store: Path
    log: Path
    name: str
    limit: int

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def started(self, since: int = 0) -> Counter[str]:
        return Counter(line.removeprefix("start ") for line in self.lines()[since:] if line.startswith("start "))

    def sitting(self, kill_after: int) -> bool:
        """Have a process work on it, and kill that when so many lines have appeared. True when it was done before."""
        command = [sys.executable, team.__file__, self.store, self.log, self.name, str(self.limit)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, _ in enumerate(process.stdout, 1):
                if number == kill_after:
                    process.kill()
                    break
            _, trouble = process.communicate(timeout=30)
        assert process.returncode in (0, -9), trouble
        return process.returncode == 0

    def acknowledged(self) -> set[str]:
        """Every node and agent whose result is on disk."""
        with SqliteStore(self.store) as store:
            return set(map(_who, store.results(self.name)))

    def values(self) -> dict[str, Any]:
        graph, agents = team.team(str(self.store), team.Note(str(self.log)))
        with graph.kept_in:
            return dict(graph.invoke(None, thread_id=self.name, agents=agents))


def _who(result: ResultKept) -> str:
    record = Codec().decode(result.data)
    if result.parent is not None:
        return str(record["answer"]["output"])
    log = dict(record["writes"]).get("log")
    return str(log[0]) if log else result.name


def needed(started: Iterable[str]) -> set[str]:
    """The agents without whose answers one of `started` could not have begun."""
    needed: set[str] = set()
    for name in started:
        if last := re.fullmatch(r"agent (.*)\.last of 2", name):
            needed |= {f"agent {last[1]}.{number}" for number in "01"}
        elif fold := re.fullmatch(r"node fold (\d)", name):
            needed |= {f"agent {fold[1]}.{part}.last of 2" for part in "abc"}
    return needed


def lived(thread: Thread, chance: random.Random) -> int:
    """Kill the thread's processes at random until one of them gets to its end. How often that was."""
    safe: set[str] = set()
    for kills in itertools.count():
        begun = len(thread.lines())
        done = thread.sitting(chance.randint(1, 24))
        assert not safe & thread.started(since=begun).keys(), f"thread {thread.name}, after kill {kills}"
        if done:
            return kills
        on_disk = thread.acknowledged()
        assert safe <= on_disk, f"thread {thread.name}, kill {kills + 1}"
        assert needed(thread.started()) <= on_disk, f"thread {thread.name}, kill {kills + 1}"
        safe = on_disk
    raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    thread = Thread(folder / "runs.db", folder / "log.txt", "t", 0)
    assert thread.sitting(kill_after=1_000)
    assert sum(thread.started().values()) == AGENTS + NODES
    return thread.values()


@pytest.mark.parametrize("limit", [0, 4], ids=["no limit", "limit 4"])
def test_what_was_acknowledged_before_a_kill_never_starts_again(
    limit: int, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    chance = random.Random(f"kills with limit {limit}")
    kills = 0
    for number in itertools.count():
        thread = Thread(tmp_path / "runs.db", tmp_path / f"{number}.txt", f"thread-{number}", limit)
        kills += lived(thread, chance)
        with SqliteStore(thread.store) as store:
            assert store.run(thread.name).status == DONE
            told = audit(thread.name, store=store)  # a kill loses the events of its last moment, and nothing trips
        assert (told.status, told.limit) == (DONE, limit or None)
        assert len(told.agents) <= AGENTS
        assert thread.values() == undisturbed
        if kills >= KILLS:
            return
