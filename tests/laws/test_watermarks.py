"""What holds for every graph when tasks do not wait for the step below to end, but only for what they read."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings

from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Snapshot
from fanfold.kernel.plan import Plan
from tests.laws.cases import Case, case_of, cases
from tests.laws.clockwork import Clock, Played
from tests.laws.drawings import built
from tests.laws.reference import Place, Stand, Walk, walk

LONG = bool(os.environ.get("FANFOLD_LONG"))
LIMIT = 9

pytestmark = pytest.mark.timeout(3600 if LONG else 120)

Schedule = Literal["watermark", "superstep"]


def laws(examples: int, most: int = 20_000) -> settings:
    """So many random graphs, and `most` in the long form."""
    checks = list(HealthCheck)
    return settings(max_examples=most if LONG else examples, deadline=None, suppress_health_check=checks)


def fresh(plan: Plan, schedule: Schedule = "watermark", limit: int = LIMIT) -> Ledger:
    return Ledger(plan, seed="thread", step_limit=limit, schedule=schedule)


def begun(plan: Plan, value: Any, schedule: Schedule = "watermark") -> Ledger:
    ledger = fresh(plan, schedule)
    ledger.begin(value)
    return ledger


def played(case: Case, plan: Plan, schedule: Schedule = "watermark", **more: Any) -> Played:
    return Clock(begun(plan, case.value, schedule), case, **more).play()


def plan_of(case: Case) -> Plan:
    return built(case.drawing, Builder).plan()


def stand(snapshot: Snapshot) -> Stand:
    """A snapshot in the words of the walk."""
    return Stand(
        snapshot.step,
        snapshot.values,
        tuple((task.node, task.send, None if task.send is None else task.arg) for task in snapshot.tasks),
        tuple(frozenset(seen) for seen in snapshot.joins),
        frozenset(snapshot.deferred),
        snapshot.ran,
    )


def as_walk(run: Played) -> Walk:
    """A run in the words of the walk, which takes no task that comes after its end."""
    last = run.step if run.ending != "done" else len(run.snapshots)
    seen = {at: saw for at, saw in run.seen.items() if at[0] <= last}
    return Walk(seen, [stand(snapshot) for snapshot in run.snapshots], run.ending, last, run.state)


# Every graph


@laws(2_000)
@given(cases())
def test_a_run_is_the_walk_by_super_steps(case: Case) -> None:
    plain = walk(case.drawing, case.value, LIMIT)
    if plain.ending != "crowd":
        assert as_walk(played(case, plan_of(case))) == plain


@laws(2_000)
@given(cases())
def test_no_task_starts_later_than_behind_the_barrier_and_every_checkpoint_is_the_same(case: Case) -> None:
    plan = plan_of(case)
    barrier = played(case, plan, "superstep")
    ahead = played(case, plan)
    assert {at: start for at, start in ahead.starts.items() if start > barrier.starts.get(at, start)} == {}
    assert barrier.starts.keys() <= ahead.starts.keys()
    assert barrier.results.items() <= ahead.results.items()
    assert (ahead.snapshots, ahead.ending, ahead.step) == (barrier.snapshots, barrier.ending, barrier.step)
    if barrier.ending == "done":
        assert ahead.span <= barrier.span
        assert barrier.starts.keys() == ahead.starts.keys()


@laws(500)
@given(cases(declared=False))
def test_where_no_node_declares_anything_each_task_starts_when_the_step_below_has_ended(case: Case) -> None:
    plan = plan_of(case)
    assert played(case, plan) == played(case, plan, "superstep")


@laws(1_000)
@given(cases(durable=True))
def test_a_run_that_crashes_at_any_moment_goes_on_to_the_same_end_and_repeats_nothing(case: Case) -> None:
    plan = plan_of(case)
    whole = played(case, plan)
    sittings = Sittings(case, plan)
    for crash in range(1 + case.chance("crashes") % 3):
        sittings.sit(most=case.chance("crash", crash) % (len(whole.ends) + 1))
    sittings.sit()
    sittings.compare(whole)


@laws(600)
@given(cases(durable=True))
def test_a_task_that_pauses_holds_up_only_what_depends_on_it_and_the_rest_is_not_done_again(case: Case) -> None:
    plan = plan_of(case)
    whole = played(case, plan)
    places = sorted(whole.ends, key=str)
    held = {places[case.chance("held", number) % len(places)] for number in range(1 + case.chance("two") % 2)}
    sittings = Sittings(case, plan)
    paused = sittings.sit(held=held)
    assert held & paused.starts.keys()
    assert (
        paused.starts.items()
        >= {at: start for at, start in whole.starts.items() if start <= first(held, whole)}.items()
    )
    assert played(case, plan, "superstep", held=held).starts.keys() <= paused.starts.keys()
    sittings.sit()
    sittings.compare(whole)


def first(held: set[Place], whole: Played) -> int:
    """When the first of these tasks would have ended."""
    return min(whole.ends[at] for at in held) - 1


@dataclass
class Sittings:
    """One run in several sittings, each of which has the results and the last snapshot of those before it."""

    case: Case
    plan: Plan
    snapshots: list[Snapshot] = field(default_factory=list)
    seen: dict[Place, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    done: set[Place] = field(default_factory=set)
    last: Played = field(default_factory=Played)

    def sit(self, **more: Any) -> Played:
        """The next sitting."""
        ledger = begun(self.plan, self.case.value)
        if self.snapshots:
            at = self.snapshots[-1]
            ledger = fresh(self.plan, limit=LIMIT - at.step)
            ledger.restore(at)
        self.last = run = Clock(ledger, self.case, known=self.results, **more).play()
        assert not self.done & run.seen.keys(), "a task that had ended ran again"
        if run.ending == "done":
            kept = {at for at in self.done if not self.snapshots or at[0] > self.snapshots[-1].step}
            assert run.remembered == kept
        self.seen |= run.seen
        self.results |= run.results
        self.done |= run.ends.keys()
        self.snapshots += run.snapshots
        return run

    def compare(self, whole: Played) -> None:
        """What all sittings together have done is what the run does in one."""
        ended = whole.step if whole.ending != "done" else len(whole.snapshots)
        assert (self.snapshots, self.last.ending, self.last.step) == (whole.snapshots, whole.ending, whole.step)
        assert self.last.state == whole.state
        ours, theirs = ({at: saw for at, saw in seen.items() if at[0] <= ended} for seen in (self.seen, whole.seen))
        assert ours == theirs


# Some graphs


def test_a_good_part_of_random_graphs_takes_less_time_than_behind_the_barrier() -> None:
    chance = random.Random(5)
    spans = []
    for _ in range(150):
        case = case_of(chance.randbytes(256))
        plan = plan_of(case)
        barrier, ahead = played(case, plan, "superstep"), played(case, plan)
        spans.append((ahead.span, barrier.span))
    assert sum(ahead < barrier for ahead, barrier in spans) > 10
