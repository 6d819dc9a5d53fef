"""An executor in processes of their own: for code that keeps Python itself busy, which threads only take turns at.

A function goes to a process by its name, its arguments and its result as copies; so it has to be a function of a
module, and what it is given and returns must be picklable. It is outside of the run there: it can ask no person, call
no agent and write to no stream. The processes are started as they are needed and used again; when the one that started
them dies, they do, too.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from fanfold.errors import NotPortableError, RemoteError, WorkerLostError


class Processes:
    """Runs functions in at most `most` other processes. An async function gets an event loop of its own there."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ProcessPoolExecutor | None = None

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns in another process.

        Raises `NotPortableError` when one of them cannot go there or the result cannot come back, `WorkerLostError`
        when the process ends before the function does.
        """
        pool = self._opened()
        try:
            returned, answer = await asyncio.wrap_future(pool.submit(_called, _packed(action, args)))
        except BrokenProcessPool:
            if self._pool is pool:  # the next call gets new ones
                self._pool = None
            raise WorkerLostError(
                f"the process in which {_name(action)} ran has ended before it: killed, out of memory, or crashed"
            ) from None
        value = pickle.loads(answer)  # noqa: S301 - written by a process that this one has started
        if returned:
            return value
        raise value

    def close(self, *, wait: bool) -> None:
        """Let the processes go; a function that has begun is not stopped, only waited for or left."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:  # forking one that has threads could copy a lock that is held and never released
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._most, mp_context=context, initializer=_follow_parent)
        return self._pool


def _packed(action: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((action, args))
    except Exception as error:
        raise NotPortableError(
            f"{_name(action)} cannot be sent to another process with what it is given: {error}",
            hint="it must be a function of a module, and its input picklable; or run it in a thread",
        ) from error


def _called(message: bytes) -> tuple[bool, bytes]:
    """In the other process: whether the call returned, and what it returned or raised, in a form that arrives."""
    action, args = pickle.loads(message)  # noqa: S301 - written by the process that started this one
    try:
        return True, _returned(action, args)
    except Exception as error:  # noqa: BLE001 - it is raised where the call was made
        return False, _raised(error)


def _returned(action: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    value = action(*args)
    if inspect.iscoroutine(value):
        value = asyncio.run(value)
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise NotPortableError(
            f"what {_name(action)} returned cannot be sent back to the run: {error}", hint="return plain data"
        ) from error


def _raised(error: Exception) -> bytes:
    """The error with the place where it was raised. One that cannot be sent is told of by one that can."""
    place = "".join(traceback.format_exception(error))
    error.add_note(f"in process {os.getpid()}:\n{place}")
    try:
        sent = pickle.dumps(error)
        pickle.loads(sent)  # noqa: S301 - one whose constructor wants more cannot be made again, here or there
    except Exception:  # noqa: BLE001 - the reasons are as many as there are classes of errors
        told = RemoteError(f"{type(error).__qualname__}: {error}")
        told.add_note(f"in process {os.getpid()}:\n{place}")
        return pickle.dumps(told)
    return sent


def _follow_parent() -> None:
    """In the other process: end with the one that started it, which may be killed without a word."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is called in a process that another one has started"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="fanfold-parent", daemon=True).start()


def _name(action: Callable[..., Any]) -> str:
    inner = getattr(action, "func", action)
    return repr(getattr(inner, "__qualname__", type(inner).__qualname__))
