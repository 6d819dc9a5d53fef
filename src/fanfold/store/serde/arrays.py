"""numpy's arrays and scalars, where numpy is installed: a type, a shape, and the numbers as they lie in memory.

A type is one of booleans, integers, floats and complex numbers up to 64 bits a part, text, bytes, dates and time
differences, in either byte order. Refused are types that hold Python objects, which are pointers, those with fields,
and `longdouble`, which is something else on every machine. An array comes back in C order and can be written to.

numpy is not imported to write: whoever has an array has it. It is imported to read one, by us and by that name alone.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext

from fanfold.store.serde import codes

_TYPE: Final = re.compile(
    r"[<>|](b1|[iu][1248]|f[248]|c(8|16)|[US][1-9][0-9]{0,8}|[mM]8(\[[0-9]{0,9}[A-Za-z]{1,2}\])?)"
)
_MOST_AXES: Final = 64
_LAST_CHARACTER: Final = 0x10FFFF
_TEXTS: Final = {"U": "str_", "S": "bytes_"}


def is_numpy(kind: type) -> bool:
    """Whether it is numpy's array, or one of its scalar types, itself."""
    if kind.__module__ != "numpy" or "numpy" not in sys.modules:
        return False
    numpy: Any = sys.modules["numpy"]
    return kind is numpy.ndarray or issubclass(kind, numpy.generic)


def write(value: Any) -> Ext:
    """The extension of an array or scalar. Raises `ValueError` for one whose type cannot be stored."""
    numpy: Any = sys.modules["numpy"]
    if type(value) is numpy.ndarray:
        return Ext(codes.ARRAY, ormsgpack.packb([_checked(value.dtype), list(value.shape), value.tobytes()]))
    if value.dtype.kind in _TEXTS:  # apart, since numpy has no type for an array of empty texts
        data = str(value).encode("utf-8", "surrogatepass") if value.dtype.kind == "U" else bytes(value)
        return Ext(codes.NUMBER, ormsgpack.packb([value.dtype.kind, data]))
    return Ext(codes.NUMBER, ormsgpack.packb([_checked(value.dtype), value.tobytes()]))


def read_array(payload: bytes) -> Any:
    """The array that `write` wrote. Raises `ValueError`, or what unpacking raises, for anything else."""
    name, shape, data = ormsgpack.unpackb(payload)
    if type(shape) is not list or len(shape) > _MOST_AXES or any(type(axis) is not int or axis < 0 for axis in shape):
        raise ValueError("an array has no such shape")
    return _made(name, tuple(shape), data).copy()


def read_scalar(payload: bytes) -> Any:
    """The scalar that `write` wrote, as `read_array`."""
    name, data = ormsgpack.unpackb(payload)
    if type(name) is str and name in _TEXTS:
        plain = _bytes(data).decode("utf-8", "surrogatepass") if name == "U" else _bytes(data)
        return getattr(_numpy(), _TEXTS[name])(plain)
    return _made(name, (), data)[()]


def _checked(dtype: Any) -> str:
    name: str = dtype.str
    if _TYPE.fullmatch(name) is None or dtype.fields is not None:
        raise ValueError(f"an array of type {dtype!s:.80} is not plain numbers, dates or text")
    return name


def _made(name: Any, shape: tuple[int, ...], data: Any) -> Any:
    """A view of the data. Nothing is allocated for it before the data is known to be as long as it says."""
    if type(name) is not str or _TYPE.fullmatch(name) is None:
        raise ValueError("an array has no such type")
    numpy = _numpy()
    dtype = numpy.dtype(name)
    if math.prod(shape) * dtype.itemsize != len(_bytes(data)):
        raise ValueError("an array's data is longer or shorter than its shape and type say")
    if dtype.kind == "b" and data.translate(None, b"\x00\x01"):
        raise ValueError("an array of booleans holds something else")
    if dtype.kind == "U" and (numpy.frombuffer(data, f"{name[0]}u4") > _LAST_CHARACTER).any():
        raise ValueError("an array of text holds something else")
    return numpy.ndarray(shape, dtype, buffer=data)


def _bytes(data: Any) -> bytes:
    if type(data) is not bytes:
        raise ValueError("an array's data is no bytes")
    return data


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise ValueError("it is an array of numpy, which is not installed: pip install numpy") from None
    return numpy
