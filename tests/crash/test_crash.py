"""What survives `kill -9`, a freeze and an end in the middle of a call: the short form of `make crash`.

The seeds are fixed, and are parts of the names of threads: a message that names thread `short-17` can be had again with
`python -m tests.crash --seed short`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import counters, mutants
from tests.crash.harness import Campaign, caught

KILLS = 100
"""At least so many on each database."""
SECONDS = 2.5


@pytest.mark.timeout(400)  # half a minute, unless many others want the processors, too
def test_what_was_acknowledged_is_never_lost_never_replaced_and_never_runs_again(place: str, tmp_path: Path) -> None:
    """I1 to I5, I7 and I9, in `sync` and `async`, with and without a limit, and beside a node that blocks the loop."""
    tally = Campaign(place, tmp_path, "short", KILLS).run()
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.kills >= KILLS
    assert tally.taken  # from workers that were frozen,
    assert tally.refused  # and came back to write
    assert (tally.lost, tally.repeated, tally.stale_visible) == (0, 0, 0)


@pytest.mark.parametrize("mutant", mutants.MUTANTS)
def test_the_harness_finds_out_when_a_promise_is_broken(mutant: str, place: str, tmp_path: Path) -> None:
    _, sign = mutants.MUTANTS[mutant]
    tally = caught(place, tmp_path, f"{mutant} 3", mutant)
    assert any(f": {sign}: " in each for each in tally.wrong), tally


def test_counters_that_eight_processes_add_to_hold_what_was_acknowledged(place: str, tmp_path: Path) -> None:
    store = place if place.startswith("postgresql:") else f"{place}/counters.db"
    found = counters.counted(store, tmp_path, "short", SECONDS)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.runs > counters.THREADS
