"""Rules to stop by, in words: `unanimity | stability=2 | calls=40 & rounds=3`, where `&` binds closer than `|`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

from fanfold import UsageError
from fanfold.teams.debating.stopping import (
    Both,
    Calls,
    Either,
    Money,
    Rounds,
    Sprt,
    Stability,
    StopRule,
    Tokens,
    Unanimity,
)

_RULES: Final[Mapping[str, tuple[Callable[..., StopRule], type[Any] | None, bool]]] = {
    "unanimity": (Unanimity, None, False),
    "sprt": (Sprt, None, False),
    "stability": (Stability, int, False),
    "rounds": (Rounds, int, True),
    "calls": (Calls, int, True),
    "tokens": (Tokens, int, True),
    "money": (Money, float, True),
}
"""Each rule, what its number is, and whether it needs one."""


def rule_of(text: str) -> StopRule:
    """The rule that the words mean. Raises `UsageError` where they mean none."""
    either = [reduce(lambda a, b: Both((a, b)), map(_single, part.split("&"))) for part in text.split("|")]
    return reduce(lambda a, b: Either((a, b)), either)


def _single(words: str) -> StopRule:
    name, equals, value = (part.strip() for part in words.partition("="))
    if name not in _RULES:
        raise UsageError(f"no rule to stop by is called {name!r}", hint=f"there are: {', '.join(_RULES)}")
    make, number, needed = _RULES[name]
    if (bool(equals) and number is None) or (needed and not equals):
        raise UsageError(f"rule {words.strip()!r}: {name} takes {'a number' if number else 'no number'}")
    try:
        return make(number(value)) if equals and number is not None else make()
    except ValueError as error:
        raise UsageError(f"rule {words.strip()!r}: {error}") from error
