"""What is around the bytes of every value: who wrote them, in which form, and whether they are whole.

::

    codec id · version · form · CRC-32 of these three bytes and of the body (4 bytes, big endian) · body

The form says whether the body is MessagePack itself, or compressed, or encrypted, or both: then it was compressed
before it was encrypted. The checksum is of what is stored, so `verify` needs no key. It finds every single flipped bit
and every burst of up to 32, and a cut with a chance of all but one in four billion; it is against accidents, and who
changes a row on purpose changes it too. Encryption is against those.

A CRC costs a twelfth of encoding 1 KB, BLAKE2b a third.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from fanfold.errors import CorruptRecordError, NotStorableError, StoreKeyError
from fanfold.store.serde.compression import COMPRESS_ABOVE, compressed, decompressed
from fanfold.store.serde.encryption import OVERHEAD, VARIABLE, Encryption

CODEC_ID: Final = 0x46
VERSION: Final = 2
MAX_BYTES: Final = 256 * 2**20

HEADER: Final = struct.Struct(">BBBI")
_COMPRESSED: Final = 1
_ENCRYPTED: Final = 2
_STARTS: Final = tuple(bytes((CODEC_ID, VERSION, form)) for form in range(4))
_SEEDS: Final = tuple(map(crc32, _STARTS))


@dataclass(frozen=True, slots=True)
class Envelope:
    """How bodies are wrapped: up to which size, whether compressed, and with which keys."""

    max_bytes: int = MAX_BYTES
    compress: bool = False
    encryption: Encryption | None = None

    def closed(self, body: bytes, where: str) -> bytes:
        """The record of a body. Raises `NotStorableError` for one that is too large."""
        if len(body) + HEADER.size > self.max_bytes:
            raise NotStorableError(
                f"{where or 'the value'} takes {len(body):,} bytes, and a record holds at most {self.max_bytes:,}",
                hint="keep large data in a file and its path in the state",
            )
        form = 0
        if self.compress and len(body) > COMPRESS_ABOVE:
            shorter = compressed(body)
            form, body = (_COMPRESSED, shorter) if len(shorter) < len(body) else (0, body)
        if self.encryption is not None:
            form |= _ENCRYPTED
            body = self.encryption.seal(body, _STARTS[form])
        return HEADER.pack(CODEC_ID, VERSION, form, crc32(body, _SEEDS[form])) + body

    def opened(self, record: bytes, where: str) -> bytes:
        """The body of a record. Raises `CorruptRecordError`, and `StoreKeyError` without its key."""
        name = where or "the record"
        self._check_size(len(record) - (0 if self.encryption is None else OVERHEAD), name)
        form, body = _checked(record, name)
        if form or self.encryption is not None:
            body = self._unwrapped(form, body, name)
            self._check_size(len(body) + HEADER.size, name)
        return body

    def _unwrapped(self, form: int, body: bytes, name: str) -> bytes:
        try:
            body = self._decrypted(form, body, name)
            return decompressed(body, self.max_bytes - HEADER.size, name) if form & _COMPRESSED else body
        except ValueError as error:
            raise CorruptRecordError(f"cannot read {name}: {error}") from None

    def _decrypted(self, form: int, body: bytes, name: str) -> bytes:
        if form & _ENCRYPTED:
            if self.encryption is None:
                raise StoreKeyError(
                    f"{name} is encrypted{_key_id(body)}, and this store has no keys",
                    hint=f"set {VARIABLE}, or give the store its `encryption`",
                )
            return self.encryption.open(body, _STARTS[form], name)
        if self.encryption is not None and not self.encryption.read_plain:
            raise StoreKeyError(
                f"{name} is not encrypted, and everything in this store has to be",
                hint="if it is older than the encryption: read_plain=True, or `plain` after the keys, reads it",
            )
        return body

    def _check_size(self, size: int, name: str) -> None:
        if size > self.max_bytes:
            raise CorruptRecordError(f"{name} is {size:,} bytes long, and a record holds at most {self.max_bytes:,}")


def verify(data: bytes, where: str) -> None:
    """Check that a record is whole, without a key and without knowing any class. Raises `CorruptRecordError`."""
    _checked(data, where or "the record")


def _checked(data: bytes, name: str) -> tuple[int, bytes]:
    """The form and the body of a record whose header and checksum are right."""
    if len(data) < HEADER.size:
        raise CorruptRecordError(f"{name} is cut off: {len(data)} bytes, and its header alone has {HEADER.size}")
    codec, version, form, checksum = HEADER.unpack_from(data)
    if codec != CODEC_ID:
        raise CorruptRecordError(f"{name} was not written by this codec: it begins with {data[:2].hex(' ')}")
    if version != VERSION:
        raise CorruptRecordError(
            f"{name} has version {version} of the record format, and this fanfold reads version {VERSION}",
            hint="read it with the version of fanfold that wrote it, or a newer one",
        )
    if form >= len(_STARTS):
        raise CorruptRecordError(f"{name} has form {form}, which this version of the record format does not have")
    body = data[HEADER.size :]
    if crc32(body, _SEEDS[form]) != checksum:
        raise CorruptRecordError(f"{name} is damaged: its checksum does not fit; bytes were lost, added or changed")
    return form, body


def _key_id(body: bytes) -> str:
    """The key's id in an encrypted body, for an error, as far as it can be told."""
    name = body[1 : 1 + body[0]].decode("ascii", "replace") if body else ""
    return f" with key {name!r}" if name.isprintable() and 0 < len(name) <= 32 else ""
