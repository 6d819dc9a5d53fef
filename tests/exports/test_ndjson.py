"""Events as lines of JSON."""

from __future__ import annotations

import json

import pytest

from fanfold.errors import UsageError
from fanfold.events import KINDS, to_record
from fanfold.exports.ndjson import lines, read
from tests.exports.runs import crowd, everything


def test_events_are_read_back_as_they_were() -> None:
    events = [*everything(), *crowd(50)]
    text = "".join(lines(map(to_record, events)))
    assert text.isascii()
    assert list(read(text.splitlines())) == events


def test_each_line_is_one_record_as_it_is_stored() -> None:
    records = [to_record(event) for event in everything()]
    text = list(lines(records))
    assert [json.loads(line) for line in text] == records
    assert all(line.count("\n") == 1 for line in text)
    assert {record["kind"] for record in records} < set(KINDS)


@pytest.mark.parametrize("line", ["no", "[1]", '{"kind":"surprise","at":1}', '{"kind":"step_finished","at":1,"x":2}'])
def test_a_line_that_is_no_event_is_named_by_its_number(line: str) -> None:
    good = next(lines([to_record(everything()[0])]))
    with pytest.raises(UsageError, match="line 3"):
        list(read([good, "\n", line]))
