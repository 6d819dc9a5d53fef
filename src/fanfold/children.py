"""Children: agents and tasks that a node calls.

A child is asked once. It has a slot of its own, which its caller gives back meanwhile, and a stored result of its own,
which answers the same question when the node runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fanfold.errors import GraphInterrupt
from fanfold.events import (
    Event,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskInterrupted,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
)
from fanfold.family import brief
from fanfold.frame import Frame, clock, enter
from fanfold.journal import on_disk
from fanfold.kernel.ledger import Task

if TYPE_CHECKING:
    from fanfold.limits import Pair
    from fanfold.run import Runner


class Children:
    """Calls the children of one runner's tasks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def call(
        self,
        frame: Frame,
        name: str,
        work: Callable[[str], Awaitable[Mapping[str, Any]]],
        *,
        label: str,
        fingerprint: str,
        role: str = "agent",
        given: Any = None,
        limit: int | None = None,
    ) -> Mapping[str, Any]:
        """What `work(task id)` answers, as plain data: run under a slot of its own, kept, and never asked twice.

        The answer is on disk before it is returned. An answer to the same `fingerprint` that was kept by an earlier
        sitting is returned without running `work`. May be awaited in any event loop: a blocking node can have one of
        its own. Streams are shown tasks with what was `given` to them, and no agents. Of children of this name, no more
        than `limit` run at once.
        """

        async def called() -> Mapping[str, Any]:
            child = Task(frame.child_id(name, fingerprint), name, frame.task.step, send=0, arg=given)
            if role == "task":
                return await self._asked(frame, child, work, label, fingerprint, role, limit)
            frame.check()
            return await frame.own(self._asked(frame, child, work, label, fingerprint, role, limit))

        if asyncio.get_running_loop() is self._runner.family.loop:
            return await called()
        return await asyncio.wrap_future(self._runner.from_outside(frame, called))

    async def _asked(
        self,
        parent: Frame,
        child: Task,
        work: Callable[[str], Awaitable[Mapping[str, Any]]],
        label: str,
        fingerprint: str,
        role: str,
        limit: int | None,
    ) -> Mapping[str, Any]:
        self._runner.emit(TaskQueued(clock(), child.id, child.node, child.step, role, (), parent.task.id, label))
        shown = role == "task"
        if shown:
            self._runner.show.call(child)
        known = self._runner.journal.recall(child.id, "child")
        if known is not None:
            self._runner.emit(TaskRemembered(clock(), child.id))
            remembered: Mapping[str, Any] = known["answer"]
            return remembered
        parent.pause()
        frame = Frame(self._runner, child, parent)
        frame.slots = pair = self._runner.family.pair(repr(child.node), limit, self._runner.slots)
        try:
            answer = await self._child(frame, pair, work)
            ended = clock()
            record = {"fingerprint": fingerprint, "answer": answer}
            await on_disk(self._runner.journal.keep(child, "child", record, parent=parent.task.id))
        except BaseException as error:
            self._runner.emit(_ending(child.id, error))
            if shown and isinstance(error, Exception):
                self._runner.show.called(child, error=error)
            await parent.proceed()
            raise
        self._runner.emit(TaskFinished(ended, child.id))
        frame.progress()
        if shown:
            told = {child.node: answer["value"]}
            self._runner.stream("updates", {**told, "__metadata__": {"cached": True}} if frame.cached else told)
            if not frame.cached:
                self._runner.show.called(child, (("__return__", answer["value"]),))
                self._runner.show.messages(frame, (("__return__", answer["value"]),))
        await parent.proceed()
        return answer

    async def _child(
        self, frame: Frame, pair: Pair, work: Callable[[str], Awaitable[Mapping[str, Any]]]
    ) -> Mapping[str, Any]:
        child = frame.task
        enter(frame)  # an agent can call agents, too, and gives its slot back to them
        waited_for = await pair.take(child.node)
        frame.holding = True
        try:
            if self._runner.family.record is not None:
                await self._runner.family.record.check()
            self._runner.emit(TaskStarted(clock(), child.id, waited_for=waited_for))
            frame.progress()
            answer = await self._runner.family.watch.timed(self._runner.emit, child.id, work(child.id))
        except BaseException as error:
            asked = questions(error)
            await frame.rest(stop=asked is None and isinstance(error, Exception))
            if asked is not None:
                raise asked from error
            raise
        finally:
            await frame.end()
        await frame.rest()
        return answer


def questions(error: BaseException) -> GraphInterrupt | None:
    """Questions that a task group of the user's raises, and nothing else, as one pause."""
    if not isinstance(error, BaseExceptionGroup) or error.split(GraphInterrupt)[1] is not None:
        return None
    return GraphInterrupt([question for pause in _leaves(error) for question in pause.interrupts])


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[Any]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _ending(task_id: str, error: BaseException) -> Event:
    if isinstance(error, Exception):
        return TaskFailed(clock(), task_id, brief(error))
    if isinstance(error, GraphInterrupt):
        return TaskInterrupted(clock(), task_id, len(error.interrupts))
    return TaskCancelled(clock(), task_id)
