"""A private copy of a value, so that a node which changes its input changes nobody else's.

Containers are copied, since those are what nodes change in place; immutable leaves are shared. Any other object is
deep-copied where it can be. Where it cannot (an open connection, a lock, a generator) there is nothing to keep apart
and the object itself is handed on. What a value refers to twice is copied twice: what comes back from the store has no
references in common either, so a run that went on by itself and one that was resumed see the same.
"""

from __future__ import annotations

import copy
import sys
from typing import Any, Final

_LEAVES: Final = frozenset({str, int, float, bool, bytes, complex, type(None)})


def own(value: Any) -> Any:
    """A copy of `value` that shares nothing which can be changed in place, as far as its objects allow that."""
    if type(value) in _LEAVES:
        return value
    try:
        return _own(value)
    except RecursionError:  # a container that contains itself; slower, but it keeps track of what it has copied
        return _deep(value)


def is_plain(kind: type) -> bool:
    """Whether a subclass of dict says of itself that it is a plain one in the state, as what `invoke` returns does."""
    return getattr(kind, "plain_in_state", False) is True and issubclass(kind, dict)


def _own(value: Any) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is list:
        if _LEAVES.issuperset(map(type, value)):  # most lists that are long hold leaves only
            return value.copy()
        return [item if type(item) in _LEAVES else _own(item) for item in value]
    if kind is dict or is_plain(kind):
        for item in value.values():
            if type(item) not in _LEAVES:
                return {key: _own(item) for key, item in value.items()}
        return {**value}
    if kind is tuple:
        for item in value:
            if type(item) not in _LEAVES:
                return tuple([_own(item) for item in value])
        return value
    return _model(value) if _copies_as_pydantic_does(kind) else _deep(value)


def _copies_as_pydantic_does(kind: type) -> bool:
    """Whether values of the class are pydantic models, and are copied as those are."""
    pydantic = sys.modules.get("pydantic")  # without it there are none
    return pydantic is not None and getattr(kind, "__deepcopy__", None) is pydantic.BaseModel.__deepcopy__


def _model(value: Any) -> Any:
    """A copy of a pydantic model, its fields copied like any other values: messages are models, and there are many."""
    made = value.__class__.__new__(value.__class__)
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"):
        kept = getattr(value, name, None)
        object.__setattr__(made, name, {*kept} if type(kept) is set else _own(kept))
    return made


def _deep(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - objects refuse to be copied in many ways, and all of them mean the same
        return value
