"""Which tools an agent has: what its file names, what it forbids, and what there is.

=================  ===================================================================================================
`Read`, `Glob` ...  one of `TOOLS`, whatever the case
`Agent`, `Task`     the `task` tool, which calls other agents; `Agent(a, b)` only those. No other agent has it
`mcp__s__t`         tool `t` of MCP server `s`; `mcp__s` and `mcp__s__*` are all of its tools, and other `*` work too
no `tools` key      everything, with one exception: `bash` only where it can be confined to the folder
=================  ===================================================================================================

What cannot be honoured to the letter is decided against the agent: `Read(docs/**)` gives nothing when it is asked for,
and takes `Read` away when it is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

TOOLS: Final[Mapping[str, str]] = {
    "read": "Read lines of one file, numbered; `offset` is the first line, `limit` how many.",
    "glob": "List the files whose path matches a pattern such as `**/*.py`.",
    "grep": "Find the lines that match a case-insensitive regular expression, in the files that match `glob`.",
    "write": "Write a whole file; it and its folders are made if they do not exist.",
    "edit": "Replace `old`, which must stand exactly once in the file at `path`, by `new`.",
    "bash": "Run a shell command in the folder, and get its output and how it ended. `timeout` is in seconds.",
}
"""The tools that work on the folder, and what a model is told about each."""

CALLING: Final = ("agent", "task")
"""How agent files call the tool that calls other agents."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The tools that an agent gets of `TOOLS`, and the entries of its definition that stand for none that there is.

    `named` are those that the definition names itself, as opposed to those that it has because it names none.
    """

    allowed: tuple[str, ...]
    unavailable: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


def permitted(
    tools: tuple[str, ...] | None, disallowed: tuple[str, ...] = (), servers: Iterable[str] = ()
) -> ToolChoice:
    """Which of `TOOLS` an agent gets that names `tools` (None is all) and forbids `disallowed`.

    `servers` are the MCP servers that it may use: entries that mean one of them are not among the unavailable.
    """
    listed = [_bare(tool) for tool in tools or ()]
    asked = list(TOOLS) if tools is None or "*" in listed else [name for name in listed if name in TOOLS]
    allowed = tuple(name for name in TOOLS if name in asked and not _is_denied(name, disallowed))
    named = tuple(name for name in allowed if name in listed)
    return ToolChoice(allowed, tuple(tool for tool in tools or () if not _is_known(tool, tuple(servers))), named)


def permits(tools: tuple[str, ...] | None, disallowed: tuple[str, ...], name: str) -> bool:
    """Whether an agent gets the tool of an MCP server that is called `name` in full: `mcp__server__tool`."""
    asked = tools is None or any(_means(_bare(tool), name.casefold()) for tool in tools)
    return asked and not _is_denied(name.casefold(), disallowed)


def _parts(tool: str) -> tuple[str, str | None]:
    """`Agent(a, b)` as `agent` and `a, b`; None when nothing is in brackets, or no brackets are there."""
    word, bracket, inside = tool.strip().partition("(")
    return word.strip().casefold(), inside.strip().removesuffix(")") if bracket else None


def _bare(tool: str) -> str:
    """The tool's name when it is asked for; what has more than a name to it stays as it is, and means no tool."""
    return tool.strip().casefold()


def _is_denied(name: str, disallowed: tuple[str, ...]) -> bool:
    # `Agent(x)` forbids one agent and is left to whoever resolves names; of tools, the whole tool is taken away.
    words = [_parts(tool) for tool in disallowed]
    return any(_means(word, name) for word, inside in words if not (word in CALLING and inside))


def _means(entry: str, name: str) -> bool:
    """Whether an entry of a list of tools means the tool of that name."""
    if entry in (name, "*"):
        return True
    if not entry.startswith("mcp__"):
        return False
    return name.startswith(f"{entry}__") or fnmatchcase(name, entry.replace("[", "[[]"))


def _is_known(tool: str, servers: tuple[str, ...]) -> bool:
    word, inside = _parts(tool)
    if word in CALLING or (inside is None and word in {*TOOLS, "*"}):
        return True
    return any(_means(word, f"mcp__{name.casefold()}__") or server_of(word) == name.casefold() for name in servers)


def server_of(entry: str) -> str | None:
    """The MCP server that an entry of a list of tools names, if it names one: `s` for `mcp__s__t`."""
    marked, _, rest = entry.strip().partition("__")
    return rest.partition("__")[0].casefold() or None if marked.casefold() == "mcp" else None
