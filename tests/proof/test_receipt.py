"""The receipt of runs that are told by hand, with the numbers that must come out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanfold import audit
from fanfold.errors import UsageError
from fanfold.events import Event, LoopHeld, ModelAnswered, Noticed, StepFinished, TaskHeldUp, ToolCalled
from fanfold.receipt import NOTHING_TO_OVERLAP, PARALLEL, PARTLY_SERIAL, SEQUENTIAL, Receipt, Thresholds, receipt
from fanfold.receipt.causes import REMEDIES
from tests.proof.telling import (
    begun,
    cancelled,
    continued,
    done,
    failed,
    in_order,
    over,
    paused,
    queued,
    remembered,
    start,
    worked,
)


def numbers(found: Receipt) -> dict[str, float]:
    names = ("wall", "work", "span", "speedup", "gain", "peak", "mean", "waited")
    return {name: getattr(found, name) for name in names}


def said(found: Receipt) -> list[str]:
    return [cause.what for cause in found.causes]


def told(*parts: Event | list[Event]) -> Receipt:
    return receipt(in_order(*parts))


# Verdicts


def test_tasks_that_ran_side_by_side_are_parallel() -> None:
    found = told(start(), worked("a", 0, 2), worked("b", 0, 2), over(2))
    assert numbers(found) == {
        "wall": 2,
        "work": 4,
        "span": 2,
        "speedup": 2,
        "gain": 1,
        "peak": 2,
        "mean": 2,
        "waited": 0,
    }
    assert (found.verdict, found.culprits, found.status, found.saved) == (PARALLEL, (), "done", 2)


def test_a_limit_of_one_is_sequential_and_named() -> None:
    waits = [queued(0, "b"), begun(2, "b", "limit 1"), done(4, "b")]
    found = told(start(limit=1), worked("a", 0, 2), waits, over(4))
    assert numbers(found) == {
        "wall": 4,
        "work": 4,
        "span": 2,
        "speedup": 1,
        "gain": 0,
        "peak": 1,
        "mean": 1,
        "waited": 2,
    }
    assert (found.verdict, found.limit) == (SEQUENTIAL, 1)
    assert [cause.what for cause in found.causes] == ["1 task waited 2.00 s in all for limit 1"]
    assert (
        str(found.causes[0])
        == found.culprits[0]
        == f"limit: 1 task waited 2.00 s in all for limit 1; {REMEDIES['limit']}"
    )


def test_a_limit_of_two_for_four_tasks_is_partly_serial_and_named() -> None:
    waits = [event for name in "cd" for event in (queued(0, name), begun(2, name, "limit 2"), done(4, name))]
    found = told(start(limit=2), worked("a", 0, 2), worked("b", 0, 2), waits, over(4))
    assert (found.wall, found.work, found.span, found.gain, found.peak) == (4, 8, 2, 4 / 6, 2)
    assert found.verdict == PARTLY_SERIAL
    assert said(found) == ["2 tasks waited 4.00 s in all for limit 2"]


def test_a_chain_leaves_nothing_to_overlap() -> None:
    found = told(start(), worked("a", 0, 2), worked("b", 2, 5, after="a", step=2), over(5))
    assert (found.work, found.span, found.gain) == (5, 5, 0)
    assert (found.verdict, found.culprits) == (NOTHING_TO_OVERLAP, ())


def test_what_a_task_waited_at_a_barrier_is_told_with_the_one_that_it_waited_for() -> None:
    late = [queued(4, "b", "a", step=2, released="c"), begun(4, "b"), done(8, "b")]
    found = told(start(), worked("a", 0, 1), worked("c", 0, 4), late, over(8))
    waits = {task.name: (task.barrier, task.held_back_by) for task in found.tasks}
    assert waits == {"a": (0, ""), "c": (0, ""), "b": (3, "c")}
    assert (found.barrier, found.waited, found.verdict) == (3, 0, PARTLY_SERIAL)
    assert found.causes[0].kind == "barrier"
    assert found.causes[0].what == "node 'b' waited 3.00 s for 'c', which it does not follow"
    assert "3.000 s at barriers" in str(found)
    assert found.to_dict()["barrier"] == 3


def test_a_task_that_begins_with_what_it_follows_has_waited_at_no_barrier() -> None:
    prompt = [queued(4, "b", "a c", step=2), begun(4, "b"), done(8, "b")]
    found = told(start(), worked("a", 0, 1), worked("c", 0, 4), prompt, over(8))
    assert found.barrier == 0
    elsewhere = [queued(4, "b", "gone", step=2, released="c"), begun(4, "b"), done(8, "b")]
    assert told(start(), worked("c", 0, 4), elsewhere, over(8)).barrier == 0


def test_agents_that_a_node_awaits_one_after_another_are_sequential_and_the_node_is_named() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(0, "n")],
        worked("x", 0, 2, by="n"),
        [continued(2, "n"), paused(2, "n")],
        worked("y", 2, 4, by="n"),
        [continued(4, "n"), done(4, "n")],
        over(4),
    )
    assert (found.work, found.span, found.peak, found.verdict) == (4, 2, 1, SEQUENTIAL)
    assert [(cause.kind, cause.what) for cause in found.causes] == [
        ("awaited one after another", "node 'n' awaited its 2 agents one after another")
    ]


def test_agents_that_overlap_in_part_are_no_loop() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(0, "n")],
        worked("x", 0, 2, by="n"),
        worked("y", 1, 3, by="n"),
        [continued(3, "n"), done(3, "n")],
        over(3),
    )
    assert found.verdict == PARTLY_SERIAL
    assert found.culprits == ()


def test_agents_called_in_rounds_are_told_as_rounds() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(0, "n")],
        worked("x", 0, 2, by="n"),
        worked("y", 0, 2, by="n"),
        worked("z", 2, 4, by="n"),
        worked("w", 2, 4, by="n"),
        [continued(4, "n"), done(4, "n")],
        over(4),
    )
    assert found.verdict == PARTLY_SERIAL
    assert said(found) == ["node 'n' awaited its 4 agents in 2 rounds, each after the one before"]


def test_tasks_that_began_late_for_no_known_reason_are_told() -> None:
    late = [queued(0, "b"), queued(0, "c"), begun(2, "b"), done(4, "b"), begun(4, "c"), done(6, "c")]
    found = told(start(), worked("hog", 0, 2), late, over(6))
    assert (found.verdict, found.waited) == (SEQUENTIAL, 6)
    assert said(found) == ["tasks that were ready began or went on 6.00 s late in all"]


def test_time_in_which_others_held_the_loop_is_waiting_and_no_work() -> None:
    found = told(
        start(),
        [queued(0, "a"), queued(0, "b"), begun(0, "a"), begun(0, "b")],
        [LoopHeld(2, "a", 2), done(2, "a")],
        [TaskHeldUp(2, "b", 2), LoopHeld(4, "b", 2), done(4, "b")],
        over(4),
    )
    assert (found.work, found.wall, found.waited, found.verdict) == (4, 4, 2, SEQUENTIAL)
    assert {cause.kind for cause in found.causes} == {"blocks the event loop"}
    assert sorted(said(found)) == [
        "'a' held the event loop for 2.00 s in all",
        "'b' held the event loop for 2.00 s in all",
    ]


def test_agents_that_block_are_not_told_to_be_gathered() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(0, "n")],
        [queued(0, "x", by="n"), begun(0, "x"), LoopHeld(2, "x", 2), done(2, "x")],
        [queued(2, "y", by="n"), begun(2, "y"), LoopHeld(4, "y", 2), done(4, "y")],
        [continued(4, "n"), done(4, "n")],
        over(4),
    )
    assert found.verdict == SEQUENTIAL
    assert {cause.kind for cause in found.causes} == {"blocks the event loop"}


def test_what_a_task_waited_in_an_earlier_sitting_counts_on() -> None:
    first = [start(limit=1), queued(0, "a"), queued(0, "b"), begun(0, "a"), done(3, "a"), begun(3, "b", "limit 1")]
    again = [start(10, limit=1, resumed=True), queued(10, "b"), begun(10, "b"), done(12, "b"), over(12)]
    found = told(first, again)
    assert found.waited == 3
    assert said(found) == ["1 task waited 3.00 s in all for limit 1"]


def test_what_cost_less_than_a_hundredth_of_the_wall_is_no_culprit() -> None:
    late = [queued(0, "b"), begun(1 / 128, "b"), done(1, "b")]
    found = told(start(), worked("a", 0, 1), late, worked("c", 1, 2), over(2))
    assert (found.verdict, found.culprits) == (PARTLY_SERIAL, ())


def test_a_garbage_collection_is_no_code_s_fault() -> None:
    held = [queued(0, "a"), begun(0, "a"), LoopHeld(2, "a", 2, function="garbage collection"), done(2, "a")]
    late = [queued(0, "b"), begun(0, "b"), TaskHeldUp(2, "b", 2), done(4, "b")]
    found = told(start(), held, late, over(4))
    assert [cause.kind for cause in found.causes] == ["garbage collection"]


def test_what_one_line_costs_is_added_up_over_all_whose_code_it_is() -> None:
    names = "abcdef"
    holds = [
        [queued(0, name), TaskHeldUp(at, name, at), begun(at, name), LoopHeld(at + 1, name, 1, "app.py", 7, "f")]
        for at, name in enumerate(names)
    ]
    found = told(start(), *holds, *(done(at + 1, name) for at, name in enumerate(names)), over(6))
    (cause,) = found.causes
    assert (cause.place, cause.seconds) == ("app.py:7 in f", 6)
    assert cause.what == "'a', 'b', 'c' and 3 more held the event loop for 6.00 s in all, at app.py:7 in f"


def test_causes_are_ranked_by_what_they_cost() -> None:
    waits = [queued(0, "b"), begun(3, "b", "limit 1"), TaskHeldUp(5, "b", 1), LoopHeld(9, "b", 4), done(9, "b")]
    found = told(start(limit=1), worked("a", 0, 3), waits, over(9))
    assert [(cause.kind, cause.seconds) for cause in found.causes] == [
        ("blocks the event loop", 4),
        ("limit", 3),
        ("late for no known reason", 1),
    ]


# Thresholds


def overlapping() -> list[Event]:
    """Two tasks that reached half of the overlap that there was."""
    return in_order(start(), worked("a", 0, 4), worked("b", 2, 6), over(6))


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (Thresholds(), PARTLY_SERIAL),
        (Thresholds(parallel=0.5), PARALLEL),
        (Thresholds(sequential=0.5), SEQUENTIAL),
        (Thresholds(worthwhile=0.5), NOTHING_TO_OVERLAP),
    ],
)
def test_the_lines_of_a_verdict_can_be_moved(lines: Thresholds, verdict: str) -> None:
    assert audit(overlapping(), thresholds=lines).verdict == verdict


def test_what_is_worth_telling_can_be_moved() -> None:
    waits = [queued(0, "b"), begun(2, "b", "limit 1"), done(4, "b")]
    events = in_order(start(limit=1), worked("a", 0, 2), waits, over(4))
    assert len(audit(events).causes) == 1
    assert audit(events, thresholds=Thresholds(telling=0.6)).causes == ()


def test_what_is_worth_telling_does_not_make_serial_what_overlaps() -> None:
    given = audit(overlapping(), thresholds=Thresholds(telling=0.9))
    assert (given.verdict, given.steady) == (PARTLY_SERIAL, 2)


@pytest.mark.parametrize("wrong", [{"parallel": 1.5}, {"sequential": -0.1}, {"parallel": 0.1}, {"telling": 2}])
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="threshold"):
        Thresholds(**wrong)


# Numbers


def test_tasks_that_meet_only_for_a_moment_are_not_steadily_at_once() -> None:
    found = told(start(), worked("a", 0, 10), worked("b", 9.95, 20), over(20))
    assert (found.peak, found.steady, found.verdict) == (2, 1, SEQUENTIAL)
    assert told(start(), worked("a", 0, 10), worked("b", 9.5, 20), over(20)).steady == 2


def test_efficiency_is_how_near_the_wall_time_came_to_the_longest_chain() -> None:
    assert told(start(), worked("a", 0, 4), worked("b", 2, 6), over(6)).efficiency == 4 / 6
    assert told(start(), over(0)).efficiency == 1


def test_what_a_sitting_tells_late_renames_nothing_of_the_one_before() -> None:
    first = [start(), queued(0, "a"), begun(0, "a"), failed(4, "a"), over(4, "failed")]
    again = [start(10, resumed=True), queued(10, "a"), begun(10, "a"), LoopHeld(11, "a", 9), done(12, "a"), over(12)]
    found = told(first, again)
    assert found.tasks[0].parts == {"working": 5, "blocking": 1}


def test_a_node_that_awaits_an_agent_is_not_busy_and_the_agent_is() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(1, "n")],
        worked("x", 1, 5, by="n"),
        worked("y", 1, 4, by="n"),
        [continued(5, "n"), done(6, "n")],
        over(6),
    )
    assert (found.work, found.span, found.peak) == (2 + 4 + 3, 2 + 4, 2)
    assert [task.work for task in found.tasks] == [2, 4, 3]


def test_an_agent_that_agents_called_is_part_of_the_chain() -> None:
    found = told(
        start(),
        [queued(0, "n"), begun(0, "n"), paused(1, "n")],
        [queued(1, "x", by="n"), begun(1, "x"), paused(2, "x")],
        worked("deep", 2, 5, by="x"),
        [continued(5, "x"), done(6, "x"), continued(6, "n"), done(7, "n")],
        over(7),
    )
    assert (found.work, found.span, found.verdict) == (7, 7, NOTHING_TO_OVERLAP)


def test_the_span_follows_the_longest_of_the_tasks_that_led_to_one() -> None:
    found = told(
        start(),
        worked("a", 0, 1),
        worked("b", 0, 3),
        worked("c", 3, 4, after="a b", step=2),
        worked("d", 4, 6, after="c unknown", step=3),
        over(6),
    )
    assert (found.span, found.work) == (6, 7)


def test_stretches_that_only_touch_do_not_overlap() -> None:
    assert told(start(), worked("a", 0, 1), worked("b", 1, 2), worked("c", 2, 3), over(3)).peak == 1


def test_an_end_that_is_told_late_counts_from_when_it_was() -> None:
    events = [start(limit=1), queued(0, "n"), begun(0, "n"), paused(0, "n"), queued(0, "x", by="n"), begun(0, "x")]
    events += [queued(0, "m"), begun(2, "m", "limit 1"), done(4, "m"), done(2, "x"), continued(4, "n"), done(4, "n")]
    found = receipt([*events, over(4)])
    assert (found.peak, found.work, found.wall) == (1, 4, 4)
    found = receipt(events[:-2])
    assert (found.peak, found.wall) == (1, 4)


def test_a_run_that_took_no_time_divides_by_nothing() -> None:
    found = told(start(5), worked("a", 5, 5), over(5))
    assert set(numbers(found).values()) == {0}
    assert found.verdict == NOTHING_TO_OVERLAP


def test_a_run_without_tasks_has_a_receipt() -> None:
    found = told(start(), over(1, "failed"))
    assert (found.status, found.peak, found.span, found.tasks) == ("failed", 0, 0, ())


def test_times_begin_with_the_run() -> None:
    found = told(start(100), worked("a", 101, 103), over(104))
    (task,) = found.tasks
    assert (found.wall, task.queued, task.started, task.ended, task.busy) == (4, 1, 1, 3, ((1, 3),))


def test_tokens_and_tools_are_counted_by_task() -> None:
    found = told(
        start(),
        worked("a", 0, 2),
        [ModelAnswered(1, "a", "m", 10, 5), ModelAnswered(1, "a", "m", 1, 1), ToolCalled(1, "a", "read")],
        over(2),
    )
    (task,) = found.tasks
    assert (task.input_tokens, task.output_tokens, task.tools) == (11, 6, 1)
    assert "17 tokens" in found.lines()[0]


def test_notices_and_ends_of_steps_change_nothing() -> None:
    plain = told(start(), worked("a", 0, 2), over(2))
    assert told(start(), worked("a", 0, 2), StepFinished(1, 0), Noticed(1, "hm", "a"), over(2)) == plain


# Ends


@pytest.mark.parametrize(("end", "status"), [(failed, "failed"), (cancelled, "cancelled"), (done, "finished")])
def test_each_end_is_told(end: Any, status: str) -> None:
    (task,) = told(start(), [queued(0, "a"), begun(1, "a"), end(3, "a")], over(3)).tasks
    assert (task.status, task.work, task.waited) == (status, 2, 1)
    assert task.error == ("KeyError" if status == "failed" else "")


def test_a_task_that_was_cancelled_before_it_began_waited_until_then() -> None:
    (task,) = told(start(), [queued(0, "a"), cancelled(3, "a")], over(3)).tasks
    assert (task.status, task.started, task.work, task.waited) == ("cancelled", None, 0, 3)


def test_a_run_that_still_runs_is_judged_until_now() -> None:
    found = told(start(), [queued(0, "a"), begun(0, "a"), queued(0, "b"), begun(1, "b")], StepFinished(4, 0))
    assert (found.status, found.wall, found.work, found.peak) == ("running", 4, 4 + 3, 2)
    assert [task.status for task in found.tasks] == ["running", "running"]
    assert [task.ended for task in found.tasks] == [None, None]
    assert found.verdict == PARALLEL


# Sittings


def test_the_time_between_two_sittings_does_not_count_and_what_was_done_in_both_does() -> None:
    first = in_order(start(0, 2), worked("a", 0, 2), [queued(0, "b"), begun(0, "b"), failed(3, "b")], over(3, "failed"))
    second = in_order(
        start(100, 4, resumed=True),
        [queued(100, "a"), remembered(100, "a"), queued(100, "b"), begun(101, "b"), done(103, "b")],
        over(103),
    )
    found = receipt([*first, *second])
    assert (found.wall, found.work, found.peak, found.limit, found.status) == (3 + 3, 2 + 3 + 2, 2, 4, "done")
    a, b = found.tasks
    assert (a.status, a.work, a.waited) == ("remembered", 2, 0)
    assert (b.status, b.busy, b.error, b.waited) == ("finished", ((0, 3), (4, 6)), "", 1)


def test_what_a_killed_sitting_left_open_ended_with_it() -> None:
    killed = in_order(start(0), [queued(0, "a"), begun(0, "a"), queued(0, "b"), begun(1, "b"), queued(2, "c")])
    alone = receipt([*killed, start(50, resumed=True)])
    assert [(task.status, task.work) for task in alone.tasks] == [("lost", 2), ("lost", 1), ("queued", 0)]
    assert alone.wall == 2
    again = receipt([*killed, start(50, resumed=True), *worked("a", 50, 53), over(53)])
    assert (again.wall, again.tasks[0].work, again.tasks[0].status) == (5, 5, "finished")


# As people see it


def test_the_lines_end_with_the_verdict_and_say_whether_the_limit_was_reached() -> None:
    found = told(start(limit=2), worked("a", 0, 2), worked("b", 0, 2), over(2))
    assert found.lines() == [
        "wall 2.000 s · agent time 4.000 s · longest chain 2.000 s",
        "peak 2 · mean 2.00 · limit 2 (reached) · waited 0.000 s",
        "2 tasks in 2.00 s · 2.00x faster than one by one · PARALLEL",
    ]
    assert str(found) == "\n".join(found.lines())


def test_a_limit_that_never_bound_is_said_not_to_have() -> None:
    found = told(start(limit=3), worked("a", 0, 2), over(2))
    assert "limit 3 (never reached)" in found.lines()[1]
    assert found.lines()[-1] == "1 task in 2.00 s · no faster than one by one · NOTHING TO OVERLAP"
    assert "no limit" in told(start(), over(0)).lines()[1]


def test_culprits_have_a_line_each() -> None:
    waits = [queued(0, "b"), begun(2, "b", "limit 1"), done(4, "b")]
    found = told(start(limit=1), worked("a", 0, 2), waits, over(4))
    assert found.lines()[2].startswith("held back: limit: 1 task waited 2.00 s in all for limit 1; raise it")


def test_agents_are_what_is_counted_where_there_are_any() -> None:
    found = told(
        start(), [queued(0, "n"), begun(0, "n"), paused(0, "n")], worked("x", 0, 1, by="n"), done(1, "n"), over(1)
    )
    assert [task.task for task in found.agents] == ["x"]
    assert found.lines()[-1].startswith("1 agent in 1.00 s")


def test_a_receipt_is_plain_data() -> None:
    found = told(start(limit=2), worked("a", 0, 2), worked("b", 0, 2), over(2))
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["verdict"], data["saved"], data["tasks"][0]["busy"]) == (PARALLEL, 2, [[0, 2]])


# What can be audited


@pytest.mark.parametrize("run", ["an id without its store", 7, None, {"no": "run"}])
def test_what_is_no_run_is_refused(run: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot audit .*\n  give what invoke\(\) returned"):
        audit(run)


def test_a_run_without_events_is_refused() -> None:
    with pytest.raises(UsageError, match="of which no event is known"):
        audit([])


def test_events_that_do_not_begin_with_a_run_are_refused() -> None:
    with pytest.raises(UsageError, match="begin with task_queued, not with the start of a run"):
        audit([queued(0, "a")])
