"""Laws of what is stored once: it means what it meant before it was taken apart."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from fanfold.store.lines import named, packed
from fanfold.store.pieces import Taking, digests, put_together
from fanfold.store.serde import Codec
from fanfold.store.standing import EMPTY, Folding, Standing, difference, nodes

SERDE = JsonPlusSerializer()
CODEC = Codec()

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=80) | st.binary(max_size=300)
elements = scalars | st.text(min_size=200, max_size=300) | st.lists(scalars, max_size=3)
lists = st.lists(elements, max_size=12) | st.lists(st.integers(0, 9), max_size=200)
values = elements | lists | st.dictionaries(st.text(max_size=5), elements | lists, max_size=4)


def taking() -> Taking:
    return Taking(SERDE.dumps_typed, lambda data: hashlib.blake2b(data, digest_size=16).digest(), apart=True)


def loaded(node: Any, pieces: Any) -> Any:
    return put_together(SERDE.loads_typed, CODEC.decode(CODEC.encode(node)), pieces)


@settings(deadline=None)
@given(values)
def test_a_value_comes_back_as_the_serializer_alone_would_give_it(value: Any) -> None:
    taken = taking()
    node = taken.node(value)
    assert loaded(node, taken.pieces) == SERDE.loads_typed(SERDE.dumps_typed(value))
    assert set(digests([node])) == taken.pieces.keys()


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), lists), min_size=1, max_size=6), st.data())
def test_checkpoints_come_back_from_their_differences(line: list[dict[str, Any]], data: st.DataObject) -> None:
    taken = taking()
    standings = [
        Standing(
            taken.whole(number), taken.whole({}), {name: number for name in state}, {"n": {name: 1 for name in state}},
            {name: taken.node(value) for name, value in state.items()},
        )
        for number, state in enumerate(line)
    ]  # fmt: skip
    folding, used = Folding(), set()
    for old, new in zip([EMPTY, *standings], standings, strict=False):
        record = CODEC.decode(CODEC.encode(difference(old, new)))
        used |= set(digests(nodes(record)))
        folding.add(record)
        assert folding.standing() == new
        assert set(digests(new.values.values())) <= used


def test_a_list_that_grows_costs_what_was_added() -> None:
    taken = taking()
    old = Standing([], [], {}, {}, {"a": taken.node(["x" * 300] * 50 + list(range(200)))})
    new = Standing([], [], {}, {}, {"a": taken.node(["x" * 300] * 50 + list(range(201)))})
    assert len(CODEC.encode(difference(old, new))) < 250 < len(CODEC.encode(difference(EMPTY, new))) / 4


@settings(deadline=None)
@given(st.uuids(), st.uuids())
def test_ids_that_are_uuids_take_sixteen_bytes_and_keep_their_order(one: Any, other: Any) -> None:
    first, second = sorted(map(str, (one, other)))
    assert named(packed(first)) == first
    assert len(packed(first)) == 16
    assert packed(first) <= packed(second)


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40))
def test_any_other_id_comes_back_and_is_not_taken_for_one(name: str) -> None:
    assert named(packed(name)) == name
    assert len(packed(name)) != 16
