"""One request to a model, tried again when it may go better the next time.

Vendors' own retries are switched off, since they know of one request only: here each attempt goes through the desk,
where the rate gate, the model's concurrency and the budget hold for all agents of the run at once. What a refused
attempt had reserved is given back before anybody waits, and nobody waits in a place that others could have.

What may go better is a 429 or a 529, an error on the server's own side, a stream that was cut, and a server that cannot
be reached. A server that says for how long it is to be left alone is left alone by all: that wait is at the gate.
Otherwise each waits by itself, twice as long each time, and for a time that is drawn by lot from the upper half, so
that agents that failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fanfold.agents.backends.base import Call
from fanfold.errors import ModelError, ModelOverloadedError, ModelRateError, ModelUnavailableError
from fanfold.limits.desk import Asking
from fanfold.limits.gate import LONGEST_PAUSE

MOST_ATTEMPTS: Final = 6
"""How often one request is sent at most."""

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
T = TypeVar("T")


async def persist(
    call: Call, model: str, send: Callable[[Asking], Awaitable[T]], *, tokens: int, usd: float = 0.0
) -> T:
    """What `send` returns, which is awaited once for each attempt, and settles what it took.

    `tokens` and `usd` are an estimate of what one attempt takes; 0 is one that nobody can make. Raises the last
    attempt's error when there is none left, and any other than those that may go better at once.
    """
    attempt = 1
    while True:
        try:
            async with call.desk.asking(model, tokens=tokens, usd=usd) as asking:
                return await send(asking)
        except (ModelRateError, ModelUnavailableError) as error:
            if attempt >= MOST_ATTEMPTS or not _may_go_better(error):
                raise
            asked = _asked_to_wait(error)
            seconds = wait_after(attempt) if asked is None else asked
            call.desk.retried(model, error, seconds)
        if asked is None:
            await asyncio.sleep(seconds)
        attempt += 1


def _asked_to_wait(error: ModelError) -> float | None:
    """Seconds for which the server has said itself that it is to be left alone."""
    return error.retry_after if isinstance(error, ModelRateError | ModelOverloadedError) else None


def _may_go_better(error: ModelError) -> bool:
    """Whether to try again. A server may say that it is no use, or ask for more patience than we have."""
    return not getattr(error, "final", False) and (_asked_to_wait(error) or 0.0) <= LONGEST_PAUSE


def wait_after(attempt: int) -> float:
    """Seconds to wait after an attempt, counted from 1, has failed."""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret depends on it
