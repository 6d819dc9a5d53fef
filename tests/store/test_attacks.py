"""What somebody can do who writes to the database: have rows refused. Nothing runs, nothing is imported.

Each attack is a row as such a person makes it, with a header and a checksum that are right where that helps them. It
must end in an error that names the row, in bounded time and memory.
"""

from __future__ import annotations

import enum
import pickle
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy
import ormsgpack
import pytest
from backports import zstd
from ormsgpack import Ext
from pydantic import BaseModel

from fanfold.errors import CorruptRecordError, StoreError, StoreKeyError
from fanfold.store.serde import Codec, Encryption, Keys, codes, envelope, verify

COMPRESSED, ENCRYPTED = 1, 2
TYPE_NAMES = ["os.system", "posix.system", "builtins.eval", "subprocess.Popen", "fanfold.cli.cli", "a.b.c.d", "", "."]


class Color(enum.Enum):
    RED = "red"


class Rights(enum.Flag):
    READ = 1


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


class Tally(int):
    pass


class Inner(BaseModel):
    at: datetime


def made(**options: Any) -> Codec:
    codec = Codec(**options)
    for cls in (Color, Rights, Point, Tally, Inner):
        codec.register(cls)
    return codec


CODEC = made()
KEYS = Keys("k1", {"k1": b"1" * 32})
SECRET = made(encryption=Encryption(KEYS))
VALUE = {"a": [(1, "two"), {3: Point(1)}], "at": datetime(2024, 1, 1), "c": Color.RED, "n": numpy.arange(3)}


def sealed(body: bytes, form: int = 0) -> bytes:
    """A record with a right header, as somebody makes it who writes the row on purpose."""
    start = bytes((envelope.CODEC_ID, envelope.VERSION, form))
    return start + crc32(start + body).to_bytes(4, "big") + body


def packed(value: Any) -> bytes:
    return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)


def nested(levels: int, wrap: Callable[[Any], Any], leaf: Any = None) -> Any:
    for _ in range(levels):
        leaf = wrap(leaf)
    return leaf


class Tripwire:
    """Notes what no decoder has any business with, from the interpreter's own audit events."""

    FORBIDDEN = ("exec", "compile", "open", "pickle.find_class", "marshal.loads", "socket.connect", "import")

    def __init__(self) -> None:
        self.armed = False
        self.tripped: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and (event in self.FORBIDDEN or event.startswith(("os.", "subprocess.", "ctypes."))):
            self.tripped.append(f"{event} {arguments!r:.80}")


_WIRE = Tripwire()  # once: an audit hook cannot be taken away


@pytest.fixture
def tripwire() -> Iterator[Tripwire]:
    _WIRE.tripped.clear()
    yield _WIRE
    _WIRE.armed = False


def refused(record: bytes, codec: Codec, tripwire: Tripwire, error: type[StoreError] = CorruptRecordError) -> str:
    """The message of the refusal, when it is one, names the row, and nothing ran."""
    tripwire.armed = True
    try:
        with pytest.raises(error) as caught:
            codec.decode(record, "task_result 7")
    finally:
        tripwire.armed = False
    assert not tripwire.tripped
    message = str(caught.value)
    assert "task_result 7" in message
    assert len(message) < 600
    return message


class Exploit:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code ran')",))


PICKLE = pickle.dumps(Exploit())


def an_object(name: Any, *pairs: Any) -> bytes:
    return packed(Ext(31, packed([name, *pairs])))


ATTACKS: dict[str, bytes] = {
    "pickle": pickle.dumps(Exploit()),
    "sealed pickle": sealed(pickle.dumps(Exploit())),
    "json": b'{"lc": 2, "type": "constructor", "id": ["os", "system"]}',
    "nothing": b"",
    "header only": sealed(b""),
    "wrong codec": b"\x00" + CODEC.encode(1)[1:],
    "older version": b"\x46\x01" + CODEC.encode(1)[2:],
    "newer version": b"\x46\x03" + CODEC.encode(1)[2:],
    **{f"unknown form {form}": CODEC.encode(1)[:2] + bytes([form]) + CODEC.encode(1)[3:] for form in (4, 128, 255)},
    "trailing": CODEC.encode([1]) + b"\x00",
    "reserved byte": sealed(b"\xc1"),
    "array longer than the record": sealed(b"\xdd\xff\xff\xff\xff"),
    "array of billions": sealed(b"\xdd\xbf\x81\x00\xff\xd2"),  # ends the process, with ormsgpack before 1.13
    "map longer than the record": sealed(b"\xdf\xff\xff\xff\xff"),
    "text longer than the record": sealed(b"\xdb\xff\xff\xff\xff"),
    "bytes longer than the record": sealed(b"\xc6\xff\xff\xff\xff"),
    "extension longer than the record": sealed(b"\xc9\xff\xff\xff\xff\x14"),
    "array of billions in a tuple": sealed(packed(Ext(20, b"\xdd\xff\xff\xff\xff"))),
    "int keys": sealed(b"\x81\x01\x02"),
    "bad utf-8": sealed(b"\xa1\xff"),
    **{f"unknown extension {code}": sealed(packed([Ext(code, b"\x90")])) for code in (0, 6, 24, 32, 127)},
    "timestamp": sealed(b"\xd6\xff\x00\x00\x00\x01"),
    "os.system": sealed(an_object("os.system", "command", "echo code ran")),
    "enum os.system": sealed(packed(Ext(30, packed(["os.system", "echo code ran"])))),
    "builtins.eval": sealed(an_object("builtins.eval", "source", "1")),
    **{f"the type {name}": sealed(an_object(name, "x", 1)) for name in TYPE_NAMES},
    **{f"the enum {name}": sealed(packed(Ext(30, packed([name, "x"])))) for name in TYPE_NAMES},
    "name of no text": sealed(an_object(7)),
    "name of a list": sealed(an_object(["os", "system"])),
    "no name": sealed(packed(Ext(31, packed([])))),
    "object of no parts": sealed(packed(Ext(31, packed("fanfold.types.Send")))),
    "half a field": sealed(an_object("fanfold.types.Send", "node")),
    "field twice": sealed(an_object("fanfold.types.Send", "node", 1, "node", 2)),
    "missing field": sealed(an_object("fanfold.types.Send", "node", 1)),
    "unknown field": sealed(an_object("fanfold.types.Send", "node", "n", "arg", 1, "__class__", 1)),
    "unhashable field": sealed(an_object("fanfold.types.Send", [], 1)),
    "enum as object": sealed(an_object(f"{__name__}.Color", "member", "RED")),
    "object as enum": sealed(packed(Ext(30, packed(["fanfold.types.Send", "x"])))),
    "no such member": sealed(packed(Ext(30, packed([f"{__name__}.Color", "__class__"])))),
    "member of no text": sealed(packed(Ext(30, packed([f"{__name__}.Color", []])))),
    "flag of no number": sealed(packed(Ext(30, packed([f"{__name__}.Rights", "1"])))),
    "flag unknown": sealed(packed(Ext(30, packed([f"{__name__}.Rights", 4096])))),
    "text as int subclass": sealed(an_object(f"{__name__}.Tally", "value", "7")),
    "model with extra": sealed(an_object(f"{__name__}.Inner", "at", 1, "+x", 1)),
    "model with a bad set": sealed(an_object(f"{__name__}.Inner", "", 5, "at", 1)),
    "tuple of no list": sealed(packed(Ext(20, packed({"a": 1})))),
    "set with a list": sealed(packed(Ext(21, packed([[1]])))),
    "set with twice the same": sealed(packed(Ext(22, packed([1, 1])))),
    "odd map": sealed(packed(Ext(23, packed([1])))),
    "map with a list as key": sealed(packed(Ext(23, packed([[], 1])))),
    "map with a key twice": sealed(packed(Ext(23, packed([1, 1, 1, 2])))),
    "empty extension": sealed(b"\xc7\x00\x14"),
    **{f"leaf {code} of nonsense": sealed(packed([Ext(code, b"nonsense")])) for code in (2 + 2, 5, 10, 11, 12, 13, 14)},
    "path of no kind": sealed(packed(Ext(15, b"/etc"))),
    "moment without text": sealed(packed(Ext(10, b""))),
    "huge days": sealed(packed(Ext(13, struct.pack(">iii", 2**31 - 1, 0, 0)))),
    "deep lists": sealed(b"\x91" * 100_000 + b"\xc0"),
    "somewhat deep lists": sealed(b"\x91" * 201 + b"\xc0"),
    "deep maps": sealed(b"\x81\xa1a" * 5000 + b"\xc0"),
    "deep tuples": sealed(nested(5000, lambda body: packed(Ext(20, b"\x91" + body)), b"\xc0")),
    "tuples of deep lists": sealed(
        nested(60, lambda body: packed(Ext(20, b"\x91" * 1000 + body)), b"\xc0"),
    ),
}


def an_array(*parts: Any) -> bytes:
    return sealed(packed(Ext(40, packed(list(parts)))))


ARRAYS: dict[str, bytes] = {
    "objects": an_array("|O", [1], b"\x00" * 8),
    "pickled objects": an_array("|O", [1], PICKLE),
    "a structure": an_array("i4,O", [1], b"\x00" * 12),
    "a huge structure": an_array("(1000000,1000000)i4", [1], b""),
    "a void": an_array("|V8", [1], b"\x00" * 8),
    "no type": an_array("os.system", [1], b"\x00" * 8),
    "a type that is no text": an_array(["<i8"], [1], b"\x00" * 8),
    "a longdouble": an_array("<f16", [1], b"\x00" * 16),
    "huge texts": an_array("<U999999999", [0], b""),
    "texts without size": an_array("<U0", [2**40], b""),
    "a huge shape": an_array("<i8", [2**40], b"\x00" * 8),
    "a huge empty shape": an_array("<i8", [0, 2**62, 2**62], b""),
    "a negative shape": an_array("<i8", [-1], b"\x00" * 8),
    "two negative axes": an_array("<i8", [-1, -1], b"\x00" * 8),
    "a shape of text": an_array("<i8", ["1"], b"\x00" * 8),
    "a shape that is no list": an_array("<i8", 1, b"\x00" * 8),
    "many axes": an_array("<i8", [1] * 100, b"\x00" * 8),
    "too little data": an_array("<i8", [2], b"\x00" * 8),
    "data that is text": an_array("|i1", [1], "x"),
    "a boolean of seven": an_array("|b1", [1], b"\x07"),
    "a character beyond the last": an_array("<U1", [1], b"\xff\xff\xff\x7f"),
    "a character beyond the last, big endian": an_array(">U1", [1], b"\x7f\xff\xff\xff"),
    "an unknown unit of time": an_array("<M8[zz]", [1], b"\x00" * 8),
    "no parts": an_array(),
    "no list": sealed(packed(Ext(40, packed(7)))),
    "a number of objects": sealed(packed(Ext(41, packed(["|O", b"\x00" * 8])))),
    "a number that is text": sealed(packed(Ext(41, packed(["U", "text"])))),
    "a number too short": sealed(packed(Ext(41, packed(["<i8", b"\x00"])))),
}


@pytest.mark.parametrize("record", ATTACKS.values(), ids=ATTACKS.keys())
def test_hostile_bytes_are_a_corrupt_record_and_nothing_else(record: bytes, tripwire: Tripwire) -> None:
    before = set(sys.modules)
    refused(record, CODEC, tripwire)
    assert set(sys.modules) == before


@pytest.mark.parametrize("record", ARRAYS.values(), ids=ARRAYS.keys())
def test_a_hostile_array_is_a_corrupt_record(record: bytes, tripwire: Tripwire) -> None:
    refused(record, CODEC, tripwire)


def test_the_tripwire_trips(tripwire: Tripwire) -> None:
    tripwire.armed = True
    with pytest.raises(SystemExit, match="code ran"):
        pickle.loads(PICKLE)
    tripwire.armed = False
    assert any(event.startswith("exec") for event in tripwire.tripped)
    assert any(event.startswith("pickle.find_class") for event in tripwire.tripped)


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_a_type_that_is_not_registered_is_named(name: str, tripwire: Tripwire) -> None:
    assert f"no class is registered as {name!r}" in refused(sealed(an_object(name)), CODEC, tripwire)


def slots() -> dict[str, Callable[[Any], Any]]:
    """Every place in which a record holds bytes of somebody's choice."""
    extensions = [number for name, number in vars(codes).items() if name.isupper() and type(number) is int]
    return {
        "the row": lambda payload: payload,
        "the body": sealed,
        "the compressed body": lambda payload: sealed(payload, COMPRESSED),
        "what was compressed": lambda payload: sealed(zstd.compress(payload), COMPRESSED),
        "the encrypted body": lambda payload: sealed(payload, ENCRYPTED),
        "the name of a class": lambda payload: sealed(an_object(payload, "x", 1)),
        "the name of a field": lambda payload: sealed(an_object(f"{__name__}.Point", payload, 1)),
        "the name of a member": lambda payload: sealed(packed(Ext(30, packed([f"{__name__}.Color", payload])))),
        **{
            f"extension {code}": lambda payload, code=code: sealed(packed(Ext(code, payload)))
            for code in sorted({*extensions, 0, 99, 127} - {codes.TEXT, codes.BYTEARRAY, codes.INT})
            if code <= 127
        },
    }


@pytest.mark.parametrize("slot", slots().values(), ids=slots().keys())
def test_a_pickle_is_opened_in_no_slot(slot: Callable[[bytes], bytes], tripwire: Tripwire) -> None:
    refused(slot(PICKLE), CODEC, tripwire, StoreError)


def test_a_pickle_where_bytes_belong_stays_bytes(tripwire: Tripwire) -> None:
    tripwire.armed = True
    assert CODEC.decode(sealed(packed(PICKLE))) == PICKLE
    assert CODEC.decode(sealed(packed(Ext(codes.BYTEARRAY, PICKLE)))) == bytearray(PICKLE)
    assert not tripwire.tripped


WHOLE: dict[str, tuple[Codec, bytes]] = {
    "plain": (CODEC, CODEC.encode(VALUE)),
    "compressed": (CODEC, made(compress=True).encode(["lorem ipsum"] * 600)),
    "encrypted": (SECRET, SECRET.encode(VALUE)),
}
whole = pytest.mark.parametrize(("codec", "record"), WHOLE.values(), ids=WHOLE.keys())


@whole
def test_every_truncation_is_refused(codec: Codec, record: bytes) -> None:
    for end in range(len(record)):
        with pytest.raises(CorruptRecordError, match=r"^row 7 is (cut off|damaged)"):
            codec.decode(record[:end], "row 7")
        with pytest.raises(CorruptRecordError, match=r"^row 7 is (cut off|damaged)"):
            verify(record[:end], "row 7")


@whole
def test_every_single_flipped_bit_is_refused(codec: Codec, record: bytes) -> None:
    for bit in range(8 * len(record)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecordError, match=r"^row 7 "):
            codec.decode(bytes(flipped), "row 7")
        with pytest.raises(CorruptRecordError, match=r"^row 7 "):
            verify(bytes(flipped), "row 7")


@whole
def test_whatever_stands_after_the_end_is_refused(codec: Codec, record: bytes) -> None:
    for more in (b"\x00", b"\xc0", record):
        with pytest.raises(CorruptRecordError, match="row 7 is damaged"):
            codec.decode(record + more, "row 7")


@whole
def test_a_whole_record_passes_without_a_key_or_a_class(codec: Codec, record: bytes) -> None:
    verify(record, "row 7")


@whole
def test_truncations_with_a_right_checksum_are_refused_too(codec: Codec, record: bytes) -> None:
    body, form = record[envelope.HEADER.size :], record[2]
    for end in range(len(body)):
        with pytest.raises(StoreError, match="row 7"):
            codec.decode(sealed(body[:end], form), "row 7")


# -- bounded time and memory ------------------------------------------------------------------------------------------

FLOODS: dict[str, bytes] = {
    "a billion nested lists": sealed(zstd.compress(b"\x91" * 2**30), COMPRESSED),
    "ten million nested lists": sealed(b"\x91" * 10_000_000 + b"\xc0"),
    "a million nested tuples": sealed(b"\xc9\xff\xff\xff\xff\x14\x91" * 1_000_000),
    "a list of four billion": sealed(b"\xdd\xff\xff\xff\xff" + b"\xc0" * 1000),
    "lists of four billion in each other": sealed(b"\xdd\xff\xff\xff\xff" * 150),
    "maps of four billion in each other": sealed(b"\xdf\xff\xff\xff\xff\xa1a" * 150),
    "a zstd frame of 256 MB and more": sealed(zstd.compress(bytes(257 * 2**20)), COMPRESSED),
    "a zstd frame that says it is small": b"",  # made below
    "a zstd frame that does not say": b"",
    "a zstd frame with a window of 2 GB": sealed(
        b"\x28\xb5\x2f\xfd" + bytes([0b1000_0000, 21 << 3]) + struct.pack("<I", 1000) + b"\x01\x00\x00", COMPRESSED
    ),
}


def _lying_frame() -> bytes:
    """A frame of 10 MB whose header says 1,000 bytes: four bytes of size at a place that its descriptor tells."""
    frame = bytearray(zstd.compress(bytes(10 * 2**20)))
    at = 4 + 1 + (0 if frame[4] & 0x20 else 1)
    assert frame[4] >> 6 == 2
    assert struct.unpack_from("<I", frame, at) == (10 * 2**20,)
    struct.pack_into("<I", frame, at, 1000)
    return bytes(frame)


def _silent_frame() -> bytes:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.content_size_flag: 0})
    return compressor.compress(bytes(10 * 2**20)) + compressor.flush()


FLOODS["a zstd frame that says it is small"] = sealed(_lying_frame(), COMPRESSED)
FLOODS["a zstd frame that does not say"] = sealed(_silent_frame(), COMPRESSED)


@pytest.mark.timed
@pytest.mark.parametrize("record", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_refused_in_bounded_time_and_memory(record: bytes, tripwire: Tripwire) -> None:
    refused(record, CODEC, tripwire)  # before it is measured: imports and caches are not its own
    tracemalloc.start()
    try:
        began = time.process_time()
        refused(record, CODEC, tripwire)
        took = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took < 2
    assert peak < 4 * len(record) + 4 * 2**20


def test_a_bomb_is_refused_by_the_limit_of_its_codec(tripwire: Tripwire) -> None:
    bomb = made(compress=True).encode(bytes(2**20))
    assert len(bomb) < 1000
    assert CODEC.decode(bomb) == bytes(2**20)
    message = refused(bomb, Codec(max_bytes=2**16), tripwire)
    assert "it would take 1,048,5" in message


# -- encrypted records ------------------------------------------------------------------------------------------------


def resealed(record: bytes, change: Callable[[bytearray], None], form: int = ENCRYPTED) -> bytes:
    body = bytearray(record[envelope.HEADER.size :])
    change(body)
    return sealed(bytes(body), form)


def test_an_encrypted_record_with_another_header_is_refused(tripwire: Tripwire) -> None:
    record = SECRET.encode(VALUE)
    swapped = resealed(record, lambda body: None, COMPRESSED | ENCRYPTED)
    assert "does not open with key 'k1'" in refused(swapped, SECRET, tripwire, StoreKeyError)
    stripped = resealed(record, lambda body: None, 0)
    assert "is not encrypted" in refused(stripped, SECRET, tripwire, StoreKeyError)


def test_an_encrypted_record_under_the_name_of_another_key_is_refused(tripwire: Tripwire) -> None:
    both = made(encryption=Encryption(Keys("k1", {"k1": b"1" * 32, "k2": b"1" * 32})))  # even if the keys are one
    record = resealed(SECRET.encode(VALUE), lambda body: body.__setitem__(slice(1, 3), b"k2"))
    assert "does not open with key 'k2'" in refused(record, both, tripwire, StoreKeyError)


def test_every_single_flipped_bit_of_an_encrypted_body_is_refused_though_its_checksum_is_right() -> None:
    record = SECRET.encode([1, 2])
    for bit in range(8 * (len(record) - envelope.HEADER.size)):

        def flip(body: bytearray, bit: int = bit) -> None:
            body[bit // 8] ^= 1 << bit % 8

        with pytest.raises(StoreError, match="row 7"):
            SECRET.decode(resealed(record, flip), "row 7")


def test_a_plain_record_cannot_be_put_in_the_place_of_an_encrypted_one(tripwire: Tripwire) -> None:
    assert "is not encrypted" in refused(CODEC.encode(VALUE), SECRET, tripwire, StoreKeyError)


@pytest.mark.parametrize("name", [b"", b"\x00" * 8, b"../../key", b"k" * 200, b"\xff\xfe"])
def test_the_name_of_a_key_is_only_looked_up(name: bytes, tripwire: Tripwire) -> None:
    record = sealed(bytes([len(name)]) + name + bytes(12) + bytes(40), ENCRYPTED)
    refused(record, SECRET, tripwire, StoreError)
    refused(record, CODEC, tripwire, StoreError)


def test_verify_finds_what_is_no_record_at_all() -> None:
    for data in (b"", b"F", PICKLE, b'{"lc": 1}'):
        with pytest.raises(CorruptRecordError, match=r"^checkpoint 3 of thread 't' "):
            verify(data, "checkpoint 3 of thread 't'")


def test_the_source_has_no_way_to_run_what_is_stored() -> None:
    package = Path(envelope.__file__).parent
    for file in package.glob("*.py"):
        for word in ("pickle", "eval(", "exec(", "__import__", "marshal", "shelve"):
            assert word not in file.read_text(), (file.name, word)
