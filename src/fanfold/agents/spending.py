"""What agents of one's own spend: a Python function that asks a model by itself does so within the run's limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fanfold.errors import OutsideError
from fanfold.frame import Frame, current_frame
from fanfold.limits.desk import Asking
from fanfold.limits.holding import inside


@asynccontextmanager
async def asking(model: str, *, calls: int = 1, tokens: float = 0.0, usd: float = 0.0) -> AsyncIterator[Asking]:
    """A request to a model that a Python agent makes itself, once the run's limits allow it::

        async with asking("mine:large", tokens=2000) as request:
            reply = await my_client.complete(prompt)
            request.answered(reply.input_tokens, reply.output_tokens, usd=reply.cost)

    `tokens` and `usd` are what it will take, as far as one can tell. What is not `answered` counts as having taken just
    that. Raise `ModelRateError` inside where the model's server says that it is asked too often: then nobody in the run
    asks it for a while, and nothing is counted.

    Raises `OutsideError` outside of an agent, and `BudgetError` when too little is left.
    """
    frame = current_frame()
    desk = None if frame is None else frame.runner.family.governor.at(frame.task.id)
    if frame is None or desk is None:
        raise OutsideError("asking() is for the code of an agent: nobody else has a model's requests to account for")
    asked = desk.asking(model, calls=calls, tokens=tokens, usd=usd)
    at_home = asyncio.get_running_loop() is frame.runner.family.loop
    async with asked if at_home else _on_the_runs_loop(frame, asked) as request:
        yield request


@asynccontextmanager
async def _on_the_runs_loop(frame: Frame, asked: AbstractAsyncContextManager[Asking]) -> AsyncIterator[Asking]:
    """The request of an agent in a thread that has an event loop of its own: who waits is woken in the run's."""
    begun: Future[Asking] = Future()
    ended: Future[None] = Future()

    async def hold() -> None:
        try:
            async with asked as request:
                begun.set_result(request)
                await asyncio.wrap_future(ended)
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            raise

    holding = frame.runner.from_outside(frame, hold)
    try:
        request = await asyncio.wrap_future(begun)
        with inside(request):
            yield request
    except BaseException as error:
        ended.set_exception(error)
        if begun.cancelled():  # the wait was given up
            holding.cancel()
        raise
    else:
        ended.set_result(None)
    finally:
        await asyncio.wait([asyncio.wrap_future(holding)])
