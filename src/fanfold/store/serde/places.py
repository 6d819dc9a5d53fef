"""How an error says which part of a value it means: `state['items'][3].y`."""

from __future__ import annotations

from typing import Any

from fanfold.store.serde.codes import NUMBERS


def step(key: Any) -> str:
    return f"[{short(key)}]"


def short(value: Any) -> str:
    """A key or a name for an error. Only plain ones are shown: a class's `repr` may be long, secret or broken."""
    if type(value) is int and value.bit_length() > 200:
        return "<int>"  # also because Python refuses to print it, above some thousand digits
    if type(value) is not str and type(value) not in NUMBERS:
        return f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def field_step(field: str) -> str:
    return f".{field.removeprefix('+')}"


def path(where: str, steps: list[str]) -> str:
    shown = steps if len(steps) <= 12 else [*steps[:8], " ... ", *steps[-2:]]
    return (where or "value") + "".join(shown)


def type_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
