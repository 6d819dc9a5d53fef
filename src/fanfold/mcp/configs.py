"""What other programs have to be told so that they use this server: the text of their configuration.

A server over HTTP is named by its address, and its token by the variable that holds it: no token is written down here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.mcp.http import TOKEN

NAME: Final = "fanfold"


@dataclass(frozen=True, slots=True)
class Way:
    """How a client gets to the server: by starting `command`, or at the address `url`."""

    command: Sequence[str] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that uses MCP servers: what its configuration looks like, and where that goes."""

    place: str
    written: Callable[[Way], str]


def _json(key: str, entry: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({**more, key: {NAME: entry}}, indent=2, ensure_ascii=False)


def _claude(way: Way) -> str:
    if way.url:
        headers = {"Authorization": f"Bearer ${{{TOKEN}}}"}
        return _json("mcpServers", {"type": "http", "url": way.url, "headers": headers})
    return _json("mcpServers", {"type": "stdio", **_program(way)})


def _cursor(way: Way) -> str:
    if way.url:
        headers = {"Authorization": f"Bearer ${{env:{TOKEN}}}"}
        return _json("mcpServers", {"url": way.url, "headers": headers})
    return _json("mcpServers", _program(way))


def _vscode(way: Way) -> str:
    if not way.url:
        return _json("servers", {"type": "stdio", **_program(way)})
    asked = {"type": "promptString", "id": "fanfold-token", "description": "Token of fanfold", "password": True}
    headers = {"Authorization": "Bearer ${input:fanfold-token}"}
    return _json("servers", {"type": "http", "url": way.url, "headers": headers}, inputs=[asked])


def _codex(way: Way) -> str:
    lines = [f"[mcp_servers.{NAME}]"]
    if way.url:
        lines += [f"url = {_toml(way.url)}", f"bearer_token_env_var = {_toml(TOKEN)}"]
    else:
        command, *words = way.command
        lines += [f"command = {_toml(command)}", f"args = [{', '.join(map(_toml, words))}]"]
    return "\n".join([*lines, "tool_timeout_sec = 120"])


def _program(way: Way) -> dict[str, Any]:
    command, *words = way.command
    return {"command": command, "args": words}


def _toml(text: str) -> str:
    return json.dumps(text)  # a basic string of TOML: the same escapes


CLIENTS: Final[Mapping[str, Client]] = {
    "claude": Client(".mcp.json in the project", _claude),
    "cursor": Client(".cursor/mcp.json in the project, or ~/.cursor/mcp.json", _cursor),
    "vscode": Client(".vscode/mcp.json in the project", _vscode),
    "codex": Client("~/.codex/config.toml", _codex),
}
