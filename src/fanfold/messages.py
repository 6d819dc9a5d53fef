"""A conversation as one key of the state: `Annotated[list, add_messages]`.

A message is whatever has an identity and says something. `add_messages` folds new ones into those that are there::

    an id that is there            the new message takes the old one's place
    an id that is not, or none     appended; without one it is given an id
    RemoveMessage(id)              takes that message out; one that is not there is an error
    RemoveMessage(REMOVE_ALL_MESSAGES)   takes out everything before it; what follows it is added to nothing

Two families of messages, and which one is decided by what is installed. With langchain-core, texts, pairs and
dictionaries become its message objects, by its own rules, so that `state["messages"][-1].content` means what LangGraph
users expect. Without it there is nothing to become, and messages stay plain: a dictionary is kept as it is, a text is
`{"role": "user", "content": text, "id": ...}` and a pair `("ai", text)` is a dictionary of that role. Objects that
have an `id` of their own pass through in either family. langchain-core is looked for when the first message arrives
and imported only when something has to be converted.

Nothing that is handed in is changed. LangGraph writes the id it has made up into the caller's object; here the
message in the state is a copy that has the id.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypedDict, overload

from fanfold.errors import InvalidUpdateError, MissingExtraError, UsageError, did_you_mean

Format: TypeAlias = Literal["langchain-openai"]
Reducer: TypeAlias = Callable[[Any, Any], list[Any]]

REMOVE_ALL_MESSAGES: Final = "__remove_all__"
"""The id that stands for every message before it, in a `RemoveMessage`."""

_ROLES: Final = ("user", "assistant", "system", "tool", "developer", "function", "human", "ai")
_ABSENT: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class RemoveMessage:
    """Takes the message of that id out of the conversation. langchain-core's class of this name does the same."""

    id: str
    type: ClassVar[str] = "remove"


@overload
def add_messages(*, format: Format | None = None) -> Reducer: ...
@overload
def add_messages(left: Any, right: Any, *, format: Format | None = None) -> list[Any]: ...
def add_messages(left: Any = _ABSENT, right: Any = _ABSENT, *, format: Format | None = None) -> list[Any] | Reducer:
    """The messages of `left` with those of `right` folded in; without the two, a reducer that does so.

    Either side is one message or a list of them. `format="langchain-openai"` rewrites contents to OpenAI's blocks,
    for which langchain-core is needed. Raises `InvalidUpdateError`, which is a `ValueError`, for what is no message
    and for the removal of a message that is not there.
    """
    _check_format(format)
    if left is _ABSENT and right is _ABSENT:
        return _reducer(format)
    return _add_messages(left, right, format=format)


def _reducer(format: Format | None) -> Reducer:
    reducer = functools.partial(_add_messages, format=format)
    reducer.settle = _settled  # type: ignore[attr-defined]
    return reducer


def _settled(update: Any) -> list[Any]:
    """An update with an id for every message, so that folding it again gives the same."""
    return _messages(update, "right")


add_messages.settle = _settled  # type: ignore[attr-defined]
add_messages.replays = True  # type: ignore[attr-defined]


class MessagesState(TypedDict):
    """A state that is a conversation; subclass it to add keys."""

    messages: Annotated[list[Any], add_messages]


def message_types() -> tuple[type, ...]:
    """The classes of messages that `add_messages` itself makes or takes: what a store has to know to keep them."""
    langchain = _langchain()
    return (RemoveMessage, *langchain.types) if langchain else (RemoveMessage,)


def holds_messages(channel: Any) -> bool:
    """Whether a channel folds with `add_messages`."""
    reducer = getattr(channel, "operator", None)
    return reducer is add_messages or getattr(reducer, "func", None) is _add_messages


def _add_messages(left: Any, right: Any, *, format: Format | None = None) -> list[Any]:
    known, news = _messages(left, "left"), _messages(right, "right")
    start = _after_clearing(news)
    merged = _merged(known if start == 0 else [], news[start:])
    return _openai_blocks(merged) if format else merged


def _merged(known: list[Any], news: Iterable[Any]) -> list[Any]:
    merged: list[Any] = list(known)
    removed: set[Any] = set()
    places = {_id(message): place for place, message in enumerate(merged)}
    for message in news:
        identity = _id(message)
        if _is_removal(message):
            removed.add(_checked_removal(identity, places))
        elif identity in places:
            merged[places[identity]] = message
            removed.discard(identity)  # removed and said anew: it stands where it stood
        else:
            places[identity] = len(merged)
            merged.append(message)
    return [message for message in merged if _id(message) not in removed] if removed else merged


def _after_clearing(news: Sequence[Any]) -> int:
    """Where the messages begin that come after the last removal of everything; 0 when there is no such removal."""
    clearings = (
        place for place, message in enumerate(news, 1) if _is_removal(message) and _id(message) == REMOVE_ALL_MESSAGES
    )
    return max(clearings, default=0)


def _checked_removal(identity: Any, places: Mapping[Any, int]) -> Any:
    if identity not in places:
        raise InvalidUpdateError(
            f"message {identity!r} cannot be removed, because no message has that id"
            f"{did_you_mean(str(identity), map(str, places))}",
            hint="remove messages by the `id` they have in the state, or all with REMOVE_ALL_MESSAGES",
        )
    return identity


def _messages(side: Any, name: str) -> list[Any]:
    if side is None or side is _ABSENT:
        raise UsageError(
            f"add_messages needs both sides, and `{name}` is {'None' if side is None else 'missing'}",
            hint="a node that adds no message leaves the key out of what it returns, or returns an empty list",
        )
    return [_identified(_message(item)) for item in (side if isinstance(side, list) else [side])]


def _message(item: Any) -> Any:
    langchain = _langchain()
    if hasattr(item, "id"):
        return langchain.whole(item) if langchain else item
    if isinstance(item, dict) and _role(item) == "remove" and "id" in item:
        return RemoveMessage(item["id"])
    return langchain.message(item) if langchain else _plain(item)


def _plain(item: Any) -> Mapping[str, Any]:
    """A dictionary for what people write in place of a message."""
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, dict):
        return _checked_mapping(item)
    if isinstance(item, Sequence) and len(item) == 2 and isinstance(item[0], str):
        return {"role": _checked_role(item[0]), "content": item[1]}
    raise InvalidUpdateError(
        f"{item!r:.100} is no message",
        hint="a message is a text, a (role, content) pair, a dictionary with 'role' and 'content',"
        " or an object with an `id`",
    )


def _checked_mapping(item: Mapping[str, Any]) -> Mapping[str, Any]:
    # A call of tools is a message that may have nothing to say.
    if _role(item) is None or not ("content" in item or "tool_calls" in item):
        raise InvalidUpdateError(f"a message that is a dictionary needs 'role' and 'content', and has {list(item)}")
    return item


def _checked_role(role: str) -> str:
    if role not in _ROLES:
        raise InvalidUpdateError(
            f"{role!r} is no role of a message{did_you_mean(role, _ROLES)}",
            hint=f"the roles are {', '.join(_ROLES)}; two texts in a row are written as a list",
        )
    return role


def _role(message: Any) -> Any:
    if isinstance(message, dict):
        return message.get("role", message.get("type"))
    return getattr(message, "type", None)


def _is_removal(message: Any) -> bool:
    return bool(_role(message) == "remove")


def _id(message: Any) -> Any:
    return message.get("id") if isinstance(message, dict) else message.id


def _identified(message: Any) -> Any:
    """The message itself when it has an id, else a copy that has one."""
    return message if _id(message) is not None else _with_id(message, str(uuid.uuid4()))


def _with_id(message: Any, identity: str) -> Any:
    if isinstance(message, dict):
        return {**message, "id": identity}
    if hasattr(message, "model_copy"):
        return message.model_copy(update={"id": identity})
    if dataclasses.is_dataclass(message) and not isinstance(message, type):
        return dataclasses.replace(message, id=identity)  # also where the class is frozen
    copied = copy.copy(message)
    copied.id = identity
    return copied


def _check_format(format: str | None) -> None:
    if format is None:
        return
    if format != "langchain-openai":
        raise UsageError(f"add_messages knows no format {format!r}; it is 'langchain-openai' or None")
    if _langchain() is None:
        raise MissingExtraError(
            "add_messages(format='langchain-openai') formats with langchain-core, which is not installed",
            hint="pip install langchain-core, or leave out `format`",
        )


def _openai_blocks(messages: list[Any]) -> list[Any]:
    """The messages with OpenAI's content blocks. One that holds tool results becomes several; the first has its id."""
    langchain = _langchain()
    assert langchain is not None, "checked when the format was given"
    return list(_uniquely_identified(langchain.openai_blocks(messages)))


def _uniquely_identified(messages: Iterable[Any]) -> Iterator[Any]:
    seen: set[Any] = set()
    for message in messages:
        own = message if _id(message) not in (None, *seen) else _with_id(message, str(uuid.uuid4()))
        seen.add(_id(own))
        yield own


@functools.cache
def _langchain() -> _LangChain | None:
    """langchain-core, when it is installed. Looking for it imports nothing."""
    return _LangChain() if find_spec("langchain_core") else None


class _LangChain:
    """The few functions of langchain-core that turn things into messages, imported when first needed."""

    @functools.cached_property
    def _core(self) -> Any:
        return import_module("langchain_core.messages")

    @property
    def types(self) -> tuple[type, ...]:
        names = ("HumanMessage", "AIMessage", "SystemMessage", "ToolMessage", "FunctionMessage", "ChatMessage")
        return tuple(getattr(self._core, name) for name in (*names, "RemoveMessage"))

    def message(self, item: Any) -> Any:
        """Its message for a text, a pair or a dictionary; raises its errors for anything else."""
        (message,) = self._core.convert_to_messages([item])
        return message

    def whole(self, message: Any) -> Any:
        """The message of which `message` is a streamed chunk, or itself when it is none."""
        loaded = sys.modules.get("langchain_core.messages")  # not imported by anyone: it cannot be a chunk
        if loaded is not None and isinstance(message, loaded.BaseMessageChunk):
            return loaded.message_chunk_to_message(message)
        return message

    def openai_blocks(self, messages: list[Any]) -> list[Any]:
        formatted = self._core.convert_to_openai_messages(messages, include_id=True)
        return list(self._core.convert_to_messages(formatted))
