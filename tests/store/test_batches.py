"""Events that share a row: they come back as they were, whoever wrote them, and damage is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import CorruptRecordError
from fanfold.store.base import EventsKept
from fanfold.store.batches import IN_A_ROW, chained, packed, to_text, unpacked
from fanfold.store.sql import SqlStore
from tests.store.making import Open, kept, opened
from tests.store.test_migrations import past_the_store

FACTS = [
    {"kind": "task_started", "at": 33365.268565085, "task": "3c2a2d12790d0fa7f0fbfb338b52b097", "attempt": 1},
    {"kind": "noticed", "at": 1.5, "message": "two\nlines, and \u00e9"},
]
STORED = bytes.fromhex(
    "0178bb19ae8dc6c3e75563636333533d23330b533353030b53b8a38d938d128d520c8dcc2d0d520cd212cdd30cd292d2928c"
    "8d2d924c8d920c2ccd514206671167a8678a5cca9594e7c7e4e564e6a516eb2824e6a528c4941a18a45a2ad50200fdc43039"
    ""
)

events = st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=3)


@given(st.lists(events, min_size=1, max_size=8))
def test_events_come_back_as_they_were(told: list[dict[str, Any]]) -> None:
    texts = [to_text(event) for event in told]
    assert [json.loads(text) for text in unpacked("", packed(texts), "it")] == told


def test_what_is_in_databases_can_be_read_for_ever() -> None:
    assert [json.loads(text) for text in unpacked("", STORED, "it")] == FACTS


@pytest.mark.parametrize(
    "wrong",
    [b"", b"\x02abc", STORED[:-3], STORED + b"more", b"\x01", STORED[:40] + STORED[41:]],
    ids=range(6),
)
def test_what_is_no_row_of_events_is_named(wrong: bytes) -> None:
    with pytest.raises(CorruptRecordError, match=r"event 3 of run 'r1' is (in a form|not readable)"):
        unpacked("", wrong, "event 3 of run 'r1'")


def test_events_that_end_together_share_rows_and_are_numbered_on(store: SqlStore) -> None:
    facts = [{"n": number} for number in range(2 * IN_A_ROW + 5)]
    kept(store, opened(), EventsKept("r1", facts), EventsKept("r1", FACTS), EventsKept("r1", FACTS[:1], len(facts) + 2))
    assert store.events("r1") == [*facts, *FACTS, FACTS[0]]
    assert store.count_events("r1") == len(facts) + 3
    ((rows,),) = store.write(
        lambda session: session._connection.execute("select count(*) from event").fetchall()
    ).result(10)  # type: ignore[attr-defined]
    assert rows == 5


def test_events_of_an_earlier_version_are_read_checked_copied_and_gone_on_from(again: Open, place: str) -> None:
    """It had a row for each, with the event as text."""
    with again() as store:
        kept(store, opened())
    before = b""
    for no in range(3):
        text = json.dumps({"kind": "noticed", "n": no})
        before = chained(before, text)
        hash = f"x'{before.hex()}'" if not place.startswith("postgresql:") else f"'\\x{before.hex()}'"
        past_the_store(place, f"insert into event (run_id, no, data, hash) values ('r1', {no}, '{text}', {hash})")
    with again() as store:
        facts = [{"kind": "noticed", "n": number} for number in range(5)]
        kept(store, EventsKept("r1", facts[3:], 3))
        assert store.events("r1") == facts
        assert store.count_events("r1") == 5
        assert store.check() == []
        store.copy_thread("t", "u").result(10)
        (copy,) = (run for run in store.runs() if run.thread_id == "u")
        assert store.events(copy.run_id) == facts
        assert store.check() == []
