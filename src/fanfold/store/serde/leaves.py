"""Values without parts that MessagePack has no form for: each type with its code, its bytes, and the way back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID

from ormsgpack import Ext

from fanfold.store.serde import arrays, codes


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
    yield int, codes.INT, _write_int, lambda payload: int.from_bytes(payload, "big", signed=True)
    yield bytearray, codes.BYTEARRAY, bytes, bytearray
    yield (
        complex,
        codes.COMPLEX,
        lambda z: struct.pack(">dd", z.real, z.imag),
        lambda p: complex(*struct.unpack(">dd", p)),
    )
    yield Decimal, codes.DECIMAL, lambda value: str(value).encode("ascii"), lambda p: Decimal(p.decode("ascii"))
    yield datetime, codes.DATETIME, _write_moment, _read_datetime
    yield (
        date,
        codes.DATE,
        lambda value: value.isoformat().encode("ascii"),
        lambda p: date.fromisoformat(p.decode("ascii")),
    )
    yield time, codes.TIME, _write_moment, _read_time
    yield timedelta, codes.TIMEDELTA, _write_timedelta, lambda payload: timedelta(*struct.unpack(">iii", payload))
    yield UUID, codes.UUID_, lambda value: value.bytes, lambda payload: UUID(bytes=payload)
    for path in (type(Path()), PurePosixPath, PureWindowsPath):
        yield path, codes.PATH, _write_path, _read_path


def _writer(code: int, write: Callable[[Any], bytes]) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, write(value))


LEAVES: Final = {kind: _writer(code, write) for kind, code, write, _ in _leaves()}
READERS: Final = {code: read for _, code, _, read in _leaves()} | {
    codes.TEXT: _read_text,
    codes.ARRAY: arrays.read_array,
    codes.NUMBER: arrays.read_scalar,
}
