"""How a tool answers: errors in words, values as JSON can say them, and never more than a client can take."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict

from fanfold.errors import FanfoldError

P = ParamSpec("P")
R = TypeVar("R")

LARGEST: Final = 64 * 1024
"""Bytes of JSON that one value in an answer may have."""

DEEPEST: Final = 100
"""Levels of a value in an answer. Clients read JSON with recursion, and what they cannot read they do not get."""

_TEXTS: Final = (16_384, 4_096, 1_024, 256, 64)
"""How long texts may be, tried until the value is small enough; lists may have a sixteenth of that."""


class Said(BaseModel):
    """What a tool hands over; clients check it against its schema."""

    model_config = ConfigDict(frozen=True)


def answering(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """The tool, whose errors of ours are told to the client in words; any other is kept from it, and logged."""

    @functools.wraps(function)
    async def tool(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except FanfoldError as error:
            raise ToolError(in_words(error)) from error

    return tool


def in_words(error: BaseException) -> str:
    """An error of ours with its class, so that a program can tell it from another; of others the class alone."""
    name = type(error).__name__
    if wall := getattr(error, "wall", ""):
        name = f"{name} [{wall}]"
    return f"{name}: {error}" if isinstance(error, FanfoldError) else name


def plain(value: Any) -> Any:
    """The value as JSON can say it: what has no form there is a text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _sayable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {_sayable(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    return _sayable(str(value))


def _sayable(text: str) -> str:
    """The text without halves of characters, which a file's name may have and UTF-8 has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def weight(value: Any) -> int:
    """How many bytes of JSON a plain value is."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def levels(value: Any) -> int:
    """How deep a plain value is."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


def bounded(value: Any, largest: int = LARGEST) -> tuple[Any, bool]:
    """The value as JSON can say it, cut where texts and lists are too long or too deep; and whether it is whole."""
    told = plain(value)
    if levels(told) > DEEPEST:
        return bounded(_shallow(told, DEEPEST), largest)[0], False
    if weight(told) <= largest:
        return told, True
    for longest in _TEXTS:
        shorter = _cut(told, longest)
        if weight(shorter) <= largest:
            return shorter, False
    return shortened(json.dumps(told, ensure_ascii=False), largest // 4), False


def _shallow(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list) and depth == 0:
        return "[... deeper ones left out ...]"
    if isinstance(value, dict):
        return {key: _shallow(each, depth - 1) for key, each in value.items()}
    return [_shallow(each, depth - 1) for each in value] if isinstance(value, list) else value


def shortened(text: str, longest: int) -> str:
    """The text, which loses its middle if it is longer than that."""
    if len(text) <= longest:
        return text
    half = max(0, longest - 40) // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[len(text) - half :]}"


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return shortened(value, longest)
    if isinstance(value, dict):
        return dict(_first([(shortened(key, longest), _cut(each, longest)) for key, each in value.items()], longest))
    if isinstance(value, list):
        kept = [_cut(each, longest) for each in _first(value, longest)]
        left = len(value) - len(kept)
        return [*kept, f"[... {left} more left out ...]"] if left else kept
    return value


def _first(values: list[Any], longest: int) -> list[Any]:
    return values[: max(4, longest // 16)]
