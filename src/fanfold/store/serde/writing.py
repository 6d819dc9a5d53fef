"""From a value to MessagePack, on one of two ways.

Plain values go to ormsgpack as they are: no Python code looks at them. Only when it stumbles, over a tuple, an int key
or a class, does `Writer` walk the value, and it knows the path of each part, for the error.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias

import ormsgpack
from ormsgpack import Ext

from fanfold.errors import NotStorableError
from fanfold.kernel.own import is_plain
from fanfold.store.serde import arrays, codes
from fanfold.store.serde.classes import Shape, member_key, shape_of
from fanfold.store.serde.codes import MAX_DEPTH, NUMBERS, OPTIONS, PACK_LIMIT
from fanfold.store.serde.leaves import LEAVES
from fanfold.store.serde.places import field_step, path, step, type_name
from fanfold.store.serde.registry import Types

# One way a value is put together from its finished parts, and the parts with their steps in the path.
_Opened: TypeAlias = tuple[Callable[[list[Any]], Any], Iterable[tuple[str, Any]]]

_BUFFERS: Final = frozenset({bytearray, memoryview})
_BUFFER_MARKS: Final = (b"\xc4", b"\xc5", b"\xc6")


def pack_plain(leaf: Callable[[Any], Ext], value: Any) -> bytes | None:
    """What ormsgpack makes of `value` by itself, or None when the value must be walked."""
    wrapped = value
    for _ in range(PACK_LIMIT - MAX_DEPTH):
        wrapped = [wrapped]
    try:
        packed = ormsgpack.packb(wrapped, default=leaf, option=OPTIONS)
    except ormsgpack.MsgpackEncodeError:
        return None  # the walk finds a way to store it, or the path of what cannot be
    body = packed[PACK_LIMIT - MAX_DEPTH :]
    # ormsgpack writes a bytearray as bytes without asking. Only then can one of these marks be in the output.
    if any(mark in body for mark in _BUFFER_MARKS) and _holds_buffer(value):
        return None
    return body


def leaf(types: Types, value: Any) -> Ext:
    """The extension of a value without parts; ormsgpack asks for what it does not write itself.

    Raises `TypeError` for what has none, and `ValueError` for a value that cannot be stored though its type can.
    """
    kind = type(value)
    write = LEAVES.get(kind)
    if write is not None:
        return write(value)
    if arrays.is_numpy(kind):
        return arrays.write(value)
    entry = types.entry(kind) if isinstance(value, enum.Enum) else None
    if entry is None:
        raise TypeError(kind.__name__)
    return Ext(codes.ENUM, ormsgpack.packb([entry[0], member_key(value)]))


class Writer:
    """Rewrites one value into what ormsgpack writes by itself, and knows where in it we are."""

    def __init__(self, types: Types, where: str) -> None:
        self._types = types
        self._leaf_of = partial(leaf, types)
        self._where = where
        self._path: list[str] = []

    def record(self, value: Any) -> bytes:
        """The MessagePack of the value. Raises `NotStorableError`."""
        try:
            return self._pack(self._plain(value))
        except RecursionError:  # our depth is bounded, but the caller's stack may have been nearly full
            raise self._too_deep() from None

    def _plain(self, value: Any) -> Any:
        """What ormsgpack writes for `value`. One Python frame a level, so that 200 fit on anybody's stack."""
        kind = type(value)
        if kind in NUMBERS or kind is bytes:
            return value
        if kind is str:
            return value if _is_utf8(value) else Ext(codes.TEXT, value.encode("utf-8", "surrogatepass"))
        if kind in LEAVES or isinstance(value, enum.Enum) or arrays.is_numpy(kind):
            return self._leaf(value)
        if len(self._path) >= MAX_DEPTH:
            raise self._too_deep()
        close, parts = self._opened(value, kind)
        done: list[Any] = []
        for name, part in parts:
            self._path.append(name)  # left standing when a part is refused: it is the path that the error names
            done.append(self._plain(part))
            self._path.pop()
        return close(done)

    def _leaf(self, value: Any) -> Ext:
        try:
            return self._leaf_of(value)
        except TypeError:
            raise self._refused(value) from None
        except ValueError as error:
            raise self._refused(value, f": {error}") from None

    def _opened(self, value: Any, kind: type) -> _Opened:
        """The parts of `value`, each with its step in the path, and how the finished parts are put together."""
        if kind is list or kind is tuple:
            close = list if kind is list else self._extension(codes.TUPLE)
            return close, ((f"[{index}]", part) for index, part in enumerate(value))
        if kind is dict or is_plain(kind):
            return self._opened_dict(value)
        if kind is set or kind is frozenset:
            return self._sorted_extension(codes.SET if kind is set else codes.FROZENSET), (
                ("{...}", part) for part in value
            )
        return self._extension(codes.OBJECT), self._fields(value, *self._entry(value, kind))

    def _opened_dict(self, value: dict[Any, Any]) -> _Opened:
        steps = ((step(key), part) for key, part in value.items())
        if all(type(key) is str and _is_utf8(key) for key in value):
            return (lambda done: dict(zip(value, done, strict=True))), steps
        keys = ((".keys()", key) for key in value)
        return self._extension(codes.MAP), itertools.chain.from_iterable(zip(keys, steps, strict=True))

    def _entry(self, value: Any, kind: type) -> tuple[str, Shape]:
        try:
            entry = self._types.entry(kind)
        except ValueError as error:
            raise self._refused(value, f": {error}") from None
        if entry is None:
            raise self._refused(value)
        return entry

    def _fields(self, value: Any, name: str, shape: Shape) -> Iterable[tuple[str, Any]]:
        try:
            fields = shape.take(value)
        except (AttributeError, ValueError) as error:
            raise self._refused(value, f": {error}") from None
        yield "", name
        for field, part in fields.items():
            yield "", field
            yield field_step(field), part

    def _extension(self, code: int) -> Callable[[list[Any]], Ext]:
        return lambda done: Ext(code, self._pack(done))

    def _sorted_extension(self, code: int) -> Callable[[list[Any]], Ext]:
        """For a set: by their bytes, since the order in a set differs from process to process."""

        def close(done: list[Any]) -> Ext:
            array = b"\xdd" + len(done).to_bytes(4, "big")
            return Ext(code, array + b"".join(sorted(map(self._pack, done))))

        return close

    def _pack(self, plain: Any) -> bytes:
        try:
            return ormsgpack.packb(plain, default=self._leaf_of, option=OPTIONS)
        except ormsgpack.MsgpackEncodeError as error:
            raise NotStorableError(f"cannot store {path(self._where, self._path)}: {error}") from None

    def _refused(self, value: Any, because: str = "") -> NotStorableError:
        name = type_name(type(value))
        return NotStorableError(
            f"cannot store {path(self._where, self._path)}: {name} has no stored form{because}",
            hint=None if because else _way_out(value),
        )

    def _too_deep(self) -> NotStorableError:
        return NotStorableError(
            f"cannot store {path(self._where, self._path)}: more than {MAX_DEPTH} levels deep, or it holds itself"
        )


def _way_out(value: Any) -> str:
    """What a person can do about a value that has no stored form."""
    if isinstance(value, BaseException):
        return "store str(error), or let the node raise it"
    if shape_of(type(value)) is not None:
        return "name its class in the state's annotations, or register it with fanfold.register_type"
    if any(arrays.is_numpy(base) for base in type(value).__mro__):
        return "convert it with numpy.asarray(...)"
    for base in (dict, list, tuple, set, frozenset):
        if isinstance(value, base):
            return f"convert it with {base.__name__}(...)"
    return "keep such objects outside of the state, and in it what is needed to make them again"


def _holds_buffer(value: Any) -> bool:
    """Whether a bytearray or memoryview is somewhere in plain lists and dicts; a level at a time, for speed."""
    level = [value]
    while level:
        kinds = set(map(type, level))
        if not kinds.isdisjoint(_BUFFERS):
            return True
        below: list[Any] = []
        if list in kinds:
            below.extend(itertools.chain.from_iterable(part for part in level if type(part) is list))
        if dict in kinds:
            below.extend(itertools.chain.from_iterable(part.values() for part in level if type(part) is dict))
        level = below
    return False


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
