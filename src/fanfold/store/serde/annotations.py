"""Which classes a type annotation names, so that compiling a graph registers them and its user need not."""

from __future__ import annotations

import enum
import inspect
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any

from fanfold.store.serde.classes import is_pydantic, shape_of


def classes_in(annotation: Any) -> Iterable[type]:
    """Every class that an annotation names, in whatever depth, each once."""
    todo: list[Any] = [annotation]
    seen: dict[int, Any] = {}  # by identity, since annotations need not be hashable; the values keep the ids valid
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        todo.extend(_parts_of(part))
        if isinstance(part, type):
            yield part


def _parts_of(annotation: Any) -> Iterable[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return typing.get_args(annotation)[:1]  # what follows are reducers and notes, no types of values
    if origin is typing.Literal:
        return [type(value) for value in typing.get_args(annotation)]
    if isinstance(annotation, list):  # the parameters of a Callable
        return annotation
    if isinstance(annotation, type) and origin is None:
        return _field_types(annotation)
    behind = [getattr(annotation, name, None) for name in ("__supertype__", "__value__", "__bound__")]
    return [origin, *typing.get_args(annotation), *(part for part in behind if part is not None)]


def _field_types(cls: Any) -> list[Any]:
    """The types of a class's fields, where it is one that has any. A name that cannot be resolved is passed over:
    should a value of that class be written, then the error names it."""
    if is_pydantic(cls):
        return [field.annotation for field in cls.model_fields.values()]
    if not (typing.is_typeddict(cls) or shape_of(cls)) or issubclass(cls, enum.Enum):
        return []
    return [
        hint
        for owner in cls.__mro__
        for name, annotation in inspect.get_annotations(owner).items()
        for hint in _resolved(owner, name, annotation)
    ]


def _resolved(owner: type, name: str, annotation: Any) -> list[Any]:
    """The annotation with its names looked up in the module that wrote it; nothing when there is no such name."""
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    names = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    try:
        return list(typing.get_type_hints(holder, names, dict(vars(owner)), include_extras=True).values())
    except (NameError, TypeError, AttributeError, SyntaxError):
        return []
