"""What holds for every graph: loops, joins, routes, Sends, deferred nodes, and keys for which order or time matters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fanfold.errors import GraphRecursionError, InvalidUpdateError
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Snapshot, Task
from fanfold.kernel.plan import Plan
from fanfold.types import END, START
from tests.kernel.playing import Arrange, act, begun, snapshots, steps
from tests.laws.cases import Case
from tests.laws.drawings import KEYS, Drawing, Spot, Way, built
from tests.laws.reference import walk

LIMIT = 12
NODES = ("a", "b", "c", "d", "e")

laws = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random graphs of which no node declares anything, and an input from which they run to some end."""
    names = draw(st.permutations(NODES[: draw(st.integers(1, len(NODES)))]))
    one = st.sampled_from(names)
    targets = st.one_of(one, one.map("[{}]".format), st.just(END))
    choices = st.lists(st.lists(targets, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple)
    members = st.lists(one, min_size=1, max_size=3, unique=True).map(tuple)
    first = draw(st.lists(one, min_size=1, max_size=3, unique=True))
    writers, late = draw(st.lists(one, max_size=1)), draw(st.lists(one, max_size=2))
    puts = {name: ("mix", "trail", "spark", *(["last"] if name in writers else [])) for name in names}
    drawing = Drawing(
        spots=tuple(Spot(name, puts[name], late=name in late) for name in names),
        edges=tuple((START, name) for name in first)
        + tuple(draw(st.lists(st.tuples(one, st.one_of(one, st.just(END))), max_size=5, unique=True))),
        joins=tuple(draw(st.lists(st.tuples(members, one), max_size=3))),
        ways=tuple(draw(st.lists(st.tuples(st.sampled_from([START, *names]), choices.map(Way)), max_size=3))),
    )
    case = Case(drawing, {"mix": draw(st.integers(0, 100))}, 0)
    assume(walk(drawing, case.value, LIMIT).ending != "crowd")
    return case


def compiled(case: Case) -> Plan:
    return built(case.drawing, Builder).plan()


def account(case: Case, arrange: Arrange = list) -> tuple[Any, str, Any]:
    """What each task of a run on the ledger saw, how the run ended, and the state then."""
    ledger = begun(compiled(case), case.value, limit=LIMIT)
    seen: dict[Any, Any] = {}

    def noting(tasks: Sequence[Task]) -> Iterable[Task]:
        seen.update({(task.step, task.node, task.send): ledger.view(task) for task in tasks})
        return arrange(tasks)

    ending = "done"
    try:
        for _ in steps(ledger, noting):
            pass
    except (GraphRecursionError, InvalidUpdateError) as error:
        ending = type(error).__name__
    return seen, ending, ledger.values()


@laws
@given(cases())
def test_the_ledger_agrees_with_plain_super_steps(case: Case) -> None:
    plain = walk(case.drawing, case.value, LIMIT)
    assert account(case) == (plain.seen, plain.ending, plain.state)


@laws
@given(cases(), st.integers())
def test_the_order_of_finishing_within_a_step_changes_nothing(case: Case, seed: int) -> None:
    chance = random.Random(seed)
    shuffled = account(case, lambda tasks: chance.sample(list(tasks), len(tasks)))
    assert shuffled == account(case)


def _taken(ledger: Ledger, most: int) -> list[Snapshot]:
    try:
        return snapshots(ledger, most)
    except InvalidUpdateError:  # the graph lets two nodes write a plain key; up to there it is a run like any other
        return []


@laws
@given(cases(), st.data())
def test_a_run_that_was_paused_after_any_step_goes_on_as_if_it_had_not(case: Case, data: st.DataObject) -> None:
    plan = compiled(case)
    whole = _taken(begun(plan, case.value, limit=100), LIMIT)
    for at, snapshot in enumerate(whole):
        resumed = Ledger(plan, seed="thread", step_limit=100)
        resumed.restore(snapshot)
        assert _taken(resumed, LIMIT - at) == whole[at:]


stops = st.one_of(st.just("*"), st.frozensets(st.sampled_from(NODES), max_size=3))


def _until_the_end(ledger: Ledger, again: Callable[[Ledger], Ledger]) -> tuple[list[Snapshot], list[Snapshot]]:
    """Where the run stood after each step, and where it paused; `again` says with what it goes on there."""
    found, pauses = [ledger.snapshot()], []
    while len(found) <= LIMIT:
        for _, _ in zip(range(LIMIT + 1 - len(found)), steps(ledger), strict=False):
            found.append(ledger.snapshot())
        if not ledger.paused:
            break
        assert not ledger.ready()
        pauses.append(ledger.snapshot())
        ledger = again(ledger)
    return found, pauses


def _proceeding(ledger: Ledger) -> Ledger:
    ledger.proceed()
    return ledger


@laws
@given(cases(), stops, stops, st.booleans())
def test_a_run_that_pauses_wherever_it_may_comes_to_the_same_end(
    case: Case, before: frozenset[str], after: frozenset[str], anew: bool
) -> None:
    plan = compiled(case)

    def ledger() -> Ledger:
        return Ledger(plan, seed="thread", step_limit=100, pause_before=before, pause_after=after)

    def restored(old: Ledger) -> Ledger:
        """Another sitting: all that it has of the first is where that stood."""
        new = ledger()
        new.restore(old.snapshot())
        return new

    whole = _taken(begun(plan, case.value, limit=100), LIMIT)
    pausing = ledger()
    pausing.begin(case.value)
    try:
        found, pauses = _until_the_end(pausing, restored if anew else _proceeding)
    except InvalidUpdateError:
        assert not whole
        return
    assert found == whole
    assert pauses == [snapshot for snapshot in whole if _stops(snapshot, before, after)]


def _stops(snapshot: Snapshot, before: frozenset[str], after: frozenset[str]) -> bool:
    ran = set(snapshot.ran) - {START}
    nexts = {task.node for task in snapshot.tasks} - {START}
    return bool((ran and (after == "*" or ran & set(after))) or (nexts and (before == "*" or nexts & set(before))))


@laws
@given(cases())
def test_what_tasks_returned_and_what_changed_are_enough_to_follow_a_run(case: Case) -> None:
    plan = compiled(case)
    ledger, follower = begun(plan, case.value, limit=100), begun(plan, case.value, limit=100)
    for _ in range(LIMIT):
        ended = [(task, act(ledger, task)) for task in ledger.ready()]
        if not ended:
            break
        try:
            for task, result in ended:
                ledger.finish(task, result)
        except InvalidUpdateError:
            return
        follower.refold(list(reversed(ended)), ledger.changed())
        assert follower.snapshot().values == ledger.snapshot().values


@laws
@given(cases())
def test_looking_at_a_run_does_not_change_it(case: Case) -> None:
    def looking(ledger: Ledger) -> Arrange:
        def arrange(tasks: Sequence[Task]) -> Iterator[Task]:
            for ending in tasks:
                yield ending
                ledger.snapshot(), ledger.values(), ledger.pending(), ledger.chosen(KEYS), ledger.changed()
                ledger.waiting_joins()
                try:
                    ledger.provisional(KEYS)
                except InvalidUpdateError:  # what was returned so far excludes each other; so will the whole step
                    assert any("last" in spot.puts for spot in case.drawing.spots)
                for task in tasks:
                    ledger.view(task) if task.node != START else None, ledger.result(task)

        return arrange

    watched = begun(compiled(case), case.value, limit=100)
    alone = begun(compiled(case), case.value, limit=100)
    try:
        for _ in zip(range(LIMIT), steps(alone), strict=False):
            pass
        for _ in zip(range(LIMIT), steps(watched, looking(watched)), strict=False):
            pass
    except InvalidUpdateError:
        return
    assert watched.snapshot() == alone.snapshot()
