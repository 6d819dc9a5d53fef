"""What a result says of an agent that has failed."""

from __future__ import annotations

from typing import Final

from fanfold import AgentError, BudgetError
from fanfold.teams.debating.objects import Mark

LONGEST: Final = 2_000


def mark_of(error: AgentError, who: str, doing: str = "") -> Mark:
    """The mark for an error: over budget, timed out, or failed; `doing` is what it was to do."""
    said = str(error)
    text = f"{doing}: {said}" if doing else said
    if isinstance(error, BudgetError):
        return Mark(kind="over budget", who=who, text=cut(text))
    return Mark(kind="timed out" if isinstance(error, TimeoutError) else "failed", who=who, text=cut(text))


def cut(text: str, longest: int = LONGEST) -> str:
    """The beginning of a text, if it is too long, and how much more there was."""
    over = len(text) - longest
    return text if over <= 0 else f"{text[: longest - 50]}\n({over + 50:,} more characters were left out)"
