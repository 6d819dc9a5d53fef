"""The page for LangGraph's users names only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import fanfold

PAGE = (Path(__file__).parents[2] / "docs" / "langgraph.md").read_text()


def test_every_name_in_the_table_can_be_imported_from_the_package() -> None:
    table = PAGE.partition("## Where names have gone")[2].partition("## What is added")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `langgraph")]
    assert len(rows) > 10
    for theirs, ours in rows:
        names = re.findall(r"`(\w+)`", theirs.partition(":")[2])
        assert names
        for name in names:
            assert hasattr(fanfold, name), name
        for name in re.findall(r"`([A-Z]\w+)`", ours):
            assert hasattr(fanfold, name), name
