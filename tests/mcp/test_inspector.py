"""The MCP Inspector's command line, which is no code of ours and none of the SDK's, as a client of the server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fanfold
from fanfold.store.sqlite import SqliteStore

INSPECTOR = Path(__file__).parents[2] / ".venv" / "inspector" / "node_modules" / ".bin" / "mcp-inspector"
CODE = Path(fanfold.__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed, and the MCP Inspector runs on it"),
    pytest.mark.skipif(
        shutil.which("node") is not None and not INSPECTOR.exists(),
        reason="the MCP Inspector is not installed; `make test` does that where npm can reach its registry",
    ),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with SqliteStore(tmp_path / "runs.db") as store:
        store.items.put(("users", "ada"), "likes", {"food": "cherries"})
    return tmp_path / "runs.db"


def inspected(store: Path, *words: str) -> tuple[int, Any, str]:
    """The exit code, the answer, and what was said besides."""
    server = [sys.executable, "-m", "fanfold", "mcp", "serve", "--store", f"sqlite:///{store}", "--allow-write"]
    told = subprocess.run(
        [str(INSPECTOR), "--cli", "-e", f"PYTHONPATH={CODE}", *server, *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(store.parent)},
    )
    return told.returncode, json.loads(told.stdout) if told.stdout else None, told.stderr


def called(store: Path, tool: str, **arguments: str) -> tuple[int, Any]:
    given = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
    code, told, _ = inspected(store, "--method", "tools/call", "--tool-name", tool, *given)
    return code, told


def test_the_inspector_finds_no_error_in_the_tools(store: Path) -> None:
    code, told, said = inspected(store, "--method", "tools/list", "--strict")
    assert (code, "0 errors" in said or "error" not in said) == (0, True)
    assert {"query", "memory_get", "memory_put", "runs_list"} <= {tool["name"] for tool in told["tools"]}


def test_the_inspector_reads_with_sql(store: Path) -> None:
    sql = "select namespace, key, value from memory where key = $1"
    code, told = called(store, "query", sql=sql, parameters='["likes"]')
    assert code == 0
    assert told["structuredContent"]["rows"] == [["users.ada", "likes", {"food": "cherries"}]]


def test_the_inspector_is_told_why_a_write_is_refused(store: Path) -> None:
    code, told = called(store, "query", sql="delete from memory returning 1")
    assert (code != 0, told["isError"]) == (True, True)
    assert "QueryRefusedError [role]" in told["content"][0]["text"]


def test_the_inspector_gets_what_it_has_put(store: Path) -> None:
    code, _ = called(store, "memory_put", namespace='["x"]', key="y", value='{"n": 1}')
    assert code == 0
    _, told = called(store, "memory_get", namespace='["x"]', key="y")
    assert told["structuredContent"]["item"]["value"] == {"n": 1}


def test_the_inspector_lists_resources_and_prompts(store: Path) -> None:
    _, resources, _ = inspected(store, "--method", "resources/templates/list")
    assert "run://{run_id}/audit" in [each["uriTemplate"] for each in resources["resourceTemplates"]]
    _, prompts, _ = inspected(store, "--method", "prompts/list")
    assert prompts["prompts"]
