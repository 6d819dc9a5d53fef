"""A conversation is folded by identity: what has an id that is there replaces, what has none gets one."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import messages
from fanfold.errors import InvalidUpdateError, MissingExtraError, UsageError
from fanfold.messages import REMOVE_ALL_MESSAGES, MessagesState, RemoveMessage, add_messages, message_types

Plain = dict[str, Any]


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    messages._langchain.cache_clear()
    yield
    messages._langchain.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _hidden() -> Iterator[None]:
    """langchain-core is not there, except for a test that takes `langchain`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "langchain_core", None)
        yield


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """langchain-core's message classes; the test is skipped where it is not installed."""
    monkeypatch.delitem(sys.modules, "langchain_core")
    core = pytest.importorskip("langchain_core.messages")
    messages._langchain.cache_clear()
    return core


def said(content: str, id: str) -> Plain:
    return {"role": "user", "content": content, "id": id}


def ids(folded: list[Any]) -> list[str]:
    return [message["id"] for message in folded]


# Folding


def test_new_messages_are_appended_in_their_order() -> None:
    assert ids(add_messages([said("a", "1")], [said("b", "2"), said("c", "3")])) == ["1", "2", "3"]


def test_a_message_with_a_known_id_takes_the_old_ones_place() -> None:
    folded = add_messages([said("a", "1"), said("b", "2")], said("new", "1"))
    assert folded == [said("new", "1"), said("b", "2")]


def test_of_two_new_messages_with_one_id_the_later_one_stays() -> None:
    assert add_messages([], [said("a", "1"), said("b", "1")]) == [said("b", "1")]


def test_a_message_without_an_id_is_given_a_uuid() -> None:
    (message,) = add_messages([], {"role": "user", "content": "a"})
    assert UUID(message["id"]).version == 4


def test_messages_on_the_left_are_given_ids_too() -> None:
    (message,) = add_messages("hello", [])
    assert message["content"] == "hello"
    assert message["id"]


def test_equal_messages_without_ids_are_two_messages() -> None:
    first, second = add_messages([], ["a", "a"])
    assert first["id"] != second["id"]


def test_a_removal_takes_the_message_out() -> None:
    assert ids(add_messages([said("a", "1"), said("b", "2")], RemoveMessage("1"))) == ["2"]


def test_a_removal_may_be_written_as_a_dictionary() -> None:
    assert add_messages([said("a", "1")], {"role": "remove", "id": "1"}) == []


def test_removing_twice_is_removing_once() -> None:
    assert add_messages([said("a", "1")], [RemoveMessage("1"), RemoveMessage("1")]) == []


def test_a_message_that_was_added_just_now_can_be_removed() -> None:
    assert add_messages([], [said("a", "1"), RemoveMessage("1")]) == []


def test_what_is_removed_and_said_anew_stands_where_it_stood() -> None:
    folded = add_messages([said("a", "1"), said("b", "2")], [RemoveMessage("1"), said("new", "1")])
    assert folded == [said("new", "1"), said("b", "2")]


def test_removing_what_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"'ab12'.*did you mean 'ab11'") as caught:
        add_messages([said("a", "ab11")], RemoveMessage("ab12"))
    assert isinstance(caught.value, InvalidUpdateError)


def test_removing_all_leaves_what_comes_after_it() -> None:
    news = [said("b", "2"), RemoveMessage(REMOVE_ALL_MESSAGES), said("c", "3")]
    assert add_messages([said("a", "1")], news) == [said("c", "3")]


def test_the_last_removal_of_all_counts() -> None:
    everything = RemoveMessage(REMOVE_ALL_MESSAGES)
    assert add_messages([said("a", "1")], [everything, said("b", "2"), everything]) == []


def test_nothing_needs_to_be_there_to_remove_all() -> None:
    assert add_messages([], RemoveMessage(REMOVE_ALL_MESSAGES)) == []


def test_after_removing_all_messages_still_fold_by_id() -> None:
    news = [RemoveMessage(REMOVE_ALL_MESSAGES), said("a", "1"), said("b", "1")]
    assert add_messages([], news) == [said("b", "1")]


def test_what_is_handed_in_is_not_changed() -> None:
    left, right = [said("a", "1"), {"role": "user", "content": "b"}], [{"role": "user", "content": "c"}, said("d", "1")]
    before = copy.deepcopy((left, right))
    add_messages(left, right)
    assert (left, right) == before


# What may stand for a message


@pytest.mark.parametrize(
    ("written", "role"),
    [("hi", "user"), (("user", "hi"), "user"), (["ai", "hi"], "ai"), ({"role": "system", "content": "hi"}, "system")],
    ids=["text", "pair", "list pair", "dictionary"],
)
def test_without_langchain_messages_are_plain_dictionaries(written: Any, role: str) -> None:
    (message,) = add_messages([], [written])
    assert message == {"role": role, "content": "hi", "id": message["id"]}


def test_a_dictionary_keeps_what_else_it_says() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c"}], "id": "1", "ours": True}
    assert add_messages([], call) == [call]


@pytest.mark.parametrize("written", [3, {"role": "user"}, {"content": "hi"}, ("user", "hi", "there"), [None]])
def test_what_is_no_message_is_refused(written: Any) -> None:
    with pytest.raises(InvalidUpdateError):
        add_messages([], [written])


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidUpdateError, match=r"'asistant'.*did you mean 'assistant'"):
        add_messages([], [("asistant", "hi")])


def test_none_is_refused_on_either_side() -> None:
    with pytest.raises(ValueError, match="`right` is None"):
        add_messages([], None)
    with pytest.raises(UsageError, match="`left` is None"):
        add_messages(None, [])


def test_one_side_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="`right` is missing"):
        add_messages([])  # type: ignore[call-overload]


@dataclass(frozen=True)
class Frozen:
    content: str
    id: str | None = None


class Model:
    def __init__(self, content: str, id: str | None = None) -> None:
        self.content, self.id = content, id

    def model_copy(self, *, update: Plain) -> Model:
        return Model(self.content, **update)


@pytest.mark.parametrize("make", [Frozen, Model, lambda content, id=None: SimpleNamespace(content=content, id=id)])
def test_any_object_with_an_id_is_a_message(make: Callable[..., Any]) -> None:
    unnamed = make("b")
    folded = add_messages([make("a", "1")], [unnamed, make("new", "1")])
    assert [message.content for message in folded] == ["new", "b"]
    assert folded[1].id
    assert unnamed.id is None, "the caller's object got the id"


# As a reducer


def test_it_folds_with_two_positional_arguments_and_so_does_what_it_makes() -> None:
    made = add_messages(format=None)
    assert made([said("a", "1")], [RemoveMessage("1")]) == []
    inspect.signature(made).bind([], [])
    inspect.signature(add_messages).bind([], [])


def test_messages_state_says_how_messages_fold() -> None:
    class Chat(MessagesState):
        topic: str

    hints = get_type_hints(Chat, include_extras=True)
    assert list(hints) == ["messages", "topic"]
    assert hints["messages"].__metadata__ == (add_messages,)


def test_an_unknown_format_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="'openai'"):
        add_messages(format="openai")  # type: ignore[call-overload]


def test_a_format_without_langchain_says_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match="pip install langchain-core"):
        add_messages(format="langchain-openai")


def test_without_langchain_only_our_own_class_needs_a_stored_form() -> None:
    assert message_types() == (RemoveMessage,)


# Laws

named = st.builds(said, st.text(max_size=3), st.sampled_from("abcde"))
conversations = st.lists(named, max_size=6)


@given(conversations, conversations)
def test_folding_the_same_messages_in_again_changes_nothing(left: list[Plain], right: list[Plain]) -> None:
    once = add_messages(left, right)
    assert add_messages(once, right) == once


@given(conversations, conversations, conversations)
def test_it_does_not_matter_how_new_messages_are_grouped(a: list[Plain], b: list[Plain], c: list[Plain]) -> None:
    assert add_messages(add_messages(a, b), c) == add_messages(a, b + c)


@given(conversations)
def test_from_nothing_on_every_id_is_there_once_and_says_its_last(news: list[Plain]) -> None:
    folded = add_messages([], news)
    assert {message["id"]: message for message in folded} == {message["id"]: message for message in news}
    assert len(set(ids(folded))) == len(folded)


@given(conversations, st.data())
def test_a_removal_removes_its_message_and_no_other(news: list[Plain], data: st.DataObject) -> None:
    before = add_messages([], [said("a", "z"), *news])
    gone = data.draw(st.sampled_from(ids(before)))
    assert add_messages(before, RemoveMessage(gone)) == [message for message in before if message["id"] != gone]


# With langchain-core


def test_langchain_is_not_imported_for_folding_nothing_that_needs_it(langchain: Any) -> None:
    code = """
import sys
from types import SimpleNamespace
from fanfold.messages import RemoveMessage, add_messages
add_messages([SimpleNamespace(id="1")], [RemoveMessage("1")])
assert "langchain_core" not in sys.modules
add_messages([], "hi")
assert "langchain_core" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("hi", "HumanMessage"),
        (("assistant", "hi"), "AIMessage"),
        (["system", "hi"], "SystemMessage"),
        ({"role": "user", "content": "hi", "id": "1"}, "HumanMessage"),
        ({"type": "ai", "content": "hi"}, "AIMessage"),
    ],
)
def test_with_langchain_what_stands_for_a_message_becomes_one(langchain: Any, written: Any, kind: str) -> None:
    (message,) = add_messages([], [written])
    assert type(message) is getattr(langchain, kind)
    assert message.content == "hi"
    assert message.id


def test_langchain_messages_fold_by_id_and_are_not_changed(langchain: Any) -> None:
    unnamed = langchain.HumanMessage("b")
    old, new = langchain.HumanMessage("a", id="1"), langchain.AIMessage("c", id="1")
    folded = add_messages([old], [unnamed, new])
    assert folded[0] is new
    assert folded[1].content == "b"
    assert unnamed.id is None


def test_both_removals_work_on_langchain_messages(langchain: Any) -> None:
    left = [langchain.HumanMessage("a", id="1"), langchain.HumanMessage("b", id="2")]
    assert add_messages(left, [langchain.RemoveMessage(id="1"), RemoveMessage("2")]) == []
    assert add_messages(left, langchain.RemoveMessage(id=REMOVE_ALL_MESSAGES)) == []
    with pytest.raises(ValueError, match="'9'"):
        add_messages(left, langchain.RemoveMessage(id="9"))


def test_a_streamed_chunk_becomes_a_whole_message(langchain: Any) -> None:
    (message,) = add_messages([], langchain.AIMessageChunk(content="hi", id="1"))
    assert type(message) is langchain.AIMessage


def test_what_langchain_refuses_is_refused_in_its_words(langchain: Any) -> None:
    with pytest.raises(NotImplementedError):
        add_messages([], [3])


def test_openai_blocks_keep_the_ids_so_that_later_messages_replace_them(langchain: Any) -> None:
    fold = add_messages(format="langchain-openai")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "12"}}
    results = [{"type": "tool_result", "tool_use_id": name, "content": name} for name in ("x", "y")]
    folded = fold([], [langchain.HumanMessage([image], id="1"), langchain.HumanMessage(results, id="2")])
    assert folded[0].content == [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,12"}}]
    assert [message.tool_call_id for message in folded[1:]] == ["x", "y"]
    assert len({message.id for message in folded} - {None}) == 3
    assert [message.content for message in fold(folded, ("user", "more"))][-1] == "more"
    assert fold(folded, langchain.HumanMessage("new", id="1"))[0].content == "new"


def test_with_langchain_its_classes_need_a_stored_form_too(langchain: Any) -> None:
    assert {RemoveMessage, langchain.HumanMessage, langchain.AIMessage, langchain.RemoveMessage} <= set(message_types())
