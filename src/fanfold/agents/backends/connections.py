"""Connections to the servers of models. Agents that are in flight together share one.

To set a client up takes more of a processor than to ask it, and a handshake where there is TLS. So whoever asks the
same model of the same server with the same key, in the same event loop, uses the same client, and the last who leaves
closes it. What belongs to one agent alone goes with its requests: its headers, and a `Pulse` that hears the answers.

The vendors' own retries and time limits are switched off: when to try again, and what counts as silence, is the
runtime's decision. This module imports what takes half a second to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx2
from pydantic_ai.models import Model

from fanfold.agents.backends.providers import PROVIDERS, REHEARSAL_MODEL, check_key, check_name, is_loopback

SECONDS_TO_CONNECT: Final = 20.0


class Pulse:
    """Beats with each piece of an answer that arrives, whatever is in it; `listen` says who hears it."""

    def __init__(self) -> None:
        self.listen: Callable[[], None] | None = None

    def beat(self) -> None:
        """A piece has arrived."""
        if self.listen is not None:
            self.listen()

    @contextmanager
    def hears(self) -> Iterator[None]:
        """The answers to what is asked within this block make it beat."""
        token = _pulse.set(self)
        try:
            yield
        finally:
            _pulse.reset(token)


_pulse: ContextVar[Pulse] = ContextVar("fanfold_pulse")


class Address(NamedTuple):
    """Which model is asked, where, and with which key."""

    provider: str
    name: str
    key: str
    url: str | None


@dataclass(slots=True, eq=False)
class _Shared:
    """A client, the model that is asked through it, and how many agents use them."""

    client: Any
    model: Model
    users: int = 0


_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, _Shared]] = WeakKeyDictionary()


def address_of(model: Any) -> Address:
    """Where a call's model is: by its name and the environment, or a server that stands in for a provider."""
    if not isinstance(model, str):
        return Address("openai", REHEARSAL_MODEL, "none-needed", f"{model.url}/v1")
    provider, name = check_name(model)
    check_key(model)
    key = os.environ.get(f"{PROVIDERS[provider]}_API_KEY") or "none-needed"
    return Address(provider, name, key, os.environ.get(f"{PROVIDERS[provider]}_BASE_URL"))


@asynccontextmanager
async def connection(address: Address) -> AsyncIterator[Model]:
    """The model at an address, over a connection that is closed when nobody uses it any more."""
    here = _open.setdefault(asyncio.get_running_loop(), {})
    shared = here.get(address)
    if shared is None:
        shared = here[address] = _Shared(*(_openai if address.provider == "openai" else _anthropic)(address))
    shared.users += 1
    try:
        yield shared.model
    finally:
        shared.users -= 1
        if not shared.users:
            del here[address]
            await shared.client.close()


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


async def _watched(response: httpx2.Response) -> None:
    if (pulse := _pulse.get(None)) is not None:
        pulse.beat()
        response.stream = _Watched(response.stream, pulse)


def _transport(url: str | None) -> dict[str, Any]:
    """How a client connects. A proxy of the environment's is meant for the world outside, not for this machine."""
    plain = url is not None and urlsplit(url).scheme == "http"
    return {
        "trust_env": url is None or not is_loopback(url),
        "verify": False if plain else _tls(),
        "timeout": httpx2.Timeout(None, connect=SECONDS_TO_CONNECT),
        "event_hooks": {"response": [_watched]},
    }


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust, read once: reading them takes longer than a call, and holds up the event loop."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _settings(make: Callable[..., Any], address: Address) -> dict[str, Any]:
    """What a vendor's client is set up with, over a connection that `make` makes."""
    transport = _transport(address.url)
    return {
        "api_key": address.key,
        "base_url": address.url,
        "max_retries": 0,
        "timeout": transport["timeout"],
        "http_client": make(**transport),
    }


def _openai(address: Address) -> tuple[Any, Model]:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(**_settings(DefaultAsyncHttpxClient, address))
    return client, OpenAIChatModel(address.name, provider=OpenAIProvider(openai_client=client))


def _anthropic(address: Address) -> tuple[Any, Model]:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(**_settings(DefaultAsyncHttpxClient, address))
    return client, AnthropicModel(address.name, provider=AnthropicProvider(anthropic_client=client))
