"""The run tools: what has been run, how it goes, and with `--allow-write` starting, answering and stopping runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Context
from pydantic import ConfigDict, Field

from fanfold.claiming import INTERRUPTED
from fanfold.errors import RunNotFoundError, StateError, UsageError, did_you_mean
from fanfold.graph import CompiledGraph
from fanfold.limits import Limits
from fanfold.mcp.offer import Offer
from fanfold.mcp.reading import Reading, unanswered
from fanfold.mcp.tools.answers import LARGEST, Said, bounded, plain, shortened
from fanfold.mcp.tools.memory import LARGEST_NUMBER
from fanfold.mcp.work import AtWork, Work
from fanfold.store.base import DONE, FAILED, RUNNING, RunRecord
from fanfold.types import Command

PAGE: Final = 100
"""Runs, questions, or things that happened, in one answer."""
LONGEST_WAIT: Final = 3600.0
PATIENCE: Final = 45.0
"""Seconds that a call waits for its run by default: many clients give a tool one minute."""
LOOK_AGAIN: Final = 0.25
"""Seconds after which somebody who follows a run looks what another process has done in it."""
_LONGEST_TEXT: Final = 300

RunId = Annotated[str, Field(description="A run's id, or as much of it as names only one.")]
Wait = Annotated[
    float,
    Field(ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end. After that it goes on; see run_follow."),
]


class Within(Said):
    """What one run may use, within what this server may use in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")  # a limit that is written wrong would be none

    calls: Annotated[int | None, Field(ge=1, description="Requests to models.")] = None
    tokens: Annotated[float | None, Field(gt=0)] = None
    usd: Annotated[float | None, Field(gt=0)] = None
    seconds: Annotated[float | None, Field(gt=0, description="Time of all agents at work, added up.")] = None
    max_concurrency: Annotated[int | None, Field(ge=1, description="Tasks at once.")] = None

    def given(self) -> dict[str, Any]:
        """Those that were given, by the names in `Limits`."""
        limits = self.model_dump(exclude_none=True)
        Limits(**limits)
        return limits


class Run(Said):
    """A run in a list."""

    run_id: str
    thread_id: str
    graph: str
    status: Annotated[str, Field(description="running, done, failed, cancelled, paused or interrupted")]
    created: datetime
    finished: datetime | None
    error: str


class Runs(Said):
    """Runs, the newest first, and the cursor of the next page; null after the last."""

    runs: list[Run]
    next: str | None


class Question(Said):
    """What a run waits for, to be answered by run_resume."""

    id: str
    value: Any


class Account(Said):
    """How a run stands, and what it has come to so far."""

    run: Run
    output: Annotated[Any, Field(description="What the graph hands over; null while there is nothing to show.")]
    whole: Annotated[bool, Field(description="False when long texts or lists in the output were cut.")]
    questions: Annotated[list[Question], Field(description="What it waits for.")]
    note: Annotated[str, Field(description="Why something is not shown, or what can be done next.")]
    receipt: Annotated[list[str], Field(description="Whether it really ran in parallel, and what kept it from it.")]
    spent: dict[str, float]
    happened: Annotated[int, Field(description="How many things have happened; where run_follow goes on.")]


class Happened(Said):
    """What happened in a run, in order."""

    run_id: str
    status: str
    events: Annotated[list[dict[str, Any]], Field(description="Each with its number `no` and its `kind`.")]
    next: Annotated[int, Field(description="What to give as `after` next time.")]
    ended: Annotated[bool, Field(description="True when nothing more will come unless it is resumed.")]


class Checkpoint(Said):
    """Where a thread stood after a step."""

    thread_id: str
    checkpoint_id: str
    parent_id: Annotated[str | None, Field(description="The checkpoint before it.")]
    created: str | None
    step: int | None
    source: str
    values: Any
    whole: bool
    next: Annotated[list[str], Field(description="The nodes that run next.")]
    questions: list[Question]


class Stopped(Said):
    """The run is stopped; what had finished is kept."""

    run_id: str
    status: str


@dataclass(frozen=True)
class Waiting:
    """Where a call stands that waits for a run: whom to tell what happens, and for how long to wait."""

    context: Context[Any, Any]
    seconds: float

    async def tell(self, happened: int, text: str) -> None:
        """A progress notification, if the client has asked for any."""
        await self.context.report_progress(happened, None, text)


class RunTools:
    """The tools over the runs of a store."""

    def __init__(self, offer: Offer, work: Work) -> None:
        self._offer = offer
        self._work = work
        self._reading = Reading(offer)

    async def runs_list(
        self,
        limit: Annotated[int, Field(ge=1, le=PAGE)] = 20,
        cursor: Annotated[str | None, Field(description="`next` of the page before.")] = None,
    ) -> Runs:
        """List the runs of this store, the newest first, page by page."""
        return await asyncio.to_thread(self._listed, limit, cursor)

    def _listed(self, limit: int, cursor: str | None) -> Runs:
        until, last = _place(cursor)
        # What was created at the same moment as the last one of the page before may stand before it or behind it.
        found = self._reading.store.runs(limit=limit + 1 + (PAGE if last else 0), until=until)
        ids = [record.run_id for record in found]
        found = found[ids.index(last) + 1 if last in ids else 0 :]
        page, more = found[:limit], len(found) > limit
        after = f"{page[-1].created!r}/{page[-1].run_id}" if more else None
        return Runs(runs=[self._run(record) for record in page], next=after)

    async def run_get(self, run_id: RunId) -> Account:
        """How a run stands: its status, output, open questions, what it spent, and how parallel it was."""
        return await asyncio.to_thread(lambda: self._account(self._reading.record(run_id)))

    async def run_follow(
        self,
        run_id: RunId,
        context: Context[Any, Any],
        after: Annotated[
            int, Field(ge=0, le=LARGEST_NUMBER, description="`next` of the answer before; 0 for the beginning.")
        ] = 0,
        wait: Annotated[float, Field(ge=0, le=60, description="Seconds to wait for something to happen.")] = 20.0,
    ) -> Happened:
        """What has happened in a run after number `after`; when there is nothing new, waits for it.

        Call it again with `next` until `ended`, then read the result with run_get.
        """
        record = await asyncio.to_thread(self._reading.record, run_id)
        return await self._followed(record, after, Waiting(context, wait))

    async def _followed(self, record: RunRecord, after: int, waiting: Waiting) -> Happened:
        end = time.monotonic() + waiting.seconds
        while True:
            # The status first: what happened before it became that is there, too.
            status = await asyncio.to_thread(lambda: self._reading.status(self._reading.record(record.run_id)))
            events = await asyncio.to_thread(self._reading.store.events, record.run_id, first=after)
            left = end - time.monotonic()
            if events or status != RUNNING or left <= 0:
                break
            await self._something(record.run_id, min(left, LOOK_AGAIN))
        told = [_event(no, event) for no, event in enumerate(events[:PAGE], after)]
        ended = status != RUNNING and len(events) <= PAGE
        return Happened(run_id=record.run_id, status=status, events=told, next=after + len(told), ended=ended)

    async def _something(self, run_id: str, seconds: float) -> None:
        """Wait until something happens in a run that is at work here; in another one, for as long as that."""
        at = self._work.find(run_id)
        if at is None:
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(at.changed.wait(), seconds)
        except TimeoutError:
            return
        await asyncio.sleep(0.01)  # until it is written

    async def checkpoint_get(
        self,
        run_id: RunId,
        checkpoint_id: Annotated[str | None, Field(description="Which; the newest of its thread if null.")] = None,
    ) -> Checkpoint:
        """The state of a run's thread at a checkpoint, and which one came before it."""
        return await asyncio.to_thread(self._checkpoint, run_id, checkpoint_id)

    def _checkpoint(self, run_id: str, checkpoint_id: str | None) -> Checkpoint:
        record = self._reading.record(run_id)
        graph = self._reading.graph(record)
        place = {"thread_id": record.thread_id} | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})
        state = graph.get_state({"configurable": place})
        if state.created_at is None:
            which = f" {checkpoint_id!r}" if checkpoint_id else ""
            raise UsageError(f"thread {record.thread_id!r} has no checkpoint{which}")
        values, whole = bounded(state.values)
        metadata, asked = state.metadata or {}, unanswered(state)
        before = (state.parent_config or {}).get("configurable", {}).get("checkpoint_id")
        return Checkpoint(
            thread_id=record.thread_id,
            checkpoint_id=state.config["configurable"]["checkpoint_id"],
            parent_id=before,
            created=state.created_at,
            step=metadata.get("step"),
            source=str(metadata.get("source", "")),
            values=values,
            whole=whole and max(len(state.next), len(asked)) <= PAGE,
            next=list(state.next[:PAGE]),
            questions=_questions([(each.id, each.value) for each in asked]),
        )

    # With --allow-write

    async def run_start(
        self,
        graph: Annotated[str, Field(description="The name of a graph of this server.")],
        input: Annotated[dict[str, Any], Field(description="Its input, by key.")],
        context: Context[Any, Any],
        wait: Wait = PATIENCE,
        limits: Within | None = None,
    ) -> Account:
        """Run a graph. If it takes longer than `wait`, the answer says running: follow it with run_follow."""
        offered = self._offer.graph(graph)
        within = limits.given() if limits else {}
        _check(await asyncio.to_thread(offered.load, self._offer.store, None), graph, input)
        at = await self._work.start(offered, input, settings={}, limits=within)
        return await self.waited(at, Waiting(context, wait))

    async def run_resume(
        self,
        run_id: RunId,
        context: Context[Any, Any],
        answer: Annotated[
            Any, Field(description="The answer to its question; to several, an object of their ids to answers.")
        ] = None,
        wait: Wait = PATIENCE,
        limits: Annotated[Within | None, Field(description="New limits of the run, such as more calls.")] = None,
    ) -> Account:
        """Go on with a run that failed, was stopped, or waits for an answer. What had finished is not run again."""
        record = await asyncio.to_thread(self._reading.record, run_id)
        offered = self._offer.behind(record.settings)
        given = None if answer is None else await asyncio.to_thread(self._answer, record, answer)
        if record.status == DONE:
            raise StateError(f"run {record.run_id!r} is done; there is nothing to go on with")
        settings = dict(record.settings)
        settings["limits"] = {**(settings.get("limits") or {}), **(limits.given() if limits else {})}
        at = await self._work.go_on(offered, record.run_id, record.thread_id, given, settings, record.graph)
        return await self.waited(at, Waiting(context, wait))

    def _answer(self, record: RunRecord, answer: Any) -> Command:
        """What the answer is to. Raises `StateError` where the run asks nothing, or it is not clear what is meant."""
        _, questions, note = self._reading.outcome(record)
        ids = [question["id"] for question in questions]
        if not ids:
            raise StateError(f"run {record.run_id!r} has asked nothing{f': {note}' if note else ''}")
        if len(ids) > 1 and not (isinstance(answer, dict) and answer.keys() & set(ids)):
            raise StateError(f"{len(ids)} questions are open: give an object of their ids to answers: {', '.join(ids)}")
        return Command(resume=answer)

    async def run_cancel(self, run_id: RunId) -> Stopped:
        """Stop a run that this server has at work. What had finished is kept, and run_resume goes on with it."""
        record = await asyncio.to_thread(self._reading.record, run_id)
        at = self._work.find(record.run_id)
        if at is None:
            status = await asyncio.to_thread(self._reading.status, record)
            what = "another process runs it" if status == RUNNING else f"it is {status}"
            raise StateError(f"run {record.run_id!r} is not at work in this server: {what}")
        await self._work.stop(at)
        record = await asyncio.to_thread(self._reading.record, record.run_id)
        return Stopped(run_id=record.run_id, status=record.status)

    async def waited(self, at: AtWork, waiting: Waiting) -> Account:
        """The account of a run that was waited for."""
        await self._work.wait(at, waiting.seconds, waiting.tell)
        record = await asyncio.to_thread(self._recorded, at)
        return await asyncio.to_thread(self._account, record, at)

    def _recorded(self, at: AtWork) -> RunRecord:
        """The run's record, which is written as one of the first things of it."""
        end = time.monotonic() + 5.0
        while True:
            try:
                return self._reading.record(at.run_id)
            except RunNotFoundError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _run(self, record: RunRecord) -> Run:
        return Run(
            run_id=record.run_id,
            thread_id=record.thread_id,
            graph=record.graph,
            status=self._reading.status(record),
            created=datetime.fromtimestamp(record.created, UTC),
            finished=None if record.finished is None else datetime.fromtimestamp(record.finished, UTC),
            error=shortened(record.error, 2000),
        )

    def _account(self, record: RunRecord, at: AtWork | None = None) -> Account:
        run = self._run(record)
        output, questions, note = self._reading.outcome(record)
        told, whole = bounded(output)
        receipt = self._reading.receipt(record.run_id)
        return Account(
            run=run,
            output=told,
            whole=whole,
            questions=_questions([(each["id"], each["value"]) for each in questions]),
            note=" ".join(filter(None, (note, _next_step(run, len(questions))))),
            receipt=[] if receipt is None else [shortened(line, 500) for line in receipt.lines()],
            spent=self._reading.spent(record.run_id),
            happened=self._reading.store.count_events(record.run_id),
        )


def _next_step(run: Run, asks: int) -> str:
    if run.status == RUNNING:
        return "It goes on: follow it with run_follow, and read the result with run_get."
    if asks:
        others = f" {asks - PAGE} more questions are shown when some of these are answered." if asks > PAGE else ""
        return f"It waits: answer with run_resume.{others}"
    if run.status == INTERRUPTED or run.status == FAILED:
        return "What had finished is kept: run_resume goes on with it."
    return ""


def _questions(asked: Sequence[tuple[str, Any]]) -> list[Question]:
    """The first of them, which all together are no larger than any other value."""
    shown = asked[:PAGE]
    return [Question(id=id, value=bounded(value, min(8192, LARGEST // len(shown)))[0]) for id, value in shown]


def _event(no: int, record: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        name: shortened(plain(value), _LONGEST_TEXT) if isinstance(value, str) else bounded(value, 4096)[0]
        for name, value in record.items()
    }
    return {"no": no, **told}


def _place(cursor: str | None) -> tuple[float | None, str]:
    if cursor is None:
        return None, ""
    created, _, run_id = cursor.partition("/")
    try:
        return float(created), run_id
    except ValueError:
        raise UsageError(f"{cursor!r:.80} is no cursor", hint="give `next` of the page before, or none") from None


def _check(graph: CompiledGraph, name: str, given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for input that is none of the graph's."""
    if graph.plan.input.single is not None:
        return
    keys = graph.plan.input.channels
    if keys and not given:
        raise UsageError(f"the input sets no key of graph {name!r}", hint=f"its keys are: {', '.join(keys)}")
    for key in given:
        if key not in keys:
            raise UsageError(
                f"graph {name!r} has no input key {key!r}{did_you_mean(key, keys)}",
                hint=f"its keys are: {', '.join(keys)}",
            )
