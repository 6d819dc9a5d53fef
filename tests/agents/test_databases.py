"""A store's file in the folder of an agent: whoever reads it in the same process takes SQLite's locks away with it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanfold.agents import editing
from fanfold.agents.workspace import Workspace
from fanfold.errors import WorkspaceError
from fanfold.store import files
from fanfold.store.opening import open_store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A database in a folder, which this process has open."""
    path = tmp_path / "here" / "kept.db"
    with open_store(path) as store:
        list(store.runs())
        yield path


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_no_tool_opens_a_database_that_the_process_has_open(database: Path, ending: str) -> None:
    space, name = Workspace(database.parent), f"{database.name}{ending}"
    for tool in (
        lambda: space.read(name),
        lambda: editing.write(space, name, "mine"),
        lambda: editing.edit(space, name, "SQLite", "mine"),
    ):
        with pytest.raises(WorkspaceError, match="a database that this process has open"):
            tool()


def test_another_name_of_it_is_no_way_in(database: Path) -> None:
    (database.parent / "other.txt").hardlink_to(database)
    (database.parent / "link.txt").symlink_to(database)
    for name in ("other.txt", "link.txt"):
        with pytest.raises(WorkspaceError, match="a database that this process has open"):
            Workspace(database.parent).read(name)


def test_a_search_passes_it_by(database: Path) -> None:
    (database.parent / "notes.txt").write_text("SQLite is what we use.\n")
    assert Workspace(database.parent).grep("SQLite").splitlines()[0] == "notes.txt:1: SQLite is what we use."


def test_when_the_last_store_is_closed_it_is_a_file_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    with open_store(path), open_store(path):
        pass
    assert not files.has(path.stat())
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("pragma journal_mode = delete").fetchone() == ("delete",)
    with pytest.raises(WorkspaceError, match=r"no text|binary|not text") as told:
        Workspace(tmp_path).read("kept.db")
    assert "has open" not in str(told.value)
