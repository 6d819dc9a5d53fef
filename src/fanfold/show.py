"""What whoever streams a run is shown of one of its graphs.

The runner says what has happened; here that becomes chunks of LangGraph's modes, and only those that somebody wants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fanfold import chat
from fanfold.frame import Frame, told_metadata
from fanfold.journal import Kept
from fanfold.kernel.channels import MISSING
from fanfold.kernel.ledger import Result, Task, Write
from fanfold.kernel.plan import Node
from fanfold.messages import holds_messages
from fanfold.stream import checkpoint_told, debugged, task_end, task_start, update_chunk
from fanfold.types import INTERRUPT, START, Interrupt

if TYPE_CHECKING:
    from fanfold.run import Runner


class Show:
    """Shows one runner's graph to the streams of its run. `moved` says whether its values were ever shown to change."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._last: Any = MISSING
        self.moved = False

    def stream(self, mode: str, chunk: Any) -> None:
        """A chunk for whoever streams the run."""
        if self._runner.family.streams is not None:
            self._runner.family.streams.put(self._runner.namespace, mode, chunk)

    def output(self) -> Any:
        """The values that were shown last; None when none ever were."""
        if self._last is not MISSING:
            return self._last
        return self._runner.ledger.chosen(self._runner.keys) if self.moved else None

    def asked(self, task: Task, interrupts: Sequence[Interrupt]) -> None:
        """A task waits for a person."""
        if interrupts:
            asked = {INTERRUPT: tuple(interrupts)}
            self.stream("updates", dict(asked))
            values = self._runner.ledger.chosen(self._runner.keys)
            self.stream("values", {**values, **asked} if isinstance(values, dict) else asked)
            self.end(task, interrupts=interrupts)
        elif not self._runner.namespace:
            self.stopped()

    def stopped(self) -> None:
        """The run stands still where it was asked to."""
        self.stream("updates", {INTERRUPT: ()})

    def pending(self) -> None:
        """The run stands still within a step: the state with what the finished tasks have written."""
        if not self._runner.ledger.writing().isdisjoint(self._keys()):
            self.stream("values", self._runner.ledger.provisional(self._runner.keys))

    def wanted(self, *modes: str) -> bool:
        streams = self._runner.family.streams
        return streams is not None and any(streams.wants(mode, self._runner.namespace) for mode in modes)

    def _keys(self) -> Collection[str]:
        return (self._runner.keys,) if isinstance(self._runner.keys, str) else self._runner.keys

    def values(self, *, always: bool) -> None:
        """The state after a step, if the step has changed what is shown of it."""
        unseen = self._runner.family.streams is None and not self._runner.ledger.lapses
        if self.moved and unseen:  # there is nothing more to learn
            return
        if not always and self._runner.ledger.written.isdisjoint(self._keys()):
            return
        self.moved = True
        if self._runner.ledger.lapses:  # it may be gone when the run ends, and is its output all the same
            self._last = self._runner.ledger.chosen(self._runner.keys)
        if self.wanted("values"):
            self.stream("values", self._runner.ledger.chosen(self._runner.keys))

    def checkpoint(self, metadata: Mapping[str, Any]) -> None:
        if isinstance(self._runner.journal, Kept) and self.wanted("checkpoints", "debug"):
            told = checkpoint_told(self._runner, metadata)
            self.stream("checkpoints", told)
            self.stream("debug", debugged("checkpoint", self._runner.ledger.step - 1, told))

    def starts(self, tasks: Sequence[Task]) -> None:
        for task in tasks if self.wanted("tasks", "debug") else ():
            node = self._runner.ledger.plan.nodes[task.node]
            if node.action is not None:
                told = task_start(task, self._runner.ledger.view(task, node.action.schema), self._metadata(node))
                self.stream("tasks", told)
                self.stream("debug", debugged("task", task.step, told))

    def _metadata(self, node: Node) -> dict[str, Any]:
        config = self._runner.family.config
        told = {**told_metadata(config), **node.metadata}
        return {**told, "tags": list(config["tags"])} if config.get("tags") else told

    def result(self, task: Task, result: Result, *, cached: bool) -> None:
        """What a task has come to."""
        if self._runner.family.streams is None or task.node == START:
            return
        if result.handled:
            task = replace(task, node=result.handled)
        chunk = update_chunk(task.node, result.writes, self._runner.keys)
        if cached:
            self.stream("updates", {**chunk, "__metadata__": {"cached": True}})
            return
        self.stream("updates", chunk)
        self.end(task, result.writes)

    def call(self, child: Task) -> None:
        told = task_start(child, child.arg, {})
        self.stream("tasks", told)
        self.stream("debug", debugged("task", child.step, told))

    def called(self, child: Task, writes: Sequence[Write] = (), *, error: BaseException | None = None) -> None:
        told = task_end(child, writes, error=error)
        self.stream("tasks", told)
        self.stream("debug", debugged("task_result", child.step, told))

    def identified(self, told: Result) -> Result:
        """What streams are shown of a result, with the ids by which the state is going to know its messages."""
        streams, channels = self._runner.family.streams, self._runner.ledger.plan.channels
        if streams is None or not chat.in_use():
            return told
        every, named = streams.wants("messages", self._runner.namespace), dict[int, Any]()
        writes = (
            (key, chat.identified(value, named) if every or holds_messages(channels[key]) else value)
            for key, value in told.writes
        )
        return replace(told, writes=tuple(writes))

    def messages(self, frame: Frame, writes: Sequence[Write]) -> None:
        """Messages that the task wrote and nobody has seen yet: no model told them, and they were not there before."""
        streams = self._runner.family.streams
        if streams is None or not streams.wants("messages", self._runner.namespace):
            return
        state = self._runner.ledger.chosen(self._runner.ledger.plan.keys)
        for value in state.values() if isinstance(state, dict) else [state]:
            streams.seen.update(message.id for message in chat.messages_in(value))
        for _, value in writes:
            for message in chat.news(value, streams.seen):
                self.stream("messages", (message, frame.config()["metadata"]))

    def end(
        self,
        task: Task,
        writes: Sequence[Write] = (),
        *,
        error: BaseException | None = None,
        interrupts: Sequence[Interrupt] = (),
    ) -> None:
        if task.node == START or not self.wanted("tasks", "debug"):
            return
        keys = self._runner.ledger.plan.keys
        shown = [(key, value) for key, value in writes if (key == keys if isinstance(keys, str) else key in keys)]
        told = task_end(task, shown, error=error, interrupts=interrupts)
        self.stream("tasks", told)
        self.stream("debug", debugged("task_result", task.step, told))
