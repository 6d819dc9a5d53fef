"""Places for the workers of crash tests: a folder for SQLite files, or the URL of a schema in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new one in each database."""
    if request.param == "sqlite":
        return str(tmp_path)
    url: str = request.getfixturevalue("postgres")
    return url
