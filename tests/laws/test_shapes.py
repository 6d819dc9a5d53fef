"""How long some graphs take, with and without the barrier; the durations of the nodes are in their names' table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypedDict

import pytest

from fanfold.kernel.channels import MISSING
from fanfold.kernel.graph import Builder
from fanfold.kernel.ledger import Ledger, Schedule, Task
from fanfold.types import START, Command, Send
from tests.laws.clockwork import Clock, Played
from tests.laws.reference import Place


class State(TypedDict, total=False):
    a: int
    b: int
    c: int
    d: int
    e: int
    slow: int


@dataclass
class Durations:
    """How long each node takes."""

    of: Mapping[str, int]

    def time(self, place: Place) -> int:
        return self.of.get(place[1], 0)

    def tie(self, place: Place) -> int:
        return 0


def node(name: str) -> Any:
    """A node that counts how often it has run."""
    return lambda state: {name: state.get(name, 0) + 1}


def nodes(**reads: str) -> Builder:
    """A graph of these nodes, of which each writes the key of its own name and reads that and those named."""
    graph = Builder(State)
    for name, keys in reads.items():
        graph.add_node(name, node(name), reads=[name, *keys.split()], writes=[name])
    return graph


def lead(graph: Builder, *paths: str) -> Builder:
    """The graph with the edges of these paths, which begin at START."""
    for path in paths:
        names = [START, *path.split()]
        for start, end in pairwise(names):
            graph.add_edge(start, end)
    return graph


def play(graph: Builder, durations: Mapping[str, int], schedule: str = "watermark", **more: Any) -> Played:
    ledger = Ledger(graph.plan(), seed="thread", step_limit=50, schedule=schedule)
    ledger.begin({})
    return Clock(ledger, Durations(durations), **more).play()


def spans(graph: Builder, **durations: int) -> tuple[int, int]:
    """How long the graph takes, and how long behind the barrier; both come to the same."""
    ahead, barrier = play(graph, durations), play(graph, durations, "superstep")
    assert (ahead.snapshots, ahead.seen) == (barrier.snapshots, barrier.seen)
    return ahead.span, barrier.span


def test_a_slow_node_after_a_fast_one_and_a_fast_one_after_a_slow_one_do_not_wait_for_each_other() -> None:
    graph = lead(nodes(a="", b="a", c="", d="c", e="b d"), "a b", "c d").add_edge(["b", "d"], "e")
    assert spans(graph, a=1, b=10, c=10, d=1) == (11, 20)


CHAIN = {"a": "", "b": "a", "c": "b", "d": "c", "e": "d"}


def test_a_chain_beside_a_slow_node_does_not_wait_for_it() -> None:
    graph = lead(nodes(**CHAIN, slow=""), "a b c d e", "slow")
    assert spans(graph, a=2, b=2, c=2, d=2, e=2, slow=10) == (10, 18)


def test_what_reads_nothing_that_can_still_be_written_overtakes_two_steps() -> None:
    graph = lead(nodes(a="", b="a", c="b", slow=""), "a b c", "slow")
    assert play(graph, {"a": 1, "b": 1, "c": 1, "slow": 10}).starts[3, "c", None] == 2


def test_what_reads_a_key_that_a_slow_node_writes_waits_for_it() -> None:
    graph = lead(nodes(a="", b="slow", slow=""), "a b", "slow")
    assert spans(graph, a=1, b=1, slow=10) == (11, 11)


def test_what_may_be_written_by_a_node_further_on_is_waited_for() -> None:
    """`slow` leads to `d`, which writes what `c` reads; but `d` only does so in the step of `c`, not before."""
    graph = nodes(a="", b="a", c="b d", d="", e="c d", slow="")
    lead(graph, "a b c e", "slow d")
    run = play(graph, {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "slow": 10})
    assert [run.starts[step, name, None] for step, name in [(2, "b"), (3, "c"), (4, "e")]] == [1, 11, 12]


def test_a_join_whose_members_come_in_different_steps_fires_after_the_last() -> None:
    graph = lead(nodes(a="", b="a", c="", e="b c"), "a b", "c").add_edge(["b", "c"], "e")
    assert spans(graph, a=1, b=1, c=10, e=1) == (11, 12)
    assert (3, "e", None) in play(graph, {}).starts


def looping(times: int) -> Builder:
    graph = nodes(a="", b="a", slow="")

    def again(state: Any) -> str:
        return "a" if state["a"] < times else "b"

    return lead(graph, "a", "slow").add_conditional_edges("a", again, ["a", "b"])


def test_a_loop_beside_a_slow_node_does_not_wait_for_it() -> None:
    assert spans(looping(5), a=2, b=1, slow=10) == (11, 19)


def test_a_list_of_sends_beside_a_slow_node_does_not_wait_for_it() -> None:
    graph = lead(nodes(a="", slow=""), "a", "slow")
    graph.add_node("b", lambda state: {"c": 1} if state["number"] == 2 else None, writes=["c"])
    graph.add_conditional_edges("a", lambda _: [Send("b", {"number": number}) for number in range(3)], ["b"])
    assert spans(graph, a=1, b=2, slow=10) == (10, 12)


def test_sends_are_numbered_by_who_sent_them_also_along_an_edge() -> None:
    """`a` may send to `b` and has an edge there, too; so the Send of `c` waits for its number."""
    graph = Builder(State).add_node("b", lambda _: None, writes=[])
    for name in ("a", "c"):
        goto = Send("b", {"from": name})
        graph.add_node(name, lambda _, goto=goto: Command(goto=goto), writes=[], destinations=["b"])
        graph.add_edge(START, name)
    graph.add_edge("a", "b")
    run = play(graph, {"a": 5, "c": 1})
    assert [run.seen[2, "b", send] for send in (0, 1)] == [{"from": "a"}, {"from": "c"}]


def test_a_command_that_says_where_it_may_lead_does_not_hold_others_up() -> None:
    graph = lead(nodes(a="", b="a", c=""), "a b", "c")
    graph.add_node("slow", lambda _: Command(goto="c"), writes=[], destinations=["c"]).add_edge(START, "slow")
    assert spans(graph, a=1, b=10, c=1, slow=10) == (11, 20)


def test_a_node_that_declares_nothing_holds_up_all_that_read_something() -> None:
    graph = lead(nodes(a="", b="a"), "a b").add_node("slow", lambda _: None).add_edge(START, "slow")
    assert spans(graph, a=1, b=10, slow=10) == (20, 20)


def test_a_deferred_node_waits_for_the_end_and_sees_all_of_it() -> None:
    graph = lead(nodes(a="", b="a", slow=""), "a b", "slow")
    graph.add_node("e", lambda state: {"e": sum(state.values())}, reads=["a", "b", "slow"], writes=["e"], defer=True)
    graph.add_edge("a", "e")
    assert spans(graph, a=1, b=10, slow=10, e=1) == (12, 21)
    assert play(graph, {}).state["e"] == 3


# What pauses or fails


def test_a_chain_beside_a_task_that_waits_for_a_person_runs_to_its_end_and_is_kept() -> None:
    graph = lead(nodes(**CHAIN, slow=""), "a b c d e", "slow")
    paused = play(graph, {}, held={(1, "slow", None)})
    assert {name for _, name, _ in paused.ends} == {START, *CHAIN}
    assert [snapshot.step for snapshot in paused.snapshots] == [0]
    ledger = Ledger(graph.plan(), seed="thread", step_limit=50)
    ledger.restore(paused.snapshots[-1])
    again = Clock(ledger, Durations({}), known=paused.results).play()
    assert list(again.seen) == [(1, "slow", None)]
    assert paused.snapshots + again.snapshots == play(graph, {}, "superstep").snapshots


def test_the_error_of_the_first_step_counts_whichever_came_first() -> None:
    def bad(error: Exception) -> Any:
        def node(state: Any) -> None:
            raise error

        return node

    graph = lead(nodes(a=""), "a")
    graph.add_node("b", bad(KeyError("early in time")), reads=["a"], writes=[]).add_edge("a", "b")
    graph.add_node("slow", bad(ValueError("early in step")), reads=[], writes=[]).add_edge(START, "slow")
    run = play(graph, {"a": 1, "b": 1, "slow": 10})
    assert (run.ending, run.step, run.ends.keys()) == ("ValueError", 1, {(0, START, None), (1, "a", None)})
    assert run.starts[2, "b", None] == 1


# What a driver looks at


@pytest.mark.parametrize("schedule", ["watermark", "superstep"])
def test_looking_beyond_what_a_send_gives_leaves_the_state_as_it_is(schedule: Schedule) -> None:
    """As a frame does for code that asks for the state behind a Send: the key it sees may not be decided yet."""

    class Looking(Clock):
        def _begin(self, task: Task) -> None:
            if task.send is not None:
                self.ledger.view(replace(task, arg=MISSING))
            super()._begin(task)

    graph = lead(nodes(slow=""), "slow").add_node("b", lambda _: None, reads=["slow"], writes=[])
    graph.add_node("a", lambda _: Command(goto=Send("b", {})), writes=[], destinations=["b"]).add_edge(START, "a")
    ledger = Ledger(graph.plan(), seed="thread", step_limit=50, schedule=schedule)
    ledger.begin({})
    assert Looking(ledger, Durations({"slow": 10})).play().state == {"slow": 1}
