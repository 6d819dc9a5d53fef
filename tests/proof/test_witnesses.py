"""Where the witnesses of a run disagree, the receipt says so; where they agree, it says nothing."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import pytest

from fanfold.agents.processes import Program
from fanfold.events import Event, LoopHeld, ModelAnswered, ModelAsked, ProgramSeen, ThreadUsed
from fanfold.receipt import PARALLEL, SEQUENTIAL, Receipt, Thresholds, audit
from fanfold.receipt.causes import BLOCKS, GIL_BOUND, QUEUES
from tests.proof.controls import State, audited, beside
from tests.proof.telling import begun, done, in_order, over, queued, start


@dataclass
class Entry:
    """A line of some server's journal, which knows nothing of a queue."""

    task: str
    started: float
    ended: float | None


def asks(task: str, since: float, until: float) -> list[Event]:
    asked = [ModelAsked(since, task, "m"), ModelAnswered(until, task, "m", 1, 1)]
    return [queued(since, task), begun(since, task), *asked, done(until, task)]


def told(*parts: Any, journal: Any = ()) -> Receipt:
    return audit(in_order(start(), *parts), journal=journal)


THREE = [asks("a", 0, 2), asks("b", 0, 4), asks("c", 0, 6)]


def test_a_server_that_took_up_one_call_after_the_other_shows_in_a_journal_without_a_queue() -> None:
    journal = [Entry("a", 0, 2), Entry("b", 2, 4), Entry("c", 4, 6)]
    found = told(*THREE, over(6), journal=journal)
    assert (found.verdict, found.work, [cause.kind for cause in found.causes]) == (SEQUENTIAL, 6, [QUEUES])
    assert [task.parts for task in found.tasks] == [
        {"working": 2},
        {"provider": 2, "working": 2},
        {"provider": 4, "working": 2},
    ]
    assert found.disagreements == (
        "the engine had up to 3 requests to models in flight (mean 2.00), and the server never served more than 1 at"
        " once (mean 1.00); its queue had them for 6.00 s in all",
    )
    assert told(*THREE, over(6)).verdict != SEQUENTIAL, "the engine alone cannot know"


def test_a_server_that_saw_what_the_engine_saw_is_agreed_with() -> None:
    found = told(*THREE, over(6), journal=[Entry("a", 0, 2), Entry("b", 0, 4), Entry("c", 0.01, None)])
    assert found.disagreements == ()
    assert [(witness.seen, witness.peak) for witness in found.witnesses] == [(3, 3), (3, 3)]
    assert not any("provider" in task.parts for task in found.tasks)


def test_answers_of_which_the_server_knows_nothing_are_told() -> None:
    found = told(*THREE, over(6), journal=[Entry("a", 0, 2), Entry("of another run", 0, 6), Entry("b", -9, -5)])
    assert found.disagreements[0] == "the engine saw agents ask models 3 times, and the server has 1 calls of them"


def test_calls_are_found_in_the_sitting_in_which_they_were_made() -> None:
    first = [start(), *asks("a", 0, 2), over(2, "failed")]
    again = [start(100, resumed=True), *asks("b", 100, 104), over(104)]
    found = audit([*first, *again], journal=[Entry("a", 0, 2), Entry("b", 100, 104)])
    assert [witness.seen for witness in found.witnesses] == [2, 2]
    assert found.disagreements == ()


# The operating system


def program(task: str, since: float, until: float, seen: list[tuple[float, int, float]]) -> list[Event]:
    looks = [ProgramSeen(at, task, processes, cpu) for at, processes, cpu in seen]
    return [queued(since, task), begun(since, task), *looks, done(until, task)]


def test_programs_that_the_operating_system_saw_only_one_after_the_other_are_told() -> None:
    a = program("a", 0, 4, [(0, 1, 0.0), (2, 2, 1.5)])
    b = program("b", 0, 4, [(0, 0, 0.0), (2, 2, 0.5), (4, 2, 2.0)])
    found = told(a, b, over(4))
    assert found.disagreements == (
        "the engine had up to 2 programs at work at once (mean 2.00), and the operating system never saw more than 1"
        " (mean 1.00)",
    )
    assert [task.cpu for task in found.tasks] == [1.5, 2.0]
    assert "witness: the operating system: 2 programs of agents, peak 1, mean 1.00, 0.88 cores in use" in found.lines()


def test_the_operating_system_counts_the_processes_of_a_program_and_what_they_used(tmp_path: Any) -> None:
    import asyncio

    async def main() -> tuple[int, float]:
        burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo ready; read line"
        async with Program(["sh", "-c", f"sleep 60 & {burn}"], tmp_path) as running:
            assert (await running.lines()).strip() == "ready"
            seen = running.seen()
        assert running.seen()[0] == 0, "nothing of it is left"
        return seen

    processes, cpu = asyncio.run(main())
    assert processes == 3, "the launcher, the shell, and what it has started"
    assert cpu > 0.02


# Threads


def used(task: str, since: float, until: float, cpu: float, ready: float = 0.0) -> list[Event]:
    return [
        queued(since, task),
        begun(since, task),
        ThreadUsed(until, task, until - since, cpu, ready),
        done(until, task),
    ]


def test_threads_that_had_one_core_between_them_took_turns() -> None:
    found = told(*(used(name, 0, 6, 2) for name in "abc"), over(6))
    assert (found.verdict, found.mean, [cause.kind for cause in found.causes]) == (SEQUENTIAL, 1, [GIL_BOUND])
    assert [task.parts for task in found.tasks] == [{"working": 2, "GIL": 4}] * 3
    assert found.disagreements == (
        "the engine had 3 threads at work at once (mean 3.00), and the operating system saw 1.00 of them that could go"
        " on; they waited 12.00 s for each other",
    )


def test_threads_that_others_kept_from_the_cores_took_turns_all_the_same() -> None:
    found = told(*(used(name, 0, 6, 0.5, 1.8) for name in "abc"), over(6))
    assert (found.verdict, found.mean) == (SEQUENTIAL, pytest.approx(1))


def test_a_loop_that_took_turns_with_threads_is_held_by_no_code_unless_a_line_was_seen() -> None:
    def loop(*place: Any) -> list[Event]:
        return [queued(1, "d"), begun(1, "d"), LoopHeld(2, "d", 1.0, *place), done(2, "d")]

    threads = [used(name, 0, 6, 2) for name in "abc"]
    found = told(*threads, loop(), over(6))
    assert (found.blocked, [cause.kind for cause in found.causes]) == (0, [GIL_BOUND])
    assert found.tasks[-1].parts == {"GIL": 1}
    seen = told(*threads, loop("app.py", 7, "node"), over(6))
    assert (seen.blocked, [cause.kind for cause in seen.causes]) == (1, [GIL_BOUND, BLOCKS])
    assert told(loop(), used("a", 0, 6, 6), over(6)).blocked == 1, "one thread takes no turns"


@pytest.mark.parametrize(
    ("cpu", "ready"),
    [(2.9, 0.0), (1.5, 1.4), (0.3, 0.1)],
    ids=["each has a core", "they share two", "they wait for something else"],
)
def test_threads_that_do_not_wait_for_each_other_are_parallel(cpu: float, ready: float) -> None:
    found = told(*(used(name, 0, 3, cpu, ready) for name in "abc"), over(3))
    assert (found.verdict, found.disagreements) == (PARALLEL, ())


def test_threads_one_after_the_other_took_no_turns() -> None:
    found = told(used("a", 0, 2, 2), used("b", 2, 4, 2), over(4))
    assert (found.verdict, found.disagreements, found.causes) == (SEQUENTIAL, (), ())


def test_threads_that_took_no_time_are_no_witnesses() -> None:
    assert told(used("a", 0, 0, 0), used("b", 0, 0, 0), over(1)).witnesses == ()
    lines = Thresholds(turns=0)
    assert (
        audit(in_order(start(), used("a", 0, 2, 0), used("b", 0, 2, 0), over(2)), thresholds=lines).verdict == PARALLEL
    )


DATA = b"x" * 20_000_000


def hashes(state: State) -> None:
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        hashlib.sha256(DATA).digest()


def test_threads_whose_code_lets_go_of_python_are_parallel() -> None:
    found = audited(beside(hashes, hashes))
    assert (found.verdict, found.disagreements) == (PARALLEL, ())
    assert all(task.cpu >= 0.3 for task in found.tasks)
