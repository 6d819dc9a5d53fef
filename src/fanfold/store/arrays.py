"""Columns for PostgreSQL: the values of one, as an array in the server's binary form.

psycopg's own arrays are text, which is escaped here and parsed there, value by value; for a batch of fifty results of
thirteen columns that takes longer than the server's work. The form is that of `array_send` and `array_recv` in the
server: the number of dimensions, whether there are NULLs, the type; of the one dimension its length and first index;
then each value behind its length, all in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

_HEAD: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_NUMBER: Final = struct.Struct(">iq")

_TEXT, _BIGINT, _BYTEA = 25, 20, 17
_MOST: Final = 2**63


class Texts(bytes):
    """A text[]."""


class Numbers(bytes):
    """A bigint[]."""


class Blobs(bytes):
    """A bytea[]."""


def column(values: Sequence[Any]) -> Any:
    """The array of these values, if they are all texts, all integers of 64 bits or all bytes, or NULL; else as is."""
    kinds = set(map(type, values))
    nulls = type(None) in kinds
    kinds.discard(type(None))
    if len(kinds) > 1 or not values:
        return values
    kind = kinds.pop() if kinds else str
    if kind is str:
        return Texts(_array(values, _TEXT, nulls, _text))
    if kind is bytes:
        return Blobs(_array(values, _BYTEA, nulls, _blob))
    if kind is int and all(-_MOST <= value < _MOST for value in values if value is not None):
        return Numbers(_array(values, _BIGINT, nulls, _number))
    return values


def _array(values: Sequence[Any], of: int, nulls: bool, one: Callable[[Any], bytes]) -> bytes:
    head = _HEAD.pack(1, nulls, of, len(values), 1)
    first = values[0]
    if values.count(first) == len(values):  # as the thread of a batch of results
        return head + (_NULL if first is None else one(first)) * len(values)
    return head + b"".join([_NULL if value is None else one(value) for value in values])


def _text(value: str) -> bytes:
    return _blob(value.encode())


def _blob(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _number(value: int) -> bytes:
    return _NUMBER.pack(8, value)


def understand(connection: psycopg.Connection[Any]) -> None:
    """Have a connection, whose encoding is UTF-8, take such columns as parameters."""
    for kind, sent in _dumpers().items():
        connection.adapters.register_dumper(kind, sent)


@cache
def _dumpers() -> Mapping[type, Any]:
    """What hands such columns to the driver; made once, for psycopg keeps every class of these for ever."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class Sent(Dumper):
        format = Format.BINARY

        def dump(self, obj: bytes) -> bytes:
            return obj

    return {kind: type(kind.__name__, (Sent,), {"oid": oid}) for kind, oid in _OIDS.items()}


_OIDS: Final[Mapping[type, int]] = {Texts: 1009, Numbers: 1016, Blobs: 1001}
"""The types of arrays in the server's catalogue."""
