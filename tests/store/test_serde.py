"""Values come back as they were, or are refused. What the bytes of others can do is in `test_attacks`."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import struct
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ormsgpack import Ext
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from fanfold.errors import CorruptRecordError, MissingExtraError, NotStorableError, UsageError
from fanfold.store.serde import (
    COMPRESS_ABOVE,
    MAX_DEPTH,
    Codec,
    codes,
    compression,
    envelope,
    reading,
    register_type,
    registry,
    writing,
)
from fanfold.types import Send


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Mood(str, enum.Enum):  # noqa: UP042  (not StrEnum: this is the one that goes wrong elsewhere)
    GLAD = "glad"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: Any = None


@dataclass
class Counted:
    """A class whose constructor would change what was stored."""

    n: int
    log: list[Any] = field(default_factory=list)
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.n += 1
        self.double = 2 * self.n


class Pair(NamedTuple):
    left: Any
    right: Any = "default"


class UserId(str):
    def __str__(self) -> str:
        return "hidden"


class Tally(int):
    pass


class Inner(BaseModel):
    at: datetime
    tags: set[str] = set()


class Special(Inner):
    extra_field: int = 3


class Outer(BaseModel):
    model_config = ConfigDict(extra="allow")
    inner: Inner
    name: str = Field(default="n", alias="Name")
    _secret: int = PrivateAttr(default=7)

    @field_validator("name", mode="before")
    @classmethod
    def shout(cls, value: str) -> str:
        return value + "!"


def made(*classes: type) -> Codec:
    codec = Codec()
    for cls in classes:
        codec.register(cls)
    return codec


CODEC = made(Color, Level, Mood, Rights, Point, Counted, Pair, UserId, Tally, Inner, Special, Outer)


def same(left: Any, right: Any) -> bool:
    """Equality that also holds for nan and asks for the same types, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack(">d", left) == struct.pack(">d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left))
    if isinstance(left, (datetime, time)):
        return left.isoformat() == right.isoformat() and left.fold == right.fold
    return bool(left == right)


def comes_back(value: Any, codec: Codec = CODEC) -> bool:
    return same(value, codec.decode(codec.encode(value)))


def sealed(body: bytes) -> bytes:
    """A record with a right header, as somebody makes it who writes the row on purpose."""
    return envelope.Envelope().closed(body, "")


def packed(value: Any) -> bytes:
    return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)


def nested(levels: int, wrap: Callable[[Any], Any], leaf: Any = None) -> Any:
    for _ in range(levels):
        leaf = wrap(leaf)
    return leaf


# -- the law ----------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=6)  # with lone surrogates
zones = st.one_of(st.none(), st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))))
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    texts,
    st.binary(max_size=6),
    st.complex_numbers(allow_nan=False),
    st.decimals().filter(lambda d: not d.is_snan()),  # a signaling nan has no hash
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    st.datetimes(timezones=zones),
    st.times(timezones=zones),
    st.sampled_from([*Color, *Level, *Mood, Rights.READ | Rights.WRITE, UserId("u\ud800"), Tally(2**70)]),
    texts.filter(lambda t: "\0" not in t).map(Path),
)
hashables = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=4,
)
values = st.recursive(
    hashables | st.binary(max_size=4).map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.sets(hashables, max_size=3),
        st.builds(Counted, st.integers(), st.lists(inner, max_size=2)),
        st.builds(Send, st.text(max_size=5), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(values)
def test_every_storable_value_comes_back_with_its_types(value: Any) -> None:
    assert comes_back(value)


@settings(max_examples=150, deadline=None)
@given(values)
def test_what_came_back_is_written_to_the_same_bytes(value: Any) -> None:
    record = CODEC.encode(value)
    assert CODEC.encode(CODEC.decode(record)) == record


@settings(max_examples=150, deadline=None)
@given(values, st.data())
def test_no_damage_goes_unnoticed(value: Any, data: st.DataObject) -> None:
    record = bytearray(CODEC.encode(value))
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecordError):
        CODEC.decode(bytes(record))


@settings(max_examples=400, deadline=None)
@given(values, st.data())
def test_a_changed_record_with_a_right_checksum_is_a_value_or_a_corrupt_record(value: Any, data: st.DataObject) -> None:
    body = bytearray(CODEC.encode(value)[envelope.HEADER.size :])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CorruptRecordError):
        CODEC.decode(sealed(bytes(body)))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60) | st.tuples(st.integers(0, 127), st.binary(max_size=30)).map(lambda e: packed(Ext(*e))))
def test_arbitrary_bytes_are_a_value_or_a_corrupt_record(body: bytes) -> None:
    with suppress(CorruptRecordError):
        CODEC.decode(sealed(body))


# -- single kinds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        float("nan"),
        2**64,
        -(2**63) - 1,
        10**5000,
        {10**5000: (1,)},
        "a\ud800b",
        {"\udfff": 1},
        bytearray(b"x"),
        {"deep": [{"er": [bytearray(b"x"), b"x"]}]},
        ("a", ("b",), ["c"], ()),
        {True: "bool", 2: "int", None: "none", (1, "x"): "tuple", b"b": "bytes", frozenset({1}): "set"},
        {1.0: "float"},
        Decimal("sNaN12"),
        Decimal("-0.00"),
        Decimal("1E+99999"),
        PurePosixPath("/a/b"),
        PureWindowsPath("c:\\x"),
        Path("rel/../x\udcff"),
        datetime(1, 1, 1, fold=1),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, seconds=7, microseconds=3))),
        timedelta.min,
        timedelta.max,
        date.max,
        UUID(int=5),
        Rights.READ | Rights.WRITE,
        Rights(0),
        UserId("x"),
        Send("node", {"k": (1,)}),
        {1: {2: {3: [Point(1, {"a": (Point(2),)})]}}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_comes_back_exactly(value: Any) -> None:
    assert comes_back(value)


def test_keys_that_are_equal_in_python_keep_their_own_type() -> None:
    for key in (1, True, 1.0, Level.LOW, Tally(1)):
        (back,) = CODEC.decode(CODEC.encode({key: "v"}))
        assert type(back) is type(key)


def test_an_aware_datetime_keeps_its_instant_and_offset() -> None:
    moment = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Australia/Sydney"))
    back = CODEC.decode(CODEC.encode(moment))
    assert back == moment
    assert back.tzinfo == timezone(timedelta(hours=10))
    assert CODEC.decode(CODEC.encode(datetime.now(UTC))).tzinfo is UTC


def test_a_time_whose_zone_needs_a_date_is_refused() -> None:
    with pytest.raises(NotStorableError, match=r"state\['t'\]: datetime\.time has no stored form: its time zone"):
        CODEC.encode({"t": time(1, tzinfo=ZoneInfo("Australia/Sydney"))}, "state")


def test_a_dataclass_is_rebuilt_without_its_constructor() -> None:
    value = Counted(1, [Point(1, (2,))])
    assert CODEC.decode(CODEC.encode(value)) == value
    assert value.n == 2


def test_a_pydantic_model_keeps_subclass_extra_private_and_set_fields_unvalidated() -> None:
    model = Outer(inner=Special(at=datetime(2024, 1, 1), tags={"b", "a"}), more=(1, 2))
    model._secret = 9
    back = CODEC.decode(CODEC.encode([model]))[0]
    assert back == model
    assert type(back.inner) is Special
    assert back.more == (1, 2)
    assert back._secret == 9
    assert back.model_fields_set == model.model_fields_set == {"inner", "more"}


def test_a_validator_does_not_run_again() -> None:
    model = Outer(inner=Inner(at=datetime(2024, 1, 1)), Name="x")
    assert CODEC.decode(CODEC.encode(model)).name == model.name == "x!"


def test_a_set_has_the_same_bytes_in_every_process() -> None:
    program = (
        "from fanfold.store.serde import Codec;"
        "print(Codec().encode([{'a', 'b', 'c', 'd', 'e'}, {1: frozenset('xyz')}]).hex())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_a_value_that_was_read_shares_nothing_with_another() -> None:
    record = CODEC.encode({"a": [1]})
    first = CODEC.decode(record)
    first["a"].append(2)
    assert CODEC.decode(record) == {"a": [1]}


def test_records_may_be_read_from_any_kind_of_buffer() -> None:
    record = CODEC.encode([1])
    assert CODEC.decode(memoryview(record)) == CODEC.decode(bytearray(record)) == [1]  # type: ignore[arg-type]


# -- refused when written ---------------------------------------------------------------------------------------------


class Unknown:
    pass


@dataclass
class Unregistered:
    client: Any = None


class FakeList(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        defaultdict(list),
        FakeList([1]),
        type("FakeStr", (str,), {})("x"),
        type("FakeInt", (int,), {})(1),
        enum.Enum("Other", "A").A,  # type: ignore[attr-defined]
        enum.IntEnum("OtherInt", "A").A,  # type: ignore[attr-defined]
        namedtuple("Bare", "a")(1),
        memoryview(b"x"),
        ValueError("x"),
        range(3),
        len,
        Unknown,
        Unknown(),
        Unregistered(),
        object(),
        (n for n in ()),
        type("Moment", (datetime,), {})(2024, 1, 1),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("within", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}, lambda v: {"k": 1, "j": {2: v}}])
def test_what_would_change_its_type_is_refused(value: Any, within: Callable[[Any], Any]) -> None:
    with pytest.raises(NotStorableError, match="no stored form"):
        CODEC.encode(within(value))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"items": [1, 2, 3, Point(0, Unknown())]}, r"state['items'][3].y: "),
        ({"a": {(1, 2): {4: [Unknown()]}}}, r"state['a'][<tuple>][4][0]: "),
        ({"a": {Unknown(): 1}}, r"state['a'].keys(): "),
        ({"a": {Unknown()}}, r"state['a']{...}: "),
        ([Send("n", {"x": Unknown()})], r"state[0].arg['x']: "),
        (Pair(1, Unknown()), "state.right: "),
        (Unknown(), "state: "),
        (Outer(inner=Inner(at=datetime(2024, 1, 1)), more=Unknown()), "state.more: "),
        ({10**5000: {True: Unknown()}}, "state[<int>][True]: "),
        ({"k" * 500: Unknown()}, "state['" + "k" * 76 + "...]: "),
    ],
)
def test_a_refusal_names_the_path_and_the_type(value: Any, path: str) -> None:
    with pytest.raises(NotStorableError) as caught:
        CODEC.encode(value, "state")
    assert str(caught.value).startswith(f"cannot store {path}{__name__}.Unknown has no stored form")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Unregistered(), "name its class in the state's annotations"),
        (OrderedDict(), "convert it with dict(...)"),
        (KeyError(), "store str(error)"),
        (object(), "outside of the state"),
    ],
)
def test_a_refusal_says_what_to_do(value: Any, hint: str) -> None:
    with pytest.raises(NotStorableError) as caught:
        CODEC.encode(value)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_scalar_with_attributes_is_refused() -> None:
    value = UserId("x")
    value.note = "lost"  # type: ignore[attr-defined]
    with pytest.raises(NotStorableError, match="attributes besides its value"):
        CODEC.encode([value])


def test_a_dataclass_whose_field_was_deleted_is_refused() -> None:
    value = Counted(1)
    del value.double
    with pytest.raises(NotStorableError, match="double"):
        CODEC.encode(value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: [v],
        lambda v: {"k": v},
        lambda v: (v,),
        lambda v: {1: v},
        lambda v: Point(1, v),
        lambda v: Pair(v),
        lambda v: frozenset({v}),
    ],
    ids=["list", "dict", "tuple", "int key", "dataclass", "namedtuple", "frozenset"],
)
def test_two_hundred_levels_are_stored_and_no_more(wrap: Callable[[Any], Any]) -> None:
    deepest = nested(MAX_DEPTH, wrap)
    assert CODEC.encode(CODEC.decode(CODEC.encode(deepest))) == CODEC.encode(deepest)
    for levels in (MAX_DEPTH + 1, 400):
        with pytest.raises(NotStorableError, match="more than 200 levels deep"):
            CODEC.encode(nested(levels, wrap))


def test_ormsgpack_counts_levels_as_we_rely_on() -> None:
    ormsgpack.packb(nested(codes.PACK_LIMIT, lambda v: [v]))
    with pytest.raises(ormsgpack.MsgpackEncodeError):
        ormsgpack.packb(nested(codes.PACK_LIMIT + 1, lambda v: [v]))
    ormsgpack.unpackb(b"\x91" * codes.UNPACK_LIMIT + b"\xc0")
    with pytest.raises(ormsgpack.MsgpackDecodeError):
        ormsgpack.unpackb(b"\x91" * (codes.UNPACK_LIMIT + 1) + b"\xc0")


def test_a_value_that_holds_itself_is_refused() -> None:
    around: list[Any] = []
    around.append(around)
    mapping: dict[Any, Any] = {}
    mapping[1] = (mapping,)
    for value in (around, mapping, nested(100_000, lambda v: [v])):
        with pytest.raises(NotStorableError, match="more than 200 levels deep, or it holds itself"):
            CODEC.encode(value)


def test_a_nearly_full_stack_is_no_recursion_error() -> None:
    value = nested(150, lambda v: (v,))
    record = CODEC.encode(value)

    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack(0)) + 100)
        with pytest.raises(NotStorableError):
            CODEC.encode(value)
        with pytest.raises(CorruptRecordError):
            CODEC.decode(record)
    finally:
        sys.setrecursionlimit(limit)


def test_a_record_above_the_limit_is_refused_both_ways() -> None:
    small = Codec(max_bytes=100)
    assert small.decode(small.encode("x" * 91))
    with pytest.raises(NotStorableError, match=r"state\['big'\] takes 102 bytes, and a record holds at most 100"):
        small.encode("x" * 100, "state['big']")
    with pytest.raises(CorruptRecordError, match="at most 100"):
        small.decode(CODEC.encode("x" * 100))


# -- the bytes of others ----------------------------------------------------------------------------------------------


def test_an_unknown_class_is_named_with_its_place() -> None:
    record = CODEC.encode({"items": [1, {"at": (Point(1, Color.RED),)}]}, "state")
    with pytest.raises(CorruptRecordError) as caught:
        made(Color).decode(record, "thread t, row 3: state")
    assert str(caught.value) == (
        f"cannot read thread t, row 3: state['items'][1]['at'][0]: no class is registered as '{__name__}.Point'\n"
        "  register the class, or name it in the state's annotations"
    )
    only_enum_missing = made(Point)
    with pytest.raises(CorruptRecordError, match=r"\['at'\]\[0\]\.y: no class is registered as"):
        only_enum_missing.decode(record)


def test_a_plain_value_is_never_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(writing.Writer, "_plain")
    monkeypatch.delattr(reading.Reader, "_settled")
    value = {"a": [1, 2.5, "x", None, True, b"y", {"b": 2**70}], "t": datetime(2024, 1, 1), "c": Color.RED}
    assert CODEC.decode(CODEC.encode(value)) == value


# -- registering ------------------------------------------------------------------------------------------------------


@dataclass
class Leaf:
    color: Color | None = None


@dataclass
class Tree:
    children: list[Tree]
    leaf: Optional[Leaf] = None  # noqa: UP045  (the old spelling is walked too)
    pairs: dict[str, tuple[Pair, ...]] = field(default_factory=dict)
    lost: Nowhere = None  # type: ignore[name-defined]  # noqa: F821


class Nested(TypedDict, total=False):
    model: Outer


Alias = NewType("Alias", UserId)


class State(TypedDict):
    tree: Annotated[list[Tree], lambda old, new: new]
    nested: Nested
    level: Literal[Level.LOW]
    alias: Alias
    anything: Any
    call: Callable[[Point], Mood]


def test_a_state_s_annotations_register_everything_they_name() -> None:
    codec = Codec()
    codec.register_from(State)
    model = Outer(inner=Inner(at=datetime(2024, 1, 1)))
    value = {
        "tree": [Tree([Tree([], Leaf(Color.RED))], pairs={"a": (Pair(1, 2),)})],
        "nested": {"model": model},
        "level": Level.LOW,
        "alias": UserId("u"),
        "anything": [Point(1), Mood.GLAD],
    }
    assert codec.decode(codec.encode(value)) == value


def test_annotations_register_no_more_than_they_name() -> None:
    codec = Codec()
    codec.register_from(dict[str, list[Leaf | int] | None])
    codec.encode(Leaf(Color.BLUE))
    with pytest.raises(NotStorableError):
        codec.encode(Point(1))


@pytest.mark.parametrize(
    "annotation", [None, int, Any, list, "State", ..., dict[str, Any], Exception, ValueError | int]
)
def test_annotations_without_classes_of_ours_register_nothing(annotation: Any) -> None:
    codec = Codec()
    before = dict(codec._types.read)
    codec.register_from(annotation)
    assert codec._types.read == before


@dataclass
class DataError(Exception):
    why: str


@dataclass
class DictData(dict):  # type: ignore[type-arg]
    x: int = 1


@pytest.mark.parametrize(
    "cls", [int, bool, str, dict, OrderedDict, FakeList, DataError, DictData, ValueError, PurePath, Unknown, Unknown()]
)
def test_a_class_whose_values_are_no_plain_data_cannot_be_registered(cls: Any) -> None:
    with pytest.raises(UsageError, match="cannot register"):
        Codec().register(cls)


def test_a_chosen_name_belongs_to_one_class() -> None:
    codec = Codec()
    codec.register(Point, "p")
    codec.register(Point, "p")
    codec.register(Point)
    with pytest.raises(UsageError, match=r"cannot register .*\.Leaf as 'p': .*\.Point has that name"):
        codec.register(Leaf, "p")
    assert b"\xa1p" in codec.encode(Point(1))


def a_class(**fields: Any) -> type:
    return dataclasses.make_dataclass("Evolved", [(name, Any, default) for name, default in fields.items()])


def test_a_class_that_was_defined_again_reads_what_the_older_one_wrote() -> None:
    codec = Codec()
    old, new = a_class(x=1), a_class(x=1, y="new")
    codec.register(old)
    codec.register(new)
    assert codec.decode(codec.encode(old(5))) == new(5, "new")


def test_a_field_that_was_removed_is_an_error_and_not_lost() -> None:
    writer, reader = made(a_class(x=1, y=2)), made(a_class(x=1))
    record = writer.encode(next(iter(set(writer._types.written) - {Send}))())
    with pytest.raises(CorruptRecordError, match="has no field 'y'"):
        reader.decode(record)


def test_a_field_that_a_model_got_since_takes_its_default() -> None:
    class Before(BaseModel):
        x: int

    class After(BaseModel):
        x: int
        y: list[int] = Field(default_factory=list)
        z: int = 3

    writer, reader = Codec(), Codec()
    writer.register(Before, "model")
    reader.register(After, "model")
    assert reader.decode(writer.encode(Before(x=1))).model_dump() == {"x": 1, "y": [], "z": 3}
    with pytest.raises(CorruptRecordError, match="no field"):
        writer.decode(reader.encode(After(x=1)))


# -- for every graph --------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the process, which is as it was when the test is over."""
    monkeypatch.setattr(registry.SHARED, "written", dict(registry.SHARED.written))
    monkeypatch.setattr(registry.SHARED, "read", dict(registry.SHARED.read))


@pytest.mark.usefixtures("shared")
def test_a_type_that_is_registered_for_all_is_known_to_codecs_made_before_and_after() -> None:
    before = Codec()

    @register_type
    @dataclass
    class Plan:
        steps: tuple[str, ...]

    assert comes_back({"p": Plan(("a",))}, before)
    assert Codec().decode(before.encode(Plan(()))) == Plan(())


@pytest.mark.usefixtures("shared")
def test_a_type_that_is_registered_for_all_may_have_a_name_and_nobody_else_has_it() -> None:
    assert register_type(Leaf, "leaf") is Leaf
    assert b"\xa4leaf" in Codec().encode(Leaf())
    with pytest.raises(UsageError, match="has that name"):
        register_type(Point, "leaf")
    codec = Codec()
    codec.register(Point, "leaf")
    with pytest.raises(NotStorableError, match=r"state\[0\]: .*Leaf .* registered as 'leaf', and so is .*Point"):
        codec.encode([Leaf()], "state")
    assert comes_back(Point(1), codec)


@pytest.mark.usefixtures("shared")
def test_what_has_no_stored_form_cannot_be_registered_for_all() -> None:
    with pytest.raises(UsageError, match="cannot register"):
        register_type(Unknown)


class Remembers:
    """A store that does not outlive the process, as far as a codec is concerned."""

    def __init__(self) -> None:
        self.learned = Codec()


def test_a_codec_that_is_bound_to_a_store_of_this_process_learns_what_it_writes() -> None:
    store = Remembers()
    graph = Codec()
    record = graph.bound(store).encode([Leaf(Color.RED)])
    assert graph.bound(store).decode(record) == Codec().bound(store).decode(record) == [Leaf(Color.RED)]
    with pytest.raises(CorruptRecordError):
        graph.decode(record)
    graph.register(Point)  # also after it was bound
    assert comes_back(Point(1), graph.bound(store))


# -- numpy ------------------------------------------------------------------------------------------------------------

dtypes = ["b1", "i1", "<i2", ">i4", "<i8", "u1", ">u8", "<f2", "<f4", ">f8", "<c8", ">c16", "<U3", ">U2", "S4"]
dtypes += ["<M8[ns]", ">M8[D]", "<m8[25s]", "<M8"]


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4), (1,) * 32])
def test_an_array_comes_back_with_its_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    array = numpy.arange(math.prod(shape)).reshape(shape).astype(dtype)
    (back,) = CODEC.decode(CODEC.encode((array,)))
    assert type(back) is numpy.ndarray
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable
    if shape == (3,):
        scalar = CODEC.decode(CODEC.encode({"s": array[1]}))["s"]
        assert type(scalar) is type(array[1])
        assert scalar.dtype == array[1].dtype
        assert scalar == array[1] or numpy.isnat(scalar)


def test_an_array_of_another_layout_is_the_same_numbers() -> None:
    array = numpy.arange(12).reshape(3, 4)
    for view in (array.T, array[::2, ::-1], numpy.asfortranarray(array), numpy.broadcast_to(array[0], (2, 4))):
        assert (CODEC.decode(CODEC.encode(view)) == view).all()


def test_scalars_of_numpy_stay_scalars_of_numpy() -> None:
    for value in (
        numpy.float64("nan"),
        numpy.bool_(True),
        numpy.str_(""),
        numpy.str_("a\0\ud800"),
        numpy.bytes_(b"\0"),
    ):
        back = CODEC.decode(CODEC.encode([value, {value: 1}]))
        assert type(back[0]) is type(next(iter(back[1]))) is type(value)
        assert back[0].tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        numpy.array([object()]),
        numpy.array([(1, 2.0)], dtype="i4,f8"),
        numpy.array([(1, 2.0)], dtype="i4,f8")[0],
        numpy.longdouble(1),
        numpy.ma.masked_array([1]),
        numpy.rec.array([(1,)]),
        numpy.array(["x"], dtype=numpy.dtypes.StringDType()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_array_of_anything_but_plain_numbers_is_refused(value: Any) -> None:
    with pytest.raises(NotStorableError, match=r"state\['a'\]: numpy.* has no stored form"):
        CODEC.encode({"a": value}, "state")


# -- large records ----------------------------------------------------------------------------------------------------

SMALLER = Codec(compress=True)


def test_a_large_record_is_compressed_where_that_is_asked_for_and_read_by_any_codec() -> None:
    large = ["lorem ipsum"] * 1000
    assert len(SMALLER.encode(large)) < 200 < len(CODEC.encode(large))
    assert CODEC.decode(SMALLER.encode(large)) == SMALLER.decode(CODEC.encode(large)) == large


def test_what_is_small_or_does_not_get_smaller_is_left_alone() -> None:
    for value in ("x" * (COMPRESS_ABOVE - 10), numpy.random.default_rng(1).bytes(2 * COMPRESS_ABOVE)):
        assert SMALLER.encode(value) == CODEC.encode(value)


def test_a_record_above_the_limit_is_refused_however_small_it_would_be() -> None:
    with pytest.raises(NotStorableError, match="a record holds at most"):
        Codec(max_bytes=5000, compress=True).encode("x" * 5000)


def test_without_zstd_compressing_and_what_was_compressed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    record = SMALLER.encode("x" * 5000)
    monkeypatch.setattr(compression, "_library", lambda: None)
    with pytest.raises(MissingExtraError, match="to compress what is stored, zstd is needed"):
        Codec(compress=True)
    with pytest.raises(MissingExtraError, match="to read row 7, zstd is needed") as caught:
        CODEC.decode(record, "row 7")
    assert "fanfold[zstd]" in str(caught.value)
    assert CODEC.decode(CODEC.encode("x" * 5000))
