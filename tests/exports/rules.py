"""The rules of the Trace Event Format, as Chrome's document and Perfetto's importer state them, as complaints.

What is checked is what makes a viewer drop, move or misdraw an event: phases and the fields that each of them needs,
times in microseconds, slices of a track that lie within each other or apart, pairs of asynchronous events, and arrows
of which both ends are bound to a slice and which do not lead back in time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

PHASES = frozenset("XBEiCMbenstf")
METADATA = {"process_name": "name", "thread_name": "name", "process_sort_index": "sort_index"} | {
    "thread_sort_index": "sort_index",
    "process_labels": "labels",
}
Event = Mapping[str, Any]


def strict(text: str) -> Any:
    """The document, of JSON alone: Python would also read NaN, which is none."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def complaints(document: Any) -> list[str]:
    """What is wrong with it."""
    if not isinstance(document, dict) or not isinstance(document.get("traceEvents"), list):
        return ["it is no object with traceEvents"]
    found = [] if document.get("displayTimeUnit") in ("ms", "ns") else ["displayTimeUnit is neither ms nor ns"]
    events = document["traceEvents"]
    for number, event in enumerate(events):
        found += [f"event {number} ({event.get('name')!r}): {why}" for why in _alone(event)]
    if found:
        return found
    return [*_nesting(events), *_pairs(events), *_arrows(events), *_tracks(events)]


def _alone(event: Event) -> Iterator[str]:
    """What is wrong with one event, whatever the others are."""
    phase = event.get("ph")
    if phase not in PHASES:
        yield f"there is no phase {phase!r}"
        return
    if not isinstance(event.get("name"), str):
        yield "it has no name"
    for field in ("pid", "tid"):
        if not isinstance(event.get(field), int):
            yield f"its {field} is no integer"
    if phase != "M" and not _time(event.get("ts")):
        yield "its ts is no time"
    if not isinstance(event.get("args", {}), dict):
        yield "its args are no object"
    yield from _of_phase(phase, event)
    try:
        json.dumps(event, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        yield "it holds text that no file can"


def _of_phase(phase: str, event: Event) -> Iterator[str]:
    if phase == "X" and not _time(event.get("dur")):
        yield "its dur is no time"
    if phase == "i" and event.get("s") not in ("g", "p", "t"):
        yield "an instant needs a scope"
    if phase == "C" and not (event["args"] and all(_number(value) for value in event["args"].values())):
        yield "a counter counts numbers"
    if phase == "M" and METADATA.get(event["name"]) not in event.get("args", {}):
        yield "it says nothing of the track"
    if phase in "bensf" and not (isinstance(event.get("cat"), str) and "id" in event):
        yield "it needs a category and an id"
    if phase == "f" and event.get("bp") != "e":
        yield "an arrow's end binds to the next slice, and not to the one around it, without bp"


def _time(value: Any) -> bool:
    return _number(value) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nanoseconds(value: float) -> int:
    return round(value * 1000)


def _slices(events: list[Event]) -> dict[tuple[int, int], list[tuple[int, int, str]]]:
    tracks: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for event in events:
        if event["ph"] == "X":
            start = _nanoseconds(event["ts"])
            place = event["pid"], event["tid"]
            tracks.setdefault(place, []).append((start, start + _nanoseconds(event["dur"]), event["name"]))
    return tracks


def _nesting(events: list[Event]) -> Iterator[str]:
    """Slices of a track lie within each other or apart."""
    for place, slices in _slices(events).items():
        around: list[tuple[int, int, str]] = []
        for start, end, name in sorted(slices, key=lambda one: (one[0], -one[1])):
            while around and around[-1][1] <= start:
                around.pop()
            if around and end > around[-1][1]:
                yield f"{name!r} begins within {around[-1][2]!r} on track {place} and ends after it"
            around.append((start, end, name))


def _pairs(events: list[Event]) -> Iterator[str]:
    """Each asynchronous slice begins once and ends once, not before."""
    open_: dict[Any, float] = {}
    for event in events:
        key = event["pid"], event.get("cat"), event.get("id")
        if event["ph"] == "b":
            if key in open_:
                yield f"{key} begins twice"
            open_[key] = event["ts"]
        elif event["ph"] == "e" and event["ts"] < open_.pop(key, math.inf):
            yield f"{key} ends before it begins"
    yield from (f"{key} does not end" for key in open_)


def _arrows(events: list[Event]) -> Iterator[str]:
    tracks = _slices(events)
    starts: dict[Any, Event] = {}
    for event in events:
        if event["ph"] not in "sf":
            continue
        at = _nanoseconds(event["ts"])
        if not any(start <= at < end for start, end, _ in tracks.get((event["pid"], event["tid"]), ())):
            yield f"the {event['ph']} of arrow {event['id']} is in no slice"
        key = event["cat"], event["name"], event["id"]
        if event["ph"] == "s":
            starts[key] = event
        elif starts.pop(key, {"ts": math.inf})["ts"] > event["ts"]:
            yield f"arrow {key} leads back in time, or from nowhere"
    yield from (f"arrow {key} leads nowhere" for key in starts)


def _tracks(events: list[Event]) -> Iterator[str]:
    """Every track with slices has a name, and none is taken for the main thread of its process."""
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    for place in _slices(events):
        if place not in named:
            yield f"track {place} has no name"
        if place[0] == place[1]:
            yield f"track {place} looks like the main thread"
