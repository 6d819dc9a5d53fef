"""How the claude program is started for one call: its command line, and the few variables that it sees.

What can be long or secret (the system prompt, MCP servers) is in files of the program's own home, which is made for
the call and removed after it. No file of a user's or a project's settings is read: they could name hooks, and those
are programs.

**Tools.** The program runs in the mode in which it asks nobody: what is not allowed beforehand is refused. Tools for
files are allowed within the workspace only, also through links and `..`; so a rule of the agent's file that names
other folders has no effect. Its own tool for sub-agents is never there: it answers "launched", which is no answer, and
takes an unknown name for an agent that may do everything. What needs a person or outlives the answer is not there
either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fanfold.agents.backends.base import Call
from fanfold.agents.backends.providers import REHEARSAL_MODEL, check_key, check_name, is_loopback, name_of
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.heeded import VALUES, keys_of
from fanfold.errors import AgentError, ModelError
from fanfold.limits import least

TEAM: Final = "fanfold-agents"
"""The name of our MCP server in the program, whose one tool asks the agents that this one may call."""

TASK_TOOL: Final = f"mcp__{TEAM}__task"

INHERITED: Final = ("Read", "Grep", "Glob", "Edit", "Write", "NotebookEdit")
"""The program's own tools that an agent has whose file names none: those that can be kept within the workspace."""

STANDARD: Final = (*INHERITED, "Bash", "WebFetch", "WebSearch")

LOOKING: Final = frozenset({"Read", "Grep", "Glob"})
CHANGING: Final = frozenset({"Edit", "Write", "MultiEdit", "NotebookEdit"})

KEY_DESCRIPTOR: Final = "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"

NEVER: Final = ("Agent", "Task", "Workflow", "SendMessage", "AskUserQuestion", "ScheduleWakeup", "CronCreate")

MODES: Final = frozenset({"default", "dontAsk", "acceptEdits", "plan", "bypassPermissions"})
SANDBOX: Final = "sandbox"

RETRIES: Final = 3
"""How often the program itself asks a model again that did not answer. Only it can: the conversation is its own."""

FOR_EVER: Final = str(2**31 - 1)  # milliseconds, the most that its timers take

_QUIET: Final = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
    "CLAUDE_CODE_NO_MODEL_FALLBACK": "1",
    # What goes on behind an answer's back is no part of the answer, and would be killed with the program.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS": "0",
    "MCP_TOOL_TIMEOUT": FOR_EVER,  # an agent that is asked through a tool has time limits of its own
}
_MODELS: Final = ("SMALL_FAST", "DEFAULT_HAIKU", "DEFAULT_SONNET", "DEFAULT_OPUS", "DEFAULT_FABLE")
"""How the variables begin that name the models for side tasks: none of them may be one that nobody named."""

_PLAIN: Final = {"attribution": {"commit": "", "pr": ""}}
"""Settings without which the program would add to each prompt how its vendor is to be named."""

_WAYS_OUT: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Start:
    """What it takes to start the program. `asks` is the model's whole name; `real`, that it is one that costs money.

    The key is no variable: the program's shell, and everything in it, would see it.
    """

    command: list[str]
    environment: dict[str, str]
    key: str = field(repr=False)
    asks: str
    real: bool
    turns: int | None
    notices: tuple[str, ...]


def start(call: Call, program: str, home: Path, calls: int | None = None) -> Start:
    """Decide how the program is started, and write into its home what it will read there.

    `calls` is how often it may ask its model, besides what the agent's file says.

    Raises an `AgentError` for what the agent's file asks for and cannot have.
    """
    said = keys_of(call.definition)
    notices: list[str] = []
    turns = least(call.definition.max_turns, calls)
    model, key, variables = _model(call)
    flags: dict[str, str | None] = {
        "output-format": "stream-json",
        "input-format": "stream-json",
        "verbose": None,
        "include-partial-messages": None,  # they have the true counts of tokens, and are signs of life
        "system-prompt-file": _written(home / "prompt", call.definition.prompt),
        "setting-sources": "",
        "strict-mcp-config": None,
        "session-id": str(uuid.uuid5(uuid.NAMESPACE_OID, call.task)),
        "model": model,
        "permission-mode": _mode(call.definition, said),
        **_tools(call),
        **_bounds(call, said, turns, notices),
    }
    if servers := _servers(call):
        flags["mcp-config"] = _written(home / "mcp.json", json.dumps({"mcpServers": servers}))
    if "Bash" in tool_names(call) and not _wants_sandbox(call.definition):
        notices.append("may run any command as you: nothing here confines it to the folder")
    settings = {**_PLAIN, **_sandbox(call.definition, said, notices)}
    flags["settings"] = _written(home / "settings.json", json.dumps(settings))
    command = [program, *(f"--{name}" if value is None else f"--{name}={value}" for name, value in flags.items())]
    real = isinstance(call.model, str)
    seen = {**_surroundings(call, home, real), **variables}
    return Start(command, seen, key, name_of(call.model), real, turns, tuple(notices))


@contextmanager
def handed(key: str) -> Iterator[int]:
    """A descriptor from which the key can be read, once."""
    theirs, ours = os.pipe()
    try:
        os.write(ours, key.encode())
        os.close(ours)
        yield theirs
    finally:
        os.close(theirs)


def tool_names(call: Call) -> tuple[str, ...]:
    """The program's own tools that the agent is to have, by the names that the program gives them."""
    asked = call.definition.tools
    if asked is None or "*" in asked:
        return (*INHERITED, "Bash") if _wants_sandbox(call.definition) else INHERITED
    return tuple(dict.fromkeys(_own(asked)))


def _wants_sandbox(definition: AgentDefinition) -> bool:
    return bool(keys_of(definition).get("isolation") == SANDBOX)


def _own(tools: Iterable[str]) -> Iterator[str]:
    for tool in tools:
        name = _named(tool)
        if not name.startswith("mcp__") and name not in NEVER:
            yield name


def _named(rule: str) -> str:
    """The tool that a rule such as `Bash(git *)` is about; ours are written small, the program's not."""
    name = rule.partition("(")[0].strip()
    return next((known for known in STANDARD if known.casefold() == name.casefold()), name)


def _tools(call: Call) -> dict[str, str]:
    """The flags that say which tools there are, which are allowed, and which are not there whatever else is said."""
    asked = call.definition.tools
    rules = [rule for name in tool_names(call) for rule in _rules(name, asked or ())]
    if asked is None or "*" in asked:
        rules += ["mcp__" + re.sub(r"[^A-Za-z0-9_-]", "_", server) for server in call.servers]
    else:
        rules += [tool.strip() for tool in asked if tool.strip().startswith("mcp__")]
    if call.peers:
        rules.append(TASK_TOOL)
    forbidden = [_named(tool) + tool[len(tool.partition("(")[0]) :] for tool in call.definition.disallowed_tools]
    flags = {"tools": ",".join(tool_names(call)), "disallowed-tools": ",".join([*NEVER, *forbidden])}
    return {**flags, "allowed-tools": ",".join(rules)} if rules else flags


def _rules(name: str, asked: Iterable[str]) -> list[str]:
    """What is allowed of a tool: files of the workspace, or what the agent's file says of it."""
    if name in LOOKING:
        return ["Read(./**)"]  # the program's rule for all that look at files
    if name in CHANGING:
        return ["Edit(./**)"]
    patterns = [tool.partition("(")[1] + tool.partition("(")[2] for tool in asked if _named(tool) == name]
    return [name + pattern.strip() for pattern in patterns or [""]]


def _mode(definition: AgentDefinition, said: Mapping[str, Any]) -> str:
    mode = said.get("permissionMode", "default")
    if mode not in MODES:
        raise AgentError(
            f"agent {definition.name!r} says `permissionMode: {mode}`, which nobody is there to answer for",
            hint=f"it may be one of {', '.join(sorted(MODES))}",
        )
    if mode == "bypassPermissions" and hasattr(os, "geteuid") and os.geteuid() == 0:
        raise AgentError(
            f"agent {definition.name!r} says `permissionMode: bypassPermissions`, and claude refuses that as root",
            hint="run as another user, or leave the key out: the agent's tools are allowed without it",
        )
    return "dontAsk" if mode == "default" else str(mode)


def _bounds(call: Call, said: Mapping[str, Any], turns: int | None, notices: list[str]) -> dict[str, str]:
    """The flags for turns, money, effort and the answer's form."""
    flags = {
        "max-turns": turns,
        "max-budget-usd": said.get("budget_usd"),
        "effort": said.get("effort"),
        "json-schema": None if call.schema is None else json.dumps(call.schema),
    }
    efforts = VALUES["claude"]["effort"]
    if flags["effort"] is not None and flags["effort"] not in efforts:
        notices.append(f"asks for `effort: {flags['effort']}` in vain; claude knows {', '.join(sorted(efforts))}")
        flags["effort"] = None
    return {name: str(value) for name, value in flags.items() if value is not None}


def _servers(call: Call) -> dict[str, Any]:
    ours = {TEAM: {"type": "sdk", "name": TEAM}} if call.peers else {}
    return {**{name: dict(server) for name, server in call.servers.items()}, **ours}


def _sandbox(definition: AgentDefinition, said: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """The settings of a sandbox for the program's shell, where the agent's file asks for one.

    Without the programs that make it, claude would warn and go on. Raises `AgentError` instead.
    """
    isolation = said.get("isolation")
    if isolation is None:
        return {}
    if isolation != SANDBOX:
        notices.append(f"asks for `isolation: {isolation}` in vain: it works in the workspace itself")
        return {}
    missing = [name for name in ("bwrap", "socat") if shutil.which(name) is None] if os.name == "posix" else []
    if missing:
        raise AgentError(
            f"agent {definition.name!r} says `isolation: {SANDBOX}`, and there is no {' and no '.join(missing)}",
            hint="install bubblewrap and socat; without them its commands would run unconfined",
        )
    sandbox = {"enabled": True, "failIfUnavailable": True, "allowUnsandboxedCommands": False}
    return {SANDBOX: {**sandbox, "autoAllowBashIfSandboxed": True}}


def _model(call: Call) -> tuple[str, str, dict[str, str]]:
    """The model's name for the program, the key for it, and the variables by which the program gets to it."""
    if isinstance(call.model, str):
        provider, name = check_name(call.model)
        if provider != "anthropic":
            raise ModelError(
                f"agent {call.definition.name!r} is run by claude, which cannot ask model {call.model!r}",
                hint="name a model of Anthropic's for it, or say `backend: model` in its file",
            )
        check_key(call.model)
        key, url = os.environ.get("ANTHROPIC_API_KEY"), os.environ.get("ANTHROPIC_BASE_URL")
    else:
        name, key, url = REHEARSAL_MODEL, None, str(call.model.url)
    variables = {f"ANTHROPIC_{each}_MODEL": name for each in _MODELS}
    if url:
        variables["ANTHROPIC_BASE_URL"] = url
    if url and is_loopback(url):
        who = {"x-fanfold-agent": call.definition.name, "x-fanfold-task": call.task}
        lines = (f"{header}: {value}" for header, value in who.items() if value.isascii())
        variables["ANTHROPIC_CUSTOM_HEADERS"] = "\n".join(lines)
    return name, key or "none-needed", variables


def _surroundings(call: Call, home: Path, real: bool) -> dict[str, str]:
    """Variables besides those that every program sees. The user's own home is only there for a real model's tools."""
    temporary = home / "tmp"
    temporary.mkdir()
    places = {"CLAUDE_CONFIG_DIR": str(home), "CLAUDE_CODE_TMPDIR": str(temporary), "TMPDIR": str(temporary)}
    if real:
        named = {name: os.environ[name] for each in _WAYS_OUT for name in (each, each.lower()) if name in os.environ}
        places |= named
    else:
        places["HOME"] = str(home)
    return {**_QUIET, **places, "FANFOLD_TASK": call.task, "FANFOLD_AGENT": call.definition.name}


def _written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8", errors="replace")
    return str(path)
