"""What LangGraph asks of every saver: all clauses of its own conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.capabilities import Capability, DetectedCapabilities
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.conformance.validate import validate

from fanfold.langgraph import Saver

# Of version 0.0.2, 81 in all: as many as there are in it, and none is skipped. A newer one may have more, never fewer
# without our noticing. Those on `DeltaChannel`, which are in its repository only, are cases of `test_deltas`.
CLAUSES = {
    "put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5,
    "delete_for_runs": 7, "copy_thread": 8, "prune": 8,
}  # fmt: skip


def test_a_saver_can_do_all_that_the_suite_knows_of() -> None:
    with Saver("memory:") as saver:
        assert not DetectedCapabilities.from_instance(saver).missing
    assert {each.value for each in Capability} == CLAUSES.keys()


@pytest.mark.parametrize("capability", CLAUSES)
def test_it_passes_every_clause(saver: Saver, capability: str) -> None:
    async def factory() -> AsyncGenerator[BaseCheckpointSaver[str]]:
        yield saver

    report = asyncio.run(validate(RegisteredCheckpointer("fanfold", factory), capabilities={capability}))
    result = report.results[capability]
    assert result.failures == []
    assert (result.detected, result.tests_skipped) == (True, 0)
    assert result.tests_passed >= CLAUSES[capability]
