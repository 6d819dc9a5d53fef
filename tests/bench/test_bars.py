"""What is measured is compared as the page says: medians by turns, ratios in one run, nothing left out silently."""

from __future__ import annotations

import json

import pytest

from fanfold.bench.alone import main
from fanfold.bench.bars import Bar, Sizes, faster, floor_bars, floor_jobs, growth, times
from fanfold.bench.rounds import Job, Table, measured
from fanfold.bench.timing import AbsentError, Blocking, measure


def table(**figures: float) -> Table:
    return Table({("w", 10, engine): {"us": us, "tasks": 10} for engine, us in figures.items()})


@pytest.mark.parametrize(
    ("found", "more", "verdict", "met"),
    [
        (1.4, False, "stretch", True),
        (2.0, False, "met", True),
        (4.4, False, "2.00x away", False),
        (50.0, True, "stretch", True),
        (1.1, True, "2.00x away", False),
        (None, False, "absent", False),
    ],
)
def test_a_bar_says_how_far_away_it_is(found: float | None, more: bool, verdict: str, met: bool) -> None:
    judged = Bar("a claim", lambda _: found, 2.2, 40.0 if more else 1.5, more=more).judged(Table())
    assert (judged.verdict, judged.met) == (verdict, met)


def test_a_verdict_that_a_round_contradicts_says_so() -> None:
    told = iter([2.0, 3.0, 2.0, 4.0, 2.0, 9.0])
    found = measured([Job("w", 10)], rounds=3, seconds=0, start=lambda *_: {"us": next(told), "tasks": 10})
    judged = Bar("a claim", times("w", 10), 2.2, 1.0).judged(found)
    assert (judged.found, judged.spread) == (2.0, (1.5, 4.5))
    assert judged.verdict == "met, not in each round"


def test_ratios_are_to_the_floor_or_to_another_engine() -> None:
    measured = table(floor=2.0, fanfold=6.0, langgraph=60.0)
    assert times("w", 10)(measured) == 3.0
    assert faster("w", 10)(measured) == 10.0
    assert faster("w", 10, than="burr")(measured) is None


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
def test_growth_is_the_exponent_of_the_whole_time(exponent: float) -> None:
    sizes = (100, 1000, 10_000)
    measured = Table({("w", n, "fanfold"): {"us": n ** (exponent - 1)} for n in sizes})
    assert growth("w", sizes)(measured) == pytest.approx(exponent)


def test_every_bar_of_the_floor_can_be_found_in_what_is_measured() -> None:
    sizes = Sizes()
    names = ("us", "seconds", "bytes", "ms", "named", "packages", "percent", "over", "audited", "tasks")
    full = Table(
        {
            (job.workload, job.n, engine): dict.fromkeys(names, 1.0)
            for job in floor_jobs(sizes)
            for engine in job.engines
        }
    )
    assert all(bar.judged(full).found is not None for bar in floor_bars(sizes))


def test_engines_take_turns_and_medians_count() -> None:
    order: list[str] = []
    told = iter([1.0, 10.0, 3.0, 30.0, 2.0, 20.0])

    def start(job: Job, engine: str, seconds: float) -> dict[str, float]:
        order.append(engine)
        return {"us": next(told), "tasks": 10}

    found = measured([Job("w", 10)], rounds=3, seconds=0, start=start)
    assert order == ["floor", "fanfold"] * 3
    assert times("w", 10)(found) == 10.0


def test_who_did_less_work_is_not_compared() -> None:
    did = {"floor": 10, "fanfold": 9}
    found = measured(
        [Job("w", 10)], rounds=1, seconds=0, start=lambda job, engine, _: {"us": 1.0, "tasks": did[engine]}
    )
    assert found.absent == {("w", 10, "fanfold"): "did 9 tasks, floor did 10"}
    assert times("w", 10)(found) is None


def test_a_process_that_fails_is_absent_with_its_last_words() -> None:
    found = measured([Job("fanout", 3, ("nobody",))], rounds=1, seconds=0)
    (reason,) = found.absent.values()
    assert reason == "failed: KeyError: 'nobody'"


def test_a_process_prints_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fanout", "fanfold", "7", "0"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == 7
    assert told["us"] > 0


def test_an_engine_that_is_not_installed_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fanout", "ghost", "7", "0"], {"ghost": "no_such_engine"}) == 0
    assert "is not installed" in json.loads(capsys.readouterr().out)["absent"]


def test_a_workload_that_an_engine_lacks_or_refuses_is_absent() -> None:
    def refused(n: int) -> Blocking:
        raise AbsentError("there is no database")

    assert measure({}, "fanout", 1, seconds=0) == {"absent": "has no such workload"}
    assert measure({"fanout": refused}, "fanout", 1, seconds=0) == {"absent": "there is no database"}
