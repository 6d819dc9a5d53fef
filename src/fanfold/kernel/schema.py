"""What the annotations of a state say: which keys there are, how each folds, and the shape a node wants to see.

A state may be declared as a TypedDict, a dataclass, a pydantic model (recognised by its `model_fields`, never
imported), or any other type, which then is a graph with the single key `ROOT`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, NotRequired, Required, get_args, get_origin, get_type_hints

from fanfold.errors import InvalidUpdateError
from fanfold.kernel.channels import MISSING, BinaryOperatorAggregate, Channel, LastValue

ROOT: Final = "__root__"


@dataclass(frozen=True, slots=True)
class Schema:
    """The keys of one declared type, and how to turn a dictionary of them into a value of that type."""

    type: Any
    channels: Mapping[str, Channel]
    annotations: Mapping[str, Any]
    shape: Callable[[dict[str, Any]], Any]

    @property
    def is_root(self) -> bool:
        """Whether the whole state is one value that has no keys."""
        return ROOT in self.channels


def read_schema(declared: Any) -> Schema:
    """The schema of a state type. Raises `TypeError` for an instance, `ValueError` for a reducer of another arity."""
    if not _is_type(declared):
        raise TypeError(f"a state schema is a type, such as a TypedDict class, and {declared!r} is not one")
    if not _has_keys(declared):
        return Schema(declared, {ROOT: _channel(ROOT, declared)}, {ROOT: declared}, _root)
    hints = get_type_hints(declared, include_extras=True)
    if dataclasses.is_dataclass(declared):
        hints = {field.name: hints[field.name] for field in dataclasses.fields(declared)}
    elif hasattr(declared, "model_fields"):
        hints = {name: hints[name] for name in declared.model_fields}
    channels = {name: _channel(name, hint) for name, hint in hints.items()}
    shape = _mapping if _is_typed_dict(declared) else _constructor(declared)
    return Schema(declared, channels, hints, shape)


def input_schema(action: Callable[..., Any]) -> Schema | None:
    """The schema that the first parameter of `action` declares, or None where it declares no keys."""
    parameters = _parameters(action)
    if not parameters:
        return None
    hint = hints_of(action).get(parameters[0].name)
    return read_schema(hint) if _is_type(hint) and _has_keys(hint) else None


def hints_of(action: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of a function, a partial of one, or an object that can be called."""
    function = action if inspect.isroutine(action) else type(action).__call__
    try:
        return get_type_hints(getattr(action, "func", function), include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved declares nothing; it is no error
        return {}


def updates_of(value: Any, schema: Schema) -> tuple[tuple[str, Any], ...]:
    """What a node's return value writes, as (key, value) pairs. Raises `InvalidUpdateError` when it is no update."""
    if value is None:
        return ()
    if schema.is_root:
        return ((ROOT, value),)
    if isinstance(value, Mapping):
        return tuple(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if hasattr(type(value), "model_fields"):
        return tuple(
            (name, item) for name in type(value).model_fields if _is_meant(name, item := getattr(value, name), value)
        )
    raise InvalidUpdateError(
        f"expected a dictionary of keys to write, got {type(value).__name__}: {value!r:.100}",
        hint="return a dictionary such as {'key': value}, or None to write nothing",
    )


def _is_meant(name: str, item: Any, model: Any) -> bool:
    """Whether a model's field is a write: all are, except a None that is only there by default."""
    return item is not None or name in model.model_fields_set or type(model).model_fields[name].default is not None


def _parameters(action: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(action).parameters.values())
    except (TypeError, ValueError):  # a builtin tells nothing of its parameters
        return []


def _is_type(declared: Any) -> bool:
    return isinstance(declared, type) or get_origin(declared) is not None


def _has_keys(declared: Any) -> bool:
    return isinstance(declared, type) and (
        _is_typed_dict(declared) or dataclasses.is_dataclass(declared) or hasattr(declared, "model_fields")
    )


def _is_typed_dict(declared: type) -> bool:
    # `typing.is_typeddict` does not know those of typing_extensions, which are classes of another kind.
    return issubclass(declared, dict) and hasattr(declared, "__total__")


def _channel(name: str, hint: Any) -> Channel:
    hint = _unqualified(hint)
    if get_origin(hint) is not Annotated:
        return LastValue(hint)
    plain, *extras = get_args(hint)
    plain = _unqualified(plain)
    reducer = extras[-1]
    if not callable(reducer):
        return LastValue(plain)
    if not _takes_two(reducer):
        raise ValueError(f"the reducer of key {name!r}, {reducer!r}, must take two arguments: (value, update)")
    return BinaryOperatorAggregate(plain, reducer)


def _unqualified(hint: Any) -> Any:
    while get_origin(hint) in (Required, NotRequired):
        (hint,) = get_args(hint)
    return hint


def _takes_two(reducer: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(reducer)
    except (TypeError, ValueError):  # a builtin such as `max` tells nothing; it is taken at its word
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


def _root(values: dict[str, Any]) -> Any:
    value = values.get(ROOT, MISSING)
    return None if value is MISSING else value


def _mapping(values: dict[str, Any]) -> Any:
    return values


def _constructor(cls: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    def build(values: dict[str, Any]) -> Any:
        return cls(**values)

    return build
