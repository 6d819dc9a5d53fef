"""What is stored can be read with its key, and with nothing else; keys are exchanged while everything goes on."""

from __future__ import annotations

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import END, START, Encryption, Keys, StateGraph
from fanfold.errors import MissingExtraError, NotStorableError, StoreKeyError, UsageError
from fanfold.store.serde import Codec, envelope, verify
from fanfold.store.sqlite import SqliteStore

OLD, NEW = b"o" * 32, bytes(range(32))
FIRST = Codec(encryption=Encryption(Keys("old", {"old": OLD})))
SECOND = Codec(encryption=Encryption(Keys("new", {"new": NEW, "old": OLD})))
VALUE = {"secret": "attack at dawn", "list": [1, (2,)]}


def keys(text: str) -> Keys:
    return Keys.parse(text, "FANFOLD_STORE_KEY")


# -- records ----------------------------------------------------------------------------------------------------------


def test_an_encrypted_value_comes_back_and_its_record_does_not_show_it() -> None:
    record = FIRST.encode(VALUE)
    assert FIRST.decode(record) == VALUE
    assert b"dawn" not in record
    assert b"secret" not in record
    assert b"old" in record


def test_the_same_value_is_never_the_same_record_twice() -> None:
    assert len({FIRST.encode(VALUE) for _ in range(50)}) == 50


def test_what_is_large_is_compressed_before_it_is_encrypted() -> None:
    both = Codec(compress=True, encryption=Encryption(Keys("old", {"old": OLD})))
    large = ["lorem ipsum"] * 1000
    assert len(both.encode(large)) < 250
    assert FIRST.decode(both.encode(large)) == large


def test_encryption_costs_a_bounded_number_of_bytes() -> None:
    longest = Keys("k" * 32, {"k" * 32: OLD})
    more = len(Codec(encryption=Encryption(longest)).encode(VALUE)) - len(Codec().encode(VALUE))
    assert more == 61


def test_a_record_of_just_the_limit_can_be_encrypted_and_read() -> None:
    codec = Codec(max_bytes=100, encryption=Encryption(Keys("old", {"old": OLD})))
    assert codec.decode(codec.encode("x" * 91)) == "x" * 91
    with pytest.raises(NotStorableError):
        codec.encode("x" * 92)


def test_threads_share_one_encryption() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: FIRST.decode(FIRST.encode([n] * n)) == [n] * n, range(400)))


# -- keys -------------------------------------------------------------------------------------------------------------


def test_the_first_key_encrypts_and_all_of_them_decrypt() -> None:
    assert SECOND.decode(FIRST.encode(VALUE)) == VALUE
    assert b"new" in SECOND.encode(VALUE)
    with pytest.raises(StoreKeyError) as caught:
        FIRST.decode(SECOND.encode(VALUE), "row 7")
    assert "row 7 is encrypted with key 'new', which is not among the keys of this store: 'old'" in str(caught.value)


def test_a_key_that_is_another_one_than_it_was_is_told_by_its_id() -> None:
    other = Codec(encryption=Encryption(Keys("old", {"old": NEW})))
    with pytest.raises(StoreKeyError, match="row 7 does not open with key 'old'"):
        other.decode(FIRST.encode(VALUE), "row 7")


def test_without_keys_an_encrypted_record_says_which_it_needs_and_is_still_found_whole() -> None:
    record = FIRST.encode(VALUE)
    with pytest.raises(StoreKeyError, match="row 7 is encrypted with key 'old', and this store has no keys"):
        Codec().decode(record, "row 7")
    verify(record, "row 7")


def test_records_from_before_the_encryption_are_read_where_that_is_said() -> None:
    plain = Codec().encode(VALUE)
    with pytest.raises(StoreKeyError, match="row 7 is not encrypted"):
        FIRST.decode(plain, "row 7")
    lenient = Codec(encryption=Encryption(keys(f"old:{OLD.hex()}, plain")))
    assert lenient.decode(plain) == lenient.decode(FIRST.encode(VALUE)) == VALUE
    assert b"old" in lenient.encode(VALUE)


def test_a_callable_is_asked_again_when_a_record_names_a_key_that_it_did_not_give() -> None:
    vault = [Keys("old", {"old": OLD})]
    asked: list[int] = []

    def ask() -> Keys:
        asked.append(1)
        return vault[-1]

    codec = Codec(encryption=Encryption(ask))
    for _ in range(3):
        codec.decode(codec.encode(VALUE))
    assert len(asked) == 1
    vault.append(Keys("new", {"new": NEW, "old": OLD}))
    assert codec.decode(SECOND.encode(VALUE)) == VALUE
    assert len(asked) == 2
    assert b"new" in codec.encode(VALUE)


@pytest.mark.parametrize(
    "written",
    [
        NEW.hex(),
        NEW.hex().upper(),
        base64.b64encode(NEW).decode(),
        base64.b64encode(NEW).decode().rstrip("="),
        base64.urlsafe_b64encode(NEW).decode(),
        f" {NEW.hex()} ",
    ],
)
def test_a_key_is_written_in_hex_or_base64(written: str) -> None:
    assert keys(f"new:{written},old:{OLD.hex()}") == Keys("new", {"new": NEW, "old": OLD})


def test_the_environment_names_the_keys_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANFOLD_STORE_KEY", raising=False)
    assert Encryption.from_environment() is None
    monkeypatch.setenv("FANFOLD_STORE_KEY", f"new:{NEW.hex()},old:{OLD.hex()}")
    assert Codec(encryption=Encryption.from_environment()).decode(FIRST.encode(VALUE)) == VALUE
    monkeypatch.setenv("FANFOLD_STORE_KEY", "")
    with pytest.raises(UsageError, match="entry 1 of FANFOLD_STORE_KEY is not an id and a key"):
        Encryption.from_environment()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (NEW.hex(), "entry 1 of FANFOLD_STORE_KEY is not an id and a key"),
        (f"a:{NEW.hex()},{OLD.hex()}", "entry 2 of FANFOLD_STORE_KEY is not an id and a key"),
        (f"plain,a:{NEW.hex()}", "entry 1 of FANFOLD_STORE_KEY is not an id and a key"),
        ("plain", "entry 1 of FANFOLD_STORE_KEY is not an id and a key"),
        (f"a:{NEW.hex()[:-2]}", "entry 1 of FANFOLD_STORE_KEY, 'a', is not a key of 32 bytes"),
        (f"a:{'zz' * 32}", "entry 1 of FANFOLD_STORE_KEY, 'a', is not a key of 32 bytes"),
        ("a:", "entry 1 of FANFOLD_STORE_KEY, 'a', is not a key of 32 bytes"),
        ("a:\u00e9", "entry 1 of FANFOLD_STORE_KEY, 'a', is not a key of 32 bytes"),
        (f"a:{NEW.hex()},a:{OLD.hex()}", "entry 2 of FANFOLD_STORE_KEY has the same id"),
        (f"{NEW.hex()}:a", "the id of entry 1 of FANFOLD_STORE_KEY is not 1 to 32 letters"),
        (f":{NEW.hex()}", "the id of entry 1 of FANFOLD_STORE_KEY is not 1 to 32 letters"),
        (f"a b:{NEW.hex()}", "the id of entry 1 of FANFOLD_STORE_KEY is not 1 to 32 letters"),
    ],
)
def test_a_mistake_in_the_keys_is_told_without_showing_them(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        keys(text)
    for key in (NEW, OLD):
        assert key.hex()[:12] not in str(caught.value)


def test_keys_of_another_length_or_without_the_current_one_are_refused() -> None:
    for wrong in (b"", b"k" * 16, b"k" * 33, "k" * 32):
        with pytest.raises(UsageError, match="key 1 of the store, 'a', is not a key of 32 bytes"):
            Keys("a", {"a": wrong})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="current key is not among"):
        Keys("b", {"a": OLD})


def test_no_key_is_in_a_repr_or_in_a_message() -> None:
    encryption = Encryption(Keys("new", {"new": NEW, "old": OLD}))
    shown = [
        repr(encryption),
        str(encryption),
        repr(Keys("new", {"new": NEW})),
        repr(envelope.Envelope(1, False, encryption)),
    ]
    for codec, record in ((FIRST, SECOND.encode(1)), (Codec(), FIRST.encode(1)), (SECOND, Codec().encode(1))):
        with pytest.raises(StoreKeyError) as caught:
            codec.decode(record)
        shown.append(f"{caught.value} {caught.value!r}")
    for text in shown:
        for key in (NEW, OLD):
            assert not any(form in text for form in (key.hex(), repr(key)[2:-1], base64.b64encode(key).decode()))
    assert repr(encryption) == "Encryption(current='new', keys=['new', 'old'])"


def test_without_cryptography_encrypting_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtraError, match="cryptography, which does it, is not installed") as caught:
        Encryption(Keys("old", {"old": OLD}))
    assert "fanfold[crypto]" in str(caught.value)


# -- runs -------------------------------------------------------------------------------------------------------------


class State(TypedDict, total=False):
    told: str
    answer: str


def a_graph(store: SqliteStore) -> Any:
    graph = StateGraph(State)
    graph.add_node("think", lambda state: {"answer": f"{state['told']}, at noon"})
    graph.add_edge(START, "think")
    graph.add_edge("think", END)
    return graph.compile(checkpointer=store)


def opened(path: Path, encryption: Encryption | None) -> SqliteStore:
    store = SqliteStore(path)
    store.encryption = encryption  # type: ignore[attr-defined,unused-ignore]
    return store


def records(store: SqliteStore) -> list[bytes]:
    (run,) = store.runs()
    return [kept.data for kept in store.results(run.run_id)] + [kept.data for kept in store.history("t")]


def test_a_run_of_a_store_with_keys_is_stored_encrypted_and_read_with_them_alone(tmp_path: Path) -> None:
    config = {"configurable": {"thread_id": "t"}}
    with opened(tmp_path / "runs.db", Encryption(Keys("old", {"old": OLD}))) as store:
        a_graph(store).invoke({"told": "attack"}, config)
        kept = records(store)
        assert len(kept) >= 3
        assert all(b"old" in data and b"attack" not in data and b"noon" not in data for data in kept)
    with opened(tmp_path / "runs.db", Encryption(Keys("new", {"new": NEW, "old": OLD}))) as store:
        assert a_graph(store).get_state(config).values == {"told": "attack", "answer": "attack, at noon"}
    with opened(tmp_path / "runs.db", None) as store, pytest.raises(StoreKeyError, match=r"thread 't' is encrypted"):
        a_graph(store).get_state(config)


def test_a_store_in_memory_learns_classes_and_encrypts_as_well() -> None:
    store = SqliteStore(":memory:")
    store.encryption = Encryption(Keys("old", {"old": OLD}))  # type: ignore[attr-defined,unused-ignore]
    with store:
        config = {"configurable": {"thread_id": "t"}}
        a_graph(store).invoke({"told": "attack"}, config)
        assert a_graph(store).get_state(config).values["answer"] == "attack, at noon"
        assert all(b"attack" not in data for data in records(store))
