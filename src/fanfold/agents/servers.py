"""Which MCP servers an agent may use.

A definition's `mcpServers` is a list, or a mapping. A name in it means a server of the nearest `.mcp.json`; a mapping
is a server of its own, by its name::

    mcpServers:
      - github                                  # of .mcp.json
      - notes: {command: notes-server}          # this agent's own

    {"mcpServers": {"github": {"type": "http", "url": "https://...", "headers": {"Authorization": "Bearer ${TOKEN}"}}}}

`.mcp.json` is looked for from a folder upwards, and the nearest that has a name says what it means. **A server of
`.mcp.json` is only there for an agent that names it**, in `mcpServers` or among its tools (`mcp__github__search`): an
agent that names no tool has none of them.

`${VAR}` and `${VAR:-otherwise}` stand for variables of our environment, in the command, its arguments, its environment,
the URL and the headers of a server of `.mcp.json`, and of an agent that is an object of the run. Agent files come in
collections that other people wrote, and are given none: else one line in such a file would send any key anywhere.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fanfold.agents.definition import AgentDefinition
from fanfold.agents.tools import server_of
from fanfold.errors import AgentError, AgentFileError, did_you_mean

FILE: Final = ".mcp.json"
REMOTE: Final = ("http", "streamable-http", "sse")

_LARGEST_FILE: Final = 1_000_000
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


def servers_of(
    definition: AgentDefinition, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """The servers that an agent may use in a folder, by name, ready to be connected to.

    Raises `AgentError` for one that is named and is not there, or cannot be meant, and `AgentFileError` for a file that
    is no `.mcp.json`.
    """
    known = os.environ if environment is None else environment
    named, own = _asked(definition)
    tools = _of_tools(definition)
    there = _listed(folder) if tools or any(name not in own for name in named) else {}
    for name in named:
        if name not in own and name not in there:
            raise AgentError(
                f"agent {definition.name!r} names MCP server {name!r}, and no {FILE} from {folder} upwards has it"
                + did_you_mean(name, there),
                hint=f'add it: {{"mcpServers": {{"{name}": {{"command": "..."}}}}}}',
            )
    shared = [name for name in there if name not in own and (name in named or plain(name) in tools)]
    trusted = known if definition.origin == "run" else None
    return {
        **{name: _ready(definition, name, own[name], trusted) for name in own},
        **{name: _ready(definition, name, there[name], known) for name in shared},
    }


def plain(name: str) -> str:
    """A server's name as it stands in the names of its tools."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name).casefold()


def _asked(definition: AgentDefinition) -> tuple[list[str], dict[str, Mapping[str, Any]]]:
    """The names in a definition's `mcpServers`, and the servers that it describes itself."""
    said = definition.extra.get("mcpServers") or ()
    names, own = list[str](), dict[str, Mapping[str, Any]]()
    for entry in [said] if isinstance(said, Mapping) else said:
        if isinstance(entry, str):
            names.append(entry)
        elif isinstance(entry, Mapping):
            for name, server in entry.items():
                if not isinstance(server, Mapping):
                    raise AgentError(
                        f"agent {definition.name!r}: MCP server {name!r} must be a mapping, not {server!r:.60}"
                    )
                own[str(name)] = server
        else:
            raise AgentError(f"agent {definition.name!r}: mcpServers holds {entry!r:.60}, which is no server")
    return names, own


def _of_tools(definition: AgentDefinition) -> list[str]:
    return list(dict.fromkeys(filter(None, map(server_of, definition.tools or ()))))


def _listed(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Every server of every `.mcp.json` from a folder upwards; the nearest says what a name means."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in _files(folder):
        for name, server in _read(path).items():
            found.setdefault(name, server)
    return found


def _files(folder: Path) -> Iterator[Path]:
    here = folder.resolve()
    return (parent / FILE for parent in (here, *here.parents) if (parent / FILE).is_file())


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise AgentFileError(f"{path}: larger than {_LARGEST_FILE // 1_000_000} MB")
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise AgentFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AgentFileError(f"{path}: no valid JSON: {error}") from error
    servers = said.get("mcpServers") if isinstance(said, dict) else None
    if not isinstance(servers, dict) or not all(isinstance(server, dict) for server in servers.values()):
        raise AgentFileError(f"{path}: `mcpServers` must be an object of objects", hint='{"mcpServers": {...}}')
    return servers


def _ready(
    definition: AgentDefinition, name: str, entry: Mapping[str, Any], known: Mapping[str, str] | None
) -> dict[str, Any]:
    """The entry with its variables put in. Raises `AgentError` where it says neither a command nor a URL."""
    whose = f"agent {definition.name!r}: MCP server {name!r}"
    kind = entry.get("type") or ("http" if "url" in entry else "stdio")
    needed = "url" if kind in REMOTE else "command"
    if kind not in (*REMOTE, "stdio"):
        raise AgentError(f"{whose} is of type {kind!r}, which is none of stdio, {', '.join(REMOTE)}")
    if not isinstance(entry.get(needed), str) or not entry[needed]:
        raise AgentError(f"{whose} has no `{needed}`")
    ready: dict[str, Any] = {"type": kind, needed: _filled(whose, entry[needed], known)}
    if kind == "stdio":
        ready["args"] = [_filled(whose, text, known) for text in _texts(whose, "args", entry.get("args"))]
    table = "env" if kind == "stdio" else "headers"
    given = entry.get(table) or {}
    if not isinstance(given, Mapping):
        raise AgentError(f"{whose}: `{table}` must be a mapping")
    ready[table] = {str(key): _filled(whose, str(value), known) for key, value in given.items()}
    return ready


def _texts(whose: str, key: str, value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise AgentError(f"{whose}: `{key}` must be a list")
    return [str(each) for each in value]


def _filled(whose: str, text: str, known: Mapping[str, str] | None) -> str:
    def value(match: re.Match[str]) -> str:
        name, otherwise = match[1], match[2]
        if known is None:
            raise AgentError(
                f"{whose} asks for the variable {name}, and agent files are given none",
                hint=f"describe the server in {FILE}, and name it in the agent's file",
            )
        if name in known:
            return known[name]
        if otherwise is None:
            raise AgentError(
                f"{whose} needs the variable {name}, which is not set", hint=f"set it, or write ${{{name}:-otherwise}}"
            )
        return str(otherwise)

    return _VARIABLE.sub(value, text)
