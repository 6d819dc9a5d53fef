"""The smallest driver there can be: it runs each task where it stands, so that only the rules are under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fanfold.kernel.ledger import Ledger, Result, Snapshot, Task
from fanfold.kernel.plan import Plan
from fanfold.kernel.schema import updates_of

Arrange = Callable[[Sequence[Task]], Iterable[Task]]


def act(ledger: Ledger, task: Task) -> Result:
    """What the task's node returns and where its conditional edges lead."""
    node = ledger.plan.nodes[task.node]
    if node.action is None:
        writes = ledger.input_writes(task.arg)
    else:
        writes = updates_of(node.action.function(ledger.view(task)), ledger.plan.state)
    goto = [
        goal
        for route in node.routes
        for goal in ledger.plan.destinations(route, route.path.function(ledger.preview(task, writes, route)))
    ]
    return Result(writes, tuple(goto))


def steps(ledger: Ledger, arrange: Arrange = list) -> Iterator[list[Task]]:
    """The tasks of each step, in starting order, once the step is folded. They finish in the order of `arrange`.

    Ends also where the run pauses; then it can be called again after `proceed`.
    """
    while tasks := ledger.ready():
        results = {task.id: act(ledger, task) for task in tasks}
        for task in arrange(tasks):
            ledger.finish(task, results[task.id])
        yield tasks


def begun(plan: Plan, value: Any, *, limit: int = 25) -> Ledger:
    """A ledger that stands at START, which will write the input."""
    ledger = Ledger(plan, seed="thread", step_limit=limit)
    ledger.begin(value)
    return ledger


def names(plan: Plan, value: Any, *, limit: int = 25) -> list[list[str]]:
    """The nodes of every step after START, in starting order."""
    return [[task.node for task in tasks] for tasks in steps(begun(plan, value, limit=limit))][1:]


def final(plan: Plan, value: Any, *, limit: int = 25) -> Any:
    """The output of a run to its end."""
    ledger = begun(plan, value, limit=limit)
    for _ in steps(ledger):
        pass
    return ledger.values()


def snapshots(ledger: Ledger, most: int) -> list[Snapshot]:
    """Where the run stands now and after each of the next steps, `most` of them."""
    found = [ledger.snapshot()]
    for _, _ in zip(range(most), steps(ledger), strict=False):
        found.append(ledger.snapshot())
    return found
