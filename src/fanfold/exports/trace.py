"""A run as a trace that Perfetto and Chrome show: the JSON form of the Trace Event Format.

Every task is a slice, from where it could have run until its end. Slices of one track must lie within each other or
not touch, so tasks that overlap are on different tracks: as many for the nodes, and for the agents, as there were of
them at once. Within the slice of a task lie its stretches, and within those the moments in which its code held the
event loop. Steps and requests to models may overlap anything, and are asynchronous slices with tracks of their own.
Arrows lead from a task to those that its end made possible, and from a node to the agents that it called. How many
tasks were at work, and how many waited, are counters.

Times are microseconds since the run began, to the nanosecond.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeAlias

from fanfold.cleaning import clean
from fanfold.exports.timeline import Held, Line, Timeline, words
from fanfold.receipt import Stretch
from fanfold.receipt.values import BLOCKING

NODES: Final = 1
AGENTS: Final = 2
FIRST_TRACK: Final = 11
"""Tracks are no thread whose id is that of its process: viewers would take it for the main one."""
LONGEST: Final = 2_000
"""Characters of one text of an agent that are kept."""
LEAST: Final = 1_000
"""Nanoseconds that a task's slice lasts at least, so that one that took no time can be seen, and pointed at."""

_Event: TypeAlias = dict[str, Any]


def trace(timeline: Timeline) -> str:
    """The whole trace, as text of a file."""
    events = sorted(_events(timeline), key=lambda event: (event["ph"] != "M", event.get("ts", 0)))
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": _about(timeline),
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _about(timeline: Timeline) -> Mapping[str, str]:
    receipt = timeline.receipt
    began = datetime.fromtimestamp(timeline.wall, UTC)
    return {
        "run": clean(receipt.run_id),
        "thread": clean(receipt.thread_id),
        "graph": clean(receipt.graph),
        "began": began.isoformat(),
        "status": receipt.status,
        "verdict": receipt.verdict,
        "receipt": clean(str(receipt)),
    }


def _events(timeline: Timeline) -> Iterator[_Event]:
    """All events; what lies within another one comes after it."""
    tracks = _tracks(timeline.lines)
    yield from _names(timeline, tracks)
    names = timeline.names
    slices = {line.life.task: _Slice(line, tracks[line.life.task], names) for line in timeline.lines}
    for placed in slices.values():
        yield from placed.events()
    yield from _arrows(slices)
    ids = count(1)
    for step in timeline.steps:
        end = timeline.end if step.end is None else step.end
        yield from _spanning(f"step {step.step}", "step", NODES, next(ids), step.start, end, {})
    for placed in slices.values():
        yield from placed.inside(ids, timeline.end)
    yield from _counters(timeline)
    for at, message in timeline.notices:
        yield _instant(clean(message)[:200], "notice", at, NODES, FIRST_TRACK, "p")


def _process(line: Line) -> int:
    return NODES if line.life.role == "node" else AGENTS


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _microseconds(nanoseconds: int) -> float:
    return nanoseconds / 1000


def _reach(line: Line) -> tuple[int, int]:
    """From when until when a task's slice is, in nanoseconds."""
    start = _nanoseconds(line.start)
    return start, max(_nanoseconds(line.end), start + LEAST)


# Tracks


def _tracks(lines: Sequence[Line]) -> dict[str, int]:
    """A track for each task: the lowest one of its process that is free when the task could run."""
    tracks: dict[str, int] = {}
    first = FIRST_TRACK
    for process in (NODES, AGENTS):
        lanes = _lanes([line for line in lines if _process(line) == process])
        tracks.update({task: first + lane for task, lane in lanes.items()})
        first += 1 + max(lanes.values(), default=-1)
    return tracks


def _lanes(lines: Sequence[Line]) -> dict[str, int]:
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    lanes: dict[str, int] = {}
    for line in sorted(lines, key=_reach):
        start, end = _reach(line)
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lane))
        lanes[line.life.task] = lane
    return lanes


def _names(timeline: Timeline, tracks: Mapping[str, int]) -> Iterator[_Event]:
    graph = clean(timeline.receipt.graph)
    titles = {NODES: f"{graph}: nodes and steps", AGENTS: f"{graph}: agents"}
    kinds = {NODES: "nodes", AGENTS: "agents"}
    there = {_process(line) for line in timeline.lines} | {NODES}
    for process in sorted(there):
        yield _about_track("process_name", process, FIRST_TRACK, name=titles[process])
        yield _about_track("process_sort_index", process, FIRST_TRACK, sort_index=process)
        used = sorted({tracks[line.life.task] for line in timeline.lines if _process(line) == process})
        for number, track in enumerate(used, 1):
            yield _about_track("thread_name", process, track, name=f"{kinds[process]} {number}")
            yield _about_track("thread_sort_index", process, track, sort_index=track)


def _about_track(kind: str, process: int, track: int, **args: Any) -> _Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": args}


# Slices


class _Slice:
    """The slice of one task, and what lies within it. Nanoseconds, so that nothing sticks out by a rounding."""

    def __init__(self, line: Line, track: int, names: Mapping[str, str]) -> None:
        self.line = line
        self.place = {"pid": _process(line), "tid": track}
        self.start, self.end = _reach(line)
        self.names = names

    def events(self) -> Iterator[_Event]:
        life = self.line.life
        yield self._slice(clean(life.name), "task", self.start, self.end, self._about())
        for stretch in life.stretches:
            start, end = self._within(stretch)
            if start >= end:
                continue
            if stretch.part == BLOCKING:
                yield from self._blocks(start, end)
            else:
                yield self._slice(clean(words(stretch, self.names)), stretch.part, start, end, {})
        for use in self.line.tools:
            if use.end is None:
                at = min(max(_nanoseconds(use.start), self.start), self.end - 1)
                yield {**_instant(clean(use.tool), "tool", 0, 0, 0, "t"), **self.place, "ts": _microseconds(at)}

    def _blocks(self, start: int, end: int) -> Iterator[_Event]:
        """A stretch in which it held the loop, with where its code was, if that was seen."""
        where = next((held.where for held in self.line.held if self._meets(held, start, end)), "")
        told = {"where": clean(where)} if where else {}
        yield self._slice("blocks the event loop", "blocked", start, end, told) | {"cname": "terrible"}

    def _meets(self, held: Held, start: int, end: int) -> bool:
        since, until = self._within(held)
        return since < end and until > start

    def _within(self, stretch: Stretch | Held) -> tuple[int, int]:
        start, end = _nanoseconds(stretch.start), _nanoseconds(stretch.end)
        return max(start, self.start), min(end, self.end)

    def _slice(self, name: str, kind: str, start: int, end: int, args: Mapping[str, Any]) -> _Event:
        times = {"ts": _microseconds(start), "dur": _microseconds(end - start)}
        return {"ph": "X", "name": name, "cat": kind, **self.place, **times, "args": dict(args)}

    def _about(self) -> dict[str, Any]:
        life = self.line.life
        told: dict[str, Any] = {"task": life.task, "step": life.step, "status": life.status}
        caller = self.names.get(life.parent or "", life.parent or "")
        texts = {"label": life.label, "error": life.error, "called by": caller}
        return told | {name: clean(text)[:LONGEST] for name, text in texts.items() if text}

    def inside(self, ids: Iterator[int], now: float) -> Iterator[_Event]:
        """Its requests to models, and its tools, which may overlap each other."""
        process = self.place["pid"]
        for one in self.line.requests:
            end = now if one.end is None else one.end
            about = {"task": self.line.life.task, "input_tokens": one.input_tokens, "output_tokens": one.output_tokens}
            more = {"error": clean(one.error)[:LONGEST]} if one.error else {}
            yield from _spanning(clean(one.model), "model", process, next(ids), one.start, end, about | more)
        for use in self.line.tools:
            if use.end is not None:
                about = {"task": self.line.life.task, "detail": clean(use.detail)[:LONGEST]}
                yield from _spanning(clean(use.tool), "tool", process, next(ids), use.start, use.end, about)


def _spanning(
    name: str, kind: str, process: int, id: int, start: float, end: float, args: Mapping[str, Any]
) -> Iterator[_Event]:
    """A slice that may overlap others."""
    common = {"cat": kind, "name": name, "id": f"0x{id:x}", "pid": process, "tid": FIRST_TRACK}
    began, ended = _nanoseconds(start), _nanoseconds(end)
    yield {"ph": "b", **common, "ts": _microseconds(began), "args": dict(args)}
    yield {"ph": "e", **common, "ts": _microseconds(max(began, ended)), "args": {}}


def _instant(name: str, kind: str, at: float, process: int, track: int, scope: str) -> _Event:
    times = {"ts": _microseconds(_nanoseconds(at)), "pid": process, "tid": track}
    return {"ph": "i", "name": name, "cat": kind, "s": scope, **times, "args": {}}


# Between tasks


def _arrows(slices: Mapping[str, _Slice]) -> Iterator[_Event]:
    """From each task to those that followed it or that it called. An arrow never leads back in time."""
    ids = count(1)
    for target in slices.values():
        life = target.line.life
        ends = [(slices[id], "after", slices[id].end - 1) for id in life.after if id in slices]
        caller = slices.get(life.parent or "")
        if caller is not None:
            ends.append((caller, "calls", min(max(target.start, caller.start), caller.end - 1)))
        for source, kind, at in ends:
            if at <= target.start:
                common = {"cat": kind, "name": kind, "id": next(ids)}
                yield {"ph": "s", **common, **source.place, "ts": _microseconds(at)}
                yield {"ph": "f", "bp": "e", **common, **target.place, "ts": _microseconds(target.start)}


def _counters(timeline: Timeline) -> Iterator[_Event]:
    for name, counts in {"at work": timeline.at_work, "waiting": timeline.waiting}.items():
        for at, number in counts:
            yield _count(name, at, number)
    if timeline.receipt.limit is not None:
        yield _count("limit", 0.0, timeline.receipt.limit)


def _count(name: str, at: float, number: int) -> _Event:
    ts = _microseconds(_nanoseconds(at))
    return {"ph": "C", "name": name, "cat": "concurrency", "pid": NODES, "tid": FIRST_TRACK, "ts": ts} | {
        "args": {"tasks": number}
    }
