"""What the annotations of a state say: which keys there are, how each folds, and the shape a node wants to see.

A state may be declared as a TypedDict, a dataclass, a pydantic model (recognised by its `model_fields`, never
imported), another class with annotated attributes (nodes then see a dictionary), or any other type, which then is a
graph with the single key `ROOT`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fanfold.errors import InvalidUpdateError
from fanfold.kernel.channels import MISSING, BinaryOperatorAggregate, Channel, DeltaChannel, LastValue
from fanfold.types import Command, Send, StreamWriter

ROOT: Final = "__root__"


@dataclass(frozen=True, slots=True)
class Managed:
    """A key that the engine fills in when a node looks: nobody writes it and nobody stores it."""

    name: Literal["remaining_steps", "is_last_step"]


IsLastStep: TypeAlias = Annotated[bool, Managed("is_last_step")]
"""Whether the run may take no step after this one."""

RemainingSteps: TypeAlias = Annotated[int, Managed("remaining_steps")]
"""How many steps the run may still take, this one included."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The keys of one declared type, and how to turn a dictionary of them into a value of that type."""

    type: Any
    channels: Mapping[str, Channel]
    managed: Mapping[str, Managed]
    annotations: Mapping[str, Any]
    shape: Callable[[dict[str, Any]], Any]
    single: str | None = None
    """The key that holds everything, where the whole is one value that has no keys of its own."""


def read_schema(declared: Any) -> Schema:
    """The schema of a state type. Raises `TypeError` for an instance, `ValueError` for a reducer of another arity."""
    if not _is_type(declared):
        raise TypeError(f"a state schema is a type, such as a TypedDict class, and {declared!r} is not one")
    if not _has_keys(declared):
        return Schema(declared, {ROOT: _channel(ROOT, declared)}, {}, {ROOT: declared}, _only(ROOT), ROOT)
    hints = get_type_hints(declared, include_extras=True)
    if dataclasses.is_dataclass(declared):
        hints = {field.name: hints[field.name] for field in dataclasses.fields(declared)}
    elif hasattr(declared, "model_fields"):
        hints = {name: hints[name] for name in declared.model_fields}
    managed = {name: found for name, hint in hints.items() if (found := _managed(hint)) is not None}
    channels = {name: _channel(name, hint) for name, hint in hints.items() if name not in managed}
    shape = _constructor(declared) if _is_built(declared) else _mapping
    return Schema(declared, channels, managed, hints, shape)


def input_schema(action: Callable[..., Any]) -> Schema | None:
    """The schema that the first parameter of `action` declares, or None where it declares no keys."""
    parameters = _parameters(action)
    if not parameters:
        return None
    hint = hints_of(action).get(parameters[0].name)
    return read_schema(hint) if _is_type(hint) and _has_keys(hint) else None


def returned_keys(action: Callable[..., Any]) -> tuple[str, ...] | None:
    """The keys of the type that the return annotation of `action` names; None where it names no type with keys.

    In a union with None or with other such types, they are the keys of all. `-> None` says nothing: people write that
    above functions that return something all the same.
    """
    hints = hints_of(action)
    if "return" not in hints:
        return None
    hint = hints["return"]
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    keys: dict[str, None] = {}
    for part in parts:
        if part is None or part is type(None):
            continue
        if part in (Command, Send) or not _has_keys(part):
            return None
        keys.update(dict.fromkeys(_names(part)))
    return tuple(keys) or None


def _names(declared: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(declared):
        return (field.name for field in dataclasses.fields(declared))
    return iter(declared.model_fields) if hasattr(declared, "model_fields") else _annotated(declared)


ASKABLE: Final = ("config", "runtime", "store", "writer", "previous", "error")
_BY_TYPE: Final = {"RunnableConfig": "config", "Runtime": "runtime", "BaseStore": "store", "NodeError": "error"}
_OF_ANY_TYPE: Final = ("runtime", "previous")


def asked_for(action: Callable[..., Any], *, skip: int = 1) -> Mapping[str, str]:
    """Which parameters after the first are to be filled in, and with what: by the name of their type, or their own."""
    hints = hints_of(action)
    found: dict[str, str] = {}
    for parameter in _parameters(action)[skip:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            continue
        asked = _asked(parameter, hints.get(parameter.name, parameter.annotation))
        if asked is not None:
            found[parameter.name] = asked
    return found


def _asked(parameter: inspect.Parameter, hint: Any) -> str | None:
    """What a parameter is to be filled with. One that has a default is meant only where name and type agree."""
    name = parameter.name
    by_type = _BY_TYPE.get(_type_name(hint))
    if parameter.default is parameter.empty:
        return by_type or (name if name in ASKABLE else None)
    untyped = hint is parameter.empty and name != "error"
    agrees = by_type == name or untyped or name in _OF_ANY_TYPE or (name == "writer" and _is_writer(hint))
    return name if name in ASKABLE and agrees else None


def _is_writer(hint: Any) -> bool:
    return any(part in (StreamWriter, "StreamWriter") for part in (hint, *get_args(hint)))


def _type_name(hint: Any) -> str:
    if isinstance(hint, str):  # one that could not be resolved
        return next((word for word in re.findall(r"\w+", hint) if word in _BY_TYPE), "")
    parts = [part for part in get_args(hint) if part is not type(None)]
    plain = get_origin(hint) if isinstance(get_origin(hint), type) and get_origin(hint) is not types.UnionType else None
    candidates = [hint, plain, *parts]
    names = [getattr(candidate, "__name__", "") for candidate in candidates]
    return next((name for name in names if name in _BY_TYPE), "")


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
    if schema.single is not None:
        return ((schema.single, value),)
    if type(value) is dict or isinstance(value, Mapping):
        return tuple(value.items())
    if hasattr(type(value), "model_fields"):
        return tuple(
            (name, item) for name in type(value).model_fields if _is_meant(name, item := getattr(value, name), value)
        )
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if _has_keys(type(value)):
        return tuple((name, getattr(value, name)) for name in _annotated(type(value)) if hasattr(value, name))
    raise InvalidUpdateError(
        f"expected a dictionary of keys to write, got {type(value).__name__}: {value!r:.100}",
        hint="return a dictionary such as {'key': value}, or None to write nothing",
    )


def commanded(update: Any, schema: Schema) -> tuple[tuple[str, Any], ...]:
    """What the `update` of a Command writes: as a node's return value would, or (key, value) pairs as they are."""
    if isinstance(update, list | tuple) and all([isinstance(pair, tuple) and len(pair) == 2 for pair in update]):
        return tuple((key, value) for key, value in update)
    return updates_of(update, schema)


def _is_meant(name: str, item: Any, model: Any) -> bool:
    """Whether a model's field is a write: all are, except a None that is only there by default."""
    return item is not None or name in model.model_fields_set or type(model).model_fields[name].default is not None


def has(value: Any, method: str) -> bool:
    """Whether the class of `value`, or `value` as a class, has the method: a mock claims to have them all itself."""
    return hasattr(value if isinstance(value, type) else type(value), method)


def _parameters(action: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(action).parameters.values())
    except (TypeError, ValueError):  # a builtin tells nothing of its parameters
        return []


def _is_type(declared: Any) -> bool:
    return isinstance(declared, type) or get_origin(declared) is not None


def _has_keys(declared: Any) -> bool:
    return isinstance(declared, type) and (
        _is_typed_dict(declared) or _is_built(declared) or any(True for _ in _annotated(declared))
    )


def _is_built(declared: type) -> bool:
    """Whether values of the class are made by calling it with its keys."""
    return dataclasses.is_dataclass(declared) or hasattr(declared, "model_fields")


def _annotated(declared: type) -> Iterator[str]:
    """The attributes that a class and those it inherits from annotate, the inherited ones first."""
    for base in reversed(declared.__mro__):
        annotations = vars(base).get("__annotations__")
        if isinstance(annotations, dict):  # a class of C code has a descriptor there
            yield from annotations


def _is_typed_dict(declared: type) -> bool:
    # `typing.is_typeddict` does not know those of typing_extensions, which are classes of another kind.
    return issubclass(declared, dict) and hasattr(declared, "__total__")


def _channel(name: str, hint: Any) -> Channel:
    hint = _unqualified(hint)
    if get_origin(hint) is not Annotated:
        return LastValue(hint)
    plain, *extras = get_args(hint)
    plain = _unqualified(plain)
    given = next((extra for extra in extras if has(extra, "fold")), None)
    if isinstance(given, DeltaChannel):
        return dataclasses.replace(given, type=plain)
    if given is not None:
        channel: Channel = given(plain) if isinstance(given, type) else given
        return channel
    reducer = extras[-1]
    if not callable(reducer):
        return LastValue(plain)
    if not _takes_two(reducer):
        raise ValueError(f"the reducer of key {name!r}, {reducer!r}, must take two arguments: (value, update)")
    return BinaryOperatorAggregate(plain, reducer)


def _managed(hint: Any) -> Managed | None:
    hint = _unqualified(hint)
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return extras[-1] if extras and isinstance(extras[-1], Managed) else None


def _unqualified(hint: Any) -> Any:
    while get_origin(hint) in (Required, NotRequired):
        (hint,) = get_args(hint)
    return hint


def _takes_two(reducer: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(reducer).parameters.values()
    except (TypeError, ValueError):  # a builtin such as `max` tells nothing; it is taken at its word
        return True
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) == 2


def single_schema(key: str, channel: Channel, declared: Any = Any) -> Schema:
    """The schema of a whole that is one value, kept under `key`."""
    return Schema(declared, {key: channel}, {}, {key: declared}, _only(key), key)


def mapping_schema(channels: Mapping[str, Channel], managed: Mapping[str, Managed]) -> Schema:
    """The schema of a dictionary with these keys."""
    return Schema(dict, channels, managed, {}, _mapping)


def _only(key: str) -> Callable[[dict[str, Any]], Any]:
    def shape(values: dict[str, Any]) -> Any:
        value = values.get(key, MISSING)
        return None if value is MISSING else value

    return shape


def _mapping(values: dict[str, Any]) -> Any:
    return values


def _constructor(cls: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    def build(values: dict[str, Any]) -> Any:
        return cls(**values)

    return build
