"""How much memory the programs of an agent hold, as far as is known: what its file says, or what was seen."""

from __future__ import annotations

from typing import Final

from fanfold.agents.definition import AgentDefinition

MEGABYTE: Final = 1024 * 1024

UNKNOWN: Final = 100
"""Megabytes that a program is taken to need of which nobody has said or seen anything."""

# By the definition's digest. In one process there are no more definitions than its users wrote.
_peaks: dict[str, int] = {}


def seen(definition: AgentDefinition, held: int) -> None:
    """A program of this agent, and what came of it, held so many bytes at most."""
    if held > 0:
        _peaks[definition.digest] = max(held, _peaks.get(definition.digest, 0))


def measured(definition: AgentDefinition) -> int | None:
    """The most megabytes that a program of this agent was seen to hold in this process, or None."""
    held = _peaks.get(definition.digest)
    return None if held is None else -(-held // MEGABYTE)


def expected(definition: AgentDefinition, otherwise: int = UNKNOWN) -> int:
    """The megabytes to set aside for a program: what it may have, else what one was seen to hold, else a guess."""
    return definition.memory_mb or measured(definition) or otherwise
