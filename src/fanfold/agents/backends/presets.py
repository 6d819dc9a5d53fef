"""Command line tools of vendors as agents: `command: preset:claude`, `preset:codex` or `preset:opencode`.

Words behind the preset's name are given to the tool as they stand. Each is run without the settings, plugins and
servers that its user has for other work, and without anybody to ask: what it is not allowed is denied.

**Money.** A preset asks a model, so the rule of `agents/scope` holds for it: a key, and the tool's own login in HOME,
are there only when a user named a model of that provider. Otherwise a server stands in for it (the rehearsal model);
then the tool has a home of its own that is empty, a key that is none, and a proxy that leads nowhere, so that it
reaches the server on this machine and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fanfold.agents.backends import claude_command, dialects
from fanfold.agents.backends.base import Call
from fanfold.agents.backends.forms import wish
from fanfold.agents.backends.providers import PROVIDERS, REHEARSAL_MODEL, check_name
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import AgentError, UsageError, did_you_mean

NOWHERE: Final = "http://127.0.0.1:9"
"""A proxy behind which there is nothing (the port is that of `discard`)."""

DUMMY: Final = "none-needed"


@dataclass(frozen=True, slots=True)
class Plan:
    """A program to be run: its words, what it reads, what is added to its environment, and the language it speaks."""

    words: Sequence[str]
    prompt: str
    extra: Mapping[str, str] = field(default_factory=dict)
    dialect: dialects.Dialect = dialects.ours
    notices: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Preset:
    """One vendor's tool: whose models it asks, the megabytes that it holds while nobody has seen it, how to get it."""

    program: str
    providers: tuple[str, ...]
    plan: Callable[[Call, _Access, Path, ExitStack], Plan]
    megabytes: int
    get: str


@dataclass(frozen=True, slots=True)
class _Access:
    """Which model is asked, where, and with which key. `standing_in` is whether a server stands in for its provider.

    `base` is the address without `/v1`; None is the provider's own. A key of None is the tool's own login.
    """

    provider: str
    model: str
    base: str | None
    key: str | None
    standing_in: bool


def named(words: Sequence[str]) -> Preset | None:
    """The preset that a command names, if it names one. Raises `AgentError` for one that there is not."""
    marked, colon, name = words[0].partition(":") if words else ("", "", "")
    if not colon or marked != "preset":
        return None
    if name not in PRESETS:
        raise AgentError(
            f"there is no preset {name!r}{did_you_mean(name, PRESETS)}", hint=f"the presets are: {', '.join(PRESETS)}"
        )
    return PRESETS[name]


@contextmanager
def planned(preset: Preset, call: Call, more: Sequence[str]) -> Iterator[Plan]:
    """How the preset is run for a call, with a folder of its own for as long as that is needed."""
    access = _access(preset, call)
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="fanfold-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        plan = preset.plan(call, access, folder, stack)
        last = plan.words[-1:] if plan.words[-1] == "-" else ()
        words = [*plan.words[: len(plan.words) - len(last)], *more, *last]
        apart = _apart(folder) if access.standing_in else {}
        yield replace(plan, words=words, extra={**apart, **plan.extra})


def _access(preset: Preset, call: Call) -> _Access:
    if not isinstance(call.model, str):
        if call.model is None:
            raise AgentError(f"agent {call.definition.name!r}: its preset asks a model, and none was given to it")
        return _Access(preset.providers[0], REHEARSAL_MODEL, call.model.url, DUMMY, standing_in=True)
    provider, model = check_name(call.model)
    if provider not in preset.providers:
        raise UsageError(
            f"agent {call.definition.name!r} is {preset.program!r}, which asks models of "
            f"{' or '.join(preset.providers)}, and {call.model!r} was named",
            hint="name another one where it is called: Task(model=...)",
        )
    prefix = PROVIDERS[provider]
    base = os.environ.get(f"{prefix}_BASE_URL")
    return _Access(provider, model, base and base.removesuffix("/").removesuffix("/v1"), _key(prefix, base), False)


def _key(prefix: str, base: str | None) -> str | None:
    return os.environ.get(f"{prefix}_API_KEY") or (DUMMY if base else None)


def _apart(folder: Path) -> dict[str, str]:
    """An environment in which a tool finds nothing of its user, and nothing beyond this machine."""
    home = folder / "home"
    home.mkdir()
    proxies = {f"{kind}_PROXY": NOWHERE for kind in ("HTTP", "HTTPS", "ALL")}
    proxies |= {name.lower(): value for name, value in proxies.items()}
    return {"HOME": str(home), "TMPDIR": str(folder), **proxies, **dict.fromkeys(("NO_PROXY", "no_proxy"), _HERE)}


_HERE: Final = "127.0.0.1,localhost,::1"


def _who(call: Call, access: _Access) -> dict[str, str]:
    """Headers that tell a server that stands in who is asking; no other server is told."""
    return {"x-fanfold-agent": call.definition.name, "x-fanfold-task": call.task} if access.standing_in else {}


def _asked(definition: AgentDefinition) -> frozenset[str]:
    """The tools that a definition asks for, in small letters and without what stands in brackets."""
    tools = {tool.partition("(")[0].strip().casefold() for tool in definition.tools or ()}
    return frozenset(tools - {tool.strip().casefold() for tool in definition.disallowed_tools})


_CHANGING: Final = frozenset({"write", "edit", "multiedit", "notebookedit"})
_RUNNING: Final = frozenset({"bash"})
_FETCHING: Final = frozenset({"webfetch", "websearch"})


def _may(definition: AgentDefinition, tools: frozenset[str]) -> bool:
    """Whether a definition asks for one of these tools. What it does not name is not allowed, but for reading."""
    return bool(_asked(definition) & tools)


# Claude Code.

_FOR_OURSELVES: Final = "--include-partial-messages"
"""What the backend `claude` wants to hear and we do not."""


def _claude(call: Call, access: _Access, folder: Path, stack: ExitStack) -> Plan:
    """As the backend `claude` starts it, but for what it does by talking with the program."""
    home = folder / "claude"
    home.mkdir()
    begin = claude_command.start(replace(call, peers=()), _claude_program(), home)
    descriptor = stack.enter_context(claude_command.handed(begin.key))
    program, *flags = (word for word in begin.command if word != _FOR_OURSELVES)
    content = [{"type": "text", "text": call.prompt}]
    # `client_composed`: or a prompt that has `@/some/path` in it would pull in that file, wherever it is.
    said = {"type": "user", "message": {"role": "user", "content": content}, "client_composed": True}
    return Plan(
        [program, "-p", *flags],
        json.dumps(said) + "\n",
        {**begin.environment, claude_command.KEY_DESCRIPTOR: str(descriptor)},
        dialects.claude,
        begin.notices,
        (descriptor,),
    )


def _claude_program() -> str:
    """Claude's program: what is called `claude`, else the one that comes with its SDK."""
    found = shutil.which("claude")
    if found:
        return found
    sdk = find_spec("claude_agent_sdk")
    places = [Path(place) / "_bundled" / "claude" for place in (sdk and sdk.submodule_search_locations) or ()]
    return next((str(place) for place in places if place.is_file()), "claude")


# Codex.

_CODEX_KEY: Final = "FANFOLD_MODEL_KEY"
_OPENAI: Final = "https://api.openai.com"


def _codex(call: Call, access: _Access, folder: Path, _: ExitStack) -> Plan:
    definition = call.definition
    writes = _may(definition, _CHANGING | _RUNNING)
    words = [
        *("codex", "exec", "--json", "--color", "never", "--skip-git-repo-check", "--ephemeral"),
        *("--ignore-user-config", "--ignore-rules", "--model", access.model),
        *("--sandbox", "workspace-write" if writes else "read-only"),
    ]
    settings: dict[str, Any] = {
        "approval_policy": "never",
        "shell_environment_policy.inherit": "core",
        "web_search": "live" if _may(definition, _FETCHING) else "disabled",
        "model_reasoning_effort": definition.extra.get("effort"),
        "developer_instructions": definition.prompt or None,
        **{f"mcp_servers.{json.dumps(name)}": _codex_server(server) for name, server in call.servers.items()},
    }
    if access.key is not None:
        settings |= {"model_provider": "fanfold", "model_providers.fanfold": _codex_provider(call, access)}
    for name, value in settings.items():
        words += ["-c", f"{name}={_toml(value)}"] if value is not None else []
    if call.schema is not None:
        (folder / "schema.json").write_text(json.dumps(call.schema))
        words += ["--output-schema", str(folder / "schema.json")]
    extra = {} if access.key is None else {_CODEX_KEY: access.key}
    return Plan([*words, "-"], call.prompt, extra, dialects.codex)


def _codex_provider(call: Call, access: _Access) -> dict[str, Any]:
    """Codex's own retries are switched off: it does not tell of them."""
    return {
        "name": "fanfold",
        "base_url": f"{access.base or _OPENAI}/v1",
        "env_key": _CODEX_KEY,
        "wire_api": "responses",
        "request_max_retries": 0,
        "stream_max_retries": 0,
        "http_headers": _who(call, access),
    }


def _codex_server(server: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: server[key] for key in ("command", "args", "env", "url") if key in server}
    return {**kept, "http_headers": server["headers"]} if "headers" in server else kept


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line. A text of JSON is one of TOML, but for what Unicode escapes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# opencode.


def _opencode(call: Call, access: _Access, folder: Path, _: ExitStack) -> Plan:
    definition = call.definition
    provider = "fanfold" if access.standing_in else access.provider
    model = f"{provider}/{access.model}"
    agent = {
        "mode": "primary",
        "permission": {
            "edit": _verdict(definition, _CHANGING),
            "bash": _verdict(definition, _RUNNING),
            "webfetch": _verdict(definition, frozenset({"webfetch"})),
            "websearch": _verdict(definition, frozenset({"websearch"})),
            "external_directory": "deny",
            "task": "deny",
        },
        **({"prompt": definition.prompt} if definition.prompt else {}),
        **({"steps": definition.max_turns} if definition.max_turns else {}),
    }
    settings = {
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": False,
        "share": "disabled",
        "model": model,
        "small_model": model,
        "provider": {provider: _opencode_provider(call, access)},
        "agent": {"fanfold": agent},
        "mcp": {name: _opencode_server(server) for name, server in call.servers.items()},
    }
    prompt = call.prompt if call.schema is None else f"{call.prompt}\n\n{wish(call.schema)}"
    extra = {
        "OPENCODE_CONFIG_CONTENT": json.dumps(settings),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        **({"OPENCODE_DISABLE_MODELS_FETCH": "1"} if access.standing_in else {}),
    }
    words = ["opencode", "run", "--format", "json", "--pure", "--agent", "fanfold", "--model", model]
    words += ["--title", definition.name]  # or a model is asked for one
    return Plan(words, prompt, extra, dialects.opencode)


def _verdict(definition: AgentDefinition, tools: frozenset[str]) -> str:
    return "allow" if _may(definition, tools) else "deny"


def _opencode_provider(call: Call, access: _Access) -> dict[str, Any]:
    options = {
        **({"apiKey": access.key} if access.key else {}),
        **({"baseURL": f"{access.base}/v1"} if access.base else {}),
        **({"headers": _who(call, access)} if access.standing_in else {}),
    }
    if not access.standing_in:
        return {"options": options}
    return {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {access.model: {"name": access.model}}}


def _opencode_server(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        return {"type": "remote", "url": server["url"], "headers": server.get("headers", {}), "enabled": True}
    command = [server.get("command", ""), *server.get("args", ())]
    return {"type": "local", "command": command, "environment": server.get("env", {}), "enabled": True}


PRESETS: Final[Mapping[str, Preset]] = {
    "claude": Preset("claude", ("anthropic",), _claude, 300, "npm install -g @anthropic-ai/claude-code"),
    "codex": Preset("codex", ("openai",), _codex, 200, "npm install -g @openai/codex"),
    "opencode": Preset("opencode", ("openai", "anthropic"), _opencode, 600, "npm install -g opencode-ai"),
}
"""The presets there are, by name. What each heeds of a definition stands in `agents/heeded`."""
