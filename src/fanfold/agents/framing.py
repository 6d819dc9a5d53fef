"""What an agent answered, marked as what it is, before another agent reads it."""

from __future__ import annotations

from typing import Any


def framed(result: Any) -> str:
    """The answer of an agent, framed as what a model wrote."""
    return f"<agent_output agent={result.agent_type!r} task={result.task_id!r}>\n{result}\n</agent_output>"
