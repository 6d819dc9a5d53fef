"""The front matter of one file while it is read."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanfold.errors import AgentFileError


@dataclass(slots=True)
class Page:
    """What has been read of it, and what is odd about it. Line numbers count from the first line of the file."""

    source: Path | None
    prompt: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def error(self, cause: str, *, line: int | None = None, hint: str | None = None) -> AgentFileError:
        """The error that names the file, the line and the cause; the caller raises it."""
        where = str(self.source) if self.source else "agent definition"
        return AgentFileError(f"{where}:{line}: {cause}" if line else f"{where}: {cause}", hint=hint)

    def wrong(self, key: str, wanted: str, hint: str | None = None) -> AgentFileError:
        """The error that says what a key must hold and what it holds."""
        return self.error(self.mismatch(key, wanted), line=self.lines.get(key), hint=hint)

    def mismatch(self, key: str, wanted: str) -> str:
        """What a key must hold and what it holds."""
        found = json.dumps(self.values[key], ensure_ascii=False)
        return f"`{key}` must be {wanted}; found {textwrap.shorten(found, 60, placeholder=' ...')}"
