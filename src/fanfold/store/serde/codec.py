"""The codec of one graph: which classes it knows, and how what it writes is wrapped."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Protocol

from fanfold.store.serde.compression import zstd
from fanfold.store.serde.encryption import Encryption
from fanfold.store.serde.envelope import MAX_BYTES, Envelope
from fanfold.store.serde.reading import Reader
from fanfold.store.serde.registry import SHARED, Types
from fanfold.store.serde.writing import Writer, leaf, pack_plain
from fanfold.types import Send


class Keeps(Protocol):
    """What a codec asks of a store: where it learns classes, if it does not outlive the process.

    It may also say `encryption: Encryption | None` and `compress: bool`, which then hold for every record of it.
    """

    learned: Codec | None


class Codec:
    """Turns values into bytes and back. Registering is rare and done by compiling; use is from any thread.

    With `compress`, what is larger than 4 KB is compressed with zstd, and with `encryption` everything is encrypted.
    A codec reads what another one compressed without being told, and what it encrypted with the same keys.
    """

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, compress: bool = False, encryption: Encryption | None = None
    ) -> None:
        self._types = Types(SHARED)
        self._leaf = partial(leaf, self._types)
        self._envelope = _envelope(max_bytes, compress, encryption)
        self.register(Send)

    def register(self, cls: type, name: str | None = None) -> None:
        """Let values of exactly this class be stored, as `name` (else its module and qualified name).

        The same class again is fine, and so is a newer class of the same module and qualified name, as when a
        notebook's cell runs again: records are then read as the newer one. Raises `UsageError` for a class whose
        values are not plain data, and for a chosen name that another class has.
        """
        self._types.register(cls, name)

    def register_from(self, annotation: Any) -> None:
        """Register every storable class that a type annotation names, however deep: its fields' types too."""
        self._types.register_from(annotation)

    def bound(self, store: Keeps) -> Codec:
        """This codec for the records of one store: with its encryption and compression, where it has them.

        Where the store has a codec that learns, classes are registered in that as they are written. That is right only
        where no record outlives the process: there, every class that is read was written before.
        """
        codec = copy.copy(self)
        codec._types = self._types.learning(None if store.learned is None else store.learned._types)
        codec._leaf = partial(leaf, codec._types)
        codec._envelope = _envelope(
            self._envelope.max_bytes,
            self._envelope.compress or getattr(store, "compress", False),
            getattr(store, "encryption", None) or self._envelope.encryption,
        )
        return codec

    def encode(self, value: Any, where: str = "") -> bytes:
        """The record of `value`. `where` names it in errors, and the path starts with it: `state['items'][3]`.

        Raises `NotStorableError`. Without encryption, the bytes depend on the value alone: a set's are the same in
        every process.
        """
        body = pack_plain(self._leaf, value)
        if body is None:
            body = Writer(self._types, where).record(value)
        return self._envelope.closed(body, where)

    def decode(self, data: bytes, where: str = "") -> Any:
        """The value of a record; it shares nothing with any other.

        Raises `CorruptRecordError`, which names `where`; of an encrypted record whose key is not there or another one
        `StoreKeyError`; of a compressed one where zstd is not installed `MissingExtraError`; and nothing else.
        """
        body = self._envelope.opened(data if type(data) is bytes else bytes(memoryview(data)), where)
        return Reader(self._types, where).record(body)


def _envelope(max_bytes: int, compress: bool, encryption: Encryption | None) -> Envelope:
    if compress:
        zstd("to compress what is stored")  # told now, and not with the first large record
    return Envelope(max_bytes, compress, encryption)
