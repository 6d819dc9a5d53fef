"""What a start costs: `import fanfold` loads nothing that its user has not asked for."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "pydantic_ai", "openai", "anthropic", "rich", "click", "yaml", "sqlite3", "fanfold.graph")


def loaded_by(statement: str) -> set[str]:
    """The modules that a new process has loaded after the statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_fanfold_loads_nothing_heavy() -> None:
    assert loaded_by("import fanfold") & set(HEAVY) == set()


def test_a_name_of_fanfold_loads_what_it_needs_and_no_vendor() -> None:
    loaded = loaded_by("from fanfold import StateGraph, Task")
    assert "fanfold.graph" in loaded
    assert loaded & {"pydantic_ai", "openai", "anthropic"} == set()


def test_the_help_of_the_command_loads_no_engine() -> None:
    assert loaded_by("import fanfold.cli") & (set(HEAVY) - {"click"}) == set()
