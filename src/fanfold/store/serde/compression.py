"""zstd for large records, where it is installed: Python's own from 3.14 on, else `backports.zstd`, the same code.

What is opened is bounded before it is opened. A frame must say how large its content is, and is refused when that is
more than a record may hold; its window, which is memory too, is bounded as well.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import Any, Final

from fanfold.errors import MissingExtraError

COMPRESS_ABOVE: Final = 4096
"""Bytes below which a record is left as it is: setting up costs more than what could be won."""

_WINDOW_LOG: Final = 23
"""8 MiB. The level that we write at uses 2 MiB at most."""


def compressed(body: bytes) -> bytes:
    """`body` as one zstd frame."""
    frame: bytes = zstd("to compress what is stored").compress(body)
    return frame


def decompressed(frame: bytes, limit: int, where: str) -> bytes:
    """What `compressed` was given, of at most `limit` bytes. Raises `ValueError` for anything else."""
    library = zstd(f"to read {where}")
    try:
        size = library.get_frame_info(frame).decompressed_size
        if size is None:
            raise ValueError("its zstd frame does not say how large it is")
        if size > limit:
            raise ValueError(f"opened, it would take {size:,} bytes, and a record holds at most {limit:,}")
        opener = library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: _WINDOW_LOG})
        body: bytes = opener.decompress(frame, size + 1)
    except library.ZstdError as error:
        raise ValueError(str(error)) from None
    if not opener.eof or len(body) != size or opener.unused_data:
        raise ValueError("it is not one whole zstd frame")
    return body


def zstd(why: str) -> Any:
    """The library. Raises `MissingExtraError`, which says what it was needed for."""
    library = _library()
    if library is None:
        raise MissingExtraError(f"{why}, zstd is needed, which is not installed", hint="pip install 'fanfold[zstd]'")
    return library


@functools.cache
def _library() -> Any:
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:  # who needs it is told by `zstd`
        return None
