"""From MessagePack back to a value, whoever wrote the bytes.

Nested parts are bytes within bytes, each opened after the one around it was closed, so that hostile nesting meets a
counter and not the end of the C stack.
"""

from __future__ import annotations

import contextlib
import enum
import os
import struct
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import ormsgpack
from ormsgpack import Ext

from fanfold.errors import CorruptRecordError
from fanfold.store.serde import codes
from fanfold.store.serde.codes import CONTAINERS, MAX_DEPTH, OF_CLASSES, UNPACK_LIMIT
from fanfold.store.serde.leaves import READERS
from fanfold.store.serde.places import field_step, path, short, step
from fanfold.store.serde.registry import Types

_Sized = TypeVar("_Sized", bound=Sized)

_UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error)
"""What a constructor may raise over data that is wrong."""

_CONTAINER_MARKS: Final = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])

# Stands behind each layer while it is read, since ormsgpack overlooks what follows after the end. Nobody can have
# written it into a record, because every process draws its own.
_END_MARK: Final = os.urandom(16)
_END: Final = ormsgpack.packb(Ext(0, _END_MARK))


@dataclass(frozen=True, slots=True)
class _Closed:
    """An extension that was met and is not opened yet."""

    code: int
    payload: bytes


_UNSETTLED: Final = frozenset({list, dict, _Closed})


class Reader:
    """Opens one record, a layer at a time, and knows where in it we are."""

    def __init__(self, types: Types, where: str) -> None:
        self._types = types
        self._where = where
        self._path: list[str] = []
        self._met_closed = False

    def record(self, body: bytes) -> Any:
        """The value of a record's body. Raises `CorruptRecordError`."""
        try:
            value = self._layer(body)
            return self._settled(value) if self._met_closed else value
        except RecursionError:  # our depth is bounded, but the caller's stack may have been nearly full
            raise self._too_deep() from None

    def _layer(self, body: bytes) -> Any:
        """The value of one layer, no deeper than is still allowed; extensions with parts are left `_Closed`."""
        room = MAX_DEPTH - len(self._path)
        # A body that has no more container marks than there is room for levels cannot be too deep.
        shallow = len(body) <= room or len(body) - len(body.translate(None, _CONTAINER_MARKS)) <= room
        wraps = 0 if shallow else UNPACK_LIMIT - room - 1
        try:
            value = ormsgpack.unpackb(b"".join((b"\x91" * wraps, b"\x92", body, _END)), ext_hook=self._leaf)
        except ValueError as error:
            raise self._corrupt(str(error)) from None
        for _ in range(wraps):
            value = value[0]
        if value[1] is not _END_MARK:
            raise self._corrupt("bytes follow after its end")
        return value[0]

    def _leaf(self, code: int, payload: bytes) -> Any:
        """ormsgpack met an extension. An error raised in here would lose its place: it waits for `_settled`."""
        if payload == _END_MARK:
            return _END_MARK
        if code not in CONTAINERS:
            with contextlib.suppress(*_UNREADABLE):
                return self._read(code, payload)
        self._met_closed = True
        return _Closed(code, payload)

    def _read(self, code: int, payload: bytes) -> Any:
        if code == codes.ENUM:
            return _member(self._types, payload)
        if code not in READERS:
            raise ValueError(f"unknown extension {code}")
        return READERS[code](payload)

    def _settled(self, value: Any) -> Any:
        """`value` with everything in it opened. One Python frame a level, as in `Writer._plain`."""
        code = value.code if type(value) is _Closed else None
        into = value if code is None else self._opened(value.code, value.payload)
        if code is not None and code not in CONTAINERS:
            return into
        for key, item in enumerate(into) if type(into) is list else into.items():
            if type(item) in _UNSETTLED:
                self._path.append(_part_step(code, into, key))  # as there, left standing for the error
                into[key] = self._settled(item)
                self._path.pop()
        return into if code is None else self._built(code, into)

    def _opened(self, code: int, payload: bytes) -> Any:
        """The parts of an extension, as a list; of a leaf, which could not be read before, the error."""
        if code in CONTAINERS:
            if len(self._path) >= MAX_DEPTH:
                raise self._too_deep()
            parts = self._layer(payload)
            if type(parts) is not list:
                raise self._corrupt(f"extension {code} holds no parts")
            return parts
        return self._tried(code, lambda: self._read(code, payload))

    def _built(self, code: int, parts: list[Any]) -> Any:
        return self._tried(code, lambda: _built(self._types, code, parts))

    def _tried(self, code: int, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except _UNREADABLE as error:
            hint = "register the class, or name it in the state's annotations" if code in OF_CLASSES else None
            raise self._corrupt(str(error), hint) from None

    def _corrupt(self, because: str, hint: str | None = None) -> CorruptRecordError:
        place = path(self._where or "the record", self._path)
        return CorruptRecordError(f"cannot read {place}: {because}", hint=hint)

    def _too_deep(self) -> CorruptRecordError:
        return self._corrupt(f"more than {MAX_DEPTH} levels deep")


def _member(types: Types, payload: bytes) -> enum.Enum:
    """The enum member of a payload. Raises one of `_UNREADABLE` for what is none."""
    name, key = ormsgpack.unpackb(payload)
    shape = types.shape(name)
    if not issubclass(shape.cls, enum.Enum):
        raise ValueError(f"{short(name)} is no enum")
    member: enum.Enum = shape.make({"member": key})
    return member


def _built(types: Types, code: int, parts: list[Any]) -> Any:
    """The value of an extension with parts. Raises one of `_UNREADABLE` for parts that do not fit."""
    if code == codes.TUPLE:
        return tuple(parts)
    if code == codes.MAP:
        return _whole(dict(zip(parts[::2], parts[1::2], strict=True)), len(parts) // 2)
    if code == codes.OBJECT:
        shape = types.shape(parts[0] if parts else None)
        if issubclass(shape.cls, enum.Enum):
            raise ValueError(f"{short(parts[0])} is an enum")
        fields = dict(zip(parts[1::2], parts[2::2], strict=True))
        return shape.make(_whole(fields, len(parts) // 2))
    return _whole(set(parts) if code == codes.SET else frozenset(parts), len(parts))


def _whole(built: _Sized, size: int) -> _Sized:
    """`built`, when none of its parts was given twice."""
    if len(built) != size:
        raise ValueError("a part is there twice")
    return built


def _part_step(code: int | None, parts: Any, key: Any) -> str:
    """One step of a path: for a part of an extension, or (`code` is None) of a list or dict."""
    if code is None or code == codes.TUPLE:
        return step(key)
    if code == codes.MAP:
        return step(parts[key - 1]) if key % 2 else ".keys()"
    if code == codes.OBJECT and type(parts[key - 1]) is str and key:
        return field_step(parts[key - 1])
    return "{...}"
