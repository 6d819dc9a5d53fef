"""What LangChain's chat models say while they answer, for the stream mode "messages".

LangChain is no dependency. Where a program uses it, a model that is called in a node takes its config from a context
variable of LangChain's, with or without the node's help; so that variable is set, and its callbacks get one more
listener. Without LangChain there is nothing to listen to, and the messages in what nodes return are all there is.
"""

from __future__ import annotations

import copy
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Protocol

QUIET: Final = "nostream"
"""A model or a call with this tag is not listened to."""


@dataclass(frozen=True, slots=True)
class MessageChunk:
    """A piece of what an agent says, for programs without LangChain; pieces of one message have one `id`."""

    content: str
    id: str
    name: str | None = None
    type: ClassVar[str] = "AIMessageChunk"


class Listener(Protocol):
    """Where messages go."""

    seen: set[Any]

    def put(self, namespace: tuple[str, ...], mode: str, chunk: Any) -> None:
        """A chunk for the consumer, if it wants it."""


def available() -> bool:
    """Whether LangChain is installed."""
    return in_use() or find_spec("langchain_core") is not None


def in_use() -> bool:
    """Whether the program has imported LangChain."""
    return "langchain_core.runnables.config" in sys.modules


def adopt(config: Mapping[str, Any]) -> None:
    """From here on, LangChain's objects that are called in this context find `config`."""
    import_module("langchain_core.runnables.config").var_child_runnable_config.set(dict(config))


def listening(config: Mapping[str, Any], listener: Listener) -> Any:
    """The callbacks of `config` with one more, that hands each part of a model's answer to `listener`.

    They bring the tags and the metadata along, so that a call with a config of its own adds to these, and does not
    take their place.
    """
    return _with(config, _handler()(listener))


def pulsing(config: Mapping[str, Any], sign: Callable[[], None]) -> Any:
    """The callbacks of `config` with one more, that gives a sign whenever something happens in what LangChain runs."""
    return _with(config, _pulse()(sign))


def _with(config: Mapping[str, Any], handler: Any) -> Any:
    callbacks = config.get("callbacks")
    if callbacks is None or isinstance(callbacks, list | tuple):
        given = list(callbacks or ())
        manager = import_module("langchain_core.callbacks").CallbackManager(given, list(given))
    else:
        manager = callbacks.copy()
    manager.add_tags(list(config.get("tags") or ()), inherit=True)
    manager.add_metadata(config["metadata"], inherit=True)
    manager.add_handler(handler, inherit=True)
    return manager


def identified(value: Any, named: dict[int, Any]) -> Any:
    """The value with a copy that has an id for each message object without one: what a node returned stays as it is.

    `named` has the copies that were made before, by the identity of what they are of.
    """
    if type(value) in (list, tuple):
        return type(value)(identified(item, named) for item in value)
    if not _is_message(value) or value.id is not None:
        return value
    if id(value) not in named:
        named[id(value)] = copy.copy(value)
        named[id(value)].id = str(uuid.uuid4())
    return named[id(value)]


def piece(content: str, id: str, name: str) -> Any:
    """A piece of an agent's message: LangChain's `AIMessageChunk` in a program that uses it, else a `MessageChunk`."""
    if not in_use():
        return MessageChunk(content, id, name)
    return import_module("langchain_core.messages").AIMessageChunk(content, id=id, name=name)


def news(value: Any, seen: set[Any]) -> Iterator[Any]:
    """The message objects in what a node wrote that have not been seen yet; each has an id from then on."""
    for message in messages_in(value):
        if message.id is None:
            message.id = str(uuid.uuid4())
        if message.id not in seen:
            seen.add(message.id)
            yield message


def messages_in(value: Any) -> Iterator[Any]:
    """The message objects in a value: itself, or those in it. They have an id and a content."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if _is_message(item):
            yield item


def _is_message(value: Any) -> bool:
    return hasattr(value, "content") and hasattr(value, "id") and not isinstance(value, type)


class _Ear:
    """One listener's place among the callbacks of LangChain."""

    run_inline = True  # in the thread of the model, so that its parts keep their order

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._calls: dict[Any, tuple[tuple[str, ...], dict[str, Any]]] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **more: Any) -> None:
        metadata, tags = more.get("metadata"), more.get("tags") or ()
        if metadata and "langgraph_checkpoint_ns" in metadata and QUIET not in tags:
            namespace = tuple(str(metadata["langgraph_checkpoint_ns"]).split("|")[:-1])
            told = [tag for tag in tags if not tag.startswith("seq:step")]
            self._calls[run_id] = (namespace, {**metadata, "tags": told} if told else metadata)

    def on_llm_new_token(self, token: str, *, run_id: Any, chunk: Any = None, **more: Any) -> None:
        if chunk is not None and hasattr(chunk, "message"):
            self._tell(run_id, chunk.message)

    def on_llm_end(self, response: Any, *, run_id: Any, **more: Any) -> None:
        for answers in response.generations[:1]:
            for answer in answers[:1]:
                if hasattr(answer, "message") and answer.message.id not in self._listener.seen:
                    self._tell(run_id, answer.message)
        self._calls.pop(run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
        self._calls.pop(run_id, None)

    def tap_output_iter(self, run_id: Any, output: Any) -> Any:
        return output

    def tap_output_aiter(self, run_id: Any, output: Any) -> Any:
        return output

    def _tell(self, run_id: Any, message: Any) -> None:
        if run_id not in self._calls:
            return
        namespace, metadata = self._calls[run_id]
        if message.id is None:
            message.id = str(uuid.uuid4())
        self._listener.seen.add(message.id)
        self._listener.put(namespace, "messages", (message, metadata))


class _Pulse:
    """Gives a sign at each of LangChain's events."""

    run_inline = True

    def __init__(self, sign: Callable[[], None]) -> None:
        self._sign = sign

    def _beat(self, *args: Any, **more: Any) -> None:
        self._sign()

    on_chat_model_start = on_llm_start = on_llm_new_token = on_llm_end = _beat
    on_chain_start = on_chain_end = on_tool_start = on_tool_end = on_retriever_start = on_retriever_end = _beat


@cache
def _pulse() -> Any:
    return type("Pulse", (_Pulse, import_module("langchain_core.callbacks").BaseCallbackHandler), {})


@cache
def _handler() -> Any:
    """The class of listeners: the second base tells LangChain that somebody wants the parts of an answer."""
    plain = import_module("langchain_core.callbacks").BaseCallbackHandler
    parts = import_module("langchain_core.tracers._streaming")._StreamingCallbackHandler
    return type("Ear", (_Ear, plain, parts), {})
