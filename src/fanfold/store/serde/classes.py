"""Classes whose values have a stored form: which these are, and how a value becomes named fields and back.

They are rebuilt without `__init__`, `__post_init__` or validators, since those may change what was stored.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold.store.serde.places import short, type_name

_SCALARS: Final = (str, int, float, bytes)


@dataclass(frozen=True, slots=True)
class Shape:
    """How values of one class become named fields, and are made from them again.

    `take` raises `ValueError` for a value that has more to it than its fields; `make` for fields that do not fit.
    """

    cls: type
    take: Callable[[Any], dict[str, Any]]
    make: Callable[[dict[str, Any]], Any]


def shape_of(cls: Any) -> Shape | None:
    """The shape of a class that can be registered, else None."""
    if not isinstance(cls, type) or issubclass(cls, BaseException):
        return None
    if issubclass(cls, enum.Enum):
        return _enum_shape(cls)
    if is_pydantic(cls):
        return _pydantic_shape(cls)
    if issubclass(cls, tuple):
        return _namedtuple_shape(cls) if hasattr(cls, "_fields") and hasattr(cls, "_field_defaults") else None
    if dataclasses.is_dataclass(cls) and _can_make(object, cls):
        return _dataclass_shape(cls)
    base = next((base for base in _SCALARS if issubclass(cls, base)), None)
    return _scalar_shape(cls, base) if base is not None and cls is not base and _can_make(base, cls) else None


def _can_make(base: Any, cls: type) -> bool:
    """Whether `base.__new__` alone makes a `cls`: not for bool, for numpy's floats, nor for a dataclass of dict."""
    try:
        base.__new__(cls)
    except TypeError:
        return False
    return True


def _completed(cls: type, given: dict[str, Any], defaults: Mapping[str, Callable[[], Any] | None]) -> dict[str, Any]:
    """`given` in the order of the class's fields, with the defaults of those that are missing."""
    unknown = [name for name in given if name not in defaults]
    if unknown:
        raise ValueError(f"{type_name(cls)} has no field {short(unknown[0])}")
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        if name not in given and default is None:
            raise ValueError(f"the field {name!r} of {type_name(cls)} is missing and has no default")
        values[name] = given[name] if name in given or default is None else default()
    return values


def _dataclass_shape(cls: Any) -> Shape:
    fields = dataclasses.fields(cls)
    defaults = {field.name: _dataclass_default(field) for field in fields}

    def make(given: dict[str, Any]) -> Any:
        made = object.__new__(cls)
        for name, value in _completed(cls, given, defaults).items():
            object.__setattr__(made, name, value)  # also where the class is frozen
        return made

    return Shape(cls, lambda value: {field.name: getattr(value, field.name) for field in fields}, make)


def _dataclass_default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


def _namedtuple_shape(cls: Any) -> Shape:
    defaults = {name: _constant(cls._field_defaults, name) for name in cls._fields}

    def make(given: dict[str, Any]) -> Any:
        return tuple.__new__(cls, _completed(cls, given, defaults).values())

    return Shape(cls, lambda value: dict(zip(cls._fields, value, strict=True)), make)


def _constant(values: Mapping[str, Any], name: str) -> Callable[[], Any] | None:
    return (lambda: values[name]) if name in values else None


def member_key(member: enum.Enum) -> Any:
    """A member's name; for a flag, of which several may be set, its number."""
    return member.value if isinstance(member, enum.Flag) else member.name


def _enum_shape(cls: type[enum.Enum]) -> Shape:
    def make(given: dict[str, Any]) -> enum.Enum:
        key = given["member"]
        if issubclass(cls, enum.Flag):
            return cls(key)
        if type(key) is not str or key not in cls.__members__:
            raise ValueError(f"{type_name(cls)} has no member {short(key)}")
        return cls.__members__[key]

    return Shape(cls, lambda member: {"member": member_key(member)}, make)


def _scalar_shape(cls: type, base: Any) -> Shape:
    def take(value: Any) -> dict[str, Any]:
        if getattr(value, "__dict__", None):
            raise ValueError("it has attributes besides its value")
        return {"value": _PLAIN_OF[base](value)}

    def make(given: dict[str, Any]) -> Any:
        value = _completed(cls, given, {"value": None})["value"]
        if type(value) is not base:
            raise ValueError(f"{type_name(cls)} is made of {base.__name__}, not of {type(value).__name__}")
        return base.__new__(cls, value)

    return Shape(cls, take, make)


# Past whatever the subclass overrides, such as `__str__`.
_PLAIN_OF: Final[Mapping[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
}


def is_pydantic(cls: type) -> bool:
    """Told by what we use of it, so that pydantic is not imported where nobody has models."""
    return all(hasattr(cls, name) for name in ("model_dump", "model_validate", "model_fields"))


def _pydantic_shape(cls: Any) -> Shape:
    """Fields under their names, private attributes under theirs (`_x`), extra ones as `+x`, the set names under "".

    Not `model_dump`: it would make plain dicts of the models within, and cut a subclass down to the declared fields.
    """

    def take(model: Any) -> dict[str, Any]:
        unset = [name for name in cls.model_fields if name not in model.__dict__]
        if unset:
            raise ValueError(f"its field {unset[0]!r} is not set")
        extra = {f"+{name}": value for name, value in (model.__pydantic_extra__ or {}).items()}
        fields = {name: model.__dict__[name] for name in cls.model_fields}
        return {"": sorted(model.model_fields_set), **fields, **(model.__pydantic_private__ or {}), **extra}

    def make(given: dict[str, Any]) -> Any:
        names = given.pop("", [])
        extra = {name[1:]: given.pop(name) for name in list(given) if name.startswith("+")}
        private = {name: given.pop(name) for name in list(given) if name in cls.__private_attributes__}
        allows_extra = cls.model_config.get("extra") == "allow"
        if extra and not allows_extra:
            raise ValueError(f"{type_name(cls)} allows no extra field {short(next(iter(extra)))}")
        defaults = {name: _pydantic_default(field) for name, field in cls.model_fields.items()}
        model = cls.__new__(cls)
        model.__setstate__(
            {
                "__dict__": _completed(cls, given, defaults),
                "__pydantic_fields_set__": set(names),
                "__pydantic_extra__": extra if allows_extra else None,
                "__pydantic_private__": private if cls.__private_attributes__ else None,
            }
        )
        return model

    return Shape(cls, take, make)


def _pydantic_default(field: Any) -> Callable[[], Any] | None:
    return None if field.is_required() else lambda: field.get_default(call_default_factory=True)
