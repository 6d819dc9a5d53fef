"""The objects of a debate: what is refused, what is bounded, and who may say that a quote was verified."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from fanfold import END, START, SqliteSaver, StateGraph
from fanfold.teams.debating import objects
from fanfold.teams.debating.objects import (
    GAPS,
    KINDS,
    Claim,
    Evidence,
    FairRebuttal,
    Form,
    Opening,
    Rebuttal,
    coverage,
    recorded,
)

OPENING: dict[str, Any] = {
    "stance": "pro",
    "answer": "innovate",
    "confidence": 0.5,
    "claims": [
        {
            "id": "c1",
            "text": "It is tested.",
            "gap": "market reality",
            "confidence": 1,
            "evidence": [{"source": "a.md", "quote": "all is tested", "verified": True}],
        }
    ],
}


def forms() -> list[type[Form]]:
    found = [value for value in vars(objects).values() if isinstance(value, type) and issubclass(value, Form)]
    return [form for form in found if form is not Form]


def first(opening: Opening) -> Evidence:
    return opening.claims[0].evidence[0]


def checked(opening: Opening) -> Opening:
    """The opening with its quote verified, made as the check makes it."""
    evidence = first(opening).model_copy(update={"verified": True})
    claim = opening.claims[0].model_copy(update={"evidence": (evidence,)})
    return opening.model_copy(update={"claims": (claim,)})


def test_an_agent_that_says_verified_is_ignored_and_not_refused() -> None:
    assert Draft202012Validator(Opening.model_json_schema()).is_valid(OPENING)
    assert first(Opening.model_validate(OPENING)).verified is False
    assert first(Opening.model_validate_json(json.dumps(OPENING))).verified is False
    assert Evidence.model_validate({"source": "a", "quote": "b", "verified": "gladly"}).verified is False


def test_what_a_check_found_is_read_back_from_a_record() -> None:
    opening = checked(Opening.model_validate(OPENING))
    record = json.loads(json.dumps(opening.model_dump(mode="json")))
    assert recorded(Opening, record) == opening
    assert first(recorded(Opening, record)).verified is True
    assert first(Opening.model_validate(record)).verified is False


def test_what_a_check_found_is_kept_in_another_object() -> None:
    evidence = first(checked(Opening.model_validate(OPENING)))
    claim = Claim(id="c", text="t", gap="meta-gap", confidence=0, evidence=(evidence,))
    assert claim.evidence[0].verified is True


def test_what_a_check_found_is_kept_where_a_run_is_stored(tmp_path: Path) -> None:
    class State(TypedDict):
        opening: Any

    opening = checked(Opening.model_validate(OPENING))
    graph = StateGraph(State).add_node("say", lambda _: {"opening": opening}).add_edge(START, "say")
    graph.add_edge("say", END)
    config = {"configurable": {"thread_id": "t"}}
    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        graph.compile(checkpointer=saver).invoke({"opening": None}, config)
    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        assert graph.compile(checkpointer=saver).get_state(config).values["opening"] == opening


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.__name__)
def test_every_form_is_frozen_and_refuses_what_it_does_not_know(form: type[Form]) -> None:
    assert form.model_config.get("frozen") is True
    assert form.model_json_schema()["additionalProperties"] is False


def _unbounded(schema: Any, place: str) -> list[str]:
    if isinstance(schema, list):
        return [fault for inner in schema for fault in _unbounded(inner, place)]
    if not isinstance(schema, dict):
        return []
    bound = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type", ""))
    if "additionalProperties" in schema and "properties" not in schema:
        bound = "maxProperties"
    fault = bound is not None and not {bound, "enum", "const"} & schema.keys()
    inner = [found for key, value in schema.items() for found in _unbounded(value, f"{place}.{key}")]
    return [f"{place} has no {bound}"] * fault + inner


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.__name__)
def test_every_text_and_every_list_is_bounded(form: type[Form]) -> None:
    assert _unbounded(form.model_json_schema(), form.__name__) == []


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan"), float("inf"), "much"])
def test_a_confidence_is_a_number_between_0_and_1(confidence: Any) -> None:
    with pytest.raises(ValidationError):
        Opening.model_validate({**OPENING, "confidence": confidence})


def test_a_challenger_has_to_say_where_the_other_side_is_right() -> None:
    said = {"answer": "concede", "confidence": 1}
    assert Rebuttal.model_validate(said).agrees == ()
    with pytest.raises(ValidationError, match="agrees"):
        FairRebuttal.model_validate(said)


def test_coverage_counts_the_claims_of_every_gap() -> None:
    counted = coverage(Opening.model_validate(OPENING).claims * 2)
    assert counted == {gap: 2 if gap == "market reality" else 0 for gap in GAPS}


def test_there_are_seven_gaps_and_fifteen_specialists() -> None:
    assert (len(GAPS), len(KINDS)) == (7, 15)


def test_importing_fanfold_imports_no_pydantic() -> None:
    code = "import sys, fanfold, fanfold.teams; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
