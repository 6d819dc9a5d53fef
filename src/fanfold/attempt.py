"""One task's code, run under its policies: attempts, time limits, and the handler of what is left.

::

    attempt ─▶ raises ─▶ covered by a retry policy? ─ yes ─▶ wait ─▶ attempt ...
                │                   └─ no, or no attempt left ─▶ error handler? ─▶ its result is the task's
                └─ an interrupt or a command for the graph around: no error, passed on
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fanfold.errors import NodeCancelledError, NodeTimeoutError
from fanfold.events import TaskStarted
from fanfold.frame import Frame, clock
from fanfold.types import RetryPolicy, TimeoutPolicy

T = TypeVar("T")


async def attempts(frame: Frame, policies: Sequence[RetryPolicy], once: Callable[[], Awaitable[T]]) -> T:
    """What `once` returns, tried as often as the first policy that covers its error allows."""
    frame.first_attempt = frame.first_attempt or time.time()
    while True:
        try:
            return await once()
        except NodeCancelledError:
            raise
        except Exception as error:
            policy = next((policy for policy in policies if policy.covers(error)), None)
            if policy is None or frame.attempt >= policy.max_attempts:
                raise
            await asyncio.sleep(policy.interval(frame.attempt, random.random()))  # noqa: S311 - spreads retries
            frame.renew()
            frame.runner.emit(TaskStarted(clock(), frame.task.id, frame.attempt))


async def limited(frame: Frame, timeout: TimeoutPolicy | None, work: Awaitable[T]) -> T:
    """What `work` returns. Raises `NodeTimeoutError` when it takes longer than `timeout` allows, and cancels it.

    What it returns afterwards reaches nobody. If it is the caller that is cancelled, the work ends before this does.
    """
    frame.sign = began = frame.runner.family.now()
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            remaining = None if timeout is None else _remaining(frame, timeout, began)
            await asyncio.wait([task], timeout=remaining)
            if timeout is not None and not task.done() and _remaining(frame, timeout, began) <= 0:
                frame.ended = frame.late = True
                frame.give_up(task)
                raise _late(frame, timeout, began)
        return task.result()
    except asyncio.CancelledError:
        frame.give_up(task)  # also one that has ended just now, whose error nobody asks for any more
        if not task.done():
            await asyncio.wait([task])
        raise


def _remaining(frame: Frame, timeout: TimeoutPolicy, began: float) -> float:
    run, idle = timeout.run_timeout, timeout.idle_timeout
    ends = [began + run] if isinstance(run, float) else []
    ends += [frame.sign + idle] if isinstance(idle, float) else []
    return max(0.0, min(ends) - frame.runner.family.now())


def _late(frame: Frame, timeout: TimeoutPolicy, began: float) -> NodeTimeoutError:
    run, idle = timeout.run_timeout, timeout.idle_timeout
    now = frame.runner.family.now()
    over = isinstance(run, float) and now >= began + run
    return NodeTimeoutError(
        frame.task.node,
        now - began,
        kind="run" if over else "idle",
        run_timeout=run if isinstance(run, float) else None,
        idle_timeout=idle if isinstance(idle, float) else None,
    )
