"""What holds for every graph: loops, joins, conditional routes, Sends and reducers for which order matters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold.errors import GraphRecursionError, InvalidUpdateError
from fanfold.kernel.ledger import Ledger, Snapshot, Task
from fanfold.types import END, START
from tests.kernel.playing import Arrange, begun, snapshots, steps
from tests.kernel.reference import Drawing, Walk, compiled, walk

LIMIT = 12
NODES = ("a", "b", "c", "d", "e")

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


@laws
@given(drawings(), inputs)
def test_looking_at_a_run_does_not_change_it(drawing: Drawing, value: Any) -> None:
    def looking(ledger: Ledger) -> Arrange:
        def arrange(tasks: Sequence[Task]) -> Sequence[Task]:
            for _ in range(2):
                ledger.snapshot(), ledger.values(), ledger.pending()
                for task in tasks:
                    ledger.view(task)
            return tasks

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
