"""Whose a model is, and a connection to it.

The vendors' packages are imported when a connection of theirs is made: each takes half a second. Their own retries and
time limits are switched off: when to try again, and what counts as silence, is the runtime's decision.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fanfold.agents.backends.base import Call
from fanfold.errors import ModelKeyError, UsageError, did_you_mean

if TYPE_CHECKING:
    from pydantic_ai.models import Model

PROVIDERS: Final = {"anthropic": "ANTHROPIC", "openai": "OPENAI"}
"""What stands before the colon of a model's name, and how its environment variables begin."""

REHEARSAL_MODEL: Final = "rehearsal"

LONGEST_REASON: Final = 500
"""Characters of what a server or a program says of its failure that are told."""

SECONDS_TO_CONNECT: Final = 20.0


def check_name(name: str) -> tuple[str, str]:
    """The provider and the model of `provider:model`. Raises `UsageError` for anything else."""
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise UsageError(
            f"model {name!r} does not say whose it is",
            hint=f"name it as provider:model, with one of the providers {', '.join(PROVIDERS)}",
        )
    if provider not in PROVIDERS:
        raise UsageError(
            f"model {name!r} is of provider {provider!r}, which is not one of {', '.join(PROVIDERS)}"
            + did_you_mean(provider, PROVIDERS)
        )
    return provider, model


def check_key(name: str) -> None:
    """Raise `ModelKeyError` when the model's provider would be asked without any key."""
    provider, _ = check_name(name)
    prefix = PROVIDERS[provider]
    if not os.environ.get(f"{prefix}_API_KEY") and not os.environ.get(f"{prefix}_BASE_URL"):
        raise ModelKeyError(
            f"model {name!r} needs a key and there is none",
            hint=f"set {prefix}_API_KEY, or {prefix}_BASE_URL for a server of your own that asks for no key",
        )


def name_of(model: Any) -> str:
    """What a call's model is called: its name, or the rehearsal's where a server stands in for a provider."""
    return model if isinstance(model, str) else REHEARSAL_MODEL


def key_variable(model: Any) -> str:
    """Where a person looks who is told that a key is wrong."""
    return f"{PROVIDERS[check_name(model)[0]]}_API_KEY" if isinstance(model, str) else "the server's key"


def address_variable(model: Any) -> str:
    """Where a person looks who is told that a server cannot be reached."""
    return f"{PROVIDERS[check_name(model)[0]]}_BASE_URL" if isinstance(model, str) else "its address"


def shortened(text: str, longest: int) -> str:
    """The text, cut to a length."""
    return text if len(text) <= longest else text[: longest - 4] + " ..."


def masked(text: str) -> str:
    """The text without any key of ours: a server may repeat what it was sent."""
    for prefix in PROVIDERS.values():
        key = os.environ.get(f"{prefix}_API_KEY")
        text = text.replace(key, "***") if key else text
    return text


class Pulse:
    """Beats with each piece of an answer that arrives, whatever is in it; `listen` says who hears it."""

    def __init__(self) -> None:
        self.listen: Callable[[], None] | None = None

    def beat(self) -> None:
        """A piece has arrived."""
        if self.listen is not None:
            self.listen()


@asynccontextmanager
async def connection(call: Call, pulse: Pulse) -> AsyncIterator[Model]:
    """The call's model, with a connection to its provider that is closed afterwards."""
    if isinstance(call.model, str):
        provider, name = check_name(call.model)
        check_key(call.model)
        key = os.environ.get(f"{PROVIDERS[provider]}_API_KEY") or "none-needed"
        base_url = os.environ.get(f"{PROVIDERS[provider]}_BASE_URL")
    else:  # a server that stands in for a provider, such as the rehearsal's
        provider, name, key, base_url = "openai", REHEARSAL_MODEL, "none-needed", f"{call.model.url}/v1"
    make = _openai if provider == "openai" else _anthropic
    client, model = make(name, key, base_url, _who(call) if base_url and is_loopback(base_url) else None, pulse)
    async with client:
        yield model


def _who(call: Call) -> dict[str, str]:
    """Headers that tell a server on this machine who is asking; no other server is told."""
    return {"x-fanfold-agent": call.definition.name, "x-fanfold-task": call.task}


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _transport(base_url: str | None, pulse: Pulse) -> dict[str, Any]:
    """How a client connects. A proxy of the environment's is meant for the world outside, not for this machine."""
    import httpx2

    async def watched(response: httpx2.Response) -> None:
        pulse.beat()
        response.stream = _Watched(response.stream, pulse)

    class _Watched(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, pulse: Pulse) -> None:
            self._stream = stream
            self._pulse = pulse

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._stream:
                self._pulse.beat()
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    plain = base_url is not None and urlsplit(base_url).scheme == "http"
    return {
        "trust_env": base_url is None or not is_loopback(base_url),
        "verify": False if plain else _tls(),
        "timeout": httpx2.Timeout(None, connect=SECONDS_TO_CONNECT),
        "event_hooks": {"response": [watched]},
    }


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust, read once: reading them takes longer than a call, and holds up the event loop."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _settings(
    make: Callable[..., Any], key: str, base_url: str | None, headers: dict[str, str] | None, pulse: Pulse
) -> dict[str, Any]:
    """What a vendor's client is set up with, over a connection that `make` makes. Trying again is ours."""
    transport = _transport(base_url, pulse)
    return {
        "api_key": key,
        "base_url": base_url,
        "max_retries": 0,
        "timeout": transport["timeout"],
        "default_headers": headers,
        "http_client": make(**transport),
    }


def _openai(
    name: str, key: str, base_url: str | None, headers: dict[str, str] | None, pulse: Pulse
) -> tuple[Any, Model]:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(**_settings(DefaultAsyncHttpxClient, key, base_url, headers, pulse))
    return client, OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def _anthropic(
    name: str, key: str, base_url: str | None, headers: dict[str, str] | None, pulse: Pulse
) -> tuple[Any, Model]:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(**_settings(DefaultAsyncHttpxClient, key, base_url, headers, pulse))
    return client, AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
