"""What holds for every graph: loops, joins, routes, Sends, deferred nodes, and keys for which order or time matters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold.errors import GraphRecursionError, InvalidUpdateError
from fanfold.kernel.ledger import Ledger, Snapshot, Task
from fanfold.types import END, START
from tests.kernel.playing import Arrange, act, begun, snapshots, steps
from tests.kernel.reference import Drawing, Walk, compiled, walk

LIMIT = 12
NODES = ("a", "b", "c", "d", "e")
KEYS = ("mix", "trail", "last", "spark")

laws = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    names = draw(st.permutations(NODES[: draw(st.integers(1, len(NODES)))]))
    one = st.sampled_from(names)
    targets = st.one_of(one, one.map("[{}]".format), st.just(END))
    choices = st.lists(st.lists(targets, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple)
    members = st.lists(one, min_size=1, max_size=3, unique=True).map(tuple)
    first = draw(st.lists(one, min_size=1, max_size=3, unique=True))
    return Drawing(
        nodes=tuple(names),
        edges=tuple((START, name) for name in first)
        + tuple(draw(st.lists(st.tuples(one, st.one_of(one, st.just(END))), max_size=5, unique=True))),
        joins=tuple(draw(st.lists(st.tuples(members, one), max_size=3))),
        routes=draw(st.dictionaries(st.sampled_from([START, *names]), choices, max_size=3)),
        writers=frozenset(draw(st.lists(one, max_size=1))),
        late=frozenset(draw(st.lists(one, max_size=2))),
    )


inputs = st.fixed_dictionaries({"mix": st.integers(0, 100)})


def ledger_walk(drawing: Drawing, value: Any, arrange: Arrange = list) -> Walk:
    """The same account that the reference gives, of a run on the ledger."""
    ledger = begun(compiled(drawing), value, limit=LIMIT)
    seen: list[list[tuple[str, Any]]] = []

    def noting(tasks: Sequence[Task]) -> Sequence[Task]:
        views = [(task.node, ledger.view(task)) for task in sorted(tasks, key=lambda task: task.order)]
        seen.append(views)
        return arrange(tasks)

    try:
        for _ in steps(ledger, noting):
            pass
    except GraphRecursionError:
        return Walk(seen, "limit", ledger.values())
    except InvalidUpdateError:
        return Walk(seen, "conflict", ledger.values())
    return Walk(seen, "done", ledger.values())


@laws
@given(drawings(), inputs)
def test_the_ledger_agrees_with_plain_super_steps(drawing: Drawing, value: Any) -> None:
    assert ledger_walk(drawing, value) == walk(drawing, value, LIMIT)


@laws
@given(drawings(), inputs, st.integers())
def test_the_order_of_finishing_within_a_step_changes_nothing(drawing: Drawing, value: Any, seed: int) -> None:
    chance = random.Random(seed)
    shuffled = ledger_walk(drawing, value, lambda tasks: chance.sample(list(tasks), len(tasks)))
    assert shuffled == ledger_walk(drawing, value)


def _taken(ledger: Ledger, most: int) -> list[Snapshot]:
    try:
        return snapshots(ledger, most)
    except InvalidUpdateError:  # the graph lets two nodes write a plain key; up to there it is a run like any other
        return []


@laws
@given(drawings(), inputs, st.data())
def test_a_run_that_was_paused_after_any_step_goes_on_as_if_it_had_not(
    drawing: Drawing, value: Any, data: st.DataObject
) -> None:
    plan = compiled(drawing)
    whole = _taken(begun(plan, value, limit=100), LIMIT)
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
@given(drawings(), inputs, stops, stops, st.booleans())
def test_a_run_that_pauses_wherever_it_may_comes_to_the_same_end(
    drawing: Drawing, value: Any, before: frozenset[str], after: frozenset[str], anew: bool
) -> None:
    plan = compiled(drawing)

    def ledger() -> Ledger:
        return Ledger(plan, seed="thread", step_limit=100, pause_before=before, pause_after=after)

    def restored(old: Ledger) -> Ledger:
        """Another sitting: all that it has of the first is where that stood."""
        new = ledger()
        new.restore(old.snapshot())
        return new

    whole = _taken(begun(plan, value, limit=100), LIMIT)
    pausing = ledger()
    pausing.begin(value)
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
@given(drawings(), inputs)
def test_what_tasks_returned_and_what_changed_are_enough_to_follow_a_run(drawing: Drawing, value: Any) -> None:
    plan = compiled(drawing)
    ledger, follower = begun(plan, value, limit=100), begun(plan, value, limit=100)
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
@given(drawings(), inputs)
def test_looking_at_a_run_does_not_change_it(drawing: Drawing, value: Any) -> None:
    def looking(ledger: Ledger) -> Arrange:
        def arrange(tasks: Sequence[Task]) -> Iterator[Task]:
            for ending in tasks:
                yield ending
                ledger.snapshot(), ledger.values(), ledger.pending(), ledger.chosen(KEYS), ledger.changed()
                ledger.waiting_joins()
                try:
                    ledger.provisional(KEYS)
                except InvalidUpdateError:  # what was returned so far excludes each other; so will the whole step
                    assert drawing.writers
                for task in tasks:
                    ledger.view(task) if task.node != START else None, ledger.result(task)

        return arrange

    watched = begun(compiled(drawing), value, limit=100)
    alone = begun(compiled(drawing), value, limit=100)
    try:
        for _ in zip(range(LIMIT), steps(alone), strict=False):
            pass
        for _ in zip(range(LIMIT), steps(watched, looking(watched)), strict=False):
            pass
    except InvalidUpdateError:
        return
    assert watched.snapshot() == alone.snapshot()
