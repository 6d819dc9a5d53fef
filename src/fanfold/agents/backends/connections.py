"""Where the model of an agent is, and a connection to it.

The vendors' own retries and time limits are switched off: when to try again, and what counts as silence, is the
runtime's decision. This module imports what takes half a second to import, and a vendor's package only when one of its
models is asked. Agents that are in flight together share no pool of connections: whenever an answer ends, a pool looks
at all that it has.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.profiles import ModelProfile

from fanfold.agents.backends.providers import PROVIDERS, REHEARSAL_MODEL, check_key, check_name, is_loopback

if TYPE_CHECKING:
    from openai.resources.chat.completions import AsyncCompletions

SECONDS_TO_CONNECT: Final = 20.0


class Pulse:
    """Beats with each piece of an answer that arrives, whatever is in it; `listen` says who hears it."""

    def __init__(self) -> None:
        self.listen: Callable[[], None] | None = None

    def beat(self) -> None:
        """A piece has arrived."""
        if self.listen is not None:
            self.listen()


class Address(NamedTuple):
    """Which model is asked, where, and with which key."""

    provider: str
    name: str
    key: str
    url: str | None


def address_of(model: Any) -> Address:
    """Where a call's model is: by its name and the environment, or a server that stands in for a provider."""
    if not isinstance(model, str):
        return Address("openai", REHEARSAL_MODEL, "none-needed", f"{model.url}/v1")
    provider, name = check_name(model)
    check_key(model)
    key = os.environ.get(f"{PROVIDERS[provider]}_API_KEY") or "none-needed"
    return Address(provider, name, key, os.environ.get(f"{PROVIDERS[provider]}_BASE_URL"))


@asynccontextmanager
async def connection(address: Address, pulse: Pulse) -> AsyncIterator[Model]:
    """The model at an address, with a connection that is closed afterwards; what arrives makes `pulse` beat."""
    make = _openai if address.provider == "openai" else _anthropic
    client, model = make(address, pulse)
    async with client:
        yield model


class _Watched(httpx2.AsyncByteStream):
    """A body that makes a pulse beat."""

    def __init__(self, stream: Any, pulse: Pulse) -> None:
        self._stream = stream
        self._pulse = pulse

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._pulse.beat()
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _watched(pulse: Pulse, response: httpx2.Response) -> None:
    pulse.beat()
    response.stream = _Watched(response.stream, pulse)


def _transport(url: str | None, pulse: Pulse) -> dict[str, Any]:
    """How a client connects. A proxy of the environment's is meant for the world outside, not for this machine."""
    plain = url is not None and urlsplit(url).scheme == "http"
    return {
        "trust_env": url is None or not is_loopback(url),
        "verify": _no_tls() if plain else _tls(),
        "timeout": httpx2.Timeout(None, connect=SECONDS_TO_CONNECT),
        "event_hooks": {"response": [functools.partial(_watched, pulse)]},
    }


@functools.cache
def _no_tls() -> ssl.SSLContext:
    """For a connection without TLS, which would make one for each client; it trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust, read once: reading them takes longer than a call, and holds up the event loop."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _settings(make: Callable[..., Any], address: Address, pulse: Pulse) -> dict[str, Any]:
    """What a vendor's client is set up with, over a connection that `make` makes."""
    transport = _transport(address.url, pulse)
    return {
        "api_key": address.key,
        "base_url": address.url,
        "max_retries": 0,
        "timeout": transport["timeout"],
        "http_client": make(**transport),
    }


def _openai(address: Address, pulse: Pulse) -> tuple[Any, Model]:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(**_settings(DefaultAsyncHttpxClient, address, pulse))
    vars(client.chat)["completions"] = as_given()(client)  # where the property would keep what it makes
    return client, _known(OpenAIChatModel, address, OpenAIProvider(openai_client=client))


@functools.cache
def as_given() -> type[AsyncCompletions]:
    """The vendor's completions, which send a body as it is given.

    Theirs match each message with the types of all messages that there are, to rename what has another name in Python.
    Nothing has, and that takes a tenth of what it takes to ask.
    """
    from openai import AsyncStream, NotGiven, Omit
    from openai.resources.chat.completions import AsyncCompletions
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    options = {"timeout": "timeout", "extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}

    class AsGiven(AsyncCompletions):
        async def create(self, *, stream: Any = False, **given: Any) -> Any:
            given = {name: value for name, value in given.items() if not isinstance(value, (NotGiven, Omit))}
            asked = {options[name]: given.pop(name) for name in options.keys() & given}
            wanted: Any = {"security": {"bearer_auth": True}}
            wanted |= {name: value for name, value in asked.items() if value is not None or name == "timeout"}
            return await self._client.post(
                "/chat/completions",
                body={**given, "stream": stream},
                options=wanted,
                cast_to=ChatCompletion,
                stream=stream,
                stream_cls=AsyncStream[ChatCompletionChunk],
            )

    return AsGiven


def _anthropic(address: Address, pulse: Pulse) -> tuple[Any, Model]:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(**_settings(DefaultAsyncHttpxClient, address, pulse))
    return client, _known(AnthropicModel, address, AnthropicProvider(anthropic_client=client))


_windows: Final[dict[tuple[str, str, str | None], int | None]] = {}
"""The context windows of models by provider, name and URL: to look one up takes as long as to set up a client."""


def _known(make: Callable[..., Model], address: Address, provider: Any) -> Model:
    which = (address.provider, address.name, address.url)
    if which not in _windows:
        _windows[which] = make(address.name, provider=provider).context_window
    return make(address.name, provider=provider, profile=ModelProfile(context_window=_windows[which]))
