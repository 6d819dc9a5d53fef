"""What of a definition is heeded by what runs the agent. The rest is said, and never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fanfold.agents.definition import AgentDefinition

HEEDED: Final[Mapping[str, frozenset[str]]] = {
    "model": frozenset(
        {"tools", "disallowedTools", "maxTurns", "output", "model", "effort", "mcpServers", "memory_mb", "budget_usd"}
    ),
    "process": frozenset({"command", "memory_mb", "output"}),
    "python": frozenset(),
    "claude": frozenset({"tools", "disallowedTools", "maxTurns", "output", "model", "command", "memory_mb"})
    | {"effort", "permissionMode", "mcpServers", "budget_usd", "isolation"},
}
"""The keys that each backend heeds, besides those that count for all."""

_TOLD: Final = frozenset({"tools", "disallowedTools", "output", "mcpServers"})

PROGRAMS: Final[Mapping[str, frozenset[str]]] = {
    "preset:claude": _TOLD | {"model", "maxTurns", "effort", "permissionMode", "budget_usd", "isolation"},
    "preset:codex": _TOLD | {"model", "effort"},
    "preset:opencode": _TOLD | {"model", "maxTurns"},
    "acp:": _TOLD | {"permissionMode"},
}
"""The keys that programs heed besides, by how a definition's `command` begins."""

FOR_ALL: Final = frozenset({"timeout", "max_concurrent"})


def keys_of(definition: AgentDefinition) -> dict[str, Any]:
    """What a definition says by each key of an agent file, where it says anything."""
    d = definition
    said = {
        "tools": None if d.tools is None else list(d.tools),
        "disallowedTools": list(d.disallowed_tools) or None,
        "model": d.model,
        "maxTurns": d.max_turns,
        "output": d.output,
        "command": (d.command if isinstance(d.command, str) else list(d.command)) or None,
        "timeout": d.timeout,
        "budget_usd": d.budget_usd,
        "memory_mb": d.memory_mb,
        "max_concurrent": d.max_concurrent,
        **d.extra,
    }
    return {key: value for key, value in said.items() if value is not None}


_OF_CLAUDE: Final = {
    "effort": frozenset({"low", "medium", "high", "xhigh", "max"}),
    "isolation": frozenset({"sandbox"}),
}

VALUES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {"claude": _OF_CLAUDE, "preset:claude": _OF_CLAUDE}
"""Keys of which a backend, or a program, heeds some values only."""


def unheeded(definition: AgentDefinition) -> list[str]:
    """The keys of a definition that whatever runs the agent does not heed."""
    program = _program(definition)
    heeded = HEEDED[definition.backend] | FOR_ALL | PROGRAMS.get(program, frozenset())
    values = VALUES.get(program or definition.backend, {})
    said = keys_of(definition).items()
    return [key for key, value in said if key not in heeded or (key in values and value not in values[key])]


def _program(definition: AgentDefinition) -> str:
    """Which of `PROGRAMS` the agent is; nothing where it is none of them."""
    word = definition.program()
    return next((mark for mark in PROGRAMS if word == mark or (mark.endswith(":") and word.startswith(mark))), "")
