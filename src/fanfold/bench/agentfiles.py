"""A collection of agent files, read by us and by the least that reads one: its text, and PyYAML's fastest loader."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from fanfold.bench.timing import Work

_BODY: Final = "Say what you have looked at, and what follows from it.\n" * 60


def collection(n: int) -> Path:
    """A folder with so many agent files in seven categories; one in ten has a colon that makes its head no YAML."""
    root = Path(tempfile.mkdtemp(prefix="fanfold-bench-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for number in range(n):
        path = root / ".claude" / "agents" / f"category-{number % 7}" / f"agent-{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        description = f"Use it when: number {number} is meant" if number % 10 == 0 else f"Knows the number {number}"
        head = f"name: agent-{number}\ndescription: {description}\ntools: Read, Grep, Glob\nmodel: sonnet"
        path.write_text(f"---\n{head}\n---\n\n{_BODY}", encoding="utf-8")
    return root


def loaded(n: int) -> Work:
    """The catalogue of a folder with so many files."""
    from fanfold.agents.definition import Catalogue

    root = collection(n)

    async def load() -> int:
        return sum(definition.origin == "project" for definition in Catalogue.load(root, root / "nobody"))

    return load


def scanned(n: int) -> Work:
    """Each file's front matter as the mapping that it is, where it is one; nothing is checked."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root = collection(n)

    def read(path: str) -> Any:
        text = Path(path).read_bytes().decode()
        try:
            return yaml.load(text.split("---\n", 2)[1], loader)  # noqa: S506 - it is a safe one
        except yaml.YAMLError:
            return {}

    async def scan() -> int:
        found = [read(f"{here}/{name}") for here, _, names in os.walk(root) for name in names]
        return len(found)

    return scan
