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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeAlias

from fanfold.cleaning import clean
from fanfold.exports.timeline import LIMITED, LOCKED, STOOD, WAITING, WAITS, WORKING, Held, Line, Stretch, Timeline
from fanfold.receipt import Receipt

NODES: Final = 1
AGENTS: Final = 2
FIRST_TRACK: Final = 11
"""Tracks are no thread whose id is that of its process: viewers would take it for the main one."""
LEAST: Final = 1_000
"""Nanoseconds that a task's slice lasts at least, so that one that took no time can be seen, and pointed at."""

_Event: TypeAlias = dict[str, Any]


def trace(timeline: Timeline, receipt: Receipt) -> str:
    """The whole trace, as text of a file."""
    events = sorted(_events(timeline), key=lambda event: (event["ph"] != "M", event.get("ts", 0)))
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": _about(timeline, receipt),
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _about(timeline: Timeline, receipt: Receipt) -> Mapping[str, str]:
    began = datetime.fromtimestamp(timeline.wall, UTC)
    return {
        "run": clean(timeline.run_id),
        "thread": clean(timeline.thread_id),
        "graph": clean(timeline.graph),
        "began": began.isoformat(),
        "status": timeline.status,
        "verdict": receipt.verdict,
        "receipt": clean(str(receipt)),
    }


def _events(timeline: Timeline) -> Iterator[_Event]:
    """All events; what lies within another one comes after it."""
    tracks = _tracks(timeline.lines)
    yield from _names(timeline, tracks)
    slices = {line.task: _Slice(line, _process(line), tracks[line.task]) for line in timeline.lines}
    for placed in slices.values():
        yield from placed.events()
    yield from _arrows(slices)
    ids = count(1)
    for step in timeline.steps:
        end = timeline.end if step.end is None else step.end
        yield from _spanning(f"step {step.step}", "step", NODES, next(ids), step.start, end, {})
    for placed in slices.values():
        yield from placed.requests(ids, timeline.end)
    yield from _counters(timeline)
    for at, message in timeline.notices:
        yield _instant(clean(message)[:200], "notice", at, NODES, FIRST_TRACK, "p")


def _process(line: Line) -> int:
    return NODES if line.role == "node" else AGENTS


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _microseconds(nanoseconds: int) -> float:
    return nanoseconds / 1000


def _reach(line: Line) -> tuple[int, int]:
    """From when until when a task's slice is, in nanoseconds."""
    start = _nanoseconds(line.queued)
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
        lanes[line.task] = lane
    return lanes


def _names(timeline: Timeline, tracks: Mapping[str, int]) -> Iterator[_Event]:
    graph = clean(timeline.graph)
    titles = {NODES: f"{graph}: nodes and steps", AGENTS: f"{graph}: agents"}
    kinds = {NODES: "nodes", AGENTS: "agents"}
    there = {_process(line) for line in timeline.lines} | {NODES}
    for process in sorted(there):
        yield _about_track("process_name", process, FIRST_TRACK, name=titles[process])
        yield _about_track("process_sort_index", process, FIRST_TRACK, sort_index=process)
        used = sorted({tracks[line.task] for line in timeline.lines if _process(line) == process})
        for number, track in enumerate(used, 1):
            yield _about_track("thread_name", process, track, name=f"{kinds[process]} {number}")
            yield _about_track("thread_sort_index", process, track, sort_index=track)


def _about_track(kind: str, process: int, track: int, **args: Any) -> _Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": args}


# Slices


class _Slice:
    """The slice of one task, and what lies within it. Nanoseconds, so that nothing sticks out by a rounding."""

    def __init__(self, line: Line, process: int, track: int) -> None:
        self.line = line
        self.place = {"pid": process, "tid": track}
        self.start, self.end = _reach(line)

    def events(self) -> Iterator[_Event]:
        line = self.line
        yield self._slice(clean(line.name), "task", self.start, self.end, self._about())
        for stretch in line.stretches:
            start, end = self._within(stretch)
            if start < end:
                yield self._slice(_words(stretch), stretch.state, start, end, {})
                yield from self._blocks(start, end)
        for use in line.tools:
            at = min(max(_nanoseconds(use.at), self.start), self.end - 1)
            yield {**_instant(clean(use.tool), "tool", 0, 0, 0, "t"), **self.place, "ts": _microseconds(at)}

    def _blocks(self, start: int, end: int) -> Iterator[_Event]:
        """The moments in which it held the loop, as far as they lie within a stretch."""
        for held in self.line.held:
            since, until = (min(max(at, start), end) for at in self._within(held))
            if since < until:
                where = {"where": clean(held.where)} if held.where else {}
                yield self._slice("blocks the event loop", "blocked", since, until, where) | {"cname": "terrible"}

    def _within(self, stretch: Stretch | Held) -> tuple[int, int]:
        start, end = _nanoseconds(stretch.start), _nanoseconds(stretch.end)
        return max(start, self.start), min(end, self.end)

    def _slice(self, name: str, kind: str, start: int, end: int, args: Mapping[str, Any]) -> _Event:
        times = {"ts": _microseconds(start), "dur": _microseconds(end - start)}
        return {"ph": "X", "name": name, "cat": kind, **self.place, **times, "args": dict(args)}

    def _about(self) -> dict[str, Any]:
        line = self.line
        told: dict[str, Any] = {"task": line.task, "step": line.step, "status": line.status}
        texts = {"label": line.label, "error": line.error, "called by": line.parent or ""}
        return told | {name: clean(text)[:2000] for name, text in texts.items() if text}

    def requests(self, ids: Iterable[int], now: float) -> Iterator[_Event]:
        """Its requests to models."""
        for one, id in zip(self.line.requests, ids, strict=False):
            end = now if one.end is None else one.end
            about = {"task": self.line.task, "input_tokens": one.input_tokens, "output_tokens": one.output_tokens}
            more = {"error": clean(one.error)[:2000]} if one.error else {}
            yield from _spanning(clean(one.model), "model", self.place["pid"], id, one.start, end, about | more)


def _words(stretch: Stretch) -> str:
    """What a stretch is called."""
    if stretch.state in (WAITING, LIMITED):
        return f"waits for {clean(stretch.why)}" if stretch.why else "waits for its turn"
    if stretch.state == LOCKED:
        return f"stands behind {clean(stretch.why)}"
    return "held up by others" if stretch.state == STOOD else stretch.state


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
        line = target.line
        ends = [(slices[id], "after", slices[id].end - 1) for id in line.after if id in slices]
        caller = slices.get(line.parent or "")
        if caller is not None:
            ends.append((caller, "calls", min(max(target.start, caller.start), caller.end - 1)))
        for source, kind, at in ends:
            if at <= target.start:
                common = {"cat": kind, "name": kind, "id": next(ids)}
                yield {"ph": "s", **common, **source.place, "ts": _microseconds(at)}
                yield {"ph": "f", "bp": "e", **common, **target.place, "ts": _microseconds(target.start)}


def _counters(timeline: Timeline) -> Iterator[_Event]:
    series = {"at work": (WORKING,), "waiting": WAITS}
    for name, states in series.items():
        for at, number in timeline.count(*states):
            yield _count(name, at, number)
    if timeline.limit is not None:
        yield _count("limit", 0.0, timeline.limit)


def _count(name: str, at: float, number: int) -> _Event:
    ts = _microseconds(_nanoseconds(at))
    return {"ph": "C", "name": name, "cat": "concurrency", "pid": NODES, "tid": FIRST_TRACK, "ts": ts} | {
        "args": {"tasks": number}
    }
