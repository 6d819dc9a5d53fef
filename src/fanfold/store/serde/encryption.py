"""Encryption at rest: AES-256-GCM, a fresh nonce a record, and the id of the key in the record.

An encrypted body is::

    length of the key id (1 byte) · key id · nonce (12 bytes) · ciphertext · tag (16 bytes)

The record's header and the key id are authenticated with it. So somebody who can write to the database but has no key
can neither read a record nor make or change one. They can still exchange whole records, put an old one back, and see
ids, times and lengths: the place of a record is not part of it, so that a thread can be copied.

Keys are rotated by putting a new one in front: the first key encrypts, all of them decrypt. A random nonce is safe for
2**32 records a key; exchange the key before that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fanfold.errors import MissingExtraError, StoreKeyError, UsageError

VARIABLE: Final = "FANFOLD_STORE_KEY"
PLAIN: Final = "plain"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
# Shorter than any key is written, so that a key in the place of an id is not taken for one, and not shown.
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
OVERHEAD: Final = 1 + 32 + _NONCE_BYTES + _TAG_BYTES
"""How many bytes encryption adds at most."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that encrypts, by its id, and all that decrypt. With `read_plain`, records without encryption are read
    as well: for the time after it was switched on for a store that had some.

    Raises `UsageError` for a key that is not 32 bytes, and for an id that is not 1 to 32 of letters, digits and `._-`.
    """

    current: str
    by_id: Mapping[str, bytes] = field(repr=False)
    read_plain: bool = False

    def __post_init__(self) -> None:
        for position, (name, key) in enumerate(self.by_id.items(), 1):
            _check_key(name, key, f"key {position} of the store")
        if self.current not in self.by_id:
            raise UsageError("the store's current key is not among its keys", hint="give `by_id` a key of that id")

    @classmethod
    def parse(cls, text: str, source: str = "the store's keys") -> Keys:
        """Keys from `new:KEY,old:KEY`: the first encrypts, all decrypt; with the word `plain` after them `read_plain`.

        A key is 32 bytes in hex or base64. Raises `UsageError`, which never shows a key.
        """
        entries = [entry.strip() for entry in text.split(",")]
        read_plain = len(entries) > 1 and entries[-1] == PLAIN
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(entries[:-1] if read_plain else entries, 1):
            name, colon, key = entry.partition(":")
            what = f"entry {position} of {source}"
            if not colon:
                raise UsageError(
                    f"{what} is not an id and a key", hint="write id:key, as in 2024:9f86d081..., and a comma"
                )
            if name in keys:
                raise UsageError(f"{what} has the same id as one before it")
            keys[name] = _check_key(name, _decoded(key), what)
        return cls(next(iter(keys)), keys, read_plain)


class Encryption:
    """Encrypts what a store keeps, with keys that are given, or asked for.

    A callable is asked once now, and again when a record names a key that it did not give: then somebody has rotated
    them. Raises `MissingExtraError` without `cryptography`. Used from any thread.
    """

    def __init__(self, keys: Keys | Callable[[], Keys]) -> None:
        self._cipher = _aesgcm()
        self._ask = None if isinstance(keys, Keys) else keys
        self._take(keys if isinstance(keys, Keys) else keys())

    @classmethod
    def from_environment(cls, variable: str = VARIABLE) -> Encryption | None:
        """With the keys of an environment variable, as `Keys.parse` reads them; None when it is not set."""
        text = os.environ.get(variable)
        return None if text is None else cls(Keys.parse(text, variable))

    @property
    def read_plain(self) -> bool:
        """Whether records without encryption are read as well."""
        return self._keys.read_plain

    def __repr__(self) -> str:
        return f"Encryption(current={self._keys.current!r}, keys={list(self._keys.by_id)!r})"

    def seal(self, body: bytes, header: bytes) -> bytes:
        """The encrypted form of `body`, which opens only with the same `header`."""
        name, cipher = self._current
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = cipher.encrypt(nonce, body, header + name)
        return name + nonce + sealed

    def open(self, sealed: bytes, header: bytes, where: str) -> bytes:
        """What was sealed. Raises `StoreKeyError` without its key, and `ValueError` for what nobody has sealed."""
        start = 1 + (sealed[0] if sealed else 0)
        nonce, rest = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        name = sealed[1:start].decode("ascii", "replace")
        if len(rest) < _TAG_BYTES or _KEY_ID.fullmatch(name) is None:
            raise ValueError("it is marked as encrypted, and has not the form of that")
        from cryptography.exceptions import InvalidTag

        try:
            body: bytes = self._cipher_of(name, where).decrypt(nonce, rest, header + sealed[:start])
        except InvalidTag:
            raise StoreKeyError(
                f"{where} does not open with key {name!r}: that key was another one when it was written, or somebody"
                " has changed the record"
            ) from None
        return body

    def fingerprint(self, body: bytes) -> bytes:
        """16 bytes that are the same for the same body and key, and tell nothing to who has no key."""
        return hashlib.blake2b(body, key=self._marking, digest_size=16).digest()

    def _take(self, keys: Keys) -> None:
        ciphers = {name: self._cipher(key) for name, key in keys.by_id.items()}
        self._keys, self._ciphers = keys, ciphers
        # A key of its own, so that no key does two things.
        self._marking = hashlib.blake2b(key=keys.by_id[keys.current], digest_size=32, person=b"fingerprint").digest()
        self._current = (bytes([len(keys.current)]) + keys.current.encode("ascii"), ciphers[keys.current])

    def _cipher_of(self, name: str, where: str) -> Any:
        if name not in self._ciphers and self._ask is not None:
            self._take(self._ask())
        if name not in self._ciphers:
            has = ", ".join(map(repr, self._keys.by_id))
            raise StoreKeyError(
                f"{where} is encrypted with key {name!r}, which is not among the keys of this store: {has}",
                hint="keep old keys behind the current one for as long as there are records of theirs",
            )
        return self._ciphers[name]


def _check_key(name: str, key: bytes, what: str) -> bytes:
    if _KEY_ID.fullmatch(name) is None:
        raise UsageError(f"the id of {what} is not 1 to 32 letters, digits, '.', '_' or '-'")
    if type(key) is not bytes or len(key) != _KEY_BYTES:
        raise UsageError(
            f"{what}, {name!r}, is not a key of {_KEY_BYTES} bytes in hex or base64",
            hint='make one with: python -c "import secrets; print(secrets.token_hex(32))"',
        )
    return key


def _decoded(text: str) -> bytes:
    """The bytes of hex or base64; empty for anything else, which is then told as a key of the wrong length."""
    text = text.strip()
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    text = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _aesgcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingExtraError(
            "what is stored is to be encrypted, and cryptography, which does it, is not installed",
            hint="pip install 'fanfold[crypto]'",
        ) from None
    return AESGCM
