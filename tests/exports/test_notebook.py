"""What a notebook shows of a run and of a receipt: text and pictures, and nothing that runs."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from fanfold import START, StateGraph, audit
from fanfold.cells import GREEN, GREY, RED, YELLOW
from fanfold.events import Event
from fanfold.receipt import receipt
from fanfold.sitting import FinishedRun, RunOutput
from tests.exports.runs import HOSTILE, crowd, everything
from tests.exports.test_report import Page


def run_cell(values: dict[str, Any], events: list[Event]) -> str:
    """What a notebook shows of a run that came to these values."""
    return RunOutput(values, FinishedRun("r", "t", events))._repr_html_()


class State(TypedDict, total=False):
    out: str


def node(state: State) -> State:
    return {"out": "<b>bold</b>"}


def test_the_output_of_a_run_shows_its_receipt_its_tasks_and_its_values() -> None:
    done: Any = StateGraph(State).add_node("only", node).add_edge(START, "only").compile().invoke({})
    found = Page(done._repr_html_())
    assert found.text("b") == [audit(done).lines()[-1]]
    assert found.text("code") == ["'<b>bold</b>'"]
    assert "only" in found.text("text")


def test_every_state_has_a_bar_and_every_block_is_red() -> None:
    found = Page(run_cell({}, everything()))
    colours = [rect["fill"] for rect in found.of("rect")]
    assert set(colours) == {GREEN, GREY, YELLOW, RED}
    assert colours.count(RED) == 1


@pytest.mark.parametrize(
    "markup", [run_cell({"out": HOSTILE, HOSTILE: 1}, everything()), receipt(everything())._repr_html_()]
)
def test_what_an_agent_says_is_only_text(markup: str) -> None:
    found = Page(markup)
    assert {"script", "img", "style", "link", "iframe"}.isdisjoint(tag for tag, _ in found.elements)
    assert not any(name.startswith("on") for _, given in found.elements for name in given)
    assert "\ud800" not in markup


def test_a_value_that_cannot_be_shown_hides_no_other() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    codes = Page(run_cell({"a": Broken(), "b": "x" * 1_000}, everything())).text("code")
    assert codes[0] == "<Broken, whose repr raises ValueError>"
    assert (codes[1][:3], len(codes[1])) == ("'xx", 203)


def test_a_large_run_is_shown_in_small() -> None:
    events = crowd(2_000)
    for markup in (run_cell({}, events), receipt(events)._repr_html_()):
        assert len(markup) < 40_000
        assert "and 1,960 more" in markup
