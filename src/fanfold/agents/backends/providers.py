"""Whose a model is, and what its errors may say."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from fanfold.errors import ModelKeyError, UsageError, did_you_mean

PROVIDERS: Final = {"anthropic": "ANTHROPIC", "openai": "OPENAI"}
"""What stands before the colon of a model's name, and how its environment variables begin."""

REHEARSAL_MODEL: Final = "rehearsal"

LONGEST_REASON: Final = 500
"""Characters of what a server or a program says of its failure that are told."""


LONGEST_DETAIL: Final = 120
"""Characters of what a tool was given that those who watch the run are told."""


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


def detailed(text: str) -> str:
    """What a tool was given, as it is told: a bounded part of it."""
    return shortened(text, LONGEST_DETAIL)


def masked(text: str) -> str:
    """The text without any key of ours: a server may repeat what it was sent."""
    for prefix in PROVIDERS.values():
        key = os.environ.get(f"{prefix}_API_KEY")
        text = text.replace(key, "***") if key else text
    return text


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
