"""Which keys a front matter may have, and what each may hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold.agents.definition.agent import BACKENDS


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value has to be, in words and as a test. `words` are all that there are, where that is a short list."""

    wanted: str
    fits: Callable[[Any], bool]
    words: tuple[str, ...] = ()


def is_text(kind: Kind) -> bool:
    """Whether values of this kind are text, so that they can be read where YAML refuses the file."""
    return kind in (TEXT, MODEL) or bool(kind.words)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_one_word(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) < 2


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_command(value: Any) -> bool:
    return _is_names(value) and (bool(value.strip()) if isinstance(value, str) else bool(value) and bool(value[0]))


def _is_servers(value: Any) -> bool:
    """Servers by name, or a list of names and of servers by name: in both forms a server is a mapping."""
    if isinstance(value, list):
        return all(isinstance(item, str) or (isinstance(item, dict) and _is_servers(item)) for item in value)
    return isinstance(value, dict) and all(isinstance(server, dict) for server in value.values())


def _is_hooks(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(hooks, list) for hooks in value.values())


def _one_of(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda value: value in words, words)


_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")

TEXT: Final = Kind("text (put it in quotes)", _is_text)
MODEL: Final = Kind("the name of a model, which is one word", _is_one_word)
NAMES: Final = Kind("names with commas between them, or a list of names", _is_names)
_COUNT: Final = Kind("a whole number of 1 or more", _is_count)
_AMOUNT: Final = Kind("a number above 0", _is_amount)
_FLAG: Final = Kind("true or false", lambda value: isinstance(value, bool))
_EFFORT: Final = Kind(
    f"one of {', '.join(_EFFORTS)}, or a whole number", lambda value: value in _EFFORTS or _is_count(value), _EFFORTS
)

KEYS: Final[Mapping[str, Kind]] = {
    "name": TEXT,
    "description": TEXT,
    "tools": NAMES,
    "disallowedTools": NAMES,
    "model": MODEL,
    "effort": _EFFORT,
    "permissionMode": _one_of("default", "manual", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions"),
    "maxTurns": _COUNT,
    "skills": NAMES,
    "mcpServers": Kind("servers by name, or a list of their names", _is_servers),
    "hooks": Kind("lists of hooks by event", _is_hooks),
    "memory": _one_of("user", "project", "local"),
    "background": _FLAG,
    "isolation": _one_of("worktree", "sandbox"),
    "color": _one_of("red", "blue", "green", "yellow", "purple", "orange", "pink", "cyan"),
    "initialPrompt": TEXT,
    "omitClaudeMd": _FLAG,
    "autoCompactWindow": _COUNT,
    "observer": TEXT,
    "observerMessage": TEXT,
    "backend": _one_of(*BACKENDS),
    "command": Kind("a command, or a list of its words", _is_command),
    "output": Kind("a mapping", lambda value: isinstance(value, dict)),
    "timeout": _AMOUNT,
    "budget_usd": _AMOUNT,
    "memory_mb": _COUNT,
    "max_concurrent": _COUNT,
}

LOOSE: Final = frozenset(
    {"model", "effort", "skills", "memory", "background", "color", "initialPrompt", "omitClaudeMd"}
    | {"autoCompactWindow", "observer", "observerMessage"}
)
"""Keys whose wrong value is left out: without it the agent may do no more, and costs what a user has named."""

HONOURED: Final = frozenset(
    {"name", "description", "tools", "disallowedTools", "model", "maxTurns", "backend", "output"}
    | {"command", "timeout", "budget_usd", "memory_mb", "max_concurrent"}
)
"""Keys that are fields of a definition; the others stand in its `extra`."""

PROSE: Final = frozenset({"description", "initialPrompt", "observerMessage"})
"""Keys whose text can have more than one line."""
