"""A graph called from inside a node of another one: it joins that run, in a namespace of its own.

The limits, listeners and records are those of the run; the graph, or the call of it, may have limits of its own too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fanfold.context import configurable
from fanfold.errors import GraphInterrupt, UsageError
from fanfold.family import Family, namespace_in
from fanfold.frame import Frame
from fanfold.journal import Kept, Position, Reader, Unkept
from fanfold.limits import Governor, Limits, Slots, lent
from fanfold.run import Runner
from fanfold.sitting import RunOptions, context_of, first_mark, previous_of, stand, tell_limits
from fanfold.stream import Streams

if TYPE_CHECKING:
    from fanfold.graph import CompiledGraph

_INNER_OPTIONS: Final = frozenset(
    {"context", "interrupt_before", "interrupt_after", "recursion_limit", "max_concurrency", "durability"}
)

_PLACE: Final = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"})


class Inner:
    """One call of a graph from inside a node of another one."""

    def __init__(
        self,
        graph: CompiledGraph,
        frame: Frame,
        config: Mapping[str, Any],
        options: Mapping[str, Any],
        streams: Streams | None = None,
        *,
        keys: Any = None,
    ) -> None:
        self.graph = graph
        self.frame = frame
        self.outer = frame.runner
        self.streams = streams or frame.runner.family.streams
        self.keys = graph.plan.answers if keys is None and streams is None else keys
        limit = self.outer.family.recursion_limit
        self.options = RunOptions.of({"recursion_limit": limit, **_said(config)}, options)
        self._refuse(options)
        remembers = graph.checkpointer is True
        # One that remembers does so in any graph of a run that is kept; another one keeps what that around it keeps.
        kept = self.outer.family.record is not None if remembers else isinstance(self.outer.journal, Kept)
        self.keeps = graph.checkpointer is not False and kept
        self.namespace = namespace_in(self.outer.namespace, frame.task, frame.next_graph(), remembers=remembers)

    def _refuse(self, keywords: Mapping[str, Any]) -> None:
        """Raise `UsageError` for what only a whole run can be told."""
        record = self.outer.family.record
        whole = [name for name, value in keywords.items() if value and name not in _INNER_OPTIONS]
        if self.options.durability == "exit" and record is not None and not record.at_end:
            whole.append("durability")
        for name in whole:
            raise UsageError(
                f"{name}={keywords[name]!r:.80} is for a whole run, and this call of graph {self.graph.name!r} is a "
                f"part of the run that node {self.frame.task.node!r} belongs to",
                hint="give it to the call of the graph around, or name a thread_id: then it is a run of its own",
            )

    async def run(self, input: Any) -> Any:
        """The output of the graph. Its tasks take slots of their own, so the one that calls it gives its slot back."""
        async with lent():  # who has one of those slots may wait for the place at a model that is held around this call
            self.frame.pause()
            try:
                return await self._driven(input)
            finally:
                await self.frame.proceed()

    async def _driven(self, input: Any) -> Any:
        family, place = self.outer.family, "|".join(self.namespace)
        start = family.starts.pop(tuple(part.partition(":")[0] for part in self.namespace), None)
        record = family.record if self.keeps else None
        if record is not None and (self.graph.checkpointer is True or self.frame.attempt > 1):
            await record.written()  # it may have been called in this very run, and what it wrote be on its way
        position = await asyncio.to_thread(self._position, place, start) if record is not None else None
        parents = {**self.outer.parents, "|".join(self.outer.namespace): self.outer.journal.checkpoint_id or ""}
        ours = position is not None and self.outer.follows(position.metadata.get("parents") or {})
        if not (ours or start or self.graph.checkpointer is True):
            position = None  # it is of another branch of the thread, in which a task of that id has run as well
        ledger = self.graph.ledger(f"{family.thread_id}|{place}", self.options, limit=self.options.recursion_limit)
        around = parents.get("") or None
        plan, codec = self.graph.plan, self.graph.codec
        journal = Unkept() if record is None else Kept(record, codec, plan, place, position, around=around)
        if self.streams is not None and self.streams is not family.streams:
            self.streams.root = self.namespace
        runner = Runner(
            self._family(),
            ledger,
            journal,
            namespace=self.namespace,
            top=self.frame.top(),
            parents=parents,
            previous=previous_of(position),
            keys=self.keys,
            around=self.frame,
        )
        source = stand(runner, None if ours or start else input, position, forked=start is not None)
        first_mark(runner, source, position)
        try:
            await runner.drive()
        finally:
            self._report(runner.family)
        if runner.interrupted:
            raise GraphInterrupt(runner.interrupts)
        return runner.show.output()

    def _report(self, family: Family) -> None:
        """Tell how close the graph came to limits of its own."""
        tell_limits(family, family.own_reports(f" of graph {self.graph.name!r}", self.outer.family))

    def _family(self) -> Family:
        """The run's family with what this graph, or this call of it, has of its own."""
        family, graph, options = self.outer.family, self.graph, self.options
        return replace(
            family,
            config=_merged(family.config, options.config),
            context=self._context(),
            memory=graph.store or family.memory,
            cache=graph.cache or family.cache,
            streams=self.streams,
            slots=self._slots(),
            governor=Governor(graph.limits, within=family.governor) if graph.limits.governs else family.governor,
            let_finish=graph.lets_finish or family.let_finish,
            wait_for_disk=options.durability == "sync" or family.wait_for_disk,
            recursion_limit=options.recursion_limit,
            step_timeout=graph.step_timeout or family.step_timeout,
        )

    def _slots(self) -> Slots:
        """The run's slots, or fewer of them. A limit that is not below the run's would never be felt."""
        shared = self.outer.family.slots
        asked = (Limits(self.options.max_concurrency).max_concurrency, self.graph.limits.max_concurrency)
        limit = min((number for number in asked if number is not None), default=None)
        if limit is None or (shared.limit is not None and limit >= shared.limit):
            return shared
        return Slots(limit, within=shared)

    def _context(self) -> Any:
        if self.options.context is None:
            return self.outer.family.context
        return context_of(self.graph.plan, self.options.context)

    def _position(self, place: str, start: tuple[str, str] | None) -> Position | None:
        record = self.outer.family.record
        assert record is not None, "only a graph that keeps its state asks where it stands"
        thread_id, store = record.run.thread_id, record.store
        place, checkpoint_id = start or (place, None)
        if start is None and self._begins_earlier(place):
            before = self.outer.family.before or ""
            older = (kept.checkpoint_id for kept in store.history(thread_id, place) if kept.checkpoint_id < before)
            checkpoint_id = next(older, None)
            if checkpoint_id is None:
                return None
        found = (record.held(place) if start is None else None) or store.thread(thread_id, place, checkpoint_id)
        if found is None:
            return None
        return Reader(self.graph.plan, self.graph.codec, store, thread_id, f"{thread_id}|{place}").position(found)

    def _begins_earlier(self, place: str) -> bool:
        """Whether the graph remembers, and the run began at an earlier time: then it knows what it knew then."""
        met, before = self.outer.family.met, self.outer.family.before
        if self.graph.checkpointer is not True or before is None or place in met:
            return False
        met.add(place)
        return True


def _said(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _merged(outer: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with that of a call inside of it, whose words count more, except about where it is kept.

    A node may hand on its own config. What that says of the node is not taken over, nor are its callbacks: they are
    the run's, and those that listen for a stream besides.
    """
    handed_on = "checkpoint_ns" in configurable(own)
    merged = {**outer, **_said(own)}
    merged["configurable"] = {**configurable(outer), **_without(configurable(own), _PLACE)}
    metadata = own.get("metadata") or {}
    about_node = {key for key in metadata if key.startswith("langgraph_")} | _PLACE
    merged["metadata"] = {**(outer.get("metadata") or {}), **_without(metadata, about_node)}
    if tags := [*(outer.get("tags") or ()), *(own.get("tags") or ())]:
        merged["tags"] = list(dict.fromkeys(tags))
    if handed_on:
        merged["callbacks"] = outer.get("callbacks")
    return merged


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
