"""`--limit` on the command line: it binds, is kept with the run, and can be raised when the run goes on."""

from __future__ import annotations

from typing import Any

import pytest

from fanfold.cli.limits import limited
from fanfold.errors import UsageError
from tests.e2e.conftest import Command

STUDY = """
import asyncio
from typing import TypedDict
from fanfold import START, StateGraph, Task

class State(TypedDict, total=False):
    done: int

async def node(state):
    answers = await asyncio.gather(*(Task(subagent_type="sydney-research", prompt=f"readme {n}") for n in range(4)))
    return {"done": len(answers)}

graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
"""


def test_a_run_that_has_spent_its_calls_says_so_and_goes_on_with_more(fanfold: Command) -> None:
    (fanfold.folder / "app.py").write_text(STUDY)
    (fanfold.folder / "README.md").write_text("The readme of a project about ducks, which swim.\n")
    first = fanfold("run", "app.py:graph", "-i", "done=0", "--rehearse", "--limit", "calls=5", "--plain")
    assert first.returncode == 5
    assert "the run's budget is spent: 5 of 5 calls spent" in first.stderr
    assert "fanfold resume" in first.stderr
    run = next(word for word in first.stderr.split() if len(word) == 8 and word.isalnum() and not word.isalpha())
    again = fanfold("resume", run, "--limit", "calls=100", "--plain")
    assert again.returncode == 0, again.stderr
    assert "calls: peak" in again.stdout
    assert "limit 100 (never reached)" in again.stdout


@pytest.mark.parametrize(
    ("named", "before", "limits"),
    [
        ((), None, {}),
        (("calls=9", "usd=1.5"), None, {"calls": 9, "usd": 1.5}),
        (
            ("models.anthropic=4", "agents.a=1", "agents.b=2"),
            None,
            {"models": {"anthropic": 4}, "agents": {"a": 1, "b": 2}},
        ),
        (("calls=20",), {"calls": 9, "usd": 1}, {"calls": 20, "usd": 1}),
    ],
)
def test_limits_are_those_named_over_those_before(
    named: tuple[str, ...], before: dict[str, Any] | None, limits: dict[str, Any]
) -> None:
    assert limited(named, None, before) == limits
    assert limited(named, 3, before) == {**limits, "max_concurrency": 3}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("cals=9", "did you mean 'calls'"),
        ("calls", "names no limit"),
        ("calls=many", "'many' is no number"),
        ("agents=3", "names no limit"),
        ("usd=-1", "usd is -1"),
        ("seconds=nan", "seconds is nan"),
    ],
)
def test_a_limit_that_is_none_is_refused(named: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        limited([named], None)
