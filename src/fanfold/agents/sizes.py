"""How much memory the programs of an agent hold, as far as is known: what its file says, or what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from fanfold.agents.definition import AgentDefinition

MEGABYTE: Final = 1024 * 1024

UNKNOWN: Final = 100
"""Megabytes that a program is taken to need of which nobody has said or seen anything."""

CLAUDE: Final = 200
"""Megabytes that one claude program takes which is not bounded. That is its proportional share when it is alone, with a
short conversation; of four at once each takes 130."""

CLAUDE_MAPS: Final = 900
"""Megabytes below which the claude program does not start when that is all it may map, though it uses far less."""

Words: TypeAlias = tuple[str, ...]
"""The command line of a program that no definition is of, such as an MCP server."""

# By the definition's digest. In one process there are no more definitions, and servers, than its users wrote.
_peaks: dict[str | Words, int] = {}


def seen(program: AgentDefinition | Words, held: int) -> None:
    """A program of this agent, or of this command line, and what came of it, held so many bytes at most."""
    if held > 0:
        _peaks[_key(program)] = max(held, _peaks.get(_key(program), 0))


def measured(program: AgentDefinition | Words) -> int | None:
    """The most megabytes that such a program was seen to hold in this process, or None."""
    held = _peaks.get(_key(program))
    return None if held is None else -(-held // MEGABYTE)


def _key(program: AgentDefinition | Words) -> str | Words:
    return program if isinstance(program, tuple) else program.digest


def doubt(definition: AgentDefinition) -> str:
    """What is to be known of a `memory_mb` that is small for the program of an agent; nothing where it is not."""
    megabytes, by_itself = definition.memory_mb, definition.backend == "claude"
    if megabytes is None or not (by_itself or definition.program() == "preset:claude"):
        return ""
    if megabytes < CLAUDE:
        return f"`memory_mb: {megabytes}` is less than claude takes, about {CLAUDE}: it is killed when it holds more"
    if by_itself and megabytes < CLAUDE_MAPS:
        return (
            f"`memory_mb: {megabytes}` is heeded for what its processes hold together, and not for what each of them"
            f" may map: claude does not start with less than {CLAUDE_MAPS} of that"
        )
    return ""


def of_servers(entries: Iterable[Mapping[str, Any]]) -> int:
    """The megabytes to set aside for MCP servers: those that are programs here."""
    words = [words_of(entry) for entry in entries if "url" not in entry]
    return sum(measured(each) or UNKNOWN for each in words)


def words_of(entry: Mapping[str, Any]) -> Words:
    """The command line of an MCP server that is a program."""
    return (entry["command"], *entry["args"])


def of_command(definition: AgentDefinition) -> int:
    """The megabytes to set aside for a command of an agent: what it may have, else a guess. No two are alike."""
    return definition.memory_mb or UNKNOWN


def expected(definition: AgentDefinition, otherwise: int = UNKNOWN) -> int:
    """The megabytes to set aside for a program: what it may have, else what one was seen to hold, else a guess."""
    return definition.memory_mb or measured(definition) or otherwise
