"""Events as a row keeps them: as many as have ended together, as one short value.

A row has the number of its first event, so that of two who number on at once one is refused, and the hash of its last.
Each event has a hash, of what it says and of the hash of the one before it, so it does not matter how many there are in
a row. A value is a byte that says which form it has, and then::

    0x01   one event a line, as JSON, in zlib's form with `_WORDS` as its dictionary, so it has a checksum

Each value can be read without the others. Rows without one hold a single event, as text: that is what earlier versions
have written.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fanfold.errors import CorruptRecordError

IN_A_ROW: Final = 32
"""Events that share a row, at most. That makes some 600 bytes of them; SQLite puts aside what is above 1,000, in pages
that are left half empty."""

_DEFLATED: Final = b"\x01"
_WINDOW: Final = 15
_LONGEST: Final = 2**28
"""Bytes that a value may take once it is opened."""

# What deflate may point back to, the likeliest last. It is stored with nothing, so it never changes: other words would
# be another form.
_WORDS: Final = b"""\
{"kind":"loop_held","at":,"task":"","seconds":0.0}
{"kind":"task_held_up","at":,"task":"","seconds":0.0}
{"kind":"noticed","at":,"message":"","task":null}
{"kind":"task_cancelled","at":,"task":"
{"kind":"task_failed","at":,"task":"","error":"Error:\x20
{"kind":"task_interrupted","at":,"task":"","questions":1}
{"kind":"task_remembered","at":,"task":"
{"kind":"tool_called","at":,"task":"","tool":"","detail":"
{"kind":"model_answered","at":,"task":"","model":"","input_tokens":,"output_tokens":
{"kind":"task_paused","at":,"task":"
{"kind":"task_continued","at":,"task":"
"max_concurrency":null,"resumed":true}
"status":"failed","error":"","status":"cancelled","error":"
"role":"agent","after":[],"parent":"","label":"","released":""}
{"kind":"run_started","at":,"run_id":"","thread_id":"","graph":"graph","wall":179,"max_concurrency":null,"resumed":false}
"}
{"kind":"step_finished","at":,"step":1}
{"kind":"task_queued","at":,"task":"","name":"","step":0,"role":"node","after":[""],"parent":null,"label":"","released":""}
{"kind":"task_started","at":,"task":"","attempt":1,"waited_for":""}
{"kind":"task_finished","at":,"task":"","wrote":["messages"]}
{"kind":"step_finished","at":,"step":1}
{"kind":"run_finished","at":,"status":"done","error":"","peak":1}"""


def to_text(event: Mapping[str, Any]) -> str:
    """An event as JSON, on one line."""
    return json.dumps(event, separators=(",", ":"))


def packed(texts: Iterable[str]) -> bytes:
    """The value of a row with these events."""
    deflate = zlib.compressobj(wbits=_WINDOW, zdict=_WORDS)
    return _DEFLATED + deflate.compress("\n".join(texts).encode()) + deflate.flush()


def unpacked(text: str, value: bytes | None, where: str, longest: int = _LONGEST) -> list[str]:
    """The events of a row with this text, or this value, which opened takes at most `longest` bytes.

    Raises `CorruptRecordError`, which names `where`.
    """
    if value is None:
        return [text]
    if value[:1] != _DEFLATED:
        raise CorruptRecordError(f"{where} is in a form that this version does not know: it begins with {value[:1]!r}")
    try:
        inflate = zlib.decompressobj(wbits=_WINDOW, zdict=_WORDS)
        body = inflate.decompress(value[1:], longest)
        if not inflate.eof or inflate.unused_data:
            raise ValueError("it is not whole")
        return body.decode().split("\n")
    except (ValueError, zlib.error) as error:
        raise CorruptRecordError(f"{where} is not readable: {error}") from None


def chained(before: bytes, text: str) -> bytes:
    """The hash of an event: of what it says and of the hash of the one before it."""
    return hashlib.blake2b(before + text.encode(), digest_size=16).digest()


def chained_on(before: bytes, texts: Sequence[str]) -> bytes:
    """The hash of the last of these events, which follow one with the hash `before`."""
    for text in texts:
        before = chained(before, text)
    return before
