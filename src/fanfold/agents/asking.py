"""One request to a model, tried again when it may go better the next time.

Vendors' own retries are switched off, since they know of one request only: here each attempt goes through the desk,
where the rate gate, the model's concurrency and the budget hold for all agents of the run at once. What a failed
attempt had reserved is given back before anybody waits, and nobody waits within a slot.

What may go better is a 429 or a 529, an error on the server's own side, a stream that was cut, and a server that cannot
be reached. `Retry-After` is how long the server itself says; where it says nothing, the wait doubles each time, and is
drawn by lot from its upper half, so that agents that failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fanfold.agents.backends.base import Asking, Call
from fanfold.errors import ModelError, ModelOverloadedError, ModelRateError, ModelUnavailableError

MOST_ATTEMPTS: Final = 6
"""How often one request is sent at most."""

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
LONGEST_ASKED: Final = 600.0
"""Seconds that a server may ask us to wait; one that asks for more has refused."""

T = TypeVar("T")


async def persist(call: Call, model: str, send: Callable[[Asking], Awaitable[T]], *, tokens: int) -> T:
    """What `send` returns, which is awaited once for each attempt, and settles what it took.

    `tokens` is an estimate of what one attempt takes. Raises the last attempt's error when there is none left, and any
    other than those that may go better at once.
    """
    attempt = 1
    while True:
        try:
            async with call.desk.asking(model, tokens=tokens) as asking:
                return await send(asking)
        except (ModelRateError, ModelUnavailableError) as error:
            seconds = wait_after(error, attempt)
            if seconds is None:
                raise
            call.desk.notice(_told(call, model, error, attempt, seconds))
        await asyncio.sleep(seconds)
        attempt += 1


def wait_after(error: ModelError, attempt: int) -> float | None:
    """Seconds to wait after the failure of an attempt, which is counted from 1; None when it is not to be repeated."""
    asked = error.retry_after if isinstance(error, ModelRateError | ModelOverloadedError) else None
    if attempt >= MOST_ATTEMPTS or getattr(error, "final", False) or (asked or 0.0) > LONGEST_ASKED:
        return None
    if asked is not None:
        return asked
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret depends on it


def _told(call: Call, model: str, error: ModelError, attempt: int, seconds: float) -> str:
    cause = {ModelRateError: "asks for fewer requests", ModelOverloadedError: "is overloaded"}.get(type(error))
    return (
        f"agent {call.definition.name!r}: model {model!r} {cause or 'did not answer'}; "
        f"it is asked again in {seconds:.1f} s (attempt {attempt + 1} of {MOST_ATTEMPTS})"
    )
