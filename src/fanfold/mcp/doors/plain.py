"""Values of a database as JSON has them, so that whoever asked can read them.

What a store keeps as bytes is shown as what it means: a record as its value, and the events of a row as a list. What
cannot be read here, such as a record that is encrypted or of a class that this process does not know, is shown as a
text that says so. Other bytes are shown in hexadecimal digits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final

from fanfold.errors import FanfoldError
from fanfold.store.batches import unpacked
from fanfold.store.serde import Codec
from fanfold.store.serde.envelope import CODEC_ID

DEEPEST: Final = 60
"""Levels of a value that are shown; clients read JSON with recursion."""
LARGEST: Final = 2**53
"""Integers up to which every reader of JSON sees the same number; larger ones are shown as text."""
_BETWEEN: Final = len(", ")
_PACKED: Final = b"\x01\x78"
_RECORD: Final = bytes((CODEC_ID,))

LONGEST: Final = 4 * 1024 * 1024
"""Bytes of a value that are read: few of them can mean much, and whoever asks can make up what is in them."""

_codec = Codec(max_bytes=LONGEST)


class Page:
    """The rows of an answer, up to a number of them, a number of bytes, as which their JSON counts, and a moment."""

    def __init__(self, rows: int, size: int, end: float = math.inf) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self._most, self._left, self._end = rows, size, end

    def add(self, row: Iterable[Any]) -> str:
        """Take a row, if it fits: the name of the cap that keeps it out, "rows", "bytes" or "seconds", else nothing.

        Value by value: few bytes of a database can mean megabytes, and take long to be read, and a row has many values.
        """
        if len(self.rows) == self._most:
            return "rows"
        shown = []
        for each in row:
            if time.monotonic() > self._end:
                return "seconds"
            shown.append(plain(each))
            self._left -= len(json.dumps(shown[-1])) + _BETWEEN
            if self._left < 0:
                return "bytes"
        self.rows.append(tuple(shown))
        return ""


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can say it."""
    if value is None or isinstance(value, bool | str):
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if -LARGEST <= value <= LARGEST else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if depth >= DEEPEST:
        return f"<{type(value).__name__}, too deep to be shown>"
    if isinstance(value, bytes | bytearray | memoryview):
        return shown(bytes(value), depth)
    return _whole(value, depth + 1)


def shown(data: bytes, depth: int = 0) -> Any:
    """What bytes of a database mean: a record, events, or themselves in hexadecimal digits."""
    try:
        if data[:2] == _PACKED:
            return [plain(json.loads(text), depth + 1) for text in unpacked("", data, "the row", LONGEST)]
        if data[:1] == _RECORD:
            return plain(_codec.decode(data, "the record"), depth + 1)
    except (FanfoldError, ValueError, RecursionError) as error:
        return f"<{len(data)} bytes: {str(error).partition(chr(10))[0]}>"
    return data.hex()


def _whole(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(each, depth) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each, depth) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name), depth) for each in fields(value)}
    dump = getattr(type(value), "model_dump", None)
    return plain(dump(value, mode="json"), depth) if dump is not None else str(value)
