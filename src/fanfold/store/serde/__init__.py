"""How a value becomes bytes and comes back: as data, and never as code.

A record is one MessagePack value in an envelope (`envelope`): a header with a checksum, and around the value, where a
store wants that, compression and encryption.

Decoding imports nothing, evaluates nothing and looks nothing up by a name that the bytes bring along, except in one
table: the classes that this process has registered (`registry`), which happens when a graph is compiled, from its
annotations. A row that somebody else wrote can therefore hold wrong *data*, but cannot run anything. The checksum is
against accidents; whoever writes the row on purpose writes the checksum too, and meets the limits on depth and size.

What comes back is equal to what went in and has exactly its type, or it is refused when it is written:

- None, bool, int of any size, float (with nan, inf, -0.0), complex, str (also with lone surrogates), bytes, bytearray;
- list, tuple, set, frozenset, dict with any storable and hashable key, in its order;
- datetime, date, time, timedelta, UUID, Decimal, paths. A time zone is kept as its offset at that moment
  (`datetime.timezone`): the instant is the same, the zone's name and rules are not kept. `time` with a zone that has
  no offset without a date is refused;
- numpy's arrays and scalars of plain numbers, dates and text (`arrays`);
- registered enums, dataclasses, pydantic models, NamedTuples, and subclasses of str, int, float and bytes. They are
  rebuilt from their fields *without* running `__init__`, `__post_init__` or validators, since those may change what
  was stored. A field that was added since takes its default; one that was removed is an error.

Anything else is refused: other subclasses of built-in types (`OrderedDict`, `defaultdict`: convert them with `dict`,
their behaviour is code and not data), memoryview, exceptions, functions, open things.
"""

from __future__ import annotations

from fanfold.store.serde.codec import Codec
from fanfold.store.serde.codes import MAX_DEPTH
from fanfold.store.serde.compression import COMPRESS_ABOVE
from fanfold.store.serde.encryption import Encryption, Keys
from fanfold.store.serde.envelope import MAX_BYTES, verify
from fanfold.store.serde.registry import register_type

__all__ = ["COMPRESS_ABOVE", "MAX_BYTES", "MAX_DEPTH", "Codec", "Encryption", "Keys", "register_type", "verify"]
