"""How a value becomes bytes and comes back: as data, and never as code.

A record is six bytes of header and one MessagePack value::

    codec id · version · CRC-32 of the rest (4 bytes, big endian) · MessagePack

Decoding imports nothing, evaluates nothing and looks nothing up by a name that the bytes bring along, except in one
table: the classes that this process has registered, which happens when a graph is compiled, from its annotations.
A row that somebody else wrote can therefore hold wrong *data*, but cannot run anything. The checksum is against
accidents; whoever writes the row on purpose writes the checksum too, and meets the limits below.

What comes back is equal to what went in and has exactly its type, or it is refused when it is written:

- None, bool, int of any size, float (with nan, inf, -0.0), complex, str (also with lone surrogates), bytes, bytearray;
- list, tuple, set, frozenset, dict with any storable and hashable key, in its order;
- datetime, date, time, timedelta, UUID, Decimal, paths. A time zone is kept as its offset at that moment
  (`datetime.timezone`): the instant is the same, the zone's name and rules are not kept. `time` with a zone that has
  no offset without a date is refused;
- registered enums, dataclasses, pydantic models, NamedTuples, and subclasses of str, int, float and bytes. They are
  rebuilt from their fields *without* running `__init__`, `__post_init__` or validators, since those may change what
  was stored. A field that was added since takes its default; one that was removed is an error.

Anything else is refused: other subclasses of built-in types (`OrderedDict`, `defaultdict`: convert them with `dict`,
their behaviour is code and not data), memoryview, exceptions, functions, open things.

**Two ways through.** Plain values go to ormsgpack as they are: no Python code looks at them. Only when it stumbles,
over a tuple, an int key or a class, does `_Writer` walk the value, and it knows the path of each part, for the error.
Nested parts are bytes within bytes, each opened after the one around it was closed (`_Reader`), so that
hostile nesting meets a counter and not the end of the C stack.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import inspect
import itertools
import os
import struct
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID
from zlib import crc32

import ormsgpack
from ormsgpack import Ext

from fanfold.errors import CorruptRecordError, NotStorableError, UsageError
from fanfold.kernel.own import is_plain
from fanfold.types import Send

# One way a value is put together from its finished parts, and the parts with their steps in the path.
_Opened: TypeAlias = tuple[Callable[[list[Any]], Any], Iterable[tuple[str, Any]]]

CODEC_ID: Final = 0x46
VERSION: Final = 1
MAX_DEPTH: Final = 200
MAX_BYTES: Final = 256 * 2**20

_HEADER: Final = struct.Struct(">BBI")
_OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

# How many containers deep ormsgpack itself goes before it refuses. Wrapping a value in the difference to our limit
# makes it count for us, in C. A test fails when a new version counts otherwise.
_PACK_LIMIT: Final = 255
_UNPACK_LIMIT: Final = 1022
_CONTAINER_MARKS: Final = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_BUFFER_MARKS: Final = (b"\xc4", b"\xc5", b"\xc6")

# The extension codes. They are stored: a number is never given to something else.
_INT, _TEXT, _BYTEARRAY, _COMPLEX, _DECIMAL = 1, 2, 3, 4, 5
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _PATH = 10, 11, 12, 13, 14, 15
_TUPLE, _SET, _FROZENSET, _MAP = 20, 21, 22, 23
_ENUM, _OBJECT = 30, 31

_Sized = TypeVar("_Sized", bound=Sized)

_SCALARS: Final = (str, int, float, bytes)
_NUMBERS: Final = frozenset({type(None), bool, int, float})
_BUFFERS: Final = frozenset({bytearray, memoryview})


class Codec:
    """Turns values into bytes and back. Registering is rare and done by compiling; use is from any thread."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._written: dict[type, tuple[str, _Shape]] = {}
        self._read: dict[str, _Shape] = {}
        self._learned: Codec | None = None
        self.register(Send)

    def register(self, cls: type, name: str | None = None) -> None:
        """Let values of exactly this class be stored, as `name` (else its module and qualified name).

        The same class again is fine, and so is a newer class of the same module and qualified name, as when a
        notebook's cell runs again: records are then read as the newer one. Raises `UsageError` for a class whose
        values are not plain data, and for a chosen name that another class has.
        """
        shape = _shape_of(cls)
        if shape is None:
            named = cls if isinstance(cls, type) else type(cls)
            raise UsageError(
                f"cannot register {_type_name(named)}: only enums, dataclasses, pydantic models, NamedTuples and"
                " subclasses of str, int, float and bytes have a stored form"
            )
        stored = name or _type_name(cls)
        other = self._read.get(stored)
        if other is not None and other.cls is not cls and _type_name(other.cls) != _type_name(cls):
            raise UsageError(f"cannot register {_type_name(cls)} as {stored!r}: {_type_name(other.cls)} has that name")
        if name is not None or cls not in self._written:  # a chosen name outlives a later call without one
            self._written[cls] = (stored, shape)
        self._read[stored] = shape

    def register_from(self, annotation: Any) -> None:
        """Register every storable class that a type annotation names, however deep: its fields' types too."""
        for cls in _classes_in(annotation):
            if _shape_of(cls) is not None:
                self.register(cls)

    def learning(self, learned: Codec | None) -> Codec:
        """This codec, which besides registers in `learned` whatever class it is given to write.

        That is right only where no record outlives the process: there, every class that is read was written before.
        """
        codec = copy.copy(self)
        codec._learned = learned
        return codec

    def encode(self, value: Any, where: str = "") -> bytes:
        """The record of `value`. `where` names it in errors, and the path starts with it: `state['items'][3]`.

        Raises `NotStorableError`. The bytes depend on the value alone: a set's are the same in every process.
        """
        body = self._pack_plain(value)
        if body is None:
            body = _Writer(self, where).record(value)
        if len(body) + _HEADER.size > self.max_bytes:
            raise NotStorableError(
                f"{where or 'the value'} takes {len(body):,} bytes, and a record holds at most {self.max_bytes:,}",
                hint="keep large data in a file and its path in the state",
            )
        return _HEADER.pack(CODEC_ID, VERSION, crc32(body)) + body

    def decode(self, data: bytes, where: str = "") -> Any:
        """The value of a record; it shares nothing with any other. Raises `CorruptRecordError` and nothing else."""
        body = _checked(data if type(data) is bytes else bytes(memoryview(data)), where, self.max_bytes)
        return _Reader(self, where).record(body)

    def _member(self, payload: bytes) -> enum.Enum:
        """The enum member that `_leaf` wrote. Raises `ValueError` for what is none."""
        name, key = ormsgpack.unpackb(payload)
        shape = self._shape(name)
        if not issubclass(shape.cls, enum.Enum):
            raise ValueError(f"{name!r} is no enum")
        member: enum.Enum = shape.make({"member": key})
        return member

    def _entry(self, cls: type) -> tuple[str, _Shape] | None:
        """The stored name and shape of a class; a class that is not known is learned, if this codec learns."""
        entry = self._written.get(cls)
        if entry is None and self._learned is not None:
            if cls not in self._learned._written and _shape_of(cls) is not None:
                self._learned.register(cls)
            entry = self._learned._written.get(cls)
        return entry

    def _shape(self, name: Any) -> _Shape:
        shape = self._read.get(name) if type(name) is str else None
        if shape is None and self._learned is not None:
            shape = self._learned._read.get(name)
        if shape is None:
            raise ValueError(f"no class is registered as {_short(name)}")
        return shape

    def _pack_plain(self, value: Any) -> bytes | None:
        """What ormsgpack makes of `value` by itself, or None when the value must be walked."""
        wrapped = value
        for _ in range(_PACK_LIMIT - MAX_DEPTH):
            wrapped = [wrapped]
        try:
            packed = ormsgpack.packb(wrapped, default=self._leaf, option=_OPTIONS)
        except ormsgpack.MsgpackEncodeError:
            return None  # the walk finds a way to store it, or the path of what cannot be
        body = packed[_PACK_LIMIT - MAX_DEPTH :]
        # ormsgpack writes a bytearray as bytes without asking. Only then can one of these marks be in the output.
        if any(mark in body for mark in _BUFFER_MARKS) and _holds_buffer(value):
            return None
        return body

    def _leaf(self, value: Any) -> Ext:
        """The extension of a value without parts; ormsgpack asks for what it does not write itself."""
        write = _LEAVES.get(type(value))
        if write is not None:
            return write(value)
        entry = self._entry(type(value)) if isinstance(value, enum.Enum) else None
        if entry is not None:
            return Ext(_ENUM, ormsgpack.packb([entry[0], _member_key(value)]))
        raise TypeError(type(value).__name__)


# -- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Rewrites one value into what ormsgpack writes by itself, and knows where in it we are."""

    def __init__(self, codec: Codec, where: str) -> None:
        self._codec = codec
        self._where = where
        self._path: list[str] = []

    def record(self, value: Any) -> bytes:
        try:
            return self._pack(self._plain(value))
        except RecursionError:  # our depth is bounded, but the caller's stack may have been nearly full
            raise self._too_deep() from None

    def _plain(self, value: Any) -> Any:
        """What ormsgpack writes for `value`. One Python frame a level, so that 200 fit on anybody's stack."""
        kind = type(value)
        if kind in _NUMBERS or kind is bytes:
            return value
        if kind is str:
            return value if _is_utf8(value) else Ext(_TEXT, value.encode("utf-8", "surrogatepass"))
        if kind in _LEAVES or isinstance(value, enum.Enum):
            return self._leaf(value)
        if len(self._path) >= MAX_DEPTH:
            raise self._too_deep()
        close, parts = self._opened(value, kind)
        done: list[Any] = []
        for step, part in parts:
            self._path.append(step)  # left standing when a part is refused: it is the path that the error names
            done.append(self._plain(part))
            self._path.pop()
        return close(done)

    def _leaf(self, value: Any) -> Ext:
        try:
            return self._codec._leaf(value)
        except TypeError:
            raise self._refused(value) from None
        except ValueError as error:
            raise self._refused(value, f": {error}") from None

    def _opened(self, value: Any, kind: type) -> _Opened:
        """The parts of `value`, each with its step in the path, and how the finished parts are put together."""
        if kind is list or kind is tuple:
            close = list if kind is list else self._extension(_TUPLE)
            return close, ((f"[{index}]", part) for index, part in enumerate(value))
        if kind is dict or is_plain(kind):
            return self._opened_dict(value)
        if kind is set or kind is frozenset:
            return self._sorted_extension(_SET if kind is set else _FROZENSET), (("{...}", part) for part in value)
        entry = self._codec._entry(kind)
        if entry is None:
            raise self._refused(value)
        return self._extension(_OBJECT), self._fields(value, *entry)

    def _opened_dict(self, value: dict[Any, Any]) -> _Opened:
        steps = ((_step(key), part) for key, part in value.items())
        if all(type(key) is str and _is_utf8(key) for key in value):
            return (lambda done: dict(zip(value, done, strict=True))), steps
        keys = ((".keys()", key) for key in value)
        return self._extension(_MAP), itertools.chain.from_iterable(zip(keys, steps, strict=True))

    def _fields(self, value: Any, name: str, shape: _Shape) -> Iterable[tuple[str, Any]]:
        try:
            fields = shape.take(value)
        except (AttributeError, ValueError) as error:
            raise self._refused(value, f": {error}") from None
        yield "", name
        for field, part in fields.items():
            yield "", field
            yield _field_step(field), part

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
            return ormsgpack.packb(plain, default=self._codec._leaf, option=_OPTIONS)
        except ormsgpack.MsgpackEncodeError as error:
            raise NotStorableError(f"cannot store {_path(self._where, self._path)}: {error}") from None

    def _refused(self, value: Any, because: str = "") -> NotStorableError:
        name = _type_name(type(value))
        return NotStorableError(
            f"cannot store {_path(self._where, self._path)}: {name} has no stored form{because}",
            hint=None if because else _way_out(value),
        )

    def _too_deep(self) -> NotStorableError:
        return NotStorableError(
            f"cannot store {_path(self._where, self._path)}: more than {MAX_DEPTH} levels deep, or it holds itself"
        )


def _way_out(value: Any) -> str:
    """What a person can do about a value that has no stored form."""
    if isinstance(value, BaseException):
        return "store str(error), or let the node raise it"
    if _shape_of(type(value)) is not None:
        return "name its class in the state's annotations, or register it with Codec.register"
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


def _step(key: Any) -> str:
    return f"[{_short(key)}]"


def _short(value: Any) -> str:
    """A key or a name for an error. Only plain ones are shown: a class's `repr` may be long, secret or broken."""
    if type(value) is int and value.bit_length() > 200:
        return "<int>"  # also because Python refuses to print it, above some thousand digits
    if type(value) is not str and type(value) not in _NUMBERS:
        return f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _field_step(field: str) -> str:
    return f".{field.removeprefix('+')}"


def _path(where: str, steps: list[str]) -> str:
    shown = steps if len(steps) <= 12 else [*steps[:8], " ... ", *steps[-2:]]
    return (where or "value") + "".join(shown)


def _type_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


# -- reading ---------------------------------------------------------------------------------------------------------

_UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error)
"""What a constructor may raise over data that is wrong."""


def _checked(data: bytes, where: str, max_bytes: int) -> bytes:
    """The body of a record whose header, length and checksum are right."""
    name = where or "the record"
    if len(data) > max_bytes:
        raise CorruptRecordError(f"{name} is {len(data):,} bytes long, and a record holds at most {max_bytes:,}")
    if len(data) < _HEADER.size:
        raise CorruptRecordError(f"{name} is cut off: {len(data)} bytes, and its header alone has {_HEADER.size}")
    codec, version, checksum = _HEADER.unpack_from(data)
    if codec != CODEC_ID:
        raise CorruptRecordError(f"{name} was not written by this codec: it begins with {data[:2].hex(' ')}")
    if version != VERSION:
        raise CorruptRecordError(
            f"{name} has version {version} of the record format, and this fanfold reads version {VERSION}",
            hint="read it with the version of fanfold that wrote it, or a newer one",
        )
    body = data[_HEADER.size :]
    if crc32(body) != checksum:
        raise CorruptRecordError(f"{name} is damaged: its checksum does not fit; bytes were lost, added or changed")
    return body


@dataclass(frozen=True, slots=True)
class _Closed:
    """An extension that was met and is not opened yet."""

    code: int
    payload: bytes


class _Reader:
    """Opens one record, a layer at a time, and knows where in it we are."""

    def __init__(self, codec: Codec, where: str) -> None:
        self._codec = codec
        self._where = where
        self._path: list[str] = []
        self._met_closed = False

    def record(self, body: bytes) -> Any:
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
        wraps = 0 if shallow else _UNPACK_LIMIT - room - 1
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
        if code not in _CONTAINERS:
            with contextlib.suppress(*_UNREADABLE):
                return self._read(code, payload)
        self._met_closed = True
        return _Closed(code, payload)

    def _read(self, code: int, payload: bytes) -> Any:
        if code == _ENUM:
            return self._codec._member(payload)
        if code not in _READERS:
            raise ValueError(f"unknown extension {code}")
        return _READERS[code](payload)

    def _settled(self, value: Any) -> Any:
        """`value` with everything in it opened. One Python frame a level, as in `_Writer._plain`."""
        code = value.code if type(value) is _Closed else None
        into = value if code is None else self._opened(value.code, value.payload)
        if code is not None and code not in _CONTAINERS:
            return into
        for key, item in enumerate(into) if type(into) is list else into.items():
            if type(item) in _UNSETTLED:
                self._path.append(_part_step(code, into, key))  # as there, left standing for the error
                into[key] = self._settled(item)
                self._path.pop()
        return into if code is None else self._built(code, into)

    def _opened(self, code: int, payload: bytes) -> Any:
        """The parts of an extension, as a list; of a leaf, which could not be read before, the error."""
        if code in _CONTAINERS:
            if len(self._path) >= MAX_DEPTH:
                raise self._too_deep()
            parts = self._layer(payload)
            if type(parts) is not list:
                raise self._corrupt(f"extension {code} holds no parts")
            return parts
        return self._tried(code, lambda: self._read(code, payload))

    def _built(self, code: int, parts: list[Any]) -> Any:
        return self._tried(code, lambda: _built(self._codec, code, parts))

    def _tried(self, code: int, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except _UNREADABLE as error:
            hint = "register the class, or name it in the state's annotations" if code in _OF_CLASSES else None
            raise self._corrupt(str(error), hint) from None

    def _corrupt(self, because: str, hint: str | None = None) -> CorruptRecordError:
        place = _path(self._where or "the record", self._path)
        return CorruptRecordError(f"cannot read {place}: {because}", hint=hint)

    def _too_deep(self) -> CorruptRecordError:
        return self._corrupt(f"more than {MAX_DEPTH} levels deep")


def _built(codec: Codec, code: int, parts: list[Any]) -> Any:
    """The value of an extension with parts. Raises one of `_UNREADABLE` for parts that do not fit."""
    if code == _TUPLE:
        return tuple(parts)
    if code == _MAP:
        return _whole(dict(zip(parts[::2], parts[1::2], strict=True)), len(parts) // 2)
    if code == _OBJECT:
        shape = codec._shape(parts[0] if parts else None)
        if issubclass(shape.cls, enum.Enum):
            raise ValueError(f"{parts[0]!r} is an enum")
        fields = dict(zip(parts[1::2], parts[2::2], strict=True))
        return shape.make(_whole(fields, len(parts) // 2))
    return _whole(set(parts) if code == _SET else frozenset(parts), len(parts))


def _whole(built: _Sized, size: int) -> _Sized:
    """`built`, when none of its parts was given twice."""
    if len(built) != size:
        raise ValueError("a part is there twice")
    return built


def _part_step(code: int | None, parts: Any, key: Any) -> str:
    """One step of a path: for a part of an extension, or (`code` is None) of a list or dict."""
    if code is None or code == _TUPLE:
        return _step(key)
    if code == _MAP:
        return _step(parts[key - 1]) if key % 2 else ".keys()"
    if code == _OBJECT and type(parts[key - 1]) is str and key:
        return _field_step(parts[key - 1])
    return "{...}"


# -- values without parts ----------------------------------------------------------------------------------------------


def _write_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _write_moment(value: datetime | time) -> bytes:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError("its time zone has no offset without a date")
    return f"{value.fold}{value.isoformat()}".encode("ascii")


def _read_datetime(payload: bytes) -> datetime:
    return datetime.fromisoformat(payload[1:].decode("ascii")).replace(fold=int(payload[:1]))


def _read_time(payload: bytes) -> time:
    return time.fromisoformat(payload[1:].decode("ascii")).replace(fold=int(payload[:1]))


def _write_timedelta(value: timedelta) -> bytes:
    return struct.pack(">iii", value.days, value.seconds, value.microseconds)


_PATH_KINDS: Final[Mapping[bytes, type[PurePath]]] = {b"c": Path, b"p": PurePosixPath, b"w": PureWindowsPath}


def _write_path(value: PurePath) -> bytes:
    kind = next(letter for letter, cls in _PATH_KINDS.items() if isinstance(value, cls))
    return kind + str(value).encode("utf-8", "surrogatepass")  # a file's name may hold bytes that are no UTF-8


def _read_path(payload: bytes) -> PurePath:
    return _PATH_KINDS[payload[:1]](_read_text(payload[1:]))


def _read_text(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogatepass")


def _leaves() -> Iterable[tuple[type, int, Callable[[Any], bytes], Callable[[bytes], Any]]]:
    """Each type without parts that ormsgpack does not write as it is, with its code, writer and reader."""
    yield int, _INT, _write_int, lambda payload: int.from_bytes(payload, "big", signed=True)
    yield bytearray, _BYTEARRAY, bytes, bytearray
    yield complex, _COMPLEX, lambda z: struct.pack(">dd", z.real, z.imag), lambda p: complex(*struct.unpack(">dd", p))
    yield Decimal, _DECIMAL, lambda value: str(value).encode("ascii"), lambda p: Decimal(p.decode("ascii"))
    yield datetime, _DATETIME, _write_moment, _read_datetime
    yield date, _DATE, lambda value: value.isoformat().encode("ascii"), lambda p: date.fromisoformat(p.decode("ascii"))
    yield time, _TIME, _write_moment, _read_time
    yield timedelta, _TIMEDELTA, _write_timedelta, lambda payload: timedelta(*struct.unpack(">iii", payload))
    yield UUID, _UUID, lambda value: value.bytes, lambda payload: UUID(bytes=payload)
    for path in (type(Path()), PurePosixPath, PureWindowsPath):
        yield path, _PATH, _write_path, _read_path


def _writer(code: int, write: Callable[[Any], bytes]) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, write(value))


_LEAVES: Final = {kind: _writer(code, write) for kind, code, write, _ in _leaves()}
_READERS: Final = {code: read for _, code, _, read in _leaves()} | {_TEXT: _read_text}
_CONTAINERS: Final = frozenset({_TUPLE, _SET, _FROZENSET, _MAP, _OBJECT})
_OF_CLASSES: Final = frozenset({_ENUM, _OBJECT})
# Stands behind each layer while it is read, since ormsgpack overlooks what follows after the end. Nobody can have
# written it into a record, because every process draws its own.
_END_MARK: Final = os.urandom(16)
_END: Final = ormsgpack.packb(Ext(0, _END_MARK))

_UNSETTLED: Final = frozenset({list, dict, _Closed})


# -- classes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    """How values of one class become named fields, and are made from them again.

    `take` raises `ValueError` for a value that has more to it than its fields; `make` for fields that do not fit.
    """

    cls: type
    take: Callable[[Any], dict[str, Any]]
    make: Callable[[dict[str, Any]], Any]


def _shape_of(cls: Any) -> _Shape | None:
    """The shape of a class that can be registered, else None."""
    if not isinstance(cls, type) or issubclass(cls, BaseException):
        return None
    if issubclass(cls, enum.Enum):
        return _enum_shape(cls)
    if _is_pydantic(cls):
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
        raise ValueError(f"{_type_name(cls)} has no field {_short(unknown[0])}")
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        if name not in given and default is None:
            raise ValueError(f"the field {name!r} of {_type_name(cls)} is missing and has no default")
        values[name] = given[name] if name in given or default is None else default()
    return values


def _dataclass_shape(cls: Any) -> _Shape:
    fields = dataclasses.fields(cls)
    defaults = {field.name: _dataclass_default(field) for field in fields}

    def make(given: dict[str, Any]) -> Any:
        made = object.__new__(cls)
        for name, value in _completed(cls, given, defaults).items():
            object.__setattr__(made, name, value)  # also where the class is frozen
        return made

    return _Shape(cls, lambda value: {field.name: getattr(value, field.name) for field in fields}, make)


def _dataclass_default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


def _namedtuple_shape(cls: Any) -> _Shape:
    defaults = {name: _constant(cls._field_defaults, name) for name in cls._fields}

    def make(given: dict[str, Any]) -> Any:
        return tuple.__new__(cls, _completed(cls, given, defaults).values())

    return _Shape(cls, lambda value: dict(zip(cls._fields, value, strict=True)), make)


def _constant(values: Mapping[str, Any], name: str) -> Callable[[], Any] | None:
    return (lambda: values[name]) if name in values else None


def _member_key(member: enum.Enum) -> Any:
    """A member's name; for a flag, of which several may be set, its number."""
    return member.value if isinstance(member, enum.Flag) else member.name


def _enum_shape(cls: type[enum.Enum]) -> _Shape:
    def make(given: dict[str, Any]) -> enum.Enum:
        key = given["member"]
        if issubclass(cls, enum.Flag):
            return cls(key)
        if type(key) is not str or key not in cls.__members__:
            raise ValueError(f"{_type_name(cls)} has no member {_short(key)}")
        return cls.__members__[key]

    return _Shape(cls, lambda member: {"member": _member_key(member)}, make)


def _scalar_shape(cls: type, base: Any) -> _Shape:
    def take(value: Any) -> dict[str, Any]:
        if getattr(value, "__dict__", None):
            raise ValueError("it has attributes besides its value")
        return {"value": _PLAIN_OF[base](value)}

    def make(given: dict[str, Any]) -> Any:
        value = _completed(cls, given, {"value": None})["value"]
        if type(value) is not base:
            raise ValueError(f"{_type_name(cls)} is made of {base.__name__}, not of {type(value).__name__}")
        return base.__new__(cls, value)

    return _Shape(cls, take, make)


# Past whatever the subclass overrides, such as `__str__`.
_PLAIN_OF: Final[Mapping[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
}


def _is_pydantic(cls: type) -> bool:
    """Told by what we use of it, so that pydantic is not imported where nobody has models."""
    return all(hasattr(cls, name) for name in ("model_dump", "model_validate", "model_fields"))


def _pydantic_shape(cls: Any) -> _Shape:
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
            raise ValueError(f"{_type_name(cls)} allows no extra field {_short(next(iter(extra)))}")
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

    return _Shape(cls, take, make)


def _pydantic_default(field: Any) -> Callable[[], Any] | None:
    return None if field.is_required() else lambda: field.get_default(call_default_factory=True)


# -- annotations -------------------------------------------------------------------------------------------------------


def _classes_in(annotation: Any) -> Iterable[type]:
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
    if _is_pydantic(cls):
        return [field.annotation for field in cls.model_fields.values()]
    if not (typing.is_typeddict(cls) or _shape_of(cls)) or issubclass(cls, enum.Enum):
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
