"""Workflows as plain functions: `@entrypoint` makes a graph of one, and `@task` makes its steps durable.

A call of a task inside of an entrypoint (or of a node) starts it at once and hands back a future. What it returned is
kept by the place of the call: when the entrypoint runs again after a pause or a crash, the same call has it already.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar, get_args, get_origin, overload

from fanfold.attempt import attempts, limited
from fanfold.errors import OutsideError, UnsupportedError, UsageError
from fanfold.frame import Frame, current_frame
from fanfold.graph import CompiledGraph, checkpointer_of
from fanfold.kernel.channels import Channel, EphemeralValue, LastValue
from fanfold.kernel.graph import is_async, name_of
from fanfold.kernel.plan import Action, Node, Plan
from fanfold.kernel.schema import asked_for, hints_of, single_schema
from fanfold.limits import Limits
from fanfold.store.opening import items_of
from fanfold.types import START, CachePolicy, Command, RetryPolicy, TimeoutPolicy

T = TypeVar("T")
S = TypeVar("S")

END_KEY = "__end__"
PREVIOUS_KEY = "__previous__"


class TaskFuture(Future[T]):
    """The result of a task that blocking code has called: `.result()` waits for it, and async code can await it."""

    def __init__(self, source: Future[T]) -> None:
        super().__init__()
        self._source = source
        source.add_done_callback(self._take)

    def cancel(self) -> bool:
        """Ask it to stop."""
        self._source.cancel()
        return super().cancel()

    def _take(self, source: Future[T]) -> None:
        if source.cancelled():
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        error = source.exception()
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(source.result())

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()


class TaskFunction:
    """A function whose calls are tasks."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        retry: tuple[RetryPolicy, ...],
        cache: CachePolicy | None,
        timeout: TimeoutPolicy | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.__name__ = self.name = name
        self._function = function
        self._is_async = is_async(function)
        self._retry = retry
        self._cache = cache
        self._timeout = timeout
        self._asks = asked_for(function, skip=0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start it; the future of its result. Raises `OutsideError` outside of an entrypoint or node."""
        frame = current_frame()
        if frame is None:
            raise OutsideError(
                f"task {self.name!r} was called outside of an entrypoint or node",
                hint="call it from a function that is decorated with @entrypoint",
            )
        frame.check()
        spawn = functools.partial(self._spawned, frame, args, kwargs)
        return spawn() if _in_loop(frame) else TaskFuture(frame.runner.from_outside(frame, spawn))

    def clear_cache(self, cache: Any) -> None:
        """Forget what was cached for it."""
        cache.clear([("task", self.name)])

    async def aclear_cache(self, cache: Any) -> None:
        """The same, without blocking the event loop."""
        await asyncio.to_thread(self.clear_cache, cache)

    def _spawned(self, frame: Frame, args: Any, kwargs: Any) -> asyncio.Task[Any]:
        return frame.spawn(self._called(frame, args, kwargs))

    async def _called(self, frame: Frame, args: Any, kwargs: Any) -> Any:
        async def work(task_id: str) -> Mapping[str, Any]:
            return {"value": await self._value(args, kwargs)}

        given = (args, kwargs)
        answer = await frame.runner.children.call(
            frame, self.name, work, label="", fingerprint="", role="task", given=given
        )
        return answer["value"]

    async def _value(self, args: Any, kwargs: Any) -> Any:
        frame = current_frame()
        assert frame is not None, "a task runs in a frame of its own"
        cache, policy = frame.runner.family.cache, self._cache
        key = None if cache is None or policy is None else str(policy.key_func(*args, **kwargs))
        if key is not None and (kept := cache.get(("task", self.name), key)) is not None:
            frame.cached = True
            return kept["value"]
        value = await attempts(frame, self._retry, lambda: self._once(frame, args, kwargs))
        if key is not None and policy is not None:
            cache.set(("task", self.name), key, {"value": value}, policy.ttl)
        return value

    async def _once(self, frame: Frame, args: Any, kwargs: Any) -> Any:
        family = frame.runner.family
        executor = family.places.of(None, is_async=self._is_async)
        asks = {parameter: what for parameter, what in self._asks.items() if parameter not in self._bound(args)}
        given = {**frame.injected(asks), **kwargs}
        work = executor.call(functools.partial(self._function, **given), *args)
        return await (work if self._timeout is None else limited(frame, self._timeout, work))

    def _bound(self, args: Sequence[Any]) -> Collection[str]:
        """The parameters that were given by their place."""
        return list(inspect.signature(self._function).parameters)[: len(args)] if self._asks else ()


def _in_loop(frame: Frame) -> bool:
    try:
        return asyncio.get_running_loop() is frame.runner.family.loop
    except RuntimeError:
        return False


@overload
def task(function: Callable[..., Any], /) -> TaskFunction: ...


@overload
def task(
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy | None = None,
    timeout: float | timedelta | TimeoutPolicy | None = None,
) -> Callable[[Callable[..., Any]], TaskFunction]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy | None = None,
    timeout: float | timedelta | TimeoutPolicy | None = None,
) -> TaskFunction | Callable[[Callable[..., Any]], TaskFunction]:
    """Make a function a task: called inside of an entrypoint or node, it runs beside it and its result is kept."""
    policies = (retry_policy,) if isinstance(retry_policy, RetryPolicy) else tuple(retry_policy or ())
    limit = TimeoutPolicy.coerce(timeout)

    def decorate(code: Callable[..., Any]) -> TaskFunction:
        label = name or name_of(code)
        _check_timeout(code, limit, f"task {label!r}")
        return TaskFunction(code, label, policies, cache_policy, limit)

    return decorate if function is None else decorate(function)


def _check_timeout(code: Callable[..., Any], timeout: TimeoutPolicy | None, what: str) -> None:
    if timeout is not None and not is_async(code):
        raise UsageError(
            f"{what} has a timeout and is a blocking function, which cannot be stopped",
            hint="make it an async function, or leave the timeout out",
        )


class entrypoint:  # noqa: N801 - it is used as a decorator, like a function
    """Make a function a graph of one node: `@entrypoint(checkpointer=...)`.

    Its first parameter is the input. With a checkpointer, a parameter `previous` is what the thread's last run
    returned, or saved with `entrypoint.final(value=..., save=...)`.
    """

    @dataclass(frozen=True, slots=True)
    class final(Generic[T, S]):  # noqa: N801 - LangGraph's name for it
        """A return value, and another one to be remembered as `previous`."""

        value: T
        save: S

    def __init__(
        self,
        checkpointer: Any = None,
        store: Any = None,
        cache: Any = None,
        context_schema: Any = None,
        cache_policy: CachePolicy | None = None,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        timeout: float | timedelta | TimeoutPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._checkpointer = checkpointer_of(checkpointer)
        self._memory = items_of(store, self._checkpointer)
        self._cache = cache
        self._context = context_schema
        self._cache_policy = cache_policy
        self._retry = (retry_policy,) if isinstance(retry_policy, RetryPolicy) else tuple(retry_policy or ())
        self._timeout = TimeoutPolicy.coerce(timeout)
        self._limits = limits or Limits()

    def __call__(self, function: Callable[..., Any]) -> CompiledGraph:
        """The graph of the function. Raises `ValueError` when it takes no input or cannot be run as one."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UnsupportedError(
                f"entrypoint {function.__name__!r} is a generator, which has no one result to keep",
                hint="return the value; to show parts of it on the way, write them with get_stream_writer()",
            )
        _check_timeout(function, self._timeout, f"entrypoint {function.__name__!r}")
        if not inspect.signature(function).parameters:
            raise ValueError(f"entrypoint {function.__name__!r} must have at least one parameter, for its input")
        return CompiledGraph(
            self._plan(function),
            self._checkpointer,
            self._limits,
            memory=self._memory,
            cache=self._cache,
        )

    def _plan(self, function: Callable[..., Any]) -> Plan:
        takes, gives = _types(function)
        start = replace(single_schema(START, EphemeralValue()), type=takes)
        end = replace(single_schema(END_KEY, LastValue()), type=gives)
        waits = is_async(function)
        body = _async_body(function) if waits else _body(function)
        functools.update_wrapper(body, function, assigned=(), updated=())  # so that what it calls is found
        action = Action(body, waits, start, asked_for(function))
        name = function.__name__
        node = Node(
            name,
            action,
            (),
            (),
            (),
            1,
            retry=self._retry,
            cache=self._cache_policy,
            timeout=self._timeout,
        )
        channels: dict[str, Channel] = {START: EphemeralValue(), END_KEY: LastValue(), PREVIOUS_KEY: LastValue()}
        return Plan(name, end, start, end, channels, {name: node}, (), self._context)


def _types(function: Callable[..., Any]) -> tuple[Any, Any]:
    """What an entrypoint says that it takes and gives."""
    hints, first = hints_of(function), next(iter(inspect.signature(function).parameters))
    gives = hints.get("return", Any)
    if get_origin(gives) is entrypoint.final:
        gives = get_args(gives)[0]
    return hints.get(first, Any), gives


def _decided(value: Any) -> Command:
    saved = value.save if isinstance(value, entrypoint.final) else value
    given = value.value if isinstance(value, entrypoint.final) else value
    return Command(update=[(END_KEY, given), (PREVIOUS_KEY, saved)])


def _body(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(state: Any, **asked: Any) -> Command:
        return _decided(function(state, **asked))

    return run


def _async_body(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def run(state: Any, **asked: Any) -> Command:
        return _decided(await function(state, **asked))

    return run
