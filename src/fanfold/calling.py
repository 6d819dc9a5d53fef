"""What a task does: its node's code is called, under the node's policies, and what it answers is read.

::

    policies ─▶ the node's code, called with a copy of the state ─▶ what it writes, and where its Commands lead
                                                                              │
                                                    its conditional edges ◀───┘ ─▶ the result

Most nodes have no policies, and their code is called without a detour: all that stands between a task and its code is
paid for by every task.
"""

from __future__ import annotations

import asyncio
import functools
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fanfold import interop
from fanfold.attempt import attempts, limited
from fanfold.errors import InvalidUpdateError, KeptError, NodeCancelledError, NodeError, ParentCommand, did_you_mean
from fanfold.events import Noticed
from fanfold.family import UnknownKeyWarning, named
from fanfold.frame import Frame, clock
from fanfold.kernel.ledger import Result, Task, Write
from fanfold.kernel.plan import Action, Handler, Node
from fanfold.kernel.schema import commanded, has, updates_of
from fanfold.store.records import from_result, to_result
from fanfold.types import Command, Send

if TYPE_CHECKING:
    from fanfold.run import Runner

T = TypeVar("T")

Goals = tuple[str | Send, ...]

QUICK_ENOUGH: Final = 0.001
"""Seconds that code may take on the event loop and be called there again; a thread costs a tenth of that."""

_OURS: Final = (dict, Command, type(None))
"""What most code answers with: there is nothing to call in it, and nothing of another engine's."""


class Calls:
    """Calls the code of the nodes of one runner's graph, and reads what it answers."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._family = runner.family
        self._ledger = runner.ledger
        self._plan = runner.ledger.plan

    async def governed(self, frame: Frame, node: Node) -> Result:
        """The result of a task whose node has policies, or is START."""
        if node.action is None:
            given = frame.task.arg
            return await self.routed(frame, node, self._ledger.input_writes(given), self._runner.detour, returned=given)
        action = node.action
        key = self._cache_key(frame, node, action)
        cached = None if key is None else self._family.cache.get((self._plan.name, node.name), key)
        if cached is not None:
            frame.cached = True
            return to_result(cached, f"the cached result of node {node.name!r}")
        result = await self._tried(frame, node, action)
        if key is not None and node.cache is not None:
            self._family.cache.set((self._plan.name, node.name), key, from_result(result), node.cache.ttl)
        return result

    async def once(self, frame: Frame, node: Node, action: Action) -> Result:
        """One attempt: what the action answers, as what it writes and where it leads."""
        frame.first_attempt = frame.first_attempt or time.time()
        timeout = (frame.task.timeout or node.timeout) if frame.error is None else None
        try:
            if timeout is None:
                waits, value = self._begin(frame, action, at_once=self._may_be_at_once(action))
                if waits:
                    value = await value
                if type(value) not in _OURS:
                    value = await self._resolved(frame, action, value)
            else:
                value = await limited(frame, timeout, self._called(frame, action))
        except asyncio.CancelledError as cancelled:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            raise NodeCancelledError(node.name) from cancelled
        except ParentCommand as command:
            if command.command.graph != Command.PARENT:
                raise
            value = Command(update=command.command.update, goto=command.command.goto)
        writes, goto = self._read(frame.task, node, action, value)
        if node.routes:
            result = await self.routed(frame, node, writes, goto, returned=value)
        else:
            frame.written = writes
            result = Result(writes, goto)
        if self._plan.reach is not None:
            self._plan.reach.check(frame.task.node, result.goto)
        return result

    async def routed(
        self, frame: Frame, node: Node, writes: tuple[Write, ...], goto: Goals, *, returned: Any = None
    ) -> Result:
        """The result of a task that `returned` something. Its paths see that, too, where the state lacks the key."""
        goals = list(goto)
        frame.written = writes
        for route in node.routes:
            state = self._ledger.preview(frame.task, writes, route)
            if isinstance(state, dict) and isinstance(returned, dict) and not route.path.declared:
                state = {**returned, **state}
            answer = interop.ours(await self._answered(frame, route.path, state))
            goals += self._plan.destinations(route, answer)
        return Result(writes, tuple(goals))

    # Policies

    def _cache_key(self, frame: Frame, node: Node, action: Action) -> str | None:
        if self._family.cache is None or node.cache is None:
            return None
        key = node.cache.key_func(self._ledger.view(frame.task, action.schema))
        return key.decode("latin-1") if isinstance(key, bytes) else key

    async def _tried(self, frame: Frame, node: Node, action: Action) -> Result:
        if node.handler is None:
            return await attempts(frame, node.retry, lambda: self.once(frame, node, action))
        kept = self._runner.journal.recall(frame.task.id, "error")
        if kept is not None:  # in an earlier sitting the handler did not get to its end
            return await self._handled(frame, node, node.handler, KeptError(kept))
        try:
            return await attempts(frame, node.retry, lambda: self.once(frame, node, action))
        except Exception as error:  # noqa: BLE001 - it is for the handler
            self._runner.journal.keep(frame.task, "error", named(error))
            self._runner.show.end(frame.task, error=error)
            return await self._handled(frame, node, node.handler, error)

    async def _handled(self, frame: Frame, node: Node, handler: Handler, error: Exception) -> Result:
        """What the error handler decides. The node's own edges do not count: it says itself where to go on."""
        frame.error = NodeError(node.name, error)
        frame.ended = frame.late = False
        told = replace(node, name=handler.name, routes=(), timeout=None)
        return replace(await self.once(frame, told, handler.action), handled=handler.name)

    # The call

    def _may_be_at_once(self, action: Action) -> bool:
        return action.quick is not None and action.executor is None and action.function not in self._family.slow

    def _at_once(self, frame: Frame, action: Action, state: Any) -> Any:
        """What code answers that can wait for nothing. If it takes its time all the same, that was the last time."""
        began = clock()
        try:
            return self._family.watch.call(self._runner.emit, frame.task.id, _code(frame, action), state)
        finally:
            if clock() - began > QUICK_ENOUGH:
                self._family.slow.add(action.function)

    def _begin(self, frame: Frame, action: Action, *, at_once: bool) -> tuple[bool, Any]:
        """Have the action begin: whether its answer is to be awaited, and the answer or what to await for it."""
        if at_once:
            view = self._ledger.view(frame.task, action.schema, look=action.only_looks)
            if _suits(action, view):
                return False, self._at_once(frame, action, view)
        view = self._ledger.view(frame.task, action.schema)
        if action.graph is not None:
            return True, action.graph.nested(frame, view)
        code = _code(frame, action)
        if action.executor is None and action.is_async:
            return self._family.watch.start(self._runner.emit, frame.task.id, code(view))
        executor = self._family.places.of(action.executor, is_async=action.is_async)
        if executor is self._family.places.threads and not action.is_async:
            code = frame.metered(code)
        return True, self._timed(frame, action, executor.call(code, view))

    async def _called(self, frame: Frame, action: Action) -> Any:
        waits, value = self._begin(frame, action, at_once=False)  # nothing could end it there when its time is up
        return await self._resolved(frame, action, await value if waits else value)

    async def _resolved(self, frame: Frame, action: Action, value: Any) -> Any:
        """What the action's answer comes to. If it is a graph or the like, it gets the action's input."""
        while type(value) is not dict and has(value, "ainvoke"):
            value = await value.ainvoke(self._ledger.view(frame.task, action.schema), frame.config())
        return interop.ours(value)

    def _timed(self, frame: Frame, action: Action, work: Awaitable[T]) -> Awaitable[T]:
        """The work, with what it does on the event loop timed; a thread has no part in that."""
        return self._family.watch.timed(self._runner.emit, frame.task.id, work) if action.on_loop else work

    async def _answered(self, frame: Frame, path: Action, state: Any) -> Any:
        """What a path answers. A blocking one may call graphs and wait for tasks, which takes a thread, like a node."""
        if self._may_be_at_once(path) and _suits(path, state):
            return self._at_once(frame, path, state)
        code = _code(frame, path)
        if path.on_loop:
            return await self._timed(frame, path, self._family.places.loop.call(code, state))
        with self._runner.unstoppable(frame.task):
            return await self._family.places.threads.call(code, state)

    # What it answers

    def _read(self, task: Task, node: Node, action: Action, value: Any) -> tuple[tuple[Write, ...], Goals]:
        """What an answer says that the graph knows, and that the node may say."""
        writes, goto = self._decided(task, node, value)
        quiet = action.graph is not None and not isinstance(value, Command)  # it returns the whole of its state
        writes = self._known(task, writes, quiet=quiet)
        return writes if node.writes is None else _declared(node, writes, quiet=quiet), goto

    def _decided(self, task: Task, node: Node, value: Any) -> tuple[tuple[Write, ...], Goals]:
        """What a node's return value writes, and where its Commands lead."""
        if type(value) is dict or value is None:
            return updates_of(value, self._plan.state), ()
        if type(value) is Command:
            return self._commanded(node, value)
        items = value if isinstance(value, list | tuple) and any(isinstance(i, Command) for i in value) else [value]
        writes: list[Write] = []
        goto: list[str | Send] = []
        for item in items:
            if isinstance(item, Send):
                goto += self._plan.goals(item, f"node {node.name!r}")
            elif isinstance(item, Command):
                written, goals = self._commanded(node, item)
                writes += written
                goto += goals
            else:
                writes += updates_of(item, self._plan.state)
        return tuple(writes), tuple(goto)

    def _commanded(self, node: Node, command: Command) -> tuple[tuple[Write, ...], Goals]:
        if command.graph == Command.PARENT:
            raise ParentCommand(command)
        goals = self._plan.goals(command.goto, f"the Command of node {node.name!r}") if command.goto != () else ()
        return commanded(command.update, self._plan.state), goals

    def _known(self, task: Task, writes: tuple[Write, ...], *, quiet: bool) -> tuple[Write, ...]:
        channels = self._plan.channels
        for key, _ in writes:
            if key not in channels:
                break
        else:
            return writes
        for key, _ in writes:
            if key not in channels and not quiet and (task.node, key) not in self._family.warned:
                self._family.warned.add((task.node, key))
                message = (
                    f"node {task.node!r} returned key {key!r}, which the state does not have; it is ignored"
                    + did_you_mean(str(key), channels)
                )
                self._runner.emit(Noticed(clock(), message, task.id))
                warnings.warn(message, UnknownKeyWarning, stacklevel=2)
        return tuple(write for write in writes if write[0] in channels)


def _code(frame: Frame, action: Action) -> Callable[[Any], Any]:
    """The action's function, which now wants nothing but its input."""
    return functools.partial(action.function, **frame.injected(action.asks)) if action.asks else action.function


def _suits(action: Action, given: Any) -> bool:
    """Whether quick code is quick for what it is given."""
    return action.quick is object or type(given) is action.quick


def _declared(node: Node, writes: tuple[Write, ...], *, quiet: bool) -> tuple[Write, ...]:
    """The writes that the node declares. Another one is an error; what a graph as a node has besides stays in there."""
    for key, _ in writes:
        if key not in (node.writes or ()) and not quiet:
            listed = ", ".join(map(repr, node.writes or ())) or "none"
            said = "its writes=" if node.returns is None else "its return annotation"
            raise InvalidUpdateError(f"node {node.name!r} wrote key {key!r}, and {said} declares {listed}")
    return tuple(write for write in writes if write[0] in (node.writes or ()))
