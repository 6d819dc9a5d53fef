"""What a saver promises besides: what is deleted is gone, what is left is whole, and nothing is a pickle."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from fanfold import Encryption, Keys
from fanfold.errors import CorruptRecordError, NotStorableError, StoreError, StoreKeyError, UsageError
from fanfold.langgraph import Saver
from fanfold.store.lines import Line, packed
from fanfold.store.serde import Codec
from tests.saver.conftest import Open
from tests.saver.graphs import State, counting, drafting

CONFIG: Any = {"configurable": {"thread_id": "t"}}
LINE = Line("t", "")


def put(saver: Saver, name: str, parent: str | None = None, run: str | None = None, **values: Any) -> None:
    place: Any = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": parent}
    versions = dict.fromkeys(values, name)
    checkpoint: Any = {"id": name, "channel_values": values, "channel_versions": versions, "versions_seen": {}}
    metadata: Any = {} if run is None else {"run_id": run}
    saver.put({"configurable": place}, checkpoint, metadata, versions)


def found(saver: Saver) -> dict[str, Any]:
    return {each.checkpoint["id"]: each.checkpoint["channel_values"] for each in saver.list(CONFIG)}


def pieces(saver: Saver) -> int:
    return len(saver.store.ask("saver_digests", {"thread": "t"}))


def talked(saver: Saver, turns: int = 4) -> None:
    for turn in range(turns):
        counting(saver, State).invoke({"notes": [f"{turn} " + "z" * 300]}, CONFIG)


# Deleting


def test_what_is_left_after_a_run_is_deleted_is_what_it_was(saver: Saver) -> None:
    long = ["x" * 300, "y" * 300]
    put(saver, "1", None, "a", notes=long[:1])
    put(saver, "2", "1", "b", notes=long)
    put(saver, "3", "2", "c", notes=[*long, "z" * 300])
    put(saver, "4", "2", "b", notes=[*long, "w" * 300])
    before = found(saver)
    saver.delete_for_runs(["b"])
    assert found(saver) == {name: before[name] for name in "13"}
    assert pieces(saver) == 3
    saver.delete_for_runs(["c", "none"])
    assert (found(saver), pieces(saver)) == ({"1": {"notes": long[:1]}}, 1)


def test_pruning_leaves_the_newest_checkpoint_and_no_piece_that_it_does_not_need(opening: Open) -> None:
    saver = opening()
    talked(saver)
    before = counting(saver, State).get_state(CONFIG).values
    assert pieces(saver) == 4
    counting(saver, State).update_state(CONFIG, {"notes": ["unused " * 100]}, as_node="answer")
    assert pieces(saver) == 5
    saver.prune(["t"])
    (left,) = saver.list(CONFIG)
    assert left.checkpoint["channel_values"]["notes"][:-1] == before["notes"]
    assert pieces(opening()) == 5
    saver.delete_thread("t")
    assert (found(saver), pieces(saver), saver.get_tuple(CONFIG)) == ({}, 0, None)
    talked(saver, 1)
    assert len(found(saver)) == 3


def test_a_checkpoint_whose_parent_another_process_has_deleted_is_kept_whole(opening: Open) -> None:
    saver = opening()
    put(saver, "1", notes=["x" * 300])
    put(saver, "2", "1", notes=["x" * 300, "y" * 300])
    opening().delete_thread("t")
    put(saver, "3", "2", notes=["x" * 300, "y" * 300, "z" * 300])
    assert found(opening()) == {"3": {"notes": ["x" * 300, "y" * 300, "z" * 300]}}


def test_it_is_whole_also_when_it_would_have_been_anyway(opening: Open) -> None:
    saver = opening()
    put(saver, "1", same="x" * 300)
    opening().delete_thread("t")
    many = {f"channel {number}": number for number in range(400)}
    versions = {**dict.fromkeys(many, "2"), "same": "1"}
    values = {**many, "same": "x" * 300}
    checkpoint: Any = {"id": "2", "channel_values": values, "channel_versions": versions, "versions_seen": {}}
    place: Any = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1"}
    saver.put({"configurable": place}, checkpoint, {}, {name: "2" for name in many})
    assert found(opening()) == {"2": values}


def test_a_checkpoint_that_is_put_again_takes_the_place_and_its_children_stay(opening: Open) -> None:
    saver = opening()
    put(saver, "1", notes=["x" * 300])
    put(saver, "2", "1", notes=["x" * 300, "y"])
    put(saver, "1", notes=["w" * 300])
    put(saver, "1", notes=["w" * 300])
    assert found(opening()) == {"1": {"notes": ["w" * 300]}, "2": {"notes": ["x" * 300, "y"]}}


def test_a_value_that_did_not_change_is_not_encoded_again(saver: Saver) -> None:
    put(saver, "1", a="x" * 300)
    place: Any = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1"}
    unchanged: Any = {"id": "2", "channel_values": {"a": object()}, "channel_versions": {"a": "1"}, "versions_seen": {}}
    saver.put({"configurable": place}, unchanged, {}, {})
    assert found(saver)["2"] == {"a": "x" * 300}


def test_a_thread_is_copied_to_one_that_is_new_and_to_no_other(saver: Saver) -> None:
    talked(saver, 2)
    saver.copy_thread("t", "u")
    before = found(saver)
    with pytest.raises(StoreError, match="cannot copy thread 't' to 'u', which has checkpoints of its own"):
        saver.copy_thread("t", "u")
    saver.delete_thread("t")
    copied = saver.list({"configurable": {"thread_id": "u"}})
    assert {each.checkpoint["id"]: each.checkpoint["channel_values"] for each in copied} == before


def test_a_store_that_forgets_a_thread_forgets_what_langgraph_kept_of_it(saver: Saver) -> None:
    talked(saver, 1)
    saver.store.delete_thread("t").result(10)
    assert (found(saver), pieces(saver)) == ({}, 0)


def test_there_are_two_strategies_to_prune_by(saver: Saver) -> None:
    with pytest.raises(UsageError, match="there is no strategy 'keep_last'"):
        saver.prune(["t"], strategy="keep_last")


# What another saver began


def test_versions_that_are_text_go_on_as_text() -> None:
    with Saver("memory:") as saver:
        first = "00000000000000000000000000000009.0123"
        assert saver.get_next_version(first, None) == "00000000000000000000000000000010.0123"
        assert [saver.get_next_version(each, None) for each in (None, 1)] == [1, 2]


# Values


@dataclass
class Finding:
    file: str


def test_classes_come_back_by_langgraphs_serializer(saver: Saver) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=[Finding])
    mine = Saver(saver.store, serde=serde)
    put(mine, "1", notes=[Finding("a.py"), {3}])
    assert found(mine)["1"] == {"notes": [Finding("a.py"), {3}]}
    strict = Saver(saver.store, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    assert found(strict.with_allowlist([("tests.saver.test_saver", "Finding")])) == found(mine)  # type: ignore[arg-type]


class Rot:
    """A cipher for `EncryptedSerializer`."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "rot", bytes(255 - each for each in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return bytes(255 - each for each in ciphertext)


def test_a_serializer_that_encrypts_is_given_whole_values(opening: Open) -> None:
    saver = opening(serde=EncryptedSerializer(Rot()))
    talked(saver, 2)
    assert len(counting(saver, State).get_state(CONFIG).values["notes"]) == 4


def test_what_is_kept_with_keys_cannot_be_read_without(opening: Open, tmp_path: Path) -> None:
    keys = Encryption(Keys("k", {"k": bytes(range(32))}))
    saver = opening(encryption=keys)
    put(saver, "1", notes=["a secret", "a long secret " * 20])
    assert found(saver)["1"]["notes"][0] == "a secret"
    with pytest.raises(StoreKeyError):
        found(opening())
    other = opening(encryption=Encryption(Keys("k", {"k": bytes(32)})))
    assert other._lines.digest(b"body") != saver._lines.digest(b"body") != opening()._lines.digest(b"body")
    saver.store.close()
    assert not any(b"secret" in each.read_bytes() for each in tmp_path.iterdir())


# No pickle


def test_a_serializer_that_pickles_is_refused() -> None:
    for serde in (
        JsonPlusSerializer(pickle_fallback=True),
        EncryptedSerializer(Rot(), JsonPlusSerializer(pickle_fallback=True)),
    ):
        with pytest.raises(UsageError, match="JsonPlusSerializer falls back to pickle"):
            Saver("memory:", serde=serde)


class Pickling(JsonPlusSerializer):
    """A serializer that does not say that it pickles what is a set."""

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        return ("pickle", b"") if isinstance(value, set) else super().dumps_typed(value)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] != "pickle", "a pickle was read"
        return super().loads_typed(data)


def test_a_pickle_is_neither_written_nor_read(opening: Open) -> None:
    with pytest.raises(NotStorableError, match=r"a builtins\.set could only be pickled"):
        opening(serde=Pickling()).put_writes(
            {"configurable": {"thread_id": "t", "checkpoint_id": "1"}}, [("a", {1})], "x"
        )
    saver = opening()
    put(saver, "1", a=1)
    row = {"no": 1, "namespace": "", "checkpoint": packed("1"), "task": b"\xffx", "idx": 0, "path": "", "channel": "a"}
    data = Codec().encode(["pickle", b"cos\nsystem\n(S'false'\ntR."])
    saver.store.write(lambda session: session.many("saver_keep_writes", [{**row, "data": data}])).result(10)
    with pytest.raises(CorruptRecordError, match="a stored value is a pickle"):
        opening(serde=Pickling()).get_tuple(CONFIG)


# Damage, and what cannot be stored


def test_a_row_that_was_changed_is_named(saver: Saver) -> None:
    put(saver, "1", notes=["x" * 300])
    (row,) = saver._lines.rows(LINE)
    place = {"thread": "t", "namespace": "", "checkpoint": packed("1"), "parent": None, "run": None, "full": True}
    damaged = {**place, "data": row.data[:-1] + b"\0"}
    saver.store.write(lambda session: session.rows("saver_replace", damaged)).result(10)
    with pytest.raises(CorruptRecordError, match="checkpoint '1' of thread 't', namespace '' is damaged"):
        saver.get_tuple(CONFIG)


def test_a_checkpoint_without_its_pieces_is_told(saver: Saver) -> None:
    put(saver, "1", notes=["x" * 300])
    saver.store.write(lambda session: session.rows("forget_saver_pieces", {"thread": "t"})).result(10)
    with pytest.raises(CorruptRecordError, match="checkpoint '1' of thread 't', namespace '' has lost pieces"):
        saver.get_tuple(CONFIG)
    with pytest.raises(CorruptRecordError, match="has lost pieces"):
        found(saver)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_text_that_no_database_takes_is_refused_alone(saver: Saver, name: str) -> None:
    place: Any = {"configurable": {"thread_id": "t", "checkpoint_id": "1"}}

    async def main() -> list[Any]:
        writes = [saver.aput_writes(place, [(channel, 1)], "task") for channel in ("a", name)]
        return await asyncio.gather(*writes, return_exceptions=True)

    assert [type(each) for each in asyncio.run(main())] == [type(None), StoreError]


def test_more_than_a_statement_may_hold_is_written_in_several(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanfold.store.lines.LARGEST_BATCH", 1000)
    place: Any = {"configurable": {"thread_id": "t", "checkpoint_id": "1"}}

    async def main() -> None:
        await asyncio.gather(*(saver.aput_writes(place, [("a", f"{n}" * 300)], f"task {n}") for n in range(20)))

    asyncio.run(main())
    assert len(saver._lines.writes(LINE, ["1"])["1"]) == 20


# Threads


def test_a_saver_does_not_wait_for_the_threads_of_blocking_nodes(saver: Saver) -> None:
    over = threading.Event()

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocking = loop.run_in_executor(None, over.wait)
        try:
            place: Any = {"thread_id": "t", "checkpoint_ns": ""}
            checkpoint: Any = {"id": "1", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
            put = await saver.aput({"configurable": place}, checkpoint, {}, {})
            await saver.aput_writes(put, [("a", 1)], "task")
            return [(await saver.aget_tuple(put)).pending_writes, [each async for each in saver.alist(CONFIG)]]
        finally:
            over.set()
            await blocking

    writes, (listed,) = asyncio.run(main())
    assert writes == listed.pending_writes == [("task", "a", 1)]


# How it is opened


def test_a_url_is_opened_and_closed_and_a_store_is_left_open(tmp_path: Path, saver: Saver) -> None:
    async def main() -> None:
        async with Saver(f"sqlite:///{tmp_path}/own.db") as own:
            await drafting(own).ainvoke({"notes": []}, CONFIG)
        with pytest.raises(StoreError, match="is closed"):
            await own.aget_tuple(CONFIG)
        with pytest.raises(StoreError, match="is closed"):
            await own.aput_writes({"configurable": {"thread_id": "t", "checkpoint_id": "1"}}, [("a", 1)], "task")

    asyncio.run(main())
    with saver:
        pass
    talked(saver, 1)
    with pytest.raises(UsageError, match="a saver cannot keep anything in 'int'"):
        Saver(3)  # type: ignore[arg-type]


PROGRAM = """
import sys
import fanfold
assert not any(name.split(".")[0] in ("langgraph", "langchain_core") for name in sys.modules)
sys.modules["langgraph"] = None
try:
    import fanfold.langgraph
except fanfold.errors.MissingExtraError as error:
    print(error)
"""


def test_fanfold_does_not_import_langgraph_and_names_the_extra_where_it_is_missing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "pip install 'fanfold[langgraph]'" in done.stdout
