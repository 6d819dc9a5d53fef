"""The parts of the research team that need nobody: who is asked in which order, what is measured, what is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fanfold.teams.debating.objects import KINDS, ResearchItem, Verdict
from fanfold.teams.researching.metrics import Targets, measured
from fanfold.teams.researching.objects import Found, Half, Plan, Source, Study, Synthesis
from fanfold.teams.researching.queue import queued
from fanfold.teams.researching.report import listed, paragraphs, written


def item(kind: Any, priority: int = 1, question: str = "What of it?") -> ResearchItem:
    return ResearchItem(kind=kind, question=question, priority=priority)


def kinds(*items: ResearchItem, **plan: Any) -> list[str]:
    return [each.kind for each in queued(items, "the ferry", Plan(**plan)).items]


# The queue


def test_what_is_more_urgent_is_asked_first_and_equals_stay_in_their_order() -> None:
    given = [item("user", 3), item("risk", 1), item("data", 2), item("market", 1)]
    assert kinds(*given, only=True) == ["risk", "market", "data", "user"]


def test_kinds_that_nobody_asked_for_come_after_those_that_were() -> None:
    asked = kinds(item("risk", 3), item("innovation", 3))
    assert asked[:2] == ["risk", "innovation"]
    assert sorted(asked) == sorted(KINDS)
    (other, *_) = queued([], "the ferry", Plan()).items
    assert (other.priority, other.question) == (3, "What is there to find about this: the ferry")


def test_there_are_never_more_specialists_than_planned_and_what_is_left_out_is_said() -> None:
    given = [item("market", question=f"Question {number}?") for number in range(45)]
    queue = queued(given, "the ferry", Plan())
    assert len(queue.items) == 15
    assert [mark.text for mark in queue.marks] == ["30 of 45 questions of the verdict were left out: 15 may be asked"]
    assert queued(given[:2], "the ferry", Plan(specialists=4)).marks == ()
    assert len(kinds(*given[:2], specialists=4)) == 4


def test_the_same_question_to_the_same_kind_is_asked_once() -> None:
    given = [item("data", 2), item("data", 1, " what OF   it?"), item("risk")]
    assert kinds(*given, only=True) == ["data", "risk"]


def test_a_long_topic_still_makes_questions_that_fit() -> None:
    assert len(queued([], "ferry " * 500, Plan()).items[0].question) <= 500


# The metrics


@dataclass
class Part:
    end: float
    part: str


@dataclass
class Life:
    """A task as a receipt has it, as far as metrics look at one."""

    task: str
    name: str
    queued: float
    ended: float
    role: str = "agent"
    parent: str | None = None
    status: str = "finished"
    work: float = 0.0
    attempts: int = 1
    stretches: list[Part] = field(default_factory=list)


def lives(*times: tuple[float, float], queued: float = 0.0) -> list[Life]:
    """Specialists whose agents work from one time to the other."""
    made = []
    for number, (start, end) in enumerate(times):
        made += [
            Life(f"n{number}", "specialist", queued, end, role="node"),
            Life(f"a{number}", "agent", start, end, parent=f"n{number}", work=end - start),
        ]
    return made


def test_efficiency_is_the_least_time_in_parts_of_the_time_it_took() -> None:
    two_waves = [(0.0, 1.0)] * 8 + [(1.0, 2.0)] * 7
    metrics = measured(lives(*two_waves), asked=15, answered=15, slots=8)
    assert (metrics.least, metrics.took) == (15 / 8, 2.0)
    assert metrics.efficiency == pytest.approx(15 / 16)
    one_by_one = [(float(number), number + 1.0) for number in range(15)]
    assert measured(lives(*one_by_one), asked=15, answered=15, slots=8).efficiency == pytest.approx(2 / 16)


def test_no_schedule_is_shorter_than_its_longest_agent() -> None:
    metrics = measured(lives((0.0, 10.0), (0.0, 1.0), (0.0, 1.0)), asked=3, answered=3, slots=8)
    assert metrics.efficiency == 1.0


def test_time_before_the_first_agent_works_counts_against_efficiency() -> None:
    assert measured(lives((1.0, 2.0)), asked=1, answered=1, slots=8).efficiency == 0.5


def test_agents_of_other_nodes_do_not_count() -> None:
    others = [Life("x", "debate", 0, 50, role="node"), Life("y", "judge", 0, 50, parent="x", work=50.0)]
    assert measured([*others, *lives((0.0, 1.0))], asked=1, answered=1, slots=8).took == 1.0


def test_recovery_is_the_longest_time_from_a_first_failure_to_the_end() -> None:
    told = lives((0.0, 9.0), (0.0, 5.0), (0.0, 7.0))
    told[1].stretches = [Part(2.0, "working"), Part(2.5, "queued"), Part(3.0, "working"), Part(3.0, "queued")]
    told[3].status = "failed"
    assert measured(told, asked=3, answered=2, slots=8).recovery == 7.0
    given_up = lives((0.0, 4.0))
    given_up[1].status, given_up[0].ended = "failed", 6.0
    assert measured(given_up, asked=1, answered=0, slots=8).recovery == 2.0
    assert measured(lives((0.0, 9.0)), asked=1, answered=1, slots=8).recovery is None


def test_each_target_is_missed_at_its_own_value() -> None:
    at_once = lives(*[(0.3, 1.0)] * 17)
    metrics = measured(at_once, asked=20, answered=17, slots=20)
    assert metrics.met == {"completion": False, "parallel efficiency": False, "recovery": True}
    lower = Targets(completion=0.84, efficiency=0.69)
    assert measured(at_once, asked=20, answered=17, slots=20, targets=lower).met["completion"]
    assert measured(at_once, asked=20, answered=17, slots=20, targets=lower).met["parallel efficiency"]
    slow = lives((0.0, 120.0))
    slow[1].stretches = [Part(0.0, "working"), Part(0.0, "queued")]
    assert not measured(slow, asked=1, answered=1, slots=1).met["recovery"]


def test_of_a_fan_out_that_was_cut_off_no_efficiency_is_told() -> None:
    metrics = measured(lives((0.0, 1.0), (5.0, 6.0)), asked=3, answered=3, slots=1)
    assert (metrics.efficiency, metrics.met) == (None, {"completion": True, "recovery": True})
    assert metrics.lines()[1].endswith("not known, 1 answered in an earlier sitting, target > 70%: not measured")


def test_metrics_are_printed_beside_their_targets() -> None:
    two_waves = [(0.0, 1.0)] * 8 + [(1.0, 2.0)] * 7
    assert measured(lives(*two_waves), asked=15, answered=12, slots=8).lines() == [
        "completion: 12 of 15 (80%), target > 85%: MISSED",
        "parallel efficiency: 94% (1.88 of 2.00 s, 8 at once), target > 70%: met",
        "recovery: nothing has failed, target < 120 s: met",
    ]
    assert measured([], asked=0, answered=0, slots=8).lines()[1].startswith("parallel efficiency: nobody has worked")


# The report


def study(number: int, *places: tuple[str, int], kind: Any = "data", **more: Any) -> Study:
    found = [
        Found(id=f"F{number}.{at}", text="It is so.", sources=(Source(path=path, line=line, quote="so it is"),))
        for at, (path, line) in enumerate(places, 1)
    ]
    return Study(number=number, kind=kind, question="Is it?", priority=1, found=tuple(found), **more)


def test_each_source_is_listed_once_with_its_lines_and_the_findings_that_quote_it() -> None:
    text = written("Is it?", None, None, [study(2, ("b.md", 3), ("a.md", 9)), study(1, ("b.md", 1))], [], [])
    assert text.split("## Sources\n\n")[1] == "1. `a.md`, line 9: F2.2\n2. `b.md`, lines 1, 3: F1.1, F2.1\n"


def test_synthesizers_are_told_which_findings_nothing_supports() -> None:
    lost = Study(number=1, kind="risk", question="Is it?", priority=1, found=(Found(id="F1.1", text="It is not."),))
    assert listed([study(2, ("b.md", 3)), lost]) == (
        'F1.1 [risk] It is not. (not verified)\nF2.1 [data] It is so.\n  "so it is" (b.md:3)'
    )


def test_what_findings_come_to_stands_before_what_stands_against_it() -> None:
    halves = [Half(name=name, synthesis=Synthesis(summary=name)) for name in ("dissent", "agreement")]
    text = written("Is it?", None, None, [], halves, [])
    assert text.index("## What the findings come to") < text.index("## What stands against it")


def test_open_questions_and_dissent_of_the_debate_are_kept() -> None:
    said = Verdict(decision="concede", confidence=0.5, dissent=("I disagree",), open_questions=("Who pays?",))
    text = written("Is it?", said, None, [], [], [])
    assert "- Who pays?\n- Dissent in the debate: I disagree\n" in text


def test_what_was_not_found_is_told_and_not_guessed() -> None:
    text = written("Is it?", None, None, [study(1, missing="a price"), study(2, kind="risk")], [], [])
    assert "Looked for and not found: a price" in text
    assert text.count("Nothing with a quote that stands where it says.") == 2


@pytest.mark.parametrize("mark", list("#>-*+=|`<"))
def test_a_paragraph_begins_no_structure(mark: str) -> None:
    assert paragraphs(f"{mark} first\nsecond\n\nthird") == [f"\\{mark} first second", "third"]
