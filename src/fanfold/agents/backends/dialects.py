"""The languages in which programs tell what they do: each line is one JSON object.

A dialect is a function that takes down what one such object says. Ours is made for programs that are written for
fanfold; the others are those of the command line tools of Claude Code, Codex and opencode, as their versions of
November 2026 speak them. What a dialect does not know is passed over: it is in the transcript, or said twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from fanfold.agents.backends.minutes import Minutes
from fanfold.errors import AgentError, BudgetError, ModelAnswerError, ModelCutError, ModelUnavailableError

Line: TypeAlias = Mapping[str, Any]
Dialect: TypeAlias = Callable[[Minutes, Line], None]

_HOPELESS: Final = (400, 401, 403, 404)
"""Answers of a model's server after which it is no use to try again, though Claude's program does."""


def ours(minutes: Minutes, line: Line) -> None:
    """Our own: `tool`, `usage`, `retry`, `error` and `result`."""
    minutes.keep(line)
    match line["type"]:
        case "tool":
            minutes.tool(str(line.get("name")), line.get("detail", ""))
        case "usage":
            minutes.model = str(line.get("model", minutes.model))
            minutes.usage(line.get("input_tokens"), line.get("output_tokens"), line.get("cost_usd"))
        case "retry":
            minutes.retried(line.get("status"), _seconds(line.get("seconds")), str(line.get("message", "")))
        case "error":
            minutes.failure = minutes.refusal(line.get("status"), str(line.get("message", "")), line.get("retry_after"))
        case "result":
            minutes.result(line.get("output"))


def claude(minutes: Minutes, line: Line) -> None:
    """`claude -p --output-format stream-json`."""
    match line["type"], line.get("subtype"):
        case "system", "init":
            minutes.model = str(line.get("model", minutes.model))
        case "system", "api_retry":
            _claude_retry(minutes, line)
        case "assistant", _:
            minutes.keep(_message(line))
            _claude_says(minutes, line)
        case "user", _:
            minutes.keep(_message(line))
        case "result", ending:
            minutes.keep({"type": "result", "subtype": ending, "result": line.get("result")})
            _claude_ends(minutes, line)


def _message(line: Line) -> Line:
    message = _table(line.get("message"))
    return {"type": line["type"], "content": message.get("content")}


def _claude_retry(minutes: Minutes, line: Line) -> None:
    status = line.get("error_status")
    if status in _HOPELESS:
        raise minutes.refusal(status, str(line.get("error", "")))
    minutes.retried(status, _seconds(line.get("retry_delay_ms")) / 1000, str(line.get("error", "")))


def _claude_says(minutes: Minutes, line: Line) -> None:
    message = _table(line.get("message"))
    for part in _tables(message.get("content")):
        if part.get("type") == "text" and message.get("model") != "<synthetic>":
            minutes.said(str(part.get("text", "")), str(message.get("id")))
        elif part.get("type") == "tool_use":
            minutes.tool(str(part.get("name")), part.get("input", ""))


def _claude_ends(minutes: Minutes, line: Line) -> None:
    usage = _table(line.get("usage"))
    read = [usage.get(key) for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")]
    asked = [number for number in read if isinstance(number, int)]
    if sum(asked):
        turns = line.get("num_turns")
        calls = turns if isinstance(turns, int) and turns > 0 else 1
        minutes.usage(sum(asked), usage.get("output_tokens"), line.get("total_cost_usd"), calls)
    minutes.failure = _claude_failure(minutes, line)
    if minutes.failure is None:
        wanted = minutes.call.schema is not None and line.get("structured_output") is not None
        minutes.result(line.get("structured_output") if wanted else line.get("result"))


def _claude_failure(minutes: Minutes, line: Line) -> AgentError | None:
    ending, told = str(line.get("subtype")), str(line.get("result") or "")
    if ending == "error_max_turns":
        return AgentError(f"{minutes.who} was stopped after its turns", hint="raise maxTurns in the agent's file")
    if ending.startswith("error_max_budget"):
        return BudgetError(f"{minutes.who} was stopped: what it may spend is spent", hint="raise its `budget_usd`")
    if ending.startswith("error_max_structured"):
        return ModelAnswerError(f"{minutes.who}: its model found no answer that fits the schema")
    if line.get("stop_reason") == "refusal":
        return ModelAnswerError(f"{minutes.who}: its model refuses to answer{told and f': {told[:200]}'}")
    if line.get("is_error") or ending != "success":
        return minutes.refusal(line.get("api_error_status"), told or ending)
    return None


def codex(minutes: Minutes, line: Line) -> None:
    """`codex exec --json`."""
    minutes.keep(line)
    match line["type"]:
        case "item.started" | "item.completed":
            _codex_item(minutes, _table(line.get("item")), line["type"] == "item.started")
        case "turn.completed":
            usage = _table(line.get("usage"))
            # It says how many tokens, and not how many requests: there is one more than it has used tools.
            minutes.usage(usage.get("input_tokens"), usage.get("output_tokens"), calls=1 + minutes.tools)
        case "turn.failed":
            minutes.failure = _codex_failure(minutes, str(_table(line.get("error")).get("message", "")))


def _codex_item(minutes: Minutes, item: Line, begins: bool) -> None:
    kind = item.get("type")
    if kind == "agent_message" and not begins:
        text = str(item.get("text", ""))
        minutes.said(text, str(item.get("id")))
        minutes.result(text)
    elif kind == "command_execution" and begins:
        minutes.tool("shell", str(item.get("command", "")))
    elif kind == "mcp_tool_call" and begins:
        minutes.tool(f"mcp__{item.get('server')}__{item.get('tool')}", item.get("arguments") or "")
    elif kind == "file_change" and not begins:  # it is only told when it is done
        minutes.tool("edit", ", ".join(str(change.get("path")) for change in _tables(item.get("changes"))))
    elif kind == "web_search" and begins:
        minutes.tool("web_search", str(item.get("query", "")))


_STATUS: Final = re.compile(r"\bstatus:? (\d{3})\b")


def _codex_failure(minutes: Minutes, told: str) -> AgentError:
    """What Codex says is a text, in which the status stands or may be guessed."""
    status = _STATUS.search(told)
    if status:
        return minutes.refusal(int(status[1]), told)
    if "invalid_request_error" in told:
        return minutes.refusal(400, told)
    if "high demand" in told:
        return minutes.refusal(503, told)
    if "stream" in told and "disconnected" in told:
        return ModelCutError(f"{minutes.who}: its model's server broke off: {told[:200]}", hint="try again")
    if "error sending request" in told:
        return ModelUnavailableError(f"{minutes.who}: its model's server cannot be reached: {told[:200]}")
    return minutes.refusal(None, told)


def opencode(minutes: Minutes, line: Line) -> None:
    """`opencode run --format json`."""
    minutes.keep(line)
    part = _table(line.get("part"))
    match line["type"]:
        case "text":
            text = str(part.get("text", ""))
            minutes.said(text, str(part.get("messageID")))
            minutes.result(text)
        case "tool_use":
            minutes.tool(str(part.get("tool")), _table(part.get("state")).get("input") or "")
        case "step_finish":
            tokens = _table(part.get("tokens"))
            cache = _table(tokens.get("cache"))
            read = [tokens.get("input"), cache.get("read"), cache.get("write")]
            minutes.usage(sum(n for n in read if isinstance(n, int)), tokens.get("output"), part.get("cost"))
        case "error":
            minutes.failure = _opencode_failure(minutes, _table(line.get("error")))


def _opencode_failure(minutes: Minutes, error: Line) -> AgentError:
    data = _table(error.get("data"))
    told = str(data.get("message") or error.get("name") or "")
    after = _table(data.get("responseHeaders")).get("retry-after")
    return minutes.refusal(data.get("statusCode"), told, _seconds(after) if after is not None else None)


def object_of(line: str) -> dict[str, Any] | None:
    """The object that a line is, if it is one that says of which type it is."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("type"), str) else None


def _table(value: Any) -> Line:
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[Line]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _seconds(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        return 0.0
