"""What agents of one's own spend: a Python function that asks a model by itself does so within the run's limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fanfold.errors import OutsideError
from fanfold.events import ModelAnswered
from fanfold.frame import clock, current_frame
from fanfold.limits.governor import Asking


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
    async with desk.asking(model, calls=calls, tokens=tokens, usd=usd) as request:
        yield request
    if request.taken is not None:
        told = ModelAnswered(clock(), frame.task.id, model, request.input_tokens, request.output_tokens, request.usd)
        frame.runner.emit(told)
